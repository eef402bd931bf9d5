"""Pages of tags and of the catalog, and how they grow with what there is."""

import os
from collections.abc import Callable, Iterator

from .. import client
from ..client import Answer, Connection
from ..plan import LISTS, ORLOP, REPOSITORY, Plan, Site, in_parallel, running, timed, void_on_failure
from ..results import Figure, Growth, Series, Target
from ..servers import Orlop, Server

PUSHERS = 8
LISTINGS, PAGES = 3, 5
PAGE = 100
SECOND_PORT = 8  # beyond orlop's: no other's
PUSHED_MAX = 100  # more are made in orlop's directory: it is their number that matters
COUNTS_DISK = (100, 1000, 10_000, 100_000)
COUNTS_S3, COUNTS_S3_QUICK = (100, 1000), (30, 100)
COUNT_PEERS, COUNT_PEERS_QUICK = 1000, 100

TAGS, REPOSITORIES = "tags", "repositories"
DIGITS = 6  # in their names
FEW = 1000  # a page of so many is what one of the largest number is held against


def lists(plan: Plan) -> Iterator[Figure]:
    for site in plan.sites:
        counts = COUNTS_DISK if not site.store else COUNTS_S3 if plan.full else COUNTS_S3_QUICK
        for what in (TAGS, REPOSITORIES):
            yield from _grow(plan, site, what, counts)


def _grow(plan: Plan, site: Site, what: str, counts: tuple[int, ...]) -> Iterator[Figure]:
    pages = {count: _figure(site, what, count, f"a page of {PAGE}", PAGES) for count in counts}
    wholes = {count: _figure(site, what, count, "all, page by page", LISTINGS) for count in counts if count <= 10_000}
    requests = {}
    for count in counts if site.store else ():
        title = f"{count:,} {what} on {site.name}: a page of {PAGE}: requests"
        requests[count] = Figure(title, "requests", [Target(ORLOP, at_most=1, promise=LISTS)])
    of_peers = COUNT_PEERS if plan.full else COUNT_PEERS_QUICK
    growth = None
    with running(*site.registries):
        made = 0
        for count in counts:
            figures = [table[count] for table in (pages, wholes, requests) if count in table]
            servers = [server for server in site.registries if server is site.orlop or count <= of_peers]
            title = f"{count:,} {what} on {site.name}"
            series = {server.name: [figure.of(server.name) for figure in figures] for server in servers}
            for server in servers:
                plan.say(f"{title}: {server.name} gets them")
                void_on_failure(series[server.name], lambda: _make(server, what, made, count))
            for _ in plan.turns(title, plan.rounds, *figures[:2]):
                for server in servers:
                    measure = lambda: _measure(server, what, count, pages, wholes, requests)  # noqa: E731
                    void_on_failure(series[server.name], measure)
            made = count
        if site is plan.disk and site.orlop:
            growth = _growth(plan, site.orlop, what, counts[-1])
    yield from (*pages.values(), *wholes.values(), *requests.values())
    if growth:
        yield growth


def _figure(site: Site, what: str, count: int, view: str, times: int) -> Figure:
    growth = Growth(f"{what} on {site.name}: {view}", what, count)
    return Figure(f"{count:,} {what} on {site.name}: {view}", "ms", [], f"median of {times} or more", growth=growth)


def _make(server: Server, what: str, first: int, end: int) -> None:
    if end > PUSHED_MAX and isinstance(server, Orlop) and not server.bucket:
        server.stop()  # it owns its store
        _make_files(server, what, first, end)
        server.start()
        return
    make = _push_tags if what == TAGS else _push_repositories
    in_parallel(
        PUSHERS, [range(first + turn, end, PUSHERS) for turn in range(PUSHERS)], lambda mine: make(server, mine)
    )


def _push_tags(server: Server, mine: range) -> None:
    image, blobs = client.make_image(REPOSITORY, "", blobs=[client.EMPTY_JSON])
    with Connection(server.port) as connection:
        client.put_blob(connection, REPOSITORY, client.EMPTY_JSON)
        for number in mine:
            client.put_manifest(connection, image, _tag(number))


def _push_repositories(server: Server, mine: range) -> None:
    with Connection(server.port) as connection:
        for number in mine:
            image, _ = client.make_image(_repository(number), "", blobs=[client.EMPTY_JSON])
            client.put_blob(connection, image.repository, client.EMPTY_JSON)
            client.put_manifest(connection, image, "latest")


def _make_files(server: Server, what: str, first: int, end: int) -> None:
    """Entries as orlop writes them, by linking the first one's file."""
    if what == TAGS:
        prefix = f"{server.store}/repos/{REPOSITORY}/_tags/{_tag(0)[:-DIGITS]}"
    else:
        prefix = f"{server.store}/names/{_repository(0).replace('/', '.')[:-DIGITS]}"
    for number in range(first, end):
        # Within the number of links that a file of ext4 may have.
        os.link(f"{prefix}{number // 1000:0{DIGITS}}", f"{prefix}{number:0{DIGITS}}")


def _tag(number: int) -> str:
    return f"t{number:0{DIGITS}}"


def _repository(number: int) -> str:
    return f"bench/r{number:0{DIGITS}}"


def _measure(server: Server, what: str, count: int, pages: dict, wholes: dict, requests: dict) -> None:
    with Connection(server.port) as connection:
        if count in wholes:
            all_of_them = lambda: client.pages_of(connection, _target(what))  # noqa: E731
            _one(server, wholes[count].of(server.name), LISTINGS, all_of_them, what, count)
        series = pages[count].of(server.name)
        _measure_page(server, connection, series, what, count)
        if count not in requests:
            return
        if series.valid:
            requests[count].of(server.name).add(series.traffic[-1].requests)
        requests[count].of(server.name).fault = series.fault


def _target(what: str) -> str:
    return f"/v2/{REPOSITORY}/tags/list" if what == TAGS else "/v2/_catalog"


def _measure_page(server: Server, connection: Connection, series: Series, what: str, count: int) -> None:
    """A page from the middle."""
    here = min(PAGE, count // 2)
    page = f"{_target(what)}?n={here}&last={(_tag if what == TAGS else _repository)(count // 2 - 1)}"
    _one(server, series, PAGES, lambda: [connection.request("GET", page).expect("GET", 200)], what, here)


def _one(server: Server, series: Series, times: int, run: Callable[[], list[Answer]], what: str, count: int) -> None:
    """A wrong answer voids this series alone."""
    if not series.fault:
        check = lambda answers: client.check_pages(answers, what, count)  # noqa: E731
        void_on_failure([series], lambda: timed(series, server, times, run, check))


def _growth(plan: Plan, orlop: Orlop, what: str, largest: int) -> Figure:
    """In turns with a second orlop that holds fewer."""
    many, few = f"{ORLOP}, of {largest:,}", f"{ORLOP}, of {FEW:,}"
    target = Target(many, few, at_most=2, promise=LISTS)
    figure = Figure(f"{what} on disk: growth of a page of {PAGE}", "ms", [target], "page from the middle")
    directory, port = orlop.directory.with_name("orlop-few"), orlop.port + SECOND_PORT
    second = Orlop(ORLOP, directory, port, program=orlop.program)

    def measure() -> None:
        for first, end in ((0, PUSHED_MAX), (PUSHED_MAX, FEW)):
            _make(second, what, first, end)
        for _ in plan.turns(figure.title, plan.rounds, figure):
            for label, server, count in ((many, orlop, largest), (few, second, FEW)):
                with Connection(server.port) as connection:
                    _measure_page(server, connection, figure.of(label), what, count)

    with running(second):
        void_on_failure([figure.of(many), figure.of(few)], measure)
    return figure

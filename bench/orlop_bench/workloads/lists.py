"""Pages of tags and of the catalog, and how they grow with what there is."""

import os
from collections.abc import Callable, Iterator

from .. import client
from ..client import Answer, Connection
from ..plan import FAILURES, LISTS, ORLOP, REPOSITORY, Plan, Site, fault_text, in_parallel, running, timed
from ..results import Figure, Growth, Target
from ..servers import Server

PUSHERS = 8
LISTINGS, PAGES = 3, 5
PAGE = 100
PUSHED_MAX = 100  # more are made in orlop's directory: it is their number that matters
COUNTS_DISK = (100, 1000, 10_000, 100_000)
COUNTS_S3, COUNTS_S3_QUICK = (100, 1000), (30, 100)
COUNT_PEERS, COUNT_PEERS_QUICK = 1000, 100

TAGS, REPOSITORIES = "tags", "repositories"
DIGITS = 6  # in their names
# A page of so many is what the largest number is held against; both have more rounds, as they are not in one process.
FEW, GROWTH_ROUNDS = 1000, 10


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
    with running(*site.registries):
        made = 0
        for count in counts:
            figures = [table[count] for table in (pages, wholes, requests) if count in table]
            servers = [server for server in site.registries if server is site.orlop or count <= of_peers]
            title = f"{count:,} {what} on {site.name}"
            for server in servers:
                plan.say(f"{title}: {server.name} gets them")
                _attempt(server, figures, lambda: _make(site, server, what, made, count))
            rounds = GROWTH_ROUNDS if count in (FEW, counts[-1]) and not site.store else plan.rounds
            for _ in plan.turns(title, rounds, *figures[:2]):
                for server in servers:
                    _measure(server, what, count, pages, wholes, requests)
            made = count
    yield from (*pages.values(), *wholes.values(), *requests.values())
    if not site.store:
        yield _growth(what, pages, counts[-1])


def _attempt(server: Server, figures: list[Figure], run: Callable[[], None]) -> None:
    """What goes wrong voids the figures."""
    try:
        run()
    except FAILURES as error:
        for figure in figures:
            figure.of(server.name).fault = fault_text(error)


def _figure(site: Site, what: str, count: int, view: str, times: int) -> Figure:
    growth = Growth(f"{what} on {site.name}: {view}", what, count)
    return Figure(f"{count:,} {what} on {site.name}: {view}", "ms", [], f"median of {times} or more", growth=growth)


def _make(site: Site, server: Server, what: str, first: int, end: int) -> None:
    if end > PUSHED_MAX and server is site.orlop and not site.store:
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
    target = f"/v2/{REPOSITORY}/tags/list" if what == TAGS else "/v2/_catalog"
    middle = (_tag if what == TAGS else _repository)(count // 2 - 1)
    here = min(PAGE, count // 2)
    page = f"{target}?n={here}&last={middle}"
    with Connection(server.port) as connection:
        if count in wholes:
            _one(server, wholes[count], LISTINGS, lambda: client.pages_of(connection, target), what, count)
        _one(server, pages[count], PAGES, lambda: [connection.request("GET", page).expect("GET", 200)], what, here)
        series = pages[count].of(server.name)
        if count in requests and series.valid:
            requests[count].of(server.name).add(series.traffic[-1].requests)


def _one(server: Server, figure: Figure, times: int, run: Callable[[], list[Answer]], what: str, count: int) -> None:
    """A wrong answer voids this figure alone."""
    series = figure.of(server.name)
    if not series.fault:
        check = lambda answers: client.check_pages(answers, what, count)  # noqa: E731
        _attempt(server, [figure], lambda: timed(series, server, times, run, check))


def _growth(what: str, pages: dict[int, Figure], largest: int) -> Figure:
    many, few = f"{ORLOP}, of {largest:,}", f"{ORLOP}, of {FEW:,}"
    target = Target(many, few, at_most=2, promise=LISTS)
    figure = Figure(f"{what} on disk: growth of a page of {PAGE}", "ms", [target], "page from the middle")
    for label, count in ((many, largest), (few, FEW)):
        series = pages[count].of(ORLOP)
        figure.of(label).values, figure.of(label).fault = list(series.values), series.fault
    return figure

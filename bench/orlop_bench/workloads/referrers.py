"""One subject with many referrers: pushed, listed by a process that knows nothing, again, and with a filter."""

import re
import time
from collections.abc import Iterator

from .. import client, s3
from ..client import Connection, WrongAnswer
from ..plan import (
    FAILURES,
    LISTS,
    ORLOP,
    REPOSITORY,
    Plan,
    Site,
    counted,
    fault_text,
    in_parallel,
    running,
    timed,
)
from ..results import Figure, Growth, Series, Target
from ..servers import Server

PUSHERS = 8
LISTINGS = 5
CHANGED_EACH = 20  # of so many referrers one is deleted and one pushed between two listings
SBOM, SBOM_EACH = "application/vnd.bench.sbom", 10  # every tenth is one
LIST_REQUESTS_WARM = {1: 2, 10: 2, 100: 3, 1000: 4, 10_000: 20}
LIST_REQUESTS_COLD_BEYOND = 20
DELAY_MS = 2
ONE_BY_ONE, RESTARTED = "one GET each, straight from S3", f"{ORLOP}, restarted"


def referrers(plan: Plan) -> Iterator[Figure]:
    for site in plan.sites:
        counts = [1, 10, 100, 1000]
        if site is plan.disk or plan.full:
            counts.append(10_000)
        yield from _Table(plan, site, counts).fill()


class _Table:
    """The figures of one site: what is done, by number of referrers."""

    def __init__(self, plan: Plan, site: Site, counts: list[int]) -> None:
        self.plan, self.site, self.counts = plan, site, counts
        self.figures: dict[tuple[str, int], Figure] = {}
        self.pushed: list[client.Image] = []  # of those that may be deleted
        notes = {
            "push": f"{PUSHERS} clients at once",
            "list, cold": "by a process that was started for it, on warm connections",
            "list again": f"median of {LISTINGS} or more",
            "list with filter": f"every tenth fits; median of {LISTINGS} or more",
        }
        for what, note in notes.items():
            for count in counts:
                unit = "referrers/s" if what == "push" else "ms"
                views = ("requests",) if site.store and what.startswith("list,") else ()
                growth = Growth(f"referrers on {site.name}: {what}", "referrers", count, views)
                title = f"{count:,} referrers on {site.name}: {what}"
                self.figures[what, count] = Figure(title, unit, [], note, growth=growth)
        if site.store:
            self._promise_requests()

    def _promise_requests(self) -> None:
        for count in self.counts:
            budgets = {
                "list, cold": count + LIST_REQUESTS_COLD_BEYOND,
                "list again": LIST_REQUESTS_WARM[count],
            }
            if count >= CHANGED_EACH:
                budgets["list, changed"] = LIST_REQUESTS_WARM[count] + 2 * (count // CHANGED_EACH)
            for what, budget in budgets.items():
                title = f"{count:,} referrers on {self.site.name}: {what}: requests"
                targets = [Target(ORLOP, at_most=budget, promise=LISTS)]
                self.figures[f"{what}: requests", count] = Figure(title, "requests", targets)

    def fill(self) -> Iterator[Figure]:
        for server in self.site.registries:
            with running(server):
                try:
                    yield from self._fill_for(server)
                except FAILURES as error:
                    for figure in self.figures.values():
                        if not figure.of(server.name).values:
                            figure.of(server.name).fault = fault_text(error)
        yield from self.figures.values()
        if self.site is self.plan.disk:
            yield self._growth()

    def _fill_for(self, server: Server) -> Iterator[Figure]:
        self.pushed.clear()
        subject, blobs = client.make_image(REPOSITORY, "subject")
        client.push_image(server.port, subject, blobs)
        with Connection(server.port) as connection:
            if connection.request("GET", f"/v2/{REPOSITORY}/referrers/{subject.digest}").status == 404:
                raise WrongAnswer("it has no referrers API (404)")
            client.check_referrers(client.referrers_of(connection, subject), 0)
        pushed = 0
        for count in self.counts:
            self.plan.say(f"{count:,} referrers on {self.site.name}: {server.name}")
            self._push(server, subject, pushed, count)
            pushed = count
            self._list(server, subject, count)
            if self.site.store and count >= CHANGED_EACH:
                self._change(server, subject, count)
        if server is self.site.orlop and self.site.store:
            yield self._beside_one_by_one(server, subject, self.counts[-1])

    def _push(self, server: Server, subject: client.Image, first: int, end: int) -> None:
        def push(mine: range) -> None:
            with Connection(server.port) as connection:
                for number in mine:
                    kind = SBOM if number % SBOM_EACH == 0 else "application/vnd.bench.signature"
                    image, reference = client.make_referrer(subject, kind)
                    client.put_manifest(connection, image, reference)
                    if kind != SBOM:
                        self.pushed.append(image)

        with Connection(server.port) as connection:
            client.put_blob(connection, REPOSITORY, client.EMPTY_JSON)
        server.mark()
        begin = time.perf_counter()
        in_parallel(PUSHERS, [range(first + turn, end, PUSHERS) for turn in range(PUSHERS)], push)
        rate = (end - first) / (time.perf_counter() - begin)
        self.figures["push", end].of(server.name).add(rate, server.usage_since_mark())

    def _list(self, server: Server, subject: client.Image, count: int) -> None:
        server.stop()
        server.start()
        sboms = -(-count // SBOM_EACH)
        with Connection(server.port) as connection:
            for _ in range(2):
                connection.request("GET", subject.target(subject.digest)).expect("GET of the subject", 200)
            for what, times, kind, expected in (
                ("list, cold", 1, "", count),
                ("list again", LISTINGS, "", count),
                ("list with filter", LISTINGS, SBOM, sboms),
            ):
                series = self.figures[what, count].of(server.name)
                list_them = lambda: client.referrers_of(connection, subject, kind)  # noqa: E731
                timed(series, server, times, list_them, lambda answers: client.check_referrers(answers, expected))
                counted = self.figures.get((f"{what}: requests", count))
                if counted and series.traffic:
                    counted.of(server.name).add(series.traffic[-1].requests)

    def _change(self, server: Server, subject: client.Image, count: int) -> None:
        """A tenth changes: half of that is deleted, half pushed. The next listing may cost a request for each."""
        changes = count // CHANGED_EACH
        with Connection(server.port) as connection:
            client.check_referrers(client.referrers_of(connection, subject), count)
            for image in [self.pushed.pop() for _ in range(changes)]:
                connection.request("DELETE", image.target(image.digest)).expect("DELETE of a referrer", 202)
            for _ in range(changes):
                image, reference = client.make_referrer(subject)
                client.put_manifest(connection, image, reference)
            series = self.figures["list, changed: requests", count].of(server.name)
            answers = counted(series, server, lambda: client.referrers_of(connection, subject))
            client.check_referrers(answers, count)

    # ---- promises that take two figures ----

    def _growth(self) -> Figure:
        many, few = f"{ORLOP} 10,000", f"{ORLOP} 1,000"
        target = Target(many, few, at_most=12, promise=LISTS)
        figure = Figure(f"referrers on {self.site.name}: growth of a listing", "ms", [target], "listed again")
        for label, count in ((many, 10_000), (few, 1000)):
            series = self.figures["list again", count].of(ORLOP)
            figure.of(label).values, figure.of(label).fault = list(series.values), series.fault
        return figure

    def _beside_one_by_one(self, server: Server, subject: client.Image, count: int) -> Figure:
        """What a list costs whose maker fetches each descriptor in turn: the same objects, straight from the store."""
        targets = [
            Target(label, ONE_BY_ONE, at_least=20, times_faster=True, promise=LISTS) for label in (ORLOP, RESTARTED)
        ]
        far = self.site.further(DELAY_MS)
        figure = Figure(f"{count:,} referrers on {far.name}: list", "ms", targets, "listed again; by a new process")

        def measure(label: str, times: int) -> None:
            with Connection(server.port) as connection:
                connection.request("GET", subject.target(subject.digest)).expect("GET of the subject", 200)
                list_them = lambda: client.referrers_of(connection, subject)  # noqa: E731
                check = lambda answers: client.check_referrers(answers, count)  # noqa: E731
                timed(figure.of(label), server, times, list_them, check, mark=False)

        with far.delayed():
            for _ in self.plan.turns(figure.title, self.plan.rounds_large):
                measure(ORLOP, LISTINGS)
                server.stop()
                server.start()
                measure(RESTARTED, 1)
                _one_by_one(server, figure.of(ONE_BY_ONE), count)
        return figure


def _one_by_one(server: Server, series: Series, count: int) -> None:
    assert server.bucket
    proxy, bucket = server.bucket.proxy, server.bucket.name
    prefix = f"repos/{REPOSITORY}/_referrers/"
    with Connection(proxy.port) as connection:

        def get(path: str, query: str = "") -> bytes:
            headers = s3.signed_headers("GET", f"127.0.0.1:{proxy.port}", path, query)
            target = path + (f"?{query}" if query else "")
            return connection.request("GET", target, headers).expect(f"GET {target}", 200).body

        def get_all() -> None:
            keys: list[str] = []
            after = ""
            while True:
                escaped = prefix.replace("/", "%2F")
                query = f"list-type=2&prefix={escaped}" + (f"&start-after={after.replace('/', '%2F')}" if after else "")
                page = get(f"/{bucket}", query).decode()
                found = re.findall(r"<Key>([^<]*)</Key>", page)
                keys += [key for key in found if not key.endswith(".snapshot")]
                if "<IsTruncated>true" not in page:
                    break
                after = found[-1]
            if len(keys) != count:
                raise WrongAnswer(f"{len(keys)} descriptors of {count}")
            for key in keys:
                get(f"/{bucket}/{key}")

        begin = time.perf_counter()
        get_all()
        series.add((time.perf_counter() - begin) * 1e3)

"""One subject with many referrers: pushed, listed by a process that knows nothing, again, and with a filter."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

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
    void_on_failure,
)
from ..results import Figure, Growth, Series, Target
from ..servers import Server

PUSHERS = 8
LISTINGS = 3
CHANGED_EACH = 20  # of so many referrers one is deleted and one pushed between two listings
SBOM, SBOM_EACH = "application/vnd.bench.sbom", 10  # every tenth is one
LIST_REQUESTS_WARM = {1: 2, 10: 2, 100: 3, 1000: 4, 10_000: 20}
LIST_REQUESTS_COLD_BEYOND = 20
DELAY_MS = 2
ONE_BY_ONE, RESTARTED = "one GET each, straight from S3", f"{ORLOP}, restarted"


COLD, LISTED_AGAIN = "list, cold", ("list again", "list with filter")


@dataclass
class _Holder:
    """A registry with the subject."""

    server: Server
    subject: client.Image
    blobs: list[bytes]
    pushed: list[client.Image] = field(default_factory=list)  # referrers that may be deleted


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
        self.holders: list[_Holder] = []
        again, filtered = LISTED_AGAIN
        notes = {
            "push": f"{PUSHERS} clients at once",
            COLD: "by a process that was started for it, on warm connections",
            again: f"median of {LISTINGS} or more",
            filtered: f"every tenth fits; median of {LISTINGS} or more",
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
        with running(*self.site.registries):
            registries = self.site.registries
            self.holders = [_Holder(server, *client.make_image(REPOSITORY, "subject")) for server in registries]
            self._each(0, self._begin)
            pushed = 0
            for count in self.counts:
                title = f"{count:,} referrers on {self.site.name}"
                self.plan.say(f"{title}: push")
                self._each(count, lambda holder: self._push(holder, pushed, count))
                pushed = count
                self._each(count, lambda holder: self._list_cold(holder, count))
                listings = [self.figures[what, count] for what in LISTED_AGAIN]
                for _ in self.plan.turns(title, self.plan.rounds, *listings):
                    self._each(count, lambda holder: self._list_again(holder, count))
                if self.site.store and count >= CHANGED_EACH:
                    self.plan.say(f"{title}: changes")
                    self._each(count, lambda holder: self._change(holder, count))
            mine = [holder for holder in self.holders if holder.server is self.site.orlop]
            if mine and self.site.store:
                yield self._beside_one_by_one(mine[0].server, mine[0].subject, self.counts[-1])
            growth = self._growth(mine[0]) if mine and self.site is self.plan.disk else None
        yield from self.figures.values()
        if growth:
            yield growth

    def _each(self, count: int, run: Callable[["_Holder"], None]) -> None:
        """In turn. Who fails takes no further part: figures of that count, and those it has no values of, are void."""
        for holder in list(self.holders):
            try:
                run(holder)
            except FAILURES as error:
                self.holders.remove(holder)
                for (_, of_count), figure in self.figures.items():
                    series = figure.of(holder.server.name)
                    if of_count == count or not series.values:
                        series.fault = fault_text(error)

    def _begin(self, holder: "_Holder") -> None:
        port, subject = holder.server.port, holder.subject
        client.push_image(port, subject, holder.blobs)
        with Connection(port) as connection:
            if connection.request("GET", f"/v2/{REPOSITORY}/referrers/{subject.digest}").status == 404:
                raise WrongAnswer("it has no referrers API (404)")
            client.check_referrers(client.referrers_of(connection, subject), 0)

    def _push(self, holder: "_Holder", first: int, end: int) -> None:
        with Connection(holder.server.port) as connection:
            client.put_blob(connection, REPOSITORY, client.EMPTY_JSON)
        holder.server.mark()
        begin = time.perf_counter()
        self._push_range(holder, first, end)
        rate = (end - first) / (time.perf_counter() - begin)
        self.figures["push", end].of(holder.server.name).add(rate, holder.server.usage_since_mark())

    def _push_range(self, holder: "_Holder", first: int, end: int) -> None:
        def push(mine: range) -> None:
            with Connection(holder.server.port) as connection:
                for number in mine:
                    kind = SBOM if number % SBOM_EACH == 0 else "application/vnd.bench.signature"
                    image, reference = client.make_referrer(holder.subject, kind)
                    client.put_manifest(connection, image, reference)
                    if kind != SBOM:
                        holder.pushed.append(image)

        in_parallel(PUSHERS, [range(first + turn, end, PUSHERS) for turn in range(PUSHERS)], push)

    def _list_cold(self, holder: "_Holder", count: int) -> None:
        """Once: it may leave something in the store that makes the next one quicker."""
        server, subject = holder.server, holder.subject
        server.stop()
        server.start()
        with Connection(server.port) as connection:
            for _ in range(2):
                connection.request("GET", subject.target(subject.digest)).expect("GET of the subject", 200)
            self._list(holder, connection, COLD, count, 1, count)

    def _list_again(self, holder: "_Holder", count: int) -> None:
        again, filtered = LISTED_AGAIN
        with Connection(holder.server.port) as connection:
            self._list(holder, connection, again, count, LISTINGS, count)
            self._list(holder, connection, filtered, count, LISTINGS, -(-count // SBOM_EACH), SBOM)

    def _list(
        self,
        holder: "_Holder",
        connection: Connection,
        what: str,
        count: int,
        times: int,
        expected: int,
        kind: str = "",
    ) -> None:
        series = self.figures[what, count].of(holder.server.name)
        _time(series, holder.server, connection, holder.subject, times, expected, kind)
        counted = self.figures.get((f"{what}: requests", count))
        if counted and series.traffic:
            counted.of(holder.server.name).add(series.traffic[-1].requests)

    def _change(self, holder: "_Holder", count: int) -> None:
        """A tenth changes: half of that is deleted, half pushed. The next listing may cost a request for each."""
        server, subject, changes = holder.server, holder.subject, count // CHANGED_EACH
        with Connection(server.port) as connection:
            client.check_referrers(client.referrers_of(connection, subject), count)
            for image in [holder.pushed.pop() for _ in range(changes)]:
                connection.request("DELETE", image.target(image.digest)).expect("DELETE of a referrer", 202)
            for _ in range(changes):
                image, reference = client.make_referrer(subject)
                client.put_manifest(connection, image, reference)
            series = self.figures["list, changed: requests", count].of(server.name)
            answers = counted(series, server, lambda: client.referrers_of(connection, subject))
            client.check_referrers(answers, count)

    # ---- promises that take two figures ----

    def _growth(self, holder: "_Holder") -> Figure:
        """In turns with a second subject that has fewer."""
        few, many = self.counts[-2:]
        labels = {count: f"{ORLOP} {count:,}" for count in (many, few)}
        target = Target(labels[many], labels[few], at_most=12, promise=LISTS)
        figure = Figure(f"referrers on {self.site.name}: growth of a listing", "ms", [target], "listed again")
        second = _Holder(holder.server, *client.make_image(REPOSITORY, "subject-of-few"))

        def measure() -> None:
            client.push_image(second.server.port, second.subject, second.blobs)
            self._push_range(second, 0, few)
            for _ in self.plan.turns(figure.title, self.plan.rounds, figure):
                for count, of in ((many, holder), (few, second)):
                    with Connection(of.server.port) as connection:
                        _time(figure.of(labels[count]), of.server, connection, of.subject, LISTINGS, count)

        void_on_failure([figure.of(label) for label in labels.values()], measure)
        return figure

    def _beside_one_by_one(self, server: Server, subject: client.Image, count: int) -> Figure:
        """What a list costs whose maker fetches each descriptor in turn: the same objects, straight from the store."""
        targets = [
            Target(label, ONE_BY_ONE, at_least=20, times_faster=True, promise=LISTS) for label in (ORLOP, RESTARTED)
        ]
        far = self.site.further(DELAY_MS)
        figure = Figure(f"{count:,} referrers on {far.name}: list", "ms", targets, "listed again; by a new process")

        def list_them(label: str, times: int) -> None:
            with Connection(server.port) as connection:
                connection.request("GET", subject.target(subject.digest)).expect("GET of the subject", 200)
                _time(figure.of(label), server, connection, subject, times, count, mark=False)

        def measure() -> None:
            for _ in self.plan.turns(figure.title, self.plan.rounds_large, figure):
                list_them(ORLOP, LISTINGS)
                server.stop()
                server.start()
                list_them(RESTARTED, 1)
                _one_by_one(server, figure.of(ONE_BY_ONE), count)

        with far.delayed():
            void_on_failure([figure.of(label) for label in (ORLOP, RESTARTED, ONE_BY_ONE)], measure)
        return figure


def _time(
    series: Series,
    server: Server,
    connection: Connection,
    subject: client.Image,
    times: int,
    expected: int,
    kind: str = "",
    mark: bool = True,
) -> None:
    list_them = lambda: client.referrers_of(connection, subject, kind)  # noqa: E731
    timed(series, server, times, list_them, lambda answers: client.check_referrers(answers, expected), mark)


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

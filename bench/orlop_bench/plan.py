"""What is run, where, how often, how large; and how a contestant has its turn."""

import concurrent.futures
import contextlib
import math
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import s3
from .client import WrongAnswer
from .content import Source
from .results import SUBJECT, Figure, Series
from .servers import Nginx, Orlop, Server, ServerFailed

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

REPOSITORY = "bench/image"

# Figures whose ratios may still be off by more than DOUBT_MAX have more rounds, until PATIENCE_S are over.
DOUBT_MAX = 0.06
PATIENCE_S, PATIENCE_S_FULL = 4, 20
ROUNDS_MAX = 15
# A median of several runs is one of more, if they are that short; see timed().
RUNS_S = 0.1

ORLOP = SUBJECT
REGISTRY = "docker-registry"
NGINX = "nginx"
RCLONE = "rclone"
CURL = "curl straight from S3"

# Headings of the verdict page.
BUDGET = "Requests to S3, and bytes"
ON_DISK = "Local store"
ON_S3 = "S3 store"
LISTS = "Referrers, tags, catalog"


@dataclass
class Site:
    """A kind of store with the registries that run on one: "disk" or "S3", or S3 further away."""

    name: str
    registries: list[Server]  # orlop first
    store: s3.Store | None = None
    own: s3.Bucket | None = None  # a bucket for yardsticks
    delay_ms: int = 0

    @property
    def peers(self) -> list[Server]:
        return [server for server in self.registries if not isinstance(server, Orlop)]

    @property
    def orlop(self) -> Orlop | None:
        return next((server for server in self.registries if isinstance(server, Orlop)), None)

    def further(self, delay_ms: int) -> "Site":
        return Site(f"{self.name} + {delay_ms} ms", self.registries, self.store, self.own, delay_ms)

    @contextlib.contextmanager
    def delayed(self) -> Iterator[None]:
        if not self.store or not self.delay_ms:
            yield
            return
        self.store.delay(self.delay_ms)
        try:
            yield
        finally:
            self.store.delay(0)


@dataclass
class Plan:
    directory: Path
    source: Source
    disk: Site | None
    s3: Site | None
    nginx: Nginx
    nginx_no_log: Nginx
    nginx_many: Nginx
    rounds: int
    rounds_large: int
    rounds_slow: int  # of what takes long, as much of what S3 does
    rounds_fixed: bool  # by whoever runs this
    blob_bytes: int
    commit_bytes: int
    full: bool
    say: Callable[[str], None]
    left_out: list[str] = field(default_factory=list)

    def turns(self, title: str, rounds: int, *figures: Figure) -> Iterator[int]:
        """The rounds of some figures, said aloud: more than asked for while ratios are in doubt and there is time."""
        end = time.monotonic() + (PATIENCE_S_FULL if self.full else PATIENCE_S)
        turn = 0
        while turn < rounds or (turn < ROUNDS_MAX and not self.rounds_fixed and time.monotonic() < end):
            if turn >= rounds and max((figure.doubt() for figure in figures), default=0.0) <= DOUBT_MAX:
                break
            self.say(f"{title}: round {turn + 1}" + (f" of {rounds}" if turn < rounds else ""))
            yield turn
            turn += 1

    def delays(self, milliseconds: tuple[int, ...]) -> tuple[int, ...]:
        """The distances to S3 to measure at; of a quick run the furthest only."""
        return () if not self.s3 else milliseconds if self.full else milliseconds[-1:]

    def wrk_s(self, site: Site, connections: int) -> int:
        """How long wrk runs: on S3 a peer with 200 clients answers its first after more than a second."""
        return 5 if self.full else 1 if not site.store else 3 if connections > 100 else 2

    @property
    def sites(self) -> list[Site]:
        return [site for site in (self.disk, self.s3) if site]

    def sits_out(self, server: Server, turn: int) -> bool:
        """In slow workloads of a quick run peers take part in the first round only."""
        return turn > 0 and not self.full and not isinstance(server, Orlop)

    @property
    def orlop(self) -> Orlop | None:
        return self.disk.orlop if self.disk else None

    @property
    def registries(self) -> list[Server]:
        return self.disk.registries if self.disk else []


@contextlib.contextmanager
def running(*servers: Server | None) -> Iterator[None]:
    """Fresh servers on empty stores, stopped and their stores removed at the end."""
    with contextlib.ExitStack() as stack:
        for server in filter(None, servers):
            stack.callback(server.discard)
            server.renew()
        yield


FAILURES = (WrongAnswer, ServerFailed, OSError, subprocess.SubprocessError, ValueError, KeyError)


def fault_text(error: Exception) -> str:
    """What went wrong; a wrong answer speaks for itself."""
    return str(error) if isinstance(error, (WrongAnswer, ServerFailed)) else f"{type(error).__name__}: {error}"


def attempt(series: Series, run: Callable[[], float], server: Server | None = None) -> None:
    """One round of one contestant; after a wrong answer the series is void and gets no further rounds."""
    if series.fault:
        return
    try:
        if server:
            server.mark()
        value = run()
        series.add(value, server.usage_since_mark() if server else None)
    except FAILURES as error:
        series.fault = fault_text(error)


def counted(series: Series, server: Server, run: Callable[[], Any]) -> Any:
    """The value is the number of requests to S3 that run() makes the server send; what run() returned."""
    server.mark()
    found = run()
    usage = server.usage_since_mark()
    assert usage.traffic
    series.add(usage.traffic.requests, usage)
    return found


def void_on_failure(series: Iterable[Series], run: Callable[[], None]) -> None:
    """What goes wrong voids them, and nothing else."""
    try:
        run()
    except FAILURES as error:
        for one in series:
            one.fault = one.fault or fault_text(error)


def limit_s(server: Server, orlop_s: float | None, patience: float) -> float:
    """When a peer is stopped: it has taken so many times longer than orlop. None: that is not known."""
    return math.inf if server.name == ORLOP or orlop_s is None else patience * orlop_s


def check_after(series: Series, check: Callable[[], None]) -> None:
    """A last look, outside the clock, at what was measured."""
    try:
        check()
    except (WrongAnswer, OSError) as error:
        series.fault = series.fault or fault_text(error)


def in_parallel(workers: int, items: Iterable, run: Callable[[Any], Any]) -> list:
    """The results in the order of the items; the first failure is raised."""
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return list(pool.map(run, items))


def timed(
    series: Series, server: Server, times: int, run: Callable[[], Any], check: Callable[[Any], None], mark: bool = True
) -> None:
    """
    The value is the median of several runs (of one, or more than asked for as long as they are short), in milliseconds;
    what it cost is the last one's. What each run returned is checked outside the clock.
    """
    taken: list[float] = []
    is_last = times == 1
    while True:
        if mark and is_last:
            server.mark()
        begin = time.perf_counter()
        found = run()
        taken.append((time.perf_counter() - begin) * 1e3)
        check(found)
        if is_last:
            break
        is_last = len(taken) >= times - 1 and sum(taken) >= RUNS_S * 1e3
    series.add(statistics.median(taken), server.usage_since_mark() if mark else None)


def size_text(size: int) -> str:
    for unit, name in ((GIB, "GiB"), (MIB, "MiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size // KIB} KiB"

"""Blobs that come in many small PATCHes."""

from collections.abc import Iterator

from .. import client
from ..plan import (
    BUDGET,
    KIB,
    MIB,
    ON_S3,
    ORLOP,
    REGISTRY,
    REPOSITORY,
    Plan,
    Site,
    attempt,
    check_after,
    limit_s,
    running,
    size_text,
)
from ..results import Figure, Growth, Target
from ..servers import Server

CHUNK_BYTES = 64 * KIB
BUDGETED = 1000  # of CHUNK_BYTES
# A peer's time grows with the square of the number: fewer make it harder to be so many times faster, and are sooner
# done.
PROMISED, PROMISED_QUICK = BUDGETED, 300
REQUESTS_MAX, WRITTEN_MAX = 1060, 2.05  # of the headline
PATIENCE, PATIENCE_FULL = 20.5, 30  # a peer is stopped when it has taken so many times longer than orlop
DELAYS_MS = (10, 30)
FURTHER, FURTHER_QUICK = (100, CHUNK_BYTES), (10, CHUNK_BYTES)  # with delays


def chunks(plan: Plan) -> Iterator[Figure]:
    for site in plan.sites:
        for chunk_bytes, numbers in _sizes(plan).items():
            for number in numbers:
                yield from _chunks(plan, site, number, chunk_bytes)
    for delay_ms in plan.delays(DELAYS_MS):
        yield from _chunks(plan, plan.s3.further(delay_ms), *(FURTHER if plan.full else FURTHER_QUICK))


def _sizes(plan: Plan) -> dict[int, tuple[int, ...]]:
    if plan.full:
        return {CHUNK_BYTES: (100, 300, 1000, 2000), 256 * KIB: (100, 1000), MIB: (100, 1000)}
    return {CHUNK_BYTES: (50, PROMISED_QUICK, BUDGETED)}


def _chunks(plan: Plan, site: Site, number: int, chunk_bytes: int) -> Iterator[Figure]:
    promised = (PROMISED if plan.full else PROMISED_QUICK, CHUNK_BYTES)
    is_promised = site is plan.s3 and (number, chunk_bytes) == promised
    size = size_text(chunk_bytes)
    views = ("requests", "up", "down") if site.store else ()
    figure = Figure(
        f"{number:,} PATCHes of {size} on {site.name}", "s",
        [Target(ORLOP, REGISTRY, at_least=20, times_faster=True, promise=ON_S3)] if is_promised else [],
        "POST, the PATCHes one after another, PUT",
        growth=None if site.delay_ms else Growth(f"PATCHes of {size} on {site.name}", "PATCHes", number, views),
    )  # fmt: skip
    with site.delayed():
        for turn in plan.turns(figure.title, plan.rounds_slow, figure):
            for server in site.registries:
                if server is site.orlop or _takes_part(plan, number, turn):
                    _round(plan, server, figure, number, chunk_bytes)
    yield figure
    if site is plan.s3 and (number, chunk_bytes) == (BUDGETED, CHUNK_BYTES):
        yield from _budgets(figure, number * chunk_bytes)


def _takes_part(plan: Plan, number: int, turn: int) -> bool:
    """A peer: of many PATCHes it has one round; in a quick run none, they are for orlop's budgets and for the plot."""
    return number <= PROMISED_QUICK or (plan.full and turn == 0)


def _round(plan: Plan, server: Server, figure: Figure, number: int, chunk_bytes: int) -> None:
    body = plan.source.body(number * chunk_bytes)
    series, orlops = figure.of(server.name), figure.of(ORLOP)
    patience = PATIENCE_FULL if plan.full else PATIENCE
    stopped_s = limit_s(server, orlops.median if orlops.valid else None, patience)

    def push() -> float:
        try:
            return client.push_in_chunks(server.port, REPOSITORY, body, chunk_bytes, stopped_s).whole_s
        except client.TooSlow:
            series.note = "stopped: it takes longer than that"
            return stopped_s

    with running(server):
        attempt(series, push, server)
        if not series.fault and not series.note:
            target = client.blob_target(REPOSITORY, body.digest)
            check_after(series, lambda: client.check_blob(server.port, target, body, read=True))


def _budgets(figure: Figure, size: int) -> Iterator[Figure]:
    """What the headline cost in requests and bytes."""
    title = f"{figure.title}, POST and commit"
    requests = Figure(f"{title}: requests", "requests", [Target(ORLOP, at_most=REQUESTS_MAX, promise=BUDGET)])
    written = Figure(
        f"{title}: bytes written", "× its size", [Target(ORLOP, at_most=WRITTEN_MAX, promise=BUDGET)]
    )  # fmt: skip
    read = Figure(f"{title}: data read", "bytes", [Target(ORLOP, at_most=0, promise=BUDGET)])
    for label, series in figure.series.items():
        if series.note:  # it was stopped
            continue
        for one in (requests, written, read):
            one.of(label).fault = series.fault
        for traffic in series.traffic:
            requests.of(label).add(traffic.requests)
            written.of(label).add(round(traffic.bytes_up / size, 4))
            read.of(label).add(traffic.data_bytes_read)
    yield from (requests, written, read)

"""Large uploads, and the commit apart."""

import os
from collections.abc import Iterator

from .. import client, yardsticks
from ..client import PushTimes
from ..content import Body
from ..plan import (
    GIB,
    MIB,
    ON_DISK,
    ON_S3,
    ORLOP,
    RCLONE,
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
from ..results import Figure, Growth, Series, Target
from ..servers import Server
from ..yardsticks import TEE, TEE_SYNCED

SMALL_COMMITS_PER_ROUND = 3
REGISTRY_COMMIT_ROUNDS = 3
CHUNK_BYTES = 16 * MIB
DELAYS_MS = (10, 30)

DOCKERS_WAY = "POST, one chunked PATCH, PUT"
IN_CHUNKS = f"PATCHes of {CHUNK_BYTES // MIB} MiB"
SINGLE = "POST, single PUT"


WAYS = (DOCKERS_WAY, IN_CHUNKS, SINGLE)
# A peer in PATCHes of 16 MiB is stopped when it has taken so many times longer than orlop: where each of them copies
# what is there already, 10 GiB would take days.
PATIENCE = 4


def push(plan: Plan) -> Iterator[Figure]:
    for site in plan.sites:
        yield from _push_headline(plan, site)
        yield from _push_sizes(plan, site)
    for delay_ms in plan.delays(DELAYS_MS):
        yield _push_further(plan, plan.s3.further(delay_ms))


# ---- the headline: 1 GiB, beside the yardstick ----


def _push_headline(plan: Plan, site: Site) -> Iterator[Figure]:
    on_disk = site is plan.disk
    size = size_text(plan.blob_bytes)
    yardstick = TEE_SYNCED if on_disk else RCLONE
    settings = "tee with sync of the file" if on_disk else f"{RCLONE} {' '.join(yardsticks.RCLONE_SETTINGS)}"
    patch = Figure(
        f"push of {size} to {site.name}: the PATCH alone", "MiB/s",
        [Target(ORLOP, TEE, at_least=0.9, promise=ON_DISK)] if on_disk else [],
        "chunks of 32 KiB; tee without sync",
    )  # fmt: skip
    wholes = {
        way: Figure(
            f"push of {size} to {site.name}: {way}", "MiB/s", _promises(site, on_disk, way, yardstick),
            f"first byte to 201; {settings}",
        )
        for way in WAYS
    }  # fmt: skip
    for way in () if plan.full else (IN_CHUNKS,) if on_disk else (IN_CHUNKS, SINGLE):
        del wholes[way]
    for turn in plan.turns(f"push of {size} to {site.name}", plan.rounds, patch, *wholes.values()):
        for way, whole in wholes.items():
            if way != DOCKERS_WAY and turn >= plan.rounds_large:
                continue
            for server in site.registries:
                figures = (patch, whole) if way == DOCKERS_WAY else (whole,)
                if on_disk or not plan.sits_out(server, turn):
                    _push_round(plan, server, figures, way, plan.blob_bytes, read=turn == 0)
                if way == DOCKERS_WAY and server is site.registries[0]:
                    _yardstick(plan, site, patch, whole, yardstick)
    for whole in wholes.values():
        whole.series.setdefault(yardstick, wholes[DOCKERS_WAY].of(yardstick))
    if on_disk:
        yield patch
    yield from wholes.values()


def _promises(site: Site, on_disk: bool, way: str, yardstick: str) -> list[Target]:
    if on_disk and way != IN_CHUNKS:
        floors, promise = (0.9, 1.3), ON_DISK
    elif not on_disk and way == DOCKERS_WAY:
        floors, promise = (0.85, 2), ON_S3
    else:
        return []
    return [Target(ORLOP, name, at_least=floor, promise=promise) for name, floor in zip((yardstick, REGISTRY), floors)]


def _yardstick(plan: Plan, site: Site, patch: Figure, whole: Figure, name: str) -> None:
    if not site.own:
        yardsticks.tee(plan, plan.source.body(plan.blob_bytes), patch.of(TEE), whole.of(name))
        return
    site.own.renew()
    os.sync()
    try:
        whole.of(name).add(*yardsticks.rclone_upload(site, plan.source.path, "blob"))
    finally:
        site.own.discard()


def _push_round(
    plan: Plan,
    server: Server,
    figures: tuple[Figure, ...],
    way: str,
    size: int,
    read: bool,
    rate: bool = True,
) -> None:
    """One push to a fresh server; into figures go that of the PATCH (if there are two) and that of the whole."""
    series, orlops = figures[-1].of(server.name), figures[-1].of(ORLOP)
    if series.note:
        return  # it was stopped
    times = PushTimes()
    body = plan.source.body(size)
    figure_of = (lambda seconds: size / MIB / seconds) if rate else (lambda seconds: seconds)  # its own inverse
    stopped_s = limit_s(server, figure_of(orlops.median) if orlops.valid else None, PATIENCE)

    def push() -> float:
        nonlocal times
        os.sync()
        try:
            times = _push(server.port, body, way, stopped_s)
        except client.TooSlow:
            series.note = "stopped: it is slower than that"
            return figure_of(stopped_s)
        return figure_of(times.whole_s)

    with running(server):
        attempt(series, push, server)
        target = client.blob_target(REPOSITORY, body.digest)
        if not series.fault and not series.note:
            check_after(series, lambda: client.check_blob(server.port, target, body, read))
    if len(figures) == 2:
        patch = figures[0].of(server.name)
        patch.fault = series.fault
        patch.cpu_s, patch.rss_peak_kib = series.cpu_s, series.rss_peak_kib
        if not series.fault:
            patch.add(figure_of(times.patch_s))


def _push(port: int, body: Body, way: str, stopped_s: float) -> PushTimes:
    if way == IN_CHUNKS:
        return client.push_in_chunks(port, REPOSITORY, body, CHUNK_BYTES, stopped_s)
    return (client.push_chunked if way == DOCKERS_WAY else client.push_single)(port, REPOSITORY, body)


# ---- growth with size, and with distance ----


def _push_sizes(plan: Plan, site: Site) -> Iterator[Figure]:
    if plan.full:
        sizes, ways = (64 * MIB, 256 * MIB, 1 * GIB, 4 * GIB, 10 * GIB), list(WAYS)
    else:
        sizes, ways = (16 * MIB, 64 * MIB), [DOCKERS_WAY]
    for way in ways:
        for size in sizes:
            growth = Growth(f"push to {site.name}: {way}", "MiB", size // MIB)
            figure = Figure(f"time to push {size_text(size)} to {site.name}: {way}", "s", [], growth=growth)
            for turn in plan.turns(figure.title, 1 if size > GIB else plan.rounds_slow, figure):
                for server in site.registries:
                    _push_round(plan, server, (figure,), way, size, turn == 0, rate=False)
            yield figure


def _push_further(plan: Plan, site: Site) -> Figure:
    size = plan.blob_bytes if plan.full else min(plan.blob_bytes, 64 * MIB)
    figure = Figure(f"push of {size_text(size)} to {site.name}: {DOCKERS_WAY}", "MiB/s", [], "first byte to 201")
    with site.delayed():
        for turn in plan.turns(figure.title, plan.rounds_slow, figure):
            for server in site.registries:
                _push_round(plan, server, (figure,), DOCKERS_WAY, size, turn == 0)
    return figure


# ---- commit ----


def commit(plan: Plan) -> Iterator[Figure]:
    for site in plan.sites:
        yield _commit(plan, site, MIB if site is plan.disk else 16 * MIB, plan.commit_bytes)


def _commit(plan: Plan, site: Site, small_bytes: int, large_bytes: int) -> Figure:
    large, small = size_text(large_bytes), size_text(small_bytes)
    promise = ON_S3 if site.store else ON_DISK
    figure = Figure(
        f"commit on {site.name}: the PUT alone", "ms",
        [Target(f"{ORLOP} {large}", f"{ORLOP} {small}", at_most=2, promise=promise)],
        "after the PATCH has been written back (sync)",
    )  # fmt: skip
    for turn in plan.turns(f"{figure.title}, {large}", plan.rounds, figure):
        for server in site.registries:
            if server is not site.orlop and (not plan.full or turn >= REGISTRY_COMMIT_ROUNDS):
                continue  # for comparison, and its PATCH takes long
            with running(server):
                smalls = figure.of(f"{server.name} {small}")
                for _ in range(SMALL_COMMITS_PER_ROUND):
                    _commit_one(plan, server, smalls, small_bytes)
                # Ratios go by round: of the small ones each round keeps its median.
                taken = sorted(smalls.values[turn:])
                smalls.values[turn:] = taken[len(taken) // 2 : len(taken) // 2 + 1]
                _commit_one(plan, server, figure.of(f"{server.name} {large}"), large_bytes)
    return figure


def _commit_one(plan: Plan, server: Server, series: Series, size: int) -> None:
    body = plan.source.body(size)

    def sync_and_mark() -> None:
        os.sync()
        server.mark()

    def push_one() -> float:
        return client.push_chunked(server.port, REPOSITORY, body, before_put=sync_and_mark).put_s * 1e3

    attempt(series, push_one, server)
    if not series.fault:
        target = client.blob_target(REPOSITORY, body.digest)
        check_after(series, lambda: client.check_blob(server.port, target, body))

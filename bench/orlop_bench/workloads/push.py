"""Large uploads, and the commit apart."""

import os
from collections.abc import Callable, Iterator

from .. import client, yardsticks
from ..plan import MIB, ON_DISK, ON_S3, ORLOP, RCLONE, REGISTRY, REPOSITORY, Plan, Site, attempt, check_after, running, size_text
from ..results import Figure, Series, Target
from ..servers import Server
from ..yardsticks import TEE, TEE_SYNCED

SMALL_COMMITS_PER_ROUND = 3
REGISTRY_COMMIT_ROUNDS = 3
DOCKERS_WAY = "POST, one chunked PATCH, PUT"


def push(plan: Plan) -> Iterator[Figure]:
    for site in plan.sites:
        yield from _push_to_disk(plan, site) if site is plan.disk else _push_to_s3(plan, site)


def _push_to_disk(plan: Plan, site: Site) -> Iterator[Figure]:
    size = size_text(plan.blob_bytes)
    patch = Figure(
        f"push of {size}: the PATCH alone", "MiB/s",
        [Target(ORLOP, TEE, at_least=0.9, promise=ON_DISK)],
        "chunks of 32 KiB; tee without sync",
    )  # fmt: skip
    whole, single = (
        Figure(
            f"push of {size}: {way}", "MiB/s",
            [
                Target(ORLOP, TEE_SYNCED, at_least=0.9, promise=ON_DISK),
                Target(ORLOP, REGISTRY, at_least=1.3, promise=ON_DISK),
            ],
            "first byte to 201; tee with sync of the file",
        )
        for way in (DOCKERS_WAY, "POST, single PUT")
    )  # fmt: skip
    for turn in range(plan.rounds_large):
        plan.say(f"push of {size}: round {turn + 1} of {plan.rounds_large}")
        last = turn == plan.rounds_large - 1
        for server in site.registries:
            _push_round(plan, server, (patch, whole), client.push_chunked, last)
        yardsticks.tee(plan, plan.source.body(plan.blob_bytes), patch.of(TEE), whole.of(TEE_SYNCED))
        for server in site.registries:
            _push_round(plan, server, (single,), client.push_single, last)
    single.series[TEE_SYNCED] = whole.of(TEE_SYNCED)
    yield from (patch, whole, single)


def _push_to_s3(plan: Plan, site: Site) -> Iterator[Figure]:
    assert site.own
    size = size_text(plan.blob_bytes)
    whole = Figure(
        f"push of {size} to {site.name}: {DOCKERS_WAY}", "MiB/s",
        [
            Target(ORLOP, RCLONE, at_least=0.85, promise=ON_S3),
            Target(ORLOP, REGISTRY, at_least=2, promise=ON_S3),
        ],
        f"first byte to 201; {RCLONE} {' '.join(yardsticks.RCLONE_SETTINGS)}",
    )  # fmt: skip
    for turn in range(plan.rounds_large):
        plan.say(f"{whole.title}: round {turn + 1} of {plan.rounds_large}")
        for server in site.registries:
            _push_round(plan, server, (whole,), client.push_chunked, turn == plan.rounds_large - 1)
            if server is site.registries[0]:
                _rclone_round(plan, site, whole.of(RCLONE))
    yield whole


def _rclone_round(plan: Plan, site: Site, series: Series) -> None:
    assert site.own
    site.own.renew()
    os.sync()
    try:
        series.add(*yardsticks.rclone_upload(site, plan.source.path, "blob"))
    finally:
        site.own.discard()


def _push_round(plan: Plan, server: Server, figures: tuple[Figure, ...], push_one: Callable, read: bool) -> None:
    """One push to a fresh server; into figures go the rate of the PATCH (if there are two) and that of the whole."""
    times = client.PushTimes()
    body = plan.source.body(plan.blob_bytes)

    def push_and_check() -> float:
        nonlocal times
        os.sync()
        times = push_one(server.port, REPOSITORY, body)
        return body.size / MIB / times.whole_s

    with running(server):
        series = figures[-1].of(server.name)
        attempt(series, push_and_check, server)
        target = client.blob_target(REPOSITORY, body.digest)
        if not series.fault:
            check_after(series, lambda: client.check_blob(server.port, target, body, read))
    if len(figures) == 2:
        patch = figures[0].of(server.name)
        patch.fault = series.fault
        patch.cpu_s, patch.rss_peak_kib = series.cpu_s, series.rss_peak_kib
        if not series.fault:
            patch.add(body.size / MIB / times.patch_s)


# ---- commit ----


def commit(plan: Plan) -> Iterator[Figure]:
    for site in plan.sites:
        yield _commit(plan, site, MIB if site is plan.disk else 16 * MIB)


def _commit(plan: Plan, site: Site, small_bytes: int) -> Figure:
    large, small = size_text(plan.commit_bytes), size_text(small_bytes)
    figure = Figure(
        f"commit on {site.name}: the PUT alone", "ms",
        [Target(f"{ORLOP} {large}", f"{ORLOP} {small}", at_most=2, promise=ON_S3 if site.store else ON_DISK)],
        "after the PATCH has been written back (sync)",
    )  # fmt: skip
    rounds = plan.rounds if site is plan.disk else plan.rounds_large
    for turn in range(rounds):
        for server in site.registries:
            if server is not site.orlop and (not plan.full or turn >= REGISTRY_COMMIT_ROUNDS):
                continue  # for comparison, and its PATCH takes long
            plan.say(f"{figure.title}, {large}, {server.name}: round {turn + 1} of {rounds}")
            with running(server):
                for size in [small_bytes] * SMALL_COMMITS_PER_ROUND:
                    _commit_one(plan, server, figure.of(f"{server.name} {small}"), size)
                _commit_one(plan, server, figure.of(f"{server.name} {large}"), plan.commit_bytes)
    # Ratios go by round: of the small ones each round keeps its median.
    for label, series in figure.series.items():
        if label.endswith(small):
            series.values = [
                sorted(series.values[i : i + SMALL_COMMITS_PER_ROUND])[SMALL_COMMITS_PER_ROUND // 2]
                for i in range(0, len(series.values), SMALL_COMMITS_PER_ROUND)
            ]
    return figure


def _commit_one(plan: Plan, server: Server, series: Series, size: int) -> None:
    body = plan.source.body(size)

    def sync_and_mark() -> None:
        os.sync()
        server.mark()

    attempt(series, lambda: client.push_chunked(server.port, REPOSITORY, body, before_put=sync_and_mark).put_s * 1e3, server)
    if not series.fault:
        target = client.blob_target(REPOSITORY, body.digest)
        check_after(series, lambda: client.check_blob(server.port, target, body))

"""Many pushes at once."""

import time
from collections.abc import Iterator

from .. import client
from ..plan import MIB, REPOSITORY, Plan, Site, attempt, check_after, in_parallel, running, size_text
from ..results import Figure

PUSHERS = 64
PUSH_BYTES, PUSH_BYTES_FULL = 2 * MIB, 64 * MIB


def pushes(plan: Plan) -> Iterator[Figure]:
    for site in plan.sites:
        yield from _pushes(plan, site)


def _pushes(plan: Plan, site: Site) -> Iterator[Figure]:
    size = PUSH_BYTES_FULL if plan.full else PUSH_BYTES
    title = f"{PUSHERS} pushes of {size_text(size)} at once on {site.name}"
    rate = Figure(title, "MiB/s", [], "POST, one chunked PATCH, PUT; all of them together")
    slowest = Figure(f"{title}: the slowest", "s", [], "of those pushes")
    for _ in plan.turns(title, plan.rounds_large if site.store else plan.rounds, rate, slowest):
        for server in site.registries:
            bodies = [plan.source.body(size) for _ in range(PUSHERS)]
            longest = 0.0

            def push_all() -> float:
                nonlocal longest
                begin = time.perf_counter()
                times = in_parallel(
                    PUSHERS, bodies, lambda body: client.push_chunked(server.port, REPOSITORY, body).whole_s
                )
                longest = max(times)
                return PUSHERS * size / MIB / (time.perf_counter() - begin)

            with running(server):
                series = rate.of(server.name)
                attempt(series, push_all, server)
                for body in bodies[:: PUSHERS // 4] if not series.fault else ():
                    target = client.blob_target(REPOSITORY, body.digest)
                    check_after(series, lambda: client.check_blob(server.port, target, body, read=True))
                if not series.fault:
                    slowest.of(server.name).add(longest)
                slowest.of(server.name).fault = series.fault
    yield from (rate, slowest)

"""Blobs that come in many small PATCHes."""

from collections.abc import Iterator

from .. import client
from ..plan import KIB, ORLOP, REGISTRY, REPOSITORY, Plan, Site, attempt, check_after, running, size_text
from ..results import Figure, Target
from ..servers import Server

HEADLINE = (1000, 64 * KIB)


def chunks(plan: Plan) -> Iterator[Figure]:
    for site in plan.sites:
        for number, size in ((100, 64 * KIB), (300, 64 * KIB), HEADLINE):
            yield _chunks(plan, site, number, size)


def _chunks(plan: Plan, site: Site, number: int, chunk_bytes: int) -> Figure:
    headline = site is plan.s3 and (number, chunk_bytes) == HEADLINE
    figure = Figure(
        f"{number:,} PATCHes of {size_text(chunk_bytes)} on {site.name}", "s",
        [Target(ORLOP, REGISTRY, at_least=20 if headline else None, times_faster=True)],
        "POST, the PATCHes one after another, PUT",
    )  # fmt: skip
    rounds = plan.rounds_large if plan.full or not headline else 1
    for turn in range(rounds):
        plan.say(f"{figure.title}: round {turn + 1} of {rounds}")
        for server in site.registries:
            _chunks_round(plan, server, figure, number, chunk_bytes)
    return figure


def _chunks_round(plan: Plan, server: Server, figure: Figure, number: int, chunk_bytes: int) -> None:
    body = plan.source.body(number * chunk_bytes)
    series = figure.of(server.name)
    with running(server):
        attempt(series, lambda: client.push_in_chunks(server.port, REPOSITORY, body, chunk_bytes).whole_s, server)
        if not series.fault:
            target = client.blob_target(REPOSITORY, body.digest)
            check_after(series, lambda: client.check_blob(server.port, target, body, read=True))

"""Many clients at once: pushes, and the mix that registries in production see."""

import math
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .. import client
from ..client import Connection, Image
from ..plan import MIB, REPOSITORY, Plan, Site, attempt, check_after, in_parallel, running, size_text
from ..results import Figure
from ..servers import Server

PUSHERS = 64
PUSH_BYTES, PUSH_BYTES_FULL = 2 * MIB, 64 * MIB

CLIENTS = 16
MIX_S, MIX_S_FULL = 3, 20
REPOSITORIES = 10
# What the traces of production registries share (Anwar et al., FAST '18): nine requests in ten read, most of them
# manifests; layer sizes are log-normal with two thirds below 1 MB.
MIX = {"manifest GET": 50, "manifest HEAD": 12, "blob GET": 28, "blob push": 6, "manifest PUT": 4}
LAYER_SIGMA = 2.0
LAYER_MU = math.log(1e6) - 0.4307 * LAYER_SIGMA  # 0.4307: two thirds of a normal distribution lie below
LAYER_BYTES_MAX = 16 * MIB
SEED = 20


def pushes(plan: Plan) -> Iterator[Figure]:
    for site in plan.sites:
        yield from _pushes(plan, site)


def _pushes(plan: Plan, site: Site) -> Iterator[Figure]:
    size = PUSH_BYTES_FULL if plan.full else PUSH_BYTES
    title = f"{PUSHERS} pushes of {size_text(size)} at once on {site.name}"
    rate = Figure(title, "MiB/s", [], "POST, one chunked PATCH, PUT; all of them together")
    slowest = Figure(f"{title}: the slowest", "s", [], "of those pushes")
    for _ in plan.turns(title, plan.rounds_slow if site.store else plan.rounds_large):
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


# ---- mixed traffic ----


@dataclass
class _Stock:
    """What the readers ask for."""

    images: list[Image] = field(default_factory=list)
    layers: list[tuple[str, bytes]] = field(default_factory=list)  # repository, bytes


def mixed(plan: Plan) -> Iterator[Figure]:
    for site in plan.sites:
        yield from _mixed(plan, site)


def _mixed(plan: Plan, site: Site) -> Iterator[Figure]:
    seconds = MIX_S_FULL if plan.full else MIX_S
    note = ", ".join(f"{share} % {what}" for what, share in MIX.items()) + f"; {CLIENTS} clients, {seconds} s a round"
    rate = Figure(f"mixed traffic on {site.name}", "requests/s", [], note)
    quantiles = {
        (what, percent): Figure(f"mixed traffic on {site.name}: {what}, {percent} % are faster", "ms", [])
        for what in MIX
        for percent in (50, 99)
    }
    with running(*site.registries):
        stocks = {server.name: _stock(server) for server in site.registries}
        for turn in plan.turns(rate.title, plan.rounds_large):
            for server in site.registries:
                taken: list[tuple[str, float]] = []

                def run() -> float:
                    begin = time.perf_counter()
                    taken.extend(_traffic(server, stocks[server.name], seconds, turn))
                    return len(taken) / (time.perf_counter() - begin)

                attempt(rate.of(server.name), run, server)
                for (what, percent), figure in quantiles.items():
                    times = sorted(ms for kind, ms in taken if kind == what)
                    figure.of(server.name).fault = rate.of(server.name).fault
                    if times and not rate.of(server.name).fault:
                        figure.of(server.name).add(times[min(len(times) - 1, len(times) * percent // 100)])
    yield from (rate, *quantiles.values())


def _layer(chance: random.Random) -> bytes:
    size = int(min(chance.lognormvariate(LAYER_MU, LAYER_SIGMA), LAYER_BYTES_MAX))
    return os.urandom(min(size, 4096)) + bytes(max(0, size - 4096))


def _stock(server: Server) -> _Stock:
    chance, stock = random.Random(SEED), _Stock()
    for number in range(REPOSITORIES):
        layers = [_layer(chance) for _ in range(3)]
        image, blobs = client.make_image(f"bench/mixed{number}", "latest", 1500, blobs=[client.EMPTY_JSON, *layers])
        client.push_image(server.port, image, blobs)
        stock.images.append(image)
        stock.layers += [(image.repository, layer) for layer in layers]
    return stock


def _traffic(server: Server, stock: _Stock, seconds: float, turn: int) -> list[tuple[str, float]]:
    """What was done, and the milliseconds each took."""
    end = time.perf_counter() + seconds
    digests = [(repository, client.sha256(layer), len(layer)) for repository, layer in stock.layers]

    def one_client(number: int) -> list[tuple[str, float]]:
        chance, taken = random.Random(SEED + 1000 * turn + number), []
        kinds, shares = list(MIX), list(MIX.values())
        with Connection(server.port) as connection:
            while time.perf_counter() < end:
                kind = chance.choices(kinds, shares)[0]
                run = _prepare(kind, connection, stock, digests, chance)
                begin = time.perf_counter()
                run()
                taken.append((kind, (time.perf_counter() - begin) * 1e3))
        return taken

    return [one for taken in in_parallel(CLIENTS, range(CLIENTS), one_client) for one in taken]


def _prepare(
    kind: str, connection: Connection, stock: _Stock, digests: list[tuple[str, str, int]], chance: random.Random
) -> Callable[[], None]:
    image = chance.choice(stock.images)
    repository, digest, size = chance.choice(digests)
    if kind == "blob GET":
        return lambda: client.get_blob(connection, repository, digest, size)
    if kind == "blob push":
        layer = _layer(chance)
        return lambda: client.put_blob(connection, image.repository, layer)
    if kind == "manifest PUT":
        return lambda: client.put_manifest(connection, image, f"t{chance.randrange(100)}")
    reference = chance.choice((image.tag, image.digest))
    method = kind.rpartition(" ")[2]
    return lambda: client.read_manifest(connection, method, image, reference)

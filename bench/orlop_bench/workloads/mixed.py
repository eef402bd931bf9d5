"""The traffic that registries in production see."""

import math
import random
from collections.abc import Iterator
from pathlib import Path

from .. import client, traffic
from ..client import Image
from ..content import ENDING_BYTES
from ..plan import MIB, Plan, Site, attempt, running
from ..results import Figure
from ..servers import Server
from ..traffic import OPERATIONS, operation_name

CLIENTS = 16
ROUND_S, ROUND_S_FULL = 3, 20
IMAGES = 10
LAYERS_EACH = 3
PUSHED_SIZES = 100
MANIFEST_BYTES = 1500
# What the traces of production registries share (Anwar et al., FAST '18): nine requests in ten read, most of them
# manifests; layer sizes are log-normal with two thirds below 1 MB.
SHARES = dict(zip(OPERATIONS, (50, 12, 28, 6, 4)))
LAYER_SIGMA = 2.0
LAYER_MU = math.log(1e6) - 0.4307 * LAYER_SIGMA  # 0.4307: two thirds of a normal distribution lie below
LAYER_BYTES_MAX = 16 * MIB
SEED = 20
PERCENTS = (50, 90, 99)
SLOWER_MIN = 20  # answers of a round that must be slower than a quantile for it to be shown


def mixed(plan: Plan) -> Iterator[Figure]:
    program = traffic.build(plan.directory)
    for site in plan.sites:
        yield from _mixed(plan, site, program)


def _mixed(plan: Plan, site: Site, program: Path) -> Iterator[Figure]:
    seconds = ROUND_S_FULL if plan.full else ROUND_S
    shares = ", ".join(f"{share} % {what}" for what, share in SHARES.items())
    note = f"{shares}; {CLIENTS} clients, {seconds} s a round"
    rate = Figure(f"mixed traffic on {site.name}", "requests/s", [], note)
    quantiles = {
        (what, percent): Figure(f"mixed traffic on {site.name}: {what}, {percent} % are faster", "ms", [])
        for what in OPERATIONS
        for percent in PERCENTS
    }
    file = plan.directory / "mixed"
    with running(*site.registries):
        _write(file, _stock(plan, site.registries))
        for turn in plan.turns(rate.title, plan.rounds_large, rate, *quantiles.values()):
            for server in site.registries:
                times: dict[str, list[float]] = {}

                def run() -> float:
                    load = traffic.Load(CLIENTS, seconds, (turn + 1) * CLIENTS, file)
                    times.update(traffic.run(program, server.port, load))
                    return sum(map(len, times.values())) / seconds

                attempt(rate.of(server.name), run, server)
                for (what, percent), figure in quantiles.items():
                    fault, found = rate.of(server.name).fault, times.get(what, [])
                    if fault:
                        figure.of(server.name).fault = fault
                    elif len(found) * (100 - percent) >= SLOWER_MIN * 100:
                        figure.of(server.name).add(found[len(found) * percent // 100])
    yield rate
    for figure in quantiles.values():
        for label, series in list(figure.series.items()):
            if not series.fault and len(series.values) < len(rate.of(label).values):
                del figure.series[label]  # a round had too few answers
        if any(series.valid for series in figure.series.values()):
            yield figure


def _layer_bytes(chance: random.Random) -> int:
    return max(ENDING_BYTES + 1, int(min(chance.lognormvariate(LAYER_MU, LAYER_SIGMA), LAYER_BYTES_MAX)))


def _stock(plan: Plan, servers: list[Server]) -> list[tuple[Image, list[bytes]]]:
    """The same images in each registry."""
    chance, stock = random.Random(SEED), []
    for number in range(IMAGES):
        layers = [b"".join(plan.source.body(_layer_bytes(chance)).pieces(MIB)) for _ in range(LAYERS_EACH)]
        blobs = [client.EMPTY_JSON, *layers]
        stock.append(client.make_image(f"bench/mixed{number}", "latest", MANIFEST_BYTES, blobs=blobs))
    for server in servers:
        for image, blobs in stock:
            client.push_image(server.port, image, blobs)
    return stock


def _write(file: Path, stock: list[tuple[Image, list[bytes]]]) -> None:
    """What the clients do and what they find; the bytes they are to get lie beside the file."""
    chance, written = random.Random(SEED), 0

    def keep(data: bytes) -> Path:
        nonlocal written
        written += 1
        path = file.with_name(f"{file.name}-{written}")
        path.write_bytes(data)
        return path

    lines = [f"share {operation_name(what)} {share}" for what, share in SHARES.items()]
    for image, (_, *layers) in stock:
        lines.append(f"image {image.repository} {image.tag} {image.digest} {keep(image.manifest)}")
        lines += [f"layer {image.repository} {client.sha256(layer)} {keep(layer)}" for layer in layers]
    lines += [f"push {_layer_bytes(chance)}" for _ in range(PUSHED_SIZES)]
    file.write_text("\n".join(lines) + "\n")

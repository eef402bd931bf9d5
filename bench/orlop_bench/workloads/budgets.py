"""What operations cost in requests to S3, counted at the wire on warm connections."""

import math
import os
from collections.abc import Callable, Iterator

from .. import client
from ..client import Connection, WrongAnswer
from ..plan import BUDGET, KIB, MIB, ORLOP, REPOSITORY, Plan, Site, counted, fault_text, running, size_text
from ..results import Figure, Series, Target
from ..servers import Server

PART_BYTES = 8 * MIB
SMALL_RECORD_BYTES = 4096  # a reference, a pointer or an empty checkpoint beside the bytes of a blob
LARGE_BYTES, LARGE_BYTES_QUICK = 1024 * MIB, 64 * MIB
LAYERS = 10
TAIL_CHUNKS = 5
CHUNK_BYTES = 64 * KIB
ROUND_TRIP_MS = 100
PAGE_ENTRIES = 15


def budgets(plan: Plan) -> Iterator[Figure]:
    site = plan.s3
    if not site:
        return
    for cost in (uploads, commit_alone, resume, reads, redirect, manifest_put, pages):
        plan.say(f"requests to S3: {cost.__name__.replace('_', ' ')}")
        yield from cost(plan, site)


def requests_figure(title: str, budget: int | None, note: str = "") -> Figure:
    targets = [] if budget is None else [Target(ORLOP, at_most=budget, promise=BUDGET)]
    return Figure(title, "requests", targets, note)


def _on_each(site: Site, figures: list[Figure], run: Callable[[Server, list[Series]], None]) -> None:
    """run on each registry, fresh but warm; what it fails in voids those of its series that are not there yet."""
    for server in site.registries:
        series = [figure.of(server.name) for figure in figures]
        try:
            with running(server):
                _warm(server)
                run(server, series)
        except (WrongAnswer, OSError, KeyError, ValueError) as error:
            for one in series:
                if not one.values:
                    one.fault = one.fault or fault_text(error)


def _warm(server: Server) -> None:
    client.push_image(server.port, *client.make_image("bench/warm", "latest", 1024))


def _forget(server: Server) -> None:
    """The same store with a process that remembers nothing, but for its connections to the store."""
    server.stop()
    server.start()
    _warm(server)


# ---- uploads ----


def uploads(plan: Plan, site: Site) -> Iterator[Figure]:
    large = LARGE_BYTES if plan.full else LARGE_BYTES_QUICK
    large = min(large, plan.blob_bytes)
    parts = math.ceil(large / PART_BYTES)
    opened = requests_figure("POST, open a session", 1)
    single = requests_figure("blob of 5 MiB in one PUT", 3, "without its POST")
    single_bytes = Figure(
        "blob of 5 MiB in one PUT: bytes written", "× its size",
        [Target(ORLOP, at_most=1.0, promise=BUDGET)],
        f"beyond {SMALL_RECORD_BYTES} bytes of records",
    )  # fmt: skip
    patched = requests_figure(
        f"PATCH of {size_text(large)}, then commit", int(1.15 * parts + 8), f"1.15 × {parts} parts + 8"
    )
    patched_bytes = Figure(
        f"PATCH of {size_text(large)}, then commit: bytes written", "× its size",
        [Target(ORLOP, at_most=1.01, promise=BUDGET)],
        f"beyond {SMALL_RECORD_BYTES} bytes of records",
    )  # fmt: skip

    def run(server: Server, series: list[Series]) -> None:
        small, big = plan.source.body(5 * MIB), plan.source.body(large)
        with Connection(server.port) as connection:
            upload = counted(series[0], server, lambda: client.open_upload(connection, REPOSITORY))
            target = client.with_digest(upload, small.digest)
            answer = counted(series[1], server, lambda: connection.request_sized("PUT", target, {}, small))
            client.check_commit(answer, small)
            _share(series[1], series[2], small.size)
        counted(series[3], server, lambda: client.push_chunked(server.port, REPOSITORY, big, after_post=server.mark))
        _share(series[3], series[4], big.size)

    figures = [opened, single, single_bytes, patched, patched_bytes]
    _on_each(site, figures, run)
    yield from figures


def _share(counted_series: Series, series: Series, size: int) -> None:
    """Bytes written as a share of the blob's."""
    written = counted_series.traffic[-1].bytes_up - SMALL_RECORD_BYTES
    series.add(round(written / size, 4))


def commit_alone(plan: Plan, site: Site) -> Iterator[Figure]:
    large = min(LARGE_BYTES if plan.full else LARGE_BYTES_QUICK, plan.blob_bytes)
    sizes = (MIB, 20 * MIB, large)
    figures = [requests_figure(f"commit alone of {size_text(size)}", 6) for size in sizes]
    read = Figure(
        f"commit alone of {size_text(large)}: bytes read", "bytes", [Target(ORLOP, at_most=0, promise=BUDGET)]
    )

    def run(server: Server, series: list[Series]) -> None:
        for size, one in zip(sizes, series):
            body = plan.source.body(size)
            client.push_chunked(server.port, REPOSITORY, body, before_put=server.mark)
            one.account(usage := server.usage_since_mark())
            assert usage.traffic
            one.values.append(usage.traffic.requests)
        series[-1].add(series[-2].traffic[-1].data_bytes_read)

    figures.append(read)
    _on_each(site, figures, run)
    yield from figures


def resume(plan: Plan, site: Site) -> Iterator[Figure]:
    tail = TAIL_CHUNKS * CHUNK_BYTES
    figure = requests_figure(
        f"resume on a node that knows nothing of it, {TAIL_CHUNKS} tail objects", 3 + TAIL_CHUNKS + 1,
        "3, the tail objects, and the 1 of the PATCH that resumes",
    )  # fmt: skip
    read = Figure(
        f"{figure.title}: bytes read", "bytes",
        [Target(ORLOP, at_most=tail + CHUNK_BYTES + (TAIL_CHUNKS + 2) * SMALL_RECORD_BYTES, promise=BUDGET)],
        "the tail, and once more the newest of its objects",
    )  # fmt: skip

    def run(server: Server, series: list[Series]) -> None:
        data = os.urandom(tail + CHUNK_BYTES)
        with Connection(server.port) as connection:
            upload = client.open_upload(connection, REPOSITORY)
            for at in range(0, tail, CHUNK_BYTES):
                upload = client.patch_at(connection, upload, at, data[at : at + CHUNK_BYTES])
        _forget(server)
        with Connection(server.port) as connection:
            upload = counted(series[0], server, lambda: client.patch_at(connection, upload, tail, data[tail:]))
            series[1].add(series[0].traffic[-1].data_bytes_read)
            answer = connection.request("PUT", client.with_digest(upload, client.sha256(data)))
            answer.expect("PUT of the digest after a resume", 201)

    _on_each(site, [figure, read], run)
    yield from (figure, read)


# ---- reads ----


def reads(plan: Plan, site: Site) -> Iterator[Figure]:
    image, blobs = client.make_image(REPOSITORY, "latest", 1024)
    blob = client.blob_target(REPOSITORY, client.sha256(blobs[-1]))
    asked = (
        ("HEAD blob", "HEAD", blob, 1, 0),
        ("manifest GET by digest", "GET", image.target(image.digest), 1, 0),
        ("manifest GET by tag", "GET", image.target(image.tag), 2, 1),
    )
    figures = [
        requests_figure(f"{name}, {state}", budget)
        for name, _, _, cold, warm in asked
        for state, budget in (("cold", cold), ("warm", warm))
    ]

    def run(server: Server, series: list[Series]) -> None:
        client.push_image(server.port, image, blobs)
        for number, (name, method, target, _, _) in enumerate(asked):
            _forget(server)
            with Connection(server.port) as connection:
                for one in series[2 * number : 2 * number + 2]:
                    fields = {"Accept": client.MANIFEST_TYPE}
                    counted(one, server, lambda: connection.request(method, target, fields).expect(name, 200))

    _on_each(site, figures, run)
    yield from figures


def redirect(plan: Plan, site: Site) -> Iterator[Figure]:
    image, blobs = client.make_image(REPOSITORY, "latest", 1024)
    blob = client.blob_target(REPOSITORY, client.sha256(blobs[-1]))
    figures = [requests_figure(f"GET blob with redirect, {state}", most) for state, most in (("cold", 1), ("warm", 0))]

    def run(server: Server, series: list[Series]) -> None:
        server.redirect = True
        _forget(server)
        client.push_image(server.port, image, blobs)
        _forget(server)
        with Connection(server.port) as connection:
            for one in series:
                counted(one, server, lambda: connection.request("GET", blob).expect("GET of a blob", 307))

    try:
        _on_each(site, figures, run)
    finally:
        for server in site.registries:
            server.redirect = False
    yield from figures


# ---- manifests and lists ----


def manifest_put(plan: Plan, site: Site) -> Iterator[Figure]:
    put = requests_figure(
        f"manifest PUT with {LAYERS} layers", LAYERS + 5, "by tag, on a node that did not take the blobs"
    )
    trips = Figure(
        f"manifest PUT with {LAYERS} layers: round trips", "round trips",
        [Target(ORLOP, at_most=4, promise=BUDGET)],
        f"its time with {ROUND_TRIP_MS} ms for each request, divided by those",
    )  # fmt: skip

    def run(server: Server, series: list[Series]) -> None:
        image, blobs = client.make_image(REPOSITORY, "latest", 8192, layers=LAYERS)
        again, _ = client.make_image(REPOSITORY, "again", 8192, layers=LAYERS, blobs=blobs)
        client.push_blobs(server.port, REPOSITORY, blobs)
        _forget(server)
        counted(series[0], server, lambda: client.push_manifest(server.port, image, image.tag))
        _forget(server)
        with site.further(ROUND_TRIP_MS).delayed():
            seconds = client.push_manifest(server.port, again, again.tag)
        series[1].add(seconds * 1000 // ROUND_TRIP_MS)

    _on_each(site, [put, trips], run)
    yield from (put, trips)


def pages(plan: Plan, site: Site) -> Iterator[Figure]:
    tags = requests_figure(f"tags, a page of 10 out of {PAGE_ENTRIES}", 1)
    catalog = requests_figure(f"catalog, a page of 10 out of {PAGE_ENTRIES}", 1)

    def run(server: Server, series: list[Series]) -> None:
        image, blobs = client.make_image(REPOSITORY, "t", 1024)
        client.push_image(server.port, image, blobs)
        for number in range(PAGE_ENTRIES):
            client.push_manifest(server.port, image, f"t{number:03}")
            client.push_image(server.port, *client.make_image(f"bench/r{number:03}", "latest", 1024))
        with Connection(server.port) as connection:
            counted(series[1], server, lambda: client.listed(connection, "/v2/_catalog?n=10", "repositories", 10))
            target = f"/v2/{REPOSITORY}/tags/list?n=10"
            counted(series[0], server, lambda: client.listed(connection, target, "tags", 10))

    _on_each(site, [tags, catalog], run)
    yield from (tags, catalog)

"""Manifests and blobs, read from a registry that has them."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator

from .. import client, wrk, yardsticks
from ..client import Connection, WrongAnswer
from ..plan import (
    CURL,
    KIB,
    MIB,
    NGINX,
    ON_DISK,
    ON_S3,
    ORLOP,
    REGISTRY,
    REPOSITORY,
    Plan,
    Site,
    attempt,
    check_after,
    running,
    size_text,
)
from ..results import Figure, Series, Target
from ..servers import Nginx, Server

MANIFEST_BYTES = 1024
CONNECTIONS, MANY = 64, 200
DELAYS_MS = (10, 30)
HEADS_S, HEADS_PER_CONNECTION = 0.5, 100
RANGE_BYTES = 1 * MIB
SMALL_BYTES = 64 * KIB
PULL_BYTES = 128 * MIB  # from S3
NGINX_NO_LOG = "nginx, no access log"


# ---- manifests ----


def manifest(plan: Plan) -> Iterator[Figure]:
    for site in plan.sites:
        yield from _manifest_on_disk(plan, site) if site is plan.disk else _manifest_on_s3(plan, site)
    for delay_ms in plan.delays(DELAYS_MS):
        yield from _manifest_on_s3(plan, plan.s3.further(delay_ms))


def _manifest_on_disk(plan: Plan, site: Site) -> Iterator[Figure]:
    image, blobs = client.make_image(REPOSITORY, "latest", MANIFEST_BYTES)
    with running(plan.nginx, plan.nginx_no_log, *site.registries):
        for nginx in (plan.nginx, plan.nginx_no_log):
            for reference in (image.digest, image.tag):
                nginx.put(image.target(reference), image.manifest)
        contestants: list[tuple[str, Server]] = [(NGINX, plan.nginx)]
        if plan.full:
            contestants.append((NGINX_NO_LOG, plan.nginx_no_log))
        for server in site.registries:
            client.push_image(server.port, image, blobs)
            contestants.insert(0 if server is site.orlop else len(contestants), (server.name, server))
        for threads in (1, 2) if plan.full else (2,):
            for kind, reference in (("digest", image.digest), ("tag", image.tag)):
                targets = [
                    Target(ORLOP, NGINX, at_least=0.7, promise=ON_DISK),
                    Target(ORLOP, REGISTRY, at_least=20, promise=ON_DISK),
                ]
                seconds = plan.wrk_s(site, CONNECTIONS)
                note = f"{CONNECTIONS} keep-alive connections, {seconds} s a round; {MANIFEST_BYTES} bytes"
                figure = Figure(f"manifest GET by {kind}, wrk -t{threads}", "requests/s", targets, note)
                load = {"threads": threads, "connections": CONNECTIONS, "seconds": seconds}
                yield _wrk_rounds(plan, figure, contestants, image, reference, plan.rounds, load)
        yield _heads(plan, contestants, image)


def _heads(plan: Plan, contestants: list[tuple[str, Server]], image: client.Image) -> Figure:
    """wrk cannot do these."""
    note = f"one client, one after another, {HEADS_S:g} s a round; bound by it"
    figure = Figure("manifest HEAD by tag", "requests/s", [], note)

    def head(connection: Connection) -> None:
        answer = connection.request("HEAD", image.target(image.tag), {"Accept": client.MANIFEST_TYPE})
        answer.expect("HEAD of a manifest", 200)
        if answer.headers.get("content-length") != str(len(image.manifest)):
            raise WrongAnswer(f"HEAD of a manifest: Content-Length: {answer.headers.get('content-length')}")

    def measure(server: Server) -> float:
        begin, heads = time.perf_counter(), 0
        while (now := time.perf_counter()) < begin + HEADS_S:
            with Connection(server.port) as connection:
                for _ in range(HEADS_PER_CONNECTION):
                    head(connection)
            heads += HEADS_PER_CONNECTION
        return heads / (now - begin)

    for _ in plan.turns(figure.title, plan.rounds, figure):
        for label, server in contestants:
            attempt(figure.of(label), lambda: measure(server), server)
    return figure


def _manifest_on_s3(plan: Plan, site: Site) -> Iterator[Figure]:
    image, blobs = client.make_image(REPOSITORY, "latest", MANIFEST_BYTES)
    with running(*site.registries), contextlib.ExitStack() as stack:
        for server in site.registries:
            client.push_image(server.port, image, blobs)
        stack.enter_context(site.delayed())
        contestants = [(server.name, server) for server in site.registries]
        for kind, reference in (
            (("tag", image.tag),) if site.delay_ms else (("tag", image.tag), ("digest", image.digest))
        ):
            promised = kind == "tag" and not site.delay_ms
            targets = [Target(ORLOP, REGISTRY, at_least=5, promise=ON_S3)] if promised else []
            connections = MANY if promised else CONNECTIONS
            seconds = plan.wrk_s(site, connections)
            note = f"{connections} keep-alive connections, {seconds} s a round; {MANIFEST_BYTES} bytes"
            figure = Figure(f"manifest GET by {kind} on {site.name}", "requests/s", targets, note)
            load = {"threads": 1, "connections": connections, "seconds": seconds}
            yield _wrk_rounds(plan, figure, contestants, image, reference, plan.rounds_large, load)


def _wrk_rounds(
    plan: Plan, figure: Figure, contestants: list, image: client.Image, reference: str, rounds: int, load: dict
) -> Figure:
    target = image.target(reference)

    def measure(server: Server) -> float:
        wire_bytes = _check_manifest(server, target, image)
        found = wrk.get(server.port, target, **load)
        rate = wrk.rate(found, wire_bytes)
        _check_manifest(server, target, image)
        return rate

    for _ in plan.turns(figure.title, rounds, figure):
        for label, server in contestants:
            attempt(figure.of(label), lambda: measure(server), server)
    return figure


def _check_manifest(server: Server, target: str, image: client.Image) -> int:
    """The bytes on the wire of one answer, having looked at it closely."""
    with Connection(server.port) as connection:
        answer = connection.request("GET", target, {"Accept": client.MANIFEST_TYPE}).expect("GET of a manifest", 200)
    if client.sha256(answer.body) != image.digest:
        raise WrongAnswer(f"GET of a manifest: {answer.length} bytes, {client.sha256(answer.body)}")
    if not isinstance(server, Nginx):
        expected = {"docker-content-digest": image.digest, "content-type": client.MANIFEST_TYPE}
        for name, value in expected.items():
            if answer.headers.get(name) != value:
                raise WrongAnswer(f"GET of a manifest: {name}: {answer.headers.get(name)}")
    return answer.wire_bytes


# ---- blobs ----


def blob(plan: Plan) -> Iterator[Figure]:
    for site in plan.sites:
        yield _blob_on_disk(plan, site) if site is plan.disk else _blob_on_s3(plan, site)
        yield from _many_readers(plan, site)


def _blob_on_disk(plan: Plan, site: Site) -> Figure:
    body = plan.source.body(plan.blob_bytes)
    target = client.blob_target(REPOSITORY, body.digest)
    targets = [Target(ORLOP, NGINX, at_least=0.95, promise=ON_DISK)]
    figure = Figure(f"blob GET of {size_text(body.size)}", "MiB/s", targets, "curl -o /dev/null, in the page cache")
    with running(plan.nginx, *site.registries):
        with open(plan.nginx.path(target), "wb") as file:
            for piece in body.pieces(MIB):
                file.write(piece)
        for server in site.registries:
            client.push_single(server.port, REPOSITORY, body)
        os.sync()
        contestants = [plan.nginx, *site.registries]
        if site.orlop:
            contestants = [site.orlop, plan.nginx, *site.peers]

        def get(server: Server) -> float:
            return yardsticks.curl(f"http://127.0.0.1:{server.port}{target}", body.size)

        for server in contestants:
            attempt(Series("warm-up"), lambda: get(server))
        for _ in plan.turns(figure.title, plan.rounds, figure):
            for server in contestants:
                attempt(figure.of(server.name), lambda: get(server), server)
        _read_back(figure, contestants, target, body)
    return figure


def _blob_on_s3(plan: Plan, site: Site) -> Figure:
    assert site.own
    body = plan.source.body(min(plan.blob_bytes, PULL_BYTES))
    target = client.blob_target(REPOSITORY, body.digest)
    targets = [Target(ORLOP, CURL, at_least=0.8, promise=ON_S3)]
    note = "curl -o /dev/null; every blob passes through its registry, none is redirected"
    figure = Figure(f"blob GET of {size_text(body.size)} on {site.name}", "MiB/s", targets, note)
    site.own.renew()
    with running(*site.registries):
        for server in site.registries:
            client.push_single(server.port, REPOSITORY, body)
        copy = plan.directory / "copy"
        copy.write_bytes(b"".join(body.pieces(MIB)))
        yardsticks.rclone_upload(site, copy, "blob")
        copy.unlink()
        straight = f"{site.own.proxy.url}/{site.own.name}/blob"
        getters: list[tuple[str, Callable[[], float], Server | None]] = [
            (
                server.name,
                lambda port=server.port: yardsticks.curl(f"http://127.0.0.1:{port}{target}", body.size),
                server,
            )
            for server in site.registries
        ]
        getters.insert(1, (CURL, lambda: yardsticks.curl(straight, body.size, signed=True), None))
        for _ in plan.turns(figure.title, plan.rounds_large, figure):
            for label, get, server in getters:
                attempt(figure.of(label), get, server)
        _read_back(figure, site.registries, target, body)
    site.own.discard()
    return figure


def _many_readers(plan: Plan, site: Site) -> Iterator[Figure]:
    """A range of a larger blob, and one small blob for many at once."""
    body = plan.source.body(min(64 * MIB, plan.blob_bytes))
    small = plan.source.body(SMALL_BYTES)
    ranges = f"Range: bytes={RANGE_BYTES}-{2 * RANGE_BYTES - 1}"
    nginx = [plan.nginx] if site is plan.disk else []
    with running(*nginx, *site.registries):
        for blob in (body, small):
            for server in nginx:
                server.path(client.blob_target(REPOSITORY, blob.digest)).write_bytes(b"".join(blob.pieces(MIB)))
            for server in site.registries:
                client.push_single(server.port, REPOSITORY, blob)
        rounds = plan.rounds if site is plan.disk else plan.rounds_large
        for title, blob, length, connections, headers in (
            (f"blob GET of a range of {size_text(RANGE_BYTES)}", body, RANGE_BYTES, 8, (ranges,)),
            (f"{MANY} blob GETs of {size_text(SMALL_BYTES)} at once", small, SMALL_BYTES, MANY, ()),
        ):
            seconds = plan.wrk_s(site, connections)
            note = f"{connections} keep-alive connections, {seconds} s a round"
            figure = Figure(f"{title} on {site.name}", "MiB/s", [], note)
            target = client.blob_target(REPOSITORY, blob.digest)

            def measure(server: Server) -> float:
                found = wrk.get(
                    server.port, target,
                    threads=1, connections=connections, seconds=seconds, headers=headers,
                )  # fmt: skip
                return wrk.rate(found, length, connections) * length / MIB

            for _ in plan.turns(figure.title, rounds, figure):
                for server in [*site.registries[:1], *nginx, *site.registries[1:]]:
                    attempt(figure.of(server.name), lambda: measure(server), server)
            yield figure


def _read_back(figure: Figure, servers: list[Server], target: str, body: client.Body) -> None:
    for server in servers:
        check_after(figure.of(server.name), lambda: client.check_blob(server.port, target, body, read=True))

"""Manifests and blobs, read from a registry that has them."""

import os
from collections.abc import Callable, Iterator

from .. import client, wrk, yardsticks
from ..client import Connection, WrongAnswer
from ..plan import CURL, MIB, NGINX, ON_DISK, ON_S3, ORLOP, REGISTRY, REPOSITORY, Plan, Site, attempt, check_after, running, size_text
from ..results import Figure, Series, Target
from ..servers import Nginx, Server

MANIFEST_BYTES = 1024
CONNECTIONS, CONNECTIONS_S3 = 64, 200
NGINX_NO_LOG = "nginx, no access log"


# ---- manifests ----


def manifest(plan: Plan) -> Iterator[Figure]:
    for site in plan.sites:
        yield from _manifest_on_disk(plan, site) if site is plan.disk else _manifest_on_s3(plan, site)


def _manifest_on_disk(plan: Plan, site: Site) -> Iterator[Figure]:
    image, blobs = client.make_image(REPOSITORY, "latest", MANIFEST_BYTES)
    with running(plan.nginx, plan.nginx_no_log, *site.registries):
        for nginx in (plan.nginx, plan.nginx_no_log):
            for reference in (image.digest, image.tag):
                nginx.put(image.target(reference), image.manifest)
        contestants: list[tuple[str, Server]] = [(NGINX, plan.nginx), (NGINX_NO_LOG, plan.nginx_no_log)]
        for server in site.registries:
            client.push_image(server.port, image, blobs)
            contestants.insert(0 if server is site.orlop else len(contestants), (server.name, server))
        for threads in (1, 2):
            for kind, reference in (("digest", image.digest), ("tag", image.tag)):
                targets = [
                    Target(ORLOP, NGINX, at_least=0.7, promise=ON_DISK),
                    Target(ORLOP, REGISTRY, at_least=20, promise=ON_DISK),
                ]
                note = f"{CONNECTIONS} keep-alive connections, {plan.wrk_s} s a round; {MANIFEST_BYTES} bytes"
                figure = Figure(f"manifest GET by {kind}, wrk -t{threads}", "requests/s", targets, note)
                yield _wrk_rounds(plan, figure, contestants, image, reference, threads, CONNECTIONS)


def _manifest_on_s3(plan: Plan, site: Site) -> Iterator[Figure]:
    image, blobs = client.make_image(REPOSITORY, "latest", MANIFEST_BYTES)
    with running(*site.registries):
        for server in site.registries:
            client.push_image(server.port, image, blobs)
        contestants = [(server.name, server) for server in site.registries]
        for kind, reference in (("digest", image.digest), ("tag", image.tag)):
            targets = [Target(ORLOP, REGISTRY, at_least=5, promise=ON_S3)] if kind == "tag" else []
            note = f"{CONNECTIONS_S3} keep-alive connections, {plan.wrk_s} s a round; {MANIFEST_BYTES} bytes"
            figure = Figure(f"manifest GET by {kind} on {site.name}", "requests/s", targets, note)
            yield _wrk_rounds(plan, figure, contestants, image, reference, 1, CONNECTIONS_S3)


def _wrk_rounds(
    plan: Plan, figure: Figure, contestants: list, image: client.Image, reference: str, threads: int, connections: int
) -> Figure:
    target = image.target(reference)

    def measure(server: Server) -> float:
        wire_bytes = _check_manifest(server, target, image)
        found = wrk.get(server.port, target, threads=threads, connections=connections, seconds=plan.wrk_s)
        rate = wrk.rate(found, wire_bytes)
        _check_manifest(server, target, image)
        return rate

    for turn in range(plan.rounds):
        plan.say(f"{figure.title}: round {turn + 1} of {plan.rounds}")
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
        for turn in range(plan.rounds):
            plan.say(f"{figure.title}: round {turn + 1} of {plan.rounds}")
            for server in contestants:
                attempt(figure.of(server.name), lambda: get(server), server)
        _read_back(figure, contestants, target, body)
    return figure


def _blob_on_s3(plan: Plan, site: Site) -> Figure:
    assert site.own
    body = plan.source.body(plan.blob_bytes)
    target = client.blob_target(REPOSITORY, body.digest)
    targets = [Target(ORLOP, CURL, at_least=0.8, promise=ON_S3)]
    note = "curl -o /dev/null; every blob passes through its registry, none is redirected"
    figure = Figure(f"blob GET of {size_text(body.size)} on {site.name}", "MiB/s", targets, note)
    site.own.renew()
    with running(*site.registries):
        for server in site.registries:
            client.push_single(server.port, REPOSITORY, body)
        yardsticks.rclone_upload(site, plan.source.path, "blob")
        straight = f"{site.own.proxy.url}/{site.own.name}/blob"
        source_bytes = plan.source.path.stat().st_size
        getters: list[tuple[str, Callable[[], float], Server | None]] = [
            (server.name, lambda port=server.port: yardsticks.curl(f"http://127.0.0.1:{port}{target}", body.size), server)
            for server in site.registries
        ]
        getters.insert(1, (CURL, lambda: yardsticks.curl(straight, source_bytes, signed=True), None))
        for turn in range(plan.rounds_large):
            plan.say(f"{figure.title}: round {turn + 1} of {plan.rounds_large}")
            for label, get, server in getters:
                attempt(figure.of(label), get, server)
        _read_back(figure, site.registries, target, body)
    site.own.discard()
    return figure


def _read_back(figure: Figure, servers: list[Server], target: str, body: client.Body) -> None:
    for server in servers:
        check_after(figure.of(server.name), lambda: client.check_blob(server.port, target, body, read=True))

"""The measurements. Each yields its figures; contestants take turns within a round."""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from . import client
from .client import Connection, WrongAnswer
from .content import Body, Source
from .process import Usage
from .results import Figure, Series, Target
from .servers import IDLE_CONNECTIONS, DockerRegistry, Nginx, Orlop, Server, ServerFailed

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

REPOSITORY = "bench/image"
MANIFEST_BYTES = 1024
WRK_CONNECTIONS = 64
WIRE_BYTES_TOLERANCE = 0.02  # of wrk's bytes a request against those of the checked answer
SMALL_COMMITS_PER_ROUND = 3
REGISTRY_COMMIT_ROUNDS = 3
IDLE_SETTLE_S = 1.0
CONNECTIONS_SETTLE_S = 3.0
CONNECTIONS_PER_ADDRESS = 2500

NGINX = "nginx"
NGINX_NO_LOG = "nginx, no access log"
NGINX_MANY = "nginx, 16,384 connections a worker"
REGISTRY = "docker-registry"
ORLOP = "orlop"
TEE = "tee | sha256sum"
TEE_SYNCED = "tee | sha256sum; sync"


@dataclass
class Plan:
    """What is run, how often, how large."""

    directory: Path
    source: Source
    orlop: Orlop | None
    registry: DockerRegistry | None
    nginx: Nginx
    nginx_no_log: Nginx
    nginx_many: Nginx
    rounds: int
    rounds_large: int
    wrk_s: int
    blob_bytes: int
    commit_bytes: int
    full: bool
    say: Callable[[str], None]
    left_out: list[str] = field(default_factory=list)

    @property
    def registries(self) -> list[Server]:
        return [server for server in (self.orlop, self.registry) if server]


@contextlib.contextmanager
def running(*servers: Server | None) -> Iterator[None]:
    """Fresh servers on empty stores, stopped and their stores removed at the end."""
    with contextlib.ExitStack() as stack:
        for server in filter(None, servers):
            stack.callback(server.discard)
            server.renew()
        yield


def attempt(series: Series, run: Callable[[], float], server: Server | None = None) -> None:
    """One round of one contestant; after a wrong answer the series is void and gets no further rounds."""
    if series.fault:
        return
    try:
        if server:
            server.mark()
        value = run()
        series.add(value, server.usage_since_mark() if server else None)
    except (WrongAnswer, ServerFailed, OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        series.fault = f"{type(error).__name__}: {error}"


# ---- manifest GET ----


def manifest(plan: Plan) -> Iterator[Figure]:
    image, blobs = client.make_image(REPOSITORY, "latest", MANIFEST_BYTES)
    with running(plan.nginx, plan.nginx_no_log, *plan.registries):
        for nginx in (plan.nginx, plan.nginx_no_log):
            for reference in (image.digest, image.tag):
                nginx.put(image.target(reference), image.manifest)
        contestants: list[tuple[str, Server]] = [(NGINX, plan.nginx), (NGINX_NO_LOG, plan.nginx_no_log)]
        for server in plan.registries:
            client.push_image(server.port, image, blobs)
            contestants.insert(0 if server is plan.orlop else len(contestants), (server.name, server))
        for threads in (1, 2):
            for kind, reference in (("digest", image.digest), ("tag", image.tag)):
                targets = [
                    Target(ORLOP, NGINX, at_least=0.7),
                    Target(ORLOP, NGINX_NO_LOG),
                    Target(ORLOP, REGISTRY, at_least=20),
                ]
                note = f"{WRK_CONNECTIONS} keep-alive connections, {plan.wrk_s} s a round; {MANIFEST_BYTES} bytes"
                figure = Figure(f"manifest GET by {kind}, wrk -t{threads}", "requests/s", targets, note)
                target = image.target(reference)
                for turn in range(plan.rounds):
                    plan.say(f"{figure.title}: round {turn + 1} of {plan.rounds}")
                    for label, server in contestants:
                        attempt(figure.of(label), lambda: _wrk(plan, server, target, image, threads), server)
                yield figure


def _wrk(plan: Plan, server: Server, target: str, image: client.Image, threads: int) -> float:
    wire_bytes = _check_manifest(server, target, image)
    found = run_wrk(server.port, target, threads, plan.wrk_s)
    if any(found["errors"].values()) or not found["requests"]:
        raise WrongAnswer(f"wrk: {found}")
    each = found["bytes"] / found["requests"]
    if abs(each - wire_bytes) > WIRE_BYTES_TOLERANCE * wire_bytes:
        raise WrongAnswer(f"wrk: {each:.0f} bytes an answer, the checked one had {wire_bytes}")
    _check_manifest(server, target, image)
    return found["requests"] / (found["duration_us"] / 1e6)


def run_wrk(port: int, target: str, threads: int, seconds: int) -> dict:
    command = ["wrk", f"-t{threads}", f"-c{WRK_CONNECTIONS}", f"-d{seconds}s", "-H", f"Accept: {client.MANIFEST_TYPE}"]
    command += ["-s", str(Path(__file__).with_name("wrk_report.lua")), f"http://127.0.0.1:{port}{target}"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(output.splitlines()[-1])


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


# ---- blob GET ----


def blob(plan: Plan) -> Iterator[Figure]:
    body = plan.source.body(plan.blob_bytes)
    target = client.blob_target(REPOSITORY, body.digest)
    targets = [Target(ORLOP, NGINX, at_least=0.95), Target(ORLOP, REGISTRY)]
    figure = Figure(f"blob GET of {size_text(body.size)}", "MiB/s", targets, "curl -o /dev/null, in the page cache")
    with running(plan.nginx, *plan.registries):
        with open(plan.nginx.path(target), "wb") as file:
            for piece in body.pieces(MIB):
                file.write(piece)
        for server in plan.registries:
            client.push_single(server.port, REPOSITORY, body)
        os.sync()
        contestants = [plan.nginx, *plan.registries]
        if plan.orlop:
            contestants = [plan.orlop, plan.nginx] + contestants[2:]
        for server in contestants:
            attempt(Series("warm-up"), lambda: _curl(server, target, body))
        for turn in range(plan.rounds):
            plan.say(f"{figure.title}: round {turn + 1} of {plan.rounds}")
            for server in contestants:
                attempt(figure.of(server.name), lambda: _curl(server, target, body), server)
        for server in contestants:
            _check_after(figure.of(server.name), lambda: client.check_blob(server.port, target, body, read=True))
    yield figure


def _curl(server: Server, target: str, body: Body) -> float:
    command = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_download} %{time_total}"]
    command.append(f"http://127.0.0.1:{server.port}{target}")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise WrongAnswer(f"curl: {done.stderr.strip()}")
    status, size, seconds = done.stdout.split()
    if status != "200" or int(size) != body.size:
        raise WrongAnswer(f"GET of a blob: {status}, {size} bytes")
    return body.size / MIB / float(seconds)


def _check_after(series: Series, check: Callable[[], None]) -> None:
    """A last look, outside the clock, at what was measured."""
    try:
        check()
    except (WrongAnswer, OSError) as error:
        series.fault = series.fault or f"{type(error).__name__}: {error}"


# ---- push ----


def push(plan: Plan) -> Iterator[Figure]:
    size = size_text(plan.blob_bytes)
    docker_way = "POST, one chunked PATCH, PUT"
    patch = Figure(
        f"push of {size}: the PATCH alone", "MiB/s",
        [Target(ORLOP, TEE, at_least=0.9), Target(ORLOP, REGISTRY)],
        "chunks of 32 KiB; tee without sync",
    )  # fmt: skip
    whole = Figure(
        f"push of {size}: {docker_way}", "MiB/s",
        [Target(ORLOP, TEE_SYNCED, at_least=0.9), Target(ORLOP, REGISTRY, at_least=1.3)],
        "first byte to 201; tee with sync of the file",
    )  # fmt: skip
    single = Figure(
        f"push of {size}: POST, single PUT", "MiB/s",
        [Target(ORLOP, TEE_SYNCED, at_least=0.9), Target(ORLOP, REGISTRY, at_least=1.3)],
        "first byte to 201; tee with sync of the file",
    )  # fmt: skip
    for turn in range(plan.rounds_large):
        plan.say(f"push of {size}: round {turn + 1} of {plan.rounds_large}")
        last = turn == plan.rounds_large - 1
        for server in plan.registries:
            _push_round(plan, server, (patch, whole), client.push_chunked, last)
        _tee_round(plan, patch, whole, single)
        for server in plan.registries:
            _push_round(plan, server, (single,), client.push_single, last)
    yield from (patch, whole, single)


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
            _check_after(series, lambda: client.check_blob(server.port, target, body, read))
    if len(figures) == 2:
        patch = figures[0].of(server.name)
        patch.fault = series.fault
        patch.cpu_s, patch.rss_peak_kib = series.cpu_s, series.rss_peak_kib
        if not series.fault:
            patch.add(body.size / MIB / times.patch_s)


def _tee_round(plan: Plan, patch: Figure, whole: Figure, single: Figure) -> None:
    """The same bytes through `cat | tee FILE | sha256sum`, then the file synced."""
    body = plan.source.body(plan.blob_bytes)
    ending, copy = plan.directory / "ending", plan.directory / "copy"
    ending.write_bytes(body.ending)
    os.sync()
    begin, cpu_begin = time.perf_counter(), _children_cpu_s()
    script = 'cat "$1" "$2" | tee "$3" | sha256sum'
    command = ["sh", "-c", script, "sh", str(plan.source.path), str(ending), str(copy)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    teed = time.perf_counter()
    with open(copy, "rb") as file:
        os.fsync(file.fileno())
    synced, cpu_s = time.perf_counter(), _children_cpu_s() - cpu_begin
    copy.unlink()
    if "sha256:" + output.split()[0] != body.digest:
        raise WrongAnswer(f"sha256sum: {output}")
    mib = body.size / MIB
    for figure, label, seconds in (
        (patch, TEE, teed - begin),
        (whole, TEE_SYNCED, synced - begin),
        (single, TEE_SYNCED, synced - begin),
    ):
        figure.of(label).add(mib / seconds, Usage(cpu_s, 0, 0))


def _children_cpu_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


# ---- commit ----


def commit(plan: Plan) -> Iterator[Figure]:
    large, small = size_text(plan.commit_bytes), size_text(MIB)
    figure = Figure(
        "commit: the PUT alone", "ms",
        [Target(f"{ORLOP} {large}", f"{ORLOP} {small}", at_most=2)],
        "after the PATCH has been written back (sync)",
    )  # fmt: skip
    for turn in range(plan.rounds):
        for server in plan.registries:
            if server is plan.registry and (not plan.full or turn >= REGISTRY_COMMIT_ROUNDS):
                continue  # for comparison, and its PATCH takes long
            plan.say(f"commit of {large}, {server.name}: round {turn + 1} of {plan.rounds}")
            with running(server):
                for size in [MIB] * SMALL_COMMITS_PER_ROUND:
                    _commit_one(plan, server, figure.of(f"{server.name} {small}"), size)
                _commit_one(plan, server, figure.of(f"{server.name} {large}"), plan.commit_bytes)
    # Ratios go by round: of the small ones each round keeps its median.
    for label, series in figure.series.items():
        if label.endswith(small):
            series.values = [
                sorted(series.values[i : i + SMALL_COMMITS_PER_ROUND])[SMALL_COMMITS_PER_ROUND // 2]
                for i in range(0, len(series.values), SMALL_COMMITS_PER_ROUND)
            ]
    if plan.registry and not plan.full:
        plan.left_out.append("commit on docker-registry (in --full)")
    yield figure


def _commit_one(plan: Plan, server: Server, series: Series, size: int) -> None:
    body = plan.source.body(size)

    def sync_and_mark() -> None:
        os.sync()
        server.mark()

    attempt(series, lambda: client.push_chunked(server.port, REPOSITORY, body, sync_and_mark).put_s * 1e3, server)
    if not series.fault:
        target = client.blob_target(REPOSITORY, body.digest)
        _check_after(series, lambda: client.check_blob(server.port, target, body))


# ---- idle connections ----


def connections(plan: Plan) -> Iterator[Figure]:
    figure = Figure(
        f"RSS with {IDLE_CONNECTIONS:,} idle keep-alive connections", "MiB",
        [Target(ORLOP, at_most=100)],
        f"each has made one request; {CONNECTIONS_SETTLE_S:g} s after the last",
    )  # fmt: skip
    contestants: list[tuple[str, Server]] = [(server.name, server) for server in plan.registries]
    contestants.append((NGINX_MANY, plan.nginx_many))
    for turn in range(plan.rounds_large):
        plan.say(f"{figure.title}: round {turn + 1} of {plan.rounds_large}")
        for label, server in contestants:
            if turn and server is not plan.orlop:
                continue  # for comparison: once will do
            with running(server):
                attempt(figure.of(label), lambda: _idle_connections_rss(server), server)
    yield figure


def _idle_connections_rss(server: Server) -> float:
    opened: list[Connection] = []
    try:
        for number in range(IDLE_CONNECTIONS):
            source = f"127.0.0.{2 + number // CONNECTIONS_PER_ADDRESS}"
            opened.append(Connection(server.port, source))
            opened[-1].request("GET", "/v2/").expect(f"GET /v2/ on connection {number + 1}", 200)
        time.sleep(CONNECTIONS_SETTLE_S)
        rss_kib = server.usage().rss_kib
        for number, connection in enumerate(opened):
            connection.request("GET", "/v2/").expect(f"second GET /v2/ on connection {number + 1}", 200)
        return rss_kib / KIB
    finally:
        for connection in opened:
            connection.close()


# ---- start ----


def start(plan: Plan) -> Iterator[Figure]:
    first = Figure(
        "start to first answer", "ms", [Target(ORLOP, at_most=50)], "fork and exec to 200 on /v2/, empty store"
    )
    idle = Figure("RSS when idle", "MiB", [Target(ORLOP, at_most=12)], "a second after the first answer")
    contestants: list[Server] = [*plan.registries, plan.nginx]
    for turn in range(plan.rounds):
        plan.say(f"start: round {turn + 1} of {plan.rounds}")
        for server in contestants:
            with contextlib.ExitStack() as stack:
                stack.callback(server.discard)
                attempt(first.of(server.name), lambda: server.renew() * 1e3)
                if not first.of(server.name).fault:
                    first.of(server.name).account(server.usage())
                    time.sleep(IDLE_SETTLE_S)
                    idle.of(server.name).add(server.usage().rss_kib / KIB, server.usage())
    yield from (first, idle)


MEASUREMENTS: dict[str, Callable[[Plan], Iterator[Figure]]] = {
    "start": start,
    "manifest": manifest,
    "blob": blob,
    "push": push,
    "commit": commit,
    "connections": connections,
}


def size_text(size: int) -> str:
    return f"{size // GIB} GiB" if size >= GIB and size % GIB == 0 else f"{size // MIB} MiB"

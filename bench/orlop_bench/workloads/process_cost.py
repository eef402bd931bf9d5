"""What the process itself costs: its start, its memory when idle, its memory for idle connections."""

import contextlib
import time
from collections.abc import Iterator

from ..client import Connection
from ..plan import KIB, ON_DISK, ORLOP, Plan, attempt, running
from ..results import Figure, Target
from ..servers import IDLE_CONNECTIONS, Server

IDLE_SETTLE_S = 1.0
CONNECTIONS_SETTLE_S = 3.0
CONNECTIONS_PER_ADDRESS = 2500

NGINX_MANY = "nginx, 16,384 connections a worker"


def start(plan: Plan) -> Iterator[Figure]:
    first = Figure(
        "start to first answer",
        "ms",
        [Target(ORLOP, at_most=50, promise=ON_DISK)],
        "fork and exec to 200 on /v2/, empty store",
    )
    idle = Figure(
        "RSS when idle", "MiB", [Target(ORLOP, at_most=12, promise=ON_DISK)], "a second after the first answer"
    )
    contestants: list[Server] = [*plan.registries, plan.nginx]
    for _ in plan.turns(first.title, plan.rounds, first):
        for server in contestants:
            with contextlib.ExitStack() as stack:
                stack.callback(server.discard)
                attempt(first.of(server.name), lambda: server.renew() * 1e3)
                if not first.of(server.name).fault:
                    first.of(server.name).account(server.usage())
    for _ in plan.turns(idle.title, plan.rounds_slow):
        for server in contestants:
            with running(server):
                attempt(idle.of(server.name), lambda: _idle_rss(server), server)
    yield from (first, idle)


def _idle_rss(server: Server) -> float:
    time.sleep(IDLE_SETTLE_S)
    return server.usage().rss_kib / KIB


def connections(plan: Plan) -> Iterator[Figure]:
    figure = Figure(
        f"RSS with {IDLE_CONNECTIONS:,} idle keep-alive connections", "MiB",
        [Target(ORLOP, at_most=100, promise=ON_DISK)],
        f"each has made one request; {CONNECTIONS_SETTLE_S:g} s after the last",
    )  # fmt: skip
    contestants: list[tuple[str, Server]] = [(server.name, server) for server in plan.registries]
    contestants.append((NGINX_MANY, plan.nginx_many))
    if not plan.full:
        del contestants[1:]  # the others are there for comparison, and take long
    for turn in plan.turns(figure.title, plan.rounds_slow):
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

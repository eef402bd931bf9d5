"""The registry is killed in the middle of an upload, started again, asked how far it came, and the upload finished."""

import time
from collections.abc import Iterator

from .. import client
from ..client import Connection
from ..plan import MIB, REPOSITORY, Plan, Site, attempt, check_after, running, size_text
from ..results import Figure
from ..servers import Server

BLOB_BYTES = 96 * MIB
CHUNK_BYTES = 8 * MIB
KILLED_AT = 9  # chunk, in its middle
RECEIVED_S = 0.3  # until the server has taken in all that was sent


def resume(plan: Plan) -> Iterator[Figure]:
    for site in plan.sites:
        yield from _resume(plan, site)


def _resume(plan: Plan, site: Site) -> Iterator[Figure]:
    way = f"{size_text(BLOB_BYTES)} in PATCHes of {size_text(CHUNK_BYTES)}, SIGKILL in the middle of number {KILLED_AT}"
    again = Figure(f"resume after a kill on {site.name}: bytes sent twice", "MiB", [], way)
    finish = Figure(
        f"resume after a kill on {site.name}: restart to 201", "s", [],
        f"{way}; from the restarted server's first answer",
    )  # fmt: skip
    for _ in plan.turns(again.title, plan.rounds_large, again, finish):
        for server in site.registries:
            body = plan.source.body(BLOB_BYTES)
            data = b"".join(body.chunks(CHUNK_BYTES))
            with running(server):
                series = finish.of(server.name)
                sent_twice = 0.0

                def run() -> float:
                    nonlocal sent_twice
                    seconds, sent_twice = _killed_and_resumed(server, data, body.digest)
                    return seconds

                attempt(series, run, server)
                if not series.fault:
                    again.of(server.name).add(sent_twice / MIB)
                    target = client.blob_target(REPOSITORY, body.digest)
                    check_after(series, lambda: client.check_blob(server.port, target, body, read=True))
                again.of(server.name).fault = series.fault
    yield from (again, finish)


def _killed_and_resumed(server: Server, data: bytes, digest: str) -> tuple[float, int]:
    """Seconds to finish, and the bytes that had to be sent a second time."""
    at = (KILLED_AT - 1) * CHUNK_BYTES
    with Connection(server.port) as connection:
        upload = client.open_upload(connection, REPOSITORY)
        for begin in range(0, at, CHUNK_BYTES):
            upload = client.patch_at(connection, upload, begin, data[begin : begin + CHUNK_BYTES])
        sent = at + CHUNK_BYTES // 2
        connection.begin_patch(upload, at, data[at:sent], CHUNK_BYTES)
        time.sleep(RECEIVED_S)
        server.kill()
    server.start()
    server.mark()
    begin_s = time.perf_counter()
    with Connection(server.port) as connection:
        status = connection.request("GET", upload)
        if status.status == 204:
            offset = int(status.headers["range"].removeprefix("bytes=").partition("-")[2]) + 1
            upload = client.location_of(status)
        else:  # the upload is lost: from the beginning
            offset, upload = 0, client.open_upload(connection, REPOSITORY)
        for begin in range(offset, len(data), CHUNK_BYTES):
            upload = client.patch_at(connection, upload, begin, data[begin : begin + CHUNK_BYTES])
        answer = connection.request("PUT", client.with_digest(upload, digest))
        answer.expect("PUT of the digest after a resume", 201)
    return time.perf_counter() - begin_s, max(0, sent - offset)

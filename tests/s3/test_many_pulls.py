"""More pulls through a node than it has connections to the store: nobody waits for a slow client."""

import concurrent.futures
import contextlib
import time

import orlop
import rawhttp

MIB = 1 << 20
CONNECTIONS = 4
FAST, SLOW = 60, 3 * CONNECTIONS
SLOW_BYTES = 24 * MIB  # more than sockets and pipes on the way take in
OTHERS_S_MAX = 10  # for a request beside them; a connection is waited for up to 30
YIELDED = "orlop_s3_streams_yielded_total"
GETS = 'orlop_s3_requests_total{operation="GetObject",outcome="ok"}'


def start(store, *args):
    return orlop.Server(
        store=store,
        program=orlop.release_binary(),
        args=["--s3-connections-max", CONNECTIONS, "--http-workers", CONNECTIONS, *args],
    )


def test_small_blobs_for_many_at_once(store, repo):
    """A blob that fits the pipe is one request to the store, however many want it at once."""
    data = orlop.random_bytes(200_000)
    with start(store) as server:
        with server.client() as client:
            name = client.push_blob(repo, data)

        def pull(_):
            with server.client() as client:
                return client.get(f"/v2/{repo}/blobs/{name}")

        begun = server.metrics()[GETS]
        with concurrent.futures.ThreadPoolExecutor(FAST) as pool:
            answers = list(pool.map(pull, range(FAST)))
        assert all(answer.status == 200 and answer.body == data for answer in answers)
        assert server.metrics()[GETS] - begun == FAST


def test_slow_clients_hold_no_connection(store, repo):
    """Clients that do not read leave the connections to others, and go on, at the same byte, when they do."""
    data = orlop.random_bytes(SLOW_BYTES)
    with start(store) as server, contextlib.ExitStack() as stack:
        with server.client() as client:
            name = client.push_blob(repo, data)
            client.push_image(repo, "v1")
        slow = [stack.enter_context(rawhttp.Connection(server.address)) for _ in range(SLOW)]
        for connection in slow:
            connection.send(f"GET /v2/{repo}/blobs/{name} HTTP/1.1\r\nHost: orlop\r\n\r\n".encode())
        for connection in slow:
            assert connection.head().status == 200
        with server.client() as client:
            for _ in range(2 * CONNECTIONS):
                begun = time.monotonic()
                assert client.get(f"/v2/{repo}/manifests/v1").status == 200
                assert time.monotonic() - begun < OTHERS_S_MAX
        for connection in slow:
            assert connection.exactly(SLOW_BYTES) == data
        assert server.metrics()[YIELDED] >= SLOW - CONNECTIONS

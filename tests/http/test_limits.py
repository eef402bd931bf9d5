"""Every named limit: what happens at it, that it hurts nobody below it, and that all is well once below it again."""

import concurrent.futures
import resource
import threading
import time

import orlop
import pytest
from orlop import OCI_MANIFEST, sha256, with_query
from rawhttp import Connection, chunk, head_bytes

MIB = 1 << 20
PING = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"


def works(server):
    with server.client() as client:
        repo = orlop.new_repo()
        image = client.push_image(repo, "works")
        return client.pull_image(repo, "works") == image.manifest


def answered(connection, timeout=2):
    """Does the server answer a ping on this connection? None: it was closed."""
    connection.sock.settimeout(timeout)
    try:
        connection.send(PING)
        return connection.response().status
    except TimeoutError:
        return False
    except (EOFError, OSError):
        return None


def test_connections_max(new_server):
    server = new_server(args=["--http-connections-max", 20])
    orlop.wait_until(lambda: server.load()[0] == 0)
    held = [Connection(server.address) for _ in range(20)]
    assert [answered(connection) for connection in held] == [200] * 20
    beyond = [Connection(server.address) for _ in range(10)]
    for connection in beyond:
        assert answered(connection, 0.3) in (None, False, 503)
    assert [answered(connection) for connection in held] == [200] * 20, "those below the limit go on"
    assert server.load()[0] <= 20
    for connection in (*beyond, *held):
        connection.close()
    orlop.wait_until(lambda: server.load()[0] == 0)
    assert works(server)


def test_connections_per_address_max(new_server):
    server = new_server(args=["--http-connections-per-address-max", 10])
    orlop.wait_until(lambda: server.load()[0] == 0)
    held = [Connection(server.address) for _ in range(10)]
    assert [answered(connection) for connection in held] == [200] * 10
    beyond = Connection(server.address)
    assert answered(beyond, 0.3) in (None, False, 429, 503)
    # another address has its own count
    import socket

    with socket.create_connection(server.address, timeout=5, source_address=("127.0.0.2", 0)) as other:
        other.sendall(PING)
        assert other.recv(100).startswith(b"HTTP/1.1 200")
    for connection in (beyond, *held):
        connection.close()
    orlop.wait_until(lambda: server.load()[0] == 0)
    assert works(server)


def test_too_few_descriptors_to_start(work_dir):
    """Connections that were asked for and cannot be had: said at the start, not found out later."""
    result = orlop.run_cli(
        *("serve", "--listen", "127.0.0.1:0", "--admin-listen", "", "--store", work_dir / "store"),
        *("--http-connections-max", 1000),
        wrapper=["prlimit", "--nofile=700:700", "--"],
        timeout=20,
    )
    assert result.returncode == 1
    assert "open files" in result.stderr and "700" in result.stderr


def test_descriptors_run_out(new_server):
    """As many connections as there are descriptors: some are refused, the server lives, and is well again."""
    server = new_server(wrapper=["prlimit", "--nofile=700:700", "--"])
    held = []
    for _ in range(900):
        try:
            held.append(Connection(server.address, timeout=2))
        except OSError:
            break
    assert 200 in [answered(connection, 0.1) for connection in held[:: len(held) // 20]]
    server.assert_alive()
    for connection in held:
        connection.close()
    orlop.wait_until(lambda: answered_once(server) == 200)
    assert works(server)


def answered_once(server):
    with Connection(server.address) as connection:
        return answered(connection)


def test_ten_thousand_idle_connections(new_server):
    """They cost memory, little of it, and no speed. 10,000 where this process may open so many, else fewer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 10_000
    limit = wanted + 500
    if soft < limit:
        try:
            resource.setrlimit(
                resource.RLIMIT_NOFILE, (min(limit, hard) if hard != resource.RLIM_INFINITY else limit, hard)
            )
        except (ValueError, OSError):
            pass
    wanted = min(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500)
    server = new_server(wrapper=["prlimit", f"--nofile={wanted + 500}:{max(wanted + 500, hard)}", "--"])
    held = []
    try:
        for _ in range(wanted):
            connection = Connection(server.address)
            connection.send(PING)
            held.append(connection)
        for connection in held:
            assert connection.response().status == 200
        begun = time.monotonic()
        assert works(server)
        assert time.monotonic() - begun < 10
        assert server.load()[0] >= wanted
        for connection in held[:: max(1, wanted // 50)]:
            assert answered(connection) == 200
    finally:
        for connection in held:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    orlop.wait_until(lambda: server.load()[0] == 0)
    assert works(server)


def test_jobs_waiting_max(new_server, repo):
    """One worker, one place in the queue, forty writers: each is done or told to try again, and nothing is lost."""
    server = new_server(args=["--http-workers", 1, "--http-jobs-waiting-max", 1])
    with server.client() as client:
        client.push_blob(repo, b"{}")
    bodies = [orlop.artifact("application/x", annotations={"n": str(i)}) for i in range(40)]
    gate = threading.Barrier(40)

    def put(number):
        with server.client() as client:
            gate.wait()
            return client.put(f"/v2/{repo}/manifests/t{number}", bodies[number], {"Content-Type": OCI_MANIFEST})

    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(put, range(40)))
    refused = [answer for answer in answers if answer.status != 201]
    assert len(refused) < 40
    for answer in refused:
        assert (answer.status, answer.code) == (503, "UNAVAILABLE"), answer
        assert int(answer["Retry-After"]) >= 1
    with server.client() as client:
        for number, answer in enumerate(answers):
            expected = 200 if answer.status == 201 else 404
            assert client.get(f"/v2/{repo}/manifests/t{number}").status == expected
    assert works(server)
    server.assert_check_clean()


def test_one_worker_serves_many_slow_uploads(new_server, repo):
    """A slow client holds no worker: twenty uploads that trickle, and one worker that still serves everyone."""
    server = new_server(args=["--http-workers", 1, "--http-network-threads", 1])
    data = orlop.random_bytes(100_000)
    with server.client() as client:
        locations = [client.start_upload(repo) for _ in range(20)]
    slow = []
    for location in locations:
        connection = Connection(server.address)
        connection.send(head_bytes("PATCH", location, server.host, [("Content-Length", len(data))]) + data[:50_000])
        slow.append(connection)
    begun = time.monotonic()
    assert works(server)
    assert time.monotonic() - begun < 10
    for connection in slow:
        connection.send(data[50_000:])
    for connection in slow:
        assert connection.response().status == 202
        connection.close()
    with server.client() as client:
        for location in locations:
            assert client.put(with_query(location, digest=sha256(data))).status == 201


@pytest.mark.parametrize("what", ["header", "target", "many"])
def test_header_bytes_max(new_server, what):
    limit = 8192
    server = new_server(args=["--http-header-bytes-max", limit])

    def request(size):
        if what == "header":
            head = b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n"
            return head % (b"y" * (size - len(head) + 2))
        if what == "target":
            head = b"GET /v2/_catalog?last=%s HTTP/1.1\r\nHost: x\r\n\r\n"
            return head % (b"y" * (size - len(head) + 2))
        head = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n"
        line = b"X-Some-Header: %s\r\n" % (b"y" * 48)
        return head + line * ((size - len(head) - 2) // len(line)) + b"\r\n"

    for size, statuses in ((limit // 2, (200,)), (limit * 2, (400, 413, 414, 431)), (limit * 20, (400, 413, 414, 431))):
        with Connection(server.address) as connection:
            try:
                connection.send(request(size))
            except OSError:
                pass
            assert connection.response().status in statuses, size
    assert works(server)


@pytest.mark.parametrize("pipe", ["16KiB", "64KiB", "16MiB"])
def test_body_pipe_bytes(new_server, repo, pipe):
    """Whatever its size, every byte passes in order, with and without a known length."""
    server = new_server(args=["--http-body-pipe-bytes", pipe])
    data = orlop.random_bytes(20 * MIB)
    with server.client() as client:
        for chunked in (False, True):
            location = client.start_upload(repo)
            pieces = [data[at : at + 333_333] for at in range(0, len(data), 333_333)] if chunked else data
            assert client.patch(location, pieces, chunked=chunked).status == 202
            assert client.put(with_query(location, digest=sha256(data))).status == 201
        assert client.get(f"/v2/{repo}/blobs/{sha256(data)}").body == data


def test_uploads_cost_bounded_memory(new_server, repo):
    """Thirty clients at once, each with more than memory should hold."""
    import os

    program = orlop.release_binary()
    if not os.path.exists(program):
        pytest.skip(f"no release build at {program}")
    server = new_server(program=program)
    piece = orlop.random_bytes(MIB)

    def push(number):
        with server.client() as client:
            location = client.start_upload(repo)
            head = b"%08d" % number
            answer = client.patch(location, (head + piece[8:] if i == 0 else piece for i in range(24)), length=24 * MIB)
            assert answer.status == 202
            assert client.delete(location).status == 204

    with concurrent.futures.ThreadPoolExecutor(30) as pool:
        list(pool.map(push, range(30)))
    assert server.proc_status_kib("VmHWM") < 64 * 1024


def test_buffered_bytes_max(new_server, repo):
    """Manifests of 16 MiB in all, of which 8 MiB may be in memory: they wait for each other, and all get through."""
    server = new_server(args=["--http-buffered-bytes-max", "8MiB"])
    with server.client() as client:
        client.push_blob(repo, b"{}")
    bodies = [orlop.artifact("application/x", annotations={"n": str(i), "fill": "x" * 4_000_000}) for i in range(8)]
    gate = threading.Barrier(8)

    def put(number):
        with server.client(timeout=50) as client:
            gate.wait()
            chunked = number % 2 == 1
            return client.put(
                f"/v2/{repo}/manifests/t{number}", bodies[number], {"Content-Type": OCI_MANIFEST}, chunked=chunked
            ).status

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(put, range(8))) == [201] * 8
    with server.client() as client:
        for number, body in enumerate(bodies):
            assert client.get(f"/v2/{repo}/manifests/t{number}").body == body


def test_stalled_manifests_do_not_keep_the_budget(new_server, repo):
    """Clients that announce big manifests and stall are cut by the body timeout; others then get their turn."""
    server = new_server(
        args=["--http-buffered-bytes-max", "8MiB", "--http-body-timeout", "1s", "--http-linger", "500ms"]
    )
    with server.client() as client:
        client.push_blob(repo, b"{}")
    stalled = []
    for framing in (("Content-Length", 4_000_000), ("Transfer-Encoding", "chunked")) * 5:
        connection = Connection(server.address)
        head = head_bytes("PUT", f"/v2/{repo}/manifests/x", server.host, [framing, ("Content-Type", OCI_MANIFEST)])
        connection.send(head + (chunk(b" " * 100_000) if "chunked" in framing else b" " * 100_000))
        stalled.append(connection)
    with server.client(timeout=30) as client:
        body = orlop.artifact("application/x", annotations={"fill": "x" * 4_000_000})
        client.push_manifest(repo, "good", body)
    for connection in stalled:
        connection.close()


# ---- SIGTERM ----


def test_drain_lets_requests_end(new_server, repo):
    import signal

    server = new_server()
    data = orlop.random_bytes(1_000_000)
    with server.client() as client:
        location = client.start_upload(repo)
    with Connection(server.address) as connection:
        connection.send(head_bytes("PATCH", location, server.host, [("Content-Length", len(data))]) + data[:500_000])
        orlop.wait_until(lambda: server.load()[1] == 1)
        server.process.send_signal(signal.SIGTERM)

        def no_longer_ready():
            try:
                return server.admin("/readyz").status == 503
            except OSError:
                return True

        orlop.wait_until(no_longer_ready)
        with pytest.raises(OSError):
            Connection(server.address, timeout=2).send(PING * 100)
            answered_once(server)
            raise ConnectionRefusedError
        connection.send(data[500_000:])
        answer = connection.response()
        assert answer.status == 202
    assert server.wait_dead() == 0
    server.start()
    with server.client() as client:
        assert client.put(with_query(location, digest=sha256(data))).status == 201


def test_drain_has_an_end(new_server, repo):
    """A client that never finishes is cut when the drain time is over; what it sent is kept."""
    import signal

    server = new_server(args=["--http-drain", "1s"])
    with server.client() as client:
        location = client.start_upload(repo)
    with Connection(server.address) as connection:
        connection.send(head_bytes("PATCH", location, server.host, [("Content-Length", 1_000_000)]) + b"x" * 500_000)
        orlop.wait_until(lambda: server.load()[1] == 1)
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.wait_dead() == 0
        assert 0.9 < time.monotonic() - begun < 15
    server.start()
    with server.client() as client:
        assert client.get(location)["Range"] == "0-499999"


def test_drain_of_idle_connections_is_at_once(new_server):
    import signal

    server = new_server()
    held = [Connection(server.address) for _ in range(50)]
    assert [answered(connection) for connection in held] == [200] * 50
    begun = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.wait_dead() == 0
    assert time.monotonic() - begun < 5
    for connection in held:
        connection.close()

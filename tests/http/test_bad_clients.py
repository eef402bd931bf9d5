"""Clients that are slow, vanish, or never stop sending: answered when they can be, and forgotten at no cost."""

import contextlib
import socket
import threading
import time

import orlop
import pytest
from orlop import OCI_MANIFEST, sha256, with_query
from rawhttp import Connection, chunk, head_bytes

ARGS = [
    "--http-header-timeout", "1s", "--http-idle-timeout", "2s", "--http-body-timeout", "1s", "--http-linger", "3s",
]  # fmt: skip


@pytest.fixture(scope="module")
def module_server():
    with orlop.Server(args=ARGS) as server:
        yield server
        server.assert_alive()
        server.assert_check_clean()


def assert_unharmed(server):
    server.assert_alive()
    with server.client() as client:
        repo = orlop.new_repo("unharmed")
        image = client.push_image(repo, "good")
        assert client.pull_image(repo, "good") == image.manifest


def assert_nothing_held(server):
    """Every connection, request and worker is given back."""

    def idle():
        metrics = server.metrics()
        return server.load() == (0, 0) and metrics["orlop_workers_busy"] == metrics["orlop_jobs_waiting"] == 0

    orlop.wait_until(idle)
    assert_unharmed(server)


def closed_after(connection, limit_s):
    """Wait for the server to answer or close; (seconds it took, answer or None)."""
    start = time.monotonic()
    connection.sock.settimeout(limit_s)
    try:
        answer = connection.response()
    except (EOFError, ConnectionResetError):
        answer = None
    took = time.monotonic() - start
    assert connection.at_eof(limit_s)
    return took, answer


# ---- slow ----


@pytest.mark.parametrize(
    "begin",
    [
        b"",
        b"GET",
        b"GET /v2/ HTTP/1.1\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: x\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: x\r\nA: ",
    ],
)
def test_headers_never_end(server, begin):
    with Connection(server.address) as connection:
        connection.send(begin)
        took, answer = closed_after(connection, 15)
        assert took < 10
        assert answer is None or answer.status == 408
    assert_nothing_held(server)


def test_headers_byte_by_byte(server):
    """A byte every 50 ms: each is progress, but the headers as a whole are late."""
    text = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(100))
    start = time.monotonic()
    with Connection(server.address) as connection:
        try:
            for i in range(len(text)):
                connection.send(text[i : i + 1])
                time.sleep(0.05)
                assert time.monotonic() - start < 15, "still let in after 15 s"
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert time.monotonic() - start < 15
    assert_nothing_held(server)


def test_idle_connection_is_closed(server):
    with Connection(server.address) as connection:
        connection.send(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.response().status == 200
        start = time.monotonic()
        assert connection.at_eof(15)
        assert 1 < time.monotonic() - start < 10
    assert_nothing_held(server)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_body_stalls(server, client, repo, framing):
    """A PATCH that stops: 408 or a closed connection; what arrived is kept and the client may resume."""
    location = client.start_upload(repo)
    data = orlop.random_bytes(200_000)
    with Connection(server.address) as connection:
        header = ("Content-Length", len(data)) if framing == "length" else ("Transfer-Encoding", "chunked")
        connection.send(head_bytes("PATCH", location, server.host, [header]))
        connection.send(data[:100_000] if framing == "length" else chunk(data[:100_000]))
        took, answer = closed_after(connection, 20)
        assert took < 15
        assert answer is None or answer.status == 408
    assert_nothing_held(server)
    with server.client() as again:
        held = int(again.get(location)["Range"].split("-")[1]) + 1
        assert held == 100_000
        answer = again.patch(location, data[held:], {"Content-Range": f"{held}-{len(data) - 1}"})
        assert answer.status == 202
        assert again.put(with_query(location, digest=sha256(data))).status == 201


def test_body_stalls_elsewhere(server, repo):
    """Manifest PUT and single POST that stop leave nothing."""
    for target in (f"/v2/{repo}/manifests/latest", f"/v2/{repo}/blobs/uploads/?digest=sha256:{'0' * 64}"):
        with Connection(server.address) as connection:
            method = "PUT" if "manifests" in target else "POST"
            headers = [("Content-Length", 5000), ("Content-Type", OCI_MANIFEST)]
            connection.send(head_bytes(method, target, server.host, headers) + b"{" * 1000)
            took, answer = closed_after(connection, 20)
            assert took < 15 and (answer is None or answer.status == 408)
    assert_nothing_held(server)


def test_body_drips(server, client, repo):
    """A byte every 100 ms keeps no connection for ever: below the least rate it is answered 408 or cut."""
    location = client.start_upload(repo)
    start = time.monotonic()
    with Connection(server.address) as connection:
        connection.send(head_bytes("PATCH", location, server.host, [("Content-Length", 100_000)]))
        connection.sock.settimeout(0.1)
        answered = False
        while not answered and time.monotonic() - start < 20:
            try:
                connection.send(b"x")
                answered = connection.sock.recv(100) is not None
            except TimeoutError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                answered = True
        assert answered, "a byte each 100 ms is taken for 20 s"
    assert_nothing_held(server)


def test_reader_stalls(server, client, repo):
    """A client that never reads its blob is cut after the body timeout."""
    data = orlop.random_bytes(20_000_000)
    name = client.push_blob(repo, data)
    client.close()
    with Connection(server.address) as connection:
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.send(head_bytes("GET", f"/v2/{repo}/blobs/{name}", server.host))
        orlop.wait_until(lambda: server.load()[1] == 0, timeout=20)
    assert_nothing_held(server)


def test_slow_reader_gets_everything(server, client, repo):
    """Slow but moving: the whole body arrives, however long it takes."""
    data = orlop.random_bytes(3_000_000)
    name = client.push_blob(repo, data)
    client.close()
    with Connection(server.address) as connection:
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.send(head_bytes("GET", f"/v2/{repo}/blobs/{name}", server.host))
        head = connection.head()
        assert head.status == 200
        received = connection.buffer
        while len(received) < len(data):
            got = connection.sock.recv(100_000)
            assert got, "cut although it moves"
            received += got
            time.sleep(0.1)
        assert received == data


def test_many_slow_clients_do_not_stop_the_others(server):
    slow = [Connection(server.address) for _ in range(200)]
    try:
        for connection in slow:
            connection.send(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX: ")
        start = time.monotonic()
        assert_unharmed(server)
        assert time.monotonic() - start < 10
    finally:
        for connection in slow:
            connection.close()
    assert_nothing_held(server)


# ---- gone ----


def stages(server, client, repo):
    """Beginnings of requests after which a client may vanish."""
    data = orlop.random_bytes(300_000)
    name = client.push_blob(repo, data)
    body = orlop.artifact("application/x")

    def head(method, target, *headers):
        return head_bytes(method, target, server.host, headers)

    def session():
        return client.start_upload(repo)

    sized, chunked = ("Content-Length", len(data)), ("Transfer-Encoding", "chunked")
    yield "nothing", b""
    yield "half a line", b"GET /v"
    yield "half the headers", b"GET /v2/ HTTP/1.1\r\nHo"
    yield "before the answer", head("GET", f"/v2/{repo}/blobs/{name}")
    yield "catalog", head("GET", "/v2/_catalog")
    yield "upload start", head("POST", f"/v2/{repo}/blobs/uploads/", ("Content-Length", 0))
    for method, query in (("PATCH", ""), ("PUT", f"?digest={sha256(data)}")):
        yield f"{method} headers", head(method, session() + query, sized)
        yield f"{method} part", head(method, session() + query, sized) + data[:100_000]
        yield f"{method} all but one byte", head(method, session() + query, sized) + data[:-1]
        yield f"{method} whole", head(method, session() + query, sized) + data
        yield f"{method} in a chunk", head(method, session() + query, chunked) + chunk(data)[:100_000]
        yield f"{method} between chunks", head(method, session() + query, chunked) + chunk(data)
        yield f"{method} in a chunk's size", head(method, session() + query, chunked) + chunk(data) + b"1"
        yield f"{method} waiting for 100", head(method, session() + query, sized, ("Expect", "100-continue"))
    target = f"/v2/{repo}/blobs/uploads/?digest={sha256(data)}"
    yield "single POST", head("POST", target, sized) + data[:100_000]
    target = f"/v2/{repo}/manifests/vanish"
    yield "manifest", head("PUT", target, ("Content-Length", len(body)), ("Content-Type", OCI_MANIFEST)) + body[:50]
    yield "manifest chunk", head("PUT", target, chunked) + chunk(body[:50])


@pytest.mark.parametrize("how", ["close", "reset", "shutdown"])
def test_clients_that_vanish(server, client, repo, how):
    for _, beginning in stages(server, client, repo):
        connection = Connection(server.address)
        connection.send(beginning)
        if how == "shutdown":
            connection.sock.shutdown(socket.SHUT_WR)
            connection.sock.settimeout(20)
            try:
                while connection.sock.recv(1 << 16):
                    pass
            except OSError:
                pass
            connection.close()
        elif how == "reset":
            connection.reset()
        else:
            connection.close()
        server.assert_alive()
    assert client.get(f"/v2/{repo}/manifests/vanish").status == 404
    client.close()
    assert_nothing_held(server)


def test_reader_vanishes(server, client, repo):
    data = orlop.random_bytes(20_000_000)
    name = client.push_blob(repo, data)
    client.close()
    for amount in (0, 1, 100_000, 5_000_000):
        for how in ("close", "reset"):
            connection = Connection(server.address)
            connection.send(head_bytes("GET", f"/v2/{repo}/blobs/{name}", server.host))
            while amount > 0:
                amount -= len(connection.sock.recv(min(amount, 1 << 16)))
            getattr(connection, how)()
    assert_nothing_held(server)


def test_upload_resumes_where_a_vanished_client_stopped(server, client, repo):
    data = orlop.random_bytes(1_000_000)
    location = client.start_upload(repo)
    at = 0
    while at < len(data):
        connection = Connection(server.address)
        connection.send(head_bytes("PATCH", location, server.host, [("Content-Length", len(data) - at)]))
        connection.send(data[at : at + 300_000])
        connection.close()

        def settled():
            answer = client.patch(location, b"", {"Content-Range": "99999999-99999999"})
            return answer.status in (400, 416) and server.load()[1] == 0

        orlop.wait_until(settled)
        held = int(client.get(location)["Range"].split("-")[1]) + 1
        # what the server had read is kept; what was still on its way when the client went may be lost
        assert at < held <= len(data)
        at = held
    assert client.put(with_query(location, digest=sha256(data))).status == 201


# ---- early answers to clients that go on sending ----


def send_for_ever(connection, piece, stop):
    """Send piece again and again until told to stop or until the server has closed."""
    try:
        while not stop.is_set():
            connection.send(piece)
    except OSError:
        pass


def early_answer(server, head, piece):
    """Begin an endless body; the answer that comes while it is still being sent, and what follows it."""
    stop = threading.Event()
    with Connection(server.address, timeout=20) as connection:
        connection.send(head)
        thread = threading.Thread(target=send_for_ever, args=(connection, piece, stop))
        thread.start()
        try:
            answer = connection.response("PUT")
            time.sleep(0.2)
        finally:
            stop.set()
            with contextlib.suppress(OSError):  # the server may have hung up by now
                connection.sock.shutdown(socket.SHUT_RDWR)
            thread.join()
    assert_nothing_held(server)
    return answer


def test_early_413_to_an_endless_manifest(server, client, repo):
    client.close()
    head = head_bytes(
        "PUT",
        f"/v2/{repo}/manifests/x",
        server.host,
        [("Transfer-Encoding", "chunked"), ("Content-Type", OCI_MANIFEST)],
    )
    answer = early_answer(server, head, chunk(b" " * 65536))
    assert (answer.status, answer.code) == (413, "MANIFEST_INVALID")


def test_early_413_to_a_manifest_said_to_be_huge(server, client, repo):
    client.close()
    head = head_bytes(
        "PUT", f"/v2/{repo}/manifests/x", server.host, [("Content-Length", 1 << 40), ("Content-Type", OCI_MANIFEST)]
    )
    answer = early_answer(server, head, b" " * 65536)
    assert (answer.status, answer.code) == (413, "MANIFEST_INVALID")


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_early_416_to_an_endless_patch(server, client, repo, framing):
    location = client.start_upload(repo)
    client.close()
    headers = [("Content-Range", "7-1000000006")]
    headers.append(("Content-Length", 1_000_000_000) if framing == "length" else ("Transfer-Encoding", "chunked"))
    piece = b"x" * 65536 if framing == "length" else chunk(b"x" * 65536)
    answer = early_answer(server, head_bytes("PATCH", location, server.host, headers), piece)
    assert (answer.status, answer.code) == (416, "BLOB_UPLOAD_INVALID")
    assert answer["Location"] and answer["Range"]


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_early_answers_elsewhere(server, client, repo, framing):
    client.close()
    header = ("Content-Length", 1 << 40) if framing == "length" else ("Transfer-Encoding", "chunked")
    piece = b"x" * 65536 if framing == "length" else chunk(b"x" * 65536)
    unknown = "00000000-0000-4000-8000-000000000000"
    for method, target, status in (
        ("PATCH", f"/v2/{repo}/blobs/uploads/{unknown}", 404),
        ("PUT", f"/v2/{repo}/blobs/uploads/{unknown}?digest=sha256:{'0' * 64}", 404),
        ("POST", f"/v2/{repo}/blobs/uploads/?digest=sha256:bad", 400),
        ("PUT", "/v2/BAD/manifests/x", 400),
        ("PUT", f"/v2/{repo}/tags/list", 405),
        ("PATCH", "/v2/", 405),
    ):
        answer = early_answer(server, head_bytes(method, target, server.host, [header]), piece)
        assert answer.status == status, (method, target, answer)


def test_early_answers_are_readable_by_slow_readers(server, client, repo):
    """The client sends 30 MB before it looks: the answer is still there (no reset has destroyed it)."""
    location = client.start_upload(repo)
    client.close()
    data = b"x" * 30_000_000
    for _ in range(3):
        with Connection(server.address, timeout=20) as connection:
            head = head_bytes(
                "PATCH", location, server.host, [("Content-Range", "7-30000006"), ("Content-Length", len(data))]
            )
            connection.send(head)
            try:
                connection.send(data)
            except (BrokenPipeError, ConnectionResetError) as error:
                pytest.fail(f"cut while sending, as clients report it: {error}")
            assert connection.response().status == 416
    assert_nothing_held(server)


def test_body_sent_with_get_and_delete(server, client, repo):
    """Bodies where none belong are read and dropped; the connection stays in step."""
    image = client.push_image(repo, "latest")
    for method in ("GET", "DELETE", "HEAD"):
        for chunked in (False, True):
            answer = client.request(method, f"/v2/{repo}/manifests/missing", b"x" * 100_000, chunked=chunked)
            assert answer.status == 404
            assert client.get(f"/v2/{repo}/manifests/latest").body == image.manifest

"""The server with a certificate of its own: what is answered must not depend on the bytes being encrypted."""

import socket
import ssl
import subprocess
import time

import orlop
import pytest
from orlop import sha256
from rawhttp import Connection, chunk, head_bytes

MIB = 1024 * 1024


class TlsConnection(Connection):
    def __init__(self, server, context, timeout=30):
        super().__init__(server.address, timeout)
        self.sock = context.wrap_socket(self.sock, server_hostname="127.0.0.1")

    def ask(self, method, target, headers=(), body=None):
        if body is not None:
            headers = [*headers, ("Content-Length", len(body))]
        self.send(head_bytes(method, target, "x", headers) + (body or b""))
        return self.response(method)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        + ["-subj", "/CN=orlop", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    return key, certificate


@pytest.fixture(scope="module")
def tls_server(certificate):
    key, chain = certificate
    server = orlop.Server(args=["--http-tls-key", key, "--http-tls-certificate", chain])
    try:
        server.launch()
        orlop.wait_until(lambda: is_listening(server))
        yield server
        server.assert_alive()
        server.stop()
        server.assert_check_clean()
    finally:
        server.discard()


def is_listening(server):
    server.assert_alive()
    try:
        socket.create_connection(server.address, timeout=5).close()
        return True
    except OSError:
        return False


@pytest.fixture
def connect(tls_server, certificate):
    """A function that opens TLS connections which trust the server's certificate."""
    context = ssl.create_default_context(cafile=certificate[1])
    opened = []

    def connect():
        opened.append(TlsConnection(tls_server, context))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


def push(connection, repo, data):
    answer = connection.ask("POST", f"/v2/{repo}/blobs/uploads/?digest={sha256(data)}", (), data)
    assert answer.status == 201
    return sha256(data)


@pytest.mark.parametrize("size", [0, 1, 16 * 1024, 64 * 1024 + 1, 9 * MIB + 3])
def test_a_blob_comes_back_as_it_went(connect, repo, size):
    connection = connect()
    data = orlop.random_bytes(size)
    digest = push(connection, repo, data)
    for _ in range(2):  # on a connection that is kept
        answer = connection.ask("GET", f"/v2/{repo}/blobs/{digest}")
        assert (answer.status, answer.body) == (200, data)
    head = connection.ask("HEAD", f"/v2/{repo}/blobs/{digest}")
    assert (head.status, head["Content-Length"]) == (200, str(size))


def test_ranges(connect, repo):
    connection = connect()
    data = orlop.random_bytes(3 * MIB)
    digest = push(connection, repo, data)
    answer = connection.ask("GET", f"/v2/{repo}/blobs/{digest}", [("Range", "bytes=1000-2999999")])
    assert (answer.status, answer.body) == (206, data[1000:3000000])
    answer = connection.ask("GET", f"/v2/{repo}/blobs/{digest}", [("Range", "bytes=5-9,2000000-2999999")])
    assert answer.status == 206 and data[5:10] in answer.body and data[2000000:3000000] in answer.body


def test_chunked_upload_in_pieces(connect, repo):
    connection = connect()
    data = orlop.random_bytes(5 * MIB)
    session = connection.ask("POST", f"/v2/{repo}/blobs/uploads/", (), b"")["Location"]
    connection.send(head_bytes("PATCH", session, "x", [("Transfer-Encoding", "chunked")]))
    for at in range(0, len(data), 700_001):
        connection.send(chunk(data[at : at + 700_001]))
    connection.send(chunk(b""))
    answer = connection.response("PATCH")
    assert answer.status == 202
    mark = "&" if "?" in answer["Location"] else "?"
    assert connection.ask("PUT", f"{answer['Location']}{mark}digest={sha256(data)}", (), b"").status == 201
    assert connection.ask("GET", f"/v2/{repo}/blobs/{sha256(data)}").body == data


def test_early_answer_reaches_a_client_that_still_sends(connect, repo):
    connection = connect()
    connection.send(
        head_bytes("PUT", f"/v2/{repo}/manifests/x", "x", [("Content-Length", 10**11), ("Content-Type", orlop.OCI_MANIFEST)])
    )
    connection.sock.settimeout(10)
    for _ in range(8):
        connection.send(bytes(16 * 1024))
    answer = connection.response("PUT")
    assert (answer.status, answer["Connection"]) == (413, "close")
    assert answer.code == "MANIFEST_INVALID"


def test_client_that_leaves_in_mid_answer(tls_server, connect, repo):
    data = orlop.random_bytes(9 * MIB)
    connection = connect()
    digest = push(connection, repo, data)
    connection.send(head_bytes("GET", f"/v2/{repo}/blobs/{digest}", "x"))
    connection.sock.recv(1000)
    connection.close()
    assert connect().ask("GET", f"/v2/{repo}/blobs/{digest}").body == data


def test_plain_http_is_no_answer_and_no_harm(tls_server, connect, repo):
    with Connection(tls_server.address, timeout=10) as connection:
        connection.send(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises((EOFError, OSError, ValueError)):
            connection.response()
    idle = Connection(tls_server.address)  # no handshake at all
    time.sleep(0.2)
    assert connect().ask("GET", "/v2/").status == 200
    idle.close()

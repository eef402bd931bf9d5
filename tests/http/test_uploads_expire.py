"""Sessions idle past the setting are removed, by a running server and by one that starts."""

import os

import orlop
from orlop import sha256, with_query

ARGS = ["--uploads-idle", "2s", "--uploads-janitor-interval", "200ms"]


def sessions(server):
    path = os.path.join(server.store, "uploads")
    return os.listdir(path) if os.path.isdir(path) else []


def test_CA_2_idle_session_expires(new_server, repo):
    server = new_server(args=ARGS)
    with server.client() as client:
        empty, filled = client.start_upload(repo), client.start_upload(repo)
        assert client.patch(filled, b"x" * 100_000).status == 202
        assert len(sessions(server)) >= 1
        orlop.wait_until(lambda: client.get(filled).status == 404 and client.get(empty).status == 404, timeout=30)
        for answer in (client.patch(filled, b"x"), client.put(with_query(filled, digest=sha256(b"x")), b"x")):
            assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")
        orlop.wait_until(lambda: sessions(server) == [], timeout=30)
        assert server.metrics()['orlop_uploads_total{event="expired"}'] >= 1


def test_CA_2_active_session_stays(new_server, repo):
    """Each chunk starts the time anew, and so does a long chunk that is on its way."""
    import time

    server = new_server(args=ARGS)
    with server.client() as client:
        location = client.start_upload(repo)
        for i in range(10):
            assert client.patch(location, b"%d" % i, {"Content-Range": f"{i}-{i}"}).status == 202
            time.sleep(0.5)

        def slow():
            for _ in range(10):
                yield b"y" * 1000
                time.sleep(0.5)

        assert client.patch(location, slow(), length=10_000).status == 202
        data = b"0123456789" + b"y" * 10_000
        assert client.put(with_query(location, digest=sha256(data))).status == 201


def test_CA_2_sessions_of_an_earlier_run_expire(new_server, repo):
    server = new_server(args=["--uploads-idle", "1h"])
    with server.client() as client:
        location = client.start_upload(repo)
        client.patch(location, b"x" * 1000)
    server.stop()
    server.args = ARGS
    server.start()
    with server.client() as client:
        orlop.wait_until(lambda: client.get(location).status == 404, timeout=30)
    orlop.wait_until(lambda: sessions(server) == [], timeout=30)

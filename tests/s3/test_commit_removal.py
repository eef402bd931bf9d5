"""What a commit leaves of its session goes behind the answer, however long the store takes for it."""

import concurrent.futures
import time

import orlop
import pytest
import s3proxy

DELETE_S = 0.3
CLOSE_S = 5  # CLOSE_MS of s3_discard.c
BUSY_S = 10  # for a busy machine
MANY = 80  # more than are removed behind their answers at once


@pytest.fixture
def slow_deletes(store, new_proxy):
    """A server whose store takes its time to delete, and the proxy between."""
    proxy = new_proxy(delay_s=DELETE_S)
    proxy.fault_of = lambda operation, key: s3proxy.DELAY if operation == "DeleteObjects" else None
    env = {"AWS_ENDPOINT_URL": proxy.url}
    with orlop.Server(store=store, env=env) as server:
        yield server, proxy


def push(client, repo, data):
    """In two chunks; where its session was."""
    half = len(data) // 2
    location = client.start_upload(repo)
    for begin, end in ((0, half), (half, len(data))):
        answer = client.patch(location, data[begin:end], {"Content-Range": f"{begin}-{end - 1}"})
        assert answer.status == 202, answer
        location = answer["Location"]
    answer = client.put(orlop.with_query(location, digest=orlop.sha256(data)), b"")
    assert answer.status == 201, answer
    return location


def deletes(proxy):
    with proxy.lock:
        return sum(request.operation == "DeleteObjects" for request in proxy.requests)


def test_the_session_is_unknown_at_once(slow_deletes, repo):
    server, proxy = slow_deletes
    data = orlop.random_bytes(100_000)
    with server.client() as client:
        before = deletes(proxy)
        location = push(client, repo, data)
        assert deletes(proxy) == before  # the answer did not wait for it
        for method in ("GET", "PATCH", "PUT", "DELETE"):
            target = orlop.with_query(location, digest=orlop.sha256(data)) if method == "PUT" else location
            answer = client.request(method, target)
            assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN"), (method, answer)
        assert client.get_blob(repo, orlop.sha256(data)).body == data
        orlop.wait_until(lambda: deletes(proxy) > before)
    with orlop.Server(store=server.store) as other, other.client() as client:
        assert client.get(location).status == 404


def test_many_commits_at_once(slow_deletes, repo):
    """Beyond the limit a commit removes its session before its answer: all succeed, none is left."""
    server, proxy = slow_deletes
    blobs = [orlop.random_bytes(2000) for _ in range(MANY)]

    def push_one(data):
        with server.client() as client:
            return push(client, repo, data)

    with concurrent.futures.ThreadPoolExecutor(MANY) as pool:
        locations = list(pool.map(push_one, blobs))
    server.stop()  # ends what is under way
    assert deletes(proxy) == MANY
    with orlop.Server(store=server.store) as other, other.client() as client:
        for location, data in zip(locations, blobs):
            assert client.get(location).status == 404
            assert client.get_blob(repo, orlop.sha256(data)).body == data


def test_an_end_is_not_waited_for_for_ever(slow_deletes, repo):
    """A server that is stopped removes what it can in some seconds; the rest expires, and harms nobody."""
    server, proxy = slow_deletes
    proxy.delay_s = 3
    blobs = [orlop.random_bytes(2000) for _ in range(40)]
    with server.client() as client:
        for data in blobs:
            push(client, repo, data)
    begun = time.monotonic()
    server.process.terminate()
    server.process.wait(60)
    server.process = None
    assert time.monotonic() - begun < CLOSE_S + 2 * proxy.delay_s + BUSY_S
    with orlop.Server(store=server.store) as other:
        with other.client() as client:
            for data in blobs:
                assert client.get_blob(repo, orlop.sha256(data)).body == data
        report = other.check()
        assert report.status == 0 and report.errors == [], report

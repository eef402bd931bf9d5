"""On an S3 server without conditional writes (OpenStack Swift): one node may write, and says so."""

import json

import orlop
import pytest
from orlop import sha256, with_query

MIB = 1 << 20


@pytest.fixture
def server(swift_store):
    with orlop.Server(swift_store, program=orlop.release_binary()) as server:
        yield server


@pytest.fixture
def client(server):
    with server.client() as client:
        yield client


def test_says_that_it_is_alone(server):
    answer = server.admin("/readyz")
    assert answer.status == 200 and answer.json()["single_writer"] is True, answer
    assert server.metrics()["orlop_store_single_writer"] == 1
    assert any("no conditional writes" in json.dumps(line) for line in server.log_lines()), server.log_tail()


def test_push_pull_and_delete(server, client, repo):
    image = client.push_image(repo, "t", layers=2)
    assert client.pull_image(repo, "t") == image.manifest
    assert client.tags(repo) == ["t"]
    assert client.delete(f"/v2/{repo}/manifests/{image.digest}").status == 202
    assert client.get(f"/v2/{repo}/manifests/t").status == 404
    server.assert_check_clean()


@pytest.mark.deadline(120)
@pytest.mark.parametrize("size_bytes", [50_000, 9 * MIB + 7], ids=["small", "large"])
def test_resume(server, repo, size_bytes):
    """An upload goes on after a restart, its node killed between two chunks."""
    data = orlop.random_bytes(3 * size_bytes)
    with server.client() as client:
        answer = client.patch(client.start_upload(repo), data[:size_bytes])
        assert answer.status == 202, answer
    server.kill()
    server.start()
    with server.client() as client:
        answer = client.get(answer["Location"])
        assert (answer.status, answer.get("Range")) == (204, f"0-{size_bytes - 1}"), answer
        span = {"Content-Range": f"{size_bytes}-{2 * size_bytes - 1}"}
        answer = client.patch(answer["Location"], data[size_bytes : 2 * size_bytes], span)
        assert answer.status == 202, answer
        answer = client.put(with_query(answer["Location"], digest=sha256(data)), data[2 * size_bytes :])
        assert answer.status == 201, answer
        assert client.get(f"/v2/{repo}/blobs/{sha256(data)}").body == data
    server.stop()
    server.start()
    server.assert_check_clean()


def test_cancel(client, repo):
    answer = client.patch(client.start_upload(repo), orlop.random_bytes(6 * MIB))
    assert client.delete(answer["Location"]).status == 204
    assert client.get(answer["Location"]).status == 404

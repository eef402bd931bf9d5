"""On MinIO: conditional writes are honoured there, so several nodes may serve one bucket."""

import orlop
import pytest
from orlop import sha256, with_query

MIB = 1 << 20


@pytest.mark.parametrize("size_bytes", [50_000, 9 * MIB + 7], ids=["small", "large"])
def test_upload_that_moves(minio_store, repo, size_bytes):
    """From one node to another and back, then a pull through both."""
    data = orlop.random_bytes(3 * size_bytes)
    with orlop.Server(minio_store, program=orlop.release_binary()) as first:
        with orlop.Server(minio_store, program=orlop.release_binary()) as second:
            assert first.admin("/readyz").json()["single_writer"] is False
            with first.client() as client, second.client() as other:
                location = client.start_upload(repo)
                for number, node in enumerate((client, other)):
                    at = number * size_bytes
                    span = {"Content-Range": f"{at}-{at + size_bytes - 1}"}
                    answer = node.patch(location, data[at : at + size_bytes], span)
                    assert answer.status == 202, answer
                    location = answer["Location"]
                answer = client.put(with_query(location, digest=sha256(data)), data[2 * size_bytes :])
                assert answer.status == 201, answer
                for node in (client, other):
                    assert node.get(f"/v2/{repo}/blobs/{sha256(data)}").body == data
    report = orlop.check(minio_store, program=orlop.release_binary())
    assert report.status == 0 and report.errors == [], report


def test_image(minio_store, repo):
    with orlop.Server(minio_store, program=orlop.release_binary()) as server, server.client() as client:
        image = client.push_image(repo, "t", layers=2)
        assert client.pull_image(repo, "t") == image.manifest
        assert client.tags(repo) == ["t"]
        assert client.delete(f"/v2/{repo}/manifests/{image.digest}").status == 202
        assert client.get(f"/v2/{repo}/manifests/t").status == 404

"""
Many tags and repositories in a bucket: what a page and a manifest's deletion cost, counted at the wire, does not depend
on how many there are.
"""

import json

import orlop
import pytest
import s3put

MANY = 100_000 if orlop.full_run() else 10_000


@pytest.fixture
def node(store, new_proxy):
    """A node on the test's store behind a proxy: (server, proxy)."""
    proxy = new_proxy()
    with orlop.Server(store, ["--s3-endpoint", proxy.url], program=orlop.release_binary()) as server:
        yield server, proxy


def tag_of(number):
    return f"t{number:06}.0"


def tag_object(image):
    """What the server writes for a tag that points at image."""
    record = {"digest": image.digest, "mediaType": orlop.OCI_MANIFEST, "size": len(image.manifest)}
    return json.dumps({**record, "pushed": "2024-01-01T00:00:00Z"}).encode() + b"\n"


def add_tags(store, repo, image, numbers):
    s3put.put_all(store, (f"repos/{repo}/_tags/{tag_of(number)}" for number in numbers), tag_object(image))


@pytest.mark.deadline(1800 if orlop.full_run() else 180)
def test_pages(node, store):
    server, proxy = node
    with server.client(timeout=120) as client:
        image = client.push_image("big", "zz")
        add_tags(store, "big", image, range(MANY - 1))
        s3put.put_all(store, (f"names/t{number:06}.app..io" for number in range(MANY - 1)))
        tags = [*map(tag_of, range(MANY - 1)), "zz"]
        names = ["big", *(f"t{number:06}/app.io" for number in range(MANY - 1))]

        def assert_page(path, key, query, expected, requests):
            with proxy.measure() as count:
                answer = client.get(f"{path}?{query}")
            assert answer.json()[key] == expected, query
            assert ("Link" in answer) == (expected[-1:] not in (tags[-1:], names[-1:]))
            assert len(count) == len(count.of("ListObjects")) == requests, count.details()

        for path, key, entries in (("/v2/big/tags/list", "tags", tags), ("/v2/_catalog", "repositories", names)):
            assert_page(path, key, "n=100", entries[:100], 1)
            for at in (99, MANY // 2, MANY - 100):
                assert_page(path, key, f"n=100&last={entries[at]}", entries[at + 1 : at + 101], 1)
            after = next(at for at, entry in enumerate(entries) if entry.startswith("t005000"))
            for odd in ("t004999~", "t004999%ff", "t004999%e2%82%ac", "t005", "t005000"):  # none of them is there
                assert_page(path, key, f"n=100&last={odd}", entries[after : after + 100], 1)
            assert_page(path, key, "n=1000", entries[:1000], 1)
            assert_page(path, key, "n=2500", entries[:2500], 3)
        assert client.tags("big", f"?n=1&last={tag_of(7)}x") == [tag_of(8)]
        assert client.get(f"/v2/big/manifests/{tag_of(MANY // 2)}").body == image.manifest


@pytest.mark.deadline(1800 if orlop.full_run() else 180)
def test_deleting_a_manifest_costs_its_own_tags(node, store):
    """Three tags of 10, or of very many."""
    server, proxy = node
    counts = {}
    with server.client(timeout=120) as client:
        for repo, total in (("small", 10), ("big", MANY)):
            other = client.push_image(repo)
            add_tags(store, repo, other, range(total - 3))
            image = client.push_image(repo, "one")
            for tag in ("two", "three"):
                client.push_manifest(repo, tag, image.manifest)
            with proxy.measure() as count:
                assert client.delete(f"/v2/{repo}/manifests/{image.digest}").status == 202
            counts[repo] = str(count)
            assert client.get(f"/v2/{repo}/manifests/two").status == 404
            assert client.get(f"/v2/{repo}/manifests/{tag_of(total - 4)}").status == 200
    assert counts["big"] == counts["small"]
    print(f"\n{counts['big']}")

"""What a redirect gives away: one blob, for a while, to who may pull it; and no more than that in any output."""

import crypt
import os
import time
import urllib.parse

import orlop
import pytest
from rawhttp import Client


def ask(url, method="GET", path=None, query=None):
    """A request to a presigned URL, with another path or query if given."""
    parts = urllib.parse.urlsplit(url)
    with Client((parts.hostname, parts.port)) as store:
        return store.request(method, f"{path or parts.path}?{query or parts.query}")


@pytest.fixture
def blobs(store, new_server):
    """(a server that redirects for a second, its client, two blobs of the repository a/b)"""
    server = new_server(store=store, args=["--s3-redirect", "always", "--s3-redirect-expires", "2s"])
    with server.client() as client:
        yield server, client, *(client.push_blob("a/b", orlop.random_bytes(1000)) for _ in range(2))


def location(client, name, repo="a/b"):
    answer = client.get(f"/v2/{repo}/blobs/{name}")
    assert (answer.status, answer.body, answer["Cache-Control"]) == (307, b"", "no-store")
    return answer["Location"]


def test_url_reads_one_blob_and_nothing_else(blobs):
    _, client, one, other = blobs
    url = location(client, one)
    assert orlop.sha256(ask(url).body) == one
    path = urllib.parse.urlsplit(url).path
    elsewhere = urllib.parse.urlsplit(location(client, other)).path
    bucket = "/" + path.split("/")[1]
    for method, target in (("GET", elsewhere), ("GET", bucket), ("PUT", path), ("DELETE", path), ("POST", path)):
        assert ask(url, method, target).status == 403, (method, target)
    longer = urllib.parse.urlsplit(url).query.replace("X-Amz-Expires=2&", "X-Amz-Expires=200&")
    assert ask(url, query=longer).status == 403
    assert orlop.sha256(ask(location(client, one)).body) == one


def test_url_expires(blobs):
    _, client, one, _ = blobs
    url = location(client, one)
    deadline = time.monotonic() + 20
    while ask(url).status == 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert ask(url).status == 403


def test_only_who_may_pull_is_redirected(blobs, store, new_server, work_dir):
    """Not through another repository, and not without the password."""
    _, client, one, _ = blobs
    client.push_image("c/d", "v1")
    answer = client.get(f"/v2/c/d/blobs/{one}")
    assert (answer.status, answer.code) == (404, "BLOB_UNKNOWN") and "Location" not in answer
    users = work_dir / "users"
    users.write_text(f"alice:{crypt.crypt('secret', crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=1 << 5))}\n")
    locked = new_server(store=store, args=["--s3-redirect", "always", "--auth-htpasswd", users])
    with locked.client() as nobody:
        answer = nobody.get(f"/v2/a/b/blobs/{one}")
        assert answer.status == 401 and "Location" not in answer


# 203.0.113.0/24 is for documentation: nobody answers there, but it is an address of the Internet.
@pytest.mark.parametrize(("endpoint", "status"), [("http://203.0.113.5", 200), ("https://203.0.113.5", 307)])
def test_auto_does_not_lead_out_of_tls(store, new_server, endpoint, status):
    server = new_server(store=store, args=["--s3-public-endpoint", endpoint])
    with server.client() as client:
        name = client.push_blob("a/b", b"some bytes")
        answer = client.get(f"/v2/a/b/blobs/{name}")
        assert answer.status == status
        assert status == 200 or answer["Location"].startswith(endpoint + "/")


def test_secrets_stay_out_of_all_output(blobs, store, new_server, new_proxy):
    """Of the log at its most talkative, of metrics, of what clients and operators are told."""
    with new_proxy() as proxy:
        args = ["--s3-redirect", "always", "--log-level", "debug"]
        server = new_server(store=store, args=args, env={"AWS_ENDPOINT_URL": proxy.url})
        with server.client() as client:
            name = client.push_blob("a/b", b"some bytes")
            signature = urllib.parse.parse_qs(urllib.parse.urlsplit(location(client, name)).query)["X-Amz-Signature"][0]
            proxy.fault_of = lambda *_: "403"
            refused = client.get("/v2/a/unseen/manifests/v1")
            assert refused.status >= 500
        told = [server.admin("/readyz").body, server.admin("/metrics").body, refused.body]
        server.stop()  # its log is whole then
        told.append(server.log())
    for command in (("config", "show"), ("config", "check"), ("check", "--store", store), ("version",)):
        result = orlop.run_cli(*command)
        told += [result.stdout.encode(), result.stderr.encode()]
    assert b"a/unseen" in server.log(), "the log is what this test is about"
    for secret in (os.environ["AWS_SECRET_ACCESS_KEY"], signature, "X-Amz-Signature"):
        assert all(secret.encode() not in text for text in told), secret

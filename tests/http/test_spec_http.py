"""HTTP in general, the ping, errors, names, and the rules every answer keeps (checklist 2-5, 15, 18)."""

import json
import re
import uuid

import orlop
import pytest
from rawhttp import Connection

OCI_CODES = {
    "BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN", "SIZE_INVALID", "UNAUTHORIZED", "DENIED",
    "UNSUPPORTED", "TOOMANYREQUESTS",
}  # fmt: skip
TOLERATED_CODES = {"TAG_INVALID", "PAGINATION_NUMBER_INVALID"}
ABSENT = "sha256:" + "0" * 64


def test_PING_1(client):
    answer = client.get("/v2/")
    assert answer.status == 200
    assert answer["Docker-Distribution-API-Version"] == "registry/2.0"


def test_PING_3_without_slash(client):
    answer = client.get("/v2")
    if answer.status in (301, 302, 307, 308):
        assert answer["Location"] == "/v2/"
    else:
        assert answer.status == 200


def test_PING_head(client):
    assert client.head("/v2/").status == 200


def test_CAT_1_pull_after_push(client, repo):
    image = client.push_image(repo, "latest", layers=3)
    assert client.pull_image(repo, "latest") == image.manifest
    assert client.pull_image(repo, image.digest) == image.manifest


def test_CAT_2_every_category_answers(client, repo):
    image = client.push_image(repo, "latest")
    assert client.tags(repo) == ["latest"]
    assert client.referrers(repo, image.digest) == []
    assert client.delete(f"/v2/{repo}/manifests/{image.digest}").status == 202


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_HTTP_3_bodies_with_length_or_chunked(client, repo, chunked):
    data = orlop.random_bytes(100_000)
    location = client.start_upload(repo)
    assert client.patch(location, data, chunked=chunked).status == 202
    assert client.put(orlop.with_query(location, digest=orlop.sha256(data)), b"", chunked=chunked).status == 201
    single = orlop.random_bytes(5000)
    answer = client.post(f"/v2/{repo}/blobs/uploads/?digest={orlop.sha256(single)}", single, chunked=chunked)
    assert answer.status == 201
    location = client.start_upload(repo)
    assert client.put(orlop.with_query(location, digest=orlop.sha256(b"")), b"", chunked=chunked).status == 201
    client.push_blob(repo, b"{}")
    body = orlop.artifact("application/x-thing")
    answer = client.put(f"/v2/{repo}/manifests/latest", body, {"Content-Type": orlop.OCI_MANIFEST}, chunked=chunked)
    assert answer.status == 201
    assert client.get(f"/v2/{repo}/manifests/latest").body == body


def test_HTTP_3_chunked_in_odd_pieces(client, repo):
    data = orlop.random_bytes(70_001)
    pieces = [data[:1], data[1:3], data[3:40_000], data[40_000:40_001], data[40_001:]]
    location = client.start_upload(repo)
    answer = client.put(orlop.with_query(location, digest=orlop.sha256(data)), pieces, chunked=True)
    assert answer.status == 201
    assert client.get(f"/v2/{repo}/blobs/{orlop.sha256(data)}").body == data


def test_HTTP_4_error_leaves_the_connection_in_step(server, repo):
    """An error answered before the body was read: the next request on the connection is understood."""
    with server.client() as client:
        location = client.start_upload(repo)
        body = orlop.random_bytes(200_000)
        for _ in range(3):
            answer = client.patch(location, body, {"Content-Range": "7-200006"})
            assert answer.status == 416
            assert client.get("/v2/").status == 200
        for _ in range(3):
            assert client.put(f"/v2/{repo}/blobs/uploads/{uuid.uuid4()}?digest={ABSENT}", body).status == 404
            assert client.get(location).status == 204


def test_HTTP_5_no_content_coding(client, repo):
    image = client.push_image(repo, "latest", layer_bytes=5000)
    offer = {"Accept-Encoding": "zstd, gzip, deflate, br"}
    for target, body in (
        (f"/v2/{repo}/manifests/latest", image.manifest),
        (f"/v2/{repo}/blobs/{orlop.sha256(image.layers[0])}", image.layers[0]),
    ):
        answer = client.get(target, offer)
        assert answer.body == body
        assert "Content-Encoding" not in answer
        assert int(answer["Content-Length"]) == len(body)


def test_HTTP_6_escapes_in_path_and_query(client, repo):
    data = orlop.random_bytes(100)
    name = orlop.sha256(data)
    escaped = name.replace(":", "%3A")
    location = client.start_upload(repo)
    answer = client.put(f"{location}?unknown=x%20y&digest={escaped}&other", data)
    assert answer.status == 201, answer
    assert client.get(f"/v2/{repo}/blobs/{escaped}").body == data
    assert client.get(f"/v2/{repo}/blobs/{name.replace(':', '%3a')}").body == data
    assert client.get(f"/v2/{repo.replace('t/', '%74/')}/blobs/{name}").body == data
    data, name = client.push_blob(repo, b"{}"), orlop.sha256(b"{}")
    subject = client.push_image(repo)
    client.push_artifact(repo, "application/vnd.x+json", subject.descriptor())
    assert len(client.referrers(repo, subject.digest, "?artifactType=application%2Fvnd.x%2Bjson")) == 1
    # form-encoded: a plus is a space, so this is another type
    assert client.referrers(repo, subject.digest, "?artifactType=application/vnd.x+json") == []


def test_HTTP_7_repeated_headers(client, repo):
    image = client.push_image(repo, "latest")
    lines = [("Accept", orlop.DOCKER_MANIFEST), ("Accept", orlop.OCI_MANIFEST)]
    assert client.get(f"/v2/{repo}/manifests/latest", lines).body == image.manifest
    etag = f'"{image.digest}"'
    lines = [("If-None-Match", '"a"'), ("If-None-Match", etag)]
    assert client.get(f"/v2/{repo}/manifests/latest", lines).status == 304


def test_HTTP_8_head_is_get_without_body(server, client, repo):
    image = client.push_image(repo, "latest")
    changing = {"date", "x-request-id", "docker-request-id", "request-id"}
    for target in (
        "/v2/",
        f"/v2/{repo}/manifests/latest",
        f"/v2/{repo}/manifests/{image.digest}",
        f"/v2/{repo}/blobs/{orlop.sha256(image.layers[0])}",
        f"/v2/{repo}/manifests/missing",
        f"/v2/{repo}/blobs/{ABSENT}",
    ):
        get, head = client.get(target), client.head(target)
        assert head.status == get.status
        assert head.body == b""
        kept = [
            sorted((name.lower(), value) for name, value in answer.headers if name.lower() not in changing)
            for answer in (get, head)
        ]
        assert [name for name, _ in kept[0]] == [name for name, _ in kept[1]]
        if get.status == 200:
            assert kept[0] == kept[1]
        # nothing follows a HEAD's headers
        with Connection(server.address) as connection:
            connection.send(f"HEAD {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            connection.head()
            assert connection.at_eof()


def test_HTTP_9_connection_close(server):
    with Connection(server.address) as connection:
        connection.send(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert connection.response().status == 200
        assert connection.at_eof()


def test_HTTP_9_keep_alive_and_pipelining(server):
    with Connection(server.address) as connection:
        for _ in range(5):
            connection.send(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.response().status == 200
        connection.send(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n" * 5)
        for _ in range(5):
            assert connection.response().status == 200


def test_HTTP_9_http_1_0(server):
    with Connection(server.address) as connection:
        connection.send(b"GET /v2/ HTTP/1.0\r\n\r\n")
        assert connection.response().status == 200
        assert connection.at_eof()


def test_HTTP_9_expect_100_continue(server, client, repo):
    location = client.start_upload(repo)
    data = orlop.random_bytes(5000)
    with Connection(server.address) as connection:
        head = (
            f"PUT {location}?digest={orlop.sha256(data)} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            f"Content-Length: {len(data)}\r\n\r\n"
        )
        connection.send(head.encode())
        assert connection.head().status == 100
        connection.send(data)
        assert connection.response().status == 201


def test_HTTP_9_expect_100_continue_refused_at_once(server, repo):
    """A request that is wrong by its headers alone is answered instead of continued."""
    with Connection(server.address) as connection:
        head = (
            f"PATCH /v2/{repo}/blobs/uploads/{uuid.uuid4()} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            "Content-Length: 1000000\r\n\r\n"
        )
        connection.send(head.encode())
        assert connection.response().status == 404


# ---- §3: names with the words of the routes in them ----


@pytest.mark.parametrize(
    "name",
    [
        "a", "a/tags/list", "blobs", "manifests", "a/blobs/uploads", "tags/list", "referrers", "a/manifests/b",
        "a/referrers", "uploads", "list", "a/blobs", "a.b", "a_b", "a__b", "a-b", "a----b", "0", "a/b/c/d/e/f/g/h",
        "v2", "v2/v2", "a" * 200, "/".join("a" * 100),
    ],
)  # fmt: skip
def test_GRAMMAR_names(client, name):
    image = client.push_image(name, "tag")
    assert client.pull_image(name, "tag") == image.manifest
    assert client.pull_image(name, image.digest) == image.manifest
    assert client.tags(name) == ["tag"]
    assert client.referrers(name, image.digest) == []
    assert client.delete(f"/v2/{name}/manifests/{image.digest}").status == 202


@pytest.mark.parametrize("tag", ["a", "_", "A", "0", "a.b", "a-b", "v1.2.3-rc.1", "a" * 128, "_.-", "list", "uploads"])
def test_GRAMMAR_tags(client, repo, tag):
    image = client.push_image(repo, tag)
    assert client.pull_image(repo, tag) == image.manifest
    assert client.tags(repo) == [tag]
    assert client.delete(f"/v2/{repo}/manifests/{tag}").status == 202


# ---- errors ----


def errors_of(client, repo):
    """One answer of each kind of error."""
    client.push_image(repo, "latest")
    location = client.start_upload(repo)
    yield "NAME_INVALID", 400, client.get("/v2/UPPER/tags/list")
    yield "NAME_UNKNOWN", 404, client.get("/v2/no/such/repository/tags/list")
    yield "MANIFEST_UNKNOWN", 404, client.get(f"/v2/{repo}/manifests/none")
    yield "MANIFEST_UNKNOWN", 404, client.get(f"/v2/{repo}/manifests/{ABSENT}")
    yield "BLOB_UNKNOWN", 404, client.get(f"/v2/{repo}/blobs/{ABSENT}")
    yield "BLOB_UNKNOWN", 404, client.delete(f"/v2/{repo}/blobs/{ABSENT}")
    yield "BLOB_UPLOAD_UNKNOWN", 404, client.get(f"/v2/{repo}/blobs/uploads/{uuid.uuid4()}")
    yield "BLOB_UPLOAD_UNKNOWN", 404, client.delete(f"/v2/{repo}/blobs/uploads/{uuid.uuid4()}")
    yield "BLOB_UPLOAD_INVALID", 416, client.patch(location, b"abc", {"Content-Range": "5-7"})
    yield "SIZE_INVALID", 400, client.patch(location, b"abc", {"Content-Range": "0-3"})
    yield "DIGEST_INVALID", 400, client.put(orlop.with_query(location, digest=ABSENT), b"abc")
    yield "MANIFEST_INVALID", 400, client.put(f"/v2/{repo}/manifests/x", b"{", {"Content-Type": orlop.OCI_MANIFEST})
    yield (
        "MANIFEST_BLOB_UNKNOWN",
        400,
        client.put(
            f"/v2/{repo}/manifests/x",
            orlop.manifest(orlop.descriptor(b"absent", orlop.OCI_CONFIG), []),
            {"Content-Type": orlop.OCI_MANIFEST},
        ),
    )
    yield "UNSUPPORTED", 405, client.post(f"/v2/{repo}/tags/list")


def test_ERR_1_2_3_bodies(client, repo):
    for code, status, answer in errors_of(client, repo):
        assert (answer.status, answer.code) == (status, code), answer
        assert answer["Content-Type"] == "application/json"
        assert set(answer.json()) == {"errors"}
        assert answer.json()["errors"], "an empty list is itself an error to clients"
        for error in answer.json()["errors"]:
            assert set(error) <= {"code", "message", "detail"}
            assert re.fullmatch("[A-Z_]+", error["code"])
            assert error["code"] in OCI_CODES | TOLERATED_CODES
            assert isinstance(error["message"], str) and error["message"]


def test_ERR_messages_say_what_is_wrong(client, repo):
    answer = client.get("/v2/UPPER/tags/list")
    assert "lower-case" in answer.message
    answer = client.put(
        f"/v2/{repo}/manifests/x",
        orlop.manifest(orlop.descriptor(b"absent", orlop.OCI_CONFIG), []),
        {"Content-Type": orlop.OCI_MANIFEST},
    )
    assert orlop.sha256(b"absent") in json.dumps(answer.json())


def test_ERR_405_names_the_methods(client, repo):
    answer = client.request("POST", f"/v2/{repo}/tags/list")
    assert answer.status == 405 and "GET" in answer["Allow"]
    answer = client.request("PATCH", f"/v2/{repo}/manifests/x")
    assert answer.status == 405 and {"GET", "PUT", "DELETE"} <= set(re.split(", *", answer["Allow"]))


def test_ERR_unknown_routes(client):
    for target in ("/", "/v1/", "/v2/x", "/v2/x/y", "/favicon.ico", "/v2/_unknown", "/v2/a/b/_ext/x"):
        answer = client.get(target)
        assert answer.status in (400, 404) and answer.code, answer


# ---- the rest (15) ----


def test_WA_1_no_warnings(client, repo):
    image = client.push_image(repo, "latest")
    for target in (f"/v2/{repo}/manifests/latest", f"/v2/{repo}/blobs/{orlop.sha256(image.config)}"):
        for value in client.get(target).all("Warning"):
            assert re.fullmatch(r'299 - "[^"]*"', value)


def test_NS_1_unknown_ns_is_ignored(client, repo):
    image = client.push_image(repo, "latest")
    assert client.get(f"/v2/{repo}/manifests/latest?ns=docker.io").body == image.manifest
    blob = image.layers[0]
    assert client.get(f"/v2/{repo}/blobs/{orlop.sha256(blob)}?ns=docker.io").body == blob
    assert client.tags(repo, "?ns=docker.io") == ["latest"]


def test_EX_1_2_extensions_are_refused_politely(client, repo):
    for target in ("/v2/_oci/ext/discover", f"/v2/{repo}/_oci/ext/discover"):
        answer = client.get(target)
        assert answer.status in (400, 404) and answer.code in OCI_CODES, answer


# ---- §18: what every answer carries ----


def test_18_1_location_is_path_absolute(client, repo):
    location = client.start_upload(repo)
    assert location.startswith(f"/v2/{repo}/blobs/uploads/")
    data = orlop.random_bytes(10)
    answer = client.put(orlop.with_query(location, digest=orlop.sha256(data)), data)
    assert answer["Location"] == f"/v2/{repo}/blobs/{orlop.sha256(data)}"
    client.push_blob(repo, b"{}")
    body = orlop.artifact("application/x-thing")
    answer = client.push_manifest(repo, "latest", body)
    assert answer["Location"].startswith(f"/v2/{repo}/manifests/")
    assert client.get(answer["Location"]).body == body


def test_18_4_content_digest_everywhere(client, repo):
    def same(answer, digest):
        assert answer["Docker-Content-Digest"] == digest, answer

    for algorithm in ("sha256", "sha512"):
        data = orlop.random_bytes(100)
        name = orlop.digest(data, algorithm)
        same(client.put(orlop.with_query(client.start_upload(repo), digest=name), data), name)
        single = orlop.random_bytes(100)
        single_name = orlop.digest(single, algorithm)
        same(client.post(f"/v2/{repo}/blobs/uploads/?digest={single_name}", single), single_name)
        same(client.post(f"/v2/{repo}-2/blobs/uploads/?mount={name}&from={repo}"), name)
        same(client.get(f"/v2/{repo}/blobs/{name}"), name)
        same(client.head(f"/v2/{repo}/blobs/{name}"), name)
        client.push_blob(repo, b"{}")
        body = orlop.artifact("application/x-" + algorithm)
        manifest_name = orlop.digest(body, algorithm)
        same(client.push_manifest(repo, manifest_name, body, query="?tag=" + algorithm), manifest_name)
        for reference in (manifest_name, algorithm):
            same(client.get(f"/v2/{repo}/manifests/{reference}"), manifest_name)
            same(client.head(f"/v2/{repo}/manifests/{reference}"), manifest_name)


def test_18_5_api_version_and_upload_uuid(client, repo):
    answer = client.post(f"/v2/{repo}/blobs/uploads/")
    assert answer["Docker-Distribution-API-Version"] == "registry/2.0"
    assert answer["Docker-Upload-UUID"] == answer["Location"].rsplit("/", 1)[1]
    assert answer["Range"] == "0-0"


def test_18_6_content_length_everywhere(client, repo):
    data = orlop.random_bytes(100)
    answer = client.post(f"/v2/{repo}/blobs/uploads/")
    location = answer["Location"]
    answers = [answer, client.patch(location, data)]
    answers.append(client.put(orlop.with_query(location, digest=orlop.sha256(data))))
    image = client.push_image(repo, "latest")
    answers.append(client.push_manifest(repo, "latest", image.manifest))
    answers.append(client.delete(f"/v2/{repo}/manifests/latest"))
    answers.append(client.delete(f"/v2/{repo}/blobs/{orlop.sha256(data)}"))
    for answer in answers:
        assert answer["Content-Length"] == "0", answer
    location = client.start_upload(repo)
    for answer in (client.get(location), client.delete(location)):
        assert answer.status == 204
        assert "Content-Length" not in answer and "Transfer-Encoding" not in answer


@pytest.mark.parametrize("config, layer, manifest", [
    (orlop.DOCKER_CONFIG, orlop.DOCKER_LAYER, orlop.DOCKER_MANIFEST),
    (orlop.OCI_CONFIG, orlop.OCI_LAYER, orlop.OCI_MANIFEST),
], ids=["docker", "oci"])  # fmt: skip
def test_18_7_types(client, repo, config, layer, manifest):
    one, two = orlop.random_bytes(100), orlop.random_bytes(200)
    client.push_blob(repo, one)
    client.push_blob(repo, two)
    body = orlop.manifest(orlop.descriptor(one, config), [orlop.descriptor(two, layer)], manifest)
    client.push_manifest(repo, "one", body, manifest)
    answer = client.get(f"/v2/{repo}/manifests/one")
    assert (answer.body, answer["Content-Type"]) == (body, manifest)
    listed = orlop.DOCKER_LIST if manifest == orlop.DOCKER_MANIFEST else orlop.OCI_INDEX
    platform = {"architecture": "amd64", "os": "linux"}
    body = orlop.index([orlop.descriptor(body, manifest, platform=platform)], listed)
    client.push_manifest(repo, "list", body, listed)
    answer = client.get(f"/v2/{repo}/manifests/list")
    assert (answer.body, answer["Content-Type"]) == (body, listed)


def test_18_7_schema1_is_refused(client, repo):
    body = orlop.encode({"schemaVersion": 1, "name": repo, "tag": "x", "fsLayers": [], "history": []})
    for kind in ("", "+prettyjws"):
        answer = client.put(
            f"/v2/{repo}/manifests/x",
            body,
            {
                "Content-Type": f"application/vnd.docker.distribution.manifest.v1{kind}+json".replace(
                    "+prettyjws+json", "+prettyjws"
                )
            },
        )
        assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")


def test_request_id_is_given(client):
    ids = {client.get("/v2/")["X-Request-Id"] for _ in range(3)}
    assert len(ids) == 3

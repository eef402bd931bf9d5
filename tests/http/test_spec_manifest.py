"""Pushing and deleting manifests and tags (checklist 11, 14; ?tag= of the newer specification)."""

import json

import orlop
import pytest
from orlop import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, descriptor, sha256, sha512

ABSENT = "sha256:" + "0" * 64
ABSENT_DESCRIPTOR = {"mediaType": OCI_MANIFEST, "digest": ABSENT, "size": 7}


def put(client, repo, reference, body, media_type=OCI_MANIFEST, query="", **kw):
    headers = {} if media_type is None else {"Content-Type": media_type}
    return client.put(f"/v2/{repo}/manifests/{reference}{query}", body, headers, **kw)


def pushed(client, repo, **more):
    """The parts of an image manifest whose blobs are there."""
    config, layer = orlop.random_bytes(40), orlop.random_bytes(80)
    client.push_blob(repo, config)
    client.push_blob(repo, layer)
    return {
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(config, OCI_CONFIG),
        "layers": [descriptor(layer, OCI_LAYER)], **more,
    }  # fmt: skip


def accepted(client, repo, document, media_type=OCI_MANIFEST):
    """Push by tag and by digest; both give the bytes back."""
    body = document if isinstance(document, bytes) else json.dumps(document, indent=3).encode()
    for reference in ("tag", sha256(body), sha512(body)):
        answer = put(client, repo, reference, body, media_type)
        assert answer.status == 201, answer
        expected = sha256(body) if reference == "tag" else reference
        assert answer["Docker-Content-Digest"] == expected
        got = client.get(f"/v2/{repo}/manifests/{reference}")
        assert (got.status, got.body) == (200, body)
        assert got["Content-Type"] == (media_type or document["mediaType"])
    return body


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_MP_1_2_put_by_digest(client, repo, chunked, algorithm):
    body = orlop.encode(pushed(client, repo))
    name = orlop.digest(body, algorithm)
    answer = put(client, repo, name, body, chunked=chunked)
    assert answer.status == 201
    assert answer["Docker-Content-Digest"] == name
    assert answer["Location"] == f"/v2/{repo}/manifests/{name}"
    got = client.get(answer["Location"])
    assert (got.body, got["Content-Type"], got["Content-Length"]) == (body, OCI_MANIFEST, str(len(body)))
    assert client.tags(repo) == []


def test_MP_1_exact_bytes(client, repo):
    text = json.dumps(pushed(client, repo, annotations={"kä": "雪 \U0001f680"}), indent=7, ensure_ascii=False)
    accepted(client, repo, ("\n\t" + text + "\r\n  ").encode())


def test_MP_3_digest(client, repo):
    body = orlop.encode(pushed(client, repo))
    for digest in ("sha256:baddigeststring", "md5:" + "0" * 32, ABSENT, "sha512:" + "0" * 128, "sha256:" + "A" * 64):
        answer = put(client, repo, digest, body)
        assert (answer.status, answer.code) == (400, "DIGEST_INVALID"), answer
    assert client.get(f"/v2/{repo}/manifests/{sha256(body)}").status == 404


def test_MP_4_tag_moves(client, repo):
    one, two = client.push_image(repo, "latest"), client.push_image(repo)
    assert put(client, repo, "latest", two.manifest).status == 201
    answer = client.get(f"/v2/{repo}/manifests/latest")
    assert (answer.body, answer["Docker-Content-Digest"]) == (two.manifest, two.digest)
    assert client.get(f"/v2/{repo}/manifests/{one.digest}").body == one.manifest
    assert client.tags(repo) == ["latest"]


def test_MP_5_content_type(client, repo):
    document = pushed(client, repo)
    body = orlop.encode(document)
    assert put(client, repo, "a", body, OCI_MANIFEST + "; charset=utf-8").status == 201
    assert client.get(f"/v2/{repo}/manifests/a")["Content-Type"] == OCI_MANIFEST
    assert put(client, repo, "b", body, None).status == 201
    assert client.get(f"/v2/{repo}/manifests/b")["Content-Type"] == OCI_MANIFEST


def test_MP_5_body_without_media_type(client, repo):
    document = pushed(client, repo)
    del document["mediaType"]
    body = accepted(client, repo, document)
    assert body
    # and an index likewise, typed by its header
    accepted(client, repo, {"schemaVersion": 2, "manifests": []}, OCI_INDEX)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("count", [1, 10, 11])
def test_MP_6_tag_parameters(client, repo, algorithm, count):
    body = orlop.encode(pushed(client, repo))
    name = orlop.digest(body, algorithm)
    tags = [f"v{i:02}" for i in range(count)]
    answer = put(client, repo, name, body, query="?" + "&".join(f"tag={tag}" for tag in tags))
    assert answer.status == 201, answer
    assert sorted(tag.strip() for tag in answer["OCI-Tag"].split(",")) == tags
    assert client.tags(repo) == tags
    for tag in tags:
        got = client.get(f"/v2/{repo}/manifests/{tag}")
        assert (got.body, got["Docker-Content-Digest"]) == (body, name)


def test_MP_6_too_many_tags(client, repo):
    body = orlop.encode(pushed(client, repo))
    answer = put(client, repo, sha256(body), body, query="?" + "&".join(f"tag=v{i}" for i in range(60)))
    if answer.status != 201:
        assert answer.status == 414 and answer.json()["errors"]
        assert client.get(f"/v2/{repo}/manifests/{sha256(body)}").status == 404
    answer = put(client, repo, sha256(body), body, query="?" + "&".join(f"tag=v{i}" for i in range(500)))
    assert answer.status in (414, 431)


def test_MP_6_bad_tag_parameter_changes_nothing(client, repo):
    body = orlop.encode(pushed(client, repo))
    for bad in ("-x", "", "a%2Fb", "a" * 129, "a%3Ab"):
        answer = put(client, repo, sha256(body), body, query=f"?tag=good&tag={bad}")
        assert (answer.status, answer.code) == (400, "TAG_INVALID"), (bad, answer)
    assert client.get(f"/v2/{repo}/manifests/good").status == 404


def test_MP_6_no_oci_tag_without_parameter(client, repo):
    body = orlop.encode(pushed(client, repo))
    assert "OCI-Tag" not in put(client, repo, sha256(body), body)


def test_MP_7_missing_subject(client, repo):
    document = pushed(client, repo, subject=ABSENT_DESCRIPTOR)
    answer = put(client, repo, "x", orlop.encode(document))
    assert (answer.status, answer["OCI-Subject"]) == (201, ABSENT)


def test_MP_8_missing_content_is_refused(client, repo):
    document = pushed(client, repo)
    here = document["layers"][0]
    missing = {**here, "digest": ABSENT}
    for changed in (
        {**document, "config": {**document["config"], "digest": ABSENT}},
        {**document, "layers": [missing]},
        {**document, "layers": [here, missing]},
    ):
        body = orlop.encode(changed)
        for reference in ("x", sha256(body)):
            answer = put(client, repo, reference, body)
            assert (answer.status, answer.code) == (400, "MANIFEST_BLOB_UNKNOWN"), answer
            assert ABSENT in answer.body.decode()
            assert client.get(f"/v2/{repo}/manifests/{reference}").status == 404
    sparse = orlop.index([ABSENT_DESCRIPTOR])
    answer = put(client, repo, "x", sparse, OCI_INDEX)
    assert (answer.status, answer.code) == (400, "MANIFEST_BLOB_UNKNOWN")


def test_MP_8_blob_of_another_repository_is_missing(client, repo):
    document = pushed(client, orlop.new_repo())
    answer = put(client, repo, "x", orlop.encode(document))
    assert (answer.status, answer.code) == (400, "MANIFEST_BLOB_UNKNOWN")


@pytest.mark.parametrize(
    "kind",
    [
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ],
)
def test_MP_8_22_8_nondistributable_layers_may_be_missing(client, repo, kind):
    document = pushed(client, repo)
    document["layers"].append({"mediaType": kind, "digest": ABSENT, "size": 5, "urls": ["https://example.com/x"]})
    document["layers"].append({"mediaType": kind, "digest": ABSENT, "size": 5})
    accepted(client, repo, document)


def test_MP_8_22_8_descriptor_with_urls_may_be_missing(client, repo):
    document = pushed(client, repo)
    document["layers"].append({"mediaType": OCI_LAYER, "digest": ABSENT, "size": 5, "urls": ["https://example.com/x"]})
    accepted(client, repo, document)


@pytest.mark.parametrize("chunked", [False, True])
def test_MP_9_size_limit(client, repo, chunked):
    document = pushed(client, repo)

    def sized(size):
        plain = orlop.encode({**document, "annotations": {"fill": ""}})
        return orlop.encode({**document, "annotations": {"fill": "x" * (size - len(plain))}})

    limit = 4 * 1024 * 1024
    for size in (4_000_000, limit):
        body = sized(size)
        assert len(body) == size
        assert put(client, repo, "big", body, chunked=chunked).status == 201
        assert client.get(f"/v2/{repo}/manifests/big").body == body
    answer = put(client, repo, "bigger", sized(limit + 1), chunked=chunked)
    assert (answer.status, answer.code) == (413, "MANIFEST_INVALID"), answer
    assert client.get(f"/v2/{repo}/manifests/bigger").status == 404
    assert client.get("/v2/").status == 200


def test_MP_10_oci_subject(client, repo):
    subject = client.push_image(repo)
    for document, kind in (
        (pushed(client, repo, subject=subject.descriptor()), OCI_MANIFEST),
        ({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "subject": subject.descriptor()}, OCI_INDEX),
    ):
        body = orlop.encode(document)
        for reference in (sha256(body), "tag", "tag", sha256(body)):
            assert put(client, repo, reference, body, kind)["OCI-Subject"] == subject.digest
    body = orlop.encode(pushed(client, repo))
    assert "OCI-Subject" not in put(client, repo, "plain", body)


def test_MP_11_unknown_fields(client, repo):
    document = pushed(client, repo, unknown={"a": [1, 2.5, None, True]}, annotations={"a": "b"})
    document["config"]["x-field"] = {"deep": []}
    document["layers"][0]["other"] = "text"
    accepted(client, repo, document)


def test_MP_11_data_field(client, repo):
    import base64

    document = pushed(client, repo)
    client.push_blob(repo, b"{}")
    document["config"] = {**descriptor(b"{}", OCI_CONFIG), "data": base64.b64encode(b"{}").decode()}
    accepted(client, repo, document)


def test_MP_11_types_and_empties(client, repo):
    document = pushed(client, repo)
    document["config"]["mediaType"] = "application/vnd.some.config+json"
    document["layers"][0]["mediaType"] = "application/vnd.some.layer"
    accepted(client, repo, document)
    document["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar"
    accepted(client, repo, document)
    accepted(client, repo, {**document, "layers": []})
    accepted(client, repo, {**document, "artifactType": "application/vnd.some.thing"})
    accepted(client, repo, {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}, OCI_INDEX)
    accepted(
        client,
        repo,
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "artifactType": "application/x"},
        OCI_INDEX,
    )


def test_MP_11_nested_index(client, repo):
    image = client.push_image(repo)
    inner = orlop.index([image.descriptor(platform={"architecture": "arm64", "os": "linux"})])
    client.push_manifest(repo, sha256(inner), inner, OCI_INDEX)
    outer = orlop.index([descriptor(inner, OCI_INDEX), image.descriptor()])
    client.push_manifest(repo, "outer", outer, OCI_INDEX)
    assert client.get(f"/v2/{repo}/manifests/outer").body == outer


def test_MP_11_sha512_throughout(client, repo):
    config, layer = orlop.random_bytes(40), orlop.random_bytes(80)
    client.push_blob(repo, config, "sha512")
    client.push_blob(repo, layer, "sha512")
    body = orlop.manifest(descriptor(config, OCI_CONFIG, "sha512"), [descriptor(layer, OCI_LAYER, "sha512")])
    client.push_manifest(repo, sha512(body), body, query="?tag=v1")
    assert client.pull_image(repo, "v1") == body
    listed = orlop.index([descriptor(body, OCI_MANIFEST, "sha512")])
    client.push_manifest(repo, sha512(listed), listed, OCI_INDEX, query="?tag=v2")
    referrer = orlop.artifact("application/x", descriptor(body, OCI_MANIFEST, "sha512"))
    client.push_blob(repo, b"{}")
    answer = client.push_manifest(repo, sha512(referrer), referrer)
    assert answer["OCI-Subject"] == sha512(body)
    found = client.referrers(repo, sha512(body))
    assert [item["digest"] for item in found] == [sha512(referrer)]
    assert client.get(f"/v2/{repo}/manifests/{sha256(body)}").status == 404
    assert client.delete(f"/v2/{repo}/manifests/{sha512(body)}").status == 202
    assert client.tags(repo) == ["v2"]


def test_MP_12_type_mismatch(client, repo):
    body = orlop.encode(pushed(client, repo))
    answer = put(client, repo, "x", body, OCI_INDEX)
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")


def test_MP_13_invalid(client, repo):
    good = pushed(client, repo)
    body = orlop.encode(good)
    for tag in (".x", "-x", "a" * 129, "a%20b"):
        assert put(client, repo, tag, body).status == 400, tag
    for bad in (b"", b"not json", b"[]", b"null", orlop.encode({**good, "schemaVersion": 1}), b'{"schemaVersion":2}'):
        answer = put(client, repo, "x", bad)
        assert (answer.status, answer.code) == (400, "MANIFEST_INVALID"), (bad, answer)


def test_MP_repeated_put_is_the_same(client, repo):
    image = client.push_image(repo, "a")
    for _ in range(3):
        assert put(client, repo, image.digest, image.manifest).status == 201
        assert put(client, repo, "a", image.manifest).status == 201
    assert client.tags(repo) == ["a"]


# ---- deletes ----


def test_DL_2_tag(client, repo):
    image = client.push_image(repo, "a")
    client.push_manifest(repo, "b", image.manifest)
    assert client.delete(f"/v2/{repo}/manifests/a").status == 202
    for method in ("GET", "HEAD"):
        assert client.request(method, f"/v2/{repo}/manifests/a").status == 404
    assert client.get(f"/v2/{repo}/manifests/b").body == image.manifest
    assert client.get(f"/v2/{repo}/manifests/{image.digest}").body == image.manifest
    assert client.tags(repo) == ["b"]
    answer = client.delete(f"/v2/{repo}/manifests/a")
    assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_DL_3_5_digest_takes_its_tags(client, repo, algorithm):
    body = orlop.encode(pushed(client, repo))
    name = orlop.digest(body, algorithm)
    client.push_manifest(repo, name, body, query="?tag=a&tag=b&tag=c")
    other = client.push_image(repo, "other")
    client.push_manifest(repo, "b", other.manifest)  # b has moved away
    answer = client.delete(f"/v2/{repo}/manifests/{name}")
    assert answer.status == 202
    for reference in (name, "a", "c"):
        assert client.head(f"/v2/{repo}/manifests/{reference}").status == 404
    assert client.get(f"/v2/{repo}/manifests/b").body == other.manifest
    assert client.tags(repo) == ["b", "other"]


def test_DL_3_unknown(client, repo):
    client.push_image(repo, "a")
    assert client.delete(f"/v2/{repo}/manifests/{ABSENT}").code == "MANIFEST_UNKNOWN"
    assert client.delete(f"/v2/{repo}/manifests/{ABSENT}").status == 404
    for reference in (ABSENT, "latest"):
        answer = client.delete(f"/v2/no/such/manifests/{reference}")
        assert answer.status == 404 and answer.code in ("NAME_UNKNOWN", "MANIFEST_UNKNOWN")


def test_DL_4_5_blob(client, repo):
    for algorithm in ("sha256", "sha512"):
        data = orlop.random_bytes(100)
        name = client.push_blob(repo, data, algorithm)
        assert client.delete(f"/v2/{repo}/blobs/{name}").status == 202
        assert client.head(f"/v2/{repo}/blobs/{name}").status == 404
        answer = client.delete(f"/v2/{repo}/blobs/{name}")
        assert (answer.status, answer.code) == (404, "BLOB_UNKNOWN")
        assert client.push_blob(repo, data, algorithm) == name
        assert client.get(f"/v2/{repo}/blobs/{name}").body == data
    assert client.delete(f"/v2/no/such/blobs/{name}").status == 404


def test_DL_5_delete_and_push_again(client, repo):
    image = client.push_image(repo, "a")
    for _ in range(5):
        assert client.delete(f"/v2/{repo}/manifests/{image.digest}").status == 202
        assert client.get(f"/v2/{repo}/manifests/a").status == 404
        client.push_manifest(repo, "a", image.manifest)
        assert client.get(f"/v2/{repo}/manifests/a").body == image.manifest


def test_DL_6_blob_still_used(client, repo):
    image = client.push_image(repo, "a")
    answer = client.delete(f"/v2/{repo}/blobs/{sha256(image.layers[0])}")
    assert answer.status in (202, 405)
    assert client.get(f"/v2/{repo}/manifests/a").body == image.manifest
    client.push_blob(repo, image.layers[0])  # whole again for the check at the end


def test_DL_1_deletes_off(new_server, repo):
    server = new_server(args=["--registry-deletes", "false"])
    with server.client() as client:
        image = client.push_image(repo, "a")
        for target in (
            f"/v2/{repo}/manifests/a",
            f"/v2/{repo}/manifests/{image.digest}",
            f"/v2/{repo}/blobs/{sha256(image.config)}",
        ):
            answer = client.delete(target)
            assert (answer.status, answer.code) == (405, "UNSUPPORTED")
        assert client.delete(client.start_upload(repo)).status == 204
        assert client.pull_image(repo, "a") == image.manifest


def test_22_8_reference_checks_can_be_relaxed(new_server, repo):
    server = new_server(args=["--registry-sparse-indexes", "true"])
    with server.client() as client:
        assert put(client, repo, "x", orlop.index([ABSENT_DESCRIPTOR]), OCI_INDEX).status == 201


def test_state_survives_a_restart(new_server, repo):
    server = new_server()
    with server.client() as client:
        image = client.push_image(repo, "a", layers=3)
        client.push_artifact(repo, "application/x", image.descriptor(), {"k": "v"})
        found = client.referrers(repo, image.digest)
    server.restart()
    with server.client() as client:
        assert client.pull_image(repo, "a") == image.manifest
        assert client.referrers(repo, image.digest) == found
        assert client.tags(repo) == ["a"]


def test_MP_5_content_type_that_is_none(client, repo):
    """Malformed is as good as missing: the type is then that of the body, or what the body looks like, or refused."""
    document = pushed(client, repo)
    body = orlop.encode(document)
    for kind in ("no slash", "/", ";", "application", "a/b/c d"):
        answer = put(client, repo, "x", body, kind)
        assert answer.status in (201, 400), answer
        if answer.status == 201:
            assert client.get(f"/v2/{repo}/manifests/x")["Content-Type"] == OCI_MANIFEST


def test_MP_size_of_a_descriptor_is_looked_at_or_not(client, repo):
    document = pushed(client, repo)
    document["config"]["size"] = 1 << 40
    answer = put(client, repo, "x", orlop.encode(document))
    assert (answer.status, answer.code) in ((201, None), (400, "MANIFEST_INVALID"), (400, "SIZE_INVALID")), answer

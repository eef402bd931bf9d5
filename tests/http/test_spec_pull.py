"""Pulling: manifests (MG), blobs (BG), ranges and conditional requests (checklist 6, 7)."""

import email.parser
import email.policy

import orlop
import pytest

ABSENT = "sha256:" + "0" * 64
BLOB_BYTES = 2048


@pytest.fixture
def image(client, repo):
    return client.push_image(repo, "latest", layers=2)


# ---- manifests ----


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_MG_1_2_3_4_9_get_and_head(client, repo, algorithm):
    client.push_blob(repo, b"{}")
    body = b"  " + orlop.artifact("application/x-exact").replace(b",", b" ,\n") + b"\n"
    name = orlop.digest(body, algorithm)
    client.push_manifest(repo, name, body, query="?tag=here")
    for reference in (name, "here"):
        for method in ("GET", "HEAD"):
            answer = client.request(method, f"/v2/{repo}/manifests/{reference}")
            assert answer.status == 200
            assert answer["Docker-Content-Digest"] == name
            assert answer["Content-Length"] == str(len(body))
            assert answer["Content-Type"] == orlop.OCI_MANIFEST
            assert answer.body == (body if method == "GET" else b"")


@pytest.mark.parametrize(
    "accept",
    [None, "*/*", orlop.DOCKER_MANIFEST, "application/json", orlop.OCI_INDEX + ";q=0.1", "", "nonsense"],
)
def test_MG_5_accept_changes_nothing(client, repo, image, accept):
    answer = client.get(f"/v2/{repo}/manifests/latest", {} if accept is None else {"Accept": accept})
    assert (answer.status, answer.body, answer["Content-Type"]) == (200, image.manifest, orlop.OCI_MANIFEST)


def test_MG_6_unknown(client, repo, image):
    for method in ("GET", "HEAD"):
        for target in (
            f"/v2/{repo}/manifests/other",
            f"/v2/{repo}/manifests/{ABSENT}",
            f"/v2/{repo}/manifests/sha512:{'0' * 128}",
            "/v2/no/such/manifests/latest",
            f"/v2/no/such/manifests/{image.digest}",
        ):
            answer = client.request(method, target)
            assert answer.status == 404
            assert method == "HEAD" or answer.code == "MANIFEST_UNKNOWN"


@pytest.mark.parametrize("tag", [".INVALID_MANIFEST_NAME", "-x", "a" * 129, "a+b", "%20", "a%5Cb"])
def test_MG_7_bad_tag_is_404(client, repo, tag):
    for method in ("GET", "HEAD"):
        assert client.request(method, f"/v2/{repo}/manifests/{tag}").status == 404


@pytest.mark.parametrize("digest", ["sha256:totallywrong", "sha256:baddigeststring", "md5:" + "0" * 32, "sha256:"])
def test_MG_8_bad_digest(client, repo, digest):
    for method in ("GET", "HEAD"):
        answer = client.request(method, f"/v2/{repo}/manifests/{digest}")
        assert answer.status in (400, 404)
        assert method == "HEAD" or answer.code in ("DIGEST_INVALID", "MANIFEST_UNKNOWN")


# ---- blobs ----


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("size", [0, 1, 4096, 1_000_003])
def test_BG_1_2_3_9_get_and_head(client, repo, algorithm, size):
    data = orlop.random_bytes(size)
    name = client.push_blob(repo, data, algorithm)
    for method in ("GET", "HEAD"):
        answer = client.request(method, f"/v2/{repo}/blobs/{name}")
        assert answer.status == 200
        assert answer["Docker-Content-Digest"] == name
        assert answer["Content-Length"] == str(size)
        assert answer["Content-Type"] == "application/octet-stream"
        assert answer["Accept-Ranges"] == "bytes"
        assert answer["ETag"] == f'"{name}"'
        assert "max-age" in answer["Cache-Control"]
        assert answer.body == (data if method == "GET" else b"")


def test_BG_4_only_in_its_repository(client, repo):
    name = client.push_blob(repo, orlop.random_bytes(100))
    client.push_blob(repo + "-2", b"other")
    for other in (repo + "-2", "no/such"):
        for method in ("GET", "HEAD"):
            answer = client.request(method, f"/v2/{other}/blobs/{name}")
            assert answer.status == 404
            assert method == "HEAD" or answer.code == "BLOB_UNKNOWN"


@pytest.fixture
def blob(client, repo):
    """A blob of 2048 bytes: (URL, bytes)."""
    data = orlop.random_bytes(BLOB_BYTES)
    return f"/v2/{repo}/blobs/{client.push_blob(repo, data)}", data


@pytest.mark.parametrize(
    "text, first, last",
    [
        ("bytes=500-1499", 500, 1499),
        ("bytes=500-", 500, 2047),
        ("bytes=-500", 1548, 2047),
        ("bytes=2000-5000", 2000, 2047),
        ("bytes=0-", 0, 2047),
        ("bytes=0-0", 0, 0),
        ("bytes=2047-2047", 2047, 2047),
        ("bytes=2047-", 2047, 2047),
        ("bytes=-1", 2047, 2047),
        ("bytes=0-2047", 0, 2047),
        ("bytes=100-2048", 100, 2047),
        ("bytes=-5000", 0, 2047),
        ("bytes=0-18446744073709551615", 0, 2047),
        ("BYTES=1-2", 1, 2),
        ("bytes=1-2,", 1, 2),
        ("bytes=5000-6000,1-2", 1, 2),
    ],
)
def test_BG_6_7_one_range(client, blob, text, first, last):
    url, data = blob
    answer = client.get(url, {"Range": text})
    assert answer.status == 206
    assert answer["Content-Range"] == f"bytes {first}-{last}/{BLOB_BYTES}"
    assert answer["Content-Length"] == str(last - first + 1)
    assert answer.body == data[first : last + 1]
    assert answer["Docker-Content-Digest"] == orlop.sha256(data)


@pytest.mark.parametrize(
    "text", ["bytes=500-0", "bytes=5000-10000", "bytes=2048-", "bytes=2048-2048", "bytes=-0", "bytes=9999-,5000-6000"]
)
def test_BG_6_7_unsatisfiable(client, blob, text):
    url, _ = blob
    answer = client.get(url, {"Range": text})
    assert answer.status == 416
    assert answer["Content-Range"] == f"bytes */{BLOB_BYTES}"
    assert answer.json()["errors"]


@pytest.mark.parametrize(
    "text",
    ["lines=0-5", "bytes", "bytes=", "bytes=a-b", "bytes=-", "bytes=1", "bytes 1-2", "bytes=1-2;3-4", "bytes=--5",
     "0-5", "bytes=0x1-2", "bytes=+1-2", "bytes=1-2,x"],
)  # fmt: skip
def test_BG_7_ignored_when_malformed_or_unknown(client, blob, text):
    url, data = blob
    answer = client.get(url, {"Range": text})
    assert (answer.status, answer.body) == (200, data)


def test_BG_7_empty_blob(client, repo):
    url = f"/v2/{repo}/blobs/{client.push_blob(repo, b'')}"
    for text in ("bytes=0-", "bytes=0-0"):
        answer = client.get(url, {"Range": text})
        assert (answer.status, answer["Content-Range"]) == (416, "bytes */0")
    assert client.get(url, {"Range": "bytes=-5"}).status in (200, 416)


def test_BG_7_head_ignores_range(client, blob):
    answer = client.head(blob[0], {"Range": "bytes=0-5"})
    assert (answer.status, answer["Content-Length"]) == (200, str(BLOB_BYTES))


def parts_of(answer):
    """The parts of a multipart/byteranges answer: [(Content-Range, bytes)]."""
    kind = answer["Content-Type"]
    assert kind.startswith("multipart/byteranges; boundary="), kind
    boundary = b"--" + kind.split("boundary=")[1].strip('"').encode()
    assert int(answer["Content-Length"]) == len(answer.body)
    pieces = answer.body.split(boundary)
    assert pieces[0] in (b"", b"\r\n") and pieces[-1] in (b"--\r\n", b"--")
    parts = []
    for piece in pieces[1:-1]:
        assert piece.startswith(b"\r\n") and piece.endswith(b"\r\n")
        head, _, data = piece[2:-2].partition(b"\r\n\r\n")
        headers = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head)
        assert headers["Content-Type"] == "application/octet-stream"
        parts.append((headers["Content-Range"], data))
    return parts


@pytest.mark.parametrize(
    "text, ranges",
    [
        ("bytes=0-9,50-59", [(0, 9), (50, 59)]),
        ("bytes=50-59, 0-9", [(50, 59), (0, 9)]),
        ("bytes=0-0,-1", [(0, 0), (2047, 2047)]),
        ("bytes=0-9,2000-9999", [(0, 9), (2000, 2047)]),
        ("bytes=0-9,5000-6000,20-29", [(0, 9), (20, 29)]),
        ("bytes=0-9\t,\t20-29,,", [(0, 9), (20, 29)]),
    ],
)
def test_BG_8_several_ranges(client, blob, text, ranges):
    url, data = blob
    answer = client.get(url, {"Range": text})
    assert answer.status == 206
    expected = [(f"bytes {first}-{last}/{BLOB_BYTES}", data[first : last + 1]) for first, last in ranges]
    assert parts_of(answer) == expected


def test_BG_8_many_ranges(client, blob):
    url, data = blob
    for count in (30, 64, 65, 300):
        text = "bytes=" + ",".join(f"{i * 4}-{i * 4 + 1}" for i in range(count))
        answer = client.get(url, {"Range": text})
        if answer.status == 200:
            assert answer.body == data
            assert count > 30, "so few ranges are not too many"
        else:
            assert answer.status == 206
            assert len(parts_of(answer)) == count


def test_BG_8_overlapping_ranges_do_not_multiply(client, repo):
    data = orlop.random_bytes(200_000)
    url = f"/v2/{repo}/blobs/{client.push_blob(repo, data)}"
    answer = client.get(url, {"Range": "bytes=" + ",".join(["0-"] * 60)})
    assert len(answer.body) < 2 * len(data)
    assert answer.status in (200, 206)


def test_BG_8_ranges_of_a_big_blob(client, repo):
    data = orlop.random_bytes(5_000_000)
    url = f"/v2/{repo}/blobs/{client.push_blob(repo, data)}"
    ranges = [(0, 0), (1_000_000, 1_999_999), (4_999_990, 4_999_999), (2_000_000, 2_500_000)]
    answer = client.get(url, {"Range": "bytes=" + ",".join(f"{a}-{b}" for a, b in ranges)})
    assert [part for _, part in parts_of(answer)] == [data[a : b + 1] for a, b in ranges]


def test_BG_7_if_range(client, blob):
    url, data = blob
    etag = f'"{orlop.sha256(data)}"'
    assert client.get(url, {"Range": "bytes=1-2", "If-Range": etag}).status == 206
    for other in ('"other"', "W/" + etag, "Mon, 01 Jan 2001 00:00:00 GMT", "nonsense"):
        answer = client.get(url, {"Range": "bytes=1-2", "If-Range": other})
        assert (answer.status, answer.body) == (200, data)


# ---- conditional requests ----


def test_COND_etag_and_if_none_match(client, repo, image):
    layer = orlop.sha256(image.layers[0])
    for target, name in (
        (f"/v2/{repo}/manifests/latest", image.digest),
        (f"/v2/{repo}/manifests/{image.digest}", image.digest),
        (f"/v2/{repo}/blobs/{layer}", layer),
    ):
        etag = f'"{name}"'
        assert client.get(target)["ETag"] == etag
        for method in ("GET", "HEAD"):
            for value in (etag, "W/" + etag, f'"x", {etag}', f'{etag},"y"', "*"):
                answer = client.request(method, target, headers={"If-None-Match": value})
                assert answer.status == 304, (value, answer)
                assert answer["ETag"] == etag
                assert answer.body == b""
            for value in ('"x"', name + "x", '"' + name[:-1] + '"', "", ","):
                answer = client.request(method, target, headers={"If-None-Match": value})
                assert answer.status == 200, (value, answer)


def test_COND_if_none_match_follows_the_tag(client, repo, image):
    old = f'"{image.digest}"'
    assert client.get(f"/v2/{repo}/manifests/latest", {"If-None-Match": old}).status == 304
    moved = client.push_image(repo, "latest")
    answer = client.get(f"/v2/{repo}/manifests/latest", {"If-None-Match": old})
    assert (answer.status, answer.body) == (200, moved.manifest)


def test_COND_if_match_on_get(client, repo, image):
    target = f"/v2/{repo}/manifests/latest"
    assert client.get(target, {"If-Match": f'"{image.digest}"'}).status == 200
    assert client.get(target, {"If-Match": '"x"'}).status in (200, 412)


def put_tag(client, repo, tag, body, **headers):
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.put(f"/v2/{repo}/manifests/{tag}", body, {"Content-Type": orlop.OCI_MANIFEST, **fields})


def test_COND_if_match_on_tag_put(client, repo, image):
    other = client.push_image(repo)
    assert put_tag(client, repo, "latest", other.manifest, If_Match='"sha256:' + "1" * 64 + '"').status == 412
    assert put_tag(client, repo, "latest", other.manifest, If_Match='"x"').status == 412
    assert put_tag(client, repo, "latest", other.manifest, If_Match=f'W/"{image.digest}"').status == 412
    assert client.get(f"/v2/{repo}/manifests/latest").body == image.manifest
    assert put_tag(client, repo, "latest", other.manifest, If_Match=f'"{image.digest}"').status == 201
    assert client.get(f"/v2/{repo}/manifests/latest").body == other.manifest
    assert put_tag(client, repo, "latest", image.manifest, If_Match="*").status == 201
    assert client.get(f"/v2/{repo}/manifests/latest").body == image.manifest
    for value in ("*", f'"{image.digest}"'):
        answer = put_tag(client, repo, "absent", image.manifest, If_Match=value)
        assert answer.status == 412 and answer.json()["errors"]
    assert client.get(f"/v2/{repo}/manifests/absent").status == 404


def test_COND_if_none_match_on_tag_put(client, repo, image):
    other = client.push_image(repo)
    assert put_tag(client, repo, "latest", other.manifest, If_None_Match="*").status == 412
    assert client.get(f"/v2/{repo}/manifests/latest").body == image.manifest
    assert put_tag(client, repo, "latest", other.manifest, If_None_Match=f'"{image.digest}"').status == 412
    assert put_tag(client, repo, "new", other.manifest, If_None_Match="*").status == 201
    assert put_tag(client, repo, "new", other.manifest, If_None_Match="*").status == 412
    assert client.get(f"/v2/{repo}/manifests/new").body == other.manifest


def test_COND_if_match_on_tag_delete(client, repo, image):
    target = f"/v2/{repo}/manifests/latest"

    def delete(headers):
        return client.request("DELETE", target, headers=headers).status

    assert delete({"If-Match": '"sha256:' + "1" * 64 + '"'}) == 412
    assert delete({"If-None-Match": "*"}) == 412
    assert client.get(target).status == 200
    assert delete({"If-Match": f'"{image.digest}"'}) == 202
    assert client.get(target).status == 404
    assert delete({"If-Match": f'"{image.digest}"'}) in (404, 412)


def test_COND_one_of_many_racing_tag_puts_wins(server, client, repo, image):
    """Compare-and-swap: of many writers that saw the same value, exactly one may move the tag."""
    import concurrent.futures

    bodies = []
    for i in range(12):
        body = image.manifest[:-1] + b',"annotations":{"n":"%d"}}' % i
        client.push_manifest(repo, orlop.sha256(body), body)
        bodies.append(body)

    def put(body):
        with server.client() as own:
            return put_tag(own, repo, "latest", body, If_Match=f'"{image.digest}"').status

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        statuses = list(pool.map(put, bodies))
    assert sorted(statuses) == [201] + [412] * 11
    assert client.get(f"/v2/{repo}/manifests/latest").body == bodies[statuses.index(201)]

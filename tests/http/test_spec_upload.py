"""Uploads: starting, mounting, chunks, finishing, status, cancelling (checklist 8, 9, 10)."""

import re
import threading
import uuid

import orlop
import pytest
from orlop import sha256, sha512, with_query

ABSENT = "sha256:" + "0" * 64


def start(client, repo, query=""):
    answer = client.post(f"/v2/{repo}/blobs/uploads/{query}")
    assert answer.status == 202, answer
    return answer


def put(client, location, data, digest=None, **kw):
    return client.put(with_query(location, digest=digest or sha256(data)), data, **kw)


def assert_blob(client, repo, data, algorithm="sha256"):
    answer = client.get(f"/v2/{repo}/blobs/{orlop.digest(data, algorithm)}")
    assert (answer.status, answer.body) == (200, data)


# ---- starting ----


def test_UP_1_2_12_post(client, repo):
    locations = {start(client, repo)["Location"] for _ in range(5)}
    assert len(locations) == 5
    for location in locations:
        session = location.rsplit("/", 1)[1]
        assert str(uuid.UUID(session)) == session


def test_UP_1_without_last_slash(client, repo):
    assert client.post(f"/v2/{repo}/blobs/uploads").status == 202


def test_UP_3_no_minimum_chunk_on_the_local_store(client, repo):
    assert "OCI-Chunk-Min-Length" not in start(client, repo)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_UP_4_single_post(client, repo, algorithm, size):
    data = orlop.random_bytes(size)
    name = orlop.digest(data, algorithm)
    answer = client.post(f"/v2/{repo}/blobs/uploads/?digest={name}", data)
    assert answer.status == 201
    assert answer["Location"] == f"/v2/{repo}/blobs/{name}"
    assert_blob(client, repo, data, algorithm)


@pytest.mark.parametrize(
    "digest", ["sha256:baddigest", "md5:" + "0" * 32, "nonsense", "", ABSENT, "sha256:" + "A" * 64]
)
def test_UP_5_6_single_post_with_bad_digest(client, repo, digest):
    answer = client.post(f"/v2/{repo}/blobs/uploads/?digest={digest}", b"some bytes")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID"), answer
    assert client.head(f"/v2/{repo}/blobs/{sha256(b'some bytes')}").status == 404


def test_UP_7_digest_algorithm(client, repo):
    for algorithm in ("sha256", "sha512"):
        data = orlop.random_bytes(5000)
        location = start(client, repo, f"?digest-algorithm={algorithm}")["Location"]
        assert client.patch(location, data[:100]).status == 202
        assert put(client, location, data[100:], orlop.digest(data, algorithm)).status == 201
        assert_blob(client, repo, data, algorithm)


@pytest.mark.parametrize("algorithm", ["md5", "blake3", "", "SHA256", "sha256:"])
def test_UP_7_unsupported_algorithm(client, repo, algorithm):
    answer = client.post(f"/v2/{repo}/blobs/uploads/?digest-algorithm={algorithm}")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID"), answer


@pytest.mark.parametrize("announced, used", [(None, "sha512"), ("sha512", "sha256"), ("sha256", "sha512")])
@pytest.mark.parametrize("chunks", [0, 1, 3])
def test_UP_7_22_1_unannounced_algorithm_works(client, repo, announced, used, chunks):
    data = orlop.random_bytes(150_000)
    location = start(client, repo, f"?digest-algorithm={announced}" if announced else "")["Location"]
    for i in range(chunks):
        assert client.patch(location, data[i * 40_000 : (i + 1) * 40_000]).status == 202
    answer = put(client, location, data[chunks * 40_000 :], orlop.digest(data, used))
    assert answer.status == 201, answer
    assert_blob(client, repo, data, used)


def mount(client, repo, digest, source=None):
    query = f"?mount={digest}" + (f"&from={source}" if source else "")
    return client.post(f"/v2/{repo}/blobs/uploads/{query}")


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_UP_8_11_mount(client, repo, algorithm):
    data = orlop.random_bytes(1000)
    name = client.push_blob(repo, data, algorithm)
    target = orlop.new_repo()
    answer = mount(client, target, name, repo)
    assert answer.status == 201
    assert answer["Location"] == f"/v2/{target}/blobs/{name}"
    assert answer["Docker-Content-Digest"] == name
    assert_blob(client, target, data, algorithm)
    assert mount(client, target, name, repo).status == 201


def test_UP_8_mount_with_escaped_query(client, repo):
    name = client.push_blob(repo, orlop.random_bytes(1000))
    query = f"?from={repo.replace('/', '%2F')}&mount={name.replace(':', '%3A')}"
    assert client.post(f"/v2/{orlop.new_repo()}/blobs/uploads/{query}").status == 201


def test_UP_9_11_mount_impossible_opens_a_session(client, repo):
    name = client.push_blob(repo, orlop.random_bytes(1000))
    other = orlop.new_repo()
    client.push_blob(other, b"other")
    for digest, source in (
        (ABSENT, repo),
        (name, "no/such/repository"),
        (name, other),
        (ABSENT, None),
        (name, "NOT/A/NAME"),
        ("sha512:" + "0" * 128, repo),
    ):
        data = orlop.random_bytes(100)
        target = orlop.new_repo()
        answer = mount(client, target, digest, source)
        assert answer.status == 202, (digest, source, answer)
        assert answer["Location"].startswith(f"/v2/{target}/blobs/uploads/")
        assert put(client, answer["Location"], data).status == 201
        assert_blob(client, target, data)


def test_UP_9_cancel_after_failed_mount(client, repo):
    location = mount(client, repo, ABSENT, "no/such")["Location"]
    assert client.delete(location).status == 204


def test_UP_10_anonymous_mount(client, repo):
    data = orlop.random_bytes(1000)
    name = client.push_blob(repo, data)
    target = orlop.new_repo()
    answer = mount(client, target, name)
    assert answer.status == 201 and answer["Docker-Content-Digest"] == name
    assert_blob(client, target, data)


def test_UP_10_anonymous_mount_of_a_deleted_blob(client, repo):
    name = client.push_blob(repo, orlop.random_bytes(1000))
    assert client.delete(f"/v2/{repo}/blobs/{name}").status == 202
    assert mount(client, orlop.new_repo(), name).status == 202


def test_UP_13_mounted_blobs_are_independent(client, repo):
    data = orlop.random_bytes(1000)
    name = client.push_blob(repo, data)
    target = orlop.new_repo()
    assert mount(client, target, name, repo).status == 201
    assert client.delete(f"/v2/{repo}/blobs/{name}").status == 202
    assert client.head(f"/v2/{repo}/blobs/{name}").status == 404
    assert_blob(client, target, data)
    assert client.delete(f"/v2/{target}/blobs/{name}").status == 202
    assert client.head(f"/v2/{target}/blobs/{name}").status == 404


# ---- chunks ----


def test_PA_1_2_chunks(client, repo):
    data = orlop.random_bytes(10_000)
    location = start(client, repo)["Location"]
    at = 0
    for size in (1, 999, 5000, 4000):
        part = data[at : at + size]
        answer = client.patch(location, part, {"Content-Range": f"{at}-{at + size - 1}"})
        at += size
        assert answer.status == 202, answer
        assert answer["Range"] == f"0-{at - 1}"
        location = answer["Location"]
    assert put(client, location, b"", sha256(data)).status == 201
    assert_blob(client, repo, data)


def test_PA_1_empty_patch_says_0_0(client, repo):
    """Docker's parser dies on 0--1."""
    answer = client.patch(start(client, repo)["Location"], b"")
    assert (answer.status, answer["Range"]) == (202, "0-0")


def test_PA_3_out_of_order(client, repo):
    data = orlop.random_bytes(1000)
    location = start(client, repo)["Location"]

    def refused(text, body):
        answer = client.patch(location, body, {"Content-Range": text})
        assert (answer.status, answer.code) == (416, "BLOB_UPLOAD_INVALID"), answer
        # §22-5: the answer is enough to go on with
        assert answer["Location"].startswith(f"/v2/{repo}/blobs/uploads/")
        assert re.fullmatch(r"0--?\d+", answer["Range"])
        return answer

    refused("1-10", data[1:11])
    assert client.patch(location, data[:500], {"Content-Range": "0-499"}).status == 202
    for text, body in (("0-499", data[:500]), ("501-600", data[501:601]), ("499-600", data[499:601])):
        assert refused(text, body)["Range"] == "0-499"
        assert client.get(location)["Range"] == "0-499"
    assert client.patch(location, data[500:], {"Content-Range": "500-999"}).status == 202
    assert put(client, location, b"", sha256(data)).status == 201
    assert_blob(client, repo, data)


@pytest.mark.parametrize("chunked", [False, True])
def test_PA_4_streamed(client, repo, chunked):
    data = orlop.random_bytes(300_000)
    location = start(client, repo)["Location"]
    for at in (0, 100_000, 200_000):
        answer = client.patch(location, data[at : at + 100_000], chunked=chunked)
        assert (answer.status, answer["Range"]) == (202, f"0-{at + 99_999}")
    assert put(client, location, b"", sha256(data)).status == 201
    assert_blob(client, repo, data)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("said", [50, 200])
def test_PA_5_length_differs_from_range(client, repo, chunked, said):
    data = orlop.random_bytes(400)
    location = start(client, repo)["Location"]
    assert client.patch(location, data[:300]).status == 202
    answer = client.patch(location, data[300:], {"Content-Range": f"300-{300 + said - 1}"}, chunked=chunked)
    assert (answer.status, answer.code) == (400, "SIZE_INVALID"), answer
    assert client.get(location)["Range"] == "0-299"
    assert client.patch(location, data[300:], {"Content-Range": "300-399"}).status == 202
    assert put(client, location, b"", sha256(data)).status == 201


def test_PA_6_short_chunks(client, repo):
    data = orlop.random_bytes(200)
    location = start(client, repo)["Location"]
    for i in range(200):
        assert client.patch(location, data[i : i + 1], {"Content-Range": f"{i}-{i}"}).status == 202
    assert put(client, location, b"", sha256(data)).status == 201


def test_PA_7_unknown_finished_cancelled(client, repo):
    data = orlop.random_bytes(10)
    finished = start(client, repo)["Location"]
    assert put(client, finished, data).status == 201
    cancelled = start(client, repo)["Location"]
    assert client.delete(cancelled).status == 204
    foreign = start(client, orlop.new_repo())["Location"].rsplit("/", 1)[1]
    base = f"/v2/{repo}/blobs/uploads/"
    for location in (finished, cancelled, base + str(uuid.uuid4()), base + foreign, base + "not-a-uuid"):
        for answer in (
            client.patch(location, b"x"),
            client.get(location),
            put(client, location, b"x"),
            client.delete(location),
        ):
            assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN"), (location, answer)


def test_PA_8_stale_location(client, repo):
    data = orlop.random_bytes(300)
    first = start(client, repo)["Location"]
    second = client.patch(first, data[:100], {"Content-Range": "0-99"})["Location"]
    third = client.patch(second, data[100:200], {"Content-Range": "100-199"})["Location"]
    for stale in (first, second):
        assert client.patch(stale, data[:100], {"Content-Range": "0-99"}).status == 416
        assert client.get(stale)["Range"] == "0-199"
    assert client.patch(first, data[200:], {"Content-Range": "200-299"}).status == 202
    assert put(client, third, b"", sha256(data)).status == 201


def test_PA_one_appender_at_a_time(server, client, repo):
    """A second PATCH while one is running is refused; the first goes on unharmed."""
    location = start(client, repo)["Location"]
    begun, go_on = threading.Event(), threading.Event()
    result = []

    def slow_body():
        yield b"a" * 70_000
        begun.set()
        go_on.wait(30)
        yield b"b" * 30_000

    def run():
        with server.client() as own:
            result.append(own.patch(location, slow_body(), length=100_000))

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(30)
    try:
        answer = orlop.wait_until(lambda: (a := client.patch(location, b"x")).status == 416 and a)
        assert answer.code == "BLOB_UPLOAD_INVALID"
    finally:
        go_on.set()
        thread.join()
    assert result[0].status == 202 and result[0]["Range"] == "0-99999"
    assert put(client, location, b"", sha256(b"a" * 70_000 + b"b" * 30_000)).status == 201


# ---- finishing ----


def test_PUT_1_2_6_8_bodies(client, repo):
    for chunked in (False, True):
        for before in (0, 500, 1000):
            data = orlop.random_bytes(1000)
            location = start(client, repo)["Location"]
            if before:
                assert client.patch(location, data[:before]).status == 202
            answer = put(client, location, data[before:], sha256(data), chunked=chunked)
            assert answer.status == 201, answer
            assert answer["Docker-Content-Digest"] == sha256(data)
            assert client.head(f"/v2/{repo}/blobs/{sha256(data)}").status == 200
            assert client.get(answer["Location"]).body == data


def test_PUT_2_without_length_or_body(server, client, repo):
    """PUT without Content-Length and Transfer-Encoding has no body."""
    from rawhttp import Connection

    data = orlop.random_bytes(10)
    location = start(client, repo)["Location"]
    assert client.patch(location, data).status == 202
    with Connection(server.address) as connection:
        connection.send(f"PUT {location}?digest={sha256(data)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert connection.response().status == 201


def test_PUT_2_last_chunk_with_content_range(client, repo):
    data = orlop.random_bytes(1000)
    location = start(client, repo)["Location"]
    assert client.patch(location, data[:600], {"Content-Range": "0-599"}).status == 202
    answer = put(client, location, data[600:], sha256(data), headers={"Content-Range": "600-999"})
    assert answer.status == 201
    assert_blob(client, repo, data)


def test_PUT_2_content_types(client, repo):
    for kind in (None, "application/octet-stream", "application/json", "nonsense"):
        data = orlop.random_bytes(50)
        location = start(client, repo)["Location"]
        assert put(client, location, data, headers={"Content-Type": kind} if kind else {}).status == 201


def test_PUT_3_out_of_order_then_status_on_the_same_url(client, repo):
    data = orlop.random_bytes(1000)
    location = start(client, repo)["Location"]
    assert client.patch(location, data[:500], {"Content-Range": "0-499"}).status == 202
    for digest in (sha256(data), ABSENT):
        url = with_query(location, digest=digest)
        answer = client.put(url, data[600:], {"Content-Range": "600-999"})
        assert (answer.status, answer.code) == (416, "BLOB_UPLOAD_INVALID"), answer
        assert answer["Range"] == "0-499"
        status = client.get(url)
        assert (status.status, status["Range"]) == (204, "0-499")
    url = with_query(location, digest=sha256(data))
    assert client.put(url, data[500:], {"Content-Range": "500-999"}).status == 201


@pytest.mark.parametrize(
    "digest", ["sha256:bad", "md5:" + "0" * 32, "nonsense", ABSENT, "sha512:" + "0" * 128, "sha256:" + "G" * 64]
)
@pytest.mark.parametrize("way", ["put", "chunked", "streamed"])
def test_PUT_4_22_6_bad_digest(client, repo, digest, way):
    data = orlop.random_bytes(1000)
    location = start(client, repo)["Location"]
    if way == "put":
        answer = put(client, location, data, digest)
    else:
        headers = {"Content-Range": "0-999"} if way == "chunked" else {}
        assert client.patch(location, data, headers, chunked=way == "streamed").status == 202
        answer = put(client, location, b"", digest)
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID"), answer
    assert client.head(f"/v2/{repo}/blobs/{sha256(data)}").status == 404
    if digest == ABSENT:
        assert client.get(location).status == 404, "a mismatch drops the session"


def test_PUT_5_missing_digest_keeps_the_session(client, repo):
    data = orlop.random_bytes(1000)
    location = start(client, repo)["Location"]
    assert client.patch(location, data[:500]).status == 202
    answer = client.put(location, data[500:])
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID"), answer
    assert client.get(location)["Range"] == "0-499"
    assert put(client, location, data[500:], sha256(data)).status == 201


def test_PUT_5_digest_of_the_last_chunk_only(client, repo):
    data = orlop.random_bytes(1000)
    location = start(client, repo)["Location"]
    assert client.patch(location, data[:500]).status == 202
    assert put(client, location, data[500:], sha256(data[500:])).status == 400


def test_PUT_7_two_sessions_same_blob(client, repo):
    data = orlop.random_bytes(1000)
    one, two = start(client, repo)["Location"], start(client, repo)["Location"]
    assert client.patch(one, data).status == 202
    assert client.patch(two, data).status == 202
    assert put(client, one, b"", sha256(data)).status == 201
    assert put(client, two, b"", sha256(data)).status == 201
    assert_blob(client, repo, data)


def test_PUT_7_many_at_once(server, repo):
    import concurrent.futures

    data = orlop.random_bytes(200_000)

    def push(i):
        with server.client() as own:
            return put(own, start(own, repo if i % 2 else repo + "-2")["Location"], data).status

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert set(pool.map(push, range(32))) == {201}


def test_PUT_repeated_after_201_is_unknown(client, repo):
    data = orlop.random_bytes(1000)
    location = start(client, repo)["Location"]
    assert put(client, location, data).status == 201
    assert put(client, location, data).status == 404


# ---- status and cancel ----


def test_ST_1_status(client, repo):
    location = start(client, repo)["Location"]
    for size in (100, 101, 5000):
        client.patch(location, b"x" * (size if size == 100 else 1 if size == 101 else 4899))
        for url in (location, location + "?unknown=1"):
            answer = client.get(url)
            assert (answer.status, answer["Range"]) == (204, f"0-{size - 1}")
            assert answer["Location"].startswith(f"/v2/{repo}/blobs/uploads/")
            assert answer["Docker-Upload-UUID"] == location.rsplit("/", 1)[1]


def test_ST_2_empty_session(client, repo):
    answer = client.get(start(client, repo)["Location"])
    assert answer.status == 204
    assert answer["Range"] in ("0-0", "0--1")


def test_CA_1_cancel(client, repo):
    location = start(client, repo)["Location"]
    client.patch(location, b"x" * 1000)
    assert client.delete(location).status == 204
    assert client.get(location).status == 404
    answer = client.delete(location)
    assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")


def test_CA_1_cancel_while_appending(server, client, repo):
    location = start(client, repo)["Location"]
    begun, go_on = threading.Event(), threading.Event()
    result = []

    def slow_body():
        yield b"a" * 70_000
        begun.set()
        go_on.wait(30)
        yield b"b" * 500_000

    def run():
        with server.client() as own:
            result.append(own.patch(location, slow_body(), length=570_000).status)

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(30)
    try:
        assert client.delete(location).status == 204
    finally:
        go_on.set()
        thread.join()
    assert result == [404]
    assert client.get(location).status == 404


def test_stray_session_ids(client, repo):
    location = start(client, repo)["Location"]
    base, session = location.rsplit("/", 1)
    assert client.get(f"{base}/{session.upper()}").status in (204, 404)
    for name in (session[:-1], session + "0", session.replace("-", ""), "..", "a", "%2e%2e"):
        assert client.get(f"{base}/{name}").status in (400, 404), name


def test_SHA512_blob_and_its_sha256_name_are_two(client, repo):
    data = orlop.random_bytes(100)
    client.push_blob(repo, data, "sha512")
    assert client.head(f"/v2/{repo}/blobs/{sha512(data)}").status == 200
    assert client.head(f"/v2/{repo}/blobs/{sha256(data)}").status == 404

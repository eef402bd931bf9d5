"""
What each operation costs in requests to S3, and in bytes beyond the client's own: counted at the wire, on warm
connections, without faults. The limits are those of ARCHITECTURE.md. What was counted is printed as a table at the end
(`make budgets`).
"""

import concurrent.futures
import hashlib
import json
import math
import time

import orlop
import pytest
from orlop import OCI_MANIFEST, descriptor, sha256, with_query

MIB = 1 << 20
LARGE_BYTES = (1024 if orlop.full_run() else 256) * MIB
PART_BYTES_FIRST = 8 * MIB
SMALL_CHUNK_BYTES = 64 * 1024
SMALL_CHUNKS = 1000
TAGS, PUSHERS = 1050, 4
REFERRERS = 10_000 if orlop.full_run() else 1000
LATENCY_S = 0.4
MANY_LAYERS = 127  # as many as clients make
SMALL_RECORD_BYTES = 4096  # a ref, a pointer or the empty checkpoint of a new session beside a blob's bytes

table = []


def note(operation, count, allowed, written="", read="", round_trips=""):
    """A line of the table, then the assertion on requests."""
    table.append((operation, len(count), allowed, round_trips, written, read))
    assert len(count) <= allowed, f"{operation}: at most {allowed} requests, but {count.details()}"
    assert count.copied == 0, count.details()


@pytest.fixture(scope="module", autouse=True)
def printed_table():
    yield
    head = ("operation", "requests", "budget", "trips", "written", "read")
    lines = [f"{name:<60} {got:>8} {most:>7} {trips:>6} {up:>9} {down:>9}" for name, got, most, trips, up, down in (head, *table)]
    print("\n" + "\n".join(lines))


@pytest.fixture
def node(store, new_proxy):
    """A function that starts a node on the test's store behind a proxy of its own: (server, proxy)."""
    started = []

    def start(*args):
        proxy = new_proxy()
        arguments = ["--s3-endpoint", proxy.url, "--s3-redirect", "always", *args]
        server = orlop.Server(store, arguments, program=orlop.release_binary())
        started.append(server)
        return server.start(), proxy

    yield start
    for server in started:
        if server.process:
            server.stop()
        server.discard()


@pytest.fixture
def warm(node, repo):
    """A node that has served a push and a manifest: (client, proxy, repository)."""
    server, proxy = node()
    with server.client() as client:
        client.push_image(repo, "warm")
        assert client.get(f"/v2/{repo}/manifests/warm").status == 200
        yield client, proxy, repo


def ratio(count, size_bytes):
    return f"{count.written / size_bytes:.3f} x"


def assert_written(count, size_bytes, most):
    written = count.written - SMALL_RECORD_BYTES
    assert written <= most * size_bytes, f"wrote {written / size_bytes:.3f} x\n{count.details()}"


def generated(size_bytes, seed=b"orlop"):
    """Bytes that are made as they are sent, a MiB at a time."""
    block = hashlib.shake_256(seed).digest(MIB)
    for number in range(size_bytes // MIB):
        yield number.to_bytes(8, "big") + block[8:]


def generated_digest(size_bytes):
    state = hashlib.sha256()
    for piece in generated(size_bytes):
        state.update(piece)
    return "sha256:" + state.hexdigest()


def test_open_session(warm):
    client, proxy, repo = warm
    with proxy.measure() as count:
        client.start_upload(repo)
    note("POST, open a session", count, 1, read="0")
    assert count.read == 0, count.details()


@pytest.mark.parametrize("size_bytes", [1, 100_000, 5 * MIB], ids=["1 byte", "100 kB", "5 MiB"])
def test_small_blob(warm, size_bytes):
    client, proxy, repo = warm
    data = orlop.random_bytes(size_bytes)
    location = client.start_upload(repo)
    with proxy.measure() as count:
        answer = client.put(with_query(location, digest=sha256(data)), data)
    assert answer.status == 201, answer
    note(f"blob of {size_bytes} bytes in one PUT (and its POST's 1)", count, 3, ratio(count, size_bytes), count.read)
    assert_written(count, size_bytes, 1.0)
    assert count.read == 0, count.details()


def test_blob_in_one_post(warm):
    client, proxy, repo = warm
    data = orlop.random_bytes(100_000)
    with proxy.measure() as count:
        answer = client.post(f"/v2/{repo}/blobs/uploads/?digest={sha256(data)}", data)
    assert answer.status == 201, answer
    note("blob of 100000 bytes in one POST", count, 3 + 1, ratio(count, len(data)), count.read)
    assert_written(count, len(data), 1.0)


@pytest.mark.deadline(180)
def test_large_blob(warm):
    client, proxy, repo = warm
    name = generated_digest(LARGE_BYTES)
    location = client.start_upload(repo)
    with proxy.measure() as count:
        answer = client.patch(location, generated(LARGE_BYTES), length=LARGE_BYTES)
        assert answer.status == 202, answer
        with proxy.measure() as commit:
            answer = client.put(with_query(answer["Location"], digest=name))
            assert answer.status == 201, answer
    parts = math.ceil(LARGE_BYTES / PART_BYTES_FIRST)
    size = f"{LARGE_BYTES // MIB} MiB"
    allowed = int(1.15 * parts + 8)
    note(f"PATCH of {size}, then commit (p = {parts})", count, allowed, ratio(count, LARGE_BYTES), count.read)
    note(f"commit alone of {size}", commit, 6, "0", commit.read)
    assert_written(count, LARGE_BYTES, 1.01)
    assert count.read == commit.read == 0, count.details()
    assert commit.written <= SMALL_RECORD_BYTES, commit.details()


@pytest.mark.parametrize("size_bytes", [MIB, 6 * MIB, 20 * MIB], ids=lambda size: f"{size // MIB} MiB")
def test_commit(warm, size_bytes):
    """Alone: what is not a part yet is its only data."""
    client, proxy, repo = warm
    data = orlop.random_bytes(size_bytes)
    answer = client.patch(client.start_upload(repo), data)
    assert answer.status == 202, answer
    with proxy.measure() as count:
        answer = client.put(with_query(answer["Location"], digest=sha256(data)))
    assert answer.status == 201, answer
    note(f"commit alone of {size_bytes // MIB} MiB", count, 6, ratio(count, size_bytes), count.read)
    assert count.read == 0, count.details()


def patch_all(client, location, data):
    """64 KiB at a time; the last answer's location."""
    for at in range(0, len(data), SMALL_CHUNK_BYTES):
        piece = data[at : at + SMALL_CHUNK_BYTES]
        answer = client.patch(location, piece, {"Content-Range": f"{at}-{at + len(piece) - 1}"})
        assert answer.status == 202, answer
        location = answer["Location"]
    return location


@pytest.mark.deadline(180)
def test_small_chunks(warm):
    client, proxy, repo = warm
    data = orlop.random_bytes(SMALL_CHUNKS * SMALL_CHUNK_BYTES)
    location = client.start_upload(repo)
    with proxy.measure() as count:
        location = patch_all(client, location, data)
        answer = client.put(with_query(location, digest=sha256(data)))
        assert answer.status == 201, answer
    note("1000 PATCHes of 64 KiB, then commit", count, 1060, ratio(count, len(data)), count.read)
    assert_written(count, len(data), 2.05)
    assert count.read == 0, count.details()


@pytest.mark.deadline(180)
def test_small_chunks_on_two_nodes(node, repo):
    """Half of them on one node, the other half and the commit on another."""
    (first, first_proxy), (second, second_proxy) = node(), node()
    data = orlop.random_bytes(200 * SMALL_CHUNK_BYTES)
    half = len(data) // 2
    with first.client() as client, second.client() as other:
        location = client.start_upload(repo)
        with first_proxy.measure() as before, second_proxy.measure() as after:
            location = patch_all(client, location, data[:half])
            for at in range(half, len(data), SMALL_CHUNK_BYTES):
                piece = data[at : at + SMALL_CHUNK_BYTES]
                answer = other.patch(location, piece, {"Content-Range": f"{at}-{at + len(piece) - 1}"})
                assert answer.status == 202, answer
            answer = other.put(with_query(answer["Location"], digest=sha256(data)))
            assert answer.status == 201, answer
    before.requests += after.requests
    assert_written(before, len(data), 2.05)
    assert before.read <= 1.0 * len(data), before.details()


@pytest.mark.parametrize("chunks", [1, 5, 40])
def test_resume_on_another_node(node, repo, chunks):
    """Three requests, one for each tail object, and one that stores the chunk which comes."""
    (first, _), (second, proxy) = node(), node()
    data = orlop.random_bytes((chunks + 1) * SMALL_CHUNK_BYTES)
    end = chunks * SMALL_CHUNK_BYTES
    with first.client() as client, second.client() as other:
        other.push_image(orlop.new_repo(), "warm")
        location = patch_all(client, client.start_upload(repo), data[:end])
        with proxy.measure() as count:
            answer = other.patch(location, data[end:], {"Content-Range": f"{end}-{len(data) - 1}"})
        assert answer.status == 202, answer
        operation = f"resume on another node, {chunks} tail objects (and the PATCH's 1)"
        note(operation, count, 3 + chunks + 1, "", count.read)
        # Each tail object begins with its head; the newest may be read once for that and once for its bytes.
        assert count.read <= end + SMALL_CHUNK_BYTES + (chunks + 2) * SMALL_RECORD_BYTES, count.details()
        answer = other.put(with_query(answer["Location"], digest=sha256(data)))
        assert answer.status == 201, answer


@pytest.mark.deadline(120)
def test_resume_of_parts(node, repo):
    """Only what is not in parts yet is read."""
    (first, _), (second, proxy) = node(), node()
    data = orlop.random_bytes(40 * MIB + 1000)
    end = len(data) - 500
    with first.client() as client, second.client() as other:
        other.push_image(orlop.new_repo(), "warm")
        answer = client.patch(client.start_upload(repo), data[: 40 * MIB])
        answer = client.patch(answer["Location"], data[40 * MIB : end], {"Content-Range": f"{40 * MIB}-{end - 1}"})
        assert answer.status == 202, answer
        with proxy.measure() as count:
            answer = other.get(answer["Location"])
        assert (answer.status, answer["Range"]) == (204, f"0-{end - 1}")
        note("status on another node, 40 MiB in parts, 500 bytes of tail", count, 3 + 1, "", count.read)
        assert count.read <= 3 * SMALL_RECORD_BYTES, count.details()
        with proxy.measure() as count:
            answer = other.put(with_query(answer["Location"], digest=sha256(data)), data[end:])
        assert answer.status == 201, answer
        note("resume on another node and commit, 40 MiB in parts", count, 3 + 1 + 6, "", count.read)
        assert count.read <= 3 * SMALL_RECORD_BYTES, count.details()


def cold_and_warm(note_name, proxy, ask, cold, warm):
    with proxy.measure() as first:
        ask()
    with proxy.measure() as second:
        ask()
    note(f"{note_name}, cold", first, cold, "", first.read)
    note(f"{note_name}, warm", second, warm, "", second.read)
    return first, second


@pytest.fixture
def pushed(node, repo):
    """An image on one node; of another, which has not seen it: (client, proxy, repository, image)."""
    (first, _), (second, proxy) = node(), node()
    with first.client() as client, second.client() as other:
        image = client.push_image(repo, "a", layers=2)
        other.push_image(orlop.new_repo(), "warm")
        yield other, proxy, repo, image


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_blob(pushed, method):
    client, proxy, repo, image = pushed
    name = sha256(image.layers[0])

    def ask():
        answer = client.request(method, f"/v2/{repo}/blobs/{name}")
        assert answer.status == (200 if method == "HEAD" else 307), answer

    first, second = cold_and_warm(f"{method} blob" + (" with redirect" if method == "GET" else ""), proxy, ask, 1, 0)
    assert first.read == second.read == 0


def test_large_blob_redirect(node, repo):
    """One in parts is no dearer."""
    (first, _), (second, proxy) = node(), node()
    data = orlop.random_bytes(20 * MIB)
    with first.client() as client, second.client() as other:
        client.push_blob(repo, data)
        other.push_image(orlop.new_repo(), "warm")

        def ask():
            assert other.get(f"/v2/{repo}/blobs/{sha256(data)}").status == 307

        cold_and_warm("GET blob of 20 MiB with redirect", proxy, ask, 1, 0)


def test_manifest_by_digest(pushed):
    client, proxy, repo, image = pushed

    def ask():
        answer = client.get(f"/v2/{repo}/manifests/{image.digest}")
        assert (answer.status, answer.body) == (200, image.manifest)

    cold_and_warm("manifest GET by digest", proxy, ask, 1, 0)


def test_manifest_by_tag(pushed):
    client, proxy, repo, image = pushed

    def ask():
        answer = client.get(f"/v2/{repo}/manifests/a")
        assert (answer.status, answer.body) == (200, image.manifest)

    cold_and_warm("manifest GET by tag", proxy, ask, 2, 1)


def varied(document, **fields):
    """The manifest with more fields."""
    return orlop.encode({**json.loads(document), **fields})


@pytest.mark.deadline(120)
@pytest.mark.parametrize("layers", [1, 10, 50, MANY_LAYERS])
def test_manifest_put_round_trips(node, repo, layers):
    """Requests, and how often a push waits for them: on the node that took the blobs, and on one that knows nothing."""
    (first, first_proxy), (second, second_proxy) = node(), node()
    with first.client() as client, second.client() as other:
        other.push_image(orlop.new_repo(), "warm")
        image = client.push_image(repo, layers=layers, layer_bytes=10)
        subject = descriptor(image.manifest, OCI_MANIFEST)
        referrer = varied(image.manifest, subject=subject)
        for what, name, proxy, registry, document, trips in (
            ("on the node that took them", "one", first_proxy, client, image.manifest, 2),
            ("on another node", "two", second_proxy, other, varied(image.manifest, annotations={"n": "2"}), 4),
            # Its references are known by now; one trip more for the descriptor, after the manifest, before the tag.
            ("with subject", "three", second_proxy, other, referrer, 3),
        ):
            proxy.latency_s = LATENCY_S
            with proxy.measure() as count:
                registry.push_manifest(repo, name, document)
            proxy.latency_s = 0.0
            got = count.round_trips
            note(f"manifest PUT by tag, {layers} layers, {what}", count, layers + 5, round_trips=got)
            assert got <= trips, f"at most {trips} round trips, but {got}:\n{count.details()}"


@pytest.mark.deadline(120)
def test_manifest_put_with_everything(node, repo):
    """Subject, several tags and a condition, on a node that knows nothing: each costs its own requests and no others."""
    (first, _), (second, proxy) = node(), node()
    with first.client() as client, second.client() as other:
        other.push_image(orlop.new_repo(), "warm")
        image = client.push_image(repo, "first", layers=10, layer_bytes=10)
        tags = [f"t{number}" for number in range(10)]
        document = varied(image.manifest, subject=descriptor(image.manifest, OCI_MANIFEST))
        query = "?" + "&".join(f"tag={tag}" for tag in tags)
        proxy.latency_s = LATENCY_S
        with proxy.measure() as count:
            other.push_manifest(repo, sha256(document), document, query=query, headers=[("If-None-Match", "*")])
        got = count.round_trips
        # Referenced: 11. The manifest, its descriptor, the catalog; each tag and its entry; the condition's look.
        note("manifest PUT, 10 layers, subject, 10 tags, condition", count, 11 + 3 + 20 + 1, round_trips=got)
        assert got <= 5, f"{got} round trips:\n{count.details()}"


def test_tags_page(warm):
    client, proxy, repo = warm
    image = client.push_image(repo, "t0000")
    for number in range(1, 30):
        client.push_manifest(repo, f"t{number:04}", image.manifest)
    with proxy.measure() as count:
        assert len(client.tags(repo)) >= 30
    note("tags, a page of 31", count, 1)
    with proxy.measure() as count:
        assert len(client.tags(repo, "?n=10")) == 10
    note("tags, n=10", count, 1)


@pytest.mark.deadline(180)
def test_long_tags_page(warm):
    """More than one page of S3's own."""
    client, proxy, repo = warm
    image = client.push_image(repo, "t0000")

    def push_tags(first):
        with orlop.Registry(client.address) as own:
            for number in range(first, TAGS, PUSHERS):
                own.push_manifest(repo, f"t{number:04}", image.manifest)

    with concurrent.futures.ThreadPoolExecutor(PUSHERS) as pool:
        list(pool.map(push_tags, range(PUSHERS)))
    with proxy.measure() as count:
        assert len(client.tags(repo, "?n=1000")) == 1000
    note(f"tags, n=1000 of {TAGS + 1}", count, 1)
    with proxy.measure() as count:
        assert client.get(f"/v2/{repo}/tags/list?n={TAGS}").status == 200
    note(f"tags, n={TAGS} of {TAGS + 1}", count, 2)


def test_catalog_page(warm):
    client, proxy, _ = warm
    for _ in range(10):
        client.push_blob(orlop.new_repo("catalog"), b"x")
    with proxy.measure() as count:
        assert client.get("/v2/_catalog?n=5").status == 200
    note("catalog, n=5", count, 1)

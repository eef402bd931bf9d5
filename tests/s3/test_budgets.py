"""
What each operation costs in requests to S3, and in bytes beyond the client's own: counted at the wire, on warm
connections, without faults. The limits are those of docs/s3.md. What was counted is printed as a table at the end (`make budgets`).
"""

import concurrent.futures
import math

import operations
import orlop
import pytest
from budget_table import KIB, MIB, TABLE, Measured
from operations import SMALL_CHUNK_BYTES, expect, patch_all, varied
from orlop import OCI_MANIFEST, descriptor, sha256, with_query

LARGE_BYTES = (1024 if orlop.full_run() else 256) * MIB
PART_BYTES_FIRST = 8 * MIB
TAGS, PUSHERS = 1050, 4
LATENCY_S = 0.4
MANY_LAYERS = 127  # as many as clients make
SMALL_RECORD_BYTES = 4096  # a ref, a pointer or the empty checkpoint of a new session beside a blob's bytes

note = TABLE.note


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


@pytest.fixture
def two(node):
    """Two nodes, both warm: (client, proxy, client, proxy)."""
    (first, proxy), (second, other_proxy) = node(), node()
    with first.client() as client, second.client() as other:
        for one in (client, other):
            one.push_image(orlop.new_repo(), "warm")
        yield client, proxy, other, other_proxy


def assert_written(measured, most):
    written = measured.count.written - SMALL_RECORD_BYTES
    assert written <= most * measured.size_bytes, f"{measured.operation}: wrote {written}\n{measured.count.details()}"


def assert_read(measured, most_bytes):
    assert measured.count.read <= most_bytes, f"{measured.operation}: {measured.count.details()}"


# ---- uploads ----


def test_open_session(warm):
    measured = operations.open_session(*warm)
    note(measured, 1)
    assert_read(measured, 0)


@pytest.mark.parametrize("size_bytes", [1, 100 * KIB, 5 * MIB], ids=["1 byte", "100 KiB", "5 MiB"])
def test_small_blob(warm, size_bytes):
    measured = operations.blob_in_one_put(*warm, size_bytes)
    note(measured, 3)
    assert_written(measured, 1.0)
    assert_read(measured, 0)


def test_blob_in_one_post(warm):
    measured = operations.blob_in_one_post(*warm, 100 * KIB)
    note(measured, 3)
    assert_written(measured, 1.0)
    assert_read(measured, 0)


@pytest.mark.deadline(180)
@pytest.mark.parametrize("size_bytes", [64 * MIB, LARGE_BYTES], ids=lambda size: f"{size // MIB} MiB")
def test_large_blob(warm, size_bytes):
    whole, commit = operations.large_blob(*warm, size_bytes)
    parts = math.ceil(size_bytes / PART_BYTES_FIRST)
    note(whole, int(1.15 * parts + 8))
    note(commit, 6)
    assert_written(whole, 1.01)
    assert_read(whole, 0)
    assert commit.count.written <= SMALL_RECORD_BYTES, commit.count.details()


@pytest.mark.parametrize("size_bytes", [MIB, 6 * MIB, 20 * MIB], ids=lambda size: f"{size // MIB} MiB")
def test_commit(warm, size_bytes):
    """Alone: what is not a part yet is its only data."""
    measured = operations.large_blob(*warm, size_bytes)[1]
    note(measured, 6)
    assert_written(measured, 1.0)
    assert_read(measured, 0)


@pytest.mark.deadline(180)
@pytest.mark.parametrize("chunks", [200, 1000])
def test_small_chunks(warm, chunks):
    measured = operations.small_chunks(*warm, chunks)
    note(measured, int(1.06 * chunks))
    assert_written(measured, 2.05)
    assert_read(measured, 0)


@pytest.mark.deadline(180)
def test_small_chunks_on_two_nodes(two, repo):
    measured = operations.small_chunks_on_two_nodes(*two, repo, 200)
    note(measured, int(1.06 * 200 + 3 + 100))  # what the second node reads back: as many tail objects at most
    assert_written(measured, 2.05)
    assert_read(measured, measured.size_bytes)


@pytest.mark.parametrize("chunks", [1, 5, 40])
def test_resume_on_another_node(two, repo, chunks):
    """Three requests, one for each tail object, and one that stores the chunk which comes."""
    client, _, other, proxy = two
    data = orlop.random_bytes((chunks + 1) * SMALL_CHUNK_BYTES)
    end = chunks * SMALL_CHUNK_BYTES
    location = patch_all(client, client.start_upload(repo), data[:end])
    with proxy.measure() as count:
        location = patch_all(other, location, data, end)
    measured = Measured(f"resume on another node by PATCH, {chunks} tail objects", count)
    note(measured, 3 + chunks + 1)
    # Each tail object begins with its head; the newest may be read once for that and once for its bytes.
    assert_read(measured, end + SMALL_CHUNK_BYTES + (chunks + 2) * SMALL_RECORD_BYTES)
    expect(other.put(with_query(location, digest=sha256(data))), 201)


@pytest.mark.deadline(120)
def test_resume_of_parts(two, repo):
    """Only what is not in parts yet is read."""
    client, _, other, proxy = two
    data = orlop.random_bytes(40 * MIB + 1000)
    end = len(data) - 500
    answer = expect(client.patch(client.start_upload(repo), data[: 40 * MIB]), 202)
    span = {"Content-Range": f"{40 * MIB}-{end - 1}"}
    answer = expect(client.patch(answer["Location"], data[40 * MIB : end], span), 202)
    with proxy.measure() as count:
        answer = other.get(answer["Location"])
    assert (answer.status, answer["Range"]) == (204, f"0-{end - 1}")
    measured = Measured("status on another node, 40 MiB in parts, 500 bytes of tail", count)
    note(measured, 3 + 1)
    assert_read(measured, 3 * SMALL_RECORD_BYTES)
    with proxy.measure() as count:
        expect(other.put(with_query(answer["Location"], digest=sha256(data)), data[end:]), 201)
    measured = Measured("resume on another node and commit, 40 MiB in parts", count)
    note(measured, 3 + 1 + 6)
    assert_read(measured, 3 * SMALL_RECORD_BYTES)


# ---- reads ----


def note_both(measured, cold, warm):
    note(measured[0], cold)
    note(measured[1], warm)


@pytest.fixture
def pushed(two, repo):
    """An image on one node; of another, which has not seen it: (client, proxy, repository), image."""
    client, _, other, proxy = two
    image = client.push_image(repo, "a", layers=2)
    return (other, proxy, repo), image


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_blob(pushed, method):
    where, image = pushed
    measured = operations.blob(*where, sha256(image.layers[0]), method)
    note_both(measured, 1, 0)
    assert all(one.count.read == 0 for one in measured)


def test_large_blob_redirect(two, repo):
    """One in parts is no dearer."""
    client, _, other, proxy = two
    data = orlop.random_bytes(20 * MIB)
    client.push_blob(repo, data)
    note_both(operations.blob(other, proxy, repo, sha256(data), "GET", "blob of 20 MiB"), 1, 0)


@pytest.mark.parametrize("ranges", ["1000-1999", "3000000-3999999", "0-9,5000000-5000099,19000000-"])
def test_ranges_read_no_more_than_they_answer(node, repo, ranges):
    """Of a blob in parts that goes through the node."""
    server, proxy = node("--s3-redirect", "never")
    data = orlop.random_bytes(20 * MIB)
    spans = [(int(first), int(last or len(data) - 1)) for first, last in (one.split("-") for one in ranges.split(","))]
    wanted = [data[first : last + 1] for first, last in spans]
    with server.client() as client:
        client.push_blob(repo, data)
        with proxy.measure() as count:
            answer = client.get(f"/v2/{repo}/blobs/{sha256(data)}", {"Range": f"bytes={ranges}"})
    assert answer.status == 206
    assert all(piece in answer.body for piece in wanted)
    note(Measured(f"GET of {len(wanted)} range(s) through the node", count), len(wanted))
    assert count.read == sum(map(len, wanted)), count.details()


@pytest.mark.parametrize(("by", "cold", "warm"), [("digest", 1, 0), ("tag", 2, 1)])
def test_manifest(pushed, by, cold, warm):
    where, image = pushed
    note_both(operations.manifest(*where, image, by), cold, warm)


# ---- manifests and lists ----


@pytest.mark.deadline(120)
@pytest.mark.parametrize("layers", [1, 10, 50, MANY_LAYERS])
def test_manifest_put(two, layers):
    """Requests, and how often a push waits for them."""
    # 64 references are asked for at once, the config's among them. The third one's are known by then; its descriptor is a
    # trip of its own, after the manifest and before the tag.
    for measured, trips in zip(operations.manifest_puts(*two, layers, LATENCY_S), (2, 3 if layers < 64 else 4, 3)):
        note(measured, layers + 5, trips)


@pytest.mark.deadline(120)
def test_manifest_put_with_everything(two, repo):
    """Subject, several tags and a condition, on a node that knows nothing: each costs its own requests and no others."""
    client, _, other, proxy = two
    image = client.push_image(repo, "first", layers=10, layer_bytes=10)
    document = varied(image.manifest, subject=descriptor(image.manifest, OCI_MANIFEST))
    query = "?" + "&".join(f"tag=t{number}" for number in range(10))
    proxy.latency_s = LATENCY_S
    with proxy.measure() as count:
        other.push_manifest(repo, sha256(document), document, query=query, headers=[("If-None-Match", "*")])
    operation = "manifest PUT, 10 layers, on another node, with subject, 10 tags and a condition"
    # References: 11. The manifest, its descriptor, the catalog; each tag and its entry; the condition's look.
    note(Measured(operation, count, is_timed=True), 11 + 3 + 20 + 1, 5)


def test_tags_page(warm):
    client, proxy, repo = warm
    note(operations.tags_page(client, proxy, orlop.new_repo(), 30), 1)
    image = client.push_image(repo, "t")
    for number in range(20):
        client.push_manifest(repo, f"t{number}", image.manifest)
    with proxy.measure() as count:
        assert len(client.tags(repo, "?n=10")) == 10
    note(Measured("tags, n=10", count), 1)


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
    for limit in (1000, TAGS):
        with proxy.measure() as count:
            expect(client.get(f"/v2/{repo}/tags/list?n={limit}"), 200)
        note(Measured(f"tags, n={limit} of {TAGS + 1}", count), math.ceil(limit / 1000))


def test_catalog_page(warm):
    client, proxy, _ = warm
    note(operations.catalog_page(client, proxy, 10, 5), 1)

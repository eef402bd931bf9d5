"""
Operations of a registry's clients, each done once and counted at the proxy before the registry's S3 server: the same for
orlop and for what it is compared with.
"""

import hashlib
import json

import orlop
from budget_table import KIB, MIB, Measured, bytes_text
from orlop import OCI_MANIFEST, descriptor, sha256, with_query

SMALL_CHUNK_BYTES = 64 * KIB


def expect(answer, status):
    assert answer.status == status, answer
    return answer


def varied(document, **fields):
    """The manifest with more fields."""
    return orlop.encode({**json.loads(document), **fields})


# ---- uploads ----


def open_session(client, proxy, repo):
    with proxy.measure() as count:
        client.start_upload(repo)
    return Measured("POST, open a session", count)


def blob_in_one_put(client, proxy, repo, size_bytes):
    data = orlop.random_bytes(size_bytes)
    location = client.start_upload(repo)
    with proxy.measure() as count:
        expect(client.put(with_query(location, digest=sha256(data)), data), 201)
    return Measured(f"PUT of a blob of {bytes_text(size_bytes)}, beside its POST", count, size_bytes)


def blob_in_one_post(client, proxy, repo, size_bytes):
    data = orlop.random_bytes(size_bytes)
    with proxy.measure() as count:
        expect(client.post(f"/v2/{repo}/blobs/uploads/?digest={sha256(data)}", data), 201)
    return Measured(f"POST of a blob of {bytes_text(size_bytes)}", count, size_bytes)


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


def large_blob(client, proxy, repo, size_bytes):
    """One PATCH and the commit; the commit alone."""
    name = generated_digest(size_bytes)
    location = client.start_upload(repo)
    with proxy.measure() as count:
        answer = expect(client.patch(location, generated(size_bytes), length=size_bytes), 202)
        with proxy.measure() as commit:
            expect(client.put(with_query(answer["Location"], digest=name)), 201)
    size = bytes_text(size_bytes)
    return (
        Measured(f"PATCH of {size}, then commit", count, size_bytes),
        Measured(f"commit alone of {size} in one PATCH", commit, size_bytes),
    )


def patch_all(client, location, data, begin=0):
    """64 KiB at a time from begin; the last answer's location."""
    for at in range(begin, len(data), SMALL_CHUNK_BYTES):
        piece = data[at : at + SMALL_CHUNK_BYTES]
        answer = client.patch(location, piece, {"Content-Range": f"{at}-{at + len(piece) - 1}"})
        location = expect(answer, 202)["Location"]
    return location


def small_chunks(client, proxy, repo, chunks):
    data = orlop.random_bytes(chunks * SMALL_CHUNK_BYTES)
    location = client.start_upload(repo)
    with proxy.measure() as count:
        location = patch_all(client, location, data)
        expect(client.put(with_query(location, digest=sha256(data))), 201)
    return Measured(f"{chunks} PATCHes of 64 KiB, then commit", count, len(data))


def small_chunks_on_two_nodes(client, proxy, other, other_proxy, repo, chunks):
    """Half of them on one node, the other half and the commit on another."""
    data = orlop.random_bytes(chunks * SMALL_CHUNK_BYTES)
    half = chunks // 2 * SMALL_CHUNK_BYTES
    location = client.start_upload(repo)
    with proxy.measure() as count, other_proxy.measure() as after:
        location = patch_all(client, location, data[:half])
        location = patch_all(other, location, data, half)
        expect(other.put(with_query(location, digest=sha256(data))), 201)
    count.requests += after.requests
    return Measured(f"{chunks} PATCHes of 64 KiB, half of them and the commit on another node", count, len(data))


# ---- reads ----


def twice(proxy, operation, ask):
    """Cold, then warm."""
    measured = []
    for state in ("cold", "warm"):
        with proxy.measure() as count:
            ask()
        measured.append(Measured(f"{operation}, {state}", count))
    return measured


def blob(client, proxy, repo, name, method, what="blob"):
    """A redirect is not followed: the bytes are the client's own affair."""

    def ask():
        answer = client.request(method, f"/v2/{repo}/blobs/{name}")
        assert answer.status == 307 or (method, answer.status) == ("HEAD", 200), answer

    return twice(proxy, f"{method} {what}" + (" with redirect" if method == "GET" else ""), ask)


def manifest(client, proxy, repo, image, by):
    reference = {"digest": image.digest, "tag": "a"}[by]

    def ask():
        answer = client.get(f"/v2/{repo}/manifests/{reference}", {"Accept": OCI_MANIFEST})
        assert expect(answer, 200).body == image.manifest

    return twice(proxy, f"manifest GET by {by}", ask)


# ---- manifests and lists ----


def manifest_puts(client, proxy, other, other_proxy, layers, latency_s):
    """By the node that took the blobs, then by one that knows nothing of them, then again there with a subject."""
    repo = orlop.new_repo()
    image = client.push_image(repo, layers=layers, layer_bytes=10)
    other.push_image(orlop.new_repo(), "warm")
    subject = descriptor(image.manifest, OCI_MANIFEST)
    measured = []
    for what, registry, way, document in (
        ("on the node that took them", client, proxy, image.manifest),
        ("on another node", other, other_proxy, varied(image.manifest, annotations={"n": "2"})),
        ("on another node, with subject", other, other_proxy, varied(image.manifest, subject=subject)),
    ):
        way.latency_s = latency_s
        with way.measure() as count:
            registry.push_manifest(repo, f"t{len(measured)}", document)
        way.latency_s = 0.0
        measured.append(Measured(f"manifest PUT by tag, {layers} layers, {what}", count, is_timed=True))
    return measured


def tags_page(client, proxy, repo, tags):
    image = client.push_image(repo, "t0000")
    for number in range(1, tags):
        client.push_manifest(repo, f"t{number:04}", image.manifest)
    with proxy.measure() as count:
        assert len(client.tags(repo)) == tags
    return Measured(f"tags, a page of {tags}", count)


def catalog_page(client, proxy, repositories, limit):
    for _ in range(repositories):
        client.push_image(orlop.new_repo("catalog"), "t")
    with proxy.measure() as count:
        answer = expect(client.get(f"/v2/_catalog?n={limit}"), 200)
    assert len(answer.json()["repositories"]) == limit
    return Measured(f"catalog, {limit} of {repositories} or more", count)

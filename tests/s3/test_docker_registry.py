"""
The second half of the table of test_budgets.py: docker-registry on the same S3 server, through the same proxy, does the
same. Nothing is asserted of it; it may be missing. Counts are smaller where its time grows with their square.
"""

import contextlib
import os

import docker_registry
import operations
import orlop
import pytest
import s3proxy
from budget_table import KIB, MIB, TABLE
from orlop import sha256

note = TABLE.note_beside


@pytest.fixture(scope="module")
def nodes(gateway):
    """Two nodes in one place of the bucket: (client, proxy, client, proxy)."""
    folder = orlop.new_repo("docker-registry")
    try:
        with contextlib.ExitStack() as stack:
            found = []
            for _ in range(2):
                proxy = stack.enter_context(s3proxy.Proxy(os.environ["AWS_ENDPOINT_URL"]))
                server = stack.enter_context(docker_registry.DockerRegistry(folder, proxy.url))
                found += [stack.enter_context(server.client()), proxy]
            for client in found[::2]:
                client.push_image(orlop.new_repo(), "warm")
            yield found
    except docker_registry.CannotStart as reason:
        TABLE.beside_missing = str(reason)
        pytest.skip(str(reason))


@pytest.fixture
def one(nodes, repo):
    client, proxy, _, _ = nodes
    return client, proxy, repo


def test_open_session(one):
    note(operations.open_session(*one))


@pytest.mark.parametrize("size_bytes", [1, 100 * KIB, 5 * MIB])
def test_small_blob(one, size_bytes):
    note(operations.blob_in_one_put(*one, size_bytes))


@pytest.mark.deadline(180)
@pytest.mark.parametrize("size_bytes", [MIB, 6 * MIB, 20 * MIB, 64 * MIB])
def test_large_blob(one, size_bytes):
    whole, commit = operations.large_blob(*one, size_bytes)
    note(commit)
    if size_bytes == 64 * MIB:
        note(whole)


@pytest.mark.deadline(300)
def test_small_chunks(one):
    note(operations.small_chunks(*one, 200))


def test_reads(nodes, repo):
    client, _, other, proxy = nodes
    image = client.push_image(repo, "a", layers=2)
    for method, layer in zip(("HEAD", "GET"), image.layers):
        for measured in operations.blob(other, proxy, repo, sha256(layer), method):
            note(measured)
    for by in ("tag", "digest"):
        image = client.push_image(repo, "a")
        for measured in operations.manifest(other, proxy, repo, image, by):
            note(measured)


@pytest.mark.deadline(120)
@pytest.mark.parametrize("layers", [1, 10, 50])
def test_manifest_put(nodes, layers):
    """Without latency: it sends one request after the other."""
    for measured in operations.manifest_puts(*nodes, layers, latency_s=0.0):
        note(measured)


def test_tags_page(nodes):
    client, proxy, _, _ = nodes
    note(operations.tags_page(client, proxy, orlop.new_repo(), 30))


def test_catalog_page(nodes):
    client, proxy, _, _ = nodes
    note(operations.catalog_page(client, proxy, 10, 5))


def test_all_stand_beside_something(nodes):
    """In a run of both halves each figure has a row to stand in."""
    if not TABLE.rows:
        pytest.skip("the other half was not run")
    assert TABLE.unmatched() == []

"""A subject with very many referrers: every page is whole and below 4 MiB, and the server's memory does not grow with it."""

import concurrent.futures
import pathlib

import orlop
import pytest
from orlop import OCI_MANIFEST, descriptor, encode, next_link, sha256

REFERRERS = 100_000 if orlop.full_run() else 30_000
READERS = 4
SUBJECT = descriptor(b"subject", OCI_MANIFEST)
RSS_MAX_KIB = 128 * 1024


@pytest.fixture
def server(repo):
    """A registry with the descriptors of referrers that nobody has pushed."""
    folder = pathlib.Path(orlop.temp_dir())
    server = orlop.Server(folder / "store", program=orlop.release_binary())
    server.own_dir = str(folder)
    with server:
        with server.client() as client:
            client.push_image(repo, "latest")
        server.stop()
        algorithm, _, hexadecimal = SUBJECT["digest"].partition(":")
        keys = folder / "store" / "repos" / repo / "_referrers" / algorithm / hexadecimal
        keys.mkdir(parents=True)
        for number in range(REFERRERS):
            name = sha256(number.to_bytes(4, "big"))
            note = {"org.opencontainers.image.created": "2026-01-31T12:00:00Z", "number": str(number)}
            data = {"mediaType": OCI_MANIFEST, "digest": name, "size": 700, "artifactType": "a/b", "annotations": note}
            with open(keys / name.replace(":", "-"), "wb", buffering=0) as file:
                file.write(encode(data))
        yield server.start()


def list_all(server, repo):
    """How many pages; each entry must follow the one before."""
    target, last, found, pages = f"/v2/{repo}/referrers/{SUBJECT['digest']}", "", 0, 0
    with server.client() as client:
        while target:
            answer = client.get(target)
            assert answer.status == 200 and len(answer.body) < 4 << 20
            digests = [item["digest"] for item in answer.json()["manifests"]]
            assert [last, *digests] == sorted({last, *digests})
            last, found, pages = digests[-1], found + len(digests), pages + 1
            target = next_link(answer)
    assert found == REFERRERS
    return pages


@pytest.mark.deadline(300)
def test_very_many_referrers(server, repo):
    assert REFERRERS // 20_000 < list_all(server, repo) <= REFERRERS // 10_000
    with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
        list(pool.map(lambda _: list_all(server, repo), range(READERS)))
    print(f"peak RSS {server.proc_status_kib('VmHWM')} KiB")
    assert server.proc_status_kib("VmHWM") < RSS_MAX_KIB

"""
64 clients (ORLOP_TEST_STRESS_CLIENTS) push, pull, tag, list and delete the same few repositories for
ORLOP_TEST_STRESS_S seconds (15). Whatever
they read is something that was written; what was acknowledged and not touched since is there; the store checks clean.
"""

import os
import random
import threading
import time

import orlop
import pytest
from orlop import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, descriptor, sha256, with_query

CLIENTS = int(os.environ.get("ORLOP_TEST_STRESS_CLIENTS", "64"))
SECONDS = int(os.environ.get("ORLOP_TEST_STRESS_S", "15"))
REPOSITORIES = ["stress/a", "stress/b", "stress/b/c"]
TAGS = [f"t{i}" for i in range(8)]
LAYERS = [random.Random(i).randbytes(2000 + 5000 * i) for i in range(12)]
CONFIG = b'{"architecture":"amd64","os":"linux"}'


def make_manifests():
    """Every manifest that may ever be read under a tag, by digest."""
    manifests = {}
    for i in range(24):
        layers = [descriptor(layer, OCI_LAYER) for layer in (LAYERS[i % 12], LAYERS[(i * 5 + 1) % 12])]
        data = orlop.manifest(descriptor(CONFIG, OCI_CONFIG), layers, annotations={"n": str(i)})
        manifests[sha256(data)] = (data, {LAYERS[i % 12], LAYERS[(i * 5 + 1) % 12]})
    return manifests


MANIFESTS = make_manifests()
SUBJECTS = list(MANIFESTS)[:3]


class Worker(threading.Thread):
    """One client doing random things; `problems` holds what must not have happened."""

    def __init__(self, server, number, until):
        super().__init__()
        self.server = server
        self.number = number
        self.until = until
        self.random = random.Random(number)
        self.problems = []
        self.counts = {}
        self.acknowledged = {}  # of a repository nobody else touches: tag -> digest
        self.own = f"stress/own{number}"

    def run(self):
        actions = [
            self.push, self.push, self.pull, self.pull, self.pull, self.tag, self.lists, self.referrers,
            self.delete_tag, self.delete_manifest, self.delete_blob, self.cancelled_upload, self.chunked_upload,
            self.own_push, self.own_check,
        ]  # fmt: skip
        with self.server.client() as self.client:
            while time.monotonic() < self.until and not self.problems:
                action = self.random.choice(actions)
                try:
                    action()
                    self.counts[action.__name__] = self.counts.get(action.__name__, 0) + 1
                except Exception as error:
                    self.problems.append(f"{action.__name__}: {type(error).__name__}: {error}")

    def expect(self, answer, *statuses):
        if answer.status == 503 and answer.code == "UNAVAILABLE":
            time.sleep(0.01)  # busy is an answer
            return False
        assert answer.status in statuses, answer
        return True

    def blob(self, repo, data):
        """Push unless it is there, as clients do."""
        if self.client.head(f"/v2/{repo}/blobs/{sha256(data)}").status == 200:
            return
        if self.random.random() < 0.3:
            source = self.random.choice(REPOSITORIES)
            answer = self.client.post(f"/v2/{repo}/blobs/uploads/?mount={sha256(data)}&from={source}")
        else:
            answer = self.client.post(f"/v2/{repo}/blobs/uploads/")
        if self.expect(answer, 201, 202) and answer.status == 202:
            location = answer["Location"]
            if self.random.random() < 0.5:
                self.expect(self.client.patch(location, data), 202)
                data_left = b""
            else:
                data_left = data
            self.expect(self.client.put(with_query(location, digest=sha256(data)), data_left), 201)

    def put_manifest(self, repo, reference, digest):
        data = MANIFESTS[digest][0]
        return self.client.put(f"/v2/{repo}/manifests/{reference}", data, {"Content-Type": OCI_MANIFEST})

    def push(self):
        repo, digest = self.random.choice(REPOSITORIES), self.random.choice(list(MANIFESTS))
        for data in (CONFIG, *MANIFESTS[digest][1]):
            self.blob(repo, data)
        # another client may have deleted a blob in between: then it is refused, never half done
        answer = self.put_manifest(repo, self.random.choice([*TAGS, digest]), digest)
        self.expect(answer, 201, 400)
        assert answer.status != 400 or answer.code == "MANIFEST_BLOB_UNKNOWN", answer

    def pull(self):
        repo = self.random.choice(REPOSITORIES)
        answer = self.client.get(f"/v2/{repo}/manifests/{self.random.choice([*TAGS, *MANIFESTS])}")
        if self.expect(answer, 200, 404) and answer.status == 200:
            digest = answer["Docker-Content-Digest"]
            assert digest in MANIFESTS and answer.body == MANIFESTS[digest][0], "never written"
            for data in MANIFESTS[digest][1]:
                blob = self.client.get(f"/v2/{repo}/blobs/{sha256(data)}")
                self.expect(blob, 200, 404)
                assert blob.status != 200 or blob.body == data, "never written"

    def tag(self):
        repo, digest = self.random.choice(REPOSITORIES), self.random.choice(list(MANIFESTS))
        data = MANIFESTS[digest][0]
        query = "?" + "&".join(f"tag={tag}" for tag in self.random.sample(TAGS, 2))
        answer = self.client.put(f"/v2/{repo}/manifests/{digest}{query}", data, {"Content-Type": OCI_MANIFEST})
        self.expect(answer, 201, 400)

    def lists(self):
        repo = self.random.choice(REPOSITORIES)
        answer = self.client.get(f"/v2/{repo}/tags/list")
        if self.expect(answer, 200, 404) and answer.status == 200:
            assert set(answer.json()["tags"]) <= set(TAGS)
        answer = self.client.get("/v2/_catalog")
        self.expect(answer, 200)

    def referrers(self):
        repo, subject = self.random.choice(REPOSITORIES), self.random.choice(SUBJECTS)
        if self.random.random() < 0.5:
            self.blob(repo, b"{}")
            data = orlop.artifact(
                "application/x", {"mediaType": OCI_MANIFEST, "digest": subject, "size": len(MANIFESTS[subject][0])},
                {"n": str(self.random.randrange(6))},
            )  # fmt: skip
            answer = self.client.put(f"/v2/{repo}/manifests/{sha256(data)}", data, {"Content-Type": OCI_MANIFEST})
            self.expect(answer, 201, 400)
            if self.random.random() < 0.4:
                self.expect(self.client.delete(f"/v2/{repo}/manifests/{sha256(data)}"), 202, 404)
        answer = self.client.get(f"/v2/{repo}/referrers/{subject}")
        if self.expect(answer, 200):
            listed = answer.json()["manifests"]
            assert len({item["digest"] for item in listed}) == len(listed) <= 6
            assert all(item["artifactType"] == "application/x" for item in listed)

    def delete_tag(self):
        repo = self.random.choice(REPOSITORIES)
        self.expect(self.client.delete(f"/v2/{repo}/manifests/{self.random.choice(TAGS)}"), 202, 404)

    def delete_manifest(self):
        repo = self.random.choice(REPOSITORIES)
        self.expect(self.client.delete(f"/v2/{repo}/manifests/{self.random.choice(list(MANIFESTS))}"), 202, 404)

    def delete_blob(self):
        if self.random.random() < 0.3:
            repo = self.random.choice(REPOSITORIES)
            self.expect(self.client.delete(f"/v2/{repo}/blobs/{sha256(self.random.choice(LAYERS))}"), 202, 404)

    def cancelled_upload(self):
        location = self.client.start_upload(self.random.choice(REPOSITORIES))
        self.expect(self.client.patch(location, b"x" * 10_000), 202)
        self.expect(self.client.delete(location), 204)
        self.expect(self.client.get(location), 404)

    def chunked_upload(self):
        repo, data = self.random.choice(REPOSITORIES), self.random.choice(LAYERS)
        location = self.client.start_upload(repo)
        for at in range(0, len(data), 4000):
            part = data[at : at + 4000]
            answer = self.client.patch(location, part, {"Content-Range": f"{at}-{at + len(part) - 1}"})
            if not self.expect(answer, 202):
                return
        self.expect(self.client.put(with_query(location, digest=sha256(data))), 201)

    def own_push(self):
        """In its own repository nobody else interferes: what is acknowledged must stay."""
        digest = self.random.choice(list(MANIFESTS))
        for data in (CONFIG, *MANIFESTS[digest][1]):
            self.blob(self.own, data)
        tag = self.random.choice(TAGS)
        answer = self.put_manifest(self.own, tag, digest)
        if self.expect(answer, 201):
            self.acknowledged[tag] = digest

    def own_check(self):
        for tag, digest in list(self.acknowledged.items()):
            answer = self.client.get(f"/v2/{self.own}/manifests/{tag}")
            if self.expect(answer, 200):
                assert answer.body == MANIFESTS[digest][0], "an acknowledged tag has another value"
            for data in MANIFESTS[digest][1]:
                blob = self.client.get(f"/v2/{self.own}/blobs/{sha256(data)}")
                if self.expect(blob, 200):
                    assert blob.body == data
        if self.acknowledged and self.random.random() < 0.2:
            tag = self.random.choice(list(self.acknowledged))
            if self.expect(self.client.delete(f"/v2/{self.own}/manifests/{tag}"), 202):
                del self.acknowledged[tag]
                self.expect(self.client.get(f"/v2/{self.own}/manifests/{tag}"), 404)


@pytest.mark.deadline(SECONDS + 240)
def test_stress(new_server):
    server = new_server()
    until = time.monotonic() + SECONDS
    workers = [Worker(server, number, until) for number in range(CLIENTS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    server.assert_alive()
    problems = [f"client {worker.number}: {problem}" for worker in workers for problem in worker.problems]
    assert not problems, "\n".join(problems[:10])
    totals = {}
    for worker in workers:
        for action, count in worker.counts.items():
            totals[action] = totals.get(action, 0) + count
    print(dict(sorted(totals.items())), "=", sum(totals.values()))
    assert all(totals.get(action, 0) for action in ("push", "pull", "tag", "delete_manifest", "own_check")), totals
    # after a restart all that was acknowledged is there
    server.restart()
    for worker in workers:
        with server.client() as worker.client:
            for tag, digest in worker.acknowledged.items():
                assert worker.client.get(f"/v2/{worker.own}/manifests/{tag}").body == MANIFESTS[digest][0]
                for data in MANIFESTS[digest][1]:
                    assert worker.client.get(f"/v2/{worker.own}/blobs/{sha256(data)}").body == data
    report = server.assert_check_clean()
    incomplete = [finding for finding in report.leftovers if finding["kind"] == "manifest-incomplete"]
    # a blob that a client deleted while a manifest used it; nobody does so in the clients' own repositories
    assert not [finding for finding in incomplete if "stress/own" in finding["key"]], incomplete


@pytest.mark.deadline(180)
@pytest.mark.parametrize("pipe", ["16KiB", "256KiB"])
def test_big_uploads_at_once(new_server, pipe):
    """Sixteen clients send faster than the server stores: pipes run full all the time, and every byte arrives."""
    server = new_server(args=["--http-body-pipe-bytes", pipe])
    problems = []

    def push(number):
        rng = random.Random(number)
        data = rng.randbytes(6_000_000 + number)
        size = rng.choice((1000, 4096, 32768, 100_000, 1_000_000))
        pieces = (data[at : at + size] for at in range(0, len(data), size))
        try:
            with server.client() as client:
                location = client.start_upload("stress/big")
                if number % 2:
                    answer = client.patch(location, pieces, chunked=True)
                else:
                    answer = client.patch(location, pieces, length=len(data))
                assert (answer.status, answer["Range"]) == (202, f"0-{len(data) - 1}")
                assert client.put(with_query(location, digest=sha256(data))).status == 201
                assert client.get(f"/v2/stress/big/blobs/{sha256(data)}").body == data
        except Exception as error:
            problems.append(f"client {number}: {type(error).__name__}: {error}")

    threads = [threading.Thread(target=push, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems, "\n".join(problems)

"""
Pushes and pulls while requests to S3 break in every way: each completes or fails with a clear 5xx, and afterwards what
was acknowledged is whole and the store is sound.
"""

import collections
import concurrent.futures
import os
import random
import signal
import threading
import time

import orlop
import pytest
import rgw
import s3proxy
from orlop import OCI_CONFIG, OCI_LAYER, descriptor, sha256, with_query

MIB = 1 << 20
PUSHES = 500 if orlop.full_run() else 100
GATEWAY_DEATHS = 8 if orlop.full_run() else 1
WORKERS = 8
FAULT_RATE = 0.05
SIZES = [10, 1000, 100_000, 1_000_000, 6 * MIB, 17 * MIB]
SIZE_WEIGHTS = [4, 4, 4, 4, 2, 1]


class Failed(Exception):
    """A clear refusal, after which the client gave up."""


class Workload:
    """Pushes and pulls of small images in repositories of their own, through any of the servers."""

    def __init__(self, servers, seed):
        self.servers = servers
        self.seed = seed
        self.lock = threading.Lock()
        self.pushed = {}  # repository: (manifest, blobs), acknowledged to the last request
        self.pulled = 0
        self.failures = collections.Counter()
        self.wrong = []

    def expect(self, answer, status, what):
        if answer.status == status:
            return answer
        if answer.status in (500, 502, 503, 504) and answer.code:
            raise Failed(f"{what}: {answer.status}")
        raise AssertionError(f"{what}: {answer}")

    def push_blob(self, rng, client, repo, data):
        location = self.expect(client.post(f"/v2/{repo}/blobs/uploads/"), 202, "POST")["Location"]
        last = data
        if rng.random() < 0.5:
            half = len(data) // 2
            answer = client.patch(location, data[:half], {"Content-Range": f"0-{half - 1}"})
            location = self.expect(answer, 202, "PATCH")["Location"]
            last = data[half:]
        answer = client.put(with_query(location, digest=sha256(data)), last)
        self.expect(answer, 201, "PUT")

    def push(self, number):
        rng = random.Random(f"{self.seed} {number}")
        repo = f"faults/r{number}"
        with self.servers[number % len(self.servers)].client() as client:
            sizes = [300, *rng.choices(SIZES, SIZE_WEIGHTS, k=2)]
            blobs = [rng.randbytes(size) for size in sizes]
            for blob in blobs:
                self.push_blob(rng, client, repo, blob)
            document = orlop.manifest(
                orlop.descriptor(blobs[0], orlop.OCI_CONFIG), [orlop.descriptor(b, orlop.OCI_LAYER) for b in blobs[1:]]
            )
            answer = client.put(f"/v2/{repo}/manifests/t", document, {"Content-Type": orlop.OCI_MANIFEST})
            self.expect(answer, 201, "PUT of the manifest")
        with self.lock:
            self.pushed[repo] = (document, blobs)

    def pull(self, number):
        with self.lock:
            if not self.pushed:
                return
            repo, (document, blobs) = random.Random(number).choice(sorted(self.pushed.items()))
        with self.servers[(number + 1) % len(self.servers)].client() as client:
            answer = self.expect(client.get(f"/v2/{repo}/manifests/t"), 200, "GET of the manifest")
            assert answer.body == document
            for blob in blobs:
                try:
                    answer = client.get(f"/v2/{repo}/blobs/{sha256(blob)}")
                except (EOFError, ConnectionError):
                    raise Failed("GET of a blob: broken off") from None  # all that is left after the status line
                assert self.expect(answer, 200, "GET of a blob").body == blob
        with self.lock:
            self.pulled += 1

    def one(self, number):
        for action in (self.push, self.pull):
            try:
                action(number)
            except Failed as failure:
                with self.lock:
                    self.failures[str(failure)] += 1
            except Exception as error:  # noqa: BLE001  (whatever else happens is wrong, and the rest goes on)
                with self.lock:
                    self.wrong.append(f"{action.__name__} {number}: {type(error).__name__} {error}")

    def run(self, count):
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(self.one, range(count)))

    def __str__(self):
        return f"seed {self.seed!r}, {len(self.pushed)} pushed, {self.pulled} pulled, failures {dict(self.failures)}"

    def assert_whole(self, server):
        """Everything acknowledged, by a node that remembers nothing of it."""
        with server.client() as client:
            for repo, (document, blobs) in self.pushed.items():
                assert client.pull_image(repo, "t") == document
                for blob in blobs:
                    assert client.head(f"/v2/{repo}/blobs/{sha256(blob)}").status == 200


def assert_sound(workload, store, **env):
    server = orlop.Server(store, program=orlop.release_binary(), env=env)
    with server:
        workload.assert_whole(server)
    report = orlop.check(store, program=orlop.release_binary())
    assert report.status == 0 and report.errors == [], report


@pytest.mark.deadline(600)
def test_faults(store, new_proxy):
    seed = random.getrandbits(32)
    proxy = new_proxy(seed=seed)
    arguments = ["--s3-endpoint", proxy.url, "--log-level", "warn"]
    with orlop.Server(store, arguments, program=orlop.release_binary()) as first:
        with orlop.Server(store, arguments, program=orlop.release_binary()) as second:
            workload = Workload([first, second], seed)
            proxy.fault_rate = FAULT_RATE
            workload.run(PUSHES)
            proxy.fault_rate = 0
            print(f"\n{workload}, faults {dict(proxy.faults)}")
            first.assert_alive()
            second.assert_alive()
    assert not workload.wrong, f"{workload}:\n" + "\n".join(workload.wrong[:20])
    assert sum(proxy.faults.values()) > PUSHES / 4, proxy.faults
    assert len(workload.pushed) > PUSHES * 0.8, f"too many failed: {workload}"
    assert_sound(workload, store)


@pytest.mark.parametrize("what", ["refused", "killed"])
@pytest.mark.parametrize("step", ["refs", "_manifests", "names", "_tagged", "_referrers", "_tags"])
def test_manifest_put_is_interrupted(store, new_proxy, step, what):
    """At any step: what leads to the manifest finds it, and a retry completes the push."""
    proxy, repo = new_proxy(), "steps/r"
    config, layer = orlop.random_bytes(100), orlop.random_bytes(1000)
    subject = orlop.manifest(descriptor(config, OCI_CONFIG), [])
    document = orlop.manifest(
        descriptor(config, OCI_CONFIG),
        [descriptor(layer, OCI_LAYER)],
        subject=descriptor(subject, orlop.OCI_MANIFEST),
    )
    with orlop.Server(store, program=orlop.release_binary()) as server, server.client() as client:
        for blob in (config, layer):
            client.push_blob(repo, blob)

    node = orlop.Server(store, ["--s3-endpoint", proxy.url], program=orlop.release_binary()).start()

    def interrupt(_, key):
        if f"/{step}/" not in f"/{key}":
            return None
        if what == "killed":
            time.sleep(0.2)  # what goes out beside it is done by then
            os.kill(node.pid, signal.SIGKILL)
            return s3proxy.RESET_BEFORE
        return s3proxy.REFUSED

    try:
        proxy.fault_of = interrupt
        headers = {"Content-Type": orlop.OCI_MANIFEST}
        with node.client() as client:
            if what == "killed":
                with pytest.raises((EOFError, ConnectionError)):
                    client.put(f"/v2/{repo}/manifests/t", document, headers)
                assert node.wait_dead() == -signal.SIGKILL
            else:
                answer = client.put(f"/v2/{repo}/manifests/t", document, headers)
                assert answer.status >= 500 and answer.code, answer
                node.stop()
    finally:
        if node.process:
            node.kill()
        node.discard()

    with orlop.Server(store, program=orlop.release_binary()) as server, server.client() as client:
        server.assert_check_clean()
        is_stored = client.get(f"/v2/{repo}/manifests/{sha256(document)}").status == 200
        # Of the steps that go out together the manifest's is the first to begin.
        assert is_stored == (step in ("names", "_tagged", "_referrers", "_tags"))
        assert client.get(f"/v2/{repo}/manifests/t").status == 404
        listed = [item["digest"] for item in client.referrers(repo, sha256(subject))]
        assert listed == ([sha256(document)] if step == "_tags" else [])

        client.push_manifest(repo, "t", document)
        server.assert_check_clean()
        assert client.get(f"/v2/{repo}/manifests/t").body == document
        assert [item["digest"] for item in client.referrers(repo, sha256(subject))] == [sha256(document)]
        assert repo in client.get("/v2/_catalog").json()["repositories"]
        # The tag has its reverse entry, so deleting the manifest takes the tag along.
        assert client.delete(f"/v2/{repo}/manifests/{sha256(document)}").status == 202
        assert client.get(f"/v2/{repo}/manifests/t").status == 404
        assert client.tags(repo) == []
        server.assert_check_clean()


@pytest.mark.deadline(900 if orlop.full_run() else 180)
def test_gateway_dies(gateway, monkeypatch):
    """Killed and started again under load, once or more."""
    seed = random.getrandbits(32)
    with rgw.Rgw() as own:
        for name, value in own.environment().items():
            monkeypatch.setenv(name, value)
        store = f"s3://{own.new_bucket()}/p"
        with orlop.Server(store, ["--log-level", "warn"], program=orlop.release_binary()) as server:
            workload = Workload([server], seed)
            load = threading.Thread(target=workload.run, args=(60 * GATEWAY_DEATHS,))
            load.start()
            for death in range(GATEWAY_DEATHS):
                orlop.wait_until(lambda: len(workload.pushed) >= 5 + 40 * death, timeout=120)
                own.kill_gateway()
                time.sleep(1)
                own.start_gateway()
            load.join()
            print(f"\n{workload}")
            server.assert_alive()
        assert not workload.wrong, f"{workload}:\n" + "\n".join(workload.wrong[:20])
        assert len(workload.pushed) >= 30 * GATEWAY_DEATHS, workload
        assert_sound(workload, store)

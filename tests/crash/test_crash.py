"""
SIGKILL at every durable step of every operation that changes the store. The build with crash points counts the steps of
an operation in an undisturbed run; then the operation is run again and again from the same store, killed before its
first step, its second, and so on. After each kill and restart `orlop check` finds no errors, everything that had been
acknowledged is there, what had not is there wholly or not at all, and the operation repeated succeeds.
"""

import os
import shutil
import signal
import time

import orlop
import pytest
from orlop import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, descriptor, digest, sha256, with_query

KILLS_MIN = 200

PROGRAM = orlop.crash_binary()
REPO, OTHER = "crash/repo", "crash/other"
DATA = orlop.random_bytes(100_000)
SHARED = orlop.random_bytes(3000)
CONFIG = b'{"architecture":"amd64","os":"linux"}'
LAYER = orlop.random_bytes(5000)
OLD = orlop.manifest(descriptor(CONFIG, OCI_CONFIG), [descriptor(LAYER, OCI_LAYER)], annotations={"v": "old"})
NEW = orlop.manifest(descriptor(CONFIG, OCI_CONFIG), [descriptor(LAYER, OCI_LAYER)], annotations={"v": "new"})
SUBJECT = descriptor(OLD, OCI_MANIFEST)
REFERRER = orlop.manifest(
    descriptor(CONFIG, OCI_CONFIG), [descriptor(LAYER, OCI_LAYER)], subject=SUBJECT, artifactType="application/x"
)
INDEX = orlop.index([SUBJECT])

pytestmark = pytest.mark.skipif(not os.path.exists(PROGRAM), reason=f"no build with crash points at {PROGRAM}")

kills = {}  # operation -> times killed
started = time.monotonic()


class Killed(Exception):
    """The server died before it answered."""


class Client(orlop.Registry):
    """Requests that end in Killed when the server does."""

    def request(self, *args, **kw):
        try:
            return super().request(*args, **kw)
        except (EOFError, OSError) as error:
            raise Killed from error


# ---- what can be seen ----


def blob_is(client, repo, data, algorithm="sha256"):
    """Is the blob there? Then with exactly its bytes."""
    answer = client.get(f"/v2/{repo}/blobs/{digest(data, algorithm)}")
    assert answer.status in (200, 404), answer
    assert answer.status == 404 or answer.body == data
    return answer.status == 200


def manifest_is(client, reference, *bodies):
    """The bytes a reference gives, which must be one of these; None when it is not there."""
    answer = client.get(f"/v2/{REPO}/manifests/{reference}")
    assert answer.status in (200, 404), answer
    if answer.status == 404:
        return None
    assert answer.body in bodies, "neither of the values that were written"
    assert answer["Docker-Content-Digest"] in {digest(answer.body, name) for name in ("sha256", "sha512")}
    return answer.body


def assert_consistent(client):
    """No list names what cannot be got."""
    answer = client.get(f"/v2/{REPO}/tags/list")
    if answer.status == 200:
        for tag in answer.json()["tags"]:
            assert client.head(f"/v2/{REPO}/manifests/{tag}").status == 200, f"tag {tag} is listed and missing"
    for item in client.referrers(REPO, SUBJECT["digest"]):
        assert client.head(f"/v2/{REPO}/manifests/{item['digest']}").status == 200, "a listed referrer is missing"
    assert client.get("/v2/_catalog").status == 200


# ---- operations ----


class Operation:
    """
    prepare() brings the store to where run() begins. run() does the operation and notes in self.done what was
    acknowledged. verify() is asked after a restart, with done as far as it came; finish() repeats what is left.
    """

    name = ""

    def __init__(self):
        self.done = []

    def prepare(self, client):
        pass

    def run(self, client):
        raise NotImplementedError

    def verify(self, client):
        raise NotImplementedError

    def finish(self, client):
        """The operation again, as a client repeats it; and it has succeeded."""
        self.run(client)

    def expect(self, answer, *statuses):
        assert answer.status in statuses, answer
        return answer


class Session(Operation):
    """POST, PATCH, PATCH, PUT."""

    def __init__(self, algorithm="sha256", announce=True, existing=False):
        super().__init__()
        self.algorithm, self.announce, self.existing = algorithm, announce, existing
        self.digest = digest(DATA, algorithm)
        self.location = None
        self.name = f"session-{algorithm}{'' if announce else '-unannounced'}{'-existing' if existing else ''}"

    def prepare(self, client):
        if self.existing:
            client.push_blob(OTHER, DATA, self.algorithm)

    def run(self, client):
        query = f"?digest-algorithm={self.algorithm}" if self.announce else ""
        self.location = None
        self.location = client.start_upload(REPO, query)
        self.go_on(client, 0)

    def go_on(self, client, held):
        self.done = ["start", held]
        for first, end in ((held, 60_000), (60_000, len(DATA))):
            if first < end and held < end:
                first = max(first, held)
                answer = client.patch(self.location, DATA[first:end], {"Content-Range": f"{first}-{end - 1}"})
                self.expect(answer, 202)
                self.done = ["start", end]
        self.expect(client.put(with_query(self.location, digest=self.digest)), 201)
        self.done = ["blob"]

    def verify(self, client):
        there = blob_is(client, REPO, DATA, self.algorithm)
        if self.done == ["blob"]:
            assert there
        if self.existing:
            assert blob_is(client, OTHER, DATA, self.algorithm)
        if self.location and self.done[:1] == ["start"]:
            status = client.get(self.location)
            if status.status == 404:
                assert there and self.done[1] == len(DATA), "an acknowledged session is lost"
            else:
                held = int(self.expect(status, 204)["Range"].split("-", 1)[1]) + 1
                assert held >= self.done[1] or self.done[1] == 0
                self.held = 0 if held == 1 and self.done[1] == 0 else held

    def finish(self, client):
        if self.location and client.get(self.location).status == 204:
            self.go_on(client, self.held)
        else:
            self.run(client)
        assert blob_is(client, REPO, DATA, self.algorithm)


class SinglePost(Operation):
    def __init__(self, algorithm="sha256", existing=False, body=DATA):
        super().__init__()
        self.algorithm, self.existing, self.body = algorithm, existing, body
        self.name = f"single-post-{algorithm}-{len(body)}{'-existing' if existing else ''}"

    def prepare(self, client):
        if self.existing:
            client.push_blob(OTHER, self.body, self.algorithm)

    def run(self, client):
        query = f"?digest={digest(self.body, self.algorithm)}"
        self.expect(client.post(f"/v2/{REPO}/blobs/uploads/{query}", self.body), 201)
        self.done = ["blob"]

    def verify(self, client):
        there = blob_is(client, REPO, self.body, self.algorithm)
        assert there or not self.done
        assert not self.existing or blob_is(client, OTHER, self.body, self.algorithm)

    def finish(self, client):
        self.run(client)
        assert blob_is(client, REPO, self.body, self.algorithm)


class PutWhole(SinglePost):
    """POST, then PUT with the whole blob."""

    def __init__(self):
        super().__init__()
        self.name = "put-whole"

    def run(self, client):
        self.expect(client.put(with_query(client.start_upload(REPO), digest=sha256(DATA)), DATA), 201)
        self.done = ["blob"]


class Mount(Operation):
    name = "mount"

    def prepare(self, client):
        client.push_blob(OTHER, SHARED)

    def run(self, client):
        self.expect(client.post(f"/v2/{REPO}/blobs/uploads/?mount={sha256(SHARED)}&from={OTHER}"), 201)
        self.done = ["blob"]

    def verify(self, client):
        assert blob_is(client, OTHER, SHARED)
        assert blob_is(client, REPO, SHARED) or not self.done

    def finish(self, client):
        self.run(client)
        assert blob_is(client, REPO, SHARED)


class UploadCancel(Operation):
    name = "upload-cancel"

    def prepare(self, client):
        self.location = client.start_upload(REPO)
        self.expect(client.patch(self.location, DATA), 202)

    def run(self, client):
        self.expect(client.delete(self.location), 204)
        self.done = ["gone"]

    def verify(self, client):
        answer = self.expect(client.get(self.location), 204, 404)
        assert answer.status == 404 or not self.done
        assert answer.status == 404 or answer["Range"] == f"0-{len(DATA) - 1}"

    def finish(self, client):
        self.expect(client.delete(self.location), 204, 404)
        assert client.get(self.location).status == 404


class UploadMismatch(Operation):
    """A PUT whose digest is not that of the bytes drops the session."""

    name = "upload-mismatch"

    def prepare(self, client):
        self.location = client.start_upload(REPO)
        self.expect(client.patch(self.location, DATA), 202)

    def run(self, client):
        self.expect(client.put(with_query(self.location, digest=sha256(b"other"))), 400)
        self.done = ["gone"]

    def verify(self, client):
        assert not blob_is(client, REPO, DATA)
        assert client.head(f"/v2/{REPO}/blobs/{sha256(b'other')}").status == 404
        answer = self.expect(client.get(self.location), 204, 404)
        assert answer.status == 404 or not self.done

    def finish(self, client):
        self.expect(client.put(with_query(self.location, digest=sha256(b"other"))), 400, 404)
        assert client.get(self.location).status == 404


class ManifestPut(Operation):
    """Push one manifest. tags: those that must lead to it afterwards."""

    def __init__(self, name, body, reference, query="", tags=(), media_type=OCI_MANIFEST, before=None, fresh=False):
        super().__init__()
        self.name, self.body, self.reference, self.query = name, body, reference, query
        self.tags, self.media_type, self.before, self.fresh = list(tags), media_type, before, fresh
        self.digest = reference if ":" in reference else sha256(body)

    def prepare(self, client):
        for data in (CONFIG, LAYER):
            client.push_blob(REPO, data)
        if not self.fresh:
            client.push_manifest(REPO, "subject", OLD)
        if self.before:
            for tag in self.tags:
                client.push_manifest(REPO, tag, self.before)

    def run(self, client):
        headers = {"Content-Type": self.media_type}
        self.expect(client.put(f"/v2/{REPO}/manifests/{self.reference}{self.query}", self.body, headers), 201)
        self.done = ["manifest"]

    def verify(self, client):
        found = manifest_is(client, self.digest, self.body)
        values = [manifest_is(client, tag, self.body, self.before) for tag in self.tags]
        if self.done:
            self.assert_complete(client)
        for value in values:
            assert value is not None or not self.before, "a moving tag was gone"
            assert value != self.body or found, "a tag leads to what is missing"
        assert self.fresh or manifest_is(client, "subject", OLD)

    def finish(self, client):
        self.run(client)
        self.assert_complete(client)

    def assert_complete(self, client):
        assert manifest_is(client, self.digest, self.body)
        for tag in self.tags:
            assert manifest_is(client, tag, self.body) == self.body
        listed = client.tags(REPO)
        assert set(self.tags) <= set(listed)
        assert REPO in client.get("/v2/_catalog").json()["repositories"]
        if b'"subject"' in self.body:
            assert self.digest in {item["digest"] for item in client.referrers(REPO, SUBJECT["digest"])}


class TagDelete(Operation):
    name = "tag-delete"

    def prepare(self, client):
        for data in (CONFIG, LAYER):
            client.push_blob(REPO, data)
        client.push_manifest(REPO, "gone", OLD)
        client.push_manifest(REPO, "stays", OLD)

    def run(self, client):
        self.expect(client.delete(f"/v2/{REPO}/manifests/gone"), 202)
        self.done = ["gone"]

    def verify(self, client):
        assert manifest_is(client, "gone", OLD) is None or not self.done
        assert manifest_is(client, "stays", OLD) and manifest_is(client, sha256(OLD), OLD)

    def finish(self, client):
        self.expect(client.delete(f"/v2/{REPO}/manifests/gone"), 202, 404)
        assert client.tags(REPO) == ["stays"]
        assert manifest_is(client, "stays", OLD)


class ManifestDelete(Operation):
    """A referrer with two tags, and one tag that has moved away from it."""

    name = "manifest-delete"

    def prepare(self, client):
        for data in (CONFIG, LAYER):
            client.push_blob(REPO, data)
        client.push_manifest(REPO, "subject", OLD)
        client.push_manifest(REPO, sha256(REFERRER), REFERRER, query="?tag=one&tag=two&tag=moved")
        client.push_manifest(REPO, "moved", NEW)

    def run(self, client):
        self.expect(client.delete(f"/v2/{REPO}/manifests/{sha256(REFERRER)}"), 202)
        self.done = ["gone"]

    def verify(self, client):
        there = manifest_is(client, sha256(REFERRER), REFERRER)
        for tag in ("one", "two"):
            assert not manifest_is(client, tag, REFERRER) or there
        listed = [item["digest"] for item in client.referrers(REPO, SUBJECT["digest"])]
        assert there or not listed
        assert not (self.done and there)
        assert manifest_is(client, "moved", NEW) and manifest_is(client, "subject", OLD)

    def finish(self, client):
        self.expect(client.delete(f"/v2/{REPO}/manifests/{sha256(REFERRER)}"), 202, 404)
        assert client.tags(REPO) == ["moved", "subject"]
        assert client.referrers(REPO, SUBJECT["digest"]) == []
        assert manifest_is(client, sha256(REFERRER)) is None


class ReferrersList(Operation):
    """The first list of more referrers than are fetched without writing a snapshot."""

    name = "referrers-list"
    manifests = [orlop.artifact("application/x", SUBJECT, {"number": str(number)}) for number in range(20)]

    def prepare(self, client):
        client.push_blob(REPO, orlop.EMPTY_JSON)
        for data in self.manifests:
            client.push_manifest(REPO, sha256(data), data)

    def run(self, client):
        answer = self.expect(client.get(f"/v2/{REPO}/referrers/{SUBJECT['digest']}"), 200)
        found = [item["digest"] for item in answer.json()["manifests"]]
        assert found == sorted(map(sha256, self.manifests))

    def verify(self, client):
        self.run(client)


class BlobDelete(Operation):
    def __init__(self, shared):
        super().__init__()
        self.shared = shared
        self.name = "blob-delete-shared" if shared else "blob-delete-last"

    def prepare(self, client):
        client.push_blob(REPO, SHARED)
        if self.shared:
            client.push_blob(OTHER, SHARED)

    def run(self, client):
        self.expect(client.delete(f"/v2/{REPO}/blobs/{sha256(SHARED)}"), 202)
        self.done = ["gone"]

    def verify(self, client):
        assert not blob_is(client, REPO, SHARED) or not self.done
        assert not self.shared or blob_is(client, OTHER, SHARED)

    def finish(self, client):
        self.expect(client.delete(f"/v2/{REPO}/blobs/{sha256(SHARED)}"), 202, 404)
        assert not blob_is(client, REPO, SHARED)
        assert not self.shared or blob_is(client, OTHER, SHARED)
        client.push_blob(REPO, SHARED)
        assert blob_is(client, REPO, SHARED)


OPERATIONS = [
    lambda: Session(),
    lambda: Session(existing=True),
    lambda: Session("sha512"),
    lambda: Session("sha512", announce=False),
    lambda: SinglePost(),
    lambda: SinglePost(existing=True),
    lambda: SinglePost("sha512"),
    lambda: SinglePost(body=b""),
    lambda: PutWhole(),
    lambda: Mount(),
    lambda: UploadCancel(),
    lambda: UploadMismatch(),
    lambda: ManifestPut("manifest-first", NEW, "tag", tags=["tag"], fresh=True),
    lambda: ManifestPut("manifest-by-tag", NEW, "tag", tags=["tag"]),
    lambda: ManifestPut("manifest-by-digest", NEW, sha256(NEW)),
    lambda: ManifestPut("manifest-by-sha512", NEW, digest(NEW, "sha512")),
    lambda: ManifestPut("manifest-with-subject", REFERRER, "tag", tags=["tag"]),
    lambda: ManifestPut("manifest-with-tags", NEW, sha256(NEW), "?tag=a&tag=b&tag=c", ["a", "b", "c"]),
    lambda: ManifestPut("manifest-again", NEW, "tag", tags=["tag"], before=NEW),
    lambda: ManifestPut("index", INDEX, "tag", tags=["tag"], media_type=OCI_INDEX),
    lambda: ManifestPut("tag-move", NEW, "tag", tags=["tag"], before=OLD),
    lambda: ManifestPut("tag-move-two", NEW, sha256(NEW), "?tag=a&tag=b", ["a", "b"], before=OLD),
    lambda: TagDelete(),
    lambda: ManifestDelete(),
    lambda: ReferrersList(),
    lambda: BlobDelete(shared=False),
    lambda: BlobDelete(shared=True),
]

# The janitor would take steps of its own in the middle of the count.
ARGS = ["--uploads-janitor-interval", "1h", "--log-level", "warn"]


class Crashes:
    """An operation, run again and again from one prepared store."""

    def __init__(self, folder, make):
        self.folder = folder
        self.make = make
        self.template = folder / "template"
        self.log = folder / "points"
        self.prepared = make()

    def server(self, store, **env):
        return orlop.Server(store, args=ARGS, env=env, program=PROGRAM)

    def prepare(self):
        with self.server(self.template) as server, Client(server.address) as client:
            self.prepared.prepare(client)

    def fresh(self, name):
        """A copy of the prepared store, and the operation that is to run on it."""
        store = self.folder / name
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(self.template, store)
        operation = self.make()
        operation.__dict__.update({key: value for key, value in self.prepared.__dict__.items() if key != "done"})
        return store, operation

    def points(self):
        return self.log.read_text().splitlines() if self.log.exists() else []

    def count(self):
        """The operation undisturbed: the numbers of the first and last step it took itself."""
        store, operation = self.fresh("count")
        server = self.server(store, ORLOP_CRASH_LOG=str(self.log))
        with server, Client(server.address) as client:
            before = len(self.points())
            operation.run(client)
            after = len(self.points())
            operation.verify(client)
            assert_consistent(client)
        return before + 1, after

    def killed_at(self, number):
        """Run it, killed before step `number`; was it killed?"""
        store, operation = self.fresh("store")
        server = self.server(store, ORLOP_CRASH_AT=str(number))
        try:
            status = None
            try:
                server.start()
                with Client(server.address) as client:
                    operation.run(client)
            except (Killed, RuntimeError):
                status = server.wait_dead() if server.process else -signal.SIGKILL
                assert status == -signal.SIGKILL, f"it died of something else: {status}\n{server.log_tail()}"
            if status is None:
                server.kill()  # the last step came after the answer: what was answered must hold all the same
            server.env.clear()
            server.start()
            report = orlop.check(store, program=PROGRAM)
            assert report.status == 0 and report.errors == [], report
            with Client(server.address) as client:
                operation.verify(client)
                assert_consistent(client)
                operation.finish(client)
                assert_consistent(client)
            server.kill()
            return status is not None
        finally:
            server.discard()


@pytest.mark.deadline(90)
@pytest.mark.parametrize("make", OPERATIONS, ids=lambda make: make().name)
def test_kill_at_every_step(work_dir, make):
    crashes = Crashes(work_dir, make)
    crashes.prepare()
    first, last = crashes.count()
    names = [line.split(" ", 1)[1] for line in crashes.points()[first - 1 : last]]
    assert names, "the operation takes no durable step"
    print(f"{len(names)} steps: {', '.join(names)}")
    killed = 0
    for number in range(first, last + 1):
        try:
            killed += crashes.killed_at(number)
        except AssertionError as error:
            step = names[number - first]
            raise AssertionError(
                f"killed before step {number - first + 1} of {len(names)}, '{step}': {error}"
            ) from error
    kills[crashes.prepared.name] = killed
    assert killed >= len(names) - 1, "most kills did not happen"


@pytest.mark.deadline(90)
@pytest.mark.parametrize("first_start", [True, False], ids=["first-start", "start"])
def test_kill_while_starting(work_dir, first_start):
    """A store that is being made, and one that is being opened with leftovers in it."""
    store, log = work_dir / "store", work_dir / "points"
    template = work_dir / "template"
    image = None
    if not first_start:
        with orlop.Server(template, args=ARGS, program=PROGRAM) as server, server.client() as client:
            image = client.push_image(REPO, "tag")
            client.start_upload(REPO)
            server.kill()
            server.start()
        (template / "tmp").mkdir(exist_ok=True)
        (template / "tmp" / "leftover").write_bytes(b"x" * 1000)

    def fresh():
        shutil.rmtree(store, ignore_errors=True)
        if not first_start:
            shutil.copytree(template, store)

    fresh()
    with orlop.Server(store, args=ARGS, env={"ORLOP_CRASH_LOG": str(log)}, program=PROGRAM):
        pass
    count = len(log.read_text().splitlines()) if log.exists() else 0
    assert count > 0 or not first_start
    killed = 0
    for number in range(1, count + 1):
        fresh()
        server = orlop.Server(store, args=ARGS, env={"ORLOP_CRASH_AT": str(number)}, program=PROGRAM)
        try:
            try:
                server.start()
                server.kill()
            except RuntimeError:
                killed += 1
            server.env.clear()
            server.start()
            with server.client() as client:
                if image:
                    assert client.pull_image(REPO, "tag") == image.manifest
                client.push_image(REPO, "again")
            server.stop()
            report = orlop.check(store, program=PROGRAM)
            assert report.status == 0 and report.errors == [], report
        finally:
            server.discard()
    kills[f"start-{first_start}"] = killed


def test_enough_kills():
    """All of it together, as the numbers asked for."""
    if len(kills) < len(OPERATIONS):
        pytest.skip("only some of the operations ran")
    total, seconds = sum(kills.values()), time.monotonic() - started
    print(f"{total} kills in {seconds:.0f} s: {kills}")
    assert total >= KILLS_MIN

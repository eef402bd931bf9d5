"""
A running orlop, and a registry client on top of it.

The binaries come from the environment: ORLOP (build/orlop), ORLOP_RELEASE (build/release/orlop), ORLOP_CRASH
(build/crash/orlop). A server's stderr goes to a file that is searched for sanitizer reports whenever the server stops
or dies; finding one fails the test. A server that is given no store gets a directory of its own, or with
ORLOP_TEST_STORE=s3 a prefix of its own in the bucket that ORLOP_TEST_S3=s3://BUCKET and the AWS_… variables name.
"""

import contextlib
import hashlib
import itertools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse

from rawhttp import Client, Connection

ROOT = pathlib.Path(__file__).resolve().parents[2]

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"

START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 60

SANITIZER_REPORT = re.compile(
    rb"(ERROR: AddressSanitizer|ERROR: LeakSanitizer|WARNING: ThreadSanitizer|runtime error: "
    rb"|AddressSanitizer:DEADLYSIGNAL|ThreadSanitizer:DEADLYSIGNAL|Assertion `)"
)
SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:exitcode=99",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:exitcode=99",
    "TSAN_OPTIONS": "halt_on_error=0:exitcode=66:second_deadlock_stack=1",
}


def binary(variable="ORLOP", default="build/orlop"):
    """The path of a server binary named by the environment, made absolute."""
    path = pathlib.Path(os.environ.get(variable) or ROOT / default)
    return str(path if path.is_absolute() else (pathlib.Path.cwd() / path))


def release_binary():
    return binary("ORLOP_RELEASE", "build/release/orlop")


def crash_binary():
    return binary("ORLOP_CRASH", "build/crash/orlop")


def full_run():
    """Were the long tests asked for?"""
    return os.environ.get("ORLOP_TEST_FULL", "") not in ("", "0")


def temp_dir(prefix="orlop-test-", on_disk=False):
    """A new directory below ORLOP_TEST_TMP, which may be in memory; on_disk where it matters that it is not."""
    base = os.environ.get("ORLOP_TEST_DISK", "/var/tmp") if on_disk else os.environ.get("ORLOP_TEST_TMP")
    return tempfile.mkdtemp(prefix=prefix, dir=base)


def free_port():
    """A port nobody listens on, below the range the kernel gives to outgoing connections."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def sha512(data):
    return "sha512:" + hashlib.sha512(data).hexdigest()


def digest(data, algorithm="sha256"):
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def random_bytes(count):
    """Bytes nobody has pushed before."""
    return random.randbytes(count)


_serial = itertools.count()


def new_repo(prefix="t"):
    """A repository name not used before in this run."""
    return f"{prefix}/r{next(_serial)}"


def new_s3_store():
    """A store in the bucket under test that nobody has used."""
    return f"{os.environ['ORLOP_TEST_S3']}/p{os.getpid()}-{next(_serial)}"


class Server:
    """One `orlop serve` process. Use as a context manager, or start() and stop()/kill()."""

    def __init__(self, store=None, args=(), env=None, program=None, wrapper=()):
        self.program = program or binary()
        self.own_dir = None
        if store is None and os.environ.get("ORLOP_TEST_STORE") == "s3":
            store = new_s3_store()
        if store is None:
            self.own_dir = temp_dir()
            store = os.path.join(self.own_dir, "store")
        self.store = str(store)
        self.args = [str(arg) for arg in args]
        self.env = dict(env or {})
        self.wrapper = list(wrapper)
        self.log_path = None
        self.process = None
        self.port = self.admin_port = 0

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.discard()
            raise

    def __exit__(self, kind, *_):
        try:
            if self.process:
                self.stop() if kind is None else self.kill()
        finally:
            self.discard()

    def discard(self):
        """Kill what runs and remove what this object made. Never fails."""
        if self.process:
            with contextlib.suppress(Exception):
                self.process.kill()
                self.process.wait()
            self.process = None
        if self.own_dir:
            shutil.rmtree(self.own_dir, ignore_errors=True)
        if self.log_path:
            with contextlib.suppress(OSError):
                os.unlink(self.log_path)

    # ---- life ----

    def command(self):
        return [
            *("setpriv", "--pdeathsig", "KILL", "--"),
            *self.wrapper,
            *(self.program, "serve", "--listen", f"127.0.0.1:{self.port}"),
            *("--admin-listen", f"127.0.0.1:{self.admin_port}", "--store", self.store),
            *self.args,
        ]

    def launch(self):
        """Start the process without waiting for it to answer."""
        assert self.process is None
        self.port, self.admin_port = free_port(), free_port()
        if self.log_path is None:
            handle, self.log_path = tempfile.mkstemp(prefix="orlop-log-", dir=os.environ.get("ORLOP_TEST_TMP"))
            os.close(handle)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **SANITIZER_OPTIONS, **self.env},
            )
        return self

    def start(self):
        return self.launch().wait_ready()

    def wait_ready(self):
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                status, self.process = self.process.returncode, None
                raise RuntimeError(f"the server ended with {status} at its start:\n{self.log_tail()}")
            try:
                with Connection(self.address, timeout=5) as connection:
                    connection.send(b"GET /v2/ HTTP/1.1\r\nHost: orlop\r\nConnection: close\r\n\r\n")
                    connection.response()
                    return self
            except (OSError, EOFError):
                time.sleep(0.003)
        raise RuntimeError(f"the server does not answer:\n{self.log_tail()}")

    def stop(self):
        """End it as an operator does, and insist that it ends well."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server does not end on SIGTERM:\n{self.log_tail()}") from None
        self.process = None
        self.assert_clean_log()
        assert status == 0, f"the server ended with {status}:\n{self.log_tail()}"

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process = None
        self.assert_clean_log()

    def wait_dead(self, timeout=30):
        """Wait until it has died by itself; its exit status (negative: a signal)."""
        status = self.process.wait(timeout)
        self.process = None
        self.assert_clean_log()
        return status

    def restart(self, **env):
        """Stop if running, and start again on the same store (at new ports)."""
        if self.process:
            self.stop()
        self.env.update(env)
        return self.start()

    def assert_alive(self):
        status = self.process.poll()
        assert status is None, f"the server died with {status}:\n{self.log_tail()}"
        self.assert_clean_log()

    # ---- looking at it ----

    @property
    def pid(self):
        return self.process.pid

    @property
    def address(self):
        return ("127.0.0.1", self.port)

    @property
    def host(self):
        return f"127.0.0.1:{self.port}"

    @property
    def url(self):
        return f"http://{self.host}"

    def log(self):
        with open(self.log_path, "rb") as log:
            return log.read()

    def log_lines(self, message=None):
        """The log's JSON lines, those with this message when it is given."""
        lines = []
        for line in self.log().splitlines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if message is None or message in (record.get("msg"), record.get("message")):
                    lines.append(record)
        return lines

    def log_tail(self, count=6000):
        return self.log()[-count:].decode("utf-8", "replace")

    def assert_clean_log(self):
        log = self.log()
        found = SANITIZER_REPORT.search(log)
        assert not found, f"sanitizer report:\n{log[found.start() : found.start() + 8000].decode('utf-8', 'replace')}"

    def proc_io(self):
        """/proc/PID/io: rchar, wchar, read_bytes …"""
        with open(f"/proc/{self.pid}/io") as io:
            return {key: int(value) for key, value in (line.split(":") for line in io)}

    def proc_status_kib(self, field):
        """A size from /proc/PID/status (VmHWM, VmRSS) in KiB."""
        with open(f"/proc/{self.pid}/status") as status:
            for line in status:
                if line.startswith(field + ":"):
                    return int(line.split()[1])
        raise KeyError(field)

    def reset_peak_rss(self):
        with open(f"/proc/{self.pid}/clear_refs", "w") as refs:
            refs.write("5")

    def admin(self, path):
        with Client(("127.0.0.1", self.admin_port)) as client:
            return client.get(path)

    def metrics(self):
        """Every sample of /metrics: {'name{labels}': value}."""
        answer = self.admin("/metrics")
        assert answer.status == 200
        samples = {}
        for line in answer.body.decode().splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                samples[name] = float(value)
        return samples

    def assert_pulled_as_set(self):
        """After pulls: clients were sent to the object store when ORLOP_S3_REDIRECT says always, and else never."""
        redirects = self.metrics()['orlop_http_requests_total{class="3xx"}']
        assert (redirects > 0) == (os.environ.get("ORLOP_S3_REDIRECT") == "always"), redirects

    def load(self):
        """(connections, requests) that are open now, less the one this question takes."""
        metrics = self.metrics()
        return metrics["orlop_http_connections"] - 1, metrics["orlop_http_requests_active"] - 1

    def client(self, **kw):
        return Registry(self.address, **kw)

    def check(self, *args):
        """`orlop check` of this server's store."""
        return check(self.store, *args, program=self.program)

    def assert_check_clean(self, *args):
        report = self.check(*args)
        assert report.status == 0 and report.errors == [], report
        return report


class CheckReport:
    """What `orlop check --json` said."""

    def __init__(self, status, stdout, stderr):
        self.status = status
        self.stdout = stdout
        self.stderr = stderr
        self.data = None
        with contextlib.suppress(ValueError):
            self.data = json.loads(stdout)
        findings = (self.data or {}).get("findings", [])
        self.errors = [finding for finding in findings if finding["severity"] == "error"]
        self.leftovers = [finding for finding in findings if finding["severity"] != "error"]

    def __repr__(self):
        return f"<check: exit {self.status}\n{self.stdout}\n{self.stderr}>"


def check(store, *args, program=None):
    result = subprocess.run(
        [program or binary(), "check", "--store", str(store), "--json", *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **SANITIZER_OPTIONS},
    )
    assert not SANITIZER_REPORT.search(result.stderr.encode()), result.stderr
    return CheckReport(result.returncode, result.stdout, result.stderr)


def run_cli(*args, program=None, timeout=60, env=None, wrapper=(), **kw):
    """Any other subcommand."""
    result = subprocess.run(
        [*wrapper, program or binary(), *map(str, args)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **SANITIZER_OPTIONS, **(env or {})},
        **kw,
    )
    assert not SANITIZER_REPORT.search(result.stderr.encode()), result.stderr
    return result


# ---- manifests ----


def descriptor(data, media_type, algorithm="sha256", **more):
    return {"mediaType": media_type, "digest": digest(data, algorithm), "size": len(data), **more}


def encode(document):
    return json.dumps(document, separators=(",", ":")).encode()


def manifest(config, layers, media_type=OCI_MANIFEST, **more):
    """An image manifest from descriptors; more: subject, annotations, artifactType …"""
    return encode({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers, **more})


def index(manifests, media_type=OCI_INDEX, **more):
    return encode({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests, **more})


EMPTY_JSON = b"{}"


def artifact(artifact_type, subject=None, annotations=None, config_type=OCI_EMPTY, **more):
    """A manifest with the empty config and one empty layer, as artifact tools push it."""
    config = descriptor(EMPTY_JSON, config_type)
    layer = descriptor(EMPTY_JSON, OCI_EMPTY)
    fields = dict(more)
    if artifact_type is not None:
        fields["artifactType"] = artifact_type
    if subject is not None:
        fields["subject"] = subject
    if annotations is not None:
        fields["annotations"] = annotations
    return manifest(config, [layer], **fields)


class Registry(Client):
    """A client that knows the distribution API; push_* insist on success."""

    def start_upload(self, repo, query=""):
        """Open a session; its URL."""
        answer = self.post(f"/v2/{repo}/blobs/uploads/{query}")
        assert answer.status == 202, answer
        return answer["Location"]

    def push_blob(self, repo, data, algorithm="sha256"):
        """POST then PUT; the digest."""
        name = digest(data, algorithm)
        query = "" if algorithm == "sha256" else f"?digest-algorithm={algorithm}"
        answer = self.put(with_query(self.start_upload(repo, query), digest=name), data)
        assert answer.status == 201, answer
        return name

    def push_manifest(self, repo, reference, data, media_type=OCI_MANIFEST, query="", headers=()):
        answer = self.put(f"/v2/{repo}/manifests/{reference}{query}", data, [("Content-Type", media_type), *headers])
        assert answer.status == 201, answer
        return answer

    def push_artifact(self, repo, artifact_type, subject=None, annotations=None, tag=None, **more):
        """Push an artifact by digest (or tag), its empty blob included; (digest, bytes)."""
        self.push_blob(repo, EMPTY_JSON)
        data = artifact(artifact_type, subject, annotations, **more)
        self.push_manifest(repo, tag or sha256(data), data)
        return sha256(data), data

    def push_image(self, repo, tag=None, layers=1, layer_bytes=1000, seed=None):
        """A small image of its own bytes, tagged or by digest; an Image."""
        rng = random.Random(seed)
        blobs = [rng.randbytes(layer_bytes) for _ in range(layers)]
        config = encode({"architecture": "amd64", "os": "linux", "config": {}, "nonce": rng.random()})
        for blob in (config, *blobs):
            self.push_blob(repo, blob)
        data = manifest(descriptor(config, OCI_CONFIG), [descriptor(blob, OCI_LAYER) for blob in blobs])
        self.push_manifest(repo, tag or sha256(data), data)
        return Image(config, blobs, data)

    def get_blob(self, repo, name):
        """GET a blob, and go where a redirect points."""
        answer = self.get(f"/v2/{repo}/blobs/{name}")
        if answer.status != 307:
            return answer
        target = urllib.parse.urlsplit(answer["Location"])
        with Client((target.hostname, target.port)) as store:
            return store.get(f"{target.path}?{target.query}")

    def pull_image(self, repo, reference):
        """GET a manifest and all its blobs, each checked against its digest; the manifest's bytes."""
        answer = self.get(f"/v2/{repo}/manifests/{reference}")
        assert answer.status == 200, answer
        document = answer.json()
        for item in (document["config"], *document["layers"]):
            blob = self.get_blob(repo, item["digest"])
            assert blob.status == 200, blob
            assert digest(blob.body, item["digest"].split(":")[0]) == item["digest"]
        return answer.body

    def tags(self, repo, query=""):
        answer = self.get(f"/v2/{repo}/tags/list{query}")
        assert answer.status == 200, answer
        return answer.json()["tags"]

    def referrers(self, repo, subject, query=""):
        """The descriptors of one page."""
        answer = self.get(f"/v2/{repo}/referrers/{subject}{query}")
        assert answer.status == 200, answer
        return answer.json()["manifests"]


class Image:
    def __init__(self, config, layers, data):
        self.config = config
        self.layers = layers
        self.manifest = data
        self.digest = sha256(data)

    def descriptor(self, **more):
        return descriptor(self.manifest, OCI_MANIFEST, **more)


def with_query(location, **query):
    """An upload URL with parameters added, as clients do it."""
    text = "&".join(f"{name.replace('_', '-')}={value}" for name, value in query.items())
    return f"{location}{'&' if '?' in location else '?'}{text}"


def next_link(answer):
    """The target of a Link header's rel="next"; None when there is none."""
    values = answer.all("Link")
    if not values:
        return None
    assert len(values) == 1, values
    found = re.fullmatch(r'<([^>]+)>; ?rel="next"', values[0])
    assert found, values
    return found[1]


def wait_until(condition, timeout=20, interval=0.02):
    """Poll until condition() is truthy; its value. AssertionError when it never is."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(interval)

"""What the S3 servers of the tests have in common: their life in one temporary folder, their keys, their buckets."""

import contextlib
import hashlib
import hmac
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import orlop

START_TIMEOUT_S = 60
COMMAND_TIMEOUT_S = 60
MEMORY_FOLDER = "/dev/shm"


class CannotStart(Exception):
    """There can be no such server on this machine; says why."""


class S3Server:
    """Use as a context manager. A server says its name, keys and programs, and how it starts (launch)."""

    name = access_key = secret_key = ""
    region = "us-east-1"
    programs = ()
    packages = "packaging/install-deps.sh test"

    def __init__(self, port=0):
        self.port = port or orlop.free_port()
        self.folder = None
        self.processes = {}
        self.buckets = 0

    def __enter__(self):
        try:
            missing = [name for name in self.programs if not shutil.which(name)]
            if missing:
                raise CannotStart(f"not installed: {', '.join(missing)} ({self.packages})")
            self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"orlop-{self.name}-", dir=self.base_folder()))
            (self.folder / "log").mkdir()
            self.launch()
            return self
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_):
        self.stop()

    def base_folder(self):
        """In memory where there is some: what these servers sync costs nothing there."""
        return MEMORY_FOLDER if os.access(MEMORY_FOLDER, os.W_OK) else None

    def launch(self):
        raise NotImplementedError

    def stop(self):
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()
        self.processes.clear()
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    # ---- what a test needs to know ----

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def environment(self):
        """What an S3 client reads. Settings of the user who runs the tests are kept out of it."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def new_bucket(self):
        """The name of a new, empty bucket."""
        self.buckets += 1
        name = f"orlop-{os.getpid()}-{self.buckets}"
        request = urllib.request.Request(f"{self.url}/{name}", method="PUT", headers=self._signature("PUT", f"/{name}"))
        try:
            urllib.request.urlopen(request, timeout=COMMAND_TIMEOUT_S).read()
        except urllib.error.HTTPError as error:
            raise CannotStart(f"it makes no bucket: {error.read().decode(errors='replace')[:2000]}") from None
        return name

    def _signature(self, method, path):
        """The headers that sign a request without query and body (AWS Signature Version 4)."""
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers = {"host": f"127.0.0.1:{self.port}", "x-amz-content-sha256": "UNSIGNED-PAYLOAD", "x-amz-date": now}
        names = ";".join(headers)
        lines = [method, path, "", *(f"{name}:{value}" for name, value in headers.items()), "", names, "UNSIGNED-PAYLOAD"]
        scope = [now[:8], self.region, "s3", "aws4_request"]
        key = f"AWS4{self.secret_key}".encode()
        for text in scope:
            key = hmac.digest(key, text.encode(), "sha256")
        canonical = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        signed = "\n".join(["AWS4-HMAC-SHA256", now, "/".join(scope), canonical])
        signature = hmac.digest(key, signed.encode(), "sha256").hex()
        credential = "/".join([self.access_key, *scope])
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
        )
        return headers

    # ---- processes ----

    def daemon(self, name, *command, environment=None):
        """Start a program that ends with us, whatever happens to us."""
        with open(self.folder / "log" / f"{name}.output", "ab") as output:
            self.processes[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                env={**os.environ, **(environment or {})},
            )

    def wait_for_answer(self, name, url=None):
        """Wait until the daemon of that name answers requests, at the server's own address or at this one."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(url or self.url, timeout=5).read()
                return
            status = self.processes[name].poll()
            if status is not None:
                raise CannotStart(f"{name} ended with {status}:\n{self.log_tail(name)}")
            if time.monotonic() > deadline:
                raise CannotStart(f"{name} does not answer:\n{self.log_tail(name)}")
            time.sleep(0.1)

    def log_tail(self, name):
        return (self.folder / "log" / f"{name}.output").read_text(errors="replace")[-3000:]

    def run(self, *command, timeout_s=COMMAND_TIMEOUT_S, meanwhile=lambda: None):
        """Run it to its end; meanwhile() is called again and again until then."""
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.folder)
            deadline = time.monotonic() + timeout_s
            while process.poll() is None:
                if time.monotonic() > deadline:
                    process.kill()
                    process.wait()
                    raise CannotStart(f"{command[0]} hangs")
                meanwhile()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.1)
            if process.returncode != 0:
                output.seek(0)
                raise CannotStart(f"{command[0]}: {output.read().decode(errors='replace')[-2000:]}")


@contextlib.contextmanager
def in_environment(server):
    """os.environ names this server and a new bucket of it for as long as this lasts."""
    changes = {**server.environment(), "ORLOP_TEST_S3": f"s3://{server.new_bucket()}"}
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield server
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

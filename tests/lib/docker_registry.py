"""
docker-registry (Debian's package) on the S3 server under test, to compare with: the same requests to it, counted by the
same proxy.
"""

import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import urllib.parse

import orlop
from rawhttp import Client

PROGRAM = "docker-registry"
START_TIMEOUT_S = 30
HTTP_SECRET = "the same on all of them, so that uploads can move"


class CannotStart(Exception):
    """There can be none on this machine; says why."""


class DockerRegistry:
    """One node. Use as a context manager. folder: where in the bucket under test; endpoint: of the S3 server."""

    def __init__(self, folder, endpoint):
        self.folder = folder
        self.endpoint = endpoint
        self.port = 0
        self.process = None
        self.own_dir = None

    @staticmethod
    def version():
        """What it says of itself ("2.8.2+ds1")."""
        if not shutil.which(PROGRAM):
            raise CannotStart(f"{PROGRAM} is not installed (apt-get install {PROGRAM})")
        words = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout.split()
        return words[-1]

    def __enter__(self):
        self.version()
        self.own_dir = pathlib.Path(tempfile.mkdtemp(prefix="orlop-docker-registry-"))
        self.port = orlop.free_port()
        (self.own_dir / "config.yml").write_text(self._configuration())
        # It cannot start with a CA bundle in the environment.
        env = {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}
        with open(self.own_dir / "log", "wb") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", PROGRAM, "serve", str(self.own_dir / "config.yml")],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.own_dir)

    def client(self):
        return orlop.Registry(("127.0.0.1", self.port))

    def _wait(self):
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                with Client(("127.0.0.1", self.port)) as client:
                    if client.get("/v2/").status == 200:
                        return
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise CannotStart(f"{PROGRAM} does not start: {(self.own_dir / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def _configuration(self):
        """As Debian configures it, but for S3 and with nothing that works by itself."""
        bucket = urllib.parse.urlsplit(os.environ["ORLOP_TEST_S3"]).netloc
        return f"""
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  cache: {{blobdescriptor: inmemory}}
  delete: {{enabled: true}}
  maintenance: {{uploadpurging: {{enabled: false}}}}
  s3:
    region: {os.environ["AWS_REGION"]}
    regionendpoint: {self.endpoint}
    bucket: {bucket}
    accesskey: {os.environ["AWS_ACCESS_KEY_ID"]}
    secretkey: {os.environ["AWS_SECRET_ACCESS_KEY"]}
    secure: false
    v4auth: true
    rootdirectory: /{self.folder}
http:
  addr: 127.0.0.1:{self.port}
  secret: {HTTP_SECRET}
  relativeurls: true
"""

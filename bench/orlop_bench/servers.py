"""
The contestants: orlop, docker-registry, nginx (static files). Each in a directory and on ports of its own, with its
store in that directory or in a bucket.
"""

import errno
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import process, s3
from .process import Usage

START_S_MAX = 20
STOP_S_MAX = 30
IDLE_CONNECTIONS = 10_000


class ServerFailed(Exception):
    """A server did not start, or ended by itself."""


@dataclass
class Server:
    name: str
    directory: Path
    port: int
    bucket: s3.Bucket | None = None
    redirect: bool = False  # blob GETs to S3, on S3
    _process: subprocess.Popen | None = None
    _usage_at_mark: Usage = field(default_factory=lambda: Usage(0, 0, 0))

    def prepare(self) -> None:
        """Write configuration and folders."""

    def arguments(self) -> list[str]:
        raise NotImplementedError

    @property
    def store(self) -> Path:
        return self.directory / "store"

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def start(self) -> float:
        """Seconds from the making of the process to its first 200 on /v2/."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.bucket and not self.bucket.name:
            self.bucket.renew()
        self.prepare()
        arguments, environment = self.arguments(), self._environment()
        with open(self.directory / "log", "ab") as log:
            begin = time.perf_counter()
            self._process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
            while not _answers(self.port):
                if self._process.poll() is not None or time.perf_counter() - begin > START_S_MAX:
                    self.stop()
                    raise ServerFailed(f"{self.name} does not start:\n{self._log_end()}")
                time.sleep(0.0002)
            return time.perf_counter() - begin

    def kill(self) -> None:
        """As a crash would."""
        assert self._process
        self._process.kill()
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        if not self._process:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def check_alive(self) -> None:
        if not self._process or self._process.poll() is not None:
            raise ServerFailed(f"{self.name} ended by itself:\n{self._log_end()}")

    def discard(self) -> None:
        """Stop it and remove its store."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
        if self.bucket:
            self.bucket.discard()

    def renew(self) -> float:
        """A fresh process on an empty store; the seconds are start()'s."""
        self.discard()
        return self.start()

    def usage(self) -> Usage:
        return process.usage(self.pid)

    def mark(self) -> None:
        """Usage counts from here."""
        process.reset_peak(self.pid)
        self._usage_at_mark = self.usage()
        if self.bucket:
            self.bucket.count()

    def usage_since_mark(self) -> Usage:
        self.check_alive()
        now = self.usage()
        traffic = self.bucket.count_to_the_end() if self.bucket else None
        return Usage(now.cpu_s - self._usage_at_mark.cpu_s, now.rss_kib, now.rss_peak_kib, traffic)

    def _environment(self) -> dict[str, str]:
        """Ours, without the AWS settings of whoever runs this."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return own | (self.bucket.environment() if self.bucket else {})

    def _log_end(self) -> str:
        log = self.directory / "log"
        return log.read_text(errors="replace")[-2000:] if log.exists() else "(no log)"


@dataclass
class Orlop(Server):
    """As it comes, with its access log going to a file."""

    program: Path = Path("build/release/orlop")

    def arguments(self) -> list[str]:
        store = f"s3://{self.bucket.name}" if self.bucket else str(self.store)
        return [
            str(self.program), "serve",
            "--listen", f"127.0.0.1:{self.port}",
            "--admin-listen", f"127.0.0.1:{self.port + 1}",
            "--store", store,
            *(["--s3-redirect", "always"] if self.redirect else []),
        ]  # fmt: skip

    def version(self) -> str:
        return first_line([str(self.program), "version"])


@dataclass
class DockerRegistry(Server):
    """
    With the settings of Debian's package, less its login, and with a secret so that uploads outlive a restart. On S3
    blobs pass through it, as they do through orlop by default when the store's address is a private one.
    """

    program: str = "docker-registry"

    def prepare(self) -> None:
        self.store.mkdir(exist_ok=True)
        (self.directory / "config.yml").write_text(
            "version: 0.1\n"
            "log:\n  fields:\n    service: registry\n"
            "storage:\n  cache:\n    blobdescriptor: inmemory\n"
            f"{self._driver()}"
            "  delete:\n    enabled: true\n"
            f"http:\n  addr: 127.0.0.1:{self.port}\n  secret: of-the-benchmarks\n"
            "  headers:\n    X-Content-Type-Options: [nosniff]\n"
            "health:\n  storagedriver:\n    enabled: true\n    interval: 10s\n    threshold: 3\n"
        )

    def arguments(self) -> list[str]:
        return [self.program, "serve", str(self.directory / "config.yml")]

    def version(self) -> str:
        return first_line([self.program, "--version"]).removeprefix(self.program).strip()

    def _driver(self) -> str:
        if not self.bucket:
            return f"  filesystem:\n    rootdirectory: {self.store}\n"
        return (
            f"  s3:\n    region: {s3.REGION}\n    regionendpoint: {self.bucket.proxy.url}\n"
            f"    bucket: {self.bucket.name}\n"
            f"    accesskey: {s3.ACCESS_KEY}\n    secretkey: {s3.SECRET_KEY}\n    secure: false\n    v4auth: true\n"
            f"    rootdirectory: /\n  redirect:\n    disable: {str(not self.redirect).lower()}\n"
        )


@dataclass
class Nginx(Server):
    """Serves files with the settings of Debian's package."""

    access_log: bool = True
    worker_connections: int = 768

    def prepare(self) -> None:
        self.put("/v2/index.html", b"{}")
        access_log = self.directory / "access.log" if self.access_log else "off"
        own_user = "user root root;\n" if os.getuid() == 0 else ""  # the workers must be able to read the store
        (self.directory / "nginx.conf").write_text(
            f"{own_user}worker_processes auto;\ndaemon off;\npid {self.directory}/nginx.pid;\n"
            f"error_log {self.directory}/error.log;\n"
            f"events {{ worker_connections {self.worker_connections}; }}\n"
            "http {\n"
            "  sendfile on;\n  tcp_nopush on;\n  types_hash_max_size 2048;\n  gzip on;\n"
            "  include /etc/nginx/mime.types;\n  default_type application/octet-stream;\n"
            f"  access_log {access_log};\n"
            f"  client_body_temp_path {self.directory}/t1;\n  proxy_temp_path {self.directory}/t2;\n"
            f"  fastcgi_temp_path {self.directory}/t3;\n  uwsgi_temp_path {self.directory}/t4;\n"
            f"  scgi_temp_path {self.directory}/t5;\n"
            f"  server {{ listen 127.0.0.1:{self.port}; root {self.store}; }}\n"
            "}\n"
        )

    def arguments(self) -> list[str]:
        # -e: where errors go until the configuration is read
        return [_nginx(), "-c", str(self.directory / "nginx.conf"), "-e", str(self.directory / "error.log")]

    def put(self, target: str, data: bytes) -> None:
        self.path(target).write_bytes(data)

    def path(self, target: str) -> Path:
        path = self.store / target.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def version(self) -> str:
        return first_line([_nginx(), "-v"]).removeprefix("nginx version: ")


def _nginx() -> str:
    return shutil.which("nginx") or "/usr/sbin/nginx"


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(b"GET /v2/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            return connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    except OSError as error:
        if error.errno in (errno.ECONNREFUSED, errno.ECONNRESET):
            return False
        raise


def first_line(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    return ((done.stdout + done.stderr).splitlines() or ["unknown"])[0]

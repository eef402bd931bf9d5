"""An object store: Ceph's S3 gateway, and before it, for each contestant, a counting, delaying proxy."""

import datetime
import hashlib
import hmac
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from . import programs

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/lib"))

import rgw  # noqa: E402  (the path is set above)

REMOVED_BYTES = 12 << 30
FREE_SHARE = 4  # no more than one part in so many of the disk
QUIET_S = 0.05
CannotStart = rgw.CannotStart
ACCESS_KEY, SECRET_KEY, REGION = rgw.Rgw.access_key, rgw.Rgw.secret_key, rgw.Rgw.region


@dataclass(frozen=True)
class Traffic:
    """What went through a proxy: for each operation its requests, and bytes of bodies to and from the store."""

    operations: dict[str, dict[str, int]]

    @property
    def requests(self) -> int:
        return self._sum("requests")

    @property
    def data_bytes_read(self) -> int:
        """Bodies of objects, and not those of listings and other answers."""
        return self.operations.get("GetObject", {}).get("down", 0)

    @property
    def bytes_up(self) -> int:
        return self._sum("up")

    @property
    def bytes_down(self) -> int:
        return self._sum("down")

    def __add__(self, other: "Traffic") -> "Traffic":
        total = {name: dict(counts) for name, counts in self.operations.items()}
        for name, counts in other.operations.items():
            mine = total.setdefault(name, dict.fromkeys(counts, 0))
            for what, count in counts.items():
                mine[what] += count
        return Traffic(total)

    def _sum(self, name: str) -> int:
        return sum(operation[name] for operation in self.operations.values())


def signed_headers(method: str, host: str, path: str, query: str = "") -> dict[str, str]:
    """Headers that make a request without a body a signed one (AWS Signature Version 4)."""
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    fields = {"host": host, "x-amz-content-sha256": "UNSIGNED-PAYLOAD", "x-amz-date": stamp}
    names = ";".join(fields)
    canonical = [method, path, query, *(f"{name}:{value}" for name, value in fields.items()), "", names]
    canonical.append("UNSIGNED-PAYLOAD")
    scope = f"{stamp[:8]}/{REGION}/s3/aws4_request"
    digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    key = f"AWS4{SECRET_KEY}".encode()
    for part in (*scope.split("/"), f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"):
        key = hmac.digest(key, part.encode(), "sha256")
    credential = f"Credential={ACCESS_KEY}/{scope}"
    authorization = f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={key.hex()}"
    return {name: value for name, value in fields.items() if name != "host"} | {"Authorization": authorization}


class Proxy:
    """A process of s3delay; see there."""

    def __init__(self, program: Path, port: int, store_port: int) -> None:
        self.port = port
        self.delay_ms = 0
        command = [str(program), str(port), str(store_port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._read() == "ready", "s3delay does not start"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def delay(self, milliseconds: int) -> None:
        self.delay_ms = milliseconds
        assert self._ask(f"delay {milliseconds}") == "ok"

    def count(self) -> Traffic:
        """Since the last call."""
        return Traffic(json.loads(self._ask("count")))

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _ask(self, text: str) -> str:
        assert self._process.stdin
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()


class Bucket:
    """
    A contestant's own bucket, behind its own proxy; renewed for each round. The old ones are removed when there is much
    in them, as that takes seconds and keeps the gateway busy beyond them.
    """

    def __init__(self, store: "Store", proxy: Proxy) -> None:
        self.store, self.proxy = store, proxy
        self.name = ""
        self.bytes_up = 0

    def count(self) -> Traffic:
        """Since the last call."""
        traffic = self.proxy.count()
        self.bytes_up += traffic.bytes_up
        return traffic

    def count_to_the_end(self) -> Traffic:
        """The same, when what was left running behind the last answer has ended."""
        traffic = self.count()
        more = traffic
        while more.requests:
            time.sleep(QUIET_S + self.proxy.delay_ms / 1000)
            more = self.count()
            traffic += more
        return traffic

    def renew(self) -> None:
        self.discard()
        self.name = self.store.gateway.new_bucket()

    def discard(self) -> None:
        self.count()
        if self.name:
            self.store.throw_away(self.name, self.bytes_up)
        self.name, self.bytes_up = "", 0

    def environment(self) -> dict[str, str]:
        return self.store.gateway.environment() | {"AWS_ENDPOINT_URL": self.proxy.url}


class Store:
    """The gateway and the proxies before it; as a context manager, for as long as it lasts."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self._port = port
        self._proxies: list[Proxy] = []
        self._thrown_away: list[str] = []  # names of buckets
        self._thrown_away_bytes = 0

    def __enter__(self) -> "Store":
        program = programs.build("s3delay", self.directory)
        self.gateway = rgw.Rgw(self._next_port(), self._next_port(), "bluestore", base=self.directory)
        self._program = program
        self.gateway.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for proxy in self._proxies:
            proxy.stop()
        self.gateway.stop()

    def new_bucket(self) -> Bucket:
        self._proxies.append(Proxy(self._program, self._next_port(), self.gateway.port))
        return Bucket(self, self._proxies[-1])

    def throw_away(self, bucket: str, holds_bytes: int) -> None:
        self._thrown_away.append(bucket)
        self._thrown_away_bytes += holds_bytes
        room = shutil.disk_usage(self.directory).free // FREE_SHARE
        if self._thrown_away_bytes < min(REMOVED_BYTES, room):
            return
        for name in self._thrown_away:
            self.gateway.remove_bucket(name)
        self._thrown_away, self._thrown_away_bytes = [], 0

    def delay(self, milliseconds: int) -> None:
        for proxy in self._proxies:
            proxy.delay(milliseconds)

    def _next_port(self) -> int:
        self._port += 1
        return self._port - 1

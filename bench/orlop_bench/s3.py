"""An object store for the benchmarks: Ceph's S3 gateway, and before it, for each contestant, a counting, delaying proxy."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/lib"))

import rgw  # noqa: E402  (the path is set above)

PROXY_SOURCE = TOP / "bench/s3delay.c"
REMOVED_BYTES = 128 << 20
CannotStart = rgw.CannotStart


@dataclass(frozen=True)
class Traffic:
    """What went through a proxy: for each operation its requests, and bytes of bodies to and from the store."""

    operations: dict[str, dict[str, int]]

    @property
    def requests(self) -> int:
        return self._sum("requests")

    @property
    def bytes_up(self) -> int:
        return self._sum("up")

    @property
    def bytes_down(self) -> int:
        return self._sum("down")

    def _sum(self, name: str) -> int:
        return sum(operation[name] for operation in self.operations.values())


def build_proxy(directory: Path) -> Path:
    program = directory / "s3delay"
    command = ["cc", "-std=c17", "-O2", "-pthread", "-o", str(program), str(PROXY_SOURCE)]
    subprocess.run(command, check=True)
    return program


class Proxy:
    """A process of s3delay; see there."""

    def __init__(self, program: Path, port: int, store_port: int) -> None:
        self.port = port
        command = [str(program), str(port), str(store_port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._read() == "ready", "s3delay does not start"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def delay(self, milliseconds: int) -> None:
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
    A contestant's own bucket, behind its own proxy; renewed for each round. Of the old ones only those that hold much are
    removed, as that takes seconds.
    """

    def __init__(self, gateway: rgw.Rgw, proxy: Proxy) -> None:
        self.gateway, self.proxy = gateway, proxy
        self.name = ""
        self.bytes_up = 0

    def count(self) -> Traffic:
        """Since the last call."""
        traffic = self.proxy.count()
        self.bytes_up += traffic.bytes_up
        return traffic

    def renew(self) -> None:
        self.discard()
        self.name = self.gateway.new_bucket()

    def discard(self) -> None:
        self.count()
        if self.name and self.bytes_up >= REMOVED_BYTES:
            self.gateway.remove_bucket(self.name)
        self.name, self.bytes_up = "", 0

    def environment(self) -> dict[str, str]:
        return self.gateway.environment() | {"AWS_ENDPOINT_URL": self.proxy.url}


class Store:
    """The gateway and the proxies before it; as a context manager, for as long as it lasts."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self._port = port
        self._proxies: list[Proxy] = []

    def __enter__(self) -> "Store":
        program = build_proxy(self.directory)
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
        return Bucket(self.gateway, self._proxies[-1])

    def delay(self, milliseconds: int) -> None:
        for proxy in self._proxies:
            proxy.delay(milliseconds)

    def _next_port(self) -> int:
        self._port += 1
        return self._port - 1


ACCESS_KEY, SECRET_KEY, REGION = rgw.ACCESS_KEY, rgw.SECRET_KEY, rgw.REGION

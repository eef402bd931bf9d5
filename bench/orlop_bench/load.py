"""One kind of load on a running registry, for bench/profile.sh:

python3 -m orlop_bench.load KIND PORT SECONDS DIRECTORY
"""

import sys
import time
from pathlib import Path

from . import client, wrk
from .content import Source
from .plan import MIB, REPOSITORY
from .workloads.reads import CONNECTIONS, MANIFEST_BYTES

PUSH_BYTES = 256 * MIB
PUSH_TOTAL_BYTES_MAX = 8 << 30
SMALL_BLOB_BYTES = 8192


def load_manifest(port: int, seconds: float, directory: Path, by_tag: bool) -> str:
    image, blobs = client.make_image(REPOSITORY, "latest", MANIFEST_BYTES)
    client.push_image(port, image, blobs)
    target = image.target(image.tag if by_tag else image.digest)
    found = wrk.get(port, target, threads=1, connections=CONNECTIONS, seconds=int(seconds))
    return f"{found['requests'] / (found['duration_us'] / 1e6):.0f} requests/s, errors {found['errors']}"


def load_push(port: int, seconds: float, directory: Path) -> str:
    source = Source(directory / "source", PUSH_BYTES)
    begin = time.perf_counter()
    pushed = 0
    while time.perf_counter() - begin < seconds and pushed < PUSH_TOTAL_BYTES_MAX:
        client.push_chunked(port, REPOSITORY, source.body(PUSH_BYTES))
        pushed += PUSH_BYTES
    return f"{pushed / MIB / (time.perf_counter() - begin):.0f} MiB/s pushed in blobs of {PUSH_BYTES // MIB} MiB"


def load_push_small(port: int, seconds: float, directory: Path) -> str:
    source = Source(directory / "source", SMALL_BLOB_BYTES)
    begin = time.perf_counter()
    pushed = 0
    while time.perf_counter() - begin < seconds:
        client.push_single(port, REPOSITORY, source.body(SMALL_BLOB_BYTES))
        pushed += 1
    return f"{pushed / (time.perf_counter() - begin):.0f} blobs/s of {SMALL_BLOB_BYTES} bytes, one after another"


KINDS = {
    "manifest-digest": lambda port, seconds, directory: load_manifest(port, seconds, directory, by_tag=False),
    "manifest-tag": lambda port, seconds, directory: load_manifest(port, seconds, directory, by_tag=True),
    "push": load_push,
    "push-small": load_push_small,
}

if __name__ == "__main__":
    kind, port_text, seconds_text, directory_text = sys.argv[1:]
    print(KINDS[kind](int(port_text), float(seconds_text), Path(directory_text)))

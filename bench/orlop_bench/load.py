"""One kind of load on a running registry, for bench/profile.sh:

python3 -m orlop_bench.load KIND PORT SECONDS DIRECTORY
"""

import statistics
import sys
import time
from pathlib import Path

from . import client, wrk
from .content import Source
from .plan import MIB, REPOSITORY
from .workloads.reads import CONNECTIONS, MANIFEST_BYTES
from .yardsticks import curl

PUSH_BYTES = 256 * MIB
PUSH_TOTAL_BYTES_MAX = 8 << 30
SMALL_BLOB_BYTES = 8192
REFERRERS = 1000
REFERRER_CONNECTIONS = 4


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


def load_pull(port: int, seconds: float, directory: Path) -> str:
    body = Source(directory / "source", PUSH_BYTES).body(PUSH_BYTES)
    client.push_chunked(port, REPOSITORY, body)
    url = f"http://127.0.0.1:{port}{client.blob_target(REPOSITORY, body.digest)}"
    begin = time.perf_counter()
    rates = []
    while time.perf_counter() - begin < seconds:
        rates.append(curl(url, PUSH_BYTES))
    return f"{statistics.median(rates):.0f} MiB/s pulled in blobs of {PUSH_BYTES // MIB} MiB"


def load_referrers(port: int, seconds: float, directory: Path) -> str:
    subject, blobs = client.make_image(REPOSITORY, "latest")
    client.push_image(port, subject, blobs)
    with client.Connection(port) as connection:
        client.put_blob(connection, REPOSITORY, client.EMPTY_JSON)
        for _ in range(REFERRERS):
            client.put_manifest(connection, *client.make_referrer(subject))
        target = f"/v2/{REPOSITORY}/referrers/{subject.digest}"
        client.listed(connection, target, "manifests", REFERRERS)
    found = wrk.get(port, target, threads=1, connections=REFERRER_CONNECTIONS, seconds=int(seconds))
    return f"{found['requests'] / (found['duration_us'] / 1e6):.0f} lists/s of {REFERRERS}, errors {found['errors']}"


KINDS = {
    "manifest-digest": lambda port, seconds, directory: load_manifest(port, seconds, directory, by_tag=False),
    "manifest-tag": lambda port, seconds, directory: load_manifest(port, seconds, directory, by_tag=True),
    "push": load_push,
    "push-small": load_push_small,
    "pull": load_pull,
    "referrers": load_referrers,
}

if __name__ == "__main__":
    kind, port_text, seconds_text, directory_text = sys.argv[1:]
    print(KINDS[kind](int(port_text), float(seconds_text), Path(directory_text)))

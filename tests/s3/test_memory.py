"""Part memory has one budget for the process: many large pushes at once stay within it, and all of them get on."""

import concurrent.futures
import hashlib
import threading
import time

import orlop
import pytest
import rgw
from orlop import with_query

MIB = 1 << 20
PUSHES = 64
PUSH_BYTES = (256 if orlop.full_run() else 64) * MIB
RSS_MAX_KIB = (256 + 64) * 1024  # the default of s3.part_memory_bytes_max, and 64 MiB for everything else
STANDSTILL_S_MAX = 60


class Progress:
    """When each push last got on, and how long the longest wait for that was."""

    def __init__(self):
        self.lock = threading.Lock()
        self.last = {}
        self.longest_s = 0.0

    def note(self, push):
        now = time.monotonic()
        with self.lock:
            self.longest_s = max(self.longest_s, now - self.last.get(push, now))
            self.last[push] = now


@pytest.fixture
def store(gateway, monkeypatch):
    """In the full run on a gateway that keeps its data on the disk: there is more of it than memory."""
    if not orlop.full_run():
        yield orlop.new_s3_store()
        return
    with rgw.Rgw(objectstore="bluestore") as own:
        for name, value in own.environment().items():
            monkeypatch.setenv(name, value)
        yield f"s3://{own.new_bucket()}/p"


@pytest.mark.deadline(1800 if orlop.full_run() else 240)
def test_concurrent_pushes(store):
    block = hashlib.shake_256(b"orlop").digest(MIB)
    state = hashlib.sha256()
    for _ in range(PUSH_BYTES // MIB):
        state.update(block)
    name = "sha256:" + state.hexdigest()
    progress = Progress()

    def push(server, number):
        def pieces():
            for _ in range(PUSH_BYTES // MIB):
                progress.note(number)
                yield block
            progress.note(number)

        with server.client(timeout=600) as client:
            location = client.start_upload(f"memory/r{number}")
            progress.note(number)
            answer = client.patch(location, pieces(), length=PUSH_BYTES)
            assert answer.status == 202, answer
            progress.note(number)
            answer = client.put(with_query(answer["Location"], digest=name))
            assert answer.status == 201, answer

    with orlop.Server(store, program=orlop.release_binary()) as server:
        started = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(PUSHES) as pool:
            pushes = [pool.submit(push, server, number) for number in range(PUSHES)]
        seconds = time.monotonic() - started
        peak_kib = server.proc_status_kib("VmHWM")
        rate = PUSHES * PUSH_BYTES / MIB / seconds
        print(f"\npeak {peak_kib // 1024} MiB, longest standstill {progress.longest_s:.1f} s, {rate:.0f} MiB/s")
        for finished in pushes:
            finished.result()
        with server.client() as client:
            assert client.head(f"/v2/memory/r0/blobs/{name}")["Content-Length"] == str(PUSH_BYTES)
    assert peak_kib <= RSS_MAX_KIB, f"peak {peak_kib // 1024} MiB"
    assert progress.longest_s <= STANDSTILL_S_MAX

"""Part memory has one budget for the process: many large pushes at once stay within it, and all of them get on."""

import concurrent.futures
import hashlib
import threading
import time

import orlop
import pytest
import s3sink
from orlop import with_query

MIB, GIB = 1 << 20, 1 << 30
PUSHES = 64
PUSH_BYTES = (256 if orlop.full_run() else 64) * MIB
SLACK_KIB = 16 * 1024  # one part more or less under way
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
    """In the full run on a server that keeps no bytes: there is more of them than a test machine holds."""
    if orlop.full_run():
        yield from sink_store(monkeypatch)
    else:
        yield orlop.new_s3_store()


def sink_store(monkeypatch):
    with s3sink.Sink() as sink:
        for name, value in sink.environment().items():
            monkeypatch.setenv(name, value)
        yield "s3://sink/p"


def push_one(server, repo, size_bytes, piece):
    """In one PATCH, made as it is sent; the digest."""
    state = hashlib.sha256()

    def pieces():
        for number in range(size_bytes // len(piece)):
            data = number.to_bytes(8, "big") + piece[8:]
            state.update(data)
            yield data

    with server.client(timeout=600) as client:
        answer = client.patch(client.start_upload(repo), pieces(), length=size_bytes)
        assert answer.status == 202, answer
        name = "sha256:" + state.hexdigest()
        answer = client.put(with_query(answer["Location"], digest=name))
        assert answer.status == 201, answer
        assert client.head(f"/v2/{repo}/blobs/{name}")["Content-Length"] == str(size_bytes)


@pytest.mark.deadline(1800 if orlop.full_run() else 120)
def test_one_large_push(monkeypatch):
    """Many times the size takes no more memory. The bytes are thrown away beyond the server: what it holds is measured."""
    sizes = [GIB, 20 * GIB] if orlop.full_run() else [320 * MIB, 1280 * MIB]  # parts have grown to what they stay at
    piece, peaks = hashlib.shake_256(b"orlop").digest(MIB), []
    for store in sink_store(monkeypatch):
        for size_bytes in sizes:
            with orlop.Server(store, program=orlop.release_binary()) as server:
                started = time.monotonic()
                push_one(server, "memory/large", size_bytes, piece)
                peaks.append(server.proc_status_kib("VmHWM"))
                rate = size_bytes / MIB / (time.monotonic() - started)
                print(f"\n{size_bytes // MIB} MiB: peak {peaks[-1] // 1024} MiB, {rate:.0f} MiB/s")
    assert peaks[1] <= peaks[0] + SLACK_KIB, f"peaks {peaks} KiB"


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

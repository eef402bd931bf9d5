"""
Verifying a digest never means reading the blob again, shown by counting: what the process reads during the PUT of the
digest, its peak memory at every size, and what a resumed upload reads after the server was killed.
"""

import hashlib
import os
import pathlib
import re
import struct
import subprocess
import time

import orlop
import pytest
from orlop import with_query
from rawhttp import Connection, head_bytes

MIB = 1 << 20
GIB = 1 << 30
SMALL_READS_MAX = 64 * 1024  # records, references, directories: far below any blob here
MAPS_SHARE = 256
PEAK_RSS_KIB_MAX = 32 * 1024
PEAK_RSS_KIB_SPREAD_MAX = 2 * 1024
CHECKPOINT = 64 * MIB

RELEASE = orlop.release_binary()
SIZES = [MIB, GIB, *([8 * GIB] if orlop.full_run() else [])]
PIECE = orlop.random_bytes(MIB - 8)

pytestmark = pytest.mark.skipif(not os.path.exists(RELEASE), reason=f"no release build at {RELEASE}")


def pieces(first, end):
    """Bytes [first, end) of an endless stream of distinct MiB; first is a whole number of MiB."""
    for number in range(first // MIB, -(-end // MIB)):
        piece = struct.pack(">Q", number) + PIECE
        yield piece if (number + 1) * MIB <= end else piece[: end - number * MIB]


class Hashed:
    """The stream, hashed as it is sent, so that each byte is made once."""

    def __init__(self, algorithm):
        self.algorithm = algorithm
        self.hash = hashlib.new(algorithm)

    def pieces(self, first, end):
        for piece in pieces(first, end):
            self.hash.update(piece)
            yield piece

    @property
    def digest(self):
        return f"{self.algorithm}:{self.hash.hexdigest()}"


def start(client, repo, algorithm):
    return client.start_upload(repo, "" if algorithm == "sha256" else f"?digest-algorithm={algorithm}")


def need_room(path, size):
    stats = os.statvfs(path)
    room = stats.f_bavail * stats.f_frsize
    if room < size + GIB:
        pytest.skip(f"needs {size // GIB + 1} GiB of disk, there are {room // GIB}")


peaks = {}


@pytest.mark.deadline(600)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size // MIB}MiB")
def test_put_of_the_digest_reads_nothing(new_server, disk_dir, repo, size):
    need_room(disk_dir, size)
    server = new_server(disk_dir / "store", program=RELEASE)
    with server.client(timeout=300) as client:
        location = start(client, repo, "sha256")
        body = Hashed("sha256")
        assert client.patch(location, body.pieces(0, size), length=size).status == 202
        before = server.proc_io()
        begun = time.monotonic()
        answer = client.put(with_query(location, digest=body.digest))
        took = time.monotonic() - begun
        after = server.proc_io()
        assert answer.status == 201, answer
        read = {key: after[key] - before[key] for key in ("rchar", "read_bytes")}
        print(
            f"{size // MIB} MiB: PUT took {took * 1000:.0f} ms, read {read}, "
            f"peak RSS {server.proc_status_kib('VmHWM')} KiB"
        )
        assert read["rchar"] <= SMALL_READS_MAX
        # The file system finds room for the bytes when they are synced: it may have to read its maps of free blocks.
        assert read["read_bytes"] <= max(SMALL_READS_MAX, size // MAPS_SHARE)
        peaks[size] = server.proc_status_kib("VmHWM")
        assert peaks[size] <= PEAK_RSS_KIB_MAX
        assert server.metrics()["orlop_rehashed_bytes_total"] == 0
        assert client.head(f"/v2/{repo}/blobs/{body.digest}")["Content-Length"] == str(size)
        # and pulling it all costs no memory either
        tail = client.get(f"/v2/{repo}/blobs/{body.digest}", {"Range": f"bytes={size - 1000}-"})
        assert tail.body == list(pieces(size - MIB, size))[0][-1000:]
        assert server.proc_status_kib("VmHWM") <= PEAK_RSS_KIB_MAX


def test_peak_memory_is_the_same_at_every_size():
    if set(peaks) != set(SIZES):
        pytest.skip("the uploads it compares did not all run")
    assert max(peaks.values()) - min(peaks.values()) <= PEAK_RSS_KIB_SPREAD_MAX, peaks


READS = re.compile(
    r"^(?:\[pid +\d+\] |\d+ +)?(read|pread64|readv|preadv2?|mmap|sendfile|copy_file_range|splice)\((.*)$"
)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("whole_in_put", [False, True], ids=["patched", "whole-in-put"])
def test_no_call_reads_blob_data(new_server, work_dir, repo, algorithm, whole_in_put):
    """Every system call of the process, from the first byte to the 201: none reads from the upload or the blob."""
    trace = work_dir / "trace"
    server = new_server(program=RELEASE)
    calls = "read,pread64,readv,preadv,preadv2,mmap,sendfile,copy_file_range,splice"
    try:
        tracer = subprocess.Popen(
            ["strace", "-f", "-y", "-qq", "-e", f"trace={calls}", "-o", trace, "-p", str(server.pid)],
            stderr=subprocess.PIPE,
        )
    except FileNotFoundError:
        pytest.skip("strace is not installed")
    try:
        orlop.wait_until(lambda: int(status_of(server, "TracerPid")) != 0 or tracer.poll() is not None)
        if tracer.poll() is not None:
            pytest.skip(f"cannot trace here: {tracer.stderr.read().decode().strip()}")
        time.sleep(0.2)  # strace attaches thread by thread
        with server.client() as client:
            body = Hashed(algorithm)
            data = b"".join(body.pieces(0, 3 * MIB))
            location = start(client, repo, algorithm)
            if not whole_in_put:
                assert client.patch(location, data[:MIB]).status == 202
                assert client.patch(location, data[MIB:]).status == 202
                data = b""
            assert client.put(with_query(location, digest=body.digest), data).status == 201
            # what does read the blob, to see that it would have been seen: it goes out by sendfile
            assert len(client.get(f"/v2/{repo}/blobs/{body.digest}").body) == 3 * MIB
    finally:
        tracer.terminate()
        tracer.wait()
    touched = []
    for line in trace.read_text().splitlines():
        found = READS.match(line)
        if found and re.search(r"/(uploads/[^/>]+/data|blobs/sha(256|512)/)", found[2]):
            touched.append((found[1], line))
    assert touched, "the trace does not see how a blob is read"
    assert [line for call, line in touched if call != "sendfile"] == []


def status_of(server, field):
    for line in pathlib.Path(f"/proc/{server.pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return line.split()[1]
    raise KeyError(field)


# ---- killed in the middle ----

KILL_AFTER = 150 * MIB
WHOLE = 200 * MIB


def kill_in_patch(server, repo, algorithm):
    """Upload KILL_AFTER bytes of one long PATCH, then SIGKILL the server; the session's path."""
    with server.client(timeout=120) as client:
        location = start(client, repo, algorithm)
    with Connection(server.address, timeout=120) as connection:
        connection.send(head_bytes("PATCH", location, server.host, [("Content-Length", WHOLE)]))
        for piece in pieces(0, KILL_AFTER):
            connection.send(piece)
        data = pathlib.Path(server.store) / "uploads" / location.rsplit("/", 1)[1] / "data"
        orlop.wait_until(lambda: data.stat().st_size > 2 * CHECKPOINT)
        server.kill()
    return location


def record_path(server, location):
    return pathlib.Path(server.store) / "uploads" / location.rsplit("/", 1)[1] / "record"


def resume_and_finish(server, repo, location, algorithm):
    """Ask for the status, go on from there, finish; (offset resumed from, bytes the server read)."""
    with server.client(timeout=120) as client:
        status = client.get(location)
        assert status.status == 204, status
        held = int(status["Range"].split("-")[1]) + 1
        assert held % MIB == 0, "the body came in whole MiB"
        body = hashlib.new(algorithm)
        for piece in pieces(0, WHOLE):
            body.update(piece)
        digest = f"{algorithm}:{body.hexdigest()}"
        before = server.proc_io()
        answer = client.patch(
            location, pieces(held, WHOLE), {"Content-Range": f"{held}-{WHOLE - 1}"}, length=WHOLE - held
        )
        assert answer.status == 202, answer
        answer = client.put(with_query(location, digest=digest))
        assert answer.status == 201, answer
        after = server.proc_io()
        got = client.get(f"/v2/{repo}/blobs/{digest}")
        assert hashlib.new(algorithm, got.body).hexdigest() == digest.split(":")[1]
        return held, after["rchar"] - before["rchar"]


@pytest.mark.deadline(180)
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_kill_in_patch_and_resume(new_server, repo, algorithm):
    server = new_server(program=RELEASE)
    location = kill_in_patch(server, repo, algorithm)
    server.start()
    held, read = resume_and_finish(server, repo, location, algorithm)
    assert 2 * CHECKPOINT <= held <= KILL_AFTER, "a kill costs at most one checkpoint"
    assert server.metrics()["orlop_rehashed_bytes_total"] == 0
    assert read <= SMALL_READS_MAX
    server.assert_check_clean("--quick")


# The state record, as its format is documented; numbers are big-endian.


def split_record(data):
    """The fields of a version 2 record."""
    assert data[:4] == b"ORLU"
    (version,) = struct.unpack(">H", data[4:6])
    assert version == 2, "the record's format has a new version: teach it to this test"
    at = 6
    repo_len = data[at]
    repo = data[at : at + 1 + repo_len]
    at += 1 + repo_len
    times = data[at : at + 16]
    at += 16
    boot_len = data[at]
    boot = data[at : at + 1 + boot_len]
    at += 1 + boot_len
    (state_len,) = struct.unpack(">H", data[at : at + 2])
    state = data[at : at + 2 + state_len]
    at += 2 + state_len
    assert at + 4 == len(data) and data[at:] == hashlib.sha256(data[:at]).digest()[:4]
    return repo, times, boot, state


def join_record(version, *fields):
    data = b"ORLU" + struct.pack(">H", version) + b"".join(fields)
    return data + hashlib.sha256(data).digest()[:4]


@pytest.mark.deadline(180)
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_record_of_the_previous_version(new_server, repo, algorithm):
    server = new_server(program=RELEASE)
    location = kill_in_patch(server, repo, algorithm)
    path = record_path(server, location)
    name, times, _, state = split_record(path.read_bytes())
    path.write_bytes(join_record(1, name, times, state))
    server.start()
    held, read = resume_and_finish(server, repo, location, algorithm)
    assert held >= 2 * CHECKPOINT
    assert server.metrics()["orlop_rehashed_bytes_total"] == 0
    assert read <= SMALL_READS_MAX


def damaged_records(data):
    name, times, boot, state = split_record(data)
    yield "newer", join_record(3, name, times, boot, state)
    yield "much newer", join_record(999, name, times, boot, state, b"more")
    yield "version 0", join_record(0, name, times, boot, state)
    yield "only the version changed", data[:4] + b"\0\x09" + data[6:]
    yield "empty", b""
    yield "cut", data[:-1]
    yield "longer", data + b"x"
    yield "bit flipped in the state", data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]
    yield "not a record", b"{}"
    yield (
        "offset beyond the data",
        join_record(2, name, times, boot, state[:4] + struct.pack(">Q", 1 << 50) + state[12:]),
    )


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("restarted", [True, False])
def test_record_of_an_unknown_version_is_an_unknown_upload(new_server, repo, algorithm, restarted):
    server = new_server(program=RELEASE)
    locations = []
    with server.client() as client:
        for _ in range(10):
            location = start(client, repo, algorithm)
            assert client.patch(location, b"x" * 100_000).status == 202
            locations.append(location)
    if restarted:
        server.kill()
    for location, (_, data) in zip(locations, damaged_records(record_path(server, locations[0]).read_bytes())):
        record_path(server, location).write_bytes(data)
    if restarted:
        server.start()
    with server.client() as client:
        for number, location in enumerate(locations):
            request = [
                lambda: client.get(location),
                lambda: client.patch(location, b"y"),
                lambda: client.put(with_query(location, digest=orlop.sha256(b"y")), b"y"),
                lambda: client.delete(location),
            ][number % 4 if restarted else number % 2]
            answer = request()
            if answer.status == 204 and number % 4 == 3 and restarted:
                continue  # cancelling needs no record
            assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN"), (number, answer)
        server.restart()  # the janitor runs at start
        uploads = pathlib.Path(server.store) / "uploads"
        orlop.wait_until(lambda: not uploads.is_dir() or not any(uploads.iterdir()), timeout=30)


def test_after_a_reboot_the_bytes_are_verified(new_server, repo):
    """Bytes not synced may be lost in a power cut: they are read once, counted, and believed only if they are right."""
    server = new_server(program=RELEASE)
    data = orlop.random_bytes(300_000)
    with server.client() as client:
        good, bad = start(client, repo, "sha256"), start(client, repo, "sha256")
        for location in (good, bad):
            assert client.patch(location, data[:200_000]).status == 202
    server.kill()
    for location in (good, bad):
        path = record_path(server, location)
        name, times, _, state = split_record(path.read_bytes())
        boot = b"00000000-0000-0000-0000-000000000000"
        path.write_bytes(join_record(2, name, times, bytes([len(boot)]) + boot, state))
    with open(record_path(server, bad).parent / "data", "r+b") as file:
        file.seek(100_000)
        file.write(b"\0" * 4096)
    server.start()
    with server.client() as client:
        answer = client.patch(bad, data[200_000:])
        assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")
        assert client.patch(good, data[200_000:]).status == 202
        assert client.put(with_query(good, digest=orlop.sha256(data))).status == 201
        assert server.metrics()["orlop_rehashed_bytes_total"] >= 200_000

"""What it would cost without a registry: `tee | sha256sum` for a disk; rclone and curl for an object store."""

import os
import subprocess
import time
from pathlib import Path

from . import s3
from .client import WrongAnswer
from .content import Body
from .plan import MIB, Plan, Site
from .process import Usage
from .results import Series

TEE = "tee | sha256sum"
TEE_SYNCED = "tee | sha256sum; sync"
# The fastest of rclone's settings: 4 or 8 at once, parts of 8 or 16 MiB, with and without its own MD5 beforehand.
RCLONE_SETTINGS = (
    "--s3-upload-concurrency",
    "8",
    "--s3-chunk-size",
    "16M",
    "--s3-disable-checksum",
    "--s3-upload-cutoff",
    "16M",
)


def tee(plan: Plan, body: Body, plain: Series, synced: Series) -> None:
    """The bytes through `cat | tee FILE | sha256sum`, then the file synced."""
    ending, copy = plan.directory / "ending", plan.directory / "copy"
    ending.write_bytes(body.ending)
    os.sync()
    begin, cpu_begin = time.perf_counter(), _children_cpu_s()
    script = '{ head -c "$4" "$1"; cat "$2"; } | tee "$3" | sha256sum'
    beginning = str(body.size - len(body.ending))
    command = ["sh", "-c", script, "sh", str(plan.source.path), str(ending), str(copy), beginning]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    teed = time.perf_counter()
    with open(copy, "rb") as file:
        os.fsync(file.fileno())
    end, cpu_s = time.perf_counter(), _children_cpu_s() - cpu_begin
    copy.unlink()
    if "sha256:" + output.split()[0] != body.digest:
        raise WrongAnswer(f"sha256sum: {output}")
    for series, seconds in ((plain, teed - begin), (synced, end - begin)):
        series.add(body.size / MIB / seconds, Usage(cpu_s, 0, 0))


def rclone_upload(site: Site, path: Path, key: str) -> tuple[float, Usage]:
    """A parallel multipart upload of a file: MiB/s from start to end of the program, and what it used."""
    assert site.own
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RCLONE_"))}
    environment |= {
        "RCLONE_CONFIG": os.devnull,
        "RCLONE_S3_PROVIDER": "Ceph",
        "RCLONE_S3_ACCESS_KEY_ID": s3.ACCESS_KEY,
        "RCLONE_S3_SECRET_ACCESS_KEY": s3.SECRET_KEY,
        "RCLONE_S3_REGION": s3.REGION,
        "RCLONE_S3_ENDPOINT": site.own.proxy.url,
    }
    command = ["rclone", "copyto", str(path), f":s3:{site.own.name}/{key}", "--no-check-dest", "--s3-no-check-bucket"]
    site.own.count()
    begin, cpu_begin = time.perf_counter(), _children_cpu_s()
    subprocess.run([*command, *RCLONE_SETTINGS], env=environment, check=True, capture_output=True)
    seconds, cpu_s = time.perf_counter() - begin, _children_cpu_s() - cpu_begin
    traffic = site.own.count()
    size = path.stat().st_size
    if traffic.operations.get("UploadPart", {}).get("up") != size:
        raise WrongAnswer(f"rclone: {traffic.operations} for {size} bytes")
    return size / MIB / seconds, Usage(cpu_s, 0, 0, traffic)


def curl(url: str, size: int, signed: bool = False) -> float:
    """A GET with curl -o /dev/null: MiB/s."""
    command = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_download} %{time_total}", url]
    if signed:
        command += ["--aws-sigv4", f"aws:amz:{s3.REGION}:s3", "-u", f"{s3.ACCESS_KEY}:{s3.SECRET_KEY}"]
        command += ["-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise WrongAnswer(f"curl: {done.stderr.strip()}")
    status, length, seconds = done.stdout.split()
    if status != "200" or int(length) != size:
        raise WrongAnswer(f"GET with curl: {status}, {length} bytes of {size}")
    return size / MIB / float(seconds)


def _children_cpu_s() -> float:
    times = os.times()
    return times.children_user + times.children_system

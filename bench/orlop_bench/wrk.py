"""Many GETs of one target, with wrk."""

import json
import subprocess
from pathlib import Path

from .client import MANIFEST_TYPE, WrongAnswer

WIRE_BYTES_TOLERANCE = 0.02  # of wrk's bytes a request against those of the checked answer


def get(port: int, target: str, *, threads: int, connections: int, seconds: int, headers: tuple[str, ...] = ()) -> dict:
    command = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s"]
    command += ["-H", f"Accept: {MANIFEST_TYPE}", "-s", str(Path(__file__).with_name("wrk_report.lua"))]
    for header in headers:
        command += ["-H", header]
    output = subprocess.run([*command, f"http://127.0.0.1:{port}{target}"], capture_output=True, text=True, check=True)
    return json.loads(output.stdout.splitlines()[-1])


def rate(found: dict, wire_bytes: int) -> float:
    """Requests a second; wire_bytes is the length of an answer that was looked at."""
    if any(found["errors"].values()) or not found["requests"]:
        raise WrongAnswer(f"wrk: {found}")
    each = found["bytes"] / found["requests"]
    if abs(each - wire_bytes) > WIRE_BYTES_TOLERANCE * wire_bytes:
        raise WrongAnswer(f"wrk: {each:.0f} bytes an answer, the checked one had {wire_bytes}")
    return found["requests"] / (found["duration_us"] / 1e6)

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


def rate(found: dict, wire_bytes: int, connections: int = 0) -> float:
    """
    Requests a second, parts of requests counted as such; wire_bytes is the length of an answer that was looked at.
    At the end each connection may have been in the middle of an answer, which matters when answers are long.
    """
    if any(found["errors"].values()) or not found["requests"]:
        raise WrongAnswer(f"wrk: {found}")
    fewest = (1 - WIRE_BYTES_TOLERANCE) * wire_bytes * found["requests"]
    most = (1 + WIRE_BYTES_TOLERANCE) * wire_bytes * (found["requests"] + connections)
    if not fewest <= found["bytes"] <= most:
        raise WrongAnswer(
            f"wrk: {found['bytes']} bytes in {found['requests']} answers, the checked one had {wire_bytes}"
        )
    answers = found["bytes"] / wire_bytes if connections else found["requests"]
    return answers / (found["duration_us"] / 1e6)

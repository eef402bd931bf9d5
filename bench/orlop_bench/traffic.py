"""Clients that do what production registries see: a process of bench/traffic.c; see there."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import programs
from .client import WrongAnswer

OPERATIONS = ("manifest GET", "manifest HEAD", "blob GET", "blob push", "manifest PUT")
LATE_S_MAX = 60  # a client ends with the answer it waits for


@dataclass(frozen=True)
class Load:
    clients: int
    seconds: int
    seed: int
    file: Path  # what there is to do


def build(directory: Path) -> Path:
    return programs.build("traffic", directory, "curl", "crypto")


def run(program: Path, port: int, load: Load) -> dict[str, list[float]]:
    """The milliseconds that each operation's answers took, the shortest first."""
    command = [program, port, load.clients, load.seconds, load.seed, load.file]
    done = subprocess.run(
        [str(argument) for argument in command], capture_output=True, text=True, timeout=load.seconds + LATE_S_MAX
    )
    if done.returncode:
        raise WrongAnswer(done.stderr.strip())
    names = {operation_name(operation): operation for operation in OPERATIONS}
    found: dict[str, list[float]] = {operation: [] for operation in OPERATIONS}
    for line in done.stdout.splitlines():
        name, microseconds = line.split()
        found[names[name]].append(int(microseconds) / 1000)
    return {operation: sorted(times) for operation, times in found.items()}


def operation_name(operation: str) -> str:
    """As bench/traffic.c spells it."""
    return operation.replace(" ", "-").lower()

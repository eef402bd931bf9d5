"""The programs of bench/ that are in C."""

import subprocess
from pathlib import Path

BENCH = Path(__file__).resolve().parents[1]


def build(name: str, directory: Path, *libraries: str) -> Path:
    """bench/NAME.c, compiled into that directory."""
    program = directory / name
    command = ["cc", "-std=c17", "-O2", "-pthread", "-o", str(program), str(BENCH / f"{name}.c")]
    subprocess.run(command + [f"-l{library}" for library in libraries], check=True)
    return program

"""What a process and its children have used: CPU seconds and memory, read from /proc."""

import os
from dataclasses import dataclass

from .s3 import Traffic

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    cpu_s: float  # user and system, all threads, also ended ones
    rss_kib: int
    rss_peak_kib: int  # since reset_peak()
    traffic: Traffic | None = None  # with the object store


def tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = _stat_fields(int(entry))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry))
    found = [pid]
    for parent in found:
        found.extend(children.get(parent, []))
    return found


def usage(pid: int) -> Usage:
    """The sum over the tree; pages shared by several processes count in each."""
    cpu_ticks = rss = peak = 0
    for member in tree(pid):
        fields = _stat_fields(member)
        if not fields:
            continue
        cpu_ticks += int(fields[11]) + int(fields[12])
        status = _status(member)
        rss += status.get("VmRSS", 0)
        peak += status.get("VmHWM", 0)
    return Usage(cpu_ticks / TICKS_PER_SECOND, rss, peak)


def reset_peak(pid: int) -> None:
    """Peak memory counts anew from here (5: see clear_refs in proc(5))."""
    for member in tree(pid):
        with open(f"/proc/{member}/clear_refs", "w") as control:
            control.write("5")


def _stat_fields(pid: int) -> list[str]:
    """/proc/PID/stat after the name: [0] state, [1] parent, [11] and [12] user and system ticks; empty: it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _status(pid: int) -> dict[str, int]:
    try:
        with open(f"/proc/{pid}/status") as status:
            return {k: int(v.split()[0]) for k, v in (line.split(":", 1) for line in status) if k in ("VmRSS", "VmHWM")}
    except (FileNotFoundError, ProcessLookupError):
        return {}

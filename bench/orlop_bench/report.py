"""The results as a terminal table, as JSON and as Markdown; and the machine they come from."""

import datetime
import json
import os
import platform
import shutil
import statistics
from collections.abc import Iterable
from pathlib import Path

from .results import Figure, Judgement, Series, Verdict

COLOURS = {Verdict.PASS: "32", Verdict.FAIL: "31", Verdict.VOID: "35"}


def machine(directory: Path) -> dict[str, str]:
    memory_kib = int(_line_value("/proc/meminfo", "MemTotal").split()[0])
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _line_value("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory_kib / (1 << 20):.1f} GiB",
        "kernel": platform.release(),
        "file system": _file_system(directory),
        "disk free": f"{shutil.disk_usage(directory).free / (1 << 30):.0f} GiB",
    }


def _line_value(path: str, name: str) -> str:
    with open(path) as file:
        return next((line.partition(":")[2].strip() for line in file if line.startswith(name)), "")


def _file_system(directory: Path) -> str:
    """The type of the mount that holds the directory: the one with the longest matching path."""
    best, kind = "", "unknown"
    with open("/proc/mounts") as mounts:
        for _, point, mount_kind, *_ in map(str.split, mounts):
            inside = str(directory.resolve()) == point or str(directory.resolve()).startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, kind = point, mount_kind
    return kind


# ---- terminal ----


def terminal_figure(figure: Figure) -> str:
    lines = [f"\n{figure.title}  [{figure.unit}; {figure.note}]"]
    lines.append(f"  {'':36}{'median':>12}{'min … max':>26}{'CPU s':>9}{'peak RSS':>12}")
    for series in figure.series.values():
        if not series.valid:
            lines.append(f"  {series.label:36}{'VOID':>12}  {series.fault}")
            continue
        spread = f"{number(min(series.values))} … {number(max(series.values))}"
        lines.append(
            f"  {series.label:36}{number(series.median):>12}{spread:>26}{cpu_text(series):>9}{memory_text(series):>12}"
            + ("   S3: {} requests, {} up, {} down".format(*s3_texts(series)) if series.traffic else "")
        )
    return "\n".join(lines)


def terminal_targets(figures: Iterable[Figure], colour: bool) -> str:
    lines = ["", "Targets (ratios: median of the rounds' ratios, lowest … highest)"]
    for judgement in (judgement for figure in figures for judgement in figure.judge()):
        word = f"{judgement.verdict.value:8}"
        if colour and judgement.verdict in COLOURS:
            word = f"\033[{COLOURS[judgement.verdict]}m{word}\033[0m"
        lines.append(
            f"  {word}  {value_text(judgement):>32}   {judgement.bound:34}  {judgement.figure} ({judgement.subject})"
        )
    return "\n".join(lines)


# ---- files ----


def write_files(directory: Path, about: dict, figures: list[Figure], left_out: list[str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    found = about | {"figures": [figure.as_json() for figure in figures], "left_out": left_out}
    (directory / "latest.json").write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    (directory / "latest.md").write_text(markdown(about, figures, left_out))


def markdown(about: dict, figures: list[Figure], left_out: list[str]) -> str:
    lines = ["# orlop side by side", ""]
    lines += [f"- {name}: {value}" for name, value in (about["machine"] | about["versions"]).items()]
    lines += [f"- run: {about['mode']}", "", "## Targets", ""]
    lines += ["Ratios are the median of the rounds' ratios, with the lowest and the highest.", ""]
    lines += ["| verdict | measured | target | figure |", "|---|---|---|---|"]
    for judgement in (judgement for figure in figures for judgement in figure.judge()):
        subject = f"{judgement.figure} ({judgement.subject})"
        cells = (judgement.verdict.value, value_text(judgement), judgement.bound, subject)
        lines.append(f"| {' | '.join(map(cell, cells))} |")
    lines += ["", "## Figures", "", "CPU seconds are the server's over all rounds, peak RSS its highest in any.", ""]
    for figure in figures:
        lines += [f"### {figure.title}", "", f"{figure.unit}; {figure.note}", ""]
        lines += [*table_head(figure)]
        for series in figure.series.values():
            if not series.valid:
                lines.append(f"| {cell(series.label)} | void: {cell(series.fault)} |")
                continue
            cells = [number(value) for value in (series.median, min(series.values), max(series.values))]
            cells += [str(len(series.values)), cpu_text(series), memory_text(series)]
            if uses_s3(figure):
                cells += s3_texts(series)
            lines.append(f"| {cell(series.label)} | {' | '.join(cells)} |")
        lines.append("")
    if left_out:
        lines += ["## Left out", ""] + [f"- {what}" for what in left_out] + [""]
    return "\n".join(lines)


def uses_s3(figure: Figure) -> bool:
    return any(series.traffic for series in figure.series.values())


def table_head(figure: Figure) -> list[str]:
    names = ["", "median", "lowest", "highest", "rounds", "CPU s", "peak RSS"]
    if uses_s3(figure):
        names += ["S3 requests", "bytes to S3", "bytes from S3"]
    return [f"| {' | '.join(names)} |", "|---" + "|--:" * (len(names) - 1) + "|"]


def cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


# ---- numbers ----


def number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def value_text(judgement: Judgement) -> str:
    if judgement.value is None or judgement.low is None or judgement.high is None:
        return "–"
    spread = f"({number(judgement.low)} … {number(judgement.high)})"
    return f"{number(judgement.value)} {judgement.unit} {spread}"


def cpu_text(series: Series) -> str:
    return "–" if series.cpu_s is None else f"{series.cpu_s:.2f}"


def s3_texts(series: Series) -> list[str]:
    """Requests and bytes both ways: medians of the rounds."""
    if not series.traffic:
        return ["–", "–", "–"]
    requests = statistics.median(traffic.requests for traffic in series.traffic)
    both = ([t.bytes_up for t in series.traffic], [t.bytes_down for t in series.traffic])
    return [f"{requests:,.0f}", *(bytes_text(statistics.median(counts)) for counts in both)]


def bytes_text(count: float) -> str:
    for power, name in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 1 << power:
            return f"{count / (1 << power):.2f} {name}"
    return f"{count:.0f}"


def memory_text(series: Series) -> str:
    return f"{series.rss_peak_kib / 1024:.1f} MiB" if series.rss_peak_kib else "–"

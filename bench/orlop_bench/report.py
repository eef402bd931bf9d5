"""The results as a terminal table, as JSON and as Markdown; and the machine they come from."""

import collections
import datetime
import json
import os
import platform
import shutil
import statistics
from collections.abc import Iterable
from pathlib import Path

from . import plots
from .results import SUBJECT, Figure, Judgement, Series, Verdict

PLOTS = "plots"  # folder beside the report
PROMISES = ("Requests to S3, and bytes", "Local store", "S3 store", "Referrers, tags, catalog")
# Not figures of a run like this one: counted, or shown over hours, by tests.
HELD_BY_TESTS = (
    ("64 pushes of 256 MiB at once: memory within its budget and 64 MiB, none starved", "tests/s3/test_memory.py"),
    ("a blob of 20 GiB in the memory of one of 1 GiB", "tests/s3/test_memory.py"),
    ("commit on a disk reads no byte of the blob, whatever its size", "tests/http/test_digest_concern.py"),
    ("every row of the requests table, asserted", "tests/s3/test_budgets.py"),
    ("two nodes on one bucket: resume, races, tags never go back", "tests/s3/test_nodes.py"),
    ("5 % of requests to S3 fail, the gateway is killed: nothing acknowledged is lost", "tests/s3/test_faults.py"),
    ("SIGKILL at each step: nothing acknowledged is lost, nothing partial is seen", "tests/crash/test_crash.py"),
)
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
            + (f"   {series.note}" if series.note else "")
            + ("   S3: {} requests, {} up, {} down".format(*s3_texts(series)) if series.traffic else "")
        )
    return "\n".join(lines)


def terminal_targets(figures: Iterable[Figure], colour: bool) -> str:
    lines = ["", "Targets (ratios: median of the rounds' ratios, lowest … highest)"]
    for judgement in judgements(figures):
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
    (directory / "latest.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    drawn = plots.plots(figures)
    plots.write(directory / PLOTS, drawn)
    (directory / "latest.md").write_text(markdown(about, figures, left_out, drawn))
    (directory / "verdict.md").write_text(verdict_page(about, figures, left_out))


def read_figures(path: Path) -> tuple[dict, list[Figure], list[str]]:
    """What write_files() stored as JSON: about, figures, left_out."""
    found = json.loads(path.read_text())
    figures = [Figure.from_json(figure) for figure in found.pop("figures")]
    return found, figures, found.pop("left_out")


def markdown(about: dict, figures: list[Figure], left_out: list[str], drawn: list[plots.Plot]) -> str:
    counts = collections.Counter(judgement.verdict for judgement in judgements(figures))
    summary = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict])
    lines = ["# orlop side by side", "", *about_lines(about), ""]
    lines += [f"Targets: {summary}. Each of them is on [the verdict page](verdict.md).", "", "## Growth", ""]
    lines += [f"![{cell(plot.title)}]({PLOTS}/{plot.file_name})" for plot in drawn]
    lines += [
        "",
        "## Figures",
        "",
        "CPU seconds are the server's (of a yardstick: the program's) over all rounds, peak RSS its highest in any;",
        "requests and bytes to and from S3 are the median of the rounds. The last column is orlop's figure divided by",
        "that of the row: the median of the rounds' ratios.",
        "",
    ]
    for figure in figures:
        note = f"; {figure.note}" if figure.note else ""
        lines += [f"### {figure.title}", "", f"{figure.unit}{note}", "", *table(figure), ""]
    return "\n".join(lines + left_out_lines(left_out))


def verdict_page(about: dict, figures: list[Figure], left_out: list[str]) -> str:
    lines = ["# What was promised, and what this run found", "", *about_lines(about), ""]
    lines += ["Ratios are the median of the rounds' ratios, with the lowest and the highest.", ""]
    for heading in PROMISES:
        lines += [f"## {heading}", "", "| verdict | measured | target | figure |", "|---|---|---|---|"]
        lines += [judgement_row(judgement) for judgement in judgements(figures) if judgement.promise == heading]
        lines.append("")
    lines += ["## Held by tests, not by this run", "", "| promise | test |", "|---|---|"]
    lines += [f"| {promise} | `{test}` |" for promise, test in HELD_BY_TESTS]
    return "\n".join([*lines, "", *left_out_lines(left_out)])


def judgements(figures: Iterable[Figure]) -> list[Judgement]:
    return [judgement for figure in figures for judgement in figure.judge()]


def judgement_row(judgement: Judgement) -> str:
    subject = judgement.figure + (f" ({judgement.subject})" if judgement.subject != SUBJECT else "")
    cells = (judgement.verdict.value, value_text(judgement), judgement.bound, subject)
    return f"| {' | '.join(map(cell, cells))} |"


def about_lines(about: dict) -> list[str]:
    lines = [f"- {name}: {value}" for name, value in (about["machine"] | about["versions"]).items()]
    return [*lines, f"- run: {about['mode']}"]


def left_out_lines(left_out: list[str]) -> list[str]:
    return ["## Left out", ""] + [f"- {what}" for what in left_out] + [""] if left_out else []


def table(figure: Figure) -> list[str]:
    lines = table_head(figure)
    for series in figure.series.values():
        if not series.valid:
            lines.append(f"| {cell(series.label)} | void: {cell(series.fault or 'not measured')} |")
            continue
        cells = [number(value) for value in (series.median, min(series.values), max(series.values))]
        cells += [str(len(series.values)), cpu_text(series), memory_text(series)]
        if uses_s3(figure):
            cells += s3_texts(series)
        ratio = figure.ratio(SUBJECT, series.label) if series.label != SUBJECT else None
        cells.append("" if ratio is None else f"{number(ratio)} ×")
        label = series.label + (f" ({series.note})" if series.note else "")
        lines.append(f"| {cell(label)} | {' | '.join(cells)} |")
    return lines


def uses_s3(figure: Figure) -> bool:
    return any(series.traffic for series in figure.series.values())


def table_head(figure: Figure) -> list[str]:
    names = ["", "median", "lowest", "highest", "rounds", "CPU s", "peak RSS"]
    if uses_s3(figure):
        names += ["S3 requests", "bytes to S3", "bytes from S3"]
    names.append("orlop ÷ it")
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

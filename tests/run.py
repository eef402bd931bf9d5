#!/usr/bin/env python3
"""Run all of orlop's tests, or the stages named, and end with one line: "N passed, N failed, N skipped".

    tests/run.py [--list] [STAGE …]    everything, under AddressSanitizer and UndefinedBehaviorSanitizer
    tests/run.py --tsan                unit, stress and S3 tests under ThreadSanitizer
    tests/run.py --coverage            unit and black-box tests under gcov, then the report

Every stage runs even when an earlier one failed. What a stage prints goes to build/logs/STAGE.log; the end of it is
shown when the stage fails.
"""

import argparse
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOGS = ROOT / "build" / "logs"
TAIL_LINES = 60
STAGE_TIMEOUT_S = 900
MEMORY_FOLDER = "/dev/shm"
MEMORY_FOLDER_BYTES_MIN = 6 << 30

# Debian's own Python has Debian's pytest; another one that stands first on PATH may not.
PYTHON = next(
    (python for python in ("/usr/bin/python3", sys.executable)
     if subprocess.run([python, "-c", "import pytest"], stderr=subprocess.DEVNULL, check=False).returncode == 0),
    sys.executable,
)

SUMMARY = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", re.MULTILINE)


class Count:
    def __init__(self, passed=0, failed=0, skipped=0):
        self.passed, self.failed, self.skipped = passed, failed, skipped

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self):
        text = f"{self.passed} passed, {self.failed} failed"
        return text + (f", {self.skipped} skipped" if self.skipped else "")


def count_summary(log, _report):
    """The last "N passed, N failed" line that the program printed itself."""
    found = SUMMARY.findall(log)
    return Count(*(int(number or 0) for number in found[-1])) if found else Count()


def count_nothing(_log, _report):
    return Count()


def count_pytest(_log, report):
    count = Count()
    for suite in xml.etree.ElementTree.parse(report).getroot().iter("testsuite"):
        number = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
        bad = number["failures"] + number["errors"]
        # A test that passes and then fails in its teardown is reported twice.
        count.add(Count(max(number["tests"] - bad - number["skipped"], 0), bad, number["skipped"]))
    return count


def count_ctest(_log, report):
    """Each cmocka case on its own; any other program is one."""
    count = Count()
    for case in xml.etree.ElementTree.parse(report).getroot().iter("testcase"):
        output = case.findtext("system-out") or ""
        passed = output.count("[       OK ] ")
        skipped = len(set(re.findall(r"^\[  SKIPPED \] (\w+)$", output, re.MULTILINE)))
        failed = len(set(re.findall(r"^\[  FAILED  \] (\w+)$", output, re.MULTILINE)))
        if case.get("status") != "run":
            failed = max(failed, 1)
        elif not passed:
            passed = 1
        count.add(Count(passed, failed, skipped))
    return count


def build(preset):
    """Configure when that was never done, then build."""
    return [
        "sh",
        "-c",
        f"{{ [ -f build/{preset}/build.ninja ] || cmake --preset {preset}; }} && cmake --build --preset {preset}",
    ]


def ctest(preset, label):
    return [
        *("ctest", "--test-dir", f"build/{preset}", "--label-regex", f"^{label}$", "--no-tests=error"),
        *("--parallel", str(os.cpu_count()), "--test-output-size-passed", "1000000"),
        *("--test-output-size-failed", "1000000", "--output-on-failure", "--output-junit", str(LOGS / f"{label}.xml")),
    ]


def test_folder_in_memory():
    """["ORLOP_TEST_TMP=…"] when there is a memory file system with room: thousands of fsyncs take minutes on a disk."""
    try:
        room = os.statvfs(MEMORY_FOLDER)
    except OSError:
        return []
    is_wide = room.f_bavail * room.f_frsize >= MEMORY_FOLDER_BYTES_MIN
    return [f"ORLOP_TEST_TMP={MEMORY_FOLDER}"] if is_wide and "ORLOP_TEST_TMP" not in os.environ else []


def pytest(name, *paths):
    return [
        *("env", *test_folder_in_memory()),
        *(PYTHON, "-B", "-m", "pytest", "-c", "tests/pytest.ini", "--rootdir=tests"),
        *("--durations=10", f"--junitxml={LOGS / f'{name}.xml'}", *map(str, paths)),
    ]


def black_box():
    """The stages of pytest: every folder of tests/ that has some."""
    for folder in ("cli", "store", "http", "crash", "clients", "bench"):
        if any((ROOT / "tests" / folder).glob("test_*.py")):
            yield folder, pytest(folder, f"tests/{folder}"), count_pytest


# Each yields (stage, command, how to count).


def stages_default():
    yield "rules", [PYTHON, "-B", "tests/layering.py"], count_summary
    yield "rules-self-test", [PYTHON, "-B", "tests/layering.py", "--self-test"], count_summary
    for preset in ("asan", "crash", "release", "sim"):
        yield f"build-{preset}", build(preset), count_nothing
    yield "unit", ctest("asan", "unit"), count_ctest
    yield "fuzz-corpus", ctest("asan", "fuzz-corpus"), count_ctest
    yield "sim", ctest("sim", "sim"), count_ctest
    yield "sim-asan", ctest("asan", "sim-asan"), count_ctest
    yield from black_box()
    yield "conformance", [PYTHON, "-B", "tests/conformance/run.py", "--or-skip"], count_summary
    yield "s3", [PYTHON, "-B", "tests/s3/run.py"], count_summary


def stages_tsan():
    yield "build-tsan", build("tsan"), count_nothing
    yield "unit", ctest("tsan", "unit"), count_ctest
    yield "stress", pytest("stress", *sorted(ROOT.glob("tests/*/test_stress*.py"))), count_pytest
    yield "s3", [PYTHON, "-B", "tests/s3/run.py", "--races"], count_summary


def stages_coverage():
    for preset in ("coverage", "crash", "release"):
        yield f"build-{preset}", build(preset), count_nothing
    yield "unit", ctest("coverage", "unit"), count_ctest
    yield "fuzz-corpus", ctest("coverage", "fuzz-corpus"), count_ctest
    yield from black_box()
    report = "gcovr --root . --filter src/ --print-summary --output build/coverage/report.txt build/coverage"
    yield "report", report.split(), count_nothing


def environment(preset):
    return {
        "PATH": os.environ["PATH"] + ":/usr/local/go/bin",
        "ORLOP": str(ROOT / f"build/{preset}/orlop"),
        "ORLOP_CRASH": str(ROOT / "build/crash/orlop"),
        "ORLOP_RELEASE": str(ROOT / "build/release/orlop"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LC_ALL": "C.UTF-8",
    }


def execute(command, log_path):
    """Run it in a session of its own, so that it ends with all it started when it hangs or we are ended; the status."""
    with open(log_path, "wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                   start_new_session=True)
        try:
            return process.wait(STAGE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            log.write(f"\nended after {STAGE_TIMEOUT_S} s\n".encode())
            return -1
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def run_stage(name, command, counter):
    log_path, report_path = LOGS / f"{name}.log", LOGS / f"{name}.xml"
    report_path.unlink(missing_ok=True)
    print(f"{name:<16} ", end="", flush=True)
    started = time.monotonic()
    status = execute(command, log_path)
    log = log_path.read_text(encoding="utf-8", errors="replace")
    try:
        count = counter(log, report_path)
    except (OSError, xml.etree.ElementTree.ParseError):
        count = Count()
    if status != 0:
        count.failed = max(count.failed, 1)
    result = str(count) if counter is not count_nothing else "done" if status == 0 else "failed"
    print(f"{result}  ({time.monotonic() - started:.1f} s)", flush=True)
    if count.failed:
        tail = log.splitlines()[-TAIL_LINES:]
        print("\n".join(f"    | {line}" for line in tail) + f"\n    (all of it: {log_path.relative_to(ROOT)})")
    return count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="name the stages and end")
    parser.add_argument("stage", nargs="*", help="run only these")
    parser.add_argument("--tsan", action="store_const", dest="preset", const="tsan", default="asan")
    parser.add_argument("--coverage", action="store_const", dest="preset", const="coverage")
    arguments = parser.parse_args()

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.environ.update(environment(arguments.preset))
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    stages = {"asan": stages_default, "tsan": stages_tsan, "coverage": stages_coverage}
    known = list(stages[arguments.preset]())
    unknown = set(arguments.stage) - {name for name, _, _ in known}
    if arguments.list or unknown:
        print("\n".join(name for name, _, _ in known))
        return 2 if unknown else 0

    started = time.monotonic()
    total = Count()
    for name, command, counter in known:
        if not arguments.stage or name in arguments.stage:
            total.add(run_stage(name, command, counter))
    print(f"{time.monotonic() - started:.0f} s in all")
    print(total)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())

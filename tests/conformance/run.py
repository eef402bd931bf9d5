#!/usr/bin/env python3
"""
Run both conformance suites of the OCI distribution-spec against orlop, and distrust their success: a suite that tested
too little, skipped something, or could not write its report has failed. Ends with "N passed, N failed".

    tests/conformance/run.py [--or-skip]

The suites are built by Go (1.24 or newer) into build/tools (or ORLOP_TEST_TOOLS), once; one that is there already
under its name is taken as it is. Where that cannot be done the run fails; with --or-skip it says so and counts them as
skipped.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

import images  # noqa: E402  (the path is set above)
import orlop  # noqa: E402
import tools  # noqa: E402

MODULE = "github.com/opencontainers/distribution-spec/conformance"
NEW_COMMIT = "967efdc079b9"  # the stand-alone program of the specification's main branch
OLD_COMMIT = "a139cc423184"  # the test binary of v1.1.1

RUN_TIMEOUT_S = 300

# Results a complete run has. Fewer: something was not tested.
NEW_RUNS = {
    # version: (environment, server arguments, results at least)
    "1.1": ({"OCI_VERSION": "1.1"}, [], 858),
    "dev": ({"OCI_VERSION": "dev"}, [], 982),
    "dev with sparse manifests": (
        {"OCI_VERSION": "dev", "OCI_DATA_SPARSE": "true"},
        ["--registry-sparse-indexes", "true", "--registry-check-references", "false"],
        1028,
    ),
}
OLD_PASSED = 74
OLD_SKIPPED = (
    5  # by the suite's construction: two setups of registries without push, three mounts without an answer to expect
)

COUNT_NAMES = ("Disabled", "Skip", "Pass", "FAIL", "Error", "Total")


class CannotInstall(Exception):
    pass


# ---- the programs ----


def new_suite():
    """The path of the stand-alone program."""
    path = tools.tools_dir() / f"conformance-{NEW_COMMIT}"
    with images.locked(path):
        if not path.exists():
            if not tools.go():
                raise CannotInstall("there is no Go")
            error = tools.go_install(f"{MODULE}@{NEW_COMMIT}", "-ldflags", f"-X main.Version={NEW_COMMIT}")
            if error:
                raise CannotInstall(error)
            (tools.tools_dir() / "conformance").rename(path)
    return path


def old_suite():
    """The path of the test binary, which `go install` cannot make: it is compiled in an empty module."""
    path = tools.tools_dir() / f"conformance-{OLD_COMMIT}.test"
    with images.locked(path):
        if not path.exists():
            if not tools.go():
                raise CannotInstall("there is no Go")
            with tempfile.TemporaryDirectory() as folder:
                for command in (
                    ("mod", "init", "conformance.test"),
                    ("get", "-t", f"{MODULE}@{OLD_COMMIT}"),
                    ("test", "-c", "-o", str(path), MODULE),
                ):
                    result = subprocess.run(
                        [tools.go(), *command],
                        cwd=folder,
                        env={**os.environ, "GOFLAGS": "-buildvcs=false"},
                        capture_output=True,
                        text=True,
                        timeout=tools.GO_TIMEOUT_S,
                    )
                    if result.returncode != 0:
                        raise CannotInstall(result.stderr.strip()[-300:])
    return path


# ---- running them ----


def clean_environment(**settings):
    """The environment without anybody's own OCI_* settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OCI_")}
    return {**kept, **settings}


def run_new(name, folder):
    """(passed, failed, problems) of one run of the stand-alone program against a fresh server."""
    settings, arguments, results_min = NEW_RUNS[name]
    results = folder / "results"
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir()
    with orlop.Server(args=arguments) as server:
        process = subprocess.run(
            [new_suite()],
            cwd=folder,
            env=clean_environment(
                OCI_REGISTRY=server.host, OCI_TLS="disabled", OCI_RESULTS_DIR=str(results), **settings
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_TIMEOUT_S,
        )
        server.assert_alive()
        server.assert_check_clean()
    output = process.stdout
    (folder / "output").write_text(output)
    counts = {}
    for label in COUNT_NAMES:
        found = re.search(rf"^  {label}\.+: +(\d+)$", output, re.MULTILINE)
        counts[label] = int(found[1]) if found else 0
    problems = []
    if process.returncode != 0:
        problems.append(f"exit status {process.returncode}")
    if not re.search(r"^OCI Conformance Result: Pass$", output, re.MULTILINE):
        problems.append("it does not say that it passed")
    for report in ("results.yaml", "report.html", "junit.xml"):
        if not (results / report).is_file() or (results / report).stat().st_size == 0:
            problems.append(f"no {report}")
    if (results / "results.yaml").is_file():
        text = (results / "results.yaml").read_text()
        if not re.search(rf'^ *version: "?{re.escape(settings["OCI_VERSION"])}"?$', text, re.MULTILINE):
            problems.append("results.yaml is of another version")
    if counts["Total"] < results_min:
        problems.append(f"{counts['Total']} results instead of {results_min} or more")
    for label in ("Skip", "FAIL", "Error"):
        if counts[label]:
            problems.append(f"{counts[label]} {label}")
            lines = re.findall(rf"^ *(OCI Conformance Test\S*: {label})$", output, re.MULTILINE)
            problems += [f"    {line}" for line in lines[:20]]
    return counts["Pass"], counts["FAIL"] + counts["Error"] + counts["Skip"], problems


def run_old(_name, folder):
    """As run_new, of the v1.1.1 test binary with its four categories on."""
    with orlop.Server() as server:
        process = subprocess.run(
            [old_suite()],
            cwd=folder,
            env=clean_environment(
                OCI_ROOT_URL=server.url,
                OCI_NAMESPACE="conformance/one",
                OCI_CROSSMOUNT_NAMESPACE="conformance/two",
                OCI_TEST_PULL="1",
                OCI_TEST_PUSH="1",
                OCI_TEST_CONTENT_DISCOVERY="1",
                OCI_TEST_CONTENT_MANAGEMENT="1",
                OCI_REPORT_DIR=str(folder),
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_TIMEOUT_S,
        )
        server.assert_alive()
        server.assert_check_clean()
    output = re.sub(r"\x1b\[[0-9;]*m", "", process.stdout)
    (folder / "output").write_text(output)
    problems = []
    if process.returncode != 0:
        problems.append(f"exit status {process.returncode}")
    found = re.search(r"(\d+) Passed \| (\d+) Failed \| \d+ Pending \| (\d+) Skipped", output)
    if not found:
        return 0, 1, [*problems, "it printed no counts"]
    passed, failed, skipped = map(int, found.groups())
    if passed != OLD_PASSED:
        problems.append(f"{passed} passed instead of {OLD_PASSED}")
    if skipped != OLD_SKIPPED:
        problems.append(f"{skipped} skipped instead of the {OLD_SKIPPED} it always skips")
    if failed:
        problems += [f"    {line.strip()}" for line in re.findall(r"^ *\[FAIL\].*", output, re.MULTILINE)[:20]]
    if not (folder / "report.html").is_file() or not (folder / "junit.xml").is_file():
        problems.append("no report")
    return passed, failed, problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--or-skip", action="store_true", help="where a suite cannot be built, skip it")
    arguments = parser.parse_args()
    runs = [(f"main {name}", run_new, name) for name in NEW_RUNS] + [("v1.1.1", run_old, None)]
    totals = {"passed": 0, "failed": 0, "skipped": 0}
    with tempfile.TemporaryDirectory(prefix="orlop-conformance-") as base:
        for number, (label, run, name) in enumerate(runs):
            folder = pathlib.Path(base) / str(number)
            folder.mkdir()
            try:
                passed, failed, problems = run(name, folder)
            except CannotInstall as error:
                totals["skipped" if arguments.or_skip else "failed"] += 1
                print(f"conformance {label}: cannot be built here: {error}")
                continue
            except (AssertionError, RuntimeError, subprocess.TimeoutExpired) as error:
                passed, failed, problems = 0, 1, [str(error)]
            if problems:
                failed = max(failed, 1)
            totals["passed"] += passed
            totals["failed"] += failed
            print(f"conformance {label}: {passed} passed" + (f", {failed} failed" if failed else ""))
            for problem in problems:
                print(f"    {problem}")
    skipped = f", {totals['skipped']} skipped" if totals["skipped"] else ""
    print(f"{totals['passed']} passed, {totals['failed']} failed{skipped}")
    return 1 if totals["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""
Run everything that needs an S3 server against one Ceph gateway: the store contract's suite, both conformance suites,
the black-box tests of the API with their servers' stores in the bucket, and the tests of this folder; then the contract's
suite and a few tests on other S3 servers. Ends with
"N passed, N failed, N skipped"; where there can be no gateway, all of it is one skip that says why.

    tests/s3/run.py [--budgets | --races]

--budgets: only count what operations cost, orlop and docker-registry beside it; print the table and write it to
docs/budgets.md.
--races: only what runs much at once, on servers that are $ORLOP too: for ThreadSanitizer.
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "lib"), str(TESTS)]

import docker_registry  # noqa: E402  (the path is set above)
import minio  # noqa: E402
import orlop  # noqa: E402
import rgw  # noqa: E402
import run as stages  # noqa: E402
import s3server  # noqa: E402
import swift  # noqa: E402

API_TESTS = (
    *("test_spec_upload.py", "test_spec_pull.py", "test_spec_manifest.py", "test_spec_list.py"),
    "test_bad_input.py",
)
# Not against S3, with the reason.
LEFT_OUT = {
    "test_spec_list.py::test_RF_10_fallback_tag": "looks for files in the store's directory",
}
LEFT_OUT_PATTERN = "not http-"  # bad input that never reaches the store

# The real clients, each once: a whole system pushed and pulled, mounts, chunks, indexes, artifacts. Everything that
# pulls is told to fetch blobs from the gateway, or gets them from the server; ORLOP_TEST_FULL=1 runs all tests both ways.
CLIENT_TESTS = {
    "always": (
        "test_engines.py::test_docker_push_and_pull",
        "test_engines.py::test_docker_mounts_from_another_repository",
        "test_engines.py::test_podman_push_and_pull[oci]",
        "test_engines.py::test_skopeo_keeps_every_byte",
        "test_engines.py::test_skopeo_copies_an_index_with_all_images",
        "test_go_clients.py::test_crane_copy_tag_list_delete",
        "test_go_clients.py::test_oras_artifact_with_referrers",
        "test_go_clients.py::test_oras_blobs_tags_repositories",
        "test_go_clients.py::test_helm_charts",
        "test_referrer_clients.py",
    ),
    "never": (
        "test_engines.py::test_docker_pulls_an_oci_image",
        "test_engines.py::test_buildah_push_and_pull[oci]",
        "test_engines.py::test_skopeo_copies_between_repositories",
        "test_go_clients.py::test_crane_push_pull_export",
        "test_go_clients.py::test_oras_copies_the_system",
        "test_go_clients.py::test_regctl_chunked_push",
    ),
}

TAIL_LINES = 80
OTHER_SERVER_ROUNDS = 5  # of each thread in the tests that race: those servers are slow

PAGE = stages.ROOT / "docs" / "budgets.md"
PAGE_HEAD = """\
# What operations cost, counted

`make budgets` wrote this page: what each operation costs in requests to S3, counted by a proxy between the registry and
the store, and what the same operation costs docker-registry on the same server in the same run. The figures of orlop are
asserted in every `make test`; [s3.md](s3.md) says what they are made of.

- Server: {server}.
- Compared with: {other}.
  What it does not know, or would take it too long (its time grows with the square of the number of chunks), was not asked.
- *at most*: what the test allows. *trips*: the longest chain of requests that waited for each other.
- *written*, *read*: blobs' bytes to and from the store, as multiples of the client's own bytes where there are any. A
  redirected download is the client's own and not counted. *copied*: what the store was told to copy; for orlop, nothing.
- *cold*: the node has never seen it; *warm*: it has just been asked the same. *another node*: one that knows nothing of
  what the first one took.

"""


def pytest(*arguments, **environment):
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        command = [stages.PYTHON, "-B", "-m", "pytest", "-c", "tests/pytest.ini", "--rootdir=tests", "-q", "--tb=short"]
        status, output = execute([*command, f"--junitxml={report.name}", *arguments], **environment)
        return status, output, stages.count_pytest(output, report.name)


def execute(command, **environment):
    result = subprocess.run(
        command,
        cwd=stages.ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return result.returncode, result.stdout.decode("utf-8", "replace")


# Each returns (exit status, output, counts).


def contract_suite(**environment):
    program = pathlib.Path(os.environ["ORLOP"]).resolve().parent / "tests" / "test_store_s3"
    status, output = execute([program], **environment)
    passed = output.count("[       OK ] ")
    failed = len(set(re.findall(r"^\[  FAILED  \] (\w+)$", output, re.MULTILINE)))
    return status, output, stages.Count(passed, failed)


def conformance():
    command = [stages.PYTHON, "-B", "tests/conformance/run.py", "--or-skip"]
    status, output = execute(command, ORLOP_TEST_STORE="s3")
    return status, output, stages.count_summary(output, None)


def api_tests():
    left_out = [f"--deselect=http/{name}" for name in LEFT_OUT]
    paths = [f"tests/http/{name}" for name in API_TESTS]
    return pytest(*left_out, "-k", LEFT_OUT_PATTERN, *paths, ORLOP_TEST_STORE="s3")


def clients(redirect):
    """Real clients, with s3.redirect set so."""
    names = CLIENT_TESTS[redirect]
    paths = ["tests/clients"] if orlop.full_run() else [f"tests/clients/{name}" for name in names]
    return lambda: pytest(*paths, ORLOP_TEST_STORE="s3", ORLOP_S3_REDIRECT=redirect)


def own_tests(*names, **environment):
    return lambda: pytest("-s", *(f"tests/s3/{name}" for name in names), **environment)


def other_server(new_server, *names):
    """The contract suite, and tests of this folder, on another S3 server than Ceph's; a skip where there can be none."""

    def run():
        try:
            with new_server() as server:
                environment = {**server.environment(), "ORLOP_TEST_S3": f"s3://{server.new_bucket()}"}
                environment["ORLOP_TEST_S3_SERVER"] = server.name
                status, output, count = contract_suite(**environment, ORLOP_TEST_ROUNDS=str(OTHER_SERVER_ROUNDS))
                more_status, more_output, more = pytest("-s", *(f"tests/s3/{name}" for name in names), **environment)
                count.add(more)
                return status or more_status, output + more_output, count
        except s3server.CannotStart as reason:
            return 0, f"skipped: it cannot be started here: {reason}", stages.Count(skipped=1)

    return run


# Two at a time: little of this uses more than one core, and what is counted at the wire does not depend on the load.
GROUPS = {
    "contract suite": contract_suite,
    "budgets": own_tests("test_budgets.py"),
    "API tests": api_tests,
    "nodes": own_tests("test_nodes.py", "test_start.py", "test_redirects.py"),
    "referrers": own_tests("test_referrers.py"),
    "conformance": conformance,
    "clients redirect": clients("always"),
    "clients stream": clients("never"),
    "faults": own_tests("test_faults.py"),
    "memory": own_tests("test_memory.py"),
    "metrics": own_tests("test_metrics.py"),
    "Swift": other_server(swift.Swift, "test_swift.py"),
    "MinIO": other_server(minio.Minio, "test_minio.py"),
}


# At full size, and beside docker-registry: more time, and nothing of it that could fail.
BUDGETS = own_tests("test_budgets.py", "test_docker_registry.py", ORLOP_TEST_FULL="1")


def write_page(table, gateway):
    """docs/budgets.md, from a run that passed."""
    try:
        other = f"docker-registry {docker_registry.DockerRegistry.version()}"
    except docker_registry.CannotStart:
        other = "nothing, docker-registry is not installed"
    server = f"Ceph RGW {rgw.version()}, all in memory" if gateway else "the one that AWS_ENDPOINT_URL named"
    PAGE.write_text(PAGE_HEAD.format(other=other, server=server) + table + "\n")


def count_budgets(gateway):
    status, output, count = BUDGETS()
    table = "\n".join(re.findall(r"^\|.*\|$", output, re.MULTILINE))
    if status == 0:
        write_page(table, gateway)
    print(table if status == 0 else output)
    return count


def stress():
    return pytest("tests/http/test_stress.py", ORLOP_TEST_STORE="s3", ORLOP_TEST_STRESS_CLIENTS="32")


RACES = {name: GROUPS[name] for name in ("contract suite", "nodes")} | {"stress": stress}


def run_group(item):
    name, group = item
    started = time.monotonic()
    status, output, count = group()
    if status != 0:
        count.failed = max(count.failed, 1)
    lines = [f"{name:<16} {count}  ({time.monotonic() - started:.0f} s)"]
    if count.failed:
        lines += [f"    | {line}" for line in output.splitlines()[-TAIL_LINES:]]
    if count.skipped and output.startswith("skipped: "):
        lines.append(f"    | {output}")
    if name == "budgets":
        lines += re.findall(r"^\|.*\|$", output, re.MULTILINE)
    if name == "referrers":
        lines += re.findall(r"^list of referrers .*(?:\n\S.* \d+)+$", output, re.MULTILINE)
    print("\n".join(lines), flush=True)
    return count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budgets", action="store_true")
    parser.add_argument("--races", action="store_true")
    arguments = parser.parse_args()
    for name, default in (("ORLOP", "build/orlop"), ("ORLOP_RELEASE", "build/release/orlop")):
        os.environ[name] = str(stages.ROOT / os.environ.get(name, default))
    groups = RACES if arguments.races else GROUPS
    if arguments.races:
        os.environ["ORLOP_RELEASE"] = os.environ["ORLOP"]
    total = stages.Count()
    try:
        with rgw.running() as gateway, concurrent.futures.ThreadPoolExecutor(2) as pool:
            if arguments.budgets:
                total.add(count_budgets(gateway))
            else:
                for count in pool.map(run_group, groups.items()):
                    total.add(count)
    except rgw.CannotStart as reason:
        print(f"skipped: no S3 gateway can be started here: {reason}")
        total.add(stages.Count(skipped=1))
    print(total)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())

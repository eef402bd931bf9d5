"""
Programs the tests drive: Debian's own, and those written in Go, which are installed once into build/tools with `go
install` where there is a Go. A program that cannot be had skips its tests, with the reason.
"""

import functools
import os
import pathlib
import shutil
import subprocess

import images
import orlop
import pytest

# name: the module that `go install` builds it from
GO_PROGRAMS = {
    "crane": "github.com/google/go-containerregistry/cmd/crane@v0.22.1",
    "regctl": "github.com/regclient/regclient/cmd/regctl@v0.11.7",
    "oras": "oras.land/oras/cmd/oras@v1.3.6",
    "helm": "helm.sh/helm/v3/cmd/helm@v3.22.0",
    "cosign": "github.com/sigstore/cosign/v2/cmd/cosign@v2.6.5",
}
SLOW_TO_BUILD = {"cosign"}
GO_TIMEOUT_S = 900


def tools_dir():
    path = pathlib.Path(os.environ.get("ORLOP_TEST_TOOLS") or orlop.ROOT / "build" / "tools")
    path.mkdir(parents=True, exist_ok=True)
    return path


def go():
    """The path of a Go command; None when there is none."""
    return shutil.which("go", path=os.environ.get("PATH", "") + ":/usr/local/go/bin")


def go_install(module, *args):
    """`go install` into build/tools; the error text, empty when it worked."""
    environment = {**os.environ, "GOBIN": str(tools_dir()), "GOFLAGS": "-buildvcs=false"}
    try:
        result = subprocess.run(
            [go(), "install", *args, module], env=environment, capture_output=True, text=True, timeout=GO_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return f"no end after {GO_TIMEOUT_S} s"
    return "" if result.returncode == 0 else result.stderr.strip()[-300:]


@functools.cache
def find(name):
    """(path, reason): one of them is empty."""
    kept = tools_dir() / name
    if kept.exists():
        return str(kept), ""
    if found := shutil.which(name):
        return found, ""
    if not go():
        return "", f"{name} is not installed and there is no Go to build it with"
    if name in SLOW_TO_BUILD and not orlop.full_run():
        return "", f"{name} is not installed, and building it takes minutes: ORLOP_TEST_FULL=1 does"
    with images.locked(kept):
        if not kept.exists():
            if error := go_install(GO_PROGRAMS[name]):
                return "", f"{name} cannot be installed by Go: {error}"
    return str(kept), ""


def go_program(name):
    """The program's path, or a skip that says why not."""
    path, reason = find(name)
    if not path:
        pytest.skip(reason)
    return path


def debian_program(name):
    """Debian's program; /usr/bin stands first because some machines have another docker in /usr/local/bin."""
    path = shutil.which(name, path="/usr/bin:/usr/sbin:" + os.environ.get("PATH", ""))
    if not path:
        pytest.skip(f"{name} is not installed: packaging/install-deps.sh test")
    return path


class CommandError(AssertionError):
    """A command failed; its output is the message."""


def run(*command, env=None, timeout=300, input=None, binary=False, cwd=None):
    """Run a command that must succeed; its stdout."""
    result = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **(env or {})},
        input=input,
        stdin=None if input is not None else subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout,
        cwd=cwd,
    )
    if result.returncode != 0:
        raise CommandError(
            f"{' '.join(map(str, command))}: exit {result.returncode}\n"
            f"{result.stdout[-3000:].decode(errors='replace')}\n{result.stderr[-3000:].decode(errors='replace')}"
        )
    return result.stdout if binary else result.stdout.decode()


def fails(*command, env=None, timeout=120):
    """Run a command that must not succeed; its whole output."""
    try:
        output = run(*command, env=env, timeout=timeout)
    except CommandError as error:
        return str(error)
    raise AssertionError(f"{' '.join(map(str, command))} succeeded:\n{output}")

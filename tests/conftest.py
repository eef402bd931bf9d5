"""Fixtures and rules for every black-box test: a deadline for each, servers that must stay unharmed."""

import pathlib
import shutil
import signal
import sys

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "lib"))

import orlop  # noqa: E402  (the path is set above)

DEADLINE_S = 60


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """A test, its fixtures included, that outlives its deadline fails instead of hanging the run."""
    marker = item.get_closest_marker("deadline")
    seconds = marker.args[0] if marker else DEADLINE_S

    def expired(*_):
        raise TimeoutError(f"the test took longer than {seconds} s")

    signal.signal(signal.SIGALRM, expired)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


@pytest.fixture(scope="module")
def module_server():
    """A server shared by a module's tests, each of which uses repositories of its own; checked at the end."""
    with orlop.Server() as server:
        yield server
        server.assert_alive()
        server.assert_check_clean()


@pytest.fixture
def server(module_server):
    """The module's server, unharmed before and after the test."""
    module_server.assert_alive()
    yield module_server
    module_server.assert_alive()


@pytest.fixture
def client(server):
    with server.client() as client:
        yield client


@pytest.fixture
def repo():
    return orlop.new_repo()


@pytest.fixture
def new_server():
    """A function that starts servers with the given arguments; all are ended with the test."""
    started = []

    def start(*args, **kw):
        instance = orlop.Server(*args, **kw)
        started.append(instance)
        return instance.start()

    yield start
    problems = []
    for instance in started:
        try:
            if instance.process:
                instance.stop()
        except AssertionError as error:
            problems.append(str(error))
        finally:
            instance.discard()
    assert not problems, "\n".join(problems)


@pytest.fixture
def work_dir():
    """A directory of the test's own, removed afterwards."""
    path = orlop.temp_dir()
    yield pathlib.Path(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def module_dir():
    """As work_dir, for a module's fixtures."""
    path = orlop.temp_dir()
    yield pathlib.Path(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def disk_dir():
    """As work_dir, never in memory."""
    path = orlop.temp_dir(on_disk=True)
    yield pathlib.Path(path)
    shutil.rmtree(path, ignore_errors=True)

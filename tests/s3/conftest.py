"""A gateway for the S3 tests, and servers whose requests to it go through a counting proxy."""

import contextlib
import os

import minio
import orlop
import pytest
import rgw
import s3proxy
import s3server
import swift
from budget_table import TABLE


@pytest.fixture(scope="session", autouse=True)
def gateway():
    """os.environ names a bucket of a running S3 server; skips what needs it where there can be none."""
    try:
        with rgw.running() as started:
            yield started
    except rgw.CannotStart as reason:
        pytest.skip(f"no S3 gateway can be started here: {reason}")


@pytest.fixture(scope="session", autouse=True)
def printed_table():
    """What operations cost, when that was counted."""
    yield
    if TABLE.rows:
        print(f"\n{TABLE}")


def store_on(server_class):
    """The URL of an empty store on another S3 server: the one under test where it is of that kind, else one of its own."""
    if os.environ.get("ORLOP_TEST_S3_SERVER") == server_class.name:
        yield orlop.new_s3_store()
        return
    try:
        with server_class() as server, s3server.in_environment(server):
            yield orlop.new_s3_store()
    except s3server.CannotStart as reason:
        pytest.skip(f"no {server_class.name} can be started here: {reason}")


@pytest.fixture
def swift_store():
    yield from store_on(swift.Swift)


@pytest.fixture
def minio_store():
    yield from store_on(minio.Minio)


@pytest.fixture
def store(gateway):
    """The URL of an empty store."""
    return orlop.new_s3_store()


@pytest.fixture
def new_proxy(gateway):
    """A function that starts proxies before the gateway."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(s3proxy.Proxy(os.environ["AWS_ENDPOINT_URL"], **settings))

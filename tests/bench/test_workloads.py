"""What the workloads do about contestants that fail or take too long. Nothing is measured."""

import contextlib
import pathlib
import sys
import types

import pytest

BENCH = pathlib.Path(__file__).resolve().parents[2] / "bench"
sys.path.insert(0, str(BENCH))

from orlop_bench import client  # noqa: E402
from orlop_bench.client import PushTimes, WrongAnswer  # noqa: E402
from orlop_bench.plan import KIB, MIB  # noqa: E402
from orlop_bench.results import Figure, Series  # noqa: E402
from orlop_bench.workloads import chunks, lists, push, referrers  # noqa: E402

SIZE = 64 * MIB


class Server(types.SimpleNamespace):
    """One that is not there."""

    def __init__(self, name):
        super().__init__(name=name, port=1)
        self.mark = self.discard = self.renew = lambda: None
        self.usage_since_mark = lambda: None


@pytest.fixture
def plan():
    body = types.SimpleNamespace(size=SIZE, digest="sha256:1")
    return types.SimpleNamespace(full=False, source=types.SimpleNamespace(body=lambda size: body), say=print)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr(client, "check_blob", lambda *_, **__: None)


@pytest.mark.parametrize("rate", [True, False])
def test_a_peer_that_is_far_slower_in_patches_is_stopped_once(plan, monkeypatch, rate):
    limits = []

    def push_in_chunks(port, repository, body, chunk_bytes, limit_s):
        limits.append(limit_s)
        if limit_s < 100:
            raise client.TooSlow
        return PushTimes(patch_s=2.0)

    monkeypatch.setattr(client, "push_in_chunks", push_in_chunks)
    figure = Figure("push", "MiB/s" if rate else "s", [])
    for _ in range(2):
        for name in ("orlop", "peer"):
            push._push_round(plan, Server(name), (figure,), push.IN_CHUNKS, SIZE, read=True, rate=rate)
    assert limits == [float("inf"), 2 * push.PATIENCE, float("inf")]
    assert figure.of("orlop").values == ([32, 32] if rate else [2, 2])
    assert figure.of("peer").values == ([32 / push.PATIENCE] if rate else [2 * push.PATIENCE])
    assert "stopped" in figure.of("peer").note and not figure.of("peer").fault
    assert figure.ratio("orlop", "peer") == (push.PATIENCE if rate else 1 / push.PATIENCE)


def test_a_peer_that_is_far_slower_in_small_chunks_is_stopped(plan, monkeypatch):
    def push_in_chunks(port, repository, body, chunk_bytes, limit_s):
        if limit_s < 100:
            raise client.TooSlow
        return PushTimes(patch_s=0.5)

    monkeypatch.setattr(client, "push_in_chunks", push_in_chunks)
    figure = Figure("chunks", "s", [])
    for name in ("orlop", "peer"):
        chunks._round(plan, Server(name), figure, 10, 64 * KIB)
    assert figure.of("peer").values == [0.5 * chunks.PATIENCE]
    assert "stopped" in figure.of("peer").note


def test_who_fails_at_referrers_takes_no_further_part():
    site = types.SimpleNamespace(name="disk", store=None)
    table = referrers._Table(plan=None, site=site, counts=[1, 10, 100])
    table.holders = [types.SimpleNamespace(server=Server(name)) for name in ("orlop", "peer")]

    def run(holder, count):
        if holder.server.name == "peer" and count == 10:
            raise WrongAnswer("9 manifests are listed, there are 10")
        table.figures[referrers.COLD, count].of(holder.server.name).add(1)

    for count in table.counts:
        table._each(count, lambda holder: run(holder, count))
    assert [holder.server.name for holder in table.holders] == ["orlop"]
    for count in table.counts:
        peer = table.figures[referrers.COLD, count].of("peer")
        assert table.figures[referrers.COLD, count].of("orlop").valid
        assert peer.valid == (count == 1)
        assert peer.fault == ("" if count == 1 else "9 manifests are listed, there are 10")


def test_a_wrong_page_voids_its_figure_alone():
    series, runs = Series("peer"), []

    def run():
        runs.append(0)
        raise WrongAnswer("50 tags are listed, there are 100")

    for _ in range(2):
        lists._one(Server("peer"), series, 3, run, lists.TAGS, 100)
    assert len(runs) == 1
    assert series.fault == "50 tags are listed, there are 100"


def test_requests_of_a_wrong_page_are_void_for_its_reason(monkeypatch):
    pages, requests = {100: Figure("page", "ms", [])}, {100: Figure("requests", "requests", [])}
    monkeypatch.setattr(lists, "Connection", lambda port: contextlib.nullcontext())
    pages[100].of("peer").fault = "50 tags are listed, there are 100"
    lists._measure(Server("peer"), lists.TAGS, 100, pages, {}, requests)
    assert requests[100].of("peer").fault == "50 tags are listed, there are 100"
    assert requests[100].of("peer").values == []


def test_a_registry_that_is_gone_voids_its_own_figures(plan, monkeypatch):
    def connection(port):
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(lists, "Connection", connection)
    monkeypatch.setattr(lists, "_make", lambda *_: None)
    plan.rounds, plan.disk, plan.turns = 1, None, lambda *_: range(1)
    site = types.SimpleNamespace(name="S3", store=True, orlop=None, registries=[Server("peer")])
    figures = list(lists._grow(plan, site, lists.TAGS, (30, 100)))
    assert [figure.of("peer").fault for figure in figures] == ["ConnectionRefusedError: refused"] * 6

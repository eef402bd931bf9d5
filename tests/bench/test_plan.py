"""How often the benchmarks measure, and how they look at what comes back. Nothing is measured."""

import pathlib
import sys
import types

import pytest

BENCH = pathlib.Path(__file__).resolve().parents[2] / "bench"
sys.path.insert(0, str(BENCH))

from orlop_bench import plan as plans  # noqa: E402
from orlop_bench import s3  # noqa: E402
from orlop_bench.content import ENDING_BYTES, Comparison, Source  # noqa: E402
from orlop_bench.results import Figure, Series, Target  # noqa: E402

MIB = 1 << 20


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is moved."""
    now = types.SimpleNamespace(s=0.0)
    monkeypatch.setattr(plans.time, "monotonic", lambda: now.s)
    monkeypatch.setattr(plans.time, "perf_counter", lambda: now.s)
    return now


def make_plan(tmp_path, **settings):
    usual = {"full": False, "rounds_fixed": False} | settings
    nothing = dict.fromkeys(("source", "disk", "s3", "nginx", "nginx_no_log", "nginx_many"))
    rounds = {"rounds": 4, "rounds_large": 2, "rounds_slow": 1, "blob_bytes": MIB, "commit_bytes": MIB}
    return plans.Plan(directory=tmp_path, say=lambda _: None, **nothing, **rounds, **usual)


@pytest.mark.parametrize(
    "asked, round_s, other, settings, rounds",
    [
        (2, 60, [1, 2], {}, 2),  # no time for more
        (2, 0.3 * plans.PATIENCE_S, [1, 2], {}, 4),
        (2, 0.001, [1, 2], {}, plans.ROUNDS_MAX),
        (2, 0.001, [1, 2], {"rounds_fixed": True}, 2),
        (2, 0.3 * plans.PATIENCE_S_FULL, [1, 2], {"full": True}, 4),
        (2, 0.001, [1], {}, 4),  # the rounds agree
        (6, 0.001, [1], {}, 6),
        (2, 0.001, [], {}, 2),  # nobody beside it
        (2, 0.001, [0], {}, 2),  # no ratio
    ],
)
def test_rounds_are_more_while_ratios_are_in_doubt(tmp_path, clock, asked, round_s, other, settings, rounds):
    plan, done = make_plan(tmp_path, **settings), []
    figure = Figure("figure", "ms", [])
    for turn in plan.turns("figure", asked, figure):
        done.append(turn)
        figure.of("orlop").add(1)
        if other:
            figure.of("other").add(other[turn % len(other)])
        clock.s += round_s
    assert done == list(range(rounds))


def test_doubt_is_that_of_the_least_certain_ratio():
    figure = Figure("figure", "ms", [Target("many", "few")])
    for value in (1, 1.1, 1, 1.1):
        for label in ("orlop", "other", "sits out", "many"):
            figure.of(label).add(value)
        figure.of("few").add(1)
    del figure.of("sits out").values[1:]
    assert figure.doubt() == pytest.approx(1.2533 * 0.05503 / 2, rel=1e-3), "many over few"
    figure.of("few").fault = "void"
    assert figure.doubt() == 0
    figure.of("other").values[:] = (1, 2, 1, 4)
    assert figure.doubt() > plans.DOUBT_MAX


@pytest.mark.parametrize(
    "times, run_s, runs",
    [(1, 0.001, 1), (5, 1, 5), (5, plans.RUNS_S / 10, 11)],
)
def test_short_runs_are_more(clock, times, run_s, runs):
    done, marks, checked = [], [], []
    server = types.SimpleNamespace(mark=lambda: marks.append(len(done)), usage_since_mark=lambda: None)

    def run():
        done.append(0)
        clock.s += run_s
        return len(done)

    series = Series("orlop")
    plans.timed(series, server, times, run, checked.append)
    assert checked == list(range(1, runs + 1))
    assert marks == [runs - 1], "what it cost is the last run's"
    assert series.values == [pytest.approx(run_s * 1e3)]


@pytest.mark.parametrize("size", [ENDING_BYTES, ENDING_BYTES + 1, MIB, 3 * MIB + 5])
def test_what_comes_back_is_compared(tmp_path, size):
    body = Source(tmp_path / "source", MIB).body(size)
    whole = b"".join(body.pieces(100_000))
    assert len(whole) == size

    def compare(data, step=70_001):
        comparison = Comparison(body)
        for begin in range(0, len(data), step):
            comparison.take(memoryview(data)[begin : begin + step])
        return comparison.is_equal and comparison.taken == size

    assert compare(whole) and compare(whole, step=size)
    assert not compare(whole[:-1])
    assert not compare(whole + b"x")
    for at in (0, size // 2, size - 1):
        assert not compare(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])


def test_buckets_are_removed_when_there_is_much_in_them(tmp_path, monkeypatch):
    store, removed = s3.Store(tmp_path, 1), []
    store.gateway = types.SimpleNamespace(remove_bucket=removed.append)
    free = 2 * s3.FREE_SHARE * s3.REMOVED_BYTES
    monkeypatch.setattr(s3.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=free))
    store.throw_away("a", s3.REMOVED_BYTES - 1)
    assert removed == []
    store.throw_away("b", 1)
    assert removed == ["a", "b"]
    store.throw_away("c", s3.REMOVED_BYTES - 1)
    assert removed == ["a", "b"]
    free = s3.FREE_SHARE * MIB  # others have filled the disk
    store.throw_away("d", MIB)
    assert removed == ["a", "b", "c", "d"]

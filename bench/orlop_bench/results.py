"""Figures, their series of values, and the targets they are held against."""

import math
import statistics
from dataclasses import dataclass, field
from enum import Enum

from .process import Usage
from .s3 import Traffic

SUBJECT = "orlop"  # what is held against everything else
ROUNDS_TO_JUDGE = 4  # fewer say nothing of how far rounds lie apart


class Verdict(Enum):
    PASS = "PASS"
    FAIL = "FAIL"
    VOID = "VOID"  # a wrong or failed answer: nothing is claimed
    INFO = "info"  # a comparison without a target
    LEFT_OUT = "left out"  # a side of it was not measured


@dataclass
class Series:
    """One contestant's values for one figure, round by round."""

    label: str
    values: list[float] = field(default_factory=list)
    fault: str = ""  # the first wrong answer
    cpu_s: float | None = None  # over all rounds
    rss_peak_kib: int | None = None
    traffic: list[Traffic] = field(default_factory=list)  # with the object store, round by round
    note: str = ""

    def add(self, value: float, usage: Usage | None = None) -> None:
        self.values.append(value)
        if usage:
            self.account(usage)

    def account(self, usage: Usage) -> None:
        self.cpu_s = (self.cpu_s or 0) + usage.cpu_s
        self.rss_peak_kib = max(self.rss_peak_kib or 0, usage.rss_peak_kib)
        if usage.traffic:
            self.traffic.append(usage.traffic)

    @property
    def valid(self) -> bool:
        return bool(self.values) and not self.fault

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def as_json(self) -> dict:
        shown = {"values": self.values, "cpu_s": self.cpu_s, "rss_peak_kib": self.rss_peak_kib, "fault": self.fault}
        shown |= {"note": self.note}
        if self.traffic:
            shown["s3"] = [traffic.operations for traffic in self.traffic]
        return shown | ({"median": self.median} if self.valid else {})

    @classmethod
    def from_json(cls, label: str, found: dict) -> "Series":
        traffic = [Traffic(operations) for operations in found.get("s3", [])]
        return cls(
            label, found["values"], found["fault"], found["cpu_s"], found["rss_peak_kib"], traffic, found["note"]
        )


@dataclass(frozen=True)
class Target:
    """
    subject (over yardstick, if there is one) is at_least or at_most so much; neither: shown for information.
    times_faster turns the ratio round, for figures that are times.
    """

    subject: str
    yardstick: str = ""
    at_least: float | None = None
    at_most: float | None = None
    times_faster: bool = False
    promise: str = ""  # the heading of the verdict page under which it stands; empty: not a promise

    def bound_text(self, unit: str) -> str:
        bound, sign = (self.at_least, "≥") if self.at_least is not None else (self.at_most, "≤")
        over = "× faster than" if self.times_faster else "×"
        measure = f"{over} {self.yardstick}" if self.yardstick else unit
        return measure if bound is None else f"{sign} {bound:g} {measure}"


@dataclass(frozen=True)
class Judgement:
    figure: str
    subject: str
    bound: str
    verdict: Verdict
    value: float | None = None  # of ratios: the median of the rounds' ratios
    low: float | None = None
    high: float | None = None
    unit: str = ""
    promise: str = ""

    def as_json(self) -> dict:
        return self.__dict__ | {"verdict": self.verdict.value}


def _ratios(one: list[float], other: list[float]) -> list[float]:
    """
    Rounds are interleaved, so the ratio is taken within each: what disturbs a round disturbs both sides. A round that
    only one of them had does not count.
    """
    return [a / b for a, b in zip(one, other)]


@dataclass(frozen=True)
class Growth:
    """Where a figure stands on a plot: figures of one plot are its points."""

    plot: str
    x_name: str
    x: float
    traffic: tuple[str, ...] = ()  # also drawn: "requests", "up", "down" (bytes)


@dataclass
class Figure:
    title: str
    unit: str
    targets: list[Target]
    note: str = ""
    series: dict[str, Series] = field(default_factory=dict)
    growth: Growth | None = None

    def of(self, label: str) -> Series:
        return self.series.setdefault(label, Series(label))

    def ratio(self, subject: str, yardstick: str) -> float | None:
        """The median of the rounds' ratios. None: there is none."""
        one, other = self.series.get(subject), self.series.get(yardstick)
        if not one or not other or not one.valid or not other.valid or not all(other.values):
            return None
        return statistics.median(_ratios(one.values, other.values))

    def doubt(self) -> float:
        """
        By what share the ratios may still be off: the standard error of the median of the rounds', the largest of any
        ratio whose two sides have taken part in all rounds.
        """
        pairs = {(SUBJECT, label) for label in self.series} | {(one.subject, one.yardstick) for one in self.targets}
        return max((self._doubt_of(*pair) for pair in pairs if pair[0] != pair[1]), default=0.0)

    def _doubt_of(self, subject: str, yardstick: str) -> float:
        one, other = self.series.get(subject), self.series.get(yardstick)
        if not one or not other or not one.valid or not other.valid or len(one.values) != len(other.values):
            return 0.0
        if not all(one.values) or not all(other.values):
            return 0.0
        if len(one.values) < ROUNDS_TO_JUDGE:
            return math.inf
        logarithms = [math.log(ratio) for ratio in _ratios(one.values, other.values)]
        return math.sqrt(math.pi / 2 / len(logarithms)) * statistics.stdev(logarithms)

    def judge(self) -> list[Judgement]:
        return [self._judge(target) for target in self.targets]

    def _judge(self, target: Target) -> Judgement:
        unit = "×" if target.yardstick else self.unit
        parts = (self.title, target.subject, target.bound_text(self.unit))
        common = {"unit": unit, "promise": target.promise}
        sides = [self.series.get(label) for label in (target.subject, target.yardstick) if label]
        if any(side and side.fault for side in sides):
            return Judgement(*parts, Verdict.VOID, **common)
        if not all(side and side.values for side in sides):
            return Judgement(*parts, Verdict.LEFT_OUT, **common)
        values = [series.values for series in sides if series]
        if target.times_faster:
            values.reverse()
        shown = _ratios(*values) if len(values) == 2 else values[0]
        value = statistics.median(shown)
        if target.at_least is None and target.at_most is None:
            verdict = Verdict.INFO
        else:
            enough = target.at_least is None or value >= target.at_least
            little = target.at_most is None or value <= target.at_most
            verdict = Verdict.PASS if enough and little else Verdict.FAIL
        return Judgement(*parts, verdict, value, min(shown), max(shown), **common)

    def as_json(self) -> dict:
        return {
            "title": self.title,
            "unit": self.unit,
            "note": self.note,
            "growth": self.growth.__dict__ if self.growth else None,
            "series": {label: series.as_json() for label, series in self.series.items()},
            "targets": [target.__dict__ for target in self.targets],
            "verdicts": [judgement.as_json() for judgement in self.judge()],
        }

    @classmethod
    def from_json(cls, found: dict) -> "Figure":
        growth = found["growth"] and Growth(**found["growth"] | {"traffic": tuple(found["growth"]["traffic"])})
        targets = [Target(**target) for target in found["targets"]]
        series = {label: Series.from_json(label, one) for label, one in found["series"].items()}
        return cls(found["title"], found["unit"], targets, found["note"], series, growth)

"""The ratios of two reports beside each other."""

from dataclasses import dataclass
from pathlib import Path

from .report import number, read_figures
from .results import SUBJECT, Figure


@dataclass(frozen=True)
class Pair:
    title: str
    yardstick: str
    first: float
    second: float
    is_target: bool

    @property
    def difference(self) -> float:
        """As a share of the smaller."""
        low, high = sorted((self.first, self.second))
        return high / low - 1 if low else float(high > 0)


def compare(first: Path, second: Path, within: float) -> tuple[list[Pair], list[Pair]]:
    """Those that agree, and those that do not, the furthest apart first; what only one report has is passed over."""
    one, other = _ratios(first), _ratios(second)
    pairs = [
        Pair(*key, ratio, other[key][0], is_target) for key, (ratio, is_target) in one.items() if key in other
    ]
    differing = sorted((pair for pair in pairs if pair.difference > within), key=lambda pair: -pair.difference)
    return [pair for pair in pairs if pair.difference <= within], differing


def text(agreeing: list[Pair], differing: list[Pair], within: float) -> str:
    both = [*agreeing, *differing]
    targets = [pair for pair in both if pair.is_target]
    lines = [
        f"{len(agreeing)} of {len(both)} ratios agree within {within:.0%}; of the {len(targets)} that have a target,"
        f" {sum(pair.difference <= within for pair in targets)}"
    ]
    for pair in differing:
        mark = " (target)" if pair.is_target else ""
        lines.append(
            f"  {pair.difference:7.0%}  {number(pair.first):>8} × and {number(pair.second)} × {pair.yardstick}"
            f"  {pair.title}{mark}"
        )
    return "\n".join(lines)


def _ratios(path: Path) -> dict[tuple[str, str], tuple[float, bool]]:
    """(figure, what orlop is measured against): the ratio, and whether a target is about it."""
    _, figures, _ = read_figures(path)
    found = {}
    for figure in figures:
        found |= _of(figure)
    return found


def _of(figure: Figure) -> dict[tuple[str, str], tuple[float, bool]]:
    found = {}
    for label in figure.series:
        ratio = figure.ratio(SUBJECT, label) if label != SUBJECT else None
        if ratio is not None:
            found[figure.title, label] = ratio, False
    for judgement, target in zip(figure.judge(), figure.targets):
        if target.yardstick and judgement.value is not None:
            label = target.yardstick if target.subject == SUBJECT else f"{target.yardstick} ({target.subject})"
            value = 1 / judgement.value if target.times_faster and judgement.value else judgement.value
            found[figure.title, label] = value, True
    return found

"""Growth as pictures: SVG line charts with logarithmic axes, one for each plot that figures name."""

import math
import re
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from .results import Figure, Series

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 76, 150, 54, 56
COLOURS = ("#0b6e99", "#c2571a", "#5a7d2a", "#8a4f9e", "#a8323e", "#5b5b5b")
TEXT, FAINT, GRID = "#24292f", "#57606a", "#e4e7eb"
LABEL_GAP = 15  # between the names at the right
UNITS = {"s": "seconds", "ms": "milliseconds"}
VIEWS = {"value": "", "requests": "S3 requests", "up": "bytes to S3", "down": "bytes from S3"}


@dataclass
class Line:
    label: str
    points: list[tuple[float, float, float, float]] = field(default_factory=list)  # x, median, lowest, highest


@dataclass
class Plot:
    title: str
    x_name: str
    unit: str
    lines: dict[str, Line] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") + ".svg"

    def drawn(self) -> list[Line]:
        return [line for line in self.lines.values() if len(line.points) > 1]


def plots(figures: list[Figure]) -> list[Plot]:
    """Those that have a line to draw, in the order of their figures."""
    found: dict[str, Plot] = {}
    for figure in figures:
        if not figure.growth:
            continue
        for view in ("value", *figure.growth.traffic):
            title = figure.growth.plot + (f": {VIEWS[view]}" if VIEWS[view] else "")
            unit = {"value": figure.unit, "requests": "requests"}.get(view, "bytes")
            plot = found.setdefault(title, Plot(title, figure.growth.x_name, unit))
            for series in figure.series.values():
                values = _values(series, view)
                if values and series.valid:
                    low, high = min(values), max(values)
                    point = (figure.growth.x, sorted(values)[len(values) // 2], low, high)
                    plot.lines.setdefault(series.label, Line(series.label)).points.append(point)
    return [plot for plot in found.values() if plot.drawn()]


def _values(series: Series, view: str) -> list[float]:
    if view == "value":
        return series.values
    names = {"requests": "requests", "up": "bytes_up", "down": "bytes_down"}
    return [getattr(traffic, names[view]) for traffic in series.traffic]


def write(directory: Path, found: list[Plot]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("*.svg"):
        old.unlink()
    for plot in found:
        (directory / plot.file_name).write_text(svg(plot))


# ---- drawing ----


class _Axis:
    """A logarithmic scale from whole powers of ten to pixels; zero is drawn at the low end."""

    def __init__(self, values: list[float], low_pixel: float, high_pixel: float) -> None:
        positive = [value for value in values if value > 0] or [1.0]
        self.low = math.floor(math.log10(min(positive)) + 1e-9)
        self.high = max(self.low + 1, math.ceil(math.log10(max(positive)) - 1e-9))
        self._low_pixel, self._high_pixel = low_pixel, high_pixel

    def __call__(self, value: float) -> float:
        at = math.log10(value) if value > 0 else self.low
        share = (max(at, self.low) - self.low) / (self.high - self.low)
        return round(self._low_pixel + share * (self._high_pixel - self._low_pixel), 1)

    def ticks(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]


def svg(plot: Plot) -> str:
    lines = plot.drawn()
    x = _Axis([point[0] for line in lines for point in line.points], LEFT, WIDTH - RIGHT)
    y = _Axis([value for line in lines for point in line.points for value in point[1:]], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(LEFT, 26, plot.title, TEXT, size=15, weight="bold"),
        _text(LEFT, TOP - 10, UNITS.get(plot.unit, plot.unit), FAINT),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, plot.x_name, FAINT, anchor="middle"),
    ]
    parts += _grid(x, y)
    for number, line in enumerate(lines):
        parts += _draw(line, x, y, COLOURS[number % len(COLOURS)])
    parts += _names(lines, x, y)
    return "\n".join([*parts, "</svg>", ""])


def _grid(x: _Axis, y: _Axis) -> list[str]:
    parts = []
    for value in y.ticks():
        parts.append(f'<path d="M{LEFT} {y(value)}H{WIDTH - RIGHT}" stroke="{GRID}"/>')
        parts.append(_text(LEFT - 8, y(value) + 4, _number(value), FAINT, anchor="end"))
    for value in x.ticks():
        parts.append(f'<path d="M{x(value)} {TOP}V{HEIGHT - BOTTOM}" stroke="{GRID}"/>')
        parts.append(_text(x(value), HEIGHT - BOTTOM + 18, _number(value), FAINT, anchor="middle"))
    return parts


def _draw(line: Line, x: _Axis, y: _Axis, colour: str) -> list[str]:
    path = "L".join(f"{x(point[0])} {y(point[1])}" for point in line.points)
    parts = [f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2.2" stroke-linejoin="round"/>']
    for at, median, low, high in line.points:
        if y(low) != y(high):
            parts.append(f'<path d="M{x(at)} {y(low)}V{y(high)}" stroke="{colour}" stroke-width="1.2"/>')
        parts.append(f'<circle cx="{x(at)}" cy="{y(median)}" r="3.4" fill="{colour}"/>')
    return parts


def _names(lines: list[Line], x: _Axis, y: _Axis) -> list[str]:
    """Each at the end of its line, moved down where they would overlap."""
    ends = sorted((y(line.points[-1][1]), number, line) for number, line in enumerate(lines))
    parts, lowest = [], -math.inf
    for end, number, line in ends:
        lowest = max(end + 4, lowest + LABEL_GAP)
        parts.append(_text(WIDTH - RIGHT + 10, lowest, line.label, COLOURS[number % len(COLOURS)], weight="bold"))
    return parts


def _text(x: float, y: float, text: str, colour: str, *, size: int = 12, weight: str = "", anchor: str = "") -> str:
    more = (f' font-weight="{weight}"' if weight else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}"{more}>{escape(text)}</text>'


def _number(value: float) -> str:
    for power, name in ((9, "G"), (6, "M"), (3, "k")):
        if value >= 10**power:
            return f"{value / 10**power:g}{name}"
    return f"{value:g}"

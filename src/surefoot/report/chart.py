"""A line chart as HTML: an SVG that stretches with the page, and text beside it that does not.

The SVG is 1000 by 1000 and stretched to the space there is; strokes keep their width, dots are strokes of no length.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

from surefoot.report.scale import Scale, short
from surefoot.report.series import finite, thin

__all__ = ["Chart", "Line", "Mark", "Zone", "data", "figure", "swatch", "ticks"]

Place = tuple[str, str]

SIZE = 1000
COLORS = 6  # told apart by everyone, those who see few colours included
FEW = 40  # dots that do not run into each other


@dataclass(frozen=True)
class Line:
    """Values against x, drawn in one of the page's colours.

    Attributes:
        name: What the legend calls it.
        xs: Where, rising.
        ys: The value at each, NaN for a gap.
        color: Number of the colour; lines beyond the sixth are dashed.
        look: ``"line"``; ``"raw"``, thin and pale; ``"plan"``, dashed; ``"dots"``; ``"measured"``, dots and a line.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    color: int = 0
    look: Literal["line", "raw", "plan", "dots", "measured"] = "line"

    @property
    def style(self) -> str:
        """The classes of its strokes."""
        return f"{self.look} c{self.color % COLORS}" + " again" * (self.color >= COLORS)


@dataclass(frozen=True)
class Mark:
    """A value that is marked by a line across the chart."""

    name: str
    value: float
    axis: Literal["x", "y"] = "y"


@dataclass(frozen=True)
class Zone:
    """A stretch of the x axis that is shaded; ``kind`` is its class."""

    name: str
    start: float
    end: float
    kind: Literal["interval", "bad"] = "interval"


@dataclass(frozen=True)
class Chart:
    """What a chart shows.

    Attributes:
        key: Its name in the page.
        title: What is drawn.
        caption: What is to be seen in it, in a sentence.
        x: The horizontal axis.
        y: The vertical axis.
        lines: In the order in which they are drawn.
        unit: What the horizontal axis counts.
        read: A short word for it, beside the value that is pointed at.
        marks: Lines across.
        zones: Shaded stretches.
        epochs: Pairs of the first step of a pass and its number, to be told beside the step.
        last: Whether the legend tells the last value of each line until another is pointed at.
        wide: Whether it takes the whole width of the page.

    Example:
        >>> line = Line("training", [1, 2, 3], [3.0, 2.0, 1.5])
        >>> html = Chart("loss", "Loss", "", Scale(0, 3), Scale(0, 3), (line,)).html()
        >>> "M333.3 0L666.7 333.3 1000 500" in html
        True
    """

    key: str
    title: str
    caption: str
    x: Scale
    y: Scale
    lines: tuple[Line, ...]
    unit: str = "step"
    read: str = "step"
    marks: tuple[Mark, ...] = ()
    zones: tuple[Zone, ...] = ()
    epochs: tuple[tuple[int, int], ...] = ()
    last: bool = True
    wide: bool = False

    def html(self) -> str:
        """The chart as a ``<figure>``."""
        points = [thin(line.xs, line.ys) for line in self.lines]
        shapes = [self._zone(zone) for zone in self.zones]
        shapes += [f'<path class="grid" d="M0 {_y(self.y, v)}h{SIZE}"/>' for v, _ in self.y.ticks()]
        for line, (xs, ys) in zip(self.lines, points, strict=True):
            shapes += self._strokes(line, xs, ys)
        shapes += [self._mark(mark) for mark in self.marks]
        numbers = {
            "unit": self.read,
            "x": _scale(self.x),
            "y": _scale(self.y),
            "lines": [_numbers(line, xs, ys) for line, (xs, ys) in zip(self.lines, points, strict=True)],
            "epochs": self.epochs,
            "last": self.last,
        }
        plot = (
            f'<div class="plot" tabindex="0" role="application" aria-label="{escape(self.title)}: arrow keys read values">'
            f'<svg viewBox="0 0 {SIZE} {SIZE}" preserveAspectRatio="none" role="img" '
            f'aria-label="{escape(f"{self.title}. {self.caption}".strip())}">{"".join(shapes)}</svg>'
            f"{ticks(self.x, self.y)}</div>"
        )
        return figure(
            self.key, self.title, self.caption, self._legend() + plot + data(numbers), self.unit, self.wide
        )

    def _legend(self) -> str:
        keys = []
        for line in self.lines:
            # A plan's last value is of the future: it would be read as that of now.
            there = finite(line.ys) if self.last and line.look != "plan" else []
            written = short(there[-1]) if there else ""
            keys.append(
                f"<li>{_swatch(line.style)}<span>{escape(line.name)}</span> <output>{written}</output></li>"
            )
        keys += [f"<li>{_swatch('mark')}<span>{escape(mark.name)}</span></li>" for mark in self.marks]
        keys += [
            f'<li><i class="{zone.kind}"></i><span>{escape(zone.name)}</span></li>' for zone in self.zones
        ]
        return f'<ul class="legend">{"".join(keys)}</ul>'

    def _strokes(self, line: Line, xs: Sequence[float], ys: Sequence[float]) -> list[str]:
        there = [value if not self.y.log or value > 0 else math.nan for value in ys]
        # What leaves the axis is drawn up to its edge, and not along it.
        inside = [self.y.low <= value <= self.y.high for value in there]
        near = [any(inside[max(i - 1, 0) : i + 2]) for i in range(len(inside))]
        places = [
            (_x(self.x, x), _y(self.y, y)) if seen and math.isfinite(y) else None
            for x, y, seen in zip(xs, there, near, strict=True)
        ]
        dots = "".join(f"M{place[0]} {place[1]}h0" for place in places if place)
        if not dots:
            return []
        drawn = []
        if line.look != "dots":
            drawn.append(f'<path class="{line.style}" d="{_path(places)}"/>')
        lone = "".join(
            f"M{here[0]} {here[1]}h0"
            for before, here, after in _neighbours(places)
            if here and not before and not after
        )
        if lone and line.look != "raw":
            drawn.append(f'<path class="lone dot c{line.color % COLORS}" d="{lone}"/>')
        if line.look == "dots" or (line.look == "measured" and len(places) <= FEW):
            drawn.append(f'<path class="dot {line.look} c{line.color % COLORS}" d="{dots}"/>')
        return drawn

    def _mark(self, mark: Mark) -> str:
        if mark.axis == "x":
            return f'<path class="mark" d="M{_x(self.x, mark.value)} 0v{SIZE}"/>'
        return f'<path class="mark" d="M0 {_y(self.y, mark.value)}h{SIZE}"/>'

    def _zone(self, zone: Zone) -> str:
        start, end = _x(self.x, zone.start), _x(self.x, zone.end)
        return f'<path class="{zone.kind}" d="M{start} 0H{end}V{SIZE}H{start}z"/>'


def figure(key: str, title: str, caption: str, body: str, unit: str, wide: bool = False) -> str:
    """The frame that every chart has: a heading, room for what is pointed at, a sentence, the axis' name."""
    return (
        f'<figure id="{escape(key)}"{" class=wide" * wide}><h2>{escape(title)}</h2><p class="at" aria-live="polite"></p>'
        f"<figcaption>{escape(caption)}</figcaption>{body}<p class=unit>{escape(unit)}</p></figure>"
    )


def ticks(x: Scale, y: Scale | None = None) -> str:
    """What is written at the axes."""
    below = [f'<b class="x" style="left:{_percent(x.at(v))}">{text}</b>' for v, text in x.ticks()]
    beside = [] if y is None else y.ticks()
    return "".join(below) + "".join(
        f'<b class="y" style="top:{_percent(1 - y.at(v))}">{text}</b>' for v, text in beside if y is not None
    )


def swatch(color: int) -> str:
    """A piece of a line in the color of that number."""
    return _swatch(Line("", (), (), color).style)


def data(numbers: Mapping[str, Any]) -> str:
    """What the page's script reads; NaN is null, and no text can end the element."""
    text = json.dumps(numbers, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json">{text}</script>'


def _path(places: Sequence[Place | None]) -> str:
    """A line through the places, broken where there is none; a place between two gaps is a dot."""
    out = []
    for before, here, after in _neighbours(places):
        if here is None:
            continue
        out.append(f"{' ' if before else 'M'}{here[0]} {here[1]}")
        if before is None:
            out.append("L" if after else "h0")
    return "".join(out).replace("L ", "L")


def _neighbours(places: Sequence[Place | None]) -> Iterator[tuple[Place | None, Place | None, Place | None]]:
    return zip([None, *places[:-1]], places, [*places[1:], None], strict=True)


def _swatch(style: str) -> str:
    """A piece of a line, as it is drawn, for the legend."""
    look, *color = style.split()
    line = "" if look == "dots" else f'<path class="{style}" d="M1 5H19"/>'
    dot = f'<path class="dot {look} {" ".join(color)}" d="M10 5h0"/>' if look in ("dots", "measured") else ""
    return f'<svg class="key" viewBox="0 0 20 10" aria-hidden="true">{line}{dot}</svg>'


def _scale(scale: Scale) -> list[float]:
    return [scale.low, scale.high, int(scale.log)]


def _numbers(line: Line, xs: Sequence[float], ys: Sequence[float]) -> dict[str, Any]:
    """A line as the script reads it; what is measured now and then holds until it is measured again."""
    holds = line.look in ("dots", "measured")
    return {"x": list(map(_rounded, xs)), "y": list(map(_rounded, ys)), "holds": holds}


def _rounded(value: float) -> float | None:
    if not math.isfinite(value):
        return None
    return int(value) if value == int(value) else float(f"{value:.4g}")


def _x(scale: Scale, value: float) -> str:
    return f"{round(SIZE * scale.at(value), 1):g}"


def _y(scale: Scale, value: float) -> str:
    return f"{round(SIZE * (1 - scale.at(value)), 1):g}"


def _percent(share: float) -> str:
    return f"{round(100 * share, 2):g}%"

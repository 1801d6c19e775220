"""A heat map as HTML: a row for each name, a colour for how far a value is from what is usual."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from surefoot.report.chart import data, figure, ticks
from surefoot.report.scale import Scale, short
from surefoot.report.series import finite

__all__ = ["HeatMap"]

COLUMNS = 60

# The colours' borders, as powers of ten of the value divided by what is usual.
BORDERS = (-2.0, -1.5, -1.0, -0.5, 0.5, 1.0, 1.5, 2.0)


@dataclass(frozen=True)
class HeatMap:
    """Values of many names over time.

    Attributes:
        key: Its name in the page.
        title: What is drawn.
        caption: What is to be seen in it, in a sentence.
        x: The horizontal axis.
        rows: By name, pairs of x and value.
        usual: The value in the middle of the colours.
        unit: What the horizontal axis counts.
    """

    key: str
    title: str
    caption: str
    x: Scale
    rows: Mapping[str, Sequence[tuple[float, float]]]
    usual: float
    unit: str = "step"

    def html(self) -> str:
        """The heat map as a ``<figure>``."""
        cells = [self._cells(pairs) for pairs in self.rows.values()]
        paths: dict[int, list[str]] = {}
        width, height = 1000 / COLUMNS, 1000 / len(cells)
        for i, row in enumerate(cells):
            for j, value in enumerate(row):
                if value > 0:
                    place = f"M{j * width:.1f} {i * height + 0.05 * height:.1f}h{width:.1f}v{0.9 * height:.1f}h-{width:.1f}z"
                    paths.setdefault(self._shade(value), []).append(place)
        shapes = "".join(f'<path class="q{shade}" d="{"".join(d)}"/>' for shade, d in sorted(paths.items()))
        names = "".join(
            f'<b class="y" title="{escape(name)}" style="top:{100 * (i + 0.5) / len(cells):.2f}%">{escape(_end(name))}</b>'
            for i, name in enumerate(self.rows)
        )
        numbers = {
            "unit": self.unit,
            "x": [self.x.low, self.x.high, 0],
            "names": list(self.rows),
            "cells": [[float(f"{v:.3g}") if math.isfinite(v) else None for v in row] for row in cells],
        }
        plot = (
            f'<div class="plot heat" tabindex="0" role="application" style="--rows:{len(cells)}" '
            f'aria-label="{escape(self.title)}: arrow keys read values">'
            f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" role="img" '
            f'aria-label="{escape(f"{self.title}. {self.caption}".strip())}">{shapes}</svg>{names}{ticks(self.x)}</div>'
        )
        body = self._legend() + plot + data(numbers)
        return figure(self.key, self.title, self.caption, body, self.unit, wide=True)

    def _legend(self) -> str:
        shades = "".join(f'<i class="q{shade}"></i>' for shade in range(len(BORDERS) + 1))
        low, high = (short(self.usual * 10**border) for border in (BORDERS[0], BORDERS[-1]))
        return (
            f'<ul class="legend"><li>≤ {low}<span class="shades">{shades}</span>≥ {high}</li>'
            '<li class="heat-value"><output>&nbsp;</output></li></ul>'
        )

    def _cells(self, pairs: Sequence[tuple[float, float]]) -> list[float]:
        """The median of each stretch of time; NaN where nothing was measured."""
        parts: list[list[float]] = [[] for _ in range(COLUMNS)]
        for x, value in pairs:
            parts[min(int(self.x.at(x) * COLUMNS), COLUMNS - 1)].append(value)
        found = [sorted(finite(part)) for part in parts]
        # A stretch in which nothing was measured shows what was measured before it.
        cells, before = [], math.nan
        for part, values in zip(parts, found, strict=True):
            before = values[len(values) // 2] if values else math.nan if part else before
            cells.append(before)
        return cells

    def _shade(self, value: float) -> int:
        power = math.log10(value / self.usual)
        return sum(power >= border for border in BORDERS)


def _end(name: str, most: int = 22) -> str:
    """The end of a long name, where layers differ."""
    return name if len(name) <= most else "…" + name[1 - most :]

"""Numbers made ready to be drawn: gaps, fewer points, a smooth line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from surefoot import plots

__all__ = ["finite", "numbers", "quantile", "smoothed", "thin"]

HUGE = 1e300  # what is beyond has diverged, and its differences would overflow


def numbers(values: Iterable[float | None]) -> list[float]:
    """As floats, with NaN for what is missing or infinite.

    Example:
        >>> numbers([1, None, float("inf")])
        [1.0, nan, nan]
    """
    floats = (math.nan if value is None else float(value) for value in values)
    return [value if abs(value) < HUGE else math.nan for value in floats]


def finite(values: Iterable[float]) -> list[float]:
    """Those that are numbers."""
    return [value for value in values if math.isfinite(value)]


def quantile(values: Iterable[float], share: float) -> float:
    """The number that ``share`` of the finite ``values`` are not above; NaN if there is none.

    Example:
        >>> quantile([3.0, 1.0, 2.0], 0.5)
        2.0
    """
    ordered = sorted(finite(values))
    return ordered[round(share * (len(ordered) - 1))] if ordered else math.nan


def thin(xs: Sequence[float], ys: Sequence[float], most: int = 1000) -> tuple[list[float], list[float]]:
    """At most ``most`` of the points, such that the line through them looks the same.

    Of each stretch of the line the lowest and the highest point are kept, and one of its gaps; so no spike is
    lost, and no gap is closed. The first and the last point are kept too.

    Args:
        xs: Where, rising.
        ys: The value at each, NaN for a gap.
        most: How many points to keep, at least 5.

    Example:
        >>> thin(range(1000), [0.0] * 500 + [9.0] + [0.0] * 499, most=5)
        ([0, 500, 999], [0.0, 9.0, 0.0])
    """
    if len(xs) <= most:
        return list(xs), list(ys)
    kept = {0, len(xs) - 1}
    stretches = (most - 2) // 3
    for i in range(stretches):
        stretch = range(i * len(xs) // stretches, (i + 1) * len(xs) // stretches)
        numbered = [j for j in stretch if math.isfinite(ys[j])]
        if numbered:
            kept |= {min(numbered, key=ys.__getitem__), max(numbered, key=ys.__getitem__)}
        if len(numbered) < len(stretch):
            kept.add(next(j for j in stretch if not math.isfinite(ys[j])))
    places = sorted(kept)
    return [xs[j] for j in places], [ys[j] for j in places]


def smoothed(values: Sequence[float], *, log: bool = False) -> list[float]:
    """A running average over about a fortieth of the line; gaps stay gaps.

    Args:
        values: The line, NaN for a gap.
        log: Average the logarithms, as the eye does on such an axis; all values are greater than 0.
    """
    window = max(1.0, len(values) / 40)
    there = finite(values)
    average = plots.smooth([math.log(value) for value in there] if log else there, 1 - 1 / window)
    following = iter(math.exp(value) if log else value for value in average)
    return [next(following) if math.isfinite(value) else math.nan for value in values]

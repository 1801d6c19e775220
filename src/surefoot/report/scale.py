"""An axis: where a value is on it, and which values are written at it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Scale", "short"]

TINY = 1e-290


@dataclass(frozen=True)
class Scale:
    """From ``low`` to ``high``; on a logarithmic axis both are greater than 0.

    Attributes:
        low: The value at the start.
        high: The value at the end, greater than ``low``.
        log: Whether equal factors are equally far.
        whole: Whether only whole numbers are written at it.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    @classmethod
    def over(
        cls,
        values: Iterable[float],
        *,
        log: bool = False,
        zero: bool = False,
        whole: bool = False,
        margin: float = 0.06,
    ) -> Scale:
        """The axis that ``values`` fit on.

        Args:
            values: What is to be seen; NaN, and on a logarithmic axis what is not positive, is not counted.
            log: A logarithmic axis.
            zero: Start at 0 if no value is below.
            whole: Write whole numbers only.
            margin: Share of the axis that is left free at each end.

        Example:
            >>> Scale.over([2.0, 10.0], zero=True, margin=0).ticks()
            [(0.0, '0'), (2.0, '2'), (4.0, '4'), (6.0, '6'), (8.0, '8'), (10.0, '10')]
        """
        there = [float(value) for value in values if math.isfinite(value) and (value > 0 or not log)]
        if not there:
            return cls(1, 10, log) if log else cls(0, 1, log, whole)
        # What is smaller than any step between ticks could be is nothing.
        low, high = (0.0 if not log and abs(end) < TINY else end for end in (min(there), max(there)))
        if log:
            low, high = math.log10(low), math.log10(high)
            if high - low < 0.01:
                low, high = low - 0.3, high + 0.3
            free = margin * (high - low)
            low, high = max(low - free, -300.0), min(max(high + free, -299.0), 300.0)
            return cls(10**low, 10**high, log)
        if zero and low >= 0:
            return cls(0, (1 + margin) * high or 1, log, whole)
        if high - low <= 1e-9 * max(abs(low), abs(high)):
            free = max(0.05 * abs(low), 0.5 if whole or not low else 0.0)
            return cls(low - free, high + free, log, whole)
        free = margin * (high - low)
        return cls(low - free, high + free, log, whole)

    def at(self, value: float) -> float:
        """Where ``value`` is, from 0 at the start to 1 at the end; what is outside is at the nearer end.

        Example:
            >>> round(Scale(1e-4, 1e-2, log=True).at(1e-3), 6), Scale(0, 10).at(25)
            (0.5, 1.0)
        """
        if math.isnan(value):
            return math.nan
        if self.log:
            if value <= 0:
                return 0.0
            low, high = math.log10(self.low), math.log10(self.high)
            place = (math.log10(value) - low) / (high - low)
        else:
            place = (value - self.low) / (self.high - self.low)
        return min(max(place, 0.0), 1.0)

    def ticks(self) -> list[tuple[float, str]]:
        """Round values on the axis, two to seven of them, and how each is written.

        Example:
            >>> [text for _, text in Scale(8e-5, 0.2, log=True).ticks()]
            ['1e-4', '1e-3', '1e-2', '1e-1']
        """
        powers = self._powers() if self.log else []
        values = powers if len(powers) > 1 else _even(self.low, self.high, self.whole)
        return list(zip(values, _written(values, alike=values is not powers), strict=True))

    def _powers(self) -> list[float]:
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        if last - first >= 2:
            every = math.ceil((last - first + 1) / 7)
            powers = [power for power in range(first, last + 1) if power % every == 0]
            return [float(f"1e{power}") for power in powers]
        ticks = [float(f"{digit}e{power}") for power in range(first - 1, last + 1) for digit in (1, 2, 5)]
        return [tick for tick in ticks if self.low * (1 - 1e-9) <= tick <= self.high * (1 + 1e-9)]


def _even(low: float, high: float, whole: bool) -> list[float]:
    rough = (high - low) / 5
    power = float(f"1e{math.floor(math.log10(rough))}")
    steps = [power * digit for digit in (1, 2, 2.5, 5, 10)]
    step = next(s for s in steps if s >= 0.999 * rough and (not whole or s == int(s) or s < 1))
    step = max(step, 1.0) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    # Through text: 3 * 0.1 is 0.30000000000000004.
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def _written(values: Sequence[float], alike: bool) -> list[str]:
    """All in one way, so that they compare at a glance; ``alike`` with equally many decimals."""
    sizes = [abs(value) for value in values if value]
    if sizes and min(sizes) < 0.01:
        return [_power(value) if 0 < abs(value) < 1 else short(value) for value in values]
    for unit, least, most, letter in ((1e6, 1e6, 1e9, "M"), (1e3, 1e4, 1e6, "k")):
        if sizes and least <= max(sizes) < most and min(sizes) >= unit / 10:
            return [f"{value / unit:.12g}{letter}" if value else "0" for value in values]
    # More digits than usual, where a small change of a large number is to be seen.
    digits = 4
    while len({short(value, digits) for value in values}) < len(set(values)):
        digits += 1
    texts = [short(value, digits) for value in values]
    decimals = max((len(text.partition(".")[2]) for text in texts), default=0)
    if alike and decimals and max(sizes) < 1000:
        return [f"{value:.{decimals}f}" if value else "0" for value in values]
    return texts


def _power(value: float) -> str:
    digits, power = f"{value:.12e}".split("e")
    return f"{float(digits):.12g}e{int(power)}"


def short(value: float, digits: int = 4) -> str:
    """A number as it is read: few digits, and an exponent only where zeros would have to be counted.

    Example:
        >>> [short(value) for value in (0.0, 0.98765, 2e-4, 1234.0, 2.5e7, float("nan"))]
        ['0', '0.9877', '2e-4', '1,234', '2.5e7', 'none']
    """
    if not math.isfinite(value):
        return "none"
    if value and not 1e-2 <= abs(value) < 1e6:
        digit, power = f"{value:.{digits - 2}e}".split("e")
        return f"{float(digit):.{digits}g}e{int(power)}"
    if abs(value) >= 1000:
        return f"{value:,.{max(digits - 4, 0)}f}"
    return f"{value:.{digits}g}"

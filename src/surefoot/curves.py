"""Curves: a hyperparameter as a pure function of the step.

``curve.value(step, base)`` is closed form: it needs no step before it, so resuming is evaluating at
another step and a preview is evaluating at all of them. ``base`` is the value the optimizer was built
with; curves that name their own values ignore it. Steps count from 0 and may be fractional.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, SupportsFloat

from surefoot import checks

__all__ = ["Cosine", "Curve", "Exponential", "Function", "OneCycle", "Step", "Triangular", "level"]


@dataclass(frozen=True)
class Curve(ABC):
    """A hyperparameter as a function of the step."""

    @abstractmethod
    def value(self, step: float, base: float = 1.0) -> float:
        """The hyperparameter at ``step`` (0 is before the first update)."""

    def values(self, steps: int, base: float = 1.0) -> list[float]:
        """The hyperparameter at steps ``0 ... steps - 1``.

        Example:
            >>> Step(step_size=2, gamma=0.5).values(5, base=8.0)
            [8.0, 8.0, 4.0, 4.0, 2.0]
        """
        return [self.value(step, base) for step in range(steps)]


@dataclass(frozen=True)
class Step(Curve):
    """A staircase: times ``gamma`` every ``step_size`` steps.

    Attributes:
        step_size: Steps between two drops, a positive integer.
        gamma: Factor of each drop.
    """

    step_size: int
    gamma: float

    def __post_init__(self) -> None:
        checks.positive("step_size", self.step_size)
        checks.finite("gamma", self.gamma)

    def value(self, step: float, base: float = 1.0) -> float:
        return base * float(self.gamma ** (step // self.step_size))


@dataclass(frozen=True)
class Exponential(Curve):
    """Times ``gamma`` every step.

    Attributes:
        gamma: Factor of each step.
    """

    gamma: float

    def __post_init__(self) -> None:
        checks.finite("gamma", self.gamma)

    def value(self, step: float, base: float = 1.0) -> float:
        return base * float(self.gamma**step)


@dataclass(frozen=True)
class Function(Curve):
    """``base`` times a function of the step.

    Attributes:
        factor: Takes the step, returns a finite number.
    """

    factor: Callable[[float], float]

    def __post_init__(self) -> None:
        checks.function("factor", self.factor)

    def value(self, step: float, base: float = 1.0) -> float:
        return base * _factor(self.factor, step)


@dataclass(frozen=True)
class Cosine(Curve):
    r"""A wave from ``base`` down to ``eta_min`` in ``T_max`` steps, up again in the next ``T_max``.

    .. math:: \eta_{min} + \tfrac12 (base - \eta_{min}) (1 + \cos(\pi\,step / T_{max}))

    Loshchilov & Hutter, 2017 (https://arxiv.org/abs/1608.03983).

    Attributes:
        T_max: Steps of half a wave, positive.
        eta_min: The lowest value.
    """

    T_max: float
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        checks.positive("T_max", self.T_max)
        checks.finite("eta_min", self.eta_min)

    def value(self, step: float, base: float = 1.0) -> float:
        return _wave(base, self.eta_min, step / self.T_max)


@dataclass(frozen=True)
class OneCycle(Curve):
    """Up from ``start`` to ``peak``, then down to ``end``, once in ``total_steps`` steps.

    Step ``total_steps - 1`` is the last, with the value ``end``, which every later step keeps.
    With ``three_phase`` the way back down to ``start`` is as long as the way up, and the rest goes to
    ``end``. Smith & Topin, 2018 (https://arxiv.org/abs/1708.07120).

    Attributes:
        total_steps: Steps of the cycle, a positive integer.
        start: Value at step 0, if the way up is at least a step long.
        peak: Value at step ``pct_start * total_steps - 1``, which may lie just before step 0.
        end: Value at the last step.
        pct_start: Share of the way up, in [0, 1].
        anneal_strategy: ``"cos"`` or ``"linear"``.
        three_phase: Return to ``start`` before going to ``end``.
    """

    total_steps: int
    start: float
    peak: float
    end: float
    pct_start: float = 0.3
    anneal_strategy: Literal["cos", "linear"] = "cos"
    three_phase: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.total_steps, bool) or not isinstance(self.total_steps, int):
            raise ValueError(f"total_steps={self.total_steps!r} must be an integer")
        checks.positive("total_steps", self.total_steps)
        for name in ("start", "peak", "end"):
            checks.finite(name, getattr(self, name))
        checks.number("pct_start", self.pct_start)
        if not 0 <= self.pct_start <= 1:
            raise ValueError(f"pct_start={self.pct_start!r} must be in [0, 1]: it is the share of the way up")
        if self.anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy={self.anneal_strategy!r} must be 'cos' or 'linear'")

    def value(self, step: float, base: float = 1.0) -> float:
        step = min(step, self.total_steps - 1)
        rise = self.pct_start * self.total_steps
        ends = [(rise - 1, self.peak), (self.total_steps - 1, self.end)]
        if self.three_phase:
            ends.insert(1, (2 * rise - 2, self.start))
        begin, low = 0.0, self.start
        for stop, high in ends:
            if begin < stop and step <= stop:
                share = (step - begin) / (stop - begin)
                return (_wave if self.anneal_strategy == "cos" else _line)(low, high, share)
            begin, low = stop, high
        return self.end


def level(cycle: float) -> float:
    """The scale of cycles that are all alike; it has a name because a lambda could not be pickled."""
    return 1.0


@dataclass(frozen=True)
class Triangular(Curve):
    """Up from ``low`` to ``high`` and down again, over and over.

    Smith, 2017 (https://arxiv.org/abs/1506.01186).

    Attributes:
        low: Value at the foot of every cycle.
        high: Value at the first peak.
        up: Steps from foot to peak, positive.
        down: Steps from peak to foot, not negative.
        scale: Factor on the height of the peak: of the cycle's number, counted from 1, or of the step.
        scale_mode: What ``scale`` takes: ``"cycle"`` or ``"iterations"``.
    """

    low: float
    high: float
    up: float
    down: float
    scale: Callable[[float], float] = level
    scale_mode: Literal["cycle", "iterations"] = "cycle"

    def __post_init__(self) -> None:
        checks.finite("low", self.low)
        checks.finite("high", self.high)
        checks.positive("up", self.up)
        checks.not_negative("down", self.down)
        checks.function("scale", self.scale)
        if self.scale_mode not in ("cycle", "iterations"):
            raise ValueError(f"scale_mode={self.scale_mode!r} must be 'cycle' or 'iterations'")

    def value(self, step: float, base: float = 1.0) -> float:
        length = self.up + self.down
        cycle = math.floor(1 + step / length)
        position = 1 + step / length - cycle
        peak = self.up / length
        height = position / peak if position <= peak else (position - 1) / (peak - 1)
        scale = _factor(self.scale, cycle if self.scale_mode == "cycle" else step)
        return _line(self.low, self.high, height * scale)


def _line(start: float, end: float, share: float) -> float:
    """Exactly ``start`` at share 0, exactly ``end`` at 1."""
    return (1 - share) * start + share * end


def _wave(start: float, end: float, share: float) -> float:
    """The same along a cosine, level at both ends."""
    cosine = math.cos(math.pi * share)
    # Both weights from the cosine: 1 - (1 - cosine) / 2 would lose the digits of a value close to a small end.
    return (1 + cosine) / 2 * start + (1 - cosine) / 2 * end


def _factor(function: Callable[[float], float], step: float) -> float:
    """What a user's function returns, as the number it has to be."""
    factor = function(step)
    if not isinstance(factor, SupportsFloat) or not math.isfinite(factor):
        name = getattr(function, "__qualname__", type(function).__qualname__)
        raise ValueError(f"{name}({step}) returned {factor!r}: return a finite number")
    return float(factor)

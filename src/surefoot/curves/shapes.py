"""The shapes: each a frozen set of settings, with its value in closed form."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, SupportsFloat, get_args

from surefoot import checks
from surefoot.curves.base import Curve

__all__ = [
    "Anneal",
    "Constant",
    "CosineWave",
    "Cumulative",
    "Exponential",
    "Function",
    "InverseSqrt",
    "MultiStep",
    "OneCycle",
    "Ramp",
    "Restarts",
    "Step",
    "Table",
    "Triangular",
]

Shape = Literal["linear", "cosine", "1-sqrt", "polynomial", "exponential"]


class _Factor(Curve):
    @property
    def relative(self) -> bool:
        return True


@dataclass(frozen=True)
class Constant(_Factor):
    """``base`` times a number.

    Attributes:
        steps: How long; None for ever.
        factor: The number.
    """

    steps: float | None = None
    factor: float = 1.0

    def __post_init__(self) -> None:
        if self.steps is not None:
            checks.not_negative("steps", self.steps)
        checks.finite("factor", self.factor)

    def value(self, step: float, base: float = 1.0) -> float:
        return base * self.factor

    @property
    def length(self) -> float:
        return math.inf if self.steps is None else self.steps


@dataclass(frozen=True)
class Ramp(_Factor):
    r"""``base`` times a factor that goes from ``start`` to ``end``, and then holds.

    .. math:: w(x)\,start + (1 - w(x))\,end, \qquad x = step / steps

    Attributes:
        steps: How long it takes, at least 0. At step ``steps`` it is at ``end``.
        start: The factor at step 0.
        end: The factor at the end.
        shape: ``"linear"``: w = 1 - x; ``"cosine"``: (1 + cos(pi x)) / 2; ``"1-sqrt"``: 1 - sqrt(x) (Hägele et al.,
            2024, https://arxiv.org/abs/2405.18392); ``"polynomial"``: (1 - x) ** power; ``"exponential"``: equal ratios,
            ``start ** (1 - x) * end ** x``, both greater than 0.
        power: For ``"polynomial"``.
    """

    steps: float
    start: float = 1.0
    end: float = 0.0
    shape: Shape = "linear"
    power: float = 1.0

    def __post_init__(self) -> None:
        checks.not_negative("steps", self.steps)
        _one_of("shape", self.shape, *get_args(Shape))
        for name in ("start", "end"):
            (checks.positive if self.shape == "exponential" else checks.finite)(name, getattr(self, name))
        checks.positive("power", self.power)

    def value(self, step: float, base: float = 1.0) -> float:
        if step >= self.steps:
            return base * self.end
        share = step / self.steps
        if self.shape == "exponential":
            return base * float(self.start ** (1 - share) * self.end**share)
        if self.shape == "cosine":
            return base * _wave(self.start, self.end, share)
        if self.shape == "polynomial":
            return base * _line(self.start, self.end, 1 - (1 - share) ** self.power)
        return base * _line(self.start, self.end, math.sqrt(share) if self.shape == "1-sqrt" else share)

    @property
    def length(self) -> float:
        return self.steps


@dataclass(frozen=True)
class Anneal(Curve):
    """From ``base`` to a value of its own, which does not depend on ``base``, and then it holds.

    Attributes:
        steps: How long it takes, at least 0. At step ``steps`` it is there.
        to: The value.
        anneal_strategy: ``"cos"`` or ``"linear"``.
    """

    steps: float
    to: float
    anneal_strategy: Literal["cos", "linear"] = "cos"

    def __post_init__(self) -> None:
        checks.not_negative("steps", self.steps)
        checks.finite("to", self.to)
        _one_of("anneal_strategy", self.anneal_strategy, "cos", "linear")

    def value(self, step: float, base: float = 1.0) -> float:
        if step >= self.steps:
            return self.to
        return (_wave if self.anneal_strategy == "cos" else _line)(base, self.to, step / self.steps)

    @property
    def length(self) -> float:
        return self.steps

    @property
    def relative(self) -> bool:
        return self.to == 0


@dataclass(frozen=True)
class Step(_Factor):
    """A staircase: times ``gamma`` every ``step_size`` steps.

    Attributes:
        step_size: Steps between two drops, positive.
        gamma: Factor of each drop.
    """

    step_size: float
    gamma: float = 0.1

    def __post_init__(self) -> None:
        checks.positive("step_size", self.step_size)
        checks.finite("gamma", self.gamma)

    def value(self, step: float, base: float = 1.0) -> float:
        return base * math.pow(self.gamma, step // self.step_size)


@dataclass(frozen=True)
class MultiStep(_Factor):
    """Times ``gamma`` at each milestone.

    Attributes:
        milestones: Steps of the drops, not falling; one that comes twice drops twice.
        gamma: Factor of each drop.
    """

    milestones: tuple[float, ...]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        if not isinstance(self.milestones, tuple | list):
            raise TypeError(
                f"milestones={self.milestones!r} is a {type(self.milestones).__name__}: pass a list of steps"
            )
        for milestone in self.milestones:
            checks.not_negative("milestones", milestone)
        if sorted(self.milestones) != list(self.milestones):
            raise ValueError(f"milestones={list(self.milestones)} must not fall: sort them")
        checks.finite("gamma", self.gamma)
        object.__setattr__(self, "milestones", tuple(self.milestones))

    def value(self, step: float, base: float = 1.0) -> float:
        return base * math.pow(self.gamma, bisect_right(self.milestones, step))


@dataclass(frozen=True)
class Exponential(_Factor):
    """Times ``gamma`` every step.

    Attributes:
        gamma: Factor of each step.
    """

    gamma: float

    def __post_init__(self) -> None:
        checks.finite("gamma", self.gamma)

    def value(self, step: float, base: float = 1.0) -> float:
        return base * math.pow(self.gamma, step)


@dataclass(frozen=True)
class InverseSqrt(_Factor):
    """``base * sqrt(timescale / (timescale + step))``: after a warmup of ``timescale`` steps, the schedule of Vaswani et al., 2017.

    (https://arxiv.org/abs/1706.03762)

    Attributes:
        timescale: Positive.
    """

    timescale: float

    def __post_init__(self) -> None:
        checks.positive("timescale", self.timescale)

    def value(self, step: float, base: float = 1.0) -> float:
        return base * math.sqrt(self.timescale / (self.timescale + step))


@dataclass(frozen=True)
class Function(_Factor):
    """``base`` times a function of the step.

    Attributes:
        factor: Takes the step, returns a finite number. See :func:`~surefoot.curves.register`.
    """

    factor: Callable[[float], float]

    def __post_init__(self) -> None:
        checks.function("factor", self.factor)

    def value(self, step: float, base: float = 1.0) -> float:
        return base * _number(self.factor, step)


def _one() -> array[float]:
    return array("d", [1.0])


@dataclass(frozen=True)
class Cumulative(_Factor):
    """``base`` times the product of a function's values at steps 1, 2, ... up to now.

    Attributes:
        factor: Takes the step, a whole number, returns a finite number. It is asked once for each step.
    """

    factor: Callable[[int], float]
    _products: array[float] = field(default_factory=_one, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        checks.function("factor", self.factor)

    def value(self, step: float, base: float = 1.0) -> float:
        step = int(step)
        while len(self._products) <= step:
            self._products.append(self._products[-1] * _number(self.factor, len(self._products)))
        return base * self._products[step]


@dataclass(frozen=True)
class Table(_Factor):
    """``base`` times one number for each step, and the last from then on; in between, on the line.

    Attributes:
        factors: The numbers, at least one.
    """

    factors: tuple[float, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.factors, tuple | list) or not self.factors:
            raise TypeError(f"factors={self.factors!r}: pass a list of at least one number")
        for factor in self.factors:
            checks.finite("factors", factor)
        object.__setattr__(self, "factors", tuple(self.factors))

    def value(self, step: float, base: float = 1.0) -> float:
        step = min(step, len(self.factors) - 1)
        before = int(step)
        after = min(before + 1, len(self.factors) - 1)
        return base * _line(self.factors[before], self.factors[after], step - before)

    @property
    def length(self) -> float:
        return len(self.factors)


@dataclass(frozen=True)
class CosineWave(Curve):
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

    @property
    def relative(self) -> bool:
        return self.eta_min == 0


@dataclass(frozen=True)
class Restarts(Curve):
    r"""Cosines down from a peak, again and again, each ``T_mult`` times as long and ``decay`` times as high.

    Loshchilov & Hutter, 2017 (https://arxiv.org/abs/1608.03983).

    Attributes:
        T_0: Steps of the first, positive.
        T_mult: At least 1.
        end: The factor on ``base`` that each comes down to.
        eta_min: A value that is added to it.
        decay: Factor on the height of each peak, against the one before.
        resolution: How far apart the steps are that are looked at. The last before a restart is at the bottom; with 0
            it is just above.
    """

    T_0: float
    T_mult: float = 1
    end: float = 0.0
    eta_min: float = 0.0
    decay: float = 1.0
    resolution: float = 1.0

    def __post_init__(self) -> None:
        checks.positive("T_0", self.T_0)
        checks.finite("T_mult", self.T_mult)
        if not self.T_mult >= 1:
            raise ValueError(
                f"T_mult={self.T_mult!r} must be at least 1: no cycle is shorter than the one before"
            )
        for name in ("end", "eta_min", "decay"):
            checks.finite(name, getattr(self, name))
        checks.not_negative("resolution", self.resolution)

    def value(self, step: float, base: float = 1.0) -> float:
        cycle, position, length = self.place(step)
        way = length - self.resolution
        share = position / way if position < way else float(way > 0)
        if self.eta_min == 0:
            return base * _wave(self.end + (1 - self.end) * self.decay**cycle, self.end, share)
        low = base * self.end + self.eta_min
        return _wave(low + (base - low) * self.decay**cycle, low, share)

    def place(self, step: float) -> tuple[int, float, float]:
        """The number of the cosine, from 0, how far it is in it, and how long it is."""
        if self.T_mult == 1:
            cycle, position = divmod(step, self.T_0)
            return int(cycle), position, self.T_0
        cycle = math.floor(math.log1p(step / self.T_0 * (self.T_mult - 1)) / math.log(self.T_mult))
        cycle -= self._start(cycle) > step  # the logarithm is rounded
        cycle += self._start(cycle + 1) <= step
        return cycle, step - self._start(cycle), self.T_0 * self.T_mult**cycle

    def _start(self, cycle: int) -> float:
        return self.T_0 * (self.T_mult**cycle - 1) / (self.T_mult - 1)

    @property
    def relative(self) -> bool:
        return self.eta_min == 0


@dataclass(frozen=True)
class OneCycle(_Factor):
    """``base`` times a factor: up from ``start`` to ``peak``, then down to ``end``, once in ``total_steps`` steps.

    Step ``total_steps - 1`` is the last, with the factor ``end``, which every later step keeps.
    With ``three_phase`` the way back down to ``start`` is as long as the way up, and the rest goes to
    ``end``. Smith & Topin, 2018 (https://arxiv.org/abs/1708.07120).

    Attributes:
        total_steps: Steps of the cycle, a positive integer.
        start: Factor at step 0, if the way up is at least a step long.
        peak: Factor at step ``pct_start * total_steps - 1``, which may lie just before step 0.
        end: Factor at the last step.
        pct_start: Share of the way up, in [0, 1].
        anneal_strategy: ``"cos"`` or ``"linear"``.
        three_phase: Return to ``start`` before going to ``end``.
    """

    total_steps: int
    start: float = 1 / 25
    peak: float = 1.0
    end: float = 1 / 25e4
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
        _one_of("anneal_strategy", self.anneal_strategy, "cos", "linear")

    def value(self, step: float, base: float = 1.0) -> float:
        if step > self.total_steps - 1:
            step = self.total_steps - 1
        for begin, stop, low, high in self._phases:
            if step <= stop:
                share = (step - begin) / (stop - begin)
                return base * (_wave if self.anneal_strategy == "cos" else _line)(low, high, share)
        return base * self.end

    @cached_property
    def _phases(self) -> list[tuple[float, float, float, float]]:
        """Where each begins and stops, and the factors there."""
        rise = self.pct_start * self.total_steps
        ends = [(0.0, self.start), (rise - 1, self.peak), (self.total_steps - 1, self.end)]
        if self.three_phase:
            ends.insert(2, (2 * rise - 2, self.start))
        phases = [(begin, stop, low, high) for (begin, low), (stop, high) in pairwise(ends)]
        return [phase for phase in phases if phase[0] < phase[1]]

    @property
    def length(self) -> float:
        return self.total_steps


@dataclass(frozen=True)
class Triangular(_Factor):
    """``base`` times a factor: up from ``low`` to ``high`` and down again, over and over.

    Smith, 2017 (https://arxiv.org/abs/1506.01186).

    Attributes:
        low: Factor at the foot of every cycle.
        high: Factor at the first peak.
        up: Steps from foot to peak, positive.
        down: Steps from peak to foot, not negative; as many as up if None.
        mode: ``"triangular"``: all peaks are alike; ``"triangular2"``: half as high each time; ``"exp_range"``: times
            ``gamma ** step``.
        gamma: For ``"exp_range"``.
        scale: A function in the place of ``mode``: factor on the height.
        scale_mode: What ``scale`` takes: the ``"cycle"``, counted from 1, or ``"iterations"``, the step.
    """

    low: float
    high: float
    up: float
    down: float | None = None
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular"
    gamma: float = 1.0
    scale: Callable[[float], float] | None = None
    scale_mode: Literal["cycle", "iterations"] = "cycle"

    def __post_init__(self) -> None:
        checks.finite("low", self.low)
        checks.finite("high", self.high)
        checks.positive("up", self.up)
        if self.down is None:
            object.__setattr__(self, "down", self.up)
        checks.not_negative("down", self.down)  # type: ignore[arg-type]
        _one_of("mode", self.mode, "triangular", "triangular2", "exp_range")
        checks.finite("gamma", self.gamma)
        if self.scale is not None:
            checks.function("scale", self.scale)
        _one_of("scale_mode", self.scale_mode, "cycle", "iterations")

    def value(self, step: float, base: float = 1.0) -> float:
        assert self.down is not None
        length = self.up + self.down
        cycle = math.floor(1 + step / length)
        position = 1 + step / length - cycle
        peak = self.up / length
        height = position / peak if position <= peak else (position - 1) / (peak - 1)
        return base * _line(self.low, self.high, height * self._scale(cycle, step))

    def _scale(self, cycle: int, step: float) -> float:
        if self.scale is not None:
            return _number(self.scale, cycle if self.scale_mode == "cycle" else step)
        if self.mode == "triangular2":
            return math.ldexp(1.0, 1 - cycle)
        return math.pow(self.gamma, step) if self.mode == "exp_range" else 1.0


def _line(start: float, end: float, share: float) -> float:
    """Exactly ``start`` at share 0, exactly ``end`` at 1."""
    return (1 - share) * start + share * end


def _wave(start: float, end: float, share: float) -> float:
    """The same along a cosine, level at both ends."""
    cosine = math.cos(math.pi * share)
    # Both weights from the cosine: 1 - (1 - cosine) / 2 would lose the digits of a value close to a small end.
    return (1 + cosine) / 2 * start + (1 - cosine) / 2 * end


def _one_of(name: str, value: Any, *choices: str) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r} must be {', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}")


def _number(function: Callable[..., float], step: float) -> float:
    """What a user's function returns, as the number it has to be."""
    factor = function(step)
    if type(factor) is float and math.isfinite(factor):  # most often, and the question below takes long
        return factor
    if not isinstance(factor, SupportsFloat) or not math.isfinite(factor):
        name = getattr(function, "__qualname__", type(function).__qualname__)
        raise ValueError(f"{name}({step}) returned {factor!r}: return a finite number")
    return float(factor)

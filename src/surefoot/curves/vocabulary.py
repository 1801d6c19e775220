"""The words that schedules are written in, here and on the command line: ``warmup(500) >> cosine(10_000, to=0.1)``.

All are factors on the value that the optimizer was built with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from surefoot import checks
from surefoot.curves.base import Curve
from surefoot.curves.shapes import (
    Constant,
    Exponential,
    Function,
    InverseSqrt,
    MultiStep,
    OneCycle,
    Ramp,
    Restarts,
    Shape,
    Step,
    Table,
    Triangular,
)

__all__ = [
    "constant",
    "cosine",
    "cosine_restarts",
    "exponential",
    "function",
    "inverse_sqrt",
    "linear",
    "multistep",
    "one_cycle",
    "polynomial",
    "step",
    "table",
    "triangular",
    "warmup",
    "wsd",
]


def constant(steps: float | None = None, factor: float = 1.0) -> Constant:
    """Stay at ``factor``, for ``steps`` steps or for ever.

    Example:
        >>> from surefoot.curves import constant, linear
        >>> (constant(2) >> linear(2)).values(5)
        [1.0, 1.0, 1.0, 0.5, 0.0]
    """
    return Constant(steps, factor)


def warmup(steps: float, start: float | None = None, shape: Shape = "linear") -> Ramp:
    """Go up to 1 in ``steps`` steps: at step ``steps`` what comes next begins, at its full height.

    Args:
        steps: How many, at least 0.
        start: The factor at step 0; ``1 / (steps + 1)`` if None, so that the first update is not of size 0.
        shape: As of :class:`~surefoot.curves.Ramp`.

    Example:
        >>> from surefoot.curves import constant, warmup
        >>> (warmup(3) >> constant()).values(5)
        [0.25, 0.5, 0.75, 1.0, 1.0]
        >>> warmup(2, start=0).values(3)
        [0.0, 0.5, 1.0]
    """
    checks.not_negative("steps", steps)
    return Ramp(steps, 1 / (steps + 1) if start is None else start, 1.0, shape)


def linear(steps: float, to: float = 0.0, start: float = 1.0) -> Ramp:
    """Go from ``start`` to ``to`` on a line, in ``steps`` steps.

    Example:
        >>> from surefoot.curves import linear
        >>> linear(4, to=0.5).values(6)
        [1.0, 0.875, 0.75, 0.625, 0.5, 0.5]
    """
    return Ramp(steps, start, to)


def cosine(steps: float, to: float = 0.0, start: float = 1.0) -> Ramp:
    """Go from ``start`` to ``to`` on half a cosine, in ``steps`` steps, and stay there.

    Example:
        >>> from surefoot.curves import cosine
        >>> [round(value, 3) for value in cosine(4, to=0.1).values(6)]
        [1.0, 0.868, 0.55, 0.232, 0.1, 0.1]
    """
    return Ramp(steps, start, to, "cosine")


def polynomial(steps: float, power: float = 1.0, to: float = 0.0, start: float = 1.0) -> Ramp:
    """Go from ``start`` to ``to`` as ``(1 - step / steps) ** power``.

    Example:
        >>> from surefoot.curves import polynomial
        >>> polynomial(4, power=2).values(5)
        [1.0, 0.5625, 0.25, 0.0625, 0.0]
    """
    return Ramp(steps, start, to, "polynomial", power)


def exponential(gamma: float) -> Exponential:
    """Times ``gamma`` every step. For a way of known length: ``Ramp(steps, 1.0, to, "exponential")``.

    Example:
        >>> from surefoot.curves import exponential
        >>> exponential(0.5).values(3)
        [1.0, 0.5, 0.25]
    """
    return Exponential(gamma)


def step(step_size: float, gamma: float = 0.1) -> Step:
    """Times ``gamma`` every ``step_size`` steps.

    Example:
        >>> from surefoot.curves import step
        >>> step(2, gamma=0.5).values(5)
        [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    return Step(step_size, gamma)


def multistep(milestones: Sequence[float], gamma: float = 0.1) -> MultiStep:
    """Times ``gamma`` at each of the milestones.

    Example:
        >>> from surefoot.curves import multistep
        >>> multistep([1, 3], gamma=0.5).values(5)
        [1.0, 0.5, 0.5, 0.25, 0.25]
    """
    return MultiStep(milestones, gamma)  # type: ignore[arg-type]


def cosine_restarts(steps: float, mult: float = 1, to: float = 0.0, decay: float = 1.0) -> Restarts:
    """Cosines down to ``to``, the first ``steps`` steps long, each ``mult`` times as long and ``decay`` times as high.

    The last step of each is at ``to``.

    Example:
        >>> from surefoot.curves import cosine_restarts
        >>> [round(value, 3) for value in cosine_restarts(3, to=0.1, decay=0.5).values(6)]
        [1.0, 0.55, 0.1, 0.55, 0.325, 0.1]
    """
    return Restarts(steps, mult, to, 0.0, decay)


def one_cycle(
    steps: int,
    up: float = 0.3,
    start: float = 1 / 25,
    to: float = 1 / 25e4,
    shape: Literal["cos", "linear"] = "cos",
    three_phase: bool = False,
) -> OneCycle:
    """Up to 1 and down to almost nothing, in ``steps`` steps; the last is ``steps - 1``.

    Args:
        steps: A positive integer.
        up: Share of the way up.
        start: The factor at step 0.
        to: The factor at the last step.
        shape: ``"cos"`` or ``"linear"``.
        three_phase: Come back to ``start`` as fast as it went up, then go down to ``to``.

    Example:
        >>> from surefoot.curves import one_cycle
        >>> [round(value, 2) for value in one_cycle(11, up=3 / 11, shape="linear").values(11)]
        [0.04, 0.52, 1.0, 0.88, 0.75, 0.63, 0.5, 0.38, 0.25, 0.13, 0.0]
    """
    return OneCycle(steps, start, 1.0, to, up, shape, three_phase)


def triangular(
    up: float,
    down: float | None = None,
    low: float = 0.1,
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular",
    gamma: float = 1.0,
    scale_fn: Callable[[float], float] | None = None,
    scale_mode: Literal["cycle", "iterations"] = "cycle",
) -> Triangular:
    """Up from ``low`` to 1 in ``up`` steps and down again in ``down``, over and over.

    Args:
        up: Steps from foot to peak.
        down: Steps back; as many if None.
        low: The factor at the foot.
        mode: ``"triangular"``, ``"triangular2"`` (half as high each time) or ``"exp_range"`` (times ``gamma ** step``).
        gamma: For ``"exp_range"``.
        scale_fn: Factor on the height in the place of ``mode``.
        scale_mode: What ``scale_fn`` takes: the ``"cycle"``, counted from 1, or ``"iterations"``.

    Example:
        >>> from surefoot.curves import triangular
        >>> triangular(2, low=0.0, mode="triangular2").values(8)
        [0.0, 0.5, 1.0, 0.5, 0.0, 0.25, 0.5, 0.25]
    """
    return Triangular(low, 1.0, up, down, mode, gamma, scale_fn, scale_mode)


def inverse_sqrt(timescale: float) -> InverseSqrt:
    """``sqrt(timescale / (timescale + step))``, most often after a warmup as long.

    Example:
        >>> from surefoot.curves import inverse_sqrt, warmup
        >>> (warmup(100) >> inverse_sqrt(100)).value(400)
        0.5
    """
    return InverseSqrt(timescale)


def wsd(steps: float, warmup: float, decay: float, to: float = 0.0, shape: Shape = "1-sqrt") -> Curve:
    """Warmup, stable, decay: ``steps`` in all, the first ``warmup`` up, the last ``decay`` down to ``to``.

    Hu et al., 2024 (https://arxiv.org/abs/2404.06395); the default shape is Hägele et al., 2024
    (https://arxiv.org/abs/2405.18392).

    Args:
        steps: Steps in all, at least ``warmup + decay``.
        warmup: Steps of the way up.
        decay: Steps of the way down.
        to: The factor at the end.
        shape: Of the way down: ``"linear"``, ``"cosine"``, ``"1-sqrt"``, ``"polynomial"`` or ``"exponential"``.

    Raises:
        ValueError: The parts are longer than the whole.

    Example:
        >>> from surefoot.curves import wsd
        >>> [round(value, 2) for value in wsd(10, warmup=2, decay=4).values(11)]
        [0.33, 0.67, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.29, 0.13, 0.0]
    """
    for name, value in (("steps", steps), ("warmup", warmup), ("decay", decay)):
        checks.not_negative(name, value)
    if warmup + decay > steps:
        raise ValueError(f"warmup={warmup} and decay={decay} are longer than steps={steps} in all")
    up = Ramp(warmup, 1 / (warmup + 1), 1.0)
    return up >> Constant(steps - warmup - decay) >> Ramp(decay, 1.0, to, shape)


def function(factor: Callable[[float], float]) -> Function:
    """Any function of the step.

    Example:
        >>> from surefoot.curves import function
        >>> function(lambda step: 1 / (1 + step)).values(3)
        [1.0, 0.5, 0.3333333333333333]
    """
    return Function(factor)


def table(factors: Sequence[float]) -> Table:
    """One number for each step; the last holds.

    Example:
        >>> from surefoot.curves import table
        >>> table([1.0, 0.5, 0.1]).values(4)
        [1.0, 0.5, 0.1, 0.1]
    """
    return Table(factors)  # type: ignore[arg-type]

"""What sweeps and trials say about the rate: numbers in, numbers out.

Rates are in octaves (``log2``) throughout: what is equal on that axis is an equal factor. Losses are changes from the
start of training on the same batches, so that what differs between batches does not count; the spread between
batches only is the measure of what is a change at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Noise", "Range", "SweepReading", "TrialsReading", "fit", "horizon", "read_sweep", "read_trials"]

DRIFT = 0.4
"""Octaves that the good rates move down each time training gets twice as long."""

FAR = 2.5
"""Octaves they move at most: nobody has measured longer trainings against such short ones."""

SIGNAL = 2.0
"""A descent of less than so many spreads between batches says nothing about the rate."""

NEAR = 0.05
"""Rates at which the loss fell by this share less than at the best are as good as it."""

SMOOTH = 1 / 3
"""Width in octaves of the average over a sweep."""

NEIGHBOURS = 0.6745 * math.sqrt(2)
"""Median distance of two independent normal numbers of standard deviation 1."""

Range = tuple[float, float]


@dataclass(frozen=True)
class Noise:
    """The loss before training: its mean, and its standard deviation between batches.

    With one batch there is no spread: a thousandth of the loss stands in, also where the batches are more alike.
    """

    level: float
    spread: float

    @staticmethod
    def of(losses: Sequence[float]) -> Noise:
        """From the losses of some batches."""
        spread = float(np.std(losses, ddof=1)) if len(losses) > 1 else 0.0
        return Noise._at_least(float(np.mean(losses)), spread)

    @staticmethod
    def along(losses: Sequence[float]) -> Noise:
        """From the losses of a sweep, each of another batch: its first rates change little, neighbours differ by chance."""
        first = losses[: min(8, 2 + len(losses) // 16)]
        steps = np.abs(np.diff([loss for loss in losses if math.isfinite(loss)]))
        spread = float(np.median(steps)) / NEIGHBOURS if len(steps) else 0.0
        return Noise._at_least(float(np.mean(first)), spread)

    @staticmethod
    def _at_least(level: float, spread: float) -> Noise:
        return Noise(level, max(spread, 0.001 * abs(level), 1e-12))

    def risen(self, loss: float) -> bool:
        """Whether a loss is above what was at the start, and no batch alone can be why."""
        return not loss <= self.level + max(6 * self.spread, 0.1 * abs(self.level))

    def diverged(self, loss: float) -> bool:
        """Whether a loss will hardly come back."""
        return not loss <= self.level + max(20 * self.spread, 5 * abs(self.level))


@dataclass(frozen=True)
class SweepReading:
    """What a sweep says.

    Attributes:
        best: The rate for a whole training, in octaves.
        signal: How far the loss fell, in spreads between batches.
        lowest: Where it was lowest.
        edge: Where it was back at its start, beyond the lowest; the last rate if it never was.
        at_start, at_end: Whether it was lowest at the first or the last rates, so that it may fall further outside.
    """

    best: float
    signal: float
    lowest: float
    edge: float
    at_start: bool
    at_end: bool

    @property
    def weak(self) -> bool:
        """Whether nothing was learned that is more than noise."""
        return self.signal < SIGNAL

    @property
    def doubt(self) -> str:
        """Why no rate can be told from it, as a sentence; empty if one can."""
        if self.weak:
            return (
                "The loss did not fall by more than differs between batches "
                f"({self.signal:.1f} standard deviations)."
            )
        if self.at_end:
            return "The loss still fell at the highest rate that was tried."
        return "The loss was lowest at the lowest rates that were tried." if self.at_start else ""

    @property
    def safest(self) -> float:
        """What to offer where there is a doubt, in octaves."""
        return self.edge - 2 if self.weak else self.best


@dataclass(frozen=True)
class TrialsReading:
    """What trials say.

    Attributes:
        best: The rate for a whole training, in octaves.
        plateau: From which to which rate it would do as well.
        signal: How far the loss fell in the best trial, in spreads between batches.
        safe: The highest rate that did no harm.
        at_start, at_end: Whether the lowest or highest rate tried is among the best.
    """

    best: float
    plateau: Range
    signal: float
    safe: float
    at_start: bool
    at_end: bool

    @property
    def weak(self) -> bool:
        """Whether nothing was learned that is more than noise."""
        return self.signal < SIGNAL


def horizon(steps: float, total_steps: float) -> float:
    """Octaves from the best rate of ``steps`` updates to that of ``total_steps``; negative, as longer training wants less.

    Example:
        >>> round(horizon(64, 512), 6)
        -1.2
    """
    return -min(FAR, DRIFT * max(0.0, math.log2(total_steps / steps)))


def fit(octaves: Sequence[float], changes: Sequence[float], noise: Noise) -> list[float]:
    """The changes of the loss along a sweep, smoothed; one that diverged counts as twice the first loss."""
    x = np.asarray(octaves, dtype=float)
    top = 2 * abs(noise.level) + 5 * noise.spread
    y = np.minimum(np.nan_to_num(np.asarray(changes, dtype=float), nan=top, posinf=top), top)
    weights = np.exp(-0.5 * ((x[:, None] - x[None, :]) / SMOOTH) ** 2)
    fitted: list[float] = (weights @ y / weights.sum(1)).tolist()
    return fitted


def read_sweep(
    octaves: Sequence[float], changes: Sequence[float], noise: Noise, total_steps: float
) -> SweepReading:
    """Read a sweep of rising rates, an update at each.

    Where the loss has fallen by all but a twentieth of what it falls, the rate suits the few updates that a sweep has around it; one
    for a whole training is below that.

    Args:
        octaves: The rates, at least 3, rising.
        changes: The change of the loss after the update at each, on the same batch.
        noise: The loss before.
        total_steps: Updates of the training that is planned.
    """
    fitted = fit(octaves, changes, noise)
    lowest = int(np.argmin(fitted))
    near = _crossing(octaves, fitted, lowest, -1, (1 - NEAR) * fitted[lowest])
    spacing = (octaves[-1] - octaves[0]) / (len(octaves) - 1)
    steps = 1 / (1 - 2**-spacing)  # the sum of all rates so far, in updates at the last
    back = (x for x, y in zip(octaves[lowest:], fitted[lowest:], strict=True) if y > 0)
    return SweepReading(
        best=near + horizon(steps, total_steps),
        signal=max(0.0, -fitted[lowest] / noise.spread),
        lowest=octaves[lowest],
        edge=next(back, octaves[-1]),
        at_start=octaves[lowest] < octaves[0] + 1,
        at_end=lowest == len(octaves) - 1,
    )


def read_trials(
    scores: dict[float, float], start: float, noise: Noise, steps: float, total_steps: float
) -> TrialsReading:
    """Read trials of equal length at different rates.

    The best rate is the middle, in octaves, of all that did nearly as well as the best, each seen with those beside it: a single best
    trial is mostly luck.

    Args:
        scores: The loss at the end of each trial by its rate in octaves; infinite where it diverged.
        start: The loss before, on the same batches.
        noise: The loss before, and its spread.
        steps: Updates of each.
        total_steps: Updates of the training that is planned.
    """
    octaves = sorted(scores)
    losses = [scores[x] for x in octaves]
    # Harm beyond the start is harm; and a rate beside a bad one is worse than it looks.
    level = [min(loss, start) for loss in losses]
    beside = [level[0], *level, level[-1]]
    level = [(a + 2 * b + c) / 4 for a, b, c in zip(beside[:-2], level, beside[2:], strict=True)]
    best = int(np.argmin(level))
    fell = max(0.0, start - min(losses))
    good = level[best] + NEAR * (start - level[best])
    low, high = _crossing(octaves, level, best, -1, good), _crossing(octaves, level, best, 1, good)
    shift = horizon(steps, total_steps)
    harmless = [x for x, loss in zip(octaves, losses, strict=True) if loss <= start + 0.2 * noise.spread]
    return TrialsReading(
        best=(low + high) / 2 + shift,
        plateau=(low + shift, high + shift),
        signal=fell / noise.spread,
        safe=max(harmless, default=octaves[0]),
        at_start=level[0] <= good,
        at_end=level[-1] <= good,
    )


def _crossing(
    octaves: Sequence[float], losses: Sequence[float], best: int, direction: int, level: float
) -> float:
    """How far from the best one can go before the loss is above the level."""
    i = best
    while 0 <= i + direction < len(losses) and losses[i + direction] <= level:
        i += direction
    beyond = i + direction
    if not 0 <= beyond < len(losses) or not math.isfinite(losses[beyond]):
        return octaves[i]
    share = (level - losses[i]) / (losses[beyond] - losses[i])
    return octaves[i] + share * (octaves[beyond] - octaves[i])

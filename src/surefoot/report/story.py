"""What a page tells: plain data about a run, whoever gathered it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

__all__ = ["Column", "Finding", "Measured", "Story"]

Column = Sequence[float | None]
Measured = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Finding:
    """What a learning-rate range test saw, and what it makes of it.

    Attributes:
        lr: The rates that were tried, greater than 0 and rising.
        loss: The loss at each, as measured.
        fitted: The curve through them, at the same rates; may be empty.
        suggestion: The rate to train with, or None.
        interval: The lowest and the highest rate that the suggestion may be, or None.
        reason: Why this rate, or why none, as a sentence.
        trials: How many sweeps it rests on.
        abstained: Whether the test gives no suggestion because it saw nothing clear.

    Raises:
        ValueError: The lists do not belong together, a rate is not positive, or ``interval`` is not a pair.

    Example:
        >>> Finding(lr=[1e-3, 1e-2], loss=[2.0, 1.0], suggestion=3e-3).trials
        1
    """

    lr: Sequence[float]
    loss: Column
    fitted: Column = ()
    suggestion: float | None = None
    interval: tuple[float, float] | None = None
    reason: str = ""
    trials: int = 1
    abstained: bool = False

    def __post_init__(self) -> None:
        _same_length("loss", self.loss, "lr", self.lr)
        if self.fitted:
            _same_length("fitted", self.fitted, "lr", self.lr)
        _rising("lr", self.lr)
        if self.lr and not self.lr[0] > 0:
            raise ValueError(f"lr begins with {self.lr[0]!r}: every rate must be greater than 0")
        if self.interval is not None and not 0 < self.interval[0] <= self.interval[1]:
            raise ValueError(
                f"interval={self.interval!r} must be two rates greater than 0, the lower one first"
            )


@dataclass(frozen=True)
class Story:
    """A run, as its page tells it. What is empty is left out of the page.

    In columns None, NaN and infinity stand for what was not measured or is no number: a gap in the chart.

    Attributes:
        title: What was trained.
        result: The outcome in one sentence.
        diagnoses: What is wrong and what to try, pairs of sentences.
        settings: Name and value of each setting.
        resume: The shell command that goes on with the run.
        finding: The learning-rate range test before it.
        planned: For each parameter group the rate of updates 1, 2, ... by its schedule.
        step: The number of each update that there is a record of, rising.
        epoch: The pass over the data that each belongs to.
        loss: Loss of the batch.
        lr: For each parameter group its rate in each update.
        grad_norm: Norm of all gradients, before clipping.
        clip_coef: What they were multiplied with to clip them; 1 where they were not.
        throughput: Samples per second.
        metrics: What was measured now and then: by name, pairs of step and value. ``val_loss`` is drawn beside
            the loss.
        ratios: For each layer pairs of step and the norm of its update divided by that of its weights.

    Raises:
        ValueError: A column is not as long as ``step``, or steps do not rise.

    Example:
        >>> Story("digits-1", step=[1, 2], loss=[2.3, 1.9], metrics={"val_loss": [(2, 1.8)]}).last_step
        2
        >>> Story("digits-1", step=[1, 2], loss=[2.3])
        Traceback (most recent call last):
        ValueError: loss has 1 values, step has 2: they must be equally many
    """

    title: str
    result: str = ""
    diagnoses: Sequence[tuple[str, str]] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    resume: str = ""
    finding: Finding | None = None
    planned: Mapping[str, Column] = field(default_factory=dict)
    step: Sequence[int] = ()
    epoch: Sequence[int] = ()
    loss: Column = ()
    lr: Mapping[str, Column] = field(default_factory=dict)
    grad_norm: Column = ()
    clip_coef: Column = ()
    throughput: Column = ()
    metrics: Mapping[str, Measured] = field(default_factory=dict)
    ratios: Mapping[str, Measured] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _rising("step", self.step)
        for name in ("epoch", "loss", "grad_norm", "clip_coef", "throughput"):
            if column := getattr(self, name):
                _same_length(name, column, "step", self.step)
        for group, column in self.lr.items():
            _same_length(f"lr[{group!r}]", column, "step", self.step)
        for kind in ("metrics", "ratios"):
            for name, pairs in getattr(self, kind).items():
                _rising(f"{kind}[{name!r}]", [step for step, _ in pairs])

    @property
    def last_step(self) -> int:
        """The last update that there is a record of; 0 without records."""
        return self.step[-1] if self.step else 0


def _same_length(name: str, values: Sequence[Any], other: str, others: Sequence[Any]) -> None:
    if len(values) != len(others):
        raise ValueError(
            f"{name} has {len(values)} values, {other} has {len(others)}: they must be equally many"
        )


def _rising(name: str, values: Sequence[float]) -> None:
    for before, after in pairwise(values):
        if not before < after:
            raise ValueError(f"{name} goes from {before!r} to {after!r}: it must rise")

"""The diagnosis: a history, and the causes that look at it."""

from __future__ import annotations

from collections.abc import Iterable

from surefoot import checks
from surefoot.diagnosis.cause import Cause, Finding
from surefoot.diagnosis.course import DataLoading, ScheduleCut, ScheduleEnded, SkippedUpdates
from surefoot.diagnosis.gradients import (
    Clipping,
    ExplodingGradients,
    LargeUpdates,
    SmallUpdates,
    VanishingGradients,
)
from surefoot.diagnosis.history import History, Watched
from surefoot.diagnosis.loss import Diverged, NoLearning, Nonfinite, Overfitting

__all__ = ["CAUSES", "Diagnosis"]

CAUSES: tuple[type[Cause], ...] = (
    Nonfinite,
    Diverged,
    NoLearning,
    Overfitting,
    VanishingGradients,
    ExplodingGradients,
    SmallUpdates,
    LargeUpdates,
    Clipping,
    SkippedUpdates,
    ScheduleEnded,
    ScheduleCut,
    DataLoading,
)


class Diagnosis:
    """Watches the records of a training and says in words what goes wrong.

    It reads records and nothing else, keeps no more of them than it needs, and is silent unless it is sure. Which kinds
    of trouble there are, what gives them away and what it needs for that is in ``docs/diagnosis.md``.

    Args:
        names: Parameters whose gradients and updates are judged, those with two dimensions or more; all that
            the optimizer has statistics of but those with ``bias`` in the last part of their name if None.
        suggestion: The learning rate that a range test suggested, if there was one.
        interval: Lowest and highest rate that it found sensible.
        planned_steps: Updates that the training is to have in all, at least 1.
        monitor: Which of a record's metrics is the held-out loss.
        every: Read the loss of every so many updates, at least 1. On a GPU each reading waits for it: take 10 or more.

    Raises:
        ValueError: A rate, a count or the interval is out of range.
        TypeError: One of them is no number, or ``names`` is one string.

    Example:
        >>> import torch, surefoot
        >>> from surefoot.diagnosis import Diagnosis
        >>> watch = Diagnosis(suggestion=0.01, planned_steps=100)
        >>> watch.findings()
        []
    """

    def __init__(
        self,
        *,
        names: Iterable[str] | None = None,
        suggestion: float | None = None,
        interval: tuple[float, float] | None = None,
        planned_steps: int | None = None,
        monitor: str = "loss",
        every: int = 1,
    ) -> None:
        if isinstance(names, str):
            raise TypeError(f"names={names!r} is a string: pass a list of names")
        if suggestion is not None:
            checks.positive("suggestion", suggestion)
        if interval is not None:
            low, high = interval
            checks.positive("interval[0]", low)
            checks.positive("interval[1]", high)
            if low > high:
                raise ValueError(f"interval={interval!r} ends before it begins: pass (lowest, highest)")
        if planned_steps is not None:
            planned_steps = checks.whole("planned_steps", planned_steps, 1)
        every = checks.whole("every", every, 1)
        chosen = None if names is None else frozenset(names)
        self._history = History(chosen, suggestion, interval, planned_steps, monitor, every)
        self._causes = [cause() for cause in CAUSES]
        self._open: dict[str, list[Cause]] = {"record": [], "level": [], "block": [], "end": []}
        for cause in self._causes:
            self._open[cause.when].append(cause)

    def __call__(self, record: Watched) -> tuple[Finding, ...]:
        """Look at a record.

        Returns:
            What is sure since this record, and was not before; mostly nothing.
        """
        history = self._history
        history.add(record)
        new = self._look("record", record)
        if history.renewed:
            new += self._look("level", record)
        if history.tensors is not None:
            new += self._look("block", record)
        return new

    def _look(self, when: str, record: Watched) -> tuple[Finding, ...]:
        new: tuple[Finding, ...] = ()
        for cause in self._open[when]:
            cause.finding = cause.see(self._history, record)
            if cause.finding is not None:
                new += (cause.finding,)
        if new:  # nothing is said twice
            self._open[when] = [cause for cause in self._open[when] if cause.finding is None]
        return new

    def findings(self) -> list[Finding]:
        """All that was found, when training is over, in the order in which it was.

        What only the end can show is among it, such as a schedule that was cut; what has passed since is not.
        """
        if not self._history.updates:
            return []
        ends = [cause.end(self._history) for cause in self._causes]
        return sorted((found for found in ends if found is not None), key=lambda found: found.step)

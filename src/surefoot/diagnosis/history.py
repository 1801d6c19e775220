"""What a diagnosis goes by: records in, a few running numbers out."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import TYPE_CHECKING, NamedTuple, Protocol

from surefoot.diagnosis.words import short

if TYPE_CHECKING:
    from surefoot.optimizers.plan import Norms

__all__ = ["History", "Typical", "Watched"]

FIRST = 5  # readings of the loss that are its start
RECENT = 25  # readings of the loss whose median is its level now
LOOK = 5  # readings from one level to the next
STRIDE = 13  # updates from one sample of the per-tensor statistics to the next
BLOCK = 9  # samples that are judged together: one batch proves nothing


class Watched(Protocol):
    """What of a record is looked at; those of :func:`surefoot.train` have it."""

    @property
    def step(self) -> int: ...
    @property
    def loss(self) -> float: ...
    @property
    def lr(self) -> tuple[float, ...]: ...
    @property
    def grad_norm(self) -> float | None: ...
    @property
    def clip_coef(self) -> float | None: ...
    @property
    def nonfinite(self) -> int | None: ...
    @property
    def stats(self) -> Mapping[str, Norms] | None: ...
    @property
    def applied(self) -> bool: ...
    @property
    def seconds(self) -> float: ...
    @property
    def waited(self) -> float: ...
    @property
    def last_of_pass(self) -> bool: ...
    @property
    def metrics(self) -> Mapping[str, float] | None: ...


class Typical(NamedTuple):
    """What is typical of a parameter in a block of samples: medians.

    Attributes:
        grad: Norm of its gradient.
        relative: The same by the norm of the parameter.
        update: Norm of its update by the norm of the parameter.
        largest: The largest of these; no median.
    """

    grad: float
    relative: float
    update: float
    largest: float


class History:
    """What the records so far come to. Memory does not grow with their number.

    Attributes:
        updates: Records seen.
        step: That of the last one.
        from_start: Whether the first record was the training's first, and not of a resumed one.
        first: The first readings of the loss.
        loss: The last reading of the loss; NaN at first.
        read: Whether it is of the last record.
        level: Median of the recent readings, renewed every few; NaN at first.
        best: The lowest level.
        renewed: Whether the last record renewed the level.
        rate: The highest learning rate of all groups in the last record.
        peak: The highest of all records, first reached at step ``peak_step``.
        changes: How often the rates changed; the last time at step ``since``.
        longest: Updates of the longest stretch without a change, but for the one that goes on.
        fell: Whether the highest rate was ever lower than before.
        zeros: Updates in a row, up to now, with a gradient of zero.
        tensors: What is typical of each parameter, where the last record filled a block of samples.
        block_rates: The rate at its beginning and end.
    """

    def __init__(
        self,
        names: frozenset[str] | None,
        suggestion: float | None,
        interval: tuple[float, float] | None,
        planned_steps: int | None,
        monitor: str,
        every: int,
    ) -> None:
        self.suggestion, self.interval = suggestion, interval
        self.planned_steps, self.monitor = planned_steps, monitor
        self._names, self._every = names, every
        self.updates = self.step = self.readings = self.peak_step = self.zeros = 0
        self.changes = self.since = self.longest = 0
        self.from_start = False
        self.first: list[float] = []
        self.loss, self.read = math.nan, False
        self.level, self.best, self.renewed = math.nan, math.inf, False
        self.rate, self.peak, self.fell = 0.0, -math.inf, False
        self.tensors: dict[str, Typical] | None = None
        self.block_rates = 0.0, 0.0
        self._lr: tuple[float, ...] = ()
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._block: list[tuple[float, Mapping[str, Norms]]] = []

    def add(self, record: Watched) -> None:
        """Take a record in."""
        self.step, self.read, self.renewed, self.tensors = record.step, False, False, None
        lr = record.lr
        if lr != self._lr:
            self._change(lr)
        if not self.updates:
            self.from_start = record.step <= 1
        if self.updates % self._every == 0:
            self._read(float(record.loss))
        self.updates += 1
        norm = record.grad_norm
        self.zeros = self.zeros + 1 if norm == 0 else 0
        if self.updates % STRIDE == 0 and record.stats and norm is not None and math.isfinite(norm):
            self._block.append((self.rate, record.stats))
            if len(self._block) == BLOCK:
                self._judge_block()

    def _change(self, lr: tuple[float, ...]) -> None:
        rate = max(lr)
        if self._lr:
            self.changes += 1
            self.longest = max(self.longest, self.step - self.since)
            self.fell = self.fell or rate < self.rate
        self._lr, self.rate, self.since = lr, rate, self.step
        if rate > self.peak:
            self.peak, self.peak_step = rate, self.step

    def _judge_block(self) -> None:
        block = [stats for _, stats in self._block]
        self.block_rates = self._block[0][0], self._block[-1][0]
        self._block = []
        self.tensors = {}
        for name in self._weights(block[0]):
            norms = [stats[name] for stats in block if name in stats and stats[name].param > 0]
            if len(norms) == BLOCK:
                updates = sorted(each.update / each.param for each in norms)
                self.tensors[name] = Typical(
                    sorted(each.grad for each in norms)[BLOCK // 2],
                    sorted(each.grad / each.param for each in norms)[BLOCK // 2],
                    updates[BLOCK // 2],
                    updates[-1],
                )

    def _read(self, loss: float) -> None:
        self.loss, self.read = loss, True
        if not math.isfinite(loss):
            return
        if len(self.first) < FIRST:
            self.first.append(loss)
        self._recent.append(loss)
        self.readings += 1
        if self.readings % LOOK == 0 and self.readings >= RECENT:
            self.level, self.renewed = median(self._recent), True
            self.best = min(self.best, self.level)

    @property
    def start(self) -> float:
        """Median of the first readings of the loss; NaN if there were none."""
        return median(self.first or [math.nan])

    @property
    def spread(self) -> float:
        """How far recent readings of the loss are from their level: the median distance."""
        return median([abs(loss - self.level) for loss in self._recent] or [math.nan])

    @property
    def enough(self) -> bool:
        """Whether too little may be called so: half the plan is done, or much where there is none."""
        return self.updates >= max(500, (self.planned_steps or 0) // 2)

    def _weights(self, stats: Mapping[str, Norms]) -> list[str]:
        if self._names is not None:
            return [name for name in stats if name in self._names]
        return [name for name in stats if "bias" not in name.rpartition(".")[2]]

    @property
    def range_test(self) -> str:
        """What the range test said, as the end of a sentence."""
        if self.suggestion is None:
            return ""
        between = (
            f", between {short(self.interval[0])} and {short(self.interval[1])}" if self.interval else ""
        )
        return f"; the range test suggested {short(self.suggestion)}{between}"

    @property
    def too_low(self) -> bool:
        """Whether the highest rate so far is far below what the range test suggested."""
        return self.suggestion is not None and self.peak < self.suggestion / 10 and not self._inside

    @property
    def too_high(self) -> bool:
        """Whether it is above."""
        return self.suggestion is not None and self.peak > self.suggestion * 1.5 and not self._inside

    @property
    def _inside(self) -> bool:
        return self.interval is not None and self.interval[0] <= self.peak <= self.interval[1]

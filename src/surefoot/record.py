"""What the training loop says of one update."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from surefoot.optimizers.plan import Norms
from surefoot.update import Update

if sys.platform != "win32":
    import resource

__all__ = ["Record"]


@dataclass(frozen=True, slots=True)
class Record:
    """What one update was. Two are equal if they say the same; times do not count.

    Attributes:
        step: Updates made, this one included.
        epoch: The pass it belongs to, counted from 1.
        update: Its losses as tensors, where they were computed.
        last_of_pass: Whether the pass is over; always False where the loader has no length.
        seconds: Wall time it took, waiting for data included, evaluation and saving not.
        waited: Seconds of it in which the loader was waited for.
        metrics: What ``evaluate`` found after this update, by name; None if it was not asked.
        best: Whether these metrics are the best so far.
    """

    step: int
    epoch: int
    update: Update
    last_of_pass: bool = False
    seconds: float = field(default=0.0, compare=False)
    waited: float = field(default=0.0, compare=False)
    metrics: Mapping[str, float] | None = None
    best: bool = False

    @property
    def loss(self) -> float:
        """The loss before the update. Reading it waits for a GPU."""
        return self.update.loss.item()

    @property
    def losses(self) -> dict[str, float]:
        """Losses that the run's ``loss`` gives by name; none if it gives one. Reading them waits for a GPU."""
        return {name: value.item() for name, value in self.update.losses.items()}

    @property
    def lr(self) -> tuple[float, ...]:
        """Learning rate of each group in this update."""
        return tuple(map(float, self.update.lr))

    @property
    def applied(self) -> bool:
        """False where the update was skipped, for a loss or gradient that is not finite."""
        return self.update.applied

    @property
    def samples(self) -> float:
        """What the batches of the update hold, as ``run.count`` counts."""
        return self.update.samples

    @property
    def throughput(self) -> float:
        """Samples a second."""
        return self.update.samples / self.seconds if self.seconds > 0 else math.inf

    @property
    def memory(self) -> int | None:
        """The peak in bytes until now, when it is asked: of what torch allocated on the GPU, or else of the process.

        None where the system does not tell.
        """
        return _peak_memory(self.update.loss.device)

    @property
    def grad_norm(self) -> float | None:
        """Euclidean norm of all gradients, not clipped; None if the optimizer did not measure it."""
        last = self.update.last_step
        return None if last is None else last.grad_norm

    @property
    def clip_coef(self) -> float | None:
        """What the gradients were multiplied with to clip their norm; None if the optimizer is not Surefoot's."""
        last = self.update.last_step
        return None if last is None else last.clip_coef

    @property
    def nonfinite(self) -> int | None:
        """How many elements of the gradients are infinite or NaN; None if the optimizer did not count them."""
        last = self.update.last_step
        return None if last is None else last.nonfinite

    @property
    def stats(self) -> dict[str, Norms] | None:
        """Norms of each parameter, its update and its gradient, with ``stats=True`` of the optimizer."""
        last = self.update.last_step
        return None if last is None else last.stats


def _peak_memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.memory_stats_as_nested_dict(device)["allocated_bytes"]["all"]["peak"])
    if sys.platform == "win32":
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # in KiB elsewhere

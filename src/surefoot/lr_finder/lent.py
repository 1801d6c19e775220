"""A run on loan: updates at any rate from where it stands, on the same batches again and again."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from surefoot.batch import move, tensors
from surefoot.lr_finder.planned import Planned, Settings
from surefoot.lr_scheduler.hyperparameters import set_hyperparameter
from surefoot.run import Run
from surefoot.update import loss_of, update

__all__ = ["Lent", "Spent", "agreed", "lend"]

HELD = 4
"""Batches that a held-out loss is the mean of."""

MOST_BYTES = 1 << 30
"""Batches that are kept take no more than about so much, or are four."""

SCALINGS = 24
"""How often a GradScaler may find its scale too large for one update before the update counts as diverged."""


class Spent(Exception):  # noqa: N818 - a limit that was set, not an error
    """The batches or seconds are spent."""


class Lent:
    """What the finder does with a run; :func:`lend` makes one.

    Attributes:
        batches: What each update of a trial is made of, in order.
        held: What held-out losses are read on; empty where the loss of a batch cannot be computed without an update.
        spent: Batches computed so far.
        most: How many may be computed.
    """

    def __init__(self, run: Run, val_loader: Any, updates: int, max_batches: int, max_seconds: float) -> None:
        self._run = run
        self.spent, self.most, self._until = 0, max_batches, time.monotonic() + max_seconds
        self._let_diverge()
        _check_again("loader", run.loader)
        _check_again("val_loader", val_loader)
        held: list[list[Any]] = []
        if val_loader is not None and run.step_fn is None:
            held = [[batch] for batch in self._in_time(islice(val_loader, HELD))]
            if not held:
                raise ValueError(
                    "val_loader gave no batch: leave it out, or look at its dataset and drop_last"
                )
        wanted = min(updates + (0 if held or run.step_fn is not None else HELD), max_batches)
        windows = list(self._in_time(islice(_windows(run), wanted)))
        if not held and run.step_fn is None:  # those that no trial trains on, where there are enough
            held, windows = windows[updates:] or windows[-HELD:], windows[:updates]
        self.batches, self.held = _fewest(windows), _fewest(held)

    def _in_time(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Those that are read before the time is over; the first in any case."""
        for batch in batches:
            yield batch
            if time.monotonic() > self._until:
                return

    @property
    def left(self) -> int:
        """Batches that may still be computed; none once the time is over."""
        over = agreed(float(time.monotonic() > self._until)) > 0
        return 0 if over else self.most - self.spent

    def rewind(self) -> None:
        """Go back to where the run was lent."""
        self._run.rewind()
        self._let_diverge()

    def _let_diverge(self) -> None:
        """No error where it does: that is what is looked for."""
        optimizer: Any = self._run.optimizer
        if getattr(optimizer, "nonfinite", None) == "raise":
            optimizer.nonfinite = "skip"

    def set(self, rate: float, settings: Sequence[Settings]) -> None:
        """Set each group's rate to so many times that of the settings, and what else they hold."""
        for group, wanted in zip(self._run.optimizer.param_groups, settings, strict=True):
            for name, value in wanted.items():
                set_hyperparameter(group, name, rate * value if name == "lr" else value)

    def update(self, number: int) -> float:
        """Make an update on a batch; the loss before it, infinite where it or its gradient is not finite.

        Raises:
            Spent: There is nothing left for it.
        """
        if self.left < 1:
            raise Spent
        self.spent += 1
        for _ in range(SCALINGS):
            try:
                done = update(self._run, self.batches[number % len(self.batches)])
            except FloatingPointError:  # a rule of the user's, or anomaly detection
                return math.inf
            loss = agreed(float(done.loss))
            if done.applied or self._run.scaler is None or not math.isfinite(loss):
                break
        else:
            return math.inf
        finite = math.isfinite(loss) and (done.applied or self._run.step_fn is not None)
        return loss if agreed(float(not finite)) == 0 else math.inf

    @torch.no_grad()
    def held_out(self) -> float:
        """The mean loss on what is held out, in evaluation mode; infinite if it is not finite.

        Raises:
            Spent: There is nothing left for it.
        """
        if self.left < len(self.held):
            raise Spent
        self.spent += len(self.held)
        run = self._run
        run.model.eval()  # until it is rewound
        total = weight = 0.0
        for batch in (batch for window in self.held for batch in window):
            count = float(run.count(batch))
            total += float(loss_of(run, batch)) * count
            weight += count
        loss = agreed(total / weight)
        return loss if math.isfinite(loss) else math.inf

    def moved(self, planned: Planned, *rates: float) -> float:
        """How far an update at each of some rates moves the weights from where the run was lent, as a Euclidean norm."""
        params = self._params
        self.rewind()
        before = [param.detach().clone() for param in params]
        for i, rate in enumerate(rates):
            self.set(rate, planned.constant)
            self.update(i)
        moved = agreed(_norm([p.detach() - q for p, q in zip(params, before, strict=True)]))
        self.rewind()
        return moved

    def reach(self, planned: Planned) -> float:
        """How far an update moves the weights at a rate of 1, relative to their size; 0 if it does not move them."""
        size = _norm([param.detach() for param in self._params])
        rate = planned.peak
        for _ in range(4):
            moved = self.moved(planned, rate)
            if moved != 0:  # or NaN
                break
            rate *= 1000  # smaller than what the weights' own precision shows
        if not 0 < moved < math.inf:
            return 0.0 if moved == 0 else math.inf
        return moved / rate / (size or 1.0)

    @property
    def _params(self) -> list[Tensor]:
        groups = self._run.optimizer.param_groups
        return [param for group in groups for param in group["params"] if param.requires_grad]


@contextmanager
def lend(run: Run, val_loader: Any, updates: int, max_batches: int, max_seconds: float) -> Iterator[Lent]:
    """Lend a run; however the block is left, all of it is as it was.

    Args:
        run: The run.
        val_loader: Batches that it is not trained on, or None.
        updates: How many batches trials are made of.
        max_batches: How many may be computed.
        max_seconds: For how long.
    """
    with run.borrow(*([] if val_loader is None else [val_loader])):
        yield Lent(run, val_loader, updates, max_batches, max_seconds)


def _check_again(name: str, loader: Any) -> None:
    if isinstance(loader, Iterator):
        raise TypeError(
            f"{name} is a {type(loader).__name__}, which can be read once only: what the finder reads would be lost "
            "to training; pass a DataLoader or a list of batches"
        )


def _windows(run: Run) -> Iterator[list[Any]]:
    """The batches of the run from where it stands, those of an update together: the rest of this pass and the next."""
    kept = size = 0
    device = run.optimizer.param_groups[0]["params"][0].device
    passes = 1 if run.batch == 0 else 2
    for _ in range(passes):
        for window in run.windows():
            window = [move(batch, device) for batch in window]
            run.batch += len(window)
            kept, size = kept + 1, size + sum(each.nbytes for each in tensors(window))
            yield window
            if size > MOST_BYTES and kept >= HELD:
                return


def _norm(each: Sequence[Tensor]) -> float:
    norms = torch.nn.utils.get_total_norm(
        [t.double() if not t.is_complex() else torch.view_as_real(t).double() for t in each]
    )
    return float(norms)


def agreed(number: float) -> float:
    """The mean over all ranks of a distributed training, so that all go the same way; itself elsewhere."""
    numbers = _of_ranks(number)
    return sum(numbers) / len(numbers)


def _fewest(items: list[Any]) -> list[Any]:
    """As many as every rank has."""
    return items[: int(min(_of_ranks(len(items))))]


def _of_ranks(number: float) -> list[float]:
    """The number of each rank; of this process alone where nothing is distributed."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return [number]
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    numbers = torch.zeros(distributed.get_world_size(), dtype=torch.float64, device=device)
    numbers[distributed.get_rank()] = number
    distributed.all_reduce(numbers)  # a sum, which every backend knows
    return [float(each) for each in numbers.tolist()]

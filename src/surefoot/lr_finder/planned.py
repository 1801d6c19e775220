"""The training that a rate is sought for: what its schedule sets, when, and how long it is."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.lr_scheduler import ReduceLROnPlateau as TorchsPlateau

from surefoot.checks import whole
from surefoot.curves import Curve, parse
from surefoot.lr_scheduler import Scheduler
from surefoot.lr_scheduler.hyperparameters import read, set_hyperparameter
from surefoot.optimizers.groups import hidden_from_compiler

__all__ = ["DEFAULT_STEPS", "Planned", "Schedule"]

Schedule = Curve | str | LRScheduler | Callable[[torch.optim.Optimizer], Any] | None

DEFAULT_STEPS = 512
"""Updates of a training whose length nobody says."""

SAMPLES = 1000
"""At how many steps of a long training its schedule is looked at."""

Settings = dict[str, Any]


class Planned:
    """What a schedule sets in each group, from the first step to the last.

    Rates are those of the schedule divided by the highest of the first group that trains: ``at`` gives what they are times of
    the rate that is sought.

    Args:
        optimizer: Whose groups are scheduled. With a scheduler of it as ``schedule`` its groups are written to: lend it before.
        schedule: A curve of the rate, or its text; a scheduler of ``optimizer``; a function that builds one of the optimizer it
            is given; or None for rates that stay.
        total_steps: Updates of the whole training; that of the schedule if None, if it has an end.

    Attributes:
        total_steps: Updates of the whole training.
        ratios: The highest rate of each group, relative to that of the reference.
        reference: Number of the group whose rate is sought: the first that has any.
        peak: The highest rate of that group in the schedule as it stands.

    Raises:
        TypeError: ``schedule`` is something else.
        ValueError: It is a scheduler of another optimizer, or no curve's text; no group has a rate.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, schedule: Schedule = None, total_steps: int | None = None
    ) -> None:
        if isinstance(schedule, str):
            schedule = parse(schedule)
        if total_steps is not None:
            total_steps = whole("total_steps", total_steps, 1)
        if isinstance(schedule, LRScheduler):
            if schedule.optimizer is not optimizer:
                raise ValueError(
                    f"schedule is a {type(schedule).__name__} of another optimizer: pass one of this one, or a function "
                    "that builds it"
                )
        elif not (schedule is None or isinstance(schedule, Curve)):
            schedule = _built(schedule, optimizer)
        groups = optimizer.param_groups
        if schedule is None or isinstance(schedule, TorchsPlateau):  # which does not know the future
            rows = [[{"lr": float(_base(group))} for group in groups]]
        elif isinstance(schedule, Curve):
            total_steps = total_steps or _whole_length(schedule.length)
            rows = [
                [{"lr": schedule.value(step, float(_base(group)))} for group in groups]
                for step in _sampled(total_steps or DEFAULT_STEPS)
            ]
        else:
            total_steps = total_steps or _length(schedule)
            rows = _recorded(schedule, total_steps or DEFAULT_STEPS)
        self.total_steps = total_steps or DEFAULT_STEPS
        peaks = [max(row[i]["lr"] for row in rows) for i in range(len(groups))]
        if not all(map(math.isfinite, peaks)) or not any(peak > 0 for peak in peaks):
            raise ValueError(
                f"the highest learning rates of the groups are {peaks}: at least one must be above 0, and all finite, to "
                "keep their ratios"
            )
        self.reference = next(i for i, peak in enumerate(peaks) if peak > 0)
        self.peak = peaks[self.reference]
        self.ratios = [peak / self.peak for peak in peaks]
        self._rows = [[{**one, "lr": one["lr"] / self.peak} for one in row] for row in rows]
        self._own = [float(group["momentum"]) if "momentum" in group else None for group in groups]

    @property
    def constant(self) -> list[Settings]:
        """Each group's rate at its highest, and nothing else."""
        return [{"lr": ratio} for ratio in self.ratios]

    def miniature(self, steps: int) -> list[list[Settings]]:
        """What a training of so few steps sets in each, that takes the same course."""
        last = len(self._rows) - 1
        return [self._rows[round(i * last / max(steps - 1, 1))] for i in range(steps)]

    @property
    def octaves(self) -> float:
        """From the best constant rate to the best highest rate of this schedule, in octaves.

        What a rate does over a training is its mean, times ``1 / (1 - momentum)`` where a schedule moves the momentum: one that
        drives SGD without momentum at 0.9 takes a tenth of the rate.
        """
        weight = total = 0.0
        for row in self._rows:
            for one, ratio, own in zip(row, self.ratios, self._own, strict=True):
                total += ratio
                longer = 1.0 if own is None else (1 - own) / (1 - one.get("momentum", own))
                weight += one["lr"] * longer
        return -math.log2(weight / total) if weight > 0 else 0.0

    def scaled(self, factors: Sequence[float], reference: int) -> Planned:
        """The same with the rate of each group so many times what it is, relative to that of another reference."""
        unit = self.ratios[reference] * factors[reference]
        made = copy(self)
        made.reference, made.peak = reference, self.peak * unit
        made.ratios = [ratio * factor / unit for ratio, factor in zip(self.ratios, factors, strict=True)]
        made._rows = [
            [{**one, "lr": one["lr"] * factor / unit} for one, factor in zip(row, factors, strict=True)]
            for row in self._rows
        ]
        return made


def _base(group: Settings) -> Any:
    return group.get("initial_lr", group["lr"])


def _whole_length(length: float) -> int | None:
    return max(1, math.ceil(length)) if math.isfinite(length) else None


def _sampled(total: int) -> list[int]:
    count = min(total, SAMPLES)
    return [round(i * (total - 1) / max(count - 1, 1)) for i in range(count)]


def _length(scheduler: Any) -> int | None:
    """Updates until a scheduler's end, if it has one."""
    for name in ("total_steps", "T_max", "total_iters"):
        if isinstance(found := getattr(scheduler, name, None), int | float) and found > 0:
            return _whole_length(found)
    if isinstance(scheduler, Scheduler):
        lengths = [curve.length for name in scheduler.curves for curve in scheduler.group_curves(name)]
        return _whole_length(max(lengths, default=math.inf))
    return None


def _recorded(scheduler: Any, total: int) -> list[list[Settings]]:
    """What it sets at each step from its first, by group; it is left at the last."""
    groups, rows = scheduler.optimizer.param_groups, []
    wanted = iter(_sampled(total))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of steps of a scheduler without those of its optimizer
        if isinstance(scheduler, Scheduler):
            for step in wanted:
                scheduler.set(step)
                rows.append([_numbers(group) for group in groups])
            return rows
        for group in groups:
            set_hyperparameter(group, "lr", float(_base(group)))
        _begin(scheduler)
        sought = next(wanted)
        for step in range(total):
            if step == sought:
                rows.append([_numbers(group) for group in groups])
                sought = next(wanted, total)
            if step < total - 1:
                scheduler.step()
    return rows


def _begin(scheduler: Any) -> None:
    """Put one of torch's to its first step; the rates are the groups' own."""
    parts = getattr(scheduler, "_schedulers", None)
    if isinstance(scheduler, Scheduler):
        scheduler.set(0)
        return
    if parts is None:
        scheduler.last_epoch = -1
        scheduler._initial_step()
        return
    in_turn = hasattr(scheduler, "_milestones")
    if in_turn:
        scheduler.last_epoch = 0
    for part in parts[:1] if in_turn else parts:
        _begin(part)


def _numbers(group: Settings) -> Settings:
    """Those of a group that schedulers drive."""
    found: Settings = {"lr": float(group["lr"])}
    for name in ("momentum", "weight_decay"):
        with suppress(KeyError):
            found[name] = float(read(group, name))
    return found


def _built(schedule: Any, optimizer: torch.optim.Optimizer) -> Any:
    """The scheduler that a function builds, of a stand-in, so that nothing is left on the optimizer."""
    if not callable(schedule):
        raise TypeError(
            f"schedule={schedule!r} is a {type(schedule).__name__}: pass a curve, a scheduler of the optimizer, or a "
            "function that builds one of the optimizer it is given"
        )
    scheduler = schedule(_StandIn(optimizer))
    if not hasattr(scheduler, "step") or not hasattr(scheduler, "optimizer"):
        raise TypeError(
            f"schedule returned a {type(scheduler).__name__}: it must return a scheduler of the optimizer it is given"
        )
    return scheduler


class _StandIn(torch.optim.Optimizer):
    """An optimizer's groups with a parameter of no concern in each."""

    add_param_group = hidden_from_compiler(torch.optim.Optimizer.add_param_group)

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        own = ("params", "param_names", "frozen")
        groups = []
        for group in optimizer.param_groups:
            kept = {
                name: value
                for name, value in group.items()
                if name not in own and not name.startswith("initial_")
            }
            rate = _base(group)
            groups.append(
                {**kept, "lr": rate.clone() if isinstance(rate, Tensor) else rate, "params": [torch.zeros(1)]}
            )
        super().__init__(groups, dict(optimizer.defaults))

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Nothing to do."""

"""How a learning rate is asked for: of what, for which plan, within which limits."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from surefoot.checks import positive, whole
from surefoot.lr_finder.finding import LRFinding
from surefoot.lr_finder.lent import Lent, lend
from surefoot.lr_finder.planned import Planned, Schedule
from surefoot.lr_finder.search import COMMON, LONGEST, Effort, Search
from surefoot.run import Run

__all__ = ["as_run", "find_lr", "plan_of"]

APART = 3.0
"""Octaves from the middle of all that a group's rate may move when each is sought alone: where a norm follows, the loss of one
group alone hardly ever rises."""

MANY_PASSES = 20
"""In so many passes over the data a training may overfit."""

BATCHES = {"sweep": 100, "sure": 300}
"""What the two efforts may spend."""


def find_lr(
    run: Run | nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    loss: Callable[..., Any] | None = None,
    loader: Any = None,
    *,
    val_loader: Any = None,
    schedule: Schedule = None,
    total_steps: int | None = None,
    step_fn: Callable[[Any], Any] | None = None,
    effort: Effort = "sure",
    max_batches: int | None = None,
    max_seconds: float | None = None,
    per_group: bool = False,
    **settings: Any,
) -> LRFinding:
    """Find a learning rate, and how sure it is; everything is as it was before, bit for bit, whatever happens.

    Rates rise from where they do nothing until the loss does; then slowly over the range where it falls, on a few batches
    in turn, each of which is compared with itself. With ``effort="sure"`` trials follow: trainings in miniature around
    the rate found, each from the same start on the same batches, which take the course of the planned schedule and are
    scored on held-out data. How the rates for such short trainings move for longer ones was measured on full trainings:
    ``benchmarks/lr_quality``.

    Args:
        run: A run; or a model, with ``optimizer``, ``loss`` and ``loader``.
        optimizer: The optimizer of the model. Its groups keep the ratio of their rates.
        loss: ``loss(model, batch)`` as in :class:`~surefoot.Run`, or a module such as ``nn.CrossEntropyLoss()`` that takes
            the outputs and labels of batches ``(inputs, labels)``.
        loader: The training data.
        val_loader: Held-out data to score trials on, of which the first 4 batches are read. Without it trials are scored
            on training batches that they have not seen.
        schedule: What the training will follow: a curve of the rate, or its text; a scheduler of the optimizer; or a
            function that builds one of the optimizer it is given. The scheduler of ``run`` if None, or else a constant
            rate. The suggestion is for its highest rate.
        total_steps: Updates of the training; if None those of the schedule, or 512.
        step_fn: In the place of ``loss``, see :class:`~surefoot.Run`.
        effort: ``"sweep"``: up to 100 batches; ``"sure"``: up to 300, with trials.
        max_batches: Another number of batches, at least 1.
        max_seconds: Stop after so long, with what is known by then.
        per_group: Find a rate for each group, instead of one factor for all: each is swept while the others rest, with up to
            ``max_batches`` or 100 more batches, and then all together are searched in the ratio that was found.
        **settings: More of the run, such as ``autocast``, ``scaler``, ``accumulate`` and ``count``.

    Raises:
        ValueError: A setting is out of its range, or the loader gives no batch.
        TypeError: Something is of another kind than it should be, or ``loader`` can be read only once.

    Example:
        >>> import surefoot
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
        >>> inputs = torch.randn(40, 16, 3)
        >>> data = [(x, x.sum(1, keepdim=True)) for x in inputs]
        >>> optimizer = surefoot.SGD(model.parameters(), lr=0.1)
        >>> finding = find_lr(model, optimizer, nn.MSELoss(), data, total_steps=300)
        >>> finding.abstained, 0.01 < finding.suggestion < 1
        (False, True)
    """
    began = time.monotonic()
    if effort not in BATCHES:
        raise ValueError(f"effort={effort!r} must be 'sweep' or 'sure'")
    most = BATCHES[effort] if max_batches is None else whole("max_batches", max_batches, 1)
    if max_seconds is not None:
        positive("max_seconds", max_seconds)
    run = as_run(run, optimizer, loss, loader, step_fn, settings)
    if schedule is None and isinstance(run.scheduler, LRScheduler):  # nobody can ask one of another kind
        schedule = run.scheduler
    planned = plan_of(run, schedule, total_steps)
    steps = LONGEST if effort == "sure" else 0
    alone: list[LRFinding] = []
    with lend(run, val_loader, max(steps, COMMON), most, max_seconds or math.inf) as lent:
        if per_group and len(planned.ratios) > 1:
            planned, alone = _each(lent, planned, most)
        found = Search(lent, planned, effort).find()
    passes = planned.total_steps * run.accumulate / (run.pass_length or math.inf)
    if passes > MANY_PASSES and not found.abstained:
        doubt = f"; {passes:.0f} passes over the data may overfit, which the search does not see, and want a lower rate."
        found = replace(
            found, confidence=found.confidence - 0.1, reason=found.reason.removesuffix(".") + doubt
        )
    return replace(found, seconds=time.monotonic() - began, per_group=tuple(alone))


def as_run(
    run: Run | nn.Module,
    optimizer: torch.optim.Optimizer | None,
    loss: Any,
    loader: Any,
    step_fn: Any,
    settings: dict[str, Any],
) -> Run:
    """The run, or one made of its parts."""
    if isinstance(run, Run):
        parts = {"optimizer": optimizer, "loss": loss, "loader": loader, "step_fn": step_fn, **settings}
        if given := [name for name, part in parts.items() if part is not None]:
            raise ValueError(
                f"a run has its own {' and '.join(given)}: leave it out, or pass a model instead of the run"
            )
        return run
    if not isinstance(run, nn.Module):
        raise TypeError(
            f"run is a {type(run).__name__}: pass a surefoot.Run, or a torch.nn.Module with its parts"
        )
    for name, part in (("optimizer", optimizer), ("loader", loader)):
        if part is None:
            raise ValueError(f"{name}=None: a model needs optimizer, loss and loader; or pass a Run")
    assert optimizer is not None
    if isinstance(loss, nn.Module) or getattr(loss, "__module__", "") == "torch.nn.functional":
        loss = _of_outputs(loss)
    return Run(run, optimizer, loader, loss, step_fn=step_fn, **settings)


def _of_outputs(criterion: Any) -> Callable[[nn.Module, Any], Any]:
    def loss(model: nn.Module, batch: Any) -> Any:
        if not isinstance(batch, list | tuple) or len(batch) < 2:
            raise TypeError(
                f"a batch is a {type(batch).__name__}, not (inputs, labels), which is what a loss of outputs and labels takes: "
                "pass loss as a function of the model and the batch"
            )
        return criterion(model(batch[0]), batch[1])

    return loss


def plan_of(run: Run, schedule: Schedule, total_steps: int | None) -> Planned:
    """What is planned for a run; a scheduler is asked what it sets while it is on loan."""
    if not isinstance(schedule, LRScheduler):
        return Planned(run.optimizer, schedule, total_steps)
    # One that is stepped at the end of each pass is planned in passes.
    each = -(-(run.pass_length or 1) // run.accumulate) if run.scheduler_every == "epoch" else 1
    own, run.scheduler = run.scheduler, schedule
    try:
        with run.borrow():
            planned = Planned(run.optimizer, schedule, total_steps and -(-total_steps // each))
    finally:
        run.scheduler = own
    planned.total_steps = total_steps or planned.total_steps * each
    return planned


def _each(lent: Lent, planned: Planned, batches: int) -> tuple[Planned, list[LRFinding]]:
    """Sweep the rate of each group while the others rest, and put them in the ratio of what was found.

    The batches are each group's, and as many again are for all together.
    """
    groups, alone = len(planned.ratios), list[LRFinding]()
    for i in range(groups):
        if planned.ratios[i] > 0:
            lent.most = lent.spent + min(batches, BATCHES["sweep"])
            found = Search(lent, planned.scaled([float(i == j) for j in range(groups)], i), "sweep").find()
            alone.append(replace(found, lrs=()))
    lent.most = lent.spent + batches
    known = {found.reference: math.log2(found.suggestion) for found in alone if not found.abstained}
    if not known:
        return planned, alone
    # The user's ratio holds for those that were not found, and against too much of a change.
    octaves = {i: octave - math.log2(planned.ratios[i]) for i, octave in known.items()}
    middle = statistics.median(octaves.values())
    factors = [2.0 ** min(max(octaves.get(i, middle) - middle, -APART), APART) for i in range(groups)]
    return planned.scaled(factors, planned.reference), alone

"""The rate and other hyperparameters at once: trials of each combination, as a heat map."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from surefoot import plots
from surefoot.checks import finite, positive, whole
from surefoot.lr_finder.find import as_run, plan_of
from surefoot.lr_finder.finding import LRFinding
from surefoot.lr_finder.lent import Spent, lend
from surefoot.lr_finder.planned import Schedule
from surefoot.lr_finder.reading import horizon
from surefoot.lr_finder.search import Search
from surefoot.lr_scheduler.hyperparameters import check_name
from surefoot.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["JointFinding", "find"]

OFFSETS = (0, 1, -1, 2)
"""Rates to try, in octaves from that of the settings as they are, the likeliest first; short trials want higher ones."""

BATCHES = 600
SWEEP = 100


@dataclass(frozen=True)
class JointFinding:
    """How well rates did with each combination of other hyperparameters (Smith, 2018, https://arxiv.org/abs/1803.09820).

    Attributes:
        best: The combination that did best, by name, and ``lr`` with it, for a whole training.
        combinations: Those tried.
        lrs: Rates tried, rising.
        scores: The loss after a trial, by combination and rate: held out, infinite where it diverged,
            ``nan`` where time was over before.
        start: The loss before.
        steps: Updates of each trial.
        clear: Whether the best combination is better than the next by more than a twentieth of what the best trial gained.
        reason: What was seen, in one sentence.
        finding: The rate that was found first, with the settings as they are.
        batches: How many were computed.
        seconds: How long it took.
    """

    best: dict[str, float]
    combinations: tuple[dict[str, float], ...]
    lrs: tuple[float, ...]
    scores: tuple[tuple[float, ...], ...]
    start: float
    steps: int
    clear: bool
    reason: str
    finding: LRFinding
    batches: int
    seconds: float

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the scores as a heat map, the best marked.

        Args:
            ax: Draw here instead of in a new figure.
        """
        labels = [
            ", ".join(f"{name} {value:g}" for name, value in each.items()) for each in self.combinations
        ]
        return plots.heat_map(self.lrs, labels, self.scores, self.start, title=self.reason, ax=ax)

    def __str__(self) -> str:
        chosen = ", ".join(f"{name} {value:.2g}" for name, value in self.best.items())
        return f"{chosen}: {self.reason}"


def find(
    run: Run | nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    loss: Callable[..., Any] | None = None,
    loader: Any = None,
    *,
    over: Mapping[str, Sequence[float]],
    val_loader: Any = None,
    schedule: Schedule = None,
    total_steps: int | None = None,
    step_fn: Callable[[Any], Any] | None = None,
    max_batches: int = BATCHES,
    max_seconds: float | None = None,
    **settings: Any,
) -> JointFinding:
    """Find the learning rate together with other hyperparameters; everything is as it was before, as with :func:`find_lr`.

    A sweep finds the rate for the settings as they are. Then each combination is tried at it, at half of it, twice and four
    times, and beyond where the best of these is the last: trainings in miniature from the same start on the same batches.

    Args:
        run: A run; or a model, with ``optimizer``, ``loss`` and ``loader``. This and what is not said below is as of :func:`find_lr`.
        optimizer: The optimizer of the model.
        loss: Its loss.
        loader: The training data.
        over: Values of each hyperparameter, such as ``{"weight_decay": [0, 0.01, 0.1], "momentum": [0.8, 0.9]}``; ``momentum`` is
            ``betas[0]`` where an optimizer has betas. A schedule that drives one of them is overruled.
        val_loader: Held-out data to score trials on.
        schedule: What the training will follow.
        total_steps: Updates of the training.
        step_fn: In the place of ``loss``.
        max_batches: All that may be computed; trials are as long as it allows.
        max_seconds: Stop after so long.
        **settings: More of the run.

    Raises:
        ValueError: A group has no such hyperparameter, there is nothing to combine, or ``max_batches`` allows trials of fewer than
            8 updates.

    Example:
        >>> import surefoot
        >>> model = nn.Linear(3, 1)
        >>> data = [(torch.randn(16, 3), torch.randn(16, 1)) for _ in range(30)]
        >>> optimizer = surefoot.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> found = find(model, optimizer, nn.MSELoss(), data, over={"momentum": [0.5, 0.9]})
        >>> sorted(found.best), len(found.scores), len(found.scores[0]) >= 4
        (['lr', 'momentum'], 2, True)
    """
    began = time.monotonic()
    most = whole("max_batches", max_batches, 1)
    if max_seconds is not None:
        positive("max_seconds", max_seconds)
    run = as_run(run, optimizer, loss, loader, step_fn, settings)
    combinations = _combinations(run.optimizer, over)
    planned = plan_of(run, schedule, total_steps)
    trials = len(combinations) * (len(OFFSETS) + 2)  # two more rates, where the best is the last
    steps = (most - SWEEP) // trials - 4
    if steps < 8:
        raise ValueError(
            f"max_batches={most} is too few for {trials} trials of {len(combinations)} combinations: allow at least "
            f"{SWEEP + 12 * trials}, or try fewer values"
        )
    steps = min(steps, 64, planned.total_steps)
    with lend(run, val_loader, steps, SWEEP, max_seconds or math.inf) as lent:
        search = Search(lent, planned, "sweep")
        found = search.find()
        lent.most, center, start = most, math.log2(found.suggestion), math.nan
        columns: dict[float, list[float]] = {}

        def try_all(octave: float) -> None:
            scores = columns.setdefault(octave, [])
            for combination in combinations:
                scores.append(search.trial(octave, steps, combination).score)

        with suppress(Spent):
            start = search.score_of([])
            for offset in OFFSETS:
                try_all(center + offset)
            while lent.left >= len(combinations) * (steps + len(lent.held)):
                best = min(columns, key=lambda octave: min(columns[octave]))
                if best == max(columns) and math.isfinite(min(columns[best])):
                    try_all(best + 1)
                elif best == min(columns):
                    try_all(best - 1)
                else:
                    break
    octaves = sorted(columns) or [center]
    scores = [  # where time was over, a rate may lack some
        [columns[octave][i] if i < len(columns.get(octave, ())) else math.nan for octave in octaves]
        for i in range(len(combinations))
    ]
    return _judged(
        combinations,
        [2.0**octave for octave in octaves],
        scores,
        start,
        steps,
        planned.total_steps,
        found,
        lent.spent,
        time.monotonic() - began,
    )


def _judged(
    combinations: list[dict[str, float]],
    lrs: list[float],
    scores: list[list[float]],
    start: float,
    steps: int,
    total_steps: int,
    found: LRFinding,
    batches: int,
    seconds: float,
) -> JointFinding:
    bests = [min((score for score in row if not math.isnan(score)), default=math.inf) for row in scores]
    order = sorted(range(len(bests)), key=bests.__getitem__)
    first = order[0]
    gain = start - bests[first]
    place = scores[first].index(bests[first]) if bests[first] in scores[first] else 0
    lr = lrs[place] * 2.0 ** horizon(steps, total_steps)
    clear = len(order) > 1 and gain > 0 and bests[order[1]] - bests[first] > gain / 20
    chosen = ", ".join(f"{name} {value:g}" for name, value in combinations[first].items())
    if not gain > 0:
        reason = f"No combination learned anything in {steps} updates."
    elif len(bests) == 1:
        reason = f"{chosen} alone was tried: it did best at {lrs[place]:.2g} in {steps} updates."
    elif clear:
        reason = f"{chosen} did best at {lrs[place]:.2g} in {steps} updates, clearly."
    else:
        alike = sum(score <= bests[first] + gain / 20 for score in bests)
        reason = f"{chosen} did best at {lrs[place]:.2g} in {steps} updates, but {alike} of {len(bests)} are as good as it."
    return JointFinding(
        best={"lr": lr, **combinations[first]},
        combinations=tuple(combinations),
        lrs=tuple(lrs),
        scores=tuple(map(tuple, scores)),
        start=start,
        steps=steps,
        clear=clear,
        reason=reason,
        finding=found,
        batches=batches,
        seconds=seconds,
    )


def _combinations(
    optimizer: torch.optim.Optimizer, over: Mapping[str, Sequence[float]]
) -> list[dict[str, float]]:
    if not isinstance(over, Mapping) or not over:
        raise ValueError(f"over={over!r} must be a dict of at least one hyperparameter and its values")
    for name, values in over.items():
        if name == "lr":
            raise ValueError("over has 'lr': the rate is found in any case, leave it out")
        check_name(optimizer, name, optimizer.param_groups)
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise ValueError(f"over[{name!r}]={values!r} must be a list of at least one value")
        for value in values:
            finite(f"over[{name!r}]", value)
    return [dict(zip(over, map(float, values), strict=True)) for values in itertools.product(*over.values())]

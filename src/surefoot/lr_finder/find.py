"""The search for a learning rate: a range, a sweep in it, trials around what the sweep says."""

from __future__ import annotations

import math
import statistics
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from surefoot.checks import positive, whole
from surefoot.lr_finder.finding import LRFinding, Sweep, Trial
from surefoot.lr_finder.lent import Lent, Spent, lend
from surefoot.lr_finder.planned import Planned, Schedule, Settings
from surefoot.lr_finder.reading import Noise, SweepReading, fit, horizon, read_sweep, read_trials
from surefoot.run import Run

__all__ = ["Search", "as_run", "find_lr", "plan_of"]

COMMON = 8
"""Batches that a sweep takes in turn: what differs between them is known from the start of it."""

REACH = 2.0**-20
"""Where the search for the range begins: an update moves the weights by so much of their size."""

FARTHEST = 36
"""Octaves after which the search for the range gives up."""

OCTAVES = (-10, 2)
"""The sweep's range, from where the search for it ended."""

PER_OCTAVE = 6
"""Updates of a sweep in each."""

LONGEST = 32
"""Updates of a trial."""

SHORTEST = 12
"""A sweep alone does better than with shorter trials."""

TRUST = 0.7
"""Weight of the trials beside the sweep: both have seen much of the same, and neither is exact."""

APART = 3.0
"""Octaves from the middle of all that a group's rate may move when each is sought alone: where a norm follows, the loss of one
group alone hardly ever rises."""

MOST_TRIALS = 16
"""More do not find an end to the good rates, however many batches are allowed."""

DISAGREE = 5
"""Octaves between what the sweep and the trials say, beyond which neither is to be believed."""

MANY_PASSES = 20
"""In so many passes over the data a training may overfit."""

BATCHES = {"sweep": 100, "sure": 300}
"""What the two efforts may spend."""

Effort = Literal["sweep", "sure"]


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
    if schedule is None and isinstance(
        run.scheduler, LRScheduler
    ):  # of another kind nobody can ask what it will do
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


class Search:
    """A search on a run that is lent."""

    def __init__(self, lent: Lent, planned: Planned, effort: Effort) -> None:
        self._lent, self._planned, self._effort = lent, planned, effort
        self._initial: list[float] = []  # losses of the common batches before training
        self._noise = Noise(math.nan, math.nan)
        self._search = self._sweep = Sweep((), (), ())
        self._trials: dict[float, Trial] = {}  # by octave
        self._start = math.nan
        self._bound = math.inf  # in octaves; rates beyond it are as good as it

    def find(self) -> LRFinding:
        """Look for the rate of the plan's reference, with those of the other groups in their ratio."""
        settings = self._planned.constant
        try:
            reach = self._lent.reach(self._planned)
            if reach == 0:
                return self._abstain(self._planned.peak, "The weights do not move: no gradient reaches them.")
            end = self._find_range(
                REACH / reach if math.isfinite(reach) else self._planned.peak * 1e-6, settings
            )
            if end is None:
                return self._abstain(
                    self._planned.peak,
                    "The loss is infinite or NaN at rates that change nothing: look at the data and the model.",
                )
            if len(self._search.lr) == FARTHEST:
                end = self._farthest_that_counts()
                if end is None:
                    return self._abstain(
                        self._planned.peak,
                        "After the first update the rate makes no difference: the optimizer finds its steps itself.",
                    )
            read = self._sweep_over(end, settings)
        except Spent:
            return self._abstain(
                self._planned.peak, "The batches or seconds allowed are too few to see anything."
            )
        if read is None:
            return self._abstain(
                2.0 ** (end - 4),
                "Too few rates could be tried: the batches allowed are few, or the loss was soon infinite or NaN.",
            )
        if self._effort == "sweep":
            return self._from_sweep(read)
        return self._from_trials(read)

    def _find_range(self, rate: float, settings: Sequence[Settings]) -> float | None:
        """Double the rate with each update until the loss rises; that rate in octaves, None if the loss is none."""
        lent, rates, losses = self._lent, list[float](), list[float]()
        common = min(COMMON, len(lent.batches))
        lent.rewind()
        for i in range(FARTHEST):
            lent.set(rate, settings)
            loss = lent.update(i)
            rates.append(rate)
            losses.append(loss)
            if i < common:
                if not math.isfinite(loss):
                    return None
                self._initial.append(loss)
                self._noise = Noise.of(self._initial)
            elif self._noise.risen(loss):
                break
            rate *= 2
        self._search = Sweep(tuple(rates), tuple(losses), (math.nan,) * len(rates))
        return math.log2(rates[-1])

    def _farthest_that_counts(self) -> float | None:
        """Where the loss never rose: the rate, in octaves, beyond which updates are the same, as with Adafactor.

        None if they are the same at all rates after the first update, as with Rprop.
        """
        rates = self._search.lr

        def moved(*rates: float) -> float:
            return self._lent.moved(self._planned, *rates)

        if moved(rates[0], rates[0]) == moved(rates[0], rates[-1]):
            return None
        most = 0.99 * moved(rates[-1])
        if moved(rates[-2]) >= most:
            self._bound = math.log2(rates[bisect_left(rates, True, key=lambda rate: moved(rate) >= most)])
        return min(self._bound, math.log2(rates[-1]))

    def _sweep_over(self, end: float, settings: Sequence[Settings]) -> SweepReading | None:
        """Go slowly over the range in which the loss falls."""
        lent, low, high = self._lent, end + OCTAVES[0], min(end + OCTAVES[1], self._bound)
        count = min(round(PER_OCTAVE * (high - low)), lent.left - 1)
        if count < 2 * (high - low):
            return None
        octaves = [low + (high - low) * i / count for i in range(count + 1)]
        common, losses = len(self._initial), list[float]()
        lent.rewind()
        for i, octave in enumerate(octaves):
            lent.set(2.0**octave, settings)
            losses.append(lent.update(i % common))  # trials have more batches
            if not math.isfinite(losses[-1]) or (
                len(losses) > 2 and all(map(self._noise.diverged, losses[-2:]))
            ):
                break
        changes = [loss - self._initial[i % common] for i, loss in enumerate(losses)]
        octaves = octaves[: len(losses)]
        if len(octaves) < 4:
            return None
        # A batch shows what the updates before it did.
        fitted = fit(octaves[:-1], changes[1:], self._noise)
        level = (self._noise.level + change for change in (*fitted, fitted[-1]))
        self._sweep = Sweep(tuple(2.0**x for x in octaves), tuple(losses), tuple(level))
        read = read_sweep(octaves[:-1], changes[1:], self._noise, self._planned.total_steps)
        return read if math.isinf(self._bound) else replace(read, at_end=False)

    def _from_sweep(self, read: SweepReading) -> LRFinding:
        shift = self._planned.octaves
        if read.doubt:
            safest = 2.0 ** (read.safest + shift)
            return self._abstain(min(safest, self._planned.peak) if read.weak else safest, read.doubt)
        best = read.best + shift
        confidence = 0.85 if read.signal > 5 else 0.75
        return self._finding(
            best,
            (best - 1, min(best + 1, read.lowest + shift)),
            1.5,
            confidence,
            f"The loss fell until {2.0**read.lowest:.2g} and rose beyond"
            f"{_wanted(self._planned.total_steps, best - read.lowest)}.",
        )

    def _from_trials(self, read: SweepReading) -> LRFinding:
        """Trials around what the sweep says, until the good rates have bad ones on both sides."""
        lent, shift = self._lent, self._planned.octaves
        center = (read.edge - 2 if read.weak else read.best) + shift
        each = len(lent.held)
        steps = min(LONGEST, self._planned.total_steps, lent.left // 6 - each)
        if steps < min(SHORTEST, self._planned.total_steps):
            return self._from_sweep(read)
        try:
            self._start = self.score_of([])
            if not math.isfinite(self._start):  # in evaluation mode only
                return self._from_sweep(read)
            for offset in (0, 1, 2):
                self._try(center + offset, steps)
            while len(self._trials) < MOST_TRIALS:
                scores = self._scores
                got = read_trials(scores, self._start, self._noise, steps, self._planned.total_steps)
                # Where nothing was learned, as on a plateau before training gets going, only high rates may get off it.
                higher = got.safe == max(scores) if got.weak else got.at_end
                higher &= max(scores) < self._bound + shift
                if higher and not (got.at_start and len(scores) > 4 and not got.weak):
                    self._try(max(scores) + 1, steps)
                elif got.at_start or got.signal == 0:
                    self._try(min(scores) - 1, steps)
                else:
                    break
        except Spent:
            if len(self._trials) < 2:
                return self._from_sweep(read)
        got = read_trials(self._scores, self._start, self._noise, steps, self._planned.total_steps)
        if got.weak:
            return self._abstain(
                min(2.0 ** (got.safe - 1.5), self._planned.peak),
                f"In {steps} updates the loss did not fall by more than differs between batches at any rate ({_sd(got.signal)}).",
            )
        if read.at_end and got.at_end:
            return self._abstain(2.0**got.best, "The loss still fell at the highest rate that was tried.")
        best = got.best if read.weak else TRUST * got.best + (1 - TRUST) * (read.best + shift)
        apart = 0.0 if read.weak else abs(got.best - read.best - shift)
        if apart > DISAGREE:
            return self._abstain(
                2.0 ** min(got.best, read.best + shift),
                f"The sweep says {2.0 ** (read.best + shift):.2g} and the trials {2.0**got.best:.2g}: they disagree.",
            )
        confidence = 0.9 - 0.1 * (apart > 1.5) - 0.05 * (got.at_end or got.at_start) - 0.15 * read.weak
        low, high = got.plateau
        moved = horizon(steps, self._planned.total_steps)
        return self._finding(
            best,
            got.plateau,
            max(0.75, (high - low) / 2),
            confidence,
            f"Of {len(self._trials)} trials of {steps} updates those at {_span(low - moved, high - moved)} did best"
            f"{_wanted(self._planned.total_steps, moved)}.",
        )

    @property
    def _scores(self) -> dict[float, float]:
        return {octave: trial.score for octave, trial in self._trials.items()}

    def _try(self, octave: float, steps: int) -> None:
        self._trials[octave] = self.trial(octave, steps, {})

    def trial(self, octave: float, steps: int, others: Mapping[str, float]) -> Trial:
        """A training in miniature, with other hyperparameters as they are given."""
        lent, losses = self._lent, list[float]()
        lent.rewind()
        for i, settings in enumerate(self._planned.miniature(steps)):
            lent.set(2.0**octave, [{**one, **others} for one in settings])
            losses.append(lent.update(i))
            if self._noise.diverged(losses[-1]):
                return Trial(2.0**octave, tuple(losses), math.inf)
        return Trial(2.0**octave, tuple(losses), self.score_of(losses))

    def score_of(self, losses: Sequence[float]) -> float:
        """The loss now, after a trial with these."""
        if self._lent.held:
            if not losses:
                self._lent.rewind()
            return self._lent.held_out()
        last = losses[-max(1, len(losses) // 4) :]
        return sum(last) / len(last) if losses else self._noise.level

    def _finding(
        self,
        best: float,
        plateau: tuple[float, float],
        width: float,
        confidence: float,
        reason: str,
        abstained: bool = False,
    ) -> LRFinding:
        suggestion = 2.0**best
        return LRFinding(
            suggestion=suggestion,
            interval=(2.0 ** (best - width), 2.0 ** (best + width)),
            plateau=(2.0 ** plateau[0], 2.0 ** plateau[1]),
            confidence=confidence,
            abstained=abstained,
            reason=reason,
            lrs=tuple(suggestion * ratio for ratio in self._planned.ratios),
            reference=self._planned.reference,
            sweep=self._sweep,
            search=self._search,
            trials=tuple(self._trials[octave] for octave in sorted(self._trials)),
            start=self._start,
            effort=self._effort,
            batches=self._lent.spent,
            seconds=0.0,
        )

    def _abstain(self, safest: float, reason: str) -> LRFinding:
        octave = math.log2(safest)
        return self._finding(octave, (octave, octave), 3.0, 0.0, reason, abstained=True)


def _sd(signal: float) -> str:
    return f"{signal:.1f} standard deviations"


def _span(low: float, high: float) -> str:
    """Rates from octaves, once if they are alike."""
    return f"{2.0**low:.2g}" if high - low < 0.1 else f"{2.0**low:.2g} to {2.0**high:.2g}"


def _wanted(steps: int, octaves: float) -> str:
    """What the whole training wants beside what was seen."""
    if abs(octaves) < 0.05:
        return ""
    return (
        f", and {steps:,} updates want {2.0 ** abs(octaves):.2g} times {'less' if octaves < 0 else 'as much'}"
    )

"""The search for a learning rate: a range, a sweep in it, trials around what the sweep says."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from surefoot.lr_finder.finding import LRFinding, Sweep, Trial
from surefoot.lr_finder.lent import Lent, Spent
from surefoot.lr_finder.planned import Planned, Settings
from surefoot.lr_finder.reading import Noise, SweepReading, fit, horizon, read_sweep, read_trials

__all__ = ["COMMON", "LONGEST", "Effort", "Search"]

Effort = Literal["sweep", "sure"]

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

MOST_TRIALS = 16
"""More do not find an end to the good rates, however many batches are allowed."""

DISAGREE = 5
"""Octaves between what the sweep and the trials say, beyond which neither is to be believed."""


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

"""How good a suggestion is, by what full trainings came to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import numpy as np

__all__ = ["GOOD", "LOST", "Scored", "Truth", "summary"]

GOOD = 0.05
"""A rate of no more regret is as good as the best."""

LOST = 0.5
"""One of so much regret spoils the training."""

CAP = 2.0
"""Regret of a training that diverged, and the most that any counts."""


@dataclass(frozen=True)
class Truth:
    """What each rate costs, of the rates that were tried in full.

    Regret is the held-out loss above that of the best rate, as a share of what training at the best rate gains: 0 is as
    good as the best, 1 is no better than no training. It is the mean over seeds.

    Attributes:
        octaves: The rates, rising, as ``log2``.
        regrets: The regret at each.
    """

    octaves: tuple[float, ...]
    regrets: tuple[float, ...]

    @staticmethod
    def of(grid: Mapping[str, Any], schedule: str) -> Truth:
        """From a file that ``grid.py`` wrote."""
        rows: Sequence[Sequence[float]] = grid[schedule]
        initial, best = fmean(grid["initial"]), min(map(fmean, rows))
        return Truth(
            tuple(map(math.log2, grid["rates"])),
            tuple(fmean(min((loss - best) / (initial - best), CAP) for loss in row) for row in rows),
        )

    def regret(self, rate: float) -> float:
        """At a rate, in a line between those that were tried; beyond them as at the outermost."""
        return float(np.interp(math.log2(rate), self.octaves, self.regrets))

    def least(self, low: float, high: float) -> float:
        """The least regret of the rates from one to another."""
        inside = [2.0**x for x in self.octaves if low < 2.0**x < high]
        return min(map(self.regret, (low, *inside, high)))


@dataclass(frozen=True)
class Scored:
    """One use of a finder.

    Attributes:
        method: The finder.
        task: What it was used on.
        half: ``"tune"`` or ``"judge"``.
        schedule: Of the training that its rate is for.
        seed: Of the model and the order of batches.
        rate: What it suggests, or offers where it abstains.
        batches: How many losses it computed.
        abstained: Whether it abstained.
        regret: Of the rate.
        least: The least regret in its interval, if it gives one.
        confidence: How sure it says it is, if it says.
    """

    method: str
    task: str
    half: str
    schedule: str
    seed: int
    rate: float
    batches: int
    abstained: bool
    regret: float
    least: float | None
    confidence: float | None


def summary(runs: Sequence[Scored]) -> dict[str, float | str]:
    """Of one finder's uses on some tasks; what abstained counts with the rate it offers, unless a name says other.

    ``calibration_error`` is how far confidence is from the share of good rates among all runs that are about as sure
    (within 0.1), on average.
    """
    sure = [run for run in runs if not run.abstained]
    rates: dict[str, list[float]] = {}
    for run in runs:
        rates.setdefault(run.task, []).append(run.rate)
    made: dict[str, float | str] = {
        "mean_regret": fmean(run.regret for run in runs),
        "good": fmean(run.regret <= GOOD for run in runs),
        "lost_not_abstained": fmean(run.regret >= LOST for run in sure) if sure else 0.0,
        "abstained": 1 - len(sure) / len(runs),
        "spread": median(max(found) / min(found) for found in rates.values()),
        "interval_holds_good": "",
        "confidence": "",
        "calibration_error": "",
        "batches": fmean(run.batches for run in runs),
    }
    known = [(run.least, run.confidence, run.regret <= GOOD) for run in sure if run.confidence is not None]
    if known:
        alike: dict[int, list[tuple[float, bool]]] = {}
        for _, confidence, good in known:
            alike.setdefault(round(10 * confidence), []).append((confidence, good))
        gaps = [abs(sum(confidence - good for confidence, good in some)) for some in alike.values()]
        made["interval_holds_good"] = fmean(least is not None and least <= GOOD for least, _, _ in known)
        made["confidence"] = fmean(confidence for _, confidence, _ in known)
        made["calibration_error"] = sum(gaps) / len(known)
    return made

"""What other finders make of a sweep: which losses they keep, when they stop, and which rate they read from it.

Written from the behaviour of fastai 2.7, torch-lr-finder 0.2.2 and Lightning 2.6, errors included. Those that stop take losses
one by one, so that nothing is computed beyond. ``None`` is for no suggestion, or an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch

__all__ = [
    "exponential",
    "fastai_losses",
    "fastest",
    "lesson_losses",
    "lightning_losses",
    "lightning_suggestion",
    "minimum",
    "slide",
    "steep",
    "steepest",
    "torch_lr_finder_losses",
    "trimmed",
    "valley",
]

Curve = tuple[Sequence[float], Sequence[float]]  # rates, and the loss at each


def exponential(start: float, end: float, updates: int, count: int) -> list[float]:
    """Rates that take so many updates from start to end, of which there are ``count``."""
    return [start * (end / start) ** (i / updates) for i in range(count)]


# fastai: Learner.lr_find


def fastai_losses(losses: Iterable[float]) -> list[float]:
    """A running average, until it is four times the lowest."""
    kept: list[float] = []
    average, best = 0.0, math.inf
    for count, loss in enumerate(losses, 1):
        average = 0.98 * average + 0.02 * loss
        kept.append(average / (1 - 0.98**count))
        best = min(best, kept[-1])
        if kept[-1] > 4 * best:
            break
    return kept


def trimmed(lrs: Sequence[float], losses: Sequence[float]) -> Curve:
    """Without the first tenth of all updates, the last five, and what follows a NaN."""
    lrs, losses = lrs[10 : len(losses) - 5], losses[10:-5]
    end = next((i for i, loss in enumerate(losses) if math.isnan(loss)), len(losses))
    return lrs[:end], losses[:end]


def minimum(lrs: Sequence[float], losses: Sequence[float]) -> float | None:
    """A tenth of the rate of the lowest loss."""
    return lrs[int(np.argmin(losses))] / 10 if losses else None


def steep(lrs: Sequence[float], losses: Sequence[float]) -> float | None:
    """Where the loss falls fastest against the logarithm of the rate."""
    if len(losses) < 2:
        return None
    return lrs[int(np.argmin(np.diff(losses) / np.diff(np.log(lrs))))]


def valley(lrs: Sequence[float], losses: Sequence[float]) -> float | None:
    """Half way down the longest falling subsequence, as far as it is long in updates."""
    lengths: list[int] = []
    for i, loss in enumerate(losses):
        lengths.append(1 + max((lengths[j] for j in range(i) if losses[j] > loss), default=0))
    if not lengths:
        return None
    end = int(np.argmax(lengths))
    start = end - lengths[end] if end else 0
    third = (end - start) / 3
    return lrs[start + int(third) + int(third / 2)]


def slide(lrs: Sequence[float], losses: Sequence[float]) -> float | None:
    """From the right, the first window of 15 updates at both ends of which the loss changes alike."""
    if len(losses) < 16:
        return None
    slopes = np.gradient(losses)
    left, right = len(losses) - 16, len(losses) - 1
    found = lrs[left]
    while left >= 0 and abs(slopes[right] - slopes[left]) > 0.005:
        found = lrs[left]
        left, right = left - 1, right - 1
    return found


# torch-lr-finder: LRFinder.range_test and plot


def torch_lr_finder_losses(losses: Iterable[float]) -> list[float]:
    """A running average that starts at the first loss, until it is five times the lowest."""
    kept: list[float] = []
    best = math.inf
    for loss in losses:
        kept.append(0.05 * loss + 0.95 * kept[-1] if kept else loss)
        best = min(best, kept[-1])
        if kept[-1] > 5 * best:
            break
    return kept


def steepest(lrs: Sequence[float], losses: Sequence[float]) -> float | None:
    """Where the loss falls fastest from one update to the next, without the first 10 and last 5; a NaN counts as that."""
    kept = losses[10:-5]
    return lrs[10 + int(np.argmin(np.gradient(kept)))] if len(kept) > 1 else None


# Lightning: Tuner.lr_find


def lightning_losses(losses: Iterable[float]) -> list[float]:
    """A running average until it is four times the lowest; its correction is that of one update later."""
    kept: list[float] = []
    average = best = 0.0
    for step, loss in enumerate(losses, 1):
        average = 0.98 * average + 0.02 * loss
        kept.append(average / (1 - 0.98 ** (step + 1)))
        if step > 1 and kept[-1] > 4 * best:
            break
        if step == 1 or kept[-1] < best:
            best = kept[-1]
    return kept


def lightning_suggestion(lrs: Sequence[float], losses: Sequence[float]) -> float | None:
    """Where the loss falls fastest against the rate itself, without the first 10 and the last."""
    rates, kept = torch.tensor(lrs[: len(losses)][10:-1]), torch.tensor(losses[10:-1])
    finite = torch.isfinite(kept)
    rates, kept = rates[finite], kept[finite]
    if len(kept) < 2:
        return None
    return rates[torch.gradient(kept, spacing=[rates])[0].argmin()].item()


# The test written by hand: a tenth more after each batch, until the loss is four times the lowest


def lesson_losses(losses: Iterable[float]) -> list[float]:
    """The losses as they are, until one is four times the lowest."""
    kept: list[float] = []
    for loss in losses:
        kept.append(loss)
        if loss > 4 * min(kept):
            break
    return kept


def fastest(lrs: Sequence[float], losses: Sequence[float]) -> float | None:
    """Where the plot of it falls fastest."""
    kept = [loss for loss in losses if math.isfinite(loss)]
    return lrs[int(np.argmin(np.gradient(kept)))] if len(kept) > 1 else None

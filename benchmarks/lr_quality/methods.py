"""Finders: each takes a task, a seed and a schedule, and gives a rate."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset

sys.path.insert(0, str(Path(__file__).parent))

import peers
from grid import onecycle
from tasks import Task

import surefoot as optim

__all__ = ["METHODS", "OURS", "Found", "Method", "ours"]


@dataclass(frozen=True)
class Found:
    """What a finder suggests.

    Attributes:
        rate: As ``task.optimizer`` takes it.
        batches: How many losses were computed for it.
        abstained: Whether there is no suggestion, or an error; the rate is what the finder offers then, or the customary one.
        interval: Rates between which it should be, if that is known.
        confidence: How sure it is, if that is known.
    """

    rate: float
    batches: int
    abstained: bool = False
    interval: tuple[float, float] | None = None
    confidence: float | None = None


Method = Callable[[Task, int, str], Found]
Losses = Callable[[Iterator[float]], list[float]]
Reading = Callable[[Sequence[float], Sequence[float]], float | None]

CUSTOMARY = {"SGD": 0.01, "RMSprop": 0.01}
"""Rates of the lesson, or torch's default where it names none; all others have 0.001."""


def customary(task: Task) -> float:
    return CUSTOMARY.get(type(task.optimizer(task.build(), 1.0)).__name__, 0.001)


# Others


def updates(task: Task, seed: int, rates: Sequence[float]) -> Iterator[float]:
    """The loss before an update at each rate, which all groups have: as in every finder here that is not ours."""
    torch.manual_seed(seed)
    model = task.build()
    optimizer = task.optimizer(model, rates[0])
    for rate, batch in zip(rates, task.batches(seed), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss = task.loss(model, batch)
        loss.backward()
        optimizer.step()
        yield loss.item()


SWEEPS: dict[str, tuple[list[float], Losses]] = {
    "fastai": (peers.exponential(1e-7, 10, 100, 100), peers.fastai_losses),
    "torch-lr-finder": (peers.exponential(1e-7, 100, 99, 100), peers.torch_lr_finder_losses),
    "Lightning": ([1e-8, *peers.exponential(1e-8, 1, 100, 101)[2:]], peers.lightning_losses),
    "lesson": ([1e-7 * 1.1**i for i in range(194)], peers.lesson_losses),
}
"""Rates of each, the lesson's up to 10, and what is kept of the losses."""


@cache  # one is read in several ways, and is the same for each schedule
def sweep(name: str, task: Task, seed: int) -> tuple[list[float], list[float]]:
    rates, losses = SWEEPS[name]
    return rates, losses(updates(task, seed, rates))


def peer(
    name: str, read: Reading, task: Task, seed: int, schedule: str, trim: bool = False, times: float = 1.0
) -> Found:
    rates, losses = sweep(name, task, seed)
    rate = read(*(peers.trimmed(rates, losses) if trim else (rates, losses)))
    if rate is None:
        return Found(customary(task), len(losses), abstained=True)
    return Found(rate * times, len(losses))


def no_search(task: Task, seed: int, schedule: str) -> Found:
    return Found(customary(task), 0)


def fixed_batches(task: Task, seed: int, schedule: str) -> Found:
    """A tenth of the rate of the lowest loss, which is that of 4 batches on which there is no update."""
    torch.manual_seed(seed)
    rates, losses, model = peers.exponential(1e-7, 10, 39, 40), list[float](), task.build()
    optimizer = task.optimizer(model, 1.0)
    ratios = [group["lr"] for group in optimizer.param_groups]
    batches = task.batches(seed)
    fixed = list(islice(batches, 4))
    for rate in rates:
        for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
            group["lr"] = rate * ratio
        optimizer.zero_grad()
        task.loss(model, next(batches)).backward()
        optimizer.step()
        with torch.no_grad():
            losses.append(sum(task.loss(model, batch).item() for batch in fixed) / 4)
        if not losses[-1] <= 4 * min(losses):
            break
    return Found(rates[losses.index(min(losses))] / 10, 5 * len(losses))


# Ours


def loader_of(task: Task, seed: int) -> DataLoader:
    draw = torch.Generator().manual_seed(seed)
    data = TensorDataset(*task.data()[0])
    return DataLoader(data, task.batch_size, shuffle=True, drop_last=True, generator=draw)


def ours(
    task: Task, seed: int, schedule: str, effort: str, max_batches: int | None = None, held_out: bool = True
) -> Found:
    torch.manual_seed(seed)
    model = task.build()
    lr = customary(task)
    optimizer = task.optimizer(model, lr)
    draw = torch.Generator().manual_seed(seed)
    finding = optim.find_lr(
        model,
        optimizer,
        task.loss,
        loader_of(task, seed),
        val_loader=DataLoader(TensorDataset(*task.data()[1]), task.batch_size, shuffle=True, generator=draw)
        if held_out
        else None,
        schedule=partial(onecycle, task) if schedule == "onecycle" else None,
        total_steps=task.steps,
        effort=effort,
        max_batches=max_batches,
    )
    times = lr / optimizer.param_groups[finding.reference]["lr"]
    low, high = finding.interval
    return Found(
        finding.suggestion * times,
        finding.batches,
        finding.abstained,
        (low * times, high * times),
        finding.confidence,
    )


OURS: dict[str, Method] = {
    "find_lr sweep": partial(ours, effort="sweep"),
    "find_lr sure": partial(ours, effort="sure"),
    "find_lr sure (no val_loader)": partial(ours, effort="sure", held_out=False),
}

METHODS: dict[str, Method] = {
    "fastai minimum/10": partial(peer, "fastai", peers.minimum, trim=True),
    "fastai steep": partial(peer, "fastai", peers.steep, trim=True),
    "fastai valley": partial(peer, "fastai", peers.valley, trim=True),
    "fastai slide": partial(peer, "fastai", peers.slide, trim=True),
    "valley x 4": partial(peer, "fastai", peers.valley, trim=True, times=4.0),
    "torch-lr-finder": partial(peer, "torch-lr-finder", peers.steepest),
    "Lightning": partial(peer, "Lightning", peers.lightning_suggestion),
    "lesson by hand": partial(peer, "lesson", peers.fastest),
    "customary rate": no_search,
    "4 fixed batches": fixed_batches,
    **OURS,
}

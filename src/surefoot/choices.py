"""The optimizers and schedules that a setting can name."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import partial
from typing import Any

import torch

from surefoot import curves, lr_scheduler, optimizers
from surefoot.curves import Curve
from surefoot.lr_scheduler.hyperparameters import has_momentum

__all__ = ["OPTIMIZERS", "RISING", "SCHEDULES", "arguments", "known", "scheduler"]

# Not Rprop, which takes gradients of all data, nor ASGD, whose average no task asks for.
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adadelta": optimizers.Adadelta,
    "adagrad": optimizers.Adagrad,
    "adam": optimizers.Adam,
    "adamax": optimizers.Adamax,
    "adamw": optimizers.AdamW,
    "lion": optimizers.Lion,
    "nadam": optimizers.NAdam,
    "nadamw": optimizers.NAdamW,
    "radam": optimizers.RAdam,
    "rmsprop": optimizers.RMSprop,
    "sgd": partial(optimizers.SGD, momentum=0.9),
}

RISING: dict[str, Callable[[int], Curve]] = {
    "constant": lambda steps: curves.constant(),
    "cosine": lambda steps: curves.cosine(steps),
    "exponential": lambda steps: curves.exponential(0.01 ** (1 / steps)),
    "linear": lambda steps: curves.linear(steps),
    "step": lambda steps: curves.step(math.ceil(steps / 3)),
}
"""Those that a warm-up may come before; each is a curve over so many steps."""

SCHEDULES: dict[str, Callable[[torch.optim.Optimizer, float, int], Any]] = {
    "cyclic": lambda o, lr, steps: lr_scheduler.CyclicLR(
        o, lr / 10, lr, step_size_up=steps / 8, cycle_momentum=has_momentum(o)
    ),
    "onecycle": lambda o, lr, steps: lr_scheduler.OneCycleLR(o, lr, steps, cycle_momentum=has_momentum(o)),
    "plateau": lambda o, lr, steps: lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=1),
    **{
        name: partial(lambda c, o, lr, steps: lr_scheduler.Scheduler(o, lr=c(steps)), c)
        for name, c in RISING.items()
    },
}


def scheduler(optimizer: torch.optim.Optimizer, schedule: str, lr: float, steps: int, warmup: int = 0) -> Any:
    """The schedule of a training.

    Args:
        optimizer: What it drives, built with ``lr``.
        schedule: A name in :data:`SCHEDULES`, or an expression that :func:`surefoot.curves.parse` reads.
        lr: The learning rate, the highest where the schedule rises.
        steps: Updates of the training.
        warmup: Updates in which the rate rises to where the schedule begins.

    Example:
        >>> optimizer = optimizers.SGD([torch.ones(1, requires_grad=True)], lr=1.0)
        >>> driver = scheduler(optimizer, "linear", 1.0, steps=6, warmup=2)
        >>> driver.get_last_lr()
        [0.3333333333333333]
    """
    if schedule not in SCHEDULES:
        return lr_scheduler.Scheduler(optimizer, lr=curves.parse(schedule))
    if warmup:
        curve = curves.warmup(warmup) >> RISING[schedule](max(1, steps - warmup))
        return lr_scheduler.Scheduler(optimizer, lr=curve)
    return SCHEDULES[schedule](optimizer, lr, steps)


def arguments(optimizer: str) -> set[str]:
    """What the constructor of an optimizer takes."""
    return set(inspect.signature(OPTIMIZERS[optimizer]).parameters)


def known(name: str, value: object, choices: Iterable[str]) -> None:
    """``value`` is one of ``choices``.

    Raises:
        ValueError: It is not; the nearest is named.

    Example:
        >>> known("optimizer", "adamm", ["adam", "sgd"])
        Traceback (most recent call last):
        ValueError: optimizer 'adamm' is not known. Did you mean 'adam'? Choose from: adam, sgd.
    """
    choices = sorted(choices)
    if value not in choices:
        near = get_close_matches(str(value).lower(), choices, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name} {value!r} is not known.{hint} Choose from: {', '.join(choices)}.")

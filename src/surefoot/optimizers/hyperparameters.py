"""Hyperparameters of a group: what they may be, and what they are at a step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from torch import Tensor

__all__ = ["Group", "check_ranges", "is_plain", "live", "names_of", "plain"]

Group: TypeAlias = dict[str, Any]


class Range(NamedTuple):
    """What a hyperparameter may be: at least ``low`` and below ``high``, or ``high`` too if closed."""

    low: float = 0.0
    high: float = math.inf
    closed: bool = False


RANGES = {
    "lr": Range(),
    "betas": Range(high=1.0),
    "eps": Range(),
    "weight_decay": Range(),
    "momentum": Range(),
    "momentum_decay": Range(),
    "dampening": Range(low=-math.inf),
    "lr_decay": Range(),
    "initial_accumulator_value": Range(),
    "rho": Range(high=1.0, closed=True),
    "alpha": Range(),
    "etas": Range(),
    "step_sizes": Range(closed=True),  # no largest step is a choice
    "lambd": Range(),
    "t0": Range(low=-math.inf, closed=True),  # and so is never to average
}

# Hyperparameters of two numbers, with an example.
PAIRS = {"betas": "(0.9, 0.999)", "etas": "(0.5, 1.2)", "step_sizes": "(1e-6, 50)"}


def check_ranges(group: Group) -> None:
    """Raises ValueError or TypeError where a hyperparameter of a group is out of its range."""
    for name in RANGES.keys() & group.keys():
        if name not in PAIRS:
            _check_number(name, group[name], RANGES[name])
            continue
        if not (isinstance(group[name], tuple | list) and len(group[name]) == 2):
            raise ValueError(f"{name}={group[name]!r}: pass two numbers, as in {PAIRS[name]}")
        for i, value in enumerate(group[name]):
            _check_number(f"{name}[{i}]", value, RANGES[name])


def _check_number(name: str, value: Any, within: Range) -> None:
    low, high, closed = within
    if isinstance(value, Tensor) and value.numel() != 1:
        raise ValueError(f"{name} is a tensor of shape {tuple(value.shape)}: pass one number")
    if not hasattr(value, "__float__"):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}: pass a number")
    if not (low <= value < high or (closed and value == high)) or value == -math.inf:
        if closed or high < math.inf:
            bounds = f"in {'[' if low > -math.inf else '('}{low:g}, {high:g}{']' if closed else ')'}"
        else:
            bounds = f"at least {low:g} and finite" if low > -math.inf else "finite"
        raise ValueError(f"{name}={float(value)!r} must be {bounds}")


def plain(group: Group, names: Iterable[str]) -> Group:
    """The group with ``names`` as floats, 1-element tensors too unless they must stay tensors."""
    keep = live(group)

    def number(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.reshape(()) if keep else value.item()
        if isinstance(value, tuple | list):
            return tuple(map(number, value))
        if isinstance(value, np.ndarray):
            return tuple(value.tolist()) if value.ndim else value.item()
        return value.item() if hasattr(value, "item") else value  # NumPy's numbers

    return {**group, **{name: number(group[name]) for name in names}}


def is_plain(value: Any) -> bool:
    """Whether it is a Python number, or a tuple of them."""
    kind = type(value)
    return kind in (float, int, bool, type(None)) or (kind is tuple and all(map(is_plain, value)))


def live(group: Group) -> str:
    """The flag, if there is one, for which hyperparameters and counters must stay tensors."""
    return next((flag for flag in ("capturable", "differentiable") if group.get(flag)), "")


def names_of(group: Group, defaults: Group) -> list[str]:
    """The hyperparameters of a group that matter, and what else of it is a plain value; a user may keep anything there."""
    return [
        name
        for name, value in group.items()
        if (name in defaults or isinstance(value, int | float | str)) and name not in ("foreach", "fused")
    ]

"""Numbers of a parameter group by name: ``lr``, ``weight_decay``, ``betas[1]``, or ``momentum``, whatever stands for it."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "check_name",
    "group_names",
    "has_momentum",
    "locate",
    "matches",
    "put",
    "read",
    "replace",
    "set_hyperparameter",
]

Group = dict[str, Any]


def locate(group: Group, name: str) -> tuple[str, int | None]:
    """The entry that a name stands for, and the place in it if it is a tuple.

    Raises:
        KeyError: The group has no such number.
    """
    key, place = name, None
    if name == "momentum" and "betas" in group:
        key, place = "betas", 0
    elif found := re.fullmatch(r"(\w+)\[(\d+)\]", name):
        key, place = found[1], int(found[2])
    value = group[key] if place is None else group[key][place]
    if isinstance(value, bool) or not isinstance(value, int | float | Tensor):
        raise KeyError(name)
    return key, place


def read(group: Group, name: str) -> Any:
    """The number, or the tensor of one."""
    key, place = locate(group, name)
    return group[key] if place is None else group[key][place]


def set_hyperparameter(group: Group, name: str, value: float) -> None:
    """Set one number of a group; a tensor is filled in place."""
    put(group, *locate(group, name), value)


def put(group: Group, key: str, place: int | None, value: float) -> None:
    """Set the number that :func:`locate` found; a tensor is filled in place."""
    entry = group[key]
    old = entry if place is None else entry[place]
    if isinstance(old, Tensor):
        old.fill_(value)
    elif place is None:
        group[key] = value
    else:
        replace(group, key, place, value)


def replace(group: Group, key: str, place: int | None, value: Any) -> None:
    """Have another number, or tensor, in the place of one."""
    group[key] = value if place is None else (*group[key][:place], value, *group[key][place + 1 :])


def check_name(optimizer: torch.optim.Optimizer, name: str, groups: list[Group]) -> None:
    """Raises ValueError if a group has no number of that name."""
    for group in groups:
        try:
            locate(group, name)
        except (KeyError, IndexError):
            kind = type(optimizer).__name__
            if name == "momentum":
                raise ValueError(f"{kind} has neither momentum nor betas: leave momentum out") from None
            known = sorted(key for key, value in group.items() if _numeric(value))
            raise ValueError(
                f"{kind} has no number {name!r} to schedule: it has {', '.join(known)}"
            ) from None


def has_momentum(optimizer: torch.optim.Optimizer) -> bool:
    """Whether every group has a momentum, or betas, to set."""
    return all("momentum" in group or "betas" in group for group in optimizer.param_groups)


def group_names(groups: list[Group]) -> list[str]:
    """What to call each group: its ``name``, or its number; each otherwise."""
    names = [str(group.get("name", i)) for i, group in enumerate(groups)]
    return [name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names)]


def matches(pattern: str, group: Group, label: str, number: int) -> bool:
    """Whether a pattern, with ``*`` for anything, means a group: its name, number, or the names of all its parameters."""
    names = [str(number)]
    if "name" in group:
        names += label, str(group["name"])  # two parts of a group have one name
    if any(fnmatchcase(one, pattern) for one in names):
        return True
    params = group.get("param_names") or ()
    return bool(params) and all(fnmatchcase(param, pattern) for param in params)


def per_group(name: str, value: Any, optimizer: torch.optim.Optimizer) -> list[Any]:
    """``value`` for each group: a list must have one for each, anything else is for all.

    Raises:
        ValueError: The list has another length.
    """
    require_optimizer(optimizer)
    groups = len(optimizer.param_groups)
    if not isinstance(value, list | tuple):
        return [value] * groups
    if len(value) != groups:
        raise ValueError(
            f"{name} has {len(value)} values, the optimizer has {groups} groups: pass one value or {groups}"
        )
    return list(value)


def plain(value: Any) -> Any:
    """A copy that later changes do not reach."""
    return value.clone() if isinstance(value, Tensor) else value


def require_optimizer(optimizer: object) -> None:
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(
            f"optimizer is a {type(optimizer).__name__}: pass the optimizer whose lr is to be scheduled"
        )


def _numeric(value: Any) -> bool:
    if isinstance(value, tuple):
        return bool(value) and all(map(_numeric, value))
    return isinstance(value, int | float | Tensor) and not isinstance(value, bool)

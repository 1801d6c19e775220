"""Hyperparameters of a group: what they may be, and what they are at a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import chain
from operator import is_, itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from torch import Tensor

from surefoot.kernels import OTHER, SAME, Groups

if TYPE_CHECKING:
    from surefoot.optimizers.base import Optimizer

__all__ = ["Group", "Hyperparameters", "check_ranges", "live"]

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

UNREAD = {"params", "param_names", "foreach", "fused"}
"""Entries of a group that no number depends on."""

# Hyperparameters of two numbers, with an example.
PAIRS = {"betas": "(0.9, 0.999)", "etas": "(0.5, 1.2)", "step_sizes": "(1e-6, 50)"}


def check_ranges(group: Group) -> None:
    """Raises ValueError or TypeError where a hyperparameter of a group is no number, or out of its range."""
    check_kinds(group)
    for name in RANGES.keys() & group.keys():
        for label, value in _numbers(name, group[name]):
            low, high, closed = RANGES[name]
            if not (low <= value < high or (closed and value == high)) or value == -math.inf:
                if closed or high < math.inf:
                    bounds = f"in {'[' if low > -math.inf else '('}{low:g}, {high:g}{']' if closed else ')'}"
                else:
                    bounds = f"at least {low:g} and finite" if low > -math.inf else "finite"
                raise ValueError(f"{label}={float(value)!r} must be {bounds}")


def check_kinds(group: Group) -> None:
    """Raises ValueError or TypeError where a hyperparameter of a group is not a number, or two where it should be."""
    for name in RANGES.keys() & group.keys():
        for label, value in _numbers(name, group[name]):
            if isinstance(value, Tensor) and value.numel() != 1:
                raise ValueError(f"{label} is a tensor of shape {tuple(value.shape)}: pass one number")
            if not hasattr(value, "__float__"):
                raise TypeError(f"{label}={value!r} is a {type(value).__name__}: pass a number")


def _numbers(name: str, value: Any) -> list[tuple[str, Any]]:
    """The numbers of a hyperparameter, each with what to call it."""
    if name not in PAIRS:
        return [(name, value)]
    many = isinstance(value, tuple | list | Tensor | np.ndarray) and getattr(value, "ndim", 1) == 1
    if not many or len(value) != 2:
        raise ValueError(f"{name}={value!r}: pass two numbers, as in {PAIRS[name]}")
    return [(f"{name}[{i}]", number) for i, number in enumerate(value)]


def live(group: Group) -> str:
    """The flag, if there is one, for which hyperparameters and counters must stay tensors."""
    return next((flag for flag in ("capturable", "differentiable") if group.get(flag)), "")


class Hyperparameters:
    """What the groups of an optimizer said when they were last looked at.

    Args:
        optimizer: The optimizer.

    Attributes:
        values: For each group what its numbers depend on beside counts; None where tensors must stay tensors.
        plain: Each group: itself if all its values are plain, else a copy where they are.
        buffers: The rule's buffers that each uses.
        changes: How often anything was found changed.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        groups = optimizer.param_groups
        self._groups, self._lists = list(groups), [list(group["params"]) for group in groups]
        self._names = [_names(group, optimizer.defaults) for group in groups]
        self._readers = [_reader(names) for names in self._names]
        self._sizes = list(map(len, groups))
        self._live = [live(group) for group in groups]
        self._frozen = [_frozen(group) for group in groups]
        # Whether there are entries that may change in themselves: a rule's numbers may depend on them.
        self._odd = [
            {*group} - {*names} > UNREAD & group.keys()
            for group, names in zip(groups, self._names, strict=True)
        ]
        self._types: list[Any] = [None for _ in groups]
        self._raw: list[Any] = [None for _ in groups]  # as last read; None if anything can change in itself
        self.values: list[Any] = [None for _ in groups]
        self.plain: list[Group] = list(groups)
        self.buffers: list[tuple[str, ...]] = [optimizer.buffers(group) for group in groups]
        self.changes = 0
        self._noted: Groups | None = None
        self._stable = False  # whether the values were noted since they changed
        self._read(optimizer)

    def look(self, optimizer: Optimizer, compiled: bool) -> bool:
        """Read what changed; False if there are other groups or parameters, or they use other buffers.

        Args:
            optimizer: The optimizer.
            compiled: Whether compiled code may look.
        """
        groups = optimizer.param_groups
        status = OTHER if self._noted is None else self._noted.look(groups)
        if status == SAME:
            return True
        if (status == OTHER and not self._same_params(groups)) or self._sizes != list(map(len, groups)):
            return False
        changes = self.changes
        if not self._read(optimizer):
            return False
        if changes != self.changes or None in self._raw:
            self._stable, self._noted = False, None
        elif compiled and not self._stable:
            # Values that are written anew at each step are not noted at each step.
            self._stable = True
            if all(isinstance(some, list) for some in (groups, *(group["params"] for group in groups))):
                self._noted = Groups(groups, self._names)
        return True

    def _same_params(self, groups: list[Group]) -> bool:
        if len(groups) != len(self._groups) or not all(map(is_, groups, self._groups)):
            return False
        lists = [group["params"] for group in groups]
        return all(
            len(params) == len(known) and all(map(is_, params, known))
            for params, known in zip(lists, self._lists, strict=True)
        )

    def _read(self, optimizer: Optimizer) -> bool:
        try:
            values = [read(group) for read, group in zip(self._readers, self._groups, strict=True)]
        except KeyError:  # there is another entry in the place of one
            return False
        if None not in self._raw and all(map(is_, chain(*values), chain(*self._raw))):
            return True
        changes = self.changes
        for i, (group, value) in enumerate(zip(self._groups, values, strict=True)):
            plain = _is_plain(value)
            types = [tuple(map(type, v)) if type(v) is tuple else type(v) for v in value]
            if types != self._types[i]:
                check_kinds(group)
                self._types[i] = types
            if live(group) != self._live[i] or _frozen(group) != self._frozen[i]:
                return False
            if not plain and self._names[i] != _names(group, optimizer.defaults):
                return False
            self._raw[i], self.plain[i] = (
                (value, group) if plain else (None, _plain(group, optimizer.defaults))
            )
            seen = value if plain else self._readers[i](self.plain[i])
            if self._live[i]:
                seen = None  # read at every step
            elif self._odd[i]:
                seen = (*seen, i)  # its numbers are its own
            if seen is not None and seen == self.values[i]:
                continue
            self.values[i], self.changes = seen, changes + 1
            buffers = optimizer.buffers(group)
            if buffers != self.buffers[i]:
                self.buffers[i] = buffers
                return False
        return True


def _plain(group: Group, names: Iterable[str]) -> Group:
    """The group with ``names`` as floats, 1-element tensors too unless they must stay tensors."""
    keep = live(group)

    def number(value: Any) -> Any:
        if _is_plain(value):
            return value
        if isinstance(value, tuple | list) or (isinstance(value, Tensor) and value.numel() > 1):
            return tuple(map(number, value))
        if isinstance(value, Tensor):
            return value.reshape(()) if keep else value.item()
        if isinstance(value, np.ndarray | np.generic):
            return tuple(value.tolist()) if value.size > 1 else value.item()
        return float(value) if hasattr(value, "__float__") else value

    return {**group, **{name: number(group[name]) for name in names}}


def _frozen(group: Group) -> Any:
    """Who is frozen, to be compared later."""
    frozen = group.get("frozen", False)
    return tuple(frozen) if isinstance(frozen, tuple | list) else bool(frozen)


def _is_plain(value: Any) -> bool:
    """Whether it is a number or text of Python's own, or a tuple of them: it cannot change in itself."""
    kind = type(value)
    return kind in (float, int, bool, str, type(None)) or (kind is tuple and all(map(_is_plain, value)))


def _names(group: Group, defaults: Group) -> list[str]:
    """The hyperparameters of a group, and what else of it is a plain value: a rule's numbers may depend on it."""
    return [
        name
        for name, value in group.items()
        if name not in UNREAD and (name in defaults or name == "frozen" or _is_plain(value))
    ]


def _reader(names: list[str]) -> Callable[[Group], Any]:
    return itemgetter(*names) if len(names) > 1 else lambda group: tuple(group[name] for name in names)

"""Hyperparameters of a group: what they may be, and what they are at a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
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


def live(group: Group) -> str:
    """The flag, if there is one, for which hyperparameters and counters must stay tensors."""
    return next((flag for flag in ("capturable", "differentiable") if group.get(flag)), "")


class Hyperparameters:
    """What the groups of an optimizer said when they were last looked at.

    Args:
        optimizer: The optimizer.

    Attributes:
        params: The parameters of all groups, in order.
        values: For each group what its numbers depend on beside counts; None where tensors must stay tensors.
        plain: Each group: itself if all its values are plain, else a copy where they are.
        buffers: The rule's buffers that each uses.
        changes: How often anything was found changed.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        groups = optimizer.param_groups
        self._groups, self._lists = list(groups), [list(group["params"]) for group in groups]
        self.params: list[Tensor] = [param for params in self._lists for param in params]
        self._names = [_names(group, optimizer.defaults) for group in groups]
        self._readers = [_reader(names) for names in self._names]
        self._sizes = list(map(len, groups))
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
        if changes != self.changes:
            self._stable = False
        elif compiled and not self._stable:
            # Values that are written anew at each step are not noted at each step.
            self._stable = True
            if all(map(is_, self.plain, groups)):  # no value can change in itself
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
        if _equal(values, self.values):
            return True
        self.changes += 1
        holds = True
        for i, (group, value) in enumerate(zip(self._groups, values, strict=True)):
            if _equal(value, self.values[i]):
                continue
            self.values[i], self.plain[i] = value, group
            if not _is_plain(value):
                self.plain[i] = _plain(group, optimizer.defaults)
                # Those that must stay tensors are read at every step.
                self.values[i] = None if live(group) else self._readers[i](self.plain[i])
                holds = holds and self._names[i] == _names(group, optimizer.defaults)
            buffers = optimizer.buffers(group)
            holds = holds and buffers == self.buffers[i]
            self.buffers[i] = buffers
        return holds


def _plain(group: Group, names: Iterable[str]) -> Group:
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


def _is_plain(value: Any) -> bool:
    """Whether it is a number or text of Python's own, or a tuple of them: it cannot change in itself."""
    kind = type(value)
    return kind in (float, int, bool, str, type(None)) or (kind is tuple and all(map(_is_plain, value)))


def _names(group: Group, defaults: Group) -> list[str]:
    """The hyperparameters of a group that matter, and what else of it is a plain value; a user may keep anything there."""
    return [
        name
        for name, value in group.items()
        if (name in defaults or isinstance(value, int | float | str)) and name not in ("foreach", "fused")
    ]


def _reader(names: list[str]) -> Callable[[Group], Any]:
    return itemgetter(*names) if len(names) > 1 else lambda group: tuple(group[name] for name in names)


def _equal(a: Any, b: Any) -> bool:
    try:
        return bool(a == b)
    except ValueError:  # an array, which is equal in parts
        return False

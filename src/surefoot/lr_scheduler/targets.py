"""What a scheduler sets: which number of which group follows which curve, from which base."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import is_
from typing import Any, NamedTuple, TypeAlias

import torch

from surefoot.curves import Curve, Fixed
from surefoot.lr_scheduler.hyperparameters import (
    Group,
    check_name,
    group_names,
    locate,
    matches,
    per_group,
    put,
    read,
    require_optimizer,
)

__all__ = ["Curves", "Driven", "Targets", "curves_for"]

Curves: TypeAlias = Curve | Sequence[Curve]


class Driven(NamedTuple):
    """One number of one group.

    Attributes:
        place: Number of the group.
        name: What the number is called.
        curve: What it follows.
        base: What it was built with.
    """

    place: int
    name: str
    curve: Curve
    base: float


class Job(NamedTuple):
    """Numbers that one evaluation of a curve serves: each is a factor times its value."""

    name: str
    curve: Curve
    base: float
    targets: list[tuple[Group, str, int | None, float]]


class Targets:
    """The numbers that follow curves, found by name; found anew when there are other groups.

    Args:
        optimizer: The optimizer.
        curves: For each name a curve for all groups, or one for each.
        patterns: Curves by name for the groups that a pattern means; they come first.

    Attributes:
        bases: For each group, by name, what it was built with.
        groups: The groups that were found.
        driven: Every number of theirs that is set.

    Raises:
        TypeError: Something is no curve.
        ValueError: No group has that number, or none is meant by that pattern; there is nothing to set.
        RuntimeError: The number of curves is not the number of groups.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, curves: dict[str, Curves], patterns: Mapping[str, Any]
    ) -> None:
        self.optimizer, self.curves = optimizer, curves
        self.patterns = {str(pattern): _of_groups(pattern, own) for pattern, own in patterns.items()}
        self._check()
        self.bases: list[dict[str, float]] = []
        self.groups: list[Group] = []
        self.driven: list[Driven] = []
        self._jobs: list[Job] = []
        self._heard = 0

    def write(self, step: float, plateau: Any) -> None:
        """Set everything to its value at a step; a plateau cuts ``lr``."""
        self.find()
        for name, curve, own_base, targets in self._jobs:
            value = float(curve.value(step, own_base))  # NumPy's would stay in the group
            cut = plateau if name == "lr" else None
            for group, key, place, factor in targets:
                put(group, key, place, factor * value if cut is None else cut.apply(factor * value))

    def find(self) -> list[Driven]:
        """Every number that is set."""
        groups, rebased = self.optimizer.param_groups, getattr(self.optimizer, "_rebased", ())
        heard, self._heard = self._heard, len(rebased)
        if heard == len(rebased) and len(groups) == len(self.groups) and all(map(is_, groups, self.groups)):
            return self.driven
        before = {id(group): base for group, base in zip(self.groups, self.bases, strict=False)}
        # After load_state_dict all are other dicts, each in the place of one.
        replaced = len(self.bases) == len(groups) and not any(id(group) in before for group in groups)
        known = self.bases if replaced else [before.get(id(group), {}) for group in groups]
        self.bases, self.driven = [dict(bases) for bases in known], []
        for group, name in rebased[heard:]:  # it was given another value by hand
            for bases, some in zip(self.bases, groups, strict=True):
                if some is group:
                    bases.pop(name, None)
        for i, (group, bases, plan) in enumerate(zip(groups, self.bases, self.plans(), strict=True)):
            if "lr" not in bases:
                bases["lr"] = _base(group, "lr")
            for name, curve in plan.items():
                if name not in bases and not isinstance(curve, Fixed):
                    bases[name] = _base(group, name)
                self.driven.append(Driven(i, name, curve, bases.get(name, 1.0)))
        self.groups, self._jobs = list(groups), _jobs(groups, self.driven)
        return self.driven

    @property
    def rebased(self) -> bool:
        """Whether ``optimizer.set`` gave other bases since the last look."""
        return len(getattr(self.optimizer, "_rebased", ())) != self._heard

    def move_to(self, optimizer: torch.optim.Optimizer) -> None:
        """Set another optimizer's numbers, from the same bases."""
        self.optimizer, self.groups = optimizer, []

    def start_from(self, bases: list[dict[str, float]]) -> None:
        """Have other bases."""
        self.bases, self.groups = bases, []

    def plans(self) -> list[dict[str, Curve]]:
        """For each group the curve of each number."""
        groups = self.optimizer.param_groups
        columns = {name: self.column(name) for name in self.curves}
        plans = []
        for i, (group, label) in enumerate(zip(groups, group_names(groups), strict=True)):
            plan: dict[str, Curve] = {}
            for pattern, own in self.patterns.items():
                if matches(pattern, group, label, i):
                    plan = {**own, **plan}
            plans.append({**{name: column[i] for name, column in columns.items()}, **plan})
        return plans

    def column(self, name: str) -> list[Curve]:
        """The curve of a number in each group, whatever patterns say.

        Raises:
            RuntimeError: There is one for each group, and the optimizer has other groups now.
        """
        curves, groups = self.curves[name], len(self.optimizer.param_groups)
        if isinstance(curves, Curve):
            return [curves] * groups
        if len(curves) != groups:
            raise RuntimeError(
                f"{name} has curves for {len(curves)} groups, but the optimizer has {groups} now: build the scheduler "
                "again with one for each group, or one for all"
            )
        return list(curves)

    def _check(self) -> None:
        if not self.curves and not self.patterns:
            raise ValueError("there is nothing to schedule: pass lr=curve, or a curve of another number")
        groups = self.optimizer.param_groups
        for name, given in self.curves.items():
            for curve in given if isinstance(given, list | tuple) else [given]:
                if not isinstance(curve, Curve):
                    kind = type(curve).__name__
                    raise TypeError(f"{name}={curve!r} is a {kind}: pass a curve, or one for each group")
            check_name(self.optimizer, name, groups)
        labels = group_names(groups)
        for pattern, own in self.patterns.items():
            meant = [
                group
                for i, (group, label) in enumerate(zip(groups, labels, strict=True))
                if matches(pattern, group, label, i)
            ]
            if not meant:
                raise ValueError(
                    f"groups={pattern!r} means no group: they are {', '.join(labels)}; give a group a 'name', or "
                    "build the optimizer with named parameters"
                )
            for name in own:
                check_name(self.optimizer, name, meant)


def curves_for(optimizer: torch.optim.Optimizer, build: Callable[..., Curve], **settings: Any) -> Curves:
    """One curve of the settings; if any of them is a list, one for each group."""
    require_optimizer(optimizer)
    if not any(isinstance(value, list | tuple) for value in settings.values()):
        return build(**settings)
    columns = [per_group(name, value, optimizer) for name, value in settings.items()]
    return [build(**dict(zip(settings, row, strict=True))) for row in zip(*columns, strict=True)]


def _of_groups(pattern: object, curves: Any) -> dict[str, Curve]:
    own = {"lr": curves} if isinstance(curves, Curve) else curves
    if not isinstance(own, Mapping):
        raise TypeError(f"groups[{pattern!r}]={curves!r}: pass a curve, or a dict of curves by number")
    for name, curve in own.items():
        if not isinstance(curve, Curve):
            kind = type(curve).__name__
            raise TypeError(f"groups[{pattern!r}][{name!r}]={curve!r} is a {kind}: pass a curve")
    return dict(own)


def _base(group: Group, name: str) -> float:
    """What the group was built with: kept in it, as torch does, so that every later scheduler finds it."""
    return float(group.setdefault(f"initial_{name}", float(read(group, name))))


def _jobs(groups: list[Group], driven: list[Driven]) -> list[Job]:
    jobs: dict[tuple[str, int, float], Job] = {}
    for i, name, curve, base in driven:
        asked, factor = (1.0, base) if curve.relative else (base, 1.0)
        while isinstance(curve, Fixed):
            asked = curve.base
            curve = curve.curve
        job = jobs.setdefault((name, id(curve), asked), Job(name, curve, asked, []))
        job.targets.append((groups[i], *locate(groups[i], name), factor))
    return list(jobs.values())

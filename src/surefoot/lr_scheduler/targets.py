"""What a scheduler sets: which number of which group follows which curve, from which base."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from operator import is_
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

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
    replace,
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
        bases: For each group, by name, what its curve multiplies.
        plans: For each group, by name, the curve.
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
        self.plans: list[dict[str, Curve]] = []
        self.groups: list[Group] = []
        self.driven: list[Driven] = []
        self._params: list[list[Tensor]] = []  # of each group, by which its parts and successors are known
        # Of each group its place when it was first seen, or that of what it is part of.
        self._numbers: list[int] = []
        self._count = 0
        self._own = False  # whether bases are a loaded state's, or others than the groups'
        self._jobs: list[Job] = []

    def write(self, step: float, plateau: Any) -> None:
        """Set everything to its value at a step; a plateau cuts ``lr``."""
        self.find()
        for name, curve, own_base, targets in self._jobs:
            value = float(curve.value(step, own_base))  # NumPy's would stay in the group
            cut = plateau if name == "lr" else None
            for group, key, place, factor in targets:
                put(group, key, place, factor * value if cut is None else cut.apply(factor * value))

    def find(self) -> list[Driven]:
        """Every number that is set.

        Raises:
            RuntimeError: There is a curve for each group, and the optimizer has more groups now.
        """
        groups = self.optimizer.param_groups
        if len(groups) == len(self.groups) and all(map(is_, groups, self.groups)):
            return self.driven
        origins, plans, bases = self._origins(groups), self.plans, self.bases
        new, labels = count(self._count), group_names(groups)
        numbers = [next(new) if i is None else self._numbers[i] for i in origins]
        self.plans = [
            self.plan_of(group, label, number) if i is None else plans[i]
            for i, group, label, number in zip(origins, groups, labels, numbers, strict=True)
        ]
        self.bases = [{} if i is None else dict(bases[i]) for i in origins]
        there = set(map(id, groups))
        for i, group, own in zip(origins, groups, self.bases, strict=True):
            if i is not None and id(self.groups[i]) not in there and not self._own:  # loaded in its place
                own.update({name: group[f"initial_{name}"] for name in own if f"initial_{name}" in group})
        self._numbers, self._count = numbers, next(new)
        self.groups = list(groups)
        self.refresh()
        return self.driven

    def plan_of(self, group: Group, label: str = "", number: int | None = None) -> dict[str, Curve]:
        """The curve of each number of a group; of one that is still to be added, without a number.

        Raises:
            RuntimeError: There is a curve for each group, and none for this one.
        """
        number = self._count if number is None else number
        plan: dict[str, Curve] = {}
        for pattern, own in self.patterns.items():
            if matches(pattern, group, label, number):
                plan = {**own, **plan}
        for name, curves in self.curves.items():
            if name in plan:
                continue
            if not isinstance(curves, Curve) and number >= len(curves):
                names = ", ".join(group.get("param_names", ())[:3]) or f"number {number}"
                raise RuntimeError(
                    f"{name} has curves for {len(curves)} groups and none for {names}: build the scheduler with one for "
                    "all, or after the last group was added"
                )
            plan[name] = curves if isinstance(curves, Curve) else curves[number]
        return {**{name: plan[name] for name in self.curves}, **plan}  # in the order they were given in

    def refresh(self) -> None:
        """Look at the groups' parameters and at the bases anew."""
        self._params = [list(group["params"]) for group in self.groups]
        self.driven = []
        for i, (group, bases, plan) in enumerate(zip(self.groups, self.bases, self.plans, strict=True)):
            for name in ("lr", *plan):
                if name not in bases and not (name != "lr" and isinstance(plan[name], Fixed)):
                    bases[name] = _base(group, name)
            self.driven += [Driven(i, name, curve, bases.get(name, 1.0)) for name, curve in plan.items()]
        self._jobs = _jobs(self.groups, self.driven)

    def rebase(self, group: Group, key: str, place: int | None, value: float) -> None:
        """Multiply another value from now on."""
        for row in self.find():
            mine = self.groups[row.place] is group and locate(group, row.name) == (key, place)
            if mine and not isinstance(row.curve, Fixed):
                self.bases[row.place][row.name] = group[f"initial_{row.name}"] = value
        self.refresh()

    def move_to(self, optimizer: torch.optim.Optimizer) -> None:
        """Set another optimizer's numbers, from the same bases."""
        self.optimizer = optimizer

    def start_from(self, bases: list[dict[str, float]]) -> None:
        """Have other bases."""
        self.find()
        self.bases, self._own = bases, True
        self.refresh()

    def column(self, name: str) -> list[Curve]:
        """The curve of a number in each group, whatever patterns say."""
        curves = self.curves[name]
        return [curves if isinstance(curves, Curve) else curves[number] for number in self._numbers]

    def _origins(self, groups: list[Group]) -> list[int | None]:
        """For each group the known one that it is, was split from, or was loaded in the place of."""
        known = {id(group): i for i, group in enumerate(self.groups)}
        owners = {id(param): i for i, params in enumerate(self._params) for param in params}
        origins = [
            known.get(id(group), next((owners[id(p)] for p in group["params"] if id(p) in owners), None))
            for group in groups
        ]
        if len(groups) == len(self.groups) and all(origin is None for origin in origins):
            return list(range(len(groups)))  # another optimizer's
        return origins

    def _check(self) -> None:
        if not self.curves and not self.patterns:
            raise ValueError("there is nothing to schedule: pass lr=curve, or a curve of another number")
        groups = self.optimizer.param_groups
        for name, given in self.curves.items():
            for curve in given if isinstance(given, list | tuple) else [given]:
                if not isinstance(curve, Curve):
                    kind = type(curve).__name__
                    raise TypeError(f"{name}={curve!r} is a {kind}: pass a curve, or one for each group")
            if isinstance(given, list | tuple) and len(given) != len(groups):
                raise RuntimeError(
                    f"{name} has curves for {len(given)} groups, but the optimizer has {len(groups)}: pass one for each, or one"
                )
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
    owners: dict[int, tuple[Job, float]] = {}
    for i, name, curve, base in driven:
        asked, factor = (1.0, base) if curve.relative else (base, 1.0)
        while isinstance(curve, Fixed):
            asked = curve.base
            curve = curve.curve
        job = jobs.setdefault((name, id(curve), asked), Job(name, curve, asked, []))
        key, place = locate(groups[i], name)
        value = read(groups[i], name)
        if isinstance(value, Tensor) and owners.setdefault(id(value), (job, factor)) != (job, factor):
            replace(groups[i], key, place, value.clone())  # groups shared it, and go different ways now
        job.targets.append((groups[i], key, place, factor))
    return list(jobs.values())

"""A plan: which executor serves which parameter, kept from step to step for as long as it holds."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Mapping
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from surefoot.kernels import CURRENT, STALE, Layout, Member, Row, Table, eager, lacking, layout, overlapping
from surefoot.names import frozen_in
from surefoot.optimizers.hyperparameters import Group, Hyperparameters, live

if TYPE_CHECKING:
    from surefoot.optimizers.base import Optimizer

__all__ = ["Norms", "Plan"]


@cache
def _owners() -> int:
    """References to an optimizer's state while it is looked at, if nobody else has one: Python's releases differ."""
    optimizer = SimpleNamespace(_state={})
    held = optimizer._state
    return sys.getrefcount(held)


class Norms(NamedTuple):
    """Euclidean norms of one tensor at one step.

    Attributes:
        param: Of the parameter after the update.
        update: Of the update.
        grad: Of the gradient, unscaled and not clipped.
    """

    param: float
    update: float
    grad: float


class Plan:
    """Who serves which parameter, kept from step to step for as long as it holds.

    Args:
        optimizer: The optimizer. Parameters that have a gradient and no state get one.
        before: The plan that held until now.
        eagerly: Leave everything to the eager executor.
    """

    def __init__(self, optimizer: Optimizer, before: Plan | None, eagerly: bool = False) -> None:
        groups = optimizer.param_groups
        self._settings, self._eagerly = _settings(optimizer), eagerly
        self.looks: bool = self._settings[-1]
        self._hyper = Hyperparameters(optimizer)
        self._sorted = -1  # how often hyperparameters had changed when groups were sorted
        self._kinds: Any = None  # an array, once they are
        self._distinct: list[int] = []  # a group of each kind
        self._examples: list[tuple[int, int]] = []
        self._cohorts: _Cohorts | None = None

        flags = [frozen_in(group) for group in groups]
        work = [
            (i, param)
            for i, group in enumerate(groups)
            for param, frozen in zip(group["params"], flags[i], strict=True)
            if not frozen
        ]
        self.frozen = sum(map(sum, flags))
        for i, param in work:  # all gradients are looked at before any state is touched
            if param.grad is not None:
                optimizer.dense(param.grad, groups[i])
        # What was made for a step that has not been taken yet: names of state, parameters with new buffers.
        self._created: list[tuple[Tensor, str]] = [] if before is None else before._created
        self._fresh: set[int] = set() if before is None else before._fresh
        seen: dict[int, Tensor] = {} if before is None else before._seen
        self._seen: dict[int, Tensor] = {}
        self._idle: list[Tensor] = []
        self._lacks: dict[Layout, str] = {}  # why there is no kernel of a layout
        self._scalars: dict[Any, tuple[bool, ...]] = {}  # which numbers are used, by group and counts
        members: list[Member] = []
        for i, param in work:
            # Without a gradient a parameter waits, unless it took part before, as others may do at the next step.
            if param.grad is not None or (id(param) in seen and not self._missing(optimizer, i, param)):
                self._seen[id(param)] = param
                members.append(self._member(optimizer, i, param))
            else:
                self._idle.append(param)
        choices = [(member, *self._layout(optimizer, member)) for member in members]
        counters = tuple(optimizer.counters)
        shared = overlapping(members, counters) if any(found for _, found, _ in choices) else []
        self._shared = {id(param): param for param in shared}
        served = [
            (m, found) for m, found, _ in choices if found is not None and id(m.param) not in self._shared
        ]
        others = [(m, reason) for m, found, reason in choices if found is None or id(m.param) in self._shared]
        self.served = len(served)
        self.reasons = Counter(reason or "memory that another tensor shares" for _, reason in others)
        self._eager = [(member.group, member.param) for member, _ in others]
        self._work: list[Member] = []
        self._trusted, self._asked, self._asked_before = False, 0, -1
        self._table = Table(optimizer.rule, counters, served, optimizer._state) if served else None
        self._used = [list(member.scalars) for member, _ in served]
        self._unused = [used.count(False) for used in self._used]

    def look(self, optimizer: Optimizer) -> bool:
        """Fetch this step's gradients, and tell whether the plan holds for what the optimizer is now."""
        compiled = self._table is not None
        if self._settings != _settings(optimizer) or not self._hyper.look(optimizer, compiled):
            return False
        if self._idle and any(param.grad is not None for param in self._idle):
            return False
        if self._table is not None:
            held, asked = optimizer._state, self._asked
            status = self._table.look(held, self._trusted)
            # With no more owners than these nobody else can reach the state, until it is asked for.
            alone = self._table.alone and sys.getrefcount(held) <= _owners() and asked == self._asked
            if alone and not self._trusted:  # perhaps its memory, by an alias, or a graph
                alone = asked == self._asked_before and self._table.memory_alone()
            self._trusted, self._asked_before = alone, asked
            if status == STALE or not self._compute(optimizer, self._table, status):
                return False
        self._work = []
        self._scalars.clear()
        for i, param in self._eager:
            if param.grad is None:
                continue
            member = self._member(optimizer, i, param)
            if id(param) not in self._shared and self._layout(optimizer, member)[0] is not None:
                return False
            grad = optimizer.dense(param.grad, optimizer.param_groups[i])
            self._work.append(member._replace(grad=grad))
        return True

    def distrust(self) -> None:
        """The state may be changed by others from now on."""
        self._asked += 1  # another thread may be at a look, and must not overwrite what follows
        self._trusted = False

    def release(self) -> None:
        """Let go of the gradients of this step."""
        self._work = []
        if self._table is not None:
            self._table.release()

    def grad_norm(self, unscale: float) -> tuple[float, int]:
        """The norm of all gradients, and how many of their elements are not finite."""
        looked = [eager.squares(member.grad) for member in self._work if member.grad is not None]
        total, bad = math.fsum(square for square, _ in looked), sum(count for _, count in looked)
        if self._table is not None:
            squares, each = self._table.squares()
            total, bad = math.fsum([total, squares]), bad + int(each.sum())
        return math.sqrt(total) * unscale, bad

    def culprits(self, optimizer: Optimizer) -> str:
        """The parameters whose gradients are not finite."""
        bad = {id(m.param) for m in self._work if m.grad is not None and eager.squares(m.grad)[1]}
        if self._table is not None:
            bad |= {id(self._table.params[row]) for row in self._table.squares()[1].nonzero()[0]}
        names = [label for label, param, _ in optimizer.labelled() if id(param) in bad]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        return ", ".join(names[:5]) + more

    def forget(self, optimizer: Optimizer) -> None:
        """Take back the state that was made for a step that is not taken."""
        for param, name in self._created:
            optimizer._state[param].pop(name, None)
            if not optimizer._state[param]:
                del optimizer._state[param]
        if self._created:
            self._created, self._fresh, optimizer._plan = [], set(), None

    def run(self, optimizer: Optimizer, unscale: float, clip_coef: float) -> dict[str, Norms] | None:
        """Update everything that has a gradient."""
        stats: dict[int, Any] = {}
        factor, bound = unscale * clip_coef, optimizer.clip_value
        if self._table is not None:
            numbers, which, counts = self._numbers
            width = 2 + len(optimizer.rule.scalars)
            for place in range(0, len(numbers), width):  # of each kind of row: the sign is there
                numbers[place] *= factor
                numbers[place + 1] = bound or 0.0
            self._table.run(numbers, which, counts)
            if optimizer.stats:
                sums = self._table.stats().tolist()
                stats = {id(self._table.params[row]): sums[row] for row in self._table.active}
        if self._work:
            eagers = [self._row(optimizer, member, factor, bound) for member in self._work]
            squares = eager.run(optimizer.rule, eagers, optimizer.stats)
            stats |= zip([id(row.param) for row in eagers], squares, strict=False)
        if self._created:
            self._created, self._fresh = [], set()
        if not optimizer.stats:
            return None
        found = [(label, stats[id(p)]) for label, p, _ in optimizer.labelled() if id(p) in stats]
        return {
            label: Norms(math.sqrt(param), math.sqrt(update), math.sqrt(grad) * unscale)
            for label, (param, update, grad) in found
        }

    def _compute(self, optimizer: Optimizer, table: Table, status: int) -> bool:
        """Compute the rule's numbers, once for all rows of equal hyperparameters and counts.

        False if a number came or went: the kernels are made for those that there were.
        """
        changed = self._sorted != self._hyper.changes
        if changed:
            self._sort_groups(table)
        if status == CURRENT and table.complete:
            which, cohorts = self._kinds, self._examples
        elif status == CURRENT and len(self._examples) == 1:
            which, cohorts = self._kinds, [(0, table.first)]
        elif table.first < 0:
            which, cohorts = self._kinds, []
        else:
            if changed or self._cohorts is None or not self._cohorts.hold(table):
                self._cohorts = _Cohorts(table, self._kinds)
            which, cohorts = self._cohorts.which, self._cohorts.examples
        number = np.float64 if table.wide else np.float32
        numbers: list[float] = []
        counts: list[float] = []
        for kind, row in cohorts:
            hyper = self._hyper.plain[self._distinct[kind]]
            counted = map(number, table.counts[row].tolist())
            state: dict[str, Any] = dict(zip(optimizer.counters, counted, strict=True))
            scalars = _advance(optimizer, hyper, state, first=bool(table.fresh[row]))
            unused = scalars.count(None)
            if unused != self._unused[row]:
                return False
            if changed and [value is not None for value in scalars] != self._used[row]:
                return False
            numbers += -1.0 if hyper.get("maximize", False) else 1.0, 0.0
            numbers += [value or 0.0 for value in scalars] if unused else scalars
            counts += map(state.__getitem__, optimizer.counters)
        self._numbers = numbers, which, counts
        return True

    def _row(self, optimizer: Optimizer, member: Member, factor: float, bound: float | None) -> Row:
        """A row for the eager executor, its counters counted."""
        assert member.grad is not None
        hyper, entry = self._hyper.plain[member.group], member.entry
        state = {name: entry[name] for name in optimizer.counters}
        scalars = _advance(optimizer, hyper, state, first=id(member.param) in self._fresh)
        self._fresh.discard(id(member.param))  # it may come twice
        for name in optimizer.counters:
            if state[name] is not entry[name]:
                entry[name].copy_(torch.as_tensor(state[name]))
        sign = -factor if hyper.get("maximize", False) else factor
        buffers = tuple(entry[name] if name in member.buffers else None for name in optimizer.rule.buffers)
        return Row(member.param, member.grad, sign, bound, buffers, tuple(scalars))

    def _missing(self, optimizer: Optimizer, i: int, param: Tensor) -> list[str]:
        """The counters and buffers that the parameter uses and does not have."""
        entry = optimizer._state.get(param, {})
        return [name for name in (*optimizer.counters, *self._hyper.buffers[i]) if entry.get(name) is None]

    def _member(self, optimizer: Optimizer, i: int, param: Tensor) -> Member:
        """The parameter with its state, which is made where it is missing."""
        entry, buffers = optimizer._state.get(param, {}), self._hyper.buffers[i]
        hyper = self._hyper.plain[i]
        if missing := self._missing(optimizer, i, param):
            for name in missing:
                entry[name] = optimizer.new_state(name, param, hyper)
            optimizer._state[param] = entry
            self._created += [(param, name) for name in missing]
            if not buffers or not {*buffers}.isdisjoint(missing):
                self._fresh.add(id(param))
        fresh = id(param) in self._fresh
        scalars = self._used_scalars(optimizer, i, entry, fresh)
        return Member(param, param.grad, entry, i, buffers, scalars, fresh)

    def _used_scalars(
        self, optimizer: Optimizer, i: int, entry: Mapping[str, Any], first: bool
    ) -> tuple[bool, ...]:
        """Which of the rule's numbers are not None at the step after these counts."""
        hyper = self._hyper.plain[i]
        if live(hyper):
            return ()
        counts = tuple(float(entry[name]) for name in optimizer.counters)
        key = (i, first, self._hyper.changes, counts)
        if key not in self._scalars:
            state: dict[str, Any] = dict(zip(optimizer.counters, map(np.float64, counts), strict=True))
            self._scalars[key] = tuple(
                value is not None for value in _advance(optimizer, hyper, state, first)
            )
        return self._scalars[key]

    def _layout(self, optimizer: Optimizer, member: Member) -> tuple[Layout | None, str]:
        if optimizer.executor == "eager":
            return None, "asked for"
        if self._eagerly or not isinstance(optimizer._state, dict):
            return None, "the kernels' table does not hold"
        if flag := live(optimizer.param_groups[member.group]):
            return None, flag
        _, bound, stats, looks = self._settings
        found, reason = layout(optimizer.rule, tuple(optimizer.counters), member, bound, stats)
        if found is not None:
            if found not in self._lacks:
                self._lacks[found] = lacking(optimizer.rule, found, looks)
            reason = self._lacks[found]
        return (None if reason else found), reason

    def _sort_groups(self, table: Table) -> None:
        """Number the rows by what their numbers depend on beside counts, and note an example for each.

        That is their groups' hyperparameters, and which of the rule's numbers their kernels take.
        """
        self._sorted = self._hyper.changes
        numbers: dict[Any, int] = {}
        kinds, self._distinct, self._examples = [], [], []
        per_group = [0] * len(self._hyper.values)
        uniform = all(used == self._used[0] for used in self._used)
        examples = (
            table.first_of_group.items()
            if uniform
            else [(group, row) for row, group in enumerate(table.groups.tolist())]
        )
        for group, row in examples:
            kind = numbers.setdefault((self._hyper.values[group], tuple(self._used[row])), len(numbers))
            if kind == len(self._distinct):
                self._distinct.append(group)
                self._examples.append((kind, row))
            per_group[group] = kind
            kinds.append(kind)
        self._kinds = np.array(per_group)[table.groups] if uniform else np.array(kinds)


class _Cohorts:
    """Rows of equal numbers, where they have different counts: as long as all that step go on together, they stay.

    Attributes:
        which: Number of each row's cohort.
        examples: Of each cohort its kind and a row.
    """

    def __init__(self, table: Table, kinds: Any) -> None:
        self._present, rows = table.present, np.array(table.active)
        keys = np.column_stack([kinds, table.fresh, table.counts])[rows]
        _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        inverse = inverse.reshape(-1)
        self.which = np.zeros_like(kinds)
        self.which[rows] = inverse
        self.examples = [(int(kinds[row]), int(row)) for row in rows[first]]
        self._rows, self._example_of = rows, rows[first][inverse]

    def hold(self, table: Table) -> bool:
        """Whether each row still is as the example of its cohort."""
        return np.array_equal(self._present, table.present) and all(
            np.array_equal(column[self._rows], column[self._example_of])
            for column in (table.counts, table.fresh)
        )


def _settings(optimizer: Optimizer) -> tuple[Any, ...]:
    looks = optimizer.clip_norm is not None or optimizer.nonfinite != "propagate"
    return optimizer.executor, optimizer.clip_value is not None, optimizer.stats, looks


def _advance(optimizer: Optimizer, hyper: Group, state: dict[str, Any], first: bool) -> list[Any]:
    """Count a step in ``state``, and return the rule's numbers for it."""
    if "step" in state:
        state["step"] += 1
    state["first"] = first
    return list(map(optimizer.scalars(hyper, state).__getitem__, optimizer.rule.scalars))

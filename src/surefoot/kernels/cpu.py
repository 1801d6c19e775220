"""The CPU executor: one compiled kernel over all tensors of a layout, shared out to threads.

A :class:`Table` keeps what stays the same from step to step. At each step one compiled function looks
whether it still holds, and fetches the addresses of the gradients.

The result has the same bits for any number of threads: a chunk's arithmetic does not depend on who does it.
"""

from __future__ import annotations

import ctypes
import math
from array import array
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from surefoot.kernels.compiled import Array, Call, address, integers, kernel, native, of_python, squares
from surefoot.kernels.source import Layout
from surefoot.kernels.table import Member
from surefoot.kernels.threads import Launch
from surefoot.rule import Rule

__all__ = ["CURRENT", "MIXED", "STALE", "Table", "api"]

CHUNK = 65536
"""Elements of a chunk at the most: the longer, the better memory streams."""

BATCH = 16384
"""Elements of a batch of chunks, the unit that threads share out, at the least."""

ALONE = 262144
"""Elements for each helper: with fewer one thread is done before another is awake."""

CURRENT, MIXED, STALE = 0, 1, 2
"""A table is as it was; so it is, but its rows have different counts; it must be made anew."""


@cache
def api() -> tuple[Array | None, str]:
    """The functions of Python and torch that the compiled code calls."""
    guards: Any = torch._C._dynamo.guards
    try:
        data_ptr, _ = guards._torchinductor_pyobject_tensor_data_ptr, guards.TensorGuards
    except AttributeError as error:
        return None, f"this release of torch differs: {error}"
    return integers([*of_python("PyList_GetItem", "PyDict_Next", "PyDict_GetItem"), data_ptr]), ""


class Table:
    """The rows that kernels serve, as arrays of addresses and numbers.

    Args:
        rule: The rule.
        counters: Names of the numbers that are counted for each row.
        members: The rows, each with its layout.
        state: The state of all parameters of the optimizer, whether they are rows or not.
    """

    def __init__(
        self,
        rule: Rule,
        counters: Sequence[str],
        members: Sequence[tuple[Member, Layout]],
        state: dict[Any, Any],
    ) -> None:
        self.params = [member.param for member, _ in members]
        self.groups = integers([member.group for member, _ in members])
        self.first_of_group = {member.group: row for row, (member, _) in reversed([*enumerate(members)])}
        names = [*counters, *rule.buffers]
        objects: list[list[Any]] = []
        for member, _ in members:
            used = {*counters, *member.buffers}
            objects.append([member.param, *(member.entry[name] if name in used else None for name in names)])
        entries = [member.entry for member, _ in members]
        # An alias keeps the memory from being given to another tensor while its address stands here, and it
        # stands in for a gradient that is missing.
        self._stand_ins = [param.detach() for param in self.params]
        self.wide = bool(counters) and objects[0][1].dtype == torch.float64
        self._pointers = integers(
            [
                [param.data_ptr(), 0, *(0 if t is None else t.data_ptr() for t in things[len(counters) :])]
                for param, *things in objects
            ]
        )
        self.counts = np.zeros((len(members), len(counters)))
        counter_pointers = integers(np.zeros_like(self.counts))
        self.fresh = integers([member.fresh for member, _ in members])
        self._which, self._kinds = self.fresh, 0  # the last that run was given, and its address
        self._result = (ctypes.c_int64 * 7)()
        functions = integers(api()[0])
        known_state = integers([*(id(thing) for item in state.items() for thing in item), 0])
        stand_ins = integers([id(stand_in) for stand_in in self._stand_ins])
        entry_ids = integers([id(entry) for entry in entries])
        keys = integers([id(name) for name in names])
        object_ids = integers([[0 if thing is None else id(thing) for thing in things] for things in objects])
        rows, sizes = len(members), (len(counters), len(rule.buffers))
        places = address(self._pointers), address(counter_pointers)
        # An address is an object's own only while it lives. Entries are held once, tensors twice: gather counts.
        self._kept = [names, objects, entries, list(state), functions, counter_pointers]
        self._kept += [known_state, stand_ins, entry_ids, keys, object_ids]
        mine = set(map(id, entries))
        self._others = [entry for entry in state.values() if id(entry) not in mine]
        fixed = [address(functions), ctypes.addressof(self._result)]
        fixed += [address(known_state), address(stand_ins), rows, address(entry_ids), address(keys), *sizes]
        fixed += [address(object_ids), *places, address(self.counts), address(self.fresh), int(self.wide)]
        self._gather = Call(native("gather")[0], fixed, free=3)
        fixed = [rows, *sizes, *places, address(self.fresh), int(self.wide)]
        self._count = Call(native("count", holds_lock=False)[0], fixed, free=2)
        of_layout: dict[Layout, list[int]] = {}
        for row, (_, found) in enumerate(members):
            of_layout.setdefault(found, []).append(row)
        numels = [param.numel() for param in self.params]
        self._lanes = [Lane(rule, *each, numels, self._pointers) for each in of_layout.items()]
        self._launch = Launch([(self._count, 0, 0), *(lane.job for lane in self._lanes)])
        shown: list[Tensor] = [
            s if m.grad is None else m.grad for (m, _), s in zip(members, self._stand_ins, strict=True)
        ]
        self._guards = _guards([*_distinct(shown), *self.params])
        self._things = [thing for _, *things in objects for thing in things if thing is not None]
        self._state_guards = _guards(self._things) if self._things else None
        self._grads: list[Any] = []
        self._trusted = False

    def look(self, state: dict[Any, Any], trusted: bool) -> int:
        """Fetch the gradients, and tell whether the table holds for the state of now.

        Args:
            state: The state of all parameters.
            trusted: Whether nobody can have changed the state since the last look.
        """
        self._trusted = trusted
        grads: list[Any] = [param.grad for param in self.params]
        self._grads = grads
        same = self._guards.check(*grads, *self.params)
        if not same:  # perhaps only because some are None, or are somebody else's too
            pairs = zip(grads, self._stand_ins, strict=True)
            grads = self._grads = _distinct([stand_in if grad is None else grad for grad, stand_in in pairs])
            same = self._guards.check(*grads, *self.params)
        if same and not trusted and self._state_guards is not None:
            same = self._state_guards.check(*self._things)
        if not same:
            return STALE
        self._gather.arguments[-3:] = trusted, id(state), id(grads)
        self._gather()
        return self._result[0]

    def release(self) -> None:
        """Let go of the gradients."""
        self._grads = []

    @property
    def alone(self) -> bool:
        """Whether nobody else held any part of the state at the last look."""
        return self._result[3] == 1

    def memory_alone(self) -> bool:
        """Whether no alias shares the memory of any part of the state, and no graph holds it."""
        return all(
            thing._use_count() <= 1 and torch._C._storage_Use_Count(thing.untyped_storage()._cdata) <= 2
            for thing in self._things
        )

    @property
    def complete(self) -> bool:
        """Whether all rows have a gradient."""
        return self._result[2] == len(self.params)

    @property
    def first(self) -> int:
        """The first row that has a gradient, or -1."""
        return self._result[1]

    @property
    def present(self) -> Array:
        """For each row whether it has a gradient."""
        present: Array = self._pointers[:, 1] != 0
        return present

    @property
    def active(self) -> Sequence[int]:
        """The rows that have a gradient."""
        rows: list[int] = self._pointers[:, 1].nonzero()[0].tolist()
        return rows

    def squares(self) -> tuple[float, Array]:
        """The sum of squares of all gradients, and how many elements of each row's are not finite."""
        totals, bad = [], np.zeros(len(self.params))
        for lane in self._lanes:
            sums = lane.squares()
            totals += sums[:, 0].tolist()
            np.add.at(bad, lane.chunks[:, 0], sums[:, 1])
        return math.fsum(totals), bad  # rounded once: the same in any order

    def run(self, numbers: list[float], which: Array, counts: list[float]) -> None:
        """Update every row that has a gradient, and its counts.

        Args:
            numbers: Factor, bound and the rule's scalars of each kind of row, one kind after the other.
            which: The kind of each row.
            counts: The counters' new values of each kind, one kind after the other.
        """
        if which is not self._which:
            self._which, self._kinds = which, address(which)
        both = array("d", numbers)
        both.extend(counts)
        start, _ = both.buffer_info()
        self._count.arguments[-2:] = self._kinds, start + 8 * len(numbers)
        for lane in self._lanes:
            lane.prepare(start, self._kinds)
        # State that others can reach may be in a graph of theirs.
        increment_version(self.params if self.complete else [self.params[row] for row in self.active])
        if not self._trusted:
            increment_version(self._things)
        self._launch()

    def stats(self) -> Array:
        """Of the last run: each row's sums of squares of parameter, update and gradient."""
        sums = np.zeros((len(self.params), 3))
        for lane in self._lanes:
            np.add.at(sums, lane.chunks[:, 0], lane.sums)
        return sums


class Lane:
    """The rows of one layout, cut into chunks that threads share out."""

    def __init__(
        self, rule: Rule, layout: Layout, rows: Sequence[int], sizes: Sequence[int], pointers: Array
    ) -> None:
        chunks = [
            (row, start, min(CHUNK, sizes[row] - start))
            for row in rows
            for start in range(0, sizes[row], CHUNK)
        ]
        self.chunks = integers(chunks).reshape(-1, 3)
        ends = np.cumsum(self.chunks[:, 2])
        # A batch ends where the elements so far pass a multiple of its size.
        last = np.flatnonzero(np.diff(ends // BATCH, prepend=0)) + 1
        batches = integers(np.unique([0, *last, len(chunks)]))
        self.helpers = min(len(batches) - 2, int(self.chunks[:, 2].sum()) // ALONE)
        self.sums, self._squares = np.zeros((len(chunks), 3)), np.zeros((len(chunks), 2))
        self._has_sums, self._grad_dtype = layout.stats, layout.grad
        self._next_batch, self._kept = ctypes.c_int64(), (pointers, batches)
        self._width = pointers.shape[1]
        self._fixed = [address(pointers), address(self.chunks), address(batches), len(batches) - 1]
        self._fixed += [ctypes.addressof(self._next_batch)]
        self._update = Call(kernel(rule, layout)[0], [*self._fixed, address(self.sums)], free=2)
        self.job = self._update, self.helpers, ctypes.addressof(self._next_batch)

    def prepare(self, numbers: int, which: int) -> None:
        """The numbers at these addresses are those of the next update."""
        if self._has_sums:
            self.sums.fill(0)
        self._update.arguments[-2:] = numbers, which

    def squares(self) -> Array:
        """For each chunk the sum of squares of its gradients, and how many are not finite."""
        self._squares.fill(0)
        function, _ = squares(self._grad_dtype)
        look = Call(function, [self._width, *self._fixed, address(self._squares)])
        Launch([(look, self.helpers, ctypes.addressof(self._next_batch))])()
        return self._squares


def _guards(tensors: Sequence[Tensor]) -> Any:
    """Torch's compiled comparison of dtype, shape, strides, device and kind with those of now."""
    guards: Any = torch._C._dynamo.guards
    return guards.TensorGuards(
        *tensors,
        dynamic_dims_sizes=[list(tensor.size()) for tensor in tensors],
        dynamic_dims_strides=[list(tensor.stride()) for tensor in tensors],
    )


def _distinct(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors, those that come again as aliases: the guards take each only once."""
    first = {id(tensor): i for i, tensor in reversed([*enumerate(tensors)])}
    return [tensor if first[id(tensor)] == i else tensor.detach() for i, tensor in enumerate(tensors)]

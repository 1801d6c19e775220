"""The CPU executor: one compiled kernel over all tensors of a layout, shared out to threads.

A :class:`Table` keeps what stays the same from step to step. At each step one compiled function looks
whether it still holds, and fetches the addresses of the gradients.

The result has the same bits for any number of threads: a chunk's arithmetic does not depend on who does it.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.nn import Parameter

from surefoot.kernels.compiled import Function, kernel, native, squares
from surefoot.kernels.source import SIZES, Layout
from surefoot.kernels.table import Member
from surefoot.kernels.threads import together
from surefoot.rule import Rule

Array: TypeAlias = np.ndarray[Any, Any]

__all__ = ["CURRENT", "MIXED", "STALE", "Table", "layout", "overlapping"]

CHUNK = 16384
"""Elements of a chunk, the unit that threads share out."""

ALONE = 65536
"""Elements up to which one thread is done before another is awake."""

CURRENT, MIXED, STALE = 0, 1, 2
"""A table is as it was; so it is, but its rows have different counts; it must be made anew."""

DTYPES = {getattr(torch, name): name for name in SIZES}


def layout(
    rule: Rule, counters: Sequence[str], member: Member, bound: bool, stats: bool, looks: bool
) -> tuple[Layout | None, str]:
    """What a member's kernel is specialised for; or None, with the reason why it has no kernel.

    Args:
        rule: The rule.
        counters: Names of the numbers that are counted for each parameter.
        member: The parameter.
        bound: Whether gradients are cut off at a largest absolute value.
        stats: Whether squares are summed up on the way.
        looks: Whether gradients are looked at before the update.
    """
    counted = torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32
    for name in counters:
        if _oddity(member.entry[name]) or member.entry[name].dtype != counted:
            return None, f"{name} is not a {counted} on the host"
    param, buffers = member.param, [member.entry[name] for name in member.buffers]
    memory = [param, *buffers] if member.grad is None else [param, member.grad, *buffers]
    for tensor in memory:
        if reason := _oddity(tensor):
            return None, reason
        if tensor.shape != param.shape:
            return None, "its state has another shape"
    if not all(tensor.is_contiguous() for tensor in memory):
        if not all(tensor.stride() == param.stride() for tensor in memory):
            return None, "strides differ"
        if not _dense(param):
            return None, "gaps between elements"
    dtypes = (DTYPES[member.entry[name].dtype] if name in member.buffers else None for name in rule.buffers)
    grad = param if member.grad is None else member.grad
    found = Layout(DTYPES[param.dtype], DTYPES[grad.dtype], tuple(dtypes), member.scalars, bound, stats)
    needed = [kernel(rule, found), native("gather"), native("count"), _api()]
    for function, reason in [*needed, squares(found.grad)] if looks else needed:
        if function is None:
            return None, reason
    return found, ""


def _oddity(tensor: Tensor) -> str:
    """Why a kernel cannot read the tensor's memory as it stands; empty if it can."""
    if type(tensor) not in (Tensor, Parameter):
        return f"{type(tensor).__name__} is a subclass"
    if tensor.layout != torch.strided:
        return "sparse"
    if tensor.dtype not in DTYPES or tensor.device.type != "cpu":
        return str(tensor.dtype if tensor.device.type == "cpu" else tensor.device).removeprefix("torch.")
    if tensor.is_neg():
        return "negative bit"
    return "inference tensor" if tensor.is_inference() else ""  # it has no version to count up


def _dense(tensor: Tensor) -> bool:
    """Whether the elements fill one stretch of memory without gaps or overlaps, in whatever order."""
    step = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1 and stride != step:
            return False
        step *= size
    return True


@cache
def _api() -> tuple[Array | None, str]:
    """The functions of Python and torch that the compiled code calls."""
    try:
        data_ptr = torch._C._dynamo.guards._torchinductor_pyobject_tensor_data_ptr
        torch._C._dynamo.guards.TensorGuards  # noqa: B018
    except AttributeError as error:
        return None, f"this release of torch differs: {error}"
    python = [getattr(ctypes.pythonapi, name) for name in ("PyList_GetItem", "PyDict_Next", "PyDict_GetItem")]
    addresses = [ctypes.cast(function, ctypes.c_void_p).value for function in python]
    return np.array([*addresses, data_ptr], dtype=np.int64), ""


def overlapping(members: Sequence[Member]) -> list[Tensor]:
    """The parameters of members that write to memory which another member writes to, as views of one tensor do."""
    spans = []
    for place, member in enumerate(members):
        for tensor in (member.param, *(member.entry[name] for name in member.buffers)):
            if tensor.numel():
                start = tensor.data_ptr()
                spans.append((start, start + tensor.numel() * tensor.element_size(), place))
    found: set[int] = set()
    end, owner = 0, 0
    for start, stop, place in sorted(spans):
        if start < end:
            found |= {place, owner}
        if stop > end:
            end, owner = stop, place
    return [members[place].param for place in found]


class Table:
    """The rows that kernels serve, as arrays of addresses and numbers.

    Args:
        rule: The rule.
        counters: Names of the numbers that are counted for each row.
        members: The rows, each with its layout.
        params: All parameters of the optimizer in order, whether they are rows or not.
        state: The state of all of them.
    """

    def __init__(
        self,
        rule: Rule,
        counters: Sequence[str],
        members: Sequence[tuple[Member, Layout]],
        params: Sequence[Tensor],
        state: dict[Any, Any],
    ) -> None:
        def integers(values: Any) -> Array:
            return np.array(values, dtype=np.int64)

        self.params = [member.param for member, _ in members]
        self.groups = integers([member.group for member, _ in members])
        names = [*counters, *rule.buffers]
        objects = []
        for member, _ in members:
            used = {*counters, *member.buffers}
            objects.append([member.param, *(member.entry[name] if name in used else None for name in names)])
        # An alias keeps the memory from being given to another tensor while its address stands here, and it
        # stands in for a gradient that is missing.
        stand_ins = [param.detach() for param in self.params]
        self._stand_ins, self._number_of_params = stand_ins, len(params)
        # An object's address is its own only while it lives.
        self._kept = (
            names,
            objects,
            [member.entry for member, _ in members],
            list(params),
            list(state.items()),
        )
        self.width = 2 + len(rule.buffers)
        self.pointers = integers(
            [
                [param.data_ptr(), 0, *(0 if t is None else t.data_ptr() for t in things[len(counters) :])]
                for param, *things in objects
            ]
        )
        self.wide = bool(counters) and objects[0][1].dtype == torch.float64
        self.counts = np.zeros((len(members), len(counters)))
        self.fresh = integers([member.fresh for member, _ in members])
        self._counter_pointers = integers(np.zeros_like(self.counts))
        self._result = integers([0] * 4)
        functions, _ = _api()
        self._arrays = (
            integers([id(param) for param in params]),
            integers([*(id(thing) for item in state.items() for thing in item), 0]),
            integers([id(stand_in) for stand_in in stand_ins]),
            integers([id(member.entry) for member, _ in members]),
            integers([id(name) for name in names]),
            integers([[0 if thing is None else id(thing) for thing in things] for things in objects]),
        )
        known_params, known_state, stand_in_ids, entries, keys, ids = map(address, self._arrays)
        self._gather, self._count = native("gather")[0], native("count")[0]
        rows = len(members)
        self._before = address(functions), address(self._result)
        self._after_params = known_params, len(params)
        self._after_grads = (stand_in_ids, rows, entries, keys, ids, len(counters), len(rule.buffers))
        self._after_grads += (address(self.pointers), address(self._counter_pointers), address(self.counts))
        self._after_grads += (address(self.fresh), int(self.wide))
        self._known_state = known_state
        self._count_before = (address(self.pointers), self.width, rows, address(self._counter_pointers))
        self._count_before += (len(counters), int(self.wide))
        places: dict[Layout, list[int]] = {}
        for place, (_, found) in enumerate(members):
            places.setdefault(found, []).append(place)
        sizes = [param.numel() for param in self.params]
        self._lanes = [Lane(rule, *item, sizes, self.pointers) for item in places.items()]
        shown = [s if m.grad is None else m.grad for (m, _), s in zip(members, stand_ins, strict=True)]
        self._guards = torch._C._dynamo.guards.TensorGuards(
            *shown,
            dynamic_dims_sizes=[list(tensor.size()) for tensor in shown],
            dynamic_dims_strides=[list(tensor.stride()) for tensor in shown],
        )

    def look(self, params: list[Tensor], state: dict[Any, Any]) -> int:
        """Fetch the gradients, and tell whether the table holds for the parameters and the state of now."""
        grads: list[Any] = [param.grad for param in self.params]
        same = self._guards.check(*grads)
        if not same:  # perhaps only because some are None
            grads = [
                stand_in if grad is None else grad
                for grad, stand_in in zip(grads, self._stand_ins, strict=True)
            ]
            same = self._guards.check(*grads)
        if not same or len(params) != self._number_of_params:
            return STALE
        self._gather(
            *self._before,
            id(params),
            *self._after_params,
            id(state),
            self._known_state,
            id(grads),
            *self._after_grads,
        )
        return int(self._result[0])

    @property
    def active(self) -> Array:
        """Which rows have a gradient."""
        return self.pointers[:, 1] != 0

    def squares(self) -> tuple[float, Array]:
        """The sum of squares of all gradients, and how many elements of each row's are not finite."""
        totals, bad = [], np.zeros(len(self.params))
        for lane in self._lanes:
            sums = lane.squares()
            totals += sums[:, 0].tolist()
            np.add.at(bad, lane.chunks[:, 0], sums[:, 1])
        return math.fsum(totals), bad  # rounded once: the same in any order

    def run(self, numbers: Array, which: Array, counts: Array) -> None:
        """Update every row that has a gradient, and its counts.

        Args:
            numbers: Rows of factor, bound and the rule's scalars, as float64.
            which: For each of the table's rows, which of ``numbers`` and ``counts`` is its.
            counts: Rows of the counters' new values, as float64.
        """
        first, second = address(numbers), address(which)
        for lane in self._lanes:
            lane.run(first, second)
        self._count(*self._count_before, second, address(counts), address(self.fresh))
        if self.active.all():
            increment_version(self.params)
        else:
            increment_version([p for p, active in zip(self.params, self.active, strict=True) if active])

    def stats(self) -> Array:
        """Of the last run: each row's sums of squares of parameter, update and gradient."""
        sums = np.zeros((len(self.params), 3))
        for lane in self._lanes:
            np.add.at(sums, lane.chunks[:, 0], lane.sums)
        return sums


class Lane:
    """The rows of one layout, cut into chunks."""

    def __init__(
        self, rule: Rule, layout: Layout, rows: Sequence[int], sizes: Sequence[int], pointers: Array
    ) -> None:
        chunks = [
            (row, start, min(CHUNK, sizes[row] - start))
            for row in rows
            for start in range(0, sizes[row], CHUNK)
        ]
        self.chunks = np.array(chunks, dtype=np.int64).reshape(-1, 3)
        ends = np.cumsum(self.chunks[:, 2])
        # A batch ends where the elements so far pass a multiple of a chunk.
        last = np.flatnonzero(np.diff(ends // CHUNK, prepend=0)) + 1 if len(chunks) else ends
        self._batches = np.unique(np.append(last, [0, len(chunks)])).astype(np.int64)
        self._elements = int(self.chunks[:, 2].sum())
        self.sums = np.zeros((len(chunks), 3 if layout.stats else 0))
        self._squares = np.zeros((len(chunks), 2))
        self._function, self._grad_dtype = kernel(rule, layout)[0], layout.grad
        self._pointers, self._width = address(pointers), pointers.shape[1]

    def run(self, numbers: int, which: int) -> None:
        self.sums.fill(0)
        self._together(self._function, (self._pointers, numbers, which), self.sums)

    def squares(self) -> Array:
        self._squares.fill(0)
        self._together(squares(self._grad_dtype)[0], (self._pointers, self._width), self._squares)
        return self._squares

    def _together(self, function: Function | None, arguments: tuple[int, ...], sums: Array) -> None:
        assert function is not None  # a row whose layout has no kernel is no row of a table
        next_batch, batches = ctypes.c_int64(0), len(self._batches) - 1
        helpers = 0 if self._elements <= ALONE else min(torch.get_num_threads(), batches) - 1
        arguments += address(self.chunks), address(self._batches), batches
        together(helpers, function, (*arguments, ctypes.addressof(next_batch), address(sums)))


def address(array: Any) -> int:
    """Where an array's memory starts."""
    start: int = array.__array_interface__["data"][0]
    return start

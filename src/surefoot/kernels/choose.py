"""Which executor serves a parameter, and why: decided when something changes, shown by ``repr``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from operator import le
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from surefoot.kernels.compiled import kernel, native, squares
from surefoot.kernels.cpu import api
from surefoot.kernels.source import SIZES, Layout
from surefoot.kernels.table import Member
from surefoot.rule import Rule

__all__ = ["EXECUTORS", "choose", "lacking", "layout", "overlapping"]

EXECUTORS = ("cpu", "eager")

DTYPES = {getattr(torch, name): name for name in SIZES}


def choose(name: str | None) -> str:
    """The name of an executor, ``None`` being the best there is.

    Raises:
        ValueError: There is no such executor.
    """
    name = name or "cpu"
    if name not in EXECUTORS:
        raise ValueError(f"executor={name!r} does not exist: choose from {sorted(EXECUTORS)} or None")
    return name


def layout(
    rule: Rule, counters: Sequence[str], member: Member, bound: bool, stats: bool
) -> tuple[Layout | None, str]:
    """What a member's kernel is specialised for; or None, with the reason why it can have none.

    Args:
        rule: The rule.
        counters: Names of the numbers that are counted for each parameter.
        member: The parameter.
        bound: Whether gradients are cut off at a largest absolute value.
        stats: Whether squares are summed up on the way.
    """
    counted = torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32
    for name in counters:
        if _oddity(member.entry[name]) or member.entry[name].dtype != counted:
            return None, f"{name} is not a {counted} on the host"
    if not isinstance(member.entry, dict):
        return None, f"its state is a {type(member.entry).__name__}"
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
    return Layout(DTYPES[param.dtype], DTYPES[grad.dtype], tuple(dtypes), member.scalars, bound, stats), ""


def lacking(rule: Rule, found: Layout, looks: bool) -> str:
    """Why the kernel of a layout cannot run; empty if it can.

    Args:
        rule: The rule.
        found: The layout.
        looks: Whether gradients are looked at before the update.
    """
    needed: list[Callable[[], tuple[Any, str]]] = [api, lambda: kernel(rule, found), lambda: native("gather")]
    needed += [partial(native, name, holds_lock=False) for name in ("count", "launch", "help_out")]
    needed += [lambda: squares(found.grad)] if looks else []
    for find in needed:  # one after the other: where one is missing the next is not compiled
        function, reason = find()
        if function is None:
            return reason
    return ""


def _oddity(tensor: Tensor) -> str:
    """Why a kernel cannot read the tensor's memory as it stands; empty if it can."""
    if type(tensor) not in (Tensor, Parameter):
        return f"{type(tensor).__name__} is a subclass"
    if tensor.layout != torch.strided:
        return "sparse"
    if tensor.dtype not in DTYPES or tensor.device.type != "cpu":
        return str(tensor.dtype if tensor.device.type == "cpu" else tensor.device).removeprefix("torch.")
    if tensor.is_neg() or tensor._is_zerotensor():
        return "no numbers of its own"
    if tensor.numel() and not tensor.data_ptr():
        return "no memory"
    return "inference tensor" if tensor.is_inference() else ""  # it has no version to count up


def _dense(tensor: Tensor) -> bool:
    """Whether the elements fill one stretch of memory without gaps or overlaps, in whatever order."""
    step = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1 and stride != step:
            return False
        step *= size
    return True


def overlapping(members: Sequence[Member], counters: Sequence[str]) -> list[Tensor]:
    """The parameters of members that touch memory which another one writes, as views of one tensor do.

    A gradient is only read: two may share memory.
    """
    spans: list[tuple[int, int, bool, int]] = []
    for place, member in enumerate(members):
        written = [member.param, *(member.entry[name] for name in (*counters, *member.buffers))]
        read = [] if member.grad is None else [member.grad]
        for writes, tensors in ((True, written), (False, read)):
            spans += [(*span, writes, place) for span in map(_span, tensors) if span]
    spans.sort()
    starts, ends = ([span[i] for span in spans] for i in (0, 1))
    if all(map(le, accumulate(ends, max), starts[1:])):  # each begins where all before it have ended
        return []
    found: set[int] = set()
    open_writes: list[tuple[int, int]] = []  # end and place of those that have begun, and not ended
    open_reads: list[tuple[int, int]] = []
    for start, end, writes, place in spans:
        open_writes = [span for span in open_writes if span[0] > start]
        open_reads = [span for span in open_reads if span[0] > start]
        met = [*open_writes, *open_reads] if writes else open_writes
        if met:
            found |= {place, *(other for _, other in met)}
        (open_writes if writes else open_reads).append((end, place))
    return [members[place].param for place in found]


def _span(tensor: Tensor) -> tuple[int, int] | None:
    """Where the memory of a tensor's elements starts and ends, if it has any that kernels could reach."""
    if (
        type(tensor) not in (Tensor, Parameter)
        or tensor.layout != torch.strided
        or tensor.device.type != "cpu"
    ):
        return None
    start = tensor.data_ptr()
    if not start or not tensor.numel():
        return None
    if tensor.is_contiguous():
        return start, start + tensor.numel() * tensor.element_size()
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + (last + 1) * tensor.element_size()

"""The reference executor: the rule's own function, called on torch tensors.

It serves every device, dtype and layout, and lets autograd through (``differentiable``). Arithmetic
is in float32, or float64 for float64 parameters, whatever the storage: a bfloat16 weight is
rounded once, when it is stored. Complex tensors are seen as pairs of real numbers.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from surefoot.kernels.table import Row
from surefoot.rule import Rule

__all__ = ["run", "squares"]

Squares = tuple[float, float, float]
"""Sums of squares of a parameter after its update, of the update, and of its gradient as it came."""


def run(rule: Rule, rows: Iterable[Row], stats: bool = False) -> list[Squares]:
    """Update every row in place by ``rule``; with ``stats``, return the sums of squares of each."""
    found = []
    for row in rows:
        before = row.param.detach().clone() if stats else None
        if row.grad.is_sparse:
            _update_touched_rows(rule, row)
        else:
            _update(rule, row)
        if before is not None:
            after = row.param.detach()
            moved = after.to(_wide(after)) - before.to(_wide(after))
            found.append((squares(after)[0], squares(moved)[0], squares(row.grad.detach())[0]))
    return found


def squares(tensor: Tensor) -> tuple[float, int]:
    """The sum of squares, and how many elements are infinite or NaN."""
    values = _real((tensor.coalesce().values() if tensor.is_sparse else tensor).resolve_conj())
    return values.double().square().sum().item(), int(values.numel() - values.isfinite().sum().item())


def _update(rule: Rule, row: Row) -> None:
    wide = torch.float64 if row.param.dtype in (torch.float64, torch.complex128) else torch.float32
    targets = [None if t is None else _real(t) for t in (row.param, *row.buffers)]
    param, *buffers = (None if t is None else _load(t, wide) for t in targets)
    grad = _load(_real(row.grad.resolve_conj()), wide)
    if row.factor != 1:
        grad = grad * row.factor
    if row.bound is not None:
        grad = grad.clamp(-row.bound, row.bound)
    for target, value in zip(targets, rule(param, grad, *buffers, *row.scalars), strict=True):
        if target is not None:
            target.copy_(value)


def _update_touched_rows(rule: Rule, row: Row) -> None:
    """A sparse gradient: where the rule keeps no buffers, only rows that have a gradient move."""
    grad = row.grad.coalesce()
    touched = tuple(grad.indices())
    part = row._replace(param=row.param[touched], grad=grad.values())
    _update(rule, part)
    row.param[touched] = part.param


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.complex128 if tensor.is_complex() else torch.float64


def _load(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in the arithmetic's dtype; a copy where autograd will look back at it."""
    return tensor.clone().to(dtype) if torch.is_grad_enabled() else tensor.to(dtype)

"""Parameters, gradients and trajectories that tests share."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

SHAPES = ((5, 3), (7,), ())

# Tolerances for two ways to compute the same trajectory of up to 100 steps with weights of order one. rtol is
# what the project promises; atol: a weight that passes near 0 keeps the absolute rounding of its updates.
FLOAT64 = {"rtol": 1e-12, "atol": 1e-14}
FLOAT32 = {"rtol": 1e-5, "atol": 1e-6}
FEW_STEPS_FLOAT32 = {"rtol": 1e-6, "atol": 1e-6}  # some roundings of 6e-8


def parameters(
    dtype: torch.dtype = torch.float32, shapes: Sequence[tuple[int, ...]] = SHAPES, seed: int = 0
) -> list[Tensor]:
    """Leaves of order one; the same for the same arguments."""
    return [t.requires_grad_() for t in gradients(1, dtype, shapes, seed)[0]]


def gradients(
    steps: int,
    dtype: torch.dtype = torch.float32,
    shapes: Sequence[tuple[int, ...]] = SHAPES,
    seed: int = 1,
) -> list[list[Tensor]]:
    """For each step one normally distributed gradient for each shape."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.complex128 if dtype.is_complex else torch.float64  # every dtype rounds the same numbers
    return [[torch.randn(s, dtype=draw, generator=generator).to(dtype) for s in shapes] for _ in range(steps)]


def params_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def step(optimizer: torch.optim.Optimizer, grads: Sequence[Tensor | None]) -> None:
    """Take one step with copies of ``grads``, one for each parameter."""
    for param, grad in zip(params_of(optimizer), grads, strict=True):
        param.grad = None if grad is None else grad.clone()
    optimizer.step()


def walk(optimizer: torch.optim.Optimizer, grads: Sequence[Sequence[Tensor | None]]) -> Tensor:
    """Step once for each entry of ``grads``; return the trajectory, one row of all weights a step."""
    rows = []
    for grad in grads:
        step(optimizer, grad)
        rows.append(torch.cat([p.detach().flatten() for p in params_of(optimizer)]))
    return torch.stack(rows)


def tensors_of(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Copies of all parameters and all state, flat, for a comparison bit by bit."""
    params = params_of(optimizer)
    flat = {f"{i}.param": p.detach().clone() for i, p in enumerate(params)}
    for i, p in enumerate(params):
        for key, value in optimizer.state.get(p, {}).items():
            flat[f"{i}.{key}"] = value.detach().clone()
    return flat


def assert_same(actual: Any, expected: Any) -> None:
    """Equal to the last bit, in dtype and shape too; NaN equals NaN."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


def copies(params: Sequence[Tensor]) -> list[Tensor]:
    """Leaves of their own with the values and layout of ``params``."""
    return [p.detach().clone().requires_grad_() for p in params]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Compute step counts and momentum products in ``dtype``."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def through_pickle(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))

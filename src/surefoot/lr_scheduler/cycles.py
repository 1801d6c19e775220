"""Schedulers that go up and down: OneCycleLR and CyclicLR."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch

from surefoot import checks
from surefoot.curves import Curve, Fixed, OneCycle, Triangular
from surefoot.lr_scheduler.hyperparameters import has_momentum, per_group, set_hyperparameter
from surefoot.lr_scheduler.lr import Named, setting
from surefoot.lr_scheduler.targets import Curves, curves_for

__all__ = ["CyclicLR", "OneCycleLR"]


class OneCycleLR(Named):
    """One cycle over a whole run: ``lr`` up and down, momentum down and up. Step it after each batch.

    After ``total_steps`` the last value holds, where torch raises an error.

    Args:
        optimizer: Any torch optimizer.
        max_lr: The peak, or one for each group; ``"groups"`` for the ``lr`` that each has, or the peak that it was
            given by a OneCycleLR before.
        total_steps: Steps of the cycle; else ``epochs * steps_per_epoch``.
        epochs: Passes over the data.
        steps_per_epoch: Batches of a pass.
        pct_start: Share of the steps spent going up, in [0, 1].
        anneal_strategy: ``"cos"`` or ``"linear"``.
        cycle_momentum: Cycle ``momentum``, or ``betas[0]`` where the optimizer has that.
        base_momentum: Momentum at the peak of ``lr``, or one for each group.
        max_momentum: Momentum at both ends, or one for each group.
        div_factor: ``max_lr / div_factor`` is the first ``lr``.
        final_div_factor: The first ``lr`` divided by this is the last.
        three_phase: Come back to the first ``lr`` before going to the last.
        last_epoch: -1 to start.

    Raises:
        ValueError: No total, a setting out of its range, or no momentum to cycle.

    Example:
        >>> import torch, surefoot as optim
        >>> optimizer = optim.AdamW([torch.zeros(1, requires_grad=True)])
        >>> scheduler = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, epochs=10, steps_per_epoch=30)
        >>> scheduler.get_last_lr()
        [0.0004]
        >>> scheduler.curves["lr"].value(scheduler.total_steps)
        4e-08
    """

    total_steps = setting("total_steps", "Steps of the cycle.")

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        max_lr: float | list[float] | Literal["groups"],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: Literal["cos", "linear"] = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("OneCycleLR needs total_steps, or epochs and steps_per_epoch")
            for name, count in (("epochs", epochs), ("steps_per_epoch", steps_per_epoch)):
                if not isinstance(count, int) or count <= 0:
                    raise ValueError(f"{name}={count!r} must be a positive integer")
            total_steps = epochs * steps_per_epoch
        for name, factor in (("div_factor", div_factor), ("final_div_factor", final_div_factor)):
            checks.number(name, factor)
            if not factor > 0:
                raise ValueError(f"{name}={factor!r} must be greater than 0")

        def cycle(start: float, peak: float, end: float) -> Fixed:
            return OneCycle(total_steps, start, peak, end, pct_start, anneal_strategy, three_phase).fixed(1.0)

        def lr_cycle(max_lr: float) -> Fixed:
            checks.finite("max_lr", max_lr)
            start = float(max_lr) / div_factor
            return cycle(start, float(max_lr), start / final_div_factor)

        def momentum_cycle(max_momentum: float, base_momentum: float) -> Fixed:
            checks.finite("max_momentum", max_momentum)
            checks.finite("base_momentum", base_momentum)
            return cycle(max_momentum, base_momentum, max_momentum)

        per_group("max_lr", max_lr, optimizer)
        if max_lr == "groups":
            max_lr = [float(group.get("max_lr", group["lr"])) for group in optimizer.param_groups]
        elif isinstance(max_lr, str):
            raise TypeError(f'max_lr={max_lr!r} is a str: pass a number, a list of numbers or "groups"')
        elif not isinstance(max_lr, list | tuple):
            _warn_of_one_peak(optimizer, max_lr)
        lr = curves_for(optimizer, lr_cycle, max_lr=max_lr)
        momentum = None
        if cycle_momentum:
            momentum = _momentum_curves(optimizer, momentum_cycle, max_momentum, base_momentum)
        for group, peak in zip(optimizer.param_groups, per_group("max_lr", max_lr, optimizer), strict=True):
            curve: Any = lr_cycle(peak).curve  # torch keeps the bounds in the groups, and reads them there
            group.update(initial_lr=curve.start, max_lr=curve.peak, min_lr=curve.end)
        super().__init__(optimizer, lr, momentum, last_epoch)


class CyclicLR(Named):
    """``lr`` up and down between two bounds, over and over. Step it after each batch.

    Args:
        optimizer: Any torch optimizer.
        base_lr: The lower bound, or one for each group.
        max_lr: The upper bound, or one for each group.
        step_size_up: Steps from the lower bound to the upper.
        step_size_down: Steps back; as many as up if None.
        mode: ``"triangular"``, ``"triangular2"`` (half the height each cycle) or ``"exp_range"``
            (``gamma ** step`` times the height).
        gamma: For ``"exp_range"``.
        scale_fn: Factor on the height instead of ``mode``.
        scale_mode: What ``scale_fn`` takes: the ``"cycle"``, counted from 1, or ``"iterations"``.
        cycle_momentum: Cycle ``momentum``, or ``betas[0]`` where the optimizer has that, the other way.
        base_momentum: Momentum at the peak of ``lr``, or one for each group.
        max_momentum: Momentum at its foot, or one for each group.
        last_epoch: -1 to start.

    Raises:
        ValueError: An unknown mode, a setting out of its range, or no momentum to cycle.

    Example:
        >>> import torch, surefoot as optim
        >>> optimizer = optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)
        >>> scheduler = optim.lr_scheduler.CyclicLR(optimizer, base_lr=0.001, max_lr=0.01, step_size_up=2000)
        >>> scheduler.curves["lr"].value(2000)
        0.01
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: float = 2000,
        step_size_down: float | None = None,
        mode: Literal["triangular", "triangular2", "exp_range"] = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: Literal["cycle", "iterations"] = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8,
        max_momentum: float | list[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        checks.positive("step_size_up", step_size_up)
        if step_size_down is not None:
            checks.not_negative("step_size_down", step_size_down)
        if scale_fn is not None:
            checks.function("scale_fn", scale_fn)
            mode = "triangular"  # as in torch, it is not looked at

        def wave(low: float, high: float) -> Fixed:
            up, down = step_size_up, step_size_down
            return Triangular(low, high, up, down, mode, gamma, scale_fn, scale_mode).fixed(1.0)

        def lr_wave(base_lr: float, max_lr: float) -> Fixed:
            checks.finite("base_lr", base_lr)
            checks.finite("max_lr", max_lr)
            return wave(float(base_lr), float(max_lr))

        def momentum_wave(max_momentum: float, base_momentum: float) -> Fixed:
            checks.finite("max_momentum", max_momentum)
            checks.finite("base_momentum", base_momentum)
            return wave(max_momentum, base_momentum)

        lr = curves_for(optimizer, lr_wave, base_lr=base_lr, max_lr=max_lr)
        momentum = None
        if cycle_momentum:
            momentum = _momentum_curves(optimizer, momentum_wave, max_momentum, base_momentum)
        if last_epoch == -1:
            for group, low in zip(
                optimizer.param_groups, per_group("base_lr", base_lr, optimizer), strict=True
            ):
                set_hyperparameter(group, "lr", float(low))
        super().__init__(optimizer, lr, momentum, last_epoch)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_scale_fn_custom": None}  # as torch expects


def _warn_of_one_peak(optimizer: torch.optim.Optimizer, max_lr: Any) -> None:
    lrs = [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]
    if len(set(lrs)) > 1:
        warnings.warn(
            f"max_lr={max_lr} is the peak of all groups, though their lr differs ({', '.join(f'{lr:g}' for lr in lrs)}): "
            'pass max_lr="groups" for peaks at these, or a list',
            UserWarning,
            stacklevel=3,
        )


def _momentum_curves(
    optimizer: torch.optim.Optimizer, build: Callable[..., Curve], max_momentum: Any, base_momentum: Any
) -> Curves:
    groups = optimizer.param_groups
    if not has_momentum(optimizer):
        raise ValueError(
            f"{type(optimizer).__name__} has neither momentum nor betas to cycle: pass cycle_momentum=False"
        )
    bounds = {"max_momentum": max_momentum, "base_momentum": base_momentum}
    curves = curves_for(optimizer, build, **bounds)
    for name, values in bounds.items():
        for group, value in zip(groups, per_group(name, values, optimizer), strict=True):
            group[name] = value  # as torch keeps them
    return curves

"""torch's scheduler names, as thin constructors over curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from types import FunctionType
from typing import Any, Literal

import torch

from surefoot import checks
from surefoot.curves import Cosine, Curve, Exponential, Function, OneCycle, Step, Triangular, level
from surefoot.lr_scheduler.base import (
    Curves,
    Scheduler,
    curves_for,
    has_momentum,
    per_group,
    set_hyperparameter,
)

__all__ = ["CosineAnnealingLR", "CyclicLR", "ExponentialLR", "LambdaLR", "OneCycleLR", "StepLR"]


def _from_curve(name: str, doc: str) -> Any:
    """A setting, read from the curve; a curve does not change, so neither can the setting."""

    def get(self: Scheduler) -> Any:
        curves = self.curves["lr"]
        return getattr(curves if isinstance(curves, Curve) else curves[0], name)

    return property(get, doc=doc)


class LambdaLR(Scheduler):
    """``lr`` is its base times a function of the step; warmup is written this way.

    Args:
        optimizer: Any torch optimizer.
        lr_lambda: Takes the step (an int), returns the factor; or a list with one for each group.
        last_epoch: -1 to start.

    Raises:
        TypeError: ``lr_lambda`` is not a function.
        ValueError: As many functions as groups are needed; a factor is not a finite number.

    Example:
        >>> import torch, surefoot as optim
        >>> optimizer = optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        >>> warmup = optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: min(1.0, epoch / 5))
        >>> warmup.get_last_lr()
        [0.0]
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        def curve(lr_lambda: Callable[[float], float]) -> Function:
            checks.function("lr_lambda", lr_lambda)
            return Function(lr_lambda)

        super().__init__(optimizer, curves_for(optimizer, curve, lr_lambda=lr_lambda), last_epoch=last_epoch)

    @property
    def lr_lambdas(self) -> list[Callable[[float], float]]:
        """The function of each group."""
        return [curve.factor for curve in self.group_curves("lr") if isinstance(curve, Function)]

    def state_dict(self) -> dict[str, Any]:
        """As of every scheduler; what a callable object holds is kept too, as torch keeps it, functions are not."""
        held = [
            None if isinstance(f, FunctionType) else getattr(f, "__dict__", None) for f in self.lr_lambdas
        ]
        objects = [None if attributes is None else dict(attributes) for attributes in held]
        return {**super().state_dict(), "lr_lambdas": objects}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for function, attributes in zip(self.lr_lambdas, state_dict.get("lr_lambdas", ()), strict=False):
            if attributes is not None:
                vars(function).update(attributes)
        super().load_state_dict(state_dict)


class StepLR(Scheduler):
    """A staircase: ``lr`` times ``gamma`` every ``step_size`` steps.

    Args:
        optimizer: Any torch optimizer.
        step_size: Steps between two drops, positive.
        gamma: Factor of each drop.
        last_epoch: -1 to start.

    Raises:
        ValueError: ``step_size`` is not positive, ``gamma`` not finite.

    Example:
        >>> import torch, surefoot as optim
        >>> optimizer = optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        >>> scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.1)
        >>> [scheduler.curves["lr"].value(epoch, base=0.1) for epoch in (0, 9, 10)]
        [0.1, 0.1, 0.010000000000000002]
    """

    step_size = _from_curve("step_size", "Steps between two drops.")
    gamma = _from_curve("gamma", "Factor of each drop.")

    def __init__(
        self, optimizer: torch.optim.Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        super().__init__(optimizer, Step(step_size, gamma), last_epoch=last_epoch)


class ExponentialLR(Scheduler):
    """``lr`` times ``gamma`` every step.

    Args:
        optimizer: Any torch optimizer.
        gamma: Factor of each step.
        last_epoch: -1 to start.

    Raises:
        ValueError: ``gamma`` is not finite.

    Example:
        >>> import torch, surefoot as optim
        >>> optimizer = optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> scheduler = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        >>> scheduler.curves["lr"].values(3)
        [1.0, 0.5, 0.25]
    """

    gamma = _from_curve("gamma", "Factor of each step.")

    def __init__(self, optimizer: torch.optim.Optimizer, gamma: float, last_epoch: int = -1) -> None:
        super().__init__(optimizer, Exponential(gamma), last_epoch=last_epoch)


class CosineAnnealingLR(Scheduler):
    """``lr`` follows a cosine down to ``eta_min`` in ``T_max`` steps, and on as a wave.

    Args:
        optimizer: Any torch optimizer.
        T_max: Steps of half a wave, positive.
        eta_min: The lowest ``lr``.
        last_epoch: -1 to start.

    Raises:
        ValueError: ``T_max`` is not positive, ``eta_min`` not finite.

    Example:
        >>> import torch, surefoot as optim
        >>> optimizer = optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        >>> scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=1e-6)
        >>> scheduler.curves["lr"].value(50, base=0.1)
        1e-06
    """

    T_max = _from_curve("T_max", "Steps of half a wave.")
    eta_min = _from_curve("eta_min", "The lowest lr.")

    def __init__(
        self, optimizer: torch.optim.Optimizer, T_max: float, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        super().__init__(optimizer, Cosine(T_max, eta_min), last_epoch=last_epoch)


class OneCycleLR(Scheduler):
    """One cycle over a whole run: ``lr`` up and down, momentum down and up. Step it after each batch.

    After ``total_steps`` the last value holds, where torch raises an error.

    Args:
        optimizer: Any torch optimizer.
        max_lr: The peak, or one for each group.
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

    total_steps = _from_curve("total_steps", "Steps of the cycle.")

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        max_lr: float | list[float],
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

        def cycle(start: float, peak: float, end: float) -> OneCycle:
            return OneCycle(total_steps, start, peak, end, pct_start, anneal_strategy, three_phase)

        def lr_cycle(max_lr: float) -> OneCycle:
            checks.finite("max_lr", max_lr)
            start = float(max_lr) / div_factor
            return cycle(start, float(max_lr), start / final_div_factor)

        def momentum_cycle(max_momentum: float, base_momentum: float) -> OneCycle:
            checks.finite("max_momentum", max_momentum)
            checks.finite("base_momentum", base_momentum)
            return cycle(max_momentum, base_momentum, max_momentum)

        lr = curves_for(optimizer, lr_cycle, max_lr=max_lr)
        momentum = None
        if cycle_momentum:
            momentum = _momentum_curves(optimizer, momentum_cycle, max_momentum, base_momentum)
        for group, peak in zip(optimizer.param_groups, per_group("max_lr", max_lr, optimizer), strict=True):
            curve = lr_cycle(peak)  # torch keeps the bounds in the groups, and reads them there
            group.update(initial_lr=curve.start, max_lr=curve.peak, min_lr=curve.end)
        super().__init__(optimizer, lr, momentum, last_epoch)


class CyclicLR(Scheduler):
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
        if scale_fn is None:
            scale_fn, scale_mode = _cyclic_scale(mode, gamma)
        checks.function("scale_fn", scale_fn)
        checks.positive("step_size_up", step_size_up)
        if step_size_down is not None:
            checks.not_negative("step_size_down", step_size_down)
        shape = (
            step_size_up,
            step_size_up if step_size_down is None else step_size_down,
            scale_fn,
            scale_mode,
        )

        def lr_wave(base_lr: float, max_lr: float) -> Triangular:
            checks.finite("base_lr", base_lr)
            checks.finite("max_lr", max_lr)
            return Triangular(float(base_lr), float(max_lr), *shape)

        def momentum_wave(max_momentum: float, base_momentum: float) -> Triangular:
            checks.finite("max_momentum", max_momentum)
            checks.finite("base_momentum", base_momentum)
            return Triangular(max_momentum, base_momentum, *shape)

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


def _halving(cycle: float) -> float:
    return math.ldexp(1.0, 1 - int(cycle))


def _cyclic_scale(mode: str, gamma: float) -> tuple[Callable[[float], float], Literal["cycle", "iterations"]]:
    if mode == "triangular":
        return level, "cycle"
    if mode == "triangular2":
        return _halving, "cycle"
    if mode == "exp_range":
        checks.finite("gamma", gamma)
        return partial(pow, gamma), "iterations"
    raise ValueError(f"mode={mode!r} must be 'triangular', 'triangular2' or 'exp_range', or pass scale_fn")


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

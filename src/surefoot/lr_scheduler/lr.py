"""torch's scheduler names, as thin constructors over curves."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import torch

from surefoot import checks
from surefoot.curves import (
    Constant,
    CosineWave,
    Cumulative,
    Curve,
    Exponential,
    Fixed,
    Function,
    MultiStep,
    Ramp,
    Restarts,
    Step,
    Then,
)
from surefoot.lr_scheduler.base import Scheduler
from surefoot.lr_scheduler.targets import Curves, curves_for

__all__ = [
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "ExponentialLR",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "Named",
    "PolynomialLR",
    "StepLR",
    "setting",
]


class Named(Scheduler):
    """A scheduler under one of torch's names: each call of ``step`` counts."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        lr: Curves,
        momentum: Curves | None = None,
        last_epoch: int = -1,
    ) -> None:
        super().__init__(optimizer, lr, momentum, last_epoch, per="epoch")

    def _first(self) -> Any:
        curves = self.curves["lr"]
        curve = curves if isinstance(curves, Curve) else curves[0]
        while isinstance(curve, Fixed | Then):
            curve = curve.curve if isinstance(curve, Fixed) else curve.curves[0]
        return curve


def setting(name: str, doc: str) -> Any:
    """A setting, read from the curve; a curve does not change, so neither can the setting."""
    return property(lambda self: getattr(self._first(), name), doc=doc)


class _OfFunctions(Named):
    """What LambdaLR and MultiplicativeLR share."""

    _kind: Callable[..., Curve]

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        def curve(lr_lambda: Callable[[float], float]) -> Curve:
            checks.function("lr_lambda", lr_lambda)
            return type(self)._kind(lr_lambda)

        super().__init__(optimizer, curves_for(optimizer, curve, lr_lambda=lr_lambda), last_epoch=last_epoch)

    @property
    def lr_lambdas(self) -> list[Callable[..., float]]:
        """The function of each group."""
        return [curve.factor for curve in self.group_curves("lr") if isinstance(curve, Function | Cumulative)]

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


class LambdaLR(_OfFunctions):
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

    _kind = Function


class MultiplicativeLR(_OfFunctions):
    """``lr`` is multiplied at each step by a function of it: its base times the product of all so far.

    Args:
        optimizer: Any torch optimizer.
        lr_lambda: Takes the step (an int, from 1), returns the factor; or a list with one for each group.
        last_epoch: -1 to start.

    Raises:
        TypeError: ``lr_lambda`` is not a function.
        ValueError: As many functions as groups are needed; a factor is not a finite number.

    Example:
        >>> import torch, surefoot as optim
        >>> optimizer = optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> scheduler = optim.lr_scheduler.MultiplicativeLR(optimizer, lambda epoch: 0.5)
        >>> scheduler.values(3)["lr"]["0"]
        [1.0, 0.5, 0.25]
    """

    _kind = Cumulative


class StepLR(Named):
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

    step_size = setting("step_size", "Steps between two drops.")
    gamma = setting("gamma", "Factor of each drop.")

    def __init__(
        self, optimizer: torch.optim.Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        super().__init__(optimizer, Step(step_size, gamma), last_epoch=last_epoch)


class MultiStepLR(Named):
    """``lr`` times ``gamma`` at each milestone.

    Args:
        optimizer: Any torch optimizer.
        milestones: Steps of the drops, not falling; one that comes twice drops twice.
        gamma: Factor of each drop.
        last_epoch: -1 to start.

    Raises:
        ValueError: The milestones fall, or one is negative; ``gamma`` is not finite.

    Example:
        >>> import torch, surefoot as optim
        >>> optimizer = optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> scheduler = optim.lr_scheduler.MultiStepLR(optimizer, milestones=[2, 3], gamma=0.5)
        >>> scheduler.values(5)["lr"]["0"]
        [1.0, 1.0, 0.5, 0.25, 0.25]
    """

    gamma = setting("gamma", "Factor of each drop.")

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        milestones: Sequence[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        super().__init__(optimizer, MultiStep(milestones, gamma), last_epoch=last_epoch)  # type: ignore[arg-type]

    @property
    def milestones(self) -> Counter[float]:
        """How often each comes, as torch keeps them."""
        return Counter(self._first().milestones)


class ConstantLR(Named):
    """``lr`` times ``factor`` for ``total_iters`` steps, then ``lr`` itself.

    Args:
        optimizer: Any torch optimizer.
        factor: Any finite number; torch's must be in [0, 1].
        total_iters: Steps at ``factor``, at least 0.
        last_epoch: -1 to start.

    Raises:
        ValueError: ``factor`` is not finite, ``total_iters`` is negative.

    Example:
        >>> import torch, surefoot as optim
        >>> optimizer = optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> scheduler = optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=2)
        >>> scheduler.values(4)["lr"]["0"]
        [0.5, 0.5, 1.0, 1.0]
    """

    factor = setting("factor", "Factor of the first steps.")
    total_iters = setting("steps", "How many they are.")

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        factor: float = 1.0 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        checks.finite("factor", factor)
        checks.not_negative("total_iters", total_iters)
        super().__init__(optimizer, Constant(total_iters, factor) >> Constant(), last_epoch=last_epoch)


class LinearLR(Named):
    """``lr`` goes on a line from ``start_factor`` to ``end_factor`` of itself in ``total_iters`` steps.

    Args:
        optimizer: Any torch optimizer.
        start_factor: Any finite number, 0 too (https://github.com/pytorch/pytorch/issues/86454).
        end_factor: Any finite number.
        total_iters: Steps it takes, at least 0.
        last_epoch: -1 to start.

    Raises:
        ValueError: A factor is not finite, ``total_iters`` is negative.

    Example:
        >>> import torch, surefoot as optim
        >>> optimizer = optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> scheduler = optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=2)
        >>> scheduler.values(4)["lr"]["0"]
        [0.5, 0.75, 1.0, 1.0]
    """

    start_factor = setting("start", "Factor at step 0.")
    end_factor = setting("end", "Factor at the end.")
    total_iters = setting("steps", "Steps it takes.")

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        checks.finite("start_factor", start_factor)
        checks.finite("end_factor", end_factor)
        checks.not_negative("total_iters", total_iters)
        super().__init__(optimizer, Ramp(total_iters, start_factor, end_factor), last_epoch=last_epoch)


class ExponentialLR(Named):
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
        >>> scheduler.values(3)["lr"]["0"]
        [1.0, 0.5, 0.25]
    """

    gamma = setting("gamma", "Factor of each step.")

    def __init__(self, optimizer: torch.optim.Optimizer, gamma: float, last_epoch: int = -1) -> None:
        super().__init__(optimizer, Exponential(gamma), last_epoch=last_epoch)


class PolynomialLR(Named):
    """``lr`` goes down to 0 as ``(1 - step / total_iters) ** power``.

    Args:
        optimizer: Any torch optimizer.
        total_iters: Steps it takes, at least 0.
        power: Positive.
        last_epoch: -1 to start.

    Raises:
        ValueError: ``total_iters`` is negative, ``power`` not positive.

    Example:
        >>> import torch, surefoot as optim
        >>> optimizer = optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> scheduler = optim.lr_scheduler.PolynomialLR(optimizer, total_iters=4, power=2.0)
        >>> scheduler.values(6)["lr"]["0"]
        [1.0, 0.5625, 0.25, 0.0625, 0.0, 0.0]
    """

    total_iters = setting("steps", "Steps it takes.")
    power = setting("power", "Of the polynomial.")

    def __init__(
        self, optimizer: torch.optim.Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1
    ) -> None:
        checks.not_negative("total_iters", total_iters)
        super().__init__(optimizer, Ramp(total_iters, 1.0, 0.0, "polynomial", power), last_epoch=last_epoch)


class CosineAnnealingLR(Named):
    """``lr`` follows a cosine down to ``eta_min`` in ``T_max`` steps, and on as a wave: after ``T_max`` it goes up again.

    That is torch's, and is said once when it happens: ``Scheduler(optimizer, lr=cosine(T_max))`` stays down.

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

    T_max = setting("T_max", "Steps of half a wave.")
    eta_min = setting("eta_min", "The lowest lr.")

    def __init__(
        self, optimizer: torch.optim.Optimizer, T_max: float, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        super().__init__(optimizer, CosineWave(T_max, eta_min), last_epoch=last_epoch)

    def _end(self) -> float:
        return float(self.T_max)

    def _after_end(self) -> str:
        return (
            f"lr goes up again until step {2 * self.T_max:g}, and down, as a wave; curves.cosine stays down"
        )


class CosineAnnealingWarmRestarts(Named):
    """``lr`` follows a cosine down to ``eta_min``, starts again, and takes ``T_mult`` times as long each time.

    ``step(epoch)`` goes to a step, which may be fractional, as in ``epoch + batch / batches``.

    Args:
        optimizer: Any torch optimizer.
        T_0: Steps of the first cosine, positive.
        T_mult: At least 1; fractions too.
        eta_min: The lowest ``lr``.
        last_epoch: -1 to start.
        resolution: With 1 the last whole step of each cosine is at ``eta_min``; with 0, torch's, it is just above
            (https://github.com/pytorch/pytorch/issues/49630).

    Raises:
        ValueError: A setting is out of its range.

    Example:
        >>> import torch, surefoot as optim
        >>> optimizer = optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> scheduler = optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=2)
        >>> [round(lr, 3) for lr in scheduler.values(4)["lr"]["0"]]
        [1.0, 0.5, 1.0, 0.5]
    """

    T_0 = setting("T_0", "Steps of the first cosine.")
    T_mult = setting("T_mult", "How much longer each is.")
    eta_min = setting("eta_min", "The lowest lr.")

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        T_0: float,
        T_mult: float = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
        *,
        resolution: float = 0.0,
    ) -> None:
        self._fraction = 0.0
        curve = Restarts(T_0, T_mult, eta_min=eta_min, resolution=resolution)
        super().__init__(optimizer, curve, last_epoch=last_epoch)

    @property
    def T_cur(self) -> float:
        """Steps since the last restart."""
        return self._first().place(max(self._position(), 0))[1]  # type: ignore[no-any-return]

    @property
    def T_i(self) -> float:
        """Steps from the last restart to the next."""
        return self._first().place(max(self._position(), 0))[2]  # type: ignore[no-any-return]

    def _go_to(self, epoch: float) -> None:
        checks.not_negative("epoch", epoch)
        self._fraction = epoch - math.floor(epoch)
        self._step_count += 1
        self._update_lr(math.floor(epoch))

    def _position(self) -> float:
        return self.last_epoch + self._fraction

    def state_dict(self) -> dict[str, Any]:
        torchs = {name: getattr(self, name) for name in ("T_0", "T_mult", "eta_min", "T_cur", "T_i")}
        return {**super().state_dict(), **torchs, "_fraction": self._fraction}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        known = state_dict.get("_fraction")
        if known is None:  # torch's: what its place in the cosine is beyond that of the whole step
            known = state_dict.get("T_cur", 0.0) - self._first().place(max(state_dict["last_epoch"], 0))[1]
        self._fraction = known if 0 <= known < 1 else 0.0
        super().load_state_dict(state_dict)

    def set(self, step: int) -> None:
        self._fraction = 0.0
        super().set(step)

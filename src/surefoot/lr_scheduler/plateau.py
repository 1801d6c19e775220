"""Lower the learning rate when a metric stops improving."""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal, SupportsFloat

import torch
from torch.optim.lr_scheduler import EPOCH_DEPRECATION_WARNING

from surefoot import checks
from surefoot.lr_scheduler.base import per_group, plain, set_hyperparameter

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau(torch.optim.lr_scheduler.ReduceLROnPlateau):
    """Multiplies ``lr`` by ``factor`` after more than ``patience`` steps without a better metric.

    Args:
        optimizer: Any torch optimizer.
        mode: ``"min"`` if lower is better, ``"max"`` if higher is.
        factor: In (0, 1).
        patience: Steps without improvement that are borne; the next one cuts.
        threshold: How much better counts: a share of the best, or a difference.
        threshold_mode: ``"rel"`` or ``"abs"``.
        cooldown: Steps after a cut in which nothing is counted.
        min_lr: ``lr`` never falls below, or one for each group.
        eps: Cuts smaller than this are not made.
        verbose: Print a line when ``lr`` is cut.

    Raises:
        ValueError: A setting is out of its range.

    Example:
        >>> import torch, surefoot as optim
        >>> optimizer = optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        >>> scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, verbose=True)
        >>> for val_loss in (1.0, 1.0, 1.0):
        ...     scheduler.step(val_loss)
        Step 3: no better than 1 for 2 steps, lr of group 0 cut from 0.1 to 0.05
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        mode: Literal["min", "max"] = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: Literal["rel", "abs"] = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0,
        eps: float = 1e-8,
        verbose: bool = False,
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"mode={mode!r} must be 'min' (lower is better) or 'max'")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"threshold_mode={threshold_mode!r} must be 'rel' or 'abs'")
        checks.number("factor", factor)
        if not 0 < factor < 1:
            raise ValueError(f"factor={factor!r} must be in (0, 1): it multiplies lr")
        counts = {"patience": patience, "cooldown": cooldown, "threshold": threshold, "eps": eps}
        for name, value in counts.items():
            checks.not_negative(name, value)
        self.optimizer = optimizer
        self.default_min_lr = None if isinstance(min_lr, list | tuple) else min_lr
        self.min_lrs = per_group("min_lr", min_lr, optimizer)
        for lowest in self.min_lrs:
            checks.finite("min_lr", lowest)
        self.mode, self.factor, self.patience, self.cooldown = mode, factor, patience, cooldown
        self.threshold, self.threshold_mode, self.eps, self.verbose = threshold, threshold_mode, eps, verbose
        self.mode_worse = math.inf if mode == "min" else -math.inf
        self.best = self.mode_worse
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0
        self._last_lr = [plain(group["lr"]) for group in optimizer.param_groups]

    def step(self, metrics: SupportsFloat | None = None, epoch: int | None = None) -> None:  # type: ignore[override]
        """Look at the metric of one more step; cut ``lr`` if it is time.

        Args:
            metrics: The value watched, a number or a 1-element tensor. NaN is never better.
            epoch: Deprecated, as in torch.

        Raises:
            TypeError: ``metrics`` is missing.
        """
        if metrics is None:
            raise TypeError("ReduceLROnPlateau.step() needs the metric it watches: scheduler.step(val_loss)")
        if epoch is not None:
            warnings.warn(EPOCH_DEPRECATION_WARNING, UserWarning, stacklevel=2)
        current = float(metrics.detach() if isinstance(metrics, torch.Tensor) else metrics)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._is_better(current, self.best):
            self.best = current
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce_lr(self.last_epoch)
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = [plain(group["lr"]) for group in self.optimizer.param_groups]

    def _is_better(self, current: float, best: float) -> bool:
        sign = 1.0 if self.mode == "min" else -1.0
        if self.threshold_mode == "rel":
            return bool(sign * current < sign * best * (1 - sign * self.threshold))
        return bool(sign * current < sign * best - self.threshold)

    def _reduce_lr(self, epoch: int) -> None:
        groups = self.optimizer.param_groups
        if len(self.min_lrs) != len(groups) and self.default_min_lr is not None:
            self.min_lrs = [self.default_min_lr] * len(groups)
        if len(self.min_lrs) != len(groups):
            raise RuntimeError(
                f"min_lr has {len(self.min_lrs)} values, but the optimizer has {len(groups)} groups now: "
                "set scheduler.min_lrs to one value for each"
            )
        for i, (group, lowest) in enumerate(zip(groups, self.min_lrs, strict=True)):
            old = float(group["lr"])
            new = max(old * self.factor, lowest)
            if old - new <= self.eps:
                continue
            set_hyperparameter(group, "lr", new)
            if self.verbose:
                print(  # noqa: T201 - what verbose asks for
                    f"Step {epoch}: no better than {self.best:.6g} for {self.num_bad_epochs} steps, "
                    f"lr of group {i} cut from {old:.6g} to {new:.6g}"
                )

    def state_dict(self) -> dict[str, Any]:
        """Settings and where the scheduler is: numbers, strings and lists of numbers only."""
        lists = {"min_lrs": list(self.min_lrs), "_last_lr": [float(lr) for lr in self._last_lr]}
        return {**super().state_dict(), **lists}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to where a :meth:`state_dict`, ours or torch's, was; ``lr`` itself is in the optimizer's."""
        self.__dict__.update({**state_dict, "min_lrs": list(state_dict["min_lrs"])})

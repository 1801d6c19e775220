"""Lower the learning rate when a metric stops improving."""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal, SupportsFloat

import torch
from torch.optim.lr_scheduler import EPOCH_DEPRECATION_WARNING

from surefoot import checks
from surefoot.lr_scheduler.hyperparameters import per_group, plain, set_hyperparameter

__all__ = ["Plateau", "ReduceLROnPlateau"]

Mode = Literal["min", "max"]
ThresholdMode = Literal["rel", "abs"]


SEEN = ("best", "cooldown_counter", "cuts", "last_epoch", "num_bad_epochs", "recent")


class _Watch:
    """Watches a metric: how long has it not got better?"""

    def __init__(
        self,
        mode: Mode,
        factor: float,
        patience: int,
        threshold: float,
        threshold_mode: ThresholdMode,
        cooldown: int,
        window: int | None,
        compat: Literal["torch"] | None,
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"mode={mode!r} must be 'min' (lower is better) or 'max'")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"threshold_mode={threshold_mode!r} must be 'rel' or 'abs'")
        if compat not in (None, "torch"):
            raise ValueError(f"compat={compat!r} must be None or 'torch'")
        checks.number("factor", factor)
        if not 0 < factor < 1:
            raise ValueError(f"factor={factor!r} must be in (0, 1): it multiplies lr")
        for name, value in {"patience": patience, "cooldown": cooldown, "threshold": threshold}.items():
            checks.not_negative(name, value)
        self.mode, self.factor, self.patience, self.cooldown = mode, factor, patience, cooldown
        self.threshold, self.threshold_mode, self.compat = threshold, threshold_mode, compat
        self.window = None if window is None else checks.whole("window", window, 1)
        self.mode_worse = math.inf if mode == "min" else -math.inf
        self.best = self.mode_worse
        self.recent: list[float | None] = []
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0

    def _time_to_cut(self, metric: SupportsFloat) -> bool:
        """Look at one more metric. NaN is never better."""
        current = float(metric.detach() if isinstance(metric, torch.Tensor) else metric)
        if self._is_better(current, self.best):
            self.best = current
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.window is not None:  # the best of the last ones: an old lucky one is forgotten
            self.recent = [*self.recent, None if math.isnan(current) else current][-self.window :]
            seen = [value for value in self.recent if value is not None]
            self.best = (min if self.mode == "min" else max)(seen, default=self.mode_worse)
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        cut = self.num_bad_epochs > self.patience
        if cut:
            self.cooldown_counter = self.cooldown
        return cut

    @property
    def in_cooldown(self) -> bool:
        """Whether bad metrics are not counted, after a cut."""
        return self.cooldown_counter > 0

    def _is_better(self, current: float, best: float) -> bool:
        sign = 1.0 if self.mode == "min" else -1.0
        if self.threshold_mode == "abs" or (math.isinf(best) and self.compat is None):
            return bool(sign * current < sign * best - self.threshold)
        threshold = self.threshold if best >= 0 or self.compat == "torch" else -self.threshold
        return bool(sign * current < sign * best * (1 - sign * threshold))


def _json(number: float | None) -> float | str | None:
    """JSON has no infinity."""
    return str(number) if number is not None and math.isinf(number) else number


class Plateau(_Watch):
    """A factor on ``lr`` that shrinks when a metric stops improving, over whatever curve there is.

    Pass it to :class:`~surefoot.lr_scheduler.Scheduler` and show the scheduler the metric: the curve, a warmup
    for example, goes on by updates, the cuts come by metrics.

    Args:
        mode: ``"min"`` if lower is better, ``"max"`` if higher is.
        factor: Of each cut, in (0, 1).
        patience: Metrics without improvement that are borne; the next one cuts.
        threshold: How much better counts: a share of the best's absolute value, or a difference.
        threshold_mode: ``"rel"`` or ``"abs"``.
        cooldown: Metrics after a cut that are not counted.
        min_lr: ``lr`` is not cut below.
        window: Compare with the best of the last so many metrics, not of all.

    Raises:
        ValueError: A setting is out of its range.

    Example:
        >>> import torch, surefoot
        >>> from surefoot.curves import constant, warmup
        >>> optimizer = surefoot.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        >>> plateau = surefoot.lr_scheduler.Plateau(factor=0.5, patience=1)
        >>> scheduler = surefoot.Scheduler(optimizer, lr=warmup(500) >> constant(), plateau=plateau)
        >>> scheduler.set(500)
        >>> for val_loss in (1.0, 1.0, 1.0):
        ...     scheduler.observe(val_loss)
        >>> scheduler.get_last_lr()
        [0.05]
    """

    def __init__(
        self,
        mode: Mode = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: ThresholdMode = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        window: int | None = None,
    ) -> None:
        super().__init__(mode, factor, patience, threshold, threshold_mode, cooldown, window, None)
        checks.not_negative("min_lr", min_lr)
        self.min_lr, self.cuts = min_lr, 0

    def observe(self, metric: SupportsFloat) -> None:
        """Look at one more metric, a number or a 1-element tensor."""
        self.last_epoch += 1
        if self._time_to_cut(metric):
            self.cuts += 1
            self.num_bad_epochs = 0

    def apply(self, lr: float) -> float:
        """``lr`` with the cuts that were made."""
        return min(lr, max(lr * self.factor**self.cuts, self.min_lr))

    def state_dict(self) -> dict[str, Any]:
        """What was seen, in JSON's types; the settings are yours to give again."""
        seen = {name: getattr(self, name) for name in SEEN}
        return {**seen, "best": _json(self.best), "recent": [_json(value) for value in self.recent]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to where a :meth:`state_dict` was."""
        if missing := {*SEEN} - state_dict.keys():
            raise ValueError(f"the state has no {sorted(missing)}: it is not that of a Plateau")
        self.__dict__.update({name: state_dict[name] for name in SEEN})
        self.best = float(self.best)
        self.recent = [None if value is None else float(value) for value in self.recent]


class ReduceLROnPlateau(_Watch, torch.optim.lr_scheduler.ReduceLROnPlateau):
    """Multiplies ``lr`` by ``factor`` after more than ``patience`` steps without a better metric.

    For cuts on top of a schedule, a warmup for example, see :class:`Plateau`.

    Args:
        optimizer: Any torch optimizer.
        mode: ``"min"`` if lower is better, ``"max"`` if higher is.
        factor: In (0, 1).
        patience: Steps without improvement that are borne; the next one cuts.
        threshold: How much better counts: a share of the best's absolute value, or a difference.
        threshold_mode: ``"rel"`` or ``"abs"``.
        cooldown: Steps after a cut in which nothing is counted.
        min_lr: ``lr`` never falls below, or one for each group.
        eps: Cuts smaller than this are not made.
        verbose: Print a line when ``lr`` is cut.
        window: Compare with the best of the last so many metrics, not of all.
        compat: ``"torch"``: a share of the best itself, so that a little worse is better where the best is negative
            (https://github.com/pytorch/pytorch/issues/47513).

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
        mode: Mode = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: ThresholdMode = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0,
        eps: float = 1e-8,
        verbose: bool = False,
        *,
        window: int | None = None,
        compat: Literal["torch"] | None = None,
    ) -> None:
        super().__init__(mode, factor, patience, threshold, threshold_mode, cooldown, window, compat)
        checks.not_negative("eps", eps)
        self.optimizer, self.eps, self.verbose = optimizer, eps, verbose
        self.default_min_lr = None if isinstance(min_lr, list | tuple) else min_lr
        self.min_lrs = per_group("min_lr", min_lr, optimizer)
        for lowest in self.min_lrs:
            checks.finite("min_lr", lowest)
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
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._time_to_cut(metrics):
            self._reduce_lr(self.last_epoch)
            self.num_bad_epochs = 0
        self._last_lr = [plain(group["lr"]) for group in self.optimizer.param_groups]

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

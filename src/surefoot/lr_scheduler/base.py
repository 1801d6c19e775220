"""The scheduler: one counter that sets hyperparameters of an optimizer by curves."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import EPOCH_DEPRECATION_WARNING, LRScheduler

from surefoot.curves import Curve

__all__ = ["Curves", "Scheduler", "curves_for", "has_momentum", "per_group", "plain", "set_hyperparameter"]

Curves = Curve | Sequence[Curve]


class Scheduler(LRScheduler):
    """Sets hyperparameters of every group to curves of one counter.

    ``lr`` after ``n`` steps is ``curve.value(n, base)``, whatever happened before: nothing is
    accumulated, so building, loading and resuming in any order give the same values. The base is
    the ``lr`` the group was built with, kept as torch does under ``initial_lr``.

    Args:
        optimizer: Any :class:`torch.optim.Optimizer`, Surefoot's or torch's. Nothing of it is patched.
        lr: A curve for all groups, or one for each.
        momentum: The same for ``momentum``, or ``betas[0]`` where the group has that; its base is 1.
        last_epoch: -1 to start; ``n`` to be at step ``n + 1``, as in torch.

    Raises:
        TypeError: ``optimizer`` is not one, or a curve is not.
        ValueError: A group has no momentum to set.
        RuntimeError: The number of curves is not the number of groups.
    """

    base_lrs: list[float]  # type: ignore[assignment]
    _warned = False

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        lr: Curves,
        momentum: Curves | None = None,
        last_epoch: int = -1,
    ) -> None:
        _require_optimizer(optimizer)
        self.optimizer = optimizer
        self.curves = {"lr": lr} if momentum is None else {"lr": lr, "momentum": momentum}
        _check_curves(optimizer, self.curves)
        self.base_lrs = [
            float(group.setdefault("initial_lr", plain(group["lr"]))) for group in optimizer.param_groups
        ]
        self.last_epoch = last_epoch
        _watch_steps(optimizer)
        self._initial_step()

    def _initial_step(self) -> None:
        self._step_count = 1
        self._update_lr()

    def step(self, epoch: int | None = None) -> None:
        """Advance by one and set the values; call it after ``optimizer.step()``.

        Args:
            epoch: Deprecated, as in torch: the count to go to instead.
        """
        if epoch is not None:
            warnings.warn(EPOCH_DEPRECATION_WARNING, UserWarning, stacklevel=2)
        elif self._step_count == 1 and not getattr(self.optimizer, "_opt_called", False):
            warnings.warn(
                "Detected call of `lr_scheduler.step()` before `optimizer.step()`: the first value of "
                "the schedule is skipped. Call them in the opposite order.",
                UserWarning,
                stacklevel=2,
            )
        if epoch is None and not self._warned and self._edited():
            self._warned = (
                True  # the rates in the text differ each time, so that Python would not see the repeat
            )
            warnings.warn(
                f"lr is {[float(lr) for lr in self._group_lrs()]}, {type(self).__name__} had set "
                f"{[float(lr) for lr in self._last_lr]}: the edit is lost, because lr is a function of the step. Build "
                "the scheduler with the lr you want; for two schedulers at once write their product as one LambdaLR.",
                UserWarning,
                stacklevel=2,
            )
        self._step_count += 1
        self._update_lr(epoch)

    def _update_lr(self, epoch: int | None = None) -> None:
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._write()

    def _write(self) -> None:
        for name in self.curves:
            for group, value in zip(self.optimizer.param_groups, self._values(name), strict=True):
                set_hyperparameter(group, name, value)
        self._last_lr = self._group_lrs()

    def _group_lrs(self) -> list[float | Tensor]:
        return [plain(group["lr"]) for group in self.optimizer.param_groups]

    def _edited(self) -> bool:
        """Whether someone else set an lr since this scheduler did; torch's own steps round a little differently."""
        pairs = zip(self._group_lrs(), self._last_lr, strict=False)
        return not all(math.isclose(now, then, rel_tol=1e-6) for now, then in pairs)

    def _values(self, name: str) -> list[float]:
        for group in self.optimizer.param_groups[len(self.base_lrs) :]:  # added since
            self.base_lrs.append(float(group.setdefault("initial_lr", plain(group["lr"]))))
        bases = self.base_lrs if name == "lr" else [1.0] * len(self.base_lrs)
        curves = zip(self.group_curves(name), bases, strict=True)
        return [curve.value(self.last_epoch, base) for curve, base in curves]

    def group_curves(self, name: str) -> list[Curve]:
        """The curve that drives hyperparameter ``name`` of each group.

        Raises:
            RuntimeError: There is one for each group, and the optimizer has other groups now.
        """
        curves, groups = self.curves[name], len(self.optimizer.param_groups)
        if isinstance(curves, Curve):
            return [curves] * groups
        if len(curves) != groups:
            raise RuntimeError(
                f"{type(self).__name__} has {name} for {len(curves)} groups, but the optimizer has {groups} "
                "now: build the scheduler again with a value for each group"
            )
        return list(curves)

    def get_lr(self) -> list[float | Tensor]:
        """The learning rate of each group at ``last_epoch``."""
        return list(self._values("lr"))

    def state_dict(self) -> dict[str, Any]:
        """Where the scheduler is: numbers and lists of numbers only.

        The curve is not in it: build the scheduler as before, then load.
        """
        return {
            "last_epoch": self.last_epoch,
            "base_lrs": list(self.base_lrs),
            "_step_count": self._step_count,
            "_last_lr": [float(lr) for lr in self._last_lr],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to where a :meth:`state_dict` was, and set the optimizer's values to match.

        Raises:
            ValueError: It is of another number of groups, or of something else.
        """
        missing = {"base_lrs", "last_epoch", "_step_count"} - state_dict.keys()
        if missing:
            raise ValueError(
                f"the state has no {sorted(missing)}: it is not that of a scheduler with one counter"
            )
        if len(state_dict["base_lrs"]) != len(self.optimizer.param_groups):
            raise ValueError(
                f"the saved scheduler had {len(state_dict['base_lrs'])} groups, this optimizer has "
                f"{len(self.optimizer.param_groups)}: build it with the same groups"
            )
        self.base_lrs = [float(lr) for lr in state_dict["base_lrs"]]
        self._step_count = state_dict["_step_count"]
        self.last_epoch = state_dict["last_epoch"]
        if self.last_epoch >= 0:  # not begun: it waits in torch's SequentialLR, and lr is another's
            self._write()


def per_group(name: str, value: Any, optimizer: torch.optim.Optimizer) -> list[Any]:
    """``value`` for each group: a list must have one for each, anything else is for all.

    Raises:
        ValueError: The list has another length.
    """
    _require_optimizer(optimizer)
    groups = len(optimizer.param_groups)
    if not isinstance(value, list | tuple):
        return [value] * groups
    if len(value) != groups:
        raise ValueError(
            f"{name} has {len(value)} values, the optimizer has {groups} groups: pass one value or {groups}"
        )
    return list(value)


def curves_for(optimizer: torch.optim.Optimizer, build: Callable[..., Curve], **settings: Any) -> Curves:
    """One curve of the settings; if any of them is a list, one for each group."""
    _require_optimizer(optimizer)
    if not any(isinstance(value, list | tuple) for value in settings.values()):
        return build(**settings)
    columns = [per_group(name, value, optimizer) for name, value in settings.items()]
    return [build(**dict(zip(settings, row, strict=True))) for row in zip(*columns, strict=True)]


def set_hyperparameter(group: dict[str, Any], name: str, value: float) -> None:
    """Set one number of a group: a tensor is filled in place, ``momentum`` may mean ``betas[0]``."""
    if name == "momentum" and "betas" in group:
        first, *rest = group["betas"]
        if isinstance(first, Tensor):
            first.fill_(value)
        else:
            group["betas"] = (value, *rest)
    elif isinstance(group[name], Tensor):
        group[name].fill_(value)
    else:
        group[name] = value


def has_momentum(optimizer: torch.optim.Optimizer) -> bool:
    """Whether every group has a momentum, or betas, to set."""
    return all("momentum" in group or "betas" in group for group in optimizer.param_groups)


def _require_optimizer(optimizer: object) -> None:
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(
            f"optimizer is a {type(optimizer).__name__}: pass the optimizer whose lr is to be scheduled"
        )


def _check_curves(optimizer: torch.optim.Optimizer, curves: dict[str, Curves]) -> None:
    for name, given in curves.items():
        for curve in given if isinstance(given, list | tuple) else [given]:
            if not isinstance(curve, Curve):
                raise TypeError(
                    f"{name}={curve!r} is a {type(curve).__name__}: pass a curve, or one for each group"
                )
    if "momentum" in curves and not has_momentum(optimizer):
        raise ValueError(f"{type(optimizer).__name__} has neither momentum nor betas: leave momentum out")


def plain(value: Any) -> Any:
    """A copy that later changes do not reach."""
    return value.clone() if isinstance(value, Tensor) else value


def _watch_steps(optimizer: torch.optim.Optimizer) -> None:
    """Have the optimizer note that it stepped, by its own hook: nothing is patched."""
    if not hasattr(optimizer, "_opt_called"):
        hooks = hasattr(
            optimizer, "_optimizer_step_post_hooks"
        )  # a wrapper may have skipped torch's constructor
        optimizer._opt_called = not hooks  # type: ignore[attr-defined]
        if hooks:
            optimizer.register_step_post_hook(_note_step)


def _note_step(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    optimizer._opt_called = True  # type: ignore[attr-defined]

"""Schedulers out of schedulers: one after the other, or all at once, as curves of one counter."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.optim import lr_scheduler as torchs

from surefoot import checks
from surefoot.curves import Constant, Curve, Product, Then
from surefoot.lr_scheduler.base import Scheduler

__all__ = ["ChainedScheduler", "SequentialLR"]


class _Composed(Scheduler):
    """A scheduler whose curves are those of others, which it keeps up to date."""

    _schedulers: list[Scheduler]

    def _compose(self, optimizer: torch.optim.Optimizer, last_epoch: int, join: Callable[..., Curve]) -> None:
        for part in self._schedulers:
            part._targets.find()
            part._inner = True
            getattr(optimizer, "_schedulers", set()).discard(part)  # it speaks through this
        plans = [part._targets.plans for part in self._schedulers]
        if all("betas" in group for group in optimizer.param_groups):  # of which momentum is the first
            plans = [
                [
                    {"momentum" if name == "betas[0]" else name: curve for name, curve in plan.items()}
                    for plan in groups
                ]
                for groups in plans
            ]
        names = dict.fromkeys(name for groups in plans for plan in groups for name in plan)
        curves: dict[str, Any] = {}
        for name in names:
            column = [
                join([groups[i].get(name, Constant()) for groups in plans])
                for i in range(len(optimizer.param_groups))
            ]
            curves[name] = column[0] if all(curve == column[0] for curve in column) else column
        super().__init__(
            optimizer, curves.pop("lr", None), curves.pop("momentum", None), last_epoch, per="epoch", **curves
        )

    def _write(self) -> None:
        super()._write()
        self._tell()

    def _tell(self) -> None:
        """Tell the parts where they are."""
        for part, step in zip(self._schedulers, self._steps(), strict=True):
            part.last_epoch, part._step_count, part._last_lr = step, max(step, 0) + 1, list(self._last_lr)
            if isinstance(part, _Composed):
                part._tell()

    def _steps(self) -> list[int]:
        """Where each part is; -1 if it has not begun."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_schedulers": [part.state_dict() for part in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        parts = state_dict.get("_schedulers", [])
        if len(parts) != len(self._schedulers):
            raise ValueError(
                f"the saved scheduler was made of {len(parts)}, this one is of {len(self._schedulers)}: build it as it was"
            )
        filled = {name: _outermost(state_dict, name) for name in ("base_lrs", "last_epoch")} | state_dict
        super().load_state_dict({"_step_count": filled["last_epoch"] + 1, **filled})


class SequentialLR(_Composed):
    """Schedulers one after the other, each from its own step 0.

    As torch's, with the curves joined (https://github.com/pytorch/pytorch/issues/162591, 185872, 67586): a sequence
    of one is that one, sequences inside sequences shift nothing, and a milestone of 0 skips what comes before it.

    Args:
        optimizer: The optimizer of all of them.
        schedulers: Surefoot's; with any of torch's among them this is torch's own class.
        milestones: The steps at which the next takes over, not falling; one less than there are schedulers.
        last_epoch: -1 to start.

    Raises:
        ValueError: The lengths do not fit, a milestone is negative, or they fall; a scheduler is of another optimizer,
            or is ReduceLROnPlateau, which has no curve: see :class:`~surefoot.lr_scheduler.Plateau`.

    Example:
        >>> import torch, surefoot as optim
        >>> optimizer = optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> warmup = optim.lr_scheduler.LinearLR(optimizer, start_factor=0.25, total_iters=3)
        >>> decay = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        >>> scheduler = optim.lr_scheduler.SequentialLR(optimizer, [warmup, decay], milestones=[3])
        >>> scheduler.values(6)["lr"]["0"]
        [0.25, 0.5, 0.75, 1.0, 0.5, 0.25]
    """

    def __new__(cls, optimizer: Any = None, schedulers: Sequence[Any] = (), *args: Any, **kwargs: Any) -> Any:
        """Make torch's own class where there is no curve to join."""
        return _new(cls, torchs.SequentialLR, optimizer, schedulers, *args, **kwargs)

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        schedulers: Sequence[Scheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        self._schedulers, self._milestones = _checked(optimizer, schedulers), list(milestones)
        if len(self._milestones) != len(self._schedulers) - 1:
            raise ValueError(
                f"milestones={self._milestones} has {len(self._milestones)} for {len(self._schedulers)} schedulers: "
                "pass one less than there are schedulers"
            )
        for milestone in self._milestones:
            checks.not_negative("milestones", milestone)
        if sorted(self._milestones) != self._milestones:
            raise ValueError(f"milestones={self._milestones} must not fall: sort them")
        lengths = [after - before for before, after in itertools.pairwise([0, *self._milestones])]

        def join(curves: tuple[Curve, ...]) -> Curve:
            return Then((*(curve.take(n) for curve, n in zip(curves, lengths, strict=False)), curves[-1]))

        self._compose(optimizer, last_epoch, join)

    def _steps(self) -> list[int]:
        starts, ends = [0, *self._milestones], [*self._milestones, self.last_epoch + 1]
        return [
            max(min(self.last_epoch, end - 1) - start, -1) for start, end in zip(starts, ends, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_milestones": list(self._milestones)}


class ChainedScheduler(_Composed):
    """Schedulers at once: ``lr`` is its base times all their factors.

    Args:
        schedulers: Surefoot's, of one optimizer; with any of torch's among them this is torch's own class.
            At most one of them may name its own values, as ``OneCycleLR`` does or ``eta_min``.
        optimizer: The optimizer, or that of the first.

    Raises:
        ValueError: There are none, they are of different optimizers, two name their own values, or one is
            ReduceLROnPlateau, which has no curve: see :class:`~surefoot.lr_scheduler.Plateau`.

    Example:
        >>> import torch, surefoot as optim
        >>> optimizer = optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> warmup = optim.lr_scheduler.ConstantLR(optimizer, factor=0.1, total_iters=2)
        >>> decay = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        >>> optim.lr_scheduler.ChainedScheduler([warmup, decay]).values(4)["lr"]["0"]
        [0.1, 0.05, 0.25, 0.125]
    """

    def __new__(cls, schedulers: Sequence[Any] = (), optimizer: torch.optim.Optimizer | None = None) -> Any:
        """Make torch's own class where there are no curves to multiply."""
        return _new(cls, torchs.ChainedScheduler, None, schedulers, optimizer)

    def __init__(
        self, schedulers: Sequence[Scheduler], optimizer: torch.optim.Optimizer | None = None
    ) -> None:
        if optimizer is None:
            optimizer = getattr(schedulers[0], "optimizer", None) if schedulers else None
        self._schedulers = _checked(optimizer, schedulers)
        assert optimizer is not None
        if len(places := {part.last_epoch for part in self._schedulers}) > 1:
            raise ValueError(
                f"the schedulers are at steps {sorted(places)}: chain them before any of them goes on"
            )
        self._compose(optimizer, self._schedulers[0].last_epoch - 1, lambda curves: Product(tuple(curves)))

    def _steps(self) -> list[int]:
        return [self.last_epoch for _ in self._schedulers]


def _new(cls: type, torchs_class: Any, optimizer: Any, schedulers: Any, *args: Any, **kwargs: Any) -> Any:
    foreign = [
        part
        for part in schedulers
        if isinstance(part, torchs.LRScheduler) and not isinstance(part, Scheduler)
    ]
    if any(isinstance(part, torchs.ReduceLROnPlateau) for part in foreign):
        raise ValueError(
            "ReduceLROnPlateau has no curve to join: pass plateau=Plateau(...) to a Scheduler with the curve, and observe(metric)"
        )
    if not foreign:
        return object.__new__(cls)
    if torchs_class is torchs.ChainedScheduler:
        return torchs_class(schedulers, *args, **kwargs)
    return torchs_class(optimizer, schedulers, *args, **kwargs)


def _checked(optimizer: Any, schedulers: Sequence[Any]) -> list[Scheduler]:
    if not isinstance(schedulers, list | tuple) or not schedulers:
        raise ValueError(f"schedulers={schedulers!r}: pass a list of at least one scheduler")
    for i, part in enumerate(schedulers):
        if not isinstance(part, Scheduler):
            raise TypeError(f"schedulers[{i}]={part!r} is a {type(part).__name__}: pass a scheduler")
        if part.optimizer is not optimizer:
            raise ValueError(f"schedulers[{i}] is of another optimizer: all must be of one")
        if part.plateau is not None:
            raise ValueError(
                f"schedulers[{i}] has a plateau, which has no curve to join: build one Scheduler of the joined curves with it"
            )
    return list(schedulers)


def _outermost(state: dict[str, Any], name: str) -> Any:
    """An entry of a state, or else of its first part."""
    while name not in state and state.get("_schedulers"):
        state = state["_schedulers"][0]
    return state.get(name)

"""SWALR: the schedule of stochastic weight averaging, whose base is the lr that it finds."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch

from surefoot import checks
from surefoot.curves import Anneal
from surefoot.lr_scheduler.hyperparameters import per_group, set_hyperparameter
from surefoot.lr_scheduler.lr import Named, setting
from surefoot.lr_scheduler.targets import Driven, curves_for

__all__ = ["SWALR"]


class SWALR(Named):
    """``lr`` goes from where it is to ``swa_lr``, and stays there while weights are averaged.

    It may be built at the start of training beside another scheduler. Until its first step it leaves ``lr`` alone; what
    it finds then is its base, ``base_lrs`` from there on. In a :class:`~surefoot.lr_scheduler.SequentialLR` the base
    is the one of all, the ``lr`` that the optimizer was built with. With ``last_epoch`` it is that too.

    Args:
        optimizer: Any torch optimizer.
        swa_lr: The ``lr`` to average at, or one for each group.
        anneal_epochs: Steps it takes to get there, at least 0; with 0 ``lr`` is there when this is built, as in torch.
        anneal_strategy: ``"cos"`` or ``"linear"``.
        last_epoch: -1 to start.

    Raises:
        TypeError: ``anneal_epochs`` is not a whole number.
        ValueError: A setting is out of its range, or ``swa_lr`` has not as many values as there are groups.

    Example:
        >>> import torch, surefoot as optim
        >>> from surefoot.swa_utils import SWALR
        >>> optimizer = optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> decay = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        >>> swa = SWALR(optimizer, swa_lr=0.125, anneal_epochs=2, anneal_strategy="linear")
        >>> lrs = []
        >>> for epoch in range(5):
        ...     lrs.append(optimizer.param_groups[0]["lr"])
        ...     optimizer.step()
        ...     (decay if epoch < 2 else swa).step()
        >>> lrs
        [1.0, 0.5, 0.25, 0.1875, 0.125]
    """

    anneal_epochs = setting("steps", "Steps it takes to get there.")

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: Literal["cos", "linear"] = "cos",
        last_epoch: int = -1,
    ) -> None:
        epochs = checks.whole("anneal_epochs", anneal_epochs, 0)

        def anneal(swa_lr: float) -> Anneal:
            checks.finite("swa_lr", swa_lr)
            return Anneal(epochs, float(swa_lr), anneal_strategy)

        curves = curves_for(optimizer, anneal, swa_lr=swa_lr)
        for group, value in zip(optimizer.param_groups, per_group("swa_lr", swa_lr, optimizer), strict=True):
            group["swa_lr"] = float(value)  # torch reads it there
        super().__init__(optimizer, curves, last_epoch=last_epoch)

    def _due(self) -> int:
        if self.last_epoch == 0:  # the first step, which asks this before all else
            self._last_lr = self._group_lrs()  # what another scheduler set is no edit
            self.base_lrs = [float(lr) for lr in self._last_lr]
        return super()._due()

    def _write(self) -> None:
        if self.last_epoch > 0 or self.anneal_epochs == 0:
            super()._write()
        else:  # lr is another's
            self._targets.find()
            self._last_lr = self._group_lrs()

    def set(self, step: int) -> None:
        began = self.last_epoch > 0
        super().set(step)
        if began and step == 0:  # as its first step found it
            for group, lr in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
                set_hyperparameter(group, "lr", lr)
            self._last_lr = self._group_lrs()

    def _driven(self) -> list[Driven]:
        rows = super()._driven()
        if self.last_epoch > 0:
            return rows
        groups = self.optimizer.param_groups
        return [row._replace(base=float(groups[row.place]["lr"])) for row in rows]

    def drives(self, group: dict[str, Any], key: str, place: int | None) -> bool:
        return (self.last_epoch > 0 or self.anneal_epochs == 0) and super().drives(group, key, place)

    def _end(self) -> float:
        return math.inf  # to stay at swa_lr is what it is for

    def state_dict(self) -> dict[str, Any]:
        torchs = {  # which anneals by _step_count
            "anneal_epochs": self.anneal_epochs,
            "_anneal_strategy": self._first().anneal_strategy,
            "_step_count": max(self.last_epoch, 0) + 1,
        }
        return {**super().state_dict(), **torchs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        keys = {"anneal_epochs", "_last_lr", "_step_count"}
        torchs = "curves" not in state_dict and keys <= state_dict.keys()
        if torchs and len(state_dict["_last_lr"]) == len(self.optimizer.param_groups):
            state_dict = self._with_base(state_dict)
        super().load_state_dict(state_dict)

    def _with_base(self, state: dict[str, Any]) -> dict[str, Any]:
        """A state of torch's with the base in it: from ``swa_lr`` and the last ``lr`` back to step 0."""
        step = state["_step_count"] - 1
        strategy = state.get("_anneal_strategy", self._first().anneal_strategy)
        left = Anneal(state["anneal_epochs"], 0.0, strategy).value(step)
        ends = [curve.to for curve in self.group_curves("lr") if isinstance(curve, Anneal)]
        bases = [
            float((lr - end) / left + end) if left > 0 else end
            for lr, end in zip(state["_last_lr"], ends, strict=False)
        ]
        return {**state, "base_lrs": bases, "last_epoch": min(state["last_epoch"], step)}

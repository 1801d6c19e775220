"""Gradual unfreezing: layers of a model join the training one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from surefoot import checks
from surefoot.optimizers.base import Optimizer

__all__ = ["GradualUnfreeze", "gradual_unfreeze"]


class GradualUnfreeze:
    """What is frozen, as a function of how many updates there were: see :func:`gradual_unfreeze`.

    Attributes:
        updates: How many there were.
    """

    def __init__(self, optimizer: Optimizer, joins: list[tuple[int, list[Tensor]]]) -> None:
        self._optimizer, self._joins = optimizer, joins
        self._thawed = -1  # how many of them have joined
        self._seen = optimizer.updates
        self.set(0)

    def step(self) -> None:
        """Unfreeze what is due; call it after ``optimizer.step()``, as often as you like: applied updates are counted."""
        seen, self._seen = self._seen, self._optimizer.updates
        self._go_to(self.updates + self._seen - seen)

    def set(self, updates: int) -> None:
        """Freeze and unfreeze as after so many updates.

        Args:
            updates: At least 0.
        """
        self._seen = self._optimizer.updates
        self._go_to(checks.whole("updates", updates, 0))

    def state_dict(self) -> dict[str, Any]:
        """How many updates there were."""
        return {"updates": self.updates + self._optimizer.updates - self._seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to where a :meth:`state_dict` was."""
        if "updates" not in state_dict:
            raise ValueError("the state has no 'updates': it is not that of a GradualUnfreeze")
        self.set(state_dict["updates"])

    def _go_to(self, updates: int) -> None:
        self.updates = updates
        thawed = sum(step <= updates for step, _ in self._joins)
        if thawed == self._thawed:
            return
        self._thawed = thawed
        in_it = [param for _, params in self._joins[:thawed] for param in params]
        joined = set(map(id, in_it))
        frozen = [param for _, param, _ in self._optimizer.labelled() if id(param) not in joined]
        if frozen:
            self._optimizer.freeze(frozen)
        self._optimizer.unfreeze(in_it)


def gradual_unfreeze(model: nn.Module, optimizer: Optimizer, schedule: Mapping[int, str]) -> GradualUnfreeze:
    """Train the head first, then more and more of what is below it.

    Howard & Ruder, 2018 (https://arxiv.org/abs/1801.06146). Everything is frozen that has not joined, to the bit; what no
    pattern means stays so.

    Args:
        model: The model, for the names of its parameters.
        optimizer: One of Surefoot's, with these parameters.
        schedule: For each number of updates a pattern of names, with ``*`` for anything, that joins then; something at 0.

    Returns:
        Something to call ``step()`` of after each ``optimizer.step()``.

    Raises:
        ValueError: A pattern means no parameter of the optimizer, or none that has not joined before; nothing joins at 0.
        TypeError: The optimizer is not Surefoot's.

    Example:
        >>> import torch, surefoot
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
        >>> optimizer = surefoot.AdamW(model.parameters())
        >>> unfreeze = surefoot.gradual_unfreeze(model, optimizer, {0: "1.*", 2: "0.*"})
        >>> for _ in range(3):
        ...     model(torch.ones(1, 2)).sum().backward()
        ...     optimizer.step()
        ...     unfreeze.step()
        ...     print(optimizer.state.get(model[0].weight, {}).get("step", "frozen"))
        frozen
        frozen
        tensor(1.)
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"optimizer is a {type(optimizer).__name__}: pass one of Surefoot's, which can freeze parameters"
        )
    theirs = {id(param) for _, param, _ in optimizer.labelled()}
    joins: list[tuple[int, list[Tensor]]] = []
    joined: set[int] = set()
    for step in sorted(checks.whole("schedule", step, 0) for step in schedule):
        pattern = schedule[step]
        meant = [p for name, p in model.named_parameters() if fnmatchcase(name, pattern) and id(p) in theirs]
        new: list[Tensor] = [param for param in meant if id(param) not in joined]
        if not new:
            why = "all have joined before" if meant else "the optimizer has none of that name"
            raise ValueError(f"schedule[{step}]={pattern!r} means no parameter: {why}")
        joined |= set(map(id, new))
        joins.append((step, new))
    if not joins or joins[0][0] != 0:
        raise ValueError(f"schedule={dict(schedule)!r} trains nothing at first: say what joins at 0")
    return GradualUnfreeze(optimizer, joins)

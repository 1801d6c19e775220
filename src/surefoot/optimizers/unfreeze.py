"""Gradual unfreezing: layers of a model join the training one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from surefoot import checks
from surefoot.names import Which, brief, matching, meant, settled
from surefoot.optimizers.base import Optimizer

__all__ = ["GradualUnfreeze", "gradual_unfreeze"]


class GradualUnfreeze:
    """What is frozen, as a function of how many updates there were: see :func:`gradual_unfreeze`.

    Attributes:
        updates: How many there were.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, joins: list[tuple[int, Which]]) -> None:
        self._model, self._optimizer, self._joins = model, optimizer, joins
        self.updates, self._seen = 0, optimizer.updates
        self._joined = 0
        optimizer.freeze("*")
        self._go_to(0)

    def step(self) -> None:
        """Unfreeze what is due; call it after ``optimizer.step()``, as often as you like: applied updates are counted."""
        seen, self._seen = self._seen, self._optimizer.updates
        self._go_to(self.updates + self._seen - seen)

    def set(self, updates: int) -> None:
        """Freeze and unfreeze as after so many updates.

        Args:
            updates: At least 0.
        """
        updates = checks.whole("updates", updates, 0)
        self._seen, self._joined = self._optimizer.updates, 0
        for _, which in self._joins:
            if params := _present(which, self._model, self._optimizer):
                self._optimizer.freeze(params)
        self._go_to(updates)

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
        for step, which in self._joins[self._joined :]:
            if step > updates:
                return
            # Looked for now: by this time there may be others of that name, or none.
            if params := _present(which, self._model, self._optimizer):
                self._optimizer.unfreeze(params)
            self._joined += 1


def gradual_unfreeze(
    model: nn.Module, optimizer: Optimizer, schedule: Mapping[int, Which]
) -> GradualUnfreeze:
    """Train the head first, then more and more of what is below it.

    Howard & Ruder, 2018 (https://arxiv.org/abs/1801.06146). Everything is frozen that has not joined, to the bit; what no
    pattern means stays so.

    Args:
        model: The model, for the names of its parameters.
        optimizer: One of Surefoot's, with these parameters.
        schedule: For each number of updates what joins then, at 0 too: a pattern of names with ``*`` for anything, or
            whatever else :func:`~surefoot.param_groups.match` takes.

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
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model is a {type(model).__name__}: pass the torch module whose parameters have these names"
        )
    theirs = {id(param) for _, param, _ in optimizer.labelled()}
    named = [(n, p) for n, p in model.named_parameters(remove_duplicate=False) if id(p) in theirs]
    joins: list[tuple[int, Which]] = []
    joined: set[int] = set()
    for step in sorted(checks.whole("schedule", step, 0) for step in schedule):
        which = settled(schedule[step])
        try:
            params = meant(which, named, model)
        except ValueError as error:
            raise ValueError(f"schedule[{step}]: {error}") from error
        if params <= joined:
            raise ValueError(
                f"schedule[{step}]={brief(which)} means no parameter that has not joined before: leave it out"
            )
        joined |= params
        joins.append((step, which))
    if not joins or joins[0][0] != 0:
        raise ValueError(f"schedule={dict(schedule)!r} trains nothing at first: say what joins at 0")
    return GradualUnfreeze(model, optimizer, joins)


def _present(which: Which, model: nn.Module, optimizer: Optimizer) -> list[Tensor]:
    """The parameters of the optimizer that are meant, by their names in the model."""
    found = matching(which, list(model.named_parameters(remove_duplicate=False)), model)
    return [param for _, param, _ in optimizer.labelled() if id(param) in found]

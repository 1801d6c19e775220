"""The table: every tensor that one step updates, with its buffers, its counters and its numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from operator import is_, itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from surefoot.kernels import cpu, eager
from surefoot.kernels.source import Layout
from surefoot.rule import Rule

__all__ = ["Entry", "Row", "Table"]


class Row(NamedTuple):
    """One tensor to update.

    Attributes:
        param: Updated in place.
        grad: Of ``param``'s shape, or sparse; never written.
        grad_scale: Factor on ``grad`` before the rule sees it (-1 to maximize).
        buffers: The rule's buffers in order, updated in place; ``None`` where unused.
        scalars: The rule's numbers in order.
    """

    param: Tensor
    grad: Tensor
    grad_scale: float
    buffers: tuple[Tensor | None, ...]
    scalars: tuple[Any, ...]


class Entry(NamedTuple):
    """A parameter with what the optimizer keeps for it.

    Attributes:
        param: The parameter.
        state: Its state: counters, then buffers.
        group: Index of its group.
        buffers: Names of the rule's buffers it uses.
        grad_scale: Factor on its gradient.
    """

    param: Tensor
    state: dict[str, Any]
    group: int
    buffers: tuple[str, ...]
    grad_scale: float


Scalars = Callable[[int, dict[str, Any]], Sequence[float]]


class Table:
    """What a step works on while the same parameters have gradients: built once, checked at each step.

    Counters of all rows are kept in one tensor each, of which a parameter's ``state["step"]`` is an element, so that
    counting is one operation. Rows with equal hyperparameters and equal counters share their numbers.

    Args:
        rule: The rule.
        entries: The parameters that have a gradient, their counters and buffers allocated.
        grads: Their gradients.
        counters: Names of the counters.
        executor: ``"eager"`` keeps every row from the CPU kernels.
    """

    def __init__(
        self,
        rule: Rule,
        entries: list[Entry],
        grads: list[Tensor],
        counters: Sequence[str],
        executor: str | None,
    ) -> None:
        self.rule, self.entries = rule, entries
        self.params = [entry.param for entry in entries]
        self.states = [entry.state for entry in entries]
        self.counters: dict[str, Tensor] = {}
        for name in counters:
            values = [state[name] for state in self.states]
            flat = torch.stack(values)
            self.counters[name] = flat
            for state, value in zip(self.states, flat, strict=True):
                state[name] = value
        # One getter reads all that must stay the very same objects.
        names = {name for entry in entries for name in (*counters, *entry.buffers)}
        self._getters = {}
        self._kept = [list(map(state.get, names)) for state in self.states]

"""Rows: what executors work on."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

__all__ = ["Member", "Row"]


class Member(NamedTuple):
    """A parameter that takes part in steps, and what stays the same from one to the next.

    Attributes:
        param: The parameter.
        grad: Its gradient at the moment; None if it has none.
        entry: Its state, with every counter and buffer that it uses.
        group: Number of its group.
        buffers: Names of the rule's buffers that it uses.
        scalars: Which of the rule's numbers it uses; the others are None.
        fresh: Whether its buffers have not been through a step yet.
    """

    param: Tensor
    grad: Tensor | None
    entry: dict[str, Any]
    group: int
    buffers: tuple[str, ...]
    scalars: tuple[bool, ...]
    fresh: bool


class Row(NamedTuple):
    """One tensor to update once.

    Attributes:
        param: Updated in place.
        grad: Of ``param``'s shape, or sparse; never written.
        factor: Multiplies ``grad`` before the rule sees it (-1 to maximize).
        bound: The largest absolute value of that product; what is beyond is cut off.
        buffers: The rule's buffers in order, updated in place; ``None`` where unused.
        scalars: The rule's numbers in order.
    """

    param: Tensor
    grad: Tensor
    factor: float
    bound: float | None
    buffers: tuple[Tensor | None, ...]
    scalars: tuple[Any, ...]

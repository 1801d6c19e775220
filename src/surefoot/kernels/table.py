"""The table: what one launch of an executor works on."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

__all__ = ["Row"]


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

"""What a batch is made of: its tensors, moved to a device and counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from typing import Any

import torch
from torch import Tensor

__all__ = ["length", "move", "tensors"]


def move(batch: Any, device: torch.device, non_blocking: bool = True) -> Any:
    """The batch with its tensors on ``device``; itself if they are there.

    Tuples, named tuples, lists and dicts stay what they are, and what they hold is looked into. Anything else with a
    ``to`` is asked to move itself; the rest stays.

    Args:
        batch: What a loader gave; it is not written to.
        device: Where its tensors go.
        non_blocking: Copies from pinned memory are not waited for.

    Example:
        >>> batch = {"input_ids": torch.ones(2, 3), "names": ["a", "b"]}
        >>> move(batch, torch.device("cpu")) is batch
        True
        >>> move(batch, torch.device("meta"))["input_ids"].device
        device(type='meta')
    """
    if isinstance(batch, Tensor):
        return batch if batch.device == device else batch.to(device, non_blocking=non_blocking)
    if hasattr(batch, "to"):
        return batch.to(device)
    if isinstance(batch, (list, tuple)):
        moved = [move(value, device, non_blocking) for value in batch]
        for new, old in zip(moved, batch, strict=True):
            if new is not old:
                return batch._make(moved) if hasattr(batch, "_make") else type(batch)(moved)
        return batch
    if isinstance(batch, Mapping):
        changed = {
            key: new
            for key, value in batch.items()
            if (new := move(value, device, non_blocking)) is not value
        }
        if changed:
            batch = copy(batch)  # whatever kind of mapping it is
            for key, value in changed.items():
                batch[key] = value
    return batch


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested tuples, lists and mappings, in order.

    Example:
        >>> [tuple(each.shape) for each in tensors({"inputs": torch.ones(2, 3), "more": [torch.ones(4)]})]
        [(2, 3), (4,)]
    """
    if isinstance(value, Tensor):
        yield value
        return
    if not isinstance(value, (list, tuple)):  # what most are, and the faster question
        value = value.values() if isinstance(value, Mapping) else ()
    for each in value:
        yield from tensors(each)


def length(batch: Any) -> int:
    """How many samples a batch holds: the length of the first tensor in it that has one, 1 if there is none.

    Example:
        >>> length((torch.ones(8, 3), torch.ones(8))), length({"text": "abc"})
        (8, 1)
    """
    return next((len(tensor) for tensor in tensors(batch) if tensor.ndim), 1)

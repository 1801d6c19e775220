"""What objects keep in their attributes, to be put back in place."""

from __future__ import annotations

import random
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Iterable
from copy import copy
from typing import Any

import torch
from torch import Tensor

__all__ = ["Attributes", "put_back_generator"]

CONTAINERS = (dict, OrderedDict, defaultdict, list, set, deque)
"""Kinds whose contents are put back; one of another kind may not allow it."""


class Attributes:
    """The attributes of some objects, what is in their lists and dicts, and their generators.

    Each list and dict is put back in place, for whoever else holds it. Objects in them are not looked into.

    Args:
        owners: The objects.
        leave: Names of attributes that are somebody else's.

    Attributes:
        tensors: Those among them, for somebody else to copy.

    Example:
        >>> class Counter:
        ...     seen = 0
        >>> counter = Counter()
        >>> counter.losses = [0.5]
        >>> before = Attributes([counter])
        >>> counter.seen = 1
        >>> counter.losses.append(0.4)
        >>> before.restore()
        >>> counter.seen, counter.losses
        (0, [0.5])
    """

    def __init__(self, owners: Iterable[Any], leave: Collection[str] = ()) -> None:
        self._leave = leave
        self._own = [
            (owner, {name: value for name, value in vars(owner).items() if name not in leave})
            for owner in owners
            if hasattr(owner, "__dict__")
        ]
        reached = _reached(own for _, own in self._own)
        self._contents = [(each, copy(each)) for each in reached if type(each) in CONTAINERS]
        self._generators = [back for each in reached if (back := put_back_generator(each)) is not None]
        # One with a graph was computed from others, and will be again.
        self.tensors = [each for each in reached if isinstance(each, Tensor) and each.is_leaf]

    def restore(self) -> None:
        """Put all of them back but what is in tensors."""
        for owner, own in self._own:
            attributes = vars(owner)
            for name in attributes.keys() - own.keys() - set(self._leave):
                del attributes[name]
            attributes.update(own)
        for container, content in self._contents:
            container.clear()
            put = container.extend if isinstance(container, list | deque) else container.update
            put(content)
        for back in self._generators:
            back()


def put_back_generator(value: Any) -> Callable[[], object] | None:
    """What puts a random generator back to where it is now; None if it is none."""
    if isinstance(value, torch.Generator):
        state = value.get_state()
        return lambda: value.set_state(state)
    if isinstance(value, random.Random):
        internal = value.getstate()
        return lambda: value.setstate(internal)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.random.Generator):
        bits = value.bit_generator
        kept = bits.state
        return lambda: setattr(bits, "state", kept)
    return None


def _reached(trees: Iterable[dict[str, Any]]) -> list[Any]:
    """All that is in nested dicts, lists, tuples and sets, each once; the trees themselves are not among it."""
    found: dict[int, Any] = {}
    left = [value for tree in trees for value in tree.values()]
    while left:
        value = left.pop()
        if id(value) in found:
            continue
        found[id(value)] = value
        if isinstance(value, dict):
            left.extend(value.values())
        elif isinstance(value, list | tuple | set | frozenset | deque):
            left.extend(value)
    return list(found.values())

"""Every random number generator of a training run, read and put back."""

from __future__ import annotations

import random
import sys
from typing import Any

import torch

__all__ = ["check", "get_state", "set_state"]


def get_state(*loaders: Any) -> dict[str, Any]:
    """The state of all generators: Python's, NumPy's if it is loaded, torch's on CPU and GPU, the loaders'.

    Args:
        *loaders: Data loaders whose own generators count too.

    Returns:
        A tree of dicts, lists, numbers and uint8 tensors.

    Example:
        >>> state = get_state()
        >>> first = torch.rand(1)
        >>> set_state(state)
        >>> bool(torch.rand(1) == first)
        True
    """
    version, internal, gauss = random.getstate()
    state: dict[str, Any] = {
        "python": [version, list(internal), gauss],
        "torch": torch.get_rng_state(),
        "loaders": [[g.get_state() for g in _generators(loader)] for loader in loaders],
    }
    if "numpy" in sys.modules:
        name, keys, *rest = sys.modules["numpy"].random.get_state()
        state["numpy"] = [name, keys.tolist(), *rest]
    if torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def check(state: dict[str, Any], *loaders: Any) -> None:
    """See whether :func:`set_state` can put a state back.

    Raises:
        ValueError: The loaders are others than those it was read from.

    Example:
        >>> check(get_state(), [1, 2, 3])
        Traceback (most recent call last):
        ValueError: the random state was read with loaders of [] generators, these have [0]: pass the same loaders, \
built the same way
    """
    saved, own = (
        [len(states) for states in state["loaders"]],
        [len(_generators(loader)) for loader in loaders],
    )
    if saved != own:
        raise ValueError(
            f"the random state was read with loaders of {saved} generators, these have {own}: pass the same "
            "loaders, built the same way"
        )


def set_state(state: dict[str, Any], *loaders: Any) -> None:
    """Put back what :func:`get_state` read, with the same loaders in the same order.

    Raises:
        ValueError: The loaders are others than those it was read from. Nothing changes.
    """
    check(state, *loaders)
    generators = [_generators(loader) for loader in loaders]
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    torch.set_rng_state(state["torch"])
    for own, saved in zip(generators, state["loaders"], strict=True):
        for generator, value in zip(own, saved, strict=True):
            generator.set_state(value)
    if "numpy" in state:
        import numpy as np

        name, keys, *rest = state["numpy"]
        np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    if "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])


def _generators(loader: Any) -> list[torch.Generator]:
    """The generators of a DataLoader and its samplers, and of samplers in these, each once."""
    found: dict[int, torch.Generator] = {}
    left = [loader, getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)]
    seen: set[int] = set()
    while left:
        owner = left.pop(0)
        if owner is None or id(owner) in seen:
            continue
        seen.add(id(owner))
        for value in (getattr(owner, "generator", None), *getattr(owner, "__dict__", {}).values()):
            if isinstance(value, torch.Generator):
                found.setdefault(id(value), value)
            elif isinstance(value, torch.utils.data.Sampler):
                left.append(value)
    return list(found.values())

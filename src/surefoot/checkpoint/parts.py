"""What is kept of a model and an optimizer, by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from surefoot.optimizers.base import EXECUTION, Group

__all__ = ["clean", "flat", "names_in", "optimizer_part", "state_of", "unwrapped"]


def unwrapped(module: nn.Module) -> nn.Module:
    """The module itself, whose names have no prefix."""
    inner: Any = module
    wrappers = nn.parallel.DistributedDataParallel, nn.DataParallel
    while hasattr(inner, "_orig_mod") or isinstance(inner, wrappers):
        inner = inner._orig_mod if hasattr(inner, "_orig_mod") else inner.module
    return inner  # type: ignore[no-any-return]


def names_in(groups: list[Group], model: nn.Module | None = None) -> tuple[list[list[str]], bool]:
    """What each parameter of each group is called, and whether that is more than its place."""
    members = [group["params"] for group in groups]
    if model is not None:
        names = {id(param): clean(name) for name, param in unwrapped(model).named_parameters()}
        unknown = [tuple(p.shape) for params in members for p in params if id(p) not in names]
        if unknown:
            raise ValueError(f"the optimizer has parameters of shapes {unknown} that are not the model's")
        return [[names[id(param)] for param in params] for params in members], True
    given = [list(group.get("param_names") or ()) for group in groups]
    if [*map(len, given)] == [*map(len, members)] and len({*flat(given)}) == len(flat(given)):
        return given, True
    places = iter(range(len(flat(members))))
    return [[str(next(places)) for _ in params] for params in members], False


def optimizer_part(
    kind: str | None,
    state: dict[str, Any],
    names: list[list[str]],
    named: bool,
    shapes: Iterable[Iterable[int]] | None = None,
) -> dict[str, Any]:
    """What is kept of a ``state_dict``: all by name, without how steps are executed.

    Args:
        kind: The class; None fits any.
        state: The ``state_dict``.
        names: What its parameters are called, as of :func:`names_in`.
        named: Whether that is more than their place.
        shapes: Of its parameters, if they are known.
    """
    numbers = flat(group["params"] for group in state["param_groups"])
    name_of = dict(zip(numbers, flat(names), strict=True))
    left_out = {"params", "param_names", *EXECUTION}
    return {
        "class": kind,
        "named": named,
        "state": {name_of.get(key, key): entry for key, entry in state["state"].items()},
        "shapes": None if shapes is None else dict(zip(flat(names), map(list, shapes), strict=True)),
        "param_groups": [
            {"params": params, **{key: value for key, value in group.items() if key not in left_out}}
            for params, group in zip(names, state["param_groups"], strict=True)
        ],
    }


def state_of(module: nn.Module) -> dict[str, Any]:
    """A module's ``state_dict``, without what ``torch.compile`` adds to names."""
    return {clean(key): value for key, value in module.state_dict().items()}


def clean(name: str) -> str:
    """A name without what ``torch.compile`` adds to it."""
    return name.replace("_orig_mod.", "")


def flat(lists: Iterable[Iterable[Any]]) -> list[Any]:
    """The members of the members."""
    return [value for values in lists for value in values]

"""Parameters by name: what to call each, which are meant, which are frozen."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor, nn

__all__ = [
    "Which",
    "brief",
    "frozen_in",
    "labelled",
    "matching",
    "meant",
    "named_in",
    "one_answer",
    "regrouped",
    "settled",
    "taken",
]

Group: TypeAlias = dict[str, Any]
Which: TypeAlias = (
    str
    | re.Pattern[str]
    | nn.Module
    | type[nn.Module]
    | Tensor
    | Callable[[str, Tensor], bool]
    | Iterable["str | re.Pattern[str] | nn.Module | Tensor | tuple[str, Tensor]"]
)
"""How parameters are meant: see :func:`meant`."""


class Named(NamedTuple):
    """A parameter of a model.

    Attributes:
        name: Its full name, the first where it has several.
        param: The parameter.
        module: The module it belongs to.
    """

    name: str
    param: Tensor
    module: nn.Module


def named_in(model: nn.Module) -> Iterator[Named]:
    """Every parameter once, with the module it belongs to."""
    modules = dict(model.named_modules(remove_duplicate=False))
    for name, param in model.named_parameters():
        yield Named(name, param, modules[name.rpartition(".")[0]])


def labelled(groups: Sequence[Group]) -> Iterator[tuple[str, Tensor, Group]]:
    """Every parameter of an optimizer's groups with its name, or else its place, and its group."""
    for i, group in enumerate(groups):
        names = group.get("param_names", ())
        for j, param in enumerate(group["params"]):  # one that was appended by hand has no name
            yield (names[j] if j < len(names) else f"{j} of group {i}"), param, group


def frozen_in(group: Group) -> list[bool]:
    """Whether each parameter of a group is frozen: its entry ``"frozen"`` is one answer for all, or one for each.

    Raises:
        TypeError: It is something else.
        ValueError: There are not as many answers as parameters, as after a parameter was taken out by hand.
    """
    frozen, count = group.get("frozen", False), len(group["params"])
    if frozen is None or isinstance(frozen, bool):
        return [bool(frozen)] * count
    if not isinstance(frozen, tuple | list) or not all(isinstance(one, bool) for one in frozen):
        raise TypeError(f"frozen={frozen!r} of a group: pass True, False, or one of these for each parameter")
    if len(frozen) != count:
        raise ValueError(
            f"frozen has {len(frozen)} answers for the {count} parameters of a group: take parameters out with "
            "optimizer.remove(...) and put them in with optimizer.add(...), or set group['frozen'] anew"
        )
    return list(frozen)


def one_answer(flags: list[bool]) -> bool | tuple[bool, ...]:
    """The entry ``"frozen"`` of a group with these answers."""
    return all(flags) or (any(flags) and tuple(flags))


def taken(group: Group, places: list[int]) -> Group:
    """The entries of a group that go with its parameters, for those at some places."""
    entries: Group = {"params": [group["params"][i] for i in places]}
    if "param_names" in group:
        names = group["param_names"]
        entries["param_names"] = [names[i] for i in places if i < len(names)]
    if "frozen" in group:
        flags = frozen_in(group)
        entries["frozen"] = one_answer([flags[i] for i in places])
    return entries


def regrouped(groups: Sequence[Group], names: list[list[str]], others: list[list[str]]) -> list[Group] | None:
    """Groups as others lie, by name, if each of those is one of these or a part of one; or else None.

    Args:
        groups: The groups.
        names: What their parameters are called.
        others: The names in each of the other groups.
    """
    places = {name: (i, j) for i, group in enumerate(names) for j, name in enumerate(group)}
    flat = [name for group in others for name in group]
    if {*flat} != places.keys() or not len(flat) == len(places) == sum(map(len, names)) or not all(others):
        return None
    homes = [{places[name][0] for name in group} for group in others]
    if any(len(home) > 1 for home in homes):
        return None
    return [
        {**groups[home], **taken(groups[home], [places[name][1] for name in group])}
        for (home,), group in zip(homes, others, strict=True)
    ]


def settled(which: Any) -> Any:
    """What can be read more than once."""
    once = isinstance(which, Iterator)
    return list(which) if once else which


def meant(which: Which, named: Collection[tuple[str, Tensor]], model: nn.Module | None = None) -> set[int]:
    """Which parameters are meant, by identity; at least one.

    Args:
        which: A pattern of full names with ``*`` for anything; a compiled regular expression, which must match the whole
            name; a module, for its parameters; a parameter; a function of name and parameter; or a list of these. With a
            model also a type of module, for the parameters of such modules and all inside.
        named: The parameters there are, each by every name it has.
        model: Where modules of a type are looked for.

    Raises:
        TypeError: ``which`` is none of these.
        ValueError: It, or one of a list, means no parameter.
    """
    if isinstance(which, Iterable) and not isinstance(which, str | Tensor | nn.Module | Mapping):
        which = [one[1] if isinstance(one, tuple) else one for one in which]  # as named_parameters() has them
        if which:
            return {param for one in which for param in meant(one, named, model)}
    found = matching(which, named, model)
    if not found:
        asked = f"a tensor of shape {tuple(which.shape)}" if isinstance(which, Tensor) else brief(which)
        shown = ", ".join(name for name, _ in list(named)[:5])
        raise ValueError(f"{asked} means no parameter: their names begin with {shown}")
    return found


def brief(thing: Any) -> str:
    """What to call it in a message."""
    said = " ".join(repr(thing).split())
    return said if len(said) <= 80 else f"{said[:77]}..."


def matching(which: Which, named: Collection[tuple[str, Tensor]], model: nn.Module | None = None) -> set[int]:
    """As :func:`meant`, but perhaps none."""
    if isinstance(which, str):
        return {id(param) for name, param in named if fnmatchcase(name, which)}
    if isinstance(which, re.Pattern):
        return {id(param) for name, param in named if which.fullmatch(name)}
    there = {id(param) for _, param in named}
    if isinstance(which, Tensor):
        return there & {id(which)}
    if isinstance(which, nn.Module):
        return there & {id(param) for param in which.parameters()}
    if isinstance(which, type):
        if model is None or not issubclass(which, nn.Module):
            raise TypeError(f"{which!r} is a type: pass a pattern of names, a module, or parameters")
        modules = [module for module in model.modules() if isinstance(module, which)]
        return there & {id(param) for module in modules for param in module.parameters()}
    if callable(which):
        return {id(param) for name, param in named if which(name, param)}
    if isinstance(which, Iterable) and not isinstance(which, Mapping):
        return {
            param
            for one in which
            for param in matching(one[1] if isinstance(one, tuple) else one, named, model)
        }
    raise TypeError(
        f"{brief(which)} is a {type(which).__name__}: pass a pattern of names, a module, parameters, or a function"
    )

"""Parameter groups from rules: which parameters get which learning rate, decay and so on, by what they are and where.

groups = param_groups(model, no_decay(), layer_decay(0.75), match("head.*", lr=1e-2), lr=1e-3, weight_decay=0.05)
optimizer = AdamW(groups)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from surefoot import checks
from surefoot.layers import depths as depths_of
from surefoot.layers import layers
from surefoot.names import Named, Which, brief, frozen_in, labelled, matching, meant, named_in, settled

__all__ = [
    "Coverage",
    "Description",
    "Named",
    "Rule",
    "check",
    "describe",
    "frozen",
    "layer_decay",
    "layers",
    "match",
    "no_decay",
    "param_groups",
    "scale",
]

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)

MATRICES = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd, nn.Embedding, nn.EmbeddingBag, nn.RNNBase)


class Scale(NamedTuple):
    """Times the number that the parameter has otherwise."""

    factor: float


class Coverage(NamedTuple):
    """What an optimizer has of a model's parameters; empty lists are good.

    Attributes:
        missing: Parameters with ``requires_grad`` that it does not have, by name.
        extra: Its parameters that are not the model's, by name or place.
        duplicated: Those that it has more than once, by name.
        stale: Its parameters whose name is that of another one in the model now, which took their place.
    """

    missing: list[str]
    extra: list[str]
    duplicated: list[str]
    stale: list[str]

    def __bool__(self) -> bool:
        """Whether anything is wrong."""
        return any(self)


class Rule(Protocol):
    """Says what it wants of some parameters; what it leaves out, later rules and the defaults say."""

    def __call__(self, model: nn.Module, named: list[Named]) -> Mapping[str, Mapping[str, Any]]:
        """Hyperparameters, or a :class:`Scale` of them, by name of parameter.

        Raises:
            ValueError: It means no parameter.
        """


def param_groups(model: nn.Module, *rules: Rule, **defaults: Any) -> list[dict[str, Any]]:
    """Sort a model's parameters into groups for an optimizer, Surefoot's or torch's.

    For each hyperparameter of each parameter the first rule that has a value for it counts, or else the default;
    then the first rule that scales it. Parameters that come out equal are one group. A tied parameter appears once.

    Args:
        model: The model. It is not changed; frozen parameters (``requires_grad=False``) are left out.
        *rules: :func:`match`, :func:`no_decay`, :func:`layer_decay`, :func:`scale`, or one's own.
        **defaults: Hyperparameters of every parameter, such as ``lr``; what is not given the optimizer says.

    Returns:
        Groups with ``"params"``, pairs of names and parameters, ``"name"``, a label, and hyperparameters.

    Raises:
        ValueError: A rule means no parameter; a parameter is meant by no rule while there is no default; a scale has
            nothing to multiply.
        TypeError: ``model`` is no module, or a rule is none.

    Example:
        >>> from torch import nn
        >>> from surefoot import AdamW
        >>> from surefoot.param_groups import match, no_decay, param_groups
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))
        >>> groups = param_groups(model, no_decay(), match("2.*", lr=1e-2), lr=1e-3, weight_decay=0.05)
        >>> for group in groups:
        ...     print(group["name"], "|", [name for name, _ in group["params"]])
        lr=0.001 weight_decay=0.05 | ['0.weight']
        lr=0.001 weight_decay=0 | ['0.bias', '1.weight', '1.bias']
        lr=0.01 weight_decay=0.05 | ['2.weight']
        lr=0.01 weight_decay=0 | ['2.bias']
        >>> optimizer = AdamW(groups)
    """
    _require(model)
    makers: tuple[Any, ...] = (match, scale, frozen, no_decay, layer_decay)
    if reserved := {"params", "param_names", "name"} & defaults.keys():
        raise ValueError(f"{min(reserved)!r} is no hyperparameter: groups get theirs from the model")
    for rule in rules:
        if rule in makers:
            raise TypeError(
                f"{rule!r} is not called: pass no_decay() with its brackets, match(...) and so on"
            )
        if not callable(rule):
            raise TypeError(f"{rule!r} is no rule: pass match(...), no_decay() and so on")
    named = [some for some in named_in(model) if some.param.requires_grad]
    if not named:
        raise ValueError("the model has no parameter with requires_grad=True: there is nothing to optimize")
    said = [_said(rule, model, named) for rule in rules]
    heard = [not any(map(bool, one.values())) for one in said]  # no_decay may find nothing to say
    groups: dict[Any, dict[str, Any]] = {}
    unmeant = []
    for name, param, _ in named:
        wanted = {i: one[name] for i, one in enumerate(said) if name in one}
        if not wanted and not defaults:
            unmeant.append(name)
            continue
        hyper = _settle(name, wanted, defaults, heard)
        shown = [f"{key}={_shown(value)}" for key, value in hyper.items() if key != "frozen"]
        key = frozenset((key, _hashable(value)) for key, value in hyper.items())
        group = groups.setdefault(key, {"params": [], "name": " ".join(shown) or "all", **hyper})
        group["params"].append((name, param))
    if unmeant:
        more = f" and {len(unmeant) - 5} more" if len(unmeant) > 5 else ""
        raise ValueError(
            f"no rule means {', '.join(unmeant[:5])}{more}: add match('*', ...) at the end, or pass a default such as lr=1e-3"
        )
    if False in heard:
        i = heard.index(False)
        raise ValueError(
            f"rule {i + 1} of {len(rules)} decides nothing: rules before it have said all that it says; put it before them"
        )
    return list(groups.values())


def check(model: nn.Module, optimizer: torch.optim.Optimizer) -> Coverage:
    """Look whether an optimizer, Surefoot's or torch's, has all the parameters of a model, and those alone.

    Where a parameter was replaced in the model after the optimizer was built, the new one is missing and the old one stale.

    Example:
        >>> import torch, surefoot
        >>> from surefoot.param_groups import check
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
        >>> optimizer = surefoot.SGD(model.named_parameters())
        >>> bool(check(model, optimizer))
        False
        >>> model[1] = torch.nn.Linear(2, 3)
        >>> check(model, optimizer)
        Coverage(missing=['1.weight', '1.bias'], extra=[], duplicated=[], stale=['1.weight', '1.bias'])
    """
    _require(model, optimizer)
    names = {id(param): name for name, param in model.named_parameters()}
    theirs = [(label, param) for label, param, _ in labelled(optimizer.param_groups)]
    counts = Counter(id(param) for _, param in theirs)
    wanted = [(name, param) for name, param in model.named_parameters() if param.requires_grad]
    strange = [label for label, param in theirs if id(param) not in names]
    replaced = {*names.values()}
    return Coverage(
        [name for name, param in wanted if id(param) not in counts],
        [label for label in strange if label not in replaced],
        [names[key] for key, count in counts.items() if count > 1 and key in names],
        [label for label in strange if label in replaced],
    )


class Description(list[dict[str, Any]]):
    """A row for each group; as text, a table."""

    def __str__(self) -> str:
        columns = {key: [key, *(str(row[key]) for row in self)] for key in (self[0] if self else {})}
        widths = {key: max(map(len, cells)) for key, cells in columns.items()}
        aligned = [
            [
                cell.ljust(widths[key]) if key in ("group", "names") else cell.rjust(widths[key])
                for cell in cells
            ]
            for key, cells in columns.items()
        ]
        return "\n".join("  ".join(line).rstrip() for line in zip(*aligned, strict=True))


def describe(optimizer: torch.optim.Optimizer) -> Description:
    """What an optimizer's groups are, Surefoot's or torch's: a row for each, and a table as text.

    Example:
        >>> import torch, surefoot
        >>> from surefoot.param_groups import describe, no_decay, param_groups
        >>> model = torch.nn.Sequential(torch.nn.Linear(9, 9), torch.nn.LayerNorm(9), torch.nn.Linear(9, 2))
        >>> optimizer = surefoot.AdamW(param_groups(model, no_decay(), lr=1e-3, weight_decay=0.1))
        >>> optimizer.freeze("0.weight")
        >>> print(describe(optimizer))
        group                      tensors  parameters  share     lr  weight_decay  frozen  names
        lr=0.001 weight_decay=0.1        2          99    77%  0.001           0.1  1 of 2  0.weight, 2.weight
        lr=0.001 weight_decay=0          4          29    23%  0.001             0          0.bias, 1.weight, 1.bias, ...
    """
    _require(None, optimizer)
    sizes = [sum(param.numel() for param in group["params"]) for group in optimizer.param_groups]
    labels = list(labelled(optimizer.param_groups))
    rows = Description()
    for i, (group, size) in enumerate(zip(optimizer.param_groups, sizes, strict=True)):
        names = [name for name, _, home in labels if home is group]
        row = {"group": str(group.get("name", i)), "tensors": len(group["params"]), "parameters": size}
        row["share"] = f"{size / max(sum(sizes), 1):.0%}"
        row |= {key: f"{float(group[key]):.3g}" for key in ("lr", "weight_decay") if key in group}
        flags = frozen_in(group)
        row["frozen"] = f"{sum(flags)} of {len(flags)}" if 0 < sum(flags) < len(flags) else "yes" * any(flags)
        row["names"] = ", ".join(names[:3]) + ", ..." * (len(names) > 3)
        rows.append(row)
    return rows


def match(which: Which, **hyper: Any) -> Rule:
    """These parameters get these hyperparameters.

    Args:
        which: A pattern of full names with ``*`` for anything, as in ``"head.*"``; a compiled regular expression, which
            must match the whole name; a type of module, for the parameters of such modules and all inside; a module;
            a parameter; a function of name and parameter; or a list of these.
        **hyper: What they get.

    Example:
        >>> from torch import nn
        >>> from surefoot.param_groups import match, param_groups
        >>> model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2))
        >>> groups = param_groups(model, match(nn.Embedding, lr=0.1), match("*", lr=0.01))
        >>> [(group["name"], len(group["params"])) for group in groups]
        [('lr=0.1', 1), ('lr=0.01', 2)]
    """
    if not hyper:
        raise ValueError(
            f"match({which!r}) gives nothing: pass a hyperparameter, as in match({which!r}, lr=1e-3)"
        )

    if reserved := {"params", "param_names", "name"} & hyper.keys():
        raise ValueError(f"{min(reserved)!r} is no hyperparameter: groups get theirs from the model")
    which = settled(which)

    def rule(model: nn.Module, named: list[Named]) -> Mapping[str, Mapping[str, Any]]:
        return dict.fromkeys(_meant(which, model, named), hyper)

    return rule


def scale(which: Which, **factors: float) -> Rule:
    """These parameters get this many times the number that they have otherwise.

    Args:
        which: As of :func:`match`.
        **factors: For each hyperparameter its factor.

    Example:
        >>> from torch import nn
        >>> from surefoot.param_groups import param_groups, scale
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
        >>> [group["lr"] for group in param_groups(model, scale("0.*", lr=0.5), lr=1.0)]
        [0.5, 1.0]
    """
    for name, factor in factors.items():
        checks.not_negative(name, factor)
    return match(which, **{name: Scale(factor) for name, factor in factors.items()})


def frozen(which: Which) -> Rule:
    """These parameters are frozen, until ``optimizer.unfreeze(...)``.

    Only Surefoot's optimizers know the entry ``"frozen"`` of a group; for torch's use ``param.requires_grad_(False)``.

    Args:
        which: As of :func:`match`.

    Example:
        >>> from torch import nn
        >>> from surefoot import AdamW
        >>> from surefoot.param_groups import frozen, param_groups
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
        >>> optimizer = AdamW(param_groups(model, frozen("0.*"), lr=1e-3))
        >>> [(group["name"], group.get("frozen", False)) for group in optimizer.param_groups]
        [('lr=0.001', True), ('lr=0.001', False)]
    """
    return match(which, frozen=True)


def no_decay(which: Which | None = None) -> Rule:
    """Weight decay 0 for what should have none: biases, norms, and other scales and shifts.

    It is told by what a parameter is, not by its name: the parameters of norm layers, those of at most one dimension, not
    counting dimensions of size 1 unless it is the weight of a linear, convolution or embedding layer, and those that
    modules list themselves (``no_weight_decay()`` and ``no_weight_decay_keywords()``, as timm's models have).

    Args:
        which: These too, as of :func:`match`; ``nn.Embedding`` for instance.

    Example:
        >>> from torch import nn
        >>> from surefoot.param_groups import no_decay, param_groups
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
        >>> groups = param_groups(model, no_decay(), weight_decay=0.1)
        >>> {name: group["weight_decay"] for group in groups for name, _ in group["params"]}
        {'0.weight': 0.1, '0.bias': 0.0, '1.weight': 0.0, '1.bias': 0.0}
    """
    which = settled(which)

    def rule(model: nn.Module, named: list[Named]) -> Mapping[str, Mapping[str, Any]]:
        listed = _listed(model)
        names = [
            name
            for name, param, module in named
            if _size(param, module) <= 1 or isinstance(module, NORMS) or id(param) in listed
        ]
        names += [] if which is None else _meant(which, model, named)
        # It has judged all of them: those that it leaves as they are are meant, too.
        return {name: {"weight_decay": 0.0} if name in names else {} for name, *_ in named}

    return rule


def layer_decay(rate: float, depth: Callable[[str], int] | Mapping[str, int] | None = None) -> Rule:
    """Smaller learning rates for earlier layers: ``rate`` times as much for each layer further from the end.

    Clark et al., 2020 (https://arxiv.org/abs/2003.10555). :func:`layers` shows which layer each parameter is in.

    Args:
        rate: In (0, 1].
        depth: The layer of a parameter by its name, from 0, in the place of :func:`layers`; or layers by patterns of
            names for some, as in ``{"proj": -1}``, counted from the end if negative.

    Example:
        >>> from torch import nn
        >>> from surefoot.param_groups import layer_decay, param_groups
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
        >>> [group["lr"] for group in param_groups(model, layer_decay(0.5), lr=1.0)]
        [0.25, 0.5, 1.0]
    """
    checks.positive("rate", rate)
    if rate > 1:
        raise ValueError(f"rate={rate!r} must be in (0, 1]: it multiplies lr once for each layer")

    def rule(model: nn.Module, named: list[Named]) -> Mapping[str, Mapping[str, Any]]:
        depths = depths_of(model, depth)
        last = max(depths.values())
        return {name: {"lr": Scale(rate ** (last - depths[name]))} for name, *_ in named}

    return rule


def _require(model: Any, optimizer: Any = None) -> None:
    if model is not None and not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}: pass a torch module")
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer is a {type(optimizer).__name__}: pass a torch optimizer")


def _listed(model: nn.Module) -> set[int]:
    """Parameters that modules list as having no decay, by their names or words in these, inside of them."""
    found: set[int] = set()
    for module in model.modules():
        names, words = (
            listed() if callable(listed := getattr(module, attribute, ())) else listed
            for attribute in ("no_weight_decay", "no_weight_decay_keywords")
        )
        if names or words:
            found |= {
                id(param)
                for name, param in module.named_parameters(remove_duplicate=False)
                if name in names or any(word in name for word in words)
            }
    return found


def _size(param: Tensor, module: nn.Module) -> int:
    """How many dimensions a parameter has."""
    return param.ndim if isinstance(module, MATRICES) else sum(size > 1 for size in param.shape)


def _meant(which: Which, model: nn.Module, named: list[Named]) -> list[str]:
    """Names of the parameters that are meant, by any of their names."""
    there = {id(param) for _, param, _ in named}
    every = [
        (name, param) for name, param in model.named_parameters(remove_duplicate=False) if id(param) in there
    ]
    if not matching(which, every, model) and matching(which, list(model.named_parameters()), model):
        raise ValueError(
            f"{brief(which)} means parameters with requires_grad=False alone, which no group has: leave it out, or let them "
            "require gradients and use frozen(...)"
        )
    found = meant(which, every, model)
    return [name for name, param, _ in named if id(param) in found]


def _said(rule: Rule, model: nn.Module, named: list[Named]) -> Mapping[str, Mapping[str, Any]]:
    said = rule(model, named)
    names = {name for name, *_ in named}
    if not isinstance(said, Mapping) or (unknown := said.keys() - names):
        wrong = (
            f"says something of {min(unknown)!r}" if isinstance(said, Mapping) else f"returned {brief(said)}"
        )
        raise ValueError(
            f"{brief(rule)} {wrong}: a rule returns hyperparameters by the names that it was given"
        )
    return said


def _settle(
    name: str, wanted: Mapping[int, Mapping[str, Any]], defaults: Mapping[str, Any], heard: list[bool]
) -> dict[str, Any]:
    """What a parameter gets: the first value, times the first scale, in the order of the defaults."""
    hyper: dict[str, Any] = {}
    keys = [*defaults, *(key for some in wanted.values() for key in some)]
    for key in dict.fromkeys(keys):
        said = [(i, some[key]) for i, some in wanted.items() if key in some]
        values = [(i, value) for i, value in said if not isinstance(value, Scale)]
        factors = [(i, value.factor) for i, value in said if isinstance(value, Scale)]
        for i, _ in values[:1] + factors[:1]:
            heard[i] = True
        if not values and key not in defaults:
            raise ValueError(
                f"{key} of {name} is scaled, but has no value: pass a default, as in param_groups(..., {key}=1e-3)"
            )
        value = values[0][1] if values else defaults[key]
        if factors and isinstance(value, tuple | list):
            raise TypeError(f"{key}={value!r} of {name} is no number to scale: pass match(..., {key}=...)")
        hyper[key] = value * factors[0][1] if factors else value
    return hyper


def _hashable(value: Any) -> Any:
    plain = value.tolist() if hasattr(value, "tolist") else value  # of tensors and arrays
    return tuple(plain) if isinstance(plain, list) else plain


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)

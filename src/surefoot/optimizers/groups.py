"""An optimizer's parameter groups: what may be in them, and changes at any step, by name, with the state kept."""

from __future__ import annotations

import math
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import wraps
from typing import Any, ClassVar, Literal, TypeAlias
from weakref import WeakSet

import torch
from torch import Tensor

from surefoot.names import Which, brief, frozen_in, labelled, meant, one_answer, taken
from surefoot.optimizers.hyperparameters import check_ranges

__all__ = ["Group", "ParamGroups", "hidden_from_compiler"]

Group: TypeAlias = dict[str, Any]
Ids: TypeAlias = set[int]

ENTRIES = ("name", "frozen")
"""What a group may have beside its parameters and hyperparameters."""


def hidden_from_compiler(function: Callable[..., Any]) -> Callable[..., Any]:
    """One of torch's methods that hides from torch's compiler, which it imports to do so: here, only if it is there.

    That takes a second, at the first use of an optimizer.
    """
    plain = getattr(function, "__wrapped__", function)

    @wraps(plain)
    def call(*args: Any, **kwargs: Any) -> Any:
        return (function if "torch._dynamo" in sys.modules else plain)(*args, **kwargs)

    return call


_add_param_group = hidden_from_compiler(torch.optim.Optimizer.add_param_group)


class ParamGroups(torch.optim.Optimizer):
    """What an optimizer can do to its parameters while it is in use.

    Which are meant is said by a pattern of names with ``*`` for anything, a compiled regular expression, a module, a
    parameter, a function of name and parameter, or a list of these. Without names parameters are called by their
    place, as in ``"0 of group 1"``.
    """

    counters: ClassVar[dict[str, float]]
    _schedulers: WeakSet[Any]
    """The schedules that drive its numbers, as long as there are any: they hear of every change."""

    def new_state(self, name: str, param: Tensor, hyper: Group) -> Tensor:
        """Counter or buffer ``name`` of a parameter before its first step."""
        raise NotImplementedError

    def labelled(self) -> Iterator[tuple[str, Tensor, Group]]:
        """Every parameter with its name, or else its place, and its group."""
        return labelled(self.param_groups)

    def freeze(self, which: Which) -> None:
        """Keep parameters and their state exactly as they are, whatever gradients they get, until :meth:`unfreeze`.

        They take no part in steps: no momentum, no decay, no count, no norm for clipping. What is frozen already stays so.

        Args:
            which: ``"backbone.*"``, parameters, or a function of name and parameter.

        Raises:
            ValueError: No parameter is meant.

        Example:
            >>> import torch, surefoot
            >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
            >>> optimizer = surefoot.AdamW(model.named_parameters())
            >>> optimizer.freeze("0.*")
            >>> optimizer.param_groups[0]["frozen"]  # for each of its parameters; groups stay as they are
            (True, True, False, False)
        """
        self._freeze(which, True)

    def unfreeze(self, which: Which = "*") -> None:
        """Let frozen parameters take part again, from the state that they had.

        Args:
            which: As of :meth:`freeze`; all by default.

        Raises:
            ValueError: No parameter is meant.
        """
        self._freeze(which, False)

    def _freeze(self, which: Which, frozen: bool) -> None:
        chosen = self._meant(which)
        for group in self.param_groups:
            now = frozen_in(group)
            then = [frozen if id(p) in chosen else was for p, was in zip(group["params"], now, strict=True)]
            if then != now:
                group["frozen"] = one_answer(then)

    def set(self, which: Which, **hyper: Any) -> None:
        """Give parameters other hyperparameters; a group of which a part is meant is split.

        Where a schedule of Surefoot's multiplies one, this is its new base, and it takes the value that the schedule has
        there. What was set last counts.

        Args:
            which: As of :meth:`freeze`.
            **hyper: The new values.

        Raises:
            ValueError: No parameter is meant, there is no value, a hyperparameter is not the optimizer's, out of range
                or at odds with the others, or it follows a schedule of values of its own, such as OneCycleLR; nothing
                is changed.

        Example:
            >>> import torch, surefoot
            >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
            >>> optimizer = surefoot.AdamW(model.named_parameters(), lr=1e-3)
            >>> optimizer.set("*.bias", weight_decay=0.0)
            >>> [(group["param_names"], group["weight_decay"]) for group in optimizer.param_groups]
            [(['0.weight', '1.weight'], 0.01), (['0.bias', '1.bias'], 0.0)]
        """
        if not hyper:
            raise ValueError(
                f"set({brief(which)}) gives nothing: pass a hyperparameter, as in set({brief(which)}, lr=1e-3)"
            )
        self._check_known(hyper)
        chosen = self._meant(which)
        touched = [group for group in self.param_groups if any(id(p) in chosen for p in group["params"])]
        numbers = [number for name, value in hyper.items() for number in _numbers(name, value)]
        schedulers = list(self._schedulers)
        writers = []
        for group in touched:
            self.check_hyperparameters({**group, **hyper})
            for key, place, value in numbers:
                driving = [one for one in schedulers if one.drives(group, key, place)]
                stuck = [one for one in driving if one.names_its_own(group, key, place)]
                if stuck and value != float(_at(group, key, place)):
                    raise ValueError(
                        f"{key} follows {type(stuck[0]).__name__}, whose values are its own: set them there, or delete it first"
                    )
                writers += driving
        before: dict[Any, float] = {}
        for group in self._split(chosen):
            before |= {(id(group), key, place): float(_at(group, key, place)) for key, place, _ in numbers}
            for name, value in hyper.items():
                group[name] = _like(group[name], value)
            if "lr" in hyper and "initial_lr" in group:
                group["initial_lr"] = float(hyper["lr"])
            _relabel(group, hyper)
            for scheduler in schedulers:
                for key, place, value in numbers:
                    scheduler.rebase(group, key, place, value)
        for scheduler in dict.fromkeys(writers):
            scheduler.refresh(write=True)
        for group in self.param_groups if writers else ():
            for key, place, value in numbers:
                now = float(_at(group, key, place))
                if before.get((id(group), key, place), math.nan) == now != value:
                    warnings.warn(
                        f"{key} stays {now:g}: its schedule is at a value that does not depend on the base. {value:g} is "
                        "the base of what may come; to leave the schedule delete it first.",
                        UserWarning,
                        stacklevel=2,
                    )

    def replace(
        self, old: str | Tensor, new: Tensor, state: Literal["keep", "reset", "resize"] = "keep"
    ) -> None:
        """Put another parameter in the place of one.

        Args:
            old: The parameter, or its name.
            new: The one that takes its place, in its group and under its name.
            state: ``"keep"``: the new one goes on with the state, which must be of its shape; ``"reset"``: it begins
                anew; ``"resize"``: it keeps the part of the state that both shapes have, as where an embedding grows.

        Raises:
            ValueError: ``old`` is not one parameter, ``new`` is one already, of another shape, or complex where the other
                is not.
            TypeError: ``new`` is no tensor.

        Example:
            >>> import torch, surefoot
            >>> embedding = torch.nn.Embedding(3, 2)
            >>> optimizer = surefoot.AdamW(embedding.named_parameters())
            >>> embedding.weight = torch.nn.Parameter(torch.cat([embedding.weight, torch.zeros(1, 2)]))
            >>> optimizer.replace("weight", embedding.weight, state="resize")
            >>> optimizer.param_groups[0]["params"][0].shape
            torch.Size([4, 2])
        """
        if state not in ("keep", "reset", "resize"):
            raise ValueError(f"state={state!r} must be 'keep', 'reset' or 'resize'")
        chosen = self._meant(old)
        found = [(name, param, group) for name, param, group in self.labelled() if id(param) in chosen]
        if len(found) != 1:
            raise ValueError(f"{old!r} means {len(found)} parameters: replace one after the other")
        ((label, before, group),) = found
        self._check_params([(label, new)])
        if state == "keep" and before.shape != new.shape:
            raise ValueError(
                f"{label} is of shape {tuple(before.shape)}, the new one of {tuple(new.shape)}: pass state='resize' or 'reset'"
            )
        if state != "reset" and before.is_complex() != new.is_complex():
            raise ValueError(f"{label} is of {before.dtype}, the new one of {new.dtype}: pass state='reset'")
        entry = self.state.get(before)
        if entry is not None and state == "resize":
            entry = {name: self._resized(name, value, before, new, group) for name, value in entry.items()}
        group["params"] = [new if param is before else param for param in group["params"]]
        self.state.pop(before, None)
        if entry is not None and state != "reset":
            self.state[new] = entry
        self._tell()

    def _resized(self, name: str, value: Any, before: Tensor, new: Tensor, group: Group) -> Any:
        if name in self.counters or not isinstance(value, Tensor) or value.shape != before.shape:
            return value
        if new.dim() != value.dim():
            raise ValueError(
                f"{name} has {value.dim()} dimensions, the new parameter {new.dim()}: pass state='reset'"
            )
        made = self.new_state(name, new, group).to(value.dtype)
        common = tuple(slice(min(sizes)) for sizes in zip(value.shape, new.shape, strict=True))
        made[common] = value[common].to(made.device)
        return made

    def add(self, params: Iterable[Tensor] | Iterable[tuple[str, Tensor]], **hyper: Any) -> None:
        """Add parameters, with hyperparameters of their own; a schedule takes them in by name.

        Args:
            params: Parameters, or pairs of names and parameters if the optimizer has names.
            **hyper: What differs from the optimizer's defaults.

        Raises:
            ValueError: One is there already, as a parameter or as a name, or has no name where the others have; a
                hyperparameter is not the optimizer's or out of range.

        Example:
            >>> import torch, surefoot
            >>> body, head = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
            >>> optimizer = surefoot.AdamW(body.named_parameters("body"), lr=1e-4)
            >>> optimizer.add(head.named_parameters("head"), lr=1e-2)
            >>> [(group["param_names"], group["lr"]) for group in optimizer.param_groups]
            [(['body.weight', 'body.bias'], 0.0001), (['head.weight', 'head.bias'], 0.01)]
        """
        self._check_known({name: value for name, value in hyper.items() if name not in ENTRIES})
        if isinstance(params, torch.nn.Module) or not isinstance(params, Iterable):
            raise TypeError(f"params is a {type(params).__name__}: pass module.named_parameters('its name')")
        new = list(params)
        named = [entry if isinstance(entry, tuple) else (None, entry) for entry in new]
        names = Counter(name for name, _, _ in self.labelled()) + Counter(name for name, _ in named if name)
        if again := [name for name, _ in named if name and names[name] > 1]:
            raise ValueError(
                f"{again[0]!r} is the name of another parameter: pass module.named_parameters(prefix=...)"
            )
        if len({id(param) for _, param in named}) < len(named):
            raise ValueError("params has one parameter twice: leave it in once")
        self.add_param_group({"params": new, **hyper})

    def remove(self, which: Which) -> None:
        """Drop parameters and their state.

        Args:
            which: As of :meth:`freeze`.

        Raises:
            ValueError: No parameter is meant, or all are.
        """
        chosen = self._meant(which)
        if all(id(param) in chosen for _, param, _ in self.labelled()):
            raise ValueError("all parameters are meant: an optimizer needs one")
        for _, param, _ in self.labelled():
            if id(param) in chosen:
                self.state.pop(param, None)
        for group in self.param_groups:
            group.update(
                taken(group, [i for i, param in enumerate(group["params"]) if id(param) not in chosen])
            )
        self.param_groups[:] = [group for group in self.param_groups if group["params"]]
        self._tell()

    def reset_state(self, which: Which = "*") -> None:
        """Forget counts and buffers: the next step begins anew.

        Args:
            which: As of :meth:`freeze`; all by default.

        Raises:
            ValueError: No parameter is meant.
        """
        chosen = self._meant(which)
        for _, param, _ in self.labelled():
            if id(param) in chosen:
                self.state.pop(param, None)

    def add_param_group(self, param_group: Group) -> None:
        """Add a group of parameters, at construction or later.

        Args:
            param_group: ``{"params": ..., **hyperparameters}``; what it leaves out comes from
                ``defaults``. It is copied, not written to.

        Raises:
            TypeError: Not a dict, or ``params`` holds something that is not a tensor.
            ValueError: A parameter is in a group already or is not a leaf; names on some
                parameters only; a hyperparameter is out of its range. The optimizer is unchanged.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group is a {type(param_group).__name__}: pass a dict with key 'params'")
        if "params" not in param_group:
            raise ValueError(f"param_group has keys {list(param_group)}: it needs 'params'")
        group = dict(param_group)
        params = group["params"]
        if not isinstance(params, set):  # torch refuses a set: it has no order
            group["params"] = [params] if isinstance(params, Tensor) else list(params)
            self._check_params(group["params"])
        self.check_hyperparameters({**self.defaults, **group})
        if "frozen" in group:
            group["frozen"] = one_answer(frozen_in(group))
        names = [entry[0] for entry in group["params"] if isinstance(entry, tuple)]
        writers = []
        for scheduler in self._schedulers:
            scheduler.check_new({**group, "param_names": names})
            if scheduler.drives_any():
                writers.append(scheduler)
        _add_param_group(self, group)
        self._tell(writers)

    def _tell(self, writers: Collection[Any] = ()) -> None:
        """Tell schedules that there are other parameters; some give theirs to new ones."""
        for scheduler in list(self._schedulers):
            scheduler.refresh(write=scheduler in writers)

    def _check_params(self, params: list[Any]) -> None:
        taken = {p: f"group {i}" for i, group in enumerate(self.param_groups) for p in group["params"]}
        for i, entry in enumerate(params):
            pair = isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], str)
            name, param = entry if pair else (f"params[{i}]", entry)
            if not isinstance(param, Tensor):
                raise TypeError(f"{name} is a {type(param).__name__}: an optimizer takes tensors")
            if not (param.is_floating_point() or param.is_complex()):
                raise TypeError(
                    f"{name} is of {param.dtype}: an optimizer takes floating point or complex tensors"
                )
            if param in taken:
                raise ValueError(
                    f"{name} of shape {tuple(param.shape)} is in {taken[param]} already: "
                    "leave it in one group only"
                )
            if not (self.defaults.get("differentiable") or param.is_leaf or param.retains_grad):
                raise ValueError(
                    f"{name} of shape {tuple(param.shape)} is not a leaf (it was computed from other "
                    "tensors): pass the tensor it was made from, or .detach().requires_grad_() it"
                )

    def check_hyperparameters(self, group: Group) -> None:
        """Raises ValueError or TypeError where a hyperparameter of a group is not what it may be."""
        check_ranges(group)
        if group.get("foreach") and group.get("fused"):
            raise ValueError("foreach=True and fused=True exclude each other: pass one of them, or neither")

    def _check_known(self, hyper: Group) -> None:
        if unknown := hyper.keys() - self.defaults.keys():
            known = ", ".join(self.defaults)
            raise ValueError(
                f"{sorted(unknown)[0]!r} is no hyperparameter of {type(self).__name__}: it has {known}"
            )

    def _meant(self, which: Which) -> Ids:
        return meant(which, [(name, param) for name, param, _ in self.labelled()])

    def _split(self, chosen: Ids) -> list[Group]:
        """Groups of exactly these parameters."""
        found = []
        for group in list(self.param_groups):
            inside = [i for i, param in enumerate(group["params"]) if id(param) in chosen]
            if not inside:
                continue
            if len(inside) < len(group["params"]):
                own = {key: _like(None, value) for key, value in group.items()}
                part = {**own, **taken(group, inside)}
                group.update(taken(group, sorted({*range(len(group["params"]))} - {*inside})))
                self.param_groups.append(part)
                group = part
            found.append(group)
        return found


def _numbers(name: str, value: Any) -> list[tuple[str, int | None, float]]:
    """The numbers that a hyperparameter is made of, each with its place in it; a flag is none."""
    many = value.tolist() if getattr(value, "ndim", 0) == 1 and len(value) > 1 else value
    if isinstance(many, tuple | list):
        return [(name, i, float(number)) for i, number in enumerate(many)]
    return [(name, None, float(value))] if hasattr(value, "__float__") and not isinstance(value, bool) else []


def _at(group: Group, key: str, place: int | None) -> Any:
    return group[key] if place is None else group[key][place]


def _like(old: Any, value: Any) -> Any:
    """A value for one group alone, a tensor where the old one is one."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(old, Tensor) and old.dim() == 0:
        return torch.full_like(old, value)
    return tuple(value) if isinstance(value, list) else value


def _relabel(group: Group, hyper: Group) -> None:
    """Keep a label true that :func:`~surefoot.param_groups.param_groups` made of the hyperparameters."""
    for name, value in hyper.items():
        if isinstance(group.get("name"), str) and isinstance(value, int | float):
            group["name"] = re.sub(rf"(?<!\S){name}=\S+", f"{name}={value:.3g}", group["name"])

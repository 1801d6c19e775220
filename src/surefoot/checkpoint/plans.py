"""How each part is loaded: a plan only looks, and says in the report what fits; then all plans are carried out."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from surefoot.archive import Stored, materialised
from surefoot.checkpoint.parts import clean, flat, names_in, unwrapped
from surefoot.lr_scheduler import Scheduler
from surefoot.names import regrouped
from surefoot.optimizers.base import Group, Optimizer
from surefoot.transfer import transfer, transferable

if TYPE_CHECKING:
    from surefoot.checkpoint.base import Report

__all__ = ["DOES_NOT_FIT", "Planner", "Work", "some"]

DOES_NOT_FIT = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What is raised by what is given something else than it knows."""

LIKE_PARAM = {
    "exp_avg",
    "exp_avg_sq",
    "max_exp_avg_sq",
    "exp_inf",
    "momentum_buffer",
    "square_avg",
    "grad_avg",
}
LIKE_PARAM |= {"sum", "acc_delta", "prev", "step_size", "ax"}
"""State of torch's optimizers that has its parameter's shape; LBFGS and others keep what has not."""

COUNTERS = {"step", "mu_product", "eta", "mu"}
"""State of theirs that is a number."""


def nothing() -> None:
    """Do nothing."""


@dataclass
class Work:
    """What is left to do for a part.

    Attributes:
        name: Of the part.
        read: Reads tensors to where they belong; comes last.
        settle: Does what may turn out not to fit.
        remember: Returns what takes ``settle`` back.
    """

    name: str
    read: Callable[[], None] = nothing
    settle: Callable[[], None] = nothing
    remember: Callable[[], Callable[[], None]] = lambda: nothing


class Planner:
    """Makes the plans, and notes in a report what they will do.

    Args:
        parts: What the file has.
        model: For the names of parameters.
        optimizer: The one that a scheduler is of.
        strict: Whether all must fit.
        hyper: Whose hyperparameters to go on with.
        report: Where to note it.
    """

    def __init__(
        self,
        parts: dict[str, Any],
        model: nn.Module | None,
        optimizer: torch.optim.Optimizer | None,
        strict: bool,
        hyper: str,
        report: Report,
    ) -> None:
        self.parts, self.model, self.optimizer = parts, model, optimizer
        self.strict, self.report = strict, report
        self.mine = hyper == "mine"  # also where saved ones do not fit the optimizer

    def plan(self, name: str, target: Any) -> Work:
        """The plan for a part, of which ``target`` is what it is loaded into."""
        if name in ("model", "ema"):
            return self._module(name, unwrapped(target))
        return self._optimizer(target) if name == "optimizer" else self._stateful(name, target)

    def _module(self, name: str, module: nn.Module) -> Work:
        theirs = {clean(key): value for key, value in self.parts[name]["state"].items()}
        registered = _registered(module)
        own_ways = registered is None  # the module loads in a way of its own
        ours: dict[str, Any] = registered or {
            clean(k): v for k, v in module.state_dict(keep_vars=True).items()
        }
        self.report.missing += [f"{name}/{key}" for key in ours if key not in theirs]
        self.report.left_over += [f"{name}/{key}" for key in theirs if key not in ours]
        fitting = {
            key: value
            for key, value in theirs.items()
            if key in ours and self._fits(f"{name}/{key}", value, ours[key])
        }
        self._check_ties(name, fitting, ours)
        self.report.loaded += [f"{name}/{key}" for key in fitting]
        if own_ways:
            return Work(name, lambda: _load_module(module, fitting))
        tensors = {key: value for key, value in fitting.items() if isinstance(ours[key], Tensor)}
        extra = {key: value for key, value in fitting.items() if key not in tensors}

        def read() -> None:
            for key, value in tensors.items():
                value.read_into(ours[key])
            for key, value in extra.items():
                ours[key].set_extra_state(materialised(value))

        return Work(name, read)

    def _fits(self, place: str, there: Any, here: Any) -> bool:
        if not isinstance(here, Tensor):  # a module with extra state, whatever that is
            return True
        if is_lazy(here) or here.is_meta:
            state = (
                "has no shape yet: run a batch"
                if is_lazy(here)
                else "is on meta: call model.to_empty(device=...)"
            )
            raise ValueError(f"{place} {state} before it is loaded")
        if any(stride == 0 and size > 1 for stride, size in zip(here.stride(), here.shape, strict=True)):
            raise ValueError(f"{place} repeats its memory (expand) and cannot be written to: clone it before")
        if _kind(there) == _kind(here):
            return True
        if not self.strict and isinstance(there, Stored) and there.shape == here.shape:
            self.report.notes.append(f"{place} was cast from {there.dtype} to {here.dtype}")
            return True
        self.report.differs.append(f"{place} is {_kind(there)} there, {_kind(here)} here")
        return False

    def _check_ties(self, name: str, fitting: dict[str, Any], ours: dict[str, Any]) -> None:
        """What is one tensor here must be one there, or equal."""
        first: dict[int, str] = {}
        for key, value in list(fitting.items()):
            other = first.setdefault(id(ours[key]), key)
            if other != key and isinstance(value, Stored) and not value.equals(fitting[other]):
                self.report.differs.append(f"{name}/{key} and {other} are two tensors there, and one here")
                del fitting[key]

    def _optimizer(self, optimizer: torch.optim.Optimizer) -> Work:
        part, report = self.parts["optimizer"], self.report
        names, named = names_in(optimizer.param_groups, self.model)
        kind, saved_kind = type(optimizer).__name__, part["class"]
        saved, state = [list(group["params"]) for group in part["param_groups"]], dict(part["state"])
        shapes = part.get("shapes") or {}
        if not (named and part["named"]):
            if named != part["named"] and self.strict:
                raise ValueError(
                    "only one side has names of parameters: pass model=..., so that they are matched by name, or "
                    "strict=False to match them by place"
                )
            saved, state, shapes = self._by_place(names, saved, state, shapes)
        here, there = flat(names), flat(saved)
        report.missing += [f"optimizer/{name}" for name in here if name not in there]
        report.left_over += [f"optimizer/{name}" for name in there if name not in here]
        moves = saved_kind not in (kind, None)
        if moves and self.strict:
            raise ValueError(
                f"it was saved by {saved_kind}, this optimizer is {kind}: pass strict=False to move what means the same"
            )
        if isinstance(optimizer, torch.optim.LBFGS) and here != there:
            raise ValueError(
                "LBFGS keeps one history of all parameters: pass them in the order they were saved in"
            )
        groups = self._groups(optimizer, names, saved, moves)
        owners = {
            name: (param, group)
            for group, params in zip(optimizer.param_groups, names, strict=True)
            for name, param in zip(params, group["params"], strict=True)
        }
        settings = {
            name: group for group, params in zip(part["param_groups"], saved, strict=True) for name in params
        }
        fitting: dict[str, Any] = {}
        for name in (name for name in state if name in owners):
            param, group = owners[name]
            if odd := _misshapen(state[name], param, shapes.get(name)):
                report.differs.append(f"optimizer/{name} has {odd} there, {tuple(param.shape)} here")
                continue
            if moves:
                how = transferable(state[name], saved_kind, settings[name], kind)
                report.notes += [f"optimizer: {how}"] * (f"optimizer: {how}" not in report.notes)
            elif isinstance(optimizer, Optimizer):
                optimizer.check_state(name, group, state[name])
            fitting[name] = state[name]
        report.loaded += [f"optimizer/{name}" for name in fitting]
        stays = [name for name in here if name not in there or (name in state and name not in fitting)]
        kept = {owners[name][0]: entry for name in stays if (entry := optimizer.state.get(owners[name][0]))}
        others = {name: entry for name, entry in state.items() if name not in settings}  # of no parameter

        def settle() -> None:
            if groups is not None:
                _load_groups(optimizer, groups, part["param_groups"])

        def read() -> None:
            optimizer.state.clear()
            optimizer.state.update(kept)
            homes = {id(param): group for group in optimizer.param_groups for param in group["params"]}
            for name, entry in fitting.items():
                param = owners[name][0]
                group = homes[id(param)]
                entry = materialised(entry)
                if moves:
                    entry = transfer(entry, saved_kind, settings[name], kind, group)
                optimizer.state[param] = _placed(optimizer, name, param, group, entry)
            optimizer.state.update({name: materialised(entry) for name, entry in others.items()})

        return Work("optimizer", read, settle, lambda: _remembered(optimizer))

    def _by_place(self, names: Any, saved: Any, state: Any, shapes: Any) -> tuple[Any, Any, Any]:
        if [*map(len, saved)] != [*map(len, names)]:
            sizes = [[*map(len, each)] for each in (saved, names)]
            raise ValueError(
                f"it has groups of {sizes[0]} parameters without names, this optimizer of {sizes[1]}"
            )
        here = dict(zip(flat(saved), flat(names), strict=True))
        self.report.notes.append("optimizer: parameters were matched by place, because there are no names")
        return names, *(
            {here.get(key, key): value for key, value in each.items()} for each in (state, shapes)
        )

    def _groups(
        self, optimizer: torch.optim.Optimizer, names: list[list[str]], saved: list[list[str]], moves: bool
    ) -> list[Group] | None:
        """Our groups as the saved ones lie; None where hyperparameters stay ours."""
        if moves:
            self.report.notes.append(
                f"optimizer: hyperparameters of {self.parts['optimizer']['class']} were left out"
            )
        if moves or self.mine:
            self.mine = True
            return None
        groups = regrouped(optimizer.param_groups, names, saved)
        if groups is None:
            if self.strict and {*flat(names)} == {*flat(saved)}:
                homes = [
                    {name: i for i, group in enumerate(each) for name in group} for each in (saved, names)
                ]
                moved = [name for name in flat(names) if homes[0][name] != homes[1][name]]
                raise ValueError(
                    f"it has {len(saved)} parameter groups, this optimizer {len(names)}; not in the same group: "
                    f"{some(moved)}; pass hyper='mine' to keep your groups and take the state"
                )
            self.mine = True
            self.report.notes.append("optimizer: its groups are others, hyperparameters are yours")
        elif isinstance(optimizer, Optimizer):
            for group, theirs in zip(groups, self.parts["optimizer"]["param_groups"], strict=True):
                optimizer.check_hyperparameters({**group, **materialised(theirs)})
        return groups

    def _stateful(self, name: str, target: Any) -> Work:
        part = self.parts[name]
        if part["class"] not in (type(target).__name__, None):
            self.report.differs.append(f"{name} is {part['class']} there, {type(target).__name__} here")
            return Work(name)
        self.report.loaded.append(name)
        driven = self.optimizer if self.optimizer is not None else getattr(target, "optimizer", None)
        driven = driven if name == "scheduler" and isinstance(driven, torch.optim.Optimizer) else None
        before = deepcopy(target.state_dict())

        def settle() -> None:
            state = materialised(part["state"])
            if self.mine and name == "scheduler":
                bases = {key: before[key] for key in ("base_lrs", "bases") if key in before}
                state = {
                    **{key: value for key, value in state.items() if key not in ("base_lrs", "bases")},
                    **bases,
                }
            # One of ours sets lr when it is loaded, inside torch's SequentialLR even out of its turn.
            back = (
                nothing
                if driven is None or (self.mine and isinstance(target, Scheduler))
                else _groups_of(driven)
            )
            if state or name != "scaler":  # that of a scaler that is not enabled is empty
                target.load_state_dict(state)
            back()

        def remember() -> Callable[[], None]:
            back = nothing if driven is None else _groups_of(driven)

            def undo() -> None:
                back()  # it may look at them, and write to them
                if before:
                    target.load_state_dict(before)
                back()

            return undo

        return Work(name, settle=settle, remember=remember)


def some(names: list[str]) -> str:
    """The first few, and how many more."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _registered(module: nn.Module) -> dict[str, Any] | None:
    """Parameters, persistent buffers, and modules with extra state, by their keys; None where a module loads in its own way."""
    found: dict[str, Any] = {}
    for prefix, inner in module.named_modules(remove_duplicate=False):
        hooks = inner._state_dict_hooks, inner._load_state_dict_pre_hooks, inner._load_state_dict_post_hooks
        loads = type(inner)._load_from_state_dict is not nn.Module._load_from_state_dict
        saves = type(inner)._save_to_state_dict is not nn.Module._save_to_state_dict
        if any(hooks) or ((loads or saves) and not type(inner).__module__.startswith("torch.nn.modules.")):
            return None
        place = clean(f"{prefix}.") if prefix else ""
        found |= {f"{place}{name}": param for name, param in inner._parameters.items() if param is not None}
        persistent = {k: v for k, v in inner._buffers.items() if k not in inner._non_persistent_buffers_set}
        found |= {f"{place}{name}": buffer for name, buffer in persistent.items() if buffer is not None}
        if type(inner).get_extra_state is not nn.Module.get_extra_state:
            found[f"{place}_extra_state"] = inner
    return found


def _load_module(module: nn.Module, fitting: dict[str, Any]) -> None:
    """By the module's own methods and hooks."""
    keys = {clean(key): key for key in module.state_dict(keep_vars=True)}
    module.load_state_dict({keys[key]: materialised(value) for key, value in fitting.items()}, strict=False)


def _misshapen(entry: dict[str, Any], param: Tensor, saved: list[int] | None) -> str:
    """What of a parameter's state is of another shape; TypeError where it is no state."""
    for key, value in entry.items():
        if key in COUNTERS and not (isinstance(value, int | float) or getattr(value, "shape", None) == ()):
            raise TypeError(f"{key} is {_kind(value)}, not a number")
        missing = value is None and key == "momentum_buffer"  # as torch's SGD may have it
        if (
            key in LIKE_PARAM
            and not missing
            and not getattr(value, "dtype", torch.int64).is_floating_point | param.is_complex()
        ):
            raise TypeError(f"{key} is {_kind(value)}, not a tensor of floating point numbers")
    odd = [
        f"{key} {tuple(value.shape)}"
        for key, value in entry.items()
        if key in LIKE_PARAM and isinstance(value, Stored | Tensor) and value.shape != param.shape
    ]
    other = saved is not None and tuple(saved) != tuple(param.shape)
    return ", ".join(odd) or (f"a parameter of {tuple(saved or ())}" if other else "")


def _load_groups(optimizer: torch.optim.Optimizer, groups: list[Group], saved: list[Group]) -> None:
    """Take saved groups up, and drop all state."""
    places = iter(range(len(flat(group["params"] for group in groups))))
    optimizer.param_groups[:] = groups
    optimizer.load_state_dict(
        {
            "state": {},
            "param_groups": [
                {**mine, **materialised(theirs), "params": [next(places) for _ in mine["params"]]}
                for mine, theirs in zip(groups, saved, strict=True)
            ],
        }
    )


def _placed(
    optimizer: torch.optim.Optimizer, name: str, param: Tensor, group: Group, entry: dict[str, Any]
) -> dict[str, Any]:
    """A parameter's state where it belongs, each tensor in its own dtype."""
    if isinstance(optimizer, Optimizer):
        return optimizer.adopt_state(name, param, group, entry, lent=False)
    on_device = group.get("capturable") or group.get("fused")

    def placed(key: str, value: Any) -> Any:
        if key == "step":
            step = torch.as_tensor(value, dtype=torch.float32) if isinstance(value, int | float) else value
            return step.to(param.device) if on_device else step
        if isinstance(value, list | tuple):
            return type(value)(placed("", each) for each in value)
        if not isinstance(value, Tensor):
            return value
        if value.shape != param.shape or value.stride() == param.stride():
            return value.to(param.device)
        return torch.empty_like(param, dtype=value.dtype, requires_grad=False).copy_(value)

    return {key: placed(key, value) for key, value in entry.items()}


def _remembered(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """What gives an optimizer back its state and groups."""
    state, back = optimizer.state, _groups_of(optimizer)

    def undo() -> None:
        optimizer.state = state
        back()

    return undo


def _groups_of(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """What gives an optimizer back its groups, the dicts themselves with what is in them now."""
    groups, before = optimizer.param_groups, optimizer.param_groups[:]
    entries = [dict(group) for group in before]
    tensors = [(v, v.clone()) for group in before for v in group.values() if isinstance(v, Tensor)]

    def undo() -> None:
        for tensor, value in tensors:
            tensor.data.copy_(value)
        for group, kept in zip(before, entries, strict=True):
            group.clear()
            group.update(kept)
        groups[:] = before
        optimizer.param_groups = groups

    return undo


def _kind(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor | Stored) else "plain data"

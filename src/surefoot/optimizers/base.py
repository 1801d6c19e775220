"""The optimizer every family builds on: state, groups, checkpoints, and the step.

A family adds a rule, the numbers the rule needs at each step, and a constructor.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import wraps
from itertools import chain
from typing import Any, ClassVar, Literal, Self, TypeAlias, TypedDict, overload
from weakref import WeakSet

import torch
from torch import Tensor
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from surefoot.kernels import choose
from surefoot.names import frozen_in, labelled, one_answer, regrouped
from surefoot.optimizers.groups import Group, ParamGroups, hidden_from_compiler
from surefoot.optimizers.plan import Plan
from surefoot.optimizers.step import LastStep, check_settings, take
from surefoot.rule import Rule

__all__ = ["Extras", "Group", "Optimizer", "ParamsT", "decays", "double", "keep"]

ParamsT: TypeAlias = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]


# How a step is executed, not what it computes: a checkpoint never changes these.
EXECUTION = ("foreach", "fused", "capturable", "differentiable")


class Extras(TypedDict, total=False):
    """What every optimizer takes beyond torch's arguments; :class:`Optimizer` says what each does."""

    clip_norm: float | None
    clip_value: float | None
    nonfinite: Literal["propagate", "skip", "raise"]
    stats: bool
    executor: str | None


class Optimizer(ParamGroups):
    """Runs one :class:`~surefoot.rule.Rule` over parameter groups.

    A drop-in for :class:`torch.optim.Optimizer`: hooks, ``param_groups``, ``state`` (keys, shapes
    and dtypes), ``state_dict`` and pickling are torch's, and torch's schedulers and
    ``GradScaler`` work on it.

    Args:
        params: Parameters, ``(name, parameter)`` pairs as from ``model.named_parameters()``, or
            dicts with key ``"params"`` and the group's own hyperparameters. They are copied, not
            written to.
        defaults: Hyperparameters of groups that do not set their own.
        clip_norm: Multiply all gradients so that their Euclidean norm, all together, is at most this, as
            ``torch.nn.utils.clip_grad_norm_`` does; at least 0. Infinity only measures. The gradients themselves
            stay as they are.
        clip_value: Cut each element of the gradients off at this absolute value, after ``clip_norm`` if both
            are given; at least 0.
        nonfinite: What to do where a gradient is infinite or NaN. ``"propagate"``: go on, as torch does;
            ``"skip"``: leave parameters, state and counts as they are; ``"raise"``: a FloatingPointError that names
            the parameters, and all stays as it is.
        stats: Measure each parameter, update and gradient at every step; see :attr:`last_step`.
        executor: ``"cpu"``, ``"eager"``, or None for the best there is.

    All of these may be set later, as attributes. With a ``GradScaler`` they see unscaled gradients: do not
    call its ``unscale_`` for them.

    Attributes:
        last_step: What the last call of :meth:`step` did, a :class:`~surefoot.optimizers.step.LastStep`;
            None before the first.
        updates: How many calls of :meth:`step` updated, since the optimizer was built.
        skipped: How many did not: a ``GradScaler`` or ``nonfinite="skip"`` found an infinite or NaN gradient.

    Raises:
        ValueError: ``params`` is empty, holds a parameter in two groups or a non-leaf; a
            hyperparameter is out of its range.
        TypeError: ``params`` holds something that is not a tensor.

    Example:
        >>> import surefoot
        >>> weight = torch.tensor([1.0], requires_grad=True)
        >>> optimizer = surefoot.SGD([("weight", weight)], lr=0.1, clip_norm=1.0, stats=True)
        >>> (3 * weight**2).sum().backward()
        >>> optimizer.step()
        >>> round(optimizer.last_step.grad_norm, 3), round(optimizer.last_step.clip_coef, 3)
        (6.0, 0.167)
        >>> round(optimizer.last_step.stats["weight"].update, 3)
        0.1
    """

    rule: ClassVar[Rule]
    counters: ClassVar[dict[str, float]] = {"step": 0.0}
    """Numbers kept for each parameter, with the value they start from."""

    state_dict = hidden_from_compiler(torch.optim.Optimizer.state_dict)
    zero_grad = hidden_from_compiler(torch.optim.Optimizer.zero_grad)

    _step_supports_amp_scaling = True  # a GradScaler gives us ``grad_scale`` and ``found_inf``

    def __init__(
        self,
        params: ParamsT,
        defaults: Group,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        nonfinite: Literal["propagate", "skip", "raise"] = "propagate",
        stats: bool = False,
        executor: str | None = None,
    ) -> None:
        if isinstance(params, Tensor):
            raise TypeError("params is a single tensor: pass a list, as in [tensor] or model.parameters()")
        if not isinstance(params, Iterable):
            raise TypeError(
                f"params is a {type(params).__name__}: pass model.parameters(), or a list of tensors"
            )
        entries: list[Any] = list(params)
        if not entries:
            raise ValueError(
                "params is empty: pass model.parameters(); a generator that was read before is empty too"
            )
        self.clip_norm, self.clip_value = clip_norm, clip_value
        self.nonfinite, self.stats, self.executor = nonfinite, stats, choose(executor)
        check_settings(self)
        self._plan: Plan | None = None
        self.last_step: LastStep | None = None
        self.updates = self.skipped = 0
        self._schedulers = WeakSet()
        super().__init__(entries, defaults)

    @property
    def state(self) -> defaultdict[Tensor, Any]:
        """Each parameter's counters and buffers. Whatever is changed or replaced in it counts from the next step on."""
        if self._plan is not None:
            self._plan.distrust()
        return self._state

    @state.setter
    def state(self, state: defaultdict[Tensor, Any]) -> None:
        self._state, self._plan = state, None

    def buffers(self, group: Group) -> tuple[str, ...]:
        """Names of the rule's buffers that ``group`` uses."""
        return self.rule.buffers

    def start(self, name: str, hyper: Group) -> Any:
        """The number that a counter or buffer starts from."""
        return self.counters.get(name, 0.0)

    def scalars(self, hyper: Group, state: dict[str, Any]) -> dict[str, Any]:
        """The rule's numbers for one step of all parameters with the same hyperparameters and counters.

        Args:
            hyper: The group's hyperparameters, floats unless ``capturable`` or ``differentiable``.
            state: The counters, ``state["step"]`` counted already: NumPy's numbers of the dtype that they are
                kept in, or 0-dim tensors; :func:`double` reads them and :func:`keep` sets them. And
                ``state["first"]``: whether the buffers were made for this step.
        """
        raise NotImplementedError

    def new_state(self, name: str, param: Tensor, hyper: Group) -> Tensor:
        if name in self.counters:
            made = real = _counter(0.0, param, hyper)
        else:
            made = torch.empty_like(param, memory_format=torch.preserve_format)
            real = torch.view_as_real(made) if made.is_complex() else made
        real.fill_(self.start(name, hyper))  # a rate that is differentiated stays in the graph
        return made

    def dense(self, grad: Tensor, group: Group) -> Tensor:
        """The gradient as the rule can take it; most rules take no sparse one."""
        if grad.is_sparse:
            raise RuntimeError(
                f"{type(self).__name__} does not support sparse gradients: use SparseAdam, Adagrad or SGD, "
                "or build the embedding with sparse=False"
            )
        return grad

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient.

        A parameter whose ``grad`` is None keeps its value, its state and its count.

        Args:
            closure: Re-evaluates the model and returns the loss.

        Returns:
            What ``closure`` returned, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        before = torch.is_grad_enabled()
        torch._C._set_grad_enabled(
            self.defaults.get("differentiable", False)
        )  # the context manager is slower
        try:
            self.last_step = take(self)
        finally:
            torch._C._set_grad_enabled(before)
        if self.last_step.applied:
            self.updates += 1
        else:
            self.skipped += 1
        return loss

    @staticmethod
    def profile_hook_step(func: Callable[..., Any]) -> Callable[..., Any]:
        """Torch's wrapper around ``step``, which calls hooks and tells profilers, where there are any."""
        with_hooks = torch.optim.Optimizer.profile_hook_step(func)

        @wraps(func)
        def step(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
            watched = (
                self._optimizer_step_pre_hooks
                or self._optimizer_step_post_hooks
                or _global_optimizer_pre_hooks
                or _global_optimizer_post_hooks
                or torch._C._autograd._profiler_enabled()
            )
            return (with_hooks if watched else func)(self, *args, **kwargs)

        return step

    def load_state_dict(self, state_dict: dict[str, Any], hyper: Literal["saved", "mine"] = "saved") -> None:
        """Load a ``state_dict`` of this class, or of torch's class of the same name.

        Parameters are matched by name where both sides have names, and by place otherwise. Saved groups may be parts
        of those here, as after :meth:`set`: these are split alike. Tensors are copied in their own dtype, moved to
        their parameter's device. ``foreach``, ``fused``, ``capturable`` and ``differentiable`` stay as they are here.
        What is frozen here stays so where the file does not speak of it. Nothing changes if anything is wrong.

        Args:
            state_dict: What :meth:`state_dict` returned. It is not written to.
            hyper: Whose hyperparameters to go on with: those that were ``"saved"``, or ``"mine"``, groups included.

        Raises:
            ValueError: Groups or shapes differ, or the state is another optimizer's; the message
                names the parameter.
        """
        if hyper not in ("saved", "mine"):
            raise ValueError(f"hyper={hyper!r} must be 'saved' or 'mine'")
        if not isinstance(state_dict, dict):
            raise TypeError(
                f"state_dict is a {type(state_dict).__name__}: pass what optimizer.state_dict() returned"
            )
        state_dict = state_dict.copy()
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            state_dict = hook(self, state_dict) or state_dict
        if not {"state", "param_groups"} <= state_dict.keys():
            raise ValueError(f"it has keys {sorted(state_dict)}: pass what optimizer.state_dict() returned")
        saved_groups = state_dict["param_groups"]
        saved_ids = chain.from_iterable(group["params"] for group in saved_groups)
        if hyper == "mine" and (mine := self._by_name(saved_groups)):
            groups, params = (
                [dict(group) for group in self.param_groups],
                dict(zip(saved_ids, mine, strict=True)),
            )
        else:
            laid = self._laid_as(saved_groups)
            adopted = [self._adopt_group(*pair) for pair in zip(laid, saved_groups, strict=True)]
            params = dict(zip(saved_ids, labelled(adopted), strict=True))
            groups = adopted if hyper == "saved" else [dict(group) for group in self.param_groups]
        state: defaultdict[Any, Any] = defaultdict(dict)
        for key, entry in state_dict["state"].items():
            if key in params:
                label, param, group = params[key]
                state[param] = self.adopt_state(label, param, group, entry)
            else:
                state[key] = deepcopy(entry)
        self.__setstate__({"state": state, "param_groups": groups})
        for post_hook in self._optimizer_load_state_dict_post_hooks.values():
            post_hook(self)

    def _by_name(self, saved: list[Group]) -> list[tuple[str, Tensor, Group]]:
        """Our parameters in the order of the saved ones, if these have the same names, whatever their groups are."""
        names = list(chain.from_iterable(group.get("param_names") or [None] for group in saved))
        mine = {name: (name, param, group) for name, param, group in self.labelled()}
        same = {*names} == mine.keys() and len(names) == len(mine) == sum(len(g["params"]) for g in saved)
        return [mine[name] for name in names] if same else []

    def _laid_as(self, saved: list[Group]) -> list[Group]:
        """Our groups as the saved ones lie: by name where all have one, and by place where they do not."""
        ours, theirs = ([len(group["params"]) for group in groups] for groups in (self.param_groups, saved))
        named = [[*(group.get("param_names") or [None] * len(group["params"]))] for group in saved]
        own = [list(group.get("param_names", ())) for group in self.param_groups]
        if [*map(len, own)] == ours and (laid := regrouped(self.param_groups, own, named)) is not None:
            return laid
        names, mine = list(chain(*named)), {name for name, _, _ in self.labelled()}
        if ours != theirs:
            raise ValueError(
                f"the saved groups hold {theirs} parameters, this optimizer's hold {ours}: "
                f"build it with the same groups in the same order{_lacking({*names} - {None}, mine)}"
            )
        for (name, _, _), other in zip(self.labelled(), names, strict=True):
            if name != other and other in mine:
                raise ValueError(
                    f"in the place of parameter {name} the saved groups have {other}, which is elsewhere here: build the "
                    f"optimizer with the same groups{_lacking({*names}, mine)}"
                )
        return self.param_groups

    def _adopt_group(self, group: Group, saved: Group) -> Group:
        """A copy of the saved group with our parameters and names, our execution, and what it does not know."""
        ours = {name: group[name] for name in ("params", "param_names", *EXECUTION) if name in group}
        adopted = {
            **group,
            **deepcopy({key: value for key, value in saved.items() if key not in ours}),
            **ours,
        }
        if "frozen" in adopted:  # a list, from JSON
            adopted["frozen"] = one_answer(frozen_in(adopted))
        return adopted

    def init_state(self) -> None:
        """Make the state of every parameter now, at count 0, as the first step would: memory is taken before training.

        What there is already stays. Parameters that are frozen or need no gradient get none.

        Example:
            >>> import torch, surefoot
            >>> weight = torch.ones(2, requires_grad=True)
            >>> optimizer = surefoot.Adam([weight])
            >>> optimizer.init_state()
            >>> optimizer.state[weight]
            {'step': tensor(0.), 'exp_avg': tensor([0., 0.]), 'exp_avg_sq': tensor([0., 0.])}
        """
        for group in self.param_groups:
            for param, frozen in zip(group["params"], frozen_in(group), strict=True):
                if param.requires_grad and not frozen:
                    entry = self.state[param]
                    for name in self.names_of_state(group):
                        if entry.get(name) is None:
                            entry[name] = self.new_state(name, param, group)

    def names_of_state(self, group: Group) -> tuple[str, ...]:
        """What of its state can be made before the first gradient is there."""
        return (*self.counters, *self.buffers(group))

    def to(self, device: torch.device | str) -> Self:
        """Move the state to a device, after the model went there; counters stay on the host unless ``capturable``.

        Returns:
            The optimizer.

        Example:
            >>> import torch, surefoot
            >>> model = torch.nn.Linear(2, 1)
            >>> optimizer = surefoot.Adam(model.parameters())
            >>> device = "cuda" if torch.cuda.is_available() else "cpu"
            >>> model, optimizer = model.to(device), optimizer.to(device)
        """
        for _, param, group in self.labelled():
            for name, value in self.state.get(param, {}).items():
                if isinstance(value, Tensor) and (name not in self.counters or group.get("capturable")):
                    self.state[param][name] = value.to(device)
        return self

    def check_state(self, label: str, group: Group, entry: Group) -> None:
        """Raises ValueError if one parameter's saved state is another optimizer's."""
        ours = {*self.counters, *self.rule.buffers}
        # A feature may have been switched on after the last step: without strangers its buffer may be missing.
        plain = defaultdict(int) if entry.keys() <= ours else group
        needed = {*self.counters, *self.buffers(plain)}
        if entry and (needed - entry.keys() or not ours & entry.keys()):
            raise ValueError(
                f"the saved state of parameter {label} has {sorted(entry)}, but {type(self).__name__} keeps "
                f"{[*self.counters, *self.rule.buffers]}: it was saved by another optimizer"
            )

    def adopt_state(self, label: str, param: Tensor, group: Group, entry: Group, lent: bool = True) -> Group:
        """One parameter's saved state, each tensor where its parameter is; a copy, if it is only lent.

        Raises:
            ValueError: It is another optimizer's, or of another shape.
        """
        self.check_state(label, group, entry)
        adopted: Group = {}
        for key, value in entry.items():
            if key in self.counters:
                adopted[key] = _counter(value, param, group)
            elif key in self.rule.buffers and isinstance(value, Tensor):
                if value.shape != param.shape:
                    raise ValueError(
                        f"the saved {key} of parameter {label} has shape {tuple(value.shape)}, the parameter "
                        f"has {tuple(param.shape)}: the model or the order of its parameters changed"
                    )
                value = value.detach().to_dense() if value.is_sparse else value.detach()
                if lent or value.device != param.device or value.stride() != param.stride():
                    value = torch.empty_like(param, dtype=value.dtype, requires_grad=False).copy_(value)
                adopted[key] = value
            elif isinstance(value, Tensor):
                adopted[key] = value.detach().to(param.device, copy=True)
            else:
                adopted[key] = deepcopy(value)
        return adopted

    def __getstate__(self) -> dict[str, Any]:
        kept = (*Extras.__annotations__, "updates", "skipped")
        return {**super().__getstate__(), **{name: getattr(self, name) for name in kept}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state["state"]
        super().__setstate__({name: value for name, value in state.items() if name != "state"})
        for name, start in (("last_step", None), ("updates", 0), ("skipped", 0)):
            self.__dict__.setdefault(name, start)
        self.__dict__.setdefault("_schedulers", WeakSet())  # those of a copy join it themselves

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}Executor: {self._who_serves()}\n)"

    def _who_serves(self) -> str:
        if self._plan is None:
            return f"{self.executor}, from the first step on"
        served, reasons = self._plan.served, self._plan.reasons.items()
        by_cpu = [f"cpu: {_tensors(served)}"] if served else []
        by_eager = (
            [f"eager: {', '.join(f'{_tensors(n)} ({reason})' for reason, n in reasons)}"] if reasons else []
        )
        frozen = [f"frozen: {_tensors(self._plan.frozen)}"] if self._plan.frozen else []
        return "; ".join(by_cpu + by_eager + frozen) or f"{self.executor}: no gradient yet"


def decays(lr: Any, weight_decay: Any, decoupled: bool) -> dict[str, Any]:
    """Weight decay as a rule's two numbers: a factor on the parameter, or a term of the gradient.

    Decoupled decay (Loshchilov & Hutter, https://arxiv.org/abs/1711.05101) multiplies the parameter
    by ``decay = 1 - lr * weight_decay``; coupled decay adds ``l2 * param`` to the gradient, and is None
    where there is none: 0 times a weight of infinity would be NaN.
    """
    if decoupled:
        return {"decay": 1 - lr * weight_decay, "l2": None}
    coupled = isinstance(weight_decay, Tensor) or weight_decay != 0
    return {"decay": 1.0, "l2": weight_decay if coupled else None}


def double(counter: Any, hyper: Group) -> Any:
    """A counter in double precision: a float, or a new tensor where ``capturable`` or autograd needs one."""
    live = hyper.get("capturable", False) or getattr(counter, "requires_grad", False)
    return counter.to(torch.float64, copy=True) if live else counter.item()


def keep(state: Group, name: str, value: Any) -> None:
    """Set a counter, rounded to its dtype; one that is a tensor is written to."""
    counter = state[name]
    if isinstance(counter, Tensor):
        counter.fill_(value)
    else:
        state[name] = type(counter)(value)


def _tensors(number: int) -> str:
    return f"{number} tensor{'' if number == 1 else 's'}"


def _lacking(theirs: Iterable[str], ours: Iterable[str]) -> str:
    """Which names are on one side alone, if there are names."""
    theirs, ours = {*theirs}, {*ours}
    said = ""
    for who, names in (("the saved state has", theirs - ours), ("it lacks", ours - theirs)):
        if theirs and names:
            said += f"; only {who} {', '.join(sorted(names)[:5])}" + ", ..." * (len(names) > 5)
    return said


def _counter(value: Any, param: Tensor, group: Group) -> Tensor:
    """A number of one parameter's state: on the host, unless ``capturable`` wants it on the device."""
    dtype = torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32
    device = param.device if group.get("capturable", False) else torch.device("cpu")
    if isinstance(value, Tensor):
        return value.detach().to(device, copy=True).reshape(())
    return torch.tensor(float(value), dtype=dtype, device=device)

"""Checkpoints: the parts of a training by name, in one file that is whole or not there.

checkpoint.save("run.safetensors", model=model, optimizer=optimizer, scheduler=scheduler, extra={"epoch": 3})
report = checkpoint.load("run.safetensors", model=model, optimizer=optimizer, scheduler=scheduler)
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from surefoot import archive, checks
from surefoot.archive import CheckpointError, Stored, materialised
from surefoot.lr_scheduler import Scheduler
from surefoot.names import regrouped
from surefoot.optimizers.base import EXECUTION, Group, Optimizer
from surefoot.transfer import transfer

__all__ = ["CheckpointError", "CheckpointManager", "Report", "Saved", "load", "opened", "save"]

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
"""State of an optimizer that is a number."""

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

NAMES = {"params", "param_names", "name", "frozen"}
"""Entries of a group that say whose it is."""

READ_WITH_CARE = {"curves", "plateau", "_schedulers", "lr_lambdas"}
"""State of a scheduler that may be another's."""

OFTEN_LEFT_OUT = {"_sets_lr", "_due", "bases", "scheduled", "plateau"}
"""State of a scheduler of ours that is there only if there is something to say."""

PARTS = ("model", "ema", "optimizer", "scheduler", "scaler")


@dataclass
class Report:
    """What a load did, and what it could not; names are ``part/parameter``.

    Attributes:
        loaded: What was loaded.
        missing: What is here and not in the file; it stays as it is.
        left_over: What is in the file and not here.
        differs: What is of another shape or dtype, and how; it stays as it is.
        notes: Anything else that is good to know.
        extra: What was saved as ``extra``.
    """

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    extra: Any = None

    @property
    def complete(self) -> bool:
        """Whether all that is here and all that was saved found each other."""
        return not (self.missing or self.left_over or self.differs)

    def __str__(self) -> str:
        lists = {"missing": self.missing, "left over": self.left_over, "differs": self.differs}
        lines = [f"loaded: {len(self.loaded)}"]
        lines += [f"{title}: {_some(names)}" for title, names in lists.items() if names]
        return "\n".join(lines + self.notes)


def save(
    path: str | os.PathLike[str],
    *,
    model: nn.Module | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: Any = None,
    scaler: Any = None,
    ema: nn.Module | None = None,
    extra: Any = None,
) -> None:
    """Write the parts that are given to one file.

    It is written beside ``path``, flushed to the disk and renamed: a kill at any moment leaves the old file or the new
    one. The state of each parameter is kept under its name in the model; without a model under its name in the
    optimizer, or its place. How steps are executed (``foreach``, ``fused`` ...) is not saved.

    Args:
        path: The file; its folder exists. Anything that reads safetensors can read it.
        model: A module; inside ``torch.compile`` or ``DistributedDataParallel`` the one within.
        optimizer: Any torch optimizer.
        scheduler: Anything with ``state_dict``, as a ``GradScaler`` is for ``scaler``.
        scaler: The ``GradScaler``.
        ema: An average of the model, such as :class:`~surefoot.swa_utils.AveragedModel`.
        extra: Nested dicts, lists and tuples of tensors, numbers and strings.

    Raises:
        TypeError: Something is neither a tensor nor a plain value; the message says where.
        ValueError: A parameter of the optimizer is not the model's.
        OSError: The file cannot be written; what was at ``path`` is still there.

    Example:
        >>> import tempfile, surefoot
        >>> from surefoot import checkpoint
        >>> path = Path(tempfile.mkdtemp()) / "run.safetensors"
        >>> model = nn.Linear(2, 1)
        >>> optimizer = surefoot.AdamW(model.parameters())
        >>> checkpoint.save(path, model=model, optimizer=optimizer, extra={"epoch": 3})
        >>> checkpoint.load(path, model=model, optimizer=optimizer).extra
        {'epoch': 3}
    """
    parts: dict[str, Any] = {}
    for name, module in (("model", model), ("ema", ema)):
        if module is not None:
            module = _unwrapped(module)
            parts[name] = {"class": type(module).__name__, "state": dict(module.state_dict())}
    if optimizer is not None:
        parts["optimizer"] = _optimizer_part(optimizer, model)
    for name, stateful in (("scheduler", scheduler), ("scaler", scaler)):
        if stateful is not None:
            parts[name] = {"class": type(stateful).__name__, "state": stateful.state_dict()}
    versions = {"surefoot": version("surefoot"), "torch": torch.__version__}
    archive.save(path, {"versions": versions, **parts, "extra": extra})


def load(
    path: str | os.PathLike[str],
    *,
    model: nn.Module | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: Any = None,
    scaler: Any = None,
    ema: nn.Module | None = None,
    strict: bool = True,
    hyper: Literal["saved", "mine"] = "saved",
) -> Report:
    """Load the parts that are given from a file that :func:`save` wrote.

    Everything is checked before anything is changed. Tensors are read one by one, bit for bit. Nothing is unpickled.

    Args:
        path: The file.
        model: Where its weights and buffers go, each by its name.
        optimizer: Where its state goes, each by the name of its parameter.
        scheduler: As saved.
        scaler: As saved.
        ema: As saved.
        strict: Raise where something does not fit. Otherwise load what fits: the report names the rest, weights of
            another dtype are cast, and state of another optimizer is moved where it means the same
            (:func:`~surefoot.transfer.transfer`).
        hyper: Whose hyperparameters the optimizer goes on with: those that were ``"saved"``, or ``"mine"``. Saved ones come
            with their groups, which must be those of the optimizer or parts of them.

    Raises:
        CheckpointError: The file is missing, damaged, or does not fit; nothing is changed.
    """
    with opened(path) as saved:
        return saved.load(
            model=model,
            optimizer=optimizer,
            scheduler=scheduler,
            scaler=scaler,
            ema=ema,
            strict=strict,
            hyper=hyper,
        )


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Saved]:
    """A checkpoint to look into before it is loaded, inside the block.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    with archive.opened(path) as tree:
        known = isinstance(tree, dict) and {"versions", "extra"} <= tree.keys()
        parts = {name: part for name, part in tree.items() if name in PARTS} if known else {}
        if not known or not all(map(_is_part, parts.values())):
            raise CheckpointError(
                f"{path} is no checkpoint of a training: pass a file that checkpoint.save wrote"
            )
        yield Saved(path, parts, tree["versions"], materialised(tree["extra"]))


class Saved:
    """An open checkpoint: see :func:`opened`.

    Attributes:
        parts: What there is of each part; tensors are :class:`~surefoot.archive.Stored`.
        versions: Of surefoot and torch when it was saved.
        extra: What was saved as ``extra``.
    """

    def __init__(self, path: Any, parts: dict[str, Any], versions: dict[str, str], extra: Any) -> None:
        self.path, self.parts, self.versions, self.extra = path, parts, versions, extra

    def load(
        self, *, strict: bool = True, hyper: Literal["saved", "mine"] = "saved", **targets: Any
    ) -> Report:
        """As :func:`load`."""
        if hyper not in ("saved", "mine"):
            raise ValueError(f"hyper={hyper!r} must be 'saved' or 'mine'")
        targets = {name: target for name, target in targets.items() if target is not None}
        report, work = Report(extra=self.extra), list[_Work]()
        for name in (part for part in PARTS if part in targets):
            if name not in self.parts:
                report.missing.append(name)
                continue
            part, target = self.parts[name], targets[name]
            try:
                if name in ("model", "ema"):
                    work.append(_plan_module(name, part, _unwrapped(target), strict, report))
                elif name == "optimizer":
                    work.append(_plan_optimizer(part, target, targets.get("model"), strict, hyper, report))
                else:
                    work.append(_plan_stateful(name, part, target, targets.get("optimizer"), hyper, report))
            except DOES_NOT_FIT as error:
                raise CheckpointError(f"{self.path} does not fit: the {name}: {error}") from error
        if strict and not report.complete:
            raise CheckpointError(f"{self.path} does not fit: {_misfits(report)}")
        undo = [each.remember() for each in work]
        try:
            for each in work:
                each.settle()
        except BaseException as error:
            for back in undo:
                back()
            if isinstance(error, DOES_NOT_FIT):
                said = f"the {each.name}: {error}. Nothing was changed"
                raise CheckpointError(f"{self.path} does not fit: {said}") from error
            raise
        undo.clear()  # with old state, before there is new
        for each in work:
            each.read()
        return report


def _nothing() -> None:
    pass


@dataclass
class _Work:
    """How a part is loaded: first what may turn out not to fit, and can be taken back, then its tensors."""

    name: str
    read: Callable[[], None] = _nothing
    settle: Callable[[], None] = _nothing
    remember: Callable[[], Callable[[], None]] = lambda: _nothing
    """Returns what takes ``settle`` back."""


class CheckpointManager:
    """A folder of checkpoints, of which it keeps the last few and the best.

    Args:
        folder: The folder; it is made where it is missing.
        keep: How many of the last to keep, at least 1.
        mode: Whether the best has the smallest metric, ``"min"``, or the largest, ``"max"``.

    Example:
        >>> import tempfile
        >>> from surefoot import checkpoint
        >>> manager = checkpoint.CheckpointManager(tempfile.mkdtemp(), keep=2)
        >>> for step, loss in ((1, 0.5), (2, 0.3), (3, 0.4), (4, 0.6)):
        ...     with manager.new(step, metric=loss) as path:
        ...         checkpoint.save(path, extra={"step": step})
        >>> [path.name for path in manager.paths()], manager.best().name
        (['step-2 metric-0.3.safetensors', 'step-3 metric-0.4.safetensors', 'step-4 metric-0.6.safetensors'], 'step-2 metric-0.3.safetensors')
    """

    NAME = re.compile(r"step-(\d+)(?: metric-(\S+))?\.safetensors")

    def __init__(
        self, folder: str | os.PathLike[str], keep: int = 3, mode: Literal["min", "max"] = "min"
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"mode={mode!r} must be 'min' or 'max'")
        self.folder, self.keep, self.mode = Path(folder), checks.whole("keep", keep, 1), mode
        self.folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def new(self, step: int, metric: float | None = None) -> Iterator[Path]:
        """Where to save in the block; after it older ones are deleted, if it ends without an error.

        Args:
            step: How far the training is; a later one is a larger one.
            metric: What the best is the best of; NaN is never best.
        """
        step = checks.whole("step", step, 0)
        name = f"step-{step}" if metric is None else f"step-{step} metric-{float(metric)!r}"
        path = self.folder / f"{name}.safetensors"
        yield path
        if not path.exists():
            raise FileNotFoundError(f"nothing was saved at {path}: save there in the with block")
        kept = {*self.paths()[-self.keep :], self.best()}
        for old in self.paths():
            if old not in kept:
                old.unlink(missing_ok=True)

    def paths(self) -> list[Path]:
        """All of them, the oldest first."""
        found = [path for path in self.folder.iterdir() if self.NAME.fullmatch(path.name)]
        return sorted(found, key=lambda path: (self._read(path)[0], path.stat().st_mtime_ns))

    def last(self) -> Path | None:
        """The newest that is whole; None where there is none."""
        return next((path for path in reversed(self.paths()) if _is_whole(path)), None)

    def best(self) -> Path | None:
        """The one of the best metric; None where none has one."""
        sign = 1 if self.mode == "min" else -1
        scored = [
            (sign * metric, -step, path) for path in self.paths() for step, metric in [self._read(path)]
        ]
        return min((each for each in scored if each[0] == each[0]), default=(0, 0, None))[2]

    def _read(self, path: Path) -> tuple[int, float]:
        found = self.NAME.fullmatch(path.name)
        assert found is not None
        return int(found[1]), float(found[2] or "nan")


def _is_whole(path: Path) -> bool:
    try:
        with archive.opened(path):
            return True
    except CheckpointError:
        return False


def _is_part(part: Any) -> bool:
    return isinstance(part, dict) and {"class", "state"} <= part.keys()


def _unwrapped(module: nn.Module) -> nn.Module:
    """The module itself, whose names have no prefix."""
    inner: Any = module
    while hasattr(inner, "_orig_mod") or isinstance(inner, nn.parallel.DistributedDataParallel):
        inner = inner._orig_mod if hasattr(inner, "_orig_mod") else inner.module
    return inner  # type: ignore[no-any-return]


def _names(optimizer: torch.optim.Optimizer, model: nn.Module | None) -> tuple[list[list[str]], bool]:
    """What each parameter of each group is called, and whether that is more than its place."""
    groups = [group["params"] for group in optimizer.param_groups]
    if model is not None:
        names = {id(param): name for name, param in _unwrapped(model).named_parameters()}
        unknown = [tuple(p.shape) for params in groups for p in params if id(p) not in names]
        if unknown:
            raise ValueError(f"the optimizer has parameters of shapes {unknown} that are not the model's")
        return [[names[id(param)] for param in params] for params in groups], True
    given = [list(group.get("param_names", ())) for group in optimizer.param_groups]
    if [*map(len, given)] == [*map(len, groups)] and len({*_flat(given)}) == len(_flat(given)):
        return given, True
    places = iter(range(len(_flat(groups))))
    return [[str(next(places)) for _ in params] for params in groups], False


def _optimizer_part(optimizer: torch.optim.Optimizer, model: nn.Module | None) -> dict[str, Any]:
    names, named = _names(optimizer, model)
    state = optimizer.state_dict()
    flat, left_out = _flat(names), {"params", "param_names", *EXECUTION}
    return {
        "class": type(optimizer).__name__,
        "named": named,
        "state": {flat[key] if isinstance(key, int) else key: entry for key, entry in state["state"].items()},
        "param_groups": [
            {"params": params, **{key: value for key, value in group.items() if key not in left_out}}
            for params, group in zip(names, state["param_groups"], strict=True)
        ],
    }


def _plan_module(name: str, part: dict[str, Any], module: nn.Module, strict: bool, report: Report) -> _Work:
    theirs, ours = part["state"], module.state_dict(keep_vars=True)
    report.missing += [f"{name}/{key}" for key in ours if key not in theirs]
    report.left_over += [f"{name}/{key}" for key in theirs if key not in ours]
    fitting: dict[str, Any] = {}
    for key, value in theirs.items():
        if key not in ours:
            continue
        if _kind(value) == _kind(ours[key]):
            fitting[key] = value
        elif not strict and _shape(value) is not None and _shape(value) == _shape(ours[key]):
            fitting[key] = value
            report.notes.append(f"{name}/{key} was cast from {value.dtype} to {ours[key].dtype}")
        else:
            report.differs.append(f"{name}/{key} is {_kind(value)} there, {_kind(ours[key])} here")
    report.loaded += [f"{name}/{key}" for key in fitting]

    tensors = {key: value for key, value in fitting.items() if isinstance(value, Stored)}
    owners = {
        key: module.get_submodule(key.removesuffix("_extra_state").rstrip("."))
        for key in fitting.keys() - tensors.keys()
    }

    def read() -> None:
        for key, value in tensors.items():
            value.read_into(ours[key])

    def settle() -> None:
        for key, owner in owners.items():
            owner.set_extra_state(materialised(fitting[key]))

    def remember() -> Callable[[], None]:
        before = [(owner, deepcopy(owner.get_extra_state())) for owner in owners.values()]

        def undo() -> None:
            for owner, state in before:
                owner.set_extra_state(state)

        return undo

    return _Work(name, read, settle, remember)


def _plan_optimizer(
    part: dict[str, Any],
    optimizer: torch.optim.Optimizer,
    model: nn.Module | None,
    strict: bool,
    hyper: str,
    report: Report,
) -> _Work:
    names, named = _names(optimizer, model)
    flat, kind, saved_kind = _flat(names), type(optimizer).__name__, part["class"]
    saved = [list(group["params"]) for group in part["param_groups"]]
    state = part["state"]
    if not (named and part["named"]):  # by place
        if [*map(len, saved)] != [*map(len, names)]:
            sizes = [[*map(len, each)] for each in (saved, names)]
            raise ValueError(
                f"it has groups of {sizes[0]} parameters without names, this optimizer of {sizes[1]}"
            )
        here = dict(zip(_flat(saved), flat, strict=True))
        saved, state = names, {here.get(key, key): entry for key, entry in state.items()}
        report.notes.append("optimizer: parameters were matched by place, because there are no names")
    report.missing += [f"optimizer/{name}" for name in flat if name not in _flat(saved)]
    report.left_over += [f"optimizer/{name}" for name in _flat(saved) if name not in flat]
    moves = saved_kind not in (kind, None)
    if moves and strict:
        raise ValueError(
            f"it was saved by {saved_kind}, this optimizer is {kind}: pass strict=False to move what means the same"
        )
    groups = None
    if moves or hyper == "mine":
        report.notes += [f"optimizer: hyperparameters of {saved_kind} were left out"] if moves else []
    else:
        groups = regrouped(optimizer.param_groups, names, saved)
        if groups is None and strict and {*flat} == {*_flat(saved)}:
            homes = [{name: i for i, group in enumerate(each) for name in group} for each in (saved, names)]
            moved = [name for name in flat if homes[0][name] != homes[1][name]]
            raise ValueError(
                f"it has {len(saved)} parameter groups, this optimizer {len(names)}; not in the same group: "
                f"{_some(moved)}; pass hyper='mine' to keep your groups and take the state"
            )
        if groups is None:
            report.notes.append("optimizer: its groups are others, hyperparameters are yours")
        for group, theirs in zip(groups or (), part["param_groups"], strict=False):
            _compare_settings(optimizer, group, theirs, report)
    settings_of = {
        name: group for group, params in zip(part["param_groups"], saved, strict=True) for name in params
    }
    owners = {
        name: (param, group)
        for group, params in zip(optimizer.param_groups, names, strict=True)
        for name, param in zip(params, group["params"], strict=True)
    }
    fitting: dict[str, Any] = {}
    for name, entry in state.items():
        if name not in owners:
            continue
        param, group = owners[name]
        odd = {key: value for key, value in entry.items() if not _is_state(key, value, param)}
        if odd:
            said = _kind if any(_shape(each) in (None, param.shape) for each in odd.values()) else _shape
            listed = ", ".join(f"{key} {said(value)}" for key, value in odd.items())
            report.differs.append(f"optimizer/{name} has {listed} there, {said(param)} here")
            continue
        if moves:
            entry, how = transfer(materialised(entry), saved_kind, settings_of[name], kind, group)
            report.notes += [f"optimizer: {how}"] * (f"optimizer: {how}" not in report.notes)
        if isinstance(optimizer, Optimizer):
            optimizer.check_state(name, group, entry)
        fitting[name] = entry
    report.loaded += [f"optimizer/{name}" for name in fitting]
    kept = {name: entry for name, entry in state.items() if name not in settings_of}
    entries = [entry.keys() for entry in fitting.values()]
    # State of no parameter is its optimizer's own, unless it is like that of a parameter, or there is no other.
    strange = [name for name, entry in kept.items() if _keys(entry) in entries or not (entries or moves)]
    report.left_over += [f"optimizer/{name}" for name in strange]

    def settle() -> None:
        if groups is not None:
            _load_groups(optimizer, groups, part["param_groups"])

    def remember() -> Callable[[], None]:
        state, back = optimizer.state, _remembered(optimizer)

        def undo() -> None:
            back()
            optimizer.__setstate__({"state": state, "param_groups": optimizer.param_groups})

        return undo

    def read() -> None:
        if groups is None:
            optimizer.state.clear()
        owners = {id(param): group for group in optimizer.param_groups for param in group["params"]}
        params = dict(zip(flat, _flat(group["params"] for group in own), strict=True))
        for name, entry in fitting.items():
            param = params[name]
            optimizer.state[param] = _state_of(optimizer, name, param, owners[id(param)], entry)
        optimizer.state.update({key: materialised(entry) for key, entry in kept.items()})

    own = [dict(group) for group in optimizer.param_groups]
    return _Work("optimizer", read, settle, remember)


def _compare_settings(optimizer: torch.optim.Optimizer, group: Group, saved: Group, report: Report) -> None:
    """Whether hyperparameters of a group can be those that were saved."""
    place = "optimizer/param_groups"
    theirs = {name: value for name, value in saved.items() if name not in NAMES}
    _renamed(place, theirs, group, group.keys() - {*EXECUTION, *NAMES}, report)
    for name in group.keys() & theirs.keys():
        report.differs += _unlike(f"{place}/{name}", theirs[name], group[name])
    if isinstance(optimizer, Optimizer):
        optimizer.check_hyperparameters({**group, **materialised(theirs)})


def _is_state(key: str, value: Any, param: Tensor) -> bool:
    """Whether a value can be what such a key says of a parameter."""
    if key in COUNTERS:
        return _sort(value) == "a number" and getattr(value, "dtype", param.dtype).is_floating_point
    if key not in LIKE_PARAM or (key == "momentum_buffer" and value is None):  # as torch's SGD may have it
        return True
    kinds = [(k.is_floating_point, k.is_complex) for k in (getattr(value, "dtype", torch.int64), param.dtype)]
    return _shape(value) == tuple(param.shape) and kinds[0] == kinds[1]


def _remembered(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """What gives an optimizer its groups back, as they are now."""
    groups, before = optimizer.param_groups, optimizer.param_groups[:]
    entries = [{k: v.clone() if isinstance(v, Tensor) else v for k, v in group.items()} for group in before]
    own = [dict(group) for group in before]

    def undo() -> None:
        for group, kept, values in zip(before, own, entries, strict=True):
            for name, value in kept.items():
                if isinstance(value, Tensor):
                    value.data.copy_(values[name])
            group.clear()
            group.update(kept)
        groups[:] = before
        optimizer.param_groups = groups

    return undo


def _load_groups(optimizer: torch.optim.Optimizer, groups: list[Group], saved: list[Group]) -> None:
    """Take saved groups up, and drop all state."""
    places = iter(range(len(_flat(group["params"] for group in groups))))
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


def _state_of(
    optimizer: torch.optim.Optimizer, name: str, param: Tensor, group: Group, entry: dict[str, Any]
) -> dict[str, Any]:
    """A parameter's saved state where it belongs, each tensor in its own dtype."""
    if isinstance(optimizer, Optimizer):
        return optimizer.adopt_state(name, param, group, materialised(entry), lent=False)
    on_device = group.get("capturable") or group.get("fused")

    def placed(key: str, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(placed(key, each) for each in value)
        if not isinstance(value, Tensor) or (key == "step" and not on_device):
            return value
        if value.shape != param.shape or value.stride() == param.stride():
            return value.to(param.device)
        return torch.empty_like(param, dtype=value.dtype, requires_grad=False).copy_(value)

    return {key: placed(key, materialised(value)) for key, value in entry.items()}


def _plan_stateful(
    name: str,
    part: dict[str, Any],
    target: Any,
    optimizer: torch.optim.Optimizer | None,
    hyper: str,
    report: Report,
) -> _Work:
    if part["class"] not in (type(target).__name__, None):
        report.differs.append(f"{name} is {part['class']} there, {type(target).__name__} here")
    saved, ours = part["state"], target.state_dict()
    if not isinstance(saved, dict):
        report.differs.append(f"{name} is {_sort(saved)} there, a dict here")
    elif saved and ours:  # that of a scaler that is not enabled is empty
        _renamed(name, saved, ours, ours.keys() - OFTEN_LEFT_OUT, report)
        known = isinstance(target, Scheduler) or type(target).__module__.startswith("torch.")
        for key in (saved.keys() & ours.keys()) - READ_WITH_CARE:
            report.differs += _unlike(f"{name}/{key}", saved[key], ours[key], open_to_none=not known)
    report.loaded.append(name)

    def settle() -> None:
        state = materialised(part["state"])
        if name == "scheduler" and hyper == "mine" and isinstance(target, Scheduler):
            bases = ("base_lrs", "bases", "scheduled")
            mine = {key: value for key, value in target.state_dict().items() if key in bases}
            state = {**{key: value for key, value in state.items() if key not in bases}, **mine}
        elif name == "scheduler" and optimizer is not None:
            # One of ours sets lr when it is loaded, inside torch's SequentialLR even out of its turn.
            before = [dict(group) for group in optimizer.param_groups]
            target.load_state_dict(state)
            for group, loaded in zip(optimizer.param_groups, before, strict=True):
                group.update(loaded)
            return
        if state or name != "scaler":
            target.load_state_dict(state)

    def remember() -> Callable[[], None]:
        driven = getattr(target, "optimizer", None)
        groups = _remembered(driven) if isinstance(driven, torch.optim.Optimizer) else _nothing

        def undo() -> None:
            groups()  # it may look at them, and write to them
            if ours:
                target.load_state_dict(ours)
            groups()

        return undo

    ours = deepcopy(ours)
    return _Work(name, settle=settle, remember=remember)


def _renamed(place: str, saved: Group, ours: Group, wanted: Iterable[str], report: Report) -> None:
    """Report what is not there if there is something else; another version may have more entries, or fewer."""
    missing, left_over = sorted({*wanted} - saved.keys()), sorted(saved.keys() - ours.keys())
    if missing and left_over:
        report.missing += [f"{place}/{name}" for name in missing]
        report.left_over += [f"{place}/{name}" for name in left_over]


def _unlike(place: str, there: Any, here: Any, open_to_none: bool = False) -> list[str]:
    """Where plain values are of another kind than those here."""
    kinds = _sort(there), _sort(here)
    if kinds[1] == "None" or (open_to_none and kinds[0] == "None"):
        return []
    if kinds[0] != kinds[1]:
        return [f"{place} is {kinds[0]} there, {kinds[1]} here"]
    pairs: Iterable[tuple[Any, Any, Any]] = ()
    if kinds[0] == "a dict":
        if there.keys() - here.keys() and here.keys() - there.keys():
            return [f"{place} has {_some([*there])} there, {_some([*here])} here"]
        pairs = [(key, there[key], here[key]) for key in there.keys() & here.keys()]
    elif kinds[0] == "a list":
        pairs = zip(range(len(there)), there, here, strict=False)
    return _flat(_unlike(f"{place}/{key}", there, here, open_to_none) for key, there, here in pairs)


def _sort(value: Any) -> str:
    """What kind of thing a value is; an int may be a float, a tuple a list, and a tensor of one a number."""
    if isinstance(value, Tensor | Stored):
        return "a number" if value.shape.numel() == 1 else "a tensor"
    kinds = {bool: "a bool", int: "a number", float: "a number", str: "a text", dict: "a dict"}
    kinds |= {list: "a list", tuple: "a list", type(None): "None"}
    return next(
        (said for kind, said in kinds.items() if isinstance(value, kind)), f"a {type(value).__name__}"
    )


def _keys(entry: Any) -> Any:
    return entry.keys() if isinstance(entry, dict) else None


def _kind(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor | Stored) else "plain data"


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor | Stored) else None


def _flat(lists: Iterable[Iterable[Any]]) -> list[Any]:
    return [value for values in lists for value in values]


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _misfits(report: Report) -> str:
    lists: Mapping[str, list[str]] = {
        "it lacks": report.missing,
        "only there is": report.left_over,
        "": report.differs,
    }
    said = "; ".join(f"{title} {_some(names)}".strip() for title, names in lists.items() if names)
    return f"{said}. Nothing was changed; strict=False loads what fits"

"""Saving and loading: see :mod:`surefoot.checkpoint`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Literal

import torch
from torch import nn

from surefoot import archive
from surefoot.archive import CheckpointError, materialised
from surefoot.checkpoint.parts import names_in, optimizer_part, state_of, unwrapped
from surefoot.checkpoint.plans import DOES_NOT_FIT, Planner, Work, some

__all__ = ["PARTS", "Report", "Saved", "load", "opened", "save", "write"]

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
        lines += [f"{title}: {some(names)}" for title, names in lists.items() if names]
        return "\n".join(lines + self.notes)

    def misfits(self) -> str:
        """All that did not find each other, in one line."""
        lists = {"it lacks": self.missing, "only there is": self.left_over, "": self.differs}
        return "; ".join(f"{title} {some(names)}".strip() for title, names in lists.items() if names)


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
        >>> from pathlib import Path
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
            module = unwrapped(module)
            parts[name] = {"class": type(module).__name__, "state": state_of(module)}
    if optimizer is not None:
        names = names_in(optimizer.param_groups, model)
        shapes = [param.shape for group in optimizer.param_groups for param in group["params"]]
        parts["optimizer"] = optimizer_part(type(optimizer).__name__, optimizer.state_dict(), *names, shapes)
    for name, stateful in (("scheduler", scheduler), ("scaler", scaler)):
        if stateful is not None:
            parts[name] = {"class": type(stateful).__name__, "state": stateful.state_dict()}
    write(path, parts, extra)


def write(path: str | os.PathLike[str], parts: dict[str, Any], extra: Any) -> None:
    """As :func:`save`, of parts that are state already."""
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
        self,
        *,
        model: nn.Module | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        scheduler: Any = None,
        scaler: Any = None,
        ema: nn.Module | None = None,
        strict: bool = True,
        hyper: Literal["saved", "mine"] = "saved",
    ) -> Report:
        """As :func:`load`."""
        if hyper not in ("saved", "mine"):
            raise ValueError(f"hyper={hyper!r} must be 'saved' or 'mine'")
        report = Report(extra=self.extra)
        planner = Planner(self.parts, model, optimizer, strict, hyper, report)
        wanted = {
            "model": model,
            "ema": ema,
            "optimizer": optimizer,
            "scheduler": scheduler,
            "scaler": scaler,
        }
        work: list[Work] = []
        for name, target in wanted.items():
            if target is None:
                continue
            if name not in self.parts:
                report.missing.append(name)
                continue
            try:
                work.append(planner.plan(name, target))
            except DOES_NOT_FIT as error:
                raise CheckpointError(
                    f"{self.path} does not fit: the {name}: {error}. Nothing was changed"
                ) from error
        if strict and not report.complete:
            raise CheckpointError(
                f"{self.path} does not fit: {report.misfits()}. Nothing was changed; strict=False loads what fits"
            )
        self._settle(work)
        try:
            for each in work:
                each.read()
        except (OSError, *DOES_NOT_FIT) as error:
            raise CheckpointError(
                f"reading {self.path} failed midway: {error}. The {each.name} is loaded in part: load another checkpoint"
            ) from error
        return report

    def _settle(self, work: list[Work]) -> None:
        """Do what may turn out not to fit, or else take it back."""
        undo = [each.remember() for each in work]
        try:
            for each in work:
                each.settle()
        except BaseException as error:
            for back in undo:
                back()
            if not isinstance(error, DOES_NOT_FIT):
                raise
            said = f"the {each.name}: {error!r}. Nothing was changed"
            raise CheckpointError(f"{self.path} does not fit: {said}") from error


def _is_part(part: Any) -> bool:
    return isinstance(part, dict) and {"class", "state"} <= part.keys()

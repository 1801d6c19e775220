"""A run: everything a training run is made of, as one thing that can be saved and resumed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from surefoot import checkpoint, rng
from surefoot.checkpoint import CheckpointError
from surefoot.snapshot import Snapshot

__all__ = ["Run"]


class Run:
    """Model, optimizer, scheduler, data position, random generators and counters.

    Training ``n + m`` updates equals training ``n``, :meth:`save`, :meth:`resume` elsewhere and training
    ``m``, bit for bit, in the middle of a pass too.

    Args:
        model: The model; its parameter names name the optimizer's state on disk.
        optimizer: Surefoot's, or any torch optimizer, over parameters of ``model``.
        loader: The training data: an iterable that gives the same batches when its generators are put
            back, as a map-style ``DataLoader`` does.
        loss: ``loss(model, batch)`` returns the loss of a batch, a scalar tensor.
        scheduler: A learning-rate scheduler of ``optimizer``, if any.

    Attributes:
        epoch: Passes over the data finished.
        batch: Batches of the current pass trained on.
        step: Updates made.

    Example:
        >>> import surefoot
        >>> model = nn.Linear(2, 1)
        >>> run = Run(model, surefoot.SGD(model.parameters(), lr=0.1), [torch.ones(4, 2)], lambda m, x: m(x).mean())
        >>> [record.step for record in surefoot.train(run, epochs=3)]
        [1, 2, 3]
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loader: Any,
        loss: Callable[[nn.Module, Any], Tensor],
        scheduler: Any = None,
    ) -> None:
        self.model, self.optimizer, self.loader = model, optimizer, loader
        self.loss, self.scheduler = loss, scheduler
        self.epoch = self.batch = self.step = 0
        self._pass_start: dict[str, Any] | None = None

    @property
    def at_pass_end(self) -> bool:
        """Whether the last batch of the current pass has been trained on (never known without a length)."""
        try:
            return bool(self.batch == len(self.loader))
        except TypeError:  # a DataLoader has __len__, whether its dataset has one or not
            return False

    def batches(self) -> Iterator[Any]:
        """The batches left of the current pass, after which ``epoch`` is one more.

        Raises:
            ValueError: The loader gives no batch at all, or fewer than were trained on.
        """
        now = rng.get_state(self.loader)
        if self.batch == 0:
            self._pass_start = now
        if (
            getattr(self.loader, "persistent_workers", False)
            and self.loader._iterator is None
            and self.epoch > 0
        ):
            iter(self.loader)  # the first pass of such a loader draws a number more than those after it
        rng.set_state(self._pass_start or now, self.loader)
        batches = iter(self.loader)
        if self.batch > 0:  # draw the same order again, go past what was trained on, and be where we were
            for given in range(self.batch):
                if next(batches, self) is self:
                    raise ValueError(
                        f"loader gave {given} batches, but {self.batch} of this pass were trained on: resume with "
                        "the data and the batch size of the run that was saved"
                    )
            rng.set_state(now, self.loader)
        yield from batches
        if self.batch == 0:
            raise ValueError(
                "loader gave no batch: its dataset is empty or smaller than a batch with drop_last=True, or it "
                "cannot be read a second time"
            )
        self.epoch, self.batch = self.epoch + 1, 0

    def save(self, path: str | os.PathLike[str], **extra: Any) -> None:
        """Save everything to one file; see :func:`surefoot.checkpoint.save`.

        Args:
            path: The file.
            **extra: Plain values and tensors to keep with it; :meth:`resume` returns them.
        """
        checkpoint.save(path, {"run": self.state_dict(), "extra": extra})

    def resume(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        """Go to where a run with the same parts was saved.

        Returns:
            What :meth:`save` was given as ``extra``.

        Raises:
            CheckpointError: The file is missing, damaged, or of a run with other parts.
        """
        tree = checkpoint.load(path)
        if not isinstance(tree, dict) or not tree.keys() >= {"run", "extra"}:
            raise CheckpointError(f"{path} is not of a run: pass a file that Run.save wrote")
        try:
            self.load_state_dict(tree["run"])
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} is of another run: {error}") from error
        extra: dict[str, Any] = tree["extra"]
        return extra

    def state_dict(self) -> dict[str, Any]:
        """Everything by name: what :meth:`save` writes."""
        scheduler = None if self.scheduler is None else self.scheduler.state_dict()
        return {
            "classes": self._classes(),
            "model": dict(self.model.state_dict()),
            "optimizer": self._named_optimizer_state(),
            "scheduler": scheduler,
            "position": {"epoch": self.epoch, "batch": self.batch, "step": self.step},
            "rng": {"pass_start": self._pass_start, "now": rng.get_state(self.loader)},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take everything from a :meth:`state_dict` of a run with the same parts.

        Raises:
            ValueError: A part is another; the message names it. Nothing changes.
        """
        for saved, own in zip(state["classes"], self._classes(), strict=True):
            if saved != own:
                raise ValueError(f"it was trained with {saved}, this run has {own}")
        theirs, ours = (
            {name: _kind(value) for name, value in m.items()}
            for m in (state["model"], self.model.state_dict())
        )
        differing = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
        if differing:
            each = (
                f"{n} is {theirs.get(n, 'absent')} there, {ours.get(n, 'absent')} here" for n in differing[:3]
            )
            raise ValueError(f"the model differs: {'; '.join(each)}")
        optimizer = self._numbered_optimizer_state(state["optimizer"])
        position = [state["position"][key] for key in ("epoch", "batch", "step")]
        pass_start, now = state["rng"]["pass_start"], state["rng"]["now"]
        rng.check(now, self.loader)
        self.optimizer.load_state_dict(optimizer)
        self.model.load_state_dict(state["model"])
        if self.scheduler is not None:
            # A scheduler of ours sets lr when it is loaded, inside a SequentialLR even out of its turn.
            groups = [
                {k: deepcopy(v) for k, v in g.items() if k != "params"} for g in self.optimizer.param_groups
            ]
            self.scheduler.load_state_dict(state["scheduler"])
            for group, loaded in zip(self.optimizer.param_groups, groups, strict=True):
                group.update(loaded)
        self.epoch, self.batch, self.step = position
        self._pass_start = pass_start
        rng.set_state(now, self.loader)

    @contextmanager
    def borrow(self) -> Iterator[Run]:
        """Lend the run out: on leaving the block, however it is left, all of it is as it was."""
        position = self.epoch, self.batch, self.step, self._pass_start
        schedulers = [
            (scheduler, {k: list(v) if isinstance(v, list) else v for k, v in vars(scheduler).items()})
            for scheduler in _nested(self.scheduler)
        ]
        snapshot = Snapshot(self.model, self.optimizer, self.loader)
        try:
            yield self
        finally:
            snapshot.restore()
            self.epoch, self.batch, self.step, self._pass_start = position
            for scheduler, attributes in schedulers:
                vars(scheduler).clear()
                vars(scheduler).update(attributes)

    def _classes(self) -> list[str]:
        scheduler = "no scheduler" if self.scheduler is None else type(self.scheduler).__name__
        return [type(self.optimizer).__name__, scheduler]

    def _names(self) -> list[list[str]]:
        """The model's names of the optimizer's parameters, group by group."""
        names = {id(p): name for name, p in self.model.named_parameters()}
        groups = [group["params"] for group in self.optimizer.param_groups]
        unknown = [tuple(p.shape) for params in groups for p in params if id(p) not in names]
        if unknown:
            raise ValueError(f"the optimizer has parameters of shapes {unknown} that are not the model's")
        return [[names[id(p)] for p in params] for params in groups]

    def _named_optimizer_state(self) -> dict[str, Any]:
        groups, state = self._names(), self.optimizer.state_dict()
        names = [name for group in groups for name in group]
        return {
            "state": {names[i]: entry for i, entry in state["state"].items()},
            "param_groups": [  # param_names would bring their order along
                {**{k: v for k, v in saved.items() if k != "param_names"}, "params": group}
                for saved, group in zip(state["param_groups"], groups, strict=True)
            ],
        }

    def _numbered_optimizer_state(self, named: dict[str, Any]) -> dict[str, Any]:
        groups = self._names()
        saved = [group["params"] for group in named["param_groups"]]
        if [sorted(group) for group in groups] != [sorted(group) for group in saved]:
            theirs, ours = ({n: i for i, names in enumerate(g) for n in names} for g in (saved, groups))
            moved = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
            raise ValueError(
                f"it has {len(saved)} parameter groups, this optimizer {len(groups)}; not in the same group: "
                f"{', '.join(moved[:5])}"
            )
        index = {name: i for i, name in enumerate(name for group in groups for name in group)}
        return {
            "state": {index[name]: entry for name, entry in named["state"].items()},
            "param_groups": [
                {**saved, "params": [index[name] for name in group]}
                for saved, group in zip(named["param_groups"], groups, strict=True)
            ],
        }


def _kind(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else "plain data"


def _nested(scheduler: Any) -> Iterator[Any]:
    """The scheduler and those it is made of, as a SequentialLR is."""
    if scheduler is not None:
        yield scheduler
        for inner in getattr(scheduler, "_schedulers", ()):
            yield from _nested(inner)

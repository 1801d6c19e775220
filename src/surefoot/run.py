"""A run: everything a training run is made of, as one thing that can be saved and resumed."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from surefoot import checkpoint, rng
from surefoot.checkpoint import CheckpointError
from surefoot.checks import whole
from surefoot.data import Feed
from surefoot.snapshot import Snapshot

__all__ = ["Run"]


class Run:
    """Model, optimizer, scheduler, data position, random generators and counters.

    Training ``n + m`` updates equals training ``n``, :meth:`save`, :meth:`resume` elsewhere and training
    ``m``, bit for bit, in the middle of a pass too.

    Args:
        model: The model; its parameter names name the optimizer's state on disk.
        optimizer: Surefoot's, or any torch optimizer, over parameters of ``model``.
        loader: The training data: a ``DataLoader``, torchdata's ``StatefulDataLoader``, or any iterable that gives the
            same batches when its generators are put back; :attr:`resume_promise` says what that is good for.
        loss: ``loss(model, batch)`` returns the loss of a batch, a scalar tensor.
        scheduler: A learning-rate scheduler of ``optimizer``, if any.
        scaler: The ``GradScaler`` that is in use, if any.
        ema: An average of the model to keep, such as :class:`~surefoot.swa_utils.AveragedModel`.

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
        scaler: Any = None,
        ema: nn.Module | None = None,
    ) -> None:
        self.model, self.optimizer, self.loader = model, optimizer, loader
        self.loss, self.scheduler, self.scaler = loss, scheduler, scaler
        self.ema: Any = ema
        self.epoch = self.batch = self.step = 0
        self._known_feed = Feed(loader)
        self._pass_start: dict[str, Any] | None = None
        self._resumes = 0  # how often this went elsewhere
        self._loader_state: Any = None  # of a loader that keeps its own, to be taken up by the next pass

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
        start = self._pass_start or now
        if self._feed.unread and self.epoch > 0:
            self._feed.start_workers()  # the first pass of such a loader draws a number more than those after it
        if self._loader_state is not None:
            self.loader.load_state_dict(self._loader_state)
            self._loader_state = None
            batches = iter(self.loader)
            rng.set_state(now, self.loader)
        else:
            # What was trained on is drawn again, from where the pass began; then all goes on from where we are.
            rng.set_state(start, self.loader)
            batches = self._feed.batches(self.batch, _seed_of(start, self.epoch))
            if self.batch > 0:
                rng.set_state(now, self.loader)
        resumes = self._resumes
        for batch in batches:
            yield batch
            if self._resumes != resumes:  # in the middle of this: its place is another now
                return
        if self.batch == 0:
            raise ValueError(
                "loader gave no batch: its dataset is empty or smaller than a batch with drop_last=True, or it "
                "cannot be read a second time"
            )
        self.epoch, self.batch = self.epoch + 1, 0

    @property
    def resume_promise(self) -> str:
        """How well the middle of a pass is found again, in words; it depends on the loader."""
        return self._feed.promise

    def save(self, path: str | os.PathLike[str], **extra: Any) -> None:
        """Save everything to one file; see :func:`surefoot.checkpoint.save`.

        Args:
            path: The file.
            **extra: Plain values and tensors to keep with it; :meth:`resume` returns them.
        """
        loader = self.loader.state_dict() if self._feed.stateful else None
        own = {
            "position": {"epoch": self.epoch, "batch": self.batch, "step": self.step},
            "rng": {"pass_start": self._pass_start, "now": rng.get_state(self.loader)},
            "loader": self._loader_state or loader,
            "size": self._feed.size,
        }
        checkpoint.save(path, **self._parts(), extra={"run": own, "extra": extra})

    def resume(
        self,
        path: str | os.PathLike[str],
        strict: bool = True,
        hyper: Literal["saved", "mine"] = "saved",
    ) -> dict[str, Any]:
        """Go to where a run with the same parts was saved.

        Args:
            path: The file.
            strict: As of :func:`surefoot.checkpoint.load`.
            hyper: As of :func:`surefoot.checkpoint.load`.

        Returns:
            What :meth:`save` was given as ``extra``.

        Raises:
            CheckpointError: The file is missing, damaged, or of a run with other parts; nothing is changed.
        """
        parts = self._parts()
        with checkpoint.opened(path) as saved:
            if not isinstance(saved.extra, dict) or not saved.extra.keys() >= {"run", "extra"}:
                raise CheckpointError(f"{path} is not of a run: pass a file that Run.save wrote")
            if strict:
                for name in saved.parts:
                    if parts.get(name) is None:
                        kind = saved.parts[name]["class"]
                        raise CheckpointError(
                            f"{path} is of another run: its {name} is a {kind}, this run has none"
                        )
            try:
                own = saved.extra["run"]
                position = [whole(key, own["position"][key], 0) for key in ("epoch", "batch", "step")]
                pass_start, now = own["rng"]["pass_start"], own["rng"]["now"]
                if own["size"] != self._feed.size:
                    raise ValueError(
                        f"its loader gave {own['size']} (batches in a pass, samples in a batch), this one "
                        f"{self._feed.size}: resume with the same data and batch size"
                    )
                before = rng.get_state(self.loader)
                try:
                    for state in (pass_start, now):
                        if state is not None:
                            rng.set_state(state, self.loader)
                finally:  # it was to see whether they can be set
                    rng.set_state(before, self.loader)
            except (AttributeError, LookupError, OverflowError, RuntimeError, TypeError, ValueError) as error:
                raise CheckpointError(f"{path} is of another run: {error}") from error
            saved.load(**parts, strict=strict, hyper=hyper)
            extra: dict[str, Any] = saved.extra["extra"]
        self.epoch, self.batch, self.step = position
        self._resumes += 1
        self._pass_start, self._loader_state = pass_start, own["loader"]
        rng.set_state(now, self.loader)
        return extra

    def _parts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in checkpoint.PARTS}

    @contextmanager
    def borrow(self) -> Iterator[Run]:
        """Lend the run out: on leaving the block, however it is left, all of it is as it was."""
        own = {
            name: vars(self)[name]
            for name in ("epoch", "batch", "step", "_pass_start", "_loader_state", "_known_feed")
        }
        loader_state = self.loader.state_dict() if self._feed.stateful else None
        schedulers = [_attributes_of(scheduler) for scheduler in _nested(self.scheduler)]
        parts = nn.ModuleList([part for part in (self.model, self.ema) if part is not None])
        snapshot = Snapshot(parts, self.optimizer, self.loader, scaler=self.scaler)
        self._known_feed = Feed(self.loader)
        try:
            yield self
        finally:
            snapshot.restore()
            vars(self).update(own)
            if (
                loader_state is not None
            ):  # one that is being read was read elsewhere meanwhile: it begins again from here
                self._loader_state = self._loader_state or loader_state
                self._resumes += 1
            for give_back in schedulers:
                give_back()

    @property
    def _feed(self) -> Feed:
        if self._known_feed.loader is not self.loader:
            self._known_feed = Feed(self.loader)
        return self._known_feed


def _attributes_of(scheduler: Any) -> Callable[[], None]:
    """What gives a scheduler its attributes back, and those of what it is made of."""
    owners = [
        scheduler,
        *(vars(scheduler)[name] for name in ("_targets", "plateau") if vars(scheduler).get(name)),
    ]
    kept = [(owner, {name: _copied(value) for name, value in vars(owner).items()}) for owner in owners]

    def give_back() -> None:
        for owner, attributes in kept:
            vars(owner).clear()
            vars(owner).update({name: _copied(value) for name, value in attributes.items()})

    return give_back


def _copied(value: Any) -> Any:
    """Lists of an attribute, and dicts of numbers in them, copied; groups and tensors are themselves."""
    if isinstance(value, list):
        return [dict(one) if isinstance(one, dict) and "params" not in one else one for one in value]
    return value


def _seed_of(state: dict[str, Any], epoch: int) -> int:
    """A seed that follows from where the generators are."""
    states = [state["torch"], *(each for loader in state["loaders"] for each in loader)]
    return zlib.crc32(repr(epoch).encode() + b"".join(each.numpy().tobytes() for each in states))


def _nested(scheduler: Any) -> Iterator[Any]:
    """The scheduler and those it is made of, as a SequentialLR is."""
    if scheduler is not None:
        yield scheduler
        for inner in getattr(scheduler, "_schedulers", ()):
            yield from _nested(inner)

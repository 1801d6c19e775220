"""A run: everything a training run is made of, as one thing that can be saved and resumed."""

from __future__ import annotations

import inspect
import os
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from types import FunctionType
from typing import Any, Literal

import torch
from torch import nn

from surefoot import checkpoint, rng
from surefoot.batch import length
from surefoot.checkpoint import CheckpointError
from surefoot.checks import whole
from surefoot.data import Feed
from surefoot.snapshot import Beside, Snapshot
from surefoot.swa_utils import pairs

__all__ = ["Run"]

COUNTERS = ("epoch", "batch", "step", "best", "stale")


class Run:
    """Model, optimizer, scheduler, data position, random generators and counters.

    Training ``n + m`` updates equals training ``n``, :meth:`save`, :meth:`resume` elsewhere and training
    ``m``, bit for bit, in the middle of a pass too.

    Args:
        model: The model; its parameter names name the optimizer's state on disk.
        optimizer: Surefoot's, or any torch optimizer, over parameters of ``model``.
        loader: The training data: a ``DataLoader``, torchdata's ``StatefulDataLoader``, or any iterable that gives the
            same batches when its generators are put back; :attr:`resume_promise` says what that is good for.
        loss: ``loss(model, batch)`` returns the mean loss of a batch: a scalar tensor; a dict of losses by name, of which
            ``"loss"`` is minimised, or their sum if none has that name; or anything that has a ``loss``, as what
            models of Hugging Face return.
        scheduler: A learning-rate scheduler of ``optimizer``, if any.
        scaler: The ``GradScaler`` that is in use, if any.
        ema: An average of the model to keep, such as :class:`~surefoot.swa_utils.AveragedModel`; see :meth:`ema`.
        autocast: Compute losses in ``torch.bfloat16`` or ``torch.float16`` where that is accurate enough; float16 needs
            a ``scaler``.
        accumulate: Batches for each update, at least 1; the last update of a pass takes what is left.
        scheduler_every: When :func:`~surefoot.train` steps it: ``"update"``, or ``"epoch"``, at the end of each pass, as for a
            ``StepLR`` whose ``step_size`` is in epochs.
        count: ``count(batch)`` says what the loss of a batch is the mean of, such as how many tokens are not padding;
            the length of the first tensor in it if None. It weights the batches of an update.
        step_fn: In the place of ``loss``: ``step_fn(batch)`` returns the loss, to be minimised as above. Or it makes the
            whole update itself, ``backward()`` and ``optimizer.step()`` included, as for two optimizers in turn:
            then the optimizer stepped, or the loss returned is a float or detached.

    Attributes:
        average: What was given as ``ema``.
        epoch: Passes over the data finished.
        batch: Batches of the current pass trained on.
        step: Updates made, those that were skipped included.
        best: The best metric of all evaluations, None before the first; :func:`~surefoot.train` keeps it.
        stale: Evaluations since.

    Raises:
        TypeError: A part is something else than it should be.
        ValueError: There is neither ``loss`` nor ``step_fn``, or both; a setting is out of its range; the optimizer has
            no parameter of the model.

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
        loss: Callable[[nn.Module, Any], Any] | None = None,
        scheduler: Any = None,
        scaler: Any = None,
        ema: nn.Module | None = None,
        *,
        autocast: torch.dtype | None = None,
        accumulate: int = 1,
        scheduler_every: Literal["update", "epoch"] = "update",
        count: Callable[[Any], float] | None = None,
        step_fn: Callable[[Any], Any] | None = None,
    ) -> None:
        _check_parts(model, optimizer, loader)
        _check_scheduler(scheduler, optimizer, scheduler_every)
        if (loss is None) == (step_fn is None):
            given = "neither is" if loss is None else "both are"
            raise ValueError(f"pass either loss or step_fn: {given} given")
        for name, function in (("loss", loss), ("step_fn", step_fn), ("count", count)):
            if function is not None and not callable(function):
                raise TypeError(f"{name}={function!r} is a {type(function).__name__}: pass a function")
        if isinstance(loss, nn.modules.loss._Loss):  # such as CrossEntropyLoss
            raise TypeError(
                f"loss={loss!r} takes outputs and targets: pass a function of model and batch that calls it"
            )
        if autocast not in (None, torch.bfloat16, torch.float16):
            raise ValueError(f"autocast={autocast!r} must be torch.bfloat16, torch.float16 or None")
        if autocast == torch.float16 and scaler is None and loss is not None:
            raise ValueError(
                "autocast=torch.float16 without a scaler: small gradients become 0. Pass scaler=torch.amp.GradScaler(), or "
                "autocast=torch.bfloat16, which needs none"
            )
        self.model, self.optimizer, self.loader = model, optimizer, loader
        self.loss, self.scheduler, self.scaler = loss, scheduler, scaler
        self.scheduler_every = scheduler_every
        self.average: Any = ema
        self.autocast, self.accumulate = autocast, whole("accumulate", accumulate, 1)
        self.count, self.step_fn = count or length, step_fn
        self.best: float | None = None
        self.stale = 0
        self.epoch = self.batch = self.step = 0
        self._known_feed = Feed(loader)
        self._pass_start: dict[str, Any] | None = None
        self._resumes = 0  # how often this went elsewhere
        self._rewind: Callable[[], None] | None = None  # while it is lent
        self._loader_state: Any = None  # of a loader that keeps its own, to be taken up by the next pass

    @property
    def pass_length(self) -> int | None:
        """Batches in a pass; None where nobody knows."""
        return self._feed.size[0]

    def windows(self) -> Iterator[list[Any]]:
        """The batches left of the current pass, those of an update together, after which ``epoch`` is one more.

        Whoever trains on them counts them, in ``batch``.

        Raises:
            ValueError: The loader gives no batch at all, or fewer than were trained on.
        """
        now = rng.get_state(self.loader)
        if self.batch == 0:
            self._pass_start = now
        start = self._pass_start or now
        if self._feed.unread and self.epoch > 0:
            self._feed.start_workers()  # the first pass of such a loader draws a number more than those after it
            rng.set_state(now, self.loader)
        if self._loader_state is not None:
            self.loader.load_state_dict(self._loader_state)
            self._loader_state = None
            batches = iter(self.loader)
            rng.set_state(now, self.loader)
        else:
            # What was trained on is drawn again, from where the pass began; then all goes on from where we are.
            if self.batch > 0:
                rng.set_state(start, self.loader)
            batches = self._feed.batches(self.batch, _seed_of(start, self.epoch))
            if self.batch > 0:
                rng.set_state(now, self.loader)
        resumes = self._resumes
        length = self.pass_length or 0
        while True:
            # No more than are left: a sampler that is asked past its end draws a number.
            size = self.accumulate
            if 0 < length - self.batch < size:
                size = length - self.batch
            if not (window := [*islice(batches, size)]):
                break
            yield window
            if self._resumes != resumes:  # in the middle of this: its place is another now
                return
            if len(window) < size:  # an iterator that has ended is not asked again
                break
        if self.batch == 0:
            raise ValueError(
                "loader gave no batch: its dataset is empty or smaller than a batch with drop_last=True, or it "
                "cannot be read a second time"
            )
        if self.batch < length:
            warnings.warn(
                f"loader gave {self.batch} batches, but has a length of {length}: nobody knows where a pass ends, and what "
                "is done there is not done; mend its __len__, or pass evaluate_every and save_every, in updates",
                stacklevel=2,
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
            "evaluations": {"best": self.best, "stale": self.stale},
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
                evaluations = own.get("evaluations", {"best": None, "stale": 0})
                best, stale = evaluations["best"], whole("stale", evaluations["stale"], 0)
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
        self.best, self.stale = best, stale
        self._resumes += 1
        self._pass_start, self._loader_state = pass_start, own["loader"]
        rng.set_state(now, self.loader)
        return extra

    def _parts(self) -> dict[str, Any]:
        return {name: getattr(self, "average" if name == "ema" else name) for name in checkpoint.PARTS}

    @contextmanager
    def ema(self) -> Iterator[nn.Module]:
        """Give the model the weights and buffers of :attr:`average` inside the block; its own come back, bit for bit.

        Without an average it stays as it is.

        Example:
            >>> import surefoot
            >>> model = nn.Linear(1, 1, bias=False)
            >>> ema = surefoot.swa_utils.AveragedModel(model)
            >>> optimizer = surefoot.SGD(model.parameters(), lr=0.1)
            >>> run = Run(model, optimizer, [], lambda model, x: model(x).mean(), ema=ema)
            >>> _ = nn.init.constant_(model.weight, 3.0), nn.init.constant_(ema.module.weight, 2.0)
            >>> with run.ema():
            ...     model.weight.item()
            2.0
            >>> model.weight.item()
            3.0
        """
        if self.average is None:
            yield self.model
            return
        average = getattr(self.average, "module", self.average)
        both = [
            *pairs("parameter", average.named_parameters(), self.model.named_parameters()),
            *pairs("buffer", average.named_buffers(), self.model.named_buffers()),
        ]
        own = [current.clone() for _, current in both]
        try:
            for value, current in both:
                current.copy_(value)
            yield self.model
        finally:
            for value, (_, current) in zip(own, both, strict=True):
                current.copy_(value)

    @contextmanager
    def borrow(self, *loaders: Any) -> Iterator[Run]:
        """Lend the run out: on leaving the block, however it is left, all of it is as it was.

        Other optimizers that step inside the block, as in a ``step_fn``, and their parameters are put back, too; and buffers and
        modes of modules that ``loss`` or ``step_fn`` names itself: a criterion, a second network.

        Args:
            *loaders: Others that are read inside the block, such as that of validation: their generators are put back.
        """
        own = {name: vars(self)[name] for name in (*COUNTERS, "_pass_start", "_loader_state", "_known_feed")}
        loader_state = self.loader.state_dict() if self._feed.stateful else None
        others = [part for scheduler in _nested(self.scheduler) for part in _parts_of(scheduler)]
        others += _modules_in(self.loss), _modules_in(self.step_fn)
        model = nn.ModuleList([part for part in (self.model, self.average) if part is not None])
        snapshot = Snapshot(model, self.optimizer, self.loader, *loaders, scaler=self.scaler, others=others)
        beside, outer = Beside(self.optimizer), self._rewind

        def give_back() -> None:
            beside.restore()
            snapshot.restore()

        def rewind() -> None:
            give_back()
            snapshot.set_aside()

        try:
            self._known_feed, self._rewind = Feed(self.loader), rewind
            snapshot.set_aside()
            with beside:
                yield self
        finally:
            try:
                give_back()
            except BaseException:  # as Ctrl-C in the middle of it
                give_back()
                raise
            finally:
                vars(self).update(own)
                self._rewind = outer
            if (
                loader_state is not None
            ):  # one that is being read was read elsewhere meanwhile: it begins again from here
                self._loader_state = self._loader_state or loader_state
                self._resumes += 1

    def rewind(self) -> None:
        """Inside :meth:`borrow`: put model, optimizer, schedulers, scaler and generators back to where it began.

        Raises:
            RuntimeError: The run is not lent.
        """
        if self._rewind is None:
            raise RuntimeError("there is nothing to rewind to: call it inside 'with run.borrow():'")
        self._rewind()

    @property
    def _feed(self) -> Feed:
        if self._known_feed.loader is not self.loader:
            self._known_feed = Feed(self.loader)
        return self._known_feed


def _check_parts(model: Any, optimizer: Any, loader: Any) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}: pass a torch.nn.Module")
    if not hasattr(optimizer, "param_groups"):
        raise TypeError(f"optimizer is a {type(optimizer).__name__}: pass the optimizer of the model")
    known = {id(param) for param in model.parameters()}
    if not any(id(param) in known for group in optimizer.param_groups for param in group["params"]):
        raise ValueError("optimizer has no parameter of model: build it with model.parameters()")
    if not hasattr(loader, "__iter__") and not hasattr(loader, "__getitem__"):
        raise TypeError(f"loader is a {type(loader).__name__}: pass a DataLoader, or a list of batches")


def _check_scheduler(scheduler: Any, optimizer: Any, every: str) -> None:
    if every not in ("update", "epoch"):
        raise ValueError(f"scheduler_every={every!r} must be 'update' or 'epoch'")
    if every == "epoch" and getattr(scheduler, "per", "epoch") == "update":
        raise ValueError(
            "scheduler_every='epoch', but the scheduler counts updates: build it with per='epoch'"
        )
    if scheduler is None:
        return
    if not callable(getattr(scheduler, "step", None)):
        raise TypeError(
            f"scheduler is a {type(scheduler).__name__}: pass a scheduler of the optimizer, such as "
            "Scheduler(optimizer, lr=...); several are one as a SequentialLR or a ChainedScheduler"
        )
    other = getattr(scheduler, "optimizer", None)
    if isinstance(other, torch.optim.Optimizer) and other is not getattr(optimizer, "optimizer", optimizer):
        raise ValueError("scheduler is of another optimizer: build it with the one that the run is given")


def _parts_of(scheduler: Any) -> Iterator[Any]:
    """A scheduler, and those of its attributes that it writes to."""
    yield scheduler
    for name in ("_targets", "plateau"):
        yield getattr(scheduler, name, None)
    for function in getattr(scheduler, "lr_lambdas", ()):
        if not isinstance(function, FunctionType):
            yield function


def _modules_in(function: Any) -> nn.ModuleList:
    """The modules that a function names: itself, of its object, its closure and its module.

    Example:
        >>> criterion = nn.BCELoss()
        >>> _modules_in(lambda model, batch: criterion(model(batch[0]), batch[1]))
        ModuleList(
          (0): BCELoss()
        )
    """
    named = [function]
    while isinstance(function, partial):
        named += [*function.args, *function.keywords.values()]
        function = function.func
    owner = getattr(function, "__self__", function)
    named += [owner, *getattr(owner, "__dict__", {}).values()]
    function = getattr(function, "__func__", function)
    if isinstance(function, FunctionType):
        with suppress(ValueError):  # a variable of it has no value yet
            variables = inspect.getclosurevars(function)
            named += [*variables.nonlocals.values(), *variables.globals.values()]
    return nn.ModuleList({id(each): each for each in named if isinstance(each, nn.Module)}.values())


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

"""The training loop, in the open: a generator of records."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from types import FrameType
from typing import Any, Literal, SupportsFloat, get_args

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from surefoot import checks, rng
from surefoot.checkpoint import CheckpointManager
from surefoot.record import Record
from surefoot.run import Run
from surefoot.update import NonFiniteLossError, Policy, Update, rates, update

__all__ = ["Record", "stop_on_signal", "train"]

Evaluate = Callable[[nn.Module], Any]


def train(
    run: Run,
    epochs: int | None = None,
    *,
    steps: int | None = None,
    evaluate: Evaluate | None = None,
    evaluate_every: int | None = None,
    patience: int | None = None,
    monitor: str = "loss",
    mode: Literal["min", "max"] = "min",
    checkpoints: CheckpointManager | str | os.PathLike[str] | None = None,
    save_every: int | None = None,
    nonfinite: Policy = "raise",
    stopped: Callable[[], bool] | None = None,
) -> Iterator[Record]:
    """Train to the end, one record for each update.

    The caller logs, evaluates, saves or breaks between two records; the run is whole there, and another call goes on. The
    scheduler is stepped after each update that was applied, or at the end of each pass (``Run(scheduler_every=...)``); one that watches a metric gets ``monitor`` after each
    evaluation, and is the caller's without ``evaluate``.

    Args:
        run: What to train, from where it stands.
        epochs: Passes over the data in all, those before a resume included; at least 0.
        steps: In its place: updates in all.
        evaluate: ``evaluate(model)`` returns a number, which is called ``"loss"``, or a dict of them. It is called in
            evaluation mode, without gradients, with averaged weights if the run keeps an average (:meth:`Run.ema`).
            Modes and random generators are as before afterwards.
        evaluate_every: Updates from one evaluation to the next; None: at the end of each pass. In either case also at
            the end of the training, if that is known before: of ``epochs`` of a loader without a length it is not.
        patience: Stop after so many evaluations in a row without a better metric, at least 1.
        monitor: The metric by which evaluations are compared.
        mode: Whether the best is the smallest, ``"min"``, or the largest, ``"max"``. NaN is never better.
        checkpoints: Where to save: a folder, of which the last three and the best are kept, or a manager.
        save_every: Updates from one checkpoint to the next; None: at the end of each pass. In either case also at the end
            of the training, when it is stopped, where an evaluation is the best so far, and before what ``evaluate``
            raises is raised.
        nonfinite: What to do where the loss is infinite or NaN. ``"raise"``: a :class:`NonFiniteLossError` before the update;
            ``"skip"``: go on without it; ``"propagate"``: do not look. On a GPU to look is to wait: there the loss is
            looked at before an evaluation and a save only, with ``"raise"``, and the ``nonfinite`` of the optimizer
            does what it says for gradients. So it is where ``step_fn`` makes the update.
        stopped: Asked after each update whether to save and end, as what :func:`stop_on_signal` gives.

    Returns:
        A generator: nothing is trained before its first record is asked for.

    Raises:
        NonFiniteLossError: See ``nonfinite``.
        TypeError: An argument, or what ``evaluate`` returned, is of the wrong kind.
        ValueError: An argument is out of its range or lacks another; the loader gives no batch; ``evaluate`` returned
            nothing called ``monitor``.

    Example:
        >>> import surefoot
        >>> model = nn.Linear(1, 1)
        >>> optimizer = surefoot.SGD(model.parameters(), lr=0.1)
        >>> data = [torch.ones(1, 1)] * 2
        >>> run = surefoot.Run(model, optimizer, data, lambda model, x: (model(x) ** 2).mean())
        >>> for record in surefoot.train(run, epochs=2):
        ...     print(record.epoch, record.step, record.last_of_pass)
        1 1 False
        1 2 True
        2 3 False
        2 4 True
    """
    if (epochs is None) == (steps is None):
        raise ValueError(f"epochs={epochs!r} and steps={steps!r}: pass one of them")
    for name, end in (("epochs", epochs), ("steps", steps)):
        if end is not None:
            checks.whole(name, end, 0)
    for name, value, needs, needed in (
        ("evaluate_every", evaluate_every, "evaluate", evaluate),
        ("patience", patience, "evaluate", evaluate),
        ("save_every", save_every, "checkpoints", checkpoints),
    ):
        if value is not None:
            checks.whole(name, value, 1)
            if needed is None:
                raise ValueError(f"{name}={value} does nothing without {needs}: pass both, or neither")
    for name, function in (("evaluate", evaluate), ("stopped", stopped)):
        if function is not None and not callable(function):
            raise TypeError(f"{name}={function!r} is a {type(function).__name__}: pass a function")
    if mode not in ("min", "max"):
        raise ValueError(f"mode={mode!r} must be 'min' (lower is better) or 'max'")
    if nonfinite not in get_args(Policy):
        raise ValueError(f"nonfinite={nonfinite!r} must be one of {', '.join(map(repr, get_args(Policy)))}")
    for name, what, every in (("evaluate", evaluate, evaluate_every), ("save", checkpoints, save_every)):
        if what is not None and every is None and run.pass_length is None:
            raise ValueError(
                f"the loader has no length, so that nobody knows when a pass ends: pass {name}_every=, in updates"
            )
    if checkpoints is not None and not isinstance(checkpoints, CheckpointManager):
        checkpoints = CheckpointManager(checkpoints, mode=mode)
    if checkpoints is not None and evaluate is not None and checkpoints.mode != mode:
        raise ValueError(f"mode={mode!r}, but checkpoints keeps the best of mode={checkpoints.mode!r}")
    loop = _Loop(
        run, epochs, steps, evaluate, evaluate_every, patience, monitor, mode, checkpoints, save_every
    )
    return loop.records(nonfinite, stopped or (lambda: False))


@dataclass(frozen=True)
class _Loop:
    """The arguments of :func:`train`, and what it does with them."""

    run: Run
    epochs: int | None
    steps: int | None
    evaluate: Evaluate | None
    evaluate_every: int | None
    patience: int | None
    monitor: str
    mode: str
    checkpoints: CheckpointManager | None
    save_every: int | None

    def records(self, nonfinite: Policy, stopped: Callable[[], bool]) -> Iterator[Record]:
        run = self.run
        saved = run.step
        while not (self._out_of_patience or self._at_end(run.epoch)):
            started, length = perf_counter(), run.pass_length
            for window in run.windows():
                waited = perf_counter() - started
                done = update(run, window, nonfinite)
                run.batch += len(window)
                run.step += 1
                last_of_pass = run.batch == length
                if done.applied if run.scheduler_every == "update" else last_of_pass:
                    _advance(run.scheduler)
                seconds = perf_counter() - started
                ends = self._at_end(run.epoch + last_of_pass)
                metrics, best = None, False
                if self.evaluate is not None and (ends or _due(run.step, self.evaluate_every, last_of_pass)):
                    self._look_at(done, nonfinite)
                    try:
                        metrics = self._metrics(self.evaluate)
                    except Exception:  # what was trained is not to be lost for it
                        if self.checkpoints is not None:
                            self._save(self.checkpoints, None)
                        raise
                    best = self._judge(metrics[self.monitor])
                stop = self._out_of_patience or stopped()
                if self.checkpoints is not None and (
                    ends or stop or best or _due(run.step, self.save_every, last_of_pass)
                ):
                    self._look_at(done, nonfinite)
                    self._save(self.checkpoints, metrics)
                    saved = run.step
                yield Record(run.step, run.epoch + 1, done, last_of_pass, seconds, waited, metrics, best)
                if stop or (ends and self.steps is not None):
                    return
                started = perf_counter()
            if (
                run.scheduler_every == "epoch" and run.pass_length is None
            ):  # only now it is known that the pass is over
                _advance(run.scheduler)
        if self.checkpoints is not None and saved != run.step:  # nobody knew that it was the last update
            self._save(self.checkpoints, None)

    def _at_end(self, epoch: int) -> bool:
        if self.steps is not None:
            return self.run.step >= self.steps
        return self.epochs is not None and epoch >= self.epochs

    @property
    def _out_of_patience(self) -> bool:
        return self.patience is not None and self.run.stale >= self.patience

    def _look_at(self, done: Update, nonfinite: Policy) -> None:
        """See whether a loss is finite that was not looked at before the update."""
        if nonfinite == "raise" and done.applied and not math.isfinite(loss := done.loss.item()):
            raise NonFiniteLossError(
                f"the loss is {loss} at step {self.run.step}, lr {rates(self.run)}, or became so before: go back to the last "
                "checkpoint with a lower learning rate or with clip_norm; nonfinite='skip' of the optimizer goes past "
                "such gradients"
            )

    def _metrics(self, evaluate: Evaluate) -> dict[str, float]:
        model, generators = self.run.model, rng.get_state(self.run.loader)
        modes = [(module, module.training) for module in model.modules()]
        try:
            with self.run.ema(), torch.no_grad():
                found = evaluate(model.eval())
        finally:
            for module, training in modes:
                module.training = training
            rng.set_state(generators, self.run.loader)
        given = found if isinstance(found, Mapping) else {"loss": found}
        if not all(map(_is_number, given.values())):
            raise TypeError(f"evaluate returned {found!r}: return a number, or a dict of numbers by name")
        metrics = {str(name): float(value) for name, value in given.items()}
        if self.monitor not in metrics:
            raise ValueError(
                f"monitor={self.monitor!r} is not what evaluate returned, {sorted(metrics)}: pass one of these, and its mode"
            )
        return metrics

    def _judge(self, metric: float) -> bool:
        """Whether a metric is the best so far; whoever watches it is shown it."""
        run = self.run
        sign = 1.0 if self.mode == "min" else -1.0
        best = not math.isnan(metric) and (run.best is None or sign * metric < sign * run.best)
        run.best, run.stale = (metric, 0) if best else (run.best, run.stale + 1)
        if isinstance(run.scheduler, ReduceLROnPlateau):
            run.scheduler.step(metric)
        elif getattr(run.scheduler, "plateau", None) is not None:
            run.scheduler.observe(metric)
        return best

    def _save(self, checkpoints: CheckpointManager, metrics: Mapping[str, float] | None) -> None:
        metric = None if metrics is None else metrics[self.monitor]
        with checkpoints.new(self.run.step, metric) as path:
            self.run.save(path)


def _is_number(value: Any) -> bool:
    return isinstance(value, SupportsFloat) and (not isinstance(value, torch.Tensor) or value.numel() == 1)


def _due(step: int, every: int | None, last_of_pass: bool) -> bool:
    return last_of_pass if every is None else step % every == 0


def _advance(scheduler: Any) -> None:
    if scheduler is not None and not isinstance(scheduler, ReduceLROnPlateau):
        scheduler.step()


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C and SIGTERM into a question the loop can ask when it is between two updates.

    A second Ctrl-C interrupts at once. Outside the main thread signals are left alone.

    Example:
        >>> with stop_on_signal() as stopped:
        ...     stopped()
        False
    """
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

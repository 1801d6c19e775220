"""The training loop, in the open: a generator of records."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from torch.optim.lr_scheduler import ReduceLROnPlateau

from surefoot.run import Run

__all__ = ["Record", "stop_on_signal", "train"]


@dataclass(frozen=True)
class Record:
    """What one update was.

    Attributes:
        step: Updates made, this one included.
        epoch: The pass it belongs to, counted from 1.
        loss: Loss of the batch before the update.
        lr: Learning rate of each group in this update.
        last_of_pass: Whether the pass is over.
    """

    step: int
    epoch: int
    loss: float
    lr: tuple[float, ...]
    last_of_pass: bool


def train(run: Run, epochs: int) -> Iterator[Record]:
    """Train until ``epochs`` passes are finished, one record for each update.

    The caller logs, evaluates, saves or breaks between two records; the run is whole there. A scheduler that
    watches a metric is the caller's to step, every other is stepped after each update.

    Args:
        run: What to train, from where it stands.
        epochs: Passes over the data in all, those before a resume included; at least 0.

    Example:
        >>> import torch, surefoot
        >>> model = torch.nn.Linear(1, 1)
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
    while run.epoch < epochs:
        for batch in run.batches():
            run.model.train()
            run.optimizer.zero_grad()
            loss = run.loss(run.model, batch)
            (loss if run.scaler is None else run.scaler.scale(loss)).backward()
            lr = tuple(float(group["lr"]) for group in run.optimizer.param_groups)
            if run.scaler is None:
                run.optimizer.step()
            else:
                run.scaler.step(run.optimizer)
                run.scaler.update()
            if run.ema is not None:
                run.ema.update_parameters(run.model)
            if run.scheduler is not None and not isinstance(run.scheduler, ReduceLROnPlateau):
                run.scheduler.step()
            run.batch += 1
            run.step += 1
            yield Record(run.step, run.epoch + 1, loss.item(), lr, run.at_pass_end)


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

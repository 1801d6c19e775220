"""How far something is: a bar where someone is looking, plain lines or nothing where nobody is."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

__all__ = ["bar", "progress", "track"]

Shown = TypeVar("Shown", bound=Any)

EVERY = 0.2
"""Seconds between two looks at a loss: on a GPU each waits for it."""


def track(steps: Iterable[int], total: int, description: str) -> Iterator[int]:
    """Pass ``steps`` through; draw a bar if ``rich`` is installed and stderr is a terminal."""
    try:
        from rich.console import Console
        from rich.progress import track as rich_track
    except ImportError:
        yield from steps
        return
    if sys.stderr.isatty():
        yield from rich_track(steps, description, total, console=Console(stderr=True), transient=True)
    else:
        yield from steps


def progress(
    records: Iterable[Shown], steps: int | None = None, *, file: TextIO | None = None
) -> Iterator[Shown]:
    """Pass the records of a training through, and show how it goes.

    On a terminal and in a notebook there is a bar with the loss, the learning rate, updates a second and the time that is
    left, if ``rich`` is installed. There and elsewhere a line is written at the end of each pass and for each evaluation.
    The loss is read five times a second at most.

    Args:
        records: What :func:`~surefoot.train` gives.
        steps: Updates in all, if they are known.
        file: Where to; stderr if None.

    Example:
        >>> import torch, surefoot
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> optimizer = surefoot.SGD(model.parameters(), lr=0.1)
        >>> run = surefoot.Run(model, optimizer, [torch.zeros(4, 1)] * 2, lambda model, x: model(x).square().mean())
        >>> for record in surefoot.progress(surefoot.train(run, epochs=2), file=sys.stdout):
        ...     pass
        epoch 1  step 2  loss 0.0000  lr 1.00e-01
        epoch 2  step 4  loss 0.0000  lr 1.00e-01
    """
    file = sys.stderr if file is None else file
    try:
        from rich.console import Console
    except ImportError:
        for record in records:
            if _is_told(record):
                file.write(f"{_line(record)}\n")
            yield record
        return
    with bar(Console(file=file, highlight=False)) as shown:
        task = shown.add_task("", total=steps, loss="", lr="")
        looked = 0.0
        for record in records:
            if (now := monotonic()) - looked >= EVERY or _is_told(record):
                looked = now
                shown.update(
                    task, completed=record.step, loss=f"loss {record.loss:.4g}", lr=f"lr {record.lr[0]:.2e}"
                )
            if _is_told(record):
                shown.console.print(_line(record), soft_wrap=True, markup=False)
            yield record


def bar(console: Console) -> Progress:
    """A bar of updates, and as much beside it as there is room for; its tasks have the fields ``loss`` and ``lr``.

    Args:
        console: Where it is drawn, if that is a terminal or a notebook.
    """
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        """Updates in a second: nothing until it is known."""

        def render(self, task: Task) -> Text:
            digits = 0 if (task.speed or 0) >= 100 else 1
            return Text(f"{task.speed:.{digits}f} steps/s" if task.speed else "")

    class Count(ProgressColumn):
        """Updates made, of how many if that is known."""

        def render(self, task: Task) -> Text:
            return Text(f"{task.completed:.0f}{'' if task.total is None else f'/{task.total:.0f}'} steps")

    columns: list[ProgressColumn] = [
        BarColumn(40 if console.width >= 110 else 10),
        Count(),
        TextColumn("{task.fields[loss]}"),
    ]
    if console.width >= 80:
        columns += [TextColumn("{task.fields[lr]}"), Rate()]
    columns.append(TimeRemainingColumn())
    seen = console.is_terminal or console.is_jupyter
    return Progress(*columns, console=console, transient=True, disable=not seen)


def _is_told(record: Any) -> bool:
    return bool(record.last_of_pass or record.metrics is not None)


def _line(record: Any) -> str:
    found = "".join(f"  held-out {name} {value:.4g}" for name, value in (record.metrics or {}).items())
    return f"epoch {record.epoch}  step {record.step}  loss {record.loss:.4f}{found}  lr {record.lr[0]:.2e}"

"""Tasks by name, and those that a user's file defines."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from surefoot.choices import known
from surefoot.tasks.base import Task, TaskError
from surefoot.tasks.digits import task as digits
from surefoot.tasks.pycode import task as pycode

__all__ = ["TASKS", "default_batch_size", "find", "make"]

TASKS: dict[str, Callable[..., Task]] = {"digits": digits, "pycode": pycode}
"""What ``surefoot train`` knows by name."""

FRAMES = 3  # of a user's file that an error shows

PARTS = [field.name for field in fields(Task)]
NEEDED = ("model", "loss", "train_loader")


class TaskModule(ModuleType):
    """A user's file, run."""


def find(name: str) -> Callable[..., Any]:
    """The function that makes a task.

    Args:
        name: A name in :data:`TASKS`, or the path of a Python file that defines ``task()``. The file is run, with its
            folder first among those that it imports from.

    Raises:
        ValueError: It is neither.
        TaskError: The file raises, or has no ``task``.

    Example:
        >>> find("digit")
        Traceback (most recent call last):
        ValueError: task 'digit' is not known. Did you mean 'digits'? Choose from: digits, pycode.
    """
    if name in TASKS:
        return TASKS[name]
    path = Path(name)
    if path.suffix != ".py" and not path.is_file():
        known("task", name, TASKS)
    if not path.is_file():
        raise ValueError(f"task {name!r} is not there: surefoot new {name} writes a start.")
    module = TaskModule(path.stem)
    module.__file__ = str(path)
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    if isinstance(sys.modules.get(path.stem, module), TaskModule):
        sys.modules[path.stem] = module  # for its dataclasses, and for workers that are given its classes
    with _explained(path):
        exec(compile(path.read_bytes(), str(path), "exec"), vars(module))
    if not callable(vars(module).get("task")) or isinstance(module.task, type):
        raise TaskError(f"{name} defines no task(): add a function that returns model, loss and loaders")
    made: Callable[..., Any] = module.task
    return made


def default_batch_size(maker: Callable[..., Any]) -> int:
    """What ``batch_size`` is for a task where nobody says; 0 where the task takes none.

    Example:
        >>> default_batch_size(digits)
        64
    """
    parameter = inspect.signature(maker).parameters.get("batch_size")
    if parameter is None:
        return 0
    return parameter.default if isinstance(parameter.default, int) else 32


def make(maker: Callable[..., Any], batch_size: int, seed: int) -> Task:
    """Call the function of a task, with what its signature has of ``batch_size`` and ``seed``.

    Torch's generators are seeded before.

    Args:
        maker: What :func:`find` returned. It may return a :class:`Task`, a mapping of its attributes, or ``(model, loss,
            train_loader)``, to which ``val_loader`` may be added. A loss that is a module, such as ``nn.MSELoss()``, is one of the
            model's outputs and the targets, for batches ``(inputs, targets)``.
        batch_size: Samples for each update; 0 where the task takes none.
        seed: Of the initial weights and of the order of the batches.

    Raises:
        TaskError: It raises, returns something else, or has no batch size that could be set.
    """
    code = inspect.unwrap(maker).__globals__.get("__file__", "the task")
    takes = inspect.signature(maker).parameters
    if batch_size and "batch_size" not in takes:
        raise TaskError(
            f"batch_size is {batch_size}, but task() of {code} takes none: write def task(batch_size=...)"
        )
    given = {"batch_size": batch_size, "seed": seed}
    torch.manual_seed(seed)
    with _explained(Path(code)):
        made = maker(**{name: value for name, value in given.items() if name in takes})
    return _task(made, code)


def _task(made: Any, code: str) -> Task:
    if isinstance(made, tuple) and 3 <= len(made) <= 4:
        made = dict(zip((*NEEDED, "val_loader"), made, strict=False))
    if isinstance(made, Mapping):
        try:
            for name in made:
                known("part", name, PARTS)
            missing = [name for name in NEEDED if name not in made]
            if missing:
                raise ValueError(f"{' and '.join(missing)} is missing")
        except ValueError as error:
            raise TaskError(f"what task() of {code} returns is no task: {error}") from None
        made = Task(**made)
    if not isinstance(made, Task):
        raise TaskError(
            f"task() of {code} returned {_kind(made)}: return surefoot.tasks.Task(...), a dict of its parts, or "
            "(model, loss, train_loader, val_loader)"
        )
    task: Task = made
    if not isinstance(task.model, nn.Module):
        raise TaskError(f"model of {code} is {_kind(task.model)}: it must be a torch.nn.Module")
    if isinstance(task.loss, nn.Module):
        task = replace(task, loss=_criterion(task.loss))
    if not callable(task.loss):
        raise TaskError(f"loss of {code} is {_kind(task.loss)}: it must be a function of (model, batch)")
    for name in ("metrics", "settings"):
        if not isinstance(getattr(task, name), Mapping):
            raise TaskError(f"{name} of {code} is {_kind(getattr(task, name))}: it must be a dict, by name")
    if "loss" in task.metrics:
        raise TaskError(
            f"metrics of {code} has 'loss', which is what the loss itself is called: give it another name"
        )
    return task


def _criterion(criterion: nn.Module) -> Callable[[nn.Module, Any], Any]:
    """The loss of a module such as ``nn.CrossEntropyLoss()``, which takes what the model makes of a batch's first part."""

    def loss(model: nn.Module, batch: Any) -> Any:
        inputs, targets = batch
        return criterion(model(inputs), targets)

    return loss


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What the user's code raises in the block, as a sentence with the lines of the file that led to it."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise TaskError(f"{path} failed: {told(error, path)}") from error


def told(error: BaseException, path: str | Path | None = None) -> str:
    """An error with the last few lines that led to it, from where ``path`` is first met.

    Example:
        >>> print(told(ValueError("no data")))
        ValueError: no data
    """
    frames = traceback.extract_tb(error.__traceback__)
    files = [frame.filename for frame in frames]
    own = frames[files.index(str(path)) :][:FRAMES] if str(path) in files else []
    lines = [f"{type(error).__name__}: {error}"]
    lines += [f"  {frame.filename}, line {frame.lineno}, in {frame.name}: {frame.line}" for frame in own]
    if isinstance(error, SyntaxError):
        lines = [
            f"{type(error).__name__}: {error.msg}",
            f"  {error.filename}, line {error.lineno}: {(error.text or '').strip()}",
        ]
    return "\n".join(lines)

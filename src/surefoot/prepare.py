"""From settings to what they say: the task, its optimizer, its learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from surefoot import choices, lr_finder
from surefoot.data import pass_length
from surefoot.lr_finder import LRFinding
from surefoot.lr_finder.search import Effort
from surefoot.settings import Settings
from surefoot.tasks.base import Task, TaskError, device
from surefoot.tasks.load import TASKS, default_batch_size, find, make
from surefoot.tasks.trial import loss_of, trial

__all__ = ["find_lr", "for_run", "optimizer_of", "prepared", "total_steps", "updates_of_a_pass"]


def prepared(given: Mapping[str, Any]) -> tuple[Settings, Task]:
    """The task that is named and all settings: what is given, then what the task says, then what always holds.

    The task is tried on a batch.

    Args:
        given: Settings by name.

    Raises:
        ValueError: A setting is wrong.
        TaskError: The task is.

    Example:
        >>> settings, task = prepared({"task": "digits", "epochs": 3})
        >>> settings.epochs, settings.batch_size
        (3, 64)
    """
    checked = Settings.of(given)
    if given.get("epochs") is not None and given.get("steps"):
        raise ValueError(f"epochs is {checked.epochs} and steps is {checked.steps}: leave one of them out.")
    maker = find(checked.task)
    batch_size = checked.batch_size or default_batch_size(maker)
    task = make(maker, batch_size, checked.seed)
    settings = Settings.of({**_own(task, checked, given), **given, "batch_size": batch_size})
    if checked.task not in TASKS:
        settings = replace(settings, task=str(Path(checked.task).resolve()))  # found from any folder
    trial(task)
    if not settings.steps and pass_length(task.train_loader) is None:
        raise ValueError(
            "steps is 0, and the length of train_loader is not known: say how long to train in steps."
        )
    if task.val_loader is None:
        for name, asks in (("patience", settings.patience), ("schedule", settings.schedule == "plateau")):
            if asks:
                value = getattr(settings, name)
                raise ValueError(
                    f"{name} is {value!r}, which watches the held-out loss: the task has no val_loader."
                )
    return settings, task


def _own(task: Task, checked: Settings, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the task says of its settings."""
    own = dict(task.settings)
    for name in ("task", "batch_size", "seed"):
        if name in own:
            raise TaskError(f"{name} is in the settings of {checked.task}: make it an argument of task()")
    try:
        Settings.of(own)
    except ValueError as error:
        raise TaskError(f"settings of {checked.task}: {error}") from error
    if "epochs" in given:
        own.pop("steps", None)
    return own


def optimizer_of(settings: Settings, task: Task) -> torch.optim.Optimizer:
    """The optimizer: weights decay, norms and biases, which are the parameters of one dimension or none, do not."""
    named = [(name, p) for name, p in task.model.named_parameters() if p.requires_grad]
    groups = {
        "weights": ([(n, p) for n, p in named if p.ndim > 1], settings.weight_decay),
        "biases_norms": ([(n, p) for n, p in named if p.ndim <= 1], 0.0),
    }
    made = [
        {"params": params, "weight_decay": decay, "name": name}
        for name, (params, decay) in groups.items()
        if params
    ]
    build = choices.OPTIMIZERS[settings.optimizer]
    return build(made, lr=settings.lr or 1e-5, stats=True, **settings.for_optimizer())


def total_steps(settings: Settings, task: Task) -> int:
    """Updates of the whole training."""
    return settings.steps or settings.epochs * updates_of_a_pass(settings, task)


def updates_of_a_pass(settings: Settings, task: Task) -> int:
    """Updates of a pass over the training data; 0 where their length is not known."""
    return -(-(pass_length(task.train_loader) or 0) // settings.accumulate)


def find_lr(
    settings: Settings,
    task: Task,
    optimizer: torch.optim.Optimizer,
    total_steps: int,
    effort: Effort = "sure",
) -> LRFinding:
    """The learning rate for the whole training, under its schedule; no trace is left on the model.

    Args:
        settings: Those of the training.
        task: What is trained.
        optimizer: Its optimizer.
        total_steps: Updates of the training.
        effort: As of :func:`surefoot.find_lr`.
    """

    def schedule(optimizer: torch.optim.Optimizer) -> Any:
        lr = float(optimizer.param_groups[0]["lr"])
        return choices.scheduler(optimizer, settings.schedule, lr, total_steps, settings.warmup)

    return lr_finder.find_lr(
        task.model,
        optimizer,
        loss_of(task),
        task.train_loader,
        val_loader=task.val_loader,
        schedule=schedule,
        total_steps=total_steps,
        effort=effort,
        **for_run(settings, task),
    )


def for_run(settings: Settings, task: Task) -> dict[str, Any]:
    """What a run is given beside its parts."""
    scaler = torch.amp.GradScaler(device(task.model).type) if settings.dtype == "float16" else None
    autocast = None if settings.dtype == "float32" else getattr(torch, settings.dtype)
    return {"autocast": autocast, "scaler": scaler, "accumulate": settings.accumulate}

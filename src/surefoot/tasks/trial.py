"""A task tried on one batch, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from surefoot import rng
from surefoot.batch import move
from surefoot.tasks.base import Task, TaskError, device, shapes, total
from surefoot.tasks.load import told

__all__ = ["evaluate", "loss_of", "trial"]


def trial(task: Task) -> None:
    """Take a batch from each loader and see whether the loss and the metrics can take it.

    The model's buffers and all generators are put back.

    Args:
        task: What is going to be trained.

    Raises:
        TaskError: A loader is empty or can be read only once, or a function does not take a batch, or returns something else
            than it should.

    Example:
        >>> trial(Task(nn.Linear(3, 1), lambda model, x: model(x).mean(), []))
        Traceback (most recent call last):
        surefoot.tasks.base.TaskError: train_loader is empty: its dataset has no sample, or fewer than a batch with \
drop_last=True
    """
    loaders = [loader for loader in (task.train_loader, task.val_loader) if loader is not None]
    before = rng.get_state(*loaders)
    buffers = {name: b.clone() for name, b in task.model.named_buffers() if not is_lazy(b)}
    try:
        task.model.train()
        where = device(task.model)
        batch = move(_first("train_loader", task.train_loader), where)
        loss = _called("loss", task.loss, task.model, batch, "train_loader")
        if not loss.requires_grad:
            raise TaskError(
                "loss does not depend on the model's parameters, or none of them requires a gradient"
            )
        if task.val_loader is not None:
            task.model.eval()
            batch = move(_first("val_loader", task.val_loader), where)
            with torch.no_grad():
                for name, function in {"loss": task.loss, **task.metrics}.items():
                    _called(name, function, task.model, batch, "val_loader")
    finally:
        rng.set_state(before, *loaders)
        task.model.train()
        for name, buffer in task.model.named_buffers():
            if name in buffers:
                buffer.copy_(buffers[name])


def loss_of(task: Task) -> Callable[[nn.Module, Any], Any]:
    """The loss of a task, which says of what batch it is where it fails."""
    return partial(_result, "loss", task.loss, loader="train_loader")


def evaluate(task: Task) -> dict[str, float]:
    """:meth:`Task.evaluate`, which says of what batch it is where it fails."""

    def watched(name: str, function: Callable[[nn.Module, Any], Any]) -> Callable[[nn.Module, Any], Any]:
        return partial(_result, name, function, loader="val_loader")

    metrics = {name: watched(name, metric) for name, metric in task.metrics.items()}
    return replace(task, loss=watched("loss", task.loss), metrics=metrics).evaluate()


def _first(name: str, loader: Any) -> Any:
    if not (hasattr(loader, "__iter__") or hasattr(loader, "__getitem__")):
        raise TaskError(f"{name} is a {type(loader).__name__}: it must give batches, as a DataLoader does")
    try:
        batches = iter(loader)
        for batch in () if batches is loader else batches:
            return batch
    except Exception as error:
        raise TaskError(f"{name} failed: {told(error)}") from error
    if batches is loader:
        raise TaskError(
            f"{name} is a {type(loader).__name__}, which can be read only once: pass a DataLoader or a list"
        )
    raise TaskError(f"{name} is empty: its dataset has no sample, or fewer than a batch with drop_last=True")


def _result(name: str, function: Callable[..., Any], model: nn.Module, batch: Any, loader: str) -> Any:
    try:
        return function(model, batch)
    except Exception as error:
        code = getattr(getattr(function, "__code__", None), "co_filename", None)
        raise TaskError(
            f"{name} cannot take a batch of {loader} ({shapes(batch)}): {told(error, code)}"
        ) from error


def _called(name: str, function: Callable[..., Any], model: nn.Module, batch: Any, loader: str) -> Any:
    """What the function returns for a batch, as a number: a scalar tensor of the loss, or what is one."""
    value = _result(name, function, model, batch, loader)
    if name == "loss":
        for other, one in value.items() if isinstance(value, Mapping) and not hasattr(value, "loss") else ():
            if not isinstance(one, Tensor | int | float) or (isinstance(one, Tensor) and one.numel() != 1):
                what = (
                    f"a tensor of {tuple(one.shape)}"
                    if isinstance(one, Tensor)
                    else f"a {type(one).__name__}"
                )
                raise TaskError(
                    f"loss returned {what} as {other!r}: each of several by name must be one number; leave out what is no loss"
                )
        value = total(value)
        if not isinstance(value, Tensor):
            raise TaskError(
                f"loss returned a {type(value).__name__}: it must be a scalar tensor, or several by name"
            )
    if isinstance(value, Tensor) and value.numel() != 1:
        raise TaskError(
            f"{name} returned a tensor of {tuple(value.shape)}: it must be one number, such as its mean"
        )
    if not isinstance(value, Tensor | int | float):
        raise TaskError(f"{name} returned a {type(value).__name__}: it must be a number")
    return value

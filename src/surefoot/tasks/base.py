"""What a task is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from surefoot.batch import length, move, tensors

__all__ = ["Task", "TaskError", "device", "shapes", "total"]


class TaskError(RuntimeError):
    """A user's task does not do what a task does."""


@dataclass(frozen=True)
class Task:
    """Something to train: a model, what it should make small, and data.

    Attributes:
        model: An untrained model.
        loss: ``loss(model, batch)`` returns the mean loss of a batch: a scalar tensor, or several by name, of which
            the one called ``"loss"`` is made small, or their sum where none is called so.
        train_loader: Batches to fit, of any kind; each pass gives them all.
        val_loader: Held-out batches in a fixed order, if any.
        metrics: Other results on the held-out data by name; ``metric(model, batch)`` returns the mean of a batch.
        description: The task in a few words.
        finish: ``finish(model)`` returns a text to show at the end, such as a sample.
        settings: What :class:`surefoot.settings.Settings` are for this task where the user says nothing.

    Example:
        >>> line = torch.linspace(-1, 1, 8)[:, None]
        >>> task = Task(nn.Linear(1, 1), lambda model, x: (model(x) - x).pow(2).mean(), line.split(4), line.split(4))
        >>> list(task.evaluate())
        ['loss']
    """

    model: nn.Module
    loss: Callable[[nn.Module, Any], Any]
    train_loader: Iterable[Any]
    val_loader: Iterable[Any] | None = None
    metrics: Mapping[str, Callable[[nn.Module, Any], Any]] = field(default_factory=dict)
    description: str = ""
    finish: Callable[[nn.Module], str] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Mean loss and metrics over the held-out data, by name; the model is left in evaluation mode.

        Each batch is moved to where the model is, and counts as much as it has samples. Without held-out data there is
        nothing to tell.
        """
        self.model.eval()
        where = device(self.model)
        sums: dict[str, float] = {}
        count = 0
        for batch in self.val_loader or ():
            size, batch = length(batch), move(batch, where)
            count += size
            results = {"loss": total(self.loss(self.model, batch))}
            results |= {name: metric(self.model, batch) for name, metric in self.metrics.items()}
            for name, value in results.items():
                sums[name] = sums.get(name, 0.0) + float(value) * size
        return {name: value / count for name, value in sums.items()}


def total(loss: Any) -> Any:
    """What to make small: the scalar itself, of several by name the one called loss, or their sum.

    Example:
        >>> total({"reconstruction": torch.tensor(1.0), "distance": torch.tensor(0.5)})
        tensor(1.5000)
    """
    if isinstance(loss, Mapping):
        return loss["loss"] if "loss" in loss else sum(loss.values())
    return getattr(loss, "loss", loss)  # an output of Hugging Face's models has it


def device(model: nn.Module) -> torch.device:
    """Where a model is: where its first parameter is.

    Example:
        >>> device(nn.Linear(1, 1, device="meta"))
        device(type='meta')
    """
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def shapes(batch: Any) -> str:
    """A batch in a few words: its tensors' shapes.

    Example:
        >>> shapes((torch.ones(4, 2), torch.zeros(4, dtype=torch.int64)))
        '4 x 2 float32, 4 int64'
    """
    told = [
        f"{' x '.join(map(str, t.shape)) or 'scalar'} {str(t.dtype).split('.')[1]}" for t in tensors(batch)
    ]
    return ", ".join(told) or f"a {type(batch).__name__} without tensors"

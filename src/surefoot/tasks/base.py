"""What a task is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

__all__ = ["Task"]


@dataclass(frozen=True)
class Task:
    """Something to train: a model, data to fit and data to judge by.

    Attributes:
        model: An untrained model.
        criterion: ``criterion(outputs, labels)`` returns the mean loss of a batch.
        train_loader: Shuffled batches ``(inputs, labels)``.
        val_loader: Held-out batches in a fixed order.
        description: The task in one sentence.
    """

    model: nn.Module
    criterion: Callable[[Tensor, Tensor], Tensor]
    train_loader: DataLoader[Any]
    val_loader: DataLoader[Any]
    description: str

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Mean loss of one batch."""
        inputs, labels = batch
        return self.criterion(model(inputs), labels)

    @torch.no_grad()
    def evaluate(self) -> tuple[float, float]:
        """Mean loss and accuracy (0 to 1) on the held-out data; the model is left in evaluation mode."""
        self.model.eval()
        loss = correct = count = 0.0
        for inputs, labels in self.val_loader:
            outputs = self.model(inputs)
            loss += self.criterion(outputs, labels).item() * len(labels)
            correct += (outputs.argmax(-1) == labels).sum().item()
            count += len(labels)
        return loss / count, correct / count

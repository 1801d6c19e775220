"""A task that trains in milliseconds and has all that a task can have: a file for ``surefoot train``."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from surefoot.tasks import Task

PATH = __file__


def task(batch_size: int = 4, seed: int = 0) -> Task:
    inputs = torch.linspace(-1, 1, 32)[:, None]
    data = TensorDataset(inputs, (inputs > 0.2).long().flatten())
    order = torch.Generator().manual_seed(seed)
    return Task(
        model=nn.Sequential(nn.Linear(1, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 2)),
        loss=loss,
        train_loader=DataLoader(data, batch_size, shuffle=True, generator=order),
        val_loader=DataLoader(data, 16),
        metrics={"accuracy": accuracy},
        description="above or below",
        finish=lambda model: f"in training: {model.training}",
        settings={"epochs": 2, "lr": 0.01},
    )


def loss(model, batch):
    inputs, labels = batch
    return nn.functional.cross_entropy(model(inputs), labels)


def accuracy(model, batch):
    inputs, labels = batch
    return (model(inputs).argmax(1) == labels).float().mean()


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        while True:
            yield torch.ones(2)


def endless():
    """A task whose loader has no length, and no held-out data."""
    model, loader = nn.Linear(2, 1), DataLoader(Endless(), 4)
    return Task(model, lambda model, x: model(x).pow(2).mean(), loader, settings={"lr": 0.1})

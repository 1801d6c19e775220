"""A task for `surefoot train`: change the data, the model and the loss into yours."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from surefoot.tasks import Task


def task(batch_size: int = 32, seed: int = 0) -> Task:
    """What is trained. The defaults here hold where no flag says otherwise; leave out what you do not need."""
    # Data: any Dataset will do. Here, two moons: which of two curves is a point of the plane from?
    points, labels = moons(1000)
    train = TensorDataset(points[:800], labels[:800])
    held_out = TensorDataset(points[800:], labels[800:])

    # Model: any nn.Module. Torch's generator has been seeded with `seed` before.
    model = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))

    return Task(
        model=model,
        loss=loss,
        # A generator of its own makes the order of the batches one that can be repeated.
        train_loader=DataLoader(
            train, batch_size, shuffle=True, generator=torch.Generator().manual_seed(seed)
        ),
        # Held-out data, in a fixed order; without it there is nothing to judge by but the loss.
        val_loader=DataLoader(held_out, batch_size=200),
        metrics={"accuracy": accuracy},
        description="two moons",
        # Settings of `surefoot train --help`, with underscores. Without "lr" a range test finds it.
        settings={"epochs": 10, "optimizer": "adamw", "schedule": "onecycle", "clip_norm": 1.0},
    )


def loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """The mean loss of a batch, which may be anything that the loader gives."""
    inputs, targets = batch
    return nn.functional.cross_entropy(model(inputs), targets)


def accuracy(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Measured on the held-out data: the mean of a batch."""
    inputs, targets = batch
    right: torch.Tensor = model(inputs).argmax(1) == targets
    return right.float().mean()


def moons(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of two curves with some noise, and which curve each is of; the same at every call."""
    generator = torch.Generator().manual_seed(0)
    angles = torch.pi * torch.rand(count, generator=generator)
    labels = torch.randint(2, (count,), generator=generator)
    upper = torch.stack([angles.cos(), angles.sin()], 1)
    lower = torch.stack([1 - angles.cos(), 0.5 - angles.sin()], 1)
    points = torch.where(labels[:, None] == 0, upper, lower)
    return points + 0.1 * torch.randn(count, 2, generator=generator), labels

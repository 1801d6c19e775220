"""Handwritten digits: the 1,797 scanned 8x8 digits that come with scikit-learn."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from surefoot.tasks.base import Task

__all__ = ["task"]


def task(batch_size: int = 64, seed: int = 0) -> Task:
    """A small CNN and the digits; every fifth image, always the same, is held out.

    Args:
        batch_size: Images for each update, at least 1.
        seed: Of the initial weights and of the order of the batches.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("the digits come with scikit-learn: pip install 'surefoot[demo]'") from error
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16 - 0.3
    labels = torch.tensor(data.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    held_out, rest = order[::5], order[torch.arange(len(order)) % 5 != 0]
    torch.manual_seed(seed)
    return Task(
        model=_cnn(),
        loss=_loss,
        train_loader=DataLoader(
            TensorDataset(images[rest], labels[rest]),
            batch_size,
            shuffle=True,
            generator=torch.Generator().manual_seed(seed),
        ),
        val_loader=DataLoader(
            TensorDataset(images[held_out], labels[held_out]), 256, generator=torch.Generator().manual_seed(0)
        ),
        metrics={"accuracy": _accuracy},
        description=f"handwritten digits, {len(rest)} to train on, {len(held_out)} held out",
    )


def _loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    images, labels = batch
    return nn.functional.cross_entropy(model(images), labels)


def _accuracy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    images, labels = batch
    right: Tensor = model(images).argmax(-1) == labels
    return right.double().mean()


def _cnn() -> nn.Module:
    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    return nn.Sequential(
        *block(1, 32),
        *block(32, 64),
        nn.MaxPool2d(2),
        *block(64, 64),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(256, 10),
    )

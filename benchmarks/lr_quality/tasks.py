"""Small trainings whose best learning rates are known, because every rate is tried in full: see ``grid.py``.

Half of them are to tune a finder on, half to judge it by; they alternate in kind.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Any

import torch
from sklearn.datasets import load_diabetes, load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

import surefoot as optim

__all__ = ["TASKS", "Task"]

Data = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Task:
    """A training as its user would write it.

    Attributes:
        name: What it is called.
        build: A model for a seed.
        optimizer: An optimizer of the model at a rate.
        loss: Of a model and a batch.
        data: What is trained on, and what is held out.
        steps: Updates of a full training.
        batch_size: Samples in a batch.
        judge: Whether it is one to judge by, and not to tune on.
        top: The highest rate worth trying, a power of 2.
    """

    name: str
    build: Callable[[], nn.Module]
    optimizer: Callable[[nn.Module, float], torch.optim.Optimizer]
    loss: Callable[[nn.Module, Data], Tensor]
    data: Callable[[], tuple[Data, Data]]
    steps: int = 300
    batch_size: int = 32
    judge: bool = False
    top: int = 16

    def batches(self, seed: int) -> Iterator[Data]:
        """Batches without end, shuffled anew in each pass."""
        (inputs, targets), _ = self.data()
        draw = torch.Generator().manual_seed(seed)
        while True:
            order = torch.randperm(len(inputs), generator=draw)
            for start in range(0, len(order) - self.batch_size + 1, self.batch_size):
                chosen = order[start : start + self.batch_size]
                yield inputs[chosen], targets[chosen]

    @torch.no_grad()
    def held_out(self, model: nn.Module) -> float:
        """The loss on what is held out."""
        model.eval()
        value = self.loss(model, self.data()[1]).item()
        model.train()
        return value


# Data


@cache
def digits(train: int = 1297, noise: float = 0.0) -> tuple[Data, Data]:
    """Images of digits; with ``noise`` so many of the labels to train on are drawn at random."""
    loaded = load_digits()
    order = torch.randperm(len(loaded.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(loaded.images, dtype=torch.float32)[order] / 16 - 0.3
    labels = torch.tensor(loaded.target)[order]
    mine, other = labels[:train].clone(), labels[1297:]
    draw = torch.Generator().manual_seed(1)
    wrong = torch.rand(train, generator=draw) < noise
    mine[wrong] = torch.randint(10, (int(wrong.sum()),), generator=draw)
    return (images[:train], mine), (images[1297:], other)


@cache
def diabetes(raw: bool) -> tuple[Data, Data]:
    """A disease's progression from ten measurements; raw is 25 to 346, as the table has it."""
    loaded = load_diabetes()
    inputs = torch.tensor(loaded.data, dtype=torch.float32) * 21
    targets = torch.tensor(loaded.target, dtype=torch.float32).unsqueeze(1)
    targets = targets if raw else (targets - targets.mean()) / targets.std()
    return (inputs[:342], targets[:342]), (inputs[342:], targets[342:])


@cache
def curve() -> tuple[Data, Data]:
    """A function of two numbers with some noise."""
    draw = torch.Generator().manual_seed(2)
    inputs = torch.rand(1500, 2, generator=draw) * 2 - 1
    targets = torch.sin(4 * inputs[:, :1]) * torch.cos(3 * inputs[:, 1:])
    targets = targets + 0.05 * torch.randn(1500, 1, generator=draw)
    return (inputs[:1000], targets[:1000]), (inputs[1000:], targets[1000:])


@cache
def text(length: int = 24) -> tuple[Data, Data]:
    """Characters of a module of Python's own library, each with the next."""
    with open(ast.__file__, encoding="utf-8") as file:
        codes = torch.tensor([min(ord(char), 127) for char in file.read()[:40_000]])
    windows = codes.unfold(0, length + 1, length // 2)
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(3))
    inputs, targets = windows[order, :-1], windows[order, 1:]
    return (inputs[:2600], targets[:2600]), (inputs[2600:], targets[2600:])


@cache
def halves() -> tuple[Data, Data]:
    """Digits 5 to 9, a few of them: what a network that knows 0 to 4 is tuned to."""
    (images, labels), (others, held) = digits()
    few, kept = labels >= 5, held >= 5
    return (images[few][:200], labels[few][:200] - 5), (others[kept], held[kept] - 5)


# Models


def mlp(
    *widths: int, norm: type[nn.Module] | None = None, activation: type[nn.Module] = nn.ReLU
) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), *([norm(after)] if norm else []), activation()]
    return nn.Sequential(*layers[: -2 if norm else -1])


def cnn(norm: bool = True, classes: int = 10) -> nn.Sequential:
    def layer(inputs: int, outputs: int, size: int) -> list[nn.Module]:
        return [
            nn.Conv2d(inputs, outputs, 3, padding=1),
            *([nn.BatchNorm2d(outputs)] if norm else []),
            nn.ReLU(),
            nn.MaxPool2d(size),
        ]

    body = nn.Sequential(nn.Unflatten(1, (1, 8)), *layer(1, 12, 2), *layer(12, 24, 2), nn.Flatten())
    return nn.Sequential(body, nn.Linear(96, classes))


class Residual(nn.Module):
    def __init__(self, width: int = 48, blocks: int = 4) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(64, width), nn.Linear(width, 10)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
            for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.flatten(1))
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


class Transformer(nn.Module):
    """Reads an image row by row."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed, self.place = nn.Linear(8, width), nn.Parameter(0.1 * torch.randn(1, 8, width))
        self.layer = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(width, 4, 64, dropout=0.0, batch_first=True, norm_first=True),
            2,
            enable_nested_tensor=False,
        )
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(x) + self.place).mean(1))


class GPT(nn.Module):
    """Guesses the next character."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(128, width), nn.Parameter(0.02 * torch.randn(1, 24, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 128)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(24))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.embed(x) + self.place, mask=self.mask, is_causal=True)).transpose(
            1, 2
        )


class GRU(nn.Module):
    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(8, width, batch_first=True), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0][:, -1])


def pretrained() -> nn.Module:
    """A network that knows the digits 0 to 4, with a new head."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = cnn(classes=5)
        (images, labels), _ = digits()
        images, labels = images[labels < 5], labels[labels < 5]
        optimizer = optim.AdamW(model.parameters(), lr=3e-3)
        for start in range(0, 600, 32):
            optimizer.zero_grad()
            cross_entropy(model(images[start : start + 32]), labels[start : start + 32]).backward()
            optimizer.step()
    model[1] = nn.Linear(96, 5)
    return model


# Losses and optimizers


def classify(model: nn.Module, batch: Data) -> Tensor:
    return cross_entropy(model(batch[0]), batch[1])


def regress(model: nn.Module, batch: Data) -> Tensor:
    return mse_loss(model(batch[0]), batch[1])


def reconstruct(model: nn.Module, batch: Data) -> Tensor:
    return mse_loss(model(batch[0]), batch[0].flatten(1))


def plain(kind: Any, **settings: Any) -> Callable[[nn.Module, float], torch.optim.Optimizer]:
    return lambda model, lr: kind(model.parameters(), lr=lr, **settings)


def head_and_body(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    """The head at ten times the rate of the body."""
    groups = [{"params": model[0].parameters(), "lr": lr / 10}, {"params": model[1].parameters(), "lr": lr}]
    return optim.AdamW(groups, lr=lr)


SGD, NESTEROV = plain(optim.SGD), plain(optim.SGD, momentum=0.9, nesterov=True)
MOMENTUM, ADAM, ADAMW = plain(optim.SGD, momentum=0.9), plain(optim.Adam), plain(optim.AdamW)
NADAM, RADAM, RMSPROP = plain(optim.NAdam), plain(optim.RAdam), plain(optim.RMSprop)

TASKS = [
    Task("linear, SGD", partial(mlp, 64, 10), SGD, classify, digits, top=128),
    Task("linear regression, Adam", partial(mlp, 10, 1), ADAM, regress, partial(diabetes, False), judge=True),
    Task("MLP, SGD", partial(mlp, 64, 64, 64, 10), SGD, classify, digits, judge=True),
    Task("MLP, Nesterov", partial(mlp, 64, 64, 64, 10), NESTEROV, classify, digits),
    Task(
        "MLP with BatchNorm, momentum",
        partial(mlp, 64, 64, 64, 10, norm=nn.BatchNorm1d),
        MOMENTUM,
        classify,
        digits,
        judge=True,
    ),
    Task("MLP with LayerNorm, Adam", partial(mlp, 64, 64, 64, 10, norm=nn.LayerNorm), ADAM, classify, digits),
    Task(
        "deep narrow MLP, Adam",
        partial(mlp, 64, *[16] * 8, 10, activation=nn.Tanh),
        ADAM,
        classify,
        digits,
        judge=True,
    ),
    Task("deep narrow MLP, momentum", partial(mlp, 64, *[24] * 6, 10), MOMENTUM, classify, digits),
    Task("CNN, AdamW", cnn, ADAMW, classify, digits),
    Task("CNN without norms, RMSprop", partial(cnn, norm=False), RMSPROP, classify, digits, judge=True),
    Task("residual, AdamW", Residual, ADAMW, classify, digits, judge=True),
    Task("residual, momentum", Residual, MOMENTUM, classify, digits),
    Task("Transformer, AdamW", Transformer, ADAMW, classify, digits, judge=True),
    Task("Transformer, NAdam", Transformer, NADAM, classify, digits),
    Task("GPT, AdamW", GPT, ADAMW, classify, text, steps=250),
    Task("GRU, Adam", GRU, ADAM, classify, digits),
    Task("GRU, RMSprop", GRU, RMSPROP, classify, digits, judge=True),
    Task("autoencoder, Adam", partial(mlp, 64, 32, 8, 32, 64), ADAM, reconstruct, digits, judge=True),
    Task("autoencoder, Nesterov", partial(mlp, 64, 32, 8, 32, 64), NESTEROV, reconstruct, digits),
    Task("curve, Adam", partial(mlp, 2, 64, 64, 1, activation=nn.Tanh), ADAM, regress, curve),
    Task("raw units, Adam", partial(mlp, 10, 64, 1), ADAM, regress, partial(diabetes, True), judge=True),
    Task("raw units, SGD", partial(mlp, 10, 32, 1), SGD, regress, partial(diabetes, True)),
    Task(
        "wrong labels, AdamW",
        partial(mlp, 64, 128, 128, 10),
        ADAMW,
        classify,
        partial(digits, 400, 0.3),
        judge=True,
    ),
    Task(
        "fine-tuning, two groups, AdamW", pretrained, head_and_body, classify, halves, steps=120, judge=True
    ),
    Task("few images, RAdam", cnn, RADAM, classify, partial(digits, 120), steps=200),
    Task("fine-tuning, momentum", pretrained, MOMENTUM, classify, halves, steps=120),
]

"""What is measured: the shapes of real models, models small enough to train, and the optimizers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from surefoot import optimizers

__all__ = ["EVERY_OPTIMIZER", "GROUPS", "MODELS", "SHAPES", "available", "counterpart", "shapes_of"]

Shape = tuple[int, ...]
Choice = tuple[str, dict[str, Any]]
"""Name of a class, and the arguments for its constructor."""

GROUPS = "465 groups"
"""The one entry of ``SHAPES`` where each tensor is a group of its own, with the rate of its layer."""

EVERY_OPTIMIZER = ("1000 x 256", "GPT-2 small")
"""Shapes that every optimizer is measured on: one bound by calls, one by memory."""

OPTIMIZERS: dict[str, Choice] = {
    "SGD": ("SGD", {}),
    "SGD momentum": ("SGD", {"momentum": 0.9}),
    "SGD nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "Adam": ("Adam", {}),
    "AdamW": ("AdamW", {}),
    "NAdam": ("NAdam", {}),
    "NAdamW": ("NAdamW", {"weight_decay": 0.01}),
    "RAdam": ("RAdam", {}),
    "RMSprop": ("RMSprop", {}),
    "Adamax": ("Adamax", {}),
    "Adagrad": ("Adagrad", {}),
    "Adadelta": ("Adadelta", {}),
    "Rprop": ("Rprop", {}),
    "ASGD": ("ASGD", {}),
    "Lion": ("Lion", {}),
}

# Where torch's class is another than the one of the same name.
TORCHS: dict[str, Choice | None] = {
    "NAdamW": ("NAdam", {"weight_decay": 0.01, "decoupled_weight_decay": True}),
    "Lion": None,
}


def available() -> dict[str, Choice]:
    """The optimizers of the table that Surefoot has."""
    return {name: choice for name, choice in OPTIMIZERS.items() if hasattr(optimizers, choice[0])}


def counterpart(optimizer: str) -> Choice | None:
    """What torch has for ``optimizer``."""
    return TORCHS.get(optimizer, OPTIMIZERS[optimizer])


def mlp() -> nn.Module:
    """The smallest model anybody trains: what a step costs before it computes anything."""
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def deep_mlp() -> nn.Module:
    """24 narrow layers with norms: many small tensors."""
    layers = [(nn.Linear(64, 64), nn.LayerNorm(64), nn.ReLU()) for _ in range(24)]
    return nn.Sequential(*(module for layer in layers for module in layer), nn.Linear(64, 10))


class GPT(nn.Module):
    """A small GPT: bytes, learned positions, four layers before a head tied to the embedding."""

    def __init__(self, layers: int = 4, width: int = 128, context: int = 64, vocabulary: int = 256) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(context, width)
        layer = nn.TransformerEncoderLayer(
            width, 4, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        norm = nn.LayerNorm(width)
        self.layers = nn.TransformerEncoder(layer, layers, norm, enable_nested_tensor=False)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        embedded = self.tokens(tokens) + self.places.weight
        logits: Tensor = self.head(self.layers(embedded, mask=mask, is_causal=True))
        return logits


def shapes_of(model: Callable[[], nn.Module]) -> list[Shape]:
    """The shapes of a model's parameters, without the memory or the random numbers."""
    with torch.device("meta"):
        return [tuple(parameter.shape) for parameter in model().parameters()]


def _resnet50() -> list[Shape]:
    def convolution(out: int, into: int, size: int) -> list[Shape]:
        return [(out, into, size, size), (out,), (out,)]  # with its batch norm

    shapes = convolution(64, 3, 7)
    outs = [64, 256, 512, 1024, 2048]
    for (into, out), blocks in zip(pairwise(outs), (3, 4, 6, 3), strict=True):
        width = out // 4
        for block in range(blocks):
            shapes += convolution(width, into if block == 0 else out, 1)
            shapes += convolution(width, width, 3) + convolution(out, width, 1)
            shapes += convolution(out, into, 1) if block == 0 else []
    return [*shapes, (1000, 2048), (1000,)]


def _gpt2() -> list[Shape]:
    w = 768
    attention = [(w,), (w,), (w, 3 * w), (3 * w,), (w, w), (w,)]
    perceptron = [(w,), (w,), (w, 4 * w), (4 * w,), (4 * w, w), (w,)]
    return [(50257, w), (1024, w), *(attention + perceptron) * 12, (w,), (w,)]  # the head is tied


SHAPES: dict[str, Callable[[], list[Shape]]] = {
    "MLP": lambda: shapes_of(mlp),
    "24-layer MLP": lambda: shapes_of(deep_mlp),
    GROUPS: lambda: [(256,)] * 465,
    "1000 x 256": lambda: [(256,)] * 1000,
    "ResNet-50": _resnet50,
    "GPT-2 small": _gpt2,
}
"""Shapes of the parameters of each model that a step is measured on."""


def _images() -> tuple[Tensor, Tensor]:
    return torch.randn(64, 64), torch.randint(10, (64,))


def _text() -> tuple[Tensor, Tensor]:
    return torch.randint(256, (8, 64)), torch.randint(256, (8, 64))


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], tuple[Tensor, Tensor]]]] = {
    "MLP": (mlp, _images),
    "24-layer MLP": (deep_mlp, _images),
    "small GPT": (GPT, _text),
}
"""Models that a whole training step is measured on, with what makes a batch for each."""

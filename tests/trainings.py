"""Small trainings with everything that is easily lost, and whether two of them are the same bit for bit."""

import hashlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

CLASSES = 3


def bits(tree: Any) -> Any:
    """A tree that is equal to another's only if every bit, dtype and shape in it is."""
    if isinstance(tree, Tensor):
        flat = tree.detach().cpu().contiguous().reshape(-1)
        data = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
        return str(tree.dtype), tuple(tree.shape), hashlib.sha256(data).hexdigest()
    if isinstance(tree, dict):
        return {key: bits(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(bits(value) for value in tree)
    if isinstance(tree, float):
        return tree.hex()  # minus zero is not zero, and NaN is equal to NaN
    return type(tree).__name__, tree  # True is not 1


def generators(*loaders: Any) -> Any:
    """The state of every random generator, read without Surefoot."""
    own = [getattr(loader, "generator", None) for loader in loaders]
    return bits(
        {
            "python": random.getstate(),
            "numpy": np.random.get_state()[1].tolist() + list(np.random.get_state()[2:]),
            "torch": torch.get_rng_state(),
            "loaders": [None if generator is None else generator.get_state() for generator in own],
        }
    )


def everything(model: nn.Module, optimizer: torch.optim.Optimizer, *loaders: Any) -> dict[str, Any]:
    """All that a training is made of, gradients by identity too."""
    params = [*model.parameters(), *(p for group in optimizer.param_groups for p in group["params"])]
    names = {id(p): i for i, p in enumerate(params)}
    groups = [
        {**group, "params": [names[id(p)] for p in group["params"]]} for group in optimizer.param_groups
    ]
    return {
        "params": bits(params),
        "buffers": [
            (name, id(b), bits(b)) for module in model.modules() for name, b in module._buffers.items()
        ],
        "modes": [module.training for module in model.modules()],
        "gradients": [(id(p.grad), bits(p.grad)) for p in params],
        "state": [(names[id(p)], bits(entry)) for p, entry in optimizer.state.items()],
        "groups": bits(groups),
        "generators": generators(*loaders),
    }


def net() -> nn.Sequential:
    """A classifier of six numbers with running statistics and dropout."""
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, CLASSES)
    )


def dataset(samples: int = 40) -> TensorDataset:
    """Numbers and classes that can be learned."""
    inputs = torch.randn(samples, 6, generator=torch.Generator().manual_seed(1))
    return TensorDataset(inputs, inputs[:, :CLASSES].argmax(1))


class Augmented(Dataset[Any]):
    """The same with noise from torch's, NumPy's and Python's global generators."""

    def __init__(self, samples: int = 40) -> None:
        self.clean = dataset(samples)

    def __len__(self) -> int:
        return len(self.clean)

    def __getitem__(self, index: int) -> Any:
        inputs, label = self.clean[index]
        return inputs + 0.1 * torch.randn(6) + 0.1 * np.random.rand() + 0.1 * random.random(), label


def loader(data: Any = None, **settings: Any) -> DataLoader[Any]:
    """Shuffled batches of eight, in an order of the loader's own generator."""
    own = {"generator": torch.Generator().manual_seed(2)}
    return DataLoader(
        dataset() if data is None else data, **{"batch_size": 8, "shuffle": True, **own, **settings}
    )


def seed(number: int = 0) -> None:
    """Put every global generator in a known state."""
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def loss(model: nn.Module, batch: Any) -> Tensor:
    """Cross entropy of one batch."""
    inputs, labels = batch
    return nn.functional.cross_entropy(model(inputs), labels)


def endless(batches: Any) -> Iterator[Any]:
    """Pass after pass."""
    while True:
        yield from batches


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, batches: Any, count: int) -> list[float]:
    """Train on ``count`` batches, starting a pass; the losses."""
    losses = []
    stream = endless(batches)
    for _ in range(count):
        optimizer.zero_grad()
        value = loss(model.train(), next(stream))
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


class Placed:
    """Says where it is, and goes there, as torchdata's StatefulDataLoader."""

    def __init__(self, batches: Any) -> None:
        self.batches, self.at, self.begun = list(batches), 0, False

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        self.at = self.at if self.begun else 0
        self.begun = False
        while self.at < len(self.batches):
            self.at += 1
            yield self.batches[self.at - 1]
        self.at = 0

    def state_dict(self) -> dict[str, Any]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.at, self.begun = state["at"], True

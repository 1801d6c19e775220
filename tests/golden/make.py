"""Write the golden checkpoints of this version: python tests/golden/make.py

One for each optimizer, with what two further steps make of it. They stay when the version is released, and later ones must
load them: see ``test_golden.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from cases import CLASSES

import surefoot
from surefoot import checkpoint

FOLDER = Path(__file__).parent


def parts(name: str, **settings: Any) -> dict[str, Any]:
    """A model, its optimizer with two groups, one of them frozen in part, and a schedule."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 1, dtype=torch.bfloat16))
    named = list(model.named_parameters())
    groups = [
        {"params": named[:2], "weight_decay": 0.1},
        {"params": named[2:], "frozen": (True, False, False, False)},
    ]
    optimizer = getattr(surefoot, name)(groups, **settings)
    scheduler = surefoot.Scheduler(optimizer, lr=surefoot.curves.warmup(2) >> surefoot.curves.cosine(8))
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler}


def steps(made: dict[str, Any], grads: list[list[torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The weights after steps with these gradients."""
    for each in grads:
        for param, grad in zip(made["model"].parameters(), each, strict=True):
            param.grad = grad.clone()
        made["optimizer"].step()
        made["scheduler"].step()
    return {name: value.detach().clone() for name, value in made["model"].state_dict().items()}


def main() -> None:
    folder = FOLDER / surefoot.__version__
    folder.mkdir(exist_ok=True)
    for case in CLASSES:
        made = parts(case.name, **case.kwargs)
        draw = torch.Generator().manual_seed(1)
        grads = [
            [torch.randn(p.shape, generator=draw).to(p.dtype) for p in made["model"].parameters()]
            for _ in range(5)
        ]
        steps(made, grads[:3])
        path = folder / f"{case.name}.safetensors"
        checkpoint.save(path, **made)
        after = steps(made, grads[3:])
        made = parts(case.name, **case.kwargs)
        checkpoint.load(path, **made)
        checkpoint.save(path, **made, extra={"settings": case.kwargs, "grads": grads[3:], "after": after})


if __name__ == "__main__":
    main()

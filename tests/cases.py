"""The table of optimizers that every contract is crossed with.

A new optimizer is added here, and its paper in ``papers.py``: the contracts come with it. Keep at least one
case for each flag of its constructor, and name first the case that stands for the class.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest
import references
import torch

import surefoot


@dataclass(frozen=True)
class Case:
    """One optimizer with one choice of hyperparameters.

    Attributes:
        name: The class, in ``surefoot``, and in ``torch.optim`` or else in ``references``.
        kwargs: Arguments for both constructors.
        takes_complex: False where torch's own kernel refuses complex parameters.
    """

    name: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    takes_complex: bool = True

    def ours(self, params: Iterable[Any], **extra: Any) -> Any:
        return getattr(surefoot, self.name)(params, **deepcopy(self.kwargs) | extra)

    def torchs(self, params: Iterable[Any], **extra: Any) -> Any:
        home = torch.optim if hasattr(torch.optim, self.name) else references
        return getattr(home, self.name)(params, **deepcopy(self.kwargs) | extra)

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{key}={_short(value)}" for key, value in self.kwargs.items())])


def _short(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"tensor({value.item():g})"
    if isinstance(value, tuple):
        return "(" + ",".join(map(_short, value)) + ")"
    return str(value)


def _double(value: float) -> torch.Tensor:
    # torch computes with a tensor lr in the tensor's own dtype: only a double keeps up with float64.
    return torch.tensor(value, dtype=torch.float64)


CASES = [
    Case("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    Case("SGD", {"lr": 0.1}),
    Case("SGD", {"lr": 0.1, "weight_decay": 0.1}),
    Case("SGD", {"lr": 0.1, "momentum": 0.9}),
    Case("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
    Case("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    Case("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "maximize": True}),
    Case("SGD", {"lr": 0.1, "momentum": 0.5, "dampening": -0.5, "weight_decay": 0.1, "maximize": True}),
    Case("SGD", {"lr": 0.1, "maximize": True}),
    Case("SGD", {"lr": 0.1, "momentum": 0.9, "foreach": True}),
    Case("SGD", {"lr": 0.1, "momentum": 0.9, "fused": True}, takes_complex=False),
    Case("SGD", {"lr": _double(0.1), "momentum": 0.9}),
    Case("Adam", {"lr": 0.01}),
    Case("Adam", {"lr": 0.01, "weight_decay": 0.1}),
    Case("Adam", {"lr": 0.01, "amsgrad": True}),
    Case("Adam", {"lr": 0.01, "decoupled_weight_decay": True, "weight_decay": 0.1}),
    Case("Adam", {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1, "maximize": True}),
    Case("Adam", {"lr": 0.01, "maximize": True}),
    Case("Adam", {"lr": 0.01, "betas": (0.0, 0.5), "eps": 0.1}),
    Case("Adam", {"lr": 0.01, "betas": (0.99, 0.9)}),
    Case("Adam", {"lr": 0.01, "betas": (0.95, 0.9999), "eps": 1e-15}),
    Case("Adam", {"lr": 0.01, "foreach": True}),
    Case("Adam", {"lr": 0.01, "fused": True}, takes_complex=False),
    Case("Adam", {"lr": _double(0.01), "weight_decay": 0.1}),
    Case("Adam", {"lr": _double(0.01), "betas": (_double(0.8), _double(0.99))}),
    Case("AdamW", {"lr": 0.01, "weight_decay": 0.1}),
    Case("AdamW", {"lr": 0.01}),
    Case("AdamW", {"lr": 0.01, "amsgrad": True}),
    Case("AdamW", {"lr": 0.01, "maximize": True}),
    Case("AdamW", {"lr": 0.01, "foreach": True}),
    Case("AdamW", {"lr": 0.01, "fused": True}, takes_complex=False),
    Case("AdamW", {"lr": _double(0.01)}),
    Case("RAdam", {"lr": 0.01}),
    Case("RAdam", {"lr": 0.01, "weight_decay": 0.1}),
    Case("RAdam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    Case("RAdam", {"lr": 0.01, "betas": (0.9, 0.6)}),  # rho_inf = 4: never rectified
    Case("RAdam", {"lr": 0.01, "betas": (0.9, 0.7)}),  # rho_inf = 5.7: rectified after a while
    Case("RAdam", {"lr": 0.01, "maximize": True}),
    Case("RAdam", {"lr": 0.01, "foreach": True}),
    Case("RAdam", {"lr": _double(0.01), "eps": 1e-3}),
    Case("NAdam", {"lr": 0.01}),
    Case("NAdam", {"lr": 0.01, "weight_decay": 0.1}),
    Case("NAdam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    Case("NAdam", {"lr": 0.01, "momentum_decay": 0.1}),
    Case("NAdam", {"lr": 0.01, "momentum_decay": 0, "betas": (0.5, 0.9), "eps": 1e-3}),
    Case("NAdam", {"lr": 0.01, "maximize": True}),
    Case("NAdam", {"lr": 0.01, "foreach": True}),
    Case("NAdam", {"lr": _double(0.01)}),
    Case("NAdamW", {"lr": 0.01, "weight_decay": 0.1}),
    Case("NAdamW", {"lr": 0.01, "momentum_decay": 0.1, "maximize": True}),
    Case("Adagrad", {"lr": 0.1, "lr_decay": 0.1}),
    Case("Adagrad", {"lr": 0.1, "initial_accumulator_value": 0.5, "maximize": True}),
    Case("Adagrad", {"lr": _double(0.1), "weight_decay": 0.1, "eps": 1e-3}),
    Case("Adadelta", {"lr": 10.0}),  # so that steps are not lost in bfloat16 weights
    Case("Adadelta", {"lr": 0.5, "rho": 0.5, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    Case("Adadelta", {"lr": _double(2.0), "rho": 1.0}),
    Case("Adamax", {"lr": 0.01}),
    Case("Adamax", {"lr": 0.01, "betas": (0.5, 0.9), "weight_decay": 0.1, "maximize": True}),
    Case("Adamax", {"lr": _double(0.01), "eps": 0.1}),
    Case("RMSprop", {"lr": 0.01, "momentum": 0.9, "centered": True}),
    Case("RMSprop", {"lr": 0.01, "alpha": 0.5, "eps": 1e-3}),
    Case("RMSprop", {"lr": 0.01, "momentum": 0.5, "weight_decay": 0.1, "eps": 0.1, "maximize": True}),
    Case("RMSprop", {"lr": _double(0.01), "centered": True}),
    Case("Rprop", {"lr": 0.01}),
    Case("Rprop", {"lr": _double(0.1), "etas": (0.3, 2.0), "step_sizes": (0.01, 0.3), "maximize": True}),
    Case("ASGD", {"lr": 0.1, "lambd": 0.1, "t0": 5}),
    Case("ASGD", {"lr": 0.1}),
    Case("ASGD", {"lr": 0.1, "alpha": 0.5, "t0": math.inf, "weight_decay": 0.1, "maximize": True}),
    Case("Lion", {"lr": 0.01, "weight_decay": 0.1}),
    Case("Lion", {"lr": _double(0.01), "betas": (0.5, 0.75), "maximize": True}),
]

# The first case of each class: for contracts that look at machinery and not at arithmetic.
CLASSES = list({case.name: case for case in reversed(CASES)}.values())[::-1]

every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_class = pytest.mark.parametrize("case", CLASSES, ids=str)

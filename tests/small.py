"""An optimizer of a rule of one number, small enough to do by hand."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from surefoot.optimizers import Optimizer
from surefoot.rule import Rule, rule


@rule
def descend(param, grad, /, lr):
    return (param - lr * grad,)


def optimizer_of(rule_: Rule, lr: float = 0.1, **extras: Any) -> Optimizer:
    """An optimizer of three ones whose gradients are 0.5."""

    class OfRule(Optimizer):
        rule = rule_
        counters: ClassVar = {}

        def scalars(self, hyper, state):
            return {"lr": hyper["lr"]}

    weight = torch.ones(3, requires_grad=True)
    weight.grad = torch.full((3,), 0.5)
    return OfRule([weight], {"lr": lr}, **extras)


def stepped(optimizer: Optimizer) -> torch.Tensor:
    """The weight after a step."""
    optimizer.step()
    (weight,) = optimizer.param_groups[0]["params"]
    return weight.detach()

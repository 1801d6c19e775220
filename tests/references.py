"""Optimizers that torch lacks, as torch would have them: what ours are compared with.

Lion is written from the paper's algorithm 2, with torch's operators and state, and knows nothing of Surefoot.
"""

from __future__ import annotations

import torch
from torch.optim.optimizer import _use_grad_for_differentiable


class NAdamW(torch.optim.NAdam):
    def __init__(self, params, *, weight_decay=0.01, **settings):
        super().__init__(params, weight_decay=weight_decay, decoupled_weight_decay=True, **settings)

    def __setstate__(self, state):
        super().__setstate__(state)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True


class Lion(torch.optim.Optimizer):
    def __init__(
        self,
        params,
        lr=1e-4,
        betas=(0.9, 0.99),
        weight_decay=0.0,
        *,
        maximize=False,
        capturable=False,
        differentiable=False,
    ):
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "weight_decay": weight_decay,
                "maximize": maximize,
                "capturable": capturable,
                "differentiable": differentiable,
            },
        )

    @_use_grad_for_differentiable
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    self._update(param, -param.grad if group["maximize"] else param.grad, group)
        return loss

    def _update(self, param, grad, group):
        state, lr, (beta1, beta2) = self.state[param], group["lr"], group["betas"]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(param, memory_format=torch.preserve_format)
        state["step"] += 1
        param.mul_(1 - lr * group["weight_decay"])
        direction = state["exp_avg"] * beta1 + grad * (1 - beta1)
        if direction.is_complex():  # its own sign is a point on the circle; these are two numbers
            direction = torch.complex(direction.real.sign(), direction.imag.sign())
        else:
            direction = direction.sign()
        param.add_(direction * -lr)
        state["exp_avg"].mul_(beta2).add_(grad, alpha=1 - beta2)

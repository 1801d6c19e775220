"""Adagrad: each weight's rate falls with the gradients it has seen."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor, sqrt

from surefoot.optimizers.base import Extras, Group, Optimizer, ParamsT, decays, double
from surefoot.rule import rule

__all__ = ["Adagrad"]


@rule
def adagrad(param, grad, sum, /, l2, lr, eps):
    if l2 is not None:
        grad = grad + l2 * param
    sum = sum + grad * grad
    return param - lr * grad / (sqrt(sum) + eps), sum


class Adagrad(Optimizer):
    r"""Adagrad: rare features keep a high rate.

    .. math::
        s_t &= s_{t-1} + g_t^2 \\
        \theta_t &= \theta_{t-1} - \frac{\gamma}{1 + (t-1)\,\eta}\,\frac{g_t}{\sqrt{s_t} + \epsilon}

    Duchi, Hazan & Singer, 2011 (https://jmlr.org/papers/v12/duchi11a.html).

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate :math:`\gamma`, at least 0; a float or a 1-element tensor.
        lr_decay: :math:`\eta`, how fast the rate falls with the steps, at least 0.
        weight_decay: An L2 term of the gradient, at least 0.
        initial_accumulator_value: :math:`s_0`, at least 0; in both parts of a complex weight.
        eps: Keeps the quotient finite, at least 0.
        foreach: Accepted as in torch; execution is ``executor``'s to choose.
        maximize: Ascend instead.
        differentiable: Let autograd differentiate through ``step``.
        fused: Accepted as in torch.
        **extras: ``clip_norm``, ``clip_value``, ``nonfinite``, ``stats`` and ``executor``, as in
            :class:`~surefoot.optimizers.Optimizer`.

    State: ``step`` (a 0-dim tensor) and ``sum``, of the parameter's shape and dtype; both are there
    before the first step. Sparse gradients are taken.

    Raises:
        ValueError: A hyperparameter is out of its range.

    Example:
        >>> import torch, surefoot
        >>> weight = torch.tensor([1.0, 1.0], requires_grad=True)
        >>> optimizer = surefoot.Adagrad([weight], lr=0.1)
        >>> for _ in range(2):
        ...     optimizer.zero_grad()
        ...     (weight * torch.tensor([1.0, 100.0])).sum().backward()
        ...     optimizer.step()
        >>> weight
        tensor([0.8293, 0.8293], requires_grad=True)
    """

    rule = adagrad

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        **extras: Unpack[Extras],
    ) -> None:
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults, **extras)
        self._begin_all()

    def _begin_all(self) -> None:
        for group in self.param_groups:
            for param in group["params"]:
                state = self.state.setdefault(param, {})
                for name in (*self.counters, *self.rule.buffers):
                    if name not in state:
                        state[name] = self.new_state(name, param, group)

    def share_memory(self) -> None:
        """Move every ``sum`` to shared memory, for training in several processes (Hogwild)."""
        self._begin_all()
        for group in self.param_groups:
            for param in group["params"]:
                self.state[param]["sum"].share_memory_()

    def start(self, name: str, hyper: Group) -> Any:
        if name == "sum":
            return float(hyper["initial_accumulator_value"])
        return super().start(name, hyper)

    def scalars(self, hyper: Group, state: dict[str, Any]) -> dict[str, Any]:
        step = double(state["step"], hyper)
        return {
            "l2": decays(hyper["lr"], hyper["weight_decay"], decoupled=False)["l2"],
            "lr": hyper["lr"] / (1 + (step - 1) * hyper["lr_decay"]),
            "eps": hyper["eps"],
        }

    def dense(self, grad: Tensor, group: Group) -> Tensor:
        return grad.to_dense() if grad.is_sparse else grad

"""Stochastic gradient descent, with momentum and Nesterov's look ahead."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

from torch import Tensor

from surefoot.optimizers.base import Extras, Group, Optimizer, ParamsT, decays
from surefoot.rule import rule

__all__ = ["SGD"]


@rule
def sgd(param, grad, momentum_buffer, /, lr, l2, momentum, intake, ahead):
    if l2 is not None:
        grad = grad + l2 * param
    if momentum_buffer is not None:
        momentum_buffer = momentum * momentum_buffer + intake * grad
        grad = momentum_buffer if ahead is None else grad + ahead * momentum_buffer
    return param - lr * grad, momentum_buffer


class SGD(Optimizer):
    r"""Stochastic gradient descent.

    .. math::
        g_t &= \nabla f(\theta_{t-1}) + \lambda\,\theta_{t-1} \\
        b_t &= \mu\,b_{t-1} + (1 - \tau)\,g_t, \quad b_1 = g_1 \\
        \theta_t &= \theta_{t-1} - \gamma\,d_t, \quad
        d_t = g_t \text{ without momentum},\ b_t \text{ with},\ g_t + \mu\,b_t \text{ with Nesterov}

    The form of Sutskever et al., 2013 (http://proceedings.mlr.press/v28/sutskever13.html) as torch
    has it: the rate multiplies the buffer when it is used, not when it is filled.

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate :math:`\gamma`, at least 0; a float or a 1-element tensor.
        momentum: :math:`\mu`, at least 0; 0 keeps no buffer.
        dampening: :math:`\tau`, how much less of each gradient enters the buffer.
        weight_decay: :math:`\lambda`, an L2 term, at least 0.
        nesterov: Step as if looking one momentum step ahead; needs ``momentum`` and no
            ``dampening``.
        maximize: Ascend instead.
        foreach: Accepted as in torch; execution is ``executor``'s to choose.
        differentiable: Let autograd differentiate through ``step``.
        fused: Accepted as in torch.
        **extras: ``clip_norm``, ``clip_value``, ``nonfinite``, ``stats`` and ``executor``, as in
            :class:`~surefoot.optimizers.Optimizer`.

    State: ``momentum_buffer``, of the parameter's shape and dtype, with momentum only.
    Sparse gradients are taken; without momentum and decay only the touched rows are visited.

    Raises:
        ValueError: A hyperparameter is out of its range, or ``nesterov`` lacks what it needs.

    Example:
        >>> import torch, surefoot
        >>> weight = torch.tensor([1.0], requires_grad=True)
        >>> optimizer = surefoot.SGD([weight], lr=0.1, momentum=0.9, nesterov=True)
        >>> (weight ** 2).sum().backward()
        >>> optimizer.step()
        >>> round(weight.item(), 4)
        0.62
    """

    rule = sgd
    counters: ClassVar[dict[str, float]] = {}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float | Tensor = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        **extras: Unpack[Extras],
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults, **extras)

    def check_hyperparameters(self, group: Group) -> None:
        super().check_hyperparameters(group)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(
                f"nesterov=True needs momentum > 0 and dampening=0, got momentum={group['momentum']}, "
                f"dampening={group['dampening']}"
            )

    def buffers(self, group: Group) -> tuple[str, ...]:
        return self.rule.buffers if group["momentum"] != 0 else ()

    def names_of_state(self, group: Group) -> tuple[str, ...]:
        # With dampening the buffer starts from the first gradient, which zeros would not tell.
        return super().names_of_state(group) if group["dampening"] == 0 else ()

    def scalars(self, hyper: Group, state: dict[str, Any]) -> dict[str, Any]:
        first = state["first"]  # the buffer starts as the first gradient
        return {
            "lr": hyper["lr"],
            "l2": decays(hyper["lr"], hyper["weight_decay"], decoupled=False)["l2"],
            "momentum": hyper["momentum"],
            "intake": 1.0 if first else 1.0 - hyper["dampening"],
            "ahead": hyper["momentum"] if hyper["nesterov"] else None,
        }

    def dense(self, grad: Tensor, group: Group) -> Tensor:
        spreads = group["momentum"] != 0 or group["weight_decay"] != 0
        return grad.to_dense() if grad.is_sparse and spreads else grad

"""Adadelta: steps in the weight's own units, as large as the steps before."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor, sqrt

from surefoot.optimizers.base import Extras, Group, Optimizer, ParamsT, decays
from surefoot.rule import rule

__all__ = ["Adadelta"]


@rule
def adadelta(param, grad, square_avg, acc_delta, /, l2, lr, rho, weight, eps):
    if l2 is not None:
        grad = grad + l2 * param
    square_avg = rho * square_avg + weight * grad * grad
    delta = sqrt(acc_delta + eps) / sqrt(square_avg + eps) * grad
    acc_delta = rho * acc_delta + weight * delta * delta
    return param - lr * delta, square_avg, acc_delta


class Adadelta(Optimizer):
    r"""Adadelta: no rate to choose.

    .. math::
        v_t &= \rho\,v_{t-1} + (1 - \rho)\,g_t^2 \\
        \Delta_t &= \frac{\sqrt{u_{t-1} + \epsilon}}{\sqrt{v_t + \epsilon}}\,g_t, \qquad
        u_t = \rho\,u_{t-1} + (1 - \rho)\,\Delta_t^2 \\
        \theta_t &= \theta_{t-1} - \gamma\,\Delta_t

    Zeiler, 2012 (https://arxiv.org/abs/1212.5701), where :math:`\gamma = 1`.

    Args:
        params: Parameters, named parameters or groups.
        lr: Factor :math:`\gamma` on each step, at least 0; a float or a 1-element tensor.
        rho: Memory of the two averages, in [0, 1].
        eps: :math:`\epsilon`, at least 0; the size of the first steps grows with its root.
        weight_decay: An L2 term of the gradient, at least 0.
        foreach: Accepted as in torch; execution is ``executor``'s to choose.
        capturable: Keep the count on the parameter's device.
        maximize: Ascend instead.
        differentiable: Let autograd differentiate through ``step``.
        **extras: ``clip_norm``, ``clip_value``, ``nonfinite``, ``stats`` and ``executor``, as in
            :class:`~surefoot.optimizers.Optimizer`.

    State: ``step`` (a 0-dim tensor), ``square_avg`` and ``acc_delta``, of the parameter's shape and
    dtype.

    Raises:
        ValueError: A hyperparameter is out of its range.

    Example:
        >>> import torch, surefoot
        >>> weight = torch.tensor([1.0, 1.0], requires_grad=True)
        >>> optimizer = surefoot.Adadelta([weight])
        >>> (weight * torch.tensor([1.0, 100.0])).sum().backward()
        >>> optimizer.step()  # whatever the gradient's size
        >>> weight
        tensor([0.9968, 0.9968], requires_grad=True)
    """

    rule = adadelta

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
        **extras: Unpack[Extras],
    ) -> None:
        defaults = {
            "lr": lr,
            "rho": rho,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "capturable": capturable,
            "foreach": foreach,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults, **extras)

    def scalars(self, hyper: Group, state: dict[str, Any]) -> dict[str, Any]:
        return {
            "l2": decays(hyper["lr"], hyper["weight_decay"], decoupled=False)["l2"],
            "lr": hyper["lr"],
            "rho": hyper["rho"],
            "weight": 1 - hyper["rho"],
            "eps": hyper["eps"],
        }

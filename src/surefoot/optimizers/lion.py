"""Lion: the sign of a momentum."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor, sign

from surefoot.optimizers.base import Extras, Group, Optimizer, ParamsT
from surefoot.rule import rule

__all__ = ["Lion"]


@rule
def lion(param, grad, exp_avg, /, decay, lr, beta1, weight1, beta2, weight2):
    param = decay * param - lr * sign(beta1 * exp_avg + weight1 * grad)
    return param, beta2 * exp_avg + weight2 * grad


class Lion(Optimizer):
    r"""Lion: every weight moves by the rate, and one buffer is kept.

    .. math::
        \theta_t &= (1 - \gamma\lambda)\,\theta_{t-1} - \gamma\,
        \operatorname{sign}(\beta_1 m_{t-1} + (1 - \beta_1)\,g_t) \\
        m_t &= \beta_2 m_{t-1} + (1 - \beta_2)\,g_t

    Chen et al., 2023 (https://arxiv.org/abs/2302.06675), whose advice is a rate 3 to 10 times smaller, and
    a decay as much larger, than AdamW's.

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate :math:`\gamma`, at least 0; a float or a 1-element tensor.
        betas: Memory :math:`\beta_1` of the direction and :math:`\beta_2` of the average, each in [0, 1).
        weight_decay: :math:`\lambda`, decoupled, at least 0.
        maximize: Ascend instead.
        capturable: Keep the count on the parameter's device.
        differentiable: Let autograd differentiate through ``step``.
        **extras: ``clip_norm``, ``clip_value``, ``nonfinite``, ``stats`` and ``executor``, as in
            :class:`~surefoot.optimizers.Optimizer`.

    State: ``step`` (a 0-dim tensor) and ``exp_avg``, of the parameter's shape and dtype.

    Raises:
        ValueError: A hyperparameter is out of its range.

    Example:
        >>> import torch, surefoot
        >>> weight = torch.tensor([1.0, 1.0], requires_grad=True)
        >>> optimizer = surefoot.Lion([weight], lr=0.1)
        >>> (weight * torch.tensor([1.0, -100.0])).sum().backward()
        >>> optimizer.step()
        >>> weight
        tensor([0.9000, 1.1000], requires_grad=True)
    """

    rule = lion

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        **extras: Unpack[Extras],
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "capturable": capturable,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults, **extras)

    def scalars(self, hyper: Group, state: dict[str, Any]) -> dict[str, Any]:
        beta1, beta2 = hyper["betas"]
        return {
            "decay": 1 - hyper["lr"] * hyper["weight_decay"],
            "lr": hyper["lr"],
            "beta1": beta1,
            "weight1": 1 - beta1,
            "beta2": beta2,
            "weight2": 1 - beta2,
        }

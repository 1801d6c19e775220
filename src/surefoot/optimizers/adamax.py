"""Adamax: Adam with the largest gradient in place of the mean square."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor, abs, maximum

from surefoot.optimizers.base import Extras, Group, Optimizer, ParamsT, decays, double
from surefoot.rule import rule

__all__ = ["Adamax"]


@rule
def adamax(param, grad, exp_avg, exp_inf, /, l2, weight1, beta2, step_size, eps):
    if l2 is not None:
        grad = grad + l2 * param
    exp_avg = exp_avg + weight1 * (grad - exp_avg)
    exp_inf = maximum(beta2 * exp_inf, abs(grad) + eps)
    return param - step_size * exp_avg / exp_inf, exp_avg, exp_inf


class Adamax(Optimizer):
    r"""Adamax: no step is longer than the rate.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1)\,g_t, \qquad
        u_t = \max(\beta_2 u_{t-1},\ |g_t| + \epsilon) \\
        \theta_t &= \theta_{t-1} - \frac{\gamma}{1 - \beta_1^t}\,\frac{m_t}{u_t}

    Kingma & Ba, 2015, section 7.1 (https://arxiv.org/abs/1412.6980); :math:`\epsilon` is torch's.

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate :math:`\gamma`, at least 0; a float or a 1-element tensor.
        betas: Memory of the average and of the maximum, each in [0, 1).
        eps: Keeps the quotient finite, at least 0.
        weight_decay: An L2 term of the gradient, at least 0.
        foreach: Accepted as in torch; execution is ``executor``'s to choose.
        maximize: Ascend instead.
        differentiable: Let autograd differentiate through ``step``.
        capturable: Keep the count on the parameter's device and read no number back to the host.
        **extras: ``clip_norm``, ``clip_value``, ``nonfinite``, ``stats`` and ``executor``, as in
            :class:`~surefoot.optimizers.Optimizer`.

    State: ``step`` (a 0-dim tensor), ``exp_avg`` and ``exp_inf``, of the parameter's shape and dtype.

    Raises:
        ValueError: A hyperparameter is out of its range.

    Example:
        >>> import torch, surefoot
        >>> weight = torch.tensor([1.0], requires_grad=True)
        >>> optimizer = surefoot.Adamax([weight], lr=0.1)
        >>> (weight ** 2).sum().backward()
        >>> optimizer.step()
        >>> round(weight.item(), 4)
        0.9
    """

    rule = adamax

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        **extras: Unpack[Extras],
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        super().__init__(params, defaults, **extras)

    def scalars(self, hyper: Group, state: dict[str, Any]) -> dict[str, Any]:
        beta1, beta2 = hyper["betas"]
        return {
            "l2": decays(hyper["lr"], hyper["weight_decay"], decoupled=False)["l2"],
            "weight1": 1 - beta1,
            "beta2": beta2,
            "step_size": hyper["lr"] / (1 - beta1 ** double(state["step"], hyper)),
            "eps": hyper["eps"],
        }

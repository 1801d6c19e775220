"""RAdam: Adam that waits until its second moment can be trusted."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor, sqrt

from surefoot.optimizers.base import Extras, Group, Optimizer, ParamsT, decays, double
from surefoot.rule import rule

__all__ = ["RAdam"]


@rule
def radam(param, grad, exp_avg, exp_avg_sq, /, decay, l2, weight1, beta2, weight2, step_size, adaptive, eps):
    param = decay * param
    if l2 is not None:
        grad = grad + l2 * param
    exp_avg = exp_avg + weight1 * (grad - exp_avg)
    exp_avg_sq = beta2 * exp_avg_sq + weight2 * grad * grad
    # adaptive is 1 or 0: divide by the second moment, or by 1.
    param = param - step_size * exp_avg / (adaptive * (sqrt(exp_avg_sq) + eps) + (1 - adaptive))
    return param, exp_avg, exp_avg_sq


class RAdam(Optimizer):
    r"""Rectified Adam: a stable start without warmup.

    With :math:`m_t, v_t` as in Adam and :math:`\rho_\infty = 2/(1-\beta_2) - 1`,
    :math:`\rho_t = \rho_\infty - 2t\beta_2^t/(1-\beta_2^t)`:

    .. math::
        \theta_t = \theta_{t-1} - \gamma\,\frac{m_t}{1-\beta_1^t} \times
        \begin{cases}
        \sqrt{\frac{(\rho_t-4)(\rho_t-2)\rho_\infty}{(\rho_\infty-4)(\rho_\infty-2)\rho_t}}
        \cdot \frac{\sqrt{1-\beta_2^t}}{\sqrt{v_t}+\epsilon} & \rho_t > 5 \\
        1 & \text{else}
        \end{cases}

    Liu et al., 2020 (https://arxiv.org/abs/1908.03265).

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate :math:`\gamma`, at least 0; a float or a 1-element tensor.
        betas: Memory of the two averages, each in [0, 1).
        eps: Keeps the quotient finite, at least 0.
        weight_decay: At least 0; an L2 term of the gradient unless decoupled.
        decoupled_weight_decay: Decay the weight itself, as the paper's authors do.
        foreach: Accepted as in torch; execution is ``executor``'s to choose.
        maximize: Ascend instead.
        capturable: Keep the count on the parameter's device and read no number back to the host.
        differentiable: Let autograd differentiate through ``step``.
        **extras: ``clip_norm``, ``clip_value``, ``nonfinite``, ``stats`` and ``executor``, as in
            :class:`~surefoot.optimizers.Optimizer`.

    State: ``step`` (a 0-dim tensor), ``exp_avg`` and ``exp_avg_sq``, of the parameter's shape and
    dtype.

    Raises:
        ValueError: A hyperparameter is out of its range.

    Example:
        >>> import torch, surefoot
        >>> weight = torch.tensor([1.0], requires_grad=True)
        >>> optimizer = surefoot.RAdam([weight], lr=0.1)
        >>> (weight ** 2).sum().backward()
        >>> optimizer.step()  # not yet rectified: a momentum step of lr * grad
        >>> round(weight.item(), 4)
        0.8
    """

    rule = radam

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        **extras: Unpack[Extras],
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "decoupled_weight_decay": decoupled_weight_decay,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults, **extras)

    def scalars(self, hyper: Group, state: dict[str, Any]) -> dict[str, Any]:
        beta1, beta2 = hyper["betas"]
        step = double(state["step"], hyper)
        bias2 = 1 - beta2**step
        rho_inf = 2 / (1 - beta2) - 1
        rho = rho_inf - 2 * step * beta2**step / bias2
        # Products with a truth value, not branches, so that a count on the device is never read.
        adaptive = (rho > 5) * 1.0
        rect = 1.0
        if rho_inf > 5:  # else rho, which stays below, never is
            rho = adaptive * rho + (1 - adaptive) * rho_inf
            rect = ((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)) ** 0.5
        return {
            **decays(hyper["lr"], hyper["weight_decay"], hyper["decoupled_weight_decay"]),
            "weight1": 1 - beta1,
            "beta2": beta2,
            "weight2": 1 - beta2,
            "step_size": hyper["lr"] / (1 - beta1**step) * (adaptive * rect * bias2**0.5 + (1 - adaptive)),
            "adaptive": adaptive,
            "eps": hyper["eps"],
        }

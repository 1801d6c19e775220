"""NAdam and NAdamW: Adam with Nesterov's look ahead."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

from torch import Tensor, sqrt

from surefoot.optimizers.base import Extras, Group, Optimizer, ParamsT, decays, double
from surefoot.rule import rule

__all__ = ["NAdam", "NAdamW"]


@rule
def nadam(
    param, grad, exp_avg, exp_avg_sq, /, decay, l2, weight1, beta2, weight2, grad_size, avg_size, unbias2, eps
):
    param = decay * param
    if l2 is not None:
        grad = grad + l2 * param
    exp_avg = exp_avg + weight1 * (grad - exp_avg)
    exp_avg_sq = beta2 * exp_avg_sq + weight2 * grad * grad
    param = param - (grad_size * grad + avg_size * exp_avg) / (sqrt(exp_avg_sq) * unbias2 + eps)
    return param, exp_avg, exp_avg_sq


class NAdam(Optimizer):
    r"""Adam with Nesterov momentum.

    With :math:`m_t, v_t` as in Adam and :math:`\mu_t = \beta_1 (1 - \tfrac12\,0.96^{t\psi})`:

    .. math::
        \theta_t = \theta_{t-1} - \frac{\gamma}{\sqrt{v_t/(1-\beta_2^t)}+\epsilon}
        \left( \frac{(1-\mu_t)\,g_t}{1-\prod_{i=1}^{t}\mu_i}
        + \frac{\mu_{t+1}\,m_t}{1-\prod_{i=1}^{t+1}\mu_i} \right)

    Dozat, 2016 (https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ).

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate :math:`\gamma`, at least 0; a float or a 1-element tensor.
        betas: Memory of the two averages, each in [0, 1).
        eps: Keeps the quotient finite, at least 0.
        weight_decay: At least 0; an L2 term of the gradient unless decoupled.
        momentum_decay: :math:`\psi`, how fast :math:`\mu_t` rises to :math:`\beta_1`, at least 0.
        decoupled_weight_decay: Decay the weight itself (NAdamW).
        foreach: Accepted as in torch; execution is ``executor``'s to choose.
        maximize: Ascend instead.
        capturable: Keep the count on the parameter's device and read no number back to the host.
        differentiable: Let autograd differentiate through ``step``.
        **extras: ``clip_norm``, ``clip_value``, ``nonfinite``, ``stats`` and ``executor``, as in
            :class:`~surefoot.optimizers.Optimizer`.

    State: ``step`` and ``mu_product`` (0-dim tensors), ``exp_avg`` and ``exp_avg_sq``, of the
    parameter's shape and dtype.

    Raises:
        ValueError: A hyperparameter is out of its range.

    Example:
        >>> import torch, surefoot
        >>> weight = torch.tensor([1.0], requires_grad=True)
        >>> optimizer = surefoot.NAdam([weight], lr=0.1)
        >>> (weight ** 2).sum().backward()
        >>> optimizer.step()
        >>> list(optimizer.state[weight])
        ['step', 'mu_product', 'exp_avg', 'exp_avg_sq']
    """

    rule = nadam
    counters: ClassVar[dict[str, float]] = {"step": 0.0, "mu_product": 1.0}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
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
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults, **extras)

    def scalars(self, hyper: Group, state: dict[str, Any]) -> dict[str, Any]:
        beta1, beta2 = hyper["betas"]
        step = double(state["step"], hyper)
        mu = beta1 * (1 - 0.5 * 0.96 ** (step * hyper["momentum_decay"]))
        mu_next = beta1 * (1 - 0.5 * 0.96 ** ((step + 1) * hyper["momentum_decay"]))
        state["mu_product"] *= mu
        mu_product = double(state["mu_product"], hyper)
        return {
            **decays(hyper["lr"], hyper["weight_decay"], hyper["decoupled_weight_decay"]),
            "weight1": 1 - beta1,
            "beta2": beta2,
            "weight2": 1 - beta2,
            "grad_size": hyper["lr"] * (1 - mu) / (1 - mu_product),
            "avg_size": hyper["lr"] * mu_next / (1 - mu_product * mu_next),
            "unbias2": (1 - beta2**step) ** -0.5,
            "eps": hyper["eps"],
        }


class NAdamW(NAdam):
    r"""NAdam with decoupled weight decay.

    As :class:`NAdam`, after :math:`\theta_{t-1} \leftarrow (1 - \gamma\lambda)\,\theta_{t-1}`: decay acts on
    the weight and never enters the averages. Dozat, 2016, with the decay of Loshchilov & Hutter, 2019
    (https://arxiv.org/abs/1711.05101).

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate :math:`\gamma`, at least 0; a float or a 1-element tensor.
        betas: Memory of the two averages, each in [0, 1).
        eps: Keeps the quotient finite, at least 0.
        weight_decay: :math:`\lambda`, at least 0.
        momentum_decay: :math:`\psi`, how fast :math:`\mu_t` rises to :math:`\beta_1`, at least 0.
        foreach: Accepted as in torch; execution is ``executor``'s to choose.
        maximize: Ascend instead.
        capturable: Keep the count on the parameter's device and read no number back to the host.
        differentiable: Let autograd differentiate through ``step``.
        **extras: ``clip_norm``, ``clip_value``, ``nonfinite``, ``stats`` and ``executor``, as in
            :class:`~surefoot.optimizers.Optimizer`.

    State: as :class:`NAdam`, whose checkpoints load here too.

    Raises:
        ValueError: A hyperparameter is out of its range.

    Example:
        >>> import torch, surefoot
        >>> weight = torch.tensor([1.0], requires_grad=True)
        >>> optimizer = surefoot.NAdamW([weight], lr=0.1, weight_decay=1.0)
        >>> weight.grad = torch.zeros(1)
        >>> optimizer.step()  # decay is all there is
        >>> round(weight.item(), 4)
        0.9
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        momentum_decay: float = 4e-3,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        **extras: Unpack[Extras],
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            momentum_decay,
            decoupled_weight_decay=True,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            **extras,
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:  # a checkpoint of NAdam may say False
            group["decoupled_weight_decay"] = True

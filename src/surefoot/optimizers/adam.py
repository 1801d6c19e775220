"""Adam and AdamW: adaptive moment estimation."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor, maximum, sqrt

from surefoot.optimizers.base import Extras, Group, Optimizer, ParamsT, decays, double
from surefoot.rule import rule

__all__ = ["Adam", "AdamW"]


@rule
def adam(
    param,
    grad,
    exp_avg,
    exp_avg_sq,
    max_exp_avg_sq,
    /,
    decay,
    l2,
    weight1,
    beta2,
    weight2,
    step_size,
    unbias2,
    eps,
):
    param = decay * param
    if l2 is not None:
        grad = grad + l2 * param
    exp_avg = exp_avg + weight1 * (grad - exp_avg)
    exp_avg_sq = beta2 * exp_avg_sq + weight2 * grad * grad
    second_moment = exp_avg_sq
    if max_exp_avg_sq is not None:
        max_exp_avg_sq = maximum(max_exp_avg_sq, exp_avg_sq)
        second_moment = max_exp_avg_sq
    param = param - step_size * exp_avg / (sqrt(second_moment) * unbias2 + eps)
    return param, exp_avg, exp_avg_sq, max_exp_avg_sq


class Adam(Optimizer):
    r"""Adam: each weight moves at its own pace.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1)\,g_t, \qquad
        v_t = \beta_2 v_{t-1} + (1 - \beta_2)\,g_t^2 \\
        \theta_t &= \theta_{t-1} - \gamma\,
        \frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon}

    Kingma & Ba, 2015 (https://arxiv.org/abs/1412.6980); ``amsgrad`` is Reddi et al., 2018
    (https://openreview.net/forum?id=ryQu7f-RZ): the largest :math:`v_t` so far is used.

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate :math:`\gamma`, at least 0; a float or a 1-element tensor.
        betas: Memory of the two averages, each in [0, 1); floats or 1-element tensors.
        eps: Keeps the quotient finite, at least 0.
        weight_decay: At least 0; an L2 term of the gradient unless decoupled.
        amsgrad: Never let the second moment shrink.
        foreach: Accepted as in torch; execution is ``executor``'s to choose.
        maximize: Ascend instead.
        capturable: Keep the count on the parameter's device and read no number back to the host.
        differentiable: Let autograd differentiate through ``step``.
        fused: Accepted as in torch.
        decoupled_weight_decay: Decay the weight itself, as AdamW does.
        **extras: ``clip_norm``, ``clip_value``, ``nonfinite``, ``stats`` and ``executor``, as in
            :class:`~surefoot.optimizers.Optimizer`.

    State: ``step`` (a 0-dim tensor), ``exp_avg``, ``exp_avg_sq`` and with ``amsgrad``
    ``max_exp_avg_sq``, of the parameter's shape and dtype.

    Raises:
        ValueError: A hyperparameter is out of its range.

    Example:
        >>> import torch, surefoot
        >>> weight = torch.tensor([1.0], requires_grad=True)
        >>> optimizer = surefoot.Adam([weight], lr=0.1)
        >>> (weight ** 2).sum().backward()
        >>> optimizer.step()
        >>> round(weight.item(), 4)
        0.9
    """

    rule = adam

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        **extras: Unpack[Extras],
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults, **extras)

    def buffers(self, group: Group) -> tuple[str, ...]:
        return self.rule.buffers if group["amsgrad"] else self.rule.buffers[:2]

    def scalars(self, hyper: Group, state: dict[str, Any]) -> dict[str, Any]:
        beta1, beta2 = hyper["betas"]
        step = double(state["step"], hyper)
        return {
            **decays(hyper["lr"], hyper["weight_decay"], hyper["decoupled_weight_decay"]),
            "weight1": 1 - beta1,
            "beta2": beta2,
            "weight2": 1 - beta2,
            "step_size": hyper["lr"] / (1 - beta1**step),
            "unbias2": (1 - beta2**step) ** -0.5,
            "eps": hyper["eps"],
        }


class AdamW(Adam):
    r"""Adam with decoupled weight decay.

    As :class:`Adam`, after :math:`\theta_{t-1} \leftarrow (1 - \gamma\lambda)\,\theta_{t-1}`: decay acts on
    the weight and never enters the averages. Loshchilov & Hutter, 2019
    (https://arxiv.org/abs/1711.05101).

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate :math:`\gamma`, at least 0; a float or a 1-element tensor.
        betas: Memory of the two averages, each in [0, 1).
        eps: Keeps the quotient finite, at least 0.
        weight_decay: :math:`\lambda`, at least 0.
        amsgrad: Never let the second moment shrink.
        maximize: Ascend instead.
        foreach: Accepted as in torch; execution is ``executor``'s to choose.
        capturable: Keep the count on the parameter's device and read no number back to the host.
        differentiable: Let autograd differentiate through ``step``.
        fused: Accepted as in torch.
        **extras: ``clip_norm``, ``clip_value``, ``nonfinite``, ``stats`` and ``executor``, as in
            :class:`~surefoot.optimizers.Optimizer`.

    State: as :class:`Adam`.

    Raises:
        ValueError: A hyperparameter is out of its range.

    Example:
        >>> import torch, surefoot
        >>> model = torch.nn.Linear(4, 1)
        >>> optimizer = surefoot.AdamW(model.named_parameters(), lr=1e-3, weight_decay=0.01)
        >>> model(torch.ones(2, 4)).sum().backward()
        >>> optimizer.step()
        >>> list(optimizer.state[model.weight])
        ['step', 'exp_avg', 'exp_avg_sq']
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        **extras: Unpack[Extras],
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
            **extras,
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:  # a checkpoint of Adam says False
            group["decoupled_weight_decay"] = True

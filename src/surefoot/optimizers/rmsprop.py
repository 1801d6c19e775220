"""RMSprop: gradients divided by their root mean square."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor, sqrt

from surefoot.optimizers.base import Extras, Group, Optimizer, ParamsT, decays
from surefoot.rule import rule

__all__ = ["RMSprop"]


@rule
def rmsprop(param, grad, square_avg, momentum_buffer, grad_avg, /, l2, lr, alpha, weight, momentum, eps):
    if l2 is not None:
        grad = grad + l2 * param
    square_avg = alpha * square_avg + weight * grad * grad
    second_moment = square_avg
    if grad_avg is not None:
        grad_avg = grad_avg + weight * (grad - grad_avg)
        second_moment = square_avg - grad_avg * grad_avg
    direction = grad / (sqrt(second_moment) + eps)
    if momentum_buffer is not None:
        momentum_buffer = momentum * momentum_buffer + direction
        direction = momentum_buffer
    return param - lr * direction, square_avg, momentum_buffer, grad_avg


class RMSprop(Optimizer):
    r"""RMSprop: each weight's gradient in units of its usual size.

    .. math::
        v_t &= \alpha\,v_{t-1} + (1 - \alpha)\,g_t^2, \qquad
        \bar g_t = \alpha\,\bar g_{t-1} + (1 - \alpha)\,g_t \\
        d_t &= \frac{g_t}{\sqrt{v_t} + \epsilon}, \quad
        \text{centered: } \frac{g_t}{\sqrt{v_t - \bar g_t^2} + \epsilon} \\
        b_t &= \mu\,b_{t-1} + d_t, \qquad \theta_t = \theta_{t-1} - \gamma\,b_t

    Hinton, 2012 (https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf); centered:
    Graves, 2013 (https://arxiv.org/abs/1308.0850).

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate :math:`\gamma`, at least 0; a float or a 1-element tensor.
        alpha: Memory of the averages, at least 0; below 1 unless they are to grow.
        eps: Keeps the quotient finite, at least 0.
        weight_decay: An L2 term of the gradient, at least 0.
        momentum: :math:`\mu`, at least 0; 0 keeps no buffer.
        centered: Divide by the standard deviation, and keep an average of the gradient for it. As in torch,
            that of a gradient that hardly varies is a rounding error, or NaN.
        capturable: Keep the count on the parameter's device.
        foreach: Accepted as in torch; execution is ``executor``'s to choose.
        maximize: Ascend instead.
        differentiable: Let autograd differentiate through ``step``.
        **extras: ``clip_norm``, ``clip_value``, ``nonfinite``, ``stats`` and ``executor``, as in
            :class:`~surefoot.optimizers.Optimizer`.

    State: ``step`` (a 0-dim tensor), ``square_avg``, with momentum ``momentum_buffer`` and if centered
    ``grad_avg``, of the parameter's shape and dtype.

    Raises:
        ValueError: A hyperparameter is out of its range.

    Example:
        >>> import torch, surefoot
        >>> weight = torch.tensor([1.0], requires_grad=True)
        >>> optimizer = surefoot.RMSprop([weight], lr=0.01)
        >>> (weight ** 2).sum().backward()
        >>> optimizer.step()  # the average is small at first, so steps are long
        >>> round(weight.item(), 4)
        0.9
    """

    rule = rmsprop

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        **extras: Unpack[Extras],
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "capturable": capturable,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults, **extras)

    def buffers(self, group: Group) -> tuple[str, ...]:
        used = {"square_avg": True, "momentum_buffer": group["momentum"] > 0, "grad_avg": group["centered"]}
        return tuple(name for name in self.rule.buffers if used[name])

    def scalars(self, hyper: Group, state: dict[str, Any]) -> dict[str, Any]:
        return {
            "l2": decays(hyper["lr"], hyper["weight_decay"], decoupled=False)["l2"],
            "lr": hyper["lr"],
            "alpha": hyper["alpha"],
            "weight": 1 - hyper["alpha"],
            "momentum": hyper["momentum"],
            "eps": hyper["eps"],
        }

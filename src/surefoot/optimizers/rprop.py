"""Rprop: the sign of the gradient, and a step size of each weight's own."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor, sign, where

from surefoot.optimizers.base import Extras, Group, Optimizer, ParamsT
from surefoot.rule import rule

__all__ = ["Rprop"]


@rule
def rprop(param, grad, prev, step_size, /, shrink, grow, smallest, largest):
    agreement = grad * prev
    step_size = where(agreement > 0, grow * step_size, where(agreement < 0, shrink * step_size, step_size))
    step_size = where(step_size < smallest, smallest, step_size)
    step_size = where(step_size > largest, largest, step_size)
    grad = where(agreement < 0, 0.0, grad)
    return param - step_size * sign(grad), grad, step_size


class Rprop(Optimizer):
    r"""Resilient backpropagation: longer steps while the gradient keeps its sign, shorter ones after a turn.

    .. math::
        \gamma_t &= \operatorname{clip}\left(\gamma_{t-1} \cdot
        \begin{cases}
        \eta_+ & g_t\,g_{t-1} > 0 \\ \eta_- & g_t\,g_{t-1} < 0 \\ 1 & \text{else}
        \end{cases},\ \gamma_{\min},\ \gamma_{\max} \right), \quad
        g_t \leftarrow 0 \text{ where } g_t\,g_{t-1} < 0 \\
        \theta_t &= \theta_{t-1} - \gamma_t\,\operatorname{sign}(g_t)

    Riedmiller & Braun, 1993 (https://doi.org/10.1109/ICNN.1993.298623), in the form without weight
    backtracking, iRprop-, of Igel & Hüsken, 2000. For gradients of the whole data set: noise turns their sign.

    Args:
        params: Parameters, named parameters or groups.
        lr: The first step size :math:`\gamma_0` of each weight, at least 0; a float or a 1-element tensor.
            It is read at the first step only.
        etas: Factors :math:`\eta_-`, between 0 and 1, and :math:`\eta_+`, above 1.
        step_sizes: Bounds :math:`\gamma_{\min}` and :math:`\gamma_{\max}`, at least 0.
        capturable: Keep the count on the parameter's device.
        foreach: Accepted as in torch; execution is ``executor``'s to choose.
        maximize: Ascend instead.
        differentiable: Let autograd differentiate through ``step``.
        **extras: ``clip_norm``, ``clip_value``, ``nonfinite``, ``stats`` and ``executor``, as in
            :class:`~surefoot.optimizers.Optimizer`.

    State: ``step`` (a 0-dim tensor), ``prev`` and ``step_size``, of the parameter's shape and dtype.

    Raises:
        ValueError: A hyperparameter is out of its range, or two are in the wrong order.

    Example:
        >>> import torch, surefoot
        >>> weight = torch.tensor([1.0], requires_grad=True)
        >>> optimizer = surefoot.Rprop([weight], lr=0.1)
        >>> for _ in range(3):
        ...     optimizer.zero_grad()
        ...     (weight ** 2).sum().backward()
        ...     optimizer.step()
        >>> round(weight.item(), 4)  # 1 - 0.1 - 0.12 - 0.144
        0.636
    """

    rule = rprop

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        **extras: Unpack[Extras],
    ) -> None:
        defaults = {
            "lr": lr,
            "etas": etas,
            "step_sizes": step_sizes,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        super().__init__(params, defaults, **extras)

    def check_hyperparameters(self, group: Group) -> None:
        super().check_hyperparameters(group)
        shrink, grow = group["etas"]
        smallest, largest = group["step_sizes"]
        if not 0 < shrink < 1 < grow:
            raise ValueError(
                f"etas={group['etas']!r}: pass a factor between 0 and 1, then one above 1, as in (0.5, 1.2)"
            )
        if smallest > largest:
            raise ValueError(f"step_sizes={group['step_sizes']!r}: pass the smallest first, then the largest")

    def start(self, name: str, hyper: Group) -> Any:
        return hyper["lr"] if name == "step_size" else super().start(name, hyper)

    def scalars(self, hyper: Group, state: dict[str, Any]) -> dict[str, Any]:
        (shrink, grow), (smallest, largest) = hyper["etas"], hyper["step_sizes"]
        return {"shrink": shrink, "grow": grow, "smallest": smallest, "largest": largest}

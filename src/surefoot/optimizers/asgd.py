"""ASGD: stochastic gradient descent that also keeps the average of its path."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

from torch import Tensor

from surefoot.optimizers.base import Extras, Group, Optimizer, ParamsT, decays, double, keep
from surefoot.rule import rule

__all__ = ["ASGD"]


@rule
def asgd(param, grad, ax, /, l2, decay, eta, mu):
    if l2 is not None:
        grad = grad + l2 * param
    param = decay * param - eta * grad
    ax = param if mu is None else ax + mu * (param - ax)
    return param, ax


class ASGD(Optimizer):
    r"""Averaged stochastic gradient descent.

    .. math::
        \theta_t &= (1 - \lambda\,\eta_{t-1})\,\theta_{t-1} - \eta_{t-1}\,g_t, \qquad
        \eta_t = \frac{\gamma}{(1 + \lambda\gamma t)^{\alpha}},\ \eta_0 = \gamma \\
        \bar\theta_t &= \bar\theta_{t-1} + \mu_{t-1}\,(\theta_t - \bar\theta_{t-1}), \qquad
        \mu_t = \frac{1}{\max(1,\ t - t_0)}

    Polyak & Juditsky, 1992 (https://doi.org/10.1137/0330046), with the rates of Xu, 2011
    (https://arxiv.org/abs/1107.2490).

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate :math:`\gamma`, at least 0; a float or a 1-element tensor.
        lambd: :math:`\lambda`, decay of the weights and of the rate, at least 0.
        alpha: Power with which the rate falls, at least 0.
        t0: The step from which the path is averaged; ``ax`` is the weight itself until then.
        weight_decay: An L2 term of the gradient, at least 0.
        foreach: Accepted as in torch; execution is ``executor``'s to choose.
        maximize: Ascend instead.
        differentiable: Let autograd differentiate through ``step``.
        capturable: Keep the counts on the parameter's device and read no number back to the host.
        **extras: ``clip_norm``, ``clip_value``, ``nonfinite``, ``stats`` and ``executor``, as in
            :class:`~surefoot.optimizers.Optimizer`.

    State: ``step``, ``eta`` and ``mu`` (0-dim tensors; :math:`\eta_t` and :math:`\mu_t` of the next step),
    and the average ``ax``, of the parameter's shape and dtype.

    Raises:
        ValueError: A hyperparameter is out of its range.

    Example:
        >>> import torch, surefoot
        >>> weight = torch.tensor([1.0], requires_grad=True)
        >>> optimizer = surefoot.ASGD([weight], lr=1.0, lambd=0, t0=0)
        >>> for _ in range(3):  # to and fro between 1 and -1
        ...     optimizer.zero_grad()
        ...     (weight ** 2).sum().backward()
        ...     optimizer.step()
        >>> weight.item(), optimizer.state[weight]["ax"].item()
        (-1.0, 0.0)
    """

    rule = asgd
    counters: ClassVar[dict[str, float]] = {"step": 0.0, "eta": 0.0, "mu": 1.0}  # eta starts from the rate

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        **extras: Unpack[Extras],
    ) -> None:
        defaults = {
            "lr": lr,
            "lambd": lambd,
            "alpha": alpha,
            "t0": t0,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        super().__init__(params, defaults, **extras)

    def start(self, name: str, hyper: Group) -> Any:
        return hyper["lr"] if name == "eta" else super().start(name, hyper)

    def new_state(self, name: str, param: Tensor, hyper: Group) -> Tensor:
        return param.detach().clone() if name == "ax" else super().new_state(name, param, hyper)

    def scalars(self, hyper: Group, state: dict[str, Any]) -> dict[str, Any]:
        step, eta, mu = (double(state[name], hyper) for name in self.counters)
        lr, lambd, late = hyper["lr"], hyper["lambd"], step - hyper["t0"]
        keep(state, "eta", lr / (1 + lambd * lr * step) ** hyper["alpha"])
        keep(state, "mu", 1 / (late.clamp(min=1.0) if isinstance(late, Tensor) else max(late, 1.0)))
        return {
            "l2": decays(lr, hyper["weight_decay"], decoupled=False)["l2"],
            "decay": 1 - lambd * eta,
            "eta": eta,
            # Not 1: the weight itself, also where it is infinite. A number on the device is not looked at.
            "mu": mu if isinstance(mu, Tensor) or mu != 1 else None,
        }

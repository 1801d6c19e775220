"""One step of an optimizer: which gradients there are, whether and how long they may be, who applies them.

At most two passes over memory: one that looks at the gradients, if clipping or a policy for those that are
not finite asks for it, and one that updates. Gradients are never written.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, NamedTuple

from surefoot.kernels import choose
from surefoot.optimizers.plan import Norms, Plan

if TYPE_CHECKING:
    from surefoot.optimizers.base import Optimizer

__all__ = ["LastStep", "check_settings", "take"]


class LastStep(NamedTuple):
    """What the last call of ``step`` did.

    Attributes:
        applied: False if it was skipped: parameters, state and counts are as before.
        grad_norm: Euclidean norm of all gradients, unscaled and not clipped; None if nothing asked for it.
        clip_coef: What the gradients were multiplied with to clip their norm; 1 if they were not.
        nonfinite: How many elements of the gradients are infinite or NaN; None if nothing asked for it.
        stats: With ``stats=True`` the :class:`Norms` of each parameter that was updated, by its name.
    """

    applied: bool
    grad_norm: float | None = None
    clip_coef: float = 1.0
    nonfinite: int | None = None
    stats: dict[str, Norms] | None = None


APPLIED = LastStep(applied=True)


def take(optimizer: Optimizer) -> LastStep:
    """Take a step with the gradients that are there.

    Raises:
        FloatingPointError: A gradient is not finite and ``nonfinite`` is ``"raise"``. Nothing has changed.
    """
    check_settings(optimizer)
    found_inf = getattr(optimizer, "found_inf", None)  # a GradScaler has looked already
    if found_inf is not None and float(found_inf):
        return LastStep(applied=False)
    plan = optimizer._plan
    if plan is None or not plan.look(optimizer):
        plan = optimizer._plan = Plan(optimizer, plan)
        if not plan.look(optimizer):
            plan = optimizer._plan = Plan(optimizer, plan, eagerly=True)
            if not plan.look(optimizer):  # never a step that does nothing and says nothing
                raise RuntimeError("the optimizer changes while it steps: let one thread at a time change it")
    try:
        return _apply(optimizer, plan)
    finally:
        plan.release()


def _apply(optimizer: Optimizer, plan: Plan) -> LastStep:
    scale = getattr(optimizer, "grad_scale", None)
    unscale = 1.0 if scale is None else 1.0 / float(scale)
    clip, policy = optimizer.clip_norm, optimizer.nonfinite
    grad_norm, nonfinite, clip_coef = None, None, 1.0
    if plan.looks:
        grad_norm, nonfinite = plan.grad_norm(unscale)
        if nonfinite and policy != "propagate":
            culprits = plan.culprits(optimizer)
            plan.forget(optimizer)
            skipped = LastStep(False, grad_norm, nonfinite=nonfinite)
            if policy == "raise":
                optimizer.last_step = skipped
                elements = f"{nonfinite} element{'' if nonfinite == 1 else 's'}"
                raise FloatingPointError(
                    f"the gradients of {culprits} are not finite ({elements} in all): nothing was updated. Lower the "
                    "learning rate or set clip_norm, or pass nonfinite='skip' to go on without such steps"
                )
            return skipped
        if clip is not None and clip < math.inf:
            clip_coef = clip / (grad_norm + 1e-6)  # torch's formula
            clip_coef = 1.0 if clip_coef > 1.0 else clip_coef  # NaN stays
    stats = plan.run(optimizer, unscale, clip_coef)
    if stats is None and not plan.looks:
        return APPLIED
    if stats is not None and grad_norm is None:
        grad_norm = math.sqrt(math.fsum(norms.grad**2 for norms in stats.values()))
    return LastStep(True, grad_norm, clip_coef, nonfinite, stats)


def check_settings(optimizer: Optimizer) -> None:
    """Raises ValueError or TypeError where a setting of the step, such as ``clip_norm``, is not what it may be."""
    for name in ("clip_norm", "clip_value"):
        value = getattr(optimizer, name)
        if value is None:
            continue
        if not isinstance(value, Real):
            raise TypeError(
                f"{name}={value!r} is a {type(value).__name__}: pass a number, or None not to clip"
            )
        if not float(value) >= 0:
            raise ValueError(f"{name}={value!r} must be at least 0, or None not to clip")
    if optimizer.nonfinite not in POLICIES:
        raise ValueError(f"nonfinite={optimizer.nonfinite!r} does not exist: choose from {sorted(POLICIES)}")
    choose(optimizer.executor)


POLICIES = {"propagate", "skip", "raise"}

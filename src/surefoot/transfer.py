"""An optimizer's state as another optimizer would have it, where it means the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["transfer", "transferable"]

MOMENTS = {"Adam", "AdamW", "NAdam", "NAdamW", "RAdam"}
"""Optimizers that keep the averages of gradients and of their squares from the first step on."""


def transferable(entry: Mapping[str, Any], saved: str, settings: Mapping[str, Any], ours: str) -> str:
    """How :func:`transfer` does it, in words; tensors are not looked at.

    Raises:
        ValueError: It means nothing to that class.
    """
    moments = [name for name in ("step", "exp_avg", "exp_avg_sq") if name in entry]
    product = "; mu_product from step" if ours in ("NAdam", "NAdamW") else ""
    if saved in MOMENTS and ours in MOMENTS and len(moments) == 3:
        return f"{', '.join(moments)} of {saved}{product}"
    if (
        saved == "SGD"
        and ours in MOMENTS
        and entry.get("momentum_buffer") is not None
        and settings.get("dampening", 0) != 1
    ):
        return f"as after one step with the mean gradient of momentum_buffer{product}"
    raise ValueError(
        f"state of {saved} ({', '.join(entry) or 'none'}) means nothing to {ours}: leave the optimizer out, or build a {saved}"
    )


def transfer(
    entry: Mapping[str, Any], saved: str, settings: Mapping[str, Any], ours: str, group: Mapping[str, Any]
) -> dict[str, Tensor]:
    """One parameter's state of another class.

    - Between Adam, AdamW, NAdam and RAdam ``step``, ``exp_avg`` and ``exp_avg_sq`` mean the same. NAdam's ``mu_product``
      follows from ``step``; ``max_exp_avg_sq``, where it is new, starts from ``exp_avg_sq``.
    - SGD's ``momentum_buffer`` holds a mean gradient, ``(1 - momentum) / (1 - dampening)`` times the buffer. An optimizer with
      moments goes on as after one step with that gradient.

    Args:
        entry: The saved state of the parameter.
        saved: The class that it is of.
        settings: The group that it was saved with.
        ours: The class that it is for.
        group: The group that it is for.

    Raises:
        ValueError: It means nothing to that class.

    Example:
        >>> entry = {"momentum_buffer": torch.tensor([2.0])}
        >>> sgd, adam = {"momentum": 0.5, "dampening": 0.0}, {"betas": (0.9, 0.999)}
        >>> transferable(entry, "SGD", sgd, "Adam")
        'as after one step with the mean gradient of momentum_buffer'
        >>> transfer(entry, "SGD", sgd, "Adam", adam)["exp_avg"]
        tensor([0.1000])
    """
    transferable(entry, saved, settings, ours)
    beta1, beta2 = group["betas"]
    if saved in MOMENTS:
        kept = {name: entry[name] for name in ("step", "exp_avg", "exp_avg_sq")}
    else:
        mean = entry["momentum_buffer"] * ((1 - settings["momentum"]) / (1 - settings.get("dampening", 0.0)))
        kept = {
            "step": torch.tensor(1.0),
            "exp_avg": mean * (1 - beta1),
            "exp_avg_sq": mean * mean * (1 - beta2),
        }
    if group.get("amsgrad"):
        kept["max_exp_avg_sq"] = entry.get("max_exp_avg_sq", kept["exp_avg_sq"].clone())
    if ours in ("NAdam", "NAdamW"):
        steps = np.arange(1, int(kept["step"]) + 1)
        factors = float(beta1) * (1 - 0.5 * 0.96 ** (steps * float(group["momentum_decay"])))
        kept["mu_product"] = torch.tensor(float(factors.prod()))
    return kept

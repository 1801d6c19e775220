"""Learning-rate schedulers under torch's names, as curves.

What Surefoot does not have yet is torch's own, re-exported, so that a program finds every name.
"""

from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingWarmRestarts,
    LinearLR,
    LRScheduler,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
    SequentialLR,
    _LRScheduler,
)

from surefoot.lr_scheduler.base import Scheduler
from surefoot.lr_scheduler.lr import CosineAnnealingLR, CyclicLR, ExponentialLR, LambdaLR, OneCycleLR, StepLR
from surefoot.lr_scheduler.plateau import ReduceLROnPlateau

TORCHS_OWN = (
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingWarmRestarts",
    "LRScheduler",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "PolynomialLR",
    "SequentialLR",
    "_LRScheduler",
)
"""Names that are torch's classes, not ours."""

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "Scheduler",
    "SequentialLR",
    "StepLR",
    "_LRScheduler",
]

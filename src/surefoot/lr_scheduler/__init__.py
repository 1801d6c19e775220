"""Learning-rate schedulers: :class:`Scheduler` sets any hyperparameter by curves; torch's names are thin constructors over it."""

from torch.optim.lr_scheduler import LRScheduler, _LRScheduler

from surefoot.lr_scheduler.base import Scheduler
from surefoot.lr_scheduler.cycles import CyclicLR, OneCycleLR
from surefoot.lr_scheduler.lr import (
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)
from surefoot.lr_scheduler.plateau import Plateau, ReduceLROnPlateau
from surefoot.lr_scheduler.sequence import ChainedScheduler, SequentialLR

TORCHS_OWN = ("LRScheduler", "_LRScheduler")
"""Names that are torch's classes, not ours: all schedulers are instances of the first."""

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
    "Plateau",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "Scheduler",
    "SequentialLR",
    "StepLR",
    "_LRScheduler",
]

"""The optimizers: one file for each family, with its rule, its numbers and its class."""

from surefoot.optimizers.adam import Adam, AdamW
from surefoot.optimizers.base import Optimizer
from surefoot.optimizers.nadam import NAdam
from surefoot.optimizers.radam import RAdam
from surefoot.optimizers.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "NAdam", "Optimizer", "RAdam"]

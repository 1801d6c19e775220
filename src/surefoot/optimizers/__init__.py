"""The optimizers: one file for each family, with its rule, its numbers and its class."""

from surefoot.optimizers.adadelta import Adadelta
from surefoot.optimizers.adagrad import Adagrad
from surefoot.optimizers.adam import Adam, AdamW
from surefoot.optimizers.adamax import Adamax
from surefoot.optimizers.asgd import ASGD
from surefoot.optimizers.base import Optimizer
from surefoot.optimizers.lion import Lion
from surefoot.optimizers.nadam import NAdam, NAdamW
from surefoot.optimizers.radam import RAdam
from surefoot.optimizers.rmsprop import RMSprop
from surefoot.optimizers.rprop import Rprop
from surefoot.optimizers.sgd import SGD

__all__ = [
    "ASGD",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "NAdam",
    "NAdamW",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
]

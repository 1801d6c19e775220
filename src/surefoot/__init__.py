"""Surefoot: the optimization half of PyTorch training.

``import surefoot as optim`` stands in for ``import torch.optim as optim``: every name of torch.optim is
here. Those in :data:`TORCHS_OWN` are torch's own classes, until Surefoot has better.
"""

from torch.optim import (
    LBFGS,
    Adafactor,
    Muon,
    Optimizer,
    SparseAdam,
    swap_in_optimizer_params_and_state,
)

from surefoot import curves, lr_scheduler, param_groups, swa_utils
from surefoot.diagnosis import Diagnosis
from surefoot.lr_finder import (
    JointFinding,
    LRFinder,
    LRFinding,
    StateCacher,
    TrainDataLoaderIter,
    ValDataLoaderIter,
    find,
    find_lr,
)
from surefoot.lr_scheduler import Scheduler
from surefoot.optimizers import (
    ASGD,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Lion,
    NAdam,
    NAdamW,
    RAdam,
    RMSprop,
    Rprop,
)
from surefoot.optimizers.unfreeze import gradual_unfreeze
from surefoot.progress import progress
from surefoot.record import Record
from surefoot.rule import Rule, rule
from surefoot.run import Run
from surefoot.train import stop_on_signal, train
from surefoot.update import NonFiniteLossError

TORCHS_OWN = (
    "LBFGS",
    "Adafactor",
    "Muon",
    "Optimizer",
    "SparseAdam",
    "swap_in_optimizer_params_and_state",
)
"""Names that are torch's, not ours."""

__version__ = "0.1.0"

__all__ = [
    "ASGD",
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Diagnosis",
    "JointFinding",
    "LRFinder",
    "LRFinding",
    "Lion",
    "Muon",
    "NAdam",
    "NAdamW",
    "NonFiniteLossError",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Record",
    "Rprop",
    "Rule",
    "Run",
    "Scheduler",
    "SparseAdam",
    "StateCacher",
    "TrainDataLoaderIter",
    "ValDataLoaderIter",
    "curves",
    "find",
    "find_lr",
    "gradual_unfreeze",
    "lr_scheduler",
    "param_groups",
    "progress",
    "rule",
    "stop_on_signal",
    "swa_utils",
    "swap_in_optimizer_params_and_state",
    "train",
]

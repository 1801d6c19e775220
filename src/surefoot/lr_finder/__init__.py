"""Finding a learning rate: how sure it is, and leaving no trace."""

from surefoot.lr_finder.find import find_lr
from surefoot.lr_finder.finding import LRFinding, Sweep, Trial
from surefoot.lr_finder.joint import JointFinding, find
from surefoot.lr_finder.loader_iter import TrainDataLoaderIter, ValDataLoaderIter
from surefoot.lr_finder.range_test import LRFinder
from surefoot.lr_finder.state_cacher import StateCacher

__all__ = [
    "JointFinding",
    "LRFinder",
    "LRFinding",
    "StateCacher",
    "Sweep",
    "TrainDataLoaderIter",
    "Trial",
    "ValDataLoaderIter",
    "find",
    "find_lr",
]

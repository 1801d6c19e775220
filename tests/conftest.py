import os
import sys

import pytest
import torch
from hypothesis import settings

from surefoot.kernels.choose import EXECUTORS

os.environ["MPLBACKEND"] = "Agg"  # no screen
settings.register_profile("surefoot", deadline=None)  # a busy machine is no failure
settings.load_profile("surefoot")


@pytest.fixture(autouse=True)
def same_random_numbers():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def figures_closed():
    yield
    if plt := sys.modules.get("matplotlib.pyplot"):
        plt.close("all")


@pytest.fixture
def one_thread():
    """For tiny tensors: a second thread has nothing to do, and waits long where the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Executor:
    """Notes what it is asked to run, and runs nothing."""

    name = "noting"

    def __init__(self):
        self.calls = []

    def __call__(self, rule, table):
        self.calls.append((rule, list(table)))


@pytest.fixture
def executor(monkeypatch):
    noting = Executor()
    monkeypatch.setitem(EXECUTORS, noting.name, noting)
    return noting

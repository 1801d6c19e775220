import os
import sys

# Tensors here are tiny: a second thread has nothing to do, and waits long where another process has the core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("COLUMNS", None)  # which xdist sets; tests say how wide they are

import pytest
import torch
from hypothesis import settings

from surefoot.kernels import eager

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


@pytest.fixture
def eager_rows(monkeypatch):
    """What the eager executor was asked to run, a list for each step; nothing is run."""
    calls = []
    monkeypatch.setattr(eager, "run", lambda rule, rows, stats: calls.append((rule, list(rows))) or [])
    return calls

import os
import sys

import pytest
import torch
from hypothesis import settings

os.environ["MPLBACKEND"] = "Agg"  # no screen
settings.register_profile("surefoot", deadline=None)  # a busy machine is no failure
settings.load_profile("surefoot")


@pytest.fixture(autouse=True)
def same_random_numbers():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def figures_closed():
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")

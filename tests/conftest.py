import os

import pytest

os.environ["MPLBACKEND"] = "Agg"  # no screen


@pytest.fixture(autouse=True)
def same_random_numbers():
    import torch

    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def figures_closed():
    yield
    import sys

    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")

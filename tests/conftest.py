import sys
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _no_screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pictures are drawn without a screen, and none stays open."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    yield
    if plt := sys.modules.get("matplotlib.pyplot"):
        plt.close("all")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For tiny tensors: a second thread has nothing to do, and waits long where the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

import pytest

from surefoot.kernels.choose import EXECUTORS


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

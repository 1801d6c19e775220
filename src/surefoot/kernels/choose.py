"""Which executor serves an optimizer: an explicit table, decided once, shown by ``repr``."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from surefoot.kernels import cpu, eager
from surefoot.kernels.table import Row
from surefoot.rule import Rule

__all__ = ["choose"]

Executor = Callable[[Rule, Iterable[Row]], None]

EXECUTORS: dict[str, Executor] = {"cpu": cpu.run, "eager": eager.run}


def choose(name: str | None) -> tuple[str, Executor]:
    """Return the executor called ``name`` with its name; ``None`` takes the best there is.

    ``"cpu"`` hands every tensor that it has no kernel for to ``"eager"``, so it serves any optimizer.

    Raises:
        ValueError: There is no such executor.
    """
    name = name or "cpu"
    if name not in EXECUTORS:
        raise ValueError(f"executor={name!r} does not exist: choose from {sorted(EXECUTORS)} or None")
    return name, EXECUTORS[name]

"""Which executor serves a parameter: an explicit table, decided once, shown by ``repr``."""

from __future__ import annotations

__all__ = ["EXECUTORS", "choose"]

EXECUTORS = ("cpu", "eager")


def choose(name: str | None) -> str:
    """The name of an executor, ``None`` being the best there is.

    Raises:
        ValueError: There is no such executor.
    """
    name = name or "cpu"
    if name not in EXECUTORS:
        raise ValueError(f"executor={name!r} does not exist: choose from {sorted(EXECUTORS)} or None")
    return name

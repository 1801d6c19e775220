"""A progress bar where someone is looking, nothing where nobody is."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

__all__ = ["track"]


def track(steps: Iterable[int], total: int, description: str) -> Iterator[int]:
    """Pass ``steps`` through; draw a bar if ``rich`` is installed and stderr is a terminal."""
    try:
        from rich.console import Console
        from rich.progress import track as rich_track
    except ImportError:
        yield from steps
        return
    if sys.stderr.isatty():
        yield from rich_track(steps, description, total, console=Console(stderr=True), transient=True)
    else:
        yield from steps

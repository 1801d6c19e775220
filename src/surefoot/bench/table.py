"""The rows of the benchmark as a table for a terminal; imported only where rich is."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from rich import box
from rich.table import Table

from surefoot.bench.results import Result

__all__ = ["LEGEND", "results_table"]

COLUMNS: list[tuple[str, Literal["left", "right"], int]] = [
    ("shape", "left", 12),
    ("optimizer", "left", 12),
    ("tensors", "right", 7),
    ("params", "right", 6),
    ("surefoot", "right", 9),
    ("torch\nbest", "right", 9),
    ("", "left", 7),
    ("ratio", "right", 5),
    ("torch\ndefault", "right", 9),
    ("ratio", "right", 5),
    ("memory\nshare", "right", 7),
]
"""Heading, side and least width: tables are aligned with each other, and never squeezed."""

LEGEND = """\
ratio: torch's time by Surefoot's; above 1, Surefoot is faster
memory share: of the bandwidth that a kernel of the same traffic reaches"""

TIMES = {" µs": 1e-6, " ms": 1e-3, " s ": 1.0}  # as wide as each other
COUNTS = {"": 1.0, "k": 1e3, "M": 1e6}


def results_table(results: list[Result]) -> Table:
    """A table of rows of one kind of work; a shape is named where it changes."""
    table = Table(
        title=results[0].kind,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=0,
    )
    for heading, justify, width in COLUMNS:
        table.add_column(heading, justify=justify, min_width=width, no_wrap=True, vertical="bottom")
    shape, rows = "", Counter(result.shape for result in results)
    for result in results:
        size = (str(result.tensors), _short(result.parameters, COUNTS))
        first, best = result.shape != shape, result.torch_best
        if first and max(rows[result.shape], rows[shape]) > 1:
            table.add_section()
        shape = result.shape
        table.add_row(
            shape if first else "",
            result.optimizer,
            *(size if first else ("", "")),
            _short(result.surefoot, TIMES),
            _short(result.torchs.get(best or ""), TIMES),
            best,
            _ratio(result.ratio(best)),
            _short(result.torchs.get("default"), TIMES),
            _ratio(result.ratio("default")),
            "" if result.share is None else f"{result.share:.0%}",
        )
    return table


def _short(value: float | None, units: dict[str, float]) -> str:
    """Three digits and a unit."""
    if value is None:
        return ""
    for unit, size in units.items():
        if value < 999.5 * size:
            return f"{_three_digits(value / size)}{unit}"
    return f"{value:.0f}"


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"[{'green' if ratio >= 1 else 'red'}]{_three_digits(ratio)}x[/]"


def _three_digits(value: float) -> str:
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"

"""``surefoot bench``: Surefoot and torch, timed in turn on this machine."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from surefoot.bench import Result, Work, machine, select, write_csv
from surefoot.bench.table import LEGEND, results_table
from surefoot.checks import positive
from surefoot.cli.shared import STOPPED, app, console, usage_error


@app.command()
def bench(
    only: Annotated[
        str | None, typer.Option(help="Rows with these words, such as adamw; * is anything.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Time for each row; five rounds are made at least.")] = 2.0,
    csv: Annotated[Path | None, typer.Option(help="Write the rows to this file, too.")] = None,
) -> None:
    """Measure Surefoot and torch alternately on this machine.

    Each row times Surefoot and every variant of torch's optimizer in turn and takes the medians.
    All rows take several minutes and 6 GB of memory.

    Example: `surefoot bench --only "1000 x 256" --csv step.csv`
    """
    try:
        positive("seconds", seconds)
        works = select(only)
    except ValueError as error:
        usage_error(str(error))
    if csv is not None and (csv.is_dir() or not csv.parent.is_dir()):
        usage_error(f"--csv is {str(csv)!r}: name a file in a folder that exists.")
    versions = "{processor}, {threads} threads, Python {python}, torch {torch}, Surefoot {surefoot}"
    console.print(escape(versions.format(**machine())))
    try:
        results = _measure(works, seconds)
    except KeyboardInterrupt:
        console.print("Interrupted: nothing was written.")
        raise typer.Exit(STOPPED) from None
    console.print(f"\n{LEGEND}", style="dim")
    if csv is not None:
        write_csv(csv, [result.columns() for result in results])
        console.print(f"Written to {escape(str(csv))}", soft_wrap=True)


def _measure(works: list[Work], seconds: float) -> list[Result]:
    """Measure all rows and show them, a table for each kind of work as soon as it is done."""
    results: list[Result] = []
    columns = (
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} rows"),
        TextColumn("{task.description}"),
    )
    # Without auto_refresh it is drawn between rows only: a thread that draws would cost every row time.
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal, auto_refresh=False
    ) as progress:
        bar = progress.add_task("", total=len(works))
        for _, group in groupby(works, lambda work: work.kind):
            done = len(results)
            try:
                for work in group:
                    progress.update(bar, completed=len(results), description=escape(str(work)), refresh=True)
                    results.append(work.measure(seconds))
            finally:  # what was measured when Ctrl-C came, too
                if results[done:]:
                    console.print()
                    console.print(results_table(results[done:]), crop=False)  # a narrow terminal breaks lines
    return results

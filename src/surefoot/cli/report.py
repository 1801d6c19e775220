"""``surefoot report``: the page of a run, written again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from rich.markup import escape

from surefoot import records
from surefoot.cli.shared import RUN, app, console, run_folder


@app.command()
def report(runs: Annotated[list[Path], RUN]) -> None:
    """Write the report of each run from what is in its folder; the run may be under way.

    Example: `surefoot report runs/digits-1`
    """
    for folder in map(run_folder, runs):
        page = records.write_report(folder)[-1]
        console.print(f"Written to {escape(str(page))}", soft_wrap=True)

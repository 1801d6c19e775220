"""``surefoot report``: the page of a run, written again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from surefoot import files, records
from surefoot.cli.shared import RUN, app, console, plain_usage_error, run_folder
from surefoot.report import compare


@app.command()
def report(
    runs: Annotated[list[Path], RUN],
    out: Annotated[Path, typer.Option(help="Where to write the page that compares several runs.")] = Path(
        "comparison.html"
    ),
) -> None:
    """Write the report of each run from what is in its folder; of several also a page that compares them.

    A run may be under way.

    Example: `surefoot report runs/digits-1 runs/digits-2`
    """
    folders = [run_folder(run) for run in runs]
    if len(folders) > 1 and (out.is_dir() or not out.parent.is_dir()):
        plain_usage_error(f"--out is {str(out)!r}: name a file in a folder that exists")
    for folder in folders:
        _say(records.write_report(folder)[-1])
    if len(folders) > 1:
        files.write(out, compare([records.story_of(folder) for folder in folders]))
        _say(out)


def _say(page: Path) -> None:
    console.print(f"Written to {escape(str(page))}", soft_wrap=True)

"""``surefoot report``: the page of a run, written again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from surefoot import files, records
from surefoot.cli.shared import RUN, app, console, plain_usage_error, run_folder
from surefoot.report import Story, compare


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
    folders = list({folder.resolve(): folder for folder in map(run_folder, runs)}.values())
    if len(folders) > 1 and (out.is_dir() or not out.parent.is_dir()):
        plain_usage_error(f"--out is {str(out)!r}: name a file in a folder that exists")
    for folder in folders:
        _say(records.write_report(folder))
    if len(folders) > 1:
        files.write(out, compare(_told_apart(folders)))
        _say(out)


def _told_apart(folders: list[Path]) -> list[Story]:
    """What is told of runs: by the names of their folders, or the whole paths where two have the same."""
    stories = [records.story_of(folder) for folder in folders]
    if len({story.title for story in stories}) == len(stories):
        return stories
    return [replace(story, title=str(folder)) for story, folder in zip(stories, folders, strict=True)]


def _say(page: Path) -> None:
    console.print(f"Written to {escape(str(page))}", soft_wrap=True)

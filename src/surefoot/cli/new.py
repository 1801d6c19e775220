"""``surefoot new``: the start of a task of one's own."""

from __future__ import annotations

import shlex
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from surefoot.cli.shared import app, console, plain_usage_error


@app.command()
def new(
    path: Annotated[Path, typer.Argument(help="The file to write, such as task.py.")],
) -> None:
    """Write a commented task file that trains as it is, to be changed into your own.

    Example: `surefoot new task.py`
    """
    if path.suffix != ".py" or not path.parent.is_dir():
        plain_usage_error(f"PATH is {str(path)!r}: name a .py file in a folder that exists")
    text = files("surefoot.tasks").joinpath("start.py").read_text(encoding="utf-8")
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise FileExistsError(f"there is something at {path}: name another file") from None
    console.print("Written. Train it as it is, then make it yours:")
    console.print(
        f"  {shlex.join(['surefoot', 'train', str(path)])}", style="bold", soft_wrap=True, markup=False
    )

"""``surefoot convert``: torch's files in and out."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from surefoot import checkpoint, contents
from surefoot.cli.shared import app, console, plain_usage_error
from surefoot.convert import from_torch, is_torch, to_torch


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A file of torch.save, or a checkpoint.")],
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="A checkpoint, or a file that torch.load reads.")
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace what is at TARGET.")] = False,
) -> None:
    """Turn a torch file into a checkpoint, or a checkpoint into a torch file.

    What SOURCE is decides which. Loading it runs no code: of a torch file only tensors and plain values are read.

    Example: `surefoot convert run.pt run.safetensors`
    """
    if target.is_dir() or not target.parent.is_dir():
        plain_usage_error(f"TARGET is {str(target)!r}: name a file in a folder that exists")
    comes_in = is_torch(source)  # asked before, because SOURCE may be TARGET
    (from_torch if comes_in else to_torch)(source, target, force=force)
    console.print(f"Written to {escape(str(target))}", soft_wrap=True)
    if comes_in:  # torch files are laid out by anyone's taste: say what was found
        with checkpoint.opened(target) as saved:
            console.print("", *islice(contents.tables(saved), 1, 2), sep="\n")

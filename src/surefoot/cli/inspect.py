"""``surefoot inspect``: what is in a checkpoint."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from surefoot import checkpoint, contents
from surefoot.checkpoint import CheckpointError
from surefoot.cli.shared import app, console
from surefoot.convert import is_torch


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A file that checkpoint.save wrote.")],
    every: Annotated[bool, typer.Option("--all", help="All tensors, not only the largest.")] = False,
) -> None:
    """Show what is in a checkpoint.

    Its parts and where they are, the parameter groups, and the largest tensors with the norms of their state.

    Example: `surefoot inspect runs/digits-1/checkpoint.safetensors`
    """
    if is_torch(path):
        command = shlex.join(["surefoot", "convert", str(path), str(path.with_suffix(".safetensors"))])
        raise CheckpointError(f"{path} is a torch file: run {command} and inspect that")
    with checkpoint.opened(path) as saved:
        for shown in contents.tables(saved, every):
            console.print(shown, soft_wrap=isinstance(shown, str))

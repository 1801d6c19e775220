"""The command line: ``surefoot train digits``, ``surefoot bench``, ``surefoot inspect run.safetensors`` and others."""

from __future__ import annotations

import importlib.util
import io
import sys
from importlib import import_module

if not all(importlib.util.find_spec(needed) for needed in ("typer", "rich")):
    sys.exit("The surefoot command needs typer and rich: pip install 'surefoot[demo]'")

from rich.console import Console
from rich.markup import escape

from surefoot.cli.shared import FAILED, STOPPED, app, console
from surefoot.lock import LockedError
from surefoot.tasks import TaskError

__all__ = ["STOPPED", "app", "console", "main"]

# In the order of the help; each adds its command to the app when it is imported.
COMMANDS = ("train", "find_lr", "runs", "report", "new", "schedule", "groups", "inspect", "convert", "bench")
for command in COMMANDS:
    import_module(f"{__name__}.{command}")


@app.callback()
def _surefoot() -> None:
    """Surefoot: the optimization half of PyTorch training.

    Exit codes: 0 done, 1 failed, 2 a mistake in what was typed, 130 stopped by Ctrl-C or SIGTERM.
    """


def main() -> None:
    """Run the command line: a failure that was foreseen is one sentence and exit code 1."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # as stderr: a name it cannot write is no reason to stop
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except (ArithmeticError, ImportError, LockedError, OSError, TaskError, ValueError) as error:
        Console(stderr=True, highlight=False).print(
            f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True
        )
        sys.exit(FAILED)

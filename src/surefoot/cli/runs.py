"""``surefoot runs``: the runs of a folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from surefoot import records, terminal
from surefoot.choices import known
from surefoot.cli.shared import app, console, usage_error
from surefoot.records import Records, shown

SORTS: dict[str, Any] = {
    "age": lambda run: -run.changed,
    "loss": lambda run: run.best.get("loss", float("inf")),
    "lr": lambda run: run.settings.lr or 0.0,
    "name": lambda run: run.folder.name,
}


@app.command()
def runs(
    folder: Annotated[Path, typer.Argument(help="Folder of the runs.")] = Path("runs"),
    task: Annotated[str | None, typer.Option(help="Only runs of this task.")] = None,
    sort: Annotated[str, typer.Option(help=f"By one of: {', '.join(SORTS)}.")] = "age",
) -> None:
    """List runs with their best results on the held-out data.

    The results are those of the update with the lowest held-out loss. The last run comes first.

    Example: `surefoot runs --sort loss`
    """
    try:
        known("sort", sort, SORTS)
    except ValueError as error:
        usage_error(str(error))
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: surefoot train makes one")
    listed, damaged = [], []
    for path in records.found(folder):
        try:
            listed.append(Records.read(path))
        except ValueError as error:
            damaged.append(str(error))
    listed = sorted((run for run in listed if task in (None, _task(run))), key=SORTS[sort])
    if listed:
        console.print(_table(listed))
    else:
        console.print(f"No run in {escape(str(folder))}.")
    for message in damaged:
        console.print(escape(message), style="red", soft_wrap=True)


def _task(run: Records) -> str:
    return Path(run.settings.task).stem


def _table(listed: list[Records]) -> Table:
    names = list(dict.fromkeys(name for run in listed for name in run.best))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("run", "task", "optimizer", "lr", "done", *names, "age"):
        table.add_column(name, justify="left" if name in ("run", "task", "optimizer") else "right")
    now = time.time()
    for run in listed:
        lr = "auto" if run.settings.lr is None else terminal.number(float(f"{run.settings.lr:.3g}"))
        results = [shown(name, run.best[name]) if name in run.best else "" for name in names]
        cells = [run.folder.name, _task(run), run.settings.optimizer, lr, run.progress, *results]
        table.add_row(*map(escape, cells), age(now - run.changed))
    return table


def age(seconds: float) -> str:
    """How long ago something was, in its largest unit.

    Example:
        >>> [age(seconds) for seconds in (-1, 59, 3600, 200_000)]
        ['0 s', '59 s', '1 h', '2 d']
    """
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"

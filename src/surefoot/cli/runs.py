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
        console.print(_table(listed), crop=False)
    else:
        console.print(f"No run in {escape(str(folder))}.")
    for message in damaged:
        console.print(escape(message), style="red", soft_wrap=True)


def _task(run: Records) -> str:
    return Path(run.settings.task).stem


def _table(listed: list[Records]) -> Table:
    """A row for each run; a terminal that is too narrow for all columns does without some."""
    now = time.time()
    rows = [_cells(run, now) for run in listed]
    names = ["run", "task", "optimizer", "lr", "done"]
    names += [*dict.fromkeys(name for run in listed for name in run.best), "age"]
    widths = {name: 2 + max(len(name), *(len(row.get(name, "")) for row in rows)) for name in names}
    spare = ["age", "optimizer", "task"] if console.is_terminal else []
    while spare and sum(widths[name] for name in names) > console.width:
        names.remove(spare.pop())
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in names:
        side: Any = "left" if name in ("run", "task", "optimizer") else "right"
        table.add_column(escape(name), justify=side, no_wrap=console.is_terminal)
    for row in rows:
        table.add_row(*(escape(row.get(name, "")) for name in names))
    if not console.is_terminal:
        table.width = sum(widths[name] for name in names)  # as wide as it is, for other programs
    return table


def _cells(run: Records, now: float) -> dict[str, str]:
    lr = "auto" if run.settings.lr is None else terminal.number(float(f"{run.settings.lr:.3g}"))
    return {
        "run": run.folder.name,
        "task": _task(run),
        "optimizer": run.settings.optimizer,
        "lr": lr,
        "done": run.progress,
        **{name: shown(name, value) for name, value in run.best.items()},
        "age": age(now - run.changed),
    }


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

"""``surefoot groups``: how a task's parameters are sorted."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from surefoot import param_groups
from surefoot.cli.shared import TASK, app, console, plain_usage_error, usage_error
from surefoot.optimizers import AdamW
from surefoot.tasks.load import default_batch_size, find, make


@app.command()
def groups(
    task: Annotated[str, TASK],
    lr: Annotated[float, typer.Option(help="Learning rate of the last layer.")] = 1e-3,
    weight_decay: Annotated[float, typer.Option(help="Of what has any.")] = 0.01,
    layer_decay: Annotated[float, typer.Option(help="Factor of the rate for each layer further down.")] = 1.0,
    frozen: Annotated[str | None, typer.Option(help="A pattern of names that stay as they are.")] = None,
    decay_all: Annotated[bool, typer.Option("--decay-all", help="Norms and biases, too.")] = False,
) -> None:
    """Show how a task's parameters are sorted into groups.

    Example: `surefoot groups digits --layer-decay 0.7 --frozen "0.*"`
    """
    try:
        maker = find(task)
    except ValueError as error:
        usage_error(str(error))
    rules = [] if decay_all else [param_groups.no_decay()]
    try:
        rules += [param_groups.frozen(frozen)] if frozen else []
        rules += [param_groups.layer_decay(layer_decay)] if layer_decay != 1 else []
        made = param_groups.param_groups(
            make(maker, default_batch_size(maker), seed=0).model, *rules, lr=lr, weight_decay=weight_decay
        )
        rows = param_groups.describe(AdamW(made))
    except ValueError as error:
        plain_usage_error(str(error))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in [name for name in rows[0] if name != "group" and any(row[name] != "" for row in rows)]:
        table.add_column(name.replace("_", " "), justify="left" if name == "names" else "right")
    for row in rows:
        table.add_row(*(escape(str(row[str(column.header).replace(" ", "_")])) for column in table.columns))
    console.print(table)

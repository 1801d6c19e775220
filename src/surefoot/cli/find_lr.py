"""``surefoot find-lr``: a range test, and nothing trained."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from surefoot import files, plots, prepare
from surefoot.cli import shared
from surefoot.cli.shared import app, check_picture, console, usage_error


@app.command("find-lr")
def find_lr(
    context: typer.Context,
    task: Annotated[str | None, shared.TASK] = None,
    optimizer: shared.Optimizer = None,
    batch_size: shared.BatchSize = None,
    weight_decay: shared.WeightDecay = None,
    momentum: shared.Momentum = None,
    betas: shared.Betas = None,
    clip_norm: shared.ClipNorm = None,
    threads: shared.Threads = None,
    seed: shared.Seed = None,
    settings: shared.SettingsFile = None,
    out: Annotated[Path | None, typer.Option(help="Draw the test to this file, a .png or .svg.")] = None,
) -> None:
    """Find a learning rate by a range test; nothing is trained and no run is made.

    Example: `surefoot find-lr digits --optimizer sgd --out range.png`
    """
    check_picture(out)
    try:
        ready, made = prepare.prepared(shared.given(context, settings))
    except ValueError as error:
        usage_error(str(error))
    lr, seen = prepare.find_lr(made, prepare.optimizer_of(ready, made))
    console.print(f"Learning rate [bold]{lr:.2e}[/], where the loss falls fastest. Train with it:")
    words = ["surefoot", "train", ready.task, "--optimizer", ready.optimizer, "--lr", f"{lr:.2e}"]
    console.print(f"  {shlex.join(words)}", style="bold", soft_wrap=True, markup=False)
    if out is not None:
        kind = out.suffix.lower().removeprefix(".")
        files.write(out, plots.image(lambda: plots.lr_range(seen["lr"], seen["loss"], suggestion=lr), kind))
        console.print(f"Written to {escape(str(out))}", soft_wrap=True)

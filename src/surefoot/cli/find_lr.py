"""``surefoot find-lr``: a learning rate, and nothing trained."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from surefoot import files, plots, prepare, terminal
from surefoot.cli import shared
from surefoot.cli.shared import app, check_picture, console, usage_error
from surefoot.lr_finder import LRFinding
from surefoot.lr_finder.search import Effort


@app.command("find-lr")
def find_lr(
    context: typer.Context,
    task: Annotated[str | None, shared.TASK] = None,
    optimizer: shared.Optimizer = None,
    schedule: shared.Schedule = None,
    warmup: shared.Warmup = None,
    epochs: shared.Epochs = None,
    steps: shared.Steps = None,
    batch_size: shared.BatchSize = None,
    weight_decay: shared.WeightDecay = None,
    momentum: shared.Momentum = None,
    betas: shared.Betas = None,
    clip_norm: shared.ClipNorm = None,
    accumulate: shared.Accumulate = None,
    dtype: shared.Dtype = None,
    threads: shared.Threads = None,
    seed: shared.Seed = None,
    settings: shared.SettingsFile = None,
    effort: Annotated[Effort, typer.Option(help="sweep: up to 100 batches; sure: up to 300.")] = "sure",
    out: Annotated[
        Path | None, typer.Option(help="Draw to this .png or .svg; lr-TASK.png by default.")
    ] = None,
) -> None:
    """Find the learning rate for a training, and how sure it is; nothing is trained and no run is made.

    The drawing here has the course of the loss from rate to rate; the dotted line is the suggestion. The picture has all.

    Example: `surefoot find-lr digits --optimizer sgd --out range.png`
    """
    check_picture(out)
    try:
        ready, made = prepare.prepared(shared.given(context, settings))
    except ValueError as error:
        usage_error(str(error))
    total = prepare.total_steps(ready, made)
    with console.status("Finding a learning rate"):
        found = prepare.find_lr(ready, made, prepare.optimizer_of(ready, made), total, effort)
    shared.say_finding(found)
    _draw_here(found)
    if not found.abstained:
        typed = {**shared.flags(context), "lr": f"{found.suggestion:.2g}"}
        console.print(f"\nTrain with it: [bold]{escape(_command(typed, settings))}[/]", soft_wrap=True)
    out = out or Path(f"lr-{Path(ready.task).stem}.png")
    files.write(out, plots.image(found.plot, out.suffix.lower().removeprefix(".")))
    console.print(f"Written to {escape(str(out))}", soft_wrap=True)


def _command(typed: dict[str, Any], settings: Path | None) -> str:
    """What trains with the same settings."""
    words = ["surefoot", "train"]
    if "task" in typed:
        words.append(typed.pop("task"))
    if settings is not None:
        words += ["--settings", str(settings)]
    for name, value in typed.items():
        words += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else [value])]
    return shlex.join(words)


def _draw_here(found: LRFinding) -> None:
    """The course of the loss, and where the suggestion is."""
    start = found.sweep.fitted[0] if found.sweep.fitted else math.nan
    top = start + abs(start)  # beyond, what matters would be flat
    seen = [(lr, loss) for lr, loss in zip(found.sweep.lr, found.sweep.fitted, strict=True) if loss <= top]
    if len(seen) < 2:
        return
    plain = not console.encoding.lower().startswith("utf")
    width = min(console.width, 100)
    drawn = terminal.sweep(
        *zip(*seen, strict=True),
        marks=[] if found.abstained else [found.suggestion],
        width=width,
        height=max(8, min(console.height - 8, 16)),
        ascii_only=plain,
    )
    console.print()
    console.print(drawn, markup=False, soft_wrap=True)

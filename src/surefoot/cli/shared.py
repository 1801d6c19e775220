"""What the commands share: the terminal, exit codes, mistakes in usage, the flags of settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from surefoot import records
from surefoot.choices import OPTIMIZERS, SCHEDULES
from surefoot.lr_finder import LRFinding
from surefoot.settings import DTYPES, Settings, read
from surefoot.tasks.load import TASKS

DONE, FAILED, USAGE, STOPPED = 0, 1, 2, 130
"""Exit codes. The last is the one shells use after Ctrl-C; after SIGTERM, too, what there is was saved, and can go on."""

PICTURES = (".png", ".svg")

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
console = Console(highlight=False)


def choice(choices: Iterable[str]) -> str:
    """The help of an argument that has to be one of these."""
    return f"One of: {', '.join(sorted(choices))}."


def usage_error(message: str) -> NoReturn:
    """End with exit code 2 and the usage of the command."""
    raise typer.BadParameter(message)


def plain_usage_error(message: str) -> NoReturn:
    """Without a frame, which would wrap a long expression and leave its caret behind."""
    Console(stderr=True, highlight=False).print(f"[bold red]Error:[/] {escape(message)}", soft_wrap=True)
    raise typer.Exit(USAGE)


def check_picture(out: Path | None) -> None:
    """A file to draw to can be one."""
    if out is not None and (out.suffix.lower() not in PICTURES or out.is_dir() or not out.parent.is_dir()):
        usage_error(f"--out is {str(out)!r}: name a {' or '.join(PICTURES)} file in a folder that exists.")


def say_finding(found: LRFinding) -> None:
    """The learning rate that was found, how sure it is, and why."""
    if found.abstained:
        console.print(f"[yellow]No learning rate to suggest.[/] {escape(found.reason)}", soft_wrap=True)
        console.print(f"The safest that is known is [bold]{found.suggestion:.2g}[/].")
        return
    low, high = found.interval
    console.print(
        f"Learning rate [bold]{found.suggestion:.2g}[/], likely {low:.2g} to {high:.2g} "
        f"(confidence {found.confidence:.0%}, {found.batches} batches)"
    )
    console.print(escape(found.reason), style="dim", soft_wrap=True)


def run_folder(run: Path, out: Path = Path("runs")) -> Path:
    """The folder meant: as it stands, the one of a file in it, or by its name in the folder of runs."""
    if run.is_file():
        return run.parent
    return run if run.is_dir() else out / run


def complete_tasks(incomplete: str) -> list[str]:
    """Names of tasks and of Python files here that begin so, for a shell."""
    here = Path(incomplete[: incomplete.rfind("/") + 1])
    paths = [
        *map(str, here.glob("*.py")),
        *(f"{path}/" for path in here.glob("*/") if path.name[0] not in "._"),
    ]
    return [name for name in [*TASKS, *sorted(paths)] if name.startswith(incomplete)]


def complete_runs(incomplete: str) -> list[str]:
    """Folders of runs that begin so, for a shell."""
    folders = [str(folder) for parent in (Path("runs"), Path()) for folder in records.found(parent)]
    return [folder for folder in folders if folder.startswith(incomplete)]


TASK: Any = typer.Argument(
    help=f"{', '.join(TASKS)}, or a file that defines task().", autocompletion=complete_tasks
)
RUN: Any = typer.Argument(help="A run: its folder.", autocompletion=complete_runs)

_setting = partial(typer.Option, rich_help_panel="Settings")

Optimizer = Annotated[str | None, _setting(help=choice(OPTIMIZERS), autocompletion=lambda: [*OPTIMIZERS])]
Rate = Annotated[str | None, _setting(help="A number, or auto: found by a range test.")]
Schedule = Annotated[
    str | None,
    _setting(
        help=f"{choice(SCHEDULES)} Or an expression that surefoot schedule draws.",
        autocompletion=lambda: [*SCHEDULES],
    ),
]
Warmup = Annotated[int | None, _setting(help="Updates in which the rate rises before the schedule.")]
Epochs = Annotated[int | None, _setting(help="Passes over the training data.")]
Steps = Annotated[int | None, _setting(help="Updates, in the place of epochs.")]
BatchSize = Annotated[int | None, _setting(help="Samples for each update.")]
WeightDecay = Annotated[float | None, _setting(help="Of all but norms and biases.")]
Momentum = Annotated[float | None, _setting(help="Of sgd and rmsprop.")]
Betas = Annotated[tuple[float, float] | None, _setting(help="Of the optimizers of Adam's kind.")]
ClipNorm = Annotated[float | None, _setting(help="Largest norm of all gradients together; 0 for any.")]
Accumulate = Annotated[int | None, _setting(help="Batches for each update.")]
Ema = Annotated[
    float | None,
    _setting(help="Average the weights, of which so much stays at each update, such as 0.999."),
]
Dtype = Annotated[str | None, _setting(help=choice(DTYPES), autocompletion=lambda: [*DTYPES])]
EvaluateEvery = Annotated[
    int | None, _setting(help="Updates between two looks at the held-out data; 0: at the end of a pass.")
]
Patience = Annotated[
    int | None, _setting(help="Stop after so many looks without a lower held-out loss; 0: never.")
]
Threads = Annotated[int | None, _setting(help="Of torch; 0: as many as it takes.")]
Seed = Annotated[int | None, _setting(help="Of weights, batch order and dropout.")]
SettingsFile = Annotated[
    Path | None,
    _setting("--settings", help="A TOML file of settings; flags win. Each run saves its own."),
]


def flags(context: typer.Context) -> dict[str, Any]:
    """The settings that were typed, by name."""
    names = [field.name for field in fields(Settings)]
    given = {name: context.params[name] for name in names if context.params.get(name) is not None}
    if "lr" in given and given["lr"] != "auto":
        try:
            given["lr"] = float(given["lr"])
        except ValueError:
            raise ValueError(f"lr is {given['lr']!r}: it must be 'auto' or a number.") from None
    return given


def given(context: typer.Context, file: Path | None) -> dict[str, Any]:
    """The settings of a file, and those that were typed in their place.

    Raises:
        ValueError: One is wrong.
    """
    typed = flags(context)
    values = {} if file is None else read(file)
    for one, other in (("epochs", "steps"), ("steps", "epochs")):
        if one in typed:
            values.pop(other, None)
    values |= typed
    if "task" not in values:
        raise ValueError(f"Name what to train: {', '.join(TASKS)}, or a file that defines task().")
    Settings.of(values)
    return values

"""The command line: ``surefoot train digits``, ``surefoot bench``, ``surefoot inspect run.safetensors`` and others."""

from __future__ import annotations

import io
import math
import os
import shlex
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Annotated, NoReturn

try:
    import typer
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Table
except ImportError:
    sys.exit("The surefoot command needs typer and rich: pip install 'surefoot[demo]'")

from surefoot import checkpoint, contents, files, param_groups, plots, terminal
from surefoot.bench import Result, Work, machine, select, write_csv
from surefoot.bench.table import LEGEND, results_table
from surefoot.checkpoint import CheckpointError
from surefoot.checks import finite, positive
from surefoot.convert import from_torch, is_torch, to_torch
from surefoot.curves import Curve, parse, vocabulary
from surefoot.experiment import OPTIMIZERS, SCHEDULES, Experiment, Row, Settings
from surefoot.optimizers import AdamW
from surefoot.tasks import TASKS
from surefoot.train import stop_on_signal

__all__ = ["main"]

STOPPED = 130
"""Exit code after Ctrl-C, the one shells use, and after SIGTERM: what there is was saved, and can go on."""

DEFAULTS = Settings()

PICTURES = (".png", ".svg")
CURVES = [name for name in vocabulary.__all__ if name != "function"]  # which takes no text

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")
console = Console(highlight=False)


@app.callback()
def _surefoot() -> None:
    """Surefoot: the optimization half of PyTorch training."""


def _choice(choices: Iterable[str]) -> str:
    return f"One of: {', '.join(sorted(choices))}."


@app.command()
def train(
    context: typer.Context,
    task: Annotated[str | None, typer.Argument(help=f"What to train. {_choice(TASKS)}")] = None,
    optimizer: Annotated[str, typer.Option(help=_choice(OPTIMIZERS))] = DEFAULTS.optimizer,
    lr: Annotated[str, typer.Option(help="A number, or auto: found by a range test.")] = "auto",
    schedule: Annotated[str, typer.Option(help=_choice(SCHEDULES))] = DEFAULTS.schedule,
    epochs: Annotated[int, typer.Option(help="Passes over the training data.")] = DEFAULTS.epochs,
    batch_size: Annotated[int, typer.Option(help="Samples for each update.")] = DEFAULTS.batch_size,
    seed: Annotated[int, typer.Option(help="Of weights, batch order and dropout.")] = DEFAULTS.seed,
    out: Annotated[Path, typer.Option(help="Folder for the runs.")] = Path("runs"),
    resume: Annotated[Path | None, typer.Option(help="A run to go on with: its folder.")] = None,
) -> None:
    """Train a task and report how it went.

    Ctrl-C or SIGTERM saves a checkpoint after the step that is being made, prints the command that goes on, and ends
    with exit code 130; the result is the same, bit for bit.

    Example: `surefoot train digits --optimizer radam --epochs 20`
    """
    given = [name for name in asdict(DEFAULTS) if _typed(context, name)]
    if resume is not None:
        if given:
            _usage_error(f"--resume keeps the settings of the run: leave out {', '.join(given)}.")
        _train(Experiment.resume(_run_folder(resume, out)))
        return
    if task is None:
        _usage_error(f"Name what to train. {_choice(TASKS)}")
    try:
        settings = Settings(task, optimizer, _rate(lr), schedule, epochs, batch_size, seed)
    except ValueError as error:
        _usage_error(str(error))
    _train(Experiment.start(settings, out))


def _run_folder(resume: Path, out: Path) -> Path:
    """The folder meant: as it stands, the one of a file in it, or by its name in the folder of runs."""
    if os.path.isfile(resume):
        return resume.parent
    return resume if os.path.isdir(resume) else out / resume


def _typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _usage_error(message: str) -> NoReturn:
    raise typer.BadParameter(message)


def _rate(text: str) -> float | None:
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"lr is {text!r}: it must be 'auto' or a number.") from None


def _train(experiment: Experiment) -> None:
    try:
        _find_train_report(experiment)
    except KeyboardInterrupt:
        if experiment.checkpoint.exists():
            _say_how_to_go_on(experiment, "Interrupted. What was saved last is kept; go on with:")
        else:
            console.print("Interrupted before anything was saved: there is nothing to resume.")
        raise typer.Exit(STOPPED) from None
    finally:
        with suppress(OSError):
            experiment.folder.rmdir()  # if it is empty


def _find_train_report(experiment: Experiment) -> None:
    console.print(f"[bold]{escape(str(experiment.folder))}[/]: {escape(experiment.task.description)}")
    if experiment.settings.lr is None:
        lr = experiment.find_lr()
        console.print(f"Range test: learning rate [bold]{lr:.2e}[/], where the loss falls fastest")
    with stop_on_signal() as stopped, _progress() as progress:
        total, done = experiment.total_steps, len(experiment.rows)
        bar = progress.add_task("Training", total=total, completed=done, loss=math.nan)
        for row in experiment.train(stopped):
            progress.update(bar, completed=row.step, loss=row.loss)
            if row.val_loss is not None:
                progress.console.print(_line(row, experiment.settings.epochs))
    if not experiment.finished:
        _say_how_to_go_on(experiment, f"Stopped and saved after step {experiment.rows[-1].step}. Go on with:")
        raise typer.Exit(STOPPED)
    _summary(experiment, experiment.report())


def _say_how_to_go_on(experiment: Experiment, sentence: str) -> None:
    console.print(sentence)
    command = f"  surefoot train --resume {shlex.quote(str(experiment.folder))}"
    console.print(command, style="bold", soft_wrap=True, markup=False)


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _line(row: Row, epochs: int) -> str:
    width = len(str(epochs))
    return (
        f"epoch {row.epoch:{width}}/{epochs}  loss {row.loss:.4f}  held-out loss {row.val_loss:.4f}  "
        f"accuracy {row.val_accuracy:7.2%}  lr {row.lr[0]:.2e}"
    )


def _summary(experiment: Experiment, files: list[Path]) -> None:
    last = experiment.rows[-1]
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("Validation accuracy", f"[bold]{last.val_accuracy:.2%}[/]")
    table.add_row("Training time", f"{experiment.seconds:.1f} s")
    table.add_row("Files", ", ".join(escape(path.name) for path in files))
    table.add_row("In", escape(f"{experiment.folder}/"))
    table.columns[1].overflow = "fold"  # a path that is cut cannot be opened
    console.print()
    console.print(table)


@app.command()
def bench(
    only: Annotated[
        str | None, typer.Option(help="Rows with these words, such as adamw; * is anything.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Time for each row; five rounds are made at least.")] = 2.0,
    csv: Annotated[Path | None, typer.Option(help="Write the rows to this file, too.")] = None,
) -> None:
    """Measure Surefoot and torch alternately on this machine.

    Each row times Surefoot and every variant of torch's optimizer in turn and takes the medians.
    All rows take several minutes and 6 GB of memory.

    Example: `surefoot bench --only "1000 x 256" --csv step.csv`
    """
    try:
        positive("seconds", seconds)
        works = select(only)
    except ValueError as error:
        _usage_error(str(error))
    if csv is not None and (csv.is_dir() or not csv.parent.is_dir()):
        _usage_error(f"--csv is {str(csv)!r}: name a file in a folder that exists.")
    versions = "{processor}, {threads} threads, Python {python}, torch {torch}, Surefoot {surefoot}"
    console.print(escape(versions.format(**machine())))
    try:
        results = _measure(works, seconds)
    except KeyboardInterrupt:
        console.print("Interrupted: nothing was written.")
        raise typer.Exit(STOPPED) from None
    console.print(f"\n{LEGEND}", style="dim")
    if csv is not None:
        write_csv(csv, [result.columns() for result in results])
        console.print(f"Written to {escape(str(csv))}", soft_wrap=True)


def _measure(works: list[Work], seconds: float) -> list[Result]:
    """Measure all rows and show them, a table for each kind of work as soon as it is done."""
    results: list[Result] = []
    columns = (
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} rows"),
        TextColumn("{task.description}"),
    )
    # Without auto_refresh it is drawn between rows only: a thread that draws would cost every row time.
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal, auto_refresh=False
    ) as progress:
        bar = progress.add_task("", total=len(works))
        for _, group in groupby(works, lambda work: work.kind):
            done = len(results)
            try:
                for work in group:
                    progress.update(bar, completed=len(results), description=escape(str(work)), refresh=True)
                    results.append(work.measure(seconds))
            finally:  # what was measured when Ctrl-C came, too
                if results[done:]:
                    console.print()
                    console.print(results_table(results[done:]), crop=False)  # a narrow terminal breaks lines
    return results


@app.command()
def schedule(
    expression: Annotated[str, typer.Argument(help=f"Made of {', '.join(CURVES)}.")],
    base: Annotated[float, typer.Option(help="What the optimizer is built with, such as its lr.")] = 1.0,
    steps: Annotated[
        int | None, typer.Option(help="How many; by default to the end and a little more.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Draw to this file, a .png or .svg, not here.")] = None,
) -> None:
    """Draw a schedule before anything is trained with it.

    `a >> b` is one after the other, `a * b` their product.

    Example: `surefoot schedule "warmup(500) >> cosine(10_000, to=0.1)" --base 3e-4`
    """
    if out is not None and (out.suffix.lower() not in PICTURES or out.is_dir() or not out.parent.is_dir()):
        _usage_error(f"--out is {str(out)!r}: name a {' or '.join(PICTURES)} file in a folder that exists.")
    expression = " ".join(expression.split())  # on one line, so that the caret is below its column
    try:
        finite("base", base)
        curve = parse(expression)
        shown = curve.shown(steps)
        values = [_value(curve, step, base) for step in shown]
    except ValueError as error:
        _plain_usage_error(str(error))
    if out is None:
        _draw_here(curve, shown, values)
    else:
        kind = out.suffix.lower().removeprefix(".")
        files.write(out, plots.image(lambda: curve.plot(steps, base, title=expression), kind))
        console.print(f"Written to {escape(str(out))}\n", soft_wrap=True)
    console.print(_landmarks(curve, shown, values, base))


def _value(curve: Curve, step: float, base: float) -> float:
    with suppress(ArithmeticError, TypeError, ValueError):  # too large; a root of a negative number
        if math.isfinite(value := curve.value(step, base)):
            return value
    raise ValueError(
        f"the schedule has no finite value at step {step}: draw fewer with --steps, or change it"
    )


def _draw_here(curve: Curve, steps: range, values: list[float]) -> None:
    plain = not console.encoding.lower().startswith("utf")
    size = {"width": min(console.width, 100), "height": max(8, min(console.height - 8, 20))}
    drawn = terminal.chart(steps, values, joins=curve.joins, ascii_only=plain, **size)
    console.print(drawn, markup=False, soft_wrap=True)
    console.print()


def _landmarks(curve: Curve, steps: range, values: list[float], base: float) -> Table:
    """Where something happens: step, value, what."""
    last = math.ceil(min(curve.length, steps[-1]))
    parts = [math.ceil(round(join, 6)) for join in curve.joins if join <= last]  # stretched, they are rounded
    highest = sorted({steps[values.index(max(values))], *parts})  # of many steps not all are among values
    peak = max(highest, key=lambda step: curve.value(step, base))
    places = [(0, "start"), (peak, "peak"), *((part, f"part {i} begins") for i, part in enumerate(parts, 2))]
    places += [(last, "end" if curve.length <= steps[-1] else "last drawn")]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("step", justify="right")
    table.add_column("value", justify="right")
    table.add_column("")
    for step, here in groupby(sorted(places, key=itemgetter(0)), itemgetter(0)):
        value = terminal.number(curve.value(step, base))
        table.add_row(f"{step:,}", value, ", ".join(name for _, name in here))
    return table


@app.command()
def groups(
    task: Annotated[str, typer.Argument(help=_choice(TASKS))],
    lr: Annotated[float, typer.Option(help="Learning rate of the last layer.")] = 1e-3,
    weight_decay: Annotated[float, typer.Option(help="Of what has any.")] = 0.01,
    layer_decay: Annotated[float, typer.Option(help="Factor of the rate for each layer further down.")] = 1.0,
    frozen: Annotated[str | None, typer.Option(help="A pattern of names that stay as they are.")] = None,
    decay_all: Annotated[bool, typer.Option("--decay-all", help="Norms and biases, too.")] = False,
) -> None:
    """Show how a task's parameters are sorted into groups.

    Example: `surefoot groups digits --layer-decay 0.7 --frozen "0.*"`
    """
    if task not in TASKS:
        _usage_error(f"{task!r} is not known. {_choice(TASKS)}")
    rules = [] if decay_all else [param_groups.no_decay()]
    try:
        rules += [param_groups.frozen(frozen)] if frozen else []
        rules += [param_groups.layer_decay(layer_decay)] if layer_decay != 1 else []
        made = param_groups.param_groups(TASKS[task]().model, *rules, lr=lr, weight_decay=weight_decay)
        rows = param_groups.describe(AdamW(made))
    except ValueError as error:
        _plain_usage_error(str(error))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in [name for name in rows[0] if name != "group" and any(row[name] != "" for row in rows)]:
        table.add_column(name.replace("_", " "), justify="left" if name == "names" else "right")
    for row in rows:
        table.add_row(*(escape(str(row[str(column.header).replace(" ", "_")])) for column in table.columns))
    console.print(table)


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
        _plain_usage_error(f"TARGET is {str(target)!r}: name a file in a folder that exists")
    comes_in = is_torch(source)  # asked before, because SOURCE may be TARGET
    (from_torch if comes_in else to_torch)(source, target, force=force)
    console.print(f"Written to {escape(str(target))}", soft_wrap=True)
    if comes_in:  # torch files are laid out by anyone's taste: say what was found
        with checkpoint.opened(target) as saved:
            console.print("", *islice(contents.tables(saved), 1, 2), sep="\n")


def _plain_usage_error(message: str) -> NoReturn:
    """Without a frame, which would wrap a long expression and leave its caret behind."""
    Console(stderr=True, highlight=False).print(f"[bold red]Error:[/] {escape(message)}", soft_wrap=True)
    raise typer.Exit(2)


def main() -> None:
    """Run the command line: a failure that was foreseen is one sentence and exit code 1."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # as stderr: a name it cannot write is no reason to stop
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except (ArithmeticError, ImportError, OSError, ValueError) as error:
        Console(stderr=True, highlight=False).print(
            f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True
        )
        sys.exit(1)


if __name__ == "__main__":
    main()

"""``surefoot train``: a task, trained in a folder of its own."""

from __future__ import annotations

import math
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from surefoot.cli import shared
from surefoot.cli.shared import STOPPED, app, console, say_finding, usage_error
from surefoot.data import pass_length
from surefoot.experiment import Experiment
from surefoot.progress import bar
from surefoot.records import BEST, REPORT, held_out, shown
from surefoot.train import stop_on_signal
from surefoot.update import NonFiniteLossError


@app.command()
def train(
    context: typer.Context,
    task: Annotated[str | None, shared.TASK] = None,
    optimizer: shared.Optimizer = None,
    lr: shared.Rate = None,
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
    ema: shared.Ema = None,
    dtype: shared.Dtype = None,
    evaluate_every: shared.EvaluateEvery = None,
    patience: shared.Patience = None,
    threads: shared.Threads = None,
    seed: shared.Seed = None,
    settings: shared.SettingsFile = None,
    out: Annotated[Path, typer.Option(help="Folder for the runs.")] = Path("runs"),
    resume: Annotated[
        Path | None,
        typer.Option(help="A run to go on with: its folder.", autocompletion=shared.complete_runs),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write events for TensorBoard to the run's folder, too.")
    ] = False,
) -> None:
    """Train a task and report how it went.

    What is not said is as the task has it. Settings, metrics, checkpoint and report are in a folder of the run.

    Ctrl-C or SIGTERM saves a checkpoint after the step that is being made, prints the command that goes on, and ends
    with exit code 130; the result is the same, bit for bit. Exit code 1 is a failure, 2 a mistake in what was typed.

    Example: `surefoot train digits --optimizer radam --epochs 20`
    """
    if resume is not None:
        typed = [*shared.flags(context), *(["settings"] if settings else [])]
        if typed:
            usage_error(f"--resume keeps the settings of the run: leave out {', '.join(typed)}.")
        experiment = Experiment.resume(shared.run_folder(resume, out), tensorboard)
    else:
        try:
            experiment = Experiment.start(shared.given(context, settings), out, tensorboard)
        except ValueError as error:
            usage_error(str(error))
    with _terminable(), experiment:
        _train(experiment)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does: nothing that a killed process leaves behind is left."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _train(experiment: Experiment) -> None:
    try:
        _find_train_report(experiment)
    except KeyboardInterrupt:
        if experiment.checkpoint.exists():
            _say_how_to_go_on(experiment, "Interrupted. What was saved last is kept; go on with:")
        else:
            console.print("Interrupted before anything was saved: there is nothing to resume.")
        raise typer.Exit(STOPPED) from None
    except NonFiniteLossError as error:
        assert experiment.settings.lr is not None
        if experiment.ended_early():
            console.print(f"How it went: {escape(str(experiment.folder / REPORT))}", soft_wrap=True)
        lower = f"{experiment.settings.lr / 10:.2g}"
        raise NonFiniteLossError(f"{error}. Start again with a lower rate, such as --lr {lower}") from error
    except typer.Exit:  # it has said so
        raise
    except Exception:
        if experiment.checkpoint.exists():
            _say_how_to_go_on(
                experiment, "What was saved last is kept. When the error is mended, go on with:"
            )
        raise


def _find_train_report(experiment: Experiment) -> None:
    named = experiment.task.description or experiment.settings.task
    console.print(f"[bold]{escape(str(experiment.folder))}[/]: {escape(named)}")
    if experiment.settings.lr is None:
        with console.status("Finding a learning rate"):
            found = experiment.find_lr()
        say_finding(found)
        if found.abstained:
            console.print("The training goes on with it.")
    with stop_on_signal() as stopped, bar(console) as progress:
        total, done = experiment.total_steps, len(experiment.rows)
        task = progress.add_task("Training", total=total, completed=done, loss="", lr="")
        told = {finding.kind for finding in experiment.findings}  # before a resume
        for row in experiment.train(stopped):
            for finding in experiment.findings:
                if finding.kind not in told:
                    told.add(finding.kind)
                    said = f"[yellow]{escape(finding.message)}[/] {escape(finding.advice)}"
                    progress.console.print(said, soft_wrap=True)
            progress.update(task, completed=row["step"], loss=_loss(row), lr=_lr(row))
            if held_out(row) or row["step"] % experiment.steps_of_a_pass == 0:
                progress.console.print(_line(row, experiment), soft_wrap=True)
    if not experiment.finished:
        step = experiment.rows[-1]["step"]
        _say_how_to_go_on(experiment, f"Stopped and saved after step {step}. Go on with:")
        raise typer.Exit(STOPPED)
    experiment.report()
    _summary(experiment)


def _say_how_to_go_on(experiment: Experiment, sentence: str) -> None:
    console.print(sentence)
    command = f"  surefoot train --resume {shlex.quote(str(experiment.folder))}"
    console.print(command, style="bold", soft_wrap=True, markup=False)


def _loss(row: dict[str, float]) -> str:
    loss = row["loss"]
    return f"loss {loss:.4f}" if abs(loss) < 1e4 else f"loss {loss:.1e}"


def _lr(row: dict[str, float]) -> str:
    return f"lr {next(value for name, value in row.items() if name.startswith('lr_')):.2e}"


def _line(row: dict[str, float], experiment: Experiment) -> str:
    last = -(-experiment.total_steps // experiment.steps_of_a_pass)
    results = "".join(
        f"  {'held-out loss' if name == 'loss' else name} {shown(name, value):>7}"
        for name, value in held_out(row).items()
    )
    sized = pass_length(experiment.task.train_loader) is not None
    where = f"epoch {row['epoch']:{len(str(last))}}/{last}" if sized else f"epoch {row['epoch']}"
    if experiment.settings.evaluate_every or not sized:
        where += f"  step {row['step']:{len(str(experiment.total_steps))}}/{experiment.total_steps}"
    return f"{where}  {_loss(row)}{results}  {_lr(row)}"


def _summary(experiment: Experiment) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    looks = [row for row in experiment.rows if "val_loss" in row]
    for name, value in held_out(experiment.rows[-1]).items():
        table.add_row(f"Validation {name}", f"[bold]{shown(name, value)}[/]")
    judged = [row for row in looks if not math.isnan(row["val_loss"])]
    best = min(judged, key=lambda row: row["val_loss"], default={})
    if best and best["step"] != experiment.rows[-1]["step"]:
        table.add_row("at best", f"{shown('loss', best['val_loss'])}, at step {best['step']}")
    table.add_row("Training time", f"{experiment.seconds:.1f} s")
    table.add_row("Report", escape(str(experiment.folder / REPORT)))
    if judged:
        table.add_row("Best weights", escape(str(experiment.folder / BEST)))
    table.columns[1].overflow = "fold"  # a path that is cut cannot be opened
    console.print()
    console.print(table)
    if words := experiment.last_words():
        console.print(f"\n{words}", markup=False, soft_wrap=True)

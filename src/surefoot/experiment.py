"""What ``surefoot train`` does: from settings to a trained model and a folder that says how it went."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, fields, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import torch

from surefoot import checkpoint, lr_scheduler, optimizers, plots, report
from surefoot.checkpoint import CheckpointError
from surefoot.files import write
from surefoot.lr_finder import LRFinder
from surefoot.lr_scheduler.hyperparameters import has_momentum
from surefoot.run import Run
from surefoot.tasks import TASKS
from surefoot.train import train

__all__ = ["Experiment", "Row", "Settings"]

# Not Rprop, which takes gradients of all data, nor ASGD, whose average no task asks for.
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adadelta": optimizers.Adadelta,
    "adagrad": optimizers.Adagrad,
    "adam": optimizers.Adam,
    "adamax": optimizers.Adamax,
    "adamw": optimizers.AdamW,
    "lion": optimizers.Lion,
    "nadam": optimizers.NAdam,
    "nadamw": optimizers.NAdamW,
    "radam": optimizers.RAdam,
    "rmsprop": optimizers.RMSprop,
    "sgd": partial(optimizers.SGD, momentum=0.9),
}

SCHEDULES: dict[str, Callable[[torch.optim.Optimizer, float, int], Any]] = {
    "onecycle": lambda o, lr, steps: lr_scheduler.OneCycleLR(o, lr, steps, cycle_momentum=has_momentum(o)),
    "cosine": lambda o, lr, steps: lr_scheduler.CosineAnnealingLR(o, T_max=steps),
    "cyclic": lambda o, lr, steps: lr_scheduler.CyclicLR(
        o, lr / 10, lr, step_size_up=steps / 8, cycle_momentum=has_momentum(o)
    ),
    "exponential": lambda o, lr, steps: lr_scheduler.ExponentialLR(o, gamma=0.01 ** (1 / steps)),
    "step": lambda o, lr, steps: lr_scheduler.StepLR(o, step_size=math.ceil(steps / 3)),
    "warmup": lambda o, lr, steps: lr_scheduler.LambdaLR(o, lambda step: min(1, 10 * step / steps)),
    "plateau": lambda o, lr, steps: lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=1),
    "constant": lambda o, lr, steps: None,
}

CHECKPOINT = "checkpoint.safetensors"

GROUPS = ("weights", "biases_norms")


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result of a run.

    Attributes:
        task: A name in :data:`surefoot.tasks.TASKS`.
        optimizer: Name of one of Surefoot's optimizers, in lower case.
        lr: Learning rate (the peak under a cyclic schedule); None finds it by a range test.
        schedule: How it changes over the run.
        epochs: Passes over the training data.
        batch_size: Samples for each update.
        seed: Of weights, batch order and dropout.
    """

    task: str = "digits"
    optimizer: str = "adamw"
    lr: float | None = None
    schedule: str = "onecycle"
    epochs: int = 12
    batch_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in (("task", TASKS), ("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            value = getattr(self, name)
            if value not in choices:
                near = get_close_matches(value.lower(), choices, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ValueError(
                    f"{name} {value!r} is not known.{hint} Choose from: {', '.join(sorted(choices))}."
                )
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1.")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}: it must be at least 0 and below 2**63.")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise ValueError(f"lr is {self.lr}: it must be 'auto', or positive and finite.")


@dataclass(frozen=True)
class Row:
    """A line of ``metrics.csv``: one update, with the held-out results where they were measured."""

    step: int
    epoch: int
    loss: float
    lr: tuple[float, ...]
    val_loss: float | None = None
    val_accuracy: float | None = None

    def numbers(self) -> list[float]:
        """The line as numbers only, NaN for what was not measured."""
        step, epoch, loss, lr, *held_out = astuple(self)
        return [step, epoch, loss, *(math.nan if value is None else value for value in held_out), *lr]

    @classmethod
    def from_numbers(cls, numbers: list[float]) -> Row:
        """The line that :meth:`numbers` was called on."""
        step, epoch, loss, *held_out = numbers[:5]
        measured = (None if math.isnan(value) else value for value in held_out)
        return cls(int(step), int(epoch), loss, tuple(numbers[5:]), *measured)


class Experiment:
    """One run in one folder: start or resume it, find the rate, train, report.

    Args:
        settings: What to train and how.
        folder: Where its files are.

    Attributes:
        rows: All updates so far.
        seconds: Time spent training, before a resume included.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self.rows: list[Row] = []
        self.lr_range: dict[str, list[float]] | None = None
        self.seconds = 0.0
        self.task = TASKS[settings.task](settings.batch_size, settings.seed)
        # Norms and biases are the parameters of one dimension or none.
        named = list(self.task.model.named_parameters())
        decayed = {"params": [(n, p) for n, p in named if p.ndim > 1], "weight_decay": 0.01}
        kept = {"params": [(n, p) for n, p in named if p.ndim <= 1], "weight_decay": 0.0}
        self.optimizer = OPTIMIZERS[settings.optimizer]([decayed, kept], lr=1e-5)
        self.run: Run | None = None

    @classmethod
    def start(cls, settings: Settings, out: Path) -> Experiment:
        """A new run in a folder of its own, ``out/<task>-<n>``."""
        if out.exists() and not out.is_dir():
            raise NotADirectoryError(f"out is {str(out)!r}, which is a file: name a folder for the runs")
        experiment = cls(settings, out)
        out.mkdir(parents=True, exist_ok=True)
        number = 0
        while experiment.folder == out:
            number += 1
            with suppress(FileExistsError):
                (out / f"{settings.task}-{number}").mkdir()
                experiment.folder = out / f"{settings.task}-{number}"
        return experiment

    @classmethod
    def resume(cls, folder: Path) -> Experiment:
        """The run in ``folder``, where its checkpoint is.

        Raises:
            CheckpointError: There is none, or it cannot be read.
        """
        path = folder / CHECKPOINT
        with checkpoint.opened(path) as saved:
            kept = saved.extra
        try:
            extra = kept["extra"]
            experiment = cls(Settings(**extra["settings"]), folder)
            experiment.rows = [Row.from_numbers(row) for row in extra["rows"].tolist()]
            experiment.lr_range, experiment.seconds = extra["lr_range"], extra["seconds"]
        except (AttributeError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} was not written by surefoot train: {error}") from error
        experiment._build_run().resume(path)
        return experiment

    @property
    def checkpoint(self) -> Path:
        """The file that training resumes from."""
        return self.folder / CHECKPOINT

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train."""
        return self.run is not None and (self.run.epoch + self.run.at_pass_end) >= self.settings.epochs

    @property
    def total_steps(self) -> int:
        """Updates of the whole run."""
        return self.settings.epochs * len(self.task.train_loader)

    def find_lr(self) -> float:
        """Set the learning rate by a range test, which leaves no trace on the model."""
        finder = LRFinder(self.task.model, self.optimizer, self.task.criterion)
        finder.range_test(self.task.train_loader, start_lr=1e-5, num_iter=100)
        lr = finder.suggestion()
        finder.reset()
        self.lr_range = finder.history
        self.settings = replace(self.settings, lr=lr)
        return lr

    def _build_run(self) -> Run:
        lr = self.settings.lr
        assert lr is not None
        torch.manual_seed(self.settings.seed)  # dropout, whatever was drawn since the model was made
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        scheduler = SCHEDULES[self.settings.schedule](self.optimizer, lr, self.total_steps)
        self.run = Run(self.task.model, self.optimizer, self.task.train_loader, self.task.loss, scheduler)
        return self.run

    def train(self, stopped: Callable[[], bool]) -> Iterator[Row]:
        """Train to the end, or until ``stopped()``; saved after every pass and when stopped.

        Raises:
            ArithmeticError: The loss is not finite; the table of metrics is written, and a checkpoint
                saved before stays.
        """
        run = self.run or self._build_run()
        started = time.monotonic() - self.seconds
        for record in train(run, self.settings.epochs, nonfinite="propagate"):
            if not math.isfinite(record.loss):
                self._write_metrics()
                raise ArithmeticError(
                    f"the loss is {record.loss} at step {record.step}, lr {record.lr[0]:.2g}: training diverged. "
                    f"Start again with a lower rate, such as --lr {(self.settings.lr or 0) / 10:.1g}."
                )
            row = Row(record.step, record.epoch, record.loss, record.lr)
            if record.last_of_pass:
                val_loss, val_accuracy = self.task.evaluate()
                row = replace(row, val_loss=val_loss, val_accuracy=val_accuracy)
                if isinstance(run.scheduler, lr_scheduler.ReduceLROnPlateau):
                    run.scheduler.step(val_loss)
            self.rows.append(row)
            self.seconds = time.monotonic() - started
            stop = stopped()
            if record.last_of_pass or stop:
                self.save()
            yield row
            if stop:
                return

    def save(self) -> None:
        """Write the checkpoint, then the table of metrics from the same rows."""
        assert self.run is not None
        rows = torch.tensor([row.numbers() for row in self.rows], dtype=torch.float64)
        settings, seconds = asdict(self.settings), self.seconds
        self.run.save(self.checkpoint, settings=settings, rows=rows, lr_range=self.lr_range, seconds=seconds)
        self._write_metrics()

    def _write_metrics(self) -> None:
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        names = [field.name for field in fields(Row)]
        table.writerow([*names[:3], *(f"lr_{group}" for group in GROUPS), *names[4:]])
        table.writerows([*row[:3], *row[3], *row[4:]] for row in map(astuple, self.rows))
        write(self.folder / "metrics.csv", text.getvalue())

    def report(self) -> list[Path]:
        """Draw the pictures and write the page; returns the files.

        Needs at least one finished pass.
        """
        import matplotlib.pyplot as plt

        held_out = {row.step: row.val_loss for row in self.rows if row.val_loss is not None}
        pictures: dict[str, Any] = {"loss": plots.loss([row.loss for row in self.rows], held_out)}
        if self.lr_range is not None:
            lrs, losses = self.lr_range["lr"], self.lr_range["loss"]
            pictures["lr_range"] = plots.lr_range(lrs, losses, suggestion=self.settings.lr)
        by_group = {name: [row.lr[i] for row in self.rows] for i, name in enumerate(GROUPS)}
        pictures["schedule"] = plots.schedule({n.replace("_", " and "): lrs for n, lrs in by_group.items()})
        files = []
        for name, axes in pictures.items():
            files.append(self.folder / f"{name}.png")
            axes.figure.savefig(files[-1])
            plt.close(axes.figure)
        page = report.page(
            title=f"{self.folder.name}: {self.task.description}",
            result=self.result,
            settings={**asdict(self.settings), "torch": torch.__version__},
            pictures=files,
        )
        write(self.folder / "report.html", page)
        return [self.checkpoint, self.folder / "metrics.csv", *files, self.folder / "report.html"]

    @property
    def result(self) -> str:
        """The outcome in one sentence."""
        last = next(row for row in reversed(self.rows) if row.val_accuracy is not None)
        return (
            f"{last.val_accuracy:.2%} of the held-out images are right after {last.epoch} epochs "
            f"and {self.seconds:.1f} s of training."
        )

"""What ``surefoot train`` does: from settings to a trained model and a folder that says how it went."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from surefoot import choices, prepare, provenance, records
from surefoot.checkpoint import CheckpointError
from surefoot.files import write
from surefoot.lock import Lock
from surefoot.lr_scheduler import ReduceLROnPlateau
from surefoot.metrics import Metrics
from surefoot.prepare import optimizer_of, prepared
from surefoot.records import CHECKPOINT, SETTINGS
from surefoot.run import Run
from surefoot.settings import Settings, as_toml
from surefoot.tasks.base import Task, length
from surefoot.tasks.load import TASKS
from surefoot.tasks.trial import loss_of
from surefoot.train import train

__all__ = ["Experiment"]


class Experiment:
    """One run in one folder: start or resume it, find the rate, train, report. It holds the folder's lock until closed.

    Args:
        settings: What to train and how.
        task: What its name stands for.
        folder: Where its files are.

    Attributes:
        rows: All updates so far.
        seconds: Time spent training, before a resume included.
    """

    def __init__(self, settings: Settings, task: Task, folder: Path) -> None:
        self.settings, self.task, self.folder = settings, task, folder
        self.lr_range: dict[str, list[float]] | None = None
        self.seconds = 0.0
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.optimizer = optimizer_of(settings, task)
        self.run: Run | None = None
        self._metrics: Metrics | None = None
        self._lock = Lock(folder)

    @classmethod
    def start(cls, given: Mapping[str, Any], out: Path) -> Experiment:
        """A new run in a folder of its own, ``out/<task>-<n>``.

        Raises:
            ValueError: A setting is wrong; nothing was written.
            TaskError: The task is; nothing was written.
            OSError: The folder cannot be made.
        """
        if out.exists() and not out.is_dir():
            raise NotADirectoryError(f"out is {str(out)!r}, which is a file: name a folder for the runs")
        settings, task = prepared(given)
        out.mkdir(parents=True, exist_ok=True)
        number, folder = 0, None
        while folder is None:
            number += 1
            with suppress(FileExistsError):
                (out / f"{Path(settings.task).stem}-{number}").mkdir()
                folder = out / f"{Path(settings.task).stem}-{number}"
        try:
            experiment = cls(settings, task, folder)
        except BaseException:
            folder.rmdir()
            raise
        try:
            experiment._write_settings()
        except BaseException:
            experiment.close()
            raise
        return experiment

    @classmethod
    def resume(cls, folder: Path) -> Experiment:
        """The run in ``folder``, where its checkpoint is.

        Raises:
            CheckpointError: There is none, or it cannot be read.
            LockedError: Another process trains it.
        """
        given = records.kept(folder)["settings"]
        try:
            Settings.of(given)
        except (AttributeError, ValueError) as error:
            raise CheckpointError(
                f"{folder / CHECKPOINT} was not written by surefoot train: {error}"
            ) from error
        settings, task = prepared(given)
        experiment = cls(settings, task, folder)
        try:
            run = experiment._build_run()
            kept = run.resume(folder / CHECKPOINT)
            experiment.lr_range, experiment.seconds = kept["lr_range"], kept["seconds"]
            experiment._metrics = experiment._open_metrics(run.step)
        except BaseException:
            experiment.close()
            raise
        return experiment

    def __enter__(self) -> Experiment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the folder go; it is deleted if nothing was trained."""
        try:
            if self._metrics is not None:
                self._metrics.close()
        finally:
            if not self.rows and not self.checkpoint.exists():
                for name in (SETTINGS, "metrics.csv", "metrics.jsonl"):
                    (self.folder / name).unlink(missing_ok=True)
            self._lock.release()
            with suppress(OSError):
                self.folder.rmdir()  # if it is empty

    @property
    def checkpoint(self) -> Path:
        """The file that the run is saved to."""
        return self.folder / CHECKPOINT

    @property
    def rows(self) -> list[dict[str, float]]:
        """All updates so far, by the names of the columns of ``metrics.csv``."""
        return [] if self._metrics is None else self._metrics.rows

    @property
    def total_steps(self) -> int:
        """Updates of the whole run."""
        return self.settings.steps or self.settings.epochs * (length(self.task.train_loader) or 0)

    @property
    def steps_of_a_pass(self) -> int:
        """Updates of a pass; those of the whole run where the loader has no length."""
        return length(self.task.train_loader) or self.total_steps

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train: all updates are made, or ``patience`` is at its end."""
        step = 0 if self.run is None else self.run.step
        return step >= self.total_steps or self._out_of_patience

    @property
    def _out_of_patience(self) -> bool:
        patience = self.settings.patience
        losses = [row["val_loss"] for row in self.rows if "val_loss" in row] if patience else []
        return 0 < patience < len(losses) and min(losses[-patience:]) >= min(losses[:-patience])

    def find_lr(self) -> float:
        """Set the learning rate by a range test, which leaves no trace on the model."""
        lr, self.lr_range = prepare.find_lr(self.task, self.optimizer)
        self.settings = replace(self.settings, lr=lr)
        self._write_settings()
        return lr

    def _write_settings(self) -> None:
        code = Path(self.settings.task).parent if self.settings.task not in TASKS else Path.cwd()
        text = as_toml(self.settings, versions=provenance.versions(), git=provenance.git(code))
        write(self.folder / SETTINGS, text)

    def _build_run(self) -> Run:
        lr = self.settings.lr
        assert lr is not None
        torch.manual_seed(self.settings.seed)  # dropout, whatever was drawn since the model was made
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        scheduler = choices.scheduler(
            self.optimizer, self.settings.schedule, lr, self.total_steps, self.settings.warmup
        )
        self.run = Run(self.task.model, self.optimizer, self.task.train_loader, loss_of(self.task), scheduler)
        return self.run

    def _open_metrics(self, step: int) -> Metrics:
        held_out = [] if self.task.val_loader is None else ["loss", *self.task.metrics]
        columns = ["step", "epoch", "loss", *self._lr_names(), *(f"val_{name}" for name in held_out)]
        return Metrics(self.folder, columns, step)

    def _lr_names(self) -> list[str]:
        return [f"lr_{group['name']}" for group in self.optimizer.param_groups]

    def train(self, stopped: Callable[[], bool]) -> Iterator[dict[str, float]]:
        """Train to the end, or until ``stopped()``; a row for each update.

        Saved after every pass, after every look at the held-out data, and when stopped.

        Raises:
            ArithmeticError: The loss is not finite; the table of metrics is written, and a checkpoint
                saved before stays.
            TaskError: The loss does not take a batch; what was saved before stays.
        """
        run = self.run or self._build_run()
        self._metrics = metrics = self._metrics or self._open_metrics(0)
        if self.finished:
            return
        started = time.monotonic() - self.seconds
        for record in train(run, steps=self.total_steps, nonfinite="propagate"):
            if not math.isfinite(record.loss):
                raise ArithmeticError(
                    f"the loss is {record.loss} at step {record.step}, lr {record.lr[0]:.2g}: training diverged. "
                    f"Start again with a lower rate, such as --lr {(self.settings.lr or 0) / 10:.1g}."
                )
            row = {"step": record.step, "epoch": record.epoch, "loss": record.loss}
            row |= dict(zip(self._lr_names(), record.lr, strict=True))
            last = record.step >= self.total_steps
            every = self.settings.evaluate_every
            looks = last or (record.step % every == 0 if every else record.last_of_pass)
            if looks:
                held_out = self.task.evaluate()
                row |= {f"val_{name}": value for name, value in held_out.items()}
                if isinstance(run.scheduler, ReduceLROnPlateau):
                    run.scheduler.step(held_out["loss"])
            metrics.append(row)
            self.seconds = time.monotonic() - started
            stop = stopped()
            if looks or record.last_of_pass or stop:
                self.save()
            yield row
            if stop or last or (looks and self._out_of_patience):
                return

    def last_words(self) -> str:
        """What the task has to show at the end, such as a sample; empty where it has nothing."""
        self.task.model.eval()
        return "" if self.task.finish is None else self.task.finish(self.task.model)

    def save(self) -> None:
        """Bring the metrics to the disk, then write the checkpoint: it is never ahead of them."""
        assert self.run is not None
        assert self._metrics is not None
        self._metrics.flush()
        self.run.save(
            self.checkpoint,
            settings=self.settings.shown(),
            lr_range=self.lr_range,
            seconds=self.seconds,
        )

    def report(self) -> list[Path]:
        """Draw the pictures and write the page; returns the files.

        Needs a checkpoint.
        """
        return records.write_report(self.folder)

"""What ``surefoot train`` does: from settings to a trained model and a folder that says how it went."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from surefoot import choices, prepare, provenance, records
from surefoot.checkpoint import CheckpointError
from surefoot.diagnosis import Diagnosis, Finding
from surefoot.events import needed
from surefoot.files import write
from surefoot.lock import Lock
from surefoot.lr_finder import LRFinding
from surefoot.prepare import for_run, optimizer_of, prepared
from surefoot.records import BEST, CHECKPOINT, DIAGNOSIS, FINDING, SETTINGS
from surefoot.run import Run
from surefoot.settings import Settings, as_toml, read
from surefoot.swa_utils import AveragedModel, get_ema_multi_avg_fn
from surefoot.tables import Tables
from surefoot.tasks.base import Task, TaskError
from surefoot.tasks.load import TASKS, told
from surefoot.tasks.trial import evaluate, loss_of
from surefoot.train import train

__all__ = ["Experiment"]

RATIO_ROWS = 200
"""How often in a run the size of updates is written down."""


class Experiment:
    """One run in one folder: start or resume it, find the rate, train, report. It holds the folder's lock until closed.

    Args:
        settings: What to train and how.
        task: What its name stands for.
        folder: Where its files are.
        events: Write events for TensorBoard, too.

    Attributes:
        rows: All updates so far.
        seconds: Time spent training, before a resume included.
        findings: What goes wrong, as it was seen.
    """

    def __init__(self, settings: Settings, task: Task, folder: Path, events: bool = False) -> None:
        self.settings, self.task, self.folder = settings, task, folder
        self.seconds = 0.0
        self.findings: list[Finding] = []
        self._kept: list[Finding] = []  # of these, what is in the folder
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.optimizer = optimizer_of(settings, task)
        self.run: Run | None = None
        self._events = events
        self._tables: Tables | None = None
        if events:
            needed()
        self._lock = Lock(folder)

    @classmethod
    def start(cls, given: Mapping[str, Any], out: Path, events: bool = False) -> Experiment:
        """A new run in a folder of its own, ``out/<task>-<n>``.

        Raises:
            ValueError: A setting is wrong; nothing was written.
            TaskError: The task is; nothing was written.
            ImportError: ``events`` are asked for, and the package ``tensorboard`` is not installed.
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
            experiment = cls(settings, task, folder, events)
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
    def resume(cls, folder: Path, events: bool = False) -> Experiment:
        """The run in ``folder``, where its checkpoint is.

        Raises:
            CheckpointError: There is none, or it cannot be read.
            ValueError: The settings beside it were edited since.
            LockedError: Another process trains it.
        """
        given = records.kept(folder)["settings"]
        try:
            Settings.of(given)
        except (AttributeError, ValueError) as error:
            raise CheckpointError(
                f"{folder / CHECKPOINT} was not written by surefoot train: {error}"
            ) from error
        _check_unedited(folder / SETTINGS, given)
        settings, task = prepared(given)
        experiment = cls(settings, task, folder, events)
        try:
            run = experiment._build_run()
            kept = run.resume(folder / CHECKPOINT)
            experiment.seconds = kept["seconds"]
            experiment._kept = records.findings_in(folder)
            experiment.findings = [found for found in experiment._kept if found.step <= run.step]
            experiment._open_tables(run.step)
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
            if self._tables is not None:
                self._tables.close()
        finally:
            if not self.rows and not self.checkpoint.exists():
                for name in (SETTINGS, FINDING, *records.TABLES):
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
        return [] if self._tables is None else self._tables.rows

    @property
    def total_steps(self) -> int:
        """Updates of the whole run."""
        return prepare.total_steps(self.settings, self.task)

    @property
    def steps_of_a_pass(self) -> int:
        """Updates of a pass; those of the whole run where the loader has no length."""
        return prepare.updates_of_a_pass(self.settings, self.task) or self.total_steps

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train: all updates are made, or ``patience`` is at its end."""
        if self.run is None:
            return False
        return self.run.step >= self.total_steps or 0 < self.settings.patience <= self.run.stale

    def find_lr(self) -> LRFinding:
        """Set the learning rate to what is found for this training; there is no trace on the model."""
        found = prepare.find_lr(self.settings, self.task, self.optimizer, self.total_steps)
        self.settings = replace(self.settings, lr=found.suggestion)
        records.keep(self.folder / FINDING, found.to_dict())
        self._write_settings()
        return found

    def _write_settings(self) -> None:
        code = Path(self.settings.task).parent if self.settings.task not in TASKS else Path.cwd()
        text = as_toml(self.settings, versions=provenance.versions(), git=provenance.git(code))
        write(self.folder / SETTINGS, text)

    def _build_run(self) -> Run:
        settings, task = self.settings, self.task
        assert settings.lr is not None
        torch.manual_seed(settings.seed)  # dropout, whatever was drawn since the model was made
        for group in self.optimizer.param_groups:
            group["lr"] = settings.lr
        scheduler = choices.scheduler(
            self.optimizer, settings.schedule, settings.lr, self.total_steps, settings.warmup
        )
        ema = None
        if settings.ema:
            ema = AveragedModel(task.model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema))
        self.run = Run(
            task.model,
            self.optimizer,
            task.train_loader,
            loss_of(task),
            scheduler,
            ema=ema,
            **for_run(settings, task),
        )
        return self.run

    def _open_tables(self, step: int, losses: Iterable[str] = ()) -> Tables:
        """The tables up to a step; the names of losses are those of the first update, known from there on."""
        self._tables = Tables(
            self.folder,
            groups=[group["name"] for group in self.optimizer.param_groups],
            weights=self._weights(),
            losses=losses,
            held_out=[] if self.task.val_loader is None else ["loss", *self.task.metrics],
            step=step,
            every=max(1, self.total_steps // RATIO_ROWS),
            events=self._events,
        )
        return self._tables

    def _weights(self) -> list[str]:
        """Names of what has two dimensions or more."""
        return [name for name, p in self.task.model.named_parameters() if p.ndim > 1 and p.requires_grad]

    def train(self, stopped: Callable[[], bool]) -> Iterator[dict[str, float]]:
        """Train to the end, or until ``stopped()``; a row for each update.

        Saved after every pass, after every look at the held-out data, and when stopped.

        Raises:
            NonFiniteLossError: The loss is not finite; the table of metrics is written, and a checkpoint
                saved before stays.
            TaskError: The loss does not take a batch; what was saved before stays.
        """
        run, settings = self.run or self._build_run(), self.settings
        if self.finished:
            return
        stop, started = False, time.monotonic() - self.seconds
        watch, before = self._diagnosis(), [*self.findings]
        known = {finding.kind for finding in before}  # before a resume

        def new(found: Iterable[Finding]) -> list[Finding]:
            return [finding for finding in found if finding.kind not in known]

        def asked() -> bool:
            nonlocal stop
            stop = stop or stopped()
            return stop

        judged = self.task.val_loader is not None
        for record in train(
            run,
            steps=self.total_steps,
            evaluate=(lambda model: evaluate(self.task)) if judged else None,
            evaluate_every=(settings.evaluate_every or self.steps_of_a_pass) if judged else None,
            patience=settings.patience or None,
            stopped=asked,
        ):
            row = (self._tables or self._open_tables(0, record.losses)).add(record)
            self.findings += new(watch(record))
            self.seconds = time.monotonic() - started
            if self.finished:
                self.findings = [*before, *new(watch.findings())]
            if record.metrics is not None or record.last_of_pass or stop or self.finished:
                self.save(record.best)
            yield row

    def _diagnosis(self) -> Diagnosis:
        found = records.finding_in(self.folder)
        sure = found is not None and not found.abstained
        return Diagnosis(
            names=self._weights(),
            suggestion=found.suggestion if found and sure else None,
            interval=found.interval if found and sure else None,
            planned_steps=self.total_steps,
        )

    def last_words(self) -> str:
        """What the task has to show at the end, such as a sample; empty where it has nothing.

        Raises:
            TaskError: It raises.
        """
        if self.task.finish is None:
            return ""
        with self.run.ema() if self.run else nullcontext():
            try:
                return self.task.finish(self.task.model.eval())
            except Exception as error:
                raise TaskError(
                    f"finish failed, after the training: {told(error, self.settings.task)}"
                ) from error

    def save(self, best: bool = False) -> None:
        """Bring the tables to the disk, then write the checkpoint: it is never ahead of them.

        Args:
            best: Write it as the best one, too.
        """
        assert self.run is not None
        if self._tables is not None:
            self._tables.flush()
        self._keep_findings()
        # The best one first: the checkpoint knows of it, and who resumes it makes no other.
        for path in (*([self.folder / BEST] if best else []), self.checkpoint):
            self.run.save(
                path, settings=self.settings.shown(), seconds=self.seconds, total_steps=self.total_steps
            )

    def _keep_findings(self) -> None:
        if self.findings != self._kept:
            records.keep(self.folder / DIAGNOSIS, [asdict(finding) for finding in self.findings])
            self._kept = [*self.findings]

    def ended_early(self) -> bool:
        """Write down, and on the page, that the loss was not finite; whether there is one: it needs a checkpoint."""
        assert self.run is not None
        if self._tables is None or not self.checkpoint.exists():
            return False
        self._tables.flush()
        step = self.run.step + 1
        message = f"The training ended at step {step}: the loss was infinite or NaN."
        advice = (
            "Begin again with a lower learning rate or with clip_norm, and look at the data of that step."
        )
        self.findings.append(Finding("nonfinite", step, message, advice))
        self._keep_findings()
        self.report()
        return True

    def report(self) -> Path:
        """Write the page; returns its path.

        Needs a checkpoint.
        """
        return records.write_report(self.folder)


def _check_unedited(path: Path, kept: Mapping[str, Any]) -> None:
    """Whether the settings beside a checkpoint are those in it: what was changed there would not hold."""
    if not path.exists():
        return
    edited, own = Settings.of(read(path)).shown(), Settings.of(kept).shown()
    for name in {**own, **edited}:
        if edited.get(name) != own.get(name):
            raise ValueError(
                f"{path} has {name} = {edited.get(name)!r}, the run was begun with {own.get(name)!r}: put it back to go on, "
                f"or begin a new run with surefoot train --settings {path}"
            )

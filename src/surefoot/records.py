"""What a run's folder tells without the task: its settings, its rows, its report."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from surefoot import checkpoint, metrics, report
from surefoot.checkpoint import CheckpointError
from surefoot.choices import OPTIMIZERS, scheduler
from surefoot.diagnosis import Finding
from surefoot.files import write
from surefoot.lr_scheduler import Scheduler
from surefoot.report import Story
from surefoot.settings import Settings, read

__all__ = [
    "BEST",
    "CHECKPOINT",
    "DIAGNOSIS",
    "FINDING",
    "RATIOS",
    "REPORT",
    "SETTINGS",
    "TABLES",
    "TIMES",
    "Records",
    "finding_in",
    "findings_in",
    "found",
    "held_out",
    "keep",
    "kept",
    "shown",
    "story_of",
    "write_report",
]

CHECKPOINT, BEST = "checkpoint.safetensors", "best.safetensors"
FINDING, DIAGNOSIS = "lr_finding.json", "diagnosis.json"
RATIOS, TIMES = "ratios", "times"
TABLES = tuple(f"{name}.{kind}" for name in ("metrics", RATIOS, TIMES) for kind in ("csv", "jsonl"))
SETTINGS, REPORT = "settings.toml", "report.html"

Read = TypeVar("Read")


@dataclass(frozen=True)
class Records:
    """A run as its folder has it.

    Attributes:
        folder: The folder.
        settings: What decided the run.
        rows: A row for each update, by the names of the columns of ``metrics.csv``.
        changed: When the last of it was written, in seconds since 1970.
    """

    folder: Path
    settings: Settings
    rows: list[dict[str, Any]]
    changed: float

    @classmethod
    def read(cls, folder: Path) -> Records:
        """What is in a folder.

        Raises:
            FileNotFoundError: It is not of a run.
            ValueError: A file in it is damaged.
        """
        path = folder / SETTINGS
        if not path.is_file():
            raise FileNotFoundError(f"{folder} is not the folder of a run: it has no {SETTINGS}")
        written = [file for file in (path, folder / "metrics.jsonl") if file.exists()]
        changed = max(file.stat().st_mtime for file in written)
        return cls(folder, Settings.of(read(path)), metrics.read(folder), changed)

    @property
    def best(self) -> dict[str, float]:
        """Held-out results by name at the update of the lowest held-out loss; empty where none was measured."""
        measured = [row for row in self.rows if not math.isnan(row.get("val_loss", math.nan))]
        return held_out(min(measured, key=lambda row: row["val_loss"])) if measured else {}

    @property
    def progress(self) -> str:
        """How much of the run is done, such as ``3/12 epochs``."""
        return self._done(self.rows[-1] if self.rows else {})

    def _done(self, row: dict[str, Any]) -> str:
        """How much of the run is done at a row."""
        if self.settings.steps:
            return f"{row.get('step', 0)}/{self.settings.steps} steps"
        return f"{row.get('epoch', 0)}/{self.settings.epochs} epochs"

    @property
    def result(self) -> str:
        """The outcome in one sentence."""
        seen = next((row for row in reversed(self.rows) if "val_loss" in row), None)
        if seen is None:
            return (
                f"The loss is {self.rows[-1]['loss']:.4f} after {self.progress}."
                if self.rows
                else "Nothing yet."
            )
        results = ", ".join(f"{name} {shown(name, value)}" for name, value in held_out(seen).items())
        return f"On the held-out data: {results}, after {self._done(seen)}."


def held_out(row: dict[str, float]) -> dict[str, float]:
    """What a row has of the held-out data, by name."""
    return {name.removeprefix("val_"): value for name, value in row.items() if name.startswith("val_")}


def shown(name: str, value: float) -> str:
    """A result as it is read: an accuracy in percent.

    Example:
        >>> shown("accuracy", 0.98765), shown("loss", 0.0234567)
        ('98.77%', '0.0235')
    """
    if "accuracy" in name:
        return f"{value:.2%}"
    return f"{value:.4f}" if abs(value) < 1e6 else f"{value:.4g}"


def found(folder: Path) -> Iterator[Path]:
    """The folders of runs in a folder."""
    for path in sorted(folder.glob(f"*/{SETTINGS}")):
        yield path.parent


def kept(folder: Path) -> dict[str, Any]:
    """What ``surefoot train`` keeps in the checkpoint beside the run itself: settings, time, how long it is.

    Raises:
        CheckpointError: There is none, or it is of something else.
    """
    path = folder / CHECKPOINT
    with checkpoint.opened(path) as saved:
        extra = saved.extra.get("extra") if isinstance(saved.extra, dict) else None
    if not isinstance(extra, dict) or not extra.keys() >= {"settings", "seconds", "total_steps"}:
        raise CheckpointError(f"{path} was not written by surefoot train")
    return extra


def keep(path: Path, value: Any) -> None:
    """Write plain values as JSON, which has no number for what is not finite: it is null."""
    write(path, json.dumps(_finite(value)))


def finding_in(folder: Path) -> report.Finding | None:
    """How the learning rate of a run was found, if it was.

    Raises:
        ValueError: The file is damaged.
    """

    def read(found: Any) -> report.Finding:
        sweep = found["sweep"]
        return report.Finding(
            lr=sweep["lr"],
            loss=sweep["loss"],
            fitted=sweep["fitted"],
            suggestion=found["suggestion"],
            interval=None if found["abstained"] else (found["interval"][0], found["interval"][1]),
            reason=found["reason"],
            abstained=found["abstained"],
        )

    return _json(folder / FINDING, read, None)


def findings_in(folder: Path) -> list[Finding]:
    """What went wrong in a run, as it was seen.

    Raises:
        ValueError: The file is damaged.
    """
    return _json(folder / DIAGNOSIS, lambda found: [Finding(**each) for each in found], [])


def story_of(folder: Path) -> Story:
    """What a run's page tells.

    Raises:
        CheckpointError: Nothing was saved yet.
        ValueError: A file is damaged.
    """
    own, run = kept(folder), Records.read(folder)
    rows, settings = run.rows, run.settings
    rates = [name for name in (rows[0] if rows else {}) if name.startswith("lr_")]
    groups = {name: name.removeprefix("lr_").replace("_", " and ") for name in rates}
    planned = _planned(settings, own["total_steps"])
    ratios, times = metrics.read(folder, RATIOS), metrics.read(folder, TIMES)
    took = {row["step"]: row["samples"] / row["seconds"] for row in times if row["seconds"] > 0}
    measured = dict.fromkeys(name for row in rows for name in row if name.startswith(("val_", "loss_")))
    return Story(
        title=folder.name,
        result=f"{run.result} Training took {own['seconds']:.1f} s.",
        diagnoses=tuple((each.message, each.advice) for each in findings_in(folder)),
        settings=settings.shown(),
        resume=f"surefoot train --resume {shlex.quote(str(folder))}",
        finding=finding_in(folder),
        planned=dict.fromkeys(groups.values(), planned) if planned else {},
        step=[row["step"] for row in rows],
        epoch=[row["epoch"] for row in rows],
        loss=[row["loss"] for row in rows],
        lr={shown: [row[name] for row in rows] for name, shown in groups.items()},
        grad_norm=_column(rows, "grad_norm"),
        clip_coef=_column(rows, "clip_coef") if settings.clip_norm else (),
        throughput=[took.get(row["step"]) for row in rows],
        metrics={name: [(row["step"], row[name]) for row in rows if name in row] for name in measured},
        ratios={
            name: [(row["step"], row[name]) for row in ratios if name in row]
            for name in dict.fromkeys(name for row in ratios for name in row if name != "step")
        },
    )


def write_report(folder: Path) -> Path:
    """Write the page of a run; returns its path.

    Raises:
        CheckpointError: Nothing was saved yet.
        OSError: The file cannot be written.
        ValueError: A file is damaged.
    """
    write(folder / REPORT, report.page(story_of(folder)))
    return folder / REPORT


def _json(path: Path, read: Callable[[Any], Read], absent: Read) -> Read:
    """What a file of JSON says."""
    if not path.exists():
        return absent
    try:
        return read(json.loads(path.read_text(encoding="utf-8")))
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged, or of another version of Surefoot ({type(error).__name__}: {error}): delete it to go "
            "on without it"
        ) from error


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _column(rows: list[dict[str, Any]], name: str) -> list[float | None]:
    """One column, None where it was not measured; empty where it never was."""
    values = [row.get(name) for row in rows]
    return values if any(value is not None for value in values) else []


def _planned(settings: Settings, total_steps: int) -> list[float]:
    """The rate of each update by the schedule; none where it is not known before."""
    if settings.lr is None:
        return []
    optimizer = OPTIMIZERS[settings.optimizer]([torch.zeros(1, requires_grad=True)], lr=settings.lr)
    planned = scheduler(optimizer, settings.schedule, settings.lr, total_steps, settings.warmup)
    if not isinstance(planned, Scheduler):
        return []
    (values,) = planned.values(total_steps)["lr"].values()
    return values

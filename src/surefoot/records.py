"""What a run's folder tells without the task: its settings, its rows, its report."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surefoot import checkpoint, metrics, plots, report
from surefoot.checkpoint import CheckpointError
from surefoot.files import write
from surefoot.settings import Settings, read

__all__ = ["CHECKPOINT", "SETTINGS", "Records", "found", "kept", "shown", "write_report"]

CHECKPOINT = "checkpoint.safetensors"
SETTINGS = "settings.toml"


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
        last = self.rows[-1] if self.rows else {}
        if self.settings.steps:
            return f"{last.get('step', 0)}/{self.settings.steps} steps"
        return f"{last.get('epoch', 0)}/{self.settings.epochs} epochs"

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
        return f"On the held-out data: {results}, after {self.progress}."


def held_out(row: dict[str, float]) -> dict[str, float]:
    """What a row has of the held-out data, by name."""
    return {name.removeprefix("val_"): value for name, value in row.items() if name.startswith("val_")}


def shown(name: str, value: float) -> str:
    """A result as it is read: an accuracy in percent.

    Example:
        >>> shown("accuracy", 0.98765), shown("loss", 0.0234567)
        ('98.77%', '0.0235')
    """
    return f"{value:.2%}" if "accuracy" in name else f"{value:.4f}"


def found(folder: Path) -> Iterator[Path]:
    """The folders of runs in a folder."""
    for path in sorted(folder.glob(f"*/{SETTINGS}")):
        yield path.parent


def kept(folder: Path) -> dict[str, Any]:
    """What ``surefoot train`` keeps in the checkpoint beside the run itself: settings, range test, time.

    Raises:
        CheckpointError: There is none, or it is of something else.
    """
    path = folder / CHECKPOINT
    with checkpoint.opened(path) as saved:
        extra = saved.extra.get("extra") if isinstance(saved.extra, dict) else None
    if not isinstance(extra, dict) or not extra.keys() >= {"settings", "lr_range", "seconds"}:
        raise CheckpointError(f"{path} was not written by surefoot train")
    return extra


def write_report(folder: Path) -> list[Path]:
    """Draw the pictures of a run and write its page; returns the run's files.

    Raises:
        CheckpointError: Nothing was saved yet.
        OSError: A file cannot be written.
    """
    import matplotlib.pyplot as plt

    own, records = kept(folder), Records.read(folder)
    rows, settings = records.rows, records.settings
    losses = {row["step"]: row["val_loss"] for row in rows if "val_loss" in row}
    pictures: dict[str, Any] = {"loss": plots.loss([row["loss"] for row in rows], losses)}
    if own["lr_range"] is not None:
        lrs, tried = own["lr_range"]["lr"], own["lr_range"]["loss"]
        pictures["lr_range"] = plots.lr_range(lrs, tried, suggestion=settings.lr)
    names = [name for name in rows[0] if name.startswith("lr_")]
    groups = {name.removeprefix("lr_").replace("_", " and "): [row[name] for row in rows] for name in names}
    pictures["schedule"] = plots.schedule(groups)
    files = []
    for name, axes in pictures.items():
        files.append(folder / f"{name}.png")
        axes.figure.savefig(files[-1])
        plt.close(axes.figure)
    page = report.page(
        title=f"{folder.name}: {settings.task}",
        result=f"{records.result} Training took {own['seconds']:.1f} s.",
        settings=settings.shown(),
        pictures=files,
    )
    write(folder / "report.html", page)
    tables = [folder / name for name in (CHECKPOINT, SETTINGS, "metrics.csv", "metrics.jsonl")]
    return [*tables, *files, folder / "report.html"]

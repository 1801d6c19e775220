"""What is written down of each update of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from surefoot.events import Events
from surefoot.metrics import Metrics, columns_in
from surefoot.record import Record
from surefoot.records import RATIOS, TIMES

__all__ = ["Tables"]


class Tables:
    """The tables in a run's folder: metrics, sizes of updates, times; TensorBoard's events, if they are asked for.

    Args:
        folder: The folder.
        groups: Names of the optimizer's groups.
        weights: Names of the parameters whose updates are measured.
        losses: Losses that have a name.
        held_out: Names of what is measured on the held-out data.
        step: Rows up to this update stay; 0 begins anew.
        every: Updates from one row of sizes to the next.
        events: Write events, too.

    Raises:
        ValueError: A table lacks rows, or is damaged.
        ImportError: The package ``tensorboard`` is not installed.
        OSError: A file cannot be read or written.
    """

    def __init__(
        self,
        folder: Path,
        groups: Sequence[str],
        weights: Sequence[str],
        losses: Iterable[str],
        held_out: Iterable[str],
        step: int,
        every: int,
        events: bool = False,
    ) -> None:
        self._rates = [f"lr_{name}" for name in groups]
        self._weights, self._every = weights, every
        columns = ["step", "epoch", "loss", *(f"loss_{name}" for name in losses if name != "loss")]
        columns += [*self._rates, "grad_norm", "clip_coef", *(f"val_{name}" for name in held_out)]
        before = columns_in(folder) if step else []
        self._metrics = Metrics(folder, before or columns, step)
        self._ratios = Metrics(folder, ["step", *weights], step, RATIOS)
        self._times = Metrics(folder, ["step", "samples", "seconds", "waited"], step, TIMES)
        self._all: list[Metrics | Events] = [self._metrics, self._ratios, self._times]
        self._events = Events(folder, step, self.rows) if events else None
        if self._events is not None:
            self._all.append(self._events)

    @property
    def rows(self) -> list[dict[str, float]]:
        """What is written down of updates and is the same whenever they are made."""
        return self._metrics.rows

    def add(self, record: Record) -> dict[str, float]:
        """Write an update down; returns its row."""
        row = {"step": record.step, "epoch": record.epoch, "loss": record.loss}
        row |= {f"loss_{name}": value for name, value in record.losses.items() if name != "loss"}
        row |= dict(zip(self._rates, record.lr, strict=True))
        known = {"grad_norm": record.grad_norm, "clip_coef": record.clip_coef}
        row |= {name: value for name, value in known.items() if value is not None}
        row |= {f"val_{name}": value for name, value in (record.metrics or {}).items()}
        self._metrics.append(row)
        if self._events is not None:
            self._events.append(row)
        times = {"step": record.step, "samples": record.samples}
        self._times.append({**times, "seconds": record.seconds, "waited": record.waited})
        if record.stats and record.step % self._every == 0:
            norms = {name: record.stats[name] for name in self._weights if name in record.stats}
            sizes = {name: each.update / each.param for name, each in norms.items() if each.param > 0}
            self._ratios.append({"step": record.step, **sizes})
        return row

    def flush(self) -> None:
        """Bring all rows to the disk."""
        for table in self._all:
            table.flush()

    def close(self) -> None:
        """Flush and close all files."""
        for table in self._all:
            table.close()

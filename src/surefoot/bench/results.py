"""What a row of the benchmark says, and how it is kept: a CSV that names the machine."""

from __future__ import annotations

import csv
import io
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import surefoot
from surefoot.files import write

__all__ = ["Result", "machine", "write_csv"]


@dataclass(frozen=True)
class Result:
    """One row: the median seconds of each side for the same work.

    Attributes:
        kind: ``"step"``, ``"clip + step"`` or ``"training step"``.
        shape: Which parameters, or which model.
        optimizer: Which update rule.
        tensors: How many parameters there are.
        parameters: How many numbers they hold.
        rounds: How often all sides took their turn.
        surefoot: Seconds of ours.
        torchs: Seconds of each of torch's variants; ``"default"`` is the one without an argument. Empty if
            torch has no such optimizer.
        traffic: Seconds of a kernel of the same traffic without arithmetic, where memory is the limit.
        traffic_bytes: What that kernel reads and writes.

    Example:
        >>> result = Result("step", "MLP", "AdamW", 4, 9610, 99, 7e-6, {"default": 7e-5, "fused": 3.5e-5})
        >>> result.torch_best, result.ratio("fused"), result.share
        ('fused', 5.0, None)
    """

    kind: str
    shape: str
    optimizer: str
    tensors: int
    parameters: int
    rounds: int
    surefoot: float
    torchs: Mapping[str, float]
    traffic: float | None = None
    traffic_bytes: int | None = None

    @property
    def torch_best(self) -> str | None:
        """The fastest of torch's variants."""
        return min(self.torchs, key=self.torchs.__getitem__, default=None)

    def ratio(self, variant: str | None) -> float | None:
        """How many times as long one of torch's variants takes; None if there is none."""
        seconds = None if variant is None else self.torchs.get(variant)
        return None if seconds is None else seconds / self.surefoot

    @property
    def share(self) -> float | None:
        """Share of the machine's memory bandwidth that our step reaches."""
        return None if self.traffic is None else self.traffic / self.surefoot

    def columns(self) -> dict[str, object]:
        """The row of the CSV: times in microseconds, ratios to ours, empty where there is nothing."""
        best = self.torch_best
        speed = self.traffic and self.traffic_bytes and self.traffic_bytes / self.traffic / 1e9
        return {
            "work": self.kind,
            "shape": self.shape,
            "optimizer": self.optimizer,
            "tensors": self.tensors,
            "parameters": self.parameters,
            "rounds": self.rounds,
            "surefoot_us": _rounded(self.surefoot, 1e6),
            "torch_best": best,
            "torch_best_us": _rounded(self.torchs.get(best or ""), 1e6),
            "torch_default_us": _rounded(self.torchs.get("default"), 1e6),
            "ratio_best": _rounded(self.ratio(best)),
            "ratio_default": _rounded(self.ratio("default")),
            "traffic_us": _rounded(self.traffic, 1e6),
            "machine_gb_per_s": _rounded(speed),
            "bandwidth_share": _rounded(self.share),
        }


def _rounded(value: float | None, unit: float = 1.0) -> str | None:
    """Four digits are more than a time is good for."""
    return None if value is None else f"{float(f'{value * unit:.4g}'):.12g}"


def machine() -> dict[str, str]:
    """Processor, threads and versions, for a column each in a CSV.

    Example:
        >>> list(machine())
        ['processor', 'threads', 'python', 'torch', 'surefoot']
    """
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "surefoot": surefoot.__version__,
    }


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows of the same keys, each with the columns of :func:`machine` beside.

    Raises:
        OSError: It cannot be written; what was at ``path`` is still there.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "speed.csv")
        ...     write_csv(path, [{"shape": "MLP", "us": 7.1}])
        ...     print(path.read_text()[:30])
        shape,us,processor,threads,pyt
    """
    rows = [{**row, **machine()} for row in rows]
    text = io.StringIO()
    table = csv.DictWriter(text, rows[0], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write(path, text.getvalue())

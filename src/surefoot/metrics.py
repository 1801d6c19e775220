"""The tables of a run: a line for each update, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from surefoot import files

__all__ = ["Metrics", "columns_in", "read"]

Row = Mapping[str, float]


class Metrics:
    """``metrics.csv`` and ``metrics.jsonl`` in a folder, which grow by a line at each update.

    After a resume both are, byte for byte, what they would be without it: lines after the step that goes on are cut.

    Args:
        folder: The folder; it must be there.
        columns: Names of all numbers of a row, the first ``step``.
        step: Rows up to this one stay, those after it are cut; 0 begins anew.
        name: Of the files, without what comes after the dot.

    Attributes:
        rows: All rows, each by the names of what was measured.

    Raises:
        ValueError: The file that is there lacks rows before ``step``, or is damaged.
        OSError: A file cannot be read or written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> metrics = Metrics(folder, ["step", "loss", "val_loss"])
        >>> metrics.append({"step": 1, "loss": 0.5})
        >>> metrics.append({"step": 2, "loss": 0.25, "val_loss": 0.3})
        >>> metrics.close()
        >>> print((folder / "metrics.csv").read_text(), end="")
        step,loss,val_loss
        1,0.5,
        2,0.25,0.3
        >>> metrics = Metrics(folder, ["step", "loss", "val_loss"], step=1)
        >>> metrics.rows
        [{'step': 1, 'loss': 0.5}]
        >>> metrics.close()
    """

    def __init__(self, folder: Path, columns: Sequence[str], step: int = 0, name: str = "metrics") -> None:
        self.columns = list(columns)
        self.rows: list[dict[str, float]] = []
        csv_path, json_path = folder / f"{name}.csv", folder / f"{name}.jsonl"
        if step and json_path.exists():
            self.rows = [row for row in read(folder, name) if row["step"] <= step]
            last = self.rows[-1]["step"] if self.rows else 0
            if last < step and name == "metrics":  # the others have no row for each
                raise ValueError(
                    f"{json_path} ends at step {last}, but the checkpoint is of step {step}: put the file back, or "
                    "delete it to go on without its rows"
                )
        files.write(csv_path, ",".join(self.columns) + "\n" + "".join(map(self._csv, self.rows)))
        files.write(json_path, "".join(map(_json, self.rows)))
        self._csv_file = open(csv_path, "a", encoding="utf-8", newline="")  # noqa: SIM115, closed by close
        self._json_file = open(json_path, "a", encoding="utf-8")  # noqa: SIM115

    def append(self, row: Row) -> None:
        """Add a row; it is in the files after :meth:`flush` at the latest."""
        self.rows.append(dict(row))
        self._csv_file.write(self._csv(row))
        self._json_file.write(_json(row))

    def flush(self) -> None:
        """Bring all rows to the disk."""
        for file in (self._csv_file, self._json_file):
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Flush and close the files."""
        for file in (self._csv_file, self._json_file):
            file.close()

    def _csv(self, row: Row) -> str:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow([row.get(name) for name in self.columns])
        return line.getvalue()


def columns_in(folder: Path) -> list[str]:
    """The names of a folder's ``metrics.csv``; none where there is no file."""
    path = folder / "metrics.csv"
    return path.read_text(encoding="utf-8").split("\n", 1)[0].split(",") if path.exists() else []


def read(folder: Path, name: str = "metrics") -> list[dict[str, Any]]:
    """The rows in a folder's ``metrics.jsonl``, or another of that kind, NaN for what was not finite; none where there is no file.

    The last line may be cut short, by a kill or a full disk: it is left out.

    Raises:
        ValueError: Another line is damaged.
    """
    path = folder / f"{name}.jsonl"
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # what comes after the last newline is no line
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            rows.append({name: math.nan if value is None else value for name, value in row.items()})
        except (AttributeError, ValueError) as error:
            raise ValueError(f"{path} is damaged at line {number}: {error}") from error
    return rows


def _json(row: Row) -> str:
    """A line; what JSON has no number for is null."""
    values = {name: value if math.isfinite(value) else None for name, value in row.items()}
    return json.dumps(values) + "\n"

"""A folder of checkpoints."""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from surefoot import archive, checks
from surefoot.archive import CheckpointError
from surefoot.files import remove_leftovers

__all__ = ["CheckpointManager"]


class CheckpointManager:
    """A folder of checkpoints, of which it keeps the last few and the best.

    Args:
        folder: The folder; it is made where it is missing.
        keep: How many of the last to keep, at least 1.
        mode: Whether the best has the smallest metric, ``"min"``, or the largest, ``"max"``.

    Example:
        >>> import tempfile
        >>> from surefoot import checkpoint
        >>> manager = checkpoint.CheckpointManager(tempfile.mkdtemp(), keep=2)
        >>> for step, loss in ((1, 0.5), (2, 0.3), (3, 0.4), (4, 0.6)):
        ...     with manager.new(step, metric=loss) as path:
        ...         checkpoint.save(path, extra={"step": step})
        >>> [path.name for path in manager.paths()], manager.best().name
        (['step-2 metric-0.3.safetensors', 'step-3 metric-0.4.safetensors', 'step-4 metric-0.6.safetensors'], 'step-2 metric-0.3.safetensors')
    """

    NAME = re.compile(r"step-(\d+)(?: metric-(-?[\d.]+(?:e[+-]?\d+)?|-?inf|nan))?\.safetensors")

    def __init__(
        self, folder: str | os.PathLike[str], keep: int = 3, mode: Literal["min", "max"] = "min"
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"mode={mode!r} must be 'min' or 'max'")
        self.folder, self.keep, self.mode = Path(folder), checks.whole("keep", keep, 1), mode
        self.folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def new(self, step: int, metric: float | None = None) -> Iterator[Path]:
        """Where to save in the block; after it older ones are deleted, if it ends without an error.

        Args:
            step: How far the training is.
            metric: What the best is the best of; NaN is never best.
        """
        step = checks.whole("step", step, 0)
        remove_leftovers(self.folder)
        name = f"step-{step}" if metric is None else f"step-{step} metric-{float(metric)!r}"
        path = self.folder / f"{name}.safetensors"
        yield path
        if not path.exists():
            raise FileNotFoundError(f"nothing was saved at {path}: save there in the with block")
        kept = {path, *self.paths()[-self.keep :], *self._scored()[:1]}
        for old in self.paths():
            if old not in kept:
                old.unlink(missing_ok=True)

    def paths(self) -> list[Path]:
        """All of them in the order they were written, which is not that of steps where a training went back."""
        found = []
        for path in self.folder.iterdir():
            if self.NAME.fullmatch(path.name):
                with suppress(FileNotFoundError):  # another process deleted it
                    status = path.stat()
                    found += (
                        [(status.st_mtime_ns, self._read(path)[0], path)]
                        if stat.S_ISREG(status.st_mode)
                        else []
                    )
        return [path for *_, path in sorted(found)]

    def last(self) -> Path | None:
        """The newest that is whole; None where there is none."""
        return next(filter(_is_whole, reversed(self.paths())), None)

    def best(self) -> Path | None:
        """The one of the best metric that is whole; None where none has one."""
        return next(filter(_is_whole, self._scored()), None)

    def _scored(self) -> list[Path]:
        """Those that have a metric, the best first, the later of equals."""
        sign = 1 if self.mode == "min" else -1
        read = [(*self._read(path), i, path) for i, path in enumerate(self.paths())]
        return [
            path for *_, path in sorted((sign * m, -i, path) for _, m, i, path in read if not math.isnan(m))
        ]

    def _read(self, path: Path) -> tuple[int, float]:
        found = self.NAME.fullmatch(path.name)
        assert found is not None
        return int(found[1]), float(found[2] or "nan")


def _is_whole(path: Path) -> bool:
    try:
        with archive.opened(path):
            return True
    except CheckpointError:
        return False

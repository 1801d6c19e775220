"""What TensorBoard shows of a run: its numbers, by the names of its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["Events", "needed"]

Row = Mapping[str, float]


class Events:
    """TensorBoard events in a folder, which grow by the numbers of each row.

    After a resume they go on where the rows do: TensorBoard leaves out what comes after them. Where there are no events yet,
    the rows so far are written first.

    Args:
        folder: The folder; it must be there.
        step: What was written of later updates is left out.
        rows: The rows up to this step.

    Raises:
        ImportError: The package ``tensorboard`` is not installed.
        OSError: A file cannot be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> events = Events(folder)
        >>> events.append({"step": 1, "loss": 0.5})
        >>> events.close()
        >>> len(list(folder.glob("events.out.tfevents.*")))
        1
    """

    def __init__(self, folder: Path, step: int = 0, rows: Sequence[Row] = ()) -> None:
        needed()
        from torch.utils.tensorboard import SummaryWriter  # takes seconds to import

        begun = any(folder.glob("events.out.tfevents.*"))
        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if begun else None)
        for row in () if begun else rows:
            self.append(row)

    def append(self, row: Row) -> None:
        """Add the numbers of a row; they are in the file after :meth:`flush` at the latest."""
        for name, value in row.items():
            if name != "step":
                self._writer.add_scalar(name, value, int(row["step"]))

    def flush(self) -> None:
        """Bring all to the file."""
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the file."""
        self._writer.close()


def needed() -> None:
    """See that TensorBoard's package is there.

    Raises:
        ImportError: It is not.
    """
    from importlib.util import find_spec

    if find_spec("tensorboard") is None:
        raise ImportError("--tensorboard needs tensorboard: pip install 'surefoot[tensorboard]'")

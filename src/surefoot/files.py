"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["remove_leftovers", "replacing", "write"]

BESIDE = ".surefoot-{pid}-{token}.tmp"


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to in the block, which takes the place of ``path`` once it is on the disk.

    A reader finds the old content or the new, never a part, also after a kill at any moment.

    Raises:
        OSError: It cannot be written; what was at ``path`` is still there.
    """
    beside = path.with_name(BESIDE.format(pid=os.getpid(), token=secrets.token_hex(4)))  # this writer's alone
    try:
        with open(beside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):  # it is gone, or cannot be removed for the reason that is raised
            beside.unlink()


def write(path: Path, content: str | bytes) -> None:
    """Write a file by :func:`replacing`."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def remove_leftovers(folder: Path) -> None:
    """Delete what processes have left that were killed while they wrote."""
    for path in folder.glob(BESIDE.format(pid="*", token="*")):
        pid = path.name.split("-")[1]
        if pid.isdigit() and not _runs(int(pid)):
            path.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

"""One process at a time in a folder."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

__all__ = ["Lock", "LockedError"]


class LockedError(RuntimeError):
    """Another process is at work in the folder."""


class Lock:
    """A file in a folder that one process holds until it is released or the process ends, however it ends.

    The system holds the lock, for the process and not for its workers: a file that a killed process has left behind locks
    nothing.

    Args:
        folder: The folder; it must be there.

    Raises:
        LockedError: Another process holds it.
        OSError: The folder cannot be written to.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> lock = Lock(folder)
        >>> [path.name for path in folder.iterdir()]
        ['lock']
        >>> lock.release()
        >>> [*folder.iterdir()]
        []
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        while True:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_there():
                    break
            except OSError as error:
                holder = os.read(self._file, 20).decode()
                os.close(self._file)
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    raise
                raise LockedError(
                    f"{folder} is being trained by process {holder or 'that has just begun'}: wait until it is done, "
                    "or stop it"
                ) from None
            os.close(self._file)  # of one that was deleted by who held it, after we opened it
        try:
            os.ftruncate(self._file, 0)
            os.write(self._file, str(os.getpid()).encode())
        except OSError as error:
            self.release()
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file), os.stat(self.path))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Let others in; the file is deleted."""
        if self._file >= 0:
            self.path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = -1

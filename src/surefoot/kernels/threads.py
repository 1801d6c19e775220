"""Helpers: threads that wait, without Python's lock, for a share of the work of compiled code.

A helper that is late, because others keep its processor busy, is not waited for: the calling thread does it all.
"""

from __future__ import annotations

import ctypes
import os
import threading

from surefoot.kernels.compiled import UNREAD, Call, native

__all__ = ["Job"]

LINE = 8
"""Integers in a cache line: what one thread writes and another reads has a line of its own."""

MOST = 255
"""Helpers there can be."""


class _Pool:
    """The helpers of this process: a fork leaves them behind, and the child makes its own."""

    def __init__(self) -> None:
        self.process, self.helpers, self.jobs = os.getpid(), 0, 0
        self.growing, self.busy = threading.Lock(), threading.Lock()
        self._asleep = (ctypes.c_int64 * (MOST * LINE))()
        self._locks = (ctypes.c_int64 * MOST)()
        self._board = (ctypes.c_int64 * (4 * LINE))()
        board, asleep = ctypes.addressof(self._board), ctypes.addressof(self._asleep)
        release = _address_of("PyThread_release_lock")
        self.start = Call(native("start")[0], [board, asleep, ctypes.addressof(self._locks), release], free=4)
        self.finish = Call(native("finish", holds_lock=False)[0], [board, UNREAD])

    def employ(self, helpers: int) -> None:
        """Have at least so many."""
        allocate = ctypes.pythonapi.PyThread_allocate_lock
        allocate.restype, allocate.argtypes = ctypes.c_void_p, []
        acquire = ctypes.pythonapi.PyThread_acquire_lock
        acquire.restype, acquire.argtypes = ctypes.c_int, [ctypes.c_void_p, ctypes.c_int]
        with self.growing:
            while self.helpers < helpers:
                lock = allocate()
                acquire(lock, 1)  # a helper that asks for it once more sleeps until somebody lets go
                self._locks[self.helpers] = lock
                place = ctypes.addressof(self._asleep) + 8 * LINE * self.helpers
                arguments = [ctypes.addressof(self._board), place, lock, _address_of("PyThread_acquire_lock")]
                forever = Call(native("help_out", holds_lock=False)[0], [*arguments, UNREAD])
                threading.Thread(target=forever, name="surefoot", daemon=True).start()
                self.helpers += 1


def _address_of(name: str) -> int:
    address = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value
    assert address is not None
    return address


_pool: _Pool | None = None


def _ready(helpers: int) -> _Pool:
    global _pool
    if _pool is None or _pool.process != os.getpid():
        _pool = _Pool()
    if _pool.helpers < helpers:
        _pool.employ(helpers)
    return _pool


class Job:
    """A call that helpers make too, at once: it shares out the work itself.

    Args:
        helpers: How many. They need not come, and where others keep them busy they do not.
        call: The call.
    """

    def __init__(self, helpers: int, call: Call) -> None:
        pool = _ready(min(helpers, MOST))
        self._pool = pool if pool.busy.acquire(blocking=False) else None
        self._call = call
        if self._pool is not None:
            self._pool.jobs += 1
            self._pool.start.arguments[4:] = self._pool.jobs, *call.job, min(helpers, MOST)
            self._pool.start()

    def __call__(self) -> None:
        """Make the call here, and wait for those helpers that are still at it."""
        if self._pool is None:
            self._call()
            return
        try:
            self._pool.finish()
        finally:
            self._pool.busy.release()

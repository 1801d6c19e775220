"""Helpers: threads that wait, without Python's lock, for a share of the work of compiled code.

A helper that is late, because others keep its processor busy, is not waited for: the calling thread does it all.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Sequence

import torch

from surefoot.kernels.compiled import UNREAD, Call, native, of_python

__all__ = ["Launch"]

LINE = 8
"""Integers in a cache line: what one thread writes and another reads has a line of its own."""

MOST = 255
"""Helpers there can be."""


class _Pool:
    """The helpers of this process, and the board where they find work."""

    def __init__(self) -> None:
        self.helpers = 0
        self._asleep = (ctypes.c_int64 * (MOST * LINE))()
        self._locks = (ctypes.c_int64 * MOST)()
        self._board = (ctypes.c_int64 * (6 * LINE))()
        board, asleep, locks = map(ctypes.addressof, (self._board, self._asleep, self._locks))
        self.fixed = [board, asleep, locks, *of_python("PyThread_release_lock"), UNREAD]

    def employ(self, helpers: int) -> None:
        """Have at least so many."""
        allocate = ctypes.pythonapi.PyThread_allocate_lock
        allocate.restype, allocate.argtypes = ctypes.c_void_p, []
        acquire = ctypes.pythonapi.PyThread_acquire_lock
        acquire.restype, acquire.argtypes = ctypes.c_int, [ctypes.c_void_p, ctypes.c_int]
        while self.helpers < helpers:
            lock = allocate()
            acquire(lock, 1)  # a helper that asks for it once more sleeps until somebody lets go
            self._locks[self.helpers] = lock
            place = ctypes.addressof(self._asleep) + 8 * LINE * self.helpers
            arguments = [ctypes.addressof(self._board), place, lock, *of_python("PyThread_acquire_lock")]
            forever = Call(native("help_out", holds_lock=False)[0], [*arguments, UNREAD])
            threading.Thread(target=forever, name="surefoot", daemon=True).start()
            self.helpers += 1


# Of each process: a fork leaves the helpers behind, and the child makes its own.
_pools: dict[int, _Pool] = {}
_growing = threading.Lock()


def _ready(helpers: int) -> _Pool:
    pool = _pools.get(os.getpid())
    if pool is not None and pool.helpers >= helpers:
        return pool
    if not _growing.acquire(timeout=1.0):  # this process was forked while another thread had it
        return pool or _Pool()
    try:
        pool = _pools.setdefault(os.getpid(), pool or _Pool())
        pool.employ(helpers)
    finally:
        _growing.release()
    return pool


class Launch:
    """Calls to be made one after the other, each shared out to helpers.

    Args:
        jobs: For each the call, how many helpers it may have at the most, and the address of the number of its
            next batch, or 0.
    """

    def __init__(self, jobs: Sequence[tuple[Call, int, int]]) -> None:
        self._calls, self._helpers = jobs, [min(helpers, MOST) for _, helpers, _ in jobs]
        self._most = max(self._helpers)
        self._jobs = (ctypes.c_int64 * (4 * len(jobs)))()
        for i, (call, _, next_batch) in enumerate(jobs):
            self._jobs[4 * i : 4 * i + 4] = [*call.job, 0, next_batch]
        self._ready_for: tuple[int, int] | None = None

    def __call__(self) -> None:
        """Make the calls. Helpers need not come, and where others keep them busy they do not."""
        helpers = self._most and min(self._most, torch.get_num_threads() - 1)
        if self._ready_for != (os.getpid(), helpers):
            pool = _ready(helpers)
            for i, most in enumerate(self._helpers):
                self._jobs[4 * i + 2] = min(most, helpers, pool.helpers)
            fixed = [*pool.fixed, ctypes.addressof(self._jobs), len(self._helpers)]
            self._launch = Call(native("launch", holds_lock=False)[0], fixed)
            self._ready_for = os.getpid(), helpers
        self._launch()

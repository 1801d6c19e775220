"""Threads that wait for work, for code that runs without Python's lock."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

__all__ = ["together"]

Job = tuple[Callable[[], None], "SimpleQueue[BaseException | None]"]


class _Pool:
    """Helpers of this process: a fork leaves them behind, and the child makes its own."""

    def __init__(self) -> None:
        self.process, self.workers = os.getpid(), 0
        self.lock, self.jobs = threading.Lock(), SimpleQueue[Job]()

    def employ(self, workers: int) -> None:
        with self.lock:
            while self.workers < workers:
                threading.Thread(target=_work, args=(self.jobs,), name="surefoot", daemon=True).start()
                self.workers += 1


_pool = _Pool()


def together(helpers: int, call: Callable[[], None]) -> None:
    """Make a call here and in ``helpers`` other threads at once; it shares out the work itself.

    Raises:
        BaseException: What any of the calls raised.
    """
    global _pool
    if helpers < 1:
        call()
        return
    if _pool.process != os.getpid():
        _pool = _Pool()
    _pool.employ(helpers)
    done: SimpleQueue[BaseException | None] = SimpleQueue()
    for _ in range(helpers):
        _pool.jobs.put((call, done))
    call()
    for error in [done.get() for _ in range(helpers)]:
        if error is not None:
            raise error


def _work(jobs: SimpleQueue[Job]) -> None:
    while True:
        call, done = jobs.get()
        try:
            call()
        except BaseException as error:
            done.put(error)
        else:
            done.put(None)

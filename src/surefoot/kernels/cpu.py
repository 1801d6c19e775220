"""The CPU executor: one compiled kernel over all tensors of a layout, shared out to threads.

The result has the same bits for any number of threads: a chunk's arithmetic does not depend on who does it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from functools import lru_cache, partial
from itertools import pairwise
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.nn import Parameter

from surefoot.kernels import eager
from surefoot.kernels.compiled import Kernel, kernel
from surefoot.kernels.source import SIZES, Layout
from surefoot.kernels.table import Row
from surefoot.rule import Rule

if TYPE_CHECKING:
    import numpy as np

__all__ = ["run"]

CHUNK = 16384
"""Elements of a chunk, the unit that threads share out."""

ALONE = 65536
"""Elements up to which one thread is done before another is awake."""

DTYPES = {getattr(torch, name): name for name in SIZES}


def run(rule: Rule, table: Iterable[Row]) -> None:
    """Update every row of ``table`` in place by ``rule``; what has no kernel goes to the eager executor."""
    lanes: dict[Kernel, list[Row]] = {}
    for row in table:
        layout = _layout(row)
        compiled = None if layout is None else kernel(rule, layout)[0]
        if compiled is None:
            eager.run(rule, [row])
        elif row.param.numel():
            lanes.setdefault(compiled, []).append(row)
    for compiled, rows in lanes.items():
        _launch(compiled, rows)


def _layout(row: Row) -> Layout | None:
    """What the row's kernel is specialised for, or None if it cannot have one."""
    param = row.param
    memory = [param, row.grad, *(b for b in row.buffers if b is not None)]
    if (
        torch.is_grad_enabled()  # differentiable
        or any(isinstance(number, Tensor) for number in row.scalars)  # capturable
        or not all(_plain(tensor) and tensor.shape == param.shape for tensor in memory)
    ):
        return None
    if not all(tensor.is_contiguous() for tensor in memory):
        same = all(tensor.stride() == param.stride() for tensor in memory)
        if not same or not _dense(param):
            return None
    dtypes = [None if b is None else DTYPES[b.dtype] for b in row.buffers]
    used = tuple(number is not None for number in row.scalars)
    return Layout(DTYPES[param.dtype], DTYPES[row.grad.dtype], tuple(dtypes), used)


def _plain(tensor: Tensor) -> bool:
    return (
        type(tensor) in (Tensor, Parameter)
        and tensor.dtype in DTYPES
        and tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and not tensor.is_neg()
        and not tensor.is_inference()  # it has no version to count up
    )


def _dense(tensor: Tensor) -> bool:
    """Whether the elements fill one stretch of memory without gaps or overlaps, in whatever order."""
    step = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1 and stride != step:
            return False
        step *= size
    return True


def _launch(compiled: Kernel, rows: list[Row]) -> None:
    import numpy as np

    memory = [(row.param, row.grad, *(b for b in row.buffers if b is not None)) for row in rows]
    pointers = np.array([[tensor.data_ptr() for tensor in tensors] for tensors in memory], dtype=np.int64)
    numbers = [[row.grad_scale, *(number for number in row.scalars if number is not None)] for row in rows]
    scalars = np.array(numbers, dtype=np.float64)
    chunks, bounds = _shares(tuple(row.param.numel() for row in rows), torch.get_num_threads())
    arguments = (pointers, scalars, np.arange(len(rows)), chunks)
    _pool.run([partial(compiled, *arguments, first, last) for first, last in pairwise(bounds)])
    increment_version([row.param for row in rows])


@lru_cache(maxsize=64)
def _shares(sizes: tuple[int, ...], threads: int) -> tuple[np.ndarray[Any, Any], list[int]]:
    """Chunks ``(row, start, size)`` of all rows, and the first chunk of each thread's share, with the end."""
    import numpy as np

    rows, counts = np.arange(len(sizes)), np.array([-(-size // CHUNK) for size in sizes])
    row = np.repeat(rows, counts)
    start = (np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)) * CHUNK
    size = np.minimum(np.array(sizes)[row] - start, CHUNK)
    total = int(size.sum())
    shares = 1 if total <= ALONE else min(threads, len(row))
    targets = [total * i / shares for i in range(1, shares)]
    inner = np.searchsorted(np.cumsum(size), targets).tolist()
    return np.stack([row, start, size], axis=1).astype(np.int64), [0, *inner, len(row)]


class _Pool:
    """Threads that wait for work; the calling thread does the first share itself."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._process, self._workers = os.getpid(), 0
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[tuple[partial[None], SimpleQueue[BaseException | None]]] = SimpleQueue()

    def run(self, shares: list[partial[None]]) -> None:
        """Run all shares at once; raises what any of them raised."""
        if len(shares) > 1:
            self._employ(len(shares) - 1)
        done: SimpleQueue[BaseException | None] = SimpleQueue()
        for share in shares[1:]:
            self._jobs.put((share, done))
        shares[0]()
        errors = [error for _ in shares[1:] if (error := done.get()) is not None]
        if errors:
            raise errors[0]

    def _employ(self, workers: int) -> None:
        if self._process != os.getpid():  # a fork leaves the threads behind
            self._reset()
        with self._lock:
            while self._workers < workers:
                threading.Thread(target=self._work, args=(self._jobs,), name="surefoot", daemon=True).start()
                self._workers += 1

    @staticmethod
    def _work(jobs: SimpleQueue[tuple[partial[None], SimpleQueue[BaseException | None]]]) -> None:
        while True:
            share, done = jobs.get()
            try:
                share()
            except BaseException as error:
                done.put(error)
            else:
                done.put(None)


_pool = _Pool()

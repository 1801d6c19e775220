"""The least time that memory allows a step: a kernel that moves the same bytes and computes nothing.

Imported only where Numba is.
"""

# mypy: disable-error-code="no-untyped-call, no-untyped-def, misc, attr-defined, call-arg"

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numba import int32, njit
from torch import Tensor

from surefoot.kernels.intrinsics import load_int32, store_int32

__all__ = ["Traffic"]

BYTES = 4  # of a float32


@njit(nogil=True, error_model="numpy")
def _move(size, grad, param, first, second, mask):
    # The mask is 0, which the compiler cannot know: it must read and write all, and nothing changes.
    for i in range(size):
        bits = load_int32(grad, i) & mask
        store_int32(param, i, load_int32(param, i) ^ bits)
        if first is not None:
            store_int32(first, i, load_int32(first, i) ^ bits)
        if second is not None:
            store_int32(second, i, load_int32(second, i) ^ bits)


@njit(nogil=True, error_model="numpy")
def _look(size, grad):
    seen = int32(0)
    for i in range(size):
        seen ^= load_int32(grad, i)
    return seen


@njit(nogil=True, error_model="numpy")
def _share(table, mask, looks):
    """One thread's share, a row ``(size, address of grad, of param, of each buffer)`` for each tensor."""
    seen = int32(0)
    for row in range(table.shape[0] if looks else 0):
        seen ^= _look(table[row, 0], table[row, 1])
    for row in range(table.shape[0]):
        size, grad, param = table[row, 0], table[row, 1], table[row, 2]
        if table.shape[1] == 3:
            _move(size, grad, param, None, None, mask)
        elif table.shape[1] == 4:
            _move(size, grad, param, table[row, 3], None, mask)
        else:
            _move(size, grad, param, table[row, 3], table[row, 4], mask)
    return seen


class Traffic:
    """Reads and writes what a step does, by as many threads as torch has; a call leaves all as it was.

    Args:
        memory: For each parameter, contiguous float32 tensors of its shape: the gradient, which is read, then
            the parameter and at most two buffers, which are read and written.
        looks: Read every gradient once more before, as clipping to a norm does.

    Attributes:
        bytes: Read and written by one call.

    Example:
        >>> import torch
        >>> gradient, weight, momentum = torch.ones(3, 1000)
        >>> traffic = Traffic([(gradient, weight, momentum)])
        >>> traffic()
        >>> traffic.bytes  # 3 reads and 2 writes of 4 bytes for each of the 1000
        20000
    """

    def __init__(self, memory: Sequence[Sequence[Tensor]], *, looks: bool = False) -> None:
        if not 2 <= len(memory[0]) <= 4:
            raise ValueError(f"memory[0] has {len(memory[0])} tensors: pass grad, param and up to 2 buffers")
        threads = torch.get_num_threads()
        self._memory, self._looks = memory, looks  # the addresses are good as long as the tensors live
        self._tables = [self._table(thread, threads) for thread in range(threads)]
        self._pool = ThreadPoolExecutor(threads)
        written = len(memory[0]) - 1
        self.bytes = BYTES * sum(row[0].numel() for row in memory) * (1 + looks + 2 * written)

    def _table(self, thread: int, threads: int) -> np.ndarray:
        rows = []
        for tensors in self._memory:
            start, end = (tensors[0].numel() * share // threads for share in (thread, thread + 1))
            rows.append([end - start, *(tensor.data_ptr() + BYTES * start for tensor in tensors)])
        return np.array(rows, dtype=np.int64)

    def __call__(self, mask: int = 0) -> None:
        """Move all once; a ``mask`` of -1 shows it, by the gradient's bits in all that is written."""
        done = [self._pool.submit(_share, table, np.int32(mask), self._looks) for table in self._tables]
        for share in done:
            share.result()

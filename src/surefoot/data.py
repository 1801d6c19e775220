"""The batches of a pass over the data from any place on."""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Iterator
from copy import copy
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info
from torch.utils.data.dataloader import _DatasetKind

__all__ = ["Feed", "pass_length"]


def pass_length(loader: Any) -> int | None:
    """How many batches a pass has, None where nobody knows.

    Example:
        >>> pass_length([1, 2, 3]), pass_length(iter([1]))
        (3, None)
    """
    try:
        return len(loader)
    except TypeError:  # a DataLoader has __len__, whether its dataset has one or not
        return None


class Feed:
    """A loader whose passes can begin in the middle.

    A map-style ``DataLoader`` draws its order again and reads no data of what it leaves out. Where it has workers, their
    generators are seeded anew for each batch, so that what they draw depends on the batch's number and not on what
    they read before.

    Args:
        loader: What gives batches.

    Example:
        >>> loader = DataLoader(range(6), batch_size=2)
        >>> [batch.tolist() for batch in Feed(loader).batches(1, seed=0)]
        [[2, 3], [4, 5]]
    """

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self._own: Any = loader
        self._order: _Order | None = None
        if isinstance(loader, DataLoader) and loader._dataset_kind == _DatasetKind.Map and _is_plain(loader):
            self._order = _Order(loader._index_sampler, bool(loader.num_workers))
            self._copy()

    def _copy(self) -> None:
        """A copy of the loader, of which the order can be cut; the user's stays as it is, and may change."""
        self._own = copy(self.loader)
        own = vars(self._own)
        own["sampler" if self.loader.batch_sampler is None else "batch_sampler"] = self._order
        own["_iterator"] = None
        if self.loader.num_workers:
            own["dataset"] = _Seeded(self.loader.dataset)
            own["worker_init_fn"] = _Start(self.loader.worker_init_fn)

    @property
    def size(self) -> list[int | None]:
        """How many batches there are in a pass, and samples in a batch, as far as is known."""
        return [pass_length(self.loader), getattr(self.loader, "batch_size", None)]

    @property
    def stateful(self) -> bool:
        """Whether the loader itself can say and take up where it is, as torchdata's can."""
        return hasattr(self.loader, "state_dict") and hasattr(self.loader, "load_state_dict")

    @property
    def promise(self) -> str:
        """What beginning in the middle gives, in words."""
        if self.stateful:
            return "the loader takes up its own state"
        if self._order is not None:
            if self._order.unknown or not getattr(self.loader, "in_order", True):
                what = self._order.unknown or "in_order=False"
                return f"as exact as {what} is: its order is drawn again, and no data is read for it"
            seeded = "; workers are seeded for each batch" if self._own.num_workers else ""
            return f"exact: its order is drawn again, and no data is read for it{seeded}"
        if isinstance(self.loader, list | tuple):
            return "exact: it is a list"
        return (
            "by replay: batches are read again up to there; exact if it gives the same ones each time, and what its "
            "workers draw is no part of them"
        )

    @property
    def unread(self) -> bool:
        """Whether workers that stay from pass to pass are still to be started."""
        return bool(getattr(self._own, "persistent_workers", False)) and self._own._iterator is None

    def start_workers(self) -> None:
        """Start them; that draws a number, as in their first pass."""
        if self._order is not None:
            self._order.begin_at(sys.maxsize, 0)
        iter(self._own)

    def batches(self, start: int, seed: int) -> Iterator[Any]:
        """The batches of a pass from number ``start`` on; all before it are behind when this returns.

        Args:
            start: How many to leave out.
            seed: Of the workers in this pass.

        Raises:
            ValueError: There are fewer than that.
        """
        if self._order is not None:
            if not getattr(self._own, "persistent_workers", False):
                self._copy()
            self._order.begin_at(start, seed)
            batches: Iterator[Any] = iter(self._own)
            self._order.leave_out()
            return batches
        if isinstance(self.loader, list | tuple):
            _check_count(min(start, len(self.loader)), start)
            return iter(list(self.loader[start:]))
        batches = iter(self.loader)
        _check_count(sum(1 for _ in islice(batches, start)), start)
        return batches


class _Order:
    """A sampler from some place on, with a seed for each batch if there are workers."""

    def __init__(self, sampler: Any, seeded: bool) -> None:
        self._sampler, self._seeded = sampler, seeded
        self._start = self._seed = 0
        self._left_out = True
        self._items: Iterator[Any] = iter(())

    @property
    def unknown(self) -> str:
        """A sampler that is not torch's own: it may draw from what nobody else knows of."""
        samplers = [self._sampler, getattr(self._sampler, "sampler", None)]
        kinds = [type(sampler) for sampler in samplers if sampler is not None]
        return next(
            (kind.__name__ for kind in kinds if not kind.__module__.startswith("torch.utils.data")), ""
        )

    def begin_at(self, start: int, seed: int) -> None:
        self._start, self._seed, self._left_out = start, seed, start == 0

    def leave_out(self) -> None:
        """Draw what comes before the start, if nothing was drawn yet."""
        if not self._left_out:
            self._left_out = True
            if self._start == sys.maxsize:
                self._items = iter(())
            else:
                _check_count(sum(1 for _ in islice(self._items, self._start)), self._start)

    def __iter__(self) -> Iterator[Any]:
        self._items = iter(self._sampler)
        return self._numbered()

    def _numbered(self) -> Iterator[Any]:
        number = self._start
        self.leave_out()
        for item in self._items:
            yield (_mixed(self._seed, number), item) if self._seeded else item
            number += 1

    def __len__(self) -> int:
        return len(self._sampler)


class _Start:
    """What a worker does first: its information names the user's dataset, and the user's own function is called."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, worker: int) -> None:
        info: Any = get_worker_info()
        object.__setattr__(info, "dataset", info.dataset.dataset)
        if self.function is not None:
            self.function(worker)


class _Seeded(Dataset[Any]):
    """A dataset in a worker, whose generators are seeded before each batch."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, item: tuple[int, Any]) -> Any:
        seed, index = item
        _seed(seed)
        return self.dataset[index]

    def __getitems__(self, item: tuple[int, list[Any]]) -> Any:
        seed, indices = item
        _seed(seed)
        together = getattr(self.dataset, "__getitems__", None)
        return together(indices) if together else [self.dataset[index] for index in indices]


def _is_plain(loader: DataLoader[Any]) -> bool:
    return type(loader).__iter__ is DataLoader.__iter__ and not hasattr(loader, "load_state_dict")


def _mixed(*numbers: int) -> int:
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest(), "little")


def _seed(seed: int) -> None:
    assert get_worker_info() is not None  # elsewhere generators are the caller's
    random.seed(seed)
    torch.manual_seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)


def _check_count(given: int, asked: int) -> None:
    if given < asked:
        raise ValueError(
            f"loader gave {given} batches, but {asked} of this pass were trained on: resume with "
            "the data and the batch size of the run that was saved"
        )

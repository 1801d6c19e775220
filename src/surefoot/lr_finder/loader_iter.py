"""Batches for a sweep: without end for training, all of them once for validation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

__all__ = ["TrainDataLoaderIter", "ValDataLoaderIter", "batches_of", "draw"]


class TrainDataLoaderIter:
    """Batches of a loader without end; override :meth:`inputs_labels_from_batch` for unusual ones.

    Args:
        data_loader: Any iterable of batches.
        auto_reset: Start again when it is exhausted, instead of stopping.
    """

    def __init__(self, data_loader: Iterable[Any], auto_reset: bool = True) -> None:
        self.data_loader, self.auto_reset = data_loader, auto_reset
        self._iterator = iter(data_loader)

    @property
    def dataset(self) -> Any:
        """That of the loader."""
        return self.data_loader.dataset  # type: ignore[attr-defined]  # as of a DataLoader

    def inputs_labels_from_batch(self, batch_data: Any) -> tuple[Any, Any]:
        """Split a batch into what the model takes and what the criterion compares with.

        Raises:
            ValueError: The batch is not a list or tuple of at least two.
        """
        if not isinstance(batch_data, list | tuple) or len(batch_data) < 2:
            raise ValueError(
                f"a batch is a {type(batch_data).__name__}, not (inputs, labels): pass a subclass of "
                "TrainDataLoaderIter that overrides inputs_labels_from_batch"
            )
        return batch_data[0], batch_data[1]

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self

    def __next__(self) -> tuple[Any, Any]:
        try:
            batch = next(self._iterator)
        except StopIteration:
            if not self.auto_reset:
                raise
            self._iterator = iter(self.data_loader)
            batch = next(self._iterator)
        return self.inputs_labels_from_batch(batch)


class ValDataLoaderIter(TrainDataLoaderIter):
    """All batches of a loader once, from the start for each ``iter()``."""

    def __init__(self, data_loader: Iterable[Any]) -> None:
        super().__init__(data_loader, auto_reset=False)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        self._iterator = iter(self.data_loader)
        return self


def batches_of(name: str, wrap: type[TrainDataLoaderIter], loader: Any) -> Any:
    """The loader as one of these two; itself if it is one.

    Raises:
        TypeError: It is the other, which never ends or ends once, or gives no batches at all.
    """
    wrapped = isinstance(loader, TrainDataLoaderIter)
    if wrapped and isinstance(loader, ValDataLoaderIter) == (wrap is ValDataLoaderIter):
        return loader
    if wrapped or not isinstance(loader, Iterable):
        raise TypeError(
            f"{name} is a {type(loader).__name__}: pass a DataLoader, an iterable of batches, or a {wrap.__name__}"
        )
    return wrap(loader)


def draw(batches: TrainDataLoaderIter, count: int) -> list[tuple[Any, Any]]:
    """The next batches.

    Raises:
        ValueError: There are not so many.
    """
    drawn = list(islice(batches, count))
    if len(drawn) < count:
        raise ValueError(
            "train_loader gave no batch: its dataset is empty or smaller than a batch with drop_last=True, or it "
            "cannot be read a second time; lower num_iter or pass a DataLoader"
        )
    return drawn

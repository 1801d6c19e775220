"""Passes over data that begin in the middle."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    WeightedRandomSampler,
)
from trainings import Augmented, bits, seed

from surefoot.data import Feed


class Counted(Dataset):
    """Says what was read."""

    def __init__(self):
        self.read = []

    def __len__(self):
        return 12

    def __getitem__(self, index):
        self.read.append(index)
        return index


class Together(Counted):
    def __getitems__(self, indices):
        return [100 + self[index] for index in indices]


def settings(data):
    return {
        "in order": {"batch_size": 2},
        "shuffled": {"batch_size": 2, "shuffle": True},
        "its own generator": {
            "batch_size": 5,
            "shuffle": True,
            "generator": torch.Generator().manual_seed(1),
        },
        "the last dropped": {"batch_size": 5, "shuffle": True, "drop_last": True},
        "single": {"batch_size": None, "shuffle": True},
        "weighted": {"batch_size": 2, "sampler": WeightedRandomSampler([1.0, 2.0] * 6, 12)},
        "a batch sampler": {"batch_sampler": BatchSampler(RandomSampler(data, replacement=True), 4, False)},
    }


@pytest.mark.parametrize("kind", [Counted, Together])
@pytest.mark.parametrize("name", settings(Counted()))
def test_the_rest_of_a_pass_reads_the_rest_of_the_data(kind, name):
    def build():
        data = kind()
        return data, DataLoader(data, **settings(data)[name])

    seed()
    _, loader = build()
    whole = [bits(batch) for batch in loader]
    for start in range(len(whole) + 1):
        seed()
        data, loader = build()
        rest = list(Feed(loader).batches(start, 0))
        assert [bits(batch) for batch in rest] == whole[start:]
        assert len(data.read) == sum(torch.as_tensor(batch).numel() for batch in rest)
        with pytest.raises(ValueError, match=rf"loader gave {len(whole)} batches, but 99 of this pass"):
            list(Feed(loader).batches(99, 0))
        assert "dataset" in vars(loader)  # the loader stays as it is
        assert loader.dataset is data


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("persistent", [False, True])
def test_what_workers_draw_depends_on_the_pass_and_the_batch_alone(persistent):
    def drawn(workers, start, number):
        torch.manual_seed(3)
        stays = {"persistent_workers": persistent} if workers else {}
        loader = DataLoader(Augmented(), batch_size=8, shuffle=True, num_workers=workers, **stays)
        feed = Feed(loader)
        if feed.unread:
            feed.start_workers()
            torch.manual_seed(3)
            torch.empty((), dtype=torch.int64).random_()
        return [bits(batch) for batch in feed.batches(start, number)]

    whole = drawn(1, 0, 7)
    assert drawn(2, 0, 7) == whole
    assert drawn(2, 3, 7) == whole[3:]
    other = drawn(1, 0, 8)
    assert not any(mine == theirs for mine, theirs in zip(whole, other, strict=True))


def start_up(number):
    info = torch.utils.data.get_worker_info()
    assert isinstance(info.dataset, Marked)
    info.dataset.mark = info.dataset.clean is not None


class Marked(Augmented):
    mark = False

    def __getitem__(self, index):
        return self.mark


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_worker_finds_the_users_dataset():
    feed = Feed(DataLoader(Marked(), batch_size=20, num_workers=1, worker_init_fn=start_up))
    assert all(batch.all() for batch in feed.batches(0, 0))
    assert (
        pickle.loads(pickle.dumps(feed._own.dataset)).dataset.clean is not None
    )  # as to a worker that is spawned


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(6))


class Stateful:
    """As torchdata's StatefulDataLoader."""

    def __init__(self):
        self.at = 0

    def __iter__(self):
        while self.at < 6:
            self.at += 1
            yield self.at - 1
        self.at = 0

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


class Own(torch.utils.data.Sampler):
    """Draws from a generator of its own, in a sampler in it."""

    def __init__(self):
        self.inner = RandomSampler(range(12), generator=torch.Generator().manual_seed(3))

    def __iter__(self):
        return iter(self.inner)

    def __len__(self):
        return 12


def test_the_loader_may_change_between_passes():
    loader = DataLoader(range(4), batch_size=2)
    feed = Feed(loader)
    assert len(list(feed.batches(0, 0))) == 2
    loader.collate_fn = lambda batch: "mine"
    assert list(feed.batches(1, 0)) == ["mine"]


@pytest.mark.parametrize(
    ("loader", "promise"),
    [
        (DataLoader(range(6)), "exact: its order is drawn again, and no data is read for it"),
        (DataLoader(range(6), num_workers=1), "exact: .*; workers are seeded for each batch"),
        (DataLoader(range(12), sampler=Own()), "as exact as Own is: its order is drawn again"),
        (DataLoader(Stream()), "by replay: batches are read again up to there; exact if"),
        ([1, 2], "exact: it is a list"),
        (np.arange(6), "by replay"),
        (Stateful(), "the loader takes up its own state"),
    ],
)
def test_what_can_be_promised_is_said(loader, promise):
    assert promise.split(":")[0] in Feed(loader).promise
    assert re.match(promise, Feed(loader).promise)
    if (
        not isinstance(loader, Stateful)
        and "as exact" not in promise
        and not getattr(loader, "num_workers", 0)
    ):
        whole = [bits(batch) for batch in Feed(loader).batches(0, 0)]
        assert [bits(batch) for batch in Feed(loader).batches(1, 0)] == whole[1:]

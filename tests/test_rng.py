import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, WeightedRandomSampler
from trainings import dataset, generators, loader, seed

from surefoot import archive, rng

DRAWS = {
    "random": random.random,
    "gauss": lambda: random.gauss(0, 1),  # made in pairs: the second one is kept
    "numpy": np.random.rand,
    "numpy normal": np.random.standard_normal,  # in pairs too
    "torch": lambda: torch.rand(3).tolist(),
    "torch normal": lambda: torch.randn(20).tolist(),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("before", [0, 1])
def test_every_global_generator_draws_the_same_again(draw: Any, before: int) -> None:
    for _ in range(before):
        draw()
    state = rng.get_state()
    first = [draw() for _ in range(5)]
    rng.set_state(state)
    assert [draw() for _ in range(5)] == first


def test_reading_changes_nothing_and_what_was_read_does_not_change() -> None:
    batches = loader()
    before = generators(batches)
    state = rng.get_state(batches)
    assert generators(batches) == before
    next(iter(batches))
    seed(5)
    rng.set_state(state, batches)
    assert generators(batches) == before
    rng.set_state(state, batches)
    assert generators(batches) == before


LOADERS = {
    "the loader's": lambda g: loader(generator=g),
    "its sampler's": lambda g: DataLoader(
        dataset(), batch_size=8, sampler=RandomSampler(range(40), generator=g)
    ),
    "a weighted sampler's": lambda g: DataLoader(
        dataset(), batch_size=8, sampler=WeightedRandomSampler([1.0] * 40, 40, generator=g)
    ),
    "its batch sampler's": lambda g: DataLoader(
        dataset(), batch_sampler=BatchSampler(RandomSampler(range(40), generator=g), 8, False)
    ),
}


@pytest.mark.parametrize("build", LOADERS.values(), ids=LOADERS)
def test_a_generator_is_found_wherever_a_loader_has_it(build: Any) -> None:
    batches = build(torch.Generator().manual_seed(3))
    state = rng.get_state(batches)
    assert [len(states) for states in state["loaders"]] == [1]
    first = [labels.tolist() for _, labels in batches]
    assert [labels.tolist() for _, labels in batches] != first
    rng.set_state(state, batches)
    assert [labels.tolist() for _, labels in batches] == first


def test_two_generators_of_one_loader_both_count() -> None:
    own, sampling = (torch.Generator().manual_seed(i) for i in (1, 2))
    batches = DataLoader(dataset(), sampler=RandomSampler(range(40), generator=sampling), generator=own)
    state = rng.get_state(batches)
    first = [torch.rand(1, generator=g).item() for g in (own, sampling)]
    rng.set_state(state, batches)
    assert [torch.rand(1, generator=g).item() for g in (own, sampling)] == first


class NumpyShuffled:
    """An iterable whose ``generator`` is not one of torch's."""

    generator = np.random.default_rng(0)

    def __iter__(self) -> Any:
        return iter([1, 2])


@pytest.mark.parametrize(
    "batches", [None, [1, 2], iter([1]), NumpyShuffled()], ids=["None", "list", "iterator", "own"]
)
def test_any_iterable_will_do(batches: Any) -> None:
    state = rng.get_state(batches)
    assert state["loaders"] == [[]]
    rng.set_state(state, batches)


def test_other_loaders_are_an_error_that_changes_nothing() -> None:
    state = rng.get_state(loader())
    seed(7)
    before = generators()
    with pytest.raises(ValueError, match=r"loaders of \[1\] generators, these have \[0\].*same loaders"):
        rng.set_state(state, [1, 2])
    with pytest.raises(ValueError, match=r"\[1\] generators, these have \[\]"):
        rng.set_state(state)
    assert generators() == before


def test_a_program_without_numpy_is_not_made_to_load_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "numpy")
    state = rng.get_state()
    assert "numpy" not in state
    rng.set_state(state)
    assert "numpy" not in sys.modules


def test_the_state_is_data_that_a_checkpoint_can_keep(tmp_path: Path) -> None:
    batches = loader()
    random.gauss(0, 1)
    archive.save(tmp_path / "rng", rng.get_state(batches))
    before = generators(batches)
    seed(9)
    next(iter(batches))
    rng.set_state(archive.load(tmp_path / "rng"), batches)
    assert generators(batches) == before
    plain = {name: value for name, value in rng.get_state().items() if name in ("python", "numpy")}
    assert json.loads(json.dumps(plain)) == plain

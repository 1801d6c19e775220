import gc
import os
import pickle
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from trainings import bits, net

import surefoot as optim
from surefoot import StateCacher

PLACES = pytest.mark.parametrize("in_memory", [True, False], ids=["memory", "file"])


def state() -> dict[str, Any]:
    model = net()
    optimizer = optim.Adam(model.parameters(), lr=torch.tensor(1e-3))
    model(torch.randn(8, 6)).sum().backward()
    optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


@PLACES
def test_what_comes_back_is_what_was_stored_each_time(in_memory: bool, tmp_path: Path) -> None:
    cacher, kept = StateCacher(in_memory, tmp_path), state()
    expected = bits(kept)
    cacher.store("all", kept)
    cacher.store("other", {"a": 1})
    for tensor in kept["model"].values():
        tensor.zero_()
    first = cacher.retrieve("all")
    assert bits(first) == expected
    for tensor in first["model"].values():
        tensor.zero_()
    assert bits(cacher.retrieve("all")) == expected
    assert cacher.retrieve("other") == {"a": 1}


@PLACES
def test_a_state_takes_the_place_of_that_of_the_same_name(in_memory: bool, tmp_path: Path) -> None:
    cacher = StateCacher(in_memory, cache_dir=tmp_path)
    cacher.store("a", 1)
    cacher.store("a", 2)
    assert cacher.retrieve("a") == 2
    assert len(list(tmp_path.iterdir())) == (not in_memory)


def test_files_are_their_owners_and_go_with_it(tmp_path: Path) -> None:
    cacher = StateCacher(False, tmp_path)
    cacher.store("a/../b", {"a": 1})  # whatever the name is, the file is in the folder
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    del cacher
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_a_file_runs_no_code(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "made"),)

    cacher = StateCacher(False, tmp_path)
    cacher.store("a", Code())
    with pytest.raises(pickle.UnpicklingError):
        cacher.retrieve("a")
    assert not (tmp_path / "made").exists()


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cache_dir='/no/such' is not a folder"):
        StateCacher(False, "/no/such")
    cacher = StateCacher(False, tmp_path)
    with pytest.raises(KeyError, match="Target 'model' was not cached"):
        cacher.retrieve("model")
    cacher.store("model", 1)
    next(tmp_path.iterdir()).unlink()
    with pytest.raises(RuntimeError, match=r"Failed to load state in .*File doesn't exist anymore"):
        cacher.retrieve("model")

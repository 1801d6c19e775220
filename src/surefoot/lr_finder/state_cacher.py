"""States kept aside, in memory or on disk, by torch-lr-finder's name for that."""

from __future__ import annotations

import os
import tempfile
import weakref
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

__all__ = ["StateCacher"]


class StateCacher:
    """Keeps states by name until it is gone itself; with torch-lr-finder's interface.

    A file is its owner's alone, is replaced whole, and is read without running any code that it may hold. What is
    retrieved is a copy each time.

    Args:
        in_memory: Keep copies in memory, or else in files.
        cache_dir: Folder of the files; the system's temporary folder if None.

    Raises:
        ValueError: ``cache_dir`` is not a folder.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> cacher = StateCacher(in_memory=False)
        >>> cacher.store("model", model.state_dict())
        >>> before = torch.nn.init.zeros_(model.weight).clone()
        >>> _ = model.load_state_dict(cacher.retrieve("model"))
        >>> torch.equal(model.weight, before)
        False
    """

    def __init__(self, in_memory: bool, cache_dir: str | os.PathLike[str] | None = None) -> None:
        if cache_dir is not None and not os.path.isdir(cache_dir):
            raise ValueError(f"cache_dir={str(cache_dir)!r} is not a folder: create it, or leave it out")
        self.in_memory = in_memory
        self.cache_dir = tempfile.gettempdir() if cache_dir is None else cache_dir
        self.cached: dict[str, Any] = {}

    def store(self, key: str, state_dict: Any) -> None:
        """Keep a state, in the place of what has this name already.

        Args:
            key: Its name.
            state_dict: A tree of tensors and plain values.
        """
        if self.in_memory:
            self.cached[key] = deepcopy(state_dict)
            return
        handle, name = tempfile.mkstemp(prefix="surefoot-", suffix=".pt", dir=self.cache_dir)
        path = Path(name)
        weakref.finalize(self, path.unlink, missing_ok=True)
        with open(handle, "wb") as file:
            torch.save(state_dict, file)
        if key in self.cached:
            self.cached[key].unlink(missing_ok=True)
        self.cached[key] = path

    def retrieve(self, key: str) -> Any:
        """A copy of what was stored; from a file, on the CPU.

        Raises:
            KeyError: Nothing was stored by this name.
            RuntimeError: Its file is gone.
            pickle.UnpicklingError: It is in a file, and holds something else than tensors and plain values.
        """
        if key not in self.cached:
            raise KeyError(f"Target {key!r} was not cached: store it before")
        if self.in_memory:
            return deepcopy(self.cached[key])
        try:
            return torch.load(self.cached[key], map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise RuntimeError(
                f"Failed to load state in {self.cached[key]}. File doesn't exist anymore: store {key!r} again"
            ) from None

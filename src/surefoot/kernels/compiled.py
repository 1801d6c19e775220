"""Kernels compiled from rules: written to a cache of the user's, compiled by Numba once, read back later."""

from __future__ import annotations

import atexit
import hashlib
import importlib.util
import os
import shutil
import stat
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from surefoot.files import write_text
from surefoot.kernels.source import Layout, UnsupportedRuleError, kernel_source
from surefoot.rule import Rule

__all__ = ["Kernel", "kernel"]

Kernel = Callable[..., None]
"""``kernel(pointers, scalars, which, chunks, first, last)``; see :func:`~surefoot.kernels.source.kernel_source`."""


@cache
def kernel(rule: Rule, layout: Layout) -> tuple[Kernel | None, str]:
    """The kernel of a rule for one layout; or None, with the reason why there is none.

    A compiler or a disk that fails is warned about once.
    """
    try:
        import numba
    except ImportError:
        return None, "Numba is not installed"
    try:
        source = kernel_source(rule, layout)
    except UnsupportedRuleError as error:
        return None, f"rule {rule.update.__name__!r} cannot be compiled: {error}"
    try:
        return _compiled(source, numba.__version__), ""
    except Exception as error:  # whatever it is, the eager executor carries on
        reason = f"rule {rule.update.__name__!r} could not be compiled ({type(error).__name__}: {error})"
        warnings.warn(f"{reason}; the eager executor carries on", RuntimeWarning, stacklevel=2)
        return None, reason


def _compiled(source: str, numba_version: str) -> Kernel:
    intrinsics = Path(__file__).with_name("intrinsics.py").read_bytes()
    digest = hashlib.sha256(
        b"\0".join([source.encode(), intrinsics, numba_version.encode(), sys.version.encode()])
    )
    path = _folder() / f"surefoot_kernel_{digest.hexdigest()[:16]}.py"
    _write(path, source)
    try:
        return _load(path)
    except Exception:  # a damaged file, Numba's or ours: make everything of this kernel again
        for stale in path.parent.glob(f"**/{path.stem}*"):
            stale.unlink(missing_ok=True)
        _write(path, source)
        return _load(path)


def _write(path: Path, source: str) -> None:
    if not path.is_file() or path.read_bytes() != source.encode():
        write_text(path, source)


def _load(path: Path) -> Kernel:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # Numba looks it up by its name
    spec.loader.exec_module(module)
    run: Kernel = module.run
    integers = torch.zeros((0, 3), dtype=torch.int64).numpy()
    # No chunks: this compiles, or reads what was compiled, for the types of every later call.
    run(integers, integers.astype("float64"), integers.reshape(0), integers, 0, 0)
    return run


@cache
def _folder() -> Path:
    """A folder of this user's alone: ``$SUREFOOT_CACHE``, or one in the user's cache, or one of this process."""
    try:
        named, xdg = os.environ.get("SUREFOOT_CACHE"), os.environ.get("XDG_CACHE_HOME")
        user = Path(xdg) if xdg and os.path.isabs(xdg) else Path.home() / ".cache"
        folder = Path(named) if named else user / "surefoot" / "kernels"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise PermissionError(f"{folder} can be written by others: its mode must be 0700")
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"room?")
    except (OSError, RuntimeError) as error:
        warnings.warn(
            f"compiled kernels cannot be kept ({error}), so every process compiles them again: set "
            "SUREFOOT_CACHE to a folder of your own",
            RuntimeWarning,
            stacklevel=2,
        )
        folder = Path(tempfile.mkdtemp(prefix="surefoot-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder

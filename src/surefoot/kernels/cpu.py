"""The CPU executor: generated kernels, kept on disk, run by a small pool of threads."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import stat
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch

from surefoot.kernels.source import Layout, UnsupportedRuleError, kernel_source
from surefoot.rule import Rule

__all__ = ["CHUNK", "kernel", "launch"]

CHUNK = 16384
"""Elements of a chunk, the unit that threads share out."""

ALONE = 65536
"""Elements up to which one thread is faster than waking others."""

Kernel = Callable[..., None]


@cache
def kernel(rule: Rule, layout: Layout) -> tuple[Kernel | None, str]:
    """The compiled kernel of a rule for one layout, or None with the reason why there is none."""
    try:
        import numba
    except ImportError:
        return None, "Numba is not installed"
    try:
        source = kernel_source(rule, layout)
    except UnsupportedRuleError as error:
        return None, f"rule {rule.update.__name__} has no kernel: {error}"
    try:
        return _compiled(source, numba.__version__), ""
    except Exception as error:  # whatever a compiler or a disk may do, the eager executor carries on
        reason = f"its kernel could not be compiled ({type(error).__name__}: {error})"
        warnings.warn(f"{reason}; the eager executor carries on", RuntimeWarning, stacklevel=2)
        return None, reason


def _compiled(source: str, numba_version: str) -> Kernel:
    """Write the source to the cache, import it and have its kernel compiled or read from there."""
    intrinsics = Path(__file__).with_name("intrinsics.py").read_bytes()
    digest = hashlib.sha256(source.encode() + intrinsics + numba_version.encode() + sys.version.encode())
    name = f"surefoot_kernel_{digest.hexdigest()[:16]}"
    for attempt in ("kept", "anew"):
        path = _cache_folder() / f"{name}.py"
        if attempt == "anew":  # a damaged file of Numba's: make everything of this kernel again
            for stale in path.parent.glob(f"**/{name}*"):
                stale.unlink(missing_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != source:
            beside = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.tmp")
            beside.write_text(source, encoding="utf-8")
            os.replace(beside, path)
        try:
            return _load(name, path)
        except Exception:
            if attempt == "anew":
                raise
    raise AssertionError


def _load(name: str, path: Path) -> Kernel:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Numba looks it up by name
    spec.loader.exec_module(module)
    run: Kernel = module.run
    empty = torch.zeros((0, 0), dtype=torch.int64).numpy()
    # No chunks: compiles, or reads what was compiled, for the types of every later call.
    run(empty, empty.astype("float64"), empty.reshape(0), empty, 0, 0)
    return run


@cache
def _cache_folder() -> Path:
    """A folder of this user's alone: ``SUREFOOT_CACHE``, or under the user's cache; else one of this process."""
    named = os.environ.get("SUREFOOT_CACHE")
    try:
        folder = Path(named) if named else _user_cache() / "surefoot" / "kernels"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        if hasattr(os, "getuid") and status.st_uid != os.getuid():
            raise PermissionError(f"{folder} belongs to another user")
        if stat.S_IMODE(status.st_mode) & 0o077:
            folder.chmod(0o700)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError) as error:
        warnings.warn(f"no cache for compiled kernels ({error}): they are compiled again in every process. "
                      "Set SUREFOOT_CACHE to a folder that can be written.", RuntimeWarning, stacklevel=2)
        folder = Path(tempfile.mkdtemp(prefix="surefoot-"))
        import atexit

        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder


def _user_cache() -> Path:
    xdg = os.environ.get("XDG_CACHE_HOME")
    return Path(xdg) if xdg and os.path.isabs(xdg) else Path.home() / ".cache"


class _Pool:
    """Threads that wait for work; the calling thread does its share itself."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.workers = 0
        self.jobs: SimpleQueue[tuple[Callable[[], None], SimpleQueue[BaseException | None]]] = SimpleQueue()

    def run(self, jobs: list[Callable[[], None]]) -> None:
        while self.workers < len(jobs) - 1:
            threading.Thread(target=self._work, name="surefoot", daemon=True).start()
            self.workers += 1
        done: SimpleQueue[BaseException | None] = SimpleQueue()
        for job in jobs[1:]:
            self.jobs.put((job, done))
        jobs[0]()
        errors = [done.get() for _ in jobs[1:]]
        for error in errors:
            if error is not None:
                raise error

    def _work(self) -> None:
        while True:
            job, done = self.jobs.get()
            error: BaseException | None = None
            try:
                job()
            except BaseException as caught:
                error = caught
            done.put(error)


_pool = _Pool()


def launch(run: Kernel, arguments: tuple[Any, ...], bounds: list[int]) -> None:
    """Run a kernel over ranges of chunks: ``bounds[i]`` to ``bounds[i + 1]`` on thread ``i``."""
    global _pool
    if len(bounds) == 2:
        run(*arguments, *bounds)
        return
    if _pool.process != os.getpid():  # a fork leaves the threads behind
        _pool = _Pool()
    _pool.run([partial(run, *arguments, first, last) for first, last in pairwise(bounds)])

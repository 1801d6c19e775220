"""The cache of compiled kernels, and what goes wrong with disks and compilers."""

import os
import subprocess
import sys
import warnings
from importlib import metadata
from pathlib import Path

import pytest
import torch
from small import descend, optimizer_of, stepped

from surefoot.kernels import Layout, compiled

PLAIN = Layout("float32", "float32", (), (True,))
MOVED = torch.full((3,), 0.95)


def forget():
    cached_functions = (compiled.kernel, compiled.squares, compiled.native, compiled._folder)
    for cached in (*cached_functions, compiled._warn_of, compiled._warn_that):
        cached.cache_clear()


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """Nothing compiled or decided yet in this process, and an empty cache."""
    forget()
    monkeypatch.setenv("SUREFOOT_CACHE", str(tmp_path / "kernels"))
    yield monkeypatch
    forget()


def test_without_numba_eager_carries_on(fresh):
    fresh.setitem(sys.modules, "numba", None)
    optimizer = optimizer_of(descend)
    with pytest.warns(RuntimeWarning, match="numba is not installed; the eager executor carries on"):
        torch.testing.assert_close(stepped(optimizer), MOVED)
    assert "eager: 1 tensor (numba is not installed)" in repr(optimizer)


def test_numba_is_not_there_at_all(fresh):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    fresh.setattr(metadata, "version", missing)
    with pytest.warns(RuntimeWarning, match="numba is not installed"):
        assert compiled.kernel(descend, PLAIN) == (None, "numba is not installed")


def test_a_compiler_that_fails_is_warned_about_once(fresh):
    def fails(*arguments):
        raise OSError("no space left on device")

    fresh.setattr(compiled, "_machine_code", fails)
    optimizer = optimizer_of(descend)
    with pytest.warns(
        RuntimeWarning, match=r"'descend' could not be compiled \(OSError: no space left.*carries on"
    ):
        torch.testing.assert_close(stepped(optimizer), MOVED)
    optimizer.step()


def test_a_kernel_is_loaded_without_numba(fresh, tmp_path):
    code = (
        "import sys, torch, surefoot; p = torch.ones(3, requires_grad=True); p.grad = torch.ones(3); "
        "optimizer = surefoot.SGD([p], lr=0.5); optimizer.step(); assert p.tolist() == [0.5] * 3; "
        "assert 'cpu: 1 tensor' in repr(optimizer); sys.exit('numba' in sys.modules)"
    )
    runs = [subprocess.run([sys.executable, "-W", "error", "-c", code]).returncode for _ in range(2)]
    assert runs == [1, 0]


def test_the_cache_is_the_users_alone(fresh, tmp_path):
    assert compiled.kernel(descend, PLAIN)[0] is not None
    assert (tmp_path / "kernels").stat().st_mode & 0o777 == 0o700
    assert len(list((tmp_path / "kernels").glob("run-*.o"))) == 1


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o755])
def test_a_folder_that_is_open_to_others_is_not_trusted(fresh, tmp_path, mode):
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels").chmod(mode)
    with pytest.warns(RuntimeWarning, match="is open to others: its mode must be 0700"):
        assert compiled.kernel(descend, PLAIN)[0] is not None
    assert list((tmp_path / "kernels").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_done_without(fresh, tmp_path):
    (tmp_path / "file").write_text("in the way")
    fresh.setenv("SUREFOOT_CACHE", str(tmp_path / "file" / "kernels"))
    with pytest.warns(RuntimeWarning, match="compiled kernels cannot be kept"):
        torch.testing.assert_close(stepped(optimizer_of(descend)), MOVED)


def test_a_disk_that_is_full_is_warned_about_and_the_kernel_runs(fresh):
    def full(*arguments):
        raise OSError("no space left on device")

    compiled.native("gather")
    fresh.setattr(compiled, "write", full)
    optimizer = optimizer_of(descend)
    with pytest.warns(RuntimeWarning, match=r"cannot be kept \(no space left on device\)"):
        torch.testing.assert_close(stepped(optimizer), MOVED)
    assert "cpu: 1 tensor" in repr(optimizer)


def test_without_a_home_there_are_kernels_all_the_same(fresh):
    for name in ("HOME", "XDG_CACHE_HOME", "SUREFOOT_CACHE"):
        fresh.delenv(name, raising=False)

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    fresh.setattr(Path, "home", homeless)
    with pytest.warns(RuntimeWarning, match="Could not determine home"):
        assert compiled.kernel(descend, PLAIN)[0] is not None


@pytest.mark.parametrize("damage", ["empty", "cut", "a bit", "text", "another kernel's"])
def test_a_damaged_or_foreign_file_of_the_cache_is_made_again(fresh, tmp_path, damage):
    compiled.kernel(descend, PLAIN)
    (mine,) = (tmp_path / "kernels").iterdir()
    compiled.squares("float32")
    (other,) = {*(tmp_path / "kernels").iterdir()} - {mine}
    good = mine.read_bytes()
    flipped = bytes([good[100] ^ 1])
    mine.write_bytes(
        {
            "empty": b"",
            "cut": good[:-1],
            "a bit": good[:100] + flipped + good[101:],
            "text": b"not what it was",
            "another kernel's": other.read_bytes(),
        }[damage]
    )
    forget()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(stepped(optimizer_of(descend)), MOVED)
    forget()
    fresh.setitem(sys.modules, "numba", None)  # it is good again, so it is not compiled
    assert compiled.kernel(descend, PLAIN)[0] is not None


def test_two_processes_may_compile_at_once(fresh):
    code = (
        "import torch, surefoot; p = torch.ones(3, requires_grad=True); p.grad = torch.ones(3); "
        "surefoot.SGD([p], lr=0.5).step(); assert p.tolist() == [0.5] * 3"
    )
    children = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", code], env=os.environ) for _ in range(3)
    ]
    assert [child.wait() for child in children] == [0, 0, 0]

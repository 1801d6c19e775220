import errno
import os
import signal

import pytest

from surefoot.lock import Lock, LockedError


def test_one_process_at_a_time(tmp_path):
    lock = Lock(tmp_path)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            Lock(tmp_path)
        except LockedError as error:
            os.write(write, str(error).encode())
        os._exit(0)
    os.waitpid(child, 0)
    said = os.read(read, 1000).decode()
    os.close(read)
    os.close(write)
    assert said == f"{tmp_path} is being trained by process {os.getpid()}: wait until it is done, or stop it"
    lock.release()
    lock.release()  # a second time is nothing
    Lock(tmp_path).release()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_holds_nothing_though_its_worker_lives(tmp_path):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        Lock(tmp_path)
        worker = os.fork()
        if worker == 0:
            signal.pause()
        os.write(write, str(worker).encode())
        signal.pause()
    worker = int(os.read(read, 20))
    with pytest.raises(LockedError, match=f"by process {child}:"):
        Lock(tmp_path)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert (tmp_path / "lock").read_text() == str(child)
    lock = Lock(tmp_path)
    assert (tmp_path / "lock").read_text() == str(os.getpid())
    lock.release()
    os.kill(worker, signal.SIGKILL)
    os.close(read)
    os.close(write)


def test_a_file_that_its_holder_deletes_while_we_open_it_is_no_lock(tmp_path, monkeypatch):
    real, opened = os.open, []

    def slow(path, *arguments):
        file = real(path, *arguments)
        if not opened:
            os.unlink(path)  # the holder lets go between our opening and our locking
        opened.append(file)
        return file

    monkeypatch.setattr(os, "open", slow)
    lock = Lock(tmp_path)
    assert len(opened) == 2
    assert (tmp_path / "lock").exists()
    lock.release()


def test_a_disk_that_is_full_leaves_no_lock(tmp_path, monkeypatch):
    def full(file, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*lock'"):
        Lock(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Lock(tmp_path / "nowhere")

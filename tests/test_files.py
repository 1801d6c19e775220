import os

import pytest

from surefoot.files import remove_leftovers, write


def test_the_new_text_replaces_the_old(tmp_path):
    for text in ("old", "neu: \u00e4"):
        write(tmp_path / "file", text)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "neu: \u00e4"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_write_that_fails_leaves_the_old_text_and_nothing_else(tmp_path, monkeypatch):
    write(tmp_path / "file", "old")

    def full(*paths):
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        write(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_process_left_is_removed_and_that_of_another_stays(tmp_path):
    for name in (
        ".surefoot-999999999-ab.tmp",
        f".surefoot-{os.getpid()}-ab.tmp",
        ".surefoot-1-ab.tmp",
        "mine.tmp",
    ):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [f".surefoot-{os.getpid()}-ab.tmp", ".surefoot-1-ab.tmp", "mine.tmp"]
    )

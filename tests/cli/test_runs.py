import io
import os
import sys

import pytest
import tiny

from surefoot.experiment import Experiment

NAMES = ["run", "task", "optimizer", "lr", "done", "loss", "accuracy", "age"]


@pytest.fixture
def trained(surefoot, tmp_path, monkeypatch):
    """Three runs, the last of which was made before the others."""
    monkeypatch.setattr(Experiment, "report", lambda self: None)  # no pages
    surefoot("train", tiny.PATH, "--lr", "1e-5", "--epochs", "1")
    surefoot("train", tiny.PATH, "--optimizer", "sgd", "--lr", "0.1", "--epochs", "4")
    surefoot("train", tiny.PATH, "--lr", "0.02", "--steps", "3")
    for name in ("metrics.jsonl", "settings.toml"):
        os.utime(tmp_path / "runs" / "tiny-3" / name, (0, 1e9))
    (tmp_path / "runs" / "notes").mkdir()
    return surefoot


@pytest.mark.parametrize(
    ("sort", "order"), [("age", [2, 1, 3]), ("loss", [2, 3, 1]), ("lr", [1, 3, 2]), ("name", [1, 2, 3])]
)
def test_runs_are_listed_in_order_with_their_results(trained, monkeypatch, sort, order):
    monkeypatch.setenv("COLUMNS", "120")
    code, said = trained("runs", "--sort", sort)
    assert code == 0
    assert said.split()[: len(NAMES)] == NAMES
    assert [int(word[5:]) for word in said.split() if word.startswith("tiny-")] == order
    assert "tiny-2 tiny sgd 0.1 4/4 epochs 0." in said
    assert "tiny-3 tiny adamw 0.02 3/3 steps" in said
    assert "% 9" in said  # days ago


@pytest.mark.parametrize(
    ("width", "names"),
    [
        (90, NAMES),
        (66, [name for name in NAMES if name != "task"]),
        (55, [name for name in NAMES if name not in ("task", "optimizer")]),
    ],
)
def test_a_narrow_terminal_shows_fewer_columns_and_whole_names(trained, monkeypatch, width, names):
    from rich.console import Console

    module = sys.modules["surefoot.cli.runs"]
    shown = Console(force_terminal=True, color_system=None, width=width, file=io.StringIO())
    monkeypatch.setattr(module, "console", shown)
    trained("runs")
    lines = shown.file.getvalue().splitlines()
    assert lines[0].split() == names
    assert [line.split()[0] for line in lines[1:]] == ["tiny-2", "tiny-1", "tiny-3"]
    assert "…" not in shown.file.getvalue()


def test_a_run_that_is_damaged_is_named_below_the_others(trained, tmp_path):
    (tmp_path / "runs/tiny-1/settings.toml").write_text("lr = ")
    (tmp_path / "runs/tiny-2/metrics.jsonl").write_text("{\n")
    code, said = trained("runs")
    assert code == 0
    assert "runs/tiny-1/settings.toml is no TOML file" in said
    assert "runs/tiny-2/metrics.jsonl is damaged at line 1" in said


def test_only_runs_of_a_task_and_none(trained):
    assert trained("runs", "--task", "digits") == (0, "No run in runs.")
    code, said = trained("runs", "--sort", "size")
    assert (code, "sort 'size' is not known. Choose from: age" in said) == (2, True)
    assert trained("runs", "nowhere") == (1, "Error: there is no folder nowhere: surefoot train makes one")

import csv
import sys

import pytest
import torch
from rich.console import Console

from surefoot import cli
from surefoot.bench import Result, Work, select

bench = sys.modules["surefoot.cli.bench"]  # not the command of that name


def test_bench_shows_and_writes_the_rows_asked_for(surefoot, tmp_path, one_thread):
    options = ["--only", "step MLP AdamW", "--seconds", "0.01", "--csv", "step.csv"]
    code, said = surefoot("bench", *options)
    assert code == 0
    with open(tmp_path / "step.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["work"] for row in rows} == {"training step", "clip + step", "step"}
    assert {row["shape"] for row in rows} == {"MLP"}
    for row in rows:
        assert f"AdamW {row['tensors']} " in said
        assert float(row["ratio_best"]) > 0
        assert row["torch"] == torch.__version__
    assert said.endswith("Written to step.csv")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "adamm"], "no row has 'adamm' in its name"),
        (["--seconds", "0"], "seconds=0.0 must be greater than 0"),
        (["--seconds", "nan"], "seconds=nan must be greater than 0"),
        (["--csv", "nowhere/step.csv"], "--csv is 'nowhere/step.csv': name a file in a folder that exists."),
        (["--csv", "."], "--csv is '.'"),
    ],
)
def test_bad_usage_of_bench_is_said_before_anything_is_measured(surefoot, monkeypatch, arguments, message):
    monkeypatch.setattr(Work, "measure", None)
    code, said = surefoot("bench", *arguments)
    assert code == 2
    assert message in said


def test_ctrl_c_in_bench_shows_what_was_measured_and_writes_nothing(surefoot, tmp_path, monkeypatch):
    def measure(self, seconds):
        if self.optimizer == "Adam":
            raise KeyboardInterrupt
        return Result(self.kind, self.shape, self.optimizer, 1000, 256_000, 5, 1e-3, {"default": 2e-3})

    monkeypatch.setattr(Work, "measure", measure)
    code, said = surefoot("bench", "--only", "1000 x 256", "--csv", "step.csv")
    assert code == cli.STOPPED
    assert "SGD nesterov 1.00 ms 2.00 ms default 2.00x" in said
    assert said.endswith("Interrupted: nothing was written.")
    assert list(tmp_path.iterdir()) == []


def test_bench_in_a_terminal_says_what_it_is_measuring(surefoot, monkeypatch):
    def measure(self, seconds):
        return Result(self.kind, self.shape, self.optimizer, 4, 9610, 5, seconds, {})

    monkeypatch.setattr(Work, "measure", measure)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(bench, "console", Console(force_terminal=True, force_interactive=True))
    code, said = surefoot("bench", "--only", "adamw", "--seconds", "0.25")
    assert code == 0
    assert said.count("optimizer") == len({work.kind for work in select("adamw")})
    assert "training step 24-layer MLP AdamW" in said
    assert "250 ms" in said

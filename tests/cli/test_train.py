import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib

import pytest
import tiny
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from surefoot import archive, cli
from surefoot.experiment import Experiment
from surefoot.lock import Lock

TRAIN = ["train", tiny.PATH]
PROGRAM = [sys.executable, "-c", "from surefoot.cli import main; main()"]
FILES = {
    "best.safetensors",
    "checkpoint.safetensors",
    "report.html",
    "settings.toml",
    *(f"{name}.{kind}" for name in ("metrics", "ratios", "times") for kind in ("csv", "jsonl")),
}


def model_of(folder):
    return archive.load(folder / "checkpoint.safetensors")["model"]["state"]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_train_digits_ends_with_accuracy_time_and_files(surefoot):
    code, said = surefoot("train", "digits", "--steps", "3", "--batch-size", "256", "--lr", "0.003")
    assert code == 0
    assert said.count("accuracy") == 2  # a line for each epoch, and the table
    assert re.search(
        r"Validation accuracy \d+\.\d\d% Training time \d+\.\d s Report runs/digits-1/report.html "
        "Best weights runs/digits-1/best.safetensors",
        said,
    )


def test_a_rate_that_is_not_given_is_found_by_a_range_test(surefoot, tmp_path):
    code, said = surefoot(*TRAIN, "--lr", "auto")
    assert code == 0
    assert re.search(
        r"Learning rate [\d.e-]+, likely [\d.e-]+ to [\d.e-]+ \(confidence \d+%, \d+ batches\)", said
    )
    folder = tmp_path / "runs" / "tiny-1"
    assert {path.name for path in folder.iterdir()} == {*FILES, "lr_finding.json"}
    for path in folder.iterdir():
        assert path.stat().st_size > 0


def test_a_file_of_the_users_is_trained_with_its_own_settings(surefoot, tmp_path):
    code, said = surefoot(*TRAIN)
    assert code == 0
    assert "above or below" in said
    assert "Learning rate" not in said
    assert re.search(r"epoch 1/2 loss \d\.\d{4} held-out loss +\d\.\d{4} accuracy +\d+\.\d\d% lr 8\.", said)
    assert said.endswith("runs/tiny-1/best.safetensors in training: False")  # the task's last words
    assert {path.name for path in (tmp_path / "runs/tiny-1").iterdir()} == FILES


def test_every_setting_reaches_the_run_and_its_file(surefoot, tmp_path):
    typed = {
        "optimizer": "radam",
        "lr": 0.002,
        "schedule": "cosine",
        "warmup": 3,
        "steps": 9,
        "batch_size": 5,
        "weight_decay": 0.1,
        "betas": [0.8, 0.9],
        "clip_norm": 2.0,
        "accumulate": 2,
        "ema": 0.9,
        "dtype": "bfloat16",
        "evaluate_every": 4,
        "patience": 7,
        "threads": torch.get_num_threads(),
        "seed": 5,
    }
    options = []
    for name, value in typed.items():
        words = map(str, value) if isinstance(value, list) else [str(value)]
        options += [f"--{name.replace('_', '-')}", *words]
    code, said = surefoot(*TRAIN, *options, "--out", "elsewhere")
    assert code == 0
    assert [word for word in said.split() if word in ("4/9", "8/9", "9/9")] == ["4/9", "8/9", "9/9"]
    folder = tmp_path / "elsewhere" / "tiny-1"
    saved = tomllib.loads((folder / "settings.toml").read_text())
    about = {name: saved.pop(name) for name in ("versions", "git") if name in saved}
    assert saved == {"task": tiny.PATH, **typed}
    assert about["versions"]["torch"] == torch.__version__
    group, other = archive.load(folder / "checkpoint.safetensors")["optimizer"]["param_groups"]
    assert (group["betas"], group["weight_decay"], other["weight_decay"]) == ((0.8, 0.9), 0.1, 0.0)


def test_a_run_is_repeated_from_its_settings_file(surefoot, tmp_path):
    surefoot(*TRAIN, "--seed", "3", "--schedule", "warmup(3) >> cosine(10)", "--epochs", "1")
    code, _ = surefoot("train", "--settings", "runs/tiny-1/settings.toml")
    assert code == 0
    one, again = (tmp_path / "runs" / name for name in ("tiny-1", "tiny-2"))
    assert (one / "metrics.csv").read_text() == (again / "metrics.csv").read_text()
    assert (one / "settings.toml").read_text() == (again / "settings.toml").read_text()


def test_flags_win_over_the_file(surefoot, tmp_path):
    (tmp_path / "mine.toml").write_text(f"task = {json.dumps(tiny.PATH)}\nsteps = 3\nseed = 4\n")
    assert surefoot("train", "--settings", "mine.toml", "--epochs", "1", "--seed", "6")[0] == 0
    saved = tomllib.loads((tmp_path / "runs/tiny-1/settings.toml").read_text())
    assert (saved["epochs"], saved["seed"], "steps" in saved) == (1, 6, False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits", "--optimizer", "adamm"], "Did you mean 'adam'?"),
        (["digits", "--lr", "fast"], "lr is 'fast': it must be 'auto' or a number."),
        (["digits", "--lr", "-1"], "lr is -1.0"),
        (["digits", "--epochs", "0"], "epochs is 0"),
        (["digits", "--epochs", "2", "--steps", "5"], "epochs is 2 and steps is 5: leave one of them out"),
        (["digits", "--epochs", "many"], "--epochs"),
        (["mnist"], "task 'mnist' is not known"),
        (["task.py"], "task 'task.py' is not there: surefoot new task.py writes a start."),
        ([], "Name what to train: digits, pycode, or a file"),
        (["--resume", "runs/digits-1", "--epochs", "3"], "leave out epochs"),
        (["--resume", "runs/digits-1", "--settings", "a.toml"], "leave out settings"),
        (["--settings", "nowhere.toml"], "No such file or directory: 'nowhere.toml'"),
    ],
)
def test_bad_usage_is_said_before_anything_is_written(surefoot, tmp_path, arguments, message):
    code, said = surefoot("train", *arguments)
    assert (code, message in said) == (1 if "No such" in message else 2, True), said
    assert list(tmp_path.iterdir()) == []


def test_a_typo_in_the_settings_file_is_answered_with_the_nearest_name(surefoot, tmp_path):
    (tmp_path / "mine.toml").write_text('task = "digits"\noptimiser = "sgd"\n')
    code, said = surefoot("train", "--settings", "mine.toml")
    assert code == 2
    assert "mine.toml: setting 'optimiser' is not known. Did you mean 'optimizer'?" in said


BROKEN = {
    "raises": ("def data():\n    return 1 / 0\n\ndef task():\n    return data()\n", "ZeroDivisionError: division by zero raises.py, line 5, in task: return data() raises.py, line 2, in data: return 1 / 0"),
    "syntax": ("def task(:\n    pass\n", "SyntaxError: invalid syntax syntax.py, line 1: def task(:"),
    "nothing": ("", "nothing.py defines no task()"),
    "returns": ("def task():\n    return 3\n", "task() of returns.py returned a int: return surefoot.tasks.Task(...)"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_task_file_that_is_wrong_is_a_short_error_and_leaves_nothing(surefoot, tmp_path, name):
    text, message = BROKEN[name]
    (tmp_path / f"{name}.py").write_text(text)
    code, said = surefoot("train", f"{name}.py")
    assert (code, message in said) == (1, True), said
    assert "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.py"]


LATE = """
import torch

def loss(model, batch):
    if batch.min() < 0:
        raise ValueError("no root of that")
    return model(batch).mean()

def task():
    return torch.nn.Linear(1, 1), loss, [torch.ones(2, 1), -torch.ones(2, 1)]
"""


def test_a_batch_that_the_loss_cannot_take_later_is_named(surefoot, tmp_path):
    (tmp_path / "late.py").write_text(LATE)
    code, said = surefoot("train", "late.py", "--lr", "0.1")
    assert code == 1
    assert "loss cannot take a batch of train_loader (2 x 1 float32): ValueError: no root of that" in said
    assert "late.py, line 6, in loss" in said
    assert len(lines(tmp_path / "runs/late-1/metrics.jsonl")) == 1  # what there was to tell is told


def test_resuming_what_is_not_there_is_one_sentence(surefoot):
    code, said = surefoot("train", "--resume", "runs/digits-7")
    assert code == 1
    assert said.startswith("Error: there is no checkpoint at runs/")
    assert "Traceback" not in said


def test_an_output_folder_that_cannot_be_is_one_sentence(surefoot, tmp_path):
    (tmp_path / "runs").write_text("in the way")
    code, said = surefoot(*TRAIN)
    assert code == 1
    assert said.startswith("Error: out is 'runs', which is a file")
    assert (tmp_path / "runs").read_text() == "in the way"


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), cli.STOPPED, "there is nothing to resume"),
        (ValueError("no suggestion"), 1, "no sugg"),
    ],
)
def test_a_range_test_that_does_not_end_leaves_nothing_behind(
    surefoot, tmp_path, monkeypatch, error, code, message
):
    def fails(self):
        raise error

    monkeypatch.setattr(Experiment, "find_lr", fails)
    ended, said = surefoot(*TRAIN, "--lr", "auto")
    assert (ended, message in said) == (code, True)
    assert list((tmp_path / "runs").iterdir()) == []


def test_ctrl_c_saves_and_the_printed_command_ends_with_the_same_weights(surefoot, tmp_path):
    """With a real process and a real signal, as a user does it."""
    settings = [*TRAIN, "--epochs", "30", "--seed", "1"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    said = ""
    with subprocess.Popen(
        [*PROGRAM, *settings], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            said += line
            if line.startswith("epoch  2/30"):
                process.send_signal(signal.SIGINT)
    assert process.returncode == cli.STOPPED, said
    (resume,) = re.findall(r"surefoot (train --resume .*)", said)
    assert "epoch 30/30" not in said

    assert surefoot(*resume.split())[0] == 0
    assert surefoot(*settings)[0] == 0
    stopped, whole = (tmp_path / "runs" / name for name in ("tiny-1", "tiny-2"))
    for name in ("metrics.csv", "metrics.jsonl"):
        assert (stopped / name).read_text() == (whole / name).read_text()
    stopped, whole = model_of(stopped), model_of(whole)
    assert stopped.keys() == whole.keys()
    assert all(torch.equal(stopped[name], whole[name]) for name in whole)


def stops_in_step_7(signal_number, monkeypatch):
    """The process signals itself while a step is made."""
    module = sys.modules["surefoot.train"]

    def update(run, *arguments, original=module.update):
        if run.step == 6:
            os.kill(os.getpid(), signal_number)
        return original(run, *arguments)

    monkeypatch.setattr(module, "update", update)


def test_sigterm_saves_after_the_step_and_ends_with_the_code_that_help_tells(surefoot, tmp_path, monkeypatch):
    """As a machine that is taken away says it."""
    stops_in_step_7(signal.SIGTERM, monkeypatch)
    code, said = surefoot(*TRAIN)
    assert code == cli.STOPPED == 130
    assert "Stopped and saved after step 7. Go on with: surefoot train --resume runs/tiny-1" in said
    saved = archive.load(tmp_path / "runs/tiny-1/checkpoint.safetensors")
    assert saved["extra"]["run"]["position"]["step"] == 7
    assert len(lines(tmp_path / "runs/tiny-1/metrics.jsonl")) == 7
    assert "SIGTERM" in surefoot("train", "--help")[1]
    assert "exit code 130" in surefoot("train", "--help")[1]


def test_sigterm_while_a_rate_is_looked_for_leaves_nothing_behind(surefoot, tmp_path, monkeypatch):
    monkeypatch.setattr(Experiment, "find_lr", lambda self: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    code, said = surefoot(*TRAIN, "--lr", "auto")
    assert (code, "there is nothing to resume" in said) == (cli.STOPPED, True)
    assert list((tmp_path / "runs").iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == before


ODD = """
import math, os, torch

class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        if i == 3 and os.path.exists("broken") and os.path.exists("runs/odd-2/checkpoint.safetensors"):
            raise RuntimeError("sample 3 is broken")
        return torch.ones(1)

def loss(model, batch):
    return model(batch).mean() * (1.0 if model.training else math.nan)

def task():
    data = torch.utils.data.DataLoader(Data())
    return torch.nn.Linear(1, 1), loss, data, [torch.ones(2, 1)]
"""


def test_held_out_losses_that_are_nan_have_no_best(surefoot, tmp_path):
    (tmp_path / "odd.py").write_text(ODD)
    code, said = surefoot("train", "odd.py", "--lr", "0.1", "--epochs", "2")
    assert (code, "Validation loss nan" in said) == (0, True), said
    assert "at best" not in said
    assert "Best weights" not in said


def test_a_run_that_ends_in_nan_has_its_report(surefoot, tmp_path):
    weight = "(math.nan if step() == 13 else 1.0)"
    text = ODD.replace("(1.0 if model.training else math.nan)", weight)
    (tmp_path / "late.py").write_text(f"import itertools\n{text}\nstep = itertools.count().__next__\n")
    code, said = surefoot("train", "late.py", "--lr", "0.1", "--epochs", "4")
    assert (code, "How it went: runs/late-1/report.html" in said) == (1, True), said
    page = (tmp_path / "runs/late-1/report.html").read_text()
    assert "the loss was infinite or NaN" in page
    (tmp_path / "late.py").write_text(text + "\ndef step():\n    return 0\n")
    assert surefoot("train", "--resume", "runs/late-1")[0] == 0
    assert "infinite or NaN" not in (tmp_path / "runs/late-1/report.html").read_text()


def test_where_data_fails_it_says_how_to_go_on(surefoot, tmp_path, capsys):
    (tmp_path / "odd.py").write_text(ODD)
    surefoot("train", "odd.py", "--lr", "0.1", "--epochs", "2")
    whole = (tmp_path / "runs/odd-1/metrics.csv").read_text()
    (tmp_path / "broken").touch()
    with pytest.raises(
        RuntimeError, match="sample 3 is broken"
    ):  # with its traceback, which is the user's own
        surefoot("train", "odd.py", "--lr", "0.1", "--epochs", "2")
    assert (
        "When the error is mended, go on with:\n  surefoot train --resume runs/odd-2"
        in capsys.readouterr().out
    )
    (tmp_path / "broken").unlink()
    assert surefoot("train", "--resume", "runs/odd-2")[0] == 0
    assert (tmp_path / "runs/odd-2/metrics.csv").read_text() == whole


def test_events_are_written_on_request_and_go_on_after_a_resume(surefoot, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        stops_in_step_7(signal.SIGTERM, patched)
        assert surefoot(*TRAIN, "--tensorboard")[0] == cli.STOPPED
    assert surefoot("train", "--resume", "tiny-1", "--tensorboard")[0] == 0
    read = EventAccumulator(str(tmp_path / "runs/tiny-1"), size_guidance={"scalars": 0}).Reload()
    rows = lines(tmp_path / "runs/tiny-1/metrics.jsonl")
    assert {*read.Tags()["scalars"]} == {name for row in rows for name in row if name != "step"}
    for name in ("loss", "val_accuracy"):
        seen = [(event.step, pytest.approx(event.value)) for event in read.Scalars(name)]
        assert seen == [(row["step"], row[name]) for row in rows if name in row]
    assert "tensorboard" not in (tmp_path / "runs/tiny-1/settings.toml").read_text()


def test_events_without_their_package_are_one_sentence_and_nothing_is_written(
    surefoot, tmp_path, monkeypatch
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, said = surefoot(*TRAIN, "--tensorboard")
    assert (code, said) == (1, "Error: --tensorboard needs tensorboard: pip install 'surefoot[tensorboard]'")
    assert list((tmp_path / "runs").iterdir()) == []


HIGH = """
import torch

def task():
    model = torch.nn.Linear(1, 1, bias=False)
    data = torch.ones(32, 1).split(4)
    settings = {"optimizer": "sgd", "momentum": 0.0, "schedule": "constant", "steps": 160, "weight_decay": 0.0}
    return {"model": model, "loss": lambda model, x: model(x).pow(2).mean(), "train_loader": data, "settings": settings}
"""


def test_what_goes_wrong_is_said_once_when_it_does(surefoot, tmp_path):
    (tmp_path / "high.py").write_text(HIGH)
    code, said = surefoot("train", "high.py", "--lr", "1.025")
    assert code == 0
    assert said.count("The loss diverged: it is about") == 1
    assert said.index("The loss diverged") < said.index("epoch 20/20")
    (finding,) = (
        each
        for each in json.loads((tmp_path / "runs/high-1/diagnosis.json").read_text())
        if each["kind"] == "diverged"
    )
    assert finding["message"] in said


def test_a_loss_that_is_not_finite_is_answered_with_a_lower_rate(surefoot, tmp_path):
    (tmp_path / "high.py").write_text(HIGH)
    code, said = surefoot("train", "high.py", "--lr", "1e6")
    assert code == 1
    assert "Error: the loss is inf at step" in said
    assert said.endswith("Start again with a lower rate, such as --lr 1e+05")
    assert lines(tmp_path / "runs/high-1/metrics.jsonl")


def test_a_rate_that_is_not_sure_is_said_to_be_so(surefoot, tmp_path):
    (tmp_path / "flat.py").write_text(HIGH.replace("model(x).pow(2).mean()", "model(x).mean() * 0 + 1.0"))
    code, said = surefoot("train", "flat.py", "--lr", "auto", "--steps", "20")
    assert code == 0, said
    assert "No learning rate to suggest." in said
    assert "The safest that is known is" in said
    assert "goes on with it" in said
    assert json.loads((tmp_path / "runs/flat-1/lr_finding.json").read_text())["abstained"]
    said = surefoot("find-lr", "flat.py", "--steps", "20")[1]
    assert "No learning rate to suggest." in said
    assert "Train with it" not in said


def test_a_file_that_is_damaged_is_named(surefoot, tmp_path):
    surefoot(*TRAIN)
    (tmp_path / "runs/tiny-1/diagnosis.json").write_text("{")
    for command in (["report", "tiny-1"], ["train", "--resume", "tiny-1"]):
        code, said = surefoot(*command)
        assert (code, "runs/tiny-1/diagnosis.json is damaged" in said) == (1, True), said


def test_ctrl_c_while_the_report_is_drawn_says_how_to_get_it(surefoot, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Experiment, "report", interrupted)
    code, said = surefoot(*TRAIN)
    assert code == cli.STOPPED
    assert said.endswith("surefoot train --resume runs/tiny-1")


@pytest.mark.parametrize("name", ["tiny-1", "runs/tiny-1", "runs/tiny-1/checkpoint.safetensors"])
def test_resuming_a_finished_run_shows_its_result_again(surefoot, name):
    surefoot(*TRAIN)
    code, said = surefoot("train", "--resume", name)
    assert code == 0
    assert "Validation accuracy" in said


def test_a_long_path_is_shown_whole(surefoot, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    out = "a-folder-with-a-name" * 5
    _, said = surefoot(*TRAIN, "--out", out)
    assert f"{out}/tiny-1/report.html" in said.replace(" ", "")


def test_a_run_that_another_process_trains_is_left_alone(surefoot, tmp_path):
    surefoot(*TRAIN)
    folder = tmp_path / "runs" / "tiny-1"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    read, write = os.pipe()
    other = os.fork()
    if other == 0:
        Lock(folder)
        os.write(write, b"held")
        signal.pause()
    assert os.read(read, 4) == b"held"
    try:
        code, said = surefoot("train", "--resume", "tiny-1")
    finally:
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)
        os.close(read)
        os.close(write)
    assert (code, f"runs/tiny-1 is being trained by process {other}: wait" in said) == (1, True), said
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"} == before
    assert (folder / "lock").exists()  # of a process that is dead
    assert surefoot("train", "--resume", "tiny-1")[0] == 0
    assert not (folder / "lock").exists()


def test_metrics_are_tables_of_the_same_rows(surefoot, tmp_path):
    surefoot(*TRAIN)
    with open(tmp_path / "runs/tiny-1/metrics.csv", newline="") as file:
        table = list(csv.DictReader(file))
    rows = lines(tmp_path / "runs/tiny-1/metrics.jsonl")
    assert list(table[0]) == [
        "step",
        "epoch",
        "loss",
        "lr_weights",
        "lr_biases_norms",
        "grad_norm",
        "clip_coef",
        "val_loss",
        "val_accuracy",
    ]
    assert [{k: float(v) for k, v in line.items() if v} for line in table] == rows
    assert [row["step"] for row in rows if "val_loss" in row] == [8, 16]


def test_a_terminal_gets_a_bar(surefoot, monkeypatch):
    from rich.console import Console

    module = sys.modules["surefoot.cli.train"]
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(module, "console", Console(force_terminal=True, highlight=False))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    code, said = surefoot(*TRAIN)
    assert code == 0
    assert "16/16 steps" in said
    assert "nan" not in said
    assert "lr " in said
    assert "steps/s" in said

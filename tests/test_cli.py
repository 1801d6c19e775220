import csv
import os
import re
import signal
import subprocess
import sys

import pytest
import torch
from rich.console import Console
from torch import nn
from typer.testing import CliRunner

import surefoot as optim
from surefoot import archive, checkpoint, cli
from surefoot.bench import Result, Work
from surefoot.experiment import Experiment
from surefoot.param_groups import no_decay, param_groups

SHORT = ["--epochs", "2", "--batch-size", "256"]


@pytest.fixture
def surefoot(tmp_path, monkeypatch, capsys):
    """Run the command in an empty folder; returns its exit code and all it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["surefoot", *arguments])
        cli.console.file = None  # the stdout of now
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return stop.value.code or 0, " ".join((captured.out + captured.err).split())

    return run


def model_of(folder):
    return archive.load(folder / "checkpoint.safetensors")["model"]["state"]


def test_train_digits_ends_with_accuracy_time_and_files(surefoot, tmp_path):
    code, said = surefoot("train", "digits", *SHORT)
    assert code == 0
    assert re.search(r"Range test: learning rate \d\.\d\de-0\d", said)
    assert said.count("accuracy") == 3  # a line for each epoch, and the table
    assert re.search(
        r"Validation accuracy \d+\.\d\d% Training time \d+\.\d s Files checkpoint.* In runs/digits-1/", said
    )
    folder = tmp_path / "runs" / "digits-1"
    for name in (
        "checkpoint.safetensors",
        "metrics.csv",
        "lr_range.png",
        "schedule.png",
        "loss.png",
        "report.html",
    ):
        assert name in said
        assert (folder / name).stat().st_size > 0


def test_every_option_reaches_the_run(surefoot, tmp_path):
    options = [
        "--optimizer",
        "radam",
        "--lr",
        "0.002",
        "--schedule",
        "cosine",
        "--seed",
        "5",
        "--out",
        "elsewhere",
    ]
    code, said = surefoot("train", "digits", *SHORT, *options)
    assert code == 0
    assert "Range test" not in said
    settings = archive.load(tmp_path / "elsewhere/digits-1/checkpoint.safetensors")["extra"]["extra"][
        "settings"
    ]
    assert settings == {
        "task": "digits",
        "optimizer": "radam",
        "lr": 0.002,
        "schedule": "cosine",
        "epochs": 2,
        "batch_size": 256,
        "seed": 5,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits", "--optimizer", "adamm"], "Did you mean 'adam'?"),
        (["digits", "--lr", "fast"], "lr is 'fast': it must be 'auto' or a number."),
        (["digits", "--lr", "-1"], "lr is -1.0"),
        (["digits", "--lr", "nan"], "lr is nan"),
        (["digits", "--epochs", "0"], "epochs is 0"),
        (["digits", "--epochs", "many"], "--epochs"),
        (["mnist"], "task 'mnist' is not known"),
        ([], "Name what to train. One of: digits."),
        (["--resume", "runs/digits-1", "--epochs", "3"], "leave out epochs"),
    ],
)
def test_bad_usage_is_said_before_anything_is_written(surefoot, tmp_path, arguments, message):
    code, said = surefoot("train", *arguments)
    assert code == 2
    assert message in re.sub(r"\s*[│╭╮╰╯─]+\s*", " ", said).replace("  ", " ")
    assert list(tmp_path.iterdir()) == []


def test_resuming_what_is_not_there_is_one_sentence(surefoot):
    code, said = surefoot("train", "--resume", "runs/digits-7")
    assert code == 1
    assert said.startswith("Error: there is no checkpoint at runs/")
    assert "Traceback" not in said


def test_an_output_folder_that_cannot_be_is_one_sentence(surefoot, tmp_path):
    (tmp_path / "runs").write_text("in the way")
    code, said = surefoot("train", "digits", *SHORT)
    assert code == 1
    assert said.startswith("Error:")
    assert "runs" in said
    assert (tmp_path / "runs").read_text() == "in the way"


def test_ctrl_c_in_the_range_test_leaves_nothing_behind(surefoot, tmp_path, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Experiment, "find_lr", interrupted)
    code, said = surefoot("train", "digits")
    assert code == cli.STOPPED
    assert "there is nothing to resume" in said
    assert list((tmp_path / "runs").iterdir()) == []


def test_ctrl_c_saves_and_the_printed_command_ends_with_the_same_weights(tmp_path):
    """With real processes and a real signal, as a user does it."""
    command = [sys.executable, "-c", "from surefoot.cli import main; main()"]
    settings = ["train", "digits", "--epochs", "6", "--batch-size", "32", "--lr", "0.003"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    said = ""
    with subprocess.Popen(
        [*command, *settings], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            said += line
            if line.startswith("epoch 2/6"):
                process.send_signal(signal.SIGINT)
    assert process.returncode == cli.STOPPED, said
    (resume,) = re.findall(r"surefoot (train --resume .*)", said)
    assert "epoch 6/6" not in said

    subprocess.run([*command, *resume.split()], cwd=tmp_path, check=True, capture_output=True)
    subprocess.run([*command, *settings], cwd=tmp_path, check=True, capture_output=True)
    stopped, whole = (model_of(tmp_path / "runs" / name) for name in ("digits-1", "digits-2"))
    assert stopped.keys() == whole.keys()
    assert all(torch.equal(stopped[name], whole[name]) for name in whole)


TERMINATED_IN_STEP_7 = """
import os, signal
from surefoot import cli, experiment

def train(run, epochs, original=experiment.train, **settings):
    for record in original(run, epochs, **settings):
        if record.step == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        yield record

experiment.train = train
cli.main()
"""


def test_sigterm_saves_after_the_step_and_ends_with_the_code_that_help_tells(surefoot, tmp_path):
    """As a machine that is taken away says it, in a real process."""
    command = [sys.executable, "-c", TERMINATED_IN_STEP_7, "train", "digits", "--lr", "0.003"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == cli.STOPPED == 130, ended.stderr
    assert "Stopped and saved after step 7. Go on with:" in ended.stdout
    saved = archive.load(tmp_path / "runs/digits-1/checkpoint.safetensors")
    assert saved["extra"]["run"]["position"]["step"] == 7
    assert "SIGTERM" in surefoot("train", "--help")[1]
    assert "exit code 130" in surefoot("train", "--help")[1]


def test_resuming_a_finished_run_shows_its_result_again(surefoot):
    surefoot("train", "digits", *SHORT, "--lr", "0.003")
    code, said = surefoot("train", "--resume", "digits-1")  # by its name in the runs folder
    assert code == 0
    assert "Validation accuracy" in said


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        (
            (),
            [
                "4 58144 99% 0.001 0.01 0.weight, 3.weight, 7.weight, ...",
                "7 330 1% 0.001 0 1.weight, 1.bias, 4.weight, ...",
            ],
        ),
        (("--decay-all", "--lr", "0.1"), ["11 58474 100% 0.1 0.01 0.weight, 1.weight, 1.bias, ..."]),
        (("--layer-decay", "0.5"), ["1 288 0% 0.000125 0.01 0.weight", "2 128 0% 0.0005 0 8.weight, 8.bias"]),
        (
            ("--frozen", "13.*"),
            ["3 55584 95% 0.001 0.01 0.weight, 3.weight, 7.weight", "1 10 0% 0.001 0 yes 13.bias"],
        ),
    ],
)
def test_groups_shows_a_row_for_each(surefoot, monkeypatch, arguments, rows):
    monkeypatch.setenv("COLUMNS", "120")
    code, said = surefoot("groups", "digits", *arguments)
    assert code == 0
    assert [row for row in rows if row not in said] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("digit",), "'digit' is not known. One of: digits."),
        (("digits", "--frozen", "head.*"), "'head.*' means no parameter: their names begin with 0.weight"),
        (("digits", "--layer-decay", "1.5"), "rate=1.5 must be in (0, 1]"),
        (("digits", "--lr", "-1"), "lr=-1.0 must be at least 0"),
    ],
)
def test_mistakes_about_groups_are_named(surefoot, arguments, message):
    code, said = surefoot("groups", *arguments)
    assert code == 2
    assert message in " ".join(said.split())


@pytest.mark.parametrize(
    ("command", "example"),
    [
        ("train", "surefoot train digits --optimizer radam"),
        ("groups", 'surefoot groups digits --layer-decay 0.7 --frozen "0.*"'),
        ("schedule", 'surefoot schedule "warmup(500) >> cosine(10_000, to=0.1)"'),
        ("inspect", "surefoot inspect runs/digits-1/checkpoint.safetensors"),
        ("convert", "surefoot convert run.pt run.safetensors"),
    ],
)
def test_help_shows_an_example(command, example):
    assert example in CliRunner().invoke(cli.app, [command, "--help"]).output


def test_ctrl_c_while_the_report_is_drawn_says_how_to_get_it(surefoot, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Experiment, "report", interrupted)
    code, said = surefoot("train", "digits", *SHORT, "--lr", "0.003")
    assert code == cli.STOPPED
    assert said.endswith("surefoot train --resume runs/digits-1")


def test_a_run_that_fails_before_anything_is_saved_leaves_no_folder(surefoot, tmp_path, monkeypatch):
    def fails(self):
        raise ValueError("no suggestion")

    monkeypatch.setattr(Experiment, "find_lr", fails)
    code, said = surefoot("train", "digits")
    assert (code, said.endswith("Error: no suggestion")) == (1, True)
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_long_path_is_shown_whole(surefoot, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    out = "a-folder-with-a-name" * 5
    _, said = surefoot("train", "digits", *SHORT, "--lr", "0.003", "--out", out)
    assert f"{out}/digits-1/" in said.replace(" ", "")


def test_the_checkpoint_itself_may_be_named(surefoot):
    surefoot("train", "digits", *SHORT, "--lr", "0.003")
    code, said = surefoot("train", "--resume", "runs/digits-1/checkpoint.safetensors")
    assert (code, "Validation accuracy" in said) == (0, True)


def test_bench_shows_and_writes_the_rows_asked_for(surefoot, tmp_path, one_thread):
    options = ["--only", "mlp", "--seconds", "0.01", "--csv", "step.csv"]
    code, said = surefoot("bench", *options)
    assert code == 0
    with open(tmp_path / "step.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"training step", "step"} <= {row["work"] for row in rows}
    assert {row["shape"] for row in rows} == {"MLP", "24-layer MLP"}
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
    assert message in re.sub(r"\s*[│╭╮╰╯─]+\s*", " ", said).replace("  ", " ")


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
    monkeypatch.setattr(cli, "console", Console(force_terminal=True, force_interactive=True))
    code, said = surefoot("bench", "--only", "adamw", "--seconds", "0.25")
    assert code == 0
    assert said.count("optimizer") == len({work.kind for work in cli.select("adamw")})
    assert "training step 24-layer MLP AdamW" in said
    assert "250 ms" in said


WARM = "warmup(500) >> cosine(10_000, to=0.1)"


@pytest.fixture
def drawn(monkeypatch, capsys):
    """Run ``surefoot schedule``; returns its exit code and the lines that it printed, to stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["surefoot", "schedule", *arguments])
        cli.console.file = None  # the stdout of now
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out.splitlines(), captured.err.splitlines()

    return run


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        (
            [WARM, "--base", "3e-4"],
            ["0 5.988e-7 start", "500 3e-4 peak, part 2 begins", "10,500 3e-5 end"],
        ),
        (
            ["warmup(500)\n >> cosine(10_000)", "--steps", "251"],  # of more than one line
            ["0 0.001996 start", "250 0.501 peak, last drawn"],
        ),
        (
            ["2 * wsd(1000, 100, 200)"],
            ["0 0.019802 start", "100 2 peak, part 2 begins", "800 2 part 3 begins", "1,000 0 end"],
        ),
        (["exponential(0.5)"], ["0 1 start, peak", "999 1.867e-301 last drawn"]),
        (
            ["warmup(2000) >> inverse_sqrt(2000)"],  # never ends, but all parts are seen
            ["0 4.998e-4 start", "2,000 1 peak, part 2 begins", "3,999 0.7072 last drawn"],
        ),
        (
            ["warmup(1e9) >> cosine(1e10)"],  # not every step is drawn, but those where it turns are found
            ["0 1e-9 start", "1,000,000,000 1 peak, part 2 begins", "11,000,000,000 0 end"],
        ),
        (["linear(4)", "--base", "-1"], ["0 -1 start", "4 0 peak, end"]),
        (["constant(0)"], ["0 1 start, peak, end"]),
        (["constant(1e300)"], ["0 1 start, peak", "999 1 last drawn"]),
    ],
)
def test_schedule_says_where_something_happens(drawn, arguments, rows):
    code, out, err = drawn(*arguments)
    assert (code, err) == (0, [])
    table = [" ".join(line.split()) for line in out]
    assert table[table.index("step value") + 1 :] == rows


@pytest.mark.parametrize(("columns", "width"), [("30", 30), ("80", 80), ("250", 100)])
def test_schedule_draws_as_wide_as_there_is_room(drawn, monkeypatch, columns, width):
    monkeypatch.setenv("COLUMNS", columns)
    _, out, _ = drawn(WARM, "--base", "3e-4")
    axis = next(line for line in out if "└" in line)
    assert len(axis) == width
    assert out[0] == "value"
    assert any(line.startswith("2e-4┤") for line in out)
    assert max(map(len, out)) <= width


def test_schedule_can_be_read_where_only_ascii_can_be_written(tmp_path):
    command = [sys.executable, "-c", "from surefoot.cli import main; main()", "schedule"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for arguments in (
        ["warmup(2000) >> inverse_sqrt(2000)"],
        ["cosine(5)", "--out", "\N{LATIN SMALL LETTER E WITH ACUTE}.png"],
    ):
        done = subprocess.run([*command, *arguments], cwd=tmp_path, env=environment, capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")
        said = done.stdout.decode("ascii")
        assert "start" in said
        assert ("\\u" in said, "*****" in said) == (False, len(arguments) == 1)


@pytest.mark.parametrize(("name", "begins"), [("lr.png", b"\x89PNG"), ("LR.SVG", b"<?xml")])
def test_schedule_writes_a_picture(drawn, tmp_path, name, begins):
    code, out, _ = drawn(WARM, "--out", str(tmp_path / name))
    assert code == 0
    assert out[0] == f"Written to {tmp_path / name}"
    assert "peak, part 2 begins" in out[4]
    assert (tmp_path / name).read_bytes().startswith(begins)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (
            [f"{WARM} >> cosin(5)"],
            ["Error: column 42: 'cosin' is no curve: did you mean 'cosine'?", f"  {WARM} >> cosin(5)", 43 * " " + "^"],
        ),
        (["  cosine"], ["Error: column 1: 'cosine' is not called: write cosine(...)", "  cosine", "  ^"]),
        (["3"], ["Error: column 1: this is 3, not a curve", "  3", "  ^"]),
        (["cosine([/])"], ["Error: column 9: invalid syntax", "  cosine([/])", 10 * " " + "^"]),
        (["__import__('os')"], ["Error: column 1: '__import__' is no curve: it is one of "]),
        (["cosine(5)", "--base", "nan"], ["Error: base=nan must be finite"]),
        (["cosine(5)", "--steps", "0"], ["Error: steps=0 must be at least 1"]),
        (["cosine(5)", "--steps", "9" * 30], [f"Error: steps={'9' * 30} must be at most 2"]),
        (["exponential(1e200)"], ["Error: the schedule has no finite value at step 2: draw fewer"]),
        (["constant(0.5) >> exponential(-0.5)"], ["Error: the schedule has no finite value at step 1"]),
        (["constant(factor=1e308) * 10"], ["Error: the schedule has no finite value at step 0"]),
    ],
)  # fmt: skip
def test_a_mistake_in_a_schedule_is_shown_where_it_is(drawn, monkeypatch, arguments, lines):
    monkeypatch.setenv("COLUMNS", "40")  # a line that is wrapped would leave its caret behind
    code, out, err = drawn(*arguments)
    assert (code, out) == (2, [])
    assert err[0].startswith(lines[0])
    assert err[1 : len(lines)] == lines[1:]


@pytest.mark.parametrize("out", ["lr.gif", "lr", "nowhere/lr.png", "folder.png"])
def test_a_picture_that_cannot_be_is_said_before_anything_is_written(surefoot, tmp_path, out):
    (tmp_path / "folder.png").mkdir()
    code, said = surefoot("schedule", WARM, "--out", out)
    assert code == 2
    said = re.sub(r"\s*[│╭╮╰╯─]+\s*", " ", said).replace("  ", " ")
    assert f"--out is '{out}': name a .png or .svg file in a folder that exists." in said
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_schedule_without_plotext_says_what_to_install(drawn, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotext", None)
    code, out, err = drawn(WARM)
    assert (code, out) == (1, [])
    assert err == ["Error: drawing in a terminal needs plotext: pip install 'surefoot[demo]'"]


class Net(nn.Module):
    """With long names, and one that would style the terminal and move its cursor."""

    def __init__(self):
        super().__init__()
        self.encoder_of_what_was_read = nn.Sequential(nn.Linear(30, 20), nn.LayerNorm(20), nn.Linear(20, 30))
        self.register_parameter("[red]\r\x1b[2J", nn.Parameter(torch.ones(3)))


@pytest.fixture
def saved(tmp_path):
    """A file of a run that has every part, after two steps."""
    model = Net()
    optimizer = optim.AdamW(param_groups(model, no_decay(), lr=1e-3, weight_decay=0.1))
    loader = torch.utils.data.DataLoader(torch.ones(12, 30), batch_size=2, generator=torch.Generator())
    run = optim.Run(
        model,
        optimizer,
        loader,
        lambda model, batch: model.encoder_of_what_was_read(batch).pow(2).mean(),
        scheduler=optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=9),
        scaler=torch.amp.GradScaler("cpu"),
        ema=optim.swa_utils.AveragedModel(model),
    )
    training = optim.train(run, epochs=1)
    next(training), next(training)
    run.save(tmp_path / "run.safetensors", note="a", best=0.5)
    return run, tmp_path / "run.safetensors"


def test_inspect_shows_what_a_run_has_saved(surefoot, saved):
    run, path = saved
    code, said = surefoot("inspect", "run.safetensors")
    assert code == 0
    weight = "encoder_of_what_was_read.0.weight"
    state = run.optimizer.state[run.model.get_parameter(weight)]
    lr = run.optimizer.param_groups[0]["lr"]
    norms = [
        float(f"{tensor.double().norm():.3g}")
        for tensor in (run.model.get_parameter(weight), state["exp_avg"], state["exp_avg_sq"])
    ]
    size = f"{path.stat().st_size / 1000:.1f} kB, saved by surefoot 0.1.0 with torch {torch.__version__}"
    for row in (
        f"run.safetensors: {size}",
        "model Net 7 5.2 kB ema AveragedModel 8 5.2 kB",
        "optimizer AdamW 18 10.3 kB step 2 scheduler OneCycleLR last_epoch 2 scaler GradScaler scale 65536.0",
        "run epoch 0, batch 2, step 2 random 4",
        "python, torch, loaders (1), numpy extra note, best",
        f"lr=0.001 weight_decay=0.1 2 1,200 {lr:.3g} 0.1 2 encoder_of_what_was_read.0.weight",
        f"{weight} 7.2 kB {' '.join(map(cli.terminal.number, norms))} 20 x 30, float32",
        "and 5 smaller: --all shows them",
    ):
        assert row in said
    assert "ema/module.encoder_of_what_was_read.1.bias" not in said
    code, said = surefoot("inspect", "run.safetensors", "--all")
    assert "ema/module.encoder_of_what_was_read.1.bias" in said
    assert "smaller" not in said


@pytest.mark.parametrize("columns", [60, 80])
def test_inspect_is_as_wide_as_the_terminal_and_shows_names_whole(capsys, saved, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "argv", ["surefoot", "inspect", "--all", str(saved[1])])
    cli.console.file = None
    with pytest.raises(SystemExit):
        cli.main()
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith(str(saved[1]))
    assert max(map(len, lines)) <= columns
    names = "".join(re.split(" {2,}", line)[0] for line in lines)
    for name in ("encoder_of_what_was_read.2.weight", "ema/module.encoder_of_what_was_read.2.weight"):
        assert f"{name}30 x 20, float32" in names
    assert r"'[red]\r\x1b[2J'3, float32" in names


def test_inspect_of_a_state_that_is_not_finite_or_has_no_numbers(surefoot, tmp_path):
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    checkpoint.save(tmp_path / "new.safetensors", optimizer=optimizer, extra=[1])
    code, said = surefoot("inspect", "new.safetensors")
    assert (code, "tensor size" in said) == (0, False)
    assert "optimizer SGD parameters without names extra list" in said
    assert said.endswith("0 2 ? 0.1 0 0, 1")  # how many parameters is not known

    model.weight.data.fill_(float("nan"))
    checkpoint.save(tmp_path / "nan.safetensors", model=model)
    code, said = surefoot("inspect", "nan.safetensors")
    assert (code, "weight 8 bytes nan 1 x 2, float32" in said) == (0, True)


def test_inspect_says_what_is_wrong_with_a_file(surefoot, saved, tmp_path):
    whole = saved[1].read_bytes()
    (tmp_path / "short").write_bytes(whole[:-1])
    (tmp_path / "flipped").write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    (tmp_path / "text").write_text("hello")
    archive.save(tmp_path / "tree", {"weight": torch.ones(2)})
    odd = {"class": "SGD", "state": {}, "named": True}
    archive.save(
        tmp_path / "odd", {"versions": {"surefoot": "1", "torch": "2"}, "extra": None, "optimizer": odd}
    )
    torch.save({"epoch": 3}, tmp_path / "a run.pt")
    torch.save({"epoch": 3}, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    for name, message in (
        ("short", "is damaged, or not a checkpoint: "),
        ("flipped", "is not what was saved. Go back to another one."),
        ("text", "is damaged, or not a checkpoint: "),
        ("tree", "is no checkpoint of a training: pass a file that checkpoint.save wrote"),
        ("odd", "is no checkpoint of a training: KeyError('param_groups')"),
        ("nothing", "there is no file at nothing"),
        ("a run.pt", "is a torch file: run surefoot convert 'a run.pt' 'a run.safetensors' and inspect that"),
        ("legacy.pt", "is a torch file: run surefoot convert legacy.pt legacy.safetensors and inspect that"),
    ):
        code, said = surefoot("inspect", name)
        assert code == 1
        assert message in said
        assert name in said
        assert said.count("Error:") == 1
        assert "Traceback" not in said


def test_convert_goes_to_torch_and_back(surefoot, saved, tmp_path):
    run, _ = saved
    code, said = surefoot("convert", "run.safetensors", "run.pt")
    assert (code, said) == (0, "Written to run.pt")
    content = torch.load(tmp_path / "run.pt", weights_only=True)
    assert [*content] == ["model", "ema", "optimizer", "scheduler", "scaler", "extra"]
    theirs = torch.optim.AdamW(param_groups(Net(), no_decay(), lr=1.0, weight_decay=0.2))
    theirs.load_state_dict(content["optimizer"])

    (tmp_path / "again.safetensors").write_text("mine")
    code, said = surefoot("convert", "run.pt", "again.safetensors")
    assert (code, (tmp_path / "again.safetensors").read_text()) == (1, "mine")
    assert said == (
        "Error: there is something at again.safetensors: name another file, or pass --force to replace it"
    )
    code, said = surefoot("convert", "run.pt", "again.safetensors", "--force")
    assert code == 0
    assert said.startswith("Written to again.safetensors part class tensors size model ? 7 5.2 kB ema ? 8")
    old = run.model.state_dict()
    for param in run.model.parameters():
        param.data.zero_()
    assert run.resume(tmp_path / "again.safetensors") == {"note": "a", "best": 0.5}
    assert all(torch.equal(old[name], value) for name, value in run.model.state_dict().items())


def test_convert_says_what_it_cannot_do(surefoot, tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, ("boom",)

    torch.save({"epoch": Bomb()}, tmp_path / "bomb.pt")
    (tmp_path / "text").write_text("hello")
    for arguments, code, message in (
        (("bomb.pt", "new"), 1, "Error: bomb.pt holds more than tensors and plain values: posix.mkdir, with"),
        (("text", "new"), 1, "Error: text is not a checkpoint: surefoot convert takes what torch.save or"),
        (("nothing", "new"), 1, "Error: there is no file at nothing"),
        (("text", "nowhere/new"), 2, "Error: TARGET is 'nowhere/new': name a file in a folder that exists"),
        (("text", "."), 2, "Error: TARGET is '.': name a file in a folder that exists"),
    ):
        assert surefoot("convert", *arguments)[0] == code
        assert message in surefoot("convert", *arguments)[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bomb.pt", "text"]

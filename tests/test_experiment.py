import csv
import math

import pytest
import torch

from surefoot import checkpoint
from surefoot.checkpoint import CheckpointError
from surefoot.experiment import OPTIMIZERS, SCHEDULES, Experiment, Settings

SHORT = {"epochs": 2, "batch_size": 256, "lr": 0.003}


def finish(experiment):
    return list(experiment.train(lambda: False))


def weights(experiment):
    return [p.detach().clone() for p in experiment.task.model.parameters()]


def stop_after(steps):
    """A ``stopped`` that turns true when it has been asked ``steps`` times."""
    asked = 0

    def stopped():
        nonlocal asked
        asked += 1
        return asked >= steps

    return stopped


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_run_that_was_stopped_and_resumed_is_the_run_that_was_not(schedule, tmp_path):
    settings = Settings(**SHORT, schedule=schedule)
    whole = Experiment.start(settings, tmp_path)
    finish(whole)

    # Two stops: inside the first pass, and at its very end (six batches).
    broken = Experiment.start(settings, tmp_path)
    list(broken.train(stop_after(2)))
    assert not broken.finished
    broken = Experiment.resume(broken.folder)
    list(broken.train(stop_after(4)))
    broken = Experiment.resume(broken.folder)
    finish(broken)

    assert broken.finished
    assert all(torch.equal(one, other) for one, other in zip(weights(whole), weights(broken), strict=True))
    assert broken.rows == whole.rows
    assert (broken.folder / "metrics.csv").read_text() == (whole.folder / "metrics.csv").read_text()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_learns_and_resumes(optimizer, tmp_path):
    settings = Settings(**SHORT, optimizer=optimizer)
    whole, broken = (Experiment.start(settings, tmp_path) for _ in range(2))
    rows = finish(whole)
    list(broken.train(stop_after(7)))
    broken = Experiment.resume(broken.folder)
    finish(broken)
    assert rows[-1].loss < rows[0].loss
    assert all(torch.equal(one, other) for one, other in zip(weights(whole), weights(broken), strict=True))


def test_norms_and_biases_are_not_decayed(tmp_path):
    experiment = Experiment.start(Settings(), tmp_path)
    decayed, kept = experiment.optimizer.param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.01, 0.0)
    assert all(p.ndim > 1 for p in decayed["params"])
    assert all(
        name.endswith("bias") or p.ndim == 1
        for name, p in zip(kept["param_names"], kept["params"], strict=True)
    )
    together = [*decayed["params"], *kept["params"]]
    assert {id(p) for p in together} == {id(p) for p in experiment.task.model.parameters()}


def test_the_range_test_leaves_no_trace(tmp_path):
    found, fresh = (Experiment.start(Settings(), tmp_path) for _ in range(2))
    lr = found.find_lr()
    assert 1e-4 < lr < 0.1
    assert found.settings.lr == lr
    assert all(torch.equal(one, other) for one, other in zip(weights(found), weights(fresh), strict=True))


def test_the_metrics_are_a_table(tmp_path):
    experiment = Experiment.start(Settings(**SHORT), tmp_path)
    rows = finish(experiment)
    with open(experiment.folder / "metrics.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == [
        "step",
        "epoch",
        "loss",
        "lr_weights",
        "lr_biases_norms",
        "val_loss",
        "val_accuracy",
    ]
    assert [float(line["loss"]) for line in table] == [row.loss for row in rows]
    assert [line["step"] for line in table if line["val_loss"]] == ["6", "12"]


def test_the_report_has_every_file_the_run_promises(tmp_path):
    experiment = Experiment.start(Settings(epochs=1, batch_size=256), tmp_path)
    experiment.find_lr()
    finish(experiment)
    files = experiment.report()
    assert {path.name for path in files} == {
        "checkpoint.safetensors",
        "metrics.csv",
        "lr_range.png",
        "schedule.png",
        "loss.png",
        "report.html",
    }
    assert all(path.stat().st_size > 0 for path in files)
    assert {path.name for path in experiment.folder.iterdir()} == {path.name for path in files}
    assert "of the held-out images are right" in (experiment.folder / "report.html").read_text()


def test_runs_do_not_overwrite_each_other(tmp_path):
    names = [Experiment.start(Settings(), tmp_path).folder.name for _ in range(3)]
    assert names == ["digits-1", "digits-2", "digits-3"]


def test_divergence_is_said_and_the_last_checkpoint_stays(tmp_path):
    experiment = Experiment.start(Settings(**{**SHORT, "epochs": 3}, schedule="constant"), tmp_path)
    list(experiment.train(stop_after(6)))
    saved = experiment.checkpoint.read_bytes()
    with torch.no_grad():
        next(experiment.task.model.parameters()).fill_(math.nan)
    with pytest.raises(ArithmeticError, match=r"loss is nan at step 7, lr 0.003.*--lr 0.0003"):
        finish(experiment)
    assert experiment.checkpoint.read_bytes() == saved


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"optimizer": "adamm"}, r"optimizer 'adamm' is not known\. Did you mean 'adam'\?.*radam"),
        ({"task": "digit"}, r"task 'digit' is not known\. Did you mean 'digits'\?"),
        ({"schedule": "zzz"}, r"schedule 'zzz' is not known\. Choose from: constant"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"lr": math.nan}, "lr is nan"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": -3}, "batch_size is -3"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_settings_are_checked_before_anything_runs(wrong, message):
    with pytest.raises(ValueError, match=message):
        Settings(**wrong)


def test_a_folder_without_a_checkpoint_cannot_be_resumed(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint at"):
        Experiment.resume(tmp_path)


def test_a_truncated_checkpoint_is_said_to_be_damaged(tmp_path):
    experiment = Experiment.start(Settings(**SHORT), tmp_path)
    list(experiment.train(stop_after(1)))
    whole = experiment.checkpoint.read_bytes()
    experiment.checkpoint.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors is damaged"):
        Experiment.resume(experiment.folder)


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    checkpoint.save(tmp_path / "checkpoint.safetensors", extra={"run": {}, "extra": {}})
    with pytest.raises(CheckpointError, match="was not written by surefoot train"):
        Experiment.resume(tmp_path)

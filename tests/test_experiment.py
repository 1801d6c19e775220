import json
import math
import os
import subprocess
from dataclasses import replace
from html import escape
from pathlib import Path

import pytest
import tiny
import torch

from surefoot import archive, checkpoint, experiment, metrics, records
from surefoot.checkpoint import CheckpointError
from surefoot.choices import OPTIMIZERS, SCHEDULES
from surefoot.experiment import Experiment
from surefoot.lock import LockedError
from surefoot.tasks import TASKS, Task, TaskError
from surefoot.update import NonFiniteLossError

TINY = {"task": tiny.PATH}


@pytest.fixture(autouse=True)
def _not_to_the_disk(monkeypatch):
    """These are many runs; what a loss of power leaves is tested elsewhere."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


def finish(experiment):
    return list(experiment.train(lambda: False))


def weights(experiment):
    return [p.detach().clone() for p in experiment.task.model.parameters()]


def tables(experiment):
    names = [f"{name}.{kind}" for name in ("metrics", "ratios") for kind in ("csv", "jsonl")]
    return [(experiment.folder / name).read_text() for name in names]


def stop_after(steps):
    """A ``stopped`` that turns true when it has been asked ``steps`` times."""
    asked = 0

    def stopped():
        nonlocal asked
        asked += 1
        return asked >= steps

    return stopped


def whole_and_broken(given, tmp_path, stops):
    """The same run, one that was never stopped and one that was after each of ``stops`` steps."""
    with Experiment.start(given, tmp_path) as whole:
        finish(whole)
    broken = Experiment.start(given, tmp_path)
    for steps in stops:
        list(broken.train(stop_after(steps)))
        assert not broken.finished
        broken.close()
        broken = Experiment.resume(broken.folder)
    finish(broken)
    broken.close()
    return whole, broken


@pytest.mark.parametrize(
    "setting",
    [
        *({"schedule": name} for name in SCHEDULES),
        *({"optimizer": name} for name in OPTIMIZERS),
        {"schedule": "warmup(5) >> cosine(11)"},
        {"schedule": "linear", "warmup": 5},
        {"steps": 13, "evaluate_every": 3, "clip_norm": 0.1},
        {"accumulate": 2, "epochs": 3},
        {"accumulate": 3, "steps": 9},
        {"ema": 0.9},
        {"dtype": "bfloat16"},
        {"dtype": "float16"},
    ],
    ids=str,
)
def test_a_run_that_was_stopped_and_resumed_is_the_run_that_was_not(setting, tmp_path):
    # Two stops: inside the first pass, and at its very end (eight batches).
    whole, broken = whole_and_broken({**TINY, **setting}, tmp_path, (2, 6))
    assert broken.finished
    assert all(torch.equal(one, other) for one, other in zip(weights(whole), weights(broken), strict=True))
    assert broken.rows == whole.rows
    assert tables(broken) == tables(whole)
    each = -(-8 // setting.get("accumulate", 1))
    assert len(whole.rows) == setting.get("steps", setting.get("epochs", 2) * each)


def test_rows_after_the_checkpoint_are_made_again(tmp_path):
    """As after a kill: metrics are ahead of the checkpoint, and the last line is cut short."""
    with Experiment.start(TINY, tmp_path) as killed:
        list(killed.train(stop_after(10)))
        saved = killed.checkpoint.read_bytes()
    with Experiment.resume(killed.folder) as killed:
        list(killed.train(stop_after(3)))
    killed.checkpoint.write_bytes(saved)
    for name in records.TABLES:
        text = (killed.folder / name).read_text()
        (killed.folder / name).write_text(text[:-5])
    with Experiment.resume(killed.folder) as killed:
        finish(killed)
    with Experiment.start(TINY, tmp_path) as whole:
        finish(whole)
    assert tables(killed) == tables(whole)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lion"])
def test_optimizers_learn(name, tmp_path):
    with Experiment.start({**TINY, "optimizer": name, "epochs": 12}, tmp_path) as run:
        rows = finish(run)
    looks = [row["val_loss"] for row in rows if "val_loss" in row]
    assert looks[-1] < looks[0]


def test_the_average_is_what_is_looked_at(tmp_path):
    rows = {}
    for ema in (0.0, 0.999):
        with Experiment.start({**TINY, "ema": ema}, tmp_path) as run:
            rows[ema] = finish(run)
    assert [row["loss"] for row in rows[0.0]] == [row["loss"] for row in rows[0.999]]
    last, averaged = (rows[ema][-1]["val_loss"] for ema in rows)
    first = rows[0.0][0]["loss"]
    assert abs(averaged - first) < abs(last - first)  # it is still near the first weights


def parts():
    """A task whose loss has two parts, and a third that is only watched."""

    def loss(model, batch):
        error = (model(batch) - batch).pow(2).mean()
        return {"loss": error + 0.1, "recon": error, "offset": torch.tensor(0.1)}

    model = torch.nn.Linear(1, 1)
    line = torch.linspace(-1, 1, 8)[:, None]
    return Task(model, loss, line.split(2), line.split(4), settings={"lr": 0.1, "epochs": 2})


def test_losses_by_name_are_in_the_table_and_in_the_report(tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, "parts", parts)
    whole, broken = whole_and_broken({"task": "parts"}, tmp_path, (2,))
    assert tables(broken) == tables(whole)
    head = tables(whole)[0].split("\n")[0]
    assert head.startswith("step,epoch,loss,loss_recon,loss_offset,lr_weights,lr_biases_norms,")
    row = whole.rows[-1]
    assert row["loss"] == pytest.approx(row["loss_recon"] + row["loss_offset"])
    assert len(records.story_of(whole.folder).metrics["loss_recon"]) == 8


BUMPY = {"optimizer": "sgd", "lr": 3.0, "schedule": "constant"}


def test_the_best_update_is_kept(tmp_path):
    with Experiment.start({**TINY, **BUMPY, "evaluate_every": 1}, tmp_path) as run:
        rows = finish(run)
    best = min(rows, key=lambda row: row["val_loss"])
    assert best["step"] < len(rows)
    saved = archive.load(run.folder / "best.safetensors")
    assert saved["extra"]["run"]["position"]["step"] == best["step"]
    checkpoint.load(run.folder / "best.safetensors", model=run.task.model)
    assert run.task.evaluate()["loss"] == best["val_loss"]


def hopeless():
    """A task whose learning rate is a little too high: each update overshoots by a twentieth more than the last."""
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1, bias=False)
    settings = {"optimizer": "sgd", "lr": 1.025, "momentum": 0.0, "schedule": "constant", "weight_decay": 0.0}
    return Task(model, lambda model, x: model(x).pow(2).mean(), torch.ones(32, 1).split(4), settings=settings)


def test_what_goes_wrong_is_kept_through_a_resume_and_told_once(tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, "hopeless", hopeless)
    whole, broken = whole_and_broken({"task": "hopeless", "steps": 160}, tmp_path, (90,))
    for run in (whole, broken):
        kinds = [finding.kind for finding in run.findings]
        assert "diverged" in kinds
        assert len(set(kinds)) == len(kinds)
        assert records.findings_in(run.folder) == run.findings
        page = run.report().read_text()
        assert all(escape(finding.advice) in page for finding in run.findings)


def test_sizes_of_updates_and_times_are_in_tables_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "RATIO_ROWS", 5)
    with Experiment.start(TINY, tmp_path) as run:
        finish(run)
    sizes, times = metrics.read(run.folder, "ratios"), metrics.read(run.folder, "times")
    assert [row["step"] for row in sizes] == [3, 6, 9, 12, 15]
    assert all(0 < row["0.weight"] < 1 for row in sizes)
    assert [row["samples"] for row in times] == [4] * 16
    assert all(row["seconds"] >= row["waited"] >= 0 for row in times)
    story = records.story_of(run.folder)
    assert [*story.ratios] == ["0.weight", "4.weight"]
    assert len(story.throughput) == 16


def test_norms_and_biases_are_not_decayed(tmp_path):
    with Experiment.start({**TINY, "weight_decay": 0.3}, tmp_path) as run:
        decayed, kept = run.optimizer.param_groups
        assert (decayed["weight_decay"], kept["weight_decay"]) == (0.3, 0.0)
        assert decayed["param_names"] == ["0.weight", "4.weight"]
        together = [*decayed["params"], *kept["params"]]
        assert {id(p) for p in together} == {id(p) for p in run.task.model.parameters()}


def test_data_without_a_length_are_trained_by_steps(tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, "endless", tiny.endless)
    whole, broken = whole_and_broken({"task": "endless", "steps": 9, "schedule": "constant"}, tmp_path, (4,))
    assert broken.rows == whole.rows
    assert [row["step"] for row in whole.rows] == [*range(1, 10)]
    assert "val_loss" not in whole.rows[-1]
    assert whole.report()


def test_patience_ends_a_run_that_is_not_getting_better(tmp_path):
    given = {**TINY, "patience": 3, "evaluate_every": 2, "epochs": 50, "optimizer": "sgd", "lr": 1e-12}
    given["schedule"] = "constant"
    whole, broken = whole_and_broken(given, tmp_path, (3,))
    assert broken.rows == whole.rows
    assert whole.finished
    losses = [row["val_loss"] for row in whole.rows if "val_loss" in row]
    assert min(losses[-3:]) >= min(losses[:-3])
    assert len(whole.rows) < whole.total_steps
    with Experiment.resume(whole.folder) as again:
        assert finish(again) == []


def test_the_range_test_leaves_no_trace_and_its_rate_is_written(tmp_path):
    given = {**TINY, "lr": "auto"}
    with Experiment.start(given, tmp_path) as found, Experiment.start(given, tmp_path) as fresh:
        lr = found.find_lr().suggestion
        assert found.settings.lr == lr
        assert f"\nlr = {lr}\n" in (found.folder / "settings.toml").read_text()
        assert '\nlr = "auto"\n' in (fresh.folder / "settings.toml").read_text()
        assert all(torch.equal(one, other) for one, other in zip(weights(found), weights(fresh), strict=True))
        list(found.train(stop_after(2)))
    told = json.loads((found.folder / "lr_finding.json").read_text(), parse_constant=pytest.fail)
    assert told["suggestion"] == lr
    with Experiment.resume(found.folder) as again:
        finish(again)
    assert again.settings.lr == lr
    story = records.story_of(again.folder)
    assert (story.finding.suggestion, len(story.finding.lr)) == (lr, len(told["sweep"]["lr"]))
    assert "Learning-rate range test" in again.report().read_text()


def test_the_commit_is_that_of_the_task_file(tmp_path):
    path = tmp_path / "mine" / "task.py"
    path.parent.mkdir()
    path.write_text(Path(tiny.PATH).read_text())
    git = ["git", "-C", str(path.parent), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "a"]):
        subprocess.run([*git, *command], check=True)
    for dirty in ("false", "true"):
        with Experiment.start({"task": str(path)}, tmp_path) as run:
            assert f"dirty = {dirty}" in (run.folder / "settings.toml").read_text()
        path.write_text(path.read_text() + "\n")


def test_runs_do_not_overwrite_each_other_and_leave_nothing_untrained(tmp_path):
    runs = [Experiment.start(TINY, tmp_path) for _ in range(3)]
    assert [run.folder.name for run in runs] == ["tiny-1", "tiny-2", "tiny-3"]
    for run in runs:
        run.close()
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_cannot_begin_leaves_no_folder(tmp_path, monkeypatch):
    def full(folder):
        raise OSError("No space left on device")

    monkeypatch.setattr(experiment, "Lock", full)
    with pytest.raises(OSError, match="No space"):
        Experiment.start(TINY, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_divergence_is_said_and_the_last_checkpoint_stays(tmp_path):
    with Experiment.start({**TINY, "schedule": "constant"}, tmp_path) as run:
        list(run.train(stop_after(6)))
        saved = run.checkpoint.read_bytes()
        with torch.no_grad():
            next(run.task.model.parameters()).fill_(math.nan)
        with pytest.raises(NonFiniteLossError, match=r"loss is nan at step 7, lr 0\.01"):
            finish(run)
    assert run.checkpoint.read_bytes() == saved
    assert [row["step"] for row in metrics.read(run.folder)] == [*range(1, 7)]


def test_a_folder_without_a_checkpoint_cannot_be_resumed(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint at"):
        Experiment.resume(tmp_path)


def test_a_truncated_checkpoint_is_said_to_be_damaged(tmp_path):
    with Experiment.start(TINY, tmp_path) as run:
        list(run.train(stop_after(1)))
    whole = run.checkpoint.read_bytes()
    run.checkpoint.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors is damaged"):
        Experiment.resume(run.folder)
    assert not (run.folder / "lock").exists()


@pytest.mark.parametrize(
    "extra", [None, {"run": {}, "extra": {}}, {"extra": {"settings": {"a": 1}, "lr_range": 1, "seconds": 1}}]
)
def test_a_checkpoint_of_something_else_is_refused(tmp_path, extra):
    checkpoint.save(tmp_path / "checkpoint.safetensors", extra=extra)
    with pytest.raises(CheckpointError, match="was not written by surefoot train"):
        Experiment.resume(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def test_metrics_that_lack_what_the_checkpoint_has_are_named_and_nothing_is_changed(tmp_path):
    with Experiment.start(TINY, tmp_path) as run:
        list(run.train(stop_after(6)))
    path = run.folder / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    before = tables(run)
    with pytest.raises(
        ValueError, match="ends at step 3, but the checkpoint is of step 6: put the file back"
    ):
        Experiment.resume(run.folder)
    assert tables(run) == before
    path.unlink()
    with Experiment.resume(run.folder) as resumed:
        finish(resumed)
    assert [row["step"] for row in resumed.rows] == [*range(7, 17)]


def run_in(folder, times=1):
    for _ in range(times):
        with Experiment.start(TINY, folder) as run:
            finish(run)


def mounted(folder, *options):
    return subprocess.run(["mount", *options, "tmpfs", folder], capture_output=True).returncode == 0


def test_a_folder_that_is_full_or_cannot_be_written_to(tmp_path):
    """For real, where a file system may be mounted."""
    if not mounted(tmp_path, "-t", "tmpfs", "-o", "size=400k"):
        pytest.skip("no file system may be mounted here")
    try:
        with pytest.raises(OSError, match="No space left on device"):
            run_in(tmp_path, times=9)
        assert [*tmp_path.glob("*/lock")] == []
        assert mounted(tmp_path, "-o", "remount,ro")
        with pytest.raises(OSError, match=r"Read-only file system: '.*tiny-"):
            run_in(tmp_path)
        with pytest.raises(OSError, match=r"Read-only file system: '.*lock'"):
            Experiment.resume(tmp_path / "tiny-1")
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_run_that_is_held_cannot_be_resumed(tmp_path, monkeypatch):
    with Experiment.start(TINY, tmp_path) as run:
        list(run.train(stop_after(2)))

    def held(folder):
        raise LockedError("held")

    monkeypatch.setattr(experiment, "Lock", held)
    with pytest.raises(LockedError):
        Experiment.resume(run.folder)


def test_settings_that_were_edited_since_are_named_and_nothing_is_changed(tmp_path):
    with Experiment.start({**TINY, "epochs": 2}, tmp_path) as begun:
        list(begun.train(stop_after(2)))
    path = begun.folder / records.SETTINGS
    path.write_text(path.read_text().replace("epochs = 2", "epochs = 5"))
    before = begun.checkpoint.read_bytes()
    with pytest.raises(ValueError, match="epochs = 5, the run was begun with 2: put it back to go on"):
        Experiment.resume(begun.folder)
    assert begun.checkpoint.read_bytes() == before


def test_what_finish_raises_is_told_with_its_name(tmp_path, monkeypatch):
    with Experiment.start(TINY, tmp_path) as run:
        finish(run)
        monkeypatch.setattr(run, "task", replace(run.task, finish=lambda model: 1 / 0))
        with pytest.raises(TaskError, match="finish failed, after the training: ZeroDivisionError"):
            run.last_words()

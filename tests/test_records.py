import json
import math
import shutil

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from surefoot import records, report
from surefoot.diagnosis import Finding
from surefoot.experiment import Experiment
from surefoot.records import Records
from surefoot.settings import Settings, as_toml

ROWS = [
    '{"step": 1, "epoch": 1, "loss": 2.0, "lr_weights": 0.1}',
    '{"step": 2, "epoch": 1, "loss": 1.0, "lr_weights": 0.1, "val_loss": 0.5, "val_accuracy": 0.9}',
    '{"step": 3, "epoch": 2, "loss": 1.5, "lr_weights": 0.1, "val_loss": null, "val_accuracy": 0.1}',
    '{"step": 4, "epoch": 2, "loss": 1.2, "lr_weights": 0.1, "val_loss": 0.6, "val_accuracy": 0.95}',
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "settings.toml").write_text(as_toml(Settings(epochs=3)))
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("count", "best", "progress", "result"),
    [
        (0, {}, "0/3 epochs", "Nothing yet."),
        (1, {}, "1/3 epochs", "The loss is 2.0000 after 1/3 epochs."),
        (2, {"loss": 0.5, "accuracy": 0.9}, "1/3 epochs", "On the held-out data: loss 0.5000, accuracy 90.00%, after 1/3 epochs."),
        (4, {"loss": 0.5, "accuracy": 0.9}, "2/3 epochs", "On the held-out data: loss 0.6000, accuracy 95.00%, after 2/3 epochs."),
    ],
)  # fmt: skip
def test_what_a_folder_tells(folder, count, best, progress, result):
    (folder / "metrics.jsonl").write_text("".join(f"{row}\n" for row in ROWS[:count]))
    read = Records.read(folder)
    assert (read.best, read.progress, read.result) == (best, progress, result)
    assert read.settings == Settings(epochs=3)
    assert math.isfinite(read.changed)


def test_a_result_is_told_with_the_update_at_which_it_was(folder):
    (folder / "settings.toml").write_text(as_toml(Settings(steps=9)))
    (folder / "metrics.jsonl").write_text(
        "".join(f"{row}\n" for row in ROWS[:2]) + '{"step": 3, "loss": 1.0}\n'
    )
    read = Records.read(folder)
    assert read.progress == "3/9 steps"
    assert read.result == "On the held-out data: loss 0.5000, accuracy 90.00%, after 2/9 steps."


def test_folders_of_runs_are_found_in_order(folder):
    (folder.parent / "a file").touch()
    (folder.parent / "empty").mkdir()
    assert list(records.found(folder.parent)) == [folder]
    assert list(records.found(folder.parent / "nowhere")) == []


def test_a_folder_that_is_not_of_a_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is not the folder of a run: it has no settings\.toml"):
        Records.read(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that clips and warms up, of which two passes of three are done."""
    given = {"task": tiny.PATH, "epochs": 3, "clip_norm": 0.1, "schedule": "cosine", "warmup": 4}
    asked = iter(range(100))
    with Experiment.start(given, tmp_path_factory.mktemp("runs")) as run:
        list(run.train(lambda: next(asked) == 15))
    return run.folder


def test_a_run_that_is_under_way_is_told(trained):
    story = records.story_of(trained)
    assert story.title == "tiny-1"
    assert story.result.startswith("On the held-out data: loss 0.")
    assert "after 2/3 epochs. Training took" in story.result
    assert story.resume == f"surefoot train --resume {trained}"
    assert list(story.step) == [*range(1, 17)]
    assert 0 < min(story.clip_coef) < 1
    assert min(story.grad_norm) > 0
    assert min(story.throughput) > 0
    assert records.write_report(trained).name == "report.html"


def test_the_rates_of_the_plan_are_those_that_were(trained):
    story = records.story_of(trained)
    assert list(story.planned) == list(story.lr) == ["weights", "biases and norms"]
    for group, rates in story.lr.items():
        assert len(story.planned[group]) == 24
        assert rates == pytest.approx(story.planned[group][:16])


@pytest.mark.parametrize("unplanned", [Settings(lr=0.1, schedule="plateau"), Settings()])
def test_what_is_not_known_before_is_not_planned(trained, tmp_path, unplanned):
    folder = shutil.copytree(trained, tmp_path / "run")
    (folder / "settings.toml").write_text(as_toml(unplanned))
    assert records.story_of(folder).planned == {}


DAMAGED = ["{", "[3]", "3", "null", '{"sweep": {}}', '[{"kind": "diverged"}]']


@pytest.mark.parametrize("text", DAMAGED)
def test_damaged_files_are_named(folder, text):
    (folder / "lr_finding.json").write_text(text)
    (folder / "diagnosis.json").write_text(text)
    with pytest.raises(ValueError, match=r"lr_finding\.json is damaged, or of another version.*delete it"):
        records.finding_in(folder)
    with pytest.raises(ValueError, match=r"diagnosis\.json is damaged, or of another version.*delete it"):
        records.findings_in(folder)


def test_what_was_found_is_read_again(folder):
    assert (records.finding_in(folder), records.findings_in(folder)) == (None, [])
    found = Finding("diverged", 30, "The loss diverged.", "Lower the rate.")
    records.keep(folder / "diagnosis.json", [vars(found)])
    sweep = {"lr": (0.1, 0.2), "loss": (1.0, math.inf), "fitted": (math.nan, 1.0)}
    told = {"sweep": sweep, "suggestion": 0.1, "interval": (0.05, 0.2), "reason": "so", "trials": []}
    records.keep(folder / "lr_finding.json", {**told, "abstained": True})
    assert records.findings_in(folder) == [found]
    assert records.finding_in(folder) == report.Finding(
        lr=[0.1, 0.2],
        loss=[1.0, None],
        fitted=[None, 1.0],
        suggestion=0.1,
        reason="so",
        abstained=True,
    )


VALUES = st.recursive(
    st.none() | st.floats() | st.integers() | st.text(),
    lambda each: st.lists(each) | st.dictionaries(st.text(), each),
)


@settings(max_examples=30)
@given(VALUES)
def test_what_is_kept_is_json_for_everyone(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("kept") / "a.json"
    records.keep(path, value)
    json.loads(path.read_text(), parse_constant=pytest.fail)

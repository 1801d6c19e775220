import math

import pytest

from surefoot import records
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


def test_folders_of_runs_are_found_in_order(folder):
    (folder.parent / "a file").touch()
    (folder.parent / "empty").mkdir()
    assert list(records.found(folder.parent)) == [folder]
    assert list(records.found(folder.parent / "nowhere")) == []


def test_a_folder_that_is_not_of_a_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is not the folder of a run: it has no settings\.toml"):
        Records.read(tmp_path)

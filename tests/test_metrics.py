import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surefoot.metrics import Metrics, read

COLUMNS = ["step", "loss", "val_loss"]


def rows(count):
    return [
        {"step": i, "loss": 1 / i, **({"val_loss": i / 3} if i % 4 == 0 else {})} for i in range(1, count + 1)
    ]


def written(folder, rows, step=0):
    metrics = Metrics(folder, COLUMNS, step)
    for row in rows:
        metrics.append(row)
    metrics.close()
    return [(folder / name).read_bytes() for name in ("metrics.csv", "metrics.jsonl")]


@settings(max_examples=20)
@given(st.data())
def test_after_any_resumes_the_files_are_those_of_one_run(tmp_path_factory, data):
    all_rows = rows(9)
    whole = written(tmp_path_factory.mktemp("whole"), all_rows)
    folder, saved = tmp_path_factory.mktemp("broken"), 0
    for _ in range(data.draw(st.integers(0, 3))):
        reached = data.draw(st.integers(saved, 9))
        written(folder, all_rows[saved:reached], saved)
        for name in ("metrics.csv", "metrics.jsonl"):  # killed while a line was written
            with open(folder / name, "a") as file:
                file.write(data.draw(st.sampled_from(["", "9", '{"step": 9, "lo'])))
        saved = data.draw(st.integers(saved, reached))
    assert written(folder, all_rows[saved:], saved) == whole


def test_a_new_run_begins_anew(tmp_path):
    written(tmp_path, rows(3))
    assert written(tmp_path, [])[0] == b"step,loss,val_loss\n"


def test_rows_are_on_the_disk_after_a_flush(tmp_path):
    metrics = Metrics(tmp_path, COLUMNS)
    metrics.append(rows(1)[0])
    metrics.flush()
    assert read(tmp_path) == metrics.rows == rows(1)
    metrics.close()


def test_what_is_not_finite_is_null_and_read_as_nan(tmp_path):
    written(tmp_path, [{"step": 1, "loss": math.inf, "val_loss": math.nan}])
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "loss": None, "val_loss": None}
    assert (tmp_path / "metrics.csv").read_text().splitlines()[1] == "1,inf,nan"
    assert math.isnan(read(tmp_path)[0]["loss"])


@pytest.mark.parametrize("line", ["{", "3", "step"])
def test_a_line_that_is_damaged_is_named(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl is damaged at line 2"):
        read(tmp_path)


def test_rows_that_the_checkpoint_has_and_the_file_lacks(tmp_path):
    written(tmp_path, rows(3))
    with pytest.raises(ValueError, match="ends at step 3, but the checkpoint is of step 5"):
        Metrics(tmp_path, COLUMNS, step=5)
    assert len(read(tmp_path)) == 3
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(ValueError, match="ends at step 0"):
        Metrics(tmp_path, COLUMNS, step=5)
    assert read(tmp_path / "nowhere") == []

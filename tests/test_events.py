import math

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from surefoot import events
from surefoot.events import Events


def rows(first, last):
    return [
        {"step": step, "loss": 1 / step, **({"val_loss": 2.0} if step == 4 else {})}
        for step in range(first, last + 1)
    ]


def shown(folder):
    """What TensorBoard has of each number: pairs of step and value."""
    read = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {
        name: [(event.step, event.value) for event in read.Scalars(name)] for name in read.Tags()["scalars"]
    }


def written(folder, rows, step=0, before=()):
    made = Events(folder, step, before)
    for row in rows:
        made.append(row)
    made.close()


@pytest.mark.parametrize("kept", [0, 1, 3, 5])
def test_after_a_resume_the_events_are_those_of_one_run(tmp_path, kept):
    written(tmp_path, rows(1, 5))
    written(tmp_path, rows(kept + 1, 8), kept, rows(1, kept))
    seen = shown(tmp_path)
    assert seen["loss"] == [(step, pytest.approx(1 / step)) for step in range(1, 9)]
    assert seen["val_loss"] == [(4, 2.0)]


def test_events_that_begin_later_have_the_rows_before(tmp_path):
    written(tmp_path, rows(4, 5), 3, rows(1, 3))
    assert [step for step, _ in shown(tmp_path)["loss"]] == [1, 2, 3, 4, 5]


def test_they_are_in_the_file_after_a_flush_and_may_be_no_number(tmp_path):
    made = Events(tmp_path)
    made.append({"step": 1, "loss": math.nan})
    made.flush()
    assert math.isnan(shown(tmp_path)["loss"][0][1])
    made.close()


def test_a_missing_package_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for asked in (events.needed, lambda: Events(tmp_path)):
        with pytest.raises(ImportError, match=r"pip install 'surefoot\[tensorboard\]'"):
            asked()

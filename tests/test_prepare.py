import pytest
import tiny
import torch

from surefoot.prepare import find_lr, for_run, optimizer_of, prepared, total_steps, updates_of_a_pass
from surefoot.settings import Settings
from surefoot.tasks import TASKS, Task, TaskError

TINY = {"task": tiny.PATH}


def test_a_model_without_norms_and_biases_has_one_group():
    weight = torch.nn.Linear(2, 1, bias=False)
    weight.register_parameter("frozen", torch.nn.Parameter(torch.ones(1), requires_grad=False))
    settings, _ = prepared(TINY)
    (group,) = optimizer_of(settings, Task(weight, lambda m, x: m(x).mean(), [])).param_groups
    assert group["param_names"] == ["weight"]


def test_what_is_given_goes_before_what_the_task_says(monkeypatch):
    own = {"epochs": 5, "clip_norm": 1.0, "optimizer": "lion", "steps": 40}
    real = tiny.task
    made = lambda batch_size=3: Task(**{**vars(real(batch_size)), "settings": own})  # noqa: E731
    monkeypatch.setitem(TASKS, "made", made)
    settings, _ = prepared({"task": "made"})
    assert (settings.steps, settings.clip_norm, settings.optimizer, settings.batch_size) == (
        40,
        1.0,
        "lion",
        3,
    )
    settings, task = prepared({"task": "made", "epochs": 2, "clip_norm": 0.0, "batch_size": 8})
    assert (settings.steps, settings.epochs, settings.clip_norm, settings.batch_size) == (0, 2, 0.0, 8)
    assert len(task.train_loader) == 4
    own["batch_size"] = 7
    with pytest.raises(TaskError, match="batch_size is in the settings of made: make it an argument of task"):
        prepared({"task": "made"})
    del own["batch_size"]
    own["epoch"] = 7
    with pytest.raises(TaskError, match="settings of made: setting 'epoch' is not known"):
        prepared({"task": "made"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "steps is 0, and the length of train_loader is not known"),
        (
            {"steps": 5, "patience": 2},
            "patience is 2, which watches the held-out loss: the task has no val_loader",
        ),
        ({"steps": 5, "schedule": "plateau"}, "schedule is 'plateau', which watches the held-out loss"),
    ],
)
def test_settings_that_the_task_cannot_follow_are_said(monkeypatch, given, message):
    monkeypatch.setitem(TASKS, "endless", tiny.endless)
    with pytest.raises(ValueError, match=message):
        prepared({"task": "endless", **given})


@pytest.mark.parametrize("given", [{}, {"accumulate": 3, "dtype": "bfloat16"}, {"dtype": "float16"}])
def test_a_range_test_of_any_batches_leaves_no_trace(given):
    settings, task = prepared({**TINY, **given})
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    optimizer = optimizer_of(settings, task)
    found = find_lr(settings, task, optimizer, total_steps(settings, task), "sweep")
    assert 1e-5 < found.suggestion < 10
    assert all(torch.equal(before[name], value) for name, value in task.model.state_dict().items())
    assert not optimizer.state


@pytest.mark.parametrize(
    ("given", "each", "total"),
    [
        ({}, 8, 16),
        ({"accumulate": 3}, 3, 6),
        ({"accumulate": 8}, 1, 2),
        ({"accumulate": 9, "steps": 5}, 1, 5),
    ],
)
def test_batches_that_are_taken_together_make_fewer_updates(given, each, total):
    settings, task = prepared({**TINY, **given})
    assert (updates_of_a_pass(settings, task), total_steps(settings, task)) == (each, total)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_loss_of_half_precision_is_scaled(dtype):
    _, task = prepared(TINY)
    made = for_run(Settings(dtype=dtype, accumulate=2), task)
    assert made["autocast"] is (None if dtype == "float32" else getattr(torch, dtype))
    assert (made["scaler"] is not None, made["accumulate"]) == (dtype == "float16", 2)

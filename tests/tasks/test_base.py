import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from surefoot.batch import length
from surefoot.data import pass_length
from surefoot.tasks.base import Task, shapes, total


def test_each_sample_counts_the_same_and_the_model_is_left_in_evaluation_mode():
    data = torch.arange(5.0)[:, None]
    task = Task(
        nn.Linear(1, 1),
        lambda model, x: {"loss": x.mean()},
        [],
        data.split(2),
        {"largest": lambda model, x: x.max()},
    )
    assert task.evaluate() == {"loss": 2.0, "largest": pytest.approx((1 * 2 + 3 * 2 + 4) / 5)}
    assert not task.model.training


def test_held_out_batches_are_moved_to_the_model():
    far = nn.Linear(1, 1, device="meta")
    task = Task(far, lambda model, x: 1.0, [], [torch.ones(2, 1)], {"far": lambda model, x: x.is_meta})
    assert task.evaluate() == {"loss": 1.0, "far": 1.0}


def test_without_held_out_data_there_is_nothing_to_tell():
    assert Task(nn.Linear(1, 1), lambda model, x: x.mean(), []).evaluate() == {}


def test_what_is_made_small():
    one, two = torch.tensor(1.0), torch.tensor(2.0)
    output = type("Output", (), {"loss": one})()
    for loss, small in (
        (one, one),
        ({"loss": two, "other": one}, two),
        ({"a": one, "b": two}, one + two),
        (output, one),
    ):
        assert torch.equal(total(loss), small)


@pytest.mark.parametrize(
    ("batch", "size", "told"),
    [
        (torch.ones(3, 2), 3, "3 x 2 float32"),
        ([torch.ones(4, 1), torch.zeros(4, dtype=torch.long)], 4, "4 x 1 float32, 4 int64"),
        (
            {"a": "text", "b": (torch.tensor(1.0), torch.ones(2, dtype=torch.bool))},
            2,
            "scalar float32, 2 bool",
        ),
        ("text", 1, "a str without tensors"),
        ([], 1, "a list without tensors"),
    ],
)
def test_batches_of_any_kind(batch, size, told):
    assert (length(batch), shapes(batch)) == (size, told)


def test_how_long_a_pass_is():
    class Endless(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter([torch.ones(1)])

    assert pass_length(DataLoader(range(5), 2)) == 3
    assert pass_length(DataLoader(Endless())) is None
    assert pass_length(x for x in [1]) is None

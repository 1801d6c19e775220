"""The rate and other hyperparameters at once."""

import math
from typing import Any

import pytest
import torch
from lr_finder.runs import plain_net
from torch import nn
from trainings import bits, dataset, everything, loader, seed

import surefoot as optim

pytestmark = pytest.mark.usefixtures("one_thread")


def parts(build: Any = lambda params: optim.SGD(params, lr=0.1, momentum=0.9)) -> Any:
    seed()
    model = plain_net()
    return model, build(model.parameters()), nn.CrossEntropyLoss(), loader(dataset(400))


def test_what_harms_is_not_chosen_and_nothing_is_left() -> None:
    model, optimizer, criterion, data = parts()
    before = everything(model, optimizer, data), bits([optimizer.state_dict()])
    found = optim.find(
        model, optimizer, criterion, data, over={"weight_decay": [0.0, 10.0], "momentum": [0.9]}
    )
    assert found.best["weight_decay"] == 0
    assert found.clear
    assert found.best["lr"] == pytest.approx(found.lrs[found.scores[0].index(min(found.scores[0]))], rel=1)
    assert found.best["lr"] < max(found.lrs)
    assert found.batches <= 600
    assert (everything(model, optimizer, data), bits([optimizer.state_dict()])) == before
    assert str(found).startswith("lr ")


def test_a_single_combination_has_nothing_to_be_compared_with() -> None:
    found = optim.find(*parts(), over={"momentum": [0.9]})
    assert not found.clear
    assert "alone was tried" in found.reason


def test_momentum_is_the_first_of_betas() -> None:
    found = optim.find(*parts(optim.Adam), over={"momentum": [0.9], "betas[1]": [0.9, 0.999]})
    assert [sorted(each) for each in found.combinations] == [["betas[1]", "momentum"]] * 2


@pytest.mark.parametrize("seconds", [1e-9, 0.06])
def test_where_time_is_over_what_was_not_tried_is_no_number(seconds: float) -> None:
    found = optim.find(*parts(), over={"momentum": [0.5, 0.9]}, max_seconds=seconds)
    assert not any(math.isinf(score) for row in found.scores for score in row)
    texts = {text.get_text() for text in found.plot().texts}
    assert "diverged" not in texts
    if seconds == 1e-9:
        assert texts == {"not tried"}
        assert "No combination learned anything" in found.reason


def test_where_no_loss_is_a_number_all_have_diverged() -> None:
    model, optimizer, _, data = parts()
    found = optim.find(
        model, optimizer, lambda m, b: m(b[0]).sum() * math.nan, data, over={"momentum": [0.5, 0.9]}
    )
    axes = found.plot()
    assert {text.get_text() for text in axes.texts} == {"diverged"}
    assert not axes.patches  # none is marked as the best


def test_the_lowest_of_negative_losses_is_marked() -> None:
    model, optimizer, criterion, data = parts()
    found = optim.find(
        model, optimizer, lambda m, b: criterion(m(b[0]), b[1]) - 100, data, over={"momentum": [0.5, 0.9]}
    )
    axes = found.plot()
    assert [text.get_fontweight() for text in axes.texts].count("bold") == len(axes.patches) == 1


@pytest.mark.parametrize(
    ("over", "settings", "message"),
    [
        ({}, {}, "at least one hyperparameter"),
        ({"lr": [0.1]}, {}, "leave it out"),
        ({"momentum": []}, {}, "at least one value"),
        ({"momentum": "0.9"}, {}, "at least one value"),
        ({"betas[1]": [0.9]}, {}, "has no number"),
        ({"momentum": [math.nan]}, {}, "over\\['momentum'\\]"),
        ({"momentum": [0.1, 0.9]}, {"max_batches": 200}, "allow at least 244"),
    ],
)
def test_bad_input_is_an_error_that_names_it(over: Any, settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optim.find(*parts(), over=over, **settings)


def test_the_lowest_number_of_batches_that_is_allowed_will_do() -> None:
    found = optim.find(*parts(), over={"momentum": [0.1, 0.9]}, max_batches=244)
    assert found.batches <= 244
    assert torch.isfinite(torch.tensor(found.scores[0])).any()

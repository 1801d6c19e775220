"""State of one optimizer as another would have it."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from cases import Case
from walk import assert_same, copies, gradients, params_of, walk

from surefoot.transfer import MOMENTS, transfer, transferable

PLAIN = {name: Case(name, {"weight_decay": 0.0}) for name in sorted(MOMENTS)}


def moved(source, target, **settings):
    """The target's state as the source's."""
    for mine, other in zip(params_of(source), params_of(target), strict=True):
        kinds = type(source).__name__, settings, type(target).__name__
        target.state[other] = transfer(source.state[mine], *kinds, target.param_groups[0])
    return transferable(source.state[mine], *kinds)


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(PLAIN, 2)))
def test_moments_mean_the_same_in_each_that_keeps_them(before, after):
    """As if the target had seen these gradients itself; only its own products are computed anew."""
    source = PLAIN[before].ours(torch.nn.ParameterList([torch.ones(3), torch.ones(2)]))
    grads = gradients(4, shapes=((3,), (2,)))
    walk(source, grads)
    target, itself = (PLAIN[after].ours(copies(params_of(source))) for _ in range(2))
    moved(source, target)
    walk(itself, grads)
    for mine, other in zip(params_of(target), params_of(itself), strict=True):
        torch.testing.assert_close(dict(target.state[mine]), dict(itself.state[other]), rtol=1e-5, atol=1e-8)
    walk(target, grads)


def test_momentum_of_sgd_is_a_first_gradient():
    sgd = Case("SGD", {"lr": 0.1, "momentum": 0.9}).ours([torch.zeros(2, requires_grad=True)])
    walk(sgd, [[torch.tensor([1.0, -2.0])]] * 200)  # the buffer holds ten times the gradient
    adam, itself = (
        Case("AdamW", {"weight_decay": 0.0}).ours([torch.zeros(2, requires_grad=True)]) for _ in range(2)
    )
    assert (
        moved(sgd, adam, momentum=0.9, dampening=0.0)
        == "as after one step with the mean gradient of momentum_buffer"
    )
    walk(itself, [[torch.tensor([1.0, -2.0])]])
    ((mine,), (other,)) = params_of(adam), params_of(itself)
    torch.testing.assert_close(dict(adam.state[mine]), dict(itself.state[other]), rtol=1e-5, atol=1e-8)


def test_a_largest_square_that_is_new_starts_from_the_square():
    adam = Case("Adam").ours([torch.zeros(2, requires_grad=True)])
    walk(adam, gradients(3, shapes=((2,),)))
    amsgrad = Case("Adam", {"amsgrad": True}).ours([torch.zeros(2, requires_grad=True)])
    moved(adam, amsgrad)
    ((param,),) = (params_of(amsgrad),)
    assert_same(amsgrad.state[param]["max_exp_avg_sq"], amsgrad.state[param]["exp_avg_sq"])


@pytest.mark.parametrize(
    ("before", "after", "entry"),
    [
        ("SGD", "Adam", {"momentum_buffer": None}),
        ("RMSprop", "Adam", {"step": torch.tensor(1.0), "square_avg": torch.ones(2)}),
        ("Adam", "SGD", {"step": torch.tensor(1.0), "exp_avg": torch.ones(2)}),
        ("SGD", "Adam", {"momentum_buffer": torch.ones(2)}),
        ("Adam", "Lion", {"exp_avg": torch.ones(2)}),
    ],
)
def test_what_means_nothing_is_an_error(before, after, entry):
    message = re.escape(
        f"state of {before} ({', '.join(entry)}) means nothing to {after}: leave the optimizer out"
    )
    with pytest.raises(ValueError, match=message):
        transfer(entry, before, {"momentum": 0.9, "dampening": 1}, after, {"betas": (0.9, 0.999)})

"""torch's names: their settings, good and bad. Their values are test_parity's."""

from __future__ import annotations

import math
import re

import numpy
import pytest
import torch
from lr_scheduler.schedules import IN_PASSING, make_optimizer, run, values
from torch.optim import lr_scheduler as torchs

import surefoot
from surefoot import lr_scheduler as ours

pytestmark = IN_PASSING

nan, inf = math.nan, math.inf


def factor(step):
    return 1.0


BAD = [
    ("LambdaLR", {"lr_lambda": 0.5}, TypeError, "lr_lambda=0.5 is a float: pass a function of the step"),
    ("LambdaLR", {"lr_lambda": None}, TypeError, "lr_lambda=None is a NoneType: pass a function"),
    ("LambdaLR", {"lr_lambda": [factor, 1]}, TypeError, "lr_lambda=1 is a int: pass a function of the step"),
    ("LambdaLR", {"lr_lambda": [factor]}, ValueError, "lr_lambda has 1 values, the optimizer has 2 groups"),
    ("LambdaLR", {"lr_lambda": []}, ValueError, "lr_lambda has 0 values, the optimizer has 2 groups"),
    ("StepLR", {"step_size": 0}, ValueError, "step_size=0 must be greater than 0"),
    ("StepLR", {"step_size": -5}, ValueError, "step_size=-5 must be greater than 0"),
    ("StepLR", {"step_size": "5"}, TypeError, "step_size='5' is a str: pass a number"),
    ("StepLR", {"step_size": [5, 6]}, TypeError, "step_size=[5, 6] is a list: pass a number"),
    ("StepLR", {"step_size": 5, "gamma": nan}, ValueError, "gamma=nan must be finite"),
    ("ExponentialLR", {"gamma": nan}, ValueError, "gamma=nan must be finite"),
    ("ExponentialLR", {"gamma": -inf}, ValueError, "gamma=-inf must be finite"),
    ("ExponentialLR", {"gamma": "0.9"}, TypeError, "gamma='0.9' is a str: pass a number"),
    ("CosineAnnealingLR", {"T_max": 0}, ValueError, "T_max=0 must be greater than 0"),
    ("CosineAnnealingLR", {"T_max": -1}, ValueError, "T_max=-1 must be greater than 0"),
    ("CosineAnnealingLR", {"T_max": None}, TypeError, "T_max=None is a NoneType: pass a number"),
    ("CosineAnnealingLR", {"T_max": 9, "eta_min": nan}, ValueError, "eta_min=nan must be finite"),
    (
        "CosineAnnealingLR",
        {"T_max": 9, "eta_min": "1e-6"},
        TypeError,
        "eta_min='1e-6' is a str: pass a number",
    ),
]
BAD += [
    ("OneCycleLR", {"max_lr": 0.1, **settings}, error, message)
    for settings, error, message in [
        ({}, ValueError, "OneCycleLR needs total_steps, or epochs and steps_per_epoch"),
        ({"epochs": 3}, ValueError, "OneCycleLR needs total_steps, or epochs and steps_per_epoch"),
        ({"steps_per_epoch": 3}, ValueError, "OneCycleLR needs total_steps, or epochs and steps_per_epoch"),
        ({"epochs": 0, "steps_per_epoch": 9}, ValueError, "epochs=0 must be a positive integer"),
        ({"epochs": 1.5, "steps_per_epoch": 9}, ValueError, "epochs=1.5 must be a positive integer"),
        ({"epochs": 3, "steps_per_epoch": 0}, ValueError, "steps_per_epoch=0 must be a positive integer"),
        ({"epochs": 3, "steps_per_epoch": "9"}, ValueError, "steps_per_epoch='9' must be a positive integer"),
        ({"total_steps": 0}, ValueError, "total_steps=0 must be greater than 0"),
        ({"total_steps": -9}, ValueError, "total_steps=-9 must be greater than 0"),
        ({"total_steps": 9.0}, ValueError, "total_steps=9.0 must be an integer"),
        ({"total_steps": "9"}, ValueError, "total_steps='9' must be an integer"),
    ]
]
BAD += [
    ("OneCycleLR", {"max_lr": 0.1, "total_steps": 9, **settings}, error, message)
    for settings, error, message in [
        ({"max_lr": nan}, ValueError, "max_lr=nan must be finite"),
        ({"max_lr": [0.1, inf]}, ValueError, "max_lr=inf must be finite"),
        ({"max_lr": "0.1"}, TypeError, "max_lr='0.1' is a str: pass a number"),
        (
            {"max_lr": [0.1]},
            ValueError,
            "max_lr has 1 values, the optimizer has 2 groups: pass one value or 2",
        ),
        ({"max_lr": (0.1,) * 3}, ValueError, "max_lr has 3 values, the optimizer has 2 groups"),
        ({"pct_start": -0.1}, ValueError, "pct_start=-0.1 must be in [0, 1]"),
        ({"pct_start": 30}, ValueError, "pct_start=30 must be in [0, 1]"),
        ({"pct_start": nan}, ValueError, "pct_start=nan must be in [0, 1]"),
        ({"pct_start": None}, TypeError, "pct_start=None is a NoneType: pass a number"),
        ({"anneal_strategy": "cosine"}, ValueError, "anneal_strategy='cosine' must be 'cos' or 'linear'"),
        ({"base_momentum": nan}, ValueError, "base_momentum=nan must be finite"),
        ({"base_momentum": [0.8]}, ValueError, "base_momentum has 1 values, the optimizer has 2 groups"),
        ({"max_momentum": inf}, ValueError, "max_momentum=inf must be finite"),
        ({"max_momentum": [0.8] * 3}, ValueError, "max_momentum has 3 values, the optimizer has 2 groups"),
        ({"div_factor": 0}, ValueError, "div_factor=0 must be greater than 0"),
        ({"div_factor": "25"}, TypeError, "div_factor='25' is a str: pass a number"),
        ({"final_div_factor": -1.0}, ValueError, "final_div_factor=-1.0 must be greater than 0"),
        ({"final_div_factor": nan}, ValueError, "final_div_factor=nan must be greater than 0"),
    ]
]
BAD += [
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.2, **settings}, error, message)
    for settings, error, message in [
        ({"base_lr": nan}, ValueError, "base_lr=nan must be finite"),
        ({"base_lr": [0.1]}, ValueError, "base_lr has 1 values, the optimizer has 2 groups"),
        ({"max_lr": inf}, ValueError, "max_lr=inf must be finite"),
        ({"max_lr": None}, TypeError, "max_lr=None is a NoneType: pass a number"),
        ({"max_lr": [0.1] * 3}, ValueError, "max_lr has 3 values, the optimizer has 2 groups"),
        ({"step_size_up": 0}, ValueError, "step_size_up=0 must be greater than 0"),
        ({"step_size_up": -5}, ValueError, "step_size_up=-5 must be greater than 0"),
        ({"step_size_up": "5"}, TypeError, "step_size_up='5' is a str: pass a number"),
        ({"step_size_down": -5}, ValueError, "step_size_down=-5 must be at least 0"),
        ({"step_size_down": nan}, ValueError, "step_size_down=nan must be at least 0"),
        (
            {"mode": "sawtooth"},
            ValueError,
            "mode='sawtooth' must be 'triangular', 'triangular2' or 'exp_range'",
        ),
        ({"mode": "exp_range", "gamma": nan}, ValueError, "gamma=nan must be finite"),
        ({"scale_fn": 0.5}, TypeError, "scale_fn=0.5 is a float: pass a function of the step"),
        ({"scale_fn": factor, "scale_mode": "steps"}, ValueError, "scale_mode='steps' must be 'cycle'"),
        ({"base_momentum": nan}, ValueError, "base_momentum=nan must be finite"),
        ({"max_momentum": "0.9"}, TypeError, "max_momentum='0.9' is a str: pass a number"),
        ({"max_momentum": [0.9] * 3}, ValueError, "max_momentum has 3 values, the optimizer has 2 groups"),
    ]
]


@pytest.mark.parametrize(("name", "settings", "error", "message"), BAD)
def test_bad_settings_are_named_and_change_no_value(name, settings, error, message):
    optimizer = make_optimizer(surefoot)
    before = values(optimizer)
    with pytest.raises(error, match=re.escape(message)):
        getattr(ours, name)(optimizer, **settings)
    assert values(optimizer) == before


@pytest.mark.parametrize(
    ("name", "settings"),
    [("OneCycleLR", {"max_lr": 0.1, "total_steps": 9}), ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.2})],
)
def test_no_momentum_to_cycle(name, settings):
    optimizer = surefoot.Adagrad([torch.zeros(1, requires_grad=True)])
    with pytest.raises(
        ValueError, match="Adagrad has neither momentum nor betas to cycle: pass cycle_momentum=F"
    ):
        getattr(ours, name)(optimizer, **settings)
    getattr(ours, name)(optimizer, **settings, cycle_momentum=False)
    assert "momentum" not in optimizer.param_groups[0]


@pytest.mark.parametrize("returned", ["0.1", None, nan, inf])
def test_a_function_that_returns_no_number(returned):
    def function(step):
        return returned

    message = re.escape(f"function(0) returned {returned!r}: return a finite number")
    with pytest.raises(ValueError, match=message):
        ours.LambdaLR(make_optimizer(surefoot), function)
    with pytest.raises(ValueError, match=message):
        ours.CyclicLR(make_optimizer(surefoot), 0.1, 0.2, scale_fn=function, scale_mode="iterations")


def test_a_function_that_fails_later_fails_at_that_step():
    scheduler = ours.LambdaLR(make_optimizer(surefoot), lambda step: [1.0, 0.5, None][step])
    run(scheduler, 1)
    with pytest.raises(ValueError, match=re.escape("(2) returned None: return a finite number")):
        scheduler.step()


def test_a_numpy_factor_leaves_a_plain_number_in_the_group():
    # torch.load(weights_only=True) refuses numpy's scalars, and with them the whole checkpoint.
    scheduler = ours.LambdaLR(make_optimizer(surefoot), lambda step: numpy.float64(0.5) ** step)
    run(scheduler, 1)
    assert [type(group["lr"]) for group in scheduler.optimizer.param_groups] == [float, float]


@pytest.mark.parametrize(
    ("name", "settings", "attributes"),
    [
        ("LambdaLR", {"lr_lambda": factor}, ["lr_lambdas"]),
        ("StepLR", {"step_size": 5, "gamma": 0.3}, ["step_size", "gamma"]),
        ("ExponentialLR", {"gamma": 0.3}, ["gamma"]),
        ("CosineAnnealingLR", {"T_max": 9, "eta_min": 1e-3}, ["T_max", "eta_min"]),
        ("OneCycleLR", {"max_lr": [0.1, 0.2], "epochs": 3, "steps_per_epoch": 4}, ["total_steps"]),
    ],
)
def test_settings_can_be_read_as_in_torch(name, settings, attributes):
    for attribute in [*attributes, "last_epoch", "base_lrs", "_step_count"]:
        mine, theirs = (
            getattr(getattr(schedulers, name)(make_optimizer(surefoot), **settings), attribute)
            for schedulers in (ours, torchs)
        )
        assert mine == theirs


def test_one_cycle_leaves_its_bounds_in_the_groups_as_torch_does():
    groups = []
    for schedulers, library in ((ours, surefoot), (torchs, torch.optim)):
        optimizer = make_optimizer(library)
        schedulers.OneCycleLR(optimizer, max_lr=[0.5, 0.2], total_steps=9, base_momentum=[0.8, 0.7])
        keys = ("initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum")
        groups.append([[group[key] for key in keys] for group in optimizer.param_groups])
    assert groups[0] == groups[1]


def test_halving_goes_on_for_ever():
    # torch's 2.0 ** cycle overflows in cycle 1025; the height there is 0 to every digit of base_lr.
    scheduler = ours.CyclicLR(make_optimizer(surefoot), 0.1, 0.2, step_size_up=1, mode="triangular2")
    *_, last = run(scheduler, 2400)
    assert [lr for lr, _ in last] == [0.1, 0.1]


class Decay:
    """A callable with something to remember."""

    def __init__(self, rate):
        self.rate = rate

    def __call__(self, step):
        return self.rate**step


def test_what_a_callable_object_holds_is_saved_as_torch_saves_it():
    def build(library, rate):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        return library.LambdaLR(optimizer, Decay(rate))

    for source, target in ((ours, ours), (ours, torch.optim.lr_scheduler), (torch.optim.lr_scheduler, ours)):
        scheduler = build(target, 0.9)
        scheduler.load_state_dict(build(source, 0.5).state_dict())
        assert scheduler.lr_lambdas[0].rate == 0.5

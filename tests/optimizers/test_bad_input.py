"""Bad input: an error of the right type that names the value, before anything is changed."""

import math
import re

import pytest
import torch
from cases import CLASSES, every_class
from walk import assert_same, gradients, parameters, params_of, tensors_of, walk

import surefoot

# Exact in float32, so that a tensor shows the same digits.
NOT_A_RATE = [-0.125, -1, math.nan, math.inf, -math.inf]
NOT_A_BETA = [-0.125, 1.0, 1, 1.5, math.nan, math.inf]
BAD_NUMBERS = {
    "lr": NOT_A_RATE,
    "eps": NOT_A_RATE,
    "weight_decay": NOT_A_RATE,
    "momentum": NOT_A_RATE,
    "momentum_decay": NOT_A_RATE,
    "lr_decay": NOT_A_RATE,
    "initial_accumulator_value": NOT_A_RATE,
    "alpha": NOT_A_RATE,
    "lambd": NOT_A_RATE,
    "rho": [-0.125, 1.5, math.nan, math.inf],
    "t0": [math.nan, -math.inf],
    "dampening": [math.nan, math.inf, -math.inf],
}


def _takes(case, name):
    return name in case.ours(parameters()).defaults


def _number(value):
    """How a number is named in a message."""
    return re.escape(repr(float(value)))


every_bad_number = pytest.mark.parametrize(
    ("case", "name", "value"),
    [
        (case, name, value)
        for case in CLASSES
        for name, values in BAD_NUMBERS.items()
        for value in values
        if _takes(case, name)
    ],
    ids=str,
)


@every_bad_number
def test_a_number_out_of_range_is_named(case, name, value):
    with pytest.raises(ValueError, match=f"{name}={_number(value)} must be "):
        case.ours(parameters(), **{name: value})


@every_bad_number
def test_a_tensor_out_of_range_is_named(case, name, value):
    with pytest.raises(ValueError, match=f"{name}={_number(value)} must be "):
        case.ours(parameters(), **{name: torch.tensor(float(value))})


@every_bad_number
def test_a_number_out_of_range_in_a_group_is_named(case, name, value):
    """torch looks at the constructor's hyperparameters only."""
    first, *rest = parameters()
    with pytest.raises(ValueError, match=f"{name}={_number(value)} must be "):
        case.ours([{"params": [first]}, {"params": rest, name: value}])
    optimizer = case.ours([first])
    with pytest.raises(ValueError, match=f"{name}={_number(value)} must be "):
        optimizer.add_param_group({"params": rest, name: value})
    assert len(optimizer.param_groups) == 1


with_betas = pytest.mark.parametrize("case", [case for case in CLASSES if _takes(case, "betas")], ids=str)


@with_betas
@pytest.mark.parametrize("i", [0, 1])
@pytest.mark.parametrize("value", NOT_A_BETA)
@pytest.mark.parametrize("kind", [float, torch.tensor])
def test_a_beta_out_of_range_is_named(case, i, value, kind):
    betas = [kind(0.5), kind(0.5)]
    betas[i] = kind(value)
    with pytest.raises(ValueError, match=rf"betas\[{i}\]={_number(value)} must be in \[0, 1\)"):
        case.ours(parameters(), betas=tuple(betas))


every_pair = pytest.mark.parametrize(
    ("case", "name"),
    [(case, name) for case in CLASSES for name in ("betas", "etas", "step_sizes") if _takes(case, name)],
    ids=str,
)


@every_pair
@pytest.mark.parametrize("pair", [(0.9,), (0.9, 0.99, 0.999), (), 0.9, None])
def test_a_pair_is_two(case, name, pair):
    with pytest.raises(ValueError, match=re.escape(f"{name}={pair!r}: pass two numbers")):
        case.ours(parameters(), **{name: pair})


@pytest.mark.parametrize(
    ("case", "name"),
    [(case, name) for case in CLASSES for name in BAD_NUMBERS if _takes(case, name)],
    ids=str,
)
@pytest.mark.parametrize("value", ["1e-3", None, [0.1]], ids=repr)
def test_what_is_not_a_number_is_named(case, name, value):
    """YAML reads 1e-3 as a string."""
    with pytest.raises(TypeError, match=re.escape(f"{name}={value!r} is a {type(value).__name__}")):
        case.ours(parameters(), **{name: value})


@every_pair
def test_what_is_not_a_number_in_a_pair_is_named(case, name):
    with pytest.raises(TypeError, match=rf"{name}\[1\]='0.9' is a str"):
        case.ours(parameters(), **{name: (0.9, "0.9")})


@pytest.mark.parametrize("etas", [(0.0, 1.25), (1.0, 1.25), (0.5, 1.0), (1.5, 0.5)])
def test_rprops_factors_are_below_and_above_1(etas):
    with pytest.raises(ValueError, match=re.escape(f"etas={etas}: pass a factor between 0 and 1, then")):
        surefoot.Rprop(parameters(), etas=etas)
    with pytest.raises(ValueError, match="etas="):
        surefoot.Rprop([{"params": parameters(), "etas": etas}])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"etas": (0.5, math.nan)}, "etas[1]=nan must be at least 0 and finite"),
        ({"step_sizes": (-1.0, 1.0)}, "step_sizes[0]=-1.0 must be in [0, inf]"),
        ({"step_sizes": (1.0, 0.5)}, "step_sizes=(1.0, 0.5): pass the smallest first"),
    ],
    ids=str,
)
def test_rprops_numbers_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        surefoot.Rprop(parameters(), **settings)


def test_bounds_that_are_allowed():
    """As in torch: never to average, and steps without a limit."""
    surefoot.ASGD(parameters(), t0=math.inf)
    surefoot.Rprop(parameters(), step_sizes=(0, math.inf))


@every_class
@pytest.mark.parametrize("shape", [(2,), (0,), (1, 3)])
def test_a_tensor_rate_has_one_element(case, shape):
    with pytest.raises(ValueError, match=re.escape(f"lr is a tensor of shape {shape}")):
        case.ours(parameters(), lr=torch.full(shape, 0.1))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({}, "momentum=0, dampening=0"),
        ({"momentum": 0.9, "dampening": 0.1}, "momentum=0.9, dampening=0.1"),
        ({"dampening": 0.1}, "momentum=0, dampening=0.1"),
    ],
)
def test_nesterov_needs_momentum_without_dampening(flags, message):
    sgd = CLASSES[0].__class__("SGD")
    with pytest.raises(ValueError, match=f"nesterov=True needs momentum > 0 and dampening=0, got {message}"):
        sgd.ours(parameters(), nesterov=True, **flags)
    optimizer = sgd.ours(parameters())
    with pytest.raises(ValueError, match="nesterov=True needs"):
        optimizer.add_param_group({"params": parameters(), "nesterov": True, **flags})


@pytest.mark.parametrize("case", [case for case in CLASSES if _takes(case, "fused")], ids=str)
def test_foreach_and_fused_exclude_each_other(case):
    with pytest.raises(ValueError, match="foreach=True and fused=True exclude each other"):
        case.ours(parameters(), foreach=True, fused=True)


@every_class
def test_an_unknown_executor_is_named_with_those_there_are(case):
    with pytest.raises(ValueError, match=r"executor='warp' does not exist: choose from \['cpu', 'eager'"):
        case.ours(parameters(), executor="warp")


# ---- parameters ----


@every_class
def test_no_parameters(case):
    with pytest.raises(ValueError, match="params is empty"):
        case.ours([])
    used_up = iter(parameters())
    list(used_up)
    with pytest.raises(ValueError, match=r"params is empty.*generator that was read before"):
        case.ours(used_up)


@every_class
def test_an_empty_group_is_no_error(case):
    """As in torch: a pattern for a group may match nothing."""
    optimizer = case.ours([{"params": []}, {"params": parameters()}])
    walk(optimizer, gradients(1))


@every_class
@pytest.mark.parametrize(
    "bare", [torch.ones(3), torch.nn.Parameter(torch.ones(3))], ids=["tensor", "parameter"]
)
def test_a_bare_tensor(case, bare):
    with pytest.raises(TypeError, match="params is a single tensor: pass a list"):
        case.ours(bare)


@every_class
def test_a_set_has_no_order(case):
    with pytest.raises(TypeError, match="set"):
        case.ours([{"params": set(parameters())}])


@every_class
@pytest.mark.parametrize(
    "stranger", [1.0, "weight", None, torch.nn.Linear(1, 1)], ids=["1", "str", "None", "module"]
)
def test_what_is_not_a_tensor_is_named(case, stranger):
    name = type(stranger).__name__
    with pytest.raises(TypeError, match=rf"params\[1\] is a {name}: an optimizer takes tensors"):
        case.ours([parameters()[0], stranger])
    with pytest.raises(TypeError, match=rf"^head is a {name}: an optimizer takes tensors"):
        case.ours([("head", stranger)])


@every_class
def test_a_group_is_a_dict_with_params(case):
    with pytest.raises(TypeError, match="param_group is a list: pass a dict with key 'params'"):
        case.ours(parameters()).add_param_group(parameters())
    with pytest.raises(ValueError, match=r"param_group has keys \['lr'\]: it needs 'params'"):
        case.ours([{"lr": 0.1}])


@every_class
def test_a_computed_tensor_is_named(case):
    computed = torch.ones(2, 3, requires_grad=True) * 2
    with pytest.raises(ValueError, match=r"params\[0\] of shape \(2, 3\) is not a leaf"):
        case.ours([computed])
    with pytest.raises(ValueError, match=r"^scale of shape \(2, 3\) is not a leaf"):
        case.ours([("scale", computed)])
    computed.retain_grad()
    case.ours([computed])  # as in torch


@every_class
def test_a_weight_in_two_groups_is_named(case):
    a, b = parameters(shapes=((2,), (3,)))
    with pytest.raises(ValueError, match=r"params\[1\] of shape \(2,\) is in group 0 already"):
        case.ours([{"params": [a]}, {"params": [b, a]}])
    with pytest.raises(ValueError, match=r"^tied of shape \(2,\) is in group 0 already"):
        case.ours([{"params": [("embedding", a)]}, {"params": [("tied", a)]}])


@every_class
def test_names_for_some_parameters_only(case):
    a, b = parameters(shapes=((2,), (3,)))
    with pytest.raises(ValueError, match="Some param names are missing"):
        case.ours([("a", a), b])
    with pytest.raises(ValueError, match="without names"):
        case.ours([{"params": [("a", a)]}, {"params": [b]}])


@every_class
def test_a_group_that_is_refused_leaves_the_optimizer_as_it_was(case):
    optimizer = case.ours(parameters())
    walk(optimizer, gradients(2))
    before, text = tensors_of(optimizer), str(optimizer)
    fresh = torch.ones(2, requires_grad=True)
    for group in (
        {"params": [fresh], "lr": -1.0},
        {"params": [fresh, params_of(optimizer)[0]]},
        {"params": [fresh, fresh * 2]},
        {"params": [fresh, "weight"]},
        {"params": [("name", fresh)]},
        {"params": {fresh}},
        {},
    ):
        keys = list(group)
        with pytest.raises((ValueError, TypeError)):
            optimizer.add_param_group(group)
        assert list(group) == keys
    assert_same(tensors_of(optimizer), before)
    assert str(optimizer) == text
    optimizer.add_param_group({"params": [fresh]})

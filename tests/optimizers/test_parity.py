"""The arithmetic: against torch.optim over 100 steps in every precision, and against the papers."""

import pytest
import torch
from cases import CASES, CLASSES, every_case, every_class
from papers import PAPERS
from walk import FLOAT32, FLOAT64, copies, default_dtype, gradients, parameters, params_of, step, walk

import surefoot

STEPS = 100

# torch's fused SGD with momentum never moves bfloat16 weights (16 elements or more, torch 2.13), so flags
# of execution take no part in comparisons in bfloat16.
ARITHMETIC = [case for case in CASES if not case.kwargs.keys() & {"foreach", "fused"}]


def both_paths(case, dtype):
    grads = gradients(STEPS, dtype)
    return (walk(build(parameters(dtype)), grads) for build in (case.ours, case.torchs))


@every_case
@pytest.mark.parametrize("dtype_of_counts", [torch.float32, torch.float64])
def test_float64_trajectory_is_torchs(case, dtype_of_counts):
    with default_dtype(dtype_of_counts):
        ours, torchs = both_paths(case, torch.float64)
    torch.testing.assert_close(ours, torchs, **FLOAT64)


@every_case
def test_float32_trajectory_is_torchs(case):
    ours, torchs = both_paths(case, torch.float32)
    torch.testing.assert_close(ours, torchs, **FLOAT32)


@pytest.mark.parametrize("case", [case for case in CASES if case.takes_complex], ids=str)
def test_complex64_trajectory_is_torchs(case):
    ours, torchs = both_paths(case, torch.complex64)
    torch.testing.assert_close(ours, torchs, **FLOAT32)


@every_class
def test_complex128_trajectory_is_torchs(case):
    ours, torchs = both_paths(case, torch.complex128)
    torch.testing.assert_close(ours, torchs, **FLOAT64)


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_state_is_torchs(case, dtype):
    grads = gradients(10, dtype)
    ours, torchs = (build(parameters(dtype)) for build in (case.ours, case.torchs))
    walk(ours, grads)
    walk(torchs, grads)
    tolerance = FLOAT32 if dtype == torch.float32 else FLOAT64
    for mine, its in zip(params_of(ours), params_of(torchs), strict=True):
        assert list(ours.state[mine]) == list(torchs.state[its])
        for key, value in torchs.state[its].items():
            # assert_close also compares shapes and dtypes.
            torch.testing.assert_close(ours.state[mine][key], value, **tolerance)


@every_case
def test_groups_are_torchs(case):
    (ours,) = case.ours([torch.ones(2, requires_grad=True)]).param_groups
    (torchs,) = case.torchs([torch.ones(2, requires_grad=True)]).param_groups
    assert list(ours.items())[1:] == list(torchs.items())[1:]


@every_class
def test_bfloat16_strays_no_further_than_torch(case):
    """We compute in float32 and round once a step, torch rounds each operation: the mean error is compared.

    Each weight of either path is off by chance, so it is the mean over the cases of a class, 1000 weights
    and 100 steps that has to be smaller, not each weight.
    """
    shapes = ((1000,),)
    grads = gradients(STEPS, torch.bfloat16, shapes)
    exact_grads = [[g.float() for g in row] for row in grads]
    start = parameters(torch.bfloat16, shapes)
    ours = torchs = 0.0
    for member in (c for c in ARITHMETIC if c.name == case.name):
        exact = walk(member.torchs([p.detach().float().requires_grad_() for p in start]), exact_grads)
        ours += (walk(member.ours(copies(start)), grads) - exact).abs().mean().item()
        torchs += (walk(member.torchs(copies(start)), grads) - exact).abs().mean().item()
    assert ours <= torchs


@pytest.mark.parametrize("case", ARITHMETIC, ids=str)
@pytest.mark.parametrize("warm_steps", [0, 10])
def test_a_bfloat16_step_is_torchs_to_one_unit(case, warm_steps):
    """From the same weights and state, one step ends in the same or the neighbouring bfloat16 number.

    Weights from 1.25 to 1.75 have units of 2^-7, and steps of some hundredths are a few of them: what the
    roundings inside torch's step add, 2^-9 of the step each, is far below half a unit, so that both round
    numbers that are as good as equal.
    """
    shapes = ((1000,),)
    weights = 1.25 + parameters(torch.bfloat16, shapes)[0].detach().abs() % 0.5
    *warm, last = [[g / 16 for g in row] for row in gradients(warm_steps + 1, torch.bfloat16, shapes)]
    (theirs,) = copies([weights])
    torchs = case.torchs([theirs])
    if warm:
        walk(torchs, warm)
        theirs.data = weights.clone()  # the state is warm, the weights are back in their range
    (mine,) = copies([weights])
    ours = case.ours([mine])
    ours.load_state_dict(torchs.state_dict())
    step(ours, last)
    step(torchs, last)
    assert _units_apart(mine, theirs) <= 1


def _units_apart(a, b):
    """The largest number of bfloat16 steps between elements of ``a`` and ``b``."""
    a, b = (t.detach().to(torch.bfloat16).view(torch.int16).int() for t in (a, b))
    a, b = (torch.where(t < 0, -32768 - t, t) for t in (a, b))  # so that -0 is 0 and order is that of numbers
    return (a - b).abs().max().item()


@every_case
def test_trajectory_is_the_papers(case):
    grads = gradients(STEPS, torch.float64)
    with default_dtype(torch.float64):  # no float32 anywhere
        optimizer = case.ours(parameters(torch.float64))
        starts = _flat(params_of(optimizer)).tolist()
        path = walk(optimizer, grads)
    columns = torch.stack([_flat(row) for row in grads]).T.tolist()
    hyper = {key: _plain(value) for key, value in optimizer.param_groups[0].items() if key != "params"}
    papers = [PAPERS[case.name](x, column, **hyper) for x, column in zip(starts, columns, strict=True)]
    # The papers' order of operations is not ours: as above, the rounding of 100 updates.
    torch.testing.assert_close(path, torch.tensor(papers, dtype=torch.float64).T, **FLOAT64)


def _flat(tensors):
    return torch.cat([t.detach().flatten() for t in tensors])


def _plain(value):
    if isinstance(value, torch.Tensor):
        return value.item()
    return tuple(map(_plain, value)) if isinstance(value, tuple) else value


def test_every_class_has_a_paper():
    assert PAPERS.keys() == {case.name for case in CLASSES}


@every_case
@pytest.mark.parametrize("weight", [-torch.inf, torch.nan])
def test_a_masked_weight_stays_what_it_is_in_torch(case, weight):
    """A weight of -inf is a mask; 0 times it, in a term that is off, must not make it NaN."""

    def path(build):
        weights = torch.tensor([weight, 1.0], dtype=torch.float64, requires_grad=True)
        return walk(build([weights]), [[torch.tensor([0.5, 0.5], dtype=torch.float64)]] * 8)

    torch.testing.assert_close(path(case.ours), path(case.torchs), equal_nan=True, **FLOAT64)


@pytest.mark.parametrize("flags", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}], ids=str)
def test_an_infinite_gradient_is_torchs_under_sgd(flags):
    def path(build):
        weights = torch.ones(2, dtype=torch.float64, requires_grad=True)
        return walk(
            build([weights], lr=0.1, **flags), [[torch.tensor([torch.inf, 0.5], dtype=torch.float64)]] * 3
        )

    torch.testing.assert_close(path(surefoot.SGD), path(torch.optim.SGD), equal_nan=True, **FLOAT64)

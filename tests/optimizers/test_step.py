"""The pipeline of a step: clipping, gradients that are not finite, the scaler, statistics, and what is reported."""

import itertools
import math

import pytest
import torch
from cases import CLASSES, every_class
from hypothesis import given
from hypothesis import strategies as st
from walk import (
    FLOAT32,
    FLOAT64,
    assert_same,
    copies,
    gradients,
    parameters,
    params_of,
    step,
    tensors_of,
    walk,
)

import surefoot
from surefoot.kernels import cpu
from surefoot.optimizers.step import LastStep

executors = pytest.mark.parametrize("executor", ["cpu", "eager"])
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64]


def norm_of(grads):
    real = (torch.view_as_real(g) if g.is_complex() else g for g in grads)
    return math.sqrt(sum((g.double() ** 2).sum().item() for g in real))


# ---- clipping ----


@every_class
@executors
@pytest.mark.parametrize("most", [0.0, 0.5, 1e9, math.inf])
def test_clip_norm_is_torchs_clip_grad_norm(case, executor, most):
    ours = case.ours(parameters(torch.float64), clip_norm=most, executor=executor)
    torchs = case.torchs(parameters(torch.float64))
    for grads in gradients(5, torch.float64):
        step(ours, grads)
        for param, grad in zip(params_of(torchs), grads, strict=True):
            param.grad = grad.clone()
        norm = torch.nn.utils.clip_grad_norm_(params_of(torchs), most)
        torchs.step()
        torch.testing.assert_close(ours.last_step.grad_norm, norm.item(), **FLOAT64)
    torch.testing.assert_close(params_of(ours), params_of(torchs), **FLOAT64)


@every_class
@executors
def test_clip_value_is_torchs_clip_grad_value(case, executor):
    ours = case.ours(parameters(torch.float64), clip_value=0.5, executor=executor)
    torchs = case.torchs(parameters(torch.float64))
    for grads in gradients(5, torch.float64):
        step(ours, grads)
        for param, grad in zip(params_of(torchs), grads, strict=True):
            param.grad = grad.clone()
        torch.nn.utils.clip_grad_value_(params_of(torchs), 0.5)
        torchs.step()
    torch.testing.assert_close(params_of(ours), params_of(torchs), **FLOAT64)


@executors
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_norm_is_of_all_gradients_whatever_their_dtype(executor, dtype):
    optimizer = surefoot.AdamW(parameters(dtype), clip_norm=1.0, executor=executor)
    (grads,) = gradients(1, dtype)
    step(optimizer, grads)
    assert optimizer.last_step.grad_norm == pytest.approx(norm_of(grads), rel=1e-12)
    assert optimizer.last_step.clip_coef == pytest.approx(1 / (norm_of(grads) + 1e-6))


def test_one_norm_for_all_groups_layouts_and_executors():
    params = [
        torch.ones(3, requires_grad=True),
        torch.ones(3, dtype=torch.bfloat16, requires_grad=True),
        torch.ones(3, dtype=torch.complex64, requires_grad=True),
        torch.ones(3, requires_grad=True),
    ]
    optimizer = surefoot.SGD(
        [{"params": params[:2]}, {"params": params[2:], "lr": 0.5}], lr=1.0, clip_norm=1.0
    )
    step(optimizer, [torch.full_like(p, 2.0) for p in params[:3]] + [None])
    assert optimizer.last_step.grad_norm == pytest.approx(6.0)
    moved = 2 / 6
    torch.testing.assert_close(params[0], torch.full((3,), 1 - moved))
    torch.testing.assert_close(params[1], torch.full((3,), 1 - moved, dtype=torch.bfloat16))
    torch.testing.assert_close(params[2], torch.full((3,), 1 - moved / 2, dtype=torch.complex64))
    assert params[3].tolist() == [1.0] * 3


@executors
def test_clipping_leaves_the_gradients_alone(executor):
    optimizer = surefoot.AdamW(
        parameters(), clip_norm=0.1, clip_value=0.1, nonfinite="skip", stats=True, executor=executor
    )
    (grads,) = gradients(1)
    kept = copies(grads)
    for param, grad in zip(params_of(optimizer), grads, strict=True):
        param.grad = grad
    optimizer.step()
    assert_same(grads, [k.detach() for k in kept])
    assert [g._version for g in grads] == [0] * len(grads)


def test_settings_may_be_changed_at_any_time():
    (weight,) = parameters(shapes=((2,),))
    optimizer = surefoot.SGD([weight], lr=1.0)
    for settings, moved in [
        ({}, 3.0),
        ({"clip_norm": 1.5 * math.sqrt(2)}, 1.5),
        ({"clip_norm": None, "clip_value": 0.25}, 0.25),
        ({"clip_value": None, "stats": True}, 3.0),
        ({"executor": "eager", "clip_value": 0.5}, 0.5),
    ]:
        for name, value in settings.items():
            setattr(optimizer, name, value)
        before = weight.detach().clone()
        step(optimizer, [torch.full((2,), 3.0)])
        torch.testing.assert_close(before - weight.detach(), torch.full((2,), moved), **FLOAT32)


@pytest.mark.parametrize("name", ["clip_norm", "clip_value"])
@pytest.mark.parametrize("value", [-1.0, math.nan])
def test_a_bound_below_0_is_refused_when_it_is_set_and_when_it_is_used(name, value):
    with pytest.raises(ValueError, match=rf"{name}={value} must be at least 0"):
        surefoot.SGD(parameters(), **{name: value})
    optimizer = surefoot.SGD(parameters())
    setattr(optimizer, name, value)
    before = tensors_of(optimizer)
    with pytest.raises(ValueError, match=rf"{name}={value} must be at least 0"):
        step(optimizer, gradients(1)[0])
    assert_same(tensors_of(optimizer), before)


def test_an_unknown_policy_is_named_with_those_there_are():
    with pytest.raises(
        ValueError, match=r"nonfinite='ignore' does not exist: choose from \['propagate', 'raise', 'skip'\]"
    ):
        surefoot.SGD(parameters(), nonfinite="ignore")


# ---- the same bits ----


def chunky(seed=0):
    shapes = ((3 * cpu.CHUNK + 5,), (7,), (cpu.CHUNK,), (2 * cpu.CHUNK + 1,))
    return parameters(shapes=shapes, seed=seed), gradients(2, shapes=shapes, seed=seed + 1)


def test_norms_and_steps_have_the_same_bits_for_any_number_of_threads():
    params, grads = chunky()
    before, ends = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            optimizer = surefoot.AdamW(copies(params), clip_norm=1.0, stats=True)
            walk(optimizer, grads)
            ends.append((tensors_of(optimizer), optimizer.last_step))
    finally:
        torch.set_num_threads(before)
    for tensors, last in ends[1:]:
        assert_same(tensors, ends[0][0])
        assert last == ends[0][1]


def test_norms_have_the_same_bits_in_any_order_and_partition():
    params, (grads, _) = chunky()
    found = set()
    for order in itertools.permutations(range(len(params))):
        for cut in (0, 1, 2):
            mine = copies([params[i] for i in order])
            groups = [{"params": mine[:cut]}, {"params": mine[cut:]}]
            optimizer = surefoot.SGD([group for group in groups if group["params"]], lr=0.1, clip_norm=1.0)
            step(optimizer, [grads[i] for i in order])
            found.add(optimizer.last_step.grad_norm)
    assert len(found) == 1


# ---- gradients that are not finite ----

BAD = pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])


def spoiled(grads, bad):
    grads = [g.clone() for g in grads]
    grads[0][2, 1] = bad
    grads[1][:2] = bad
    return grads


@every_class
@executors
@BAD
def test_skip_leaves_weights_state_and_counts_as_they_are(case, executor, bad):
    optimizer = case.ours(parameters(), nonfinite="skip", executor=executor)
    good = gradients(3)
    walk(optimizer, good[:2])
    before = tensors_of(optimizer)
    step(optimizer, spoiled(good[2], bad))
    assert_same(tensors_of(optimizer), before)
    assert not optimizer.last_step.applied
    assert optimizer.last_step.nonfinite == 3
    step(optimizer, good[2])
    assert optimizer.last_step.applied
    assert optimizer.last_step.nonfinite == 0
    twin = case.ours(parameters(), executor=executor)
    walk(twin, good)
    assert_same(tensors_of(optimizer), tensors_of(twin))


@every_class
@executors
@pytest.mark.parametrize("policy", ["skip", "raise"])
def test_a_first_step_that_is_not_taken_leaves_no_state(case, executor, policy):
    optimizer, fresh = (case.ours(parameters(), nonfinite=policy, executor=executor) for _ in range(2))
    grads = gradients(2)
    try:
        step(optimizer, spoiled(grads[0], math.nan))
    except FloatingPointError:
        assert policy == "raise"
    assert_same(tensors_of(optimizer), tensors_of(fresh))
    # What comes is a first step still: a momentum buffer starts from the gradient.
    assert_same(walk(optimizer, grads), walk(fresh, grads))
    assert_same(tensors_of(optimizer), tensors_of(fresh))


@executors
def test_raise_names_the_parameters(executor):
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    optimizer = surefoot.AdamW(model.named_parameters(), nonfinite="raise", executor=executor)
    before = tensors_of(optimizer)
    for param in model.parameters():
        param.grad = torch.zeros_like(param)
    model[1].bias.grad.fill_(math.nan)
    model[0].weight.grad[1, 1] = math.inf
    with pytest.raises(FloatingPointError, match=r"of 0.weight, 1.bias are not finite \(2 elements"):
        optimizer.step()
    assert_same(tensors_of(optimizer), before)


def test_many_culprits_are_counted():
    optimizer = surefoot.SGD(parameters(shapes=((2,),) * 8), nonfinite="raise")
    with pytest.raises(FloatingPointError, match=r"of 0 of group 0, .*4 of group 0 and 3 more are"):
        step(optimizer, [torch.full((2,), math.nan)] * 8)


def test_a_square_that_overflows_is_no_infinite_gradient():
    optimizer = surefoot.SGD(parameters(torch.float64, ((2,),)), nonfinite="skip")
    step(optimizer, [torch.tensor([1e200, 1.0], dtype=torch.float64)])
    assert optimizer.last_step == LastStep(True, math.inf, 1.0, 0)


@executors
@BAD
def test_propagate_is_torchs(executor, bad):
    """Clipped by a norm that is not finite, too."""
    ours = surefoot.SGD(parameters(), lr=0.1, clip_norm=1.0, executor=executor)
    torchs = torch.optim.SGD(parameters(), lr=0.1)
    (grads,) = gradients(1)
    step(ours, spoiled(grads, bad))
    for param, grad in zip(params_of(torchs), spoiled(grads, bad), strict=True):
        param.grad = grad
    torch.nn.utils.clip_grad_norm_(params_of(torchs), 1.0)
    torchs.step()
    torch.testing.assert_close(params_of(ours), params_of(torchs), equal_nan=True)
    assert ours.last_step.nonfinite == 3


# ---- the scaler ----


@every_class
@executors
@pytest.mark.parametrize("by_hand", [False, True], ids=["fused", "unscale_"])
def test_a_scaler_and_clipping_together(case, executor, by_hand):
    """The usual recipe with torch: scale, unscale_, clip, step, update; ours leaves out the middle."""
    ours = case.ours(parameters(), clip_norm=0.5, executor=executor)
    torchs = case.torchs(parameters())
    for optimizer in (ours, torchs):
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
        for factor in (1.0, 0.5, torch.inf, 2.0, 3.0):
            optimizer.zero_grad()
            loss = sum(((p - 0.5) ** 2).sum() for p in params_of(optimizer))
            scaler.scale(loss * factor).backward()
            if optimizer is torchs or by_hand:
                scaler.unscale_(optimizer)
            if optimizer is torchs:
                torch.nn.utils.clip_grad_norm_(params_of(optimizer), 0.5)
            scaler.step(optimizer)
            if optimizer is ours:
                assert ours.last_step.applied == (factor != torch.inf)
            scaler.update()
    torch.testing.assert_close(*map(tensors_of, (ours, torchs)), **FLOAT32)


def test_the_scaler_calls_a_step_that_unscales_itself():
    """torch's way without this multiplies all gradients once more."""
    (weight,) = parameters(shapes=((2,),))
    optimizer = surefoot.SGD([weight], lr=1.0, stats=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale((weight * torch.tensor([3.0, 4.0])).sum()).backward()
    scaler.step(optimizer)
    assert weight.grad.tolist() == [12.0, 16.0]
    assert optimizer.last_step.grad_norm == pytest.approx(5.0)
    assert not hasattr(optimizer, "grad_scale")


# ---- statistics ----


# Of each class a kernel, of AdamW one for each dtype: compiling them takes most of this file's time.
@pytest.mark.parametrize(
    ("case", "dtype"),
    [(case, dtype) for case in CLASSES for dtype in (DTYPES if case.name == "AdamW" else DTYPES[:1])],
    ids=str,
)
@executors
def test_stats_are_norms_of_what_is_there(case, executor, dtype):
    shapes = ((5, 3), (cpu.CHUNK + 3,), (), (0,))
    names = ["a", "b", "c", "d"]
    optimizer = case.ours(
        list(zip(names, parameters(dtype, shapes), strict=True)), stats=True, executor=executor
    )
    for grads in gradients(2, dtype, shapes):
        before = [p.detach().clone() for p in params_of(optimizer)]
        step(optimizer, grads)
        after = [p.detach() for p in params_of(optimizer)]
    found = optimizer.last_step.stats
    assert list(found) == names
    close = {"rel": 1e-5 if dtype == torch.float16 else 1e-7, "abs": 1e-12}
    for name, old, new, grad in zip(names, before, after, grads, strict=True):
        wide = torch.complex128 if dtype.is_complex else torch.float64
        assert found[name].param == pytest.approx(norm_of([new]), **close)
        assert found[name].update == pytest.approx(norm_of([new.to(wide) - old.to(wide)]), **close)
        assert found[name].grad == pytest.approx(norm_of([grad]), **close)
    assert optimizer.last_step.grad_norm == pytest.approx(norm_of(grads), **close)


def test_stats_are_of_parameters_that_have_a_gradient():
    optimizer = surefoot.SGD(parameters(), stats=True)
    first, _, third = gradients(1)[0]
    step(optimizer, [first, None, third])
    assert list(optimizer.last_step.stats) == ["0 of group 0", "2 of group 0"]


def test_stats_change_no_bit():
    plain, measured = surefoot.AdamW(parameters()), surefoot.AdamW(parameters(), stats=True)
    grads = gradients(3)
    assert_same(walk(plain, grads), walk(measured, grads))


# ---- the report ----


def test_the_last_step_is_reported():
    optimizer = surefoot.SGD(parameters())
    assert optimizer.last_step is None
    step(optimizer, gradients(1)[0])
    assert optimizer.last_step == LastStep(True, None, 1.0, None, None)
    step(optimizer, [None, None, None])
    assert optimizer.last_step.applied


@given(
    clip=st.one_of(st.none(), st.floats(0, 100)),
    value=st.one_of(st.none(), st.floats(0, 10)),
    scale=st.sampled_from([None, 0.5, 1024.0, 3.0]),
    case=st.sampled_from([case for case in CLASSES if case.name in ("SGD", "AdamW", "ASGD")]),
)
def test_executors_agree_on_every_pipeline(clip, value, scale, case):
    ends = []
    for executor in ("cpu", "eager"):
        optimizer = case.ours(parameters(), clip_norm=clip, clip_value=value, stats=True, executor=executor)
        if scale is not None:
            optimizer.grad_scale = torch.tensor(scale)
        walk(optimizer, gradients(2))
        ends.append((tensors_of(optimizer), optimizer.last_step))
    torch.testing.assert_close(ends[0][0], ends[1][0], rtol=1e-6, atol=4e-6)
    assert ends[0][1].grad_norm == pytest.approx(ends[1][1].grad_norm, rel=1e-12)
    assert ends[0][1].clip_coef == pytest.approx(ends[1][1].clip_coef, rel=1e-12)

"""What every optimizer promises about a step, whatever its rule."""

import copy
import itertools

import pytest
import torch
from cases import CASES, every_case, every_class
from hypothesis import given, settings
from hypothesis import strategies as st
from walk import (
    FEW_STEPS_FLOAT32,
    FLOAT64,
    SHAPES,
    assert_same,
    copies,
    gradients,
    parameters,
    params_of,
    step,
    tensors_of,
    through_pickle,
    walk,
)

# ---- the executor ----


@every_class
def test_all_groups_are_one_call_of_the_eager_executor(case, eager_rows):
    first, *rest = params = parameters()
    optimizer = case.ours([{"params": [first], "maximize": True}, {"params": rest}], executor="eager")
    grads = gradients(1)[0]
    step(optimizer, [grads[0], None, grads[2]])
    ((rule, rows),) = eager_rows
    assert rule is optimizer.rule
    assert [id(row.param) for row in rows] == [id(params[0]), id(params[2])]
    assert [row.factor for row in rows] == [-1.0, 1.0]
    assert {len(row.buffers) for row in rows} == {len(rule.buffers)}
    assert {len(row.scalars) for row in rows} == {len(rule.scalars)}


@every_class
@pytest.mark.parametrize("how", [copy.deepcopy, through_pickle])
def test_a_copy_keeps_its_settings(case, how, eager_rows):
    settings = {"executor": "eager", "clip_norm": 2.0, "clip_value": 3.0, "nonfinite": "skip", "stats": True}
    optimizer = how(case.ours(parameters(), **settings))
    assert {name: getattr(optimizer, name) for name in settings} == settings
    step(optimizer, gradients(1)[0])
    assert len(eager_rows) == 1


# ---- gradients ----


@every_case
def test_a_missing_gradient_leaves_weight_state_and_count_alone(case):
    optimizer = case.ours(parameters())
    grads = gradients(4)
    walk(optimizer, grads[:2])
    before = tensors_of(optimizer)
    for first, _, third in grads[2:]:
        step(optimizer, [first, None, third])
    after = tensors_of(optimizer)
    assert_same(
        {key: value for key, value in after.items() if key.startswith("1.")},
        {key: value for key, value in before.items() if key.startswith("1.")},
    )
    assert not torch.equal(after["0.param"], before["0.param"])


@every_case
def test_a_weight_that_never_has_a_gradient_gets_no_state(case):
    optimizer, fresh = case.ours(parameters()), case.ours(parameters())
    step(optimizer, [None, None, None])
    assert_same(tensors_of(optimizer), tensors_of(fresh))  # Adagrad's has been there from the start


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_gradients_are_never_written(case, dtype):
    optimizer = case.ours(parameters(dtype))
    for grads in gradients(2, dtype):
        for param, grad in zip(params_of(optimizer), grads, strict=True):
            param.grad = grad
        kept = [grad.clone() for grad in grads]
        versions = [grad._version for grad in grads]
        optimizer.step()
        assert_same(grads, kept)
        assert [grad._version for grad in grads] == versions
        assert all(p.grad is g for p, g in zip(params_of(optimizer), grads, strict=True))


@every_case
def test_a_nan_stays_in_its_element_as_in_torch(case):
    grads = gradients(3)
    grads[1][0][2, 1] = torch.nan
    # equal_nan also asks that there is no NaN but torch's.
    torch.testing.assert_close(
        walk(case.ours(parameters()), grads),
        walk(case.torchs(parameters()), grads),
        **FEW_STEPS_FLOAT32,
        equal_nan=True,
    )


@every_case
def test_a_conjugated_gradient_is_the_numbers_it_shows(case):
    (grads,) = gradients(1, torch.complex64)
    lazy, plain = (case.ours(parameters(torch.complex64)) for _ in range(2))
    for param, grad in zip(params_of(lazy), grads, strict=True):
        param.grad = grad.conj()
    lazy.step()
    step(plain, [grad.conj().resolve_conj() for grad in grads])
    assert_same(tensors_of(lazy), tensors_of(plain))


# ---- closures ----


@every_class
def test_a_closure_runs_once_with_autograd_on_and_its_value_is_returned(case):
    (weight,) = parameters(shapes=((3,),))
    optimizer, twin = case.ours([weight]), case.ours(copies([weight]))
    losses = []

    def closure():
        optimizer.zero_grad()
        losses.append((weight**2).sum())
        losses[-1].backward()
        return losses[-1]

    with torch.no_grad():
        returned = optimizer.step(closure)
        assert not torch.is_grad_enabled()
    assert len(losses) == 1
    assert returned is losses[0]
    step(twin, [weight.grad])
    assert_same(tensors_of(optimizer), tensors_of(twin))


@every_class
def test_step_without_closure_returns_none(case):
    assert case.ours(parameters()).step() is None


@every_class
def test_a_closure_that_fails_leaves_all_as_it_was(case):
    optimizer = case.ours(parameters())
    walk(optimizer, gradients(2))
    before = tensors_of(optimizer)

    def closure():
        raise ZeroDivisionError

    with torch.no_grad():
        with pytest.raises(ZeroDivisionError):
            optimizer.step(closure)
        assert not torch.is_grad_enabled()
    assert_same(tensors_of(optimizer), before)


# ---- shapes, layouts, dtypes ----


@every_case
def test_zero_size_and_zero_dim_tensors(case):
    shapes = ((0,), (), (3, 0, 2), (1,), (2, 2))
    ours, torchs = (build(parameters(shapes=shapes)) for build in (case.ours, case.torchs))
    grads = gradients(3, shapes=shapes)
    torch.testing.assert_close(walk(ours, grads), walk(torchs, grads), **FEW_STEPS_FLOAT32)
    for mine, its in zip(params_of(ours), params_of(torchs), strict=True):
        assert [v.shape for v in ours.state[mine].values()] == [v.shape for v in torchs.state[its].values()]


def _transposed(t):
    return t.mT.contiguous().mT


def _sliced(t):
    return torch.stack([t, torch.full_like(t, 7.0)], dim=-1)[..., 0]


LAYOUTS = {
    "contiguous": torch.Tensor.contiguous,
    "transposed": _transposed,
    "sliced": _sliced,
    "channels_last": lambda t: t.contiguous(memory_format=torch.channels_last),
}


@every_class
@pytest.mark.parametrize("of_weight", LAYOUTS)
@pytest.mark.parametrize("of_grad", [*LAYOUTS, "expanded"])
def test_any_layout_of_weight_and_gradient(case, of_weight, of_grad):
    shape = (2, 3, 4, 5)
    (start,) = parameters(shapes=(shape,))
    weight = LAYOUTS[of_weight](start.detach()).requires_grad_()
    strides = weight.stride()
    optimizer, plain = case.ours([weight]), case.ours([start])
    for (grad,) in gradients(3, shapes=(shape,)):
        grad = grad[..., :1].expand(shape) if of_grad == "expanded" else LAYOUTS[of_grad](grad)
        weight.grad = grad
        optimizer.step()
        step(plain, [grad.contiguous()])
    torch.testing.assert_close(weight, start, **FEW_STEPS_FLOAT32)
    assert weight.stride() == strides
    if of_weight == "sliced":
        assert (weight.detach().as_strided((2, 3, 4, 5), strides, 1) == 7).all()  # what lies between


@every_class
def test_state_of_a_channels_last_weight_is_channels_last(case):
    weight = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last).requires_grad_()
    optimizer = case.ours([weight])
    step(optimizer, [torch.ones_like(weight)])
    buffers = [v for v in optimizer.state[weight].values() if v.shape == weight.shape]
    assert buffers
    assert all(b.is_contiguous(memory_format=torch.channels_last) for b in buffers)


@every_case
def test_every_dtype_in_one_optimizer(case):
    dtypes = (
        torch.float64,
        torch.float32,
        torch.bfloat16,
        torch.float16,
        torch.complex64,
        torch.complex128,
    )
    shapes = ((4, 3),)
    alone = [case.ours(parameters(dtype, shapes)) for dtype in dtypes]
    together = case.ours([parameters(dtype, shapes)[0] for dtype in dtypes])
    columns = [gradients(3, dtype, shapes) for dtype in dtypes]
    for rows in zip(*columns, strict=True):
        step(together, [row[0] for row in rows])
        for optimizer, row in zip(alone, rows, strict=True):
            step(optimizer, row)
    for param, optimizer, dtype in zip(params_of(together), alone, dtypes, strict=True):
        (twin,) = params_of(optimizer)
        assert param.dtype == dtype
        assert_same(param, twin)
        assert_same(dict(together.state[param]), dict(optimizer.state[twin]))


@every_case
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_zero_gradient_in_low_precision_gives_no_nan(case, dtype):
    """An eps of 1e-8 is 0 in float16: torch computes 0 / 0."""
    path = walk(case.ours(parameters(dtype)), [[torch.zeros(s, dtype=dtype) for s in SHAPES]] * 3)
    assert path.isfinite().all()


# ---- several optimizers, groups, resets ----


@every_class
def test_optimizers_of_different_weights_do_not_meet(case):
    together, alone = [case.ours([p]) for p in parameters()], [case.ours([p]) for p in parameters()]
    grads = gradients(3)
    for row in grads:
        for optimizer, grad in zip(together, row, strict=True):
            step(optimizer, [grad])
    for i, optimizer in enumerate(alone):
        walk(optimizer, [[row[i]] for row in grads])
    for one, other in zip(together, alone, strict=True):
        assert_same(tensors_of(one), tensors_of(other))


@every_class
def test_two_optimizers_of_the_same_weights_keep_their_own_state(case):
    paths = []
    for build in (case.ours, case.torchs):
        params = parameters(torch.float64)
        first, second = build(params), build(params, maximize=True)
        for grads in gradients(3, torch.float64):
            step(first, grads)
            step(second, grads)
        paths.append([tensors_of(first), tensors_of(second)])
    torch.testing.assert_close(*paths, **FLOAT64)


@every_case
@pytest.mark.parametrize("how", ["assign", "clear"])
def test_emptying_the_state_resets_the_optimizer(case, how):
    optimizer = case.ours(parameters())
    walk(optimizer, gradients(3))
    if how == "assign":
        optimizer.state = {}  # torch's next step is a KeyError
    else:
        optimizer.state.clear()
    fresh = case.ours(copies(params_of(optimizer)))
    assert len(optimizer.state) == 0
    assert optimizer.param_groups[0].keys() == fresh.param_groups[0].keys()
    grads = gradients(3, seed=2)
    assert_same(walk(optimizer, grads), walk(fresh, grads))
    assert_same(tensors_of(optimizer), tensors_of(fresh))


@settings(deadline=None, max_examples=200)
@given(data=st.data(), case=st.sampled_from(CASES))
def test_order_and_groups_of_weights_do_not_matter(data, case):
    shapes = data.draw(st.lists(st.sampled_from([(2,), (3, 2), (), (0,)]), min_size=1, max_size=6))
    order = data.draw(st.permutations(range(len(shapes))))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(shapes) - 1))) if len(shapes) > 1 else [])
    plain, other = parameters(shapes=shapes), parameters(shapes=shapes)
    parts = itertools.pairwise([0, *cuts, len(shapes)])
    in_groups = case.ours([{"params": [other[i] for i in order[a:b]]} for a, b in parts])
    in_line = case.ours(plain)
    for grads in gradients(3, shapes=shapes):
        step(in_line, grads)
        step(in_groups, [grads[i] for i in order])
    for one, two in zip(plain, other, strict=True):
        assert_same(one, two)
        assert_same(dict(in_line.state.get(one, {})), dict(in_groups.state.get(two, {})))


@settings(deadline=None, max_examples=200)
@given(
    case=st.sampled_from(CASES),
    shape=st.lists(st.integers(0, 5), max_size=4).map(tuple),
    lr=st.floats(0, 10),
    scale=st.integers(-20, 20),
    seed=st.integers(0, 1000),
)
def test_any_shape_rate_and_size_of_gradient_is_torchs(case, shape, lr, scale, seed):
    grads = [[g * 2.0**scale for g in row] for row in gradients(3, torch.float64, (shape,), seed)]
    ours, torchs = (
        walk(build(parameters(torch.float64, (shape,), seed), lr=lr), grads)
        for build in (case.ours, case.torchs)
    )
    # atol: 1e-14 of the largest step there can be, as steps may cancel: the gradient and, with momentum, its
    # triple, times the rate; Adam's kind divides by the gradient's own size.
    largest = 1 + lr * max([1.0, *(g.abs().max().item() for row in grads for g in row if g.numel())])
    torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-14 * largest)

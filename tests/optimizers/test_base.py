"""What every optimizer promises about a step, whatever its rule."""

import itertools

import numpy
import pytest
import torch
from cases import CASES, CLASSES, every_case, every_class
from hypothesis import given, settings
from hypothesis import strategies as st
from walk import (
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

SGDS = pytest.mark.parametrize("case", [case for case in CASES if case.name == "SGD"], ids=str)
# Where two ways to the same float32 numbers differ by a few roundings of 6e-8.
FEW_ROUNDINGS = {"rtol": 1e-6, "atol": 1e-6}


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
def test_a_weight_without_gradient_gets_no_state(case):
    optimizer = case.ours(parameters())
    before = tensors_of(optimizer)
    step(optimizer, [None, None, None])
    assert len(optimizer.state) == 0
    assert_same(tensors_of(optimizer), before)


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
        **FEW_ROUNDINGS,
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
    torch.testing.assert_close(walk(ours, grads), walk(torchs, grads), **FEW_ROUNDINGS)
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
    torch.testing.assert_close(weight, start, **FEW_ROUNDINGS)
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


# ---- sparse gradients ----


def _sparse(shape, rows, dtype=torch.float64):
    """A gradient whose ``rows`` may repeat."""
    values = torch.randn(
        len(rows), *shape[1:], dtype=dtype, generator=torch.Generator().manual_seed(len(rows))
    )
    return torch.sparse_coo_tensor(
        torch.tensor([rows], dtype=torch.long), values, shape, check_invariants=True
    )


SPARSE = {"plain": [0, 3], "duplicates": [4, 1, 4, 4], "all": [0, 1, 2, 3, 4], "none": []}


@SGDS
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_sgd_takes_sparse_gradients_as_if_dense(case, dtype):
    shape = (5, 2)
    sparse, dense = (case.ours(parameters(dtype, (shape,))) for _ in range(2))
    for rows in SPARSE.values():
        grad = _sparse(shape, rows, dtype)
        kept = grad.clone()
        params_of(sparse)[0].grad = grad
        sparse.step()
        step(dense, [grad.to_dense()])
        assert_same(grad.to_dense(), kept.to_dense())
    # Duplicates are summed in another order.
    torch.testing.assert_close(tensors_of(sparse), tensors_of(dense), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(
    "case",  # those that torch takes sparse gradients with
    [c for c in CASES if c.name == "SGD" and not c.kwargs.keys() & {"weight_decay", "fused"}],
    ids=str,
)
def test_sgd_with_sparse_gradients_is_torchs(case):
    grads = [[_sparse((5, 2), rows)] for rows in SPARSE.values()]
    ours, torchs = (
        walk(build(parameters(torch.float64, ((5, 2),))), grads) for build in (case.ours, case.torchs)
    )
    torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-14)  # as in test_parity


def test_rows_without_gradient_are_not_touched():
    weight = torch.full((5, 2), torch.nan).index_fill(0, torch.tensor([1, 3]), 1.0).requires_grad_()
    before = weight.detach().clone()
    step(surefoot.SGD([weight], lr=0.1), [_sparse((5, 2), [3, 1], torch.float32)])
    untouched = torch.tensor([0, 2, 4])
    assert_same(weight.detach()[untouched], before[untouched])
    assert weight[[1, 3]].isfinite().all()
    assert (weight[[1, 3]] != 1).all()


def test_a_real_embedding_trains_with_sparse_gradients():
    weights = []
    for sparse in (True, False):
        embedding = torch.nn.Embedding(6, 3, sparse=sparse)
        embedding.weight.data = parameters(shapes=((6, 3),))[0].detach()
        optimizer = surefoot.SGD(embedding.parameters(), lr=0.1)
        for token in ([1, 1, 2], [5, 0, 5]):
            optimizer.zero_grad()
            embedding(torch.tensor(token)).square().sum().backward()
            optimizer.step()
        weights.append(embedding.weight.detach())
    torch.testing.assert_close(*weights, **FEW_ROUNDINGS)


@pytest.mark.parametrize("case", [case for case in CLASSES if case.name != "SGD"], ids=str)
def test_other_optimizers_refuse_sparse_gradients_before_anything_moves(case):
    optimizer = case.ours(parameters(shapes=((5, 2), (5, 2))))
    walk(optimizer, gradients(2, shapes=((5, 2), (5, 2))))
    before = tensors_of(optimizer)
    with pytest.raises(RuntimeError, match=rf"{case.name} does not support sparse gradients.*sparse=False"):
        step(optimizer, [torch.ones(5, 2), _sparse((5, 2), [1, 2], torch.float32)])
    assert_same(tensors_of(optimizer), before)


# ---- hyperparameters ----

CHANGES = {
    "lr": 0.3,
    "momentum": 0.4,
    "dampening": 0.2,
    "weight_decay": 0.3,
    "betas": (0.5, 0.7),
    "eps": 0.1,
    "momentum_decay": 0.2,
    "nesterov": True,
    "maximize": True,
    "decoupled_weight_decay": None,  # flipped
}


@pytest.mark.parametrize(
    ("case", "name"),
    [
        (case, name)
        for case in CLASSES
        for name in CHANGES
        if name in case.ours([torch.ones(1, requires_grad=True)]).defaults
    ],
    ids=str,
)
def test_a_changed_hyperparameter_counts_from_the_next_step(case, name):
    paths = []
    for build in (case.ours, case.torchs):
        optimizer = build(parameters(torch.float64), weight_decay=0.1)
        (group,) = optimizer.param_groups
        paths.append(walk(optimizer, gradients(3, torch.float64)))
        group[name] = not group[name] if CHANGES[name] is None else CHANGES[name]
        paths.append(walk(optimizer, gradients(3, torch.float64, seed=2)))
    torch.testing.assert_close(paths[0], paths[2], rtol=1e-12, atol=1e-14)  # as in test_parity
    torch.testing.assert_close(paths[1], paths[3], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_amsgrad_can_be_switched_on_later(name):
    """torch fails here; the largest second moment starts from the one of the next step."""
    case = next(c for c in CLASSES if c.name == name)
    optimizer, plain = case.ours(parameters()), case.ours(parameters())
    *grads, last = gradients(3)
    walk(optimizer, grads)
    walk(plain, grads)
    optimizer.param_groups[0]["amsgrad"] = True
    assert_same(walk(optimizer, [last]), walk(plain, [last]))
    weight = params_of(optimizer)[0]
    assert_same(optimizer.state[weight]["max_exp_avg_sq"], optimizer.state[weight]["exp_avg_sq"])


@every_class
def test_each_group_has_its_own_hyperparameters(case):
    paths = []
    for build in (case.ours, case.torchs):
        a, b, c = parameters(torch.float64)
        groups = [
            {"params": [a], "lr": 0.5},
            {"params": [b], "weight_decay": 0.3},
            {"params": [c], "maximize": True},
        ]
        paths.append(walk(build(groups), gradients(5, torch.float64)))
    torch.testing.assert_close(*paths, rtol=1e-12, atol=1e-14)  # as in test_parity


@every_class
@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_tensor_rate_is_read_anew_each_step_and_stays_the_callers(case, shape):
    rate = torch.full(shape, 0.1, dtype=torch.float64)
    ours = case.ours(parameters(torch.float64), lr=rate)
    twin = case.ours(parameters(torch.float64), lr=0.1)
    grads = gradients(2, torch.float64)
    assert_same(walk(ours, grads), walk(twin, grads))
    rate.fill_(0.5)
    twin.param_groups[0]["lr"] = 0.5
    assert_same(walk(ours, grads), walk(twin, grads))
    assert ours.param_groups[0]["lr"] is rate
    assert_same(rate, torch.full(shape, 0.5, dtype=torch.float64))


@pytest.mark.parametrize("case", [case for case in CLASSES if case.name != "SGD"], ids=str)
@pytest.mark.parametrize(
    "betas",
    [[0.5, 0.75], (torch.tensor([0.5]), torch.tensor([0.75])), [torch.tensor(0.5), torch.tensor([0.75])]],
)
def test_betas_may_be_a_list_as_from_a_json_file_or_tensors(case, betas):
    given, plain = case.ours(parameters(), betas=betas), case.ours(parameters(), betas=(0.5, 0.75))
    assert_same(walk(given, gradients(3)), walk(plain, gradients(3)))


@every_class
@pytest.mark.parametrize("kind", [numpy.float32, numpy.float64, numpy.array, int])
def test_a_rate_may_be_of_any_type_of_number(case, kind):
    value = kind(1 if kind is int else 0.1)
    given, plain = case.ours(parameters(), lr=value), case.ours(parameters(), lr=float(value))
    assert_same(walk(given, gradients(3)), walk(plain, gradients(3)))


@every_class
def test_a_users_own_entries_in_a_group_are_let_be(case):
    optimizer, plain = case.ours(parameters()), case.ours(parameters())
    entries = {"mask": torch.ones(5), "note": [torch.ones(2), "text"], "table": numpy.ones(3)}
    optimizer.param_groups[0].update(entries)
    assert_same(walk(optimizer, gradients(2)), walk(plain, gradients(2)))
    assert all(optimizer.param_groups[0][key] is value for key, value in entries.items())


def test_sgd_counts_nothing_and_leaves_a_users_count_alone():
    optimizer = CLASSES[0].ours(parameters())
    optimizer.state[params_of(optimizer)[0]]["step"] = 7
    walk(optimizer, gradients(2))
    assert optimizer.state[params_of(optimizer)[0]]["step"] == 7


@every_case
def test_at_rate_zero_weights_stay_and_state_moves(case):
    ours, torchs = (build(parameters(), lr=0.0) for build in (case.ours, case.torchs))
    start = [p.detach().clone() for p in params_of(ours)]
    walk(ours, gradients(3))
    walk(torchs, gradients(3))
    assert_same([p.detach() for p in params_of(ours)], start)
    torch.testing.assert_close(tensors_of(ours), tensors_of(torchs), **FEW_ROUNDINGS)


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
    torch.testing.assert_close(*paths, rtol=1e-12, atol=1e-14)  # as in test_parity


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
    assert optimizer.state_dict() == fresh.state_dict()
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

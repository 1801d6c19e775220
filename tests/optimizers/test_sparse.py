"""Sparse gradients: SGD and Adagrad take them, the others say no before anything moves."""

import pytest
import torch
from cases import CASES, CLASSES
from walk import (
    FEW_STEPS_FLOAT32,
    FLOAT64,
    assert_same,
    gradients,
    parameters,
    params_of,
    step,
    tensors_of,
    walk,
)

import surefoot

SGDS = pytest.mark.parametrize("case", [case for case in CASES if case.name == "SGD"], ids=str)
TAKES_SPARSE = [case for case in CASES if case.name in ("SGD", "Adagrad")]


def _sparse(shape, rows, dtype=torch.float64):
    """A gradient whose ``rows`` may repeat."""
    values = torch.randn(
        len(rows), *shape[1:], dtype=dtype, generator=torch.Generator().manual_seed(len(rows))
    )
    return torch.sparse_coo_tensor(
        torch.tensor([rows], dtype=torch.long), values, shape, check_invariants=True
    )


SPARSE = {"plain": [0, 3], "duplicates": [4, 1, 4, 4], "all": [0, 1, 2, 3, 4], "none": []}


@pytest.mark.parametrize("case", TAKES_SPARSE, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_sparse_gradients_are_taken_as_if_dense(case, dtype):
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


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # torch's Adagrad makes tensors without
@pytest.mark.parametrize(
    "case",  # those that torch takes sparse gradients with
    [case for case in TAKES_SPARSE if not case.kwargs.keys() & {"weight_decay", "fused"}],
    ids=str,
)
def test_a_trajectory_of_sparse_gradients_is_torchs(case):
    grads = [[_sparse((5, 2), rows)] for rows in SPARSE.values()]
    ours, torchs = (
        walk(build(parameters(torch.float64, ((5, 2),))), grads) for build in (case.ours, case.torchs)
    )
    torch.testing.assert_close(ours, torchs, **FLOAT64)


def test_rows_without_gradient_are_not_touched():
    weight = torch.full((5, 2), torch.nan).index_fill(0, torch.tensor([1, 3]), 1.0).requires_grad_()
    before = weight.detach().clone()
    step(surefoot.SGD([weight], lr=0.1), [_sparse((5, 2), [3, 1], torch.float32)])
    untouched = torch.tensor([0, 2, 4])
    assert_same(weight.detach()[untouched], before[untouched])
    assert weight[[1, 3]].isfinite().all()
    assert (weight[[1, 3]] != 1).all()


@pytest.mark.parametrize("name", ["SGD", "Adagrad"])
def test_a_real_embedding_trains_with_sparse_gradients(name):
    weights = []
    for sparse in (True, False):
        embedding = torch.nn.Embedding(6, 3, sparse=sparse)
        embedding.weight.data = parameters(shapes=((6, 3),))[0].detach()
        optimizer = getattr(surefoot, name)(embedding.parameters(), lr=0.1)
        for token in ([1, 1, 2], [5, 0, 5]):
            optimizer.zero_grad()
            embedding(torch.tensor(token)).square().sum().backward()
            optimizer.step()
        weights.append(embedding.weight.detach())
    torch.testing.assert_close(*weights, **FEW_STEPS_FLOAT32)


@SGDS
def test_a_sparse_gradient_stays_sparse_where_untouched_rows_rest(case, eager_rows):
    """As an embedding may have millions of rows."""
    weight, *_ = parameters(shapes=((5, 2),))
    step(case.ours([weight]), [_sparse((5, 2), [1], torch.float32)])
    ((_, (row,)),) = eager_rows
    spreads = bool(case.kwargs.get("momentum") or case.kwargs.get("weight_decay"))
    assert row.grad.is_sparse != spreads


@pytest.mark.parametrize("case", [case for case in CLASSES if case.name not in ("SGD", "Adagrad")], ids=str)
def test_other_optimizers_refuse_sparse_gradients_before_anything_moves(case):
    optimizer = case.ours(parameters(shapes=((5, 2), (5, 2))))
    walk(optimizer, gradients(2, shapes=((5, 2), (5, 2))))
    before = tensors_of(optimizer)
    with pytest.raises(RuntimeError, match=rf"{case.name} does not support sparse gradients.*sparse=False"):
        step(optimizer, [torch.ones(5, 2), _sparse((5, 2), [1, 2], torch.float32)])
    assert_same(tensors_of(optimizer), before)

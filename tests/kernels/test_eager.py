"""The eager executor on single rows, with rules small enough to do by hand."""

import pytest
import torch
from walk import assert_same

from surefoot import rule
from surefoot.kernels import Row, eager


@rule
def descend(param, grad, /, lr):
    return (param - lr * grad,)


@rule
def average(param, grad, mean, extra, /, weight):
    mean = mean + weight * (grad - mean)
    if extra is not None:
        extra = extra + grad
    return param - mean, mean, extra


@rule
def pull(param, grad, /, lr):
    """Several operations, each of which bfloat16 would round."""
    grad = grad + 0.1 * param
    param = param - lr * grad
    param = param - lr * grad
    return (param - lr * grad,)


def test_param_and_buffers_are_updated_in_place_and_unused_buffers_are_none():
    param, grad, mean = torch.tensor([1.0, 2.0]), torch.tensor([4.0, 8.0]), torch.zeros(2)
    addresses = param.data_ptr(), mean.data_ptr()
    eager.run(average, [Row(param, grad, 1.0, None, (mean, None), (0.5,))])
    assert_same(param, torch.tensor([-1.0, -2.0]))
    assert_same(mean, torch.tensor([2.0, 4.0]))
    assert (param.data_ptr(), mean.data_ptr()) == addresses
    extra = torch.ones(2)
    eager.run(average, [Row(param, grad, 1.0, None, (mean, extra), (0.5,))])
    assert_same(extra, torch.tensor([5.0, 9.0]))


def test_rows_are_updated_in_order_and_only_they():
    param, other = torch.zeros(1), torch.zeros(1)
    row = Row(param, torch.ones(1), 1.0, None, (), (1.0,))
    eager.run(descend, iter([row, row._replace(scalars=(2.0,))]))
    assert_same([param, other], [torch.tensor([-3.0]), torch.zeros(1)])
    eager.run(descend, [])


def test_the_gradient_is_scaled_but_not_written():
    param, grad = torch.tensor([1.0]), torch.tensor([4.0])
    eager.run(descend, [Row(param, grad, -0.5, None, (), (1.0,))])
    assert_same([param, grad], [torch.tensor([3.0]), torch.tensor([4.0])])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_rounded_once(dtype):
    generator = torch.Generator().manual_seed(0)
    start, grad = (torch.randn(1000, generator=generator).to(dtype) for _ in range(2))
    param, wide = start.clone(), start.float()
    eager.run(pull, [Row(param, grad, 1.0, None, (), (0.3,))])
    eager.run(pull, [Row(wide, grad.float(), 1.0, None, (), (0.3,))])
    assert_same(param, wide.to(dtype))
    # The test would notice: with a rounding for each operation it comes out otherwise.
    assert not torch.equal(param, pull(start, grad, 0.3)[0])


def test_float64_is_not_narrowed():
    param = torch.tensor([1.0], dtype=torch.float64)
    eager.run(descend, [Row(param, torch.tensor([1e-12], dtype=torch.float64), 1.0, None, (), (1.0,))])
    assert_same(param, torch.tensor([1.0 - 1e-12], dtype=torch.float64))


@pytest.mark.parametrize(
    ("dtype", "wide"), [(torch.complex64, torch.float32), (torch.complex128, torch.float64)]
)
def test_complex_numbers_are_pairs_of_real_ones(dtype, wide):
    seen = []

    @rule
    def spy(param, grad, mean, /):
        seen.extend((t.dtype, tuple(t.shape)) for t in (param, grad, mean))
        return param - grad, mean + grad * grad

    param, grad, mean = (torch.tensor([z], dtype=dtype) for z in (1 + 2j, 3 + 5j, 0j))
    eager.run(spy, [Row(param, grad, 1.0, None, (mean,), ())])
    assert seen == [(wide, (1, 2))] * 3
    assert_same(param, torch.tensor([-2 - 3j], dtype=dtype))
    assert_same(mean, torch.tensor([9 + 25j], dtype=dtype))  # not (3 + 5j) ** 2


def test_a_sparse_gradient_visits_the_rows_that_it_has():
    param = torch.arange(8.0).reshape(4, 2)
    indices = torch.tensor([[3, 1, 3]])
    grad = torch.sparse_coo_tensor(indices, torch.ones(3, 2), (4, 2), check_invariants=True)
    visited = []

    @rule
    def spy(param, grad, /, lr):
        visited.append(param.tolist())
        return (param - lr * grad,)

    eager.run(spy, [Row(param, grad, 1.0, None, (), (0.5,))])
    assert visited == [[[2.0, 3.0], [6.0, 7.0]]]
    assert_same(param, torch.tensor([[0.0, 1.0], [1.5, 2.5], [4.0, 5.0], [5.0, 6.0]]))
    assert not grad.is_coalesced()  # it was not written to


def test_a_sparse_gradient_of_single_elements():
    param = torch.zeros(2, 3)
    grad = torch.sparse_coo_tensor(
        torch.tensor([[0, 1], [2, 0]]), torch.tensor([1.0, 2.0]), (2, 3), check_invariants=True
    )
    eager.run(descend, [Row(param, grad, -1.0, None, (), (1.0,))])
    assert_same(param, torch.tensor([[0.0, 0.0, 1.0], [2.0, 0.0, 0.0]]))


def test_a_zero_float16_gradient_stays_finite_with_a_tiny_eps():
    """1e-8 is 0 in float16, and 0 / 0 would be NaN: https://github.com/pytorch/pytorch/issues/147437."""

    @rule
    def normalise(param, grad, /, eps):
        return (param - grad / (abs(grad) + eps),)

    param = torch.ones(3, dtype=torch.float16)
    eager.run(normalise, [Row(param, torch.zeros(3, dtype=torch.float16), 1.0, None, (), (1e-8,))])
    assert_same(param, torch.ones(3, dtype=torch.float16))


def test_autograd_is_let_through():
    start, grad = torch.tensor([3.0], requires_grad=True), torch.tensor([2.0], requires_grad=True)
    param = start.clone()
    eager.run(descend, [Row(param, grad, -1.0, None, (), (0.5,))])
    param.sum().backward()
    assert_same([start.grad, grad.grad], [torch.tensor([1.0]), torch.tensor([0.5])])


def test_what_is_beyond_the_bound_is_cut_off_after_scaling():
    param, grad = torch.zeros(4), torch.tensor([1.0, -8.0, torch.inf, torch.nan])
    eager.run(descend, [Row(param, grad, 0.5, 2.0, (), (1.0,))])
    assert_same(param, torch.tensor([-0.5, 2.0, -2.0, torch.nan]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
def test_stats_are_of_what_is_stored(dtype):
    param, grad = torch.tensor([1.0, 2.0], dtype=dtype), torch.tensor([3.0, 1e-6], dtype=dtype)
    ((of_param, of_update, of_grad),) = eager.run(
        descend, [Row(param, grad, -1.0, None, (), (1.0,))], stats=True
    )
    assert of_param == pytest.approx((param.abs() ** 2).sum().item())
    assert of_update == pytest.approx(9.0)  # the second element is too small to move
    assert of_grad == pytest.approx(9.0)


def test_squares_count_what_is_not_finite():
    grad = torch.tensor([3.0, torch.inf, torch.nan, -torch.inf])
    assert eager.squares(grad)[1] == 3
    assert eager.squares(torch.tensor([3.0, 4.0], dtype=torch.bfloat16)) == (25.0, 0)
    assert eager.squares(torch.tensor([3 + 4j]).conj()) == (25.0, 0)
    twice = torch.sparse_coo_tensor(
        torch.tensor([[1, 1]]), torch.tensor([3.0, 1.0]), (5,), check_invariants=True
    )
    assert eager.squares(twice) == (16.0, 0)

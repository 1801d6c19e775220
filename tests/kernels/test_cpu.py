"""The CPU executor: the bits of the eager one, whatever the tensors, the threads and the faults."""

import itertools
import multiprocessing
import threading
from itertools import product

import pytest
import torch
from cases import CASES, CLASSES, every_class
from child import step_and_send
from walk import copies, gradients, parameters, tensors_of, walk

import surefoot
from surefoot import rule
from surefoot.kernels import Layout, cpu, eager

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
SHAPES = ((5, 3), (7,), (), (0, 2), (3 * cpu.CHUNK + 5,))


# torch's vectorised square root is up to one unit in the last place off the rounded one; both executors
# do the same else. Eight steps of weights of order one.
CLOSE = {
    torch.float32: {"rtol": 1e-6, "atol": 1e-7},
    torch.float64: {"rtol": 1e-15, "atol": 1e-15},
    torch.bfloat16: {"rtol": 2**-7, "atol": 1e-7},
    torch.float16: {"rtol": 2**-10, "atol": 1e-7},
    torch.complex64: {"rtol": 0, "atol": 0},  # eager in both
}


@rule
def plain(param, grad, /, lr):
    return (param - lr * grad,)


def assert_same_bits(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def assert_close(ours, theirs, size=1.0):
    """The same keys, shapes and dtypes, and the same values, of that size, but for the square root."""
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        close = {key: size * tolerance for key, tolerance in CLOSE[value.dtype].items()}
        torch.testing.assert_close(ours[name], value, equal_nan=True, **close)


def both_ways(build, params, grads):
    """The tensors after walking with the CPU's kernels, and with the eager executor."""
    ends = []
    for executor in ("cpu", "eager"):
        optimizer = build(copies(params), executor=executor)
        walk(optimizer, grads)
        ends.append(tensors_of(optimizer))
    return ends


@pytest.fixture
def no_eager(monkeypatch):
    """Fails a test whose tensors should all have kernels."""

    def run(rule, rows, stats):
        raise AssertionError("a row went to the eager executor")

    monkeypatch.setattr(eager, "run", run)


# Every flag in full precision; each class in half, where only loads and stores are others.
@pytest.mark.parametrize(
    ("case", "dtype"),
    [*product(CASES, [torch.float32, torch.float64]), *product(CLASSES, [torch.bfloat16, torch.float16])],
    ids=str,
)
def test_values_are_those_of_eager(case, dtype):
    kernels, reference = both_ways(case.ours, parameters(dtype, SHAPES), gradients(8, dtype, SHAPES))
    if case.name in ("SGD", "Rprop", "Lion", "ASGD"):  # without a square root
        assert_same_bits(kernels, reference)
    else:
        # RMSprop's momentum sums up directions of up to 10 each, and where it is centered they are quotients by
        # the root of a difference.
        assert_close(kernels, reference, size=100.0 if "momentum" in case.kwargs else 1.0)


@every_class
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_class_has_kernels_for_every_dtype(case, dtype, no_eager):
    walk(case.ours(parameters(dtype, SHAPES)), gradients(2, dtype, SHAPES))


@every_class
def test_infinities_and_nans_are_those_of_eager(case):
    params = [torch.tensor([torch.inf, -torch.inf, torch.nan, 1e38, 1e-45, -0.0]).requires_grad_()]
    grads = [[torch.tensor([1.0, torch.inf, 0.0, 1e38, 1e-45, torch.nan])]] * 3
    assert_close(*both_ways(lambda p, **k: case.ours(p, **k), params, grads))


def test_amsgrads_maximum_keeps_nan():
    params, grads = [torch.ones(2, requires_grad=True)], [[torch.tensor([torch.nan, 1.0])], [torch.ones(2)]]
    kernels, reference = both_ways(lambda p, **k: surefoot.Adam(p, amsgrad=True, **k), params, grads)
    assert kernels["0.max_exp_avg_sq"].isnan().tolist() == [True, False]
    assert_close(kernels, reference)


# Layouts


def channels_last(shape=(2, 3, 4, 4)):
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


LAYOUTS = {
    "channels_last": (channels_last, channels_last),
    "transposed": (lambda: torch.randn(4, 3).t(), lambda: torch.randn(4, 3).t()),
    "channels_last, contiguous gradient": (channels_last, lambda: torch.randn(2, 3, 4, 4)),
    "every second column": (lambda: torch.randn(4, 6)[:, ::2], lambda: torch.randn(4, 3)),
    "expanded gradient": (lambda: torch.randn(4, 3), lambda: torch.randn(3).expand(4, 3)),
    "conjugate's imaginary part": (
        lambda: torch.randn(4),
        lambda: torch.randn(4, dtype=torch.complex64).conj().imag,
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@every_class
def test_every_layout_is_right(case, layout):
    make_param, make_grad = LAYOUTS[layout]
    start, grads = make_param(), [make_grad() for _ in range(3)]

    def end(executor):
        # A copy with the same strides, gaps included.
        param = torch.empty_strided(start.shape, start.stride()).copy_(start).requires_grad_()
        optimizer = case.ours([param], executor=executor)
        for grad in grads:
            param.grad = grad
            optimizer.step()
        return tensors_of(optimizer)

    assert_close(end("cpu"), end("eager"))


@pytest.mark.parametrize("layout", ["channels_last", "transposed"])
def test_dense_strides_stay_on_kernels(layout, no_eager):
    make_param, make_grad = LAYOUTS[layout]
    param = make_param().requires_grad_()
    param.grad = make_grad()
    surefoot.AdamW([param]).step()


def test_what_has_no_kernel_goes_to_eager_tensor_by_tensor():
    params = [
        torch.ones(3, requires_grad=True),
        torch.ones(3, dtype=torch.complex64, requires_grad=True),
        torch.ones(3, dtype=torch.bfloat16, requires_grad=True),
    ]
    kernels, reference = both_ways(
        lambda p, **k: surefoot.AdamW(p, **k), params, [[torch.ones_like(p) for p in params]]
    )
    assert_close(kernels, reference)


def test_a_buffer_of_another_dtype_is_kept():
    """As after loading a float32 state for bfloat16 weights."""
    ends = []
    for executor in ("cpu", "eager"):
        optimizer = surefoot.AdamW(parameters(torch.bfloat16), executor=executor)
        grads = gradients(4, torch.bfloat16)
        walk(optimizer, grads[:1])
        for entry in optimizer.state.values():
            entry.update(exp_avg=entry["exp_avg"].float(), exp_avg_sq=entry["exp_avg_sq"].float())
        walk(optimizer, grads[1:])
        ends.append(tensors_of(optimizer))
    assert_close(*ends)
    assert ends[0]["0.exp_avg"].dtype == torch.float32


# Threads


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@every_class
def test_same_bits_for_any_number_of_threads(case, threads):
    shapes = ((5 * cpu.CHUNK + 3,), (3,), (2 * cpu.CHUNK,), (1,), (cpu.ALONE,))
    params, grads = parameters(shapes=shapes), gradients(3, shapes=shapes)
    ends = []
    for number in (1, 2, 3, 7):
        threads(number)
        optimizer = case.ours(copies(params))
        walk(optimizer, grads)
        ends.append(tensors_of(optimizer))
    for end in ends[1:]:
        assert_same_bits(end, ends[0])


@pytest.mark.parametrize(
    "sizes", [(1,), (cpu.ALONE + 1,), (5, 10 * cpu.CHUNK, 3), (1,) * 1000, (cpu.CHUNK,) * 9, (0,), (0, 4, 0)]
)
def test_batches_of_chunks_cover_everything_once(sizes):
    layout = Layout("float32", "float32", (), (True,))
    lane = cpu.Lane(plain, layout, range(len(sizes)), sizes, cpu.integers([[0, 0]] * len(sizes)))
    _, batches = lane._kept
    assert batches[0] == 0
    assert batches[-1] == len(lane.chunks)
    assert (batches[1:] > batches[:-1]).all()
    for row, size in enumerate(sizes):
        mine = lane.chunks[lane.chunks[:, 0] == row]
        assert mine[:, 2].sum() == size
        assert (mine[1:, 1] == mine[:-1, 1] + mine[:-1, 2]).all()
    each = [lane.chunks[a:b, 2].sum() for a, b in itertools.pairwise(batches)]
    assert all(size < 2 * cpu.CHUNK for size in each)


def test_two_optimizers_in_two_threads(threads):
    threads(2)
    shapes = ((4 * cpu.CHUNK,), (2 * cpu.CHUNK + 1,))
    params, grads = parameters(shapes=shapes), gradients(5, shapes=shapes)
    ends = {}

    def train(key):
        optimizer = surefoot.AdamW(copies(params))
        walk(optimizer, grads)
        ends[key] = tensors_of(optimizer)

    workers = [threading.Thread(target=train, args=(key,)) for key in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for key in range(1, 4):
        assert_same_bits(ends[key], ends[0])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_process_steps_like_its_parent(method, threads):
    threads(2)
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    step_and_send(queue)
    child = context.Process(target=step_and_send, args=(queue,))
    child.start()
    child.join(60)
    if child.exitcode is None:
        child.kill()
    assert child.exitcode == 0
    assert queue.get() == queue.get()


# What autograd sees


def test_a_step_counts_as_a_change_of_the_parameters():
    weight = torch.ones(2, requires_grad=True)
    loss = (weight**2).sum()
    loss.backward(retain_graph=True)
    surefoot.SGD([weight], lr=0.1).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("size", [1, 5])
def test_a_resized_parameter_is_an_error_and_no_wild_write(size):
    weight = torch.ones(3, requires_grad=True)
    optimizer = surefoot.AdamW([weight])
    weight.grad = torch.ones(3)
    optimizer.step()
    weight.grad = None
    weight.data = torch.ones(size)
    weight.grad = torch.ones(size)
    with pytest.raises(RuntimeError, match=r"size|shape"):
        optimizer.step()


def test_swapped_data_is_what_is_updated():
    weight = torch.ones(3, requires_grad=True)
    optimizer = surefoot.SGD([weight], lr=0.5)
    before = weight.data
    for _ in range(2):
        weight.data = torch.zeros(3)
        weight.grad = torch.ones(3)
        optimizer.step()
    assert weight.tolist() == [-0.5] * 3
    assert before.tolist() == [1.0] * 3

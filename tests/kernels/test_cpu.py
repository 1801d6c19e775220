"""The CPU executor: the bits of the eager one, whatever the tensors, the threads and the faults."""

import multiprocessing
import os
import subprocess
import sys
import threading
import warnings
from itertools import product
from pathlib import Path

import pytest
import torch
from cases import CASES, CLASSES, every_class
from child import step_and_send
from walk import copies, gradients, parameters, tensors_of, walk

import surefoot
from surefoot.kernels import compiled, cpu, eager
from surefoot.kernels.source import Layout, UnsupportedRuleError, kernel_source
from surefoot.kernels.table import Row
from surefoot.rule import rule

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


def assert_same_bits(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def assert_close(ours, theirs):
    """The same keys, shapes and dtypes, and the same values but for the square root."""
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, equal_nan=True, **CLOSE[value.dtype])


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

    def run(rule, table):
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
    (assert_same_bits if case.name == "SGD" else assert_close)(kernels, reference)


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


@pytest.mark.parametrize("threads_", [1, 2, 3, 7, 64])
@pytest.mark.parametrize(
    "sizes", [(1,), (cpu.ALONE + 1,), (5, 10 * cpu.CHUNK, 3), (1,) * 1000, (cpu.CHUNK,) * 9]
)
def test_shares_cover_everything_once(sizes, threads_):
    chunks, bounds = cpu._shares(sizes, threads_)
    assert bounds[0] == 0
    assert bounds[-1] == len(chunks)
    assert bounds == sorted(bounds)
    for row, size in enumerate(sizes):
        mine = chunks[chunks[:, 0] == row]
        assert mine[:, 2].sum() == size
        assert (mine[1:, 1] == mine[:-1, 1] + mine[:-1, 2]).all()


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


# Sources and faults

PLAIN = Layout("float32", "float32", (), (True,))


@rule
def unknown_name(param, grad, /, lr):
    return (param - lr * torch.sign(grad),)


@rule
def descend(param, grad, /, lr):
    return (param - lr * grad,)


def row():
    return Row(torch.ones(3), torch.full((3,), 0.5), 1.0, (), (0.1,))


def run(rule, one):
    with torch.no_grad():  # as in a step
        cpu.run(rule, [one])


def test_literals_are_of_the_arithmetics_type():
    @rule
    def shrink(param, grad, /, lr):
        return (0.5 * param - 2 * lr * grad,)

    source = kernel_source(shrink, PLAIN)
    assert "constant_0 = float32(0.5)" in source
    assert "constant_1 = float32(2.0)" in source


def test_a_rule_with_an_unknown_name_is_eagers():
    with pytest.raises(UnsupportedRuleError, match=r"torch\.sign"):
        kernel_source(unknown_name, PLAIN)
    one = row()
    run(unknown_name, one)
    torch.testing.assert_close(one.param, torch.full((3,), 0.9))


def test_a_rule_without_source_is_eagers():
    namespace = {"rule": rule}
    exec(
        "def typed_in(param, grad, /, lr):\n    return (param - lr * grad,)\ntyped = rule(typed_in)",
        namespace,
    )
    with pytest.raises(UnsupportedRuleError, match="its source cannot be read"):
        kernel_source(namespace["typed"], PLAIN)
    one = row()
    run(namespace["typed"], one)
    torch.testing.assert_close(one.param, torch.full((3,), 0.95))


@pytest.fixture
def fresh(monkeypatch):
    """Nothing compiled or decided yet in this process."""
    compiled.kernel.cache_clear()
    compiled._folder.cache_clear()
    yield monkeypatch
    compiled.kernel.cache_clear()
    compiled._folder.cache_clear()


def test_without_numba_eager_carries_on(fresh):
    fresh.setitem(sys.modules, "numba", None)
    assert compiled.kernel(descend, PLAIN) == (None, "Numba is not installed")
    one = row()
    run(descend, one)
    torch.testing.assert_close(one.param, torch.full((3,), 0.95))


def test_a_compiler_that_fails_is_warned_about_once(fresh):
    def fails(*arguments):
        raise OSError("no space left on device")

    fresh.setattr(compiled, "_compiled", fails)
    one = row()
    with pytest.warns(
        RuntimeWarning, match=r"'descend' could not be compiled \(OSError: no space left.*carries on"
    ):
        run(descend, one)
    run(descend, one)
    torch.testing.assert_close(one.param, torch.full((3,), 0.9))


def test_the_cache_is_the_users_alone(fresh, tmp_path):
    fresh.setenv("SUREFOOT_CACHE", str(tmp_path / "kernels"))
    assert compiled.kernel(descend, PLAIN)[0] is not None
    assert (tmp_path / "kernels").stat().st_mode & 0o777 == 0o700
    assert any((tmp_path / "kernels").glob("surefoot_kernel_*.py"))


def test_a_folder_that_others_can_write_is_not_trusted(fresh, tmp_path):
    tmp_path.chmod(0o777)
    fresh.setenv("SUREFOOT_CACHE", str(tmp_path))
    with pytest.warns(RuntimeWarning, match="can be written by others"):
        assert compiled.kernel(descend, PLAIN)[0] is not None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_done_without(fresh, tmp_path):
    (tmp_path / "file").write_text("in the way")
    fresh.setenv("SUREFOOT_CACHE", str(tmp_path / "file" / "kernels"))
    with pytest.warns(RuntimeWarning, match="compiled kernels cannot be kept"):
        assert compiled.kernel(descend, PLAIN)[0] is not None


def test_without_a_home_there_is_a_folder_all_the_same(fresh):
    for name in ("HOME", "XDG_CACHE_HOME", "SUREFOOT_CACHE"):
        fresh.delenv(name, raising=False)

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    fresh.setattr(Path, "home", homeless)
    with pytest.warns(RuntimeWarning, match="Could not determine home"):
        assert compiled.kernel(descend, PLAIN)[0] is not None


@pytest.mark.parametrize("pattern", ["*.py", "**/*.nbi", "**/*.nbc"])
def test_a_damaged_file_of_the_cache_is_made_again(fresh, tmp_path, pattern):
    folder = tmp_path / "kernels"
    fresh.setenv("SUREFOOT_CACHE", str(folder))
    compiled.kernel(descend, PLAIN)
    (damaged,) = folder.glob(pattern) if pattern == "*.py" else [next(folder.glob(pattern))]
    damaged.write_bytes(b"not what it was")
    compiled.kernel.cache_clear()
    one = row()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(descend, one)
    torch.testing.assert_close(one.param, torch.full((3,), 0.95))


def test_two_processes_may_compile_at_once(tmp_path):
    code = (
        "import torch, surefoot; p = torch.ones(3, requires_grad=True); p.grad = torch.ones(3); "
        "surefoot.SGD([p], lr=0.5, executor='cpu').step(); assert p.tolist() == [0.5] * 3"
    )
    environment = {**os.environ, "SUREFOOT_CACHE": str(tmp_path / "kernels")}
    children = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", code], env=environment) for _ in range(2)
    ]
    assert [child.wait() for child in children] == [0, 0]


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

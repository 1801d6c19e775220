import pytest
import torch

from surefoot.bench.traffic import Traffic


def memory(written, sizes=(1, 2, 5, 1000, 33333)):
    return [[torch.randn(size) for _ in range(1 + written)] for size in sizes]


def bits(tensors):
    """A copy that compares NaN too."""
    return [[tensor.view(torch.int32).clone() for tensor in row] for row in tensors]


@pytest.mark.parametrize("written", [1, 2, 3])
@pytest.mark.parametrize("threads", [1, 3])
def test_every_number_is_read_and_written(written, threads):
    before_threads = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        tensors = memory(written)
        before = bits(tensors)
        traffic = Traffic(tensors)
        traffic(mask=-1)
        for (grad, *others), (grad_after, *others_after) in zip(before, bits(tensors), strict=True):
            assert torch.equal(grad, grad_after)
            for other, after in zip(others, others_after, strict=True):
                assert torch.equal(other ^ grad, after)
    finally:
        torch.set_num_threads(before_threads)


@pytest.mark.parametrize("looks", [False, True])
def test_a_call_leaves_all_as_it_was(looks):
    tensors = memory(3)
    before = bits(tensors)
    Traffic(tensors, looks=looks)()
    torch.testing.assert_close(bits(tensors), before, rtol=0, atol=0)


def test_bytes_count_reads_and_writes():
    assert [Traffic(memory(written, [10])).bytes for written in (1, 2, 3)] == [120, 200, 280]
    assert Traffic(memory(3, [10]), looks=True).bytes == 320


@pytest.mark.parametrize("written", [0, 4])
def test_what_it_has_no_loop_for_is_refused(written):
    with pytest.raises(ValueError, match=f"has {1 + written} tensors"):
        Traffic(memory(written))

import gc

import pytest
import torch

from surefoot import optimizers
from surefoot.bench import Work, alternate, rows, select, works
from surefoot.bench.rows import KINDS, LEAST_ROUNDS, OURS, TRAFFIC, VARIANTS

pytestmark = pytest.mark.usefixtures("one_thread")


class Fake:
    """Sides that note when they are called, and the clock they move."""

    def __init__(self, **durations):
        self.now, self.called = 0.0, []
        self.sides = {name: lambda name=name: self.call(name, durations[name]) for name in durations}

    def call(self, name, duration):
        self.called.append(name)
        self.now += duration

    def clock(self):
        return self.now


def test_sides_take_turns():
    fake = Fake(a=1.0, b=2.0, c=3.0)
    times = alternate(fake.sides, 36.0, fake.clock)
    assert fake.called[:6] == ["a", "a", "b", "b", "c", "c"]  # each once to warm up, once to learn how long
    assert fake.called[6:] == ["a", "b", "c"] * 6
    assert times == {"a": [1.0] * 6, "b": [2.0] * 6, "c": [3.0] * 6}


def test_there_are_some_rounds_whatever_they_take():
    fake = Fake(a=1.0, b=50.0)
    assert len(alternate(fake.sides, 0.1, fake.clock)["b"]) == LEAST_ROUNDS


def test_what_is_short_is_called_several_times_for_each_look_at_the_clock(monkeypatch):
    monkeypatch.setattr(rows, "LEAST_SECONDS", 1e-4)
    fake = Fake(short=2.0**-16, long=1.0)
    times = alternate(fake.sides, 5.5, fake.clock)
    assert times == {"short": [2.0**-16] * 6, "long": [1.0] * 6}
    assert fake.called[1 + 1 + 2 + 4 + 8 + 2 :] == (["short"] * 8 + ["long"]) * 6


@pytest.mark.parametrize("collects", [True, False])
def test_the_garbage_collector_waits_and_is_given_back(collects):
    (gc.enable if collects else gc.disable)()
    try:
        seen = []
        alternate({"a": lambda: seen.append(gc.isenabled())}, 1e-3)
        assert not any(seen)
        assert gc.isenabled() == collects
        with pytest.raises(ZeroDivisionError):
            alternate({"a": lambda: 1 / 0}, 1e-3)
        assert gc.isenabled() == collects
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("optimizer", "variants", "bytes_per_parameter"),
    [
        ("SGD", {"default", "foreach", "fused"}, 12),
        ("SGD momentum", {"default", "foreach", "fused"}, 20),
        ("AdamW", {"default", "foreach", "fused"}, 28),
        ("NAdam", {"default", "foreach"}, 28),
        ("RAdam", {"default", "foreach"}, 28),
    ],
)
def test_each_variant_of_torch_and_the_traffic_of_the_step(
    monkeypatch, optimizer, variants, bytes_per_parameter
):
    monkeypatch.setattr(rows, "BIG", 0)
    sides = KINDS["step"]("MLP", optimizer)
    assert list(sides.calls)[:2] == [OURS, TRAFFIC]
    assert {*sides.calls} == {OURS, TRAFFIC} | variants
    assert sides.traffic_bytes == 9610 * bytes_per_parameter
    before = [param.detach().clone() for param in sides.params]
    sides.calls[TRAFFIC]()
    assert all(map(torch.equal, before, sides.params))
    for name in {OURS} | variants:
        sides.calls[name]()
        assert not any(map(torch.equal, before, sides.params))
        before = [param.detach().clone() for param in sides.params]


def test_memory_is_measured_for_big_shapes_only():
    assert TRAFFIC not in KINDS["step"]("MLP", "AdamW").calls
    sizes = {shape: sum(torch.Size(size).numel() for size in rows.SHAPES[shape]()) for shape in rows.SHAPES}
    assert {shape for shape, size in sizes.items() if size >= rows.BIG} == {"ResNet-50", "GPT-2 small"}


def test_groups_have_the_rates_of_twelve_layers_and_their_variant():
    calls = KINDS["step"]("465 groups", "AdamW").calls
    for name, flags in {OURS: {}, **VARIANTS}.items():
        groups = calls[name].__self__.param_groups
        assert [len(group["params"]) for group in groups] == [1] * 465
        assert len({group["lr"] for group in groups}) == 12
        assert all({"foreach": None, "fused": None, **flags}.items() <= group.items() for group in groups)


def test_a_training_step_starts_from_equal_models():
    ends = []
    for name, step in KINDS["training step"]("24-layer MLP", "AdamW").calls.items():
        step()
        ends.append([param.detach() for param in step.args[0].parameters()])
        assert type(step.args[1]) is (optimizers if name == OURS else torch.optim).AdamW
    assert len(ends) == 1 + len(VARIANTS)
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0])


@pytest.mark.parametrize("kind", ["step", "training step"])
def test_nothing_is_drawn_from_the_global_generator(kind):
    before = torch.get_rng_state()
    KINDS[kind]("MLP", "AdamW")
    assert torch.equal(torch.get_rng_state(), before)


def test_clipping_is_measured(monkeypatch):
    monkeypatch.setattr(rows, "BIG", 0)
    sides = KINDS["clip + step"]("MLP", "AdamW")
    assert sides.calls[OURS].__self__.clip_norm == 1.0
    assert sides.traffic_bytes == 9610 * (28 + 4)
    sides.calls["fused"]()
    assert torch.cat([param.grad.flatten() for param in sides.params]).norm() == pytest.approx(1, rel=1e-4)


def test_torch_multiplies_by_a_coefficient_of_one_too():
    """So each round of the clip rows is the same work, though the first one leaves a norm of 1."""
    param = torch.ones(9, requires_grad=True)
    param.grad = torch.full((9,), 0.1)
    for version in (1, 2):
        torch.nn.utils.clip_grad_norm_([param], 1.0)
        assert param.grad._version == version


def test_every_optimizer_has_its_rows_and_no_row_stands_twice():
    names = [str(work) for work in works()]
    assert len(names) == len({*names})
    for optimizer in rows.available():
        assert {f"step 1000 x 256 {optimizer}", f"step GPT-2 small {optimizer}"} <= {*names}
    for shape in rows.SHAPES:
        assert f"step {shape} AdamW" in names


@pytest.mark.parametrize(
    ("pattern", "chosen"),
    [
        ("step mlp adamw", {"step MLP AdamW", "clip + step MLP AdamW", "training step MLP AdamW"}),
        ("465 Groups", {"step 465 groups AdamW", "clip + step 465 groups AdamW"}),
        ("training * mlp", {"training step MLP AdamW", "training step 24-layer MLP AdamW"}),
        ("1000*radam", {"step 1000 x 256 RAdam"}),
    ],
)
def test_a_pattern_takes_whole_words_in_any_case(pattern, chosen):
    assert {str(work) for work in select(pattern)} == chosen


def test_adamw_does_not_mean_nadamw():
    assert {work.optimizer for work in select("adamw")} == {"AdamW"}
    assert select() == select("*") == works()


def test_an_unknown_pattern_says_what_there_is():
    with pytest.raises(ValueError, match=r"'adamm'.*step.*training step.*MLP.*GPT-2 small.*SGD momentum"):
        select("adamm")


def test_a_row_is_measured():
    result = Work("step", "MLP", "SGD").measure(0.01)
    assert (result.kind, result.shape, result.optimizer) == ("step", "MLP", "SGD")
    assert result.rounds >= LEAST_ROUNDS
    assert min(result.surefoot, *result.torchs.values()) > 0

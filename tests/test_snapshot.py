import gc
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from trainings import Augmented, bits, endless, everything, loader, loss, net, seed, steps

import surefoot as optim
from surefoot.snapshot import Beside, Snapshot

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, lr=0.05, momentum=0.9),
    "Adam": lambda p: optim.Adam(p, lr=0.01, amsgrad=True),
    "AdamW": lambda p: optim.AdamW(p, lr=0.01),
    "NAdam": lambda p: optim.NAdam(p, lr=0.01),
    "RAdam": lambda p: optim.RAdam(p, lr=0.01),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.01),  # whose state is there before the first step
    "ASGD": lambda p: optim.ASGD(p, lr=0.01),
    "torch's Adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "torch's Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),  # has state before its first step
}
PLACES = ["memory", "folder"]


def take(place: str, folder: Path, *parts: Any, **settings: Any) -> Snapshot:
    snapshot = Snapshot(*parts, **settings, folder=folder if place == "folder" else None)
    snapshot.set_aside()
    return snapshot


def wiggle(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Change every number of a model of any shape: a step along random gradients, random buffers."""
    for param in model.parameters():
        param.grad = torch.randn_like(param)
    optimizer.step()
    for buffer in model.buffers():
        if not buffer.is_floating_point():
            buffer.add_(1)
        elif buffer.numel():
            buffer.copy_(torch.rand_like(buffer))


@pytest.mark.parametrize("build", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("warm", [0, 3], ids=["cold", "warm"])
@pytest.mark.parametrize("place", PLACES)
def test_everything_is_put_back(build: Any, warm: int, place: str, tmp_path: Path) -> None:
    seed()
    model, batches = net(), loader()
    optimizer = build(model.parameters())
    steps(model, optimizer, batches, warm)
    model[1].eval()  # a frozen norm in a model that trains
    before = everything(model, optimizer, batches)
    for _ in range(2):  # the second time is the one that torch-lr-finder loses
        snapshot = take(place, tmp_path, model, optimizer, batches)
        steps(model, optimizer, batches, 4)
        model.eval()
        random.random(), np.random.rand()
        assert everything(model, optimizer, batches) != before
        snapshot.restore()
        assert everything(model, optimizer, batches) == before


@pytest.mark.parametrize("place", PLACES)
def test_it_can_be_restored_again_and_again(place: str, tmp_path: Path) -> None:
    seed()
    model, batches = net(), loader()
    optimizer = optim.Adam(model.parameters(), lr=torch.tensor(0.01), betas=[0.9, 0.999])
    steps(model, optimizer, batches, 2)
    before = everything(model, optimizer, batches)
    snapshot = take(place, tmp_path, model, optimizer, batches)
    for _ in range(3):
        steps(model, optimizer, batches, 3)
        optimizer.param_groups[0]["betas"][0] = 0.5
        snapshot.restore()
        assert everything(model, optimizer, batches) == before


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("build", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_fifty_steps_after_it_are_those_without_it(build: Any, place: str, tmp_path: Path) -> None:
    def train(excursion: bool) -> Any:
        seed()
        model, batches = net(), loader(Augmented())
        optimizer = build(model.parameters())
        steps(model, optimizer, batches, 3)
        if excursion:
            snapshot = take(place, tmp_path, model, optimizer, batches)
            steps(model, optimizer, batches, 7)
            snapshot.restore()
        losses = steps(model, optimizer, batches, 50)
        return bits([losses, model.state_dict(), optimizer.state_dict()])

    assert train(True) == train(False)


@pytest.mark.parametrize("warm", [0, 3], ids=["cold", "warm"])
@pytest.mark.parametrize("place", PLACES)
def test_nested_state_is_put_back(warm: int, place: str, tmp_path: Path) -> None:
    """LBFGS keeps lists of tensors, numbers and None, and changes them in place."""

    def train(excursion: bool) -> Any:
        seed()
        model, stream = net(), endless(loader())
        optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3, history_size=2)

        def step() -> None:
            batch = next(stream)

            def closure() -> Tensor:
                optimizer.zero_grad()
                value = loss(model, batch)
                value.backward()
                return value

            optimizer.step(closure)

        for _ in range(warm):
            step()
        before = everything(model, optimizer)
        if excursion:
            snapshot = take(place, tmp_path, model, optimizer)
            stream = endless(loader())
            for _ in range(4):
                step()
            snapshot.restore()
            assert everything(model, optimizer) == before
        stream = endless(loader())
        for _ in range(4):
            step()
        return bits([model.state_dict(), optimizer.state_dict()])

    assert train(True) == train(False)


class Odd(nn.Module):
    """Parameters and buffers of every kind that is easily forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.empty = nn.Parameter(torch.empty(0, 3))
        self.coarse = nn.Parameter(torch.randn(3, 4).bfloat16())
        self.fine = nn.Parameter(torch.randn(5).double())
        self.wave = nn.Parameter(torch.randn(3, dtype=torch.complex64))
        self.turned = nn.Parameter(torch.randn(4, 3).t())
        self.image = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        self.tied = nn.Linear(3, 3)
        self.other = nn.Linear(3, 3)
        self.other.weight = self.tied.weight
        self.register_buffer("count", torch.tensor(7))
        self.register_buffer("kept_out", torch.rand(3), persistent=False)
        self.register_buffer("nothing", None)
        self.register_buffer("spread", torch.tensor([1.0, 2.0]).reshape(2, 1).expand(2, 3))
        self.register_buffer("part", self.kept_out[1:])
        with torch.inference_mode():  # as a cache that the first evaluation filled
            self.register_buffer("cache", torch.rand(4))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("warm", [0, 2], ids=["cold", "warm"])
def test_tensors_of_every_kind_are_put_back(place: str, warm: int, tmp_path: Path) -> None:
    seed()
    model = Odd()
    optimizer = optim.Adam(model.parameters(), lr=0.1)

    def change() -> None:
        for param in model.parameters():
            param.grad = torch.randn_like(param)
        optimizer.step()
        model.count += 1
        model.kept_out.mul_(0.5)  # and with it its view
        with torch.inference_mode():
            model.cache.mul_(0.5)

    for _ in range(warm):
        change()
    before = everything(model, optimizer)
    strides = [p.stride() for p in model.parameters()]
    storage = model.part.data_ptr()
    snapshot = take(place, tmp_path, model, optimizer)
    change()
    assert everything(model, optimizer) != before
    snapshot.restore()
    assert everything(model, optimizer) == before
    assert [p.stride() for p in model.parameters()] == strides
    assert model.part.data_ptr() == storage


@pytest.mark.parametrize("place", PLACES)
def test_buffers_set_anew_are_put_back(place: str, tmp_path: Path) -> None:
    model = Odd()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    before = everything(model, optimizer)
    names = [name for name, _ in model.named_buffers()], list(model.state_dict())
    snapshot = take(place, tmp_path, model, optimizer)
    model.count = model.count + 1
    model.kept_out = torch.zeros(9)
    model.nothing = torch.ones(1)
    model.spread = None
    del model.part
    model.register_buffer("made_on_the_way", torch.ones(1))
    model.tied.register_buffer("mask", torch.ones(1), persistent=False)
    snapshot.restore()
    assert everything(model, optimizer) == before
    assert ([name for name, _ in model.named_buffers()], list(model.state_dict())) == names


@pytest.mark.parametrize("place", PLACES)
def test_gradients_come_back_as_the_very_tensors(place: str, tmp_path: Path) -> None:
    model, criterion = net(), nn.Linear(3, 1)
    model[0].requires_grad_(False)  # a gradient may be left from before
    optimizer = optim.SGD([*model[4].parameters(), *criterion.parameters()], lr=0.1)
    model[0].weight.grad = torch.full_like(model[0].weight, torch.nan)
    model[4].weight.grad = torch.randn_like(model[4].weight)
    criterion.weight.grad = torch.randn_like(criterion.weight)
    params = [*model.parameters(), *criterion.parameters()]
    grads = [p.grad for p in params]
    before = everything(model, optimizer)
    snapshot = take(place, tmp_path, model, optimizer)
    assert all(p.grad is None for p in params)
    wiggle(model, optimizer)
    optimizer.zero_grad(set_to_none=False)
    snapshot.restore()
    assert all(p.grad is grad for p, grad in zip(params, grads, strict=True))
    assert everything(model, optimizer) == before


def test_groups_are_put_back_whatever_was_done_to_them() -> None:
    model = net()
    lr, beta = torch.tensor(0.01), torch.tensor(0.9)
    groups = [
        {
            "params": list(model[0].parameters()),
            "lr": lr,
            "betas": [0.9, 0.99],
            "mine": {"nested": [1, beta]},
        },
        {"params": list(model[1].parameters()), "lr": 0.1, "gone": True},
    ]
    optimizer = optim.Adam(groups)
    groups = optimizer.param_groups
    before = everything(model, optimizer)
    snapshot = Snapshot(model, optimizer)
    groups[0]["lr"].fill_(5.0)
    groups[0]["betas"][0] = 0.1
    groups[0]["mine"]["nested"][0] = 2
    beta.fill_(0.5)
    groups[0]["params"].pop()
    groups[1]["lr"] = torch.tensor(7.0)
    groups[1]["initial_lr"] = 3.0
    del groups[1]["gone"]
    optimizer.add_param_group({"params": list(model[4].parameters())})
    snapshot.restore()
    assert everything(model, optimizer) == before
    assert optimizer.param_groups is groups
    assert groups[0]["lr"] is lr
    assert "initial_lr" not in groups[1]


def test_a_state_set_anew_is_put_back() -> None:
    """``optimizer.state = {}`` is the lesson's way to reset."""
    seed()
    model = net()
    optimizer = optim.Adam(model.parameters())
    steps(model, optimizer, loader(), 2)
    before = everything(model, optimizer)
    snapshot = Snapshot(model, optimizer)
    optimizer.state = {}
    steps(model, optimizer, loader(), 2)
    snapshot.restore()
    assert everything(model, optimizer) == before


def test_an_optimizers_own_numbers_are_put_back() -> None:
    class Counting(torch.optim.SGD):
        steps = 0
        asked = False

        def step(self, closure: Any = None) -> Any:
            self.steps += 1
            self.asked = True
            return super().step(closure)

    model = net()
    optimizer = Counting(model.parameters(), lr=0.1)
    optimizer.steps, optimizer.asked = 3, False
    snapshot = Snapshot(model, optimizer)
    wiggle(model, optimizer)
    snapshot.restore()
    assert (optimizer.steps, optimizer.asked) == (3, False)


def scaled_step(model: nn.Module, optimizer: Any, scaler: Any) -> None:
    optimizer.zero_grad()
    scaler.scale(model(torch.randn(4, 6)).sum()).backward()
    scaler.step(optimizer)
    scaler.update()


@pytest.mark.parametrize("warm", [0, 3], ids=["cold", "warm"])
def test_the_scaler_is_put_back(warm: int) -> None:
    model = net()
    optimizer = optim.SGD(model.parameters(), lr=0.001)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
    for _ in range(warm):
        scaled_step(model, optimizer, scaler)
    before = scaler.state_dict()
    snapshot = Snapshot(model, optimizer, scaler=scaler)
    for _ in range(3):
        scaled_step(model, optimizer, scaler)
    assert scaler.state_dict() != before
    snapshot.restore()
    assert scaler.state_dict() == before


def test_a_scaler_left_between_unscale_and_update_is_put_back() -> None:
    model = net()
    optimizer = optim.SGD(model.parameters(), lr=0.001)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    snapshot = Snapshot(model, optimizer, scaler=scaler)
    scaler.scale(model(torch.randn(4, 6)).sum()).backward()
    scaler.unscale_(optimizer)  # and here an exception ends the excursion
    snapshot.restore()
    scaler.scale(model(torch.randn(4, 6)).sum()).backward()
    scaler.unscale_(optimizer)  # not "already called": step() would apply the next gradients scaled
    scaler.step(optimizer)
    scaler.update()


def test_a_scaler_that_is_off_is_left_alone() -> None:
    model = net()
    optimizer = optim.SGD(model.parameters(), lr=0.001)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    snapshot = Snapshot(model, optimizer, scaler=scaler)
    scaled_step(model, optimizer, scaler)
    snapshot.restore()
    assert scaler.state_dict() == {}


def test_the_file_goes_with_the_snapshot(tmp_path: Path) -> None:
    model = net()
    snapshot = Snapshot(model, optim.SGD(model.parameters(), lr=0.1), folder=str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 1
    snapshot.restore()
    del snapshot
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_cleaned_away_is_no_error_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = net()
    snapshot = Snapshot(model, optim.SGD(model.parameters(), lr=0.1), folder=tmp_path)
    next(tmp_path.iterdir()).unlink()
    del snapshot
    gc.collect()
    assert capsys.readouterr().err == ""


def test_a_full_disk_leaves_everything_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    model = net()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    wiggle(model, optimizer)
    before = everything(model, optimizer)
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        Snapshot(model, optimizer, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert everything(model, optimizer) == before


# Optimizers beside the known one


@pytest.mark.parametrize("kind", [optim.Adam, torch.optim.Adam], ids=["ours", "torch's"])
@pytest.mark.parametrize("warm", [0, 2], ids=["cold", "warm"])
def test_another_optimizer_that_steps_is_put_back(kind: Any, warm: int) -> None:
    model, other = net(), nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    optimizer, second = optim.SGD(model.parameters(), lr=0.1), kind(other.parameters(), lr=0.1)
    steps(other, second, loader(), warm)
    second.zero_grad()
    before = everything(other, second)

    def two_steps() -> list[float]:
        seed()
        return steps(other, second, loader(), 2)

    with Beside(optimizer) as beside:
        first = two_steps()
        assert everything(other, second) != before
        beside.restore()
        assert two_steps() == first
        beside.restore()
    after = everything(other, second)
    assert {**after, "generators": 0} == {**before, "generators": 0}  # which whoever lends the run puts back


def test_the_first_step_beside_has_its_gradient() -> None:
    weight = torch.ones(1, requires_grad=True)
    second = optim.SGD([weight], lr=0.1)
    with Beside(optim.SGD([torch.ones(1)], lr=0.1)) as beside:
        weight.grad = torch.ones(1)
        second.step()
        assert weight.item() == pytest.approx(0.9)
        beside.restore()
    assert (weight.item(), weight.grad) == (1.0, None)


def test_steps_of_another_thread_are_its_own() -> None:
    weight = torch.ones(1, requires_grad=True)
    weight.grad = torch.ones(1)
    second = optim.SGD([weight], lr=0.1)
    with Beside(optim.SGD([torch.ones(1)], lr=0.1)) as beside:
        thread = threading.Thread(target=second.step)
        thread.start()
        thread.join()
        beside.restore()
    assert weight.item() == pytest.approx(0.9)


def test_copies_that_do_not_fit_in_memory_go_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("surefoot.snapshot._free", lambda device: 100.0)
    model = nn.Linear(64, 8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    snapshot = Snapshot(model, optim.SGD(model.parameters(), lr=0.1))
    assert len(list(tmp_path.iterdir())) == 1
    nn.init.zeros_(model.weight)
    snapshot.restore()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    del snapshot
    assert list(tmp_path.iterdir()) == []

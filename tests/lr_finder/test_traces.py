"""Traces in set-ups that are easily forgotten; the usual ones are in test_pains.py."""

import inspect
import random
import sys
from typing import Any

import numpy as np
import pytest
import torch
from lr_finder.runs import plain_net, run_of
from torch import nn
from torch.utils.data import DataLoader
from trainings import bits, everything, loss, seed

import surefoot as optim
from surefoot import Run, find_lr, train
from surefoot.snapshot import Snapshot

pytestmark = pytest.mark.usefixtures("one_thread")


def whole(run: Run) -> Any:
    return everything(run.model, run.optimizer, run.loader), [run.epoch, run.batch, run.step]


class Curious(nn.Module):
    """Counts its calls, keeps an average in no buffer, and has a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.calls, self.seen = plain_net(), 0, [0.0]
        self.average, self.generator = torch.zeros(3), torch.Generator().manual_seed(1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        outputs = self.body(inputs + torch.randn(inputs.shape, generator=self.generator) / (9 + self.calls))
        self.average = 0.9 * self.average + 0.1 * outputs.detach().mean(0)
        self.seen.append(float(self.average[0]))
        average: torch.Tensor = self.average
        return outputs - average

    def all(self) -> Any:
        return self.calls, list(self.seen), bits([self.average]), self.generator.get_state().tolist()


class Criterion(nn.Module):
    """Has a norm, which sees each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(self.norm(outputs), labels)

    def all(self) -> Any:
        return bits(self.state_dict()), self.training, [param.grad is None for param in self.parameters()]


def of_an_own_module() -> Any:
    model = Curious()
    return run_of(model=model), model.all


def of_a_criterion() -> Any:
    criterion = Criterion()
    return run_of(loss=lambda model, batch: criterion(model(batch[0]), batch[1])), criterion.all


def of_a_second_network() -> Any:
    """Which a step function trains with an optimizer of its own, and freezes meanwhile."""
    model, second = plain_net(), Criterion()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    other = torch.optim.Adam(second.parameters(), lr=0.01)

    def step(batch: Any) -> float:
        second.requires_grad_(True)
        other.zero_grad()
        second(model(batch[0]).detach(), batch[1]).backward()
        other.step()
        second.requires_grad_(False)
        optimizer.zero_grad()
        value = second(model(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        return value.item()

    run = run_of(lambda _: optimizer, model, step_fn=lambda *_: step)
    return run, lambda: (second.all(), [param.requires_grad for param in second.parameters()])


def of_gradients_that_grow() -> Any:
    """Over four calls of a step function, and the finding is between two of them."""
    model, calls = plain_net(), iter(range(1, 10_000))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def step(batch: Any) -> float:
        value = loss(model, batch)
        value.backward()
        if next(calls) % 4 == 0:
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
        return value.item()

    run = run_of(lambda _: optimizer, model, step_fn=lambda *_: step)
    return run, lambda: bits([param.grad for param in model.parameters() if param.grad is not None])


def of_parameters_of_nobody() -> Any:
    run = run_of(lambda params: torch.optim.SGD(list(params)[:1], lr=0.01))
    return run, lambda: bits([p.grad for p in run.model.parameters() if p.grad is not None])


def of_what_a_step_measured() -> Any:
    run = run_of(lambda params: optim.AdamW(params, lr=0.01, clip_norm=1.0, stats=True))
    return run, lambda: repr(run.optimizer.last_step)


def of_generators_of_the_data() -> Any:
    data = Noisy()
    loader = DataLoader(torch.utils.data.Subset(data, range(40)), batch_size=8)
    return run_of(data=loader), lambda: (data.generator.bit_generator.state, data.other.getstate())


def of_a_scheduler_with_a_memory() -> Any:
    run = run_of(lambda params: torch.optim.SGD(params, lr=0.01))
    factor = Factor()
    run.scheduler = torch.optim.lr_scheduler.LambdaLR(run.optimizer, factor)
    return run, lambda: (factor.calls, "_opt_called" in vars(run.optimizer))


class Noisy(torch.utils.data.Dataset[Any]):
    def __init__(self) -> None:
        self.generator, self.other = np.random.default_rng(0), random.Random(0)

    def __getitem__(self, index: int) -> Any:
        return torch.full((6,), self.generator.normal() + self.other.random()), index % 3


class Factor:
    calls = 0

    def __call__(self, step: int) -> float:
        self.calls += 1
        return 0.99**step


ODD = {
    "a module's own attributes": of_an_own_module,
    "a criterion with buffers": of_a_criterion,
    "a second network": of_a_second_network,
    "gradients that grow over calls": of_gradients_that_grow,
    "parameters of no optimizer": of_parameters_of_nobody,
    "what a step measured": of_what_a_step_measured,
    "generators of the data": of_generators_of_the_data,
    "a scheduler with a memory": of_a_scheduler_with_a_memory,
}


@pytest.mark.parametrize("warm", [0, 6])
@pytest.mark.parametrize("name", ODD)
def test_36_what_is_easily_forgotten(name: str, warm: int) -> None:
    seed()
    run, extra = ODD[name]()
    records = train(run, steps=warm + 1)
    for _ in range(warm):
        next(records)
    before = whole(run), extra()
    for _ in range(2):
        find_lr(run, max_batches=100, total_steps=8)
        assert (whole(run), extra()) == before


class Endless(torch.utils.data.IterableDataset[Any]):
    def __iter__(self) -> Any:
        for i in range(64):
            yield torch.full((6,), i / 64), i % 3


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_36_workers_that_stay_go_on_with_what_they_read() -> None:
    """A pass that is in the middle goes on, of training and of validation."""
    loader = DataLoader(Endless(), batch_size=8, num_workers=1, persistent_workers=True)
    run = run_of()
    seen = []
    for inputs, _ in loader:
        seen.append(float(inputs[0, 0]))
        if len(seen) == 3:
            find_lr(run, val_loader=loader, effort="sweep", max_batches=50)
            find_lr(run.model, run.optimizer, loss, loader, effort="sweep", max_batches=50)
    assert seen == [i / 8 for i in range(8)]


def test_36_ctrl_c_on_the_way_in_and_out() -> None:
    """Before the block begins, and while all is put back."""
    seed()
    run = run_of()
    list(train(run, steps=3))
    before, gradients = whole(run), [param.grad for param in run.model.parameters()]
    code = {Snapshot.set_aside.__code__, inspect.unwrap(Snapshot.restore).__code__}
    count = 0
    for stop in range(1, 500):
        count = 0

        def trace(frame: Any, event: str, _: Any, stop: int = stop) -> Any:
            nonlocal count
            if frame.f_code not in code:
                return None
            count += event == "line"
            if event == "line" and count == stop:
                raise KeyboardInterrupt
            return trace

        own = sys.gettrace()
        sys.settrace(trace)
        try:
            with run.borrow():
                run.model.eval()
            break
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(own)
        assert whole(run) == before
        assert all(p.grad is g for p, g in zip(run.model.parameters(), gradients, strict=True))
    assert 100 < stop < 499

import math
from typing import Any

import pytest
import torch
from lr_finder.runs import RUNS, plain_net, run_of
from trainings import bits, everything, loader, loss, seed

import surefoot as optim
from surefoot import Run, train
from surefoot.lr_finder.lent import HELD, Spent, agreed, lend
from surefoot.lr_finder.planned import Planned

pytestmark = pytest.mark.usefixtures("one_thread")


def lent(run: Run, val_loader: Any = None, updates: int = 8, most: int = 100, seconds: float = 60) -> Any:
    return lend(run, val_loader, updates, most, seconds)


def weights(run: Run) -> Any:
    return bits(run.model.state_dict())


def same(batches: list[Any], other: list[Any]) -> bool:
    return bits(batches) == bits(other)


# Batches


def test_trials_train_on_the_next_batches_and_what_follows_is_held_out() -> None:
    batches = list(loader(shuffle=False))
    with lent(run_of(model=plain_net(), data=batches * 4)) as one:
        assert len(one.batches) == 8
        assert same([window[0] for window in one.batches], (batches * 2)[:8])
        assert same([window[0] for window in one.held], (batches * 4)[8 : 8 + HELD])


def test_in_the_middle_of_a_pass_they_are_those_that_come_next() -> None:
    batches = list(loader(shuffle=False))
    run = run_of(model=plain_net(), data=batches)
    for _ in train(run, steps=3):
        pass
    with lent(run, updates=4) as one:
        assert same([window[0] for window in one.batches], [*batches[3:], *batches[:2]])
    assert (run.epoch, run.batch) == (0, 3)


def test_with_few_batches_what_is_held_out_is_trained_on_too() -> None:
    batches = list(loader(shuffle=False))[:2]
    with lent(run_of(model=plain_net(), data=batches)) as one:
        assert same([window[0] for window in one.batches], batches)
        assert same(one.held, one.batches)


def test_a_loader_of_validation_is_what_is_held_out() -> None:
    held_out = list(loader(shuffle=False))
    run = run_of(model=plain_net())
    with lent(run, held_out) as one:
        assert same([window[0] for window in one.held], held_out[:HELD])
        run.model.eval()
        with torch.no_grad():
            expected = sum(loss(run.model, batch).item() for batch in held_out[:HELD]) / HELD
        assert one.held_out() == pytest.approx(expected)
        assert one.spent == HELD


def test_a_held_out_loss_weighs_what_batches_hold() -> None:
    (inputs, labels), *_ = loader(shuffle=False)
    split = [(inputs[:7], labels[:7]), (inputs[7:], labels[7:])]
    whole: list[Any] = [(inputs, labels)]
    run = run_of(model=plain_net())
    with lent(run, split) as parts:
        value = parts.held_out()
    with lent(run, whole) as one:
        assert one.held_out() == pytest.approx(value)


def test_what_updates_itself_has_nothing_held_out() -> None:
    with lent(RUNS["step_fn that updates"]()) as one:
        assert one.held == []
        assert math.isfinite(one.update(0))


def test_windows_are_those_of_an_update() -> None:
    with lent(run_of(accumulate=2)) as one:
        assert {len(window) for window in one.batches} == {1, 2}  # the last of a pass takes what is left


# Updates


def test_an_update_is_that_of_training_and_rewinding_undoes_it() -> None:
    seed()
    run = RUNS["fp16 autocast"]()
    before = weights(run)
    with lent(run) as one:
        assert weights(run) == before
        one.rewind()  # batches were read since
        first = [one.update(i) for i in range(3)]
        moved = weights(run)
        assert moved != before
        one.rewind()
        assert weights(run) == before
        assert [one.update(i) for i in range(3)] == first
        assert weights(run) == moved
        assert one.spent == 6
    assert weights(run) == before


def test_rates_are_so_many_times_those_of_the_settings() -> None:
    lr = torch.tensor(0.5)
    params = list(plain_net().parameters())
    groups = [{"params": params[:1], "lr": lr}, {"params": params[1:], "lr": 0.1}]
    model = plain_net()
    run = run_of(
        lambda _: optim.Adam([{**groups[0], "params": [model[0].weight]}, {"params": [model[2].weight]}]),
        model,
    )
    settings = [{"lr": 1.0}, {"lr": 4.0, "momentum": 0.5, "weight_decay": 0.1}]
    with lent(run) as one:
        one.set(0.25, settings)
        first, second = run.optimizer.param_groups
        assert first["lr"] is lr
        assert lr.item() == 0.25
        assert (second["lr"], second["betas"], second["weight_decay"]) == (1.0, (0.5, 0.999), 0.1)
    assert lr.item() == 0.5
    assert run.optimizer.param_groups[1]["betas"] == (0.9, 0.999)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_infinite(value: float) -> None:
    with lent(run_of(loss=lambda model, batch: loss(model, batch) * value)) as one:
        assert one.update(0) == math.inf
        assert one.held_out() == math.inf


@pytest.mark.parametrize("policy", ["raise", "skip"])
def test_a_gradient_that_is_no_number_is_too(policy: str) -> None:
    model = plain_net()
    model[0].weight.register_hook(lambda grad: grad * math.inf)
    run = run_of(lambda params: optim.SGD(params, lr=0.1, nonfinite=policy), model)
    with lent(run) as one:
        assert one.update(0) == math.inf
        one.rewind()
        assert one.update(0) == math.inf
    assert run.optimizer.nonfinite == policy  # type: ignore[attr-defined]


def test_a_scale_that_is_too_large_is_lowered_and_no_divergence() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
    run = run_of(model=plain_net(), autocast=torch.float16, scaler=scaler)
    with lent(run) as one:
        assert math.isfinite(one.update(0))
        assert one.spent == 1
        assert scaler.get_scale() < 2.0**30
    assert scaler.get_scale() == 2.0**30


# Limits


def test_batches_are_counted_and_end() -> None:
    with lent(run_of(), most=3) as one:
        assert one.left == 3
        for i in range(3):
            one.update(i)
        with pytest.raises(Spent):
            one.update(3)
        with pytest.raises(Spent):
            one.held_out()
        assert (one.spent, one.left) == (3, 0)


def test_when_the_time_is_over_nothing_is_left() -> None:
    with lent(run_of(), seconds=1e-9) as one, pytest.raises(Spent):
        one.update(0)


def test_alone_one_agrees_with_oneself() -> None:
    assert agreed(0.1) == 0.1
    assert agreed(math.inf) == math.inf


# How far an update moves


def test_the_reach_of_sgd_is_its_gradient_by_the_weights() -> None:
    run = run_of(
        lambda params: optim.SGD(params, lr=0.01), plain_net().double(), data=[*RUNS["double"]().loader]
    )
    run.model.zero_grad()
    loss(run.model, next(iter(run.loader))).backward()
    square = [
        sum(t.square().sum() for t in ts)
        for ts in zip(*[(p.grad, p.detach()) for p in run.model.parameters()], strict=True)
    ]
    before = everything(run.model, run.optimizer)
    with lent(run) as one:
        reach = one.reach(Planned(run.optimizer))
    assert reach == pytest.approx(float(square[0] / square[1]) ** 0.5, rel=1e-6)
    assert everything(run.model, run.optimizer) == before


@pytest.mark.parametrize(("factor", "reach"), [(0.0, 0.0), (math.nan, math.inf)])
def test_weights_that_do_not_move_and_that_are_gone(factor: float, reach: float) -> None:
    run = run_of(loss=lambda model, batch: factor * loss(model, batch))
    with lent(run) as one:
        assert one.reach(Planned(run.optimizer)) == reach
        assert one.spent == (4 if factor == 0 else 1)


def test_where_weights_are_coarse_larger_rates_are_tried() -> None:
    run = run_of(lambda params: optim.SGD(params, lr=1e-7), RUNS["bf16 parameters"]().model)
    with lent(run) as one:
        assert 0 < one.reach(Planned(run.optimizer)) < math.inf
        assert one.spent > 1


# Bad input


def test_a_loader_without_batches_is_an_error_and_leaves_no_trace() -> None:
    run = run_of(data=[])
    before = everything(run.model, run.optimizer)
    with pytest.raises(ValueError, match="loader gave no batch"), lent(run):
        pass
    assert everything(run.model, run.optimizer) == before

import math
import random
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from trainings import bits, dataset, endless, loader, loss, net, seed, steps

import surefoot as optim
from surefoot import NonFiniteLossError, Record, Run, lr_scheduler, stop_on_signal, train
from surefoot.checkpoint import CheckpointManager
from surefoot.update import update

pytestmark = pytest.mark.usefixtures("one_thread")


def run_of(scheduler: Any = lambda optimizer: None, **settings: Any) -> Run:
    """Five batches a pass, two groups."""
    seed()
    model = net()
    params = list(model.parameters())
    groups = [{"params": params[:2]}, {"params": params[2:], "lr": 0.02}]
    optimizer = optim.AdamW(groups, lr=settings.pop("lr", 0.01))
    return Run(model, optimizer, loader(**settings), loss, scheduler(optimizer))


def test_it_is_the_loop_that_one_writes_by_hand() -> None:
    run = run_of()
    losses = [record.loss for record in train(run, epochs=3)]
    by_hand = run_of()
    assert losses == steps(by_hand.model, by_hand.optimizer, by_hand.loader, 15)
    assert bits(run.model.state_dict()) == bits(by_hand.model.state_dict())
    assert bits(run.optimizer.state_dict()) == bits(by_hand.optimizer.state_dict())


def test_records_count_updates_and_passes() -> None:
    records = list(train(run_of(data=dataset(21)), epochs=2))
    assert [record.step for record in records] == [1, 2, 3, 4, 5, 6]
    assert [record.epoch for record in records] == [1, 1, 1, 2, 2, 2]
    assert [record.last_of_pass for record in records] == [False, False, True] * 2
    assert all(type(record.loss) is float for record in records)


def test_records_cannot_be_changed() -> None:
    record = next(train(run_of(), epochs=1))
    for field, value in asdict(record).items():
        with pytest.raises(FrozenInstanceError):
            setattr(record, field, value)
    assert (record.step, record.epoch, record.lr) == (1, 1, (0.01, 0.02))
    assert record == Record(1, 1, record.update, seconds=9, waited=9)
    assert record != Record(1, 1, record.update, last_of_pass=True)


@pytest.mark.parametrize("lr", [0.01, torch.tensor(0.01, dtype=torch.float64)], ids=["float", "tensor"])
def test_lr_is_that_of_the_update_for_each_group(lr: Any) -> None:
    run = run_of(partial(lr_scheduler.ExponentialLR, gamma=0.5), lr=lr)
    records = list(train(run, epochs=1))
    assert [record.lr for record in records] == [(0.01 * 0.5**i, 0.02 * 0.5**i) for i in range(5)]
    assert all(type(value) is float for record in records for value in record.lr)
    assert [float(group["lr"]) for group in run.optimizer.param_groups] == [0.01 * 0.5**5, 0.02 * 0.5**5]


@pytest.mark.parametrize("kind", [lr_scheduler, torch.optim.lr_scheduler], ids=["ours", "torch's"])
def test_a_plateau_is_the_callers_to_step(kind: Any) -> None:
    run = run_of(partial(kind.ReduceLROnPlateau, factor=0.5, patience=0))
    lrs = []
    for record in train(run, epochs=3):
        lrs.append(record.lr[0])
        if record.last_of_pass:
            run.scheduler.step(1.0)  # no better after the first pass
    assert lrs == [0.01] * 10 + [0.005] * 5


def test_epochs_are_counted_from_the_beginning() -> None:
    run = run_of()
    assert [r.step for r in train(run, epochs=1)] == [1, 2, 3, 4, 5]
    assert list(train(run, epochs=1)) == list(train(run, epochs=0)) == []
    assert [r.step for r in train(run, epochs=2)] == [6, 7, 8, 9, 10]
    assert (run.epoch, run.batch, run.step) == (2, 0, 10)


def test_nothing_happens_before_the_first_record_is_asked_for() -> None:
    run = run_of()
    before = bits(run.model.state_dict()), bits(torch.get_rng_state())
    train(run, epochs=1)
    assert (bits(run.model.state_dict()), bits(torch.get_rng_state())) == before


def test_the_caller_may_evaluate_between_two_records() -> None:
    def end(evaluate: bool) -> Any:
        run = run_of()
        losses = []
        for record in train(run, epochs=2):
            losses.append(record.loss)
            if evaluate:
                run.model.eval()
                with torch.no_grad():
                    loss(run.model, dataset()[:8])
        return losses, bits(run.model.state_dict())

    assert end(True) == end(False)


def test_the_loop_can_be_left_and_entered_anywhere() -> None:
    whole = run_of()
    records = list(train(whole, epochs=3))
    for places in ({1}, {4, 5, 6}, {5, 10, 15}, set(range(1, 16))):
        run, seen = run_of(), []
        while run.epoch < 3:
            for record in train(run, epochs=3):
                seen.append(record)
                if record.step in places:
                    break
        assert seen == records
        assert bits(run.model.state_dict()) == bits(whole.model.state_dict())


def test_a_failing_loss_leaves_the_run_where_it_was() -> None:
    calls = iter(range(100))

    def failing(model: Any, batch: Any) -> Any:
        if next(calls) == 6:
            raise RuntimeError("CUDA out of memory")
        return loss(model, batch)

    whole = run_of()
    records = list(train(whole, epochs=2))
    run, seen = run_of(), []
    run.loss = failing
    with pytest.raises(RuntimeError, match="out of memory"):
        seen.extend(train(run, epochs=2))
    assert (run.epoch, run.batch, run.step) == (1, 1, 6)
    seen = [*records[:6], *train(run, epochs=2)]
    assert seen == records
    assert bits(run.model.state_dict()) == bits(whole.model.state_dict())


def test_the_batches_may_be_endless() -> None:
    run = run_of()
    run.loader = endless(loader())
    records = [record for record, _ in zip(train(run, epochs=1), range(12), strict=False)]
    assert [record.step for record in records] == list(range(1, 13))
    assert not any(record.last_of_pass for record in records)


@pytest.mark.parametrize("accumulate", [1, 2, 3, 5, 9])
def test_23_the_schedule_counts_updates_not_batches(accumulate: int) -> None:
    run = run_of(partial(lr_scheduler.ExponentialLR, gamma=0.5))
    run.accumulate = accumulate
    records = list(train(run, epochs=2))
    updates = -(-5 // accumulate)
    assert [record.step for record in records] == list(range(1, 2 * updates + 1))
    assert [record.lr[0] for record in records] == [0.01 * 0.5**i for i in range(2 * updates)]
    assert [record.last_of_pass for record in records] == ([False] * (updates - 1) + [True]) * 2
    assert run.scheduler.last_epoch == run.optimizer.updates == 2 * updates  # type: ignore[attr-defined]


def test_44_the_last_window_of_a_pass_is_trained_on() -> None:
    run = run_of(data=dataset(21))  # batches of 8, 8 and 5
    run.accumulate = 2
    assert [record.samples for record in train(run, epochs=1)] == [16, 5]


@pytest.mark.parametrize("kind", [lr_scheduler, torch.optim.lr_scheduler], ids=["ours", "torch's"])
@pytest.mark.parametrize("library", [optim, torch.optim], ids=["our step", "torch's step"])
def test_22_the_schedule_waits_for_steps_that_were_skipped(kind: Any, library: Any) -> None:
    """By a scaler, whose first scales are too large for float16."""
    run = run_of(partial(lr_scheduler.ExponentialLR, gamma=0.5))
    run.optimizer = library.AdamW(run.model.parameters(), lr=0.01)
    run.scheduler = kind.ExponentialLR(run.optimizer, gamma=0.5)
    run.autocast, run.scaler = torch.float16, torch.amp.GradScaler("cpu", init_scale=2.0**40)
    records = list(train(run, epochs=8))
    applied = [record.applied for record in records]
    assert 10 < sum(applied) < 40 == len(applied)
    assert not applied[0]
    assert [record.lr[0] for record in records] == [
        pytest.approx(0.01 * 0.5 ** sum(applied[:i])) for i in range(40)
    ]


def test_24_epochs_and_steps_are_totals_and_past_the_end_the_curve_holds() -> None:
    run = run_of(lambda o: lr_scheduler.OneCycleLR(o, [0.1, 0.2], total_steps=10))
    assert [record.step for record in train(run, steps=7)] == [1, 2, 3, 4, 5, 6, 7]
    assert list(train(run, steps=7)) == list(train(run, steps=3)) == list(train(run, epochs=1)) == []
    assert [record.step for record in train(run, epochs=2)] == [8, 9, 10]
    with pytest.warns(UserWarning, match="past the end of the schedule"):
        records = list(train(run, steps=15))
    assert [record.step for record in records] == [11, 12, 13, 14, 15]
    assert len({record.lr for record in records}) == 1


@pytest.mark.parametrize("kind", [lr_scheduler.StepLR, torch.optim.lr_scheduler.StepLR])
@pytest.mark.parametrize("known", [True, False], ids=["known length", "unknown length"])
def test_24_a_schedule_in_epochs_is_stepped_at_the_end_of_each_pass(kind: Any, known: bool) -> None:
    run = run_of(lambda o: kind(o, step_size=1, gamma=0.5))
    run.scheduler_every = "epoch"
    if not known:
        run.loader = type("Endless", (), {"__iter__": lambda self, kept=[*run.loader]: iter(kept)})()
    rates = [record.lr[0] for record in train(run, epochs=3)]
    assert rates == [0.01] * 5 + [0.005] * 5 + [0.0025] * 5


def test_24_a_schedule_that_counts_updates_is_not_for_epochs() -> None:
    run = run_of()
    scheduler = optim.Scheduler(run.optimizer, lr=optim.curves.cosine(10))
    with pytest.raises(ValueError, match="scheduler_every='epoch', but the scheduler counts updates"):
        Run(run.model, run.optimizer, run.loader, loss, scheduler, scheduler_every="epoch")
    with pytest.raises(ValueError, match="scheduler_every='pass' must be 'update' or 'epoch'"):
        Run(run.model, run.optimizer, run.loader, loss, scheduler_every="pass")  # type: ignore[arg-type]


def test_11_clipping_is_the_optimizers_and_the_record_says_it() -> None:
    run = run_of()
    run.optimizer.clip_norm, run.optimizer.stats = 0.01, True  # type: ignore[attr-defined]
    record = next(train(run, epochs=1))
    assert record.grad_norm is not None
    assert record.clip_coef == pytest.approx(0.01 / record.grad_norm, rel=1e-3)
    assert record.nonfinite == 0
    assert record.stats is not None
    assert len(record.stats) == len(list(run.model.parameters()))


def test_a_record_says_what_the_update_took() -> None:
    run = run_of()
    run.optimizer = torch.optim.SGD(run.model.parameters(), lr=0.01)
    run.loss = lambda model, batch: {"loss": loss(model, batch), "seven": 7.0}
    for record in train(run, epochs=1):
        assert 0 <= record.waited < record.seconds < 10
        assert record.throughput == record.samples / record.seconds
        assert record.memory is None or 2**20 < record.memory < 2**40
        assert (record.grad_norm, record.clip_coef, record.nonfinite, record.stats) == (None,) * 4
        assert record.losses == {"loss": record.loss, "seven": 7.0}


@pytest.mark.parametrize("library", [optim, torch.optim], ids=["ours", "torch's"])
def test_nothing_is_read_back_from_a_device_before_it_is_asked_for(library: Any) -> None:
    """Tensors of the meta device have no values: to read one is an error, as to wait for a GPU would be none."""
    model = torch.nn.Linear(6, 3, device="meta")
    optimizer = library.SGD(model.parameters(), lr=0.1)
    run = Run(
        model,
        optimizer,
        loader(),
        lambda model, batch: {"loss": loss(model, batch), "seven": 7.0},
        library.lr_scheduler.LinearLR(optimizer),
        ema=optim.swa_utils.AveragedModel(model, multi_avg_fn=optim.swa_utils.get_ema_multi_avg_fn()),
        accumulate=2,
    )
    records = list(train(run, epochs=2))
    assert [record.applied for record in records] == [True] * 6
    assert {record.update.loss.device.type for record in records} == {"meta"}
    with pytest.raises(RuntimeError, match="meta"):
        _ = records[0].loss


# Losses that are not finite


def broken_at(step: int) -> Run:
    """One batch gives NaN, once."""
    run, calls = run_of(partial(lr_scheduler.ExponentialLR, gamma=0.5)), iter(range(1, 1000))
    run.loss = lambda model, batch: loss(model, batch) * (math.nan if next(calls) == step else 1.0)
    return run


def test_12_a_loss_that_is_not_finite_stops_before_the_update(tmp_path: Path) -> None:
    whole = run_of(partial(lr_scheduler.ExponentialLR, gamma=0.5))
    records = list(islice(train(whole, epochs=1), 3))
    run, seen = broken_at(4), []
    with pytest.raises(
        NonFiniteLossError, match=r"the loss is nan at step 4, lr 0\.00125, 0\.0025: nothing was updated"
    ):
        seen.extend(train(run, epochs=1))
    assert (run.epoch, run.batch, run.step) == (0, 3, 3)
    assert seen == records
    assert bits([*run.model.parameters()]) == bits([*whole.model.parameters()])
    assert bits(run.optimizer.state_dict()) == bits(whole.optimizer.state_dict())


def test_12_a_loss_that_is_not_finite_can_be_gone_past() -> None:
    run = broken_at(4)
    records = list(train(run, epochs=2, nonfinite="skip"))
    assert [record.applied for record in records] == [record.step != 4 for record in records]
    assert math.isnan(records[3].loss)
    assert records[4].lr == records[3].lr  # the schedule waited
    assert all(math.isfinite(record.loss) for record in records[4:])


def test_12_what_only_a_gpu_knows_is_seen_before_it_is_saved(tmp_path: Path, monkeypatch: Any) -> None:
    """A loss there is not looked at before each update."""
    monkeypatch.setattr(
        sys.modules[train.__module__],
        "update",
        lambda run, window, nonfinite: update(run, window, "propagate"),
    )
    run, seen = broken_at(4), []
    with pytest.raises(
        NonFiniteLossError, match=r"at step 5, .* or became so before: go back to the last checkpoint"
    ):
        seen.extend(train(run, epochs=1, checkpoints=tmp_path))
    assert not list(tmp_path.iterdir())


# Evaluation


def scores(*values: Any) -> Any:
    """An evaluation that returns these in turn."""
    left = iter(values)
    return lambda model: next(left)


def test_evaluation_leaves_no_trace() -> None:
    def end(evaluate: Any, **settings: Any) -> Any:
        run = run_of()
        run.model[1].eval()  # type: ignore[index]
        records = list(train(run, epochs=2, evaluate=evaluate, **settings))
        modes = [module.training for module in run.model.modules()]
        return [r.loss for r in records], bits(run.model.state_dict()), modes, bits(torch.get_rng_state())

    def evaluate(model: Any) -> float:
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
        torch.rand(5), random.random(), np.random.rand()
        model.train()
        return float(sum(loss(model.eval(), batch) for batch in loader(generator=None)))

    assert end(None) == end(evaluate) == end(evaluate, evaluate_every=1)


def test_a_failing_evaluation_leaves_the_run_whole() -> None:
    def evaluate(model: Any) -> float:
        raise RuntimeError("no data")

    whole = run_of()
    list(train(whole, epochs=2))
    run, seen = run_of(), []
    run.average = optim.swa_utils.AveragedModel(run.model)
    with pytest.raises(RuntimeError, match="no data"):
        seen.extend(train(run, epochs=2, evaluate=evaluate))
    assert (run.batch, run.step, run.model.training) == (5, 5, True)
    list(train(run, epochs=2))
    assert bits(run.model.state_dict()) == bits(whole.model.state_dict())


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"epochs": 2}, [5, 10]),
        ({"epochs": 2, "evaluate_every": 3}, [3, 6, 9, 10]),
        ({"steps": 7}, [5, 7]),
        ({"steps": 6, "evaluate_every": 3}, [3, 6]),
        ({"epochs": 1, "evaluate_every": 9}, [5]),
    ],
)
def test_evaluation_comes_when_it_is_due_and_at_the_end(settings: Any, steps: list[int]) -> None:
    records = list(train(run_of(), evaluate=lambda model: 1.0, **settings))
    assert [record.step for record in records if record.metrics is not None] == steps
    assert [record.step for record in records if record.best] == steps[:1]


def test_evaluation_is_of_averaged_weights_and_the_own_come_back() -> None:
    run = run_of()
    run.average = optim.swa_utils.AveragedModel(
        run.model, multi_avg_fn=optim.swa_utils.get_ema_multi_avg_fn(0.5)
    )
    seen = []

    def evaluate(model: Any) -> float:
        assert model is run.model
        seen.append(bits(model.state_dict()))
        return 0.0

    for record in train(run, epochs=2, evaluate=evaluate):
        own = bits(run.model.state_dict())
        with run.ema():
            averaged = bits(run.model.state_dict())
        assert bits(run.model.state_dict()) == own
        assert (own == averaged) == (record.step == 1)  # the average begins with a copy
        if record.metrics:
            assert seen[-1] == averaged == bits(run.average.module.state_dict())
    plain = run_of()
    list(train(plain, epochs=2))
    assert bits(run.model.state_dict()) == bits(plain.model.state_dict())


@pytest.mark.parametrize(
    ("mode", "values", "best"),
    [
        ("min", [3.0, 2.0, 2.0, math.nan, 1.0], [True, True, False, False, True]),
        ("max", [-3.0, -2.0, math.nan, -4.0, -1.0], [True, True, False, False, True]),
        ("min", [math.nan, math.inf, 5.0, -math.inf, 0.0], [False, True, True, True, False]),
    ],
)
def test_the_best_so_far_is_said(mode: Any, values: list[float], best: list[bool]) -> None:
    run = run_of()
    records = list(
        train(
            run,
            steps=5,
            evaluate=scores(*({"acc": v} for v in values)),
            evaluate_every=1,
            monitor="acc",
            mode=mode,
        )
    )
    assert [record.best for record in records] == best
    assert bits([record.metrics for record in records]) == bits([{"acc": value} for value in values])


def test_metrics_may_be_tensors() -> None:
    record = list(train(run_of(), epochs=1, evaluate=scores({"loss": torch.tensor(0.5), "n": 3})))[-1]
    assert record.metrics == {"loss": 0.5, "n": 3.0}
    assert all(type(value) is float for value in record.metrics.values())


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (None, TypeError, "evaluate returned None: return a number, or a dict of numbers by name"),
        ((0.1, 0.9), TypeError, r"evaluate returned \(0.1, 0.9\)"),
        (torch.ones(2), TypeError, r"evaluate returned tensor\(\[1., 1.\]\)"),
        ({"loss": "low"}, TypeError, "return a number"),
        ({"accuracy": 0.9}, ValueError, r"monitor='loss' is not what evaluate returned, \['accuracy'\]"),
    ],
)
def test_what_is_no_metric_is_an_error(returned: Any, error: type[Exception], message: str) -> None:
    run = run_of()
    with pytest.raises(error, match=message):
        list(train(run, epochs=1, evaluate=lambda model: returned))
    assert run.step == 5


def test_patience_ends_the_training_and_stays_ended() -> None:
    run = run_of()
    values = [3.0, 2.0, 2.5, 1.0, 1.0, math.nan, 1.5, 0.0]
    records = list(train(run, epochs=20, evaluate=scores(*values), patience=3))
    assert [record.metrics for record in records if record.last_of_pass][-1] == {"loss": 1.5}
    assert len(records) == 7 * 5
    assert list(train(run, epochs=20, evaluate=scores(0.0), patience=3)) == []
    assert next(train(run, epochs=20, evaluate=scores(0.0), patience=4)).step == 36


@pytest.mark.parametrize("kind", [lr_scheduler, torch.optim.lr_scheduler], ids=["ours", "torch's"])
def test_a_plateau_is_shown_the_metric(kind: Any) -> None:
    run = run_of(partial(kind.ReduceLROnPlateau, factor=0.5, patience=0))
    records = list(train(run, epochs=4, evaluate=scores(3.0, 4.0, 2.0, 2.0)))
    assert [record.lr[0] for record in records if record.last_of_pass] == [0.01, 0.01, 0.005, 0.005]


def test_a_plateau_on_a_curve_is_shown_the_metric() -> None:
    plateau = lr_scheduler.Plateau(factor=0.5, patience=0)
    run = run_of(lambda o: optim.Scheduler(o, lr=optim.curves.constant(), plateau=plateau))
    records = list(train(run, epochs=3, evaluate=scores(3.0, 4.0, 2.0)))
    assert [record.lr[0] for record in records if record.last_of_pass] == [0.01, 0.01, 0.005]


# Checkpoints


def saved(folder: Path) -> list[str]:
    return sorted(path.name.removesuffix(".safetensors") for path in folder.iterdir())


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"epochs": 2}, ["step-10", "step-5"]),
        ({"steps": 7, "save_every": 3}, ["step-3", "step-6", "step-7"]),
        ({"epochs": 2, "save_every": 3}, ["step-10", "step-6", "step-9"]),
        (
            {"epochs": 5, "evaluate": scores(0.2, 0.1, 0.3, 0.4, 0.5)},
            ["step-10 metric-0.1", "step-15 metric-0.3", "step-20 metric-0.4", "step-25 metric-0.5"],
        ),
        (
            {"steps": 5, "save_every": 4, "evaluate": scores(0.2, 0.1, 0.3), "evaluate_every": 2},
            ["step-2 metric-0.2", "step-4 metric-0.1", "step-5 metric-0.3"],
        ),
    ],
)
def test_the_last_and_the_best_are_saved(settings: Any, names: list[str], tmp_path: Path) -> None:
    list(train(run_of(), checkpoints=tmp_path / "new", **settings))
    assert saved(tmp_path / "new") == names


def test_the_end_of_data_without_a_length_is_saved_too(tmp_path: Path) -> None:
    run = run_of()
    run.loader = (batch for batch in list(loader()))
    list(train(run, epochs=1, checkpoints=CheckpointManager(tmp_path, keep=1), save_every=2))
    assert saved(tmp_path) == ["step-5"]


@pytest.mark.parametrize("stop", [1, 3, 4, 6, 7])
def test_43_a_resume_is_exact_after_any_update(stop: int, tmp_path: Path) -> None:
    """Two batches an update, an average, a scaler, a metric that gets no better, a plateau."""

    def build() -> Run:
        run = run_of(
            lambda o: optim.Scheduler(o, lr=optim.curves.linear(20), plateau=lr_scheduler.Plateau(patience=0))
        )
        run.accumulate, run.scaler = 2, torch.amp.GradScaler("cpu")
        run.average = optim.swa_utils.AveragedModel(
            run.model, multi_avg_fn=optim.swa_utils.get_ema_multi_avg_fn(0.9)
        )
        return run

    def go(run: Run, **settings: Any) -> list[Record]:
        evaluate = lambda model: abs(run.step - 5.0)  # noqa: E731 - best at step 5, and then worse
        return list(train(run, epochs=9, evaluate=evaluate, evaluate_every=1, patience=3, **settings))

    whole = build()
    records = go(whole)
    assert [record.step for record in records] == [1, 2, 3, 4, 5, 6, 7, 8]
    run = build()
    before = go(run, checkpoints=tmp_path, stopped=lambda: run.step == stop)
    assert len(before) == stop
    seed(99)
    resumed = build()
    last = CheckpointManager(tmp_path).last()
    assert last is not None
    resumed.resume(last)
    assert (resumed.best, resumed.stale) == (run.best, run.stale)
    assert before + go(resumed) == records
    parts = [
        (r.model.state_dict(), r.average.state_dict(), r.optimizer.state_dict()) for r in (resumed, whole)
    ]
    assert bits([dict(part) for part in parts[0]]) == bits([dict(part) for part in parts[1]])


def test_a_stop_is_saved_and_ends_cleanly(tmp_path: Path) -> None:
    run, seen = run_of(), []
    with stop_on_signal() as stopped:
        for record in train(run, epochs=3, checkpoints=tmp_path, stopped=stopped):
            seen.append(record.step)
            if record.step == 6:
                signal.raise_signal(signal.SIGTERM)
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert saved(tmp_path) == ["step-5", "step-7"]


# Bad input


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({}, ValueError, "epochs=None and steps=None: pass one of them"),
        ({"epochs": 1, "steps": 1}, ValueError, "epochs=1 and steps=1: pass one"),
        ({"epochs": -1}, ValueError, "epochs=-1 must be at least 0"),
        ({"steps": 1.5}, TypeError, "steps=1.5 is a float: pass a whole number"),
        ({"epochs": 1, "evaluate_every": 2}, ValueError, "evaluate_every=2 does nothing without evaluate"),
        ({"epochs": 1, "patience": 2}, ValueError, "patience=2 does nothing without evaluate"),
        ({"epochs": 1, "save_every": 2}, ValueError, "save_every=2 does nothing without checkpoints"),
        ({"epochs": 1, "evaluate": len, "patience": 0}, ValueError, "patience=0 must be at least 1"),
        ({"epochs": 1, "evaluate": 3}, TypeError, "evaluate=3 is a int: pass a function"),
        ({"epochs": 1, "stopped": True}, TypeError, "stopped=True is a bool: pass a function"),
        ({"epochs": 1, "mode": "low"}, ValueError, "mode='low' must be 'min'"),
        ({"epochs": 1, "nonfinite": "stop"}, ValueError, "nonfinite='stop' must be one of 'raise', 'skip'"),
    ],
)
def test_arguments_are_checked_before_anything_runs(
    settings: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train(run_of(), **settings)


def test_a_manager_of_the_other_mode_is_an_error(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path, mode="max")
    with pytest.raises(ValueError, match="mode='min', but checkpoints keeps the best of mode='max'"):
        train(run_of(), epochs=1, evaluate=len, checkpoints=manager)


@pytest.mark.parametrize("settings", [{"evaluate": len}, {"checkpoints": "folder"}])
def test_without_a_length_the_end_of_a_pass_is_not_known(settings: Any) -> None:
    run = run_of()
    run.loader = endless(loader())
    with pytest.raises(ValueError, match=r"the loader has no length.*pass (evaluate|save)_every="):
        train(run, epochs=1, **settings)


# Signals


@pytest.fixture
def handlers() -> Iterator[dict[int, Any]]:
    """Handlers of our own, to be found again."""

    def mine(number: int, frame: Any) -> None:
        pytest.fail("the signal was not caught")

    previous = {number: signal.signal(number, mine) for number in (signal.SIGINT, signal.SIGTERM)}
    yield dict.fromkeys(previous, mine)
    for number, handler in previous.items():
        signal.signal(number, handler)


def installed() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_a_question_answered_between_two_updates(number: int, handlers: Any) -> None:
    run, seen = run_of(), []
    with stop_on_signal() as stopped:
        for record in train(run, epochs=3):
            seen.append(record.step)
            if record.step == 3:
                assert not stopped()
                signal.raise_signal(number)
            if stopped():
                break
    assert seen == [1, 2, 3]
    assert stopped()
    assert installed() == handlers


def test_a_second_interrupt_interrupts(handlers: Any) -> None:
    with pytest.raises(KeyboardInterrupt), stop_on_signal() as stopped:  # noqa: PT012 - the second one raises
        signal.raise_signal(signal.SIGINT)
        assert stopped()
        signal.raise_signal(signal.SIGINT)
    assert installed() == handlers


def test_a_second_termination_is_patient(handlers: Any) -> None:
    try:
        with stop_on_signal() as stopped:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            assert stopped()
    except KeyboardInterrupt:  # which would end pytest
        pytest.fail("SIGTERM was taken for Ctrl-C")
    assert installed() == handlers


def test_handlers_come_back_after_an_error_and_from_within_each_other(handlers: Any) -> None:
    with pytest.raises(ZeroDivisionError), stop_on_signal():
        raise ZeroDivisionError
    assert installed() == handlers
    with stop_on_signal() as outer:
        with stop_on_signal() as inner:
            signal.raise_signal(signal.SIGINT)
        assert (inner(), outer()) == (True, False)
        signal.raise_signal(signal.SIGINT)
        assert outer()
    assert installed() == handlers


def test_it_is_harmless_in_a_thread(handlers: Any) -> None:
    seen: list[Any] = []

    def work() -> None:
        with stop_on_signal() as stopped:
            seen.append((stopped(), installed() == handlers))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, True)]
    assert installed() == handlers


def test_what_was_trained_is_saved_where_an_evaluation_raises(tmp_path: Path) -> None:
    run = run_of()
    with pytest.raises(ZeroDivisionError):
        list(train(run, epochs=1, evaluate=lambda model: 1 / 0, checkpoints=tmp_path))
    other = run_of()
    other.resume(CheckpointManager(tmp_path).last())
    assert other.step == 5
    assert bits(other.model.state_dict()) == bits(run.model.state_dict())


def test_a_loader_that_gives_less_than_its_length_is_said_to() -> None:
    run = run_of()

    class Short(list[Any]):
        def __len__(self) -> int:
            return 9

        def __getitem__(self, place: Any) -> Any:
            return list(self)[place]

    run.loader = Short(run.loader)
    with pytest.warns(UserWarning, match="loader gave 5 batches, but has a length of 9"):
        assert len(list(train(run, epochs=1))) == 5

import signal
import threading
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, asdict
from functools import partial
from typing import Any

import pytest
import torch
from trainings import bits, dataset, endless, loader, loss, net, seed, steps

import surefoot as optim
from surefoot import Record, Run, lr_scheduler, train
from surefoot.train import stop_on_signal

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
    assert record == Record(1, 1, record.update, seconds=9, waited=9, memory=9)
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

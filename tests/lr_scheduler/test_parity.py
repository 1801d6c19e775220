"""The table of schedules crossed with what torch's classes do, and with stopping and going on."""

from __future__ import annotations

import copy
import io
import json
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lr_scheduler.schedules import (
    CURVED,
    FROM_START,
    IN_PASSING,
    SCHEDULES,
    SEQUENCES,
    STEPS,
    assert_equal_torchs,
    make,
    make_optimizer,
    run,
    values,
    whole_run,
)
from torch.optim import lr_scheduler as torchs

import surefoot
from surefoot import lr_scheduler as ours

pytestmark = IN_PASSING

LIBRARIES = pytest.mark.parametrize("library", [surefoot, torch.optim], ids=lambda library: library.__name__)

# What is built and loaded when a run goes on; each letter is one act: build the Scheduler, load the state
# of the optimizer, load the state of the scheduler. Without o, the values must come from the scheduler.
ORDERS = ["Sos", "Sso", "oSs", "Ss"]


def over(schedules):
    return pytest.mark.parametrize("schedule", schedules, ids=str)


# A curve sets lr from its count. What ReduceLROnPlateau multiplied is only in the optimizer.
STOPPED = [
    (schedule, order)
    for schedule in SCHEDULES
    for order in ORDERS
    if schedule.name != "ReduceLROnPlateau" or "o" in order
]


def saved(scheduler):
    """The states, through the files that users keep them in."""
    buffer = io.BytesIO()
    torch.save(scheduler.optimizer.state_dict(), buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True), json.loads(json.dumps(scheduler.state_dict()))


def resumed(build, optimizer, states, order):
    for act in order:
        if act == "S":
            scheduler = build(optimizer)
        elif act == "o":
            optimizer.load_state_dict(states[0])
        else:
            scheduler.load_state_dict(states[1])
    return scheduler


@LIBRARIES
@over(SCHEDULES)
def test_values_equal_torchs(schedule, library):
    steps = (
        500 if schedule.steps == STEPS else schedule.steps
    )  # torch's one cycle raises an error after its end
    expected = run(make(schedule, torchs, torch.optim), steps)
    assert_equal_torchs(run(make(schedule, ours, library), steps), expected, schedule.ulps)


@over(SCHEDULES)
def test_torchs_scheduler_does_the_same_on_our_optimizer(schedule):
    on_ours = whole_run(schedule, torchs, surefoot)
    assert on_ours == whole_run(schedule, torchs, torch.optim)


@over([schedule for schedule in SCHEDULES if schedule.name == "CosineAnnealingLR"])
def test_cosine_equals_torchs_closed_form(schedule):
    # torch's own steps multiply ratios of cosines, and lose digits next to eta_min (1e-13 in this table).
    # Its closed form does not. What is left: each rounds the angle, to an ulp of itself, and the result.
    scheduler = make(schedule, torchs, torch.optim)
    closed = []
    for step in range(schedule.steps + 1):
        scheduler.last_epoch = step
        closed.append([[lr] for lr in scheduler._get_closed_form_lr()])
    lrs = torch.tensor(whole_run(schedule, ours, surefoot), dtype=torch.float64)[..., :1]
    expected = torch.tensor(closed, dtype=torch.float64)
    eps = torch.finfo(torch.float64).eps
    angle = math.pi * schedule.steps / schedule.settings["T_max"]
    assert ((lrs - expected).abs() <= 2 * eps * (angle + expected.abs().amax(0))).all()


@over([schedule for schedule in SCHEDULES if schedule.name == "OneCycleLR"])
def test_one_cycle_holds_its_last_value(schedule):
    # One step further torch overshoots its line or comes back up its cosine, two further it raises.
    scheduler = make(schedule)
    *_, last = run(scheduler, schedule.steps)
    assert run(scheduler, 20) == [last] * 21


@LIBRARIES
@pytest.mark.parametrize(("schedules", "milestones"), SEQUENCES)
def test_torchs_sequence_of_our_schedulers_equals_a_sequence_of_torchs(schedules, milestones, library):
    def sequence(schedulers, optimizer):
        parts = [schedule.build(schedulers, optimizer) for schedule in schedules]
        return torchs.SequentialLR(optimizer, parts, milestones)

    expected = run(sequence(torchs, make_optimizer(torch.optim)), 100)
    assert_equal_torchs(run(sequence(ours, make_optimizer(library)), 100), expected)
    assert run(sequence(torchs, make_optimizer(library)), 100) == expected


# Once one of torch's schedulers follows ours, the optimizer is loaded last: theirs go on from the lr they
# find, and ours sets its own when it is loaded.
@pytest.mark.parametrize("stop", [0, 5, 20, 21, 40, 60])
@pytest.mark.parametrize(
    ("order", "schedules", "milestones"),
    [(order, *sequence) for sequence in SEQUENCES[:2] for order in ("Sos", "Sso")] + [("Sso", *SEQUENCES[2])],
)
def test_a_sequence_goes_on_where_it_stopped(schedules, milestones, order, stop):
    def sequence(optimizer):
        parts = [schedule.build(ours, optimizer) for schedule in schedules]
        return torchs.SequentialLR(optimizer, parts, milestones)

    scheduler = sequence(make_optimizer(surefoot))
    run(scheduler, stop)
    states = copy.deepcopy((scheduler.optimizer.state_dict(), scheduler.state_dict()))
    expected = run(scheduler, 100 - stop)
    assert run(resumed(sequence, make_optimizer(surefoot), states, order), 100 - stop) == expected


@pytest.mark.parametrize(("schedule", "order"), STOPPED, ids=str)
def test_a_stopped_run_goes_on_as_if_it_had_not(schedule, order):
    expected = whole_run(schedule, ours, surefoot)
    scheduler = make(schedule)
    stop = 0
    for steps in (0, 20, 130):
        run(scheduler, min(steps, schedule.steps - stop))
        stop = min(stop + steps, schedule.steps)
        optimizer = make_optimizer(surefoot, schedule.optimizer)
        again = resumed(lambda opt: schedule.build(ours, opt), optimizer, saved(scheduler), order)
        assert run(again, schedule.steps - stop) == expected[stop:]


@given(case=st.sampled_from(STOPPED), where=st.floats(0, 1))
def test_a_run_may_stop_anywhere(case, where):
    schedule, order = case
    stop = round(where * schedule.steps)
    scheduler = make(schedule)
    run(scheduler, stop)
    optimizer = make_optimizer(surefoot, schedule.optimizer)
    again = resumed(lambda opt: schedule.build(ours, opt), optimizer, saved(scheduler), order)
    assert run(again, schedule.steps - stop) == whole_run(schedule, ours, surefoot)[stop:]


# Not oSs: building one of torch's schedulers sets lr as if it were step 0, as its docstring warns.
@pytest.mark.parametrize("order", ["Sos", "Sso"])
@pytest.mark.parametrize(
    ("before", "after"),
    [((torchs, torch.optim), (ours, surefoot)), ((ours, surefoot), (torchs, torch.optim))],
    ids=["from torch", "to torch"],
)
@over(SCHEDULES)
def test_states_are_exchanged_with_torch(schedule, before, after, order):
    expected = whole_run(schedule, torchs, torch.optim)
    for stop in (1, 77):
        stop = min(stop, schedule.steps)
        scheduler = make(schedule, *before)
        run(scheduler, stop)
        states = copy.deepcopy((scheduler.optimizer.state_dict(), scheduler.state_dict()))
        optimizer = make_optimizer(after[1], schedule.optimizer)
        again = resumed(lambda opt: schedule.build(after[0], opt), optimizer, states, order)
        assert_equal_torchs(run(again, schedule.steps - stop), expected[stop:], schedule.ulps)


@over(SCHEDULES)
def test_states_survive_json_and_torch_save(schedule):
    scheduler = make(schedule)
    for _ in range(3):
        state = scheduler.state_dict()
        assert json.loads(json.dumps(state)) == state
        buffer = io.BytesIO()
        torch.save(state, buffer)
        buffer.seek(0)
        assert torch.load(buffer, weights_only=True) == state
        run(scheduler, 20)


@over(SCHEDULES)
def test_states_share_nothing_with_the_scheduler(schedule):
    scheduler = make(schedule)
    run(scheduler, min(5, schedule.steps))
    state = scheduler.state_dict()
    kept = copy.deepcopy(state)
    other = make(schedule)
    other.load_state_dict(state)
    assert other.state_dict() == state
    run(scheduler, 30)
    run(other, 30)
    assert state == kept


@over(CURVED)
def test_last_epoch_starts_where_it_says(schedule):
    expected = whole_run(schedule, ours, surefoot)
    for step in (1, 10, 20):
        step = min(step, schedule.steps)
        scheduler = schedule.build(ours, make_optimizer(surefoot, schedule.optimizer), last_epoch=step - 1)
        assert scheduler.last_epoch == step
        assert run(scheduler, schedule.steps - step) == expected[step:]


# At a multiple of step_size torch's StepLR drops once more when it is built (10 is one of these), and its warm
# restarts take the epoch for a place in the first cosine (https://github.com/pytorch/pytorch/issues/47560). Its SWALR
# begins anew from where it is.
@over(
    [
        s
        for s in FROM_START
        if 10 % s.settings.get("step_size", 11) and s.name != "CosineAnnealingWarmRestarts"
    ]
)
def test_last_epoch_equals_torchs_after_loading_the_optimizer(schedule):
    step = min(10, schedule.steps)
    before = make(schedule, torchs, torch.optim)
    run(before, step)
    trajectories = []
    for schedulers, library in ((torchs, torch.optim), (ours, surefoot)):
        optimizer = make_optimizer(library, schedule.optimizer)
        optimizer.load_state_dict(before.optimizer.state_dict())
        scheduler = schedule.build(schedulers, optimizer, last_epoch=step - 1)
        trajectories.append(run(scheduler, schedule.steps - step))
    theirs_again, ours_again = trajectories
    assert_equal_torchs(ours_again, theirs_again, schedule.ulps)


# torch's MultiplicativeLR and SWALR go on from where they are; its warm restarts take an epoch as a matter of course.
@over([s for s in FROM_START if s.name not in ("MultiplicativeLR", "CosineAnnealingWarmRestarts")])
def test_step_to_an_epoch_warns_and_goes_there(schedule):
    expected = whole_run(schedule, ours, surefoot)
    theirs, mine = make(schedule, torchs, torch.optim), make(schedule)
    for epoch in (40, 3, 3, 0, 120):
        epoch = min(epoch, schedule.steps)
        for scheduler in (theirs, mine):
            scheduler.optimizer.step()
            with pytest.warns(UserWarning, match="The epoch parameter in `scheduler.step"):
                scheduler.step(epoch)
        assert mine.last_epoch == epoch
        assert values(mine.optimizer) == expected[epoch]
        assert_equal_torchs([values(mine.optimizer)], [values(theirs.optimizer)], schedule.ulps)
    remaining = schedule.steps - mine.last_epoch
    assert run(mine, remaining) == expected[schedule.steps - remaining :]


@over([schedule for schedule in SCHEDULES if schedule.name == "CosineAnnealingWarmRestarts"])
def test_warm_restarts_take_fractions_of_an_epoch_as_torchs(schedule):
    theirs, mine = make(schedule, torchs, torch.optim), make(schedule)
    for epoch in (0.25, 0.75, 1, 3.5, 12.25, 40, None, None, 7.125, 299.5, None):
        for scheduler in (theirs, mine):
            scheduler.optimizer.step()
            scheduler.step(epoch)
        assert_equal_torchs([values(mine.optimizer)], [values(theirs.optimizer)])
        assert (mine.last_epoch, mine.T_i) == (theirs.last_epoch, theirs.T_i)
        assert mine.T_cur == pytest.approx(theirs.T_cur, abs=1e-12)
        again = make(schedule)
        again.load_state_dict(mine.state_dict())
        assert values(again.optimizer) == values(mine.optimizer)


@LIBRARIES
@over(SCHEDULES)
def test_a_tensor_lr_is_filled_in_place(schedule, library):
    lrs = [torch.tensor(lr, dtype=torch.float64) for lr in (0.1, 0.01)]
    scheduler = schedule.build(ours, make_optimizer(library, schedule.optimizer, lrs))
    trajectory = [values(scheduler.optimizer)]
    for _ in range(min(30, schedule.steps)):
        before, kept = scheduler.get_last_lr(), copy.deepcopy(scheduler.get_last_lr())
        trajectory.append(run(scheduler, 1)[-1])
        assert before == kept  # what was handed out is a copy
    groups = scheduler.optimizer.param_groups
    assert all(group["lr"] is lr for group, lr in zip(groups, lrs, strict=True))
    assert all(group.get("initial_lr") is not group["lr"] for group in groups)
    assert scheduler.get_last_lr() == lrs
    assert trajectory == whole_run(schedule, ours, surefoot)[: len(trajectory)]
    assert json.loads(json.dumps(scheduler.state_dict())) == scheduler.state_dict()


@over(SCHEDULES)
def test_last_lr_is_what_the_groups_have(schedule):
    scheduler = make(schedule)
    for _ in range(min(5, schedule.steps)):
        assert scheduler.get_last_lr() == [group["lr"] for group in scheduler.optimizer.param_groups]
        if schedule in CURVED:
            assert scheduler.get_lr() == scheduler.get_last_lr()
        run(scheduler, 1)


@over(SCHEDULES)
def test_every_scheduler_is_one_of_torchs(schedule):
    scheduler = make(schedule)
    assert isinstance(scheduler, torchs.LRScheduler)
    plateau = schedule.name == "ReduceLROnPlateau"
    assert isinstance(scheduler, torchs.ReduceLROnPlateau) == plateau
    assert isinstance(scheduler, ours.Scheduler) != plateau


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda scheduler: pickle.loads(pickle.dumps(scheduler))],
    ids=["deepcopy", "pickle"],
)
@over(SCHEDULES)
def test_a_copy_goes_on_by_itself(schedule, copied):
    expected = whole_run(schedule, ours, surefoot)
    scheduler = make(schedule)
    stop = min(20, schedule.steps)
    run(scheduler, stop)
    other = copied(scheduler)
    assert other.optimizer is not scheduler.optimizer
    assert run(other, schedule.steps - stop) == expected[stop:]
    assert values(scheduler.optimizer) == expected[stop]

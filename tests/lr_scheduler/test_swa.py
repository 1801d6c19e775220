"""SWALR beside and inside other schedulers. By itself it is in the table of schedules."""

from __future__ import annotations

import copy
import json
import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lr_scheduler.schedules import SEQUENCES, Schedule, assert_equal_torchs, make_optimizer, run
from torch.optim import lr_scheduler as torchs

import surefoot
from surefoot import lr_scheduler as ours
from surefoot.curves import Anneal
from surefoot.swa_utils import SWALR

START, STEPS = 12, 40
OTHERS = [schedule for schedules, _ in SEQUENCES for schedule in schedules]
settings = st.fixed_dictionaries(
    {
        "swa_lr": st.one_of(st.floats(0, 1), st.tuples(st.floats(1e-6, 1), st.floats(0, 1)).map(list)),
        "anneal_epochs": st.integers(1, 60),  # with 0 torch's other schedulers go on from swa_lr
        "anneal_strategy": st.sampled_from(["cos", "linear"]),
    }
)
libraries = pytest.mark.parametrize("library", [surefoot, torch.optim], ids=lambda library: library.__name__)


class Beside:
    """An optimizer with two schedulers, both built at the start: the second one steps from START on."""

    def __init__(self, other, settings, schedulers=ours, library=surefoot):
        self.optimizer = make_optimizer(library)
        self.swa = Schedule("SWALR", settings).build(schedulers, self.optimizer)
        self.other = other.build(schedulers, self.optimizer)  # after it: its first lr is no edit

    def lrs(self):
        return [[group["lr"]] for group in self.optimizer.param_groups]

    def run(self, steps, begin=0):
        trajectory = [self.lrs()]
        for step in range(begin, begin + steps):
            self.optimizer.step()
            (self.other if step < START else self.swa).step()
            trajectory.append(self.lrs())
        return trajectory

    def states(self):
        schedulers = [self.other.state_dict(), self.swa.state_dict()]
        return copy.deepcopy([*schedulers, self.optimizer.state_dict()])

    def load(self, states):
        for part, state in zip((self.other, self.swa, self.optimizer), states, strict=True):
            part.load_state_dict(state)


# torch un-anneals lr at each step, and so rounds each time by an ulp of the larger of the two ends.
@given(other=st.sampled_from(OTHERS), settings=settings)
def test_it_goes_on_from_where_another_scheduler_came_as_torchs_does(other, settings):
    expected = Beside(other, settings, torchs, torch.optim).run(STEPS)
    assert_equal_torchs(Beside(other, settings).run(STEPS), expected, ulps=STEPS)


@given(other=st.sampled_from(OTHERS), settings=settings, stop=st.integers(0, STEPS))
def test_a_run_of_two_schedulers_may_stop_anywhere(other, settings, stop):
    before = Beside(other, settings)
    before.run(stop)
    states = json.loads(json.dumps(before.states()[:2]))
    again = Beside(other, settings)
    again.load([*states, before.optimizer.state_dict()])
    assert again.run(STEPS - stop, stop) == before.run(STEPS - stop, stop)


@given(
    settings=settings,
    stop=st.integers(1, STEPS),
    libraries=st.permutations([(torchs, torch.optim), (ours, surefoot)]),
)
def test_the_states_of_two_schedulers_are_exchanged_with_torch(settings, stop, libraries):
    other = OTHERS[2]  # torch's goes on from the optimizer's lr
    (schedulers, library), after = libraries
    before = Beside(other, settings, schedulers, library)
    before.run(stop)
    again = Beside(other, settings, *after)
    again.load(before.states())
    assert_equal_torchs(again.run(STEPS - stop, stop), before.run(STEPS - stop, stop), ulps=STEPS)


def torchs_sequence(schedulers, optimizer, *parts):
    return torchs.SequentialLR(optimizer, [part.build(schedulers, optimizer) for part in parts], [10])


DECAY = Schedule("ExponentialLR", {"gamma": 0.9})


@libraries
@pytest.mark.parametrize("epochs", [0, 20])
def test_torchs_sequence_of_it_equals_a_sequence_of_torchs(library, epochs):
    swa = Schedule("SWALR", {"swa_lr": [0.05, 0.2], "anneal_epochs": epochs})
    expected = run(torchs_sequence(torchs, make_optimizer(torch.optim), DECAY, swa), 50)
    assert_equal_torchs(run(torchs_sequence(ours, make_optimizer(library), DECAY, swa), 50), expected)
    # First in it the same; what comes after is the other's: torch's goes on from lr, ours from the optimizer's.
    expected = run(torchs_sequence(torchs, make_optimizer(torch.optim), swa, DECAY), 9)
    assert_equal_torchs(run(torchs_sequence(ours, make_optimizer(library), swa, DECAY), 9), expected)


@pytest.mark.parametrize("stop", [1, 9, 10, 11, 20, 40])
@pytest.mark.parametrize("epochs", [0, 20])
@pytest.mark.parametrize(
    ("before", "after"), [(torchs, ours), (ours, torchs)], ids=["from torch", "to torch"]
)
def test_the_state_of_a_sequence_is_exchanged_with_torch(before, after, epochs, stop):
    parts = DECAY, Schedule("SWALR", {"swa_lr": [0.05, 0.2], "anneal_epochs": epochs})
    scheduler = torchs_sequence(before, make_optimizer(torch.optim), *parts)
    run(scheduler, stop)
    again = torchs_sequence(after, make_optimizer(torch.optim), *parts)
    again.optimizer.load_state_dict(copy.deepcopy(scheduler.optimizer.state_dict()))
    again.load_state_dict(copy.deepcopy(scheduler.state_dict()))  # while it waits it leaves lr alone
    assert_equal_torchs(run(again, 50 - stop), run(scheduler, 50 - stop))


def test_torch_goes_on_from_one_that_began_midway():
    schedule = Schedule("SWALR", {"swa_lr": 0.05, "anneal_epochs": 20})
    scheduler = schedule.build(ours, make_optimizer(surefoot), last_epoch=7)
    run(scheduler, 3)
    again = schedule.build(torchs, make_optimizer(torch.optim))
    again.optimizer.load_state_dict(scheduler.optimizer.state_dict())
    again.load_state_dict(scheduler.state_dict())
    assert_equal_torchs(run(again, 15), run(scheduler, 15))


def test_to_stay_far_below_is_no_surprise():
    run(SWALR(make_optimizer(surefoot), 1e-4, anneal_epochs=2), 5)  # another schedule would warn of its end


def test_in_a_sequence_its_base_is_the_optimizers():
    def sequence():
        optimizer = make_optimizer(surefoot)
        decay = ours.ExponentialLR(optimizer, 0.5)
        swa = SWALR(optimizer, [0.05, 0.2], anneal_epochs=8)
        return ours.SequentialLR(optimizer, [decay, swa], [3])

    scheduler = sequence()
    trajectory = [[lr for lr, _ in step] for step in run(scheduler, 15)]
    curves = [Anneal(8, 0.05), Anneal(8, 0.2)]
    for n in range(3, 16):
        assert trajectory[n] == [
            curve.value(n - 3, base) for curve, base in zip(curves, (0.1, 0.01), strict=True)
        ]
    again = sequence()
    again.load_state_dict(scheduler.state_dict())
    assert run(again, 5) == run(scheduler, 5)


def test_until_its_first_step_it_leaves_lr_alone():
    optimizer = make_optimizer(surefoot)
    optimizer.param_groups[0]["lr"] = 0.7
    scheduler = SWALR(optimizer, 0.05)
    assert (scheduler.get_last_lr(), scheduler.get_lr()) == ([0.7, 0.01], [0.7, 0.01])
    optimizer.param_groups[0]["lr"] = 0.3
    scheduler.load_state_dict(scheduler.state_dict())
    assert [group["lr"] for group in optimizer.param_groups] == [0.3, 0.01]
    assert scheduler.values(11)["lr"]["0"] == Anneal(10, 0.05).values(11, 0.3)
    run(scheduler, 1)
    assert scheduler.base_lrs == [0.3, 0.01]
    assert scheduler.values(11)["lr"]["0"] == Anneal(10, 0.05).values(11, 0.3)


def test_a_skipped_update_is_no_first_step():
    optimizer = surefoot.SGD([weight := torch.zeros(1, requires_grad=True)], lr=0.1, nonfinite="skip")
    scheduler = SWALR(optimizer, 0.5, anneal_epochs=2, anneal_strategy="linear")
    for gradient, lr in ((math.nan, 0.1), (math.nan, 0.3), (1.0, 0.3)):
        weight.grad = torch.full((1,), gradient)
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        scheduler.step()
    assert (scheduler.last_epoch, scheduler.get_last_lr()) == (1, [0.4])


def test_a_group_added_later_goes_to_the_same_lr_from_its_own():
    scheduler = SWALR(make_optimizer(surefoot), 0.05, anneal_epochs=4, anneal_strategy="linear")
    run(scheduler, 1)
    scheduler.optimizer.add_param_group({"params": [torch.zeros(1, requires_grad=True)], "lr": 0.45})
    run(scheduler, 1)
    assert scheduler.get_last_lr() == pytest.approx([0.075, 0.03, 0.25])


def test_its_settings_can_be_read_as_in_torch():
    for strategy in ("cos", "linear"):
        mine, theirs = (
            Schedule("SWALR", {"swa_lr": [0.5, 0.2], "anneal_epochs": 7, "anneal_strategy": strategy}).build(
                schedulers, make_optimizer(library)
            )
            for schedulers, library in ((ours, surefoot), (torchs, torch.optim))
        )
        for name in ("anneal_epochs", "last_epoch", "base_lrs"):
            assert getattr(mine, name) == getattr(theirs, name)
        assert [g["swa_lr"] for g in mine.optimizer.param_groups] == [0.5, 0.2]
        shared = mine.state_dict().keys() & theirs.state_dict().keys()
        assert {"anneal_epochs", "_anneal_strategy", "_step_count", "_last_lr"} <= shared
        assert all(mine.state_dict()[key] == theirs.state_dict()[key] for key in shared)


def test_a_state_of_torchs_of_other_groups_is_refused():
    state = torch.optim.swa_utils.SWALR(make_optimizer(torch.optim, lrs=(0.1, 0.2, 0.3)), 0.5).state_dict()
    with pytest.raises(ValueError, match="the saved scheduler had 3 groups, this optimizer has 2: build it"):
        SWALR(make_optimizer(surefoot), 0.5).load_state_dict(state)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"swa_lr": math.nan}, ValueError, "swa_lr=nan must be finite"),
        ({"swa_lr": "0.05"}, TypeError, "swa_lr='0.05' is a str: pass a number"),
        ({"swa_lr": None}, TypeError, "swa_lr=None is a NoneType: pass a number"),
        ({"swa_lr": [0.05, math.inf]}, ValueError, "swa_lr=inf must be finite"),
        ({"swa_lr": [0.05]}, ValueError, "swa_lr has 1 values, the optimizer has 2 groups: pass one value"),
        ({"anneal_epochs": -1}, ValueError, "anneal_epochs=-1 must be at least 0"),
        ({"anneal_epochs": 2.5}, TypeError, "anneal_epochs=2.5 is a float: pass a whole number"),
        ({"anneal_strategy": "exp"}, ValueError, "anneal_strategy='exp' must be 'cos' or 'linear'"),
        ({"anneal_strategy": None}, ValueError, "anneal_strategy=None must be 'cos' or 'linear'"),
    ],
)
def test_bad_settings_are_named_and_change_nothing(settings, error, message):
    optimizer = make_optimizer(surefoot)
    before = copy.deepcopy(optimizer.param_groups)
    with pytest.raises(error, match=re.escape(message)):
        SWALR(optimizer, **{"swa_lr": 0.05, **settings})
    assert optimizer.param_groups == before


def test_set_to_0_goes_back_to_what_the_first_step_found():
    optimizer = make_optimizer(surefoot)
    scheduler = SWALR(optimizer, 0.01, anneal_epochs=4)
    optimizer.param_groups[0]["lr"] = 0.06
    lrs = [lr for (lr, _), _ in run(scheduler, 4)]
    scheduler.set(0)
    assert [lr for (lr, _), _ in run(scheduler, 4)] == lrs

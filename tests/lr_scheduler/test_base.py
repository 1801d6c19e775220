"""What a scheduler does to its optimizer, and what it leaves alone."""

from __future__ import annotations

import gc
import itertools
import re
import warnings
import weakref
from dataclasses import dataclass

import pytest
import torch
from lr_scheduler.schedules import (
    CURVED,
    FROM_START,
    IN_PASSING,
    SCHEDULES,
    STEPS,
    make,
    make_optimizer,
    run,
    values,
    whole_run,
)
from torch.optim import lr_scheduler as torchs

import surefoot
from surefoot import lr_scheduler as ours
from surefoot.curves import CosineWave, Curve, Exponential, OneCycle, Step

pytestmark = IN_PASSING

LIBRARIES = pytest.mark.parametrize("library", [surefoot, torch.optim], ids=lambda library: library.__name__)

# One row of the table for each class.
CLASSES = list({schedule.name: schedule for schedule in SCHEDULES}.values())
# Those that start from the optimizer's lr; OneCycleLR and CyclicLR set it, as torch's do.
FROM_LR = [schedule for schedule in CLASSES if schedule.name not in ("OneCycleLR", "CyclicLR")]

STEPPED_FIRST = re.escape("Detected call of `lr_scheduler.step()` before `optimizer.step()`")


def lrs(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


def add_group(optimizer, lr):
    optimizer.add_param_group({"params": [torch.zeros(1, requires_grad=True)], "lr": lr})


@LIBRARIES
@pytest.mark.parametrize("schedule", CLASSES, ids=str)
def test_the_optimizer_is_not_patched(schedule, library):
    optimizer = make_optimizer(library, schedule.optimizer)
    step = optimizer.step.__func__
    run(schedule.build(ours, optimizer), 3)
    assert optimizer.step.__func__ is step
    assert "step" not in vars(optimizer)


@LIBRARIES
@pytest.mark.parametrize("schedule", CLASSES, ids=str)
def test_deleting_scheduler_and_optimizer_leaves_nothing_to_collect(schedule, library):
    make(
        schedule, ours, library
    )  # the first optimizer of a process lives on in frames of torch's lazy imports
    gc.disable()
    try:
        scheduler = make(schedule, ours, library)
        run(scheduler, 2)
        left = [weakref.ref(scheduler), weakref.ref(scheduler.optimizer)]
        del scheduler
        assert [reference() for reference in left] == [None, None]
    finally:
        gc.enable()


def test_many_schedulers_leave_one_hook_on_torchs_optimizer_and_none_on_ours():
    for library, hooks in ((torch.optim, 1), (surefoot, 0)):
        optimizer = make_optimizer(library)
        for _ in range(5):
            ours.StepLR(optimizer, 3)
        assert len(optimizer._optimizer_step_post_hooks) == hooks


@LIBRARIES
@pytest.mark.parametrize("schedulers", [ours, torchs], ids=lambda schedulers: schedulers.__name__)
def test_stepping_the_scheduler_first_warns_once_as_torch_does(schedulers, library):
    scheduler = schedulers.ExponentialLR(make_optimizer(library), 0.5)
    with pytest.warns(UserWarning, match=STEPPED_FIRST):
        scheduler.step()
    scheduler.step()
    assert lrs(scheduler.optimizer) == [0.1 / 4, 0.01 / 4]


@LIBRARIES
def test_stepping_the_optimizer_first_does_not_warn(library):
    scheduler = ours.ExponentialLR(make_optimizer(library), 0.5)
    scheduler.optimizer.step()
    scheduler.step()
    again = ours.ExponentialLR(scheduler.optimizer, 0.5)
    again.step()  # the optimizer has stepped; a second scheduler need not wait for it again


def test_the_note_of_a_step_is_not_in_the_optimizers_state():
    scheduler = ours.ExponentialLR(make_optimizer(surefoot), 0.5)
    scheduler.optimizer.step()
    assert set(scheduler.optimizer.state_dict()) == {"state", "param_groups"}


@pytest.mark.parametrize(
    "pair", list(itertools.permutations(FROM_LR, 2)), ids=lambda pair: f"{pair[0]}, {pair[1]}"
)
def test_a_scheduler_built_before_does_not_change_the_next(pair):
    first, second = pair
    optimizer = make_optimizer(surefoot, second.optimizer)
    first.build(ours, optimizer)
    trajectory = run(second.build(ours, optimizer), 50)
    if second not in FROM_START:
        found = lrs(first.build(ours, make_optimizer(surefoot, second.optimizer)).optimizer)
        assert [lr for lr, *_ in trajectory[0]] == found
    else:
        assert trajectory == whole_run(second, ours, surefoot)[:51]


@pytest.mark.parametrize("schedule", FROM_START, ids=str)
def test_building_twice_is_building_once(schedule):
    optimizer = make_optimizer(surefoot, schedule.optimizer)
    run(schedule.build(ours, optimizer), min(20, schedule.steps))
    trajectory = run(schedule.build(ours, optimizer), schedule.steps)
    assert trajectory == whole_run(schedule, ours, surefoot)


@pytest.mark.parametrize("schedule", FROM_START, ids=str)
def test_an_edited_value_is_overwritten(schedule):
    scheduler = make(schedule)
    said = []
    trajectory = whole_run(schedule, ours, surefoot)[1:30]
    for expected in trajectory:
        scheduler.optimizer.step()
        for group in scheduler.optimizer.param_groups:
            group["lr"] = 123.0
            if schedule.settings.get("cycle_momentum", schedule.name in ("OneCycleLR", "CyclicLR")):
                ours.hyperparameters.set_hyperparameter(group, "momentum", 0.123)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            scheduler.step()
        said.extend(str(warning.message) for warning in caught if "past the end" not in str(warning.message))
        assert values(scheduler.optimizer) == expected
    assert len(said) == bool(trajectory)  # not again at every step
    assert all("the edit is lost" in warning for warning in said)


def test_lr_is_the_curve_at_the_count():
    curve = CosineWave(T_max=20, eta_min=1e-3)
    scheduler = ours.Scheduler(make_optimizer(surefoot), lr=curve, per="epoch")
    lr_runs = [[lr for lr, _ in step] for step in run(scheduler, 50)]
    assert lr_runs == [[curve.value(step, 0.1), curve.value(step, 0.01)] for step in range(51)]


def test_curves_of_each_group_for_lr_and_momentum():
    lr = [Exponential(0.9), Step(2, 0.5)]
    momentum = [OneCycle(10, 0.95, 0.85, 0.95).fixed(1.0), OneCycle(10, 0.9, 0.5, 0.9).fixed(1.0)]
    scheduler = ours.Scheduler(make_optimizer(surefoot, "AdamW"), lr=lr, momentum=momentum, per="epoch")
    for step, groups in enumerate(run(scheduler, 12)):
        for i, (base, (group_lr, beta1, beta2)) in enumerate(zip((0.1, 0.01), groups, strict=True)):
            assert group_lr == lr[i].value(step, base)
            assert (beta1, beta2) == (momentum[i].value(step), 0.999)
    assert scheduler.group_curves("momentum") == momentum


def test_a_curve_of_ones_own():
    @dataclass(frozen=True)
    class Inverse(Curve):
        def value(self, step, base=1.0):
            return base / (1 + step)

    scheduler = ours.Scheduler(make_optimizer(surefoot), lr=Inverse(), per="epoch")
    assert [step[0][0] for step in run(scheduler, 3)] == [0.1, 0.1 / 2, 0.1 / 3, 0.1 / 4]


def test_two_schedulers_stepping_alternately_warn():
    optimizer = make_optimizer(surefoot)
    warmup = ours.LambdaLR(optimizer, lambda step: min(1.0, step / 10))
    decay = ours.ExponentialLR(optimizer, 0.9)
    optimizer.step()
    with pytest.warns(UserWarning, match="LambdaLR had set .* the edit is lost"):
        warmup.step()
    with pytest.warns(UserWarning, match="ExponentialLR had set .* the edit is lost"):
        decay.step()


def test_a_plateau_that_cuts_under_a_scheduler_warns():
    optimizer = make_optimizer(surefoot)
    decay, plateau = ours.ExponentialLR(optimizer, 0.9), ours.ReduceLROnPlateau(optimizer, patience=0)
    optimizer.step()
    for metric in (2.0, 1.0):  # it only watches: nobody's lr is lost
        decay.step()
        plateau.step(metric)
    decay.step()
    plateau.step(1.0)
    with pytest.warns(UserWarning, match="ExponentialLR had set"):
        decay.step()


def test_schedulers_of_two_optimizers_do_not_disturb_each_other():
    first, second = (ours.ExponentialLR(make_optimizer(surefoot), 0.5) for _ in range(2))
    for _ in range(3):
        for scheduler in (first, second):
            scheduler.optimizer.step()
            scheduler.step()
    assert lrs(first.optimizer) == lrs(second.optimizer) == [0.1 / 8, 0.01 / 8]


@LIBRARIES
def test_a_group_added_later_joins(library):
    scheduler = ours.OneCycleLR(make_optimizer(library), max_lr=0.5, total_steps=20)
    run(scheduler, 3)
    add_group(scheduler.optimizer, lr=7.0)
    run(scheduler, 1)
    first, _, added = values(scheduler.optimizer)
    assert added == first
    assert scheduler.get_last_lr() == lrs(scheduler.optimizer)

    scheduler = ours.ExponentialLR(make_optimizer(library), 0.5)
    run(scheduler, 1)
    add_group(scheduler.optimizer, lr=8.0)
    run(scheduler, 1)
    assert lrs(scheduler.optimizer) == [0.1 / 4, 0.01 / 4, 8.0 / 4]  # its own base, the same count
    again = ours.ExponentialLR(make_optimizer(library, lrs=(0.1, 0.01, 8.0)), 0.5)
    again.load_state_dict(scheduler.state_dict())
    assert lrs(again.optimizer) == lrs(scheduler.optimizer)


@pytest.mark.parametrize("library", [surefoot, torch.optim])
def test_a_group_added_under_values_for_each_group_is_an_error(library):
    """Of ours at once, and nothing is added; of torch's optimizers at the next step."""
    optimizer = make_optimizer(library)
    scheduler = ours.OneCycleLR(optimizer, max_lr=[0.5, 0.1], total_steps=20, cycle_momentum=False)
    optimizer.step()
    message = "lr has curves for 2 groups and none for number 2: build the scheduler with one for all"
    if library is torch.optim:
        add_group(optimizer, lr=7.0)
    with pytest.raises(RuntimeError, match=message):
        scheduler.step() if library is torch.optim else add_group(optimizer, lr=7.0)
    assert len(optimizer.param_groups) == (2 if library is surefoot else 3)


@pytest.mark.parametrize("schedule", CURVED, ids=str)
def test_last_epoch_needs_nothing_in_the_groups(schedule):
    optimizer = make_optimizer(surefoot, schedule.optimizer)
    assert not any("initial_lr" in group for group in optimizer.param_groups)
    step = min(8, schedule.steps)
    schedule.build(ours, optimizer, last_epoch=step - 1)
    assert values(optimizer) == whole_run(schedule, ours, surefoot)[step]


def test_the_base_comes_with_the_state():
    scheduler = ours.ExponentialLR(make_optimizer(surefoot), 0.5)
    run(scheduler, 2)
    other = ours.ExponentialLR(make_optimizer(surefoot, lrs=(5.0, 7.0)), 0.5)
    other.load_state_dict(scheduler.state_dict())
    assert run(other, 3) == run(scheduler, 3)


def test_a_saved_state_does_not_grow_with_the_groups():
    scheduler = ours.ExponentialLR(make_optimizer(surefoot), 0.5)
    state = scheduler.state_dict()
    add_group(scheduler.optimizer, lr=7.0)
    run(scheduler, 1)
    assert state["base_lrs"] == [0.1, 0.01]


def test_a_loaded_scheduler_has_begun_already():
    # torch too warns only of a first step that comes before the optimizer's.
    scheduler = ours.ExponentialLR(make_optimizer(surefoot), 0.5)
    run(scheduler, 2)
    other = ours.ExponentialLR(make_optimizer(surefoot), 0.5)
    other.load_state_dict(scheduler.state_dict())
    other.step()


def test_the_state_of_other_groups_is_refused():
    state = ours.StepLR(make_optimizer(surefoot, lrs=(0.1, 0.2, 0.3)), 5).state_dict()
    scheduler = ours.StepLR(make_optimizer(surefoot), 5)
    with pytest.raises(ValueError, match="the saved scheduler had 3 groups, this optimizer has 2: build it"):
        scheduler.load_state_dict(state)
    assert lrs(scheduler.optimizer) == [0.1, 0.01]


def test_the_state_is_numbers_only():
    scheduler = ours.LambdaLR(make_optimizer(surefoot), lambda step: 0.5**step)
    run(scheduler, 2)
    assert scheduler.state_dict() == {
        "last_epoch": 2,
        "base_lrs": [0.1, 0.01],
        "_step_count": 3,
        "_last_lr": [0.025, 0.0025],
        "curves": {"lr": None},  # a function without a name
        "lr_lambdas": [None, None],  # torch's LambdaLR looks for them
    }


def test_loading_a_scheduler_that_waits_leaves_lr_alone():
    # torch's SequentialLR keeps those still to come at -1; here a warmup goes on beside one.
    optimizer = make_optimizer(surefoot)
    waiting = ours.StepLR(optimizer, 5, gamma=0.1)
    optimizer.param_groups[0]["lr"] = 0.03
    waiting.load_state_dict({"last_epoch": -1, "base_lrs": [0.1, 0.01], "_step_count": 1, "_last_lr": []})
    assert lrs(optimizer) == [0.03, 0.01]
    assert waiting.last_epoch == -1


def test_a_step_of_a_long_run_is_the_curve_at_that_step():
    # 1e9 steps without stepping there: what is stored is a count.
    scheduler = ours.CyclicLR(make_optimizer(surefoot), 0.1, 0.2, step_size_up=10)
    scheduler.load_state_dict({**scheduler.state_dict(), "last_epoch": 10**9 + 10})
    assert lrs(scheduler.optimizer) == pytest.approx([0.2, 0.2], rel=1e-7)  # 1e9 / 20 cycles, to 1e-16 each


@pytest.mark.parametrize(
    ("curves", "error", "message"),
    [
        ({"lr": 0.1}, TypeError, "lr=0.1 is a float: pass a curve, or one for each group"),
        ({"lr": "cosine"}, TypeError, "lr='cosine' is a str: pass a curve, or one for each group"),
        ({"lr": [CosineWave(5), 0.1]}, TypeError, "lr=0.1 is a float: pass a curve, or one for each group"),
        ({"lr": CosineWave(5), "momentum": 0.9}, TypeError, "momentum=0.9 is a float: pass a curve"),
        ({"lr": [CosineWave(5)]}, RuntimeError, "lr has curves for 1 groups, but the optimizer has 2"),
        (
            {"lr": CosineWave(5), "momentum": [CosineWave(5)] * 3},
            RuntimeError,
            "momentum has curves for 3 groups, but the optimizer has 2",
        ),
    ],
)
def test_bad_curves(curves, error, message):
    with pytest.raises(error, match=re.escape(message)):
        ours.Scheduler(make_optimizer(surefoot), **curves)


def test_momentum_of_an_optimizer_that_has_none():
    optimizer = surefoot.Adagrad([torch.zeros(1, requires_grad=True)])
    with pytest.raises(ValueError, match="Adagrad has neither momentum nor betas: leave momentum out"):
        ours.Scheduler(optimizer, lr=CosineWave(5), momentum=CosineWave(5))


@pytest.mark.parametrize("given", [None, 0.1, torch.nn.Linear(1, 1), [torch.zeros(1)], surefoot.SGD])
@pytest.mark.parametrize("schedule", CLASSES, ids=str)
def test_what_is_not_an_optimizer(schedule, given):
    message = f"optimizer is a {type(given).__name__}: pass the optimizer whose lr is to be scheduled"
    with pytest.raises(TypeError, match=message):
        schedule.build(ours, given)


def test_a_whole_run_warns_of_nothing():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for schedule in CLASSES:
            run(make(schedule), min(STEPS, schedule.steps))
    expected = ("max_lr=0.5 is the peak of all groups", "step ")  # see IN_PASSING
    assert [said for said in (str(w.message) for w in caught) if not said.startswith(expected)] == []


def test_tensor_betas_are_filled_in_place():
    beta1, beta2 = torch.tensor(0.9), torch.tensor(0.999)
    param = torch.zeros(1, requires_grad=True)
    optimizer = surefoot.AdamW([param], betas=(beta1, beta2))
    scheduler = ours.CyclicLR(optimizer, 0.1, 0.2, step_size_up=4, base_momentum=0.5, max_momentum=0.75)
    run(scheduler, 2)
    assert optimizer.param_groups[0]["betas"][0] is beta1
    assert (beta1.item(), beta2.item()) == (0.625, torch.tensor(0.999).item())

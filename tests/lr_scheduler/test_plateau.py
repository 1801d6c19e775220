"""ReduceLROnPlateau: torch's decisions on any metrics, and a line for each cut."""

from __future__ import annotations

import json
import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lr_scheduler.schedules import make_optimizer
from torch.optim import lr_scheduler as torchs

import surefoot
from surefoot import lr_scheduler as ours

nan, inf = math.nan, math.inf

# Few distinct values, so that ties and plateaus are common; and anything else.
metrics = st.lists(
    st.one_of(st.sampled_from([1.0, 0.9, 0.5, 0.0, -0.5, -1.0, nan]), st.floats()), max_size=60
)
settings = st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from(["min", "max"]),
        "factor": st.floats(0.01, 0.99),
        "patience": st.integers(0, 5),
        "threshold": st.sampled_from([0.0, 1e-4, 0.1, 0.5, 2.0]),
        "threshold_mode": st.sampled_from(["rel", "abs"]),
        "cooldown": st.integers(0, 5),
        "min_lr": st.one_of(st.floats(0, 0.2), st.lists(st.floats(0, 0.2), min_size=2, max_size=2)),
        "eps": st.sampled_from([0.0, 1e-8, 1e-3]),
    },
)


def lrs(scheduler):
    return [group["lr"] for group in scheduler.optimizer.param_groups]


def state(scheduler):
    names = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")
    return [getattr(scheduler, name) for name in names], lrs(scheduler), scheduler.get_last_lr()


@given(settings=settings, metrics=metrics)
def test_every_decision_is_torchs(settings, metrics):
    mine = ours.ReduceLROnPlateau(make_optimizer(surefoot), **settings, compat="torch")
    theirs = torchs.ReduceLROnPlateau(make_optimizer(torch.optim), **settings)
    for metric in metrics:
        mine.step(metric)
        theirs.step(metric)
        assert state(mine) == state(theirs)
        assert mine.in_cooldown == theirs.in_cooldown


@given(settings=settings, metrics=metrics, data=st.data())
def test_a_stopped_run_goes_on_as_if_it_had_not(settings, metrics, data):
    stop = data.draw(st.integers(0, len(metrics)))
    first = ours.ReduceLROnPlateau(make_optimizer(surefoot), **settings)
    for metric in metrics[:stop]:
        first.step(metric)
    again = ours.ReduceLROnPlateau(make_optimizer(surefoot), **settings)
    again.load_state_dict(json.loads(json.dumps(first.state_dict())))
    again.optimizer.load_state_dict(first.optimizer.state_dict())
    assert state(again) == state(first)
    for metric in metrics[stop:]:
        first.step(metric)
        again.step(metric)
        assert state(again) == state(first)


def test_patience_is_how_many_bad_steps_are_borne():
    scheduler = ours.ReduceLROnPlateau(make_optimizer(surefoot), factor=0.5, patience=2)
    first_lr = []
    for metric in (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0):
        scheduler.step(metric)
        first_lr.append(lrs(scheduler)[0])
    assert first_lr == [0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.025]


def test_verbose_prints_exactly_when_it_cuts(capsys):
    scheduler = ours.ReduceLROnPlateau(
        make_optimizer(surefoot), factor=0.5, patience=1, min_lr=[0.0, 0.01], verbose=True
    )
    lines = []
    for metric in (1.0, 0.5, 0.7, nan, 0.4, 0.5):
        scheduler.step(metric)
        lines.append(capsys.readouterr().out)
    # The second group is at its lowest already: nothing is cut there, and nothing said.
    cut = "Step 4: no better than 0.5 for 2 steps, lr of group 0 cut from 0.1 to 0.05\n"
    assert lines == ["", "", "", cut, "", ""]


@given(settings=settings, metrics=metrics)
def test_verbose_prints_a_line_for_each_lr_that_changed(settings, metrics):
    scheduler = ours.ReduceLROnPlateau(make_optimizer(surefoot), **settings, verbose=True)
    for metric in metrics:
        before = lrs(scheduler)
        with pytest.MonkeyPatch.context() as patch:  # capsys is one for all examples
            said = []
            patch.setattr("builtins.print", said.append)
            scheduler.step(metric)
        changed = [
            i for i, pair in enumerate(zip(before, lrs(scheduler), strict=True)) if len(set(pair)) == 2
        ]
        assert [re.search(r"lr of group (\d)", line)[1] for line in said] == [str(i) for i in changed]


def test_nothing_is_printed_unless_asked(capsys):
    scheduler = ours.ReduceLROnPlateau(make_optimizer(surefoot), patience=0)
    for metric in (1.0, 1.0, 1.0):
        scheduler.step(metric)
    assert lrs(scheduler)[0] < 0.1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("given", [(), (None,)])
def test_stepping_without_the_metric(given):
    scheduler = ours.ReduceLROnPlateau(make_optimizer(surefoot))
    message = "ReduceLROnPlateau.step() needs the metric it watches: scheduler.step(val_loss)"
    with pytest.raises(TypeError, match=re.escape(message)):
        scheduler.step(*given)
    assert scheduler.last_epoch == 0


def test_nan_is_never_better():
    scheduler = ours.ReduceLROnPlateau(make_optimizer(surefoot), factor=0.5, patience=1)
    for _ in range(2):
        scheduler.step(nan)
    assert lrs(scheduler)[0] == 0.05
    assert scheduler.best == inf
    scheduler.step(3.0)
    assert scheduler.best == 3.0


@pytest.mark.parametrize(
    "metric", [2, torch.tensor(2.0), torch.tensor([2.0]), torch.tensor(2, dtype=torch.int32), "2"], ids=repr
)
def test_anything_that_float_takes_is_a_metric(metric):
    scheduler = ours.ReduceLROnPlateau(make_optimizer(surefoot))
    scheduler.step(metric)
    assert scheduler.best == 2.0
    assert type(scheduler.best) is float


def test_step_to_an_epoch_warns_and_counts_from_there():
    scheduler = ours.ReduceLROnPlateau(make_optimizer(surefoot))
    with pytest.warns(UserWarning, match="The epoch parameter in `scheduler.step"):
        scheduler.step(1.0, epoch=7)
    assert scheduler.last_epoch == 7
    scheduler.step(1.0)
    assert scheduler.last_epoch == 8


def test_a_group_added_later_is_cut_too():
    scheduler = ours.ReduceLROnPlateau(make_optimizer(surefoot), factor=0.5, patience=0, min_lr=0.008)
    scheduler.step(1.0)
    scheduler.optimizer.add_param_group({"params": [torch.zeros(1, requires_grad=True)], "lr": 4.0})
    scheduler.step(1.0)
    assert lrs(scheduler) == scheduler.get_last_lr() == [0.05, 0.008, 2.0]


def test_a_group_added_under_a_list_of_min_lr():
    scheduler = ours.ReduceLROnPlateau(make_optimizer(surefoot), factor=0.5, patience=0, min_lr=[0.0, 0.008])
    scheduler.step(1.0)
    scheduler.optimizer.add_param_group({"params": [torch.zeros(1, requires_grad=True)], "lr": 4.0})
    message = (
        "min_lr has 2 values, but the optimizer has 3 groups now: set scheduler.min_lrs to one value for"
    )
    with pytest.raises(RuntimeError, match=message):
        scheduler.step(1.0)
    assert lrs(scheduler) == [0.1, 0.01, 4.0]
    scheduler.min_lrs = [0.0, 0.008, 3.0]
    scheduler.step(1.0)
    assert lrs(scheduler) == [0.05, 0.008, 3.0]


def test_min_lrs_set_by_hand_are_kept():
    scheduler = ours.ReduceLROnPlateau(make_optimizer(surefoot), factor=0.5, patience=0)
    scheduler.min_lrs = [0.06, 0.0]
    for _ in range(3):
        scheduler.step(1.0)
    assert lrs(scheduler) == [0.06, 0.0025]


def test_a_loaded_state_is_not_written_to():
    state = ours.ReduceLROnPlateau(make_optimizer(surefoot), min_lr=[0.1, 0.2]).state_dict()
    scheduler = ours.ReduceLROnPlateau(make_optimizer(surefoot))
    scheduler.load_state_dict(state)
    scheduler.min_lrs.append(0.3)  # as for a group that was added
    assert state["min_lrs"] == [0.1, 0.2]


@pytest.mark.parametrize(("lowest", "eps"), [(0.1, 0.0), (0.05, 0.05)])
def test_a_cut_of_eps_is_not_made(lowest, eps, capsys):
    scheduler = ours.ReduceLROnPlateau(
        make_optimizer(surefoot, lrs=[0.1]), factor=0.25, patience=0, min_lr=lowest, eps=eps, verbose=True
    )
    for _ in range(2):
        scheduler.step(1.0)
    assert lrs(scheduler) == [0.1]
    assert capsys.readouterr().out == ""


def test_nothing_is_cut_while_it_improves():
    scheduler = ours.ReduceLROnPlateau(make_optimizer(surefoot), mode="max", patience=0)
    for step in range(20):
        scheduler.step(-1 / (1 + step))  # negative, and better each time
    assert lrs(scheduler) == [0.1, 0.01]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"mode": "low"}, ValueError, "mode='low' must be 'min' (lower is better) or 'max'"),
        ({"mode": None}, ValueError, "mode=None must be 'min' (lower is better) or 'max'"),
        ({"threshold_mode": "relative"}, ValueError, "threshold_mode='relative' must be 'rel' or 'abs'"),
        ({"factor": 1}, ValueError, "factor=1 must be in (0, 1): it multiplies lr"),
        ({"factor": 10.0}, ValueError, "factor=10.0 must be in (0, 1): it multiplies lr"),
        ({"factor": 0.0}, ValueError, "factor=0.0 must be in (0, 1): it multiplies lr"),
        ({"factor": -0.1}, ValueError, "factor=-0.1 must be in (0, 1): it multiplies lr"),
        ({"factor": nan}, ValueError, "factor=nan must be in (0, 1): it multiplies lr"),
        ({"factor": "0.1"}, TypeError, "factor='0.1' is a str: pass a number"),
        ({"patience": -1}, ValueError, "patience=-1 must be at least 0"),
        ({"patience": nan}, ValueError, "patience=nan must be at least 0"),
        ({"patience": None}, TypeError, "patience=None is a NoneType: pass a number"),
        ({"cooldown": -1}, ValueError, "cooldown=-1 must be at least 0"),
        ({"threshold": -0.1}, ValueError, "threshold=-0.1 must be at least 0"),
        ({"threshold": nan}, ValueError, "threshold=nan must be at least 0"),
        ({"eps": -1e-8}, ValueError, "eps=-1e-08 must be at least 0"),
        ({"min_lr": nan}, ValueError, "min_lr=nan must be finite"),
        ({"min_lr": "0"}, TypeError, "min_lr='0' is a str: pass a number"),
        (
            {"min_lr": [0.1]},
            ValueError,
            "min_lr has 1 values, the optimizer has 2 groups: pass one value or 2",
        ),
        ({"min_lr": [0.1, nan]}, ValueError, "min_lr=nan must be finite"),
    ],
)
def test_bad_settings(settings, error, message):
    with pytest.raises(error, match=re.escape(message)):
        ours.ReduceLROnPlateau(make_optimizer(surefoot), **settings)

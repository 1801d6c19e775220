"""Where people get hurt with schedulers, row by row of the list: each test is named after its row."""

from __future__ import annotations

import copy
import itertools
import json
import math
import pickle
import re
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lr_scheduler.schedules import (
    SEQUENCES,
    Schedule,
    assert_equal_torchs,
    make_optimizer,
    run,
    to_zero,
    values,
)
from torch.optim import lr_scheduler as torchs

import surefoot
from surefoot import curves
from surefoot import lr_scheduler as ours
from surefoot.curves import constant, cosine, exponential, linear, step, warmup

LIBRARIES = pytest.mark.parametrize("library", [surefoot, torch.optim], ids=lambda library: library.__name__)
PAST_THE_END = pytest.mark.filterwarnings("ignore:step .* is past the end of the schedule")


def a_step(optimizer, gradient=0.0):
    for group in optimizer.param_groups:
        for param in group["params"]:
            param.grad = torch.full_like(param, gradient)
    optimizer.step()


def train(scheduler, steps):
    """The lr of each group at each step."""
    lrs = [[group["lr"] for group in scheduler.optimizer.param_groups]]
    for _ in range(steps):
        a_step(scheduler.optimizer)
        scheduler.step()
        lrs.append([group["lr"] for group in scheduler.optimizer.param_groups])
    return lrs


def named(optimizer=surefoot.SGD, **settings):
    """An optimizer with groups that have names: a body and a head."""
    groups = [
        {
            "params": [
                ("body.weight", torch.ones(2, requires_grad=True)),
                ("body.bias", torch.ones(1, requires_grad=True)),
            ]
        },
        {"params": [("head.weight", torch.ones(2, requires_grad=True))], "lr": 0.01, "name": "top"},
    ]
    return optimizer(groups, lr=0.1, **settings)


SCHEDULE = warmup(5) >> cosine(20, to=0.1)


@LIBRARIES
@pytest.mark.parametrize(
    "acts", sorted(set(itertools.permutations("Sos")) | set(itertools.permutations("Ss")))
)
def test_19_any_order_of_building_and_loading_gives_the_same_lr(acts, library):
    def build(optimizer):
        return ours.Scheduler(optimizer, lr=SCHEDULE, momentum=linear(40, to=0.5))

    before = build(make_optimizer(library))
    expected = train(before, 12)[-1]
    states = json.loads(json.dumps(before.state_dict())), before.optimizer.state_dict()
    if acts.index("S") > acts.index("s"):
        return  # there is nothing to load into
    optimizer = make_optimizer(library)
    for act in acts:
        if act == "S":
            scheduler = build(optimizer)
        elif act == "s":
            scheduler.load_state_dict(states[0])
        else:
            optimizer.load_state_dict(states[1])
    assert [group["lr"] for group in optimizer.param_groups] == expected
    assert train(scheduler, 20)[1:] == train(before, 20)[1:]


def test_20_lr_is_a_function_of_step_and_base_however_it_was_edited_or_resumed():
    scheduler = ours.Scheduler(make_optimizer(surefoot), lr=SCHEDULE)

    def edit_and_step(n):
        a_step(scheduler.optimizer)
        scheduler.optimizer.param_groups[0]["lr"] = 0.7
        scheduler.step()
        assert values(scheduler.optimizer)[0][0] == SCHEDULE.value(n, 0.1)

    with pytest.warns(UserWarning, match="the edit is lost"):
        edit_and_step(1)
    for n in range(2, 30):  # it is said once
        edit_and_step(n)
    alone = ours.Scheduler(make_optimizer(surefoot), lr=SCHEDULE)  # without the optimizer's state
    alone.load_state_dict(scheduler.state_dict())
    assert values(alone.optimizer) == values(scheduler.optimizer)
    for n in (7, 0, 29, 7):
        alone.set(n)
        assert alone.get_last_lr() == [SCHEDULE.value(n, 0.1), SCHEDULE.value(n, 0.01)]


@given(steps=st.lists(st.integers(0, 10**6), min_size=1, max_size=8))
def test_20_set_goes_anywhere_in_any_order(steps):
    scheduler = ours.Scheduler(
        make_optimizer(surefoot), lr=SCHEDULE, momentum=curves.cosine_restarts(7, mult=1.5)
    )
    for n in steps:
        scheduler.set(n)
        fresh = ours.Scheduler(
            make_optimizer(surefoot), lr=SCHEDULE, momentum=curves.cosine_restarts(7, mult=1.5)
        )
        fresh.set(n)
        assert values(scheduler.optimizer) == values(fresh.optimizer)
        assert scheduler.state_dict() == fresh.state_dict()


def sequence(schedulers, parts, milestones, library=surefoot, optimizer="SGD"):
    made = make_optimizer(library, optimizer)
    return schedulers.SequentialLR(made, [part.build(schedulers, made) for part in parts], milestones)


@LIBRARIES
@pytest.mark.parametrize(("parts", "milestones"), SEQUENCES)
@PAST_THE_END
def test_21_a_sequence_equals_torchs_where_torch_is_right(parts, milestones, library):
    expected = run(sequence(torchs, parts, milestones, torch.optim), 500)
    assert_equal_torchs(run(sequence(ours, parts, milestones, library), 500), expected)


@pytest.mark.parametrize("stop", [0, 5, 10, 11, 50])
@pytest.mark.parametrize(("parts", "milestones"), SEQUENCES)
@PAST_THE_END
def test_21_a_sequence_resumes_and_states_are_exchanged_with_torch(parts, milestones, stop):
    expected = run(sequence(torchs, parts, milestones, torch.optim), 100)
    for before, after in ((ours, ours), (ours, torchs), (torchs, ours)):
        first = sequence(before, parts, milestones)
        run(first, stop)
        state = first.state_dict() if before is torchs else json.loads(json.dumps(first.state_dict()))
        again = sequence(after, parts, milestones)
        again.load_state_dict(copy.deepcopy(state))
        again.optimizer.load_state_dict(first.optimizer.state_dict())
        assert_equal_torchs(run(again, 100 - stop), expected[stop:])


def test_21_a_sequence_of_one_equals_the_one_and_milestone_0_skips_the_first():
    parts = [Schedule("ExponentialLR", {"gamma": 0.9}), Schedule("StepLR", {"step_size": 3})]
    one = run(parts[0].build(ours, make_optimizer(surefoot)), 20)
    assert run(sequence(ours, parts[:1], []), 20) == one
    second = run(parts[1].build(ours, make_optimizer(surefoot)), 20)
    assert run(sequence(ours, parts, [0]), 20) == second


def test_21_nesting_shifts_nothing():
    def build(nested):
        optimizer = make_optimizer(surefoot)
        up, hold = (
            ours.LinearLR(optimizer, 0.1, total_iters=4),
            ours.ConstantLR(optimizer, 0.5, total_iters=3),
        )
        down = ours.ExponentialLR(optimizer, 0.8)
        if nested:
            inner = ours.SequentialLR(optimizer, [hold, down], [3])
            return ours.SequentialLR(optimizer, [up, inner], [4])
        return ours.SequentialLR(optimizer, [up, hold, down], [4, 7])

    flat, nested = build(nested=False), build(nested=True)
    assert run(flat, 20) == run(nested, 20)
    assert [part.last_epoch for part in flat._schedulers] == [3, 2, 13]
    inner = nested._schedulers[1]
    assert (inner.last_epoch, [part.last_epoch for part in inner._schedulers]) == (16, [2, 13])
    again = build(nested=True)
    again.load_state_dict(json.loads(json.dumps(nested.state_dict())))
    assert run(again, 5) == run(nested, 5)


def test_21_one_of_torchs_own_among_them_makes_it_torchs():
    class Mine(torchs.LRScheduler):
        def get_lr(self):
            return [0.5 / (1 + self.last_epoch) for _ in self.optimizer.param_groups]

    optimizer = make_optimizer(surefoot)
    made = ours.SequentialLR(optimizer, [ours.LinearLR(optimizer, 0.1), Mine(optimizer)], milestones=[5])
    assert type(made) is torchs.SequentialLR
    assert (
        type(ours.ChainedScheduler([ours.ExponentialLR(optimizer, 0.9), Mine(optimizer)]))
        is torchs.ChainedScheduler
    )


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_21_a_copy_of_a_sequence_goes_on_by_itself(copied):
    made = sequence(ours, *SEQUENCES[0])
    run(made, 5)
    other = copied(made)
    assert other.optimizer is not made.optimizer
    before = values(made.optimizer)
    assert run(other, 20)[-1] == run(sequence(ours, *SEQUENCES[0]), 25)[-1]
    assert values(made.optimizer) == before


@pytest.mark.parametrize(
    "parts",
    [
        [
            Schedule("ConstantLR", {"factor": 0.3, "total_iters": 20}),
            Schedule("ExponentialLR", {"gamma": 0.95}),
        ],
        [Schedule("LinearLR", {"total_iters": 30}), Schedule("StepLR", {"step_size": 7, "gamma": 0.5})],
        [Schedule("PolynomialLR", {"total_iters": 301}), Schedule("MultiStepLR", {"milestones": [5, 50]})],
        [Schedule("MultiplicativeLR", {"lr_lambda": to_zero}), Schedule("LinearLR", {"total_iters": 5})],
        [Schedule("ExponentialLR", {"gamma": 0.99})] * 3,
    ],
    ids=lambda parts: ", ".join(part.name for part in parts),
)
@PAST_THE_END
def test_a_chain_is_the_product_as_torchs(parts):
    def chain(schedulers, library):
        optimizer = make_optimizer(library)
        return schedulers.ChainedScheduler([part.build(schedulers, optimizer) for part in parts])

    expected = run(chain(torchs, torch.optim), 300)
    assert_equal_torchs(run(chain(ours, surefoot), 300), expected)
    for before, after in ((ours, ours), (ours, torchs), (torchs, ours)):
        first = chain(before, surefoot)
        run(first, 40)
        again = chain(after, surefoot)
        again.load_state_dict(copy.deepcopy(first.state_dict()))
        again.optimizer.load_state_dict(first.optimizer.state_dict())
        assert_equal_torchs(run(again, 50), expected[40:91])


class Scaler(torch.amp.GradScaler):
    """A GradScaler for the CPU that finds an infinity when it is told to."""

    def __init__(self):
        super().__init__("cpu", init_scale=8.0, growth_interval=1000)


@pytest.mark.parametrize(
    "build", [lambda o: ours.Scheduler(o, lr=exponential(0.5)), lambda o: ours.ExponentialLR(o, 0.5)]
)
@pytest.mark.parametrize("how", ["scaler", "policy"])
def test_22_a_step_that_was_skipped_is_not_counted(build, how):
    weight = torch.ones(2, requires_grad=True)
    optimizer = surefoot.AdamW([weight], lr=0.1, nonfinite="propagate" if how == "scaler" else "skip")
    scheduler, scaler = build(optimizer), Scaler()
    lrs = []
    for bad in (False, True, True, False, True, False):
        optimizer.zero_grad()
        loss = (weight * (math.inf if bad else 1.0)).sum()
        if how == "scaler":
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        else:
            loss.backward()
            optimizer.step()
        scheduler.step()
        lrs.append(optimizer.param_groups[0]["lr"])
    assert lrs == [0.05, 0.05, 0.05, 0.025, 0.025, 0.0125]
    assert (optimizer.updates, optimizer.skipped, scheduler.last_epoch) == (3, 3, 3)


def test_22_torchs_optimizer_is_not_called_and_so_not_counted():
    weight = torch.ones(2, requires_grad=True)
    optimizer, scaler = torch.optim.SGD([weight], lr=0.1), Scaler()
    scheduler = ours.Scheduler(optimizer, lr=exponential(0.5))
    for bad in (False, True, False):
        optimizer.zero_grad()
        scaler.scale((weight * (math.inf if bad else 1.0)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0.1 / 4


@LIBRARIES
@pytest.mark.parametrize("ranks", [1, 4])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_23_the_unit_is_explicit_so_extra_ticks_change_nothing(library, ranks, accumulate):
    """As libraries do that call the scheduler once for each micro-batch, or for each rank."""
    scheduler = ours.Scheduler(make_optimizer(library), lr=SCHEDULE, per="update")
    lrs = []
    for batch in range(30):
        if (batch + 1) % accumulate == 0:
            a_step(scheduler.optimizer)
        for _ in range(ranks):
            scheduler.step()
        lrs.append(scheduler.get_last_lr()[0])
    assert lrs == [SCHEDULE.value((batch + 1) // accumulate, 0.1) for batch in range(30)]

    epochs = ours.Scheduler(make_optimizer(library), lr=exponential(0.5), per="epoch")
    for _ in range(3):
        for _ in range(10):
            a_step(epochs.optimizer)
        epochs.step()
    assert epochs.get_last_lr()[0] == 0.1 / 8


@pytest.mark.parametrize(
    ("build", "end", "says"),
    [
        (
            lambda o: ours.OneCycleLR(o, max_lr=0.1, total_steps=10, cycle_momentum=False),
            10,
            "lr stays at 4e-07",
        ),
        (lambda o: ours.CosineAnnealingLR(o, T_max=10), 10, "lr goes up again until step 20"),
        (lambda o: ours.LinearLR(o, 1.0, 0.0, total_iters=10), 10, "lr stays at 0"),
        (lambda o: ours.PolynomialLR(o, total_iters=10), 10, "lr stays at 0"),
        (
            lambda o: ours.Scheduler(o, lr=warmup(5) >> cosine(5, to=0.01), per="epoch"),
            10,
            "lr stays at 0.001",
        ),
    ],
)
def test_24_going_past_the_end_is_said_once_in_a_sentence(build, end, says):
    scheduler = build(surefoot.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9))
    train(scheduler, end)  # to the end: nothing is said
    with pytest.warns(
        UserWarning, match=f"step {end + 1} is past the end of the schedule, {end}: {says}"
    ) as said:
        train(scheduler, 5)
    assert len(said) == 1


@pytest.mark.parametrize(
    "build",
    [lambda o: ours.LinearLR(o, total_iters=5), lambda o: ours.Scheduler(o, lr=warmup(5), per="epoch")],
)
def test_24_a_warmup_that_is_over_is_no_surprise(build):
    train(build(surefoot.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)), 20)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda o, n: ours.OneCycleLR(o, max_lr=0.1, total_steps=n, cycle_momentum=False),
            "the saved schedule of lr was another: at step 5",
        ),
        (
            lambda o, n: ours.CosineAnnealingLR(o, T_max=n),
            r"saved: CosineWave\(T_max=10, .*now: CosineWave\(T_max=20",
        ),
        (
            lambda o, n: ours.Scheduler(o, lr=warmup(2) >> cosine(n), per="epoch"),
            "If the run was made longer on purpose",
        ),
    ],
)
def test_24_a_resume_with_another_horizon_says_so(build, message):
    def optimizer():
        return surefoot.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)

    first = build(optimizer(), 10)
    train(first, 5)
    longer, same = build(optimizer(), 20), build(optimizer(), 10)
    with pytest.warns(UserWarning, match=message):
        longer.load_state_dict(first.state_dict())
    same.load_state_dict(first.state_dict())
    assert longer.get_last_lr() != same.get_last_lr() == first.get_last_lr()


def test_24_a_resume_of_torchs_with_another_horizon_says_so_too():
    theirs = torchs.OneCycleLR(make_optimizer(torch.optim, lrs=(0.1,)), max_lr=0.1, total_steps=10)
    mine = ours.OneCycleLR(make_optimizer(surefoot, lrs=(0.1,)), max_lr=0.1, total_steps=20)
    with pytest.warns(UserWarning, match="total_steps was 10 where it was saved and is 20 here"):
        mine.load_state_dict(theirs.state_dict())


@LIBRARIES
def test_25_last_epoch_needs_no_initial_lr(library):
    optimizer = make_optimizer(library)
    scheduler = ours.Scheduler(optimizer, lr=SCHEDULE, weight_decay=linear(10), last_epoch=6)
    assert scheduler.get_last_lr() == [SCHEDULE.value(7, 0.1), SCHEDULE.value(7, 0.01)]


def test_26_groups_that_are_added_join_by_name():
    def build(optimizer):
        return ours.Scheduler(optimizer, lr=exponential(0.5), groups={"top*": step(2, gamma=0.1)})

    optimizer = named()
    scheduler = build(optimizer)
    assert train(scheduler, 1)[-1] == [0.1 / 2, 0.01]
    for name, lr in (("top 2", 8.0), ("other", 4.0)):
        param = torch.ones(1, requires_grad=True)
        optimizer.add_param_group({"params": [(f"{name}.weight", param)], "lr": lr, "name": name})
    assert train(scheduler, 1)[-1] == pytest.approx([0.1 / 4, 0.001, 0.8, 1.0])
    del optimizer.param_groups[0]  # and those that are left keep what they are
    assert train(scheduler, 2)[-1] == pytest.approx([0.0001, 0.08, 0.25])
    state = scheduler.state_dict()
    again = build(optimizer)
    again.load_state_dict(state)
    assert again.get_last_lr() == scheduler.get_last_lr()


def test_27_a_plateau_is_a_factor_over_any_curve():
    optimizer = surefoot.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    curve = warmup(4, start=0.0) >> constant()
    plateau = ours.Plateau(factor=0.5, patience=1, min_lr=0.02)
    scheduler = ours.Scheduler(optimizer, lr=curve, plateau=plateau)
    lrs = []
    for metric in (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5):
        a_step(optimizer)
        scheduler.step()
        scheduler.observe(torch.tensor(metric))
        lrs.append(scheduler.get_last_lr()[0])
    cuts = [0, 0, 1, 1, 2, 2, 3, 3, 3, 3]
    assert lrs == [
        max(curve.value(n + 1, 0.1) * 0.5**k, min(0.02, curve.value(n + 1, 0.1))) for n, k in enumerate(cuts)
    ]
    state = json.loads(json.dumps(scheduler.state_dict(), allow_nan=False))
    again = ours.Scheduler(optimizer, lr=curve, plateau=ours.Plateau(factor=0.5, patience=1, min_lr=0.02))
    again.load_state_dict(state)
    assert again.get_last_lr() == scheduler.get_last_lr()
    for each in (scheduler, again):
        each.observe(0.5)
    assert again.plateau.state_dict() == plateau.state_dict()


@pytest.mark.parametrize(("compat", "cut"), [(None, True), ("torch", False)])
def test_27_a_little_worse_is_not_better_where_the_metric_is_negative(compat, cut):
    optimizer = make_optimizer(surefoot)
    scheduler = ours.ReduceLROnPlateau(optimizer, patience=0, threshold=0.1, compat=compat)
    for metric in (-10.0, -9.5):  # torch's threshold is -10 * (1 - 0.1) = -9
        scheduler.step(metric)
    assert values(optimizer)[0][0] == pytest.approx(0.01 if cut else 0.1)


def test_27_a_window_forgets_an_old_lucky_metric():
    def cuts(window):
        optimizer = make_optimizer(surefoot)
        scheduler = ours.ReduceLROnPlateau(optimizer, patience=2, factor=0.5, window=window)
        for metric in (0.1, 1.0, 0.9, math.nan, 0.8, 0.7, 0.6, 0.5, 0.4):
            scheduler.step(metric)
        return round(math.log2(0.1 / values(optimizer)[0][0]))

    assert (cuts(None), cuts(2)) == (2, 1)


def test_28_warm_restarts_reach_the_bottom_if_asked_to_and_start_anywhere():
    def build(**settings):
        return ours.CosineAnnealingWarmRestarts(
            make_optimizer(surefoot), T_0=4, T_mult=2, eta_min=1e-3, **settings
        )

    lrs = [lr for lr, _ in train(build(resolution=1.0), 12)]
    assert (lrs[3], lrs[4], lrs[11], lrs[12]) == (1e-3, 0.1, 1e-3, 0.1)
    plain = train(build(), 30)
    assert min(lr for lr, _ in plain) > 1e-3  # as torch's
    for epoch in range(30):
        assert [group["lr"] for group in build(last_epoch=epoch - 1).optimizer.param_groups] == plain[epoch]


def test_29_one_peak_for_groups_of_different_lr_warns_and_groups_keeps_the_ratios():
    with pytest.warns(
        UserWarning,
        match=re.escape("max_lr=0.5 is the peak of all groups, though their lr differs (0.1, 0.01)"),
    ):
        ours.OneCycleLR(make_optimizer(surefoot), max_lr=0.5, total_steps=10)
    scheduler = ours.OneCycleLR(make_optimizer(surefoot), max_lr="groups", total_steps=10)
    lrs = train(scheduler, 9)
    assert [max(column) for column in zip(*lrs, strict=True)] == [0.1, 0.01]
    assert all(first == pytest.approx(10 * second) for first, second in lrs)
    again = make_optimizer(surefoot)
    again.load_state_dict(scheduler.optimizer.state_dict())
    other = ours.OneCycleLR(again, max_lr="groups", total_steps=10)
    other.load_state_dict(scheduler.state_dict())
    assert other.get_last_lr() == scheduler.get_last_lr()


@pytest.mark.parametrize("pct_start", [0, 0.0, 1, 1.0])
def test_29_no_way_up_and_no_way_down_are_schedules_too(pct_start):
    optimizer = make_optimizer(surefoot, lrs=(0.1,))
    lrs = train(ours.OneCycleLR(optimizer, max_lr=0.1, total_steps=10, pct_start=pct_start), 9)
    assert lrs[-1] == [0.1] if pct_start else lrs[-1][0] < 1e-6


@pytest.mark.parametrize("total", [0, 1, 2, 7])
def test_30_a_warmup_may_start_at_0_and_meets_its_peak(total):
    scheduler = ours.LinearLR(make_optimizer(surefoot), start_factor=0.0, total_iters=total)
    lrs = [lr for lr, _ in train(scheduler, total + 2)]
    assert lrs[0] == (0.0 if total else 0.1)
    assert lrs[total:] == [0.1] * 3
    # And the curve's own way does not waste the first update.
    assert train(ours.Scheduler(make_optimizer(surefoot), lr=warmup(total) >> constant()), total)[0][0] > 0


def test_31_the_state_is_json_and_a_function_needs_a_name():
    @curves.register
    def thirty_one(n):
        return 1 / (1 + n)

    for curve, kept in ((curves.function(thirty_one), True), (curves.function(lambda n: 1.0), False)):
        scheduler = ours.Scheduler(make_optimizer(surefoot), lr=curve, weight_decay=linear(5))
        state = scheduler.state_dict()
        assert json.loads(json.dumps(state, allow_nan=False)) == state
        assert (state["curves"]["lr"] is not None) == kept
    with pytest.raises(ValueError, match="factor is the function 'thirty_two', which is not registered here"):
        curves.Curve.from_json({"kind": "Function", "factor": {"function": "thirty_two"}})


@LIBRARIES
def test_32_tensors_are_filled_in_place_and_not_aliased(library):
    lr, beta1 = torch.tensor(0.1), torch.tensor(0.9)
    optimizer = library.AdamW(
        [torch.zeros(1, requires_grad=True)], lr=lr, betas=(beta1, torch.tensor(0.99)), foreach=False
    )
    scheduler = ours.Scheduler(optimizer, lr=linear(4), momentum=linear(4, to=0.5), weight_decay=linear(4))
    train(scheduler, 2)
    group = optimizer.param_groups[0]
    assert group["lr"] is lr
    assert group["betas"][0] is beta1
    assert (lr.item(), beta1.item(), group["weight_decay"]) == pytest.approx((0.05, 0.675, 0.005))
    assert group["initial_lr"] == pytest.approx(0.1)
    assert scheduler.get_last_lr()[0] is not lr


@LIBRARIES
def test_33_any_hyperparameter_of_any_named_group(library):
    optimizer = named(library.AdamW, betas=(0.8, 0.9), weight_decay=0.1, eps=1e-8)
    scheduler = ours.Scheduler(
        optimizer,
        lr=exponential(0.5),
        betas=(None, linear(10, to=1.1)),
        groups={"head.*": {"lr": constant(), "weight_decay": linear(10)}, "*": {"eps": constant(factor=2)}},
    )
    train(scheduler, 5)
    body, head = optimizer.param_groups
    assert (body["lr"], head["lr"]) == (0.1 / 32, 0.01)
    assert (body["weight_decay"], head["weight_decay"]) == (0.1, 0.05)
    assert body["betas"] == head["betas"] == (0.8, pytest.approx(0.9 * 1.05))
    assert (body["eps"], head["eps"]) == (2e-8, 2e-8)
    assert scheduler.values(2) == {
        "lr": {"0": [0.1, 0.05], "top": [0.01, 0.01]},
        "betas[1]": {"0": [0.9, pytest.approx(0.909)], "top": [0.9, pytest.approx(0.909)]},
        "eps": {"0": [2e-8] * 2, "top": [2e-8] * 2},
        "weight_decay": {"top": [0.1, pytest.approx(0.09)]},
    }
    again = named(library.AdamW, betas=(0.8, 0.9), weight_decay=0.7, eps=1e-8)  # another base
    other = ours.Scheduler(
        again,
        lr=exponential(0.5),
        betas=(None, linear(10, to=1.1)),
        groups={"head.*": {"lr": constant(), "weight_decay": linear(10)}, "*": {"eps": constant(factor=2)}},
    )
    other.load_state_dict(json.loads(json.dumps(scheduler.state_dict(), allow_nan=False)))
    assert again.param_groups[1]["weight_decay"] == 0.05


@pytest.mark.parametrize(
    "name", ["SGD", "Adam", "AdamW", "NAdam", "RAdam", "NAdamW", "Lion", "Adamax", "RMSprop"]
)
def test_34_momentum_is_cycled_where_the_optimizer_has_it(name):
    settings = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}
    optimizer = getattr(surefoot, name)([torch.zeros(1, requires_grad=True)], lr=0.1, **settings)
    train(ours.OneCycleLR(optimizer, max_lr=0.1, total_steps=10, pct_start=0.5), 4)
    group = optimizer.param_groups[0]
    assert (group["momentum"] if settings else group["betas"][0]) == 0.85


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({}, ValueError, "there is nothing to schedule: pass lr=curve"),
        ({"lr": 0.1}, TypeError, "lr=0.1 is a float: pass a curve"),
        ({"lr": linear(5), "per": "batch"}, ValueError, "per='batch' must be 'update' or 'epoch'"),
        (
            {"speed": linear(5)},
            ValueError,
            "SGD has no number 'speed' to schedule: it has dampening, lr, momentum",
        ),
        ({"nesterov": linear(5)}, ValueError, "SGD has no number 'nesterov' to schedule"),
        ({"betas": (linear(5), None)}, ValueError, r"SGD has no number 'betas[0]' to schedule"),
        ({"betas": linear(5)}, TypeError, "pass two curves, None for one that stays"),
        (
            {"groups": {"tail*": linear(5)}},
            ValueError,
            "groups='tail*' means no group: they are 0, top; give a group",
        ),
        ({"groups": {"top": 0.1}}, TypeError, "groups['top']=0.1: pass a curve, or a dict of curves"),
        ({"groups": {"top": {"lr": 0.1}}}, TypeError, "groups['top']['lr']=0.1 is a float: pass a curve"),
        ({"groups": {"top": {"speed": linear(5)}}}, ValueError, "SGD has no number 'speed' to schedule"),
        ({"lr": linear(5), "plateau": 5}, TypeError, "plateau=5 is a int: pass Plateau(...)"),
        ({"lr": linear(5), "last_epoch": -2}, ValueError, "last_epoch=-2 must be at least -1"),
        (
            {"momentum": linear(5), "betas": (linear(5), None)},
            ValueError,
            "momentum and betas[0] are one number",
        ),
        (
            {"lr": [linear(5)]},
            RuntimeError,
            "lr has curves for 1 groups, but the optimizer has 2: pass one for each",
        ),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_changed(settings, error, message):
    optimizer = named()
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(error, match=re.escape(message)):
        ours.Scheduler(optimizer, **settings)
    assert optimizer.state_dict() == before


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (
            lambda o, a: ours.SequentialLR(o, [a, a], []),
            ValueError,
            "milestones=[] has 0 for 2 schedulers: pass one less",
        ),
        (lambda o, a: ours.SequentialLR(o, [a, a], [-1]), ValueError, "milestones=-1 must be at least 0"),
        (
            lambda o, a: ours.SequentialLR(o, [a, a, a], [5, 3]),
            ValueError,
            "milestones=[5, 3] must not fall: sort them",
        ),
        (
            lambda o, a: ours.SequentialLR(o, [], []),
            ValueError,
            "schedulers=[]: pass a list of at least one scheduler",
        ),
        (
            lambda o, a: ours.SequentialLR(o, [a, 3], [5]),
            TypeError,
            "schedulers[1]=3 is a int: pass a scheduler",
        ),
        (
            lambda o, a: ours.SequentialLR(make_optimizer(surefoot), [a], []),
            ValueError,
            "schedulers[0] is of another",
        ),
        (
            lambda o, a: ours.SequentialLR(o, [a, ours.ReduceLROnPlateau(o)], [5]),
            ValueError,
            "has no curve to join",
        ),
        (lambda o, a: ours.ChainedScheduler([]), ValueError, "schedulers=[]: pass a list of at least one"),
        (
            lambda o, a: ours.ChainedScheduler([a, ours.ReduceLROnPlateau(o)]),
            ValueError,
            "has no curve to join",
        ),
        (
            lambda o, a: ours.ChainedScheduler([ours.CosineAnnealingLR(o, 5, eta_min=0.1)] * 2),
            ValueError,
            "both name their own values: their product means nothing",
        ),
        (
            lambda o, a: ours.SequentialLR(
                o, [a, ours.Scheduler(o, lr=linear(5), plateau=ours.Plateau())], [5]
            ),
            ValueError,
            "schedulers[1] has a plateau, which has no curve to join",
        ),
        (
            lambda o, a: (a.set(3), ours.ChainedScheduler([a, ours.StepLR(o, 3)])),
            ValueError,
            "are at steps [0, 3]",
        ),
        (
            lambda o, a: ours.OneCycleLR(o, "grops", 10),
            TypeError,
            'pass a number, a list of numbers or "groups"',
        ),
        (lambda o, a: a.set(-1), ValueError, "step=-1 must be at least 0"),
        (
            lambda o, a: a.observe(1.0),
            ValueError,
            "plateau=None: build the scheduler with plateau=Plateau(...)",
        ),
        (lambda o, a: a.values(0), ValueError, "steps=0 must be at least 1"),
        (lambda o, a: ours.Plateau(factor=1.5), ValueError, "factor=1.5 must be in (0, 1)"),
        (lambda o, a: ours.Plateau(mode="low"), ValueError, "mode='low' must be 'min'"),
        (lambda o, a: ours.Plateau(window=0), ValueError, "window=0 must be at least 1"),
        (lambda o, a: ours.Plateau().load_state_dict({}), ValueError, "the state has no ['best'"),
        (
            lambda o, a: ours.ReduceLROnPlateau(o, compat="fastai"),
            ValueError,
            "compat='fastai' must be None or 'torch'",
        ),
    ],
)
def test_other_mistakes_are_named(build, error, message):
    optimizer = make_optimizer(surefoot)
    with pytest.raises(error, match=re.escape(message)):
        build(optimizer, ours.ExponentialLR(optimizer, 0.9))


@LIBRARIES
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_a_copy_of_a_scheduler_that_counts_updates_goes_on(library, copied):
    scheduler = ours.Scheduler(make_optimizer(library), lr=linear(100))
    train(scheduler, 10)
    a_step(scheduler.optimizer)
    optimizer, other = copied((scheduler.optimizer, scheduler))
    assert other.optimizer is optimizer
    for each in (scheduler, other):
        each.step()
        each.step()
        assert each.last_epoch == 11
        train(each, 3)
        assert each.last_epoch == 14


@LIBRARIES
@pytest.mark.parametrize("every", [1, 10])
def test_updates_that_were_not_counted_yet_are_in_the_state(library, every):
    def go(scheduler, batches):
        for batch in batches:
            a_step(scheduler.optimizer)
            if (batch + 1) % every == 0:
                scheduler.step()
        return scheduler

    straight = go(ours.Scheduler(make_optimizer(library), lr=linear(100)), range(20))
    first = go(ours.Scheduler(make_optimizer(library), lr=linear(100)), range(15))
    a_step(first.optimizer)  # and saved before the scheduler's step
    state = json.loads(json.dumps(first.state_dict()))
    again = ours.Scheduler(make_optimizer(library), lr=linear(100))
    again.load_state_dict(state)
    if (15 + 1) % every == 0:
        again.step()
    assert go(again, range(16, 20)).last_epoch == straight.last_epoch


def test_torchs_fused_step_that_a_scaler_skipped_is_not_counted():
    weight = torch.ones(2, requires_grad=True)
    optimizer, scaler = torch.optim.AdamW([weight], fused=True), Scaler()
    scheduler = ours.Scheduler(optimizer, lr=exponential(0.5))
    for bad in (False, True, True, False):
        optimizer.zero_grad()
        scaler.scale((weight * (math.inf if bad else 1.0)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
    assert scheduler.last_epoch == 2


def test_a_scheduler_of_ones_own_in_torchs_sequence_begins_at_its_step_0():
    class Mine(torchs.LRScheduler):
        def get_lr(self):
            return [base * 0.9**self.last_epoch for base in self.base_lrs]

    optimizer = make_optimizer(surefoot)
    parts = [Mine(optimizer), ours.Scheduler(optimizer, lr=linear(10))]
    lrs = train(ours.SequentialLR(optimizer, parts, [5]), 8)
    assert [first for first, _ in lrs[5:]] == pytest.approx([0.1, 0.09, 0.08, 0.07])


def test_parts_are_asked_for_whole_steps_alone():
    optimizer, asked = make_optimizer(surefoot), []

    def factor(epoch):
        asked.append(epoch)
        return 1.0

    parts = [ours.LambdaLR(optimizer, factor), ours.LinearLR(optimizer, 1.0, 0.01, total_iters=5)]
    run(ours.SequentialLR(optimizer, parts, [3]), 8)
    assert {type(epoch) for epoch in asked} == {int}


def test_a_chain_of_sequences_of_torchs_is_loaded_where_it_was():
    def build(schedulers, optimizer):
        up, down = (
            schedulers.LinearLR(optimizer, 0.1, total_iters=3),
            schedulers.ExponentialLR(optimizer, 0.9),
        )
        return schedulers.ChainedScheduler([schedulers.SequentialLR(optimizer, [up, down], [3])])

    theirs = build(torchs, make_optimizer(torch.optim))
    run(theirs, 4)
    mine = build(ours, make_optimizer(surefoot))
    mine.load_state_dict(theirs.state_dict())
    assert mine.last_epoch == 4
    assert_equal_torchs(run(mine, 5), run(theirs, 5))


@pytest.mark.parametrize("first", ["ExponentialLR", "OneCycleLR"])
def test_the_order_in_which_parts_are_built_does_not_matter(first):
    optimizer = make_optimizer(surefoot, lrs=(0.1,))
    build = {
        "ExponentialLR": lambda: ours.ExponentialLR(optimizer, 0.9),
        "OneCycleLR": lambda: ours.OneCycleLR(optimizer, 1.0, total_steps=10),
    }
    made = {name: build[name]() for name in sorted(build, key=lambda name: name != first)}
    parts = [made["ExponentialLR"], made["OneCycleLR"]]
    assert train(ours.SequentialLR(optimizer, parts, [5]), 5)[:2] == [[0.04], [0.04 * 0.9]]
    ours.ChainedScheduler(
        [ours.ExponentialLR(optimizer, 0.9), ours.OneCycleLR(optimizer, 1.0, total_steps=10)]
    )


def test_loading_a_scheduler_whose_turn_is_over_leaves_lr_alone():
    def build():
        optimizer = make_optimizer(surefoot)
        return optimizer, ours.ExponentialLR(optimizer, 0.9), surefoot.swa_utils.SWALR(optimizer, 0.01, 4)

    optimizer, decay, swa = build()
    train(decay, 5)
    train(swa, 2)
    states = copy.deepcopy([optimizer.state_dict(), swa.state_dict(), decay.state_dict()])
    again, decay_again, swa_again = build()
    for each, state in zip((again, swa_again, decay_again), states, strict=True):
        each.load_state_dict(state)
    assert values(again) == values(optimizer)
    assert train(swa_again, 5) == train(swa, 5)


def test_schedulers_that_share_no_number_do_not_disturb_each_other():
    optimizer = named()
    both = [
        ours.Scheduler(optimizer, lr=exponential(0.5)),
        ours.Scheduler(optimizer, weight_decay=linear(5)),
        ours.Scheduler(optimizer, momentum=linear(5)),
    ]
    head = ours.Scheduler(named(), groups={"top": linear(10)})
    for _ in range(3):
        a_step(optimizer)
        head.optimizer.param_groups[0]["lr"] = 0.3 / (1 + head.last_epoch)  # which it does not drive
        a_step(head.optimizer)
        for scheduler in (*both, head):
            scheduler.step()


@pytest.mark.parametrize("T_mult", [1, 1.5, 2])
@pytest.mark.parametrize("T_0", [2.5, 3])
def test_warm_restarts_resume_between_whole_steps(T_0, T_mult):  # noqa: N803 - torch's names
    def build():
        return ours.CosineAnnealingWarmRestarts(make_optimizer(surefoot), T_0, T_mult)

    first = build()
    for epoch in (None, None, 4.7, None, 8.2, 11):
        a_step(first.optimizer)
        first.step(epoch)
        again = build()
        again.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert values(again.optimizer) == values(first.optimizer)
    first.set(0)
    assert (first.T_cur, values(first.optimizer)[0][0]) == (0, 0.1)


def test_a_curve_that_is_no_dataclass_is_equal_to_itself_alone():
    class Steady(curves.Curve):
        def __init__(self, factor):
            object.__setattr__(self, "factor", factor)

        def value(self, step, base=1.0):
            return base * self.factor

    assert Steady(1) != Steady(2)
    with pytest.raises(
        ValueError, match="Steady has settings that are not known: make it a frozen dataclass"
    ):
        Steady(1).to_json()
    scheduler = ours.Scheduler(make_optimizer(surefoot), lr=[Steady(1.0), Steady(0.5)])
    assert scheduler.get_last_lr() == [0.1, 0.005]
    with pytest.raises(TypeError, match=r"there is a curve Constant already, in surefoot\.curves\.shapes"):
        type("Constant", (curves.Curve,), {})


def test_a_saved_curve_that_cannot_be_made_here_is_only_another():
    state = ours.Scheduler(make_optimizer(surefoot), lr=linear(5)).state_dict()
    state["curves"]["lr"] = {"kind": "Function", "factor": {"function": "of another program"}}
    scheduler = ours.Scheduler(make_optimizer(surefoot), lr=linear(5))
    with pytest.warns(UserWarning, match="the saved schedule of lr was another. If the run"):
        scheduler.load_state_dict(state)


def test_another_optimizer_may_take_the_place_and_get_lr_may_be_ones_own():
    scheduler = ours.ExponentialLR(make_optimizer(surefoot), 0.5)
    old, scheduler.optimizer = scheduler.optimizer, make_optimizer(surefoot)
    run(scheduler, 1)
    assert (values(old)[0][0], values(scheduler.optimizer)[0][0]) == (0.1, 0.05)

    class Capped(ours.ExponentialLR):
        def get_lr(self):
            return [min(0.03, lr) for lr in super().get_lr()]

    assert run(Capped(make_optimizer(surefoot), 0.5), 1) == [
        [[0.03, 0.9], [0.01, 0.9]],
        [[0.03, 0.9], [0.005, 0.9]],
    ]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_an_infinite_metric_survives_the_state(mode):
    first = ours.Plateau(mode=mode, patience=0, window=3)
    for metric in (math.inf, -math.inf, 1.0):
        first.observe(metric)
    again = ours.Plateau(mode=mode, patience=0, window=3)
    again.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    for metric in (0.0, 2.0, -math.inf):
        for each in (first, again):
            each.observe(metric)
    assert again.state_dict() == first.state_dict()


def test_a_preview_is_a_picture_of_everything_and_changes_nothing():
    pytest.importorskip("matplotlib")
    optimizer = named(surefoot.AdamW)
    scheduler = ours.Scheduler(optimizer, lr=SCHEDULE, weight_decay=cosine(30))
    before = copy.deepcopy(optimizer.state_dict())
    figure = scheduler.preview(40)
    assert [ax.get_ylabel() for ax in figure.axes] == ["Learning rate", "Weight decay"]
    assert list(figure.axes[0].lines[0].get_ydata()) == SCHEDULE.values(40, 0.1)
    assert optimizer.state_dict() == before
    assert scheduler.last_epoch == 0


def test_a_scheduler_of_patterns_alone():
    optimizer = named()
    scheduler = ours.Scheduler(optimizer, groups={"top": linear(10)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert train(scheduler, 5)[-1] == [0.1, 0.005]
    assert scheduler.get_lr() == [0.1, 0.005]

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler as torchs
from trainings import everything, loader, loss, net

import surefoot as optim
from surefoot import Run, curves, lr_scheduler
from surefoot.lr_finder.find import plan_of
from surefoot.lr_finder.planned import DEFAULT_STEPS, SAMPLES, Planned

BOTH = pytest.mark.parametrize("kind", [lr_scheduler, torchs], ids=["ours", "torch's"])
Build = Callable[[Any], torch.optim.Optimizer]


def optimizer_of(kind: Any = optim.SGD, lrs: tuple[Any, ...] = (0.1, 0.4), **settings: Any) -> Any:
    groups = [{"params": [torch.zeros(2, requires_grad=True)], "lr": lr} for lr in lrs]
    return kind(groups, **settings)


def rates(planned: Planned, steps: int, group: int = 0) -> list[float]:
    return [row[group]["lr"] for row in planned.miniature(steps)]


# Every kind of schedule


def test_without_one_rates_stay() -> None:
    planned = Planned(optimizer_of())
    assert (planned.total_steps, planned.reference, planned.peak) == (DEFAULT_STEPS, 0, 0.1)
    assert planned.ratios == [1.0, 4.0]
    assert planned.constant == [{"lr": 1.0}, {"lr": 4.0}]
    assert planned.miniature(3) == [[{"lr": 1.0}, {"lr": 4.0}]] * 3
    assert planned.octaves == 0
    assert Planned(optimizer_of(), None, 30).total_steps == 30


def sequence(kind: Any) -> Any:
    def build(optimizer: Any) -> Any:
        parts = [kind.LinearLR(optimizer, 0.1, total_iters=20), kind.CosineAnnealingLR(optimizer, 80)]
        return kind.SequentialLR(optimizer, parts, [20])

    return build


FALLS: dict[str, Any] = {
    "curve": curves.cosine(100),
    "text": "cosine(100)",
    "a function that builds ours": partial(lr_scheduler.CosineAnnealingLR, T_max=100),
    "a function that builds torch's": partial(torchs.CosineAnnealingLR, T_max=100),
    "a function that builds a Scheduler": lambda optimizer: lr_scheduler.Scheduler(
        optimizer, curves.cosine(100)
    ),
}


@pytest.mark.parametrize("name", FALLS)
def test_a_miniature_takes_the_course_of_the_whole(name: str) -> None:
    planned = Planned(optimizer_of(), FALLS[name])
    assert planned.total_steps == 100
    assert (planned.peak, planned.ratios) == (0.1, pytest.approx([1.0, 4.0]))
    small = rates(planned, 5)
    expected = [(1 + math.cos(math.pi * round(i * 99 / 4) / 100)) / 2 for i in range(5)]
    assert small == pytest.approx(expected, abs=1e-9)
    assert rates(planned, 5, group=1) == pytest.approx([4 * rate for rate in expected], abs=1e-9)
    assert rates(planned, 1) == [1.0]
    assert planned.octaves == pytest.approx(1, abs=0.02)  # the mean rate is half of the highest


@BOTH
def test_a_sequence_of_schedules(kind: Any) -> None:
    planned = Planned(optimizer_of(), sequence(kind), 100)
    small = rates(planned, 11)
    assert small[0] == pytest.approx(0.1)
    assert max(small) == pytest.approx(1.0, abs=0.01)
    assert small.index(max(small)) == 2
    assert small[-1] < 0.01


def test_the_highest_rate_of_a_schedule_is_the_peak_also_where_it_is_not_the_groups() -> None:
    planned = Planned(optimizer_of(), partial(lr_scheduler.OneCycleLR, max_lr=[1.0, 2.0], total_steps=200))
    assert planned.peak == pytest.approx(1.0)
    assert planned.ratios == pytest.approx([1.0, 2.0])
    assert planned.total_steps == 200


def test_a_long_schedule_is_looked_at_in_places() -> None:
    called: list[float] = []

    def factor(step: float) -> float:
        called.append(step)
        return 1 - step / 1e6

    planned = Planned(optimizer_of(lrs=(0.1,)), curves.function(factor), 1_000_000)
    assert len(called) == SAMPLES
    assert rates(planned, 2) == pytest.approx([1.0, 1e-6])


def test_of_a_plateau_nobody_knows_when_it_cuts() -> None:
    optimizer = optimizer_of()
    for kind in (lr_scheduler, torchs):
        planned = Planned(optimizer, kind.ReduceLROnPlateau(optimizer))
        assert planned.miniature(2) == [planned.constant] * 2


def test_a_miniature_has_what_else_a_schedule_drives() -> None:
    cycle = partial(lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=100, pct_start=0.3)
    momenta = [
        row[0]["momentum"] for row in Planned(optimizer_of(lrs=(0.1,), momentum=0.9), cycle).miniature(11)
    ]
    assert momenta[0] == pytest.approx(0.95)
    assert min(momenta) == pytest.approx(0.85, abs=0.01)
    assert momenta.index(min(momenta)) == 3
    betas = [row[0]["momentum"] for row in Planned(optimizer_of(optim.Adam, (0.1,)), cycle).miniature(11)]
    assert betas == momenta


# From the best constant rate to that of the schedule

ONE_CYCLE = [
    (optim.Adam, {}, 0.99),
    (torch.optim.AdamW, {}, 0.99),
    (optim.SGD, {"momentum": 0.9}, 1.22),
    (optim.SGD, {}, -2.10),
    (optim.RMSprop, {}, -2.10),
]


@BOTH
@pytest.mark.parametrize(("optimizer", "settings", "octaves"), ONE_CYCLE)
def test_one_cycle(kind: Any, optimizer: Any, settings: Any, octaves: float) -> None:
    """It drives plain SGD at a momentum of 0.9, which takes a tenth of the rate."""
    cycle = partial(kind.OneCycleLR, max_lr=0.1, total_steps=300)
    planned = Planned(optimizer_of(optimizer, (0.1,), **settings), cycle)
    assert planned.octaves == pytest.approx(octaves, abs=0.01)


@given(st.floats(0.05, 1.0), st.integers(20, 400))
def test_a_schedule_that_falls_wants_as_much_more_as_its_mean_is_less(to: float, steps: int) -> None:
    planned = Planned(optimizer_of(), curves.linear(steps, to=to), steps)
    row = [curves.linear(steps, to=to).value(i, 1.0) for i in range(steps)]
    assert planned.octaves == pytest.approx(-math.log2(sum(row) / steps), abs=1e-6)


def test_groups_in_another_ratio() -> None:
    planned = Planned(optimizer_of(), "cosine(100)").scaled([2.0, 1.0], 1)
    assert (planned.reference, planned.peak) == (1, pytest.approx(0.4))
    assert planned.ratios == pytest.approx([0.5, 1.0])
    assert planned.miniature(3)[0] == [{"lr": pytest.approx(0.5)}, {"lr": pytest.approx(1.0)}]


# Groups


def test_the_first_group_that_has_a_rate_is_the_one_it_is_sought_for() -> None:
    planned = Planned(optimizer_of(lrs=(0.0, torch.tensor(0.5, dtype=torch.float64), 0.1)))
    assert (planned.reference, planned.peak) == (1, 0.5)
    assert planned.ratios == pytest.approx([0.0, 1.0, 0.2])


# Leaving no trace

ATTACHED: dict[str, Callable[[Any, Any], Any]] = {
    "CosineAnnealingLR": lambda kind, optimizer: kind.CosineAnnealingLR(optimizer, 50),
    "OneCycleLR": lambda kind, optimizer: kind.OneCycleLR(optimizer, 0.5, total_steps=50),
    "SequentialLR": lambda kind, optimizer: sequence(kind)(optimizer),
    "ReduceLROnPlateau": lambda kind, optimizer: kind.ReduceLROnPlateau(optimizer),
    "CyclicLR": lambda kind, optimizer: kind.CyclicLR(optimizer, 0.01, 0.1, cycle_momentum=False),
}


@BOTH
@pytest.mark.parametrize("name", ATTACHED)
def test_an_attached_scheduler_is_asked_and_left_as_it_was(name: str, kind: Any) -> None:
    def build() -> Run:
        model = net()
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        return Run(model, optimizer, loader(), loss, ATTACHED[name](kind, optimizer))

    def course(run: Run) -> list[Any]:
        seen = []
        for _ in range(12):
            run.optimizer.step()
            run.scheduler.step(*[1.0] * (name == "ReduceLROnPlateau"))
            seen.append([(group["lr"], group["momentum"]) for group in run.optimizer.param_groups])
        return seen

    asked, expected = build(), build()
    for run in (asked, expected):
        run.optimizer.step()
        run.scheduler.step(*[1.0] * (name == "ReduceLROnPlateau"))
    before = everything(asked.model, asked.optimizer), asked.scheduler.state_dict()
    plan_of(asked, asked.scheduler, None)
    assert (everything(asked.model, asked.optimizer), asked.scheduler.state_dict()) == before
    assert course(asked) == course(expected)


@BOTH
def test_a_function_builds_a_scheduler_of_a_stand_in(kind: Any) -> None:
    optimizer = optimizer_of(momentum=0.9, lrs=(torch.tensor(0.1), 0.2))
    before = [dict(group) for group in optimizer.param_groups], vars(optimizer).keys()
    built: list[Any] = []

    def build(given: torch.optim.Optimizer) -> Any:
        built.append(kind.OneCycleLR(given, [0.1, 0.2], total_steps=30))
        return built[0]

    Planned(optimizer, build)
    assert ([dict(group) for group in optimizer.param_groups], vars(optimizer).keys()) == before
    assert built[0].optimizer is not optimizer
    assert optimizer.param_groups[0]["lr"].item() == pytest.approx(0.1)


def test_under_an_attached_scheduler_the_base_is_what_counts() -> None:
    """A curve of a run that has warmed up starts from the group's own rate, not from where it is now."""
    optimizer = optimizer_of()
    lr_scheduler.ConstantLR(optimizer, 0.01)
    assert Planned(optimizer, "cosine(100)").peak == pytest.approx(0.1)


@BOTH
@pytest.mark.parametrize("name", [name for name in ATTACHED if name != "ReduceLROnPlateau"])
def test_a_scheduler_in_the_middle_is_planned_from_its_start(name: str, kind: Any) -> None:
    model = net()
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    run = Run(model, optimizer, loader(), loss, ATTACHED[name](kind, optimizer))
    fresh = plan_of(run, run.scheduler, 50)
    for _ in range(33):
        optimizer.step()
        run.scheduler.step()
    later = plan_of(run, run.scheduler, 50)
    assert rates(later, 50) == pytest.approx(rates(fresh, 50), rel=1e-9)
    assert later.peak == pytest.approx(fresh.peak)


def test_a_chain_is_planned_from_its_start_too() -> None:
    optimizer = optimizer_of()
    parts = [torchs.ConstantLR(optimizer, 0.1, total_iters=4), torchs.ExponentialLR(optimizer, 0.9)]
    chain = torchs.ChainedScheduler(parts, optimizer)
    for _ in range(6):
        optimizer.step()
        chain.step()
    small = rates(Planned(optimizer, chain, 10), 10)
    expected = [0.9**step * (0.1 if step < 4 else 1.0) for step in range(10)]
    assert [rate / max(expected) for rate in expected] == pytest.approx(small)


# Bad input

BAD: list[tuple[Any, Any, Any, str]] = [
    (3, None, TypeError, "schedule=3 is a int: pass a curve, a scheduler of the optimizer, or a function"),
    (lambda optimizer: None, None, TypeError, "schedule returned a NoneType"),
    ("cosine(", None, ValueError, "cosine"),
    ("nonsense(3)", None, ValueError, "nonsense"),
    (None, 0, ValueError, "total_steps=0 must be at least 1"),
    (None, 2.5, TypeError, "total_steps=2.5"),
    (lr_scheduler.StepLR(optimizer_of(), 3), None, ValueError, "StepLR of another optimizer"),
    (curves.constant(factor=0.0), None, ValueError, r"highest learning rates of the groups are \[0.0, 0.0\]"),
]


@pytest.mark.parametrize(("schedule", "total", "error", "message"), BAD)
def test_bad_schedules_are_errors_that_name_them(schedule: Any, total: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        Planned(optimizer_of(), schedule, total)


@pytest.mark.parametrize("lrs", [(0.0, 0.0), (math.nan, 0.1), (math.inf, 0.1)])
def test_groups_without_a_rate_are_an_error(lrs: Any) -> None:
    optimizer = optimizer_of()
    for group, lr in zip(optimizer.param_groups, lrs, strict=True):
        group["lr"] = lr
    with pytest.raises(ValueError, match="at least one must be above 0, and all finite"):
        Planned(optimizer)

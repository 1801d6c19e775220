"""The table of schedules: every setting that changes a value, for torch's class and for ours of that name."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as torchs

import surefoot
from surefoot import lr_scheduler as ours

STEPS = 300

# What the whole table says in passing; tests of their own say when.
IN_PASSING = [
    pytest.mark.filterwarnings("ignore:step .* is past the end of the schedule"),
    pytest.mark.filterwarnings("ignore:max_lr=.* is the peak of all groups"),
]

# Where a scheduler is that is not with the others.
HOMES = {(ours, "SWALR"): surefoot.swa_utils, (torchs, "SWALR"): torch.optim.swa_utils}

_noise = random.Random(0)
# What plateaus watch: a noisy fall that levels off around 0, so that it has negative values, and some NaN.
METRICS = [math.nan if n % 97 == 13 else math.exp(-n / 40) + 0.02 * _noise.gauss(0, 1) for n in range(501)]


def warmup(step: float) -> float:
    return min(1.0, (step + 1) / 20)


def inverse_root(step: float) -> float:
    return 1 / math.sqrt(1 + step)


def to_zero(step: float) -> float:
    return max(0.0, 1 - step / 100)


@dataclass
class Power:
    """A function that is an object, as users write them to have settings."""

    base: float

    def __call__(self, step: float) -> float:
        return self.base**step


def label(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(label, value))}]"
    return getattr(value, "__name__", str(value))


@dataclass(frozen=True, eq=False)
class Schedule:
    """One row of the table.

    ``steps`` is how far torch goes. ``ulps`` is how far torch itself may be from the exact value, in
    units of the last place of the largest value of the run; 0 asks for the relative tolerance alone.
    """

    name: str
    settings: dict[str, Any]
    optimizer: str = "SGD"
    steps: int = STEPS
    ulps: int = 0

    def __str__(self) -> str:
        settings = (f"{key}={label(value)}" for key, value in self.settings.items())
        return f"{self.name}({', '.join(settings)})@{self.optimizer}"

    def build(self, schedulers: ModuleType, optimizer: torch.optim.Optimizer, **settings: Any) -> Any:
        if schedulers is ours and self.name == "ReduceLROnPlateau":
            settings["compat"] = "torch"  # the metrics become negative
        return getattr(HOMES.get((schedulers, self.name), schedulers), self.name)(
            optimizer, **self.settings, **settings
        )


def rows() -> Iterator[Schedule]:
    for factor in (warmup, to_zero, Power(0.97), [warmup, inverse_root], [Power(0.9), Power(-0.99)]):
        yield Schedule("LambdaLR", {"lr_lambda": factor})
    yield Schedule("LambdaLR", {"lr_lambda": warmup}, "AdamW")

    for settings in (
        {"step_size": 30},
        {"step_size": 7, "gamma": 0.5},
        {"step_size": 1, "gamma": 0.99},
        {"step_size": 400},
        {"step_size": 50, "gamma": 1.5},
        {"step_size": 3, "gamma": -0.9},
        {"step_size": 10, "gamma": 0.0},
        {"step_size": 10.0, "gamma": 0.5},
    ):
        yield Schedule("StepLR", settings)

    for gamma in (0.95, 1.0, 1.01, 0.0, -0.97):
        yield Schedule("ExponentialLR", {"gamma": gamma})

    # Beyond T_max it is a wave; eta_min may lie above the lr of a group.
    for settings in (
        {"T_max": 300},
        {"T_max": 50, "eta_min": 1e-3},
        {"T_max": 7},
        {"T_max": 1},
        {"T_max": 2, "eta_min": 0.05},
        {"T_max": 1000, "eta_min": 0.01},
        {"T_max": 12.5, "eta_min": 1e-4},
    ):
        yield Schedule("CosineAnnealingLR", settings)
    yield Schedule("CosineAnnealingLR", {"T_max": 300, "eta_min": 1e-6}, "AdamW")

    for factor in (warmup, to_zero, Power(0.97), [warmup, Power(0.99)]):
        yield Schedule("MultiplicativeLR", {"lr_lambda": factor})

    for settings in (
        {"milestones": [5, 50, 51, 200], "gamma": 0.5},
        {"milestones": [1, 7, 7], "gamma": 0.5},
        {"milestones": [], "gamma": 0.5},
        {"milestones": [3, 299], "gamma": -0.1},
    ):
        yield Schedule("MultiStepLR", settings)

    for settings in (
        {},
        {"factor": 0.3, "total_iters": 20},
        {"factor": 1.0},
        {"factor": 0.5, "total_iters": 300},
    ):
        yield Schedule("ConstantLR", settings)

    for settings in (
        {},
        {"start_factor": 0.1, "total_iters": 30},
        {"start_factor": 1.0, "end_factor": 0.01, "total_iters": 300},
        {"start_factor": 0.7, "end_factor": 0.3, "total_iters": 1},
    ):
        yield Schedule("LinearLR", settings)

    for settings in (
        {},
        {"total_iters": 100, "power": 2.0},
        {"total_iters": 301, "power": 0.5},
        {"total_iters": 1},
    ):
        yield Schedule("PolynomialLR", settings)

    for settings in (
        {"T_0": 10},
        {"T_0": 10, "T_mult": 2, "eta_min": 1e-4},
        {"T_0": 1, "T_mult": 3},
        {"T_0": 1},
        {"T_0": 7, "T_mult": 1, "eta_min": 0.05},
        {"T_0": 400, "eta_min": 1e-3},
    ):
        yield Schedule("CosineAnnealingWarmRestarts", settings)

    for settings in (
        {"swa_lr": 0.05},
        {"swa_lr": [0.05, 0.5], "anneal_epochs": 40, "anneal_strategy": "linear"},
        {"swa_lr": 0.0, "anneal_epochs": 7},
        {"swa_lr": 1e-4, "anneal_epochs": 300},
        {"swa_lr": 1e-4, "anneal_epochs": 300, "anneal_strategy": "linear"},
        {"swa_lr": 0.05, "anneal_epochs": 1},
        {"swa_lr": 0.05, "anneal_epochs": 0},
        {"swa_lr": [0.05, 0.0], "anneal_epochs": 1000},
    ):
        yield Schedule("SWALR", settings)
    yield Schedule("SWALR", {"swa_lr": 0.05, "anneal_epochs": 20}, "AdamW")

    for optimizer in ("SGD", "AdamW"):
        for settings in (
            {"max_lr": 0.5},
            {"max_lr": [0.5, 0.02], "base_momentum": [0.8, 0.7], "max_momentum": [0.9, 0.99]},
            {"max_lr": 0.5, "cycle_momentum": False},
            {"max_lr": [0.5, 0.02], "three_phase": True},
            {"max_lr": 0.5, "anneal_strategy": "linear"},
            {"max_lr": [0.5, 0.02], "anneal_strategy": "linear", "three_phase": True},
        ):
            yield one_cycle(total_steps=STEPS, optimizer=optimizer, **settings)
    for settings in (
        {"pct_start": 0.0},
        {"pct_start": 1.0},
        {"pct_start": 0.123},
        {"pct_start": 0.0, "three_phase": True},
        {"pct_start": 0.5, "three_phase": True},
        {"pct_start": 0.8, "three_phase": True},
        {"div_factor": 1.0, "final_div_factor": 1e8},
        {"div_factor": 3.0, "final_div_factor": 0.5, "anneal_strategy": "linear"},
    ):
        yield one_cycle(total_steps=STEPS, max_lr=0.5, **settings)
    for total_steps in (1, 2, 3, 7, 100):  # the first three have no step before the peak
        yield one_cycle(total_steps=total_steps, max_lr=0.5)
    yield Schedule("OneCycleLR", {"max_lr": 0.5, "epochs": 6, "steps_per_epoch": 25}, steps=149)

    for optimizer in ("SGD", "AdamW"):
        for settings in (
            {},
            {"mode": "triangular2"},
            {"mode": "exp_range", "gamma": 0.98},
            {"step_size_down": 5, "base_momentum": [0.8, 0.7], "max_momentum": [0.9, 0.99]},
            {"cycle_momentum": False},
        ):
            yield cyclic(optimizer=optimizer, step_size_up=20, **settings)
    for settings in (
        {"step_size_up": 7.3, "step_size_down": 12.1},
        {"step_size_up": 7, "step_size_down": 0},
        {"step_size_up": 1},
        {"step_size_up": 2000},
        {"step_size_up": 20, "scale_fn": inverse_root, "scale_mode": "cycle"},
        {"step_size_up": 20, "scale_fn": inverse_root, "scale_mode": "iterations"},
        {"step_size_up": 20, "scale_fn": Power(0.9), "mode": "ignored"},
    ):
        yield cyclic(**settings)
    yield Schedule("CyclicLR", {"base_lr": 0.0, "max_lr": 0.1, "step_size_up": 9})
    yield Schedule("CyclicLR", {"base_lr": 0.3, "max_lr": [0.1, 0.6], "step_size_up": 9})

    for mode in ("min", "max"):
        for threshold_mode, threshold in (("rel", 1e-4), ("rel", 0.2), ("abs", 0.01), ("abs", 0.0)):
            settings = {"mode": mode, "threshold_mode": threshold_mode, "threshold": threshold}
            yield Schedule("ReduceLROnPlateau", {"factor": 0.8, "patience": 3, **settings})
    for settings in (
        {},
        {"patience": 0, "factor": 0.5},
        {"patience": 4, "cooldown": 6},
        {"patience": 1, "min_lr": 1e-3},
        {"patience": 1, "factor": 0.7, "min_lr": [1e-2, 1e-5]},
        {"patience": 1, "factor": 0.7, "eps": 1e-3},
    ):
        yield Schedule("ReduceLROnPlateau", settings, "AdamW")


def one_cycle(optimizer: str = "SGD", **settings: Any) -> Schedule:
    # torch's line is start + (end - start) * share: the rounding of start stays where end is 1e6 times less.
    ulps = 2 if settings.get("anneal_strategy") == "linear" else 0
    return Schedule("OneCycleLR", settings, optimizer, steps=settings["total_steps"] - 1, ulps=ulps)


def cyclic(optimizer: str = "SGD", **settings: Any) -> Schedule:
    return Schedule("CyclicLR", {"base_lr": [1e-3, 1e-2], "max_lr": 0.1, **settings}, optimizer)


SCHEDULES = list(rows())
CURVED = [schedule for schedule in SCHEDULES if schedule.name != "ReduceLROnPlateau"]
# SWALR goes on from the lr that its first step finds; these start from the one the optimizer was built with.
FROM_START = [schedule for schedule in CURVED if schedule.name != "SWALR"]

# Schedulers for torch's SequentialLR and the steps at which the next one takes over.
SEQUENCES = [
    (
        [
            Schedule("LinearLR", {"start_factor": 0.1, "total_iters": 10}),
            Schedule("CosineAnnealingLR", {"T_max": 90, "eta_min": 1e-4}),
        ],
        [10],
    ),
    (
        [
            Schedule("LambdaLR", {"lr_lambda": warmup}),
            Schedule("StepLR", {"step_size": 8, "gamma": 0.5}),
            Schedule("ExponentialLR", {"gamma": 0.9}),
        ],
        [20, 50],
    ),
    ([Schedule("ExponentialLR", {"gamma": 0.9}), Schedule("ConstantLR", {"factor": 0.5})], [30]),
]


def make_optimizer(library: ModuleType, name: str = "SGD", lrs: Any = (0.1, 0.01)) -> Any:
    """``library``'s optimizer with one small group for each lr, and momentum or betas."""
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": lr} for lr in lrs]
    return getattr(library, name)(groups, **({"momentum": 0.9} if name == "SGD" else {}))


def make(schedule: Schedule, schedulers: ModuleType = ours, library: ModuleType = surefoot) -> Any:
    return schedule.build(schedulers, make_optimizer(library, schedule.optimizer))


def values(optimizer: torch.optim.Optimizer) -> list[list[float]]:
    """Everything a schedule may set: lr, and momentum or the betas, of each group."""
    return [
        [float(group["lr"]), *(group["betas"] if "betas" in group else [group["momentum"]])]
        for group in optimizer.param_groups
    ]


def run(scheduler: Any, steps: int) -> list[list[list[float]]]:
    """The values now and after each of ``steps`` steps."""
    trajectory = [values(scheduler.optimizer)]
    scheduler.optimizer.step()  # once is enough for no scheduler to warn, and more would change no value
    for _ in range(steps):
        if isinstance(scheduler, torchs.ReduceLROnPlateau):
            scheduler.step(METRICS[scheduler.last_epoch])
        else:
            scheduler.step()
        trajectory.append(values(scheduler.optimizer))
    return trajectory


@cache
def whole_run(schedule: Schedule, schedulers: ModuleType, library: ModuleType) -> list[list[list[float]]]:
    return run(make(schedule, schedulers, library), schedule.steps)


def assert_equal_torchs(actual: Any, expected: Any, ulps: int = 0) -> None:
    """Equal within 1e-12 relative, plus what torch's own rounding may add (see :class:`Schedule`)."""
    actual, expected = (torch.tensor(run, dtype=torch.float64) for run in (actual, expected))
    assert actual.shape == expected.shape
    slack = ulps * torch.finfo(torch.float64).eps * expected.abs().amax(0)
    wrong = (actual - expected).abs() > 1e-12 * expected.abs() + slack
    first = wrong.nonzero()[:1].tolist()
    assert not first, (
        f"at [step, group, value] {first[0]}: {actual[*first[0]]!r}, torch {expected[*first[0]]!r}"
    )

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot.lr_finder.reading import DRIFT, FAR, SIGNAL, Noise, fit, horizon, read_sweep, read_trials

OCTAVES = [-12 + i / 6 for i in range(73)]
QUIET = Noise(2.0, 0.02)


def valley(lowest: float, depth: float = 1.0, octaves: list[float] = OCTAVES) -> list[float]:
    """A change that falls over three octaves to the lowest rate, and rises beyond."""
    fall = (-depth * min(max((x - lowest) / 3 + 1, 0), 1) for x in octaves)
    return [change + depth * max(x - lowest, 0) ** 2 for change, x in zip(fall, octaves, strict=True)]


losses = st.lists(st.floats(-3, 3), min_size=3, max_size=40)


def axis(count: int) -> list[float]:
    return [-9 + i / 5 for i in range(count)]


# Noise


def test_noise_is_mean_and_spread_of_batches() -> None:
    assert Noise.of([1.0, 2.0, 3.0]) == Noise(2.0, 1.0)


@pytest.mark.parametrize(("losses", "spread"), [([5.0], 0.005), ([-5.0, -5.0], 0.005), ([0.0], 1e-12)])
def test_batches_that_are_alike_have_some_spread(losses: list[float], spread: float) -> None:
    assert Noise.of(losses).spread == spread
    assert Noise.along(losses).spread == spread


@given(st.floats(0.5, 2), st.floats(-5, 5), st.integers(0, 5))
def test_along_a_sweep_the_spread_is_that_between_neighbours(spread: float, level: float, seed: int) -> None:
    """Whatever the course is: the fall is no noise."""
    draw = np.random.default_rng(seed).normal(0, spread, 400)
    flat = Noise.along((level + draw).tolist())
    falling = Noise.along((level + draw - np.linspace(0, 20, 400)).tolist())
    assert flat.spread == pytest.approx(spread, rel=0.3)
    assert falling.spread == pytest.approx(spread, rel=0.3)
    assert flat.level == pytest.approx(level, abs=2 * spread)


def test_what_ended_a_sweep_is_not_in_its_noise() -> None:
    assert Noise.along([1.0, 2.0, 1.0, 2.0, math.inf]) == Noise.along([1.0, 2.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("loss", "risen", "diverged"), [(2.0, 0, 0), (2.3, 1, 0), (13.0, 1, 1), (math.nan, 1, 1)]
)
def test_what_has_risen_and_what_diverged(loss: float, risen: bool, diverged: bool) -> None:
    assert (QUIET.risen(loss), QUIET.diverged(loss)) == (risen, diverged)
    moved = Noise(-2.0, 0.02)  # a negative loss diverges upwards, too
    assert (moved.risen(loss - 4), moved.diverged(loss - 4)) == (risen, diverged)


# The horizon


@given(st.floats(1, 1e3), st.floats(1, 1e6))
def test_longer_training_wants_less_and_never_more(steps: float, total: float) -> None:
    assert -FAR <= horizon(steps, total) <= 0
    assert horizon(steps, 2 * total) <= horizon(steps, total)
    assert horizon(total, total) == 0


# The course of a sweep


@given(losses)
def test_a_fit_lies_between_the_lowest_and_the_highest(changes: list[float]) -> None:
    fitted = fit(axis(len(changes)), changes, QUIET)
    assert len(fitted) == len(changes)
    assert min(changes) - 1e-9 <= min(fitted) <= max(fitted) <= max(changes) + 1e-9


@given(st.floats(-2, 2), st.floats(-1, 1))
def test_a_line_stays_one(level: float, slope: float) -> None:
    line = [level + slope * x for x in OCTAVES]
    fitted = fit(OCTAVES, line, Noise(10.0, 1.0))
    assert fitted[12:-12] == pytest.approx(line[12:-12], abs=1e-9)


@pytest.mark.parametrize("bad", [math.inf, math.nan, 1e30])
def test_what_is_not_finite_counts_as_high(bad: float) -> None:
    assert fit([0, 10], [0.0, bad], QUIET)[1] == pytest.approx(2 * 2 + 5 * 0.02)


# A sweep


@given(st.floats(-7, -3), st.floats(-20, 20))
def test_if_all_rates_are_moved_so_is_the_answer(lowest: float, moved: float) -> None:
    here = read_sweep(OCTAVES, valley(lowest), QUIET, 512)
    there = read_sweep([x + moved for x in OCTAVES], valley(lowest), QUIET, 512)
    for name in ("best", "lowest", "edge"):
        assert getattr(there, name) == pytest.approx(getattr(here, name) + moved, abs=1e-6)
    assert (there.at_start, there.at_end) == (here.at_start, here.at_end)


@given(st.lists(st.integers(-30, 30), min_size=3, max_size=40), st.integers(-8, 8), st.integers(2, 2000))
def test_the_unit_of_the_loss_is_no_matter(changes: list[int], power: int, total: int) -> None:
    unit, octaves = 2.0**power, axis(len(changes))
    here = read_sweep(octaves, [c / 8 for c in changes], QUIET, total)
    there = read_sweep(octaves, [c / 8 * unit for c in changes], Noise(2.0 * unit, 0.02 * unit), total)
    assert there == here


@given(st.lists(st.integers(-30, 30), min_size=3, max_size=40), st.sampled_from([-64.0, -8.0, 4.0, 128.0]))
def test_a_constant_added_to_all_losses_is_no_matter(changes: list[int], constant: float) -> None:
    """Changes from the start are what is read: the level only says where diverging begins."""
    octaves = axis(len(changes))
    here = read_sweep(octaves, [c / 32 for c in changes], Noise(2.0, 0.25), 300)
    there = read_sweep(octaves, [c / 32 for c in changes], Noise(2.0 + constant, 0.25), 300)
    assert there == here


@pytest.mark.parametrize("lowest", [-8.0, -5.0, -2.0])
def test_a_known_valley(lowest: float) -> None:
    read = read_sweep(OCTAVES, valley(lowest), QUIET, 16)  # about what the sweep is worth
    assert read.lowest == pytest.approx(lowest, abs=0.4)
    assert lowest - 1.2 < read.best < lowest
    assert lowest < read.edge < lowest + 2
    assert 30 < read.signal < 50
    assert (read.doubt, read.weak, read.at_start, read.at_end) == ("", False, False, False)
    longer = read_sweep(OCTAVES, valley(lowest), QUIET, 16 * 8)
    assert longer.best == pytest.approx(read.best - 3 * DRIFT, abs=0.05)


DOUBTS: dict[str, tuple[list[float], str]] = {
    "nothing falls": ([0.0] * 73, "did not fall"),
    "less than the noise": (valley(-5.0, SIGNAL * 0.01), "did not fall"),
    "it still falls": (valley(2.0), "still fell at the highest"),
    "it fell before": (valley(-12.0), "lowest at the lowest"),
    "all diverge": ([math.inf] * 73, "did not fall"),
}


@pytest.mark.parametrize("name", DOUBTS)
def test_doubts_are_said_and_what_is_safe_is_safe(name: str) -> None:
    changes, doubt = DOUBTS[name]
    read = read_sweep(OCTAVES, changes, QUIET, 512)
    assert doubt in read.doubt
    assert math.isfinite(read.safest)
    assert read.safest <= read.edge - 1


# Trials


@given(st.floats(-8, 8), st.floats(-5, 5), st.integers(-6, 6))
def test_trials_know_no_unit_either(moved: float, level: float, power: int) -> None:
    scores = {-3.0: 1.9, -2.0: 1.5, -1.0: 1.0, 0.0: 1.1, 1.0: math.inf}
    here = read_trials(scores, 2.0, QUIET, 32, 512)
    unit = 2.0**power
    other = {x + moved: unit * (y + level) for x, y in scores.items()}
    there = read_trials(other, unit * (2.0 + level), Noise(9.0, 0.02 * unit), 32, 512)
    assert there.best == pytest.approx(here.best + moved, abs=1e-6)
    assert there.plateau == pytest.approx([x + moved for x in here.plateau], abs=1e-6)
    assert there.signal == pytest.approx(here.signal)


def test_the_middle_of_all_that_are_as_good() -> None:
    scores = {-3.0: 1.5, -2.0: 1.05, -1.0: 1.0, 0.0: 1.02, 1.0: 1.6, 2.0: math.inf}
    read = read_trials(scores, 2.0, QUIET, 512, 512)
    low, high = read.plateau
    assert -2 < low < -1
    assert -1 < high < 0.5
    assert read.best == (low + high) / 2
    assert read.signal == pytest.approx(50)
    assert read.safe == 1.0
    assert (read.weak, read.at_start, read.at_end) == (False, False, False)


def test_a_rate_beside_a_bad_one_is_worse_than_it_looks() -> None:
    alike = {-2.0: 1.6, -1.0: 1.0, 0.0: 1.0, 1.0: 1.6}
    assert read_trials(alike, 2.0, QUIET, 8, 8).best == pytest.approx(-0.5)
    lower = read_trials({**alike, 1.0: math.inf}, 2.0, QUIET, 8, 8)
    assert lower.best < -0.5
    # How bad a bad one is is no matter.
    assert lower == read_trials({**alike, 1.0: 1e9}, 2.0, QUIET, 8, 8)


EDGES: list[tuple[dict[float, float], Any]] = [
    ({0.0: 1.0, 1.0: 1.5}, (True, False)),
    ({0.0: 1.5, 1.0: 1.0}, (False, True)),
    ({0.0: 1.0, 1.0: 1.0}, (True, True)),
    ({0.0: 1.0}, (True, True)),
    ({0.0: math.inf, 1.0: math.inf}, (True, True)),
    ({0.0: 3.0, 1.0: math.inf}, (True, True)),
]


@pytest.mark.parametrize(("scores", "edges"), EDGES)
def test_the_best_may_be_at_an_edge(scores: dict[float, float], edges: Any) -> None:
    read = read_trials(scores, 2.0, QUIET, 32, 512)
    assert (read.at_start, read.at_end) == edges
    assert read.weak == (min(scores.values()) > 2)
    assert all(map(math.isfinite, (read.best, *read.plateau, read.safe, read.signal)))

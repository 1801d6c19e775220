"""Shapes against values worked out by hand, and what must hold for every one."""

from __future__ import annotations

import dataclasses
import math
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot.curves import (
    Anneal,
    Constant,
    CosineWave,
    Cumulative,
    Curve,
    Exponential,
    Function,
    InverseSqrt,
    MultiStep,
    OneCycle,
    Ramp,
    Restarts,
    Step,
    Table,
    Triangular,
    parse,
)

EPS = 2.0**-52


def halve_each(step):
    return 0.5**step


def half_from_two(step):
    return 0.5 if step > 1 else 1.0


# Each curve at its start, joins, peaks, end and beyond: a curve, its base, and {step: value}.
POINTS = [
    (Step(step_size=10, gamma=0.5), 8.0, {0: 8, 9: 8, 9.5: 8, 10: 4, 19: 4, 20: 2, 1000: 8 * 0.5**100}),
    (Step(step_size=1, gamma=-1.0), 1.0, {0: 1, 1: -1, 2: 1}),
    (Step(step_size=3, gamma=0.0), 1.0, {0: 1, 2: 1, 3: 0, 4: 0}),
    (Exponential(gamma=0.5), 8.0, {0: 8, 1: 4, 3: 1, 2.5: math.sqrt(2), 10: 8 / 1024}),
    (Exponential(gamma=0.0), 8.0, {0: 8, 1: 0, 2: 0}),
    (Function(halve_each), 8.0, {0: 8, 1: 4, 3: 1}),
    (CosineWave(T_max=8), 1.0, {0: 1, 4: 0.5, 8: 0, 12: 0.5, 16: 1, 24: 0}),
    (
        CosineWave(T_max=6, eta_min=1.0),
        9.0,
        {0: 9, 2: 7, 3: 5, 4: 3, 6: 1, 7: 1 + 4 - 2 * math.sqrt(3), 12: 9},
    ),
    (CosineWave(T_max=1, eta_min=3.0), 1.0, {0: 1, 1: 3, 2: 1}),
    (Anneal(steps=6, to=1.0), 9.0, {0: 9, 2: 7, 3: 5, 4: 3, 6: 1, 7: 1, 1000: 1}),
    (Anneal(steps=4, to=3.0, anneal_strategy="linear"), 1.0, {0: 1, 1: 1.5, 2: 2, 4: 3, 5: 3}),
    (Anneal(steps=0, to=3.0), 1.0, {0: 3, 1: 3}),
    # Up in steps 0 to 4, down to step 16: halfway each is the mean, a third down a quarter.
    (
        OneCycle(total_steps=17, start=1.0, peak=9.0, end=0.0, pct_start=5 / 17),
        1.0,
        {0: 1, 2: 5, 4: 9, 8: 6.75, 10: 4.5, 12: 2.25, 16: 0, 17: 0, 1000: 0},
    ),
    (
        OneCycle(17, start=1.0, peak=9.0, end=0.0, pct_start=5 / 17, anneal_strategy="linear"),
        1.0,
        {0: 1, 1: 3, 2: 5, 4: 9, 7: 6.75, 10: 4.5, 16: 0, 17: 0},
    ),
    # Three phases of 4, 4 and 8 steps; as torch has it, the way back ends 2 steps short of 2 * pct_start.
    (
        OneCycle(17, start=1.0, peak=9.0, end=0.0, pct_start=5 / 17, three_phase=True),
        1.0,
        {0: 1, 2: 5, 4: 9, 6: 5, 8: 1, 12: 0.5, 16: 0, 17: 0},
    ),
    # The way up takes pct_start * total_steps - 1 steps: with 1 step there is none, and it begins at the peak.
    (OneCycle(10, start=1.0, peak=9.0, end=0.0, pct_start=0.1), 1.0, {0: 9, 4.5: 4.5, 9: 0, 10: 0}),
    # With none it would begin a step before 0, as torch's does.
    (
        OneCycle(10, start=1.0, peak=10.0, end=0.0, pct_start=0.0, anneal_strategy="linear"),
        1.0,
        {0: 9, 4: 5, 9: 0, 10: 0},
    ),
    (OneCycle(10, start=1.0, peak=10.0, end=0.0, pct_start=1.0), 1.0, {0: 1, 4.5: 5.5, 9: 10, 10: 10}),
    (OneCycle(1, start=1.0, peak=10.0, end=0.0), 1.0, {0: 0, 1: 0}),
    (Triangular(low=1.0, high=9.0, up=4, down=4), 1.0, {0: 1, 1: 3, 4: 9, 7: 3, 8: 1, 12: 9, 804: 9}),
    (Triangular(low=1.0, high=9.0, up=2, down=8), 1.0, {0: 1, 1: 5, 2: 9, 6: 5, 10: 1, 12: 9}),
    (Triangular(low=1.0, high=9.0, up=4, down=0), 1.0, {0: 1, 2: 5, 3: 7, 4: 1, 7: 7}),
    (Triangular(1.0, 9.0, 4, 4, scale=lambda cycle: 1 / cycle), 1.0, {4: 9, 8: 1, 12: 5, 20: 1 + 8 / 3}),
    (
        Triangular(1.0, 9.0, 4, 4, scale=lambda step: step / 8, scale_mode="iterations"),
        1.0,
        {0: 1, 2: 2, 4: 5, 8: 1, 12: 13},
    ),
]

POINTS += [
    (Constant(), 3.0, {0: 3, 7: 3}),
    (Constant(steps=2, factor=0.5), 3.0, {0: 1.5, 9: 1.5}),
    (Ramp(4), 8.0, {0: 8, 1: 6, 2.5: 3, 3: 2, 4: 0, 5: 0, 1e9: 0}),
    (Ramp(4, 0.25, 1.0), 8.0, {0: 2, 1: 3.5, 3: 6.5, 4: 8, 5: 8}),
    (Ramp(0, 0.25, 1.0), 8.0, {0: 8, 1: 8}),
    (Ramp(0.5, 0.0, 1.0), 8.0, {0: 0, 0.25: 4, 0.5: 8, 1: 8}),
    (Ramp(8, 1.0, 0.5, "cosine"), 4.0, {0: 4, 4: 3, 8: 2, 12: 2}),
    (Ramp(4, 1.0, 0.0, "1-sqrt"), 1.0, {0: 1, 1: 0.5, 4: 0, 5: 0}),
    (Ramp(4, 1.0, 0.0, "polynomial", 2.0), 1.0, {0: 1, 1: 9 / 16, 2: 1 / 4, 3: 1 / 16, 4: 0, 5: 0}),
    (Ramp(4, 1.0, 1 / 16, "exponential"), 8.0, {0: 8, 1: 4, 2: 2, 3: 1, 4: 0.5, 5: 0.5}),
    (MultiStep((2, 2, 5), gamma=0.5), 8.0, {0: 8, 1: 8, 2: 2, 4: 2, 5: 1, 99: 1}),
    (MultiStep((), gamma=0.5), 8.0, {0: 8, 99: 8}),
    (MultiStep((0,), gamma=0.5), 8.0, {0: 4}),
    (InverseSqrt(4), 3.0, {0: 3, 12: 1.5, 32: 1}),
    (Table((1.0, 0.5, 0.25)), 8.0, {0: 8, 1: 4, 1.5: 3, 2: 2, 3: 2, 99: 2}),
    (Cumulative(half_from_two), 8.0, {0: 8, 1: 8, 2: 4, 4: 1, 3: 2}),
    # Cosines of 2, 4 and 8 steps, to the bottom at the last step of each: 1, 5 and 13.
    (Restarts(2, T_mult=2), 8.0, {0: 8, 1: 0, 2: 8, 3.5: 4, 5: 0, 6: 8, 9.5: 4, 13: 0, 14: 8}),
    (Restarts(4, resolution=0.0), 8.0, {0: 8, 2: 4, 3: 4 - 2 * math.sqrt(2), 4: 8, 6: 4, 402: 4}),
    (Restarts(3, end=0.25, decay=0.5), 8.0, {0: 8, 1: 5, 2: 2, 3: 5, 4: 3.5, 5: 2, 6: 3.5}),
    (Restarts(3, eta_min=2.0, decay=0.5), 8.0, {0: 8, 1: 5, 2: 2, 3: 5, 4: 3.5, 5: 2}),
    (Restarts(1), 8.0, {0: 8, 1: 8, 2: 8}),
    (Triangular(1.0, 9.0, 2, mode="triangular2"), 1.0, {0: 1, 2: 9, 4: 1, 6: 5, 10: 3}),
    (Triangular(1.0, 9.0, 2, mode="exp_range", gamma=0.5), 1.0, {0: 1, 1: 3, 2: 3, 3: 1.5, 4: 1}),
]

finite = st.floats(-1e6, 1e6)
positive = st.floats(1e-6, 1e6)
share = st.floats(0, 1)
steps = st.integers(0, 10_000)

one_cycles = st.builds(
    OneCycle,
    total_steps=st.integers(1, 5000),
    start=finite,
    peak=finite,
    end=finite,
    pct_start=share,
    anneal_strategy=st.sampled_from(["cos", "linear"]),
    three_phase=st.booleans(),
)
triangulars = st.builds(Triangular, low=finite, high=finite, up=st.floats(0.5, 500), down=st.floats(0, 500))
ramps = st.one_of(
    st.builds(
        Ramp,
        steps=st.floats(0, 5000),
        start=finite,
        end=finite,
        shape=st.sampled_from(["linear", "cosine", "1-sqrt", "polynomial"]),
        power=st.floats(0.1, 5),
    ),
    st.builds(Ramp, steps=st.floats(0, 5000), start=positive, end=positive, shape=st.just("exponential")),
)
curves = st.one_of(
    ramps,
    st.builds(Constant, steps=st.none() | st.floats(0, 500), factor=finite),
    st.builds(MultiStep, st.lists(st.integers(0, 5000)).map(sorted).map(tuple), gamma=st.floats(-1, 1)),
    st.builds(InverseSqrt, positive),
    st.builds(Table, st.lists(finite, min_size=1).map(tuple)),
    st.builds(
        Restarts,
        st.floats(0.5, 500),
        st.just(1) | st.floats(1.01, 4),
        end=finite,
        eta_min=finite,
        decay=st.floats(-1, 1),
        resolution=st.floats(0, 1),
    ),
    st.just(Cumulative(halve_each)),
    st.builds(Step, step_size=st.integers(1, 500), gamma=st.floats(-1, 1)),
    st.builds(Exponential, gamma=st.floats(-1, 1)),
    st.just(Function(halve_each)),
    st.builds(CosineWave, T_max=st.floats(0.5, 5000), eta_min=finite),
    st.builds(Anneal, steps=st.floats(0, 500), to=finite, anneal_strategy=st.sampled_from(["cos", "linear"])),
    one_cycles,
    triangulars,
)


@pytest.mark.parametrize(("curve", "base", "points"), POINTS)
def test_values_worked_out_by_hand(curve, base, points):
    # A few roundings of values up to 13, and of the angle in the cosines.
    values = {step: curve.value(step, base) for step in points}
    assert values == pytest.approx(points, rel=8 * EPS, abs=32 * EPS)


@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("anneal_strategy", ["cos", "linear"])
def test_one_cycle_meets_its_three_values_exactly(three_phase, anneal_strategy):
    curve = OneCycle(101, 0.1, 0.7, 1e-9, 0.3, anneal_strategy, three_phase)
    peak = 0.3 * 101 - 1
    assert [curve.value(step) for step in (0, peak, 100)] == [0.1, 0.7, 1e-9]


def test_cosine_meets_its_two_values_exactly():
    curve = CosineWave(T_max=7, eta_min=1e-9)
    assert [curve.value(step, base=0.7) for step in (0, 7, 14)] == [0.7, 1e-9, 0.7]


def test_cosine_keeps_its_digits_next_to_a_zero_end():
    # cos(pi (1 - h)) + 1 is (pi h)^2 / 2 for small h, here to 2e-9; one rounding of the cosine moves it by 1e-9.
    h = 1e-4
    assert CosineWave(T_max=10_000).value(9_999) == pytest.approx((math.pi * h) ** 2 / 4, rel=5e-9)


@given(curve=curves, base=finite, steps=st.integers(0, 40))
def test_values_are_value_at_each_step(curve, base, steps):
    assert curve.values(steps, base) == [curve.value(step, base) for step in range(steps)]


@given(curve=curves, base=finite, where=st.lists(steps, max_size=20))
def test_a_value_does_not_depend_on_what_was_asked_before(curve, base, where):
    # Ask in a random order, then again in that of training: nothing is accumulated.
    asked = {step: curve.value(step, base) for step in where}
    fresh = dataclasses.replace(curve)
    assert {step: fresh.value(step, base) for step in sorted(where)} == asked


@given(curve=one_cycles, step=st.floats(0, 6000))
def test_one_cycle_stays_between_its_values(curve, step):
    bounds = [curve.start, curve.peak, curve.end]
    # Each value is a mean of two of them, rounded twice.
    slack = 2 * EPS * max(map(abs, bounds))
    assert min(bounds) - slack <= curve.value(step) <= max(bounds) + slack


@given(curve=one_cycles, later=st.floats(0, 1e9))
def test_one_cycle_holds_past_its_end(curve, later):
    last = curve.total_steps - 1
    assert curve.value(last + later) == curve.value(last)


@given(
    rise=st.integers(1, 500),
    fall=st.integers(1, 500),
    ends=st.tuples(finite, finite, finite),
    anneal_strategy=st.sampled_from(["cos", "linear"]),
    three_phase=st.booleans(),
)
def test_one_cycle_has_no_jump_at_its_joins(rise, fall, ends, anneal_strategy, three_phase):
    joins = [rise, 2 * rise, 2 * rise + fall] if three_phase else [rise, rise + fall]
    total_steps = joins[-1] + 1
    curve = OneCycle(total_steps, *ends, (rise + 1) / total_steps, anneal_strategy, three_phase)
    # No phase is shorter than a step, and half a cosine is pi / 2 times as steep as a line.
    steepest = math.pi / 2 * (max(ends) - min(ends))
    rounding = 8 * EPS * max(map(abs, ends))
    for join in joins:
        before, after = curve.value(join - 1e-6), curve.value(join + 1e-6)
        # join + 1e-6 is itself rounded, to 1e-13 at most.
        assert abs(after - before) <= steepest * 2.001e-6 + rounding


@given(low=finite, high=finite, up=st.floats(0.5, 500), down=st.floats(0, 500), step=st.floats(0, 1e4))
def test_triangular_stays_between_low_and_high(low, high, up, down, step):
    slack = 2 * EPS * max(abs(low), abs(high))
    value = Triangular(low, high, up, down).value(step)
    assert min(low, high) - slack <= value <= max(low, high) + slack


@given(
    low=finite,
    high=finite,
    up=st.integers(1, 500),
    down=st.integers(1, 500),
    step=steps,
    cycles=st.integers(1, 20),
)
def test_triangular_is_periodic(low, high, up, down, step, cycles):
    curve = Triangular(low, high, up, down)
    later = step + cycles * (up + down)
    # The position in the cycle is a difference of two numbers as large as the count of cycles: it has the
    # rounding of that count, and the sides are as steep as the cycle is long over the shorter side.
    count, steepness = 2 + later / (up + down), (up + down) / min(up, down)
    slack = EPS * (4 + 4 * count * steepness) * (abs(low) + abs(high))
    assert curve.value(later) == pytest.approx(curve.value(step), rel=0, abs=slack)


@given(t_max=st.floats(0.5, 5000), eta_min=finite, base=finite, step=steps)
def test_cosine_stays_between_base_and_eta_min(t_max, eta_min, base, step):
    slack = 2 * EPS * max(abs(base), abs(eta_min))
    value = CosineWave(t_max, eta_min).value(step, base)
    assert min(base, eta_min) - slack <= value <= max(base, eta_min) + slack


@given(gamma=share, base=finite, step_size=st.integers(1, 50), step=st.integers(1, 500))
def test_decays_shrink_by_gamma_each_time(gamma, base, step_size, step):
    # Both powers are rounded once (pow is good to an ulp), the products once more; tiny numbers to 5e-324.
    exponential, staircase = Exponential(gamma), Step(step_size, gamma)
    assert exponential.value(step, base) == pytest.approx(
        exponential.value(step - 1, base) * gamma, rel=8 * EPS, abs=1e-300
    )
    assert staircase.value(step, base) == exponential.value(step // step_size, base)


@given(curve=ramps, step=st.floats(0, 6000), base=finite)
def test_a_ramp_stays_between_its_ends_and_holds(curve, step, base):
    slack = 4 * EPS * max(abs(curve.start), abs(curve.end))
    assert min(curve.start, curve.end) - slack <= curve.value(step) <= max(curve.start, curve.end) + slack
    assert curve.value(curve.steps, base) == curve.value(curve.steps + step, base) == base * curve.end


@given(curve=ramps)
def test_a_ramp_starts_at_its_start(curve):
    assert curve.value(0) == pytest.approx(curve.end if curve.steps == 0 else curve.start, rel=2 * EPS, abs=0)


@given(t_0=st.floats(0.5, 500), t_mult=st.just(1) | st.floats(1.01, 4), step=steps)
def test_restarts_are_where_the_lengths_add_up(t_0, t_mult, step):
    cycle, position, length = Restarts(t_0, t_mult).place(step)
    start = sum(t_0 * t_mult**i for i in range(cycle)) if cycle < 5000 else cycle * t_0
    slack = 1e-9 * (1 + step)
    assert start + position == pytest.approx(step, abs=slack)
    assert -slack <= position <= length + slack


@given(curve=curves, base=finite, step=steps)
def test_a_relative_curve_is_a_factor(curve, base, step):
    # The scheduler counts on it: one factor for all groups.
    if curve.relative:
        assert curve.value(step, base) == base * curve.value(step)


@given(curve=curves)
def test_curves_cannot_be_changed(curve):
    for field in dataclasses.fields(curve):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(curve, field.name, 1)


@given(curve=curves)
def test_curves_are_values(curve):
    # Equal when their settings are, hashable, and the same after pickling.
    twin = pickle.loads(pickle.dumps(curve))
    assert twin == curve
    assert hash(twin) == hash(curve)
    assert twin.values(20) == curve.values(20)


def test_curve_itself_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Curve()


nan, inf = math.nan, math.inf
cycle = {"total_steps": 10, "start": 0.1, "peak": 1.0, "end": 0.0}
triangle = {"low": 0.1, "high": 1.0, "up": 4, "down": 4}


@pytest.mark.parametrize(
    ("curve", "settings", "error", "message"),
    [
        (Step, {"step_size": 0, "gamma": 0.1}, ValueError, "step_size=0 must be greater than 0"),
        (Step, {"step_size": -3, "gamma": 0.1}, ValueError, "step_size=-3 must be greater than 0"),
        (Step, {"step_size": nan, "gamma": 0.1}, ValueError, "step_size=nan must be greater than 0"),
        (Step, {"step_size": "3", "gamma": 0.1}, TypeError, "step_size='3' is a str: pass a number"),
        (Step, {"step_size": None, "gamma": 0.1}, TypeError, "step_size=None is a NoneType: pass a number"),
        (Step, {"step_size": 3, "gamma": nan}, ValueError, "gamma=nan must be finite"),
        (Step, {"step_size": 3, "gamma": "0.1"}, TypeError, "gamma='0.1' is a str: pass a number"),
        (Exponential, {"gamma": nan}, ValueError, "gamma=nan must be finite"),
        (Exponential, {"gamma": inf}, ValueError, "gamma=inf must be finite"),
        (Exponential, {"gamma": 1j}, TypeError, "gamma=1j is a complex: pass a number"),
        (Function, {"factor": 0.5}, TypeError, "factor=0.5 is a float: pass a function of the step"),
        (CosineWave, {"T_max": 0}, ValueError, "T_max=0 must be greater than 0"),
        (CosineWave, {"T_max": -5}, ValueError, "T_max=-5 must be greater than 0"),
        (CosineWave, {"T_max": inf}, ValueError, "T_max=inf must be greater than 0 and finite"),
        (CosineWave, {"T_max": 5, "eta_min": nan}, ValueError, "eta_min=nan must be finite"),
        (Anneal, {"steps": -1, "to": 0.1}, ValueError, "steps=-1 must be at least 0 and finite"),
        (Anneal, {"steps": 5, "to": nan}, ValueError, "to=nan must be finite"),
        (Anneal, {"steps": 5, "to": "0.1"}, TypeError, "to='0.1' is a str: pass a number"),
        (
            Anneal,
            {"steps": 5, "to": 1, "anneal_strategy": "exp"},
            ValueError,
            "anneal_strategy='exp' must be",
        ),
        (OneCycle, {**cycle, "total_steps": 0}, ValueError, "total_steps=0 must be greater than 0"),
        (OneCycle, {**cycle, "total_steps": -1}, ValueError, "total_steps=-1 must be greater than 0"),
        (OneCycle, {**cycle, "total_steps": 10.0}, ValueError, "total_steps=10.0 must be an integer"),
        (OneCycle, {**cycle, "total_steps": True}, ValueError, "total_steps=True must be an integer"),
        (OneCycle, {**cycle, "start": nan}, ValueError, "start=nan must be finite"),
        (OneCycle, {**cycle, "peak": inf}, ValueError, "peak=inf must be finite"),
        (OneCycle, {**cycle, "end": "0"}, TypeError, "end='0' is a str: pass a number"),
        (OneCycle, {**cycle, "pct_start": -0.1}, ValueError, "pct_start=-0.1 must be in [0, 1]"),
        (OneCycle, {**cycle, "pct_start": 1.1}, ValueError, "pct_start=1.1 must be in [0, 1]"),
        (OneCycle, {**cycle, "pct_start": nan}, ValueError, "pct_start=nan must be in [0, 1]"),
        (OneCycle, {**cycle, "pct_start": "0.3"}, TypeError, "pct_start='0.3' is a str: pass a number"),
        (OneCycle, {**cycle, "anneal_strategy": "exp"}, ValueError, "anneal_strategy='exp' must be 'cos'"),
        (Constant, {"steps": -1}, ValueError, "steps=-1 must be at least 0"),
        (Constant, {"factor": nan}, ValueError, "factor=nan must be finite"),
        (Constant, {"factor": "1"}, TypeError, "factor='1' is a str: pass a number"),
        (Ramp, {"steps": -1}, ValueError, "steps=-1 must be at least 0"),
        (Ramp, {"steps": inf}, ValueError, "steps=inf must be at least 0 and finite"),
        (Ramp, {"steps": 5, "start": nan}, ValueError, "start=nan must be finite"),
        (Ramp, {"steps": 5, "shape": "cos"}, ValueError, "shape='cos' must be 'linear', 'cosine', '1-sqrt'"),
        (Ramp, {"steps": 5, "shape": "exponential"}, ValueError, "end=0.0 must be greater than 0"),
        (Ramp, {"steps": 5, "shape": "polynomial", "power": 0}, ValueError, "power=0 must be greater than 0"),
        (MultiStep, {"milestones": [5, 3]}, ValueError, "milestones=[5, 3] must not fall: sort them"),
        (MultiStep, {"milestones": [-1]}, ValueError, "milestones=-1 must be at least 0"),
        (MultiStep, {"milestones": 5}, TypeError, "milestones=5 is a int: pass a list of steps"),
        (MultiStep, {"milestones": [5], "gamma": nan}, ValueError, "gamma=nan must be finite"),
        (InverseSqrt, {"timescale": 0}, ValueError, "timescale=0 must be greater than 0"),
        (Table, {"factors": []}, TypeError, "factors=[]: pass a list of at least one number"),
        (Table, {"factors": [1.0, nan]}, ValueError, "factors=nan must be finite"),
        (Table, {"factors": [1.0, "2"]}, TypeError, "factors='2' is a str: pass a number"),
        (Cumulative, {"factor": 0.5}, TypeError, "factor=0.5 is a float: pass a function of the step"),
        (Restarts, {"T_0": 0}, ValueError, "T_0=0 must be greater than 0"),
        (Restarts, {"T_0": 5, "T_mult": 0.5}, ValueError, "T_mult=0.5 must be at least 1"),
        (Restarts, {"T_0": 5, "T_mult": nan}, ValueError, "T_mult=nan must be finite"),
        (Restarts, {"T_0": 5, "decay": nan}, ValueError, "decay=nan must be finite"),
        (Restarts, {"T_0": 5, "resolution": -1}, ValueError, "resolution=-1 must be at least 0"),
        (
            Triangular,
            {**triangle, "mode": "saw"},
            ValueError,
            "mode='saw' must be 'triangular', 'triangular2' or",
        ),
        (Triangular, {**triangle, "gamma": nan}, ValueError, "gamma=nan must be finite"),
        (Triangular, {**triangle, "low": nan}, ValueError, "low=nan must be finite"),
        (Triangular, {**triangle, "high": inf}, ValueError, "high=inf must be finite"),
        (Triangular, {**triangle, "up": 0}, ValueError, "up=0 must be greater than 0"),
        (Triangular, {**triangle, "down": -1}, ValueError, "down=-1 must be at least 0"),
        (Triangular, {**triangle, "down": nan}, ValueError, "down=nan must be at least 0"),
        (Triangular, {**triangle, "scale": 2.0}, TypeError, "scale=2.0 is a float: pass a function"),
        (Triangular, {**triangle, "scale_mode": "steps"}, ValueError, "scale_mode='steps' must be 'cycle'"),
    ],
)
def test_bad_settings(curve, settings, error, message):
    with pytest.raises(error, match=re.escape(message)):
        curve(**settings)


@pytest.mark.parametrize("returned", ["0.1", None, nan, inf, 1j, [1.0]])
def test_a_function_that_returns_no_number(returned):
    def factor(step):
        return returned

    for curve in (Function(factor), Triangular(**triangle, scale=factor, scale_mode="iterations")):
        with pytest.raises(ValueError, match=re.escape(f"factor(3) returned {returned!r}: return a finite")):
            curve.value(3)


@pytest.mark.parametrize(
    ("text", "joins"),
    [
        ("cosine(5)", ()),
        ("warmup(5) >> cosine(10)", (5,)),
        ("warmup(5) >> constant(0) >> linear(10)", (5, 5)),
        ("(warmup(5) >> linear(5)).take(20) >> linear(1)", (5, 20)),
        ("(warmup(5) >> linear(5)).take(4)", ()),
        ("(warmup(5) >> linear(5)).stretch(100)", (50,)),
        ("(warmup(5) >> linear(5)).fixed(3)", (5,)),
        ("(warmup(5) >> linear(5)) * (warmup(7) >> linear(5)) * 2", (5, 7)),
        ("wsd(100, 10, 20)", (10, 80)),
    ],
)
def test_where_the_parts_of_a_curve_meet(text, joins):
    assert parse(text).joins == joins


@pytest.mark.parametrize(
    ("text", "steps", "shown"),
    [
        ("linear(100)", None, range(106)),
        ("linear(100)", 7, range(7)),
        ("constant(0)", None, range(1)),
        ("exponential(0.5)", None, range(1000)),
        ("warmup(2000) >> constant()", None, range(4000)),
        ("constant(1e300) >> constant()", None, range(1000)),
        ("linear(100)", 10**9, range(0, 10**9, 10**4)),
    ],
)
def test_a_picture_shows_all_parts(text, steps, shown):
    assert parse(text).shown(steps) == shown


def test_a_picture_of_no_steps_is_refused():
    for steps in (0, 2**60):
        with pytest.raises(ValueError, match=f"steps={steps} must be at"):
            parse("linear(100)").shown(steps)

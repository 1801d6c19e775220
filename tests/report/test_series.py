import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot.report.series import finite, numbers, quantile, smoothed, thin

VALUES = st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(math.nan)), min_size=1, max_size=300)


@given(VALUES, st.integers(5, 60))
def test_a_thinned_line_is_part_of_the_line_and_looks_the_same(values, most):
    xs, ys = thin(range(len(values)), values, most)
    assert len(xs) == len(ys) <= max(most, 5)
    assert xs == sorted(set(xs))
    assert all(y is values[x] for x, y in zip(xs, ys, strict=True))
    assert (xs[0], xs[-1]) == (0, len(values) - 1)
    for extreme in (min, max):
        assert extreme(finite(ys), default=0) == extreme(finite(values), default=0)
    assert any(map(math.isnan, ys)) == any(map(math.isnan, values))


@given(VALUES)
def test_a_short_line_is_kept_whole(values):
    assert thin(range(len(values)), values) == (list(range(len(values))), values)


@given(st.integers(0, 9_999))
def test_no_spike_is_lost(where):
    values = [0.0] * 10_000
    values[where] = 9.0
    xs, ys = thin(range(10_000), values)
    assert ys[xs.index(where)] == 9.0


@pytest.mark.parametrize(
    ("given_", "expected"),
    [(None, math.nan), (math.inf, math.nan), (-math.inf, math.nan), (1e305, math.nan), (2, 2.0)],
)
def test_what_is_no_number_is_a_gap(given_, expected):
    assert numbers([given_]) == pytest.approx([expected], nan_ok=True)


@pytest.mark.parametrize("log", [False, True])
@given(values=st.lists(st.one_of(st.floats(0.1, 10), st.just(math.nan)), max_size=200))
def test_a_smooth_line_has_the_gaps_of_the_line_and_stays_within_its_bounds(log, values):
    smooth = smoothed(values, log=log)
    assert list(map(math.isnan, smooth)) == list(map(math.isnan, values))
    there = finite(values)
    assert all(min(there) * 0.999 <= value <= max(there) * 1.001 for value in finite(smooth))


def test_a_constant_is_smooth():
    assert smoothed([3.0] * 500) == pytest.approx([3.0] * 500)


def test_quantiles():
    assert [quantile([4, math.nan, 1, 3, 2, 5], share) for share in (0, 0.5, 1)] == [1, 3, 5]
    assert math.isnan(quantile([math.nan], 0.5))

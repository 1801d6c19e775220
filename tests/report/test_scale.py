import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot.report.scale import Scale, short

NUMBERS = st.one_of(st.floats(-1e300, 1e300), st.floats(-10, 10), st.just(math.nan))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("zero", [False, True])
@given(values=st.lists(NUMBERS, max_size=6), whole=st.booleans())
def test_every_value_has_a_place_and_there_is_something_to_read(log, zero, values, whole):
    scale = Scale.over(values, log=log, zero=zero, whole=whole)
    assert scale.low < scale.high
    assert all(0 <= scale.at(value) <= 1 for value in values if math.isfinite(value))
    ticks = scale.ticks()
    assert len(ticks) <= 8
    assert all(-1e-9 <= scale.at(value) <= 1 + 1e-9 for value, _ in ticks)
    assert len({text for _, text in ticks}) == len(ticks)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (Scale(0, 1200, whole=True), "0 250 500 750 1,000"),
        (Scale(0, 100_000, whole=True), "0 20k 40k 60k 80k 100k"),
        (Scale(0, 3, whole=True), "0 1 2 3"),
        (Scale(0, 1, whole=True), "0 1"),
        (Scale(0.65, 1.0), "0.7 0.8 0.9 1.0"),
        (Scale(0, 0.0022), "0 5e-4 1e-3 1.5e-3 2e-3"),
        (Scale(0, 4200), "0 1,000 2,000 3,000 4,000"),
        (Scale(0, 3e6), "0 1M 2M 3M"),
        (Scale(-1.2, 1.2), "-1.0 -0.5 0 0.5 1.0"),
        (Scale(1e-5, 10, log=True), "1e-5 1e-4 1e-3 1e-2 1e-1 1 10"),
        (Scale(1e-12, 1, log=True), "1e-12 1e-10 1e-8 1e-6 1e-4 1e-2 1"),
        (Scale(0.07, 3, log=True), "0.1 0.2 0.5 1 2"),
        (Scale(0.6931470, 0.6931474), "0.6931470 0.6931471 0.6931472 0.6931473 0.6931474"),
        (Scale(9_999_976_000, 9_999_999_000), "9.99998e9 9.999985e9 9.99999e9 9.999995e9"),
        (Scale(0.00512, 0.005121), "5.12e-3 5.1202e-3 5.1204e-3 5.1206e-3 5.1208e-3 5.121e-3"),
        (Scale(2.1, 2.9, log=True), "2.2 2.4 2.6 2.8"),
    ],
)
def test_ticks_are_round_and_written_alike(scale, expected):
    assert " ".join(text for _, text in scale.ticks()) == expected


def test_what_has_no_place():
    assert math.isnan(Scale(0, 1).at(math.nan))
    assert Scale(1, 10, log=True).at(-1) == 0


@given(st.floats(-1e300, 1e300))
def test_a_number_as_it_is_read_is_the_number(value):
    assert float(short(value).replace(",", "")) == pytest.approx(value, rel=6e-3)
    assert len(short(value)) <= 10

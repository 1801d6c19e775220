from __future__ import annotations

import math

import pytest

from surefoot.terminal import chart, number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (12345.0, "12345"),
        (99999.0, "99999"),
        (99999.9, "1e5"),
        (1e5, "1e5"),
        (0.001, "0.001"),
        (0.123456, "0.12346"),
        (3e-4, "3e-4"),
        (-2.5e-5, "-2.5e-5"),
        (1.01e-10, "1.01e-10"),
        (1e100, "1e100"),
        (1e-300, "1e-300"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


LINES: dict[str, list[float]] = {
    "a point": [1.0],
    "rises": [0.0, 1.0, 2.0],
    "below zero": [-3e-4, -3e-4],
    "both sides": [-1.0, 0.0, 1.0],
    "zero": [0.0, 0.0],
    "huge": [1e300, -1e300],
    "tiny": [1e-200, 2e-200],
    "many": [math.cos(i) for i in range(10_000)],
}


@pytest.mark.parametrize("values", LINES.values(), ids=LINES)
@pytest.mark.parametrize(("width", "height"), [(2, 8), (12, 8), (80, 18), (200, 50)])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_every_curve_fits_where_it_is_drawn(
    values: list[float], width: int, height: int, ascii_only: bool
) -> None:
    drawn = chart(range(len(values)), values, joins=[1], width=width, height=height, ascii_only=ascii_only)
    lines = drawn.split("\n")
    assert len(lines) <= height
    assert max(map(len, lines[1:])) <= width
    assert drawn.isascii() == ascii_only
    if width >= 80:
        marks = [mark for mark in drawn if mark == "*" or "\u2800" < mark <= "\u28ff"]
        assert len(marks) >= (1 if len(values) == 1 else 10)
        assert lines[-1].strip() == "step"
        assert lines[0] == "value"


def test_the_parts_are_marked_where_they_meet() -> None:
    lines = chart(range(101), [0.0] * 101, joins=[50, 200], width=60, ascii_only=True).split("\n")
    marked = [{i for i, mark in enumerate(line) if mark == ":"} for line in lines]
    assert set.union(*marked) == {
        32
    }  # halfway between the axis and the right; what begins at 200 is not there

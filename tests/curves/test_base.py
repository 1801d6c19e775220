"""Curves put together: joins, products, stretches, JSON, whatever they are made of."""

from __future__ import annotations

import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot import curves
from surefoot.curves import (
    Constant,
    CosineWave,
    Curve,
    Function,
    OneCycle,
    Product,
    Ramp,
    Stretch,
    Take,
    Then,
    constant,
    cosine,
    exponential,
    linear,
    warmup,
    wsd,
)

EPS = 2.0**-52


@curves.register
def inverse(step):
    return 1 / (1 + step)


def relative(curve: Curve) -> bool:
    return curve.relative


finite = st.floats(-100, 100)
lengths = st.integers(0, 300) | st.floats(0, 300)
ramps = st.builds(
    Ramp,
    lengths,
    finite,
    finite,
    st.sampled_from(["linear", "cosine", "1-sqrt", "polynomial"]),
    st.floats(0.2, 3),
)
ending = st.one_of(
    ramps,
    st.builds(Constant, lengths, finite),
    st.builds(OneCycle, st.integers(1, 300)),
    st.builds(Take, st.sampled_from([exponential(0.9), Function(inverse), CosineWave(20)]), lengths),
)
endless = st.sampled_from(
    [Constant(), exponential(0.99), Function(inverse), curves.triangular(7), curves.step(30)]
)
leaves = ending | endless
whole = st.recursive(
    ending,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map(lambda parts: Then(tuple(parts))),
        st.lists((inner | endless).filter(relative), min_size=1, max_size=3)
        .map(lambda parts: Product(tuple(parts)))
        .filter(lambda curve: curve.length < math.inf),
        st.builds(Stretch, inner, lengths),
        st.builds(Take, inner, lengths),
        st.builds(lambda curve, base: curve.fixed(base), inner, finite).filter(
            lambda curve: curve.length < math.inf
        ),
    ),
    max_leaves=5,
).filter(lambda curve: curve.length < math.inf)
steps = st.integers(0, 1500)


@pytest.mark.parametrize(
    ("curve", "values"),
    [
        (warmup(3) >> linear(4), [0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25, 0, 0]),
        (warmup(2, start=0) >> constant(2) >> linear(2), [0, 0.5, 1, 1, 1, 0.5, 0, 0]),
        (warmup(0) >> linear(2), [1, 0.5, 0, 0]),
        (linear(0.5) >> constant(), [1, 1, 1]),
        (linear(2).take(1) >> linear(2), [1, 1, 0.5, 0, 0]),
        (0.5 * linear(2) >> constant(factor=2), [0.5, 0.25, 2, 2]),
        (0.5 * constant(2) >> linear(1), [0.5, 0.5, 1, 0]),
        (linear(2) * 2 * linear(4), [2, 0.75, 0, 0, 0]),
        (linear(2).stretch(4), [1, 0.75, 0.5, 0.25, 0, 0]),
        (linear(4).stretch(2) >> constant(), [1, 0.5, 1, 1]),
        (linear(4).stretch(0) >> constant(factor=3), [3, 3]),
        ((constant(1) >> linear(2)).stretch(6), [1, 1, 1, 0.75, 0.5, 0.25, 0, 0]),
        (wsd(6, warmup=1, decay=2, shape="linear"), [0.5, 1, 1, 1, 1, 0.5, 0, 0]),
        (curves.table([3, 1]) >> linear(1), [3, 1, 1, 0]),
        (OneCycle(3, 0.0, 1.0, 0.5, 2 / 3, "linear") >> constant(), [0, 1, 0.5, 1, 1]),
    ],
    ids=str,
)
def test_values_worked_out_by_hand(curve, values):
    assert curve.values(len(values)) == pytest.approx(values, rel=4 * EPS, abs=4 * EPS)
    assert curve.values(len(values), base=8.0) == pytest.approx([8 * value for value in values], rel=4 * EPS)


# Row 30: what each of these is at step 0, 1, at the last step of the warmup, at its end, and when all is over.
@pytest.mark.parametrize("up", [1, 2, 5, 100])
@pytest.mark.parametrize("start", [None, 0.0, 0.5])
@pytest.mark.parametrize(
    "then", [linear(50), cosine(50), curves.polynomial(50, 2.0), curves.inverse_sqrt(50), constant()]
)
def test_the_edges_of_a_warmup(up, start, then):
    curve = warmup(up, start=start) >> then
    first = 1 / (up + 1) if start is None else start
    assert curve.value(0) == first
    assert curve.value(1) == (1.0 if up == 1 else pytest.approx(first + (1 - first) / up, rel=4 * EPS))
    assert curve.value(up - 1) == pytest.approx(1 - (1 - first) / up, rel=8 * EPS, abs=1e-15)
    assert curve.value(up) == 1.0  # the peak is met
    assert curve.value(up + 50) == then.value(50)
    assert (start is not None) or curve.value(0) > 0


@given(
    parts=st.lists(ending.filter(lambda part: part.length == int(part.length)), min_size=1, max_size=5),
    base=finite,
)
def test_each_part_of_a_sequence_has_its_own_step_0(parts, base):
    curve = Then(tuple(parts))
    start = 0
    for part in parts[:-1]:
        for step in {0, int(part.length) // 2, int(part.length) - 1} & set(range(int(part.length))):
            assert curve.value(start + step, base) == part.value(step, base)
        start += int(part.length)
    for step in (0, 1, 7, 1000):
        assert curve.value(start + step, base) == parts[-1].value(step, base)
    assert curve.length == start + parts[-1].length


@given(curve=whole, base=finite, step=steps)
def test_a_sequence_of_one_is_that_one(curve, base, step):
    assert Then((curve,)).value(step, base) == curve.value(step, base)
    assert Product((curve,)).value(step, base) == curve.value(step, base)


@given(a=whole, b=whole, c=whole, base=finite, step=steps)
def test_nesting_shifts_nothing(a, b, c, base, step):
    left, right = (a >> b) >> c, a >> (b >> c)
    assert left == right == Then((a, Then((b, c))))
    assert left.value(step, base) == right.value(step, base)


@given(length=st.integers(1, 300), start=finite, top=finite, end=finite, then=st.integers(1, 300))
def test_there_is_no_jump_where_ends_meet(length, start, top, end, then):
    for shape in ("linear", "cosine"):
        curve = Ramp(length, start, top, shape) >> Ramp(then, top, end, shape)
        assert curve.value(length) == top
        steepest = math.pi / 2 * max(abs(top - start), abs(end - top))
        assert abs(curve.value(length - 1e-6) - top) <= steepest * 1.001e-6 + 1e-12
        assert abs(curve.value(length + 1e-6) - top) <= steepest * 1.001e-6 + 1e-12


@given(curve=whole, base=finite, where=st.lists(steps, max_size=20))
def test_random_access_equals_going_there(curve, base, where):
    asked = {step: curve.value(step, base) for step in where}
    again = Curve.from_json(curve.to_json())
    assert {step: again.value(step, base) for step in sorted(where)} == asked


@given(curve=whole, later=st.integers(0, 10_000), base=finite)
def test_past_its_end_a_taken_curve_holds(curve, later, base):
    taken = curve.take(curve.length)
    assert taken.value(curve.length + later, base) == taken.value(curve.length, base)


@given(curve=whole, total=st.floats(0.5, 1000), share=st.floats(0, 1), base=finite)
def test_a_stretched_curve_is_the_same_at_each_share(curve, total, share, base):
    stretched = curve.stretch(total)
    assert stretched.length == total
    if curve.length > 0 and share < 1:
        step = share * total
        assert stretched.value(step, base) == curve.value(curve.length * step / total, base)
    assert stretched.value(total, base) == curve.value(curve.length, base)


@given(curve=leaves | whole)
def test_json_gives_the_same_curve(curve):
    again = Curve.from_json(json.loads(json.dumps(curve.to_json())))
    assert again == curve
    assert hash(again) == hash(curve)
    assert again.values(30, 0.3) == curve.values(30, 0.3)


@given(curve=(leaves | whole).filter(relative), base=finite, step=steps)
def test_a_relative_curve_is_a_factor(curve, base, step):
    assert curve.value(step, base) == pytest.approx(base * curve.value(step), rel=8 * EPS, abs=1e-300)


def test_a_product_with_one_that_names_its_own_values():
    own = CosineWave(10, eta_min=1.0)
    for curve in (own * linear(10), linear(10) * own):
        assert curve.value(5, base=9.0) == 0.5 * own.value(5, base=9.0)
        assert not curve.relative


def test_an_example_of_every_word_is_drawn():
    pytest.importorskip("matplotlib")
    ax = (warmup(5) >> linear(10)).plot()
    assert list(ax.lines[-1].get_ydata()) == (warmup(5) >> linear(10)).values(17)
    assert exponential(0.9).plot(steps=4, base=2.0).lines[-1].get_ydata()[1] == 1.8
    picture = linear(10)._repr_png_()
    assert picture is not None
    assert picture.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (
            lambda: constant() >> linear(5),
            ValueError,
            "nothing can come after Constant(steps=None, factor=1.0), which",
        ),
        (
            lambda: exponential(0.9).stretch(5),
            ValueError,
            "never ends, so it cannot be stretched: cut it with .take",
        ),
        (lambda: linear(5).take(-1), ValueError, "steps=-1 must be at least 0"),
        (lambda: linear(5).take(math.nan), ValueError, "steps=nan must be at least 0"),
        (lambda: linear(5).stretch(math.inf), ValueError, "total=inf must be at least 0 and finite"),
        (lambda: linear(5).fixed(math.nan), ValueError, "base=nan must be finite"),
        (lambda: linear(5) * math.nan, ValueError, "factor=nan must be finite"),
        (lambda: linear(5) >> 3, TypeError, "unsupported operand"),
        (lambda: linear(5) * "3", TypeError, "unsupported operand|can't multiply"),
        (lambda: linear(5) * True, TypeError, "unsupported operand"),
        (lambda: CosineWave(5, 0.1) * linear(5).fixed(1.0), ValueError, "both name their own values"),
        (lambda: Then(()), TypeError, "curves=(): pass a tuple of curves"),
        (lambda: Then((linear(5), 3)), TypeError, "3 is a int: pass a curve"),
        (lambda: Product([0.5]), TypeError, "0.5 is a float: pass a curve"),
        (lambda: Take(0.5, 3), TypeError, "0.5 is a float: pass a curve"),
        (lambda: warmup(-1), ValueError, "steps=-1 must be at least 0"),
        (
            lambda: wsd(10, warmup=6, decay=6),
            ValueError,
            "warmup=6 and decay=6 are longer than steps=10 in all",
        ),
        (lambda: linear(5).plot(0), ValueError, "steps=0 must be at least 1"),
        (
            lambda: Curve.from_json({"kind": "Spiral"}),
            ValueError,
            "kind='Spiral' is no curve that is known: it is one of",
        ),
        (lambda: Curve.from_json([]), ValueError, "kind=[] is no curve that is known"),
        (lambda: Curve.from_json({"kind": "Ramp", "length": 3}), ValueError, "Ramp has no setting 'length'"),
        (
            lambda: Curve.from_json({"kind": "Function", "factor": {"function": "spin"}}),
            ValueError,
            "factor is the function 'spin', which is not registered here",
        ),
        (
            lambda: (warmup(5) >> Function(lambda step: 1.0)).to_json(),
            ValueError,
            "<lambda>' has no name in a saved curve: register the function with @surefoot.curves.register",
        ),
        (lambda: curves.register(0.5), TypeError, "function=0.5 is a float: pass a function"),
    ],
)
def test_mistakes_are_named(build, error, message):
    with pytest.raises(error, match="|".join(map(re.escape, message.split("|")))):
        build()


def test_a_name_belongs_to_one_function():
    def inverse(step):
        return 2.0

    with pytest.raises(ValueError, match="a function 'inverse' is registered already: give this one another"):
        curves.register(inverse)


def test_a_function_may_be_registered_again_by_a_notebook_cell_run_twice():
    def define():
        def twice(step):
            return 2 * step

        return twice

    first, second = define(), define()
    curves.register(first)
    curves.register(second)
    assert Curve.from_json(Function(second).to_json()) == Function(second)

"""Curves from text: what the words mean, and that nothing else runs."""

from __future__ import annotations

import re

import pytest

from surefoot import curves
from surefoot.curves import parse


@pytest.mark.parametrize(
    ("text", "curve"),
    [
        ("warmup(500) >> cosine(10_000, to=0.1)", curves.warmup(500) >> curves.cosine(10_000, to=0.1)),
        ("  linear(5)\n", curves.linear(5)),
        ("0.5 * linear(5) >> constant()", 0.5 * curves.linear(5) >> curves.constant()),
        (
            "(linear(5) >> linear(3)) * exponential(0.9)",
            (curves.linear(5) >> curves.linear(3)) * curves.exponential(0.9),
        ),
        ("exponential(1 - 1e-3).take(2 * 50 + 3)", curves.exponential(1 - 1e-3).take(103)),
        ("linear(5).stretch(10 / 4).fixed(-3e-4)", curves.linear(5).stretch(2.5).fixed(-3e-4)),
        ("multistep([3, 6], gamma=0.5)", curves.multistep([3, 6], 0.5)),
        ("table((1, 0.5))", curves.table([1, 0.5])),
        ('wsd(100, 10, 20, shape="cosine")', curves.wsd(100, 10, 20, shape="cosine")),
        ("one_cycle(100, three_phase=True)", curves.one_cycle(100, three_phase=True)),
        ("triangular(10, None, mode='triangular2')", curves.triangular(10, mode="triangular2")),
        ("linear(5) >> linear(5) >> linear(5)", curves.Then((curves.linear(5),) * 3)),
    ],
)
def test_what_is_written_is_what_python_would_make(text, curve):
    assert parse(text) == curve


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("warmup(3) >> cosin(2)", 14, "'cosin' is no curve: did you mean 'cosine'?"),
        ("wobble(3)", 1, "'wobble' is no curve: it is one of constant, cosine"),
        ("warmup(3) >> cosine", 14, "'cosine' is not called: write cosine(...)"),
        ("warmup(3) >>", 13, "invalid syntax"),
        ("warmup(3", 7, "'(' was never closed"),
        ("", 1, "invalid syntax"),
        ("99999999999 * 'a'", 15, "'a' is no number"),
        ("table(10 ** 9 * [1])", 7, "is not allowed here"),
        ("table(999999999 * [1])", 19, "[1] is no number"),
        ("-linear(3)", 2, "is no number"),
        ("3 + 4", 1, "this is 7, not a curve"),
        ("warmup(3) + linear(2)", 1, "unsupported operand"),
        ("warmup(3) >> linear(-2)", 14, "steps=-2 must be at least 0"),
        ("linear(5, too=0.1)", 1, "unexpected keyword argument 'too'"),
        ("linear(5 / 0)", 8, "division by zero"),
        ("constant() >> linear(5)", 1, "nothing can come after"),
        ("linear(5).shift(3)", 1, ".shift is not there: it is one of fixed, stretch, take"),
        ("linear(5).strech(3)", 1, ".strech is not there: did you mean 'stretch'?"),
        ("linear(5).__class__", 1, "'linear(5).__class__' is not allowed here"),
        ("linear(5).__class__()", 1, ".__class__ is not there"),
        ("__import__('os').system('true')", 1, "'__import__' is no curve"),
        ("function(print)", 10, "'print' is not called"),
        ("function(lambda step: 1)", 10, "is not allowed here"),
        ("[linear(5)][0]", 1, "is not allowed here"),
        ("linear(*[5])", 8, "is not allowed here"),
        ("linear(**{'steps': 5})", 10, "settings are written one by one"),
        ("linear(10 ** 9)", 8, "is not allowed here"),
        ("(linear)(5)(6)", 1, "this cannot be called"),
        ("warmup(3) >> “linear”(2)", 14, "invalid character"),
        ("ramp(3) if 1 else linear(2)", 1, "is not allowed here"),
    ],
)
def test_a_mistake_is_shown_where_it_is(text, column, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        parse(text)
    first, *shown = str(caught.value).split("\n")
    assert first.startswith(f"column {column}: ")
    assert shown[-2:] == [f"  {text.strip()}", f"  {' ' * (column - 1)}^"]


@pytest.mark.parametrize(
    "text", ["(" * 5000 + "linear(5)" + ")" * 5000, "-" * 50_000 + "1", "linear(5)" + " * 1" * 50_000]
)
def test_text_too_deep_to_read_is_a_mistake_too(text):
    with pytest.raises(ValueError, match=r"too (deep|many)"):
        parse(text)

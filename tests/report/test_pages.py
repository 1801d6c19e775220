import json
import math
import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stories import finding, story

from surefoot.report import Story, compare, page

EVIL = "<img src=x onerror=alert(1)> & \"quoted\" 'too' </script></style>"


class Balanced(HTMLParser):
    """Fails on a tag that is closed without having been opened, or never."""

    void = ("meta",)

    def __init__(self, html):
        super().__init__()
        self.open, self.tags = [], set()
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def evil():
    """A story in which every text wants to be markup."""
    return Story(
        EVIL,
        EVIL,
        [(EVIL, EVIL)],
        {EVIL: EVIL},
        EVIL,
        finding(reason=EVIL),
        planned={EVIL: [0.1]},
        step=[1],
        lr={EVIL: [0.1]},
        metrics={EVIL: [(1, 1.0)]},
        ratios={f"{EVIL}{i}": [(1, 1e-3)] for i in range(9)},
    )


@pytest.mark.parametrize(
    "told", [[story()], [Story("run")], [evil()], [story(), evil()]], ids=["whole", "empty", "evil", "two"]
)
def test_a_page_is_whole_needs_no_network_and_holds_no_markup_but_ours(told):
    html = page(*told) if len(told) == 1 else compare(told)
    tags = Balanced(html).tags
    assert not tags & {"img", "link", "iframe", "object"}
    assert not re.search(r"https?:|url\(|@import", html)
    assert "default-src 'none'" in html


def test_every_text_is_told():
    html = page(story())
    for text in (
        "<h1>digits-3: handwritten digits</h1>",
        "97.83 % of the held-out images are right.",
        "<li>The gradients were clipped at 61 % of the steps. <span>Raise clip_norm.</span></li>",
        "passes waiting for data. <span>Set num_workers.</span>",
        "<tr><th>task</th><td>digits</td></tr>",
        "<pre tabindex=0>surefoot train --resume runs/digits-3</pre>",
        "<li><b>240</b><span>steps</span></li>",
        "<b>0.9795</b><span>held-out accuracy</span>",
    ):
        assert text in html


def test_what_is_empty_is_left_out():
    html = page(Story("run"))
    assert not re.search(r"<figure|<section|<ul|<p|<table", html)


def test_of_runs_compared_results_stand_side_by_side_and_settings_where_they_differ():
    html = compare([story("one", lr=1e-3), story("two", lr=2e-3)])
    assert "<th></th><th>one</th><th>two</th>" in html
    assert "<tr><th>lr</th><td>0.001</td><td>0.002</td></tr>" in html
    assert "<tr><th>task</th><td>digits</td></tr>" in html.split("Settings in common")[1]


COLUMN = st.lists(st.one_of(st.none(), st.floats(width=32), st.floats()), min_size=3, max_size=3)


@settings(max_examples=40)
@given(st.lists(COLUMN, min_size=7, max_size=7))
def test_no_number_breaks_the_page(columns):
    loss, norm, coef, speed, rate, metric, ratio = columns
    told = Story(
        "run",
        finding=finding(),
        planned={"a": rate},
        step=[1, 2, 3],
        loss=loss,
        lr={"a": rate},
        grad_norm=norm,
        clip_coef=coef,
        throughput=speed,
        metrics={"val_loss": list(enumerate(metric)), "bleu": list(enumerate(metric))},
        ratios={str(i): list(enumerate(ratio)) for i in range(columns[0].count(None) * 4 + 1)},
    )
    for html in (page(told), compare([told, told])):
        Balanced(html)
        for text in re.findall(r'<script type="application/json">(.*?)</script>', html):
            json.loads(text)
        assert not re.search(
            r"\b(nan|inf)\b", html.split("</style>")[1].split("<script>\n")[0], re.IGNORECASE
        )


def test_the_page_of_a_long_run_is_small():
    started = time.monotonic()
    html = page(story(steps=100_000, epochs=100, layers=30))
    assert len(html.encode()) < 2e6
    assert time.monotonic() - started < 30  # a machine that is busy, too


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: page({}), TypeError, r"story=\{\} is a dict: pass a surefoot.report.Story"),
        (
            lambda: compare([Story("a"), 3]),
            TypeError,
            r"stories\[1\]=3 is a int: pass a surefoot.report.Story",
        ),
        (lambda: compare([]), ValueError, "stories is empty: name at least one run"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_gap_is_no_number_to_the_script():
    html = page(Story("run", step=[1, 2, 3], loss=[1.0, math.inf, None]))
    assert '"y":[1,null,null]' in html

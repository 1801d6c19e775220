import json
import math
import re

from hypothesis import given
from hypothesis import strategies as st

from surefoot.report.chart import Chart, Line, Mark, Zone
from surefoot.report.scale import Scale

VALUES = st.lists(st.one_of(st.floats(-1e9, 1e9), st.just(math.nan)), min_size=1, max_size=30)


def chart(*lines, x=None, y=None, **kwargs):
    return Chart("key", "Title", "Caption.", x or Scale(0, 4), y or Scale(0, 4), lines, **kwargs).html()


def drawn(html):
    """What the chart's paths say, grid and swatches left out."""
    svg = html.split('<svg viewBox="0 0 1000 1000"')[1].split("</svg>")[0]
    return re.findall(r'<path class="(?!grid)([^"]+)" d="([^"]+)"', svg)


@given(VALUES, st.booleans(), st.sampled_from(["line", "raw", "plan", "dots", "measured"]))
def test_every_point_is_inside_the_picture(values, log, look):
    y = Scale.over(values[: len(values) // 2], log=log)
    html = chart(Line("a", range(len(values)), values, look=look), y=y)
    for _, d in drawn(html):
        places = [float(number) for number in re.findall(r"-?[\d.]+(?:e-?\d+)?", d.replace("h0", ""))]
        assert all(0 <= place <= 1000 for place in places)
        assert "nan" not in d


def test_a_gap_breaks_the_line_and_a_lone_point_is_a_dot():
    nan = math.nan
    paths = drawn(chart(Line("a", [0, 1, 2, 3, 4], [0.0, 1.0, nan, 3.0, nan])))
    assert paths == [("line c0", "M0 1000L250 750M750 250h0"), ("lone dot c0", "M750 250h0")]


def test_what_leaves_the_axis_is_drawn_up_to_its_edge_and_not_along_it():
    ((_, d),) = drawn(chart(Line("a", [0, 1, 2, 3, 4], [0.0, 9.0, 9.0, 9.0, 9.0])))
    assert d == "M0 1000L250 0"


def test_marks_and_zones_are_told_in_the_legend():
    html = chart(Line("a", [0], [1.0]), marks=(Mark("limit", 2),), zones=(Zone("bad <zone>", 3, 4, "bad"),))
    assert {name for name, _ in drawn(html)} == {"line c0", "lone dot c0", "mark", "bad"}
    assert "limit</span>" in html
    assert "bad &lt;zone&gt;</span>" in html


def test_the_legend_tells_the_last_number_unless_it_is_of_the_future():
    lines = (
        Line("a", [0, 1], [1.0, 2.5]),
        Line("b", [0, 1], [1.0, math.nan]),
        Line("c", [9], [7.0], look="plan"),
    )
    assert re.findall("<output>(.*?)</output>", chart(*lines)) == ["2.5", "1", ""]
    assert re.findall("<output>(.*?)</output>", chart(*lines, last=False)) == ["", "", ""]


def test_lines_beyond_the_colours_are_dashed():
    styles = [Line("a", [], [], color=i).style for i in (0, 5, 6)]
    assert styles == ["line c0", "line c5", "line c0 again"]


def test_what_the_script_reads_cannot_end_its_element_and_is_exact():
    html = chart(Line("a", [0, 100_001], [math.nan, 1.23456e-7]), unit="</script><b>", read="</script>")
    (text,) = re.findall(r'<script type="application/json">(.*?)</script>', html)
    numbers = json.loads(text)
    assert numbers["lines"] == [{"x": [0, 100_001], "y": [None, 1.235e-7], "holds": False}]
    assert numbers["unit"] == "</script>"


def test_a_long_line_is_thinned():
    steps = range(100_000)
    html = chart(Line("a", steps, [math.sin(step) for step in steps]), x=Scale(0, 100_000))
    assert len(html) < 60_000

import json
import math
import re

import pytest

from surefoot.report.heat import HeatMap
from surefoot.report.scale import Scale


def heat(rows):
    return HeatMap("ratios", "Title", "Caption.", Scale(0, 600), rows, usual=1e-3).html()


@pytest.mark.parametrize(
    ("value", "shade"),
    [
        (1e-9, 0),
        (2e-5, 1),
        (5e-5, 2),
        (2e-4, 3),
        (1e-3, 4),
        (2e-3, 4),
        (5e-3, 5),
        (2e-2, 6),
        (5e-2, 7),
        (1.0, 8),
    ],
)
def test_the_colour_says_how_far_a_value_is_from_usual(value, shade):
    html = heat({"fc": [(300, value)]})
    assert re.findall(r'<path class="q(\d)"', html) == [str(shade)]


def test_cells_hold_the_median_and_last_until_the_next_measurement():
    html = heat({"a": [(1, 1e-3), (2, 9.0), (3, 2e-3), (300, 5e-3)], "b": [(300, math.nan)]})
    (text,) = re.findall(r'<script type="application/json">(.*?)</script>', html)
    a, b = json.loads(text)["cells"]
    assert (a[0], a[29], a[30], a[59]) == (2e-3, 2e-3, 5e-3, 5e-3)
    assert set(b) == {None}


def test_what_did_not_move_has_no_colour():
    assert "<path" not in heat({"frozen": [(300, 0.0)]}).split("<svg")[1]


def test_long_names_are_cut_where_layers_are_alike_and_whole_where_they_are_pointed_at():
    html = heat({"transformer.blocks.11.attention.<q>": [(1, 1e-3)]})
    assert ">…ocks.11.attention.&lt;q&gt;<" in html
    assert 'title="transformer.blocks.11.attention.&lt;q&gt;"' in html

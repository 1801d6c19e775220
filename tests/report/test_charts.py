import math

import pytest
from stories import finding, story

from surefoot.report import Finding, Story
from surefoot.report.chart import Chart
from surefoot.report.charts import charts
from surefoot.report.heat import HeatMap


def by_key(told):
    return {chart.key: chart for chart in charts(told)}


def lines(chart):
    return {line.name: line for line in chart.lines}


def test_there_is_a_chart_of_everything_there_is_data_for():
    keys = ["loss", "metric-val_accuracy", "rates", "range", "gradient", "clipping", "ratios", "throughput"]
    assert list(by_key(story())) == keys


@pytest.mark.parametrize(
    ("parts", "keys"),
    [
        ({}, []),
        ({"step": [1], "loss": [1.0]}, ["loss"]),
        ({"step": [1], "loss": [math.nan], "grad_norm": [None], "clip_coef": [None]}, []),
        ({"metrics": {"val_loss": [(3, 1.0)]}}, ["loss"]),
        ({"metrics": {"val_loss": [], "bleu": [(3, math.inf)]}}, []),
        ({"planned": {"all": [0.1, 0.2]}}, ["rates"]),
        ({"step": [1], "grad_norm": [2.0], "clip_coef": [1.0]}, ["gradient"]),
        ({"step": [1], "grad_norm": [0.0]}, ["gradient"]),
        ({"ratios": {"fc": [(1, math.nan)]}}, []),
        ({"ratios": {"fc": [(1, 0.0)]}}, ["ratios"]),
        ({"step": [1], "lr": {"all": [0.0]}}, ["rates"]),
        ({"finding": Finding([], [])}, []),
        ({"finding": Finding([0.1], [math.nan])}, ["range"]),
    ],
)
def test_a_chart_without_data_is_left_out(parts, keys):
    found = by_key(Story("run", **parts))
    assert list(found) == keys
    assert all("nan" not in chart.html().lower() for chart in found.values())


def test_the_loss_of_each_batch_is_drawn_with_a_smooth_line_and_what_was_held_out():
    chart = by_key(story(metrics={"val_loss": [(10, 2.0), (20, 1.0), (30, 1.5)]}))["loss"]
    assert [(line.name, line.look) for line in chart.lines] == [
        ("each batch", "raw"),
        ("training, smoothed", "line"),
        ("held out", "measured"),
    ]
    assert chart.caption == "Held-out loss 1.5; at best 1, at step 20."
    assert chart.epochs[:2] == ((1, 1), (21, 2))


def test_a_spike_does_not_flatten_the_loss():
    losses = [2.0 - step / 200 for step in range(200)]
    losses[50] = 1e6
    (chart,) = charts(Story("run", step=range(200), loss=losses))
    assert chart.y.high < 3
    assert max(lines(chart)["training, smoothed"].ys) < 3


def test_groups_of_equal_rates_are_one_line_beside_their_plan():
    rates = [0.1, 0.2]
    told = Story("run", step=[1, 2], lr={"a": rates, "b": rates, "c": [1, 2]}, planned={"c": [1, 2, 3, 4]})
    (chart,) = charts(told)
    assert [(line.name, line.look, line.color) for line in chart.lines] == [
        ("c", "line", 0),
        ("planned", "plan", 0),
        ("a, b", "line", 1),
    ]
    assert chart.caption == "As planned, dashed, and as it was. Planned to step 4, trained to step 2."


def test_of_many_rates_some_are_drawn_the_highest_and_the_lowest_among_them():
    told = story(groups=[f"layer {i}" for i in range(14)])
    chart = by_key(told)["rates"]
    names = [line.name for line in chart.lines if line.look == "line"]
    assert len(names) == 6
    assert (names[0], names[-1]) == ("layer 0", "layer 13")
    assert "6 of 14 different rates" in chart.caption


def test_the_range_test_shows_suggestion_interval_and_where_it_diverges():
    chart = by_key(story())["range"]
    assert chart.x.log
    assert [(mark.axis, mark.value) for mark in chart.marks] == [("x", 2e-3)]
    interval, diverging = chart.zones
    assert (interval.start, interval.end) == (1e-3, 4e-3)
    assert 0.1 < diverging.start < 0.4
    assert chart.y.high < 5
    assert chart.caption == "The loss falls fastest here. 3 trials."


def test_a_test_that_abstains_says_so_and_marks_nothing():
    abstained = finding(suggestion=None, interval=None, reason="", trials=1, abstained=True)
    chart = by_key(story(finding=abstained))["range"]
    assert chart.caption == "No suggestion: the test saw nothing clear."
    assert chart.marks == ()
    assert [zone.kind for zone in chart.zones] == ["bad"]


@pytest.mark.parametrize(("losses", "start"), [([3, 2, 1, 2, 4], 1.0), ([3, 2, 1, math.nan, 1.5], 0.1)])
def test_a_sweep_diverges_where_it_is_above_its_start_or_no_number(losses, start):
    told = Finding([1e-4, 1e-3, 1e-2, 0.1, 1.0], losses)
    (chart,) = charts(Story("run", finding=told))
    assert [zone.start for zone in chart.zones] == [start]


@pytest.mark.parametrize(("name", "looks"), [("loss_recon", ["raw", "line"]), ("val_error", ["measured"])])
def test_a_loss_of_each_update_is_smoothed_and_a_result_is_not(name, looks):
    (chart,) = charts(Story("run", step=[1], metrics={name: [(i, 1 / i) for i in range(1, 50)]}))
    assert [line.look for line in chart.lines] == looks


def test_the_norm_that_gradients_are_clipped_to_is_marked_if_there_is_one():
    marks = by_key(story())["gradient"].marks
    assert [(mark.name, round(mark.value, 6)) for mark in marks] == [("clipped above 1", 1)]
    wandering = story(steps=60, clip_coef=[0.5] * 60)
    assert by_key(wandering)["gradient"].marks == ()


def test_the_clip_rate_is_told_in_words():
    coefs = [0.5] * 15 + [1.0] * 45
    chart = by_key(story(steps=60, clip_coef=coefs))["clipping"]
    assert "clipped: 25 % of all" in chart.caption


def test_few_layers_are_lines_and_many_a_heat_map():
    few, many = by_key(story(layers=6))["ratios"], by_key(story(layers=7))["ratios"]
    assert isinstance(few, Chart)
    assert few.y.log
    assert [mark.value for mark in few.marks] == [1e-3]
    assert isinstance(many, HeatMap)
    assert len(many.rows) == 7


def test_of_very_many_layers_the_farthest_from_usual_are_shown_in_the_models_order():
    ratios = {f"layer {i}": [(1, 1e-3 * 10 ** (i / 50))] for i in range(100)}
    chart = by_key(Story("run", step=[1], ratios=ratios))["ratios"]
    assert list(chart.rows) == [f"layer {i}" for i in range(60, 100)]
    assert "40 of 100" in chart.caption

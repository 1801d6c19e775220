from stories import story

from surefoot.report import Story
from surefoot.report.compare import differing, together


def test_each_run_has_one_colour_in_all_charts():
    runs = [story("a", steps=120), Story("b", step=[1], grad_norm=[1.0]), story("c", steps=60, lr=1e-4)]
    charts = list(together(runs))
    assert [chart.key for chart in charts] == [
        "loss",
        "metric-val_loss",
        "metric-val_accuracy",
        "rates",
        "range",
        "grad_norm",
        "throughput",
    ]
    colors = {(line.name, line.color) for chart in charts for line in chart.lines}
    assert colors == {("a", 0), ("b", 1), ("c", 2)}


def test_runs_of_unequal_length_share_an_axis():
    (chart,) = together([Story(str(n), step=range(1, n + 1), loss=[1.0] * n) for n in (5, 50)])
    assert (chart.x.low, chart.x.high) == (0, 50)


def test_of_groups_the_highest_rate_is_drawn():
    (chart,) = together([Story("a", step=[1, 2], lr={"x": [0.1, 0.2], "y": [0.3, 0.1]})])
    assert chart.lines[0].ys == [0.3, 0.2]


def test_rates_far_apart_are_on_a_logarithmic_axis():
    runs = [Story(str(lr), step=[1, 2], lr={"x": [lr, lr]}) for lr in (1e-4, 0.1)]
    assert [chart.y.log for chart in together(runs)] == [True]


def test_a_loss_may_be_on_a_logarithmic_axis_and_an_accuracy_may_not():
    for name, log in (("val_loss", True), ("val_accuracy", False)):
        (chart,) = together([Story("a", step=[1, 2], metrics={name: [(1, 0.05), (2, 1.0)]})])
        assert chart.y.log is log


def test_a_setting_that_a_run_lacks_differs():
    assert differing([Story("a", settings={"clip": 1.0}), Story("b")]) == {"clip": ["1", ""]}

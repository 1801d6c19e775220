import io
import math
import re
import sys
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from surefoot import plots
from surefoot.curves import cosine, warmup


def rendered(axes: Axes, x: str, y: str, lines: int) -> Axes:
    """The axes, found to be labelled, to have this many lines, and to be drawn without a warning."""
    assert (axes.get_xlabel(), axes.get_ylabel()) == (x, y)
    assert len(axes.lines) == lines
    limits = [*axes.get_xlim(), *axes.get_ylim()]
    assert all(map(math.isfinite, limits))
    axes.figure.savefig(io.BytesIO(), format="png")
    assert [*axes.get_xlim(), *axes.get_ylim()] == limits
    return axes


def legend(axes: Axes) -> list[str]:
    """What the legend says, found to be inside the picture."""
    if axes.get_legend() is None:
        return []
    inside, box = axes.figure.bbox, axes.get_legend().get_window_extent()
    assert inside.x0 <= box.x0 < box.x1 <= inside.x1
    assert inside.y0 <= box.y0 < box.y1 <= inside.y1
    return [text.get_text().replace("\n", "") for text in axes.get_legend().get_texts()]


# The range test

LRS = np.geomspace(1e-5, 10, 101).tolist()
DECADES = np.log10(LRS)
CURVES: dict[str, list[float]] = {
    "falls and diverges": (2 - np.tanh(DECADES + 2) + np.exp(5 * DECADES)).tolist(),
    "below zero": (-7 - np.tanh(DECADES + 2) + np.exp(5 * DECADES)).tolist(),
    "only falls": (2 - np.tanh(DECADES + 2)).tolist(),
    "only rises": (2 + np.exp(DECADES)).tolist(),
    "hardly falls": (2 + 1e-4 * np.cos(40 * DECADES) + np.exp(DECADES)).tolist(),
    "tiny": (1e-9 * (2 - np.tanh(DECADES + 2))).tolist(),
    "flat": [0.5] * 101,
    "zero": [0.0] * 101,
}


@pytest.mark.parametrize("losses", CURVES.values(), ids=CURVES)
@pytest.mark.parametrize("log_lr", [True, False])
def test_most_of_the_sweep_is_seen(losses: list[float], log_lr: bool) -> None:
    axes = plots.lr_range(LRS, losses, suggestion=LRS[40], log_lr=log_lr)
    rendered(axes, "Learning rate", "Loss", lines=3)
    assert axes.get_xscale() == ("log" if log_lr else "linear")
    low, high = axes.get_ylim()
    assert sum(low < loss < high for loss in losses) > 50
    assert low < losses[40] < high
    left, right = axes.get_xlim()
    assert left <= LRS[0] < LRS[-1] <= right


def test_a_diverging_tail_does_not_flatten_the_rest() -> None:
    losses = CURVES["falls and diverges"]
    low, high = plots.lr_range(LRS, losses).get_ylim()
    assert max(losses) > 100
    assert high - low < 2 * (losses[0] - min(losses))


@pytest.mark.parametrize("points", [1, 2])
@pytest.mark.parametrize("log_lr", [True, False])
@pytest.mark.parametrize("marked", [True, False])
def test_a_few_points_are_seen(points: int, log_lr: bool, marked: bool) -> None:
    suggestion = 1e-5 if marked else None
    axes = plots.lr_range([1e-5, 1e-4][:points], [2.0, 1.0][:points], suggestion=suggestion, log_lr=log_lr)
    rendered(axes, "Learning rate", "Loss", lines=3 if marked else 1)
    assert axes.get_xlim()[0] < 1e-5 < axes.get_xlim()[1]
    assert axes.get_ylim()[0] < 2.0 < axes.get_ylim()[1]
    if points == 1:
        assert axes.lines[0].get_marker() == "o"


def test_the_suggestion_is_marked_on_the_curve() -> None:
    losses = CURVES["falls and diverges"]
    axes = rendered(plots.lr_range(LRS, losses, suggestion=LRS[50]), "Learning rate", "Loss", lines=3)
    assert f"{LRS[50]:.1e}" in axes.get_title()
    assert axes.lines[2].get_xydata().tolist() == [[LRS[50], losses[50]]]
    # Rounded, as from a file: the point nearest to it is marked.
    rounded = plots.lr_range(LRS, losses, suggestion=LRS[50] * 1.001).lines[2].get_xydata().tolist()
    assert rounded == [[LRS[50] * 1.001, losses[50]]]


def test_another_rate_is_marked_beside_it() -> None:
    axes = plots.lr_range(LRS, CURVES["only falls"], suggestion=LRS[50], show_lr=0.05)
    rendered(axes, "Learning rate", "Loss", lines=4)
    assert legend(axes) == ["5.0e-02"]


# The schedule


def test_equal_groups_are_drawn_once() -> None:
    lrs = [0.1, 0.2, 0.1]
    axes = rendered(plots.schedule({"a": lrs, "b": list(lrs)}), "Step", "Learning rate", lines=1)
    assert legend(axes) == []
    assert axes.lines[0].get_xydata().tolist() == [[1, 0.1], [2, 0.2], [3, 0.1]]
    axes = plots.schedule({"a": lrs, "b": [0.0] * 3, "c": lrs})
    rendered(axes, "Step", "Learning rate", lines=2)
    assert legend(axes) == ["a, c", "b"]
    assert axes.get_ylim()[0] == 0


@pytest.mark.parametrize("groups", [4, 9, 16, 40])
def test_every_group_can_be_told_apart(groups: int) -> None:
    axes = plots.schedule({f"layer {i}": [0.1 * i, 0.2 * i] for i in range(1, groups + 1)})
    rendered(axes, "Step", "Learning rate", lines=groups)
    assert legend(axes) == [f"layer {i}" for i in range(1, groups + 1)]
    looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
    assert len(looks) == min(groups, 16)
    # The legend leaves the curves room.
    assert axes.get_window_extent().width > 0.35 * axes.figure.bbox.width


def test_a_legend_of_many_names_stays_short() -> None:
    groups = {f"encoder.layer.{i}.attention.bias": [0.1, 0.2] for i in range(50)}
    axes = rendered(plots.schedule({**groups, "head": [1.0, 1.0]}), "Step", "Learning rate", lines=2)
    first = "encoder.layer.0.attention.bias, encoder.layer.1.attention.bias and 48 more"
    assert legend(axes) == [first, "head"]


@pytest.mark.parametrize(
    ("lrs", "lines"),
    [({}, 0), ({"a": []}, 1), ({"a": [0.1]}, 1), ({"a": [0.0, 0.0]}, 1), ({"a": [1e-9] * 9}, 1)],
)
def test_a_schedule_of_next_to_nothing(lrs: Any, lines: int) -> None:
    axes = rendered(plots.schedule(lrs), "Step", "Learning rate", lines=lines)
    if lrs.get("a") == [0.1]:
        assert axes.lines[0].get_marker() == "o"


# Curves, and what a scheduler will set


def test_a_curve_says_what_it_is_and_where_its_parts_meet() -> None:
    title = "warmup(2) >> " + " >> ".join(["linear(4)"] * 12)
    axes = plots.curve(range(5), [1.0, 2.0, 3.0, 2.0, 1.0], label="lr", title=title, joins=[2, 6])
    rendered(axes, "Step", "lr", lines=2)  # what begins at step 6 is not in the picture
    assert list(axes.lines[0].get_xdata()) == [2, 2]
    assert axes.lines[1].get_xydata().tolist() == [[0, 1], [1, 2], [2, 3], [3, 2], [4, 1]]
    assert axes.get_title().replace("\n", " ") == title
    inside, box = axes.figure.bbox, axes.title.get_window_extent()
    assert inside.x0 <= box.x0 < box.x1 <= inside.x1
    assert box.y1 <= inside.y1


def test_a_curve_draws_itself() -> None:
    curve = warmup(100) >> cosine(900, to=0.1)
    axes = rendered(curve.plot(base=0.5, title="$a$"), "Step", "Value for a base of 0.5", lines=2)
    assert list(axes.lines[1].get_ydata()) == curve.values(1051, 0.5)
    assert axes.get_title() == "$a$"
    png = curve._repr_png_()
    assert png is not None
    assert png.startswith(b"\x89PNG")
    assert plt.get_fignums() == [1]  # the picture for a notebook leaves none behind


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        ([0.0, 1.0], 0, 1.05),
        ([0.3, 1.0], 0, 1.05),
        ([0.9, 0.9], 0, 0.95),  # stays: nothing to see closer
        ([0.99, 0.999], 0.98, 1.0),  # from 0 it would be a line
        ([-1.0, 1.0], -1.2, 1.2),
        ([-1.0, -1.0], -1.2, 0.0),
        ([0.0, 0.0], 0, 0.1),
        ([1.0, math.inf], 0, 1.05),
    ],
)
def test_the_change_of_a_curve_is_seen(values: list[float], low: float, high: float) -> None:
    axes = rendered(plots.curve([0, 1], values), "Step", "Value", lines=1)
    assert low <= axes.get_ylim()[0] <= min(values)
    assert max(filter(math.isfinite, values)) < axes.get_ylim()[1] <= high


LONG = "encoder.layers.attention.query_key_value."


def preview(values: dict[str, dict[str, list[float]]]) -> list[Axes]:
    made = plots.preview(values)
    made.savefig(io.BytesIO(), format="png")
    assert plt.get_fignums() == []  # a notebook would show it twice
    return list(made.axes)


def test_a_preview_has_axes_for_each_hyperparameter() -> None:
    groups = {LONG + "weight": [0.0, 1.0], LONG + "bias": [0.0, 1.0], "_norms": [0.0, 2.0]}
    lr, momentum = preview({"lr": groups, "betas[1]": {"_norms": [0.9, 0.99]}})
    assert (lr.get_xlabel(), lr.get_ylabel(), len(lr.lines)) == ("", "Learning rate", 2)
    assert legend(lr) == [f"{LONG}weight, {LONG}bias", "_norms"]
    assert (momentum.get_xlabel(), momentum.get_ylabel(), len(momentum.lines)) == ("Step", "betas[1]", 1)
    assert legend(momentum) == ["_norms"]  # not of every group
    for axes in (lr, momentum):
        assert axes.get_window_extent().width > 0.5 * axes.figure.bbox.width


def test_a_preview_of_one_line_needs_no_legend() -> None:
    (axes,) = preview({"lr": {"0": [0.1, 0.2], "1": [0.1, 0.2]}})
    assert (len(axes.lines), legend(axes)) == (1, [])
    assert list(axes.lines[0].get_xdata()) == [0, 1]


# The loss

TRAIN = (2 * np.exp(-np.arange(300) / 100)).tolist()


def test_the_held_out_loss_is_drawn_where_it_was_measured() -> None:
    axes = plots.loss(TRAIN, {100: 1.0, 200: 0.5, 300: 0.75})
    rendered(axes, "Step", "Loss", lines=3)
    assert legend(axes) == ["training, each batch", "training, smoothed", "held out"]
    assert axes.lines[2].get_xydata().tolist() == [[100, 1.0], [200, 0.5], [300, 0.75]]
    assert axes.get_title() == "Held-out loss 0.75; at best 0.5, step 200"
    assert axes.get_yscale() == "log"


def test_without_a_held_out_loss_there_is_nothing_to_say() -> None:
    axes = rendered(plots.loss(TRAIN, {}), "Step", "Loss", lines=2)
    assert axes.get_title() == ""
    assert legend(axes) == ["training, each batch", "training, smoothed"]
    assert list(axes.lines[0].get_xdata()) == list(range(1, 301))


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        ([1.0, -1.0], {}),
        ([1.0, 0.0], {2: 1.0}),
        ([1.0], {1: -1.0}),
        ([1.0, math.nan], {}),
        ([-math.inf, 1.0], {}),
    ],
)
def test_losses_that_have_no_logarithm_are_drawn_too(train: list[float], validation: Any) -> None:
    axes = rendered(plots.loss(train, validation), "Step", "Loss", lines=3 if validation else 2)
    assert axes.get_yscale() == "linear"


@pytest.mark.parametrize("train", [[], [1.0], [1.0, math.inf], [1e-30, 1e30]])
def test_a_loss_of_next_to_nothing(train: list[float]) -> None:
    axes = rendered(plots.loss(train, {}), "Step", "Loss", lines=2)
    if len(train) == 1:
        assert axes.lines[0].get_marker() == "o"


@pytest.mark.parametrize("train", [[2.0, 0.5], [9.0, 4.0], [50.0, 0.001]])
def test_the_loss_axis_has_plain_numbers(train: list[float]) -> None:
    axes = plots.loss(train, {})
    axes.figure.canvas.draw()
    low, high = axes.get_ylim()
    labels = [
        label.get_text()
        for minor in (False, True)
        for place, label in zip(axes.get_yticks(minor=minor), axes.get_yticklabels(minor=minor), strict=True)
        if label.get_text() and low <= place <= high
    ]
    assert len(labels) >= 2
    assert all(re.fullmatch(r"[\d.]+(e-\d+)?", label) for label in labels)


def test_the_mean_is_one_of_the_axis_it_is_drawn_on() -> None:
    train = [1.0, 9.0, 4.0]
    geometric = [math.exp(value) for value in plots.smooth([math.log(value) for value in train], 0.9)]
    assert list(plots.loss(train, {}).lines[1].get_ydata()) == geometric
    train[1] = -9.0
    assert list(plots.loss(train, {}).lines[1].get_ydata()) == plots.smooth(train, 0.9)


def test_the_smoothed_loss_is_a_mean_of_those_before() -> None:
    assert plots.smooth([], 0.9) == []
    assert plots.smooth([3.0] * 20, 0.9) == pytest.approx([3.0] * 20)
    assert plots.smooth([1.0, 4.0], 0.5) == pytest.approx([1.0, (0.25 * 1 + 0.5 * 4) / 0.75])
    assert plots.smooth([1.0, 2.0, 4.0], 0.0) == [1.0, 2.0, 4.0]


# Axes and figures

DRAWN: dict[str, Any] = {
    "lr_range": lambda ax: plots.lr_range(LRS, CURVES["only falls"], ax=ax),
    "schedule": lambda ax: plots.schedule({"a": [1.0, 2.0]}, ax=ax),
    "loss": lambda ax: plots.loss(TRAIN, {}, ax=ax),
    "curve": lambda ax: plots.curve([0, 1], [1.0, 2.0], ax=ax),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_it_draws_where_it_is_told(draw: Any) -> None:
    _, (left, right) = plt.subplots(1, 2)
    assert draw(right) is right
    assert right.lines
    assert not left.lines
    assert plt.get_fignums() == [1]
    assert draw(None) not in (left, right)
    assert plt.get_fignums() == [1, 2]


def test_a_picture_is_shown_where_there_is_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[bool] = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(True))
    axes = plots.figure()
    plots.show(axes)
    assert shown == []
    monkeypatch.setattr(type(axes.figure.canvas), "required_interactive_framework", "tk", raising=False)
    plots.show(axes)
    assert shown == [True]


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_without_matplotlib_the_error_says_what_to_install(
    draw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"plots need matplotlib: pip install 'surefoot\[plot\]'"):
        draw(None)

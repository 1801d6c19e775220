"""The charts of several runs in one: a colour for each run, the same in all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from surefoot.report.chart import Chart, Line
from surefoot.report.charts import alone, around, average, linear, range_axes, steps_axis, title_of
from surefoot.report.scale import Scale
from surefoot.report.series import finite, numbers, quantile
from surefoot.report.story import Story

__all__ = ["differing", "shown", "together"]


def together(stories: Sequence[Story]) -> Iterator[Chart]:
    """Every chart that one of the stories has data for."""
    x = steps_axis(stories)
    yield from _columns(stories, x, "loss", "Training loss", "Smoothed.")
    names = dict.fromkeys(name for story in stories for name in ["val_loss", *alone(story)])
    for name in names:
        lines = []
        for i, story in enumerate(stories):
            steps, values = _split(story, name)
            if finite(values):
                lines.append(Line(story.title, steps, values, i, "measured"))
        if lines:
            every = [value for line in lines for value in finite(line.ys)]
            y = around([], every) if "loss" in name else linear(every)
            yield Chart(f"metric-{name}", title_of(name), "", x, y, tuple(lines))
    yield from _rates(stories, x)
    yield from _range_tests(stories)
    yield from _columns(
        stories, x, "grad_norm", "Gradient norm", "Norm of all gradients, before clipping; smoothed."
    )
    yield from _columns(stories, x, "throughput", "Throughput", "Samples per second, smoothed.")


def differing(stories: Sequence[Story]) -> dict[str, list[str]]:
    """The settings that are not the same in all runs, with the value in each.

    Example:
        >>> differing([Story("a", settings={"lr": 1, "seed": 0}), Story("b", settings={"lr": 2, "seed": 0})])
        {'lr': ['1', '2']}
    """
    names = dict.fromkeys(name for story in stories for name in story.settings)
    rows = {name: [shown(story.settings.get(name, "")) for story in stories] for name in names}
    return {name: values for name, values in rows.items() if len(set(values)) > 1}


def shown(value: object) -> str:
    """A setting as text, without digits that decide nothing.

    Example:
        >>> shown(0.1 + 0.2), shown((1, 2)), shown("adamw")
        ('0.3', '(1, 2)', 'adamw')
    """
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _columns(stories: Sequence[Story], x: Scale, column: str, title: str, text: str) -> Iterator[Chart]:
    lines = []
    for i, story in enumerate(stories):
        values = numbers(getattr(story, column))
        if finite(values):
            (*_, smooth), _ = average(story.title, list(story.step), values)
            lines.append(replace(smooth, name=story.title, color=i))
    if not lines:
        return
    shown = [value for line in lines for value in finite(line.ys)]
    y = Scale.over(shown, zero=True) if column == "throughput" else around([], shown)
    yield Chart(column, title, text, x, y, tuple(lines), wide=column == "loss")


def _rates(stories: Sequence[Story], x: Scale) -> Iterator[Chart]:
    lines = []
    for i, story in enumerate(stories):
        if story.lr:
            columns = zip(*map(numbers, story.lr.values()), strict=True)
            lines.append(Line(story.title, list(story.step), [quantile(rates, 1) for rates in columns], i))
    if lines:
        tops = [max(finite(line.ys), default=0.0) for line in lines]
        log = min(tops) > 0 and max(tops) > 30 * min(tops)
        y = Scale.over([value for line in lines for value in line.ys], log=log, zero=True)
        several = any(len(story.lr) > 1 for story in stories)
        text = "Of the group whose rate is the highest." if several else ""
        yield Chart("rates", "Learning rate", text, x, y, tuple(lines))


def _range_tests(stories: Sequence[Story]) -> Iterator[Chart]:
    found = [
        (i, story.title, story.finding)
        for i, story in enumerate(stories)
        if story.finding and story.finding.lr
    ]
    if not found:
        return
    axes = [range_axes(finding) for _, _, finding in found]
    lines = tuple(Line(title, f.lr, numbers(f.fitted or f.loss), i) for i, title, f in found)
    x = Scale(min(x.low for x, _ in axes), max(x.high for x, _ in axes), log=True)
    y = Scale(min(y.low for _, y in axes), max(y.high for _, y in axes))
    yield Chart("range", "Learning-rate range test", "", x, y, lines, "learning rate", "rate", last=False)


def _split(story: Story, metric: str) -> tuple[list[int], list[float]]:
    pairs = story.metrics.get(metric, ())
    return [step for step, _ in pairs], numbers(value for _, value in pairs)

"""The charts of a run: what each shows, on which axes, and the sentence below its title."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from surefoot.report.chart import Chart, Line, Mark, Zone
from surefoot.report.heat import HeatMap
from surefoot.report.scale import Scale, short
from surefoot.report.series import finite, numbers, quantile, smoothed
from surefoot.report.story import Finding, Measured, Story

__all__ = ["alone", "around", "average", "charts", "range_axes", "steps_axis", "title_of"]

USUAL_RATIO = 1e-3
FEW = 6  # lines that are told apart at a glance
FEW_STEPS = 30  # values that are not worth smoothing
MANY = 40  # rows of a heat map


def charts(story: Story) -> Iterator[Chart | HeatMap]:
    """Every chart that ``story`` has data for, what is asked for first at the top."""
    steps, x, epochs = list(story.step), steps_axis([story]), _epochs(story)

    def column(name: str) -> list[float]:
        values = numbers(getattr(story, name))
        return values if finite(values) else []

    if (train := column("loss")) or story.metrics.get("val_loss"):
        yield _loss(story, train, x, epochs)
    for name in alone(story):
        yield _metric(name, story.metrics[name], x, epochs)
    if story.lr or story.planned:
        yield _rates(story, epochs)
    if story.finding is not None and story.finding.lr:
        yield _range_test(story.finding)
    if norms := column("grad_norm"):
        lines, y = average("all parameters", steps, norms)
        limit = _clipped_at(norms, column("clip_coef"))
        marks = () if limit is None else (Mark(f"clipped above {short(limit, 3)}", limit),)
        text = "Norm of all gradients, before clipping."
        yield Chart("gradient", "Gradient norm", text, x, y, lines, marks=marks, epochs=epochs)
    if any(coef < 1 for coef in column("clip_coef")):
        yield _clip_rate(steps, column("clip_coef"), x, epochs)
    if any(finite(numbers(value for _, value in pairs)) for pairs in story.ratios.values()):
        yield _ratios(story.ratios, x, epochs)
    if speed := column("throughput"):
        lines, _ = average("training", steps, speed)
        y = Scale.over([quantile(speed, 0.02), quantile(speed, 0.98)], zero=True)
        text = f"Samples per second, {short(quantile(speed, 0.5), 3)} in the middle."
        yield Chart("throughput", "Throughput", text, x, y, lines, epochs=epochs)


def alone(story: Story) -> list[str]:
    """The metrics that have a chart of their own."""
    return [
        n for n, pairs in story.metrics.items() if n != "val_loss" and finite(numbers(v for _, v in pairs))
    ]


def steps_axis(stories: Sequence[Story]) -> Scale:
    """The axis of steps that all charts of a page share."""
    return Scale.over([0, *(story.last_step for story in stories), 1], margin=0, whole=True)


def title_of(metric: str) -> str:
    """A metric's name as a heading.

    Example:
        >>> title_of("val_accuracy")
        'Held-out accuracy'
    """
    name = metric.replace("_", " ").strip()
    name = f"held-out {name[4:]}" if name.startswith("val ") else name
    return name[:1].upper() + name[1:]


def around(values: Sequence[float], others: Sequence[float] = ()) -> Scale:
    """A vertical axis for ``values`` but for rare spikes, and for all of ``others``; logarithmic where they span much."""
    there = finite([quantile(values, 0.01), quantile(values, 0.99), *values[:1], *others])
    lowest = min(finite([*values, *others]), default=0.0)
    log = lowest > 0 and max(there) > 8 * min(there)
    near = bool(there) and min(there) > 0.6 * max(there)
    return Scale.over(there, log=log, zero=not near)


def linear(values: Sequence[float]) -> Scale:
    """A vertical axis for results, such as an accuracy."""
    there = finite(values)
    return Scale.over(there, zero=min(there) < 0.6 * max(there))


def average(name: str, steps: Sequence[float], values: list[float]) -> tuple[tuple[Line, ...], Scale]:
    """Each value, pale, and the smooth line through them; a few are drawn as they are."""
    y = around(values)
    if len(values) < FEW_STEPS:
        return (Line(name, steps, values),), y
    # A spike that is off the axis does not take the average with it.
    within = [min(max(value, y.low), y.high) if math.isfinite(value) else value for value in values]
    smooth = smoothed(within, log=y.log)
    return (Line("each batch", steps, values, look="raw"), Line(f"{name}, smoothed", steps, smooth)), y


def range_axes(finding: Finding) -> tuple[Scale, Scale]:
    """Axes on which the fall of the loss is seen, whatever it does after."""
    shown = finite(numbers(finding.fitted or finding.loss))
    low, middle, first = quantile(shown, 0), quantile(shown, 0.5), shown[0] if shown else math.nan
    top = min(quantile(shown, 1), max(middle, first + 0.6 * (first - low)))
    return Scale.over(finding.lr, log=True, margin=0), Scale.over([low, top], margin=0.1)


def _loss(story: Story, train: list[float], x: Scale, epochs: tuple[tuple[int, int], ...]) -> Chart:
    lines, y = average("training", list(story.step), train) if train else ((), Scale(0, 1))
    held_out = list(zip(*story.metrics.get("val_loss", ()), strict=True))
    text = ""
    if held_out and finite(values := numbers(held_out[1])):
        lines = (*lines, Line("held out", held_out[0], values, color=1, look="measured"))
        y = around(train, values)
        lowest = min(finite(values))
        best = held_out[0][values.index(lowest)]
        text = f"Held-out loss {short(finite(values)[-1])}" + (
            ", the best so far."
            if best == held_out[0][-1]
            else f"; at best {short(lowest)}, at step {best:,}."
        )
    return Chart("loss", "Loss", text, x, y, lines, epochs=epochs, wide=True)


def _metric(name: str, pairs: Measured, x: Scale, epochs: tuple[tuple[int, int], ...]) -> Chart:
    steps, values = [step for step, _ in pairs], numbers(value for _, value in pairs)
    low, high = min(finite(values)), max(finite(values))
    text = f"Between {short(low)} and {short(high)}, at the end {short(finite(values)[-1])}."
    held_out = name.startswith("val_")
    label = "held out" if held_out else name.replace("_", " ")
    if held_out or len(values) < FEW_STEPS:
        lines: tuple[Line, ...] = (Line(label, steps, values, color=int(held_out), look="measured"),)
        spread = linear(values)
    else:  # a loss of each update
        lines, spread = average(label, steps, values)
    return Chart(f"metric-{name}", title_of(name), text, x, spread, lines, epochs=epochs)


def _rates(story: Story, epochs: tuple[tuple[int, int], ...]) -> Chart:
    """Groups of equal rates are one line; of many lines some are shown, from the highest to the lowest."""
    alike: dict[tuple[tuple[float, ...], tuple[float, ...]], list[str]] = {}
    for group in dict.fromkeys([*story.lr, *story.planned]):
        actual, planned = (numbers(rates.get(group, ())) for rates in (story.lr, story.planned))
        key = tuple(map(_exact, actual)), tuple(map(_exact, planned))
        alike.setdefault(key, []).append(group)
    ranked = sorted(alike, key=lambda key: -max(finite([*key[0], *key[1]]), default=0))
    shown = [ranked[i] for i in _spread(len(ranked), FEW)]
    lines = []
    for i, key in enumerate(shown):
        if key[0]:
            lines.append(Line(_joined(alike[key]), list(story.step), key[0], i))
        if key[1]:
            name = "planned" if key[0] else f"{_joined(alike[key])}, planned"
            lines.append(Line(name, range(1, len(key[1]) + 1), key[1], i, "plan"))
    values = [finite([*actual, *planned]) for actual, planned in shown]
    tops = [max(line) for line in values if line and max(line) > 0]
    log = bool(tops) and max(tops) > 30 * min(tops)
    end = max([story.last_step, *(len(planned) for _, planned in shown)])
    parts = []
    if story.lr and story.planned:
        parts.append("As planned, dashed, and as it was.")
    if end > story.last_step > 0:
        parts.append(f"Planned to step {end:,}, trained to step {story.last_step:,}.")
    if len(shown) < len(ranked):
        parts.append(f"{len(shown)} of {len(ranked)} different rates, from the highest to the lowest.")
    x = Scale.over([0, end], margin=0, whole=True)
    y = Scale.over([value for line in values for value in line], log=log, zero=True)
    return Chart("rates", "Learning rate", " ".join(parts), x, y, tuple(lines), epochs=epochs)


def _range_test(finding: Finding) -> Chart:
    x, y = range_axes(finding)
    raw, fitted = numbers(finding.loss), numbers(finding.fitted)
    lines = [Line("measured", finding.lr, raw, look="dots" if fitted else "line")]
    if fitted:
        lines.append(Line("fitted", finding.lr, fitted))
    marks, zones = [], []
    if finding.interval is not None:
        low, high = finding.interval
        zones.append(Zone(f"interval {short(low, 3)} to {short(high, 3)}", low, high))
    diverged = _diverging(finding.lr, fitted or raw, raw)
    if diverged is not None:
        zones.append(Zone("diverges", diverged, x.high, "bad"))
    if finding.suggestion is not None:
        marks.append(Mark(f"suggestion {short(finding.suggestion, 3)}", finding.suggestion, "x"))
    said = [finding.reason or ("No suggestion: the test saw nothing clear." if finding.abstained else "")]
    if finding.trials > 1:
        said.append(f"{finding.trials} trials.")
    text = " ".join(filter(None, said))
    return Chart(
        "range",
        "Learning-rate range test",
        text,
        x,
        y,
        tuple(lines),
        "learning rate",
        "rate",
        tuple(marks),
        tuple(zones),
        last=False,
    )


def _diverging(lrs: Sequence[float], curve: Sequence[float], raw: Sequence[float]) -> float | None:
    """The rate from which on the loss is above where it began, or no number."""
    there = finite(curve)
    if not there:
        return None
    lowest = max(i for i, value in enumerate(curve) if value == min(there))
    for lr, value, measured in list(zip(lrs, curve, raw, strict=True))[lowest + 1 :]:
        if value > there[0] or math.isnan(measured):
            return lr
    return None


def _clipped_at(norms: Sequence[float], coefs: Sequence[float]) -> float | None:
    """The norm that gradients were clipped to, if it was always the same."""
    limits = [norm * coef for norm, coef in zip(norms, coefs, strict=False) if coef < 1]
    low, high = quantile(limits, 0.1), quantile(limits, 0.9)
    return quantile(limits, 0.5) if low > 0.98 * high else None


def _clip_rate(steps: list[int], coefs: list[float], x: Scale, epochs: tuple[tuple[int, int], ...]) -> Chart:
    clipped = [math.nan if math.isnan(coef) else 100.0 * (coef < 1) for coef in coefs]
    there = finite(clipped)
    text = (
        f"Share of steps at which the gradients were clipped: {short(sum(there) / len(there), 3)} % of all."
    )
    line = Line("% of steps, smoothed", steps, smoothed(clipped))
    return Chart("clipping", "Clip rate", text, x, Scale(0, 104), (line,), epochs=epochs)


def _ratios(ratios: Mapping[str, Measured], x: Scale, epochs: tuple[tuple[int, int], ...]) -> Chart | HeatMap:
    title, text = (
        "Update-to-weight ratio",
        "Norm of each layer's update, divided by that of its weights. About 1e-3 is usual.",
    )
    pairs = {name: [(step, numbers([value])[0]) for step, value in line] for name, line in ratios.items()}
    if len(pairs) > FEW:
        worst = sorted(pairs, key=lambda name: -_odd(pairs[name]))[:MANY]
        rows = {name: line for name, line in pairs.items() if name in worst}
        text += (
            f" The {MANY} of {len(pairs)} layers that are farthest from it." if len(rows) < len(pairs) else ""
        )
        return HeatMap("ratios", title, text, x, rows, USUAL_RATIO)
    lines = [
        Line(n, [s for s, _ in line], [v for _, v in line], i) for i, (n, line) in enumerate(pairs.items())
    ]
    values = [value for line in lines for value in finite(line.ys) if value > 0]
    y = Scale.over([quantile(values, 0.005), quantile(values, 0.995), USUAL_RATIO], log=True)
    mark = Mark("1e-3", USUAL_RATIO)
    return Chart("ratios", title, text, x, y, tuple(lines), marks=(mark,), epochs=epochs)


def _odd(pairs: Measured) -> float:
    """How far from usual a layer is, in powers of ten."""
    powers = [abs(math.log10(value / USUAL_RATIO)) for _, value in pairs if value > 0]
    return quantile(powers, 0.5) if powers else 0.0


def _epochs(story: Story) -> tuple[tuple[int, int], ...]:
    """The first step of each pass; none where there are too many to tell."""
    firsts: dict[int, int] = {}
    for step, epoch in zip(story.step, story.epoch, strict=False):
        firsts.setdefault(int(epoch), int(step))
    return tuple((step, epoch) for epoch, step in firsts.items()) if len(firsts) <= 1000 else ()


def _spread(count: int, most: int) -> list[int]:
    return list(range(count)) if count <= most else [round(i * (count - 1) / (most - 1)) for i in range(most)]


def _exact(value: float) -> float:
    """NaN as one object, so that equal columns are equal."""
    return math.nan if math.isnan(value) else value


def _joined(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 4 else f"{names[0]}, {names[1]} and {len(names) - 2} more"

"""Pictures: each function reads data, draws on matplotlib axes and returns them."""

from __future__ import annotations

import importlib.util
import io
import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "available",
    "curve",
    "figure",
    "heat_map",
    "image",
    "loss",
    "lr_finding",
    "lr_range",
    "preview",
    "schedule",
    "show",
    "smooth",
]

NAMES = {"lr": "Learning rate", "weight_decay": "Weight decay", "momentum": "Momentum"}

INK, FAINT, ACCENT, SECOND = "#1f3a5f", "#9db4cc", "#d1495b", "#2a9d8f"


def figure() -> Axes:
    """New axes in the house's look."""
    plt = _pyplot()
    ax: Axes = plt.subplots(figsize=(7, 4), dpi=160, layout="constrained")[1]
    return ax


def show(ax: Axes) -> None:
    """Show the figure of ``ax`` if there is a screen to show it on."""
    figure = ax.get_figure()
    if figure is not None and getattr(figure.canvas, "required_interactive_framework", None):
        _pyplot().show()


def lr_range(
    lrs: Sequence[float],
    losses: Sequence[float],
    *,
    suggestion: float | None = None,
    doubt: str = "",
    show_lr: float | None = None,
    log_lr: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Loss against learning rate, with the suggestion marked.

    Args:
        lrs: Learning rates of the sweep, rising.
        losses: The loss at each.
        suggestion: The rate to mark.
        doubt: Why it is no more than the safest, as a sentence.
        show_lr: Another rate to mark with a line.
        log_lr: Logarithmic axis.
        ax: Draw here instead of in a new figure.
    """
    ax = _dress(figure() if ax is None else ax, "Learning rate", "Loss")
    if log_lr:
        ax.set_xscale("log")
    ax.plot(lrs, losses, color=INK, linewidth=2, marker=_dot(losses))
    if len(lrs) == 1:  # matplotlib finds no limits around a point and a line through it
        ax.set_xlim(lrs[0] / 10, lrs[0] * 10)
    # A diverging tail would flatten all that matters; but where the loss hardly falls, most of it matters.
    low, middle, high = min(losses), sorted(losses)[len(losses) // 2], max(losses)
    top = min(high, max(middle, losses[0] + 0.6 * (losses[0] - low)))
    margin = 0.08 * (top - low) or 0.08 * abs(low) or 1.0
    ax.set_ylim(low - margin, top + margin)
    if suggestion is not None:
        at = min(range(len(lrs)), key=lambda i: abs(lrs[i] - suggestion))
        ax.axvline(suggestion, color=ACCENT, linewidth=1, linestyle=(0, (4, 3)))
        ax.plot([suggestion], [losses[at]], "o", color=ACCENT, markersize=9, zorder=3)
        good, safe = (
            f"Suggested learning rate {suggestion:.1e}",
            f"No suggestion, {suggestion:.1e} is the safest",
        )
        ax.set_title(f"{safe}. {doubt}" if doubt else good, wrap=True)
    if show_lr is not None:
        ax.axvline(show_lr, color=SECOND, linewidth=1.5, label=f"{show_lr:.1e}")
        ax.legend(frameon=False)
    return ax


def lr_finding(finding: Any, *, ax: Axes | None = None) -> Axes:
    """The loss against the rate, the trials, the suggestion with its interval, and where training diverges.

    Args:
        finding: The ``LRFinding``.
        ax: Draw here instead of in a new figure.
    """
    ax = _dress(figure() if ax is None else ax, "Learning rate", "Loss")
    sweep, trials = finding.sweep, [trial for trial in finding.trials if math.isfinite(trial.score)]
    seen = sweep if sweep.lr else finding.search  # all there is, where it ended on the way to a sweep
    if seen.lr:
        ax.set_xscale("log")
        ax.scatter(seen.lr, seen.loss, s=14, color=FAINT, linewidths=0, label="each batch")
    else:
        ax.set_xticks([]), ax.set_yticks([])
    if sweep.lr:
        label = "its course, each batch against itself"
        ax.plot(sweep.lr, sweep.fitted, color=INK, linewidth=2.2, label=label, marker=_dot(sweep.lr))
    if trials:
        steps = max(len(trial.losses) for trial in trials)
        rates, scores = [trial.lr for trial in trials], [trial.score for trial in trials]
        label = f"after {steps} updates at it"
        ax.plot(rates, scores, "o-", color=SECOND, linewidth=1, markersize=6, label=label)
    known = [*filter(math.isfinite, sweep.fitted), *(trial.score for trial in trials)]
    if known:
        start, low = sweep.fitted[0], min(known)
        fell = max(start - low, 0.002 * abs(start))  # less is nothing to look at
        top = start + 0.6 * fell or start + 1.0
        margin = 0.08 * (top - low)
        ax.set_ylim(low - margin, top + margin)
        lowest = min(range(len(sweep.fitted)), key=lambda i: sweep.fitted[i])
        over = next(
            (
                lr
                for lr, y in list(zip(sweep.lr, sweep.fitted, strict=True))[lowest:]
                if y > start + 0.1 * fell * finding.abstained
            ),
            None,
        )
        if over is not None:
            right = max(*sweep.lr, *(trial.lr for trial in trials)) * 1.5
            ax.set_xlim(right=right)
            ax.axvspan(over, right, color=ACCENT, alpha=0.07, linewidth=0, label="training diverges")
    if finding.abstained:
        title = "No learning rate to suggest"
    else:
        low, high = finding.interval
        title = f"Learning rate {finding.suggestion:.2g}, likely {low:.2g} to {high:.2g}"
        ax.axvspan(low, high, color=SECOND, alpha=0.15, linewidth=0, label="80 % interval")
        ax.axvline(finding.suggestion, color=ACCENT, linewidth=1.5, label="suggestion")
    why = textwrap.wrap(finding.reason, 96)
    ax.set_title(title, fontsize="medium", fontweight="bold", pad=8 + 12 * len(why))
    ax.text(0.5, 1.02, "\n".join(why), transform=ax.transAxes, ha="center", va="bottom", fontsize="small")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)
    return ax


def heat_map(
    lrs: Sequence[float],
    rows: Sequence[str],
    scores: Sequence[Sequence[float]],
    start: float,
    *,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Losses by rate and combination, the lowest marked; dark is good, white is no better than before.

    Args:
        lrs: The rates, a column each.
        rows: What each row is.
        scores: The loss of each row at each rate; infinite where it diverged, ``nan`` where it was not tried.
        start: The loss before.
        title: What is seen.
        ax: Draw here instead of in a new figure.
    """
    if ax is None:
        drawn, made = _pyplot().subplots(figsize=(7, 1.6 + 0.42 * len(rows)), dpi=160, layout="constrained")
        drawn.suptitle(textwrap.fill(title, 85), fontsize="medium")  # over the names of the rows, too
        ax, title = made, ""
    ax.set_xlabel("Learning rate")
    known = [score for row in scores for score in row if math.isfinite(score)]
    best = min(known, default=start)
    shown = [[score if math.isfinite(score) else math.nan for score in row] for row in scores]
    colors = _pyplot().get_cmap("Blues_r").with_extremes(bad="#e3dada")
    ax.imshow(
        shown,
        cmap=colors,
        vmin=best if known else None,
        vmax=max(start, best + 1e-12) if known and math.isfinite(start) else None,
        aspect="auto",
    )
    for i, row in enumerate(scores):
        for j, score in enumerate(row):
            dark = math.isfinite(score) and score < best + 0.5 * (start - best)
            text = (
                f"{score:.3g}" if math.isfinite(score) else "not tried" if math.isnan(score) else "diverged"
            )
            lowest = score == best and score in known
            weight = "bold" if lowest else "normal"
            ax.text(
                j,
                i,
                text,
                ha="center",
                va="center",
                color="white" if dark else INK,
                fontsize="small",
                fontweight=weight,
            )
            if lowest:
                ax.add_patch(
                    _pyplot().Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor=ACCENT, linewidth=2)
                )
    ax.set_xticks(range(len(lrs)), [f"{lr:.2g}" for lr in lrs])
    ax.set_yticks(range(len(rows)), rows)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    ax.set_title(textwrap.fill(title, 75), fontsize="medium")
    return ax


def schedule(lrs: Mapping[str, Sequence[float]], *, ax: Axes | None = None) -> Axes:
    """Learning rate of each group against the step.

    Args:
        lrs: For each group's name its learning rate at every step. Equal ones are drawn once.
        ax: Draw here instead of in a new figure.
    """
    ax = _dress(figure() if ax is None else ax, "Step", "Learning rate")
    _lines(ax, lrs, range(1, 1 + max(map(len, lrs.values()), default=0)))
    ax.set_title("Learning rate of every group, as it was")
    return ax


def curve(
    steps: Sequence[float],
    values: Sequence[float],
    *,
    label: str = "Value",
    title: str = "",
    joins: Sequence[float] = (),
    ax: Axes | None = None,
) -> Axes:
    """A hyperparameter against the step.

    Args:
        steps: The steps to draw, rising.
        values: Its value at each.
        label: What the values are.
        title: What the curve is; a long one is wrapped.
        joins: Steps where a part of it ends and the next begins.
        ax: Draw here instead of in a new figure.
    """
    ax = _dress(figure() if ax is None else ax, "Step", label)
    for join in joins:
        if join <= steps[-1]:
            ax.axvline(join, color=FAINT, linewidth=1, linestyle=(0, (2, 3)), zorder=1)
    _lines(ax, {"": values}, steps)
    ax.set_title(textwrap.fill(title, 80), fontsize="medium", family="monospace", parse_math=False)
    return ax


def preview(values: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Every hyperparameter of every group against the step, from 0, one above the other.

    Args:
        values: By hyperparameter and group, its value at each step.
    """
    plt, rows = _pyplot(), len(values)
    drawn, axes = plt.subplots(
        rows, figsize=(7, 1.2 + 2.2 * rows), dpi=160, layout="constrained", sharex=True, squeeze=False
    )
    every = {group for groups in values.values() for group in groups}
    for ax, (name, groups) in zip(axes[:, 0], values.items(), strict=True):
        _dress(ax, "Step" if ax is axes[-1, 0] else "", NAMES.get(name, name))
        _lines(ax, groups, say_which=groups.keys() != every)
    made: Figure = drawn
    plt.close(made)  # it is shown where it is returned to, once
    return made


def image(draw: Callable[[], Axes], kind: str = "png") -> bytes:
    """The picture that a function draws.

    Args:
        draw: Returns the axes it drew on.
        kind: ``"png"`` or ``"svg"``.
    """
    file, ax = io.BytesIO(), draw()
    made = ax.get_figure(root=True)
    assert made is not None
    made.savefig(file, format=kind)
    _pyplot().close(made)
    return file.getvalue()


def available() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def loss(train: Sequence[float], validation: Mapping[int, float], *, ax: Axes | None = None) -> Axes:
    """Training loss of every step, smoothed too, and validation loss where it was measured.

    Args:
        train: Loss of steps 1, 2, ...
        validation: Held-out loss by step; may be empty.
        ax: Draw here instead of in a new figure.
    """
    ax = _dress(figure() if ax is None else ax, "Step", "Loss")
    steps = range(1, len(train) + 1)
    ax.plot(steps, train, color=FAINT, linewidth=0.8, marker=_dot(train), label="training, each batch")
    log = all(value > 0 for value in (*train, *validation.values()))
    if log:  # on this axis the mean that looks like one is the geometric
        average = [math.exp(value) for value in smooth([math.log(value) for value in train], 0.9)]
        ax.set_yscale("log")
        _plain_numbers(ax)
    else:
        average = smooth(train, 0.9)
    ax.plot(steps, average, color=INK, linewidth=2, label="training, smoothed")
    if validation:
        ax.plot(
            list(validation), list(validation.values()), "o-", color=ACCENT, markersize=4, label="held out"
        )
        last, best = list(validation)[-1], min(validation, key=lambda step: validation[step])
        ax.set_title(f"Held-out loss {validation[last]:.4g}; at best {validation[best]:.4g}, step {best}")
    ax.legend(frameon=False)
    return ax


def smooth(values: Sequence[float], memory: float) -> list[float]:
    """Exponential moving average without the bias towards the start."""
    average, weight, out = 0.0, 0.0, []
    for value in values:
        average = memory * average + (1 - memory) * value
        weight = memory * weight + (1 - memory)
        out.append(average / weight)
    return out


def _lines(
    ax: Axes,
    values: Mapping[str, Sequence[float]],
    steps: Sequence[float] | None = None,
    *,
    say_which: bool = False,
) -> None:
    """Lines against ``steps`` (0, 1, ... if None), each with its name; equal ones are drawn once."""
    merged: dict[tuple[float, ...], list[str]] = {}
    for name, line in values.items():
        merged.setdefault(tuple(line), []).append(name)
    colors, styles = (INK, ACCENT, SECOND, FAINT), ("-", "--", ":", "-.")
    for i, line in enumerate(merged):
        ax.plot(
            range(len(line)) if steps is None else steps[: len(line)],
            line,
            color=colors[i % 4],
            linestyle=styles[i // 4 % 4],
            linewidth=2,
            marker=_dot(line),
        )
    if len(merged) > 1 or say_which:
        _legend(ax, list(merged.values()))
    ax.margins(x=0.02)
    ax.locator_params(axis="x", integer=True)
    numbers = [number for line in merged for number in line if math.isfinite(number)]
    low, high = min(numbers, default=0.0), max(numbers, default=0.0)
    # From 0, so that heights compare; but a change from 0.99 to 0.999 is to be seen, too.
    if 0 <= low < 0.75 * high or 0 <= low == high:
        ax.set_ylim(0, 1.05 * high or None)
    ax.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useOffset=False)


def _legend(ax: Axes, groups: list[list[str]]) -> None:
    """What each line is, from names that were drawn as one: beside the curves if there is no room among them."""
    labels = [
        ", ".join(names) if len(names) < 4 else f"{names[0]}, {names[1]} and {len(names) - 2} more"
        for names in groups
    ]
    lines, style = ax.lines[-len(labels) :], dict[str, Any](frameon=False)
    if len(labels) > 8 or max(map(len, labels)) > 32:
        columns = 1 + (len(labels) - 1) // 20
        # Names have no spaces to wrap at, but dots and underscores.
        labels = ["\n".join(re.findall(r".{1,36}$|.{1,36}(?<=[ ._/])|.{1,36}", label)) for label in labels]
        style |= {"loc": "upper left", "bbox_to_anchor": (1, 1), "fontsize": "x-small", "ncols": columns}
    ax.legend(lines, labels, **style)  # lines given by hand: of itself it leaves out names such as _norms


def _dot(values: Sequence[float]) -> str | None:
    """The marker of a curve: a line of one point would not be seen."""
    return "o" if len(values) == 1 else None


def _plain_numbers(ax: Axes) -> None:
    """Write 0.6 at a logarithmic axis where matplotlib writes 6 x 10^-1."""
    from matplotlib.ticker import LogFormatter

    class Plain(LogFormatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return (
                f"{x:g}" if super().__call__(x, pos) else ""
            )  # which ticks have a label is matplotlib's choice

    ax.yaxis.set_major_formatter(Plain())
    ax.yaxis.set_minor_formatter(Plain(minor_thresholds=(2, 0.4)))


def _dress(ax: Axes, x: str, y: str) -> Axes:
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'surefoot[plot]'") from error
    return plt

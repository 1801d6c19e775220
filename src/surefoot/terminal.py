"""A curve drawn with characters, for a terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["chart", "number", "sweep"]

ASCII = str.maketrans("│┤├└┬┴┼─┊", "|||++++-:")


def chart(
    steps: Sequence[float],
    values: Sequence[float],
    *,
    joins: Sequence[float] = (),
    width: int = 80,
    height: int = 18,
    ascii_only: bool = False,
) -> str:
    """A hyperparameter against the step, as lines of text.

    Args:
        steps: The steps to draw, rising.
        values: Its value at each; all finite.
        joins: Steps where a part of it ends and the next begins.
        width: Characters of a line.
        height: Lines.
        ascii_only: Draw with what every terminal can write.

    Example:
        >>> print(chart(range(5), [0, 1, 2, 1, 0], width=24, height=9, ascii_only=True))
        value
        2|          ***
         |       ***   **
        1|    ***        ***
         |  **              **
        0|**                  **
         ++----------+---------+
          0          2         4
                   step
    """
    first, last = steps[0], steps[-1]
    room = max(1, width // (len(f"{last:,}") + 6))
    whole = _locator()(room, steps=[1, 2, 5, 10], integer=True).tick_values(first, last)
    across = {step: f"{step:,.0f}" for step in whole if first <= step <= last}
    lines = [join for join in joins if join <= last]
    low, high = min(0.0, *values), max(0.0, *values)
    return _drawn("value", "step", steps, values, (low, high), across, lines, width, height, ascii_only)


def sweep(
    rates: Sequence[float],
    losses: Sequence[float],
    *,
    marks: Sequence[float] = (),
    width: int = 80,
    height: int = 18,
    ascii_only: bool = False,
) -> str:
    """A loss against the logarithm of the learning rate, as lines of text.

    Args:
        rates: The rates, greater than 0 and rising.
        losses: The loss at each; all finite.
        marks: Rates where an upright line is drawn.
        width: Characters of a line.
        height: Lines.
        ascii_only: Draw with what every terminal can write.

    Example:
        >>> print(sweep([1e-4, 1e-3, 1e-2, 0.1], [2, 1.6, 1, 2], marks=[3e-3], width=30, height=9, ascii_only=True))
        loss
          2|***         :            *
           |   *****    :          **
        1.5|        ****:       ***
           |            ****  **
          1|            :   **
           ++-------+---+----+-------+
            1e-4  0.001     0.01   0.1
                 learning rate
    """
    octaves = [math.log10(rate) for rate in rates]
    decades = range(math.ceil(octaves[0] - 1e-9), math.floor(octaves[-1] + 1e-9) + 1)
    across = {float(decade): number(10.0**decade) for decade in decades}
    if len(across) < 2:
        across = {octave: f"{10**octave:.2g}" for octave in (octaves[0], octaves[-1])}
    lines = [math.log10(mark) for mark in marks if rates[0] <= mark <= rates[-1]]
    ends = (min(losses), max(losses))
    return _drawn("loss", "learning rate", octaves, losses, ends, across, lines, width, height, ascii_only)


def _drawn(
    what: str,
    along: str,
    x: Sequence[float],
    y: Sequence[float],
    ends: tuple[float, float],
    across: Mapping[float, str],
    lines: Sequence[float],
    width: int,
    height: int,
    ascii_only: bool,
) -> str:
    locator = _locator()
    try:  # not for every command: it loads libraries of its own
        import plotext
    except ImportError as error:
        raise ImportError("drawing in a terminal needs plotext: pip install 'surefoot[demo]'") from error
    low, high = ends
    up = locator(max(2, height // 4), steps=[1, 2, 2.5, 5, 10]).tick_values(
        low, high if low < high else low + 1
    )
    plotext.terminal.limit(False, False)  # the size is what the caller says
    figure = plotext.figure.clear().theme("colorless").plot_size(width, height - 1)
    figure.axes(False, axis="x", side="upper").axes(False, axis="y", side="right")
    figure.label(along)
    figure.ruler("x").ticks(list(across), list(across.values()))
    figure.ruler("y").ticks(list(up), list(map(number, up))).lim(up[0], up[-1])
    for line in lines:
        figure.line(line, "vertical", style="dotted")
    figure.draw(figure.signal(x, y, marker="*" if ascii_only else "braille").lines())
    drawn = figure.build().string(True).splitlines()  # True: without colors
    text = "\n".join([what, *map(str.rstrip, drawn)])
    return text.translate(ASCII) if ascii_only else text


def _locator() -> Any:
    try:
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise ImportError("drawing in a terminal needs matplotlib: pip install 'surefoot[demo]'") from error
    return MaxNLocator


def number(value: float) -> str:
    """A number as short as it can be.

    Example:
        >>> [number(value) for value in (0.0, 2.5, 0.001, 3e-4, 2.75e-05)]
        ['0', '2.5', '0.001', '3e-4', '2.75e-5']
    """
    if value == 0:  # or -0.0
        return "0"
    text = f"{value:.5g}" if 1e-3 <= abs(value) < 1e5 else f"{value:.3e}"
    return re.sub(r"\.?0*e([+-])0?", r"e\1", text).replace("e+", "e")

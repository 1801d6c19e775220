"""A curve drawn with characters, for a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["chart", "number"]

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
    try:  # not for every command: each loads libraries of its own
        import plotext
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise ImportError("drawing in a terminal needs plotext: pip install 'surefoot[demo]'") from error

    first, last = steps[0], steps[-1]
    low, high = min(0.0, *values), max(0.0, *values)
    up = MaxNLocator(max(2, height // 4), steps=[1, 2, 2.5, 5, 10]).tick_values(
        low, high if low < high else 1
    )
    room = max(1, width // (len(f"{last:,}") + 6))
    whole = MaxNLocator(room, steps=[1, 2, 5, 10], integer=True).tick_values(first, last)
    across = [step for step in whole if first <= step <= last]
    plotext.terminal.limit(False, False)  # the size is what the caller says
    figure = plotext.figure.clear().theme("colorless").plot_size(width, height - 1)
    figure.axes(False, axis="x", side="upper").axes(False, axis="y", side="right")
    figure.label("step")
    figure.ruler("x").ticks(across, [f"{step:,.0f}" for step in across])
    figure.ruler("y").ticks(list(up), list(map(number, up))).lim(up[0], up[-1])
    for join in joins:
        if join <= last:
            figure.line(join, "vertical", style="dotted")
    figure.draw(figure.signal(steps, values, marker="*" if ascii_only else "braille").lines())
    lines = figure.build().string(True).splitlines()  # True: without colors
    text = "\n".join(["value", *map(str.rstrip, lines)])
    return text.translate(ASCII) if ascii_only else text


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

"""``surefoot schedule``: a curve, drawn."""

from __future__ import annotations

import math
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from surefoot import files, plots, terminal
from surefoot.checks import finite
from surefoot.cli.shared import app, check_picture, console, plain_usage_error
from surefoot.curves import Curve, parse, vocabulary

CURVES = [name for name in vocabulary.__all__ if name != "function"]  # which takes no text


@app.command()
def schedule(
    expression: Annotated[str, typer.Argument(help=f"Made of {', '.join(CURVES)}.")],
    base: Annotated[float, typer.Option(help="What the optimizer is built with, such as its lr.")] = 1.0,
    steps: Annotated[
        int | None, typer.Option(help="How many; by default to the end and a little more.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Draw to this file, a .png or .svg, not here.")] = None,
) -> None:
    """Draw a schedule before anything is trained with it.

    `a >> b` is one after the other, `a * b` their product.

    Example: `surefoot schedule "warmup(500) >> cosine(10_000, to=0.1)" --base 3e-4`
    """
    check_picture(out)
    expression = " ".join(expression.split())  # on one line, so that the caret is below its column
    try:
        finite("base", base)
        curve = parse(expression)
        shown = curve.shown(steps)
        values = [_value(curve, step, base) for step in shown]
    except ValueError as error:
        plain_usage_error(str(error))
    if out is None:
        _draw_here(curve, shown, values)
    else:
        kind = out.suffix.lower().removeprefix(".")
        files.write(out, plots.image(lambda: curve.plot(steps, base, title=expression), kind))
        console.print(f"Written to {escape(str(out))}\n", soft_wrap=True)
    console.print(_landmarks(curve, shown, values, base))


def _value(curve: Curve, step: float, base: float) -> float:
    with suppress(ArithmeticError, TypeError, ValueError):  # too large; a root of a negative number
        if math.isfinite(value := curve.value(step, base)):
            return value
    raise ValueError(
        f"the schedule has no finite value at step {step}: draw fewer with --steps, or change it"
    )


def _draw_here(curve: Curve, steps: range, values: list[float]) -> None:
    plain = not console.encoding.lower().startswith("utf")
    size = {"width": min(console.width, 100), "height": max(8, min(console.height - 8, 20))}
    drawn = terminal.chart(steps, values, joins=curve.joins, ascii_only=plain, **size)
    console.print(drawn, markup=False, soft_wrap=True)
    console.print()


def _landmarks(curve: Curve, steps: range, values: list[float], base: float) -> Table:
    """Where something happens: step, value, what."""
    last = math.ceil(min(curve.length, steps[-1]))
    parts = [math.ceil(round(join, 6)) for join in curve.joins if join <= last]  # stretched, they are rounded
    highest = sorted({steps[values.index(max(values))], *parts})  # of many steps not all are among values
    peak = max(highest, key=lambda step: curve.value(step, base))
    places = [(0, "start"), (peak, "peak"), *((part, f"part {i} begins") for i, part in enumerate(parts, 2))]
    places += [(last, "end" if curve.length <= steps[-1] else "last drawn")]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("step", justify="right")
    table.add_column("value", justify="right")
    table.add_column("")
    for step, here in groupby(sorted(places, key=itemgetter(0)), itemgetter(0)):
        value = terminal.number(curve.value(step, base))
        table.add_row(f"{step:,}", value, ", ".join(name for _, name in here))
    return table

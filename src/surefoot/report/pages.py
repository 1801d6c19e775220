"""Pages: what stands above and below the charts, and the file that holds it all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from surefoot.report.chart import Chart, swatch
from surefoot.report.charts import charts
from surefoot.report.compare import differing, shown, together
from surefoot.report.heat import HeatMap
from surefoot.report.scale import short
from surefoot.report.series import finite, numbers, quantile
from surefoot.report.story import Story

__all__ = ["compare", "page"]


def page(story: Story) -> str:
    """The page about one run, as HTML that needs no other file.

    Args:
        story: The run.

    Raises:
        TypeError: It is something else.

    Example:
        >>> "<h2>Loss</h2>" in page(Story("digits-1", step=[1, 2], loss=[2.3, 1.9]))
        True
    """
    _check("story", story)
    parts = [f"<h1>{escape(story.title)}</h1>", _result(story), _facts(story), _diagnoses(story.diagnoses)]
    parts.append(_figures(charts(story)))
    if story.resume:
        parts.append(
            f"<section><h2>Go on with this run</h2><pre tabindex=0>{escape(story.resume)}</pre></section>"
        )
    if story.settings:
        parts.append(_section("Settings", _table([[k, v] for k, v in story.settings.items()])))
    return _whole(story.title, parts)


def compare(stories: Iterable[Story]) -> str:
    """The page about several runs, each in a colour of its own, as HTML that needs no other file.

    Args:
        stories: The runs, at least one; their titles tell them apart.

    Raises:
        TypeError: One of them is something else.
        ValueError: There is none.

    Example:
        >>> runs = [Story(f"lr {lr}", settings={"lr": lr}, step=[1, 2], loss=[2.3, lr]) for lr in (0.1, 0.2)]
        >>> html = compare(runs)
        >>> "lr 0.1" in html, "Side by side" in html
        (True, True)
    """
    stories = list(stories)
    for i, story in enumerate(stories):
        _check(f"stories[{i}]", story)
    if not stories:
        raise ValueError("stories is empty: name at least one run")
    title = f"{len(stories)} runs" if len(stories) > 1 else stories[0].title
    other = differing(stories)
    parts = [f"<h1 class=result>{escape(title)}</h1>", _runs(stories), _side_by_side(stories, other)]
    parts.append(_figures(together(stories)))
    alike = {k: v for k, v in stories[0].settings.items() if k not in other}
    if alike:
        parts.append(_section("Settings in common", _table([[k, v] for k, v in alike.items()])))
    return _whole(title, parts)


def _check(name: str, story: object) -> None:
    if not isinstance(story, Story):
        raise TypeError(f"{name}={story!r} is a {type(story).__name__}: pass a surefoot.report.Story")


def _whole(title: str, parts: Iterable[str]) -> str:
    here = files(__package__)
    texts = {
        name: here.joinpath(f"page.{name}").read_text(encoding="utf-8") for name in ("html", "css", "js")
    }
    body = "\n".join(filter(None, parts))
    return Template(texts["html"]).substitute(
        title=escape(title), style=texts["css"], script=texts["js"], body=body
    )


def _result(story: Story) -> str:
    return f"<p class=result>{escape(story.result)}</p>" if story.result else ""


def _facts(story: Story) -> str:
    facts = _numbers(story)
    if facts.get("epochs") == "1":
        facts = {"epoch" if name == "epochs" else name: value for name, value in facts.items()}
    items = "".join(
        f"<li><b>{escape(value)}</b><span>{escape(name)}</span></li>" for name, value in facts.items()
    )
    return f"<ul class=facts>{items}</ul>" if facts else ""


def _numbers(story: Story) -> dict[str, str]:
    """What one wants to know at a glance."""
    facts = {}
    if story.step:
        facts["steps"] = f"{story.last_step:,}"
    if story.epoch:
        facts["epochs"] = f"{story.epoch[-1]:,}"
    for name, column in (("training loss", story.loss[-20:]), ("samples per second", story.throughput)):
        middle = quantile(numbers(column), 0.5)
        if finite([middle]):
            facts[name] = short(middle, 3)
    for name, pairs in story.metrics.items():
        if values := finite(numbers(value for _, value in pairs)):
            facts[name.replace("val_", "held-out ").replace("_", " ")] = short(values[-1])
    return facts


def _diagnoses(pairs: Sequence[tuple[str, str]]) -> str:
    items = [f"<li>{escape(wrong)} <span>{escape(remedy)}</span></li>" for wrong, remedy in pairs]
    return f"<ul class=diagnoses>{''.join(items)}</ul>" if items else ""


def _runs(stories: Sequence[Story]) -> str:
    items = []
    for i, story in enumerate(stories):
        result = f"<p>{escape(story.result)}</p>" if story.result else ""
        items.append(f"<li>{swatch(i)}<b>{escape(story.title)}</b>{result}</li>")
    return f"<ul class=runs>{''.join(items)}</ul>"


def _side_by_side(stories: Sequence[Story], other: Mapping[str, Sequence[str]]) -> str:
    """How the runs went, and the settings in which they differ."""
    facts = [_numbers(story) for story in stories]
    rows = {
        name: [fact.get(name, "") for fact in facts] for name in dict.fromkeys(n for f in facts for n in f)
    }
    titles = "".join(f"<th>{escape(story.title)}</th>" for story in stories)
    lines = [*rows.items(), *((n, v) for n, v in other.items() if rows.get(n) != v)]
    table = _table([[name, *values] for name, values in lines])
    table = table.replace("<table>", f"<table><thead><tr><th></th>{titles}</tr></thead>", 1)
    return _section("Side by side", f"<div class=scroll tabindex=0>{table}</div>")


def _figures(drawn: Iterable[Chart | HeatMap]) -> str:
    figures = "\n".join(chart.html() for chart in drawn)
    return f"<div class=charts>\n{figures}\n</div>" if figures else ""


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _table(rows: Sequence[Sequence[Any]]) -> str:
    lines = []
    for row in rows:
        cells = "".join(f"<td>{escape(shown(cell))}</td>" for cell in row[1:])
        lines.append(f"<tr><th>{escape(str(row[0]))}</th>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"

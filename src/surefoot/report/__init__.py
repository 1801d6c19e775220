"""One self-contained page about a run: no network, no scripts, pictures inside."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

__all__ = ["page"]

CAPTIONS = {
    "lr_range": "Learning-rate range test: one step at each rate, before training",
    "loss": "Loss on the training batches and on the held-out data",
    "schedule": "Learning rate of each parameter group at every step",
}


def page(title: str, result: str, settings: Mapping[str, Any], pictures: Sequence[Path]) -> str:
    """The page as HTML.

    Args:
        title: What was trained.
        result: The outcome in one sentence.
        settings: Name and value of each setting.
        pictures: PNG files, embedded in this order.
    """
    rows = "".join(f"<tr><th>{escape(k)}</th><td>{escape(str(v))}</td></tr>" for k, v in settings.items())
    figures = "".join(map(_figure, pictures))
    template = Template(files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(title=escape(title), result=escape(result), settings=rows, figures=figures)


def _figure(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    caption = escape(CAPTIONS.get(path.stem, path.stem))
    image = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"

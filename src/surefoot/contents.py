"""What is in a checkpoint, as tables for a terminal; imported only where rich is."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from rich.console import Group, RenderableType
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from torch import Tensor

from surefoot.archive import CheckpointError, Stored, materialised
from surefoot.checkpoint import Saved
from surefoot.param_groups import describe
from surefoot.terminal import number

__all__ = ["MOST", "tables"]

MOST = 10
"""How many tensors are shown, if not all are."""


def tables(saved: Saved, every: bool = False) -> Iterator[RenderableType]:
    """What a checkpoint holds: a line about the file, its parts, the groups, the tensors; those are read one at a time.

    Args:
        saved: The open checkpoint.
        every: Show all tensors, not only the largest.

    Raises:
        CheckpointError: It is not as :func:`~surefoot.checkpoint.save` writes them.
    """
    try:
        size, versions = decimal(os.path.getsize(saved.path)), saved.versions
        yield (
            f"[bold]{_safe(saved.path)}[/]: {size}, "
            f"saved by surefoot {_safe(versions['surefoot'])} with torch {_safe(versions['torch'])}\n"
        )
        yield _parts(saved)
        if "optimizer" in saved.parts:
            yield ""
            yield _groups(saved)
        rows = sorted(_rows(saved).items(), key=lambda row: -_size(row[1]))
        shown = rows if every else rows[:MOST]
        if shown:
            yield ""
            yield _tensors(dict(shown))
            if left := len(rows) - len(shown):
                yield f"[dim]and {left} smaller: --all shows {'it' if left == 1 else 'them'}[/]"
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{saved.path} is no checkpoint of a training: {error!r}") from error


def _table(*headings: str, numbers: slice = slice(1, None)) -> Table:
    """A table whose columns give way where there is little room, but not those of numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for column in table.columns[numbers]:
        column.justify, column.no_wrap = "right", True
    return table


def _parts(saved: Saved) -> Table:
    """A row for each part: its class, how many tensors, how large, and where it is."""
    table = _table("part", "class", "tensors", "size", "", numbers=slice(2, 4))

    def add(name: str, kind: Any, tree: Any, where: str = "") -> None:
        tensors = list(_leaves(tree))
        counted = (str(len(tensors)), decimal(_size(tensors))) if tensors else ("", "")
        table.add_row(name, _safe("?" if kind is None else kind), *counted, where)

    for name, part in saved.parts.items():
        state, where = part["state"], ""
        if name == "optimizer":
            steps = _span(_steps(part, part["state"]))
            where = f"step {steps}" if steps else ""
            where += "" if part["named"] else ", " * bool(where) + "parameters without names"
        elif name == "scheduler" and "last_epoch" in state:
            where = f"last_epoch {_safe(state['last_epoch'])}"
        elif name == "scaler" and "scale" in state:
            where = f"scale {_safe(materialised(state['scale']))}"
        add(name, part["class"], state, where)
    extra = saved.extra
    if isinstance(extra, dict) and extra.keys() == {"run", "extra"}:  # as Run.save has it
        run, extra = extra["run"], extra["extra"]
        place = [f"{_safe(key)} {_safe(value)}" for key, value in run["position"].items()]
        add("run", "", None, ", ".join(place))
        add("random", "", run["rng"], ", ".join(_generators(run["rng"]["now"])))
        if run.get("loader") is not None:
            add("loader", "", run["loader"])
    if extra is not None and extra != {}:
        keys = ", ".join(map(_safe, extra)) if isinstance(extra, dict) else type(extra).__name__
        add("extra", "", extra, keys)
    return table


def _generators(states: dict[str, Any]) -> Iterator[str]:
    """Of which random generators there are states, as of :func:`surefoot.rng.get_state`."""
    for name, state in states.items():
        if name not in ("loaders", "cuda"):
            yield _safe(name)
        elif count := len(list(_leaves(state))):
            yield f"{name} ({count})"


def _groups(saved: Saved) -> Table:
    part = saved.parts["optimizer"]
    weights = saved.parts["model"]["state"] if part["named"] and "model" in saved.parts else {}
    groups = []
    for group in part["param_groups"]:
        likes = [(name, _like(weights.get(name), part["state"].get(name, {}))) for name in group["params"]]
        groups.append({**materialised(group), "params": likes})
    stand_in = torch.optim.Optimizer(groups, {})
    described = describe(stand_in)
    # Without state and without the model nobody knows how large a parameter is.
    known = [all(like.numel() for like in group["params"]) for group in stand_in.param_groups]
    columns = ["tensors", "parameters", "lr", "weight_decay", "frozen"]
    columns = [name for name in columns if any(row.get(name, "") != "" for row in described)]
    headings = [name.replace("parameters", "params").replace("_", "\n") for name in columns]
    table = _table("group", *headings, "steps")
    for row, group, sized in zip(described, part["param_groups"], known, strict=True):
        row["parameters"] = f"{row['parameters']:,}" if sized else "?"
        names = Text(_printable(row["names"]), style="dim", no_wrap=True, overflow="ellipsis")
        cells = [_safe(row.get(name, "")) for name in columns]
        table.add_row(Group(_safe(row["group"]), names), *cells, _span(_steps(part, group["params"])))
    return table


def _like(weight: Any, entry: dict[str, Any]) -> Tensor:
    """Something of a parameter's shape; without elements, where that cannot be known."""
    shapes = [each.shape for each in entry.values() if isinstance(each, Stored)]
    largest = max(shapes, key=lambda shape: shape.numel(), default=torch.Size([0]))
    return torch.empty(weight.shape if isinstance(weight, Stored) else largest, device="meta")


def _steps(part: dict[str, Any], names: Iterable[Any]) -> list[int]:
    """How many steps some parameters have made."""
    entries = [part["state"].get(name) for name in names]
    return [int(materialised(each["step"])) for each in entries if isinstance(each, dict) and "step" in each]


def _span(steps: list[int]) -> str:
    ends = dict.fromkeys(f"{step:,}" for step in (min(steps), max(steps))) if steps else ()
    return " to ".join(ends)


def _rows(saved: Saved) -> dict[str, dict[str, Stored]]:
    """Every weight, buffer and parameter by name: itself under ``""``, the optimizer's buffers by theirs."""
    rows: dict[str, dict[str, Stored]] = {}
    for part, prefix in (("model", ""), ("ema", "ema/")):
        for name, value in saved.parts.get(part, {"state": {}})["state"].items():
            if isinstance(value, Stored):
                rows[f"{prefix}{name}"] = {"": value}
    optimizer = saved.parts.get("optimizer", {"state": {}, "named": True})
    prefix = "" if optimizer["named"] else "optimizer/"
    for name, entry in optimizer["state"].items():
        entry = entry if isinstance(entry, dict) else {}  # what is of no parameter may be anything
        buffers = {key: value for key, value in entry.items() if isinstance(value, Stored) and key != "step"}
        if buffers:
            rows.setdefault(f"{prefix}{name}", {}).update(buffers)
    return rows


def _tensors(rows: dict[str, dict[str, Stored]]) -> Table:
    """A row for each, and a column for each kind of buffer, with norms."""
    # Counters are no buffers: they are numbers of every parameter, also of those that are more than a number.
    kinds = {key: None for row in rows.values() for key, value in row.items() if value.shape or not key}
    buffers = sorted(kinds, key=bool)  # the weight comes first
    headings = [f"norm of\n{_heading(key)}" if key else "norm" for key in buffers]
    table = _table("tensor", "size with\nstate" if any(buffers) else "size", *headings)
    for name, row in rows.items():
        first = row.get("") or max(row.values(), key=lambda each: each.nbytes)
        alike = [first, *(each for each in row.values() if each.shape)]
        dtypes = dict.fromkeys(str(each.dtype).removeprefix("torch.") for each in alike)
        kind = " x ".join(map(str, first.shape)) or "a number"
        norms = (_norm(row[key]) if key in row else "" for key in buffers)
        table.add_row(f"{_safe(name)}\n[dim]{kind}, {', '.join(dtypes)}[/]", decimal(_size(row)), *norms)
    return table


def _heading(key: str) -> str:
    """A name on lines of few characters, broken where it has an underscore."""
    lines = [""]
    for word in _safe(key).split("_"):
        joined = f"{lines[-1]}_{word}" if lines[-1] else word
        lines[-1:] = [joined] if len(joined) <= 8 or not lines[-1] else [lines[-1], f"_{word}"]
    return "\n".join(lines)


def _norm(stored: Stored) -> str:
    tensor = stored.read()
    norm = tensor.to(torch.complex128 if tensor.is_complex() else torch.float64).norm().item()
    return number(float(f"{norm:.3g}")) if math.isfinite(norm) else f"[red]{norm}[/]"


def _leaves(tree: Any) -> Iterator[Stored | Tensor]:
    if isinstance(tree, Stored | Tensor):
        yield tree
    elif isinstance(tree, dict | list | tuple):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from _leaves(value)


def _size(tree: Any) -> int:
    return sum(each.nbytes for each in _leaves(tree))


def _safe(value: Any) -> str:
    """Text that neither styles the terminal nor moves its cursor."""
    return escape(_printable(value))


def _printable(value: Any) -> str:
    text = str(value)
    return text if text.isprintable() else repr(text)

"""Every rate tried in full: what a finder's suggestion is judged by.

python benchmarks/lr_quality/grid.py [--only NAME] writes ``grids/*.json``: for each task, schedule, rate and seed the held-out loss
at the end. Rates are half an octave apart.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from pathlib import Path
from time import perf_counter

import torch

sys.path.insert(0, str(Path(__file__).parent))

from tasks import TASKS, Task

import surefoot as optim
from surefoot.lr_scheduler.hyperparameters import has_momentum

FOLDER = Path(__file__).parent / "grids"
LOWEST = -18
"""Octave of the lowest rate: 4e-6."""

SCHEDULES = ("constant", "onecycle")
SEEDS = 3


def path_of(task: Task) -> Path:
    return FOLDER / f"{re.sub(r'[^a-z]+', '-', task.name.lower())}.json"


def rates_of(task: Task) -> list[float]:
    return [2.0 ** (k / 2) for k in range(2 * LOWEST, 2 * (task.top.bit_length() - 1) + 1)]


def onecycle(task: Task, optimizer: torch.optim.Optimizer) -> optim.lr_scheduler.OneCycleLR:
    """One cycle over a full training, with the optimizer's rates as its peaks."""
    return optim.lr_scheduler.OneCycleLR(
        optimizer, "groups", total_steps=task.steps, cycle_momentum=has_momentum(optimizer)
    )


def full_training(task: Task, rate: float, schedule: str, seed: int) -> float:
    """The held-out loss at the end, infinite where training diverged."""
    torch.manual_seed(seed)
    model = task.build()
    optimizer = task.optimizer(model, rate)
    scheduler = None
    if schedule == "onecycle":
        scheduler = onecycle(task, optimizer)
    batches = task.batches(seed)
    worst = 20 * abs(task.held_out(model)) + 20
    for _ in range(task.steps):
        optimizer.zero_grad()
        loss = task.loss(model, next(batches))
        if not abs(loss.item()) < worst:
            return math.inf
        loss.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    end = task.held_out(model)
    return end if math.isfinite(end) else math.inf


def initial(task: Task, seed: int) -> float:
    torch.manual_seed(seed)
    return task.held_out(task.build())


def grid(task: Task) -> dict[str, object]:
    """Loss by schedule, rate and seed. Rates beyond the first four that all diverge are left at infinity."""
    found: dict[str, list[list[float]]] = {}
    for schedule in SCHEDULES:
        rows: list[list[float]] = []
        for rate in rates_of(task):
            lost = len(rows) >= 4 and all(math.isinf(loss) for row in rows[-4:] for loss in row)
            row = (
                [math.inf] * SEEDS
                if lost
                else [full_training(task, rate, schedule, seed) for seed in range(SEEDS)]
            )
            rows.append(row)
        found[schedule] = rows
    return {
        "task": task.name,
        "rates": rates_of(task),
        "initial": [initial(task, seed) for seed in range(SEEDS)],
        **found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="", help="part of a task's name")
    parser.add_argument("--again", action="store_true", help="also where there is a file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    for task in TASKS:
        if arguments.only not in task.name or (path_of(task).exists() and not arguments.again):
            continue
        start = perf_counter()
        made = grid(task)
        path_of(task).write_text(json.dumps(made) + "\n")
        print(f"{task.name}: {perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()

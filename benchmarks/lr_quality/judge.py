"""Every finder on every task, judged by full trainings.

python benchmarks/lr_quality/judge.py [--only NAME] [--budget]

Writes ``results/lr_quality_runs.csv``, a row for each use of a finder, and from it ``results/lr_quality.csv``, a row for each finder,
half of the tasks and schedule. With ``--only`` the rows of other finders stay as they are. ``--budget`` gives ours more and
fewer batches instead, on the half to judge by, and writes ``results/lr_quality_budget.csv`` and ``docs/images/lr_quality.png``.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, fields
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import torch

sys.path.insert(0, str(Path(__file__).parent))

from grid import SCHEDULES, path_of
from methods import METHODS, Method, ours
from score import Scored, Truth, summary
from tasks import TASKS

from surefoot import plots
from surefoot.bench import write_csv
from surefoot.files import write

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
RUNS, SUMMARY = RESULTS / "lr_quality_runs.csv", RESULTS / "lr_quality.csv"
BUDGET, PICTURE = RESULTS / "lr_quality_budget.csv", ROOT / "docs" / "images" / "lr_quality.png"

SEEDS = range(10, 15)
"""Others than those of the grids."""

BUDGETS = (40, 60, 80, 100, 150, 200, 300, 400, 600)
EFFORTS = ("sweep", "sure")
PROCESSES = 2


def budgets() -> dict[str, Method]:
    """Ours with each number of batches; a sweep does not go on for longer than 150."""
    return {
        f"{effort} {most}": partial(ours, effort=effort, max_batches=most)
        for effort, most in product(EFFORTS, BUDGETS)
        if effort == "sure" or most <= 150
    }


def judged(number: int, methods: Mapping[str, Method], seeds: Sequence[int]) -> list[Scored]:
    """All runs of some finders on a task, given by its number: a task itself does not go to another process."""
    torch.set_num_threads(1)
    task, runs = TASKS[number], []
    grid = json.loads(path_of(task).read_text())
    truths = {schedule: Truth.of(grid, schedule) for schedule in SCHEDULES}
    for (name, method), schedule, seed in product(methods.items(), SCHEDULES, seeds):
        found, truth = method(task, seed, schedule), truths[schedule]
        runs.append(
            Scored(
                name,
                task.name,
                "judge" if task.judge else "tune",
                schedule,
                seed,
                found.rate,
                found.batches,
                found.abstained,
                round(truth.regret(found.rate), 5),
                None if found.interval is None else round(truth.least(*found.interval), 5),
                found.confidence,
            )
        )
    return runs


def all_judged(methods: Mapping[str, Method], numbers: Sequence[int], seeds: Sequence[int]) -> list[Scored]:
    start, runs = perf_counter(), list[Scored]()
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        found = pool.map(partial(judged, methods=methods, seeds=seeds), numbers)
        for number, some in zip(numbers, found, strict=True):
            runs += some
            print(f"{TASKS[number].name}: {perf_counter() - start:.0f} s", flush=True)
    return runs


def write_runs(runs: Iterable[Scored]) -> None:
    rows = [
        {
            **asdict(run),
            "rate": f"{run.rate:.4g}",
            "abstained": int(run.abstained),
            "confidence": None if run.confidence is None else round(run.confidence, 3),
        }
        for run in sorted(runs, key=lambda run: list(METHODS).index(run.method))
    ]
    with RUNS.open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def read_runs() -> list[Scored]:
    def number(text: str) -> float | None:
        return float(text) if text else None

    kinds = {"seed": int, "batches": int, "rate": float, "regret": float, "least": number}
    kinds |= {"abstained": lambda text: text == "1", "confidence": number}
    with RUNS.open(newline="") as file:
        return [
            Scored(**{field.name: kinds.get(field.name, str)(row[field.name]) for field in fields(Scored)})
            for row in csv.DictReader(file)
        ]


def summaries(runs: Sequence[Scored]) -> list[dict[str, object]]:
    """A row for each finder, half and schedule, in the order of the runs."""
    kinds = dict.fromkeys((run.method, run.half, run.schedule) for run in runs)
    rows = []
    for method, half, schedule in sorted(kinds, key=lambda kind: kind[1:]):
        some = [run for run in runs if (run.method, run.half, run.schedule) == (method, half, schedule)]
        numbers = {
            name: value if isinstance(value, str) else round(value, 3)
            for name, value in summary(some).items()
        }
        rows.append({"half": half, "schedule": schedule, "method": method, **numbers})
    return rows


def picture(rows: Sequence[Mapping[str, object]]) -> bytes:
    """Mean regret against the batches spent."""

    def draw() -> object:
        ax = plots._dress(plots.figure(), "Batches spent, mean", "Mean regret")
        looks = product(
            ((plots.INK, "sure"), (plots.ACCENT, "sweep")), (("-", "constant"), ("--", "onecycle"))
        )
        for (color, effort), (style, schedule) in looks:
            wanted = [row for row in rows if (row["effort"], row["schedule"]) == (effort, schedule)]
            points = [(row["batches"], row["mean_regret"]) for row in wanted]
            name = "constant rate" if schedule == "constant" else "OneCycle"
            ax.plot(
                *zip(*points, strict=True),
                color=color,
                linestyle=style,
                marker="o",
                markersize=4,
                label=f"{effort}, {name}",
            )
            few = [point for point, row in zip(points, wanted, strict=True) if row["abstained"] > 0.5]
            if few:
                ax.plot(*zip(*few, strict=True), "o", color=color, markersize=4, markerfacecolor="white")
        ax.set_ylim(bottom=0)
        ax.set_title("What more batches buy: regret of find_lr's rate (hollow: it abstains)")
        ax.legend(frameon=False)
        return ax

    return plots.image(draw)


def spend() -> None:
    """More batches and fewer, on the half to judge by, with fewer repeats."""
    numbers = [number for number, task in enumerate(TASKS) if task.judge]
    rows = []
    for row in summaries(all_judged(budgets(), numbers, SEEDS[:3])):
        effort, most = str(row.pop("method")).split()
        rows.append({"effort": effort, "max_batches": int(most), **row})
    write_csv(BUDGET, rows)
    write(PICTURE, picture(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="", help="part of a finder's name")
    parser.add_argument("--budget", action="store_true", help="regret against batches spent")
    arguments = parser.parse_args()
    if arguments.budget:
        spend()
        return
    methods = {name: method for name, method in METHODS.items() if arguments.only in name}
    runs = all_judged(methods, range(len(TASKS)), SEEDS)
    new = {run.method for run in runs}
    if RUNS.exists():
        runs += [run for run in read_runs() if run.method not in new]
    write_runs(runs)
    write_csv(SUMMARY, summaries(read_runs()))
    for row in summaries(read_runs()):
        print(" ".join(f"{value!s:>9}" for value in row.values()))


if __name__ == "__main__":
    main()

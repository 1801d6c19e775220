"""Changes to an AdamW of 1,000 tensors while it is in use, and its steps before and after them, in turn.

python benchmarks/surgery.py [--rounds 9]
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

import surefoot
from surefoot.bench import write_csv

RESULTS = Path(__file__).parent / "results" / "surgery.csv"
STEPS = 30


def another(of: torch.Tensor) -> torch.Tensor:
    param = torch.ones_like(of).requires_grad_()
    param.grad = torch.full_like(of, 1e-3)
    return param


CHANGES: dict[str, Callable[[surefoot.AdamW, list[torch.Tensor]], None]] = {
    "freeze half": lambda optimizer, params: optimizer.freeze("*[02468]"),
    "unfreeze": lambda optimizer, params: optimizer.unfreeze(),
    "set half": lambda optimizer, params: optimizer.set("*[02468]", lr=1e-4),
    "add": lambda optimizer, params: optimizer.add([("new", another(params[0]))]),
    "replace": lambda optimizer, params: optimizer.replace("layer1", another(params[1])),
    "reset_state": lambda optimizer, params: optimizer.reset_state("layer?"),
    "remove": lambda optimizer, params: optimizer.remove("layer?"),
}


def seconds(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def one_round() -> dict[str, list[float]]:
    """Seconds of each change, of the step after it, and of a usual step before and after both."""
    params = [torch.ones(256, requires_grad=True) for _ in range(1000)]
    for param in params:
        param.grad = torch.full_like(param, 1e-3)
    optimizer = surefoot.AdamW([(f"layer{i}", param) for i, param in enumerate(params)])
    surefoot.Scheduler(optimizer, lr=surefoot.curves.cosine(1000))

    def usual() -> float:
        return median(seconds(optimizer.step) for _ in range(STEPS))

    for _ in range(STEPS):
        optimizer.step()
    found = {}
    for name, change in CHANGES.items():
        before = usual()
        took = seconds(lambda change=change: change(optimizer, params))
        found[name] = [took, seconds(optimizer.step), before, usual()]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="how often everything is done")
    rounds = [one_round() for _ in range(parser.parse_args().rounds)]
    rows = []
    for name in CHANGES:
        columns = zip(*(one[name] for one in rounds), strict=True)
        change, first, before, after = (median(column) * 1e3 for column in columns)
        row = {"change": name, "change_ms": change, "next_step_ms": first, "step_before_ms": before}
        row |= {"step_after_ms": after}
        rows.append({key: value if key == "change" else round(value, 3) for key, value in row.items()})
        print(rows[-1], flush=True)
    write_csv(RESULTS, rows)


if __name__ == "__main__":
    main()

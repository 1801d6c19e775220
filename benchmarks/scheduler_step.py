"""`scheduler.step()`: Surefoot's classes and torch's of the same name, on optimizers of their own, in turn.

python benchmarks/scheduler_step.py [--seconds 1]
"""

import argparse
import math
from pathlib import Path
from statistics import median

import torch

import surefoot
from surefoot.bench import write_csv
from surefoot.bench.rows import alternate

RESULTS = Path(__file__).parent / "results" / "scheduler_step.csv"
ENDLESS = 10**9

SETTINGS = {
    "LambdaLR": {"lr_lambda": lambda step: 1 / math.sqrt(1 + step)},
    "MultiplicativeLR": {"lr_lambda": lambda step: 0.999},
    "StepLR": {"step_size": 1000},
    "MultiStepLR": {"milestones": [1000, 2000]},
    "ConstantLR": {},
    "LinearLR": {"start_factor": 0.5, "total_iters": ENDLESS},
    "ExponentialLR": {"gamma": 1 - 1e-7},
    "PolynomialLR": {"total_iters": ENDLESS},
    "CosineAnnealingLR": {"T_max": ENDLESS},
    "CosineAnnealingWarmRestarts": {"T_0": 1000},
    "CyclicLR": {"base_lr": 1e-4, "max_lr": 1e-3},
    "OneCycleLR": {"max_lr": 1e-3, "total_steps": ENDLESS},
}


def stepping(library: object, name: str, groups: int) -> object:
    """A scheduler's step, on an optimizer that has stepped."""
    params = [{"params": [torch.zeros(1, requires_grad=True)]} for _ in range(groups)]
    optimizer = library.AdamW(params, lr=1e-3)
    scheduler = getattr(library.lr_scheduler, name)(optimizer, **SETTINGS[name])
    optimizer.step()
    return scheduler.step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each row")
    seconds, rows = parser.parse_args().seconds, []
    for groups in (1, 100):
        for name in SETTINGS:
            sides = {
                "surefoot": stepping(surefoot, name, groups),
                "torch": stepping(torch.optim, name, groups),
            }
            times = {side: median(taken) * 1e6 for side, taken in alternate(sides, seconds).items()}
            ratio = times["surefoot"] / times["torch"]
            row = {"scheduler": name, "groups": groups}
            row |= {f"{side}_us": round(taken, 2) for side, taken in times.items()}
            rows.append(row | {"times_torchs": round(ratio, 2)})
            print(rows[-1], flush=True)
    write_csv(RESULTS, rows)


if __name__ == "__main__":
    main()

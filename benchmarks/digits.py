"""Accuracy and time of `surefoot train digits`: the whole command, one process for each seed.

python benchmarks/digits.py [--seeds 3]
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from surefoot.bench import write_csv

RESULTS = Path(__file__).parent / "results" / "digits.csv"


def one(seed: int, folder: str) -> dict[str, float]:
    command = [sys.executable, "-c", "from surefoot.cli import main; main()"]
    started = time.perf_counter()
    options = ["train", "digits", "--seed", str(seed), "--out", folder]
    said = subprocess.run([*command, *options], check=True, capture_output=True, text=True).stdout
    seconds = time.perf_counter() - started
    found = dict(re.findall(r"(Validation accuracy|Training time)\s+([\d.]+)", said))
    (lr,) = re.findall(r"Learning rate ([\d.e-]+)", said)
    return {
        "seed": seed,
        "lr": float(lr),
        "accuracy_percent": float(found["Validation accuracy"]),
        "training_s": float(found["Training time"]),
        "command_s": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    with tempfile.TemporaryDirectory() as folder:
        rows = [one(seed, folder) for seed in range(parser.parse_args().seeds)]
    write_csv(RESULTS, rows)
    for row in rows:
        print(row)
    for name in ("accuracy_percent", "training_s", "command_s"):
        print(f"median {name}: {statistics.median(row[name] for row in rows)}")


if __name__ == "__main__":
    main()

"""The first `step()` of a process: with its kernel compiled, with it from the disk cache, and torch's.

And the first use: constructor, step and zero_grad together.

Each in a process of its own, one after the other, on the MLP of 4 tensors.

python benchmarks/first_step.py [--times 5]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from surefoot.bench import write_csv
from surefoot.bench.workloads import SHAPES, available, counterpart

RESULTS = Path(__file__).parent / "results" / "first_step.csv"

TIMED = """
import time, torch, surefoot
params = [torch.ones(shape, requires_grad=True) for shape in {shapes}]
for param in params:
    param.grad = torch.ones_like(param)
begin = time.perf_counter()
optimizer = {module}.{name}(params, **{settings})
start = time.perf_counter()
optimizer.step()
end = time.perf_counter()
optimizer.zero_grad()
print(end - start, time.perf_counter() - begin)
"""


def seconds(module: str, name: str, settings: dict[str, object], cache: str) -> tuple[float, float]:
    """Of the step, and of the whole use."""
    code = TIMED.format(shapes=SHAPES["MLP"](), module=module, name=name, settings=settings)
    environment = {**os.environ, "SUREFOOT_CACHE": cache}
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    step, use = map(float, said.split())
    return step, use


def once(optimizer: str) -> dict[str, float]:
    ours, torchs = available()[optimizer], counterpart(optimizer)
    with tempfile.TemporaryDirectory() as cache:
        cold, warm = (seconds("surefoot", *ours, cache) for _ in range(2))
        times = {"cold_cache_s": cold[0], "disk_cache_s": warm[0], "use_s": warm[1]}
        if torchs:
            times["torch_default_s"], times["torch_use_s"] = seconds("torch.optim", *torchs, cache)
        return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--times", type=int, default=5, help="processes of each kind, for the median")
    times, rows = parser.parse_args().times, []
    columns = dict.fromkeys(
        ("optimizer", "cold_cache_s", "disk_cache_s", "torch_default_s", "use_s", "torch_use_s")
    )
    for optimizer in available():
        runs = [once(optimizer) for _ in range(times)]
        medians = {name: round(statistics.median(run[name] for run in runs), 4) for name in runs[0]}
        rows.append({**columns, "optimizer": optimizer, **medians})
        print(rows[-1], flush=True)
    write_csv(RESULTS, rows)


if __name__ == "__main__":
    main()

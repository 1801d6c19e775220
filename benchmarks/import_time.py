"""What `import surefoot` costs beyond `import torch`: both, alternately, each in a process of its own.

python benchmarks/import_time.py
"""

import statistics
import subprocess
import sys
from pathlib import Path

from surefoot.bench import write_csv

RESULTS = Path(__file__).parent / "results" / "import_time.csv"
TIMED = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def seconds(modules: str) -> float:
    code = TIMED.format(modules)
    return float(
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    )


def main() -> None:
    pairs = [(seconds("torch"), seconds("torch, surefoot")) for _ in range(11)]
    torch_s, both_s = (statistics.median(side) for side in zip(*pairs, strict=True))
    row = {"torch_s": round(torch_s, 3), "torch_and_surefoot_s": round(both_s, 3)}
    write_csv(RESULTS, [row])
    print(row)


if __name__ == "__main__":
    main()

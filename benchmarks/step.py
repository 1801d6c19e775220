"""Every row of `surefoot bench`, written to results/step.csv.

python benchmarks/step.py [--seconds 2]
"""

import sys
from pathlib import Path

from surefoot.cli import main

RESULTS = Path(__file__).parent / "results" / "step.csv"

if __name__ == "__main__":
    sys.argv[1:1] = ["bench", "--csv", str(RESULTS)]
    main()

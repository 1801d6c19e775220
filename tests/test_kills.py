import csv
import subprocess
import sys
from pathlib import Path

KILLS = Path(__file__).parents[1] / "benchmarks" / "kills.py"


def test_45_a_training_that_is_killed_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    """In a process of its own, which has no threads and can fork."""
    command = [sys.executable, KILLS, "--kills", "3", "--seed", "4", "--csv", tmp_path / "kills.csv"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = csv.DictReader((tmp_path / "kills.csv").read_text().splitlines())
    assert (row["kills"], row["then_equal"], row["without_checkpoint"]) == ("3", "3", "0")

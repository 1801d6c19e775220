"""Save and load AdamW's state of GPT-2 small, 1 GB: checkpoint.save and torch.save in turn, then both loads.

Each save is of a new file, and the one before it is then deleted. checkpoint.save flushes its file to the disk;
torch.save is measured with that and without it.

A load is made in a process of its own, by an optimizer that has no state yet: its seconds, and the memory it took
at its highest beyond what was there before it, in times of what was loaded; 1 is what must be.

python benchmarks/checkpoint_save.py [--rounds 5] [--folder .]
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

import surefoot
from surefoot import checkpoint
from surefoot.bench import write_csv
from surefoot.bench.workloads import SHAPES

RESULTS = Path(__file__).parent / "results" / "checkpoint_save.csv"
SHAPES_OF = "GPT-2 small"
WARM = 3  # rounds that do not count: a virtual machine gets its memory when it first writes to it


def optimizer_of(state: bool) -> surefoot.AdamW:
    """An optimizer, with the state that it has after a step if asked for."""
    params = [torch.zeros(shape, requires_grad=True) for shape in SHAPES[SHAPES_OF]()]
    optimizer = surefoot.AdamW([(f"p{i}", param) for i, param in enumerate(params)])
    if state:
        for param in params:
            step, moments = torch.tensor(1.0), [torch.randn_like(param).detach() for _ in range(2)]
            optimizer.state[param] = {"step": step, "exp_avg": moments[0], "exp_avg_sq": moments[1].square_()}
    return optimizer


def torch_save(optimizer: surefoot.AdamW, path: Path) -> None:
    torch.save(optimizer.state_dict(), path)


def torch_save_flushed(optimizer: surefoot.AdamW, path: Path) -> None:
    with open(path, "wb") as file:
        torch.save(optimizer.state_dict(), file)
        file.flush()
        os.fsync(file.fileno())


SAVES: dict[str, Callable[[surefoot.AdamW, Path], None]] = {
    "surefoot": lambda optimizer, path: checkpoint.save(path, optimizer=optimizer),
    "torch_flushed": torch_save_flushed,
    "torch": torch_save,
}
LOADS: dict[str, Callable[[surefoot.AdamW, Path], object]] = {
    "surefoot": lambda optimizer, path: checkpoint.load(path, optimizer=optimizer),
    "torch": lambda optimizer, path: optimizer.load_state_dict(torch.load(path)),
}


def seconds(work: Callable[..., object], *args: object) -> float:
    start = perf_counter()
    work(*args)
    return perf_counter() - start


def highest() -> int:
    """The most memory that this process had, in bytes; ru_maxrss has what its parent had when it was forked."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    return int(line.split()[1]) * 1024


def load(side: str, path: Path) -> None:
    """Print the seconds that a load takes, and the memory: of the process at its highest, and what was loaded."""
    optimizer = optimizer_of(state=False)
    for param in optimizer.param_groups[0]["params"]:
        param.detach().fill_(1.0)  # zeros take no memory until then
    before = highest()
    taken = seconds(LOADS[side], optimizer, path)
    more = highest() - before
    states = [value for state in optimizer.state.values() for value in state.values()]
    print(taken, more / sum(tensor.nbytes for tensor in states))


def loaded(side: str, path: Path) -> tuple[float, float]:
    command = [sys.executable, __file__, "--load", side, path]
    first, second = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(first), float(second)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each side saves and loads")
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk to save to")
    parser.add_argument("--load", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        load(arguments.load[0], Path(arguments.load[1]))
        return
    optimizer = optimizer_of(state=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        paths: dict[str, Path] = {}
        saves: dict[str, list[float]] = {side: [] for side in SAVES}
        for i in range(arguments.rounds + WARM):
            for side, save in SAVES.items():
                os.sync()  # what the last one left to be written is not this one's to wait for
                new, old = Path(name).absolute() / f"{side}-{i}", paths.get(side)
                saves[side].append(seconds(save, optimizer, new))
                paths[side] = new
                if old is not None:
                    old.unlink()
        del optimizer
        rounds = [{side: loaded(side, paths[side]) for side in LOADS} for _ in range(arguments.rounds + WARM)]
    row: dict[str, object] = {"state": SHAPES_OF, "rounds": arguments.rounds}
    times = {side: median(taken[WARM:]) for side, taken in saves.items()}
    row |= {f"save_{side}_s": round(taken, 3) for side, taken in times.items()}
    row["save_ratio_flushed"] = round(times["surefoot"] / times["torch_flushed"], 3)
    row["save_ratio"] = round(times["surefoot"] / times["torch"], 3)
    for i, what in enumerate(("s", "memory")):
        for side in LOADS:
            row[f"load_{side}_{what}"] = round(median(each[side][i] for each in rounds[WARM:]), 3)
    print(row)
    write_csv(RESULTS, [row])


if __name__ == "__main__":
    main()

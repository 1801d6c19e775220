"""A training that is killed again and again, and goes on from its newest checkpoint, beside one that never was.

A small CNN with dropout, batches shuffled and augmented by two workers, OneCycle with momentum, float16 with a
GradScaler that skips steps, and an average of the weights. A kill is SIGKILL to the training and its workers at a
random moment, every other time while a checkpoint is being written. Then it goes on, to be killed again or to the
end: each loss on the way and all that is there at the end must have the bits of the training that was never killed.

python benchmarks/kills.py [--kills 100] [--seed 0]
"""

import argparse
import hashlib
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import surefoot
from surefoot import Run, checkpoint, lr_scheduler, train
from surefoot.bench import write_csv
from surefoot.checkpoint import CheckpointManager
from surefoot.swa_utils import AveragedModel, get_ema_multi_avg_fn

RESULTS = Path(__file__).parent / "results" / "kills.csv"
EPOCHS, BATCHES, EVERY = 3, 8, 3  # passes, updates in each, updates from save to save
STEPS = EPOCHS * BATCHES
COUNTS = ("kills", "in_a_save", "before_the_first_save", "then_equal", "without_checkpoint")
LOSSES, END, SAVED = "losses", "end", "saved"


class Digits(Dataset[Any]):
    """Noise with a place of more light, which is the class; augmented by every generator that there is."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.images = torch.randn(BATCHES * 16, 1, 8, 8, generator=generator)
        self.labels = torch.randint(10, (BATCHES * 16,), generator=generator)
        self.images.flatten(1)[torch.arange(BATCHES * 16), self.labels] += 4

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Any:
        image = self.images[index] + 0.1 * torch.randn(1, 8, 8) + 0.1 * np.random.standard_normal()
        return image.roll(random.randint(0, 1), -1), self.labels[index]


def loss(model: nn.Module, batch: Any) -> Tensor:
    images, labels = batch
    with torch.autocast("cpu", dtype=torch.float16):
        return nn.functional.cross_entropy(model(images), labels)


def build() -> Run:
    model = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2), nn.Flatten()),
        *(nn.Linear(512, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 10)),
    )
    optimizer = surefoot.AdamW(model.named_parameters(), lr=1e-3)
    return Run(
        model,
        optimizer,
        DataLoader(Digits(), batch_size=16, shuffle=True, num_workers=2),
        loss,
        lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=STEPS),
        torch.amp.GradScaler("cpu", init_scale=2.0**18, growth_interval=4),
        AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9)),
    )


def seed(number: int) -> None:
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def warm() -> None:
    """Have all that a training uses imported and compiled, so that a child has nothing to do but train."""
    run, data = build(), Digits()
    batch = torch.stack([data[i][0] for i in range(2)]), data.labels[:2]
    run.scaler.scale(run.loss(run.model, batch)).backward()
    run.optimizer.step()
    run.average.update_parameters(run.model)
    with tempfile.TemporaryDirectory() as folder:
        run.save(Path(folder) / "run")


def training(folder: Path, start: int) -> None:
    """Begin, or go on from the newest checkpoint, to the end; what it did is in two files beside them."""
    tempfile.tempdir = str(folder)  # where killed workers leave their sockets
    manager = CheckpointManager(folder, keep=2)
    last = manager.last()
    seed(0 if last is None else start)  # going on, every generator is elsewhere at first
    run = build()
    if last is not None:
        run.resume(last)
    losses = os.open(folder / LOSSES, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for record in train(run, EPOCHS):
        os.write(losses, f"{record.step} {record.loss.hex()}\n".encode())
        if record.step % EVERY == 0:
            with manager.new(record.step) as path:
                run.save(path)
            os.write(losses, f"{record.step} {SAVED}\n".encode())
    (folder / END).write_text(digest(run))


def digest(run: Run) -> str:
    """Of every bit of weights, average, optimizer, schedule, scaler, generators and counters."""

    def plain(value: Any) -> Any:
        data = value.detach().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()
        return str(value.dtype), tuple(value.shape), hashlib.sha256(data).hexdigest()

    parts = (run.model, run.average, run.optimizer, run.scheduler, run.scaler)
    generators = [torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()]
    tree = [*(part.state_dict() for part in parts), generators, run.epoch, run.batch, run.step]
    return hashlib.sha256(json.dumps(tree, default=plain).encode()).hexdigest()


@contextmanager
def child(work: Callable[..., None], *args: Any) -> Iterator[int]:
    """A process of a group of its own that does some work; it and its own are killed in the end, if they live."""
    sys.stdout.flush()
    if (process := os.fork()) == 0:
        code = 1
        try:
            os.setpgid(0, 0)
            work(*args)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.setpgid(process, process)  # whoever is first
    try:
        yield process
    finally:
        os.killpg(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            raise RuntimeError("the training ended with an error of its own: see above")


def ended(process: int) -> bool:
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def being_written(folder: Path) -> set[str]:
    return {entry.name for entry in os.scandir(folder) if entry.name.endswith(".tmp")}


def said(folder: Path) -> tuple[set[tuple[str, str]], int]:
    """What the trainings in a folder said: the loss of each step, the same or not, and which is the last one saved."""
    text = (folder / LOSSES).read_text() if (folder / LOSSES).exists() else ""
    lines = {(step, what) for step, what in map(str.split, text.splitlines())}
    saves = {line for line in lines if line[1] == SAVED}
    return lines - saves, max((int(step) for step, _ in saves), default=0)


class Example(NamedTuple):
    """The training that is never killed: its losses, its end, its seconds, and those of one of its saves."""

    losses: set[tuple[str, str]]
    end: str
    seconds: float
    save: float


def never_killed() -> Example:
    with tempfile.TemporaryDirectory() as name:
        folder, looks, saving, start = Path(name), 0, 0, perf_counter()
        with child(training, folder, 0) as process:
            while not ended(process):
                looks, saving = looks + 1, saving + bool(being_written(folder))
        seconds = perf_counter() - start
        save = seconds * saving / looks / (STEPS // EVERY)
        return Example(said(folder)[0], (folder / END).read_text(), seconds, save)


def kill(folder: Path, start: int, wait: float, into: float | None) -> bool:
    """Train, and kill it after ``wait`` seconds, or so far into the first save after them; False: it ended before."""
    left = being_written(folder)
    with child(training, folder, start) as process:
        sleep(wait)
        while into is not None and being_written(folder) <= left:
            if ended(process):
                return False
        sleep(into or 0.0)
        return not ended(process)


def newest(folder: Path) -> int:
    """The step of the newest checkpoint, 0 where there is none, -1 where one is not whole."""
    paths = CheckpointManager(folder).paths()
    try:
        for path in paths:
            with checkpoint.opened(path):
                pass
    except checkpoint.CheckpointError as error:
        print(error)
        return -1
    return int(paths[-1].stem.removeprefix("step-")) if paths else 0


def one_run(number: int, most: int, example: Example) -> Counter[str]:
    """Kill a training once or more, let it end, and compare; the number seeds all that is drawn."""
    drawn, found = random.Random(number), Counter(dict.fromkeys(COUNTS, 0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        while found["kills"] < most and (found["kills"] == 0 or drawn.random() < 0.4):
            wait, into = drawn.uniform(0, example.seconds), example.save * drawn.random() ** 2
            if not kill(folder, drawn.getrandbits(32), wait, drawn.choice([None, into])):
                break
            there, (_, saved) = newest(folder), said(folder)
            found.update(kills=1, before_the_first_save=there == 0, without_checkpoint=there < saved)
        if found["kills"] == 0:
            return found
        found["in_a_save"] = len(being_written(folder))  # each save that was killed leaves its file
        with child(training, folder, drawn.getrandbits(32)) as process:
            os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
        if example.losses == said(folder)[0] and example.end == (folder / END).read_text():
            found["then_equal"] = found["kills"]
    print(f"seed {number}: {dict(found)}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the first run; each has one of its own")
    parser.add_argument("--csv", type=Path, default=RESULTS, help="where the figures go")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a process without threads can be forked
    begun = perf_counter()
    warm()
    example = never_killed()
    print(f"never killed: {example.seconds:.2f} s, a save {example.save * 1e3:.1f} ms")
    totals = Counter(dict.fromkeys(COUNTS, 0))
    for number in itertools.count(arguments.seed):
        if totals["kills"] >= arguments.kills:
            break
        totals.update(one_run(number, arguments.kills - totals["kills"], example))
    row = {**totals, "seconds": round(perf_counter() - begun)}
    print(row)
    write_csv(arguments.csv, [row])
    sys.exit(row["then_equal"] < row["kills"] or row["without_checkpoint"] > 0)


if __name__ == "__main__":
    main()

"""`train()` and the same loop written by hand, on the digits MLP, in turn: microseconds an update.

python benchmarks/loop.py [--seconds 10]
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import nn

import surefoot
from surefoot.bench import write_csv
from surefoot.bench.rows import alternate
from surefoot.tasks import TASKS

RESULTS = Path(__file__).parent / "results" / "loop.csv"
ENDLESS = 10**9


def parts() -> tuple[nn.Module, torch.optim.Optimizer, surefoot.Scheduler]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = surefoot.AdamW(model.parameters(), lr=1e-3)
    return model, optimizer, surefoot.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=ENDLESS)


def by_hand(loader: object) -> Callable[[], float]:
    """A pass of the loop that people write, the loss read after each update."""
    model, optimizer, scheduler = parts()

    def one_pass() -> float:
        total = 0.0
        model.train()
        for images, labels in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item()
        return total

    return one_pass


def by_train(loader: object) -> Callable[[], float]:
    """The same."""
    model, optimizer, scheduler = parts()

    def loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        images, labels = batch
        return nn.functional.cross_entropy(model(images), labels)

    run = surefoot.Run(model, optimizer, loader, loss, scheduler)

    def one_pass() -> float:
        total = 0.0
        for record in surefoot.train(run, epochs=run.epoch + 1):
            total += record.loss
        return total

    return one_pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="time for each row")
    seconds, rows = parser.parse_args().seconds, []
    torch.set_num_threads(1)
    loader = TASKS["digits"](64, 0).train_loader
    batches = list(loader)
    for kind, data in (("list of batches", batches), ("DataLoader", loader)):
        times = alternate({"train": by_train(data), "by_hand": by_hand(data)}, seconds)
        micros = {side: [taken * 1e6 / len(batches) for taken in each] for side, each in times.items()}
        # Of each round by itself: both sides of a round met the same machine.
        more = median(ours - theirs for ours, theirs in zip(*micros.values(), strict=True))
        row = {"data": kind, "rounds": len(micros["train"])}
        row |= {f"{side}_us": round(median(each), 1) for side, each in micros.items()}
        row |= {"more_us": round(more, 1), "more_percent": round(100 * more / median(micros["by_hand"]), 1)}
        rows.append(row)
        print(row, flush=True)
    write_csv(RESULTS, rows)


if __name__ == "__main__":
    main()

"""What a finding says, and how it is drawn."""

import math
from typing import Any

import pytest
from lr_finder.runs import plain_net
from matplotlib import pyplot as plt
from torch import nn
from trainings import dataset, loader, seed

import surefoot as optim

pytestmark = pytest.mark.usefixtures("one_thread")


def found(loss: Any = None, **settings: Any) -> optim.LRFinding:
    seed()
    model = plain_net()
    optimizer = optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-4)
    return optim.find_lr(model, optimizer, loss or nn.CrossEntropyLoss(), loader(dataset(400)), **settings)


# The decay moves the weights, and the loss all the same not.
def flat(model: nn.Module, batch: Any) -> Any:
    return model(batch[0]).sum() * 0.0 + 3.0


def shifted(model: nn.Module, batch: Any) -> Any:
    return nn.functional.cross_entropy(model(batch[0]), batch[1]) - 100


FINDINGS: dict[str, Any] = {
    "trials": {},
    "a sweep": {"effort": "sweep"},
    "negative losses": {"loss": shifted},
    "a tiny sweep": {"max_batches": 52},
    "no sweep": {"max_batches": 30},
    "nothing": {"max_batches": 1},
    "no number": {"loss": lambda model, batch: model(batch[0]).sum() * math.nan},
    "flat": {"loss": flat},
}
WHERE_NOTHING_WAS_SEEN = {"nothing", "no number"}


@pytest.mark.parametrize("name", FINDINGS)
def test_every_finding_is_drawn(name: str) -> None:
    finding = found(**FINDINGS[name])
    axes = finding.plot()
    axes.figure.canvas.draw()
    title = axes.get_title()
    names = [text.get_text() for text in axes.get_legend().get_texts()] if axes.get_legend() else []
    assert ("each batch" in names) == (name not in WHERE_NOTHING_WAS_SEEN)
    assert ("suggestion" in names) == ("80 % interval" in names) == (not finding.abstained)
    assert ("its course, each batch against itself" in names) == bool(finding.sweep.lr)
    assert title.startswith("No learning rate" if finding.abstained else "Learning rate")
    assert " ".join(axes.texts[0].get_text().split()) == finding.reason
    if not finding.abstained:
        left, right = axes.get_xlim()
        assert left <= finding.interval[0] < finding.interval[1] <= right
    if name in WHERE_NOTHING_WAS_SEEN:
        assert not axes.get_xticks().size
    plt.close("all")


def test_a_drawing_of_what_hardly_changes_does_not_magnify_it() -> None:
    low, high = found(flat).plot().get_ylim()
    assert high - low > 0.002
    plt.close("all")


def test_where_nothing_was_learned_the_optimizers_own_rate_is_the_most_that_is_offered() -> None:
    for effort in ("sweep", "sure"):
        finding = found(flat, effort=effort)
        assert finding.abstained
        assert finding.suggestion <= 0.1
        assert "The safest rate that is known is" in str(finding)


def test_all_of_it_as_plain_values() -> None:
    finding = found(effort="sweep")
    kept = finding.to_dict()
    assert kept["suggestion"] == finding.suggestion
    assert kept["sweep"]["lr"] == finding.sweep.lr
    assert finding.history["lr"] == list(finding.sweep.lr)

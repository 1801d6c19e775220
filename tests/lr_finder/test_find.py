import math
import time
from dataclasses import replace
from functools import partial
from itertools import pairwise
from statistics import fmean
from typing import Any

import pytest
import torch
from lr_finder.runs import plain_net
from trainings import dataset, loader, seed
from trainings import loss as loss_of_pairs

import surefoot
from surefoot.lr_finder import reading, search
from surefoot.lr_finder.find import plan_of


@pytest.mark.parametrize("effort", ["sweep", "sure"])
def test_a_sweep_compares_each_batch_with_itself(effort: str) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    offsets = [100.0 * (i % 11) for i in range(60)]  # what differs between batches is not to be learned
    data = [(torch.randn(16, 4), offset) for offset in offsets]

    def loss(model: torch.nn.Module, batch: tuple[torch.Tensor, float]) -> torch.Tensor:
        return (model(batch[0]) - batch[0].sum(1, keepdim=True)).square().mean() + batch[1]

    optimizer = surefoot.SGD(model.parameters(), lr=0.1)
    sweep = surefoot.find_lr(model, optimizer, loss, data, effort=effort).sweep
    level = fmean(loss(model, batch).item() for batch in data[:8])
    # what can be learned is at most 6, and an offset's next is 100 away
    assert sweep.fitted[:12] == pytest.approx([level] * 12, abs=6.0)


# The call


def parts() -> tuple[torch.nn.Module, torch.optim.Optimizer, Any]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    inputs = torch.randn(40, 32, 6)
    return model, surefoot.Adam(model.parameters(), lr=1e-3), [(x, x[:, :3].argmax(1)) for x in inputs]


CRITERIA: dict[str, Any] = {
    "module": torch.nn.CrossEntropyLoss(),
    "function of torch": torch.nn.functional.cross_entropy,
    "of model and batch": lambda model, batch: torch.nn.functional.cross_entropy(model(batch[0]), batch[1]),
}


@pytest.mark.parametrize("name", CRITERIA)
def test_a_loss_of_outputs_and_labels_or_of_model_and_batch(name: str) -> None:
    model, optimizer, data = parts()
    run = surefoot.Run(model, optimizer, data, CRITERIA["of model and batch"])
    expected = surefoot.find_lr(run, effort="sweep")
    found = surefoot.find_lr(model, optimizer, CRITERIA[name], data, effort="sweep")
    assert (found.suggestion, found.sweep) == (expected.suggestion, expected.sweep)


def test_a_schedule_moves_the_suggestion_for_its_highest_rate() -> None:
    model, optimizer, data = parts()

    def found(schedule: Any) -> float:
        return surefoot.find_lr(
            model, optimizer, CRITERIA["module"], data, schedule=schedule, total_steps=200, effort="sweep"
        ).suggestion

    assert found("cosine(200)") == pytest.approx(2 * found(None), rel=0.02)
    cycle = partial(surefoot.lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=200)
    assert found(cycle) == pytest.approx(2 * found(None), rel=0.05)


def test_longer_training_wants_less() -> None:
    model, optimizer, data = parts()
    found = [
        surefoot.find_lr(model, optimizer, CRITERIA["module"], data, total_steps=steps).suggestion
        for steps in (32, 256, 2048)
    ]
    assert found[0] > found[1] > found[2]


def test_the_same_start_gives_the_same_finding() -> None:
    model, optimizer, data = parts()
    first, second = (surefoot.find_lr(model, optimizer, CRITERIA["module"], data) for _ in range(2))
    assert {**first.to_dict(), "seconds": 0} == {**second.to_dict(), "seconds": 0}


def test_a_finding_tells_what_was_done() -> None:
    model, optimizer, data = parts()
    found = surefoot.find_lr(model, optimizer, CRITERIA["module"], data, val_loader=data[:3])
    assert not found.abstained
    assert 100 < found.batches <= 300
    assert found.effort == "sure"
    assert found.seconds > 0
    low, high = found.interval
    assert low < found.suggestion < high
    assert 0.5 < found.confidence < 1
    assert {len(values) for values in found.history.values()} == {len(found.sweep.lr)}
    rates = [trial.lr for trial in found.trials]
    assert rates == sorted(rates)
    assert min(trial.score for trial in found.trials) < found.start
    assert all(abs(math.log2(b / a) - 1) < 1e-6 for a, b in pairwise(rates))  # an octave apart


BAD: list[tuple[dict[str, Any], Any, str]] = [
    ({"effort": "quick"}, ValueError, "effort='quick' must be 'sweep' or 'sure'"),
    ({"max_batches": 0}, ValueError, "max_batches=0 must be at least 1"),
    ({"max_batches": 1.5}, TypeError, "max_batches=1.5"),
    ({"max_seconds": 0}, ValueError, "max_seconds=0 must be greater than 0"),
    ({"max_seconds": "1"}, TypeError, "max_seconds='1'"),
    ({"total_steps": 0}, ValueError, "total_steps=0 must be at least 1"),
    ({"run": 3}, TypeError, "run is a int: pass a surefoot.Run, or a torch.nn.Module"),
    ({"optimizer": None}, ValueError, "optimizer=None: a model needs optimizer, loss and loader"),
    ({"loader": None}, ValueError, "loader=None: a model needs"),
    ({"loss": None}, ValueError, "pass either loss or step_fn: neither"),
    ({"loader": [torch.ones(2, 6)]}, TypeError, r"a batch is a Tensor, not \(inputs, labels\)"),
    ({"loader": []}, ValueError, "loader gave no batch"),
    ({"val_loader": 5}, TypeError, "int"),
    ({"nonsense": 1}, TypeError, "nonsense"),
]


@pytest.mark.parametrize(("settings", "error", "message"), BAD)
def test_bad_input_is_an_error_that_names_it(settings: Any, error: Any, message: str) -> None:
    model, optimizer, data = parts()
    before = [param.detach().clone() for param in model.parameters()]
    given = {"run": model, "optimizer": optimizer, "loss": CRITERIA["module"], "loader": data, **settings}
    with pytest.raises(error, match=message):
        surefoot.find_lr(**given)
    assert all(map(torch.equal, before, model.parameters()))


def test_a_run_has_its_own_parts() -> None:
    model, optimizer, data = parts()
    run = surefoot.Run(model, optimizer, data, CRITERIA["of model and batch"])
    with pytest.raises(ValueError, match="a run has its own optimizer and accumulate: leave it out"):
        surefoot.find_lr(run, optimizer, accumulate=2)


def test_a_finding_is_applied_to_as_many_groups() -> None:
    model, optimizer, data = parts()
    found = surefoot.find_lr(model, optimizer, CRITERIA["module"], data, effort="sweep")
    tensor = surefoot.SGD(model.parameters(), lr=torch.tensor(0.1, dtype=torch.float64))
    lr = tensor.param_groups[0]["lr"]
    found.apply(tensor)
    assert tensor.param_groups[0]["lr"] is lr
    assert lr.item() == found.suggestion
    tensor.add_param_group({"params": [torch.zeros(1)]})
    with pytest.raises(ValueError, match="optimizer has 2 groups, the finding is of 1"):
        found.apply(tensor)


def test_a_schedule_in_epochs_is_planned_in_epochs() -> None:
    model = torch.nn.Linear(2, 1)
    optimizer = surefoot.SGD(model.parameters(), lr=0.1)
    data = [torch.ones(4, 2)] * 10
    scheduler = surefoot.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    run = surefoot.Run(
        model, optimizer, data, lambda model, x: model(x).mean(), scheduler, scheduler_every="epoch"
    )
    planned = plan_of(run, scheduler, 40)
    assert planned.total_steps == 40
    assert [row[0]["lr"] for row in planned.miniature(4)] == [1.0, 0.5, 0.25, 0.125]
    assert scheduler.last_epoch == 0


def test_a_rate_that_the_optimizer_bounds_is_not_sought_beyond() -> None:
    """torch's Adafactor takes no more than ``1 / sqrt(step)``."""
    seed()
    model = plain_net()
    optimizer = torch.optim.Adafactor(model.parameters())
    for effort in ("sweep", "sure"):
        finding = surefoot.find_lr(
            model,
            optimizer,
            torch.nn.CrossEntropyLoss(),
            loader(dataset(400)),
            effort=effort,
            total_steps=200,
        )
        assert not finding.abstained
        assert 0.005 < finding.suggestion < 1
        assert max(finding.sweep.lr) < 1.1


@pytest.mark.parametrize("warm", [0, 3])
@pytest.mark.parametrize("effort", ["sweep", "sure"])
def test_an_optimizer_that_finds_its_steps_itself_has_no_rate_to_be_found(warm: int, effort: Any) -> None:
    seed()
    model = plain_net()
    optimizer = surefoot.Rprop(model.parameters(), lr=0.02)
    run = surefoot.Run(model, optimizer, loader(dataset(400)), loss_of_pairs)
    list(surefoot.train(run, steps=warm))
    finding = surefoot.find_lr(run, effort=effort)
    assert finding.abstained
    assert finding.suggestion == pytest.approx(0.02)
    assert "the optimizer finds its steps itself" in finding.reason


def test_groups_found_alone_are_not_far_apart() -> None:
    """A norm follows the first: its loss hardly ever rises."""
    seed()
    first, norm, last = torch.nn.Linear(6, 16), torch.nn.LayerNorm(16), torch.nn.Linear(16, 3)
    model = torch.nn.Sequential(first, norm, torch.nn.ReLU(), last)
    groups = [{"params": first.parameters()}, {"params": [*norm.parameters(), *last.parameters()]}]
    optimizer = surefoot.SGD(groups, lr=0.1)
    finding = surefoot.find_lr(
        model, optimizer, torch.nn.CrossEntropyLoss(), loader(dataset(400)), per_group=True
    )
    assert finding.per_group[0].suggestion > 70 * finding.per_group[1].suggestion
    assert finding.lrs[0] / finding.lrs[1] == pytest.approx(64)


def test_the_others_have_theirs_where_the_first_group_does_not_move() -> None:
    seed()
    layers = [torch.nn.Linear(6, 16), torch.nn.Linear(16, 16), torch.nn.Linear(16, 3)]
    layers[0].requires_grad_(False)
    model = torch.nn.Sequential(layers[0], torch.nn.Tanh(), layers[1], torch.nn.Tanh(), layers[2])
    groups = [{"params": layer.parameters()} for layer in layers]
    inputs = torch.randn(60, 16, 6)
    finding = surefoot.find_lr(
        model,
        surefoot.SGD(groups, lr=0.1),
        torch.nn.CrossEntropyLoss(),
        [(batch, batch[:, :3].argmax(1)) for batch in inputs],
        per_group=True,
        effort="sweep",
    )
    assert [found.abstained for found in finding.per_group] == [True, False, False]
    assert finding.lrs[1] != finding.lrs[2]


class Slow:
    """Batches that take their time."""

    def __init__(self) -> None:
        self.read, self.batches = 0, list(loader(dataset(400)))

    def __iter__(self) -> Any:
        for batch in self.batches:
            self.read += 1
            time.sleep(0.05)
            yield batch


@pytest.mark.parametrize(("settings", "most"), [({"max_seconds": 0.1}, 3), ({"max_batches": 5}, 5)])
def test_reading_ends_where_the_time_or_the_batches_do(settings: Any, most: int) -> None:
    slow, model = Slow(), plain_net()
    finding = surefoot.find_lr(
        model, surefoot.SGD(model.parameters(), lr=0.1), torch.nn.CrossEntropyLoss(), slow, **settings
    )
    assert finding.abstained
    assert slow.read <= most


def test_a_loader_of_validation_without_batches_is_an_error() -> None:
    model = plain_net()
    with pytest.raises(ValueError, match="val_loader gave no batch"):
        surefoot.find_lr(
            model,
            surefoot.SGD(model.parameters(), lr=0.1),
            torch.nn.CrossEntropyLoss(),
            loader(dataset(400)),
            val_loader=[],
        )


def test_a_sweep_and_trials_that_disagree_are_no_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    def far_off(*arguments: Any) -> Any:
        read = reading.read_trials(*arguments)
        return replace(read, best=read.best + 8)

    monkeypatch.setattr(search, "read_trials", far_off)
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    data = [(x, x.sum(1, keepdim=True)) for x in torch.randn(40, 16, 4)]
    found = surefoot.find_lr(model, surefoot.SGD(model.parameters(), lr=0.1), torch.nn.MSELoss(), data)
    assert found.abstained
    assert "they disagree" in found.reason

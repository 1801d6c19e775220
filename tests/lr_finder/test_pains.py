"""Rows 35 to 42 of what hurts with other finders, each by its number; 37 has tests in test_range_test.py, too."""

import math
import multiprocessing
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from child import find_on_rank
from lr_finder.runs import RUNS, plain_net, run_of
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from trainings import Augmented, bits, dataset, everything, generators, loader, loss, seed

import surefoot as optim
from surefoot import Run, find_lr, train

pytestmark = pytest.mark.usefixtures("one_thread")


def state(run: Run) -> Any:
    """All that a run is made of, by its values."""
    parts = [
        run.model,
        run.optimizer,
        run.scheduler,
        run.scaler,
        run.average,
        getattr(run.step_fn, "second", None),
    ]
    states = [part.state_dict() for part in parts if part is not None]
    return bits(states), generators(run.loader), [run.epoch, run.batch, run.step]


def whole(run: Run) -> Any:
    """The same, with what is whose."""
    return state(run), everything(run.model, run.optimizer, run.loader)


# 35: wrong by orders of magnitude


def regression() -> tuple[nn.Module, Any, Any]:
    """Least squares, whose curvature is known: SGD is stable below 2 / 10."""
    inputs = torch.randn(512, 8) * torch.linspace(0.3, 2.2, 8)
    targets = inputs @ torch.randn(8, 1) + 0.1 * torch.randn(512, 1)
    return nn.Linear(8, 1), TensorDataset(inputs, targets), nn.MSELoss()


def classification() -> tuple[nn.Module, Any, Any]:
    """A small network and classes that it can learn."""
    return plain_net(), dataset(512), nn.CrossEntropyLoss()


SGD: Any = lambda params: optim.SGD(params, lr=1e-3)  # noqa: E731
ADAM: Any = lambda params: optim.Adam(params, lr=1e-3)  # noqa: E731
MOMENTUM: Any = lambda params: optim.SGD(params, lr=1e-3, momentum=0.9)  # noqa: E731

# Between these rates 300 updates end with a loss that is worse than the best by less than a twentieth of what training gains:
# measured at rates an octave apart, the mean of two seeds.
WINDOWS: dict[str, tuple[Any, Any, float, float]] = {
    "least squares, SGD": (regression, SGD, 0.0015, 0.2),
    "network, Adam": (classification, ADAM, 0.01, 0.25),
    "network, momentum": (classification, MOMENTUM, 0.03, 0.7),
}


@pytest.mark.parametrize("effort", ["sweep", "sure"])
@pytest.mark.parametrize("name", WINDOWS)
def test_35_the_suggestion_is_among_the_good_rates(name: str, effort: Any) -> None:
    build, optimizer, low, high = WINDOWS[name]
    for number in range(3):
        seed(number)
        model, data, criterion = build()
        batches = DataLoader(data, batch_size=32, shuffle=True, drop_last=True)
        made = optimizer(model.parameters())
        finding = find_lr(model, made, criterion, batches, effort=effort, total_steps=300)
        assert not finding.abstained
        assert low < finding.suggestion < high
        assert finding.interval[0] < finding.suggestion < finding.interval[1]


@pytest.mark.parametrize("name", WINDOWS)
def test_35_that_of_the_range_test_too(name: str) -> None:
    build, optimizer, low, high = WINDOWS[name]
    seed()
    model, data, criterion = build()
    finder = optim.LRFinder(model, optimizer(model.parameters()), criterion)
    finder.range_test(DataLoader(data, batch_size=32, shuffle=True), start_lr=1e-5, end_lr=10)
    assert low / 2 < finder.suggestion() < high


@pytest.mark.parametrize("factor", [2.0**-10, 2.0**10])
def test_35_the_unit_of_the_loss_moves_the_rate_of_sgd_and_no_other(factor: float) -> None:
    def suggested(optimizer: Any, factor: float) -> float:
        seed()
        model, data, criterion = classification()
        batches = DataLoader(data, batch_size=32, shuffle=True)
        scaled = lambda model, batch: factor * criterion(model(batch[0]), batch[1])  # noqa: E731
        return find_lr(model, optimizer(model.parameters()), scaled, batches).suggestion

    assert suggested(MOMENTUM, factor) == pytest.approx(suggested(MOMENTUM, 1.0) / factor, rel=0.01)
    assert suggested(ADAM, factor) == pytest.approx(suggested(ADAM, 1.0), rel=0.1)  # whose eps has a unit


# 36: traces


def trained(name: str, warm: int, find: Callable[[Run], Any]) -> Any:
    """So many updates, a finding between two of them, and fifty more."""
    seed()
    run = RUNS[name]()
    records = train(run, steps=warm + 50)
    losses = [next(records).loss for _ in range(warm)]
    before = whole(run)
    find(run)
    assert whole(run) == before
    losses += [record.loss for record in records]
    return losses, state(run)


def short(run: Run) -> None:
    """A search, a sweep and two trials at least."""
    assert 70 < find_lr(run, max_batches=100, total_steps=8).batches <= 100


@cache
def untouched(name: str, warm: int) -> Any:
    """Without a finding."""
    return trained(name, warm, lambda run: None)


# With no more to lose than others; what is borrowed is compared for these, too, in other tests.
ALIKE = {name for name in RUNS if "losses" in name or "batch" in name or "dict" in name}
ALIKE |= {
    "Adam",
    "clipping",
    "closure of torch's LBFGS",
    "as Hugging Face's",
    "several inputs",
    "double",
    "no elements",
    "frozen parameters",
    "a group at rest",
}


@pytest.mark.parametrize("name", sorted(RUNS.keys() - ALIKE))
def test_36_fifty_steps_after_a_finding_are_those_without_one(name: str) -> None:
    """In the middle of a pass, with whatever state there is; twice."""

    def twice(run: Run) -> None:
        assert usable(find_lr(run, effort="sweep", max_batches=50))
        assert usable(find_lr(run, max_batches=100, total_steps=8))

    assert trained(name, 7, twice) == untouched(name, 7)


@pytest.mark.parametrize("name", ["torch's AdamW", "LBFGS", "fp16 autocast", "average"])
def test_36_also_before_the_first_step(name: str) -> None:
    def find(run: Run) -> None:
        find_lr(run, max_batches=100, total_steps=8)
        assert not run.optimizer.state

    assert trained(name, 0, find) == untouched(name, 0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_36_with_workers_and_a_loader_of_validation() -> None:
    """The generators of both are as they were."""
    build = RUNS["SGD"]
    held_out = loader(Augmented(24))

    def with_workers(find: Any) -> Any:
        seed()
        run = build()
        run.loader = loader(Augmented(), num_workers=1)
        records = train(run, steps=18)
        losses = [next(records).loss for _ in range(3)]
        find(run)
        held = generators(held_out)
        return losses + [record.loss for record in records], state(run), held

    finding = lambda run: find_lr(run, val_loader=held_out, max_batches=90, total_steps=8)  # noqa: E731
    assert with_workers(finding) == with_workers(lambda run: None)


def test_36_gradients_hooks_and_modes_stay() -> None:
    run = RUNS["SGD"]()
    run.model[1].eval()
    run.model(torch.randn(4, 6)).sum().backward()
    seen: list[bool] = []
    run.optimizer.register_step_post_hook(lambda *_: seen.append(True))
    before, gradients = whole(run), [param.grad for param in run.model.parameters()]
    short(run)
    assert whole(run) == before
    assert all(p.grad is grad for p, grad in zip(run.model.parameters(), gradients, strict=True))
    count = len(seen)
    run.optimizer.step()
    assert len(seen) == count + 1


class OutOfMemory(torch.OutOfMemoryError):
    """As a GPU that is full raises it."""


@pytest.mark.parametrize(
    ("error", "call"), [(OutOfMemory, 1), (ValueError, 3), (KeyboardInterrupt, 20), (OutOfMemory, 90)]
)
def test_36_also_after_an_error_in_the_middle(error: type[BaseException], call: int) -> None:
    def interrupted(run: Run) -> None:
        own, calls = run.loss, iter(range(1, 10_000))

        def fails(model: nn.Module, batch: Any) -> Any:
            value = own(model, batch)  # type: ignore[misc]
            if next(calls) == call:
                value.backward()
                raise error("in the middle")
            return value

        run.loss = fails
        with pytest.raises(error, match="in the middle"):
            find_lr(run)
        run.loss = own

    assert trained("fp16 autocast", 7, interrupted) == untouched("fp16 autocast", 7)


@pytest.mark.parametrize("where", ["step", "batch"])
def test_36_also_where_the_step_or_the_loader_raises(where: str) -> None:
    def interrupted(run: Run) -> None:
        if where == "step":
            calls = iter(range(1, 10_000))

            def fails(*_: Any) -> None:
                if next(calls) == 30:
                    raise KeyboardInterrupt

            hook = run.optimizer.register_step_pre_hook(fails)
            with pytest.raises(KeyboardInterrupt):
                find_lr(run)
            hook.remove()
        else:
            own = run.loader
            run.loader = BreaksOff(own)
            with pytest.raises(OSError, match="the disk is gone"):
                find_lr(run)
            run.loader = own

    assert trained("list", 7, interrupted) == untouched("list", 7)


class BreaksOff:
    """Gives two batches and fails."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        yield from list(self.batches)[:3]
        raise OSError("the disk is gone")


# 37: None, or a crash


def usable(finding: optim.LRFinding) -> bool:
    """A number and a reason, whatever else."""
    return 0 < finding.suggestion < math.inf and finding.reason.endswith(".") and len(str(finding)) > 30


@pytest.mark.parametrize("effort", ["sweep", "sure"])
def test_37_any_number_of_batches_is_enough_for_an_answer(effort: Any) -> None:
    for most in (*range(1, 15), 19, 27, 40, 49, 75, 100):
        finding = find_lr(run_of(model=plain_net(), data=list(loader())), effort=effort, max_batches=most)
        assert usable(finding)
        assert finding.batches <= most
        assert finding.abstained or most > 20


@pytest.mark.parametrize("seconds", [1e-9, 0.02])
def test_37_a_moment_is_enough_for_an_answer(seconds: float) -> None:
    finding = find_lr(run_of(), max_seconds=seconds)
    assert usable(finding)
    if seconds < 1e-6:
        assert finding.abstained
        assert "seconds allowed are too few" in finding.reason


@pytest.mark.parametrize(
    ("value", "always"), [(math.nan, True), (math.inf, True), (math.nan, False), (-math.inf, False)]
)
def test_37_a_loss_that_is_no_number_stops_it_at_once(value: float, always: bool) -> None:
    batches = list(loader())
    for call in (1, 2, 5, 6, 8, 13, 21, 26, 34, 45, 55):
        calls: list[int] = []

        def spoiled(model: nn.Module, batch: Any, at: int = call, calls: list[int] = calls) -> Any:
            calls.append(1)
            bad = len(calls) >= at if always else len(calls) == at
            return loss(model, batch) * (value if bad else 1.0)

        finding = find_lr(run_of(model=plain_net(), data=batches, loss=spoiled), effort="sweep")
        assert usable(finding)
        if always:
            assert len(calls) <= call + 1
            assert finding.abstained or call > 25


@pytest.mark.parametrize(
    "name", ["negative losses", "small losses", "large losses", "one batch", "two batches", "full batch"]
)
@pytest.mark.parametrize("effort", ["sweep", "sure"])
def test_37_losses_and_loaders_of_every_size(name: str, effort: Any) -> None:
    seed()
    finding = find_lr(RUNS[name](), effort=effort)
    assert usable(finding)
    assert finding.abstained == (finding.confidence == 0)


NOTHING: dict[str, tuple[Any, str]] = {
    "no gradient": (lambda model, batch: 0 * loss(model, batch), "no gradient reaches them"),
    "noise": (lambda model, batch: 0 * loss(model, batch) + torch.randn(()), "no gradient reaches them"),
    "all is noise": (lambda model, batch: 1e-3 * loss(model, batch) + torch.randn(()), "did not fall"),
    "a number": (lambda model, batch: 1e-30 * loss(model, batch), "did not fall"),
}


@pytest.mark.parametrize("name", NOTHING)
def test_37_where_nothing_can_be_found_it_says_so(name: str) -> None:
    criterion, reason = NOTHING[name]
    seed()
    finding = find_lr(run_of(loss=criterion), max_batches=1000)
    assert usable(finding)
    assert (finding.abstained, finding.confidence) == (True, 0)
    assert reason in finding.reason
    assert str(finding).startswith("No suggestion: ")


def test_37_a_loss_that_falls_for_ever_ends_all_the_same() -> None:
    run = run_of(model=plain_net(), loss=lambda model, batch: model(batch[0]).mean())
    finding = find_lr(run, max_batches=100_000)
    assert usable(finding)
    assert finding.batches < 2000


# 38: batches of one kind only


BATCHES = [
    "stateful loader",
    "iterable dataset",
    "dicts",
    "as Hugging Face's",
    "losses by name",
    "several inputs",
]
TRAININGS = [
    "LBFGS",
    "fp16 autocast",
    "accumulation",
    "frozen parameters",
    "bf16 parameters",
    "no elements",
    "double",
]
STEPS = ["step_fn that returns a loss", "step_fn that updates"]


@pytest.mark.parametrize("name", BATCHES + TRAININGS + STEPS)
def test_38_any_training_has_its_rate_found(name: str) -> None:
    seed()
    run = RUNS[name]()
    before = whole(run)
    finding = find_lr(run, max_batches=150, total_steps=16)
    assert whole(run) == before
    assert usable(finding)
    assert finding.batches <= 150
    assert not finding.abstained


def test_38_what_is_read_once_is_refused() -> None:
    batches = list(loader())
    for name, settings, more in (
        ("loader", {"data": iter(batches)}, {}),
        ("loader", {"data": (batch for batch in batches)}, {}),
        ("val_loader", {}, {"val_loader": iter(batches)}),
    ):
        with pytest.raises(
            TypeError, match=rf"{name} is a \w+, which can be read once only.*pass a DataLoader"
        ):
            find_lr(run_of(**settings), **more)


# 39: one rate for all groups


def test_39_groups_keep_their_ratio() -> None:
    run = RUNS["two groups"]()
    seen: set[float] = set()
    run.optimizer.register_step_pre_hook(
        lambda optimizer, *_: seen.add(
            round(optimizer.param_groups[1]["lr"] / optimizer.param_groups[0]["lr"], 6)
        )
    )
    finding = find_lr(run)
    assert seen == {10.0}
    assert finding.lrs == (finding.suggestion, pytest.approx(10 * finding.suggestion))
    finding.apply(run.optimizer)
    assert tuple(group["lr"] for group in run.optimizer.param_groups) == finding.lrs


def test_39_a_group_at_rest_rests() -> None:
    run = RUNS["a group at rest"]()
    finding = find_lr(run)
    assert (finding.reference, finding.lrs[0]) == (1, 0.0)
    assert finding.lrs[1] == finding.suggestion


def test_39_each_group_has_its_own_on_request() -> None:
    run = RUNS["two groups"]()
    before = whole(run)
    finding = find_lr(run, per_group=True)
    assert [alone.reference for alone in finding.per_group] == [0, 1]
    assert all(map(usable, finding.per_group))
    assert whole(run) == before


# 40: ranks that disagree


def test_40_all_ranks_find_the_same(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue()
    ranks = [context.Process(target=find_on_rank, args=(rank, tmp_path, queue)) for rank in range(2)]
    for process in ranks:
        process.start()
    first, second = sorted(queue.get(timeout=60) for _ in ranks)
    for process in ranks:
        process.join(timeout=20)
        assert process.exitcode == 0
    assert first[1:] == second[1:]
    _, same, told, history, suggestion = first
    assert same
    assert [abstained for _, abstained, *_ in told] == [False, False, True, True]
    assert "NaN" in told[2][2]
    assert "seconds" in told[3][2]
    assert len(history["lr"]) > 20
    assert 1e-3 < suggestion < 1


# 41: in the middle of a training


def test_41_in_the_middle_of_a_training_it_counts_its_own_steps() -> None:
    seed()
    run = RUNS["our schedule"]()
    for _ in train(run, steps=37):
        pass
    position = run.epoch, run.batch, run.step
    finding = find_lr(run)
    assert (run.epoch, run.batch, run.step) == position
    assert finding.batches > 100
    assert len(finding.sweep.lr) > 30


# 42: noise


def test_42_repeats_agree_where_batches_do_not() -> None:
    """Labels of which a fifth are wrong, and batches of eight."""
    seed()
    inputs, labels = dataset(400).tensors
    wrong = torch.rand(400) < 0.2
    labels = torch.where(wrong, torch.randint(0, 3, (400,)), labels)
    data = TensorDataset(inputs, labels)

    def suggestions(effort: Any) -> list[float]:
        found = []
        for number in range(4):
            seed(number)
            batches = DataLoader(data, batch_size=8, shuffle=True)
            finding = find_lr(run_of(ADAM, plain_net(), batches), effort=effort, total_steps=300)
            assert finding.interval[0] < finding.suggestion < finding.interval[1]
            found.append(finding.suggestion)
        return found

    for effort, spread in (("sweep", 8), ("sure", 5)):
        found = suggestions(effort)
        assert max(found) / min(found) < spread

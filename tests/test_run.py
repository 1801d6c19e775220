import math
import random
from collections.abc import Callable
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, TensorDataset
from trainings import Augmented, Placed, bits, dataset, everything, generators, loader, loss, net, seed

import surefoot as optim
from surefoot import Run, archive, lr_scheduler
from surefoot.checkpoint import CheckpointError
from surefoot.train import Record, train

pytestmark = pytest.mark.usefixtures("one_thread")

EPOCHS, PASS = 3, 5  # passes, and updates in each
STEPS = EPOCHS * PASS


def go(run: Run, count: int) -> list[Record]:
    """Train ``count`` more updates; a plateau scheduler is stepped at the end of a pass."""
    records = []
    for record in islice(train(run, EPOCHS), count):
        records.append(record)
        if record.last_of_pass and isinstance(run.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            run.scheduler.step(record.loss)
    return records


def run_of(
    optimizer: Callable[[Any], torch.optim.Optimizer] = lambda params: optim.AdamW(params, lr=0.01),
    scheduler: Callable[[Any], Any] = lambda optimizer: None,
    batches: Callable[[], Any] = loader,
    model: Callable[[], nn.Module] = net,
) -> Run:
    """A run of the parts given, or of the customary ones."""
    built = model()
    built_optimizer = optimizer(built.parameters())
    return Run(built, built_optimizer, batches(), loss, scheduler(built_optimizer))


def two_groups(optimizer: Any, **settings: Any) -> Callable[[Any], Any]:
    def build(params: Any) -> Any:
        params = list(params)
        return optimizer([{"params": params[:2], "lr": 0.02}, {"params": params[2:]}], **settings)

    return build


def whole(run: Run) -> Any:
    """Everything that a run is, in bits."""
    return bits(
        {
            "model": run.model.state_dict(),
            "optimizer": run.optimizer.state_dict(),
            "scheduler": None if run.scheduler is None else run.scheduler.state_dict(),
            "position": [run.epoch, run.batch, run.step],
            "generators": generators(run.loader),
        }
    )


ONE_CYCLE = partial(lr_scheduler.OneCycleLR, max_lr="groups", total_steps=STEPS)
RUNS: dict[str, Callable[[], Run]] = {
    "AdamW": run_of,
    "no scheduler, SGD": partial(run_of, partial(optim.SGD, lr=0.05, momentum=0.9, nesterov=True)),
    "NAdam": partial(run_of, partial(optim.NAdam, lr=0.01)),  # its momentum is a product over all steps
    "RAdam, bf16": partial(run_of, partial(optim.RAdam, lr=0.01), model=lambda: Bf16(), scheduler=ONE_CYCLE),
    "OneCycle, two groups": partial(run_of, two_groups(optim.AdamW, lr=0.01), ONE_CYCLE),
    "tensor lr": partial(run_of, lambda p: optim.Adam(p, lr=torch.tensor(0.01)), ONE_CYCLE),
    "plateau": partial(
        run_of, scheduler=lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=0, threshold=0.9)
    ),
    "global generators": partial(run_of, batches=lambda: loader(Augmented(), generator=None)),
    "own generator, augmented": partial(run_of, batches=lambda: loader(Augmented())),
    "sampler's generator": partial(
        run_of, batches=lambda: loader(Augmented(), generator=None, shuffle=False, sampler=with_replacement())
    ),
    "a loader that keeps its place": partial(run_of, batches=lambda: Placed(loader(shuffle=False))),
    "a list of batches": partial(run_of, batches=lambda: list(loader(shuffle=False))),
    "torch's own": partial(
        run_of,
        two_groups(torch.optim.Adam, lr=0.01, amsgrad=True),
        partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.05, total_steps=STEPS),
    ),
    "torch's plateau": partial(
        run_of,
        partial(torch.optim.SGD, lr=0.1),
        partial(torch.optim.lr_scheduler.ReduceLROnPlateau, patience=0, threshold=0.9),
    ),
}


def with_replacement() -> RandomSampler:
    """Draws from its own generator all through a pass."""
    generator = torch.Generator().manual_seed(4)
    return RandomSampler(dataset(), replacement=True, num_samples=40, generator=generator)


class Bf16(nn.Sequential):
    """The model in bfloat16, its norm in float32."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 8), nn.Dropout(0.3), nn.Linear(8, 3))
        self.bfloat16()

    def forward(self, inputs: Any) -> Any:
        return super().forward(inputs.bfloat16()).float()


def uninterrupted(build: Callable[[], Run]) -> tuple[list[Record], Any]:
    seed()
    run = build()
    return go(run, STEPS + 1), whole(run)


@pytest.mark.parametrize("name", RUNS)
def test_43_n_and_m_steps_are_n_then_save_load_and_m(name: str, tmp_path: Path) -> None:
    records, end = uninterrupted(RUNS[name])
    assert len(records) == STEPS
    for stop in (0, 1, 3, PASS, PASS + 1, 2 * PASS, STEPS - 1, STEPS):
        seed()
        run = RUNS[name]()
        before = go(run, stop)
        run.save(tmp_path / "run")
        seed(99)  # another process, elsewhere in every generator
        other = RUNS[name]()
        go(other, 2)
        assert other.resume(tmp_path / "run") == {}
        after = go(other, STEPS + 1)
        assert before + after == records
        assert whole(other) == end


@pytest.mark.parametrize(
    "name", ["AdamW", "own generator, augmented", "a loader that keeps its place", "torch's own"]
)
def test_43_with_two_batches_an_update_too(name: str, tmp_path: Path) -> None:
    def build(number: int) -> Run:
        seed(number)
        run = RUNS[name]()
        run.accumulate = 2
        return run

    run = build(0)
    records, end = go(run, STEPS), whole(run)
    assert len(records) == EPOCHS * 3  # of two batches, two and one
    for stop in (2, 3, 5):
        run = build(0)
        before = go(run, stop)
        run.save(tmp_path / "run")
        other = build(99)
        other.resume(tmp_path / "run")
        assert before + go(other, STEPS) == records
        assert whole(other) == end


# Python from 3.12 on warns of a fork in a process with threads, which torch starts.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_workers_draw_the_same_after_a_resume(tmp_path: Path) -> None:
    def build() -> Run:
        return run_of(batches=lambda: loader(Augmented(), num_workers=2))

    records, end = uninterrupted(build)
    seed()
    run = build()
    before = go(run, PASS + 2)
    run.save(tmp_path / "run")
    seed(99)
    other = build()
    other.resume(tmp_path / "run")
    assert before + go(other, STEPS + 1) == records
    assert whole(other) == end


@pytest.mark.parametrize("name", RUNS)
def test_stopping_and_going_on_is_never_stopping(name: str) -> None:
    records, end = uninterrupted(RUNS[name])
    seed()
    run = RUNS[name]()
    parts = [go(run, count) for count in (2, 1, 2, 4, 1, 4, STEPS)]
    assert [*chain(*parts)] == records
    assert whole(run) == end


def test_saving_changes_nothing(tmp_path: Path) -> None:
    records, end = uninterrupted(run_of)
    seed()
    run, seen = run_of(), []
    for record in train(run, EPOCHS):
        seen.append(record)
        run.save(tmp_path / "run", loss=record.loss)
    assert seen == records
    assert whole(run) == end


def test_extra_data_comes_back(tmp_path: Path) -> None:
    run = run_of()
    extra = {"note": "best so far", "rows": [(1, 0.5), (2, None)], "mean": torch.ones(2)}
    run.save(tmp_path / "run", **extra)
    assert bits(run.resume(tmp_path / "run")) == bits(extra)


TORCHS = torch.optim.lr_scheduler
SCHEDULERS: dict[str, Callable[[Any, Any], Any]] = {
    "StepLR": lambda s, o: s.StepLR(o, 3),
    "MultiStepLR": lambda s, o: s.MultiStepLR(o, [3, 7]),
    "ExponentialLR": lambda s, o: s.ExponentialLR(o, 0.9),
    "LambdaLR": lambda s, o: s.LambdaLR(o, lambda step: 1 / (1 + step)),
    "MultiplicativeLR": lambda s, o: s.MultiplicativeLR(o, lambda step: 0.9),
    "ConstantLR": lambda s, o: s.ConstantLR(o, 0.5, 6),
    "LinearLR": lambda s, o: s.LinearLR(o, 0.1, total_iters=9),
    "PolynomialLR": lambda s, o: s.PolynomialLR(o, 10),
    "CosineAnnealingLR": lambda s, o: s.CosineAnnealingLR(o, 10),
    "CosineAnnealingWarmRestarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 4),
    "OneCycleLR": lambda s, o: s.OneCycleLR(o, 0.1, total_steps=STEPS),
    "CyclicLR": lambda s, o: s.CyclicLR(o, 0.01, 0.1, step_size_up=3),
    "ReduceLROnPlateau": lambda s, o: s.ReduceLROnPlateau(o, patience=0, threshold=0.9),
    "SequentialLR": lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.1, total_iters=6), s.CosineAnnealingLR(o, 10)], [6]
    ),
    "ChainedScheduler": lambda s, o: s.ChainedScheduler(
        [TORCHS.ConstantLR(o, 0.5, 6), TORCHS.ExponentialLR(o, 0.9)],
        optimizer=o,  # it multiplies, ours set
    ),
}


@pytest.mark.parametrize("kind", [lr_scheduler, TORCHS], ids=["ours", "torch's"])
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.filterwarnings("ignore:step .* is past the end of the schedule")
def test_every_scheduler_resumes_and_is_given_back(name: str, kind: Any, tmp_path: Path) -> None:
    def build() -> Run:
        return run_of(partial(optim.SGD, lr=0.1, momentum=0.9), partial(SCHEDULERS[name], kind))

    records, end = uninterrupted(build)
    seed()
    run = build()
    before = go(run, 4)
    run.save(tmp_path / "run")
    with run.borrow():
        go(run, STEPS)
    assert before + go(run, STEPS) == records
    assert whole(run) == end
    other = build()
    other.resume(tmp_path / "run")
    assert before + go(other, STEPS) == records


# Resuming by name


class Square(nn.Module):
    """Layers of one shape, which only a name can tell apart."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Any) -> Any:
        return self.c(self.b(self.a(x).tanh()).tanh())


@pytest.mark.parametrize("kind", [optim.NAdam, torch.optim.NAdam], ids=["ours", "torch's"])
@pytest.mark.parametrize("named", [False, True])
def test_state_goes_to_the_parameter_of_its_name(kind: Any, named: bool, tmp_path: Path) -> None:
    def build(order: int) -> Run:
        model = Square()
        params = list(model.named_parameters() if named else model.parameters())
        groups = [{"params": params[:4][::order], "lr": 0.02}, {"params": params[4:][::order]}]
        optimizer = kind(groups, lr=0.01)
        return Run(model, optimizer, loader(), loss, lr_scheduler.ExponentialLR(optimizer, 0.9))

    seed()
    run = build(1)
    go(run, 4)
    run.save(tmp_path / "run")
    records = go(run, STEPS)
    other = build(-1)
    other.resume(tmp_path / "run")
    assert go(other, STEPS) == records
    assert bits(other.model.state_dict()) == bits(run.model.state_dict())
    names = {id(p): name for name, p in other.model.named_parameters()}
    for group in other.optimizer.param_groups:
        if named:
            assert group["param_names"] == [names[id(p)] for p in group["params"]]
    for name, param in run.model.named_parameters():
        twin = other.model.get_parameter(name)
        assert bits(run.optimizer.state[param]) == bits(other.optimizer.state[twin])


def test_names_of_parameters_may_be_new_or_left_out(tmp_path: Path) -> None:
    """``AdamW(model.parameters())`` and ``AdamW(model.named_parameters())`` train the same."""

    def build(named: bool) -> Run:
        model = Square()
        params = model.named_parameters() if named else model.parameters()
        return Run(model, optim.AdamW(params), loader(), loss)

    for saved, resumed in ((True, False), (False, True)):
        run = build(saved)
        go(run, 3)
        run.save(tmp_path / "run")
        other = build(resumed)
        other.resume(tmp_path / "run")
        assert ("param_names" in other.optimizer.param_groups[0]) is resumed
        assert go(other, 3) == go(run, 3)


def test_a_run_of_torchs_class_goes_on_in_ours(tmp_path: Path) -> None:
    run = run_of(partial(torch.optim.AdamW, lr=0.01))
    go(run, 4)
    run.save(tmp_path / "run")
    other = run_of()
    other.resume(tmp_path / "run")
    state, own = run.optimizer.state_dict()["state"], other.optimizer.state_dict()["state"]
    assert bits(own) == bits(state)


class WithExtra(nn.Sequential):
    """A model that keeps more than tensors."""

    calls = 0

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return super().forward(x)

    def get_extra_state(self) -> Any:
        return {"calls": self.calls, "history": [1, "a"]}

    def set_extra_state(self, state: Any) -> None:
        self.calls = state["calls"]


def test_a_models_extra_state_comes_back(tmp_path: Path) -> None:
    run = run_of(model=lambda: WithExtra(*net()))
    go(run, 4)
    run.save(tmp_path / "run")
    other = run_of(model=lambda: WithExtra(*net()))
    other.resume(tmp_path / "run")
    assert other.model.calls == 4
    assert whole(other) == whole(run)


def test_tied_and_frozen_parameters_resume(tmp_path: Path) -> None:
    def build() -> Run:
        model = Square()
        model.b.weight = model.a.weight
        model.c.requires_grad_(False)
        return Run(model, optim.AdamW(model.parameters()), loader(), loss)

    seed()
    run = build()
    go(run, 4)
    run.save(tmp_path / "run")
    other = build()
    other.resume(tmp_path / "run")
    assert other.model.b.weight is other.model.a.weight
    assert go(other, STEPS) == go(run, STEPS)
    assert whole(other) == whole(run)


# Resuming what is something else


def wide() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Dropout(0.3), nn.Linear(9, 3))


def deep() -> nn.Sequential:
    return nn.Sequential(*net(), nn.Linear(3, 3))


def regrouped(params: Any) -> Any:
    params = list(params)
    return optim.AdamW([{"params": params[:3]}, {"params": params[3:]}], lr=0.01)


GROUPED = partial(run_of, optimizer=two_groups(optim.AdamW, lr=0.01), scheduler=ONE_CYCLE)
OTHERS: dict[str, tuple[Callable[[], Run], str]] = {
    "optimizer": (
        partial(GROUPED, optimizer=two_groups(optim.Adam, lr=0.01)),
        "the optimizer: it was saved by AdamW, this optimizer is Adam: pass strict=False",
    ),
    "shapes": (partial(GROUPED, model=wide), r"0\.weight.*\(8, 6\).*\(9, 6\)"),
    "layers": (partial(GROUPED, model=deep), r"5\.weight"),
    "dtype": (partial(GROUPED, model=lambda: net().double()), r"0\.weight.*float32.*float64"),
    "more groups": (
        partial(GROUPED, optimizer=lambda p: optim.AdamW([{"params": [each]} for each in p])),
        r"2 parameter groups.*optimizer 6.*1\.weight.*hyper='mine'",
    ),
    "other groups": (partial(GROUPED, optimizer=regrouped), r"1\.weight"),
    "no scheduler": (
        partial(GROUPED, scheduler=lambda o: None),
        "its scheduler is a OneCycleLR, this run has none",
    ),
    "scheduler": (
        partial(GROUPED, scheduler=partial(lr_scheduler.StepLR, step_size=2)),
        "OneCycleLR.*StepLR",
    ),
    "loader": (partial(GROUPED, batches=lambda: loader(generator=None)), r"loaders of \[1\].*\[0\]"),
    "foreign parameter": (
        partial(GROUPED, optimizer=lambda p: optim.AdamW([*p, nn.Parameter(torch.ones(7))])),
        r"\(7,\).*not the model's",
    ),
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_run_is_an_error_that_names_what_differs_and_changes_nothing(
    what: str, tmp_path: Path
) -> None:
    build, message = OTHERS[what]
    run = GROUPED()
    go(run, 7)
    run.save(tmp_path / "run")
    other = build()
    if what != "dtype":  # whose batches the model does not take
        go(other, 2)
    before, position = everything(other.model, other.optimizer, other.loader), (other.batch, other.step)
    schedule = None if other.scheduler is None else bits(other.scheduler.state_dict())
    with pytest.raises(CheckpointError, match=f"{tmp_path / 'run'}.*{message}"):
        other.resume(tmp_path / "run")
    assert everything(other.model, other.optimizer, other.loader) == before
    assert (other.batch, other.step) == position
    assert schedule is None or bits(other.scheduler.state_dict()) == schedule
    if what != "dtype":
        go(other, STEPS)


def test_a_scheduler_that_the_run_did_not_have_is_an_error(tmp_path: Path) -> None:
    run_of().save(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"does not fit: it lacks scheduler\. Nothing was changed"):
        run_of(scheduler=partial(lr_scheduler.StepLR, step_size=2)).resume(tmp_path / "run")


NOTHING = {"versions": {}, "extra": {"run": {}, "extra": {}}}


@pytest.mark.parametrize(
    "tree",
    [{"weight": torch.ones(2)}, {**NOTHING, "model": 3}, {"versions": {}, "extra": 3}, NOTHING, {}, [1]],
)
def test_a_checkpoint_of_something_else_is_an_error(tree: Any, tmp_path: Path) -> None:
    archive.save(tmp_path / "other", tree)
    run = run_of()
    before = whole(run)
    with pytest.raises(
        CheckpointError, match=f"{tmp_path / 'other'} is (no checkpoint|not of a run|of another)"
    ):
        run.resume(tmp_path / "other")
    assert whole(run) == before


RNG = {
    "run/rng/now/torch": torch.zeros(3),
    "run/rng/pass_start/python": [3, [1], None],
    "run/position/step": "7",
}


@pytest.mark.parametrize("place", RNG)
def test_what_cannot_be_a_state_of_generators_is_an_error_that_changes_nothing(
    place: str, tmp_path: Path
) -> None:
    run = run_of()
    go(run, 2)
    run.save(tmp_path / "run")
    tree = archive.load(tmp_path / "run")
    *way, last = place.split("/")
    inside = tree["extra"]
    for name in way:
        inside = inside[name]
    inside[last] = RNG[place]
    archive.save(tmp_path / "run", tree)
    go(run, 2)
    before = whole(run)
    with pytest.raises(CheckpointError, match=f"{tmp_path / 'run'} is of another run"):
        run.resume(tmp_path / "run")
    assert whole(run) == before


def test_a_missing_checkpoint_is_an_error_that_changes_nothing(tmp_path: Path) -> None:
    run = run_of()
    before = whole(run)
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*nowhere"):
        run.resume(tmp_path / "nowhere")
    assert whole(run) == before


def test_a_damaged_checkpoint_changes_nothing(tmp_path: Path) -> None:
    run = run_of()
    run.save(tmp_path / "run")
    (tmp_path / "run").write_bytes((tmp_path / "run").read_bytes()[:-1])
    go(run, 2)
    before = whole(run)
    with pytest.raises(CheckpointError, match="damaged"):
        run.resume(tmp_path / "run")
    assert whole(run) == before


def test_a_parameter_that_is_not_the_models_cannot_be_saved_by_name(tmp_path: Path) -> None:
    run = run_of(lambda p: optim.AdamW([*p, nn.Parameter(torch.ones(7))]))
    with pytest.raises(ValueError, match=r"shapes \[\(7,\)\] that are not the model's"):
        run.save(tmp_path / "run")


# Position in the data


@pytest.mark.parametrize(
    ("other", "size"),
    [(lambda: loader(dataset(16)), r"\[2, 8\]"), (lambda: loader(batch_size=4), r"\[10, 4\]")],
)
def test_other_data_than_was_trained_on_is_an_error(other: Any, size: str, tmp_path: Path) -> None:
    run = run_of()
    go(run, 4)
    run.save(tmp_path / "run")
    with pytest.raises(
        CheckpointError, match=rf"its loader gave \[5, 8\] .*, this one {size}: resume with the same"
    ):
        run_of(batches=other).resume(tmp_path / "run")


def with_generator_of_all() -> Run:
    """The loader's generator is that of an evaluation, too."""
    generator = torch.Generator().manual_seed(0)
    run = run_of(batches=lambda: loader(generator=generator))
    run.other = loader(generator=generator)  # type: ignore[attr-defined]
    return run


def evaluated(run: Run, count: int) -> list[Record]:
    records = []
    for record in islice(train(run, EPOCHS), count):
        records.append(record)
        if record.last_of_pass or record.step % 2:
            list(run.other)  # type: ignore[attr-defined]
    return records


@pytest.mark.parametrize("stop", [1, 3, PASS, PASS + 2])
def test_a_generator_that_others_draw_from_goes_on(stop: int, tmp_path: Path) -> None:
    seed()
    records = evaluated(with_generator_of_all(), STEPS)
    seed()
    run = with_generator_of_all()
    before = evaluated(run, stop)
    run.save(tmp_path / "run")
    assert before + evaluated(run, STEPS) == records
    seed(9)
    other = with_generator_of_all()
    other.resume(tmp_path / "run")
    assert before + evaluated(other, STEPS) == records


def test_going_back_in_the_middle_of_the_loop(tmp_path: Path) -> None:
    records, end = uninterrupted(run_of)
    seed()
    run, seen = run_of(), []
    for record in train(run, EPOCHS):
        seen.append(record)
        if record.step == 3 and len(seen) == 3:
            run.save(tmp_path / "run")
        if record.step == 9 and len(seen) == 9:
            run.resume(tmp_path / "run")
    assert seen == records[:9] + records[3:]
    assert whole(run) == end


def test_everything_that_was_lent_is_given_back() -> None:
    run = run_of(
        scheduler=lambda o: optim.Scheduler(
            o, lr=optim.curves.linear(20), plateau=lr_scheduler.Plateau(patience=0)
        )
    )
    run.average = optim.swa_utils.AveragedModel(run.model)
    go(run, 3)
    before = (
        whole(run),
        bits(dict(run.average.state_dict())),
        run.optimizer.clip_norm,
        run.scheduler.plateau.state_dict(),
    )
    with run.borrow():
        go(run, 3)
        for loss in (1.0, 2.0, 3.0):
            run.scheduler.observe(loss)
        run.optimizer.set("*", lr=0.5)
        run.optimizer.clip_norm = 1.0
    after = (
        whole(run),
        bits(dict(run.average.state_dict())),
        run.optimizer.clip_norm,
        run.scheduler.plateau.state_dict(),
    )
    assert after == before
    go(run, 1)
    assert run.optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * (1 - 4 / 20))


EMPTY: dict[str, Callable[[], Any]] = {
    "no samples": lambda: DataLoader(dataset(0), batch_size=8),
    "fewer than a batch": lambda: DataLoader(dataset(5), batch_size=8, drop_last=True),
    "list": list,
    "read before": lambda: iter([]),
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_loader_without_batches_is_an_error(name: str) -> None:
    run = run_of(batches=EMPTY[name])
    before = whole(run)
    with pytest.raises(ValueError, match=r"loader gave no batch: its dataset is empty.*drop_last"):
        go(run, 1)
    assert whole(run)["model"] == before["model"]
    assert (run.epoch, run.batch, run.step) == (0, 0, 0)


class Stream(IterableDataset[Any]):
    """Samples without a number of them."""

    def __iter__(self) -> Any:
        return iter(dataset())


@pytest.mark.parametrize("batches", [lambda: loader(Stream(), shuffle=None), lambda: Unsized()])
def test_data_without_a_length_is_trained_on(batches: Any, tmp_path: Path) -> None:
    def build() -> Run:
        return run_of(batches=batches)

    records, end = uninterrupted(build)
    assert [record.epoch for record in records] == [1] * 5 + [2] * 5 + [3] * 5
    assert not any(record.last_of_pass for record in records)
    seed()
    run = build()
    before = go(run, 7)
    run.save(tmp_path / "run")
    other = build()
    other.resume(tmp_path / "run")
    assert before + go(other, STEPS + 1) == records
    assert whole(other) == end


class Unsized:
    """Batches without a number of them."""

    def __iter__(self) -> Any:
        return iter(loader(shuffle=False))


# Borrowing


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("name", RUNS)
def test_a_borrowed_run_is_given_back_however_the_block_ends(name: str, error: Any) -> None:
    records, end = uninterrupted(RUNS[name])
    seed()
    run = RUNS[name]()
    first = go(run, 7)
    before = whole(run), everything(run.model, run.optimizer, run.loader)
    try:
        with run.borrow() as lent:
            assert lent is run
            go(lent, STEPS)
            lent.model.eval()
            lent.epoch, lent.batch, lent.step = 7, 7, 7
            random.random(), np.random.rand()
            if error is not None:
                raise error
    except BaseException as caught:
        assert type(caught) is error  # noqa: PT017 - KeyboardInterrupt too, and none at all
    assert (whole(run), everything(run.model, run.optimizer, run.loader)) == before
    assert first + go(run, STEPS) == records
    assert whole(run) == end


@pytest.mark.parametrize("name", ["AdamW", "a loader that keeps its place"])
def test_a_run_can_be_borrowed_in_the_middle_of_its_loop_and_twice(name: str) -> None:
    records, end = uninterrupted(RUNS[name])
    seed()
    run, seen = RUNS[name](), []
    for record in train(run, EPOCHS):
        seen.append(record)
        with run.borrow(), run.borrow():
            go(run, 3)
    assert seen == records
    assert whole(run) == end


def test_persistent_workers_draw_the_same_order_after_a_resume(tmp_path: Path) -> None:
    def build() -> Run:
        torch.manual_seed(3)
        model = nn.Linear(2, 1)
        data = TensorDataset(torch.arange(16.0).reshape(8, 2))
        loader = DataLoader(data, batch_size=2, shuffle=True, num_workers=1, persistent_workers=True)
        return Run(model, optim.SGD(model.parameters(), lr=1e-3), loader, lambda m, batch: m(batch[0]).mean())

    whole_run, stopped = build(), build()
    torch.manual_seed(5)
    for _ in train(whole_run, epochs=3):
        pass
    torch.manual_seed(5)
    for record in train(stopped, epochs=3):
        if record.step == 6:  # in the second pass
            stopped.save(tmp_path / "checkpoint")
            break
    resumed = build()
    resumed.resume(tmp_path / "checkpoint")
    for _ in train(resumed, epochs=3):
        pass
    torch.testing.assert_close(resumed.model.state_dict(), whole_run.model.state_dict(), rtol=0, atol=0)


# What a run may be made of


def of_another() -> optim.Scheduler:
    return optim.Scheduler(optim.SGD([torch.zeros(1)], lr=0.1), lr=optim.curves.cosine(9))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"model": loss}, TypeError, r"model is a function: pass a torch\.nn\.Module"),
        ({"optimizer": 0.1}, TypeError, "optimizer is a float: pass the optimizer of the model"),
        (
            {"optimizer": optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)},
            ValueError,
            r"optimizer has no parameter of model: build it with model\.parameters\(\)",
        ),
        ({"loader": 3}, TypeError, "loader is a int: pass a DataLoader, or a list of batches"),
        ({"loss": None}, ValueError, "pass either loss or step_fn: neither is given"),
        ({"autocast": torch.float16}, ValueError, "float16 without a scaler: small gradients become 0"),
        ({"step_fn": len}, ValueError, "pass either loss or step_fn: both are given"),
        ({"loss": "mse"}, TypeError, "loss='mse' is a str: pass a function"),
        ({"count": 3}, TypeError, "count=3 is a int: pass a function"),
        ({"accumulate": 0}, ValueError, "accumulate=0 must be at least 1"),
        ({"accumulate": 1.5}, TypeError, "accumulate=1.5 is a float: pass a whole number"),
        (
            {"loss": nn.MSELoss()},
            TypeError,
            r"loss=MSELoss\(\) takes outputs and targets: pass a function of",
        ),
        ({"scheduler": [1, 2]}, TypeError, "scheduler is a list: pass a scheduler of the optimizer"),
        ({"scheduler": optim.curves.cosine(9)}, TypeError, "scheduler is a Ramp: pass a scheduler"),
        ({"scheduler": of_another()}, ValueError, "scheduler is of another optimizer: build it with the one"),
        ({"autocast": torch.float64}, ValueError, r"autocast=torch.float64 must be torch\.bfloat16"),
    ],
)
def test_parts_are_checked(settings: Any, error: type[Exception], message: str) -> None:
    model = net()
    parts = {"model": model, "optimizer": optim.SGD(model.parameters(), lr=0.1), "loader": [], "loss": loss}
    with pytest.raises(error, match=message):
        Run(**{**parts, **settings})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_own_weights_come_back_however_the_block_ends(dtype: torch.dtype) -> None:
    run = run_of()
    run.average = optim.swa_utils.AveragedModel(run.model).to(dtype)
    go(run, 7)
    before = whole(run), bits(dict(run.average.state_dict()))
    with pytest.raises(ZeroDivisionError), run.ema() as model:  # noqa: PT012 - it is how the block ends
        for own, average in zip(model.parameters(), run.average.parameters(), strict=True):
            assert torch.equal(own, average.float())
        raise ZeroDivisionError
    assert (whole(run), bits(dict(run.average.state_dict()))) == before


def test_without_an_average_the_model_is_as_it_is() -> None:
    run = run_of()
    before = whole(run)
    with run.ema() as model:
        assert model is run.model
        assert whole(run) == before


def test_an_average_of_another_model_is_named() -> None:
    run = run_of()
    run.average = optim.swa_utils.AveragedModel(nn.Linear(2, 1))
    with (
        pytest.raises(ValueError, match=r"parameter '0\.weight' is of shape \(8, 6\) in the model"),
        run.ema(),
    ):
        pass


def test_evaluations_are_saved_lent_and_given_back(tmp_path: Path) -> None:
    run = run_of()
    run.best, run.stale = math.inf, 2
    with run.borrow():
        run.best, run.stale = 0.5, 0
    run.save(tmp_path / "run")
    other = run_of()
    other.resume(tmp_path / "run")
    assert (other.best, other.stale) == (math.inf, 2)


def test_a_run_saved_before_there_were_evaluations_is_resumed(tmp_path: Path) -> None:
    run = run_of()
    run.save(tmp_path / "run")
    tree = archive.load(tmp_path / "run")
    del tree["extra"]["run"]["evaluations"]
    archive.save(tmp_path / "old", tree)
    run.best, run.stale = 0.5, 3
    run.resume(tmp_path / "old")
    assert (run.best, run.stale) == (None, 0)

"""Each kind of trouble is provoked by a small training, and trainings that go well are met with silence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import surefoot as optim
from surefoot.curves import cosine, one_cycle, warmup
from surefoot.diagnosis import Diagnosis, Finding
from surefoot.diagnosis.base import CAUSES

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True)
class Seen:
    """What a record shows of an update."""

    step: int = 1
    loss: float = 1.0
    lr: tuple[float, ...] = (0.1,)
    grad_norm: float | None = None
    clip_coef: float | None = None
    nonfinite: int | None = None
    stats: Any = None
    applied: bool = True
    seconds: float = 0.01
    waited: float = 0.0
    last_of_pass: bool = False
    metrics: Any = None


Data = tuple[Tensor, Tensor]
cross_entropy, mse = nn.functional.cross_entropy, nn.functional.mse_loss


@cache
def digits() -> Data:
    from sklearn.datasets import load_digits

    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(data.data, dtype=torch.float32) / 16 - 0.3
    return images[order], torch.tensor(data.target)[order]


def shuffled(labels: Tensor, share: float) -> Tensor:
    """The labels, a share of them those of others."""
    chosen = torch.rand(len(labels)) < share
    labels = labels.clone()
    labels[chosen] = labels[chosen][torch.randperm(int(chosen.sum()))]
    return labels


def mlp(*widths: int, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    layers = [layer for i, o in pairwise(widths) for layer in (nn.Linear(i, o), act())]
    return nn.Sequential(*layers[:-1])


classifier = partial(mlp, 64, 64, 10)


def training(
    model: Callable[[Tensor], Tensor],
    optimizer: Any,
    data: Data | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
    steps: int = 300,
    batch: int = 64,
    scheduler: Any = None,
    held_out: Data | None = None,
) -> Iterator[Seen]:
    """A training, and what each of its updates was."""
    inputs, labels = data or digits()
    step = 0
    while True:
        chunks = [c for c in torch.randperm(len(inputs)).split(batch) if len(c) == min(batch, len(inputs))]
        for rows in chunks:
            step += 1
            optimizer.zero_grad()
            error = loss(model(inputs[rows]), labels[rows])
            if error.requires_grad:
                error.backward()
            lr = tuple(float(group["lr"]) for group in optimizer.param_groups)
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            last, metrics, took = rows is chunks[-1], None, optimizer.last_step
            if last and held_out is not None:
                with torch.no_grad():
                    metrics = {"loss": loss(model(held_out[0]), held_out[1]).item()}
            yield Seen(
                step,
                error.item(),
                lr,
                took.grad_norm,
                took.clip_coef,
                took.nonfinite,
                took.stats,
                took.applied,
                last_of_pass=last,
                metrics=metrics,
            )
            if step == steps:
                return


def sgd(model: nn.Module, lr: float, momentum: float = 0.9, **settings: Any) -> Any:
    return optim.SGD(model.named_parameters(), lr=lr, momentum=momentum, stats=True, **settings)


def adamw(model: nn.Module, lr: float, **settings: Any) -> Any:
    return optim.AdamW(model.named_parameters(), lr=lr, stats=True, **settings)


def diagnosed(records: Any, **settings: Any) -> tuple[dict[str, Finding], dict[str, Finding]]:
    """What was found on the way and at the end, by kind."""
    watch = Diagnosis(**settings)
    on_the_way = [finding for record in records for finding in watch(record)]
    at_the_end = watch.findings()
    for findings in (on_the_way, at_the_end):
        assert len({finding.kind for finding in findings}) == len(findings)  # nothing is said twice
        assert [f.step for f in findings] == sorted(f.step for f in findings)
    return tuple({finding.kind: finding for finding in each} for each in (on_the_way, at_the_end))  # type: ignore[return-value]


def found(kind: str, records: Any, **settings: Any) -> Finding:
    """What was found of this kind, at the end."""
    at_the_end = diagnosed(records, **settings)[1]
    assert kind in at_the_end, at_the_end
    return at_the_end[kind]


# Trainings that go well


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = mlp(width, 4 * width, width, act=nn.GELU)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unsqueeze(1) for part in self.qkv(self.norm1(x)).chunk(3, -1))
        x = x + self.out(nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).squeeze(1))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    """Of characters; its head is tied to its embedding."""

    def __init__(self, tokens: int, context: int, width: int = 32) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(tokens, width), nn.Parameter(torch.zeros(context, width))
        nn.init.normal_(self.embed.weight, std=0.02)
        self.blocks, self.norm = nn.Sequential(Block(width), Block(width)), nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.norm(self.blocks(self.embed(tokens) + self.place))
        return (x @ self.embed.weight.T).transpose(1, 2)


def text(context: int = 16) -> tuple[int, Data]:
    source = (Diagnosis.__doc__ or "") + (optim.LRFinder.__doc__ or "") + (optim.Run.__doc__ or "")
    letters = sorted(set(source))
    tokens = torch.tensor([letters.index(letter) for letter in source])
    windows = tokens.unfold(0, context + 1, 1)
    return len(letters), (windows[:, :-1], windows[:, 1:])


def regression(noise: float, samples: int = 1500) -> Data:
    inputs = torch.randn(samples, 8)
    signal = 0.5 * inputs[:, :1] + torch.sin(inputs[:, 1:2])
    return inputs, signal + noise * torch.randn(samples, 1)


def gpt() -> Iterator[Seen]:
    letters, data = text()
    model = GPT(letters, 16)
    optimizer = adamw(model, 3e-3, clip_norm=1.0)
    scheduler = optim.Scheduler(optimizer, lr=warmup(30) >> cosine(270, to=0.1))
    return training(model, optimizer, data, batch=16, scheduler=scheduler)


def digits_by(optimizer_of: Any, lr: float, curve: Any = None, **settings: Any) -> Iterator[Seen]:
    model = settings.pop("model", classifier)()
    optimizer = optimizer_of(model, lr)
    scheduler = curve and optim.Scheduler(optimizer, lr=curve)
    inputs, labels = digits()
    return training(
        model,
        optimizer,
        (inputs[:1400], labels[:1400]),
        scheduler=scheduler,
        held_out=(inputs[1400:], labels[1400:]),
        **settings,
    )


def regressed(noise: float, model: Any, optimizer_of: Any, lr: float, **settings: Any) -> Iterator[Seen]:
    model = model()
    return training(model, optimizer_of(model, lr), regression(noise), mse, **settings)


def noisy_labels() -> Iterator[Seen]:
    model, (inputs, labels) = classifier(), digits()
    return training(model, adamw(model, 1e-3), (inputs, shuffled(labels, 0.4)))


def stairs(model: nn.Module) -> Iterator[Seen]:
    optimizer = sgd(model, 0.05)
    return training(model, optimizer, scheduler=optim.lr_scheduler.StepLR(optimizer, 100))


HEALTHY: dict[str, Callable[[], Iterator[Seen]]] = {
    "sgd": lambda: digits_by(sgd, 0.05),
    "adamw": lambda: digits_by(adamw, 1e-3),
    "adamw with one cycle": lambda: digits_by(adamw, 1e-2, one_cycle(300)),
    "sgd with warmup and cosine": lambda: digits_by(sgd, 0.1, warmup(100) >> cosine(200)),
    "sgd with stairs": lambda: stairs(classifier()),
    "batch norm": lambda: digits_by(
        sgd,
        0.1,
        model=lambda: nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10)),
    ),
    "batches of one": lambda: digits_by(adamw, 1e-3, batch=1),
    "batches of one, sgd": lambda: digits_by(partial(sgd, momentum=0.0), 0.02, batch=1),
    "noisy labels": noisy_labels,
    "regression": lambda: regressed(0.5, lambda: mlp(8, 32, 1), adamw, 1e-3, batch=32),
    "much noise": lambda: regressed(3.0, lambda: mlp(8, 32, 1), sgd, 0.01, batch=32),
    "all data in a batch": lambda: regressed(
        1.0, lambda: nn.Linear(8, 1), partial(sgd, momentum=0.0), 0.1, batch=1500
    ),
    "a GPT": gpt,
}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_training_is_met_with_silence(name: str, seed: int) -> None:
    torch.manual_seed(seed)
    assert diagnosed(HEALTHY[name](), planned_steps=300) == ({}, {})


# What the loss gives away


def test_a_loss_that_diverges_is_found_at_once_and_held_against_the_range_test() -> None:
    model = classifier()
    records = training(model, sgd(model, 100.0), steps=150)
    on_the_way, at_the_end = diagnosed(records, suggestion=0.1, interval=(0.03, 0.3))
    assert on_the_way["diverged"].step < 60
    assert (
        "learning rate 100; the range test suggested 0.1, between 0.03 and 0.3"
        in at_the_end["diverged"].message
    )
    assert at_the_end["diverged"].advice == "Lower the learning rate to 0.1."


def test_a_loss_that_loses_what_it_had_learned_has_diverged() -> None:
    model = classifier()
    optimizer = sgd(model, 0.1)

    def records() -> Iterator[Seen]:
        for record in training(model, optimizer):
            if record.step == 250:
                optimizer.param_groups[0]["lr"] = 30.0
            yield record

    finding = found("diverged", records())
    assert 250 < finding.step < 300
    assert "had been down to 0.0" in finding.message
    assert finding.advice.startswith("Lower the learning rate to 3 or warm up longer")


def test_a_loss_that_comes_back_has_not_diverged_at_the_end() -> None:
    losses = [1.0] * 30 + [100.0] * 30 + [0.1] * 60
    on_the_way, at_the_end = diagnosed(Seen(i + 1, loss) for i, loss in enumerate(losses))
    assert "diverged" in on_the_way
    assert "diverged" not in at_the_end


def test_a_loss_of_nan_is_said_when_it_comes() -> None:
    inputs, labels = regression(0.1)
    model = nn.Linear(8, 1)
    records = training(model, sgd(model, 1.0), (1e3 * inputs, labels), mse, steps=60)
    on_the_way, at_the_end = diagnosed(records, suggestion=1e-7)
    assert on_the_way["nonfinite"] == at_the_end["nonfinite"]
    assert "The loss is inf at step" in on_the_way["nonfinite"].message
    assert on_the_way["nonfinite"].advice.startswith("Lower the learning rate to 1e-7.")


def test_nan_from_the_beginning_is_not_the_rate() -> None:
    inputs, labels = digits()
    model = classifier()
    finding = found("nonfinite", training(model, sgd(model, 0.1), (inputs * math.nan, labels), steps=30))
    assert finding.message == "The loss is nan at step 1, the first that was seen."
    assert "data" in finding.advice


def test_gradients_that_are_not_finite_are_told_if_they_are_applied() -> None:
    records = [Seen(1), Seen(2, nonfinite=3, applied=False), Seen(3, nonfinite=3)]
    finding = found("nonfinite", records)
    assert (finding.step, finding.message[:44]) == (3, "3 elements of the gradients are not finite a")
    assert diagnosed(records[:2])[1] == {}
    assert diagnosed([*records, Seen(4)])[1] == {}  # it has passed


@pytest.mark.parametrize(
    ("lr", "suggestion", "advice"),
    [
        (1e-6, 0.1, "Raise the learning rate to 0.1."),
        (3.0, 0.1, "Lower the learning rate to 0.1: what is too high destroys in a few updates."),
        (0.0, None, "Set a learning rate above 0, and see where the schedule begins."),
    ],
)
def test_no_learning_for_the_rate(lr: float, suggestion: float | None, advice: str) -> None:
    model = classifier()
    finding = found("no_learning", training(model, sgd(model, lr)), suggestion=suggestion)
    assert finding.advice == advice
    assert "the loss is" in finding.message


def test_no_learning_for_labels_that_say_nothing() -> None:
    inputs, labels = digits()
    model = classifier()
    records = training(model, sgd(model, 0.01, 0.0), (inputs, shuffled(labels, 1.0)), steps=700)
    on_the_way, at_the_end = diagnosed(records)
    assert on_the_way["no_learning"].step == at_the_end["no_learning"].step == 500
    assert "labels may be shuffled" in at_the_end["no_learning"].advice


def test_no_learning_for_gradients_that_are_zero() -> None:
    model = classifier()
    with torch.no_grad():
        model[0].bias.fill_(-1e3)  # all units are off
    model[2].requires_grad_(False)
    on_the_way, _ = diagnosed(training(model, sgd(model, 0.1), steps=60))
    assert on_the_way["no_learning"].step <= 30
    assert "all gradients have been zero for" in on_the_way["no_learning"].message


def test_a_loss_of_zero_needs_no_gradient() -> None:
    assert diagnosed(Seen(i, 0.0, grad_norm=0.0) for i in range(1, 200)) == ({}, {})


def test_a_resumed_training_is_not_held_against_a_start_that_was_not_seen() -> None:
    assert diagnosed(Seen(i, 0.1) for i in range(5000, 6000)) == ({}, {})


def test_learning_that_begins_late_takes_the_finding_back() -> None:
    losses = [2.3] * 700 + [0.5] * 100
    on_the_way, at_the_end = diagnosed(Seen(i + 1, loss) for i, loss in enumerate(losses))
    assert (list(on_the_way), list(at_the_end)) == (["no_learning"], [])


def test_overfitting() -> None:
    inputs, labels = digits()
    few = inputs[:100], shuffled(labels[:100], 0.3)
    model = mlp(64, 256, 10)
    records = training(model, adamw(model, 3e-3), few, held_out=(inputs[1000:], labels[1000:]), batch=10)
    finding = found("overfitting", records)
    assert "the held-out loss was best at step" in finding.message
    assert "while the training loss fell from" in finding.message


# What gradients and updates give away


def test_gradients_that_vanish_are_found_in_the_first_layers() -> None:
    model = mlp(64, *[64] * 9, 10, act=nn.Sigmoid)
    on_the_way, _ = diagnosed(training(model, sgd(model, 0.1), steps=250))
    assert on_the_way["vanishing_gradients"].message.startswith("Gradients vanish in 0.weight, 2.weight")


def test_a_layer_without_any_gradient_is_named() -> None:
    model = nn.ModuleDict({"used": classifier(), "unused": nn.Linear(64, 10)})

    def both(inputs: Tensor) -> Tensor:
        return model["used"](inputs) + 0 * model["unused"](inputs)

    optimizer = sgd(model, 0.05)
    records = training(both, optimizer, steps=250)
    assert (
        found("vanishing_gradients", records).message == "Gradients vanish in unused.weight: they are zero."
    )


class Recurrent(nn.Module):
    def __init__(self, scale: float, width: int = 64) -> None:
        super().__init__()
        self.cell, self.head = nn.RNNCell(4, width), mlp(width, width, 1)
        nn.init.normal_(self.cell.weight_hh, std=scale / width**0.5)

    def forward(self, inputs: Tensor) -> Tensor:
        state = torch.zeros(len(inputs), self.cell.hidden_size)
        for now in inputs.unbind(1):
            state = self.cell(now, state)
        return self.head(state)


@pytest.mark.parametrize(("scale", "explodes"), [(4.0, True), (1.0, False)])
def test_gradients_that_explode_are_found_in_the_recurrent_weights(scale: float, explodes: bool) -> None:
    model = Recurrent(scale)
    data = torch.randn(64, 50, 4), torch.randn(64, 1)
    on_the_way, _ = diagnosed(training(model, sgd(model, 1e-12), data, mse, steps=236, batch=8))
    assert ("exploding_gradients" in on_the_way) == explodes
    if explodes:
        message = on_the_way["exploding_gradients"].message
        assert message.startswith("Gradients explode in cell.weight_ih, cell.weight_hh: they are ")


def test_clipping_at_every_step() -> None:
    model = classifier()
    on_the_way, _ = diagnosed(training(model, sgd(model, 0.1, clip_norm=0.01), steps=200))
    assert on_the_way["clipping"].message.startswith("100 of the last 100 gradients were clipped, to 0.0")


def test_updates_that_are_tiny_name_the_weights() -> None:
    model = classifier()
    finding = found("small_updates", training(model, adamw(model, 1e-8)), suggestion=1e-3)
    assert finding.message.startswith("Updates are tiny: 0.weight, 2.weight never changed by more than about")
    assert finding.advice == "Raise the learning rate to 0.001."


def test_updates_are_tiny_in_a_warmup_and_that_is_no_trouble() -> None:
    records = digits_by(adamw, 1e-3, warmup(100_000), steps=250)
    assert "small_updates" not in diagnosed(records)[1]


def test_updates_that_are_huge_name_the_weight() -> None:
    model = classifier()
    optimizer = optim.AdamW(
        [
            {"params": [("0.weight", model[0].weight)], "lr": 0.5, "weight_decay": 1.9},
            {"params": [("2.weight", model[2].weight)]},
        ],
        lr=1e-3,
        stats=True,
    )
    finding = found("large_updates", training(model, optimizer, steps=250))
    assert finding.message.startswith("Updates are huge: 0.weight changes by")


def test_names_say_what_is_judged() -> None:
    def kinds(names: Any) -> set[str]:
        torch.manual_seed(0)
        model = classifier()
        return set(diagnosed(training(model, adamw(model, 1e-8)), names=names)[1])

    assert "small_updates" in kinds(["0.weight"])
    assert "small_updates" not in kinds([])


# What the course of a training gives away


def test_a_schedule_that_ended_early() -> None:
    model = classifier()
    optimizer = adamw(model, 3e-3)
    scheduler = optim.Scheduler(optimizer, lr=one_cycle(150))
    records = training(model, optimizer, scheduler=scheduler)
    with pytest.warns(UserWarning, match="past the end of the schedule"):  # the scheduler says so too
        on_the_way, at_the_end = diagnosed(records, planned_steps=300)
    assert 250 <= on_the_way["schedule_ended"].step <= 255
    assert "The schedule ended at step 15" in at_the_end["schedule_ended"].message
    assert "300 updates" in at_the_end["schedule_ended"].advice


def test_a_schedule_that_was_cut() -> None:
    records = list(digits_by(adamw, 3e-3, cosine(1000), steps=300))
    finding = found("schedule_cut", records, planned_steps=1000)
    assert finding.message.startswith(
        "Training ended at step 300 of 1000, with the learning rate at 0.0024 of 0.003"
    )
    assert diagnosed(records)[1] == {}  # nobody said how long it should be


def test_a_schedule_made_for_more_steps_than_there_are() -> None:
    """One that is stepped after each pass, and counted in updates."""
    lrs = [1e-3 * (1 + i // 30) for i in range(300)]
    finding = found("schedule_cut", (Seen(i + 1, 2 / (i + 1), (lr,)) for i, lr in enumerate(lrs)))
    assert "while the learning rate was still rising (at 0.01)" in finding.message


@pytest.mark.parametrize(
    "rate",
    [
        lambda step: min(1.0, step / 50),
        lambda step: 0.1 ** (step // 100),
        lambda step: 1.0 if step < 60 else 1e-3,
        lambda step: 0.55 + 0.45 * math.sin(step / 20),
        lambda step: 1 / math.sqrt(step),
        lambda step: max(0.0, 1 - step / 390),
    ],
    ids=["warmup", "stairs", "one stair", "cyclic", "inverse root", "to the end"],
)
def test_schedules_that_are_meant_so(rate: Callable[[int], float]) -> None:
    records = [Seen(step, 2 / step, (rate(step), 1.0 * rate(step))) for step in range(1, 401)]
    assert diagnosed(records, planned_steps=400) == ({}, {})


def test_updates_that_are_skipped() -> None:
    inputs, labels = digits()
    inputs = inputs.clone()
    inputs[::50] = math.inf
    model = classifier()
    on_the_way, _ = diagnosed(
        training(model, sgd(model, 0.05, nonfinite="skip"), (inputs, labels), steps=200)
    )
    assert list(on_the_way) == ["skipped_updates"]
    assert "of the last 100 updates were skipped" in on_the_way["skipped_updates"].message


def test_a_scaler_that_looks_for_its_scale_skips_a_few() -> None:
    records = (Seen(i, 1 / i, applied=i > 16 and i % 50 > 0) for i in range(1, 500))
    assert diagnosed(records) == ({}, {})


@pytest.mark.parametrize(
    ("seconds", "waited", "slow"),
    [(0.1, 0.08, True), (0.1, 0.01, False), (0.001, 0.0009, False)],
    ids=["slow data", "fast data", "nothing is slow"],
)
def test_data_loading(seconds: float, waited: float, slow: bool) -> None:
    records = [Seen(i, 1 / i, seconds=seconds, waited=waited) for i in range(1, 300)]
    on_the_way, _ = diagnosed(records)
    assert list(on_the_way) == ["data_loading"] * slow
    if slow:
        assert on_the_way["data_loading"].message.startswith("80% of the time of the last 100 updates")


def test_workers_may_take_their_time_to_start() -> None:
    records = (Seen(i, 1 / i, waited=60.0 * (i % 20 == 1), last_of_pass=i % 20 == 0) for i in range(1, 300))
    assert diagnosed(records) == ({}, {})


# The diagnosis


def test_every_kind_is_in_the_documentation_and_here() -> None:
    page = (Path(__file__).parents[1] / "docs/diagnosis.md").read_text(encoding="utf-8")
    kinds = [cause.kind for cause in CAUSES]
    assert len(set(kinds)) == len(kinds)
    for kind in kinds:
        assert f"| `{kind}` |" in page


def test_the_loss_is_read_as_often_as_asked_for() -> None:
    class Lazy:
        def __init__(self, step: int) -> None:
            self.seen = replace(Seen(), step=step)

        def __getattr__(self, name: str) -> Any:
            if name == "loss":
                reads.append(self.seen.step)
            return getattr(self.seen, name)

    reads: list[int] = []
    watch = Diagnosis(every=10)
    for step in range(1, 32):
        watch(Lazy(step))
    assert reads == [1, 11, 21, 31]


numbers = st.floats(allow_nan=True, allow_infinity=True, width=32)


@settings(max_examples=30)
@given(
    st.lists(
        st.builds(
            Seen,
            loss=numbers,
            lr=st.tuples(st.floats(0, 10)),
            grad_norm=st.none() | numbers,
            clip_coef=st.none() | numbers,
            nonfinite=st.none() | st.integers(0, 5),
            stats=st.none() | st.just({"w": SimpleNamespace(param=0.0, update=1.0, grad=math.nan)}),
            applied=st.booleans(),
            metrics=st.none() | st.fixed_dictionaries({"loss": numbers}),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_no_record_is_too_strange(some: list[Seen]) -> None:
    watch = Diagnosis(suggestion=0.1, planned_steps=10)
    for step in range(1, 130):
        for finding in watch(replace(some[step % len(some)], step=step)):
            assert str(finding) == f"{finding.message} {finding.advice}"
    for finding in watch.findings():
        assert finding.message.endswith(".")
        assert finding.advice.endswith(".")


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"names": "0.weight"}, TypeError, "names='0.weight' is a string"),
        ({"suggestion": 0.0}, ValueError, "suggestion=0.0 must be greater than 0"),
        ({"suggestion": "high"}, TypeError, "suggestion='high' is a str"),
        ({"interval": (0.1, math.inf)}, ValueError, r"interval\[1\]=inf must be"),
        ({"interval": (1.0, 0.1)}, ValueError, "ends before it begins"),
        ({"planned_steps": 0}, ValueError, "planned_steps=0 must be at least 1"),
        ({"planned_steps": 1.5}, TypeError, "planned_steps=1.5 is a float"),
        ({"every": 0}, ValueError, "every=0 must be at least 1"),
    ],
)
def test_bad_settings_are_named(wrong: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Diagnosis(**wrong)


def test_asking_in_the_middle_changes_nothing() -> None:
    watch = Diagnosis(planned_steps=1000)
    told = []
    for step in range(1, 601):
        told += watch(Seen(step, 2.3, (1e-3 * (1 - step / 1000),)))
        if step == 300:
            assert [finding.kind for finding in watch.findings()] == ["no_learning", "schedule_cut"]
    assert [finding.kind for finding in told] == ["no_learning"]
    assert told[0].step == 500

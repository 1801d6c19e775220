import gc
import inspect
import math
import tempfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from trainings import Augmented, bits, dataset, endless, everything, generators, loader, net, seed, steps

import surefoot as optim
from surefoot import LRFinder, TrainDataLoaderIter, ValDataLoaderIter, lr_scheduler

pytestmark = pytest.mark.usefixtures("one_thread")

CRITERION = nn.CrossEntropyLoss()
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, lr=1e-3, momentum=0.9),
    "Adam": lambda p: optim.Adam(p, lr=1e-3),
    "AdamW, tensor lr": lambda p: optim.AdamW(p, lr=torch.tensor(1e-3), amsgrad=True),
    "NAdam": lambda p: optim.NAdam(p, lr=1e-3),
    "torch's Adam": lambda p: torch.optim.Adam(p, lr=1e-3),
}


def finder_of(
    model: nn.Module | None = None, optimizer: Any = None, criterion: Any = CRITERION, **settings: Any
) -> LRFinder:
    """A finder for the customary little model."""
    seed()
    model = model or net()
    return LRFinder(model, optimizer or optim.SGD(model.parameters(), lr=1e-3), criterion, **settings)


def plain_net() -> nn.Module:
    """Without anything random or running."""
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def clear(num_iter: int = 60) -> LRFinder:
    """A sweep from which a rate can be told."""
    seed()
    finder = finder_of(plain_net())
    finder.range_test(loader(dataset(320), batch_size=32), num_iter=num_iter)
    return finder


def watched(finder: LRFinder) -> list[list[float]]:
    """The learning rates of every step, noted when it is made."""
    seen: list[list[float]] = []
    finder.optimizer.register_step_pre_hook(
        lambda optimizer, *_: seen.append([float(group["lr"]) for group in optimizer.param_groups])
    )
    return seen


# The interface of torch-lr-finder 0.2.2


def test_the_constructor_takes_what_torch_lr_finders_takes() -> None:
    expected = {
        "model": inspect.Parameter.empty,
        "optimizer": inspect.Parameter.empty,
        "criterion": inspect.Parameter.empty,
        "device": None,
        "memory_cache": True,
        "cache_dir": None,
        "amp_backend": None,
        "amp_config": None,
        "grad_scaler": None,
    }
    assert defaults(LRFinder) == expected


def test_the_methods_take_what_torch_lr_finders_take() -> None:
    assert defaults(LRFinder.range_test) == {
        "self": inspect.Parameter.empty,
        "train_loader": inspect.Parameter.empty,
        "val_loader": None,
        "start_lr": None,
        "end_lr": 10,
        "num_iter": 100,
        "step_mode": "exp",
        "smooth_f": 0.05,
        "diverge_th": 5,
        "accumulation_steps": 1,
        "non_blocking_transfer": True,
    }
    assert defaults(LRFinder.plot) == {
        "self": inspect.Parameter.empty,
        "skip_start": 10,
        "skip_end": 5,
        "log_lr": True,
        "show_lr": None,
        "ax": None,
        "suggest_lr": True,
    }
    assert list(defaults(LRFinder.reset)) == ["self"]


def defaults(function: Any) -> dict[str, Any]:
    """Names and defaults of the parameters, none of them keyword-only."""
    parameters = inspect.signature(function).parameters.values()
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)
    return {p.name: p.default for p in parameters}


# The sweep


@pytest.mark.parametrize("mode", ["exp", "linear", "EXP"])
def test_the_rates_go_from_one_to_the_other(mode: str) -> None:
    finder = finder_of()
    seen = watched(finder)
    finder.range_test(loader(), start_lr=1e-5, end_lr=0.1, num_iter=21, step_mode=mode)
    spaced = np.linspace(1e-5, 0.1, 21) if mode == "linear" else np.geomspace(1e-5, 0.1, 21)
    assert finder.history["lr"] == pytest.approx(list(spaced), rel=1e-12)
    assert len(finder.history["loss"]) == 21
    assert seen == [[lr] for lr in finder.history["lr"]]
    assert all(type(value) is float for values in finder.history.values() for value in values)


def test_it_is_the_range_test_that_one_writes_by_hand() -> None:
    def build() -> tuple[nn.Module, torch.optim.Optimizer, Any]:
        seed()
        model = net()
        return model, optim.Adam(model.parameters(), lr=1e-4), loader(Augmented())

    model, optimizer, batches = build()
    finder = LRFinder(model, optimizer, CRITERION)
    finder.range_test(batches, end_lr=1.0, num_iter=23, smooth_f=0, diverge_th=1e9)  # over several passes

    model, optimizer, batches = build()
    losses, stream = [], endless(batches)
    for lr in finder.history["lr"]:
        optimizer.param_groups[0]["lr"] = lr
        inputs, labels = next(stream)
        optimizer.zero_grad()
        loss = CRITERION(model(inputs), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert finder.history["loss"] == losses
    assert bits(finder.model.state_dict()) == bits(model.state_dict())


def raw_and_smooth(smooth_f: float, diverge_th: float) -> tuple[list[float], LRFinder]:
    raw = finder_of()
    raw.range_test(loader(), end_lr=10, num_iter=40, smooth_f=0, diverge_th=1e9)
    finder = finder_of()
    finder.range_test(loader(), end_lr=10, num_iter=40, smooth_f=smooth_f, diverge_th=diverge_th)
    return raw.history["loss"], finder


@pytest.mark.parametrize("smooth_f", [0.05, 0.5, 0.9])
def test_the_loss_is_averaged_with_those_before(smooth_f: float) -> None:
    raw, finder = raw_and_smooth(smooth_f, 1e9)
    expected = raw[:1]
    for loss in raw[1:]:
        expected.append(smooth_f * loss + (1 - smooth_f) * expected[-1])
    assert finder.history["loss"] == expected
    assert finder.best_loss == min(expected)


@pytest.mark.parametrize("smooth_f", [0, 0.3])
def test_the_sweep_ends_where_the_loss_diverges(smooth_f: float) -> None:
    whole = raw_and_smooth(smooth_f, 1e9)[1].history["loss"]
    stopped = raw_and_smooth(smooth_f, 1.2)[1]
    losses = stopped.history["loss"]
    assert losses == whole[: len(losses)]
    over = [loss > 1.2 * min(losses[: i + 1]) for i, loss in enumerate(losses)]
    assert over == [False] * (len(losses) - 1) + [True]
    assert stopped.best_loss == min(losses)
    assert len(stopped.history["lr"]) == len(losses) < 40


def test_groups_keep_the_ratio_of_their_rates() -> None:
    model = net()
    groups = [
        {"params": model[0].parameters(), "lr": 1e-3},
        {"params": model[1].parameters(), "lr": 5e-3},
        {"params": model[4].parameters(), "lr": torch.tensor(2e-3, dtype=torch.float64)},
    ]
    finder = finder_of(model, optim.Adam(groups))
    seen = watched(finder)
    finder.range_test(loader(), end_lr=1, num_iter=12, diverge_th=1e9)
    assert seen[0] == [1e-3, 5e-3, 2e-3]
    assert seen == [pytest.approx([lr, 5 * lr, 2 * lr]) for lr in finder.history["lr"]]
    assert finder.history["lr"][-1] == pytest.approx(1)


def test_frozen_groups_stay_frozen() -> None:
    model = net()
    groups = [{"params": model[4].parameters(), "lr": 1e-3}, {"params": model[0].parameters(), "lr": 0.0}]
    finder = finder_of(model, optim.SGD(groups))
    before = bits(model[0].state_dict())
    finder.range_test(loader(), num_iter=12)
    assert bits(model[0].state_dict()) == before


def test_start_lr_is_the_optimizers_unless_given() -> None:
    finder = finder_of(model := net(), optim.SGD(model.parameters(), lr=0.007))
    finder.range_test(loader(), num_iter=5)
    assert finder.history["lr"][0] == 0.007
    finder.range_test(loader(), num_iter=5, start_lr=1e-6)
    assert finder.history["lr"][0] == 1e-6


def test_a_tensor_lr_is_filled_in_place() -> None:
    lr = torch.tensor(1e-3, dtype=torch.float64)
    finder = finder_of(model := net(), optim.SGD(model.parameters(), lr=lr))
    seen: list[bool] = []
    finder.optimizer.register_step_pre_hook(
        lambda optimizer, *_: seen.append(optimizer.param_groups[0]["lr"] is lr)
    )
    finder.range_test(loader(), num_iter=5)
    assert lr.item() == pytest.approx(10)
    finder.reset()
    assert seen == [True] * 5
    assert finder.optimizer.param_groups[0]["lr"] is lr
    assert lr.item() == 1e-3


def test_micro_batches_are_one_batch() -> None:
    """In the first loss, and in the second, which the first update made."""

    def history(batch_size: int, accumulation_steps: int) -> list[float]:
        seed()
        finder = finder_of(plain_net().double())
        data = TensorDataset(dataset().tensors[0].double(), dataset().tensors[1])
        batches = DataLoader(data, batch_size=batch_size)
        settings = {"start_lr": 0.5, "end_lr": 1, "num_iter": 6, "accumulation_steps": accumulation_steps}
        finder.range_test(batches, **settings)
        return finder.history["loss"]

    whole = history(8, 1)
    assert history(4, 2) == pytest.approx(whole, rel=1e-12)
    assert history(2, 4) == pytest.approx(whole, rel=1e-12)
    assert history(8, 2) != pytest.approx(whole, rel=1e-3)


def test_a_val_loader_is_what_the_loss_is_read_on() -> None:
    """After the step, without dropout, each sample counted once although the last batch is smaller."""
    finder = finder_of()
    model, held_out = finder.model, dataset(13)
    expected: list[float] = []

    def look(*_: Any) -> None:
        was = model.training
        with torch.no_grad():
            expected.append(CRITERION(model.eval()(held_out.tensors[0]), held_out.tensors[1]).item())
        model.train(was)

    finder.optimizer.register_step_post_hook(look)
    finder.range_test(loader(), DataLoader(held_out, batch_size=5), num_iter=12, smooth_f=0, end_lr=0.1)
    assert finder.history["loss"] == pytest.approx(expected, rel=1e-6)


def test_the_bar_is_for_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    finder = clear()
    finder.plot()
    finder.reset()
    assert capsys.readouterr() == ("", "")


# Batches of every kind


class Dicts(TensorDataset):
    """Samples as Hugging Face has them."""

    def __getitem__(self, index: int) -> Any:
        inputs, label = super().__getitem__(index)
        return {"features": inputs, "meta": {"index": index}, "target": label}


class FromDicts(TrainDataLoaderIter):
    def inputs_labels_from_batch(self, batch_data: Any) -> Any:
        return batch_data["features"], batch_data["target"]


class ValFromDicts(ValDataLoaderIter):
    def inputs_labels_from_batch(self, batch_data: Any) -> Any:
        return batch_data["features"], batch_data["target"]


def test_a_subclass_takes_any_batch_apart() -> None:
    dicts = loader(Dicts(*dataset().tensors))
    plain, finder = finder_of(), finder_of()
    seed()
    plain.range_test(loader(), loader(shuffle=False), num_iter=12)
    seed()
    finder.range_test(
        FromDicts(dicts), ValFromDicts(loader(Dicts(*dataset().tensors), shuffle=False)), num_iter=12
    )
    assert finder.history["loss"] == pytest.approx(plain.history["loss"], rel=1e-6)


def test_a_batch_that_cannot_be_taken_apart_says_how() -> None:
    finder = finder_of()
    before = everything(finder.model, finder.optimizer)
    with pytest.raises(ValueError, match=r"batch is a dict.*overrides inputs_labels_from_batch"):
        finder.range_test(loader(Dicts(*dataset().tensors)))
    with pytest.raises(ValueError, match=r"batch is a list.*overrides inputs_labels_from_batch"):
        finder.range_test(loader(TensorDataset(torch.ones(8, 6))))
    assert everything(finder.model, finder.optimizer) == before


class Nested(nn.Module):
    """Takes what may be nested."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = plain_net()

    def forward(self, batch: Any) -> Any:
        kind = type(batch)
        a, b = batch.values() if kind is dict else batch
        if isinstance(b, list):
            (b,) = b
        return self.inner(a + b)


Pair = namedtuple("Pair", ["first", "second"])
NESTED: dict[str, Callable[[Any], Any]] = {
    "tuple": lambda x: (x, x),
    "list": lambda x: [x, [x]],
    "dict": lambda x: {"a": x, "b": [x]},
    "namedtuple": lambda x: Pair(x, x),
    "array": lambda x: (x, 0.5),
}


@pytest.mark.parametrize("name", NESTED)
def test_inputs_may_be_nested_and_labels_anything(name: str) -> None:
    seen: list[Any] = []

    def criterion(outputs: Any, labels: Any) -> Any:
        seen.append(type(labels))
        return CRITERION(outputs, labels.second)

    batches = [(NESTED[name](x), Pair("a string", y), "and more") for x, y in loader(shuffle=False)]
    finder = finder_of(Nested(), criterion=criterion)
    finder.range_test(batches, num_iter=7)
    assert len(finder.history["loss"]) == 7
    assert set(seen) == {Pair}


class Stream(IterableDataset[Any]):
    """Samples without a number of them."""

    def __iter__(self) -> Iterator[Any]:
        return iter(dataset())


LOADERS: dict[str, Callable[[], Any]] = {
    "list": lambda: list(loader(shuffle=False)),
    "generator": lambda: (batch for batch in endless(loader(shuffle=False))),
    "iterable dataset": lambda: loader(Stream(), shuffle=None),
    "wrapped": lambda: TrainDataLoaderIter(loader(shuffle=False)),
}


@pytest.mark.parametrize("name", LOADERS)
def test_any_iterable_of_batches_will_do(name: str) -> None:
    expected, finder = finder_of(), finder_of()
    seed()
    expected.range_test(loader(shuffle=False), num_iter=12)  # longer than a pass
    seed()
    finder.range_test(LOADERS[name](), num_iter=12)
    assert finder.history["loss"] == pytest.approx(expected.history["loss"], rel=1e-6)


def test_batches_of_one_sample_can_be_held_out() -> None:
    """``batch_size=None`` gives labels without a dimension."""
    model, data = nn.Linear(6, 1), TensorDataset(torch.randn(8, 6), torch.randn(8))
    finder = finder_of(model, criterion=lambda out, label: ((out - label) ** 2).mean())
    finder.range_test(DataLoader(data, batch_size=None), DataLoader(data, batch_size=None), num_iter=5)
    assert len(finder.history["loss"]) == 5


def test_iterators_of_batches_on_their_own() -> None:
    batches = [(i, -i, "more") for i in range(3)]
    again = TrainDataLoaderIter(batches)
    assert iter(again) is again
    assert [next(again) for _ in range(4)] == [(0, 0), (1, -1), (2, -2), (0, 0)]
    once = TrainDataLoaderIter(batches, auto_reset=False)
    assert list(once) == [(0, 0), (1, -1), (2, -2)]
    assert list(once) == []
    held_out = ValDataLoaderIter(batches)
    assert list(held_out) == list(held_out) == [(0, 0), (1, -1), (2, -2)]
    with pytest.raises(StopIteration):
        next(TrainDataLoaderIter([]))
    assert len(ValDataLoaderIter(loader()).dataset) == 40


# Mixed precision


@pytest.mark.parametrize(
    "config", [{"device_type": "cpu", "dtype": torch.bfloat16}, {"dtype": torch.bfloat16}, None]
)
def test_mixed_precision(config: Any) -> None:
    seen: set[torch.dtype] = set()

    def criterion(outputs: Any, labels: Any) -> Any:
        seen.add(outputs.dtype)
        return CRITERION(outputs.float(), labels)

    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=3)
    finder = finder_of(criterion=criterion, amp_backend="torch", amp_config=config, grad_scaler=scaler)
    before = everything(finder.model, finder.optimizer), scaler.state_dict()
    finder.range_test(loader(), loader(), num_iter=12, end_lr=0.1)
    assert len(finder.history["loss"]) == 12
    assert seen == {torch.bfloat16}
    assert scaler.state_dict() != before[1]
    finder.reset()
    assert (everything(finder.model, finder.optimizer), scaler.state_dict()) == before


def test_the_scale_does_not_change_the_sweep() -> None:
    plain, scaled = finder_of(), finder_of()
    config = {"device_type": "cpu", "enabled": False}
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaled = finder_of(amp_backend="torch", amp_config=config, grad_scaler=scaler)
    seed()
    plain.range_test(loader(), num_iter=12)
    seed()
    scaled.range_test(loader(), num_iter=12)
    assert scaled.history["loss"] == pytest.approx(plain.history["loss"], rel=1e-4)


# Leaving no trace


WARM = [*((name, 3) for name in OPTIMIZERS), ("Adam", 0), ("torch's Adam", 0)]


@pytest.mark.parametrize(("name", "warm"), WARM)
@pytest.mark.parametrize("memory_cache", [True, False], ids=["memory", "file"])
def test_reset_leaves_no_trace(name: str, warm: int, memory_cache: bool, tmp_path: Path) -> None:
    seed()
    model, batches, held_out = net(), loader(Augmented()), loader(Augmented(16))
    optimizer = OPTIMIZERS[name](model.parameters())
    steps(model, optimizer, batches, warm)
    model[1].eval()
    before = everything(model, optimizer, batches, held_out)
    finder = LRFinder(model, optimizer, CRITERION, memory_cache=memory_cache, cache_dir=tmp_path)
    for _ in range(2):
        finder.range_test(batches, held_out, num_iter=7)  # more than a pass
        assert everything(model, optimizer, batches, held_out) != before
        finder.reset()
        assert everything(model, optimizer, batches, held_out) == before
    gc.collect()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "warm"), WARM)
def test_fifty_steps_after_a_sweep_are_those_without_one(name: str, warm: int) -> None:
    def train(sweeps: int) -> Any:
        seed()
        model, batches = net(), loader(Augmented())
        optimizer = OPTIMIZERS[name](model.parameters())
        steps(model, optimizer, batches, warm)
        for _ in range(sweeps):
            finder = LRFinder(model, optimizer, CRITERION)
            finder.range_test(batches, num_iter=7)
            finder.reset()
        losses = steps(model, optimizer, batches, 50)
        return bits([losses, model.state_dict(), optimizer.state_dict()]), generators(batches)

    assert train(2) == train(0)


def test_a_scheduler_built_after_the_sweep_starts_from_the_optimizers_rate() -> None:
    finder = finder_of()
    finder.range_test(loader(), num_iter=12)
    finder.reset()
    scheduler = lr_scheduler.StepLR(finder.optimizer, 10)
    assert scheduler.get_last_lr() == [1e-3]


def test_a_second_sweep_starts_where_the_first_did() -> None:
    finder, batches = finder_of(), loader(Augmented())
    before = everything(finder.model, finder.optimizer, batches)
    finder.range_test(batches, num_iter=12)
    first = finder.history
    finder.range_test(batches, num_iter=12)
    assert finder.history == first
    assert finder.history is not first
    finder.reset()
    assert everything(finder.model, finder.optimizer, batches) == before


def test_reset_without_a_sweep_and_twice_does_nothing() -> None:
    finder, batches = finder_of(), loader()
    finder.reset()
    finder.range_test(batches, num_iter=5)
    finder.reset()
    steps(finder.model, finder.optimizer, batches, 2)
    trained = everything(finder.model, finder.optimizer, batches)
    finder.reset()
    assert everything(finder.model, finder.optimizer, batches) == trained


def test_the_history_outlives_the_reset() -> None:
    finder = clear()
    history, suggestion = bits(finder.history), finder.suggestion()
    finder.reset()
    assert (bits(finder.history), finder.suggestion()) == (history, suggestion)


def raises_at(call: int, error: type[BaseException], function: Any = None) -> Any:
    calls = iter(range(1, 10_000))

    def wrapped(*args: Any) -> Any:
        if next(calls) == call:
            raise error("in the middle")
        return function(*args) if function else None

    return wrapped


ERRORS = [RuntimeError, KeyboardInterrupt, MemoryError]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("where", ["criterion", "step", "loader", "validation"])
@pytest.mark.parametrize("call", [1, 4])
def test_an_error_in_the_sweep_restores_by_itself(where: str, call: int, error: Any) -> None:
    seed()
    model, batches = net(), loader(Augmented())
    optimizer = optim.Adam(model.parameters())
    steps(model, optimizer, batches, 2)
    model.eval()
    finder = LRFinder(model, optimizer, CRITERION)
    train: Any = batches
    held_out = None
    if where == "criterion":
        finder.criterion = raises_at(call, error, CRITERION)
    elif where == "step":
        hook = optimizer.register_step_pre_hook(raises_at(call, error))
    elif where == "loader":
        train = TrainDataLoaderIter(batches)
        train.inputs_labels_from_batch = raises_at(call, error, lambda batch: batch)
    else:
        held_out = ValDataLoaderIter(loader())
        held_out.inputs_labels_from_batch = raises_at(call, error, lambda batch: batch)
    before = everything(model, optimizer, batches)
    with pytest.raises(error, match="in the middle"):
        finder.range_test(train, held_out, num_iter=20)
    assert everything(model, optimizer, batches) == before
    finder.reset()
    assert everything(model, optimizer, batches) == before
    if where == "step":
        hook.remove()
    finder.criterion = CRITERION
    finder.range_test(batches, num_iter=20)
    assert len(finder.history["lr"]) == 20


def test_an_error_between_unscale_and_step_leaves_the_scaler_ready() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    finder = finder_of(amp_backend="torch", amp_config={"device_type": "cpu"}, grad_scaler=scaler)
    hook = finder.optimizer.register_step_pre_hook(raises_at(2, KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        finder.range_test(loader())
    hook.remove()
    scaler.scale(finder.model(torch.randn(4, 6)).sum()).backward()
    scaler.unscale_(finder.optimizer)
    grads = [p.grad.abs().max().item() for p in finder.model.parameters()]
    assert max(grads) < 100


@pytest.mark.parametrize("given", [True, False], ids=["cache_dir", "temporary"])
def test_the_copy_may_be_in_a_file(given: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    finder = finder_of(memory_cache=False, cache_dir=str(tmp_path) if given else None)
    before = everything(finder.model, finder.optimizer)
    finder.range_test(loader(), num_iter=5)
    assert len(list(tmp_path.iterdir())) == 1
    finder.reset()
    gc.collect()
    assert everything(finder.model, finder.optimizer) == before
    assert list(tmp_path.iterdir()) == []


def test_the_model_comes_back_to_its_device() -> None:
    finder = finder_of(device="cpu")
    finder.range_test(loader(), num_iter=5)
    finder.reset()
    assert (finder.device, finder.model_device) == (torch.device("cpu"), torch.device("cpu"))


# Losses that are not numbers


def bad_from(call: int, value: float) -> Any:
    calls = iter(range(1, 10_000))
    return lambda outputs, labels: CRITERION(outputs, labels) * (value if next(calls) >= call else 1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_first_loss_that_is_not_finite_is_an_error(value: float) -> None:
    finder = finder_of(criterion=bad_from(1, value))
    before = everything(finder.model, finder.optimizer)
    with pytest.raises(
        ValueError, match=rf"the loss is {value} at the first batch, lr 0\.001.*lower start_lr"
    ):
        finder.range_test(loader())
    assert everything(finder.model, finder.optimizer) == before


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("smooth_f", [0, 0.05])
def test_a_later_one_ends_the_sweep(value: float, smooth_f: float) -> None:
    finder = finder_of(criterion=bad_from(9, value))
    before = everything(finder.model, finder.optimizer)
    finder.range_test(loader(), smooth_f=smooth_f)
    assert [len(values) for values in finder.history.values()] == [8, 8]
    assert all(map(math.isfinite, finder.history["loss"]))
    finder.reset()
    assert everything(finder.model, finder.optimizer) == before


def test_an_optimizer_that_refuses_a_gradient_ends_the_sweep() -> None:
    finder = finder_of(model := plain_net(), optim.SGD(model.parameters(), lr=1e-3, nonfinite="raise"))
    finder.criterion = bad_from(9, math.nan)
    before = everything(finder.model, finder.optimizer)
    finder.range_test(loader())
    assert len(finder.history["lr"]) == 8
    finder.reset()
    assert everything(finder.model, finder.optimizer) == before


def test_an_optimizer_that_asks_for_the_loss_again() -> None:
    finder = finder_of(model := plain_net(), optim.LBFGS(model.parameters(), lr=1e-3, max_iter=3))
    before = everything(finder.model, finder.optimizer)
    finder.range_test(loader(), num_iter=6)
    assert len(finder.history["lr"]) == 6
    finder.reset()
    assert everything(finder.model, finder.optimizer) == before


# The suggestion


def test_the_suggestion_of_a_sweep_that_can_be_done_by_hand() -> None:
    """On ``w ** 2`` every step multiplies ``w`` by ``1 - 2 lr``: the loss falls until lr is 0.5, and rises from 1."""
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.ones_(model.weight)
    batches = [(torch.ones(1, 1).double(), torch.zeros(1, 1).double())]
    finder = LRFinder(model, optim.SGD(model.parameters(), lr=1e-3), nn.MSELoss())
    finder.range_test(batches, end_lr=10, num_iter=100, smooth_f=0, diverge_th=1e99)
    w, losses, lrs = 1.0, [], np.geomspace(1e-3, 10, 100)
    for lr in lrs:
        losses.append(w**2)
        w *= 1 - 2 * lr
    assert finder.history["loss"] == pytest.approx(losses, rel=1e-9)
    assert 0.02 < finder.suggestion() < 0.2


def falls_and_rises(lrs: Any, lowest: float) -> list[float]:
    """A loss that falls by 1 over three octaves, and then rises quickly."""
    octaves = np.log2(lrs) - math.log2(lowest)
    return (3 - np.clip(octaves / 3 + 1, 0, 1) + np.clip(octaves, 0, None) ** 2).tolist()


@pytest.mark.parametrize("octaves", [0, 2, 4])
def test_the_suggestion_moves_with_the_curve(octaves: float) -> None:
    finder, lrs = finder_of(), np.geomspace(1e-4, 4.0, 100)
    finder.history = {"lr": lrs.tolist(), "loss": falls_and_rises(lrs, 0.05)}
    first = finder.suggestion()
    assert 0.05 / 2**4 < first < 0.05 / 2
    finder.history = {"lr": lrs.tolist(), "loss": falls_and_rises(lrs, 0.05 * 2**octaves)}
    assert finder.suggestion() == pytest.approx(first * 2**octaves, rel=0.1)


def test_rates_that_are_not_equal_factors_apart() -> None:
    finder, lrs = finder_of(), np.linspace(0.01, 1.0, 100)
    finder.history = {"lr": lrs.tolist(), "loss": falls_and_rises(lrs, 0.4)}
    assert 0.05 < finder.suggestion() < 0.4


def test_smoothing_does_not_move_the_suggestion() -> None:
    """The losses as they were are what is read: a running average lags behind by octaves."""
    suggestions = []
    for smooth_f in (0, 0.05, 0.5):
        seed()
        finder = finder_of(plain_net())
        finder.range_test(loader(dataset(320), batch_size=32), num_iter=60, smooth_f=smooth_f, diverge_th=1e9)
        suggestions.append(finder.suggestion())
    assert suggestions[1:] == suggestions[:1] * 2


def test_a_held_out_loss_is_read_as_it_is() -> None:
    seed()
    finder = finder_of(plain_net())
    finder.range_test(loader(dataset(320), batch_size=32), loader(dataset(80)), num_iter=50)
    assert clear().suggestion() / 4 < finder.suggestion() < 4 * clear().suggestion()


@pytest.mark.parametrize(("skip_start", "skip_end"), [(10, 5), (0, 0), (0, 42), (3, 0)])
def test_only_the_points_kept_are_looked_at(skip_start: int, skip_end: int) -> None:
    finder, lrs = finder_of(), np.geomspace(1e-4, 4, 100)
    kept = slice(skip_start, 100 - skip_end)
    losses = falls_and_rises(lrs, 0.01)
    finder.history = {"lr": lrs.tolist(), "loss": losses}
    expected = finder.suggestion(skip_start, skip_end)
    losses[100 - skip_end :] = [2.9] * skip_end  # lower than at the start, and than what comes before
    axes, suggestion = finder.plot(skip_start, skip_end)
    assert suggestion == expected
    assert list(axes.lines[0].get_xdata()) == lrs[kept].tolist()


DOUBTFUL: dict[str, tuple[Callable[[Any], Any], str]] = {
    "noise": (lambda lrs: np.random.default_rng(0).normal(2, 0.1, len(lrs)), "did not fall by more than"),
    "nothing": (lambda lrs: [1.5] * len(lrs), "did not fall by more than"),
    "only rises": (lambda lrs: 2 + np.log(lrs / lrs[0]), "did not fall by more than"),
    "only falls": (lambda lrs: falls_and_rises(lrs, 15.0), "still fell at the highest rate"),
    "falls at once": (
        lambda lrs: [3, 2.8, 2.4, 1.8, 1.2, *np.linspace(1, 8, 95)],
        "lowest at the lowest rates",
    ),
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_where_no_rate_can_be_told_it_says_so(name: str) -> None:
    """PAINS 37: a number, the safest, but not in silence."""
    curve, reason = DOUBTFUL[name]
    lrs = np.geomspace(1e-4, 10, 100)
    losses = list(curve(lrs))
    finder = finder_of()
    finder.history = {"lr": lrs.tolist()[: len(losses)], "loss": losses}
    with pytest.warns(UserWarning, match=rf"no learning rate can be told.*{reason}.*The safest is") as warned:
        suggestion = finder.suggestion(2)
    assert warned[0].filename == __file__  # where the user asked
    assert 0 < suggestion <= lrs[len(losses) - 1]
    with pytest.warns(UserWarning, match=reason) as warned:
        axes, shown = finder.plot(2)
    assert warned[0].filename == __file__
    assert shown == suggestion
    assert "No suggestion" in axes.get_title()
    assert reason in axes.get_title()
    assert f"{suggestion:.1e}" in axes.get_title()


@pytest.mark.parametrize("ends", [math.nan, math.inf])
def test_a_sweep_that_explodes_at_its_lowest_point_is_no_doubt(ends: float) -> None:
    """What was left out at the end, or ended the sweep, is known to be bad."""
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.ones_(model.weight)
    criterion = lambda outputs, labels: outputs.mean() if outputs.item() > -3 else outputs.mean() * ends  # noqa: E731
    finder = LRFinder(model, optim.SGD(model.parameters(), lr=1e-3), criterion)
    finder.range_test([(torch.ones(1, 1).double(), 0)], num_iter=100)
    assert len(finder.history["lr"]) < 100
    for skip_end in (0, 5):
        assert finder.suggestion(skip_end=skip_end) < finder.history["lr"][-1]


# The picture


@pytest.fixture
def swept() -> LRFinder:
    return clear()


def test_the_plot_says_what_it_shows(swept: LRFinder) -> None:
    axes, suggestion = swept.plot()
    assert suggestion == swept.suggestion()
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Learning rate", "Loss")
    assert axes.get_xscale() == "log"
    assert f"{suggestion:.1e}" in axes.get_title()
    curve, *marks = axes.lines
    assert list(curve.get_xdata()) == swept.history["lr"][10:-5]
    assert list(curve.get_ydata()) == swept.history["loss"][10:-5]
    nearest = min(range(10, 60), key=lambda i: abs(swept.history["lr"][i] - suggestion))
    at = swept.history["loss"][nearest]
    assert [(suggestion, at)] in [[*zip(mark.get_xdata(), mark.get_ydata(), strict=True)] for mark in marks]


def test_the_plot_without_a_suggestion(swept: LRFinder) -> None:
    axes = swept.plot(suggest_lr=False, log_lr=False)
    assert isinstance(axes, plt.Axes)
    assert axes.get_xscale() == "linear"
    assert len(axes.lines) == 1
    assert axes.get_title() == ""


@pytest.mark.parametrize("rate", [0.05, 1])
def test_another_rate_can_be_shown(rate: float, swept: LRFinder) -> None:
    axes, _ = swept.plot(show_lr=rate)
    assert rate in [line.get_xdata()[0] for line in axes.lines]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [f"{rate:.1e}"]


def test_the_plot_goes_where_it_is_wanted(swept: LRFinder, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[bool] = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(True))
    _, (left, right) = plt.subplots(1, 2)
    axes, _ = swept.plot(ax=right)
    assert axes is right
    assert not left.lines
    assert plt.get_fignums() == [1]
    swept.plot()  # a figure of its own
    assert plt.get_fignums() == [1, 2]
    assert shown == []  # there is no screen


@pytest.mark.parametrize("points", [0, 1, 16])
def test_too_few_points_are_an_error(points: int) -> None:
    finder = finder_of()
    finder.history = {"lr": [10.0**i for i in range(points)], "loss": [1.0] * points}
    message = (
        rf"Need at least 17 iterations to suggest a learning rate, got {points}: raise num_iter or lower skip"
    )
    with pytest.raises(RuntimeError, match=message):
        finder.suggestion()
    with pytest.raises(RuntimeError, match=message):
        finder.plot()
    assert plt.get_fignums() == []


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"0 points.*run range_test first"):
        finder_of().plot(suggest_lr=False)
    finder = finder_of()
    finder.range_test(loader(), num_iter=12)
    with pytest.raises(RuntimeError, match=r"12 points.*lower skip_start"):
        finder.plot(suggest_lr=False)
    assert len(finder.plot(skip_end=0, suggest_lr=False).lines[0].get_xdata()) == 2


@pytest.mark.parametrize("name", ["skip_start", "skip_end"])
@pytest.mark.parametrize(("value", "error"), [(-1, ValueError), (1.5, TypeError), ("2", TypeError)])
def test_points_to_skip_are_a_number_of_points(name: str, value: Any, error: Any, swept: LRFinder) -> None:
    for method in (swept.suggestion, swept.plot):
        with pytest.raises(error, match=rf"{name}={value!r}"):
            method(**{name: value})
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("value", "error"), [(0, ValueError), (-0.1, ValueError), (math.nan, ValueError), ("1e-3", TypeError)]
)
def test_a_rate_to_show_is_a_rate(value: Any, error: Any, swept: LRFinder) -> None:
    with pytest.raises(error, match=rf"show_lr={value!r}"):
        swept.plot(show_lr=value)
    assert plt.get_fignums() == []


# Bad input


@pytest.mark.parametrize("kind", [lr_scheduler, torch.optim.lr_scheduler], ids=["ours", "torch's"])
def test_an_optimizer_with_a_scheduler_is_an_error(kind: Any) -> None:
    finder = finder_of()
    kind.StepLR(finder.optimizer, 3)
    before = everything(finder.model, finder.optimizer)
    with pytest.raises(RuntimeError, match="Optimizer already has a scheduler attached to it"):
        finder.range_test(loader())
    with pytest.raises(RuntimeError, match=r"already has a scheduler.*before building the scheduler"):
        LRFinder(finder.model, finder.optimizer, CRITERION)
    assert everything(finder.model, finder.optimizer) == before


SCALER = torch.amp.GradScaler("cpu")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"model": 3}, TypeError, "model is a int"),
        ({"optimizer": "adam"}, TypeError, "optimizer is a str"),
        ({"criterion": None}, TypeError, "criterion=None"),
        ({"device": "gpu"}, ValueError, "device='gpu'"),
        ({"device": 1.5}, ValueError, "device=1.5"),
        ({"cache_dir": "/no/such/folder"}, ValueError, "cache_dir='/no/such/folder' is not a folder"),
        ({"cache_dir": __file__}, ValueError, "cache_dir=.*is not a folder"),
        ({"amp_backend": "apex"}, ValueError, "amp_backend='apex' is unknown: pass 'torch' or None"),
        ({"amp_backend": "torch"}, ValueError, "amp_backend='torch' needs grad_scaler"),
        ({"amp_backend": "torch", "grad_scaler": 3}, TypeError, "grad_scaler=3"),
        (
            {"amp_backend": "torch", "grad_scaler": SCALER, "amp_config": "bf16"},
            TypeError,
            "amp_config='bf16'",
        ),
    ],
)
def test_bad_parts_are_errors_that_name_them(settings: Any, error: Any, message: str) -> None:
    model = net()
    parts = {"model": model, "optimizer": optim.SGD(model.parameters(), lr=0.1), "criterion": CRITERION}
    with pytest.raises(error, match=message):
        LRFinder(**{**parts, **settings})


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"num_iter": 1}, ValueError, "num_iter=1 must be at least 2"),
        ({"num_iter": -5}, ValueError, "num_iter=-5"),
        ({"num_iter": 10.5}, TypeError, "num_iter=10.5"),
        ({"num_iter": "100"}, TypeError, "num_iter='100'"),
        ({"num_iter": None}, TypeError, "num_iter=None"),
        ({"step_mode": "cosine"}, ValueError, "step_mode='cosine' must be 'exp' or 'linear'"),
        ({"step_mode": None}, ValueError, "step_mode=None"),
        ({"start_lr": 0}, ValueError, "start_lr=0.*must be positive"),
        ({"start_lr": -1e-3}, ValueError, "start_lr=-0.001"),
        ({"start_lr": math.nan}, ValueError, "start_lr=nan"),
        ({"start_lr": "1e-5"}, TypeError, "start_lr='1e-5'"),
        ({"start_lr": 1.0, "end_lr": 0.1}, ValueError, r"start_lr=1\.0 and end_lr=0\.1.*below"),
        ({"end_lr": 1e-3}, ValueError, "end_lr=0.001"),
        ({"end_lr": math.inf}, ValueError, "end_lr=inf"),
        ({"end_lr": math.nan}, ValueError, "end_lr=nan"),
        ({"end_lr": None}, TypeError, "end_lr=None"),
        ({"smooth_f": 1}, ValueError, r"smooth_f=1.* must be in \[0, 1\)"),
        ({"smooth_f": -0.1}, ValueError, "smooth_f=-0.1"),
        ({"smooth_f": math.nan}, ValueError, "smooth_f=nan"),
        ({"smooth_f": "0.05"}, TypeError, "smooth_f='0.05'"),
        ({"diverge_th": 1}, ValueError, "diverge_th=1.* must be greater than 1"),
        ({"diverge_th": math.nan}, ValueError, "diverge_th=nan"),
        ({"diverge_th": None}, TypeError, "diverge_th=None"),
        ({"accumulation_steps": 0}, ValueError, "accumulation_steps=0 must be at least 1"),
        ({"accumulation_steps": 1.5}, TypeError, "accumulation_steps=1.5"),
        ({"train_loader": 5}, TypeError, "train_loader is a int"),
        ({"train_loader": None}, TypeError, "train_loader is a NoneType"),
        ({"train_loader": dataset()}, TypeError, "train_loader is a TensorDataset: pass a DataLoader"),
        ({"train_loader": ValDataLoaderIter([])}, TypeError, "train_loader is a ValDataLoaderIter"),
        ({"val_loader": 5}, TypeError, "val_loader is a int"),
        ({"val_loader": TrainDataLoaderIter([1])}, TypeError, "val_loader is a TrainDataLoaderIter"),
        ({"train_loader": []}, ValueError, "train_loader gave no batch"),
        ({"train_loader": loader(dataset(0), shuffle=False)}, ValueError, "train_loader gave no batch"),
        (
            {"train_loader": loader(dataset(5), drop_last=True)},
            ValueError,
            "train_loader gave no batch.*drop_last",
        ),
        ({"train_loader": iter(list(loader()))}, ValueError, "cannot be read a second time.*lower num_iter"),
        ({"val_loader": []}, ValueError, "val_loader gave no batch"),
    ],
)
def test_bad_settings_are_errors_that_name_them(settings: Any, error: Any, message: str) -> None:
    finder = finder_of()
    before = everything(finder.model, finder.optimizer)
    with pytest.raises(error, match=message):
        finder.range_test(**{"train_loader": loader(), **settings})
    assert everything(finder.model, finder.optimizer) == before


def test_numbers_may_be_of_any_library() -> None:
    finder, expected = finder_of(), finder_of()
    settings = {"num_iter": 12, "start_lr": 0.125, "end_lr": 1.0}
    seed()
    expected.range_test(loader(), **settings)
    settings = {"num_iter": np.int64(12), "start_lr": torch.tensor(0.125), "end_lr": np.float32(1)}
    seed()
    finder.range_test(loader(), **settings)
    assert bits(finder.history["lr"]) == bits(expected.history["lr"])
    swept = clear()
    assert swept.suggestion(np.int64(2), torch.tensor(1)) == swept.suggestion(2, 1)


def test_bad_settings_after_a_sweep_undo_it() -> None:
    finder = finder_of()
    before = everything(finder.model, finder.optimizer)
    finder.range_test(loader(), num_iter=5)
    with pytest.raises(ValueError, match="num_iter=0"):
        finder.range_test(loader(), num_iter=0)
    assert everything(finder.model, finder.optimizer) == before


@pytest.mark.usefixtures("one_thread")
def test_a_negative_loss_is_no_divergence():
    weight = nn.Linear(1, 1)
    optimizer = optim.SGD(weight.parameters(), lr=1e-4)
    finder = optim.LRFinder(weight, optimizer, lambda outputs, labels: outputs.mean() - 5.0)
    finder.range_test([(torch.ones(4, 1), torch.ones(4))], end_lr=1, num_iter=30)
    assert len(finder.history["loss"]) == 30  # it falls all the way

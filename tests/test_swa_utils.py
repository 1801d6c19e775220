"""Averages of weights against torch's, bit for bit."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import swa_utils as torchs

from surefoot import swa_utils as ours
from surefoot.swa_utils import AveragedModel, get_ema_avg_fn, get_ema_multi_avg_fn, update_bn


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(5, 3), nn.Linear(3, 5)
        self.head.weight = self.embed.weight


class Mixed(nn.Module):
    """Parameters and buffers of many dtypes, in turn; one is frozen, one has no dimension, one no element."""

    def __init__(self):
        super().__init__()
        for i, dtype in enumerate([torch.float32, torch.float64, torch.bfloat16, torch.float16] * 2):
            self.register_parameter(f"p{i}", nn.Parameter(torch.randn(4, 3).to(dtype)))
        self.wave = nn.Parameter(torch.randn(3, dtype=torch.complex64))
        self.frozen = nn.Parameter(torch.randn(2), requires_grad=False)
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.empty = nn.Parameter(torch.zeros(0, 3))
        self.register_buffer("count", torch.tensor(7))
        self.register_buffer("level", torch.randn(3, dtype=torch.float64))
        self.register_buffer("hidden", torch.randn(3), persistent=False)


def linear_and_norm():
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


MODELS = pytest.mark.parametrize("build", [linear_and_norm, Tied, Mixed], ids=lambda build: build.__name__)
WAYS = {
    "default": lambda library: {},
    "swa": lambda library: {"avg_fn": library.get_swa_avg_fn()},
    "ema": lambda library: {"avg_fn": library.get_ema_avg_fn(0.9)},
    "multi swa": lambda library: {"multi_avg_fn": library.get_swa_multi_avg_fn()},
    "multi ema": lambda library: {"multi_avg_fn": library.get_ema_multi_avg_fn()},
    "own": lambda library: {"avg_fn": lambda average, current, n: torch.maximum(average.real, current.real)},
}
# torch's mean of lists raises an error for integers, which these two have.
BUFFERS = [
    (way, build, use_buffers)
    for way in WAYS
    for build in (linear_and_norm, Tied, Mixed)
    for use_buffers in (False, True)
    if not (way == "multi swa" and use_buffers and build is not Tied)
]


def train(model, seed=0):
    """Another state of the model, the same for each seed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.add_(noise.to(tensor.dtype) if tensor.is_floating_point() or tensor.is_complex() else 3)


def assert_same(mine, theirs):
    states = [
        {**dict(model.named_buffers()), **dict(model.named_parameters()), **model.state_dict()}
        for model in (mine, theirs)
    ]
    assert list(states[0]) == list(states[1])
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name], rtol=0, atol=0, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("name", ours.__all__)
def test_arguments_are_torchs(name):
    mine, theirs = (inspect.signature(getattr(library, name)).parameters for library in (ours, torchs))
    assert [(p.name, p.default) for p in mine.values()] == [(p.name, p.default) for p in theirs.values()]
    assert getattr(ours, name) is not getattr(torchs, name)


@pytest.mark.parametrize("functions", [ours, torchs], ids=["our functions", "torch's functions"])
@pytest.mark.parametrize(("way", "build", "use_buffers"), BUFFERS)
def test_averages_equal_torchs(way, build, use_buffers, functions):
    model = build()
    mine = AveragedModel(model, **WAYS[way](functions), use_buffers=use_buffers)
    theirs = torchs.AveragedModel(model, **WAYS[way](torchs), use_buffers=use_buffers)
    assert_same(mine, theirs)
    for step in range(6):
        train(model, step)
        mine.update_parameters(model)
        theirs.update_parameters(model)
        assert_same(mine, theirs)
    assert mine.n_averaged == 6


@MODELS
@pytest.mark.parametrize("way", ["swa", "ema", "multi swa", "multi ema"])
def test_torchs_averaged_model_takes_our_functions(way, build):
    model = build()
    averages = [torchs.AveragedModel(model, **WAYS[way](library)) for library in (ours, torchs)]
    for step in range(4):
        train(model, step)
        for average in averages:
            average.update_parameters(model)
    assert_same(*averages)


@MODELS
@pytest.mark.parametrize(("before", "after"), [(ours, torchs), (torchs, ours)])
def test_states_are_exchanged_with_torch(build, before, after):
    model = build()
    first, second = before.AveragedModel(model), after.AveragedModel(build())
    for step in range(3):
        train(model, step)
        first.update_parameters(model)
    second.load_state_dict(first.state_dict())
    for average in (first, second):
        average.update_parameters(model)
    assert first.state_dict().keys() == second.state_dict().keys()
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


@given(weights=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20), decay=st.floats(0, 1))
def test_it_is_the_mean_or_the_sum_with_falling_weights(weights, decay):
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    functions = [{}, {"avg_fn": get_ema_avg_fn(decay)}, {"multi_avg_fn": get_ema_multi_avg_fn(decay)}]
    averages = [AveragedModel(model, **function) for function in functions]
    for weight in weights:
        nn.init.constant_(model.weight, weight)
        for average in averages:
            average.update_parameters(model)
    ema = weights[0]
    for weight in weights[1:]:
        ema += (1 - decay) * (weight - ema)
    values = [average.module.weight.item() for average in averages]
    assert values == pytest.approx([sum(weights) / len(weights), ema, ema], rel=1e-12, abs=1e-10)


def test_tied_parameters_are_averaged_once_and_stay_tied():
    model, seen = Tied(), []

    def count(averages, currents, n_averaged):
        seen.extend(averages)

    average = AveragedModel(model, multi_avg_fn=count)
    for _ in range(2):
        average.update_parameters(model)
    assert [tensor.shape for tensor in seen] == [(5, 3), (5,)]
    assert average.module.head.weight is average.module.embed.weight


def test_a_float32_average_of_a_bfloat16_model_does_not_stop():
    model = nn.Linear(1, 1, bias=False).bfloat16()
    averages = {dtype: AveragedModel(model).to(dtype) for dtype in (torch.float32, torch.bfloat16)}
    multi = AveragedModel(model, multi_avg_fn=ours.get_swa_multi_avg_fn()).float()
    for i in range(1000):
        nn.init.constant_(model.weight, 1.0 if i < 500 else 2.0)
        for average in (*averages.values(), multi):
            average.update_parameters(model)
    assert averages[torch.float32].module.weight.item() == pytest.approx(1.5, rel=1e-5)
    assert multi.module.weight.item() == pytest.approx(1.5, rel=1e-5)
    assert averages[torch.bfloat16].module.weight.item() == 1.0  # a 500th is below its last bit


@pytest.mark.parametrize("n_averaged", [1, torch.tensor(1)])
def test_the_mean_of_lists_takes_integers(n_averaged):
    averages, currents = [torch.tensor([2, 3])], [torch.tensor([4, 6])]
    ours.get_swa_multi_avg_fn()(averages, currents, n_averaged)
    assert averages[0].tolist() == [3, 4]


@pytest.mark.parametrize("way", ["default", "ema", "multi ema", "multi swa"])
def test_bools_are_copied(way):
    model = nn.Module()
    model.register_buffer("mask", torch.tensor([True, False]))
    average = AveragedModel(model, **WAYS[way](ours), use_buffers=True)
    for mask in ([True, True], [False, True], [False, False]):
        model.mask.copy_(torch.tensor(mask))
        average.update_parameters(model)
        assert average.module.mask.tolist() == mask


def test_no_graph_is_kept_and_the_model_trains_on():
    model = nn.Linear(2, 1)
    gate, results = torch.tensor(0.5, requires_grad=True), []  # a function may hold anything

    def gated(average, current, n_averaged):
        results.append(average * gate + current * gate)
        return results[-1]

    average = AveragedModel(model, avg_fn=gated)
    for _ in range(3):
        loss = model(torch.ones(1, 2)).sum()
        average.update_parameters(model)
        loss.backward()
    for mine, its in zip(average.parameters(), model.parameters(), strict=True):
        assert mine.is_leaf
        assert mine.requires_grad
        assert mine.grad is None
        assert mine.data_ptr() != its.data_ptr()
    assert [result.requires_grad for result in results] == [False] * 4


def test_a_wrapper_of_the_model_will_do():
    model = linear_and_norm()
    average = AveragedModel(model)
    average.update_parameters(nn.Sequential(model))
    assert_same(average.module, model)


@pytest.mark.parametrize("function", [None, get_ema_multi_avg_fn(0.5)])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda average: pickle.loads(pickle.dumps(average))])
def test_a_copy_goes_on_by_itself(copied, function):
    model = linear_and_norm()
    average = AveragedModel(model, multi_avg_fn=function)
    average.update_parameters(model)
    other = copied(average)
    train(model)
    before = copy.deepcopy(average.state_dict())
    other.update_parameters(model)
    assert average.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in average.state_dict().items())
    average.update_parameters(model)
    assert_same(average, other)


def test_the_output_is_that_of_the_average():
    model = linear_and_norm().eval()
    average = AveragedModel(model, device="cpu")
    inputs = torch.randn(5, 4)
    assert torch.equal(average(inputs), model(inputs))


OTHER_MODELS = [
    (
        nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2)),
        "parameter '0.weight' is of shape (2, 4) in the model and of shape (3, 4) in the average",
    ),
    (
        nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)),
        "parameter '2.weight' is of shape (1, 3) in the model and missing in the average",
    ),
    (nn.Linear(4, 3), "parameter '1.weight' is missing in the model and of shape (3,) in the average"),
    (
        nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False)),
        "buffer '1.running_mean' is missing in the model and of shape (3,) in the average",
    ),
]


@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize(("other", "message"), OTHER_MODELS)
def test_another_model_is_refused_by_the_first_that_differs(other, message, use_buffers):
    average = AveragedModel(linear_and_norm(), use_buffers=use_buffers)
    before = copy.deepcopy(average.state_dict())
    with pytest.raises(ValueError, match=re.escape(f"{message}: pass the model that was averaged")):
        average.update_parameters(other)
    assert all(torch.equal(tensor, before[name]) for name, tensor in average.state_dict().items())


LINEAR = nn.Linear(1, 1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (partial(AveragedModel, [LINEAR]), TypeError, "model is a list: pass a torch.nn.Module"),
        (partial(AveragedModel(LINEAR).update_parameters, {}), TypeError, "model is a dict: pass a torch.nn"),
        (partial(update_bn, LINEAR, []), TypeError, "model is a list: pass a torch.nn.Module"),
        (
            partial(AveragedModel, LINEAR, avg_fn=0.9),
            TypeError,
            "avg_fn=0.9 is a float: pass a function, such as get_ema_avg_fn()",
        ),
        (
            partial(AveragedModel, LINEAR, multi_avg_fn=0.9),
            TypeError,
            "multi_avg_fn=0.9 is a float: pass a function, such as get_ema_multi_avg_fn()",
        ),
        (
            partial(AveragedModel, LINEAR, avg_fn=max, multi_avg_fn=min),
            ValueError,
            "are both given: pass one",
        ),
        (partial(get_ema_avg_fn, 1.5), ValueError, "decay=1.5 must be in [0, 1]: it is how much of the"),
        (partial(get_ema_multi_avg_fn, -0.1), ValueError, "decay=-0.1 must be in [0, 1]"),
        (partial(get_ema_avg_fn, float("nan")), ValueError, "decay=nan must be in [0, 1]"),
        (partial(get_ema_multi_avg_fn, "0.9"), TypeError, "decay='0.9' is a str: pass a number"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


class Batch:
    """What has to be put on a device before a model takes it."""

    def __init__(self, tensor):
        self.tensor = tensor

    def to(self, device):
        return self.tensor.to(device)


def normed():
    return nn.Sequential(nn.BatchNorm1d(4, momentum=0.3), nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.0))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("wrap", "device"),
    [(lambda x: x, None), (lambda x: (x, 1), None), (lambda x: [x], "cpu"), (Batch, torch.device("cpu"))],
    ids=["tensor", "tuple", "list", "to a device"],
)
def test_running_statistics_equal_torchs(wrap, device, training):
    batches = [wrap(torch.randn(8, 4) + 3) for _ in range(5)]
    models = [normed().train(training)]
    models.append(copy.deepcopy(models[0]))
    for library, model in zip((ours, torchs), models, strict=True):
        library.update_bn(iter(batches), model, device)
        assert [module.training for module in model.modules()] == [training] * 5
        assert [model[0].momentum, model[2].momentum] == [0.3, 0.1]
    assert_same(*models)


def failing_loader():
    yield torch.randn(8, 4)
    raise OSError("the disk is gone")


@pytest.mark.parametrize(
    ("loader", "error"),
    [(failing_loader, OSError), (lambda: [torch.randn(8, 5)], RuntimeError), (lambda: None, TypeError)],
)
def test_an_error_leaves_modes_and_momenta_as_they_were(loader, error):
    model = normed()
    model[2].eval()  # frozen in a model that trains
    with pytest.raises(error):
        update_bn(loader(), model)
    assert [module.training for module in model] == [True, True, False, True]
    assert [model[0].momentum, model[2].momentum] == [0.3, 0.1]


def test_without_batch_normalization_nothing_is_read():
    loader = iter([torch.randn(2, 4)])
    update_bn(loader, nn.Linear(4, 1))
    assert len(list(loader)) == 1

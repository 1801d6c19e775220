"""Checkpoints: each part by name, all or nothing, or what fits with a report."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from trainings import bits, loss, net

import surefoot
from surefoot import checkpoint
from surefoot.checkpoint import CheckpointError, CheckpointManager
from surefoot.curves import linear
from surefoot.swa_utils import AveragedModel

BATCH = torch.linspace(-1, 1, 48).reshape(8, 6), torch.arange(8) % 3


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.safetensors"


def build(optimizer: Any = None, model: Any = net, named: bool = True, seed: int = 0) -> dict[str, Any]:
    torch.manual_seed(seed)
    built = model()
    params: Any = built.named_parameters() if named else built.parameters()
    made = optimizer(params) if optimizer else surefoot.AdamW(params, lr=0.01)
    return {"model": built, "optimizer": made}


def step(parts: dict[str, Any], count: int = 3) -> dict[str, Any]:
    parts["model"].eval()  # no dropout
    for _ in range(count):
        parts["optimizer"].zero_grad()
        loss(parts["model"], BATCH).backward()
        parts["optimizer"].step()
    return parts


def state_by_name(parts: dict[str, Any]) -> Any:
    state = parts["optimizer"].state
    return {name: bits(dict(state.get(param, {}))) for name, param in parts["model"].named_parameters()}


def whole(parts: dict[str, Any]) -> Any:
    groups = [
        {key: value for key, value in group.items() if key not in ("params", "param_names")}
        for group in parts["optimizer"].param_groups
    ]
    return bits(dict(parts["model"].state_dict())), state_by_name(parts), bits(groups)


OPTIMIZERS = {
    "surefoot": partial(surefoot.NAdam, lr=0.01),
    "torch": partial(torch.optim.NAdam, lr=0.01),
    "fused": partial(torch.optim.AdamW, lr=0.01, fused=True),
    "momentum": partial(torch.optim.SGD, lr=0.01, momentum=0.9),
}


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_1_each_state_goes_to_the_parameter_of_its_name(kind: str, named: bool, path: Path) -> None:
    """Whatever order the parameters are in: a permutation of equal shapes takes an equal next step."""

    def reordered(params: Any) -> Any:
        return OPTIMIZERS[kind](list(params)[::-1])

    saved = step(build(OPTIMIZERS[kind], Square, named))
    checkpoint.save(path, **saved)
    fresh = build(reordered, Square, named, seed=1)
    report = checkpoint.load(path, **fresh)
    assert report.complete
    assert len(report.loaded) == 12
    for parts in (saved, fresh):
        step(parts, 1)
    assert whole(fresh)[:2] == whole(saved)[:2]


class Square(nn.Module):
    """Layers of one shape, which only a name can tell apart."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Any) -> Any:
        return self.c(self.b(self.a(x).tanh()).tanh())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("state", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("library", [surefoot, torch.optim], ids=lambda library: library.__name__)
def test_3_state_keeps_its_dtype_whatever_the_parameters_is(
    library: Any, state: Any, dtype: Any, path: Path
) -> None:
    model = nn.Linear(2, 1, dtype=dtype)
    optimizer = library.Adam(model.parameters())
    for param in model.parameters():
        param.grad = torch.ones_like(param)
    optimizer.step()
    for entry in optimizer.state.values():
        entry["exp_avg"] = torch.full_like(entry["exp_avg"], 1 / 3, dtype=state)
    checkpoint.save(path, model=model, optimizer=optimizer)
    other = nn.Linear(2, 1, dtype=dtype)
    again = library.Adam(other.parameters())
    checkpoint.load(path, model=other, optimizer=again)
    parts = [{"model": model, "optimizer": optimizer}, {"model": other, "optimizer": again}]
    assert whole(parts[0])[:2] == whole(parts[1])[:2]


def test_every_part_comes_back(path: Path) -> None:
    def everything(seed: int) -> dict[str, Any]:
        parts = build(seed=seed)
        parts["scheduler"] = surefoot.Scheduler(parts["optimizer"], lr=linear(10), weight_decay=linear(20))
        parts["scaler"] = torch.amp.GradScaler("cpu", init_scale=2.0 ** (8 + seed))
        parts["ema"] = AveragedModel(parts["model"])
        return parts

    saved, fresh = everything(0), everything(1)
    step(saved)
    saved["scheduler"].step()
    saved["ema"].update_parameters(saved["model"])
    checkpoint.save(path, **saved, extra={"epoch": 3, "best": (0.5, None)})
    report = checkpoint.load(path, **fresh)
    assert report.extra == {"epoch": 3, "best": (0.5, None)}
    assert whole(fresh) == whole(saved)
    for name in ("scheduler", "scaler", "ema"):
        assert bits(dict(fresh[name].state_dict())) == bits(dict(saved[name].state_dict()))
        assert any(loaded.startswith(name) for loaded in report.loaded)
    assert str(report) == f"loaded: {len(report.loaded)}"


def test_2_hyperparameters_are_the_saved_ones_or_mine(path: Path) -> None:
    saved = step(build())
    scheduler = surefoot.Scheduler(saved["optimizer"], lr=linear(10))
    scheduler.set(5)
    checkpoint.save(path, **saved, scheduler=scheduler)
    for hyper, lr in (("saved", 0.005), ("mine", 0.5)):
        fresh = build(partial(surefoot.AdamW, lr=1.0, capturable=True, weight_decay=0.3))
        again = surefoot.Scheduler(fresh["optimizer"], lr=linear(10))
        checkpoint.load(path, **fresh, scheduler=again, hyper=hyper)  # type: ignore[arg-type]
        (group,) = fresh["optimizer"].param_groups
        assert (group["lr"], group["weight_decay"]) == (lr, 0.01 if hyper == "saved" else 0.3)
        assert group["capturable"]  # how a step is executed is never the file's
        assert state_by_name(fresh) == state_by_name(saved)
        again.set(6)
        assert group["lr"] == pytest.approx(lr * 0.8)


def test_groups_of_ones_own_take_the_state(path: Path) -> None:
    def halves(params: Any) -> Any:
        params = list(params)
        return surefoot.AdamW([{"params": params[:3], "lr": 0.5}, {"params": params[3:]}])

    saved = step(build())
    checkpoint.save(path, **saved)
    fresh = build(halves)
    with pytest.raises(
        CheckpointError, match=r"it has 1 parameter groups, this optimizer 2; .*pass hyper='mine'"
    ):
        checkpoint.load(path, **fresh)
    checkpoint.load(path, **fresh, hyper="mine")
    assert state_by_name(fresh) == state_by_name(saved)
    assert [group["lr"] for group in fresh["optimizer"].param_groups] == [0.5, 0.001]


def test_parts_of_groups_are_taken_up(path: Path) -> None:
    saved = step(build())
    saved["optimizer"].set("0.*", lr=0.5)
    saved["optimizer"].freeze("4.weight")
    checkpoint.save(path, **saved)
    for named in (True, False):
        fresh = build(named=named)
        checkpoint.load(path, **fresh)
        assert whole(fresh) == whole(saved)
        assert [len(group["params"]) for group in fresh["optimizer"].param_groups] == [4, 2]


def test_6_what_fits_is_loaded_and_the_rest_is_said(path: Path) -> None:
    def other() -> nn.Module:
        model = net()
        model[4] = nn.Linear(8, 5)  # another number of classes
        model.append(nn.Linear(5, 3))
        model[1].double()
        return model

    saved = step(build())
    checkpoint.save(path, **saved)
    fresh = build(model=other, seed=1)
    fresh["optimizer"].remove("0.bias")
    before = whole(fresh)
    with pytest.raises(
        CheckpointError, match=rf"{path} does not fit: it lacks model/5.weight.*strict=False loads what fits"
    ):
        checkpoint.load(path, **fresh)
    assert whole(fresh) == before
    report = checkpoint.load(path, **fresh, strict=False)
    assert report.missing == ["model/5.weight", "model/5.bias", "optimizer/5.weight", "optimizer/5.bias"]
    assert report.left_over == ["optimizer/0.bias"]
    assert report.differs[0] == "model/4.weight is torch.float32 (3, 8) there, torch.float32 (5, 8) here"
    assert report.differs[2] == "optimizer/4.weight has exp_avg (3, 8), exp_avg_sq (3, 8) there, (5, 8) here"
    assert "model/1.weight was cast from torch.float32 to torch.float64" in report.notes
    assert "optimizer: its groups are others, hyperparameters are yours" in report.notes
    assert "missing: model/5.weight" in str(report)
    assert torch.equal(fresh["model"][0].weight, saved["model"][0].weight)
    assert set(state_by_name(fresh)["0.weight"]) == {"step", "exp_avg", "exp_avg_sq"}
    assert state_by_name(fresh)["4.weight"] == {}


def test_the_state_of_another_optimizer_is_moved_where_it_means_the_same(path: Path) -> None:
    saved = step(build(partial(surefoot.AdamW, lr=0.01)))
    checkpoint.save(path, **saved)
    fresh = build(partial(surefoot.NAdam, lr=0.5))
    with pytest.raises(
        CheckpointError,
        match="the optimizer: it was saved by AdamW, this optimizer is NAdam: pass strict=False",
    ):
        checkpoint.load(path, **fresh)
    report = checkpoint.load(path, **fresh, strict=False)
    assert "optimizer: step, exp_avg, exp_avg_sq of AdamW; mu_product from step" in report.notes
    assert fresh["optimizer"].param_groups[0]["lr"] == 0.5  # AdamW's would mean something else
    step(fresh)
    with pytest.raises(
        CheckpointError, match=r"state of AdamW .* means nothing to Lion: leave the optimizer out"
    ):
        checkpoint.load(path, **build(partial(surefoot.Lion, lr=0.01)), strict=False)


@pytest.mark.parametrize("library", [surefoot, torch.optim], ids=lambda library: library.__name__)
def test_without_names_parameters_are_matched_by_place(library: Any, path: Path) -> None:
    params = [torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)]
    for param in params:
        param.grad = torch.full_like(param, 2.0)
    optimizer = library.Adam(params)
    optimizer.step()
    checkpoint.save(path, optimizer=optimizer)
    again = library.Adam([torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)])
    report = checkpoint.load(path, optimizer=again)
    assert report.notes == ["optimizer: parameters were matched by place, because there are no names"]
    assert bits(again.state_dict()) == bits(optimizer.state_dict())
    for shapes, message in (
        ([3, 2], r"optimizer/0 has exp_avg \(2,\), exp_avg_sq \(2,\) there, \(3,\) here"),
        ([2], r"it has groups of \[2\] parameters without names, this optimizer of \[1\]"),
    ):
        other = library.Adam([torch.ones(shape, requires_grad=True) for shape in shapes])
        with pytest.raises(CheckpointError, match=message):
            checkpoint.load(path, optimizer=other)
        assert not other.state


def test_lbfgs_keeps_its_lists(path: Path) -> None:
    model = nn.Linear(6, 3)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)

    def closure() -> Any:
        optimizer.zero_grad()
        value = loss(model, BATCH)
        value.backward()
        return value

    optimizer.step(closure)
    checkpoint.save(path, model=model, optimizer=optimizer)
    other = nn.Linear(6, 3)
    again = torch.optim.LBFGS(other.parameters(), max_iter=3)
    checkpoint.load(path, model=other, optimizer=again)
    assert bits(again.state_dict()) == bits(optimizer.state_dict())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scheduler"}, "it lacks scheduler"),
        ({"ema"}, "it lacks ema"),
    ],
)
def test_a_part_that_is_not_in_the_file_is_an_error(given: set[str], message: str, path: Path) -> None:
    parts = build()
    checkpoint.save(path, **parts)
    parts |= {name: AveragedModel(parts["model"]) for name in given}
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(path, **parts)
    assert checkpoint.load(path, **parts, strict=False).missing == [*given]
    assert checkpoint.load(path, model=parts["model"]).complete  # what is not asked for stays where it is


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda path, parts: checkpoint.load(path, **parts, hyper="theirs"), "hyper='theirs' must be"),
        (
            lambda path, parts: checkpoint.load(
                path,
                model=parts["model"],
                optimizer=surefoot.AdamW([*parts["model"].parameters(), nn.Parameter(torch.ones(7))]),
            ),
            r"shapes \[\(7,\)\] that are not the model's",
        ),
        (lambda path, parts: CheckpointManager(path.parent, keep=0), "keep=0 must be at least 1"),
        (lambda path, parts: CheckpointManager(path.parent, mode="low"), "mode='low' must be 'min' or 'max'"),
    ],
)
def test_mistakes_are_named(mistake: Any, message: str, path: Path) -> None:
    parts = build()
    checkpoint.save(path, **parts)
    before = whole(parts)
    with pytest.raises(ValueError, match=message):
        mistake(path, parts)
    assert whole(parts) == before


def test_names_have_no_prefix_of_what_a_model_is_wrapped_in(path: Path) -> None:
    saved = step(build())
    compiled = torch.compile(saved["model"], backend="eager")
    checkpoint.save(path, model=compiled, optimizer=saved["optimizer"])
    fresh = build(seed=1)
    assert checkpoint.load(path, **fresh).complete
    assert whole(fresh) == whole(saved)


def test_saving_and_loading_leave_gradients_and_identities(path: Path) -> None:
    parts = step(build())
    params = list(parts["model"].parameters())
    grads, before = [param.grad for param in params], copy.deepcopy(whole(parts))
    checkpoint.save(path, **parts)
    assert whole(parts) == before
    checkpoint.load(path, **parts)
    assert whole(parts) == before
    assert all(param.grad is grad for param, grad in zip(params, grads, strict=True))
    assert [id(param) for param in parts["model"].parameters()] == [id(param) for param in params]


PEAK = """
import resource, sys, torch, surefoot
from surefoot import checkpoint
params = [torch.nn.Parameter(torch.zeros(1 << 20)) for _ in range(24)]
optimizer = surefoot.AdamW([(f"layer{i}", param) for i, param in enumerate(params)])
optimizer.init_state()
if sys.argv[2] == "save":
    checkpoint.save(sys.argv[1], optimizer=optimizer)
else:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    checkpoint.load(sys.argv[1], optimizer=optimizer)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_loading_takes_little_more_memory_than_what_is_loaded(path: Path) -> None:
    """Of 192 MiB: in kilobytes, by the process's largest size."""
    command = [sys.executable, "-c", PEAK, str(path)]
    subprocess.run([*command, "save"], check=True)
    more = int(subprocess.run([*command, "load"], check=True, capture_output=True, text=True).stdout)
    assert more < 24 * 1024


class WithHook(nn.Module):
    """Saves and loads its weight in another form."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.register_state_dict_post_hook(
            lambda m, state, prefix, *_: state.update({f"{prefix}weight": state[f"{prefix}weight"] * 2})
        )
        self.register_load_state_dict_pre_hook(
            lambda m, state, prefix, *_: state.update({f"{prefix}weight": state[f"{prefix}weight"] / 2})
        )


class Counting(nn.Module):
    """Its extra state is a tensor."""

    calls = 0

    def get_extra_state(self) -> torch.Tensor:
        return torch.tensor(self.calls)

    def set_extra_state(self, state: torch.Tensor) -> None:
        self.calls = int(state)


def test_a_module_loads_in_its_own_way(path: Path) -> None:
    saved, fresh = nn.Sequential(WithHook(), Counting()), nn.Sequential(WithHook(), Counting())
    saved[0].weight.data.fill_(3.0)
    saved[1].calls = 7
    checkpoint.save(path, model=saved)
    assert checkpoint.load(path, model=fresh).complete
    assert fresh[0].weight.tolist() == [3.0, 3.0]
    assert fresh[1].calls == 7


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return nn.Linear(2, 2)


def repeated() -> nn.Module:
    model = nn.Linear(2, 2)
    model.weight = nn.Parameter(torch.ones(1, 2).expand(2, 2))
    return model


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (on_meta, r"model/weight is on meta: call model.to_empty\(device=...\) before it is loaded"),
        (lambda: nn.LazyLinear(2), "model/weight has no shape yet: run a batch before it is loaded"),
        (repeated, r"model/weight repeats its memory \(expand\)"),
    ],
)
def test_what_cannot_be_loaded_into_is_named(target: Any, message: str, path: Path) -> None:
    checkpoint.save(path, model=nn.Linear(2, 2))
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(path, model=target())


def test_what_is_one_tensor_here_must_be_one_there(path: Path) -> None:
    def model(tied: bool) -> nn.Module:
        made = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        if tied:
            made[1].weight = made[0].weight
        return made

    checkpoint.save(path, model=model(True))
    assert checkpoint.load(path, model=model(False)).complete
    checkpoint.save(path, model=model(False))
    with pytest.raises(
        CheckpointError, match=r"model/1.weight and 0.weight are two tensors there, and one here"
    ):
        checkpoint.load(path, model=model(True))


def test_state_that_has_nothing_in_the_file_stays(path: Path) -> None:
    saved = step(build())
    checkpoint.save(path, **saved)
    fresh = step(build(model=lambda: net().append(nn.Linear(3, 3))), 1)
    before = state_by_name(fresh)
    report = checkpoint.load(path, **fresh, strict=False)
    assert "optimizer/5.weight" in report.missing
    assert state_by_name(fresh)["5.weight"] == before["5.weight"]
    assert state_by_name(fresh)["0.weight"] == state_by_name(saved)["0.weight"]


def test_names_on_one_side_are_not_guessed(path: Path) -> None:
    saved = step(build(named=False))
    checkpoint.save(path, **saved)
    fresh = build(named=False)
    with pytest.raises(CheckpointError, match=r"only one side has names of parameters: pass model=\.\.\."):
        checkpoint.load(path, optimizer=fresh["optimizer"])
    assert "matched by place" in str(checkpoint.load(path, optimizer=fresh["optimizer"], strict=False))


@pytest.mark.parametrize("library", [surefoot, torch.optim], ids=lambda library: library.__name__)
def test_where_hyperparameters_are_mine_a_schedule_has_my_base(library: Any, path: Path) -> None:
    def schedule(optimizer: Any) -> Any:
        return library.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch))

    saved = build(partial(library.AdamW, lr=1e-3))
    scheduler = schedule(saved["optimizer"])
    step(saved, 1)
    scheduler.step()
    checkpoint.save(path, **saved, scheduler=scheduler)
    for optimizer, settings in ((library.AdamW, {"hyper": "mine"}), (library.NAdam, {"strict": False})):
        fresh = build(partial(optimizer, lr=0.1))
        again = schedule(fresh["optimizer"])
        checkpoint.load(path, **fresh, scheduler=again, **settings)
        fresh["optimizer"].step()
        again.step()
        assert fresh["optimizer"].param_groups[0]["lr"] == pytest.approx(0.1 / 3)


def test_a_part_of_another_class_is_left_alone(path: Path) -> None:
    parts = build()
    checkpoint.save(path, **parts, scheduler=surefoot.lr_scheduler.StepLR(parts["optimizer"], 3, gamma=0.5))
    fresh = build()
    other = surefoot.lr_scheduler.ExponentialLR(fresh["optimizer"], 0.9)
    before = other.state_dict()
    report = checkpoint.load(path, **fresh, scheduler=other, strict=False)
    assert report.differs == ["scheduler is StepLR there, ExponentialLR here"]
    assert "scheduler" not in report.loaded
    assert other.state_dict() == before


def test_a_load_that_does_not_fit_in_the_end_changes_nothing(path: Path) -> None:
    def sequence(optimizer: Any, parts: int) -> Any:
        schedulers = [surefoot.lr_scheduler.ExponentialLR(optimizer, 0.9) for _ in range(parts)]
        return surefoot.lr_scheduler.SequentialLR(optimizer, schedulers, list(range(1, parts)))

    saved = step(build())
    checkpoint.save(path, **saved, scheduler=sequence(saved["optimizer"], 2))
    fresh = step(build(seed=1), 1)
    scheduler = sequence(fresh["optimizer"], 3)
    before = whole(fresh)
    with pytest.raises(
        CheckpointError, match=r"the scheduler: .* was made of 2, this one is of 3.*Nothing was changed"
    ):
        checkpoint.load(path, **fresh, scheduler=scheduler)
    assert whole(fresh) == before


# A folder of them


def test_the_last_and_the_best_are_kept(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path / "runs", keep=2, mode="max")
    assert (manager.last(), manager.best(), manager.paths()) == (None, None, [])
    for step_, metric in ((1, 0.1), (2, 0.9), (9, math.nan), (10, 0.2), (11, None)):
        with manager.new(step_, metric) as place:
            checkpoint.save(place, extra=step_)
    assert [checkpoint.load(place).extra for place in manager.paths()] == [2, 10, 11]
    best, last = manager.best(), manager.last()
    assert best is not None
    assert last is not None
    assert (checkpoint.load(best).extra, checkpoint.load(last).extra) == (2, 11)
    last.write_bytes(last.read_bytes()[:-3])
    assert manager.last() == manager.paths()[-2]  # the newest that is whole
    (manager.folder / "step-5 metric-best.safetensors").touch()  # somebody else's
    (manager.folder / "step-6.safetensors").mkdir()
    assert len(manager.paths()) == 3
    with pytest.raises(FileNotFoundError, match=r"nothing was saved at .*step-12"), manager.new(12):
        pass
    with pytest.raises(ZeroDivisionError), manager.new(13) as place:
        raise ZeroDivisionError
    assert len(manager.paths()) == 3


def test_a_training_that_went_back_goes_on_from_there(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path, keep=2)
    for step_ in (100, 200, 300, 150):
        with manager.new(step_) as place:
            checkpoint.save(place, extra=step_)
    assert [checkpoint.load(place).extra for place in manager.paths()] == [300, 150]
    last = manager.last()
    assert last is not None
    assert checkpoint.load(last).extra == 150

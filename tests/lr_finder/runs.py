"""Trainings of every kind, each with what it could leave a trace in."""

from collections import UserDict
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler as torchs
from torch.utils.data import DataLoader, IterableDataset
from trainings import Augmented, Placed, dataset, loader, loss, net

import surefoot as optim
from surefoot import Run, lr_scheduler
from surefoot.swa_utils import AveragedModel, get_ema_multi_avg_fn

__all__ = ["RUNS", "Placed", "plain_net", "run_of"]

CRITERION = nn.CrossEntropyLoss()


def plain_net() -> nn.Sequential:
    """Without anything random or running."""
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def run_of(
    build: Callable[[Any], torch.optim.Optimizer] = lambda params: optim.SGD(params, lr=0.01, momentum=0.9),
    model: nn.Module | None = None,
    data: Any = None,
    loss: Any = loss,
    schedule: Any = lambda optimizer: None,
    **settings: Any,
) -> Run:
    """Five batches a pass, with noise from every generator; dropout and running statistics."""
    model = net() if model is None else model
    optimizer = build(model.parameters())
    batches = loader(Augmented(160), batch_size=32) if data is None else data
    if settings.get("ema") is True:
        settings["ema"] = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    if settings.get("step_fn") is not None:
        settings["step_fn"] = settings["step_fn"](model, optimizer)
        loss = None
    return Run(model, optimizer, batches, loss, schedule(optimizer), **settings)


class Stream(IterableDataset[Any]):
    """Samples without a number of them."""

    def __iter__(self) -> Iterator[Any]:
        return iter(dataset(160))


class Bf16(nn.Sequential):
    """In bfloat16."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
        self.bfloat16()

    def forward(self, inputs: Tensor) -> Any:
        return super().forward(inputs.bfloat16()).float()


class Features(nn.Module):
    """Takes keywords and returns what has a loss, as models of Hugging Face do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = plain_net()

    def forward(self, features: Tensor, labels: Tensor) -> Any:
        return SimpleNamespace(loss=CRITERION(self.inner(features), labels), logits=None)


class Empty(nn.Module):
    """With a parameter of no elements, and a scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.none = plain_net(), nn.Parameter(torch.empty(0, 3))
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, inputs: Tensor) -> Any:
        return self.inner(inputs) * self.scale + self.none.sum()


def pairs(**settings: Any) -> DataLoader[Any]:
    return loader(**{"data": dataset(160), "batch_size": 32, **settings})


def of_dicts(kind: Any) -> list[Any]:
    return [kind({"features": x, "labels": y}) for x, y in pairs(shuffle=False)]


def frozen() -> nn.Module:
    model = plain_net()
    model[0].requires_grad_(False)
    return model


def halves(params: Any, lrs: tuple[Any, Any] = (0.01, 0.1), kind: Any = optim.AdamW) -> torch.optim.Optimizer:
    """Two groups."""
    params = list(params)
    return kind([{"params": params[:2], "lr": lrs[0]}, {"params": params[2:], "lr": lrs[1]}])


def loss_alone(model: nn.Module, optimizer: Any) -> Any:
    """A step function that leaves the update to the run."""
    return lambda batch: loss(model, batch)


def whole_update(model: nn.Module, optimizer: Any) -> Any:
    """A step function that updates itself, with a second optimizer in turn."""
    second = torch.optim.Adam(model[0].parameters(), lr=1e-3)

    def step(batch: Any) -> float:
        value = loss(model, batch)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        loss(model, batch).backward()
        second.step()
        second.zero_grad()
        return value.item()

    step.second = second  # type: ignore[attr-defined]
    return step


def scaler() -> Any:
    return torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=7)


def cycle(kind: Any) -> Any:
    return lambda optimizer: kind.OneCycleLR(optimizer, 0.1, total_steps=400)


def sequence(optimizer: Any) -> Any:
    parts = [torchs.LinearLR(optimizer, 0.1, total_iters=20), torchs.CosineAnnealingLR(optimizer, 80)]
    return torchs.SequentialLR(optimizer, parts, [20])


ADAM: Any = lambda params: optim.Adam(params, lr=1e-3)  # noqa: E731

RUNS: dict[str, Callable[[], Run]] = {
    "SGD": run_of,
    "Adam": lambda: run_of(ADAM),
    "torch's AdamW": lambda: run_of(lambda params: torch.optim.AdamW(params, lr=1e-3, amsgrad=True)),
    "tensor lr": lambda: run_of(lambda params: optim.Adam(params, lr=torch.tensor(1e-3))),
    "LBFGS": lambda: run_of(lambda params: optim.LBFGS(params, max_iter=3), plain_net(), pairs()),
    "closure of torch's LBFGS": lambda: run_of(
        lambda params: torch.optim.LBFGS(params, max_iter=2, line_search_fn="strong_wolfe"),
        plain_net(),
        pairs(),
    ),
    "our schedule": lambda: run_of(ADAM, schedule=cycle(lr_scheduler)),
    "torch's schedule": lambda: run_of(ADAM, schedule=cycle(torchs)),
    "a sequence": lambda: run_of(ADAM, schedule=sequence),
    "a plateau": lambda: run_of(ADAM, schedule=lr_scheduler.ReduceLROnPlateau),
    "bf16 autocast": lambda: run_of(ADAM, autocast=torch.bfloat16, scaler=scaler()),
    "fp16 autocast": lambda: run_of(ADAM, autocast=torch.float16, scaler=scaler()),
    "torch's AdamW, scaled": lambda: run_of(
        lambda params: torch.optim.AdamW(params, lr=1e-3), autocast=torch.float16, scaler=scaler()
    ),
    "average": lambda: run_of(ADAM, ema=True),
    "accumulation": lambda: run_of(ADAM, accumulate=2),
    "clipping": lambda: run_of(lambda params: optim.AdamW(params, clip_norm=1.0, stats=True)),
    "two groups": lambda: run_of(halves),
    "a group at rest": lambda: run_of(lambda params: halves(params, (0.0, 0.1), optim.SGD)),
    "refuses infinity": lambda: run_of(lambda params: optim.SGD(params, lr=0.01, nonfinite="raise")),
    "stateful loader": lambda: run_of(ADAM, data=Placed(pairs(shuffle=False))),
    "iterable dataset": lambda: run_of(ADAM, data=pairs(data=Stream(), shuffle=None)),
    "list": lambda: run_of(data=list(pairs(shuffle=False))),
    "one batch": lambda: run_of(model=plain_net(), data=list(pairs(shuffle=False))[:1]),
    "two batches": lambda: run_of(data=pairs(data=dataset(64))),
    "dicts": lambda: run_of(
        model=Features(), data=of_dicts(dict), loss=lambda model, batch: model(**batch).loss
    ),
    "as Hugging Face's": lambda: run_of(
        model=Features(), data=of_dicts(UserDict), loss=lambda model, batch: model(**batch)
    ),
    "losses by name": lambda: run_of(
        loss=lambda model, batch: {"a": loss(model, batch), "b": loss(model, batch)}
    ),
    "several inputs": lambda: run_of(
        model=plain_net(),
        data=[(x, x, y) for x, y in pairs(shuffle=False)],
        loss=lambda model, batch: CRITERION(model(batch[0] + batch[1]), batch[2]),
    ),
    "frozen parameters": lambda: run_of(model=frozen()),
    "bf16 parameters": lambda: run_of(ADAM, model=Bf16()),
    "no elements": lambda: run_of(ADAM, model=Empty()),
    "negative losses": lambda: run_of(loss=lambda model, batch: loss(model, batch) - 1.5),
    "small losses": lambda: run_of(loss=lambda model, batch: 1e-6 * loss(model, batch)),
    "large losses": lambda: run_of(
        lambda params: optim.SGD(params, lr=1e-8), loss=lambda model, batch: 1e6 * loss(model, batch)
    ),
    "step_fn that returns a loss": lambda: run_of(ADAM, step_fn=loss_alone),
    "step_fn that updates": lambda: run_of(step_fn=whole_update),
    "double": lambda: run_of(
        model=plain_net().double(), data=[(x.double(), y) for x, y in pairs(shuffle=False)]
    ),
    "full batch": lambda: run_of(model=plain_net(), data=pairs(batch_size=160)),
}

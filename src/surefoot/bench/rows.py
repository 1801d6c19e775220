"""The rows of the benchmark, each of which builds its sides and times them in turn."""

from __future__ import annotations

import gc
import inspect
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from surefoot import optimizers
from surefoot.bench.results import Result
from surefoot.bench.workloads import EVERY_OPTIMIZER, GROUPS, MODELS, SHAPES, available, counterpart

__all__ = ["Work", "alternate", "select", "works"]

OURS, TRAFFIC = "surefoot", "traffic"

# Which of its loops torch takes; "fused" exists for a few optimizers only.
VARIANTS: dict[str, dict[str, bool]] = {"default": {}, "foreach": {"foreach": True}, "fused": {"fused": True}}

LEAST_SECONDS = 0.02
"""Of one timing, of as many calls as it takes: what the others left in the caches is gone after the first."""

LEAST_ROUNDS = 5

BIG = 10_000_000
"""Parameters from which on memory is the limit, and not what a call costs."""

Side = Callable[[], object]


def alternate(
    sides: Mapping[str, Side], seconds: float, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Time all sides in turn, round after round, so that a slow moment of the machine meets them all.

    Each is warmed up before: its first call compiles and allocates. The garbage collector waits.

    Args:
        sides: What to call, by name.
        seconds: Time for all rounds; at least five are made, whatever they take.
        clock: Seconds since some moment.

    Returns:
        Seconds of one call, by name, for each round.

    Example:
        >>> times = alternate({"a": lambda: sum(range(9)), "b": lambda: sum(range(999))}, seconds=0.01)
        >>> len(times["a"]) == len(times["b"]) >= 5
        True
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        calls = {name: _calls(side, clock) for name, side in sides.items()}
        times: dict[str, list[float]] = {name: [] for name in sides}
        end, rounds = clock() + seconds, 0
        while rounds < LEAST_ROUNDS or clock() < end:
            for name, side in sides.items():
                times[name].append(_timed(side, calls[name], clock) / calls[name])
            rounds += 1
    finally:
        if collects:
            gc.enable()
    return times


def _calls(side: Side, clock: Callable[[], float]) -> int:
    """Calls in one timing, after a first that is not timed."""
    side()
    calls = 1
    while _timed(side, calls, clock) < LEAST_SECONDS:
        calls *= 2
    return calls


def _timed(side: Side, calls: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(calls):
        side()
    return clock() - start


class Sides(NamedTuple):
    """Everything that one row holds in memory.

    Attributes:
        params: What our side updates.
        calls: What to time, by name.
        traffic_bytes: Moved by the kernel without arithmetic, where it is among them.
    """

    params: list[Tensor]
    calls: dict[str, Side]
    traffic_bytes: int | None = None


def step_sides(shape: str, optimizer: str, *, clip: bool = False) -> Sides:
    """Steps of our optimizer and of all torch's variants, each with a state of its own.

    They share parameters and gradients, 0.5 GB each for GPT-2: what they are does not change the time.
    """
    random = torch.Generator().manual_seed(0)
    params = [torch.randn(size, generator=random).requires_grad_() for size in SHAPES[shape]()]
    for param in params:
        param.grad = torch.randn(param.shape, generator=random)
    groups = partial(_groups_of_layers, params) if shape == GROUPS else params.copy
    name, settings = available()[optimizer]
    own = getattr(optimizers, name)(groups(), **settings, **({"clip_norm": 1.0} if clip else {}))
    calls: dict[str, Side] = {OURS: own.step}
    moved = None
    if sum(param.numel() for param in params) >= BIG:
        from surefoot.bench.traffic import Traffic

        own.step()  # makes the buffers
        buffers = own.buffers(own.param_groups[0])
        memory = [(p.grad, p.detach(), *(own.state[p][name] for name in buffers)) for p in params]
        # After our step, not before it: what it leaves in the caches would be ours alone.
        calls[TRAFFIC] = traffic = Traffic(memory, looks=clip)
        moved = traffic.bytes
    for variant, torchs in _torchs(optimizer, groups).items():
        calls[variant] = partial(_clip_and_step, params, torchs) if clip else torchs.step
    return Sides(params, calls, moved)


def _groups_of_layers(params: list[Tensor]) -> list[dict[str, Any]]:
    """A group for each parameter, with the rate of its layer, one of twelve."""
    layers = [i * 12 // len(params) for i in range(len(params))]
    return [{"params": [p], "lr": 1e-3 * 0.75**layer} for p, layer in zip(params, layers, strict=True)]


def _torchs(optimizer: str, groups: Callable[[], list[Any]]) -> dict[str, torch.optim.Optimizer]:
    """Torch's optimizer in every variant that it has; each writes into the groups that it is given."""
    choice = counterpart(optimizer)
    if choice is None:
        return {}
    name, settings = choice
    build = getattr(torch.optim, name)
    known = {*inspect.signature(build).parameters}
    return {v: build(groups(), **settings, **extra) for v, extra in VARIANTS.items() if extra.keys() <= known}


def _clip_and_step(params: list[Tensor], optimizer: torch.optim.Optimizer) -> None:
    # The first call leaves a norm of 1. The later ones take as long: torch multiplies by the coefficient
    # clamped to 1 whatever it is, "to avoid a conditional". On a CPU too it takes its foreach loops by itself.
    clip_grad_norm_(params, 1.0)
    optimizer.step()


def training_sides(model: str, optimizer: str) -> Sides:
    """Whole training steps of equal models on the same batch, with the import of the optimizer swapped."""
    build, batch = MODELS[model]
    calls: dict[str, Side] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        inputs, targets = batch()
        for name, settings in {OURS: {}, **VARIANTS}.items():
            torch.manual_seed(1)
            network = build()
            params: list[Tensor] = [*network.parameters()]
            optim = optimizers if name == OURS else torch.optim
            calls[name] = partial(
                _train, network, getattr(optim, optimizer)(params, **settings), inputs, targets
            )
    return Sides(params, calls)


def _train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, targets: Tensor) -> None:
    optimizer.zero_grad()
    cross_entropy(model(inputs).flatten(0, -2), targets.flatten()).backward()
    optimizer.step()


KINDS: dict[str, Callable[[str, str], Sides]] = {
    "step": step_sides,
    "clip + step": partial(step_sides, clip=True),
    "training step": training_sides,
}


@dataclass(frozen=True)
class Work:
    """One row, to be measured.

    Attributes:
        kind: ``"step"``, ``"clip + step"`` or ``"training step"``.
        shape: Which parameters, or which model.
        optimizer: Which update rule.

    Example:
        >>> result = Work("step", "MLP", "AdamW").measure(seconds=0.01)
        >>> result.tensors, result.parameters, sorted(result.torchs)
        (4, 9610, ['default', 'foreach', 'fused'])
    """

    kind: str
    shape: str
    optimizer: str

    def __str__(self) -> str:
        return f"{self.kind} {self.shape} {self.optimizer}"

    def measure(self, seconds: float) -> Result:
        """Build all sides, time them in turn for about ``seconds``, and drop them."""
        sides = KINDS[self.kind](self.shape, self.optimizer)
        times = alternate(sides.calls, seconds)
        median = {name: statistics.median(rounds) for name, rounds in times.items()}
        return Result(
            self.kind,
            self.shape,
            self.optimizer,
            tensors=len(sides.params),
            parameters=sum(param.numel() for param in sides.params),
            rounds=len(times[OURS]),
            surefoot=median.pop(OURS),
            traffic=median.pop(TRAFFIC, None),
            torchs=median,
            traffic_bytes=sides.traffic_bytes,
        )


def works() -> list[Work]:
    """All rows, for the optimizers that Surefoot has.

    Example:
        >>> [str(work) for work in works() if work.shape == "small GPT"]
        ['training step small GPT AdamW']
    """
    steps = [
        Work("step", shape, optimizer)
        for shape in SHAPES
        for optimizer in (available() if shape in EVERY_OPTIMIZER else ["AdamW"])
    ]
    clips = [Work("clip + step", shape, "AdamW") for shape in SHAPES]
    return steps + clips + [Work("training step", model, "AdamW") for model in MODELS]


def select(pattern: str | None = None) -> list[Work]:
    """The rows whose name has ``pattern`` in it.

    Args:
        pattern: Whole words in any case, with ``*`` for anything, as in ``"adamw"`` or
            ``"gpt-2 small sgd"``; None takes all rows.

    Raises:
        ValueError: No row has it; the message says what there is.

    Example:
        >>> [str(work) for work in select("training * mlp")]
        ['training step MLP AdamW', 'training step 24-layer MLP AdamW']
    """
    every = works()
    if pattern is None:
        return every
    wanted = f"* {pattern.lower()} *"
    chosen = [work for work in every if fnmatchcase(f" {str(work).lower()} ", wanted)]
    if not chosen:
        kinds, shapes, rules = (
            ", ".join(dict.fromkeys(names))
            for names in zip(*((work.kind, work.shape, work.optimizer) for work in every), strict=True)
        )
        raise ValueError(
            f"no row has {pattern!r} in its name, which is made of a kind ({kinds}), a shape ({shapes}) "
            f"and an optimizer ({rules})"
        )
    return chosen

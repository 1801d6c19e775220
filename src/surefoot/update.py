"""One update of the weights: gradients of some batches, and the step."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from numbers import Real
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from surefoot.batch import move
from surefoot.lr_scheduler.base import skipped_by_scaler
from surefoot.optimizers.step import LastStep
from surefoot.run import Run

__all__ = ["NonFiniteLossError", "Policy", "Update", "loss_of", "rates", "update"]

Policy = Literal["raise", "skip", "propagate"]


class NonFiniteLossError(ArithmeticError):
    """The loss of a batch is infinite or NaN."""


class Update(NamedTuple):
    """What one update was; tensors are detached, and where they were computed: reading one is the reader's wait.

    Attributes:
        loss: The loss before the update, 0-dim: the mean over the batches, each weighted with what it holds.
        losses: The same of each loss that has a name.
        applied: Whether the optimizer stepped, and did not skip it.
        samples: What the batches hold, as ``run.count`` counts.
        lr: The learning rate of each group.
        last_step: What the step measured, if a Surefoot optimizer took one.
    """

    loss: Tensor
    losses: dict[str, Tensor]
    applied: bool
    samples: float
    lr: tuple[float | Tensor, ...] = ()
    last_step: LastStep | None = None


def update(run: Run, batches: Sequence[Any], nonfinite: Policy = "propagate") -> Update:
    """Update the weights of a run once, on some batches.

    The gradient is that of all batches together: the mean loss of each is weighted with its share of what they hold, so
    that any split of a batch equals the batch; one that holds nothing is left out. The model is put in training mode if
    it is not: modules in it that were put in evaluation mode stay so. Scheduler and counters are the caller's.

    Args:
        run: Whose model, optimizer, loss, scaler and average to use.
        batches: At least one; they are moved to where the optimizer's first parameter is.
        nonfinite: What to do where a loss is infinite or NaN: ``"raise"``; ``"skip"``: step not; ``"propagate"``: do not
            look. A loss on another device than the CPU is not looked at: that would be to wait for it.

    Raises:
        NonFiniteLossError: A loss is not finite, with ``"raise"``. Weights and the optimizer's state are as before; buffers, such
            as running statistics, have seen the batch.
        TypeError: The loss is no tensor, nor has any.
        ValueError: It is no scalar, or depends on no parameter that is trained; the batches hold nothing.

    Example:
        >>> import surefoot
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> optimizer = surefoot.SGD(model.parameters(), lr=0.1)
        >>> run = Run(model, optimizer, [], lambda model, x: model(x).mean())
        >>> before = model.weight.item()
        >>> done = update(run, [torch.tensor([[1.0], [2.0]]), torch.tensor([[6.0]])])
        >>> done.samples, round(before - model.weight.item(), 6)  # 0.1 times the mean of 1, 2 and 6
        (3.0, 0.3)
    """
    optimizer = run.optimizer
    if not run.model.training:
        run.model.train()
    parts, samples = _shares(run, batches)
    lr = tuple([_kept(group["lr"]) for group in optimizer.param_groups])
    counter: Any = optimizer if hasattr(optimizer, "updates") else _Counter(optimizer)
    before = counter.updates, counter.skipped
    try:
        seen, ready = _gradients(run, parts, nonfinite, counter)
        if ready:
            _step(run, parts, counter, seen)
    finally:
        if counter is not optimizer:
            counter.close()
    applied = counter.updates > before[0]
    taken = applied or counter.skipped > before[1]
    if applied and run.average is not None:
        run.average.update_parameters(run.model)
    last_step = getattr(optimizer, "last_step", None) if taken else None
    return Update(*_mean(seen), applied, samples, lr, last_step)


def loss_of(run: Run, batch: Any) -> Tensor:
    """The loss of a batch, computed as for an update; the mode of the model is the caller's."""
    device = run.optimizer.param_groups[0]["params"][0].device
    return _losses(run, move(batch, device), device)[0]


def _kept(lr: Any) -> float | Tensor:
    """A rate as it is now; a tensor is written to later, and to read it here might be to wait for a GPU."""
    return lr.detach().clone() if isinstance(lr, Tensor) else float(lr)


def rates(run: Run) -> str:
    """The learning rates of a run's groups, for a message."""
    lrs = dict.fromkeys(f"{float(group['lr']):.3g}" for group in run.optimizer.param_groups)
    return ", ".join(lrs)


def _shares(run: Run, batches: Sequence[Any]) -> tuple[list[Part], float]:
    """The batches that hold anything, each with its share of all, and what all hold."""
    counts = [float(run.count(batch)) for batch in batches]
    if len(counts) == 1 and 0 < counts[0] < math.inf:
        return [(batches[0], 1.0)], counts[0]
    samples = sum(counts)
    if not (0 < samples < math.inf and min(counts) >= 0):
        raise ValueError(
            f"count gave {counts} for the batches of an update: each must be at least 0, and one above; leave "
            "empty batches out of the loader"
        )
    return [(batch, n / samples) for batch, n in zip(batches, counts, strict=True) if n > 0], samples


Part = tuple[Any, float]  # a batch, and its share of all
Seen = list[tuple[float, Tensor, dict[str, Tensor]]]  # the share of a batch, its loss, and those with a name


def _gradients(run: Run, parts: list[Part], nonfinite: Policy, counter: Any) -> tuple[Seen, bool]:
    """Compute those of the mean over all parts; the losses, and whether there is something to apply."""
    device = run.optimizer.param_groups[0]["params"][0].device  # a walk over the model takes longer
    seen: Seen = []
    before = counter.updates + counter.skipped
    begun = run.step_fn is None
    if begun:
        run.optimizer.zero_grad()
    for batch, share in parts:
        loss, named = _losses(run, move(batch, device), device)
        seen.append((share, loss.detach(), named))
        if run.step_fn is not None and (counter.updates + counter.skipped > before or not loss.requires_grad):
            if len(parts) > 1:
                raise ValueError(
                    f"step_fn made an update itself, of one batch: with accumulate={run.accumulate} it must return the "
                    "loss with its graph and leave backward() and step() alone; or set accumulate=1"
                )
            return seen, False
        if nonfinite != "propagate" and loss.is_cpu and not math.isfinite(loss.item()):
            if nonfinite == "skip":
                return seen, False
            raise NonFiniteLossError(
                f"the loss is {loss.item()} at step {run.step + 1}, lr {rates(run)}: nothing was updated. Look at this "
                "batch, lower the learning rate or set clip_norm, or pass nonfinite='skip' to go past such batches"
            )
        if not loss.requires_grad:
            raise ValueError(
                "the loss depends on no parameter that requires a gradient: unfreeze some, and compute it without "
                "torch.no_grad() and detach()"
            )
        if not begun:  # what step_fn did before is its own
            run.optimizer.zero_grad()
            begun = True
        weighted = loss if share == 1.0 else loss * share
        (weighted if run.scaler is None else run.scaler.scale(weighted)).backward()
    return seen, True


def _step(run: Run, parts: list[Part], counter: Any, seen: Seen) -> None:
    """Apply the gradients that are there."""
    if _needs_closure(type(run.optimizer).step):
        known = [seen]

        def closure() -> Tensor:
            return _mean(known.pop() if known else _gradients(run, parts, "propagate", counter)[0])[0]

        run.optimizer.step(closure)  # type: ignore[arg-type]
    elif run.scaler is not None:
        run.scaler.step(run.optimizer)
        run.scaler.update()
    else:
        run.optimizer.step()


@cache
def _needs_closure(step: Callable[..., Any]) -> bool:
    """Whether a step evaluates the loss again, as that of LBFGS."""
    parameters = inspect.signature(step).parameters
    return "closure" in parameters and parameters["closure"].default is inspect.Parameter.empty


def _losses(run: Run, batch: Any, device: torch.device) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss to minimise, and those that have a name."""
    if run.autocast is not None:
        with torch.autocast(device.type, dtype=run.autocast):
            given = _given(run, batch)
    else:
        given = _given(run, batch)
    if isinstance(given, Tensor):
        return _scalar(given), {}
    if hasattr(given, "loss"):  # as Hugging Face's, which are mappings too
        return _scalar(given.loss), {}
    if not isinstance(given, Mapping):
        return _scalar(given), {}
    named = {str(name): _scalar(value, f"the loss {name!r}") for name, value in given.items()}
    if not named:
        raise ValueError("the losses are an empty dict: return at least one")
    loss = named["loss"] if "loss" in named else sum(named.values(), torch.zeros(()))
    return loss, {name: value.detach() for name, value in named.items()}


def _given(run: Run, batch: Any) -> Any:
    return run.step_fn(batch) if run.step_fn is not None else run.loss(run.model, batch)  # type: ignore[misc]


def _scalar(loss: Any, what: str = "the loss") -> Tensor:
    if isinstance(loss, Tensor) and loss.ndim == 0:
        return loss
    if isinstance(loss, Real):
        return torch.tensor(float(loss))
    if not isinstance(loss, Tensor):
        raise TypeError(
            f"{what} is a {type(loss).__name__}: return a scalar tensor, a dict of them, or what has one as .loss"
        )
    if loss.numel() != 1:
        raise ValueError(f"{what} has the shape {tuple(loss.shape)}: return one number, such as its mean()")
    return loss.reshape(())


def _mean(seen: Seen) -> tuple[Tensor, dict[str, Tensor]]:
    """The losses of all batches together."""
    if len(seen) == 1:
        return seen[0][1:]
    sums: dict[str, Tensor] = {}
    for share, _, named in seen:
        for name, value in named.items():
            sums[name] = value * share + sums.get(name, 0.0)
    return torch.stack([loss * share for share, loss, _ in seen]).sum(), sums


class _Counter:
    """Counts the steps of an optimizer by a hook; Surefoot's count their own, by the same names."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.updates = self.skipped = 0
        self.close = optimizer.register_step_post_hook(self._note).remove

    def _note(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if skipped_by_scaler(optimizer):
            self.skipped += 1
        else:
            self.updates += 1

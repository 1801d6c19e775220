"""Averages of weights: the mean of many steps (SWA), or one that forgets (EMA), and the schedule that goes with them.

Izmailov et al., 2018 (https://arxiv.org/abs/1803.05407).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import partial
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.modules.batchnorm import _BatchNorm

from surefoot import checks
from surefoot.lr_scheduler.swa import SWALR

__all__ = [
    "SWALR",
    "AveragedModel",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
    "update_bn",
]

Average = Callable[[Tensor, Tensor, Tensor | int], Tensor]
MultiAverage = Callable[[list[Tensor], list[Tensor], Tensor | int], None]


@torch.no_grad()
def _ema(decay: float, ema_param: Tensor, current_param: Tensor, num_averaged: Tensor | int) -> Tensor:
    return decay * ema_param + (1 - decay) * current_param


@torch.no_grad()
def _ema_multi(
    decay: float, ema_params: list[Tensor], current_params: list[Tensor], num_averaged: Tensor | int
) -> None:
    if _can_lerp(ema_params):
        torch._foreach_lerp_(ema_params, current_params, 1 - decay)
    else:
        for ema, current in zip(ema_params, current_params, strict=True):
            ema.copy_(_ema(decay, ema, current, num_averaged))


@torch.no_grad()
def _swa(averaged_param: Tensor, current_param: Tensor, num_averaged: Tensor | int) -> Tensor:
    return averaged_param + (current_param - averaged_param) / (num_averaged + 1)


@torch.no_grad()
def _swa_multi(
    averaged_params: list[Tensor], current_params: list[Tensor], num_averaged: Tensor | int
) -> None:
    if _can_lerp(averaged_params):
        torch._foreach_lerp_(averaged_params, current_params, 1 / (num_averaged + 1))  # type: ignore[arg-type]
    else:
        for averaged, current in zip(averaged_params, current_params, strict=True):
            averaged.copy_(_swa(averaged, current, num_averaged))


def _can_lerp(params: list[Tensor]) -> bool:
    return params[0].is_floating_point() or params[0].is_complex()


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """The exponential moving average of one parameter: ``decay * average + (1 - decay) * current``.

    Args:
        decay: How much of the average stays at each update, in [0, 1].

    Raises:
        ValueError: ``decay`` is out of its range.

    Example:
        >>> import torch
        >>> from surefoot.swa_utils import get_ema_avg_fn
        >>> get_ema_avg_fn(0.75)(torch.tensor(0.0), torch.tensor(8.0), 1)
        tensor(2.)
    """
    return partial(_ema, _checked_decay(decay))


def get_ema_multi_avg_fn(decay: float = 0.999) -> MultiAverage:
    """The exponential moving average of a list of parameters, in place.

    Args:
        decay: How much of the average stays at each update, in [0, 1].

    Raises:
        ValueError: ``decay`` is out of its range.

    Example:
        >>> import torch
        >>> from surefoot.swa_utils import get_ema_multi_avg_fn
        >>> averages = [torch.tensor(0.0), torch.tensor(4.0)]
        >>> get_ema_multi_avg_fn(0.75)(averages, [torch.tensor(8.0), torch.tensor(0.0)], 1)
        >>> averages
        [tensor(2.), tensor(3.)]
    """
    return partial(_ema_multi, _checked_decay(decay))


def get_swa_avg_fn() -> Average:
    """The mean of one parameter over all updates.

    Example:
        >>> import torch
        >>> from surefoot.swa_utils import get_swa_avg_fn
        >>> get_swa_avg_fn()(torch.tensor(1.0), torch.tensor(4.0), 2)
        tensor(2.)
    """
    return _swa


def get_swa_multi_avg_fn() -> MultiAverage:
    """The mean of a list of parameters over all updates, in place. Integers too, where torch's raises an error.

    Example:
        >>> import torch
        >>> from surefoot.swa_utils import get_swa_multi_avg_fn
        >>> averages = [torch.tensor(1.0), torch.tensor(1)]
        >>> for average in averages:
        ...     get_swa_multi_avg_fn()([average], [torch.full_like(average, 5)], 1)
        >>> averages
        [tensor(3.), tensor(3)]
    """
    return _swa_multi


def _checked_decay(decay: float) -> float:
    checks.number("decay", decay)
    if not 0 <= decay <= 1:
        raise ValueError(f"decay={decay!r} must be in [0, 1]: it is how much of the average stays")
    return decay


class AveragedModel(Module):
    """A copy of a model whose parameters are averages of the model's (Izmailov et al., 2018, https://arxiv.org/abs/1803.05407).

    The first :meth:`update_parameters` copies them, each later one takes the model into the average.

    A bfloat16 or float16 average is rounded at each update, as torch's, and soon stops moving: once the model's share is
    below the last of its 8 or 11 bits, nothing arrives. ``AveragedModel(model).float()`` keeps it in float32
    while the model stays as it is; cast it back for use.

    Args:
        model: What is averaged; it is copied, and later only read.
        device: Where the average is kept; where the model is if None.
        avg_fn: Takes the average, the model's parameter and how many are averaged, returns the new average.
        multi_avg_fn: The same for lists of them, of one device and dtype each, in place. Without either it is the mean.
        use_buffers: Average the buffers too; otherwise they are copied at each update. Buffers of bools are always.

    Raises:
        TypeError: ``model`` is not a module, or a function is not one.
        ValueError: Both functions are given.

    Example:
        >>> import torch
        >>> from surefoot.swa_utils import AveragedModel
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> averaged = AveragedModel(model)
        >>> for weight in (1.0, 2.0, 6.0):
        ...     _ = torch.nn.init.constant_(model.weight, weight)
        ...     averaged.update_parameters(model)
        >>> averaged(torch.ones(1)).item()
        3.0
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: Module,
        device: int | str | torch.device | None = None,
        avg_fn: Average | None = None,
        multi_avg_fn: MultiAverage | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        _require_module(model)
        for name, function in (("avg_fn", avg_fn), ("multi_avg_fn", multi_avg_fn)):
            if function is not None and not callable(function):
                kind = type(function).__name__
                raise TypeError(f"{name}={function!r} is a {kind}: pass a function, such as get_ema_{name}()")
        if avg_fn is not None and multi_avg_fn is not None:
            raise ValueError(f"avg_fn={avg_fn!r} and multi_avg_fn={multi_avg_fn!r} are both given: pass one")
        self.module = deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", torch.tensor(0, dtype=torch.long, device=device))
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the averaged model makes of it."""
        return self.module(*args, **kwargs)

    @torch.no_grad()
    def update_parameters(self, model: Module) -> None:
        """Take a model into the average.

        Args:
            model: With the same parameters and buffers in the same order; their names may differ, as in a wrapper.

        Raises:
            ValueError: They differ in number or shape; nothing is changed.
        """
        _require_module(model)
        # Tied parameters come once in each of these lists.
        parameters = pairs("parameter", self.module.named_parameters(), model.named_parameters())
        buffers = pairs("buffer", self.module.named_buffers(), model.named_buffers())
        averaged, copied = ([*parameters, *buffers], []) if self.use_buffers else (parameters, buffers)
        groups: dict[tuple[torch.device, torch.dtype], tuple[list[Tensor], list[Tensor]]] = {}
        first = bool(self.n_averaged == 0)
        for average, current in averaged:
            if first or average.dtype == torch.bool:
                copied.append((average, current))
            else:
                averages, currents = groups.setdefault((average.device, average.dtype), ([], []))
                averages.append(average)
                currents.append(current.to(average))
        for (device, _), (averages, currents) in groups.items():
            self._average(averages, currents, self.n_averaged.to(device, non_blocking=True))
        for average, current in copied:
            average.copy_(current)
        self.n_averaged += 1

    def _average(self, averages: list[Tensor], currents: list[Tensor], n_averaged: Tensor) -> None:
        # The default is two formulas, a rounding apart: torch takes that of lists where it is one kernel.
        in_one = self.avg_fn is None and averages[0].device.type in ("cuda", "xpu", "mtia")
        if self.multi_avg_fn is not None or in_one:
            (self.multi_avg_fn or _swa_multi)(averages, currents, n_averaged)
        else:
            for average, current in zip(averages, currents, strict=True):
                average.copy_((self.avg_fn or _swa)(average, current, n_averaged))


def _require_module(model: object) -> None:
    if not isinstance(model, Module):
        raise TypeError(f"model is a {type(model).__name__}: pass a torch.nn.Module")


def pairs(
    kind: str, averages: Iterable[tuple[str, Tensor]], currents: Iterable[tuple[str, Tensor]]
) -> list[tuple[Tensor, Tensor]]:
    """Each tensor of an average with that of the model, detached.

    Raises:
        ValueError: They differ in number or shape.
    """
    found = []
    for average, current in zip_longest(averages, currents):
        if average is None or current is None or average[1].shape != current[1].shape:
            name = (current or average)[0]
            here, there = (
                "missing" if named is None else f"of shape {tuple(named[1].shape)}"
                for named in (average, current)
            )
            raise ValueError(
                f"{kind} {name!r} is {there} in the model and {here} in the average: pass the model that was averaged, "
                "or begin another AveragedModel"
            )
        found.append((average[1].detach(), current[1].detach()))
    return found


@torch.no_grad()
def update_bn(loader: Iterable[Any], model: Module, device: int | str | torch.device | None = None) -> None:
    """Measure the running statistics of batch normalization anew, in one pass over data.

    An average of weights has activations of its own (Izmailov et al., 2018, https://arxiv.org/abs/1803.05407).
    Modes and momenta are as before afterwards, module by module, also if the loader or the model raises an error.

    Args:
        loader: Batches; of a list or tuple the first element.
        model: An :class:`AveragedModel`, or any other. Without batch normalization nothing is read.
        device: Where to put each batch first.

    Example:
        >>> import torch
        >>> from surefoot.swa_utils import update_bn
        >>> model = torch.nn.BatchNorm1d(1).eval()
        >>> update_bn([torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0], [7.0]])], model)
        >>> model.running_mean, model.training
        (tensor([4.]), False)
    """
    _require_module(model)
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.train()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over batches
        for batch in loader:
            inputs = batch[0] if isinstance(batch, list | tuple) else batch
            model(inputs if device is None else inputs.to(device))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes:
            module.training = mode

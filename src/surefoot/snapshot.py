"""A copy of everything training changes, to put it back bit for bit."""

from __future__ import annotations

import math
import os
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from surefoot import rng
from surefoot.attributes import Attributes, put_back_generator
from surefoot.batch import tensors

__all__ = ["Beside", "Snapshot"]


PARTS = ("_parameters", "_modules")
"""Of a module; what is in them is copied by other means."""

OWN = ("state", "_state", "param_groups", "_plan")
"""Of an optimizer; as above, and the plan of ours sees for itself whether it holds."""


class Snapshot:
    """What a model, its optimizer and the random generators were at this moment.

    Parameters and buffers, the optimizer's state and groups, training modes, which parameters are frozen, every generator, and
    what modules and the optimizer keep in other attributes are copied. Gradients are not: :meth:`set_aside` makes every
    ``grad`` None, until :meth:`restore` gives the very tensors back, unread and unwritten.

    Args:
        model: The model.
        optimizer: Its optimizer, Surefoot's or any other.
        *loaders: Data loaders whose generators count, those of their datasets and samplers too.
        scaler: A ``GradScaler`` in use.
        others: Objects whose attributes count, such as schedulers. Of modules among them, such as a criterion, all but the values
            of parameters does, which only their own optimizer moves.
        folder: Keep the copied tensors in a file there instead of in memory. If None, that is done in the system's temporary
            folder where they would take more than half of the memory that is free.

    Example:
        >>> import surefoot
        >>> model = nn.Linear(2, 1)
        >>> optimizer = surefoot.SGD(model.parameters(), lr=1.0)
        >>> before = model.weight.clone()
        >>> snapshot = Snapshot(model, optimizer)
        >>> snapshot.set_aside()
        >>> model(torch.ones(1, 2)).sum().backward()
        >>> optimizer.step()
        >>> snapshot.restore()
        >>> torch.equal(model.weight, before), model.weight.grad is None
        (True, True)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *loaders: Any,
        scaler: Any = None,
        others: Sequence[Any] = (),
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        self._optimizer, self._loaders, self._scaler = optimizer, loaders, scaler
        self._rng = rng.get_state(*loaders)
        # An iterator that workers live on in, or None: a pass that begins meanwhile has its own.
        self._iterators = [(each, each._iterator) for each in loaders if hasattr(each, "_iterator")]
        together = nn.ModuleList([model, *(other for other in others if isinstance(other, nn.Module))])
        modules = [*together.modules()][1:]
        self._modes = [(module, module.training) for module in modules]
        params = list({id(p): p for p in (*model.parameters(), *_params(optimizer))}.values())
        known = {id(p): p for p in (*params, *together.parameters())}
        self._gradients = [(p, p.grad, p.requires_grad) for p in known.values()]
        self._data = [
            back
            for loader in loaders
            for dataset in _nested(loader)
            for value in vars(dataset).values()
            if (back := put_back_generator(value)) is not None
        ]
        samplers = [
            getattr(loader, name, None) for loader in loaders for name in ("sampler", "batch_sampler")
        ]
        plain = [*samplers, *(other for other in others if not isinstance(other, nn.Module))]
        self._attributes = [
            Attributes(modules, leave=PARTS),
            Attributes([optimizer], leave=OWN),
            Attributes(plain),
        ]
        self._state = _containers(dict(optimizer.state))
        self._groups = [(group, _containers(group)) for group in optimizer.param_groups]
        # Whether this step's gradients are unscaled yet is not in the scaler's state_dict.
        self._unscaled = deepcopy(getattr(scaler, "_per_optimizer_states", None))
        self._scaler_state = None if scaler is None else deepcopy(scaler.state_dict())
        every: list[Tensor] = [
            *params,
            *model.buffers(),
            *tensors(self._state),
            *tensors(optimizer.param_groups),
            *(tensor for attributes in self._attributes for tensor in attributes.tensors),
        ]
        self._tensors = list({id(t): t for t in every}.values())
        copies = (_once(t.detach()).clone() for t in self._tensors)
        if folder is None and not _fits(self._tensors):
            folder = tempfile.gettempdir()
        self._copies: list[Tensor] | Path = list(copies) if folder is None else _store(copies, Path(folder))
        if isinstance(self._copies, Path):
            weakref.finalize(self, self._copies.unlink, missing_ok=True)

    def set_aside(self) -> None:
        """From here on no parameter has a gradient, and no loader is being read."""
        for param, _, _ in self._gradients:
            param.grad = None
        for loader, _ in self._iterators:
            loader._iterator = None

    @torch.no_grad()
    def restore(self) -> None:
        """Put everything back. It may be called again."""
        copies = self._copies if isinstance(self._copies, list) else _stored(self._copies)
        for tensor, copy in zip(self._tensors, copies, strict=True):
            # What was made in inference mode takes no copy outside it.
            with torch.inference_mode() if tensor.is_inference() else nullcontext():
                _once(tensor).copy_(copy)
        for param, grad, required in self._gradients:
            param.grad = grad
            if param.requires_grad != required:
                param.requires_grad = required
        for attributes in self._attributes:
            attributes.restore()
        for module, training in self._modes:  # of a script module it is no attribute
            module.training = training
        optimizer = self._optimizer
        optimizer.state.clear()
        optimizer.state.update(_containers(self._state))
        optimizer.param_groups[:] = [group for group, _ in self._groups]
        for group, saved in self._groups:
            group.clear()
            group.update(_containers(saved))
        if self._scaler is not None:
            self._scaler.load_state_dict(self._scaler_state)
            if self._unscaled is not None:
                self._scaler._per_optimizer_states = deepcopy(self._unscaled)
        for loader, iterator in self._iterators:
            loader._iterator = iterator
        for back in self._data:
            back()
        rng.set_state(self._rng, *self._loaders)


class Beside:
    """Optimizers beside a known one, as a step function may use: those that step inside the block can be put back.

    Each is copied with its parameters just before its first step there, in this thread. Gradients of parameters that nobody
    else puts back become None.

    Example:
        >>> import surefoot
        >>> weight = torch.ones(1, requires_grad=True)
        >>> other = surefoot.SGD([weight], lr=0.1)
        >>> with Beside(surefoot.SGD([torch.ones(1)], lr=0.1)) as beside:
        ...     weight.grad = torch.ones(1)
        ...     _ = other.step()
        ...     beside.restore()
        >>> weight.item()
        1.0
    """

    def __init__(self, known: torch.optim.Optimizer) -> None:
        self._known, self._thread = known, threading.get_ident()
        self._kept: dict[int, tuple[torch.optim.Optimizer, Snapshot]] = {}

    def __enter__(self) -> Beside:
        self._hook = register_optimizer_step_pre_hook(self._note)
        return self

    def __exit__(self, *error: object) -> None:
        self._hook.remove()

    def _note(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if optimizer is self._known or id(optimizer) in self._kept or threading.get_ident() != self._thread:
            return
        self._kept[id(optimizer)] = optimizer, Snapshot(nn.Module(), optimizer)

    def restore(self) -> None:
        """Put them back, and the generators to where they were at the first step of the last one that was noted."""
        for optimizer, snapshot in self._kept.values():
            snapshot.restore()
            for param in _params(optimizer):
                param.grad = None


def _params(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [param for group in optimizer.param_groups for param in group["params"]]


def _nested(loader: Any) -> Iterator[Any]:
    """The dataset of a loader, and that which it is a part of."""
    while hasattr(dataset := getattr(loader, "dataset", None), "__dict__"):
        yield dataset
        loader = dataset


def _containers(tree: Any) -> Any:
    """Nested dicts and lists copied, what is in them shared."""
    if isinstance(tree, dict):
        return {key: _containers(value) for key, value in tree.items()}
    return [_containers(value) for value in tree] if isinstance(tree, list) else tree


def _once(tensor: Tensor) -> Tensor:
    """The tensor without what an ``expand`` repeats: it cannot be written to where it repeats."""
    if tensor.layout != torch.strided:
        return tensor
    return tensor[tuple(slice(1) if stride == 0 else slice(None) for stride in tensor.stride())]


def _fits(tensors: list[Tensor]) -> bool:
    """Whether copies leave half of the memory that is free on their device."""
    needed: dict[torch.device, int] = {}
    for tensor in tensors:
        if tensor.layout == torch.strided:
            needed[tensor.device] = needed.get(tensor.device, 0) + tensor.nbytes
    return all(2 * size <= _free(device) for device, size in needed.items())


def _free(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    known = Path("/proc/meminfo")
    if device.type == "cpu" and known.exists():
        lines = dict(line.split(":", 1) for line in known.read_text().splitlines())
        return 1024 * int(lines["MemAvailable"].split()[0])
    return math.inf  # nobody can be asked


def _store(tensors: Iterator[Tensor], folder: Path) -> Path:
    """One after the other to a file, so that no two are copied at once."""
    handle, name = tempfile.mkstemp(prefix="surefoot-", suffix=".pt", dir=folder)
    try:
        with open(handle, "wb") as file:
            for tensor in tensors:
                torch.save(
                    tensor, file, _use_new_zipfile_serialization=False
                )  # which needs a file of its own
    except BaseException:
        os.unlink(name)
        raise
    return Path(name)


def _stored(path: Path) -> Iterator[Tensor]:
    with open(path, "rb") as file:
        while file.peek(1):
            yield torch.load(file, weights_only=True)

"""The learning-rate range test: try every rate for one step, see where the loss falls fastest.

Smith, 2017, "Cyclical Learning Rates for Training Neural Networks" (https://arxiv.org/abs/1506.01186), section 3.3.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from surefoot import checks, plots
from surefoot.lr_finder.loader_iter import TrainDataLoaderIter, ValDataLoaderIter
from surefoot.progress import track
from surefoot.snapshot import Snapshot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LRFinder", "TrainDataLoaderIter", "ValDataLoaderIter"]


class LRFinder:
    """Learning-rate range test with torch-lr-finder's interface, leaving no trace.

    :meth:`range_test` trains with a rate that grows from batch to batch. :meth:`reset` then gives back
    parameters, buffers, optimizer state, gradients, modes and every random generator bit for bit; an error or
    Ctrl-C in the sweep does so by itself. Groups keep the ratio of their rates.

    Args:
        model: The model.
        optimizer: Its optimizer, without a scheduler.
        criterion: ``criterion(outputs, labels)`` returns the loss.
        device: Where to run; the model's device if None.
        memory_cache: Keep the copy of everything in memory, or else in a file.
        cache_dir: Folder of that file; the system's temporary folder if None.
        amp_backend: ``"torch"`` for mixed precision, or None.
        amp_config: Arguments of ``torch.amp.autocast``.
        grad_scaler: The ``GradScaler``, with ``amp_backend``.

    Attributes:
        history: ``{"lr": [...], "loss": [...]}`` of the last sweep, ``lr`` that of the first group.
        best_loss: The lowest smoothed loss of the last sweep.

    Raises:
        RuntimeError: The optimizer has a scheduler already.
        ValueError: An unknown ``amp_backend``, one without its scaler, a ``cache_dir`` that is no folder, or
            a ``device`` that is none.
        TypeError: A part is something else than it should be.

    Example:
        >>> import surefoot as optim
        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> data = TensorDataset(torch.randn(64, 3), torch.randn(64, 1))
        >>> model = nn.Linear(3, 1)
        >>> finder = optim.LRFinder(model, optim.SGD(model.parameters(), lr=1e-4), nn.MSELoss())
        >>> finder.range_test(DataLoader(data, batch_size=16), end_lr=10, num_iter=50)
        >>> 1e-4 < finder.suggestion() < 10
        True
        >>> finder.reset()
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        criterion: Any,
        device: torch.device | str | None = None,
        memory_cache: bool = True,
        cache_dir: str | os.PathLike[str] | None = None,
        amp_backend: Literal["torch"] | None = None,
        amp_config: dict[str, Any] | None = None,
        grad_scaler: Any = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model is a {type(model).__name__}: pass a torch.nn.Module")
        if not hasattr(optimizer, "param_groups"):
            raise TypeError(f"optimizer is a {type(optimizer).__name__}: pass the optimizer of the model")
        if not callable(criterion):
            raise TypeError(f"criterion={criterion!r} cannot be called: pass a loss of (outputs, labels)")
        known = {id(p) for p in model.parameters()}
        if not any(id(p) in known for group in optimizer.param_groups for p in group["params"]):
            raise ValueError("optimizer has no parameter of model: build it with model.parameters()")
        self.model, self.optimizer, self.criterion = model, optimizer, criterion
        self._check_for_scheduler()
        if amp_backend not in (None, "torch"):
            raise ValueError(f"amp_backend={amp_backend!r} is unknown: pass 'torch' or None")
        if amp_backend and grad_scaler is None:
            raise ValueError(
                "amp_backend='torch' needs grad_scaler: pass the GradScaler of your training loop"
            )
        if amp_backend and not hasattr(grad_scaler, "scale"):
            raise TypeError(f"grad_scaler={grad_scaler!r} is not one: pass a torch.amp.GradScaler")
        if amp_config is not None and not isinstance(amp_config, Mapping):
            raise TypeError(f"amp_config={amp_config!r} must be a dict of arguments of torch.amp.autocast")
        if cache_dir is not None and not os.path.isdir(cache_dir):
            raise ValueError(f"cache_dir={str(cache_dir)!r} is not a folder: create it, or leave it out")
        self.amp_backend, self.amp_config, self.grad_scaler = amp_backend, amp_config or {}, grad_scaler
        self.memory_cache, self.cache_dir = memory_cache, cache_dir
        self.model_device = next((p.device for p in model.parameters()), torch.device("cpu"))
        try:
            self.device = self.model_device if device is None else torch.device(device)
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"device={device!r} is not a device: pass one such as 'cuda:0'") from error
        self.history: dict[str, list[float]] = {"lr": [], "loss": []}
        self.best_loss: float | None = None
        self._snapshot: Snapshot | None = None

    def range_test(
        self,
        train_loader: Any,
        val_loader: Any = None,
        start_lr: float | None = None,
        end_lr: float = 10,
        num_iter: int = 100,
        step_mode: Literal["exp", "linear"] = "exp",
        smooth_f: float = 0.05,
        diverge_th: float = 5,
        accumulation_steps: int = 1,
        non_blocking_transfer: bool = True,
    ) -> None:
        """Sweep the learning rate; the result is in :attr:`history`.

        A second sweep starts from the same state as the first.

        Args:
            train_loader: Batches ``(inputs, labels)``, repeated as needed, or a :class:`TrainDataLoaderIter`.
            val_loader: Read the loss on all of these after each step instead; slow and precise.
            start_lr: First rate of the first group; its own if None.
            end_lr: Last rate of the first group.
            num_iter: Steps from one to the other, at least 2.
            step_mode: Equal factors (``"exp"``) or differences (``"linear"``).
            smooth_f: Share of a new loss in the running average, in [0, 1); 0 for no smoothing.
            diverge_th: Stop when the loss is more than this times the lowest. NaN and infinity stop too.
            accumulation_steps: Batches for each step.
            non_blocking_transfer: Copy to the device without waiting.

        Raises:
            RuntimeError: The optimizer has a scheduler already.
            ValueError: A setting is out of its range, the loader gave no batch, or the first loss is not
                finite. The model is as it was before any sweep.
            TypeError: A setting is not a number, or a loader is not iterable.
        """
        self._check_for_scheduler()
        self.reset()  # the optimizer's own lr is that before a sweep
        if start_lr is None:
            start_lr = float(self.optimizer.param_groups[0]["lr"])
        rates = _rates(start_lr, end_lr, num_iter, step_mode)
        checks.number("smooth_f", smooth_f)
        if not 0 <= smooth_f < 1:
            raise ValueError(f"smooth_f={smooth_f!r} must be in [0, 1)")
        checks.number("diverge_th", diverge_th)
        if not diverge_th > 1:
            raise ValueError(f"diverge_th={diverge_th!r} must be greater than 1")
        accumulation_steps = checks.whole("accumulation_steps", accumulation_steps, 1)
        loaders = [getattr(loader, "data_loader", loader) for loader in (train_loader, val_loader)]
        folder = None if self.memory_cache else self.cache_dir or _temporary_folder()
        self._snapshot = Snapshot(
            self.model, self.optimizer, *loaders, scaler=self.grad_scaler, folder=folder
        )
        self.history, self.best_loss = {"lr": [], "loss": []}, None
        try:
            self.model.to(self.device)
            train = _batches("train_loader", TrainDataLoaderIter, train_loader)
            validation = None if val_loader is None else _batches("val_loader", ValDataLoaderIter, val_loader)
            self._sweep(
                rates, train, validation, smooth_f, diverge_th, accumulation_steps, non_blocking_transfer
            )
        except BaseException:
            self.reset()
            raise

    def _sweep(
        self,
        rates: list[float],
        train: TrainDataLoaderIter,
        validation: ValDataLoaderIter | None,
        smooth_f: float,
        diverge_th: float,
        accumulation_steps: int,
        non_blocking: bool,
    ) -> None:
        groups = self.optimizer.param_groups
        first = float(groups[0]["lr"])
        ratios = [float(group["lr"]) / first if first > 0 else 1.0 for group in groups]
        for i in track(range(len(rates)), len(rates), "Learning-rate range test"):
            for group, ratio in zip(groups, ratios, strict=True):
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rates[i] * ratio)
                else:
                    group["lr"] = rates[i] * ratio
            loss = self._train_batch(train, accumulation_steps, non_blocking)
            if validation is not None:
                loss = self._validate(validation, non_blocking)
            losses = self.history["loss"]
            if not math.isfinite(loss):
                if i == 0:
                    raise ValueError(
                        f"the loss is {loss} at the first batch, lr {rates[0]:g}: the model or the data gives no finite "
                        "loss; check them, or start at a lower start_lr"
                    )
                break
            if losses and smooth_f > 0:
                loss = smooth_f * loss + (1 - smooth_f) * losses[-1]
            self.history["lr"].append(rates[i])
            losses.append(loss)
            self.best_loss = loss if self.best_loss is None else min(self.best_loss, loss)
            # diverge_th times the best, put so that it holds for a negative one too.
            if loss - self.best_loss > (diverge_th - 1) * abs(self.best_loss):
                break

    def _train_batch(
        self, batches: TrainDataLoaderIter, accumulation_steps: int, non_blocking: bool
    ) -> float:
        self.model.train()
        self.optimizer.zero_grad()
        total = 0.0
        for _ in range(accumulation_steps):
            try:
                inputs, labels = next(batches)
            except StopIteration:
                raise ValueError(
                    "train_loader gave no batch: its dataset is empty or smaller than a batch with drop_last=True, "
                    "or it cannot be read a second time; lower num_iter or pass a DataLoader"
                ) from None
            loss = self._loss(inputs, labels, non_blocking) / accumulation_steps
            (self.grad_scaler.scale(loss) if self.amp_backend else loss).backward()
            total += loss.item()
        if self.amp_backend:
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()
        else:
            self.optimizer.step()
        return total

    @torch.no_grad()
    def _validate(self, batches: ValDataLoaderIter, non_blocking: bool) -> float:
        self.model.eval()
        total, samples = 0.0, 0
        for inputs, labels in batches:
            count = len(labels) if hasattr(labels, "__len__") and getattr(labels, "shape", True) else 1
            total += self._loss(inputs, labels, non_blocking).item() * count
            samples += count
        if samples == 0:
            raise ValueError("val_loader gave no batch: its dataset is empty")
        return total / samples

    def _loss(self, inputs: Any, labels: Any, non_blocking: bool) -> Any:
        inputs, labels = (_move(x, self.device, non_blocking) for x in (inputs, labels))
        amp = {"device_type": self.device.type, **self.amp_config}
        with torch.amp.autocast(**amp) if self.amp_backend else nullcontext():
            return self.criterion(self.model(inputs), labels)

    def reset(self) -> None:
        """Give back everything the sweep changed, bit for bit; without a sweep there is nothing to do."""
        if self._snapshot is not None:
            self.model.to(self.model_device)
            self._snapshot.restore()
            self._snapshot = None

    def suggestion(self, skip_start: int = 10, skip_end: int = 5) -> float:
        """The rate where the loss falls fastest against the logarithm of the rate.

        Args:
            skip_start: Points left out at the start, at least 0.
            skip_end: Points left out at the end, at least 0.

        Raises:
            ValueError: A number of points is negative.
            TypeError: It is not a whole number.
            RuntimeError: Too few points are left.
        """
        lrs, losses = self._trimmed(skip_start, skip_end)
        if len(lrs) < 2:
            raise RuntimeError(
                f"Need at least {skip_start + skip_end + 2} iterations to suggest a learning rate, got "
                f"{len(self.history['lr'])}: raise num_iter or lower skip_start and skip_end"
            )
        x = [math.log(lr) for lr in lrs]

        def slope(i: int) -> float:
            before, after = max(i - 1, 0), min(i + 1, len(x) - 1)
            return (losses[after] - losses[before]) / (x[after] - x[before])

        return lrs[min(range(len(x)), key=slope)]

    def plot(
        self,
        skip_start: int = 10,
        skip_end: int = 5,
        log_lr: bool = True,
        show_lr: float | None = None,
        ax: Axes | None = None,
        suggest_lr: bool = True,
    ) -> Axes | tuple[Axes, float]:
        """Draw the loss against the learning rate, and mark the suggestion.

        Args:
            skip_start: Points left out at the start, at least 0.
            skip_end: Points left out at the end, at least 0.
            log_lr: Logarithmic axis.
            show_lr: Another rate to mark.
            ax: Draw here; a new figure is shown if None and there is a screen.
            suggest_lr: Mark the suggestion.

        Returns:
            The axes; with ``suggest_lr`` the pair of axes and suggestion.

        Raises:
            ValueError: A number of points is negative, or ``show_lr`` not positive.
            TypeError: One of them is not a number.
            RuntimeError: Too few points for a suggestion, or none at all.
        """
        suggestion = self.suggestion(skip_start, skip_end) if suggest_lr else None
        lrs, losses = self._trimmed(skip_start, skip_end)
        if not lrs:
            raise RuntimeError(
                f"the history has {len(self.history['lr'])} points, skip_start={skip_start} and skip_end={skip_end} "
                "leave none: run range_test first, or lower skip_start and skip_end"
            )
        if show_lr is not None:
            checks.positive("show_lr", show_lr)
        axes = plots.lr_range(lrs, losses, suggestion=suggestion, show_lr=show_lr, log_lr=log_lr, ax=ax)
        if ax is None:
            plots.show(axes)
        return axes if suggestion is None else (axes, suggestion)

    def _trimmed(self, skip_start: int, skip_end: int) -> tuple[list[float], list[float]]:
        skip_start, skip_end = (
            checks.whole("skip_start", skip_start, 0),
            checks.whole("skip_end", skip_end, 0),
        )
        kept = slice(skip_start, max(len(self.history["lr"]) - skip_end, 0))
        return self.history["lr"][kept], self.history["loss"][kept]

    def _check_for_scheduler(self) -> None:
        if any("initial_lr" in group for group in self.optimizer.param_groups):
            raise RuntimeError(
                "Optimizer already has a scheduler attached to it: run the finder before building the scheduler"
            )


def _rates(start: Any, end: Any, steps: Any, mode: str) -> list[float]:
    steps = checks.whole("num_iter", steps, 2)
    kind = str(mode).lower()
    if kind not in ("exp", "linear"):
        raise ValueError(f"step_mode={mode!r} must be 'exp' or 'linear'")
    checks.number("start_lr", start)
    checks.number("end_lr", end)
    start, end = float(start), float(end)
    if not 0 < start < end < math.inf:
        raise ValueError(
            f"start_lr={start!r} and end_lr={end!r}: the first must be positive and below the second"
        )
    if kind == "linear":
        return [start + (end - start) * i / (steps - 1) for i in range(steps)]
    return [start * (end / start) ** (i / (steps - 1)) for i in range(steps)]


def _batches(name: str, wrap: type[TrainDataLoaderIter], loader: Any) -> Any:
    wrapped = isinstance(loader, TrainDataLoaderIter)
    if wrapped and isinstance(loader, ValDataLoaderIter) == (wrap is ValDataLoaderIter):
        return loader
    if wrapped or not isinstance(loader, Iterable):  # the first never ends, or only once
        raise TypeError(
            f"{name} is a {type(loader).__name__}: pass a DataLoader, an iterable of batches, or a {wrap.__name__}"
        )
    return wrap(loader)


def _move(value: Any, device: torch.device, non_blocking: bool) -> Any:
    if hasattr(value, "to"):
        return value.to(device, non_blocking=non_blocking)
    if isinstance(value, dict):
        return {key: _move(v, device, non_blocking) for key, v in value.items()}
    if isinstance(value, list | tuple):
        moved = [_move(v, device, non_blocking) for v in value]
        return type(value)(*moved) if hasattr(value, "_fields") else type(value)(moved)  # a namedtuple
    return value


def _temporary_folder() -> str:
    import tempfile

    return tempfile.gettempdir()

"""The learning-rate range test: try every rate for one step, see what the loss does.

Smith, 2017, "Cyclical Learning Rates for Training Neural Networks" (https://arxiv.org/abs/1506.01186), section 3.3.
"""

from __future__ import annotations

import math
import os
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from surefoot import checks, plots
from surefoot.batch import move
from surefoot.lr_finder.lent import agreed
from surefoot.lr_finder.loader_iter import TrainDataLoaderIter, ValDataLoaderIter, batches_of, draw
from surefoot.lr_finder.reading import Noise, read_sweep
from surefoot.lr_scheduler.hyperparameters import set_hyperparameter
from surefoot.progress import track
from surefoot.run import Run
from surefoot.snapshot import Snapshot
from surefoot.update import loss_of, update

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LRFinder", "TrainDataLoaderIter", "ValDataLoaderIter"]

TRAINING = 100
"""Updates of the training that a suggestion is for: how long it will be is not known here, and the good rates of most are near."""


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
        >>> inputs = torch.randn(256, 3)
        >>> data = TensorDataset(inputs, inputs.sum(1, keepdim=True))
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
        self._swept = self.history  # what the losses below are of
        self._losses: list[float] = []  # as they were, also one that is not finite and ended it
        self._held_out = False
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
        folder = None if self.memory_cache else self.cache_dir or tempfile.gettempdir()
        self._snapshot = Snapshot(
            self.model,
            self.optimizer,
            *loaders,
            scaler=self.grad_scaler,
            others=[self.criterion],
            folder=folder,
        )
        self.history, self.best_loss = {"lr": [], "loss": []}, None
        self._swept, self._losses, self._held_out = self.history, [], val_loader is not None
        try:
            self._snapshot.set_aside()
            self.model.to(self.device)
            train = batches_of("train_loader", TrainDataLoaderIter, train_loader)
            validation = (
                None if val_loader is None else batches_of("val_loader", ValDataLoaderIter, val_loader)
            )
            scaler = self.grad_scaler if self.amp_backend else None
            run = Run(self.model, self.optimizer, train, self._loss, scaler=scaler, count=_as_one)
            ratios = _ratios(self.optimizer)
            for i in track(range(len(rates)), len(rates), "Learning-rate range test"):
                for group, ratio in zip(self.optimizer.param_groups, ratios, strict=True):
                    set_hyperparameter(group, "lr", rates[i] * ratio)
                window = draw(train, accumulation_steps)
                loss = _updated(run, [move(batch, self.device, non_blocking_transfer) for batch in window])
                if validation is not None and math.isfinite(loss):
                    loss = _held_out(run, validation)
                if self._record(rates[i], agreed(loss), smooth_f, diverge_th):
                    break
        except BaseException:
            self.reset()
            raise

    def _record(self, rate: float, loss: float, smooth_f: float, diverge_th: float) -> bool:
        """Write the loss at a rate down; whether the sweep ends there."""
        self._losses.append(loss if math.isfinite(loss) else math.inf)
        losses = self.history["loss"]
        if not math.isfinite(loss):
            if not losses:
                raise ValueError(
                    f"the loss is {loss} at the first batch, lr {rate:g}: the model or the data gives no finite "
                    "loss; check them, or start at a lower start_lr"
                )
            return True
        if losses and smooth_f > 0:
            loss = smooth_f * loss + (1 - smooth_f) * losses[-1]
        self.history["lr"].append(rate)
        losses.append(loss)
        self.best_loss = loss if self.best_loss is None else min(self.best_loss, loss)
        # diverge_th times the best, put so that it holds for a negative one too.
        return loss - self.best_loss > (diverge_th - 1) * abs(self.best_loss)

    def _loss(self, model: nn.Module, batch: Any) -> Any:
        inputs, labels = batch
        amp = {"device_type": self.device.type, **self.amp_config}
        with torch.amp.autocast(**amp) if self.amp_backend else nullcontext():
            return self.criterion(model(inputs), labels)

    def reset(self) -> None:
        """Give back everything the sweep changed, bit for bit; without a sweep there is nothing to do."""
        if self._snapshot is not None:
            self.model.to(self.model_device)
            self._snapshot.restore()
            self._snapshot = None

    def suggestion(self, skip_start: int = 10, skip_end: int = 5) -> float:
        """The rate for a training of some hundred updates, below where the loss is lowest in the sweep.

        :func:`~surefoot.find_lr` is more precise, and knows schedules and longer trainings.

        Args:
            skip_start: Points left out at the start, at least 0.
            skip_end: Points left out at the end, at least 0.

        Raises:
            ValueError: A number of points is negative.
            TypeError: It is not a whole number.
            RuntimeError: Too few points are left.

        Warns:
            UserWarning: No rate can be told from this sweep, and why; what is returned is only the safest.
        """
        suggestion, doubt = self._read(skip_start, skip_end)
        if doubt:
            _warn(suggestion, doubt)
        return suggestion

    def _read(self, skip_start: int, skip_end: int) -> tuple[float, str]:
        """The rate, and why it is in doubt."""
        lrs = _trimmed(self.history["lr"], skip_start, skip_end)
        if len(lrs) < 2:
            raise RuntimeError(
                f"Need at least {skip_start + skip_end + 2} iterations to suggest a learning rate, got "
                f"{len(self.history['lr'])}: raise num_iter or lower skip_start and skip_end"
            )
        after = self._after
        noise = Noise.along(after)
        changes = [loss - noise.level for loss in after[: len(self.history["lr"])]]
        kept = _trimmed(changes, skip_start, skip_end)
        read = read_sweep([math.log2(lr) for lr in lrs], kept, noise, TRAINING)
        if read.at_end and any(map(noise.risen, after[skip_start + len(lrs) :])):  # left out, but seen
            read = replace(read, at_end=False)
        return 2.0 ** (read.safest if read.doubt else read.best), read.doubt

    @property
    def _after(self) -> list[float]:
        """The loss after the update at each rate of the history; and what ended the sweep, if it was not finite."""
        if self.history is not self._swept:  # one that a user put there
            return self.history["loss"]
        # A batch shows what the updates before it did, unless the loss is read on what is held out.
        return self._losses if self._held_out else [*self._losses[1:], *self._losses[-1:]]

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

        Warns:
            UserWarning: As :meth:`suggestion`; the title says why, too.
        """
        suggestion, doubt = self._read(skip_start, skip_end) if suggest_lr else (None, "")
        lrs, losses = (_trimmed(self.history[name], skip_start, skip_end) for name in ("lr", "loss"))
        if not lrs:
            raise RuntimeError(
                f"the history has {len(self.history['lr'])} points, skip_start={skip_start} and skip_end={skip_end} "
                "leave none: run range_test first, or lower skip_start and skip_end"
            )
        if show_lr is not None:
            checks.positive("show_lr", show_lr)
        axes = plots.lr_range(
            lrs, losses, suggestion=suggestion, doubt=doubt, show_lr=show_lr, log_lr=log_lr, ax=ax
        )
        if ax is None:
            plots.show(axes)
        if suggestion is None:
            return axes
        if doubt:
            _warn(suggestion, doubt)
        return axes, suggestion

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


def _ratios(optimizer: torch.optim.Optimizer) -> list[float]:
    """The rates of the groups as they are, relative to the first."""
    first, *others = (float(group["lr"]) for group in optimizer.param_groups)
    return [1.0, *(other / first if first > 0 else 1.0 for other in others)]


def _updated(run: Run, window: list[Any]) -> float:
    """The loss before an update."""
    try:
        return update(run, window).loss.item()
    except FloatingPointError:  # an optimizer that refuses the gradient
        return math.inf


def _as_one(batch: Any) -> float:
    """Batches of a step count alike, as in torch-lr-finder."""
    return 1.0


@torch.no_grad()
def _held_out(run: Run, batches: ValDataLoaderIter) -> float:
    run.model.eval()
    total, samples = 0.0, 0
    for inputs, labels in batches:
        count = len(labels) if hasattr(labels, "__len__") and getattr(labels, "shape", True) else 1
        total += loss_of(run, (inputs, labels)).item() * count
        samples += count
    if samples == 0:
        raise ValueError("val_loader gave no batch: its dataset is empty")
    return total / samples


def _trimmed(values: list[float], skip_start: int, skip_end: int) -> list[float]:
    skip_start, skip_end = checks.whole("skip_start", skip_start, 0), checks.whole("skip_end", skip_end, 0)
    return values[skip_start : max(len(values) - skip_end, 0)]


def _warn(safest: float, doubt: str) -> None:
    warnings.warn(
        f"no learning rate can be told from this sweep: {doubt} The safest is {safest:.1e}. Sweep other rates, or more "
        "of them (start_lr, end_lr, num_iter), or use surefoot.find_lr",
        stacklevel=3,
    )

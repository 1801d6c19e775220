"""What a search for the learning rate found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from surefoot import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LRFinding", "Sweep", "Trial"]


@dataclass(frozen=True)
class Sweep:
    """Rising rates, an update at each.

    Attributes:
        lr: The rates.
        loss: The loss of the batch before each update, as it was.
        fitted: What the loss before training would be, changed as it was found to change at each rate; ``nan`` where a sweep
            was only to find its way.
    """

    lr: tuple[float, ...]
    loss: tuple[float, ...]
    fitted: tuple[float, ...]


@dataclass(frozen=True)
class Trial:
    """A training in miniature at one rate.

    Attributes:
        lr: The rate; of a schedule, its highest.
        losses: The loss of each batch before its update.
        score: The loss at the end: on what is held out, or on the last batches if that cannot be computed; infinite if it
            diverged.
    """

    lr: float
    losses: tuple[float, ...]
    score: float


@dataclass(frozen=True)
class LRFinding:
    """A learning rate, how sure it is, and why.

    All rates are those of the group ``reference``, the first that has a rate above 0; of a schedule, its highest.

    Attributes:
        suggestion: The rate to train with. Where ``abstained``, only the safest that is known: one that did no harm
            when it was tried, and no more than that of the optimizer where nothing was learned at any.
        interval: It is between these with a probability of about 80 %.
        plateau: Rates between these did as well.
        confidence: How often, about, a rate found on such evidence costs less than a twentieth of what training gains.
        abstained: Whether the evidence is too weak to suggest anything.
        reason: Why, in one sentence.
        lrs: The suggestion for each group, in their ratio.
        reference: Number of the group whose rate ``suggestion`` is.
        sweep: What was found by rising rates.
        search: What was seen on the way to the range of it.
        trials: Trainings in miniature; none with ``effort="sweep"``.
        start: The loss before, as trials are scored.
        effort: ``"sweep"`` or ``"sure"``.
        batches: How many were computed.
        seconds: How long it took.
        per_group: With ``per_group=True`` what was found for each group alone.

    Example:
        >>> import surefoot
        >>> model = torch.nn.Linear(3, 1)
        >>> data = [(torch.randn(16, 3), torch.randn(16, 1)) for _ in range(8)]
        >>> optimizer = surefoot.SGD(model.parameters(), lr=0.1)
        >>> finding = surefoot.find_lr(model, optimizer, torch.nn.MSELoss(), data, effort="sweep")
        >>> finding.apply(optimizer)
        >>> optimizer.param_groups[0]["lr"] == finding.suggestion
        True
    """

    suggestion: float
    interval: tuple[float, float]
    plateau: tuple[float, float]
    confidence: float
    abstained: bool
    reason: str
    lrs: tuple[float, ...]
    reference: int
    sweep: Sweep
    search: Sweep
    trials: tuple[Trial, ...]
    start: float
    effort: str
    batches: int
    seconds: float
    per_group: tuple[LRFinding, ...] = field(default=())

    @property
    def history(self) -> dict[str, list[float]]:
        """The sweep as lists: ``lr``, ``loss`` and ``fitted``."""
        return {name: list(getattr(self.sweep, name)) for name in ("lr", "loss", "fitted")}

    def apply(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the rate of each group.

        Args:
            optimizer: The one it was found for, or one of as many groups.

        Raises:
            ValueError: It has another number of groups.
        """
        groups = optimizer.param_groups
        if len(groups) != len(self.lrs):
            raise ValueError(
                f"optimizer has {len(groups)} groups, the finding is of {len(self.lrs)}: pass the optimizer it was found for"
            )
        for group, lr in zip(groups, self.lrs, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the loss against the rate: as it was, its course, the suggestion and its interval, and where training diverges.

        Args:
            ax: Draw here instead of in a new figure.
        """
        return plots.lr_finding(self, ax=ax)

    def __str__(self) -> str:
        if self.abstained:
            return f"No suggestion: {self.reason} The safest rate that is known is {self.suggestion:.2g}."
        low, high = self.interval
        return f"{self.suggestion:.2g} ({low:.2g} to {high:.2g}, confidence {self.confidence:.0%}): {self.reason}"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, to be kept with a run."""
        from dataclasses import asdict

        return asdict(self)

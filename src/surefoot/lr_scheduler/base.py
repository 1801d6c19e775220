"""The scheduler: one counter that sets hyperparameters of an optimizer by curves."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.optim.lr_scheduler import EPOCH_DEPRECATION_WARNING, LRScheduler

from surefoot import checks, plots
from surefoot.curves import Curve, Fixed
from surefoot.lr_scheduler.hyperparameters import (
    group_names,
    locate,
    plain,
    require_optimizer,
    set_hyperparameter,
)
from surefoot.lr_scheduler.plateau import Plateau
from surefoot.lr_scheduler.targets import Curves, Driven, Targets

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Scheduler", "skipped_by_scaler"]

LENGTHS = ("T_0", "T_max", "_milestones", "milestones", "step_size", "total_iters", "total_steps")
"""What torch calls the settings that say how long a schedule is."""


class Scheduler(LRScheduler):
    """Sets hyperparameters of parameter groups to curves of one counter.

    After ``n`` steps a hyperparameter is ``curve.value(n, base)``, whatever happened before: nothing is
    accumulated, so building, loading and resuming in any order give the same values. The base is what
    the group was built with, kept as torch does for ``lr``, under ``initial_lr``, or what ``optimizer.set`` gave it since.

    Args:
        optimizer: Any :class:`torch.optim.Optimizer`, Surefoot's or torch's. Nothing of it is patched.
        lr: A curve for all groups, or a list with one for each.
        momentum: The same for ``momentum``, or for ``betas[0]`` where the group has that.
        last_epoch: -1 to start; ``n`` to be at step ``n + 1``, as in torch.
        betas: Curves for the two, None for one that stays.
        groups: Curves of groups of their own: ``{"head*": curve}`` for ``lr``, or
            ``{"head*": {"lr": curve, "weight_decay": curve}}``. A group is meant by its ``"name"``, its number, or
            the names of all its parameters; the first pattern that has the hyperparameter counts, also for groups
            that are added later.
        per: What is counted. ``"update"``: updates that the optimizer applied, however often :meth:`step` is called;
            ``"epoch"``: calls of :meth:`step`. Neither counts where the optimizer skipped its step, for an
            infinite gradient or by a ``GradScaler``.
        plateau: Cuts ``lr`` further when a metric stops getting better; see :meth:`observe`.
        **curves: Curves of any other number in the groups, such as ``weight_decay``.

    Raises:
        TypeError: ``optimizer`` is not one, or a curve is not.
        ValueError: No group has that hyperparameter, or none is meant by that pattern; nothing to schedule.
        RuntimeError: The number of curves is not the number of groups.

    Example:
        >>> import torch, surefoot
        >>> from surefoot.curves import cosine, warmup
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = surefoot.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
        >>> scheduler = surefoot.Scheduler(optimizer, lr=warmup(10) >> cosine(90, to=0.1), weight_decay=cosine(100))
        >>> for _ in range(10):
        ...     model(torch.ones(1, 2)).sum().backward()
        ...     optimizer.step()
        ...     scheduler.step()
        >>> scheduler.get_last_lr()
        [0.001]
        >>> round(optimizer.param_groups[0]["weight_decay"], 4)
        0.0976
    """

    _warned = _ended = _inner = False
    _own_lr = False

    def __init_subclass__(cls) -> None:
        cls._own_lr = cls.get_lr is not Scheduler.get_lr  # as in torch, it is what sets lr

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        lr: Curves | None = None,
        momentum: Curves | None = None,
        last_epoch: int = -1,
        *,
        betas: tuple[Curve | None, Curve | None] | None = None,
        groups: Mapping[str, Curve | Mapping[str, Curve]] | None = None,
        per: Literal["update", "epoch"] = "update",
        plateau: Plateau | None = None,
        **curves: Curves,
    ) -> None:
        require_optimizer(optimizer)
        if per not in ("update", "epoch"):
            raise ValueError(f"per={per!r} must be 'update' or 'epoch'")
        given = {"lr": lr, "momentum": momentum, **_pair("betas", betas), **curves}
        if plateau is not None and not isinstance(plateau, Plateau):
            raise TypeError(f"plateau={plateau!r} is a {type(plateau).__name__}: pass Plateau(...)")
        if momentum is not None and betas is not None and betas[0] is not None:
            raise ValueError("momentum and betas[0] are one number: pass one curve for it")
        last_epoch = checks.whole("last_epoch", last_epoch, -1)
        self.per, self.plateau = per, plateau
        self.curves: dict[str, Curves] = {name: curve for name, curve in given.items() if curve is not None}
        self._targets = Targets(optimizer, self.curves, groups or {})
        self.last_epoch = last_epoch
        self._join(optimizer)
        self._seen = _steps_of(optimizer)
        self._rows: list[Driven] = []  # for which the end was looked for
        self._last = math.inf
        self._initial_step()

    @property  # type: ignore[override]
    def base_lrs(self) -> list[float]:
        """The ``lr`` that each group was built with."""
        self._targets.find()
        return [bases["lr"] for bases in self._targets.bases]

    @base_lrs.setter
    def base_lrs(self, lrs: list[float]) -> None:
        self._targets.find()
        known = self._targets.bases
        self._targets.start_from([{**bases, "lr": float(lr)} for bases, lr in zip(known, lrs, strict=True)])

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer whose numbers are set."""
        return self._targets.optimizer

    @optimizer.setter
    def optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        self._join(optimizer)
        self._targets.move_to(optimizer)
        self._seen = _steps_of(optimizer)

    def _initial_step(self) -> None:
        self._step_count, self._seen = 1, _steps_of(self.optimizer)
        self._update_lr()

    def step(self, epoch: int | None = None) -> None:
        """Go on, and set the values; call it after ``optimizer.step()``.

        Args:
            epoch: Deprecated, as in torch: the count to go to instead.
        """
        ahead = self._due()
        if epoch is not None:
            self._go_to(epoch)
        elif ahead:
            self._warn_of_order_and_edits()
            self._step_count += ahead
            self._update_lr(self.last_epoch + ahead)
        if self.last_epoch > self._last and not self._ended:
            self._ended = True
            if after := self._after_end():
                warnings.warn(
                    f"step {self.last_epoch} is past the end of the schedule, {self._last:g}: {after}. If the run is longer, or "
                    "step() is called for each batch of a schedule in epochs, build it with the number of steps there are.",
                    UserWarning,
                    stacklevel=2,
                )

    def _go_to(self, epoch: int) -> None:
        checks.not_negative("epoch", epoch)
        warnings.warn(EPOCH_DEPRECATION_WARNING, UserWarning, stacklevel=3)
        self._step_count += 1
        self._update_lr(epoch)

    def _warn_of_order_and_edits(self) -> None:
        if self._step_count == 1 and self.per == "epoch" and not _has_stepped(self.optimizer):
            warnings.warn(
                "Detected call of `lr_scheduler.step()` before `optimizer.step()`: the first value of "
                "the schedule is skipped. Call them in the opposite order.",
                UserWarning,
                stacklevel=3,
            )
        if not self._warned and self._edited():
            self._warned = True  # the rates in the text differ each time: Python would not see the repeat
            warnings.warn(
                f"lr is {[float(lr) for lr in self._group_lrs()]}, {type(self).__name__} had set "
                f"{[float(lr) for lr in self._last_lr]}: the edit is lost, because lr is a function of the step. Build "
                "the scheduler with the lr you want; for two schedules at once multiply their curves.",
                UserWarning,
                stacklevel=3,
            )

    def set(self, step: int) -> None:
        """Go to a step, and set the values of that step.

        Args:
            step: At least 0.
        """
        self.last_epoch = checks.whole("step", step, 0)
        self._step_count, self._seen = self.last_epoch + 1, _steps_of(self.optimizer)
        self._write()

    def observe(self, metric: float) -> None:
        """Show the plateau a metric, such as the loss on held-out data; it may cut ``lr``.

        Raises:
            ValueError: The scheduler was built without a plateau.
        """
        if self.plateau is None:
            raise ValueError(
                "plateau=None: build the scheduler with plateau=Plateau(...) to observe a metric"
            )
        self.plateau.observe(metric)
        self._write()

    def _due(self) -> int:
        """By how many steps to go on: see ``per``."""
        optimizer = self._targets.optimizer  # here and below not by the property, which takes a call
        seen, self._seen = self._seen, _steps_of(optimizer)
        applied, skipped = self._seen[0] - seen[0], self._seen[1] - seen[1]
        if self.per == "update" and _counts_steps(optimizer):
            return applied
        return 1 if applied or not skipped else 0

    def _update_lr(self, epoch: int | None = None) -> None:
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if epoch == 0:  # torch's SequentialLR lets it begin
            self._seen = _steps_of(self.optimizer)
        self._write()

    def _write(self) -> None:
        self._targets.write(self._position(), self.plateau)
        if self._own_lr:
            for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
                set_hyperparameter(group, "lr", float(lr))
        self._last_lr = self._group_lrs()
        if self._rows is not self._targets.driven:
            self._rows = self._targets.driven
            self._last = self._end()

    def _driven(self) -> list[Driven]:
        return self._targets.find()

    def _position(self) -> float:
        return self.last_epoch

    def _end(self) -> float:
        """The last step that a schedule of lr was made for."""
        return min((row.curve.length for row in self._rows if row.name == "lr"), default=math.inf)

    def _after_end(self) -> str:
        """What comes after it, if that may be a surprise."""
        for row in self._rows:
            end = row.curve.length
            if row.name == "lr" and end < math.inf:
                last = row.curve.value(end, row.base)
                highest = max(abs(row.curve.value(int(end * i / 32), row.base)) for i in range(33))
                if abs(last) < highest / 10:
                    return f"lr stays at {last:.3g}"
        return ""

    def _group_lrs(self) -> list[float | Tensor]:
        lrs = [group["lr"] for group in self._targets.optimizer.param_groups]
        return [lr if type(lr) is float else plain(lr) for lr in lrs]

    def _edited(self) -> bool:
        """Whether someone else set an lr since this scheduler did; torch's own steps round a little differently."""
        lrs = [group["lr"] for group in self._targets.optimizer.param_groups]
        if lrs == self._last_lr or len(lrs) != len(self._last_lr):
            return False
        mine = [row.place for row in self._rows if row.name == "lr"]
        return not all(math.isclose(lrs[i], self._last_lr[i], rel_tol=1e-6) for i in mine)

    def group_curves(self, name: str) -> list[Curve]:
        """The curve that drives hyperparameter ``name`` of each group that no pattern means.

        Raises:
            RuntimeError: There is one for each group, and the optimizer has more groups now.
        """
        self._targets.find()
        return self._targets.column(name)

    def get_lr(self) -> list[float | Tensor]:
        """The learning rate of each group at ``last_epoch``."""
        lrs: list[float | Tensor] = self._group_lrs()
        for row in self._driven():
            if row.name == "lr":
                value = row.curve.value(self._position(), row.base)
                lrs[row.place] = value if self.plateau is None else self.plateau.apply(value)
        return lrs

    def values(self, steps: int) -> dict[str, dict[str, list[float]]]:
        """What will be set at steps ``0 ... steps - 1``, by hyperparameter and group; nothing is changed.

        A plateau does not know the future, and is left out.
        """
        steps = checks.whole("steps", steps, 1)
        rows, names = self._driven(), group_names(self.optimizer.param_groups)
        found: dict[str, dict[str, list[float]]] = {}
        for row in rows:
            found.setdefault(row.name, {})[names[row.place]] = row.curve.values(steps, row.base)
        return found

    def preview(self, steps: int) -> Figure:
        """Draw what will be set at the next ``steps`` steps from 0: every hyperparameter, every group.

        Returns:
            A matplotlib figure; a notebook shows it.
        """
        return plots.preview(self.values(steps))

    def state_dict(self) -> dict[str, Any]:
        """Where the scheduler is: plain values of JSON only.

        Curves are in it to say so when a run goes on with others; build the scheduler as before, then load.
        """
        state: dict[str, Any] = {
            "last_epoch": self.last_epoch,
            "base_lrs": list(self.base_lrs),
            "_step_count": self._step_count,
            "_last_lr": [float(lr) for lr in self._last_lr],
            "curves": {name: _described(curves) for name, curves in self.curves.items()},
        }
        if self._edited():  # lr is another scheduler's at the moment, or the user's: loading leaves it alone
            state["_sets_lr"] = False
        if self.per == "update" and any(due := self._uncounted()):
            state["_due"] = due
        others = [{name: base for name, base in own.items() if name != "lr"} for own in self._targets.bases]
        if any(others):
            state["bases"] = others
        if self.plateau is not None:
            state["plateau"] = self.plateau.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to where a :meth:`state_dict`, ours or torch's, was, and set the optimizer's values to match.

        Raises:
            ValueError: It is of another number of groups, or of something else.
        """
        missing = {"base_lrs", "last_epoch", "_step_count"} - state_dict.keys()
        if missing:
            raise ValueError(
                f"the state has no {sorted(missing)}: it is not that of a scheduler with one counter"
            )
        if len(state_dict["base_lrs"]) != len(self.optimizer.param_groups):
            raise ValueError(
                f"the saved scheduler had {len(state_dict['base_lrs'])} groups, this optimizer has "
                f"{len(self.optimizer.param_groups)}: build it with the same groups, or load it first"
            )
        self._compare(state_dict)
        if self.plateau is not None and "plateau" in state_dict:
            self.plateau.load_state_dict(state_dict["plateau"])
        bases = state_dict.get("bases", [{}] * len(state_dict["base_lrs"]))
        lrs = state_dict["base_lrs"]
        bases = [{**own, "lr": float(lr)} for own, lr in zip(bases, lrs, strict=True)]
        self._targets.start_from(bases)
        self._step_count = state_dict["_step_count"]
        self.last_epoch = state_dict["last_epoch"]
        self._count_from(state_dict.get("_due", (0, 0)))
        # Not begun, it waits in torch's SequentialLR, and lr is another's.
        if self.last_epoch >= 0 and state_dict.get("_sets_lr", True):
            self._write()

    def _join(self, optimizer: torch.optim.Optimizer) -> None:
        """Count the optimizer's steps, and hear of changes to its groups: nothing is patched."""
        if hasattr(optimizer, "_schedulers"):
            if not self._inner:
                optimizer._schedulers.add(self)
        else:
            _watch_steps(optimizer)

    def drives(self, group: dict[str, Any], key: str, place: int | None) -> bool:
        """Whether a number of a group, as the optimizer names it, has the value that this scheduler gave it."""
        if self.last_epoch < 0:
            return False
        if self._own_lr and key == "lr":
            own = dict(zip(map(id, self.optimizer.param_groups), self.get_lr(), strict=True))
            return math.isclose(float(group["lr"]), float(own.get(id(group), math.nan)), rel_tol=1e-6)
        row = self._row(group, key, place)
        if row is None:
            return False
        value = float(row.curve.value(self._position(), row.base))
        if self.plateau is not None and key == "lr":
            value = self.plateau.apply(value)
        now = group[key] if place is None else group[key][place]
        return math.isclose(float(now), value, rel_tol=1e-6)

    def drives_any(self) -> bool:
        """Whether any number has the value that this scheduler gave it."""
        groups = self.optimizer.param_groups
        rows = [(groups[row.place], row.name) for row in self._driven()]
        return any(self.drives(group, *locate(group, name)) for group, name in rows)

    def names_its_own(self, group: dict[str, Any], key: str, place: int | None) -> bool:
        """Whether the curve of a number does not multiply a base."""
        row = self._row(group, key, place)
        return row is not None and isinstance(row.curve, Fixed)

    def rebase(self, group: dict[str, Any], key: str, place: int | None, value: float) -> None:
        """Have another base for a number."""
        self._targets.rebase(group, key, place, value)

    def check_new(self, group: dict[str, Any]) -> None:
        """Raises RuntimeError if a group that is to be added has no curve."""
        self._targets.find()
        self._targets.plan_of(group, str(group.get("name", "")))

    def refresh(self, write: bool) -> None:
        """Look at the groups anew; and set their numbers."""
        self._targets.find()
        self._targets.refresh()
        if write:
            self._write()

    def _row(self, group: dict[str, Any], key: str, place: int | None) -> Driven | None:
        groups = self.optimizer.param_groups
        for row in self._driven():
            if groups[row.place] is group and locate(group, row.name) == (key, place):
                return row
        return None

    def _uncounted(self) -> list[int]:
        """Steps of the optimizer since the last look: how many were applied, and skipped."""
        return [now - then for now, then in zip(_steps_of(self.optimizer), self._seen, strict=True)]

    def _count_from(self, uncounted: Sequence[int]) -> None:
        applied, skipped = _steps_of(self.optimizer)
        self._seen = applied - uncounted[0], skipped - uncounted[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_seen": self._uncounted()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._join(self.optimizer)  # a copy of torch's has lost its hook, one of ours does not know this
        self._count_from(state["_seen"])

    def _compare(self, state_dict: dict[str, Any]) -> None:
        """Warn if the saved schedule is another: its values would jump."""
        if self.plateau is None and "plateau" in state_dict:
            said = "the saved schedule had a plateau, this one has none: its cuts are lost"
            warnings.warn(said, UserWarning, stacklevel=3)
        for name in LENGTHS if "curves" not in state_dict else ():  # torch's states have settings
            saved, now = state_dict.get(name), getattr(self, name, None)
            if saved is not None and now is not None and saved != now:
                warnings.warn(
                    f"{name} was {saved} where it was saved and is {now} here: the rest of the schedule is another. If "
                    "the run was made longer on purpose all is well.",
                    UserWarning,
                    stacklevel=3,
                )
        step, bases = state_dict["last_epoch"], state_dict["base_lrs"]
        for name, saved in state_dict.get("curves", {}).items():
            mine = _described(self.curves.get(name, []))
            for was, now, base in zip(_list(saved, bases), _list(mine, bases), bases, strict=False):
                if step < 0 or was is None or now is None or was == now:
                    continue
                said = f"the saved schedule of {name} was another"
                with suppress(
                    ArithmeticError, TypeError, ValueError
                ):  # one's own curve may not be known here
                    both = [Curve.from_json(made) for made in (was, now)]
                    before, after = (some.value(step, base if name == "lr" else 1.0) for some in both)
                    said += f": at step {step} it was {before:.6g} and is {after:.6g} now"
                    said += f" (saved: {both[0]}, now: {both[1]})"
                said += ". If the run was made longer on purpose all is well."
                warnings.warn(said, UserWarning, stacklevel=3)
                break


def _pair(name: str, curves: Any) -> dict[str, Any]:
    if curves is None:
        return {}
    if not isinstance(curves, tuple | list) or len(curves) != 2:
        raise TypeError(f"{name}={curves!r}: pass two curves, None for one that stays")
    return {f"{name}[{i}]": curve for i, curve in enumerate(curves)}


def _described(curves: Curves) -> Any:
    """Curves as JSON; None where a function has no name."""
    if not isinstance(curves, Curve):
        return [_described(curve) for curve in curves]
    try:
        return curves.to_json()
    except ValueError:
        return None


def _list(made: Any, groups: list[Any]) -> list[Any]:
    return made if isinstance(made, list) else [made] * len(groups)


def _watch_steps(optimizer: torch.optim.Optimizer) -> None:
    """Have a foreign optimizer note that it stepped, by its own hook: nothing is patched. Ours counts by itself."""
    if not hasattr(optimizer, "_opt_called") and not hasattr(optimizer, "updates"):
        hooks = hasattr(
            optimizer, "_optimizer_step_post_hooks"
        )  # a wrapper may have skipped torch's constructor
        optimizer._opt_called = not hooks  # type: ignore[attr-defined]
        if hooks:
            optimizer._opt_steps = 0  # type: ignore[attr-defined]
            optimizer.register_step_post_hook(_note_step)


def _note_step(optimizer: Any, args: Any, kwargs: Any) -> None:
    optimizer._opt_called = True
    if skipped_by_scaler(optimizer):
        optimizer._opt_skipped = getattr(optimizer, "_opt_skipped", 0) + 1
    else:
        optimizer._opt_steps = getattr(optimizer, "_opt_steps", 0) + 1


def skipped_by_scaler(optimizer: Any) -> bool:
    """Whether a ``GradScaler`` had the step that is being taken skip itself, as fused ones do; False where only a GPU knows."""
    found_inf = getattr(optimizer, "found_inf", None)
    return found_inf is not None and found_inf.device.type == "cpu" and bool(found_inf)


def _steps_of(optimizer: Any) -> tuple[int, int]:
    """How many updates were applied, and how many skipped, as far as the optimizer tells."""
    applied = getattr(optimizer, "updates", None)
    if applied is None:
        return getattr(optimizer, "_opt_steps", 0), getattr(optimizer, "_opt_skipped", 0)
    return applied, optimizer.skipped


def _has_stepped(optimizer: Any) -> bool:
    return any(_steps_of(optimizer)) or getattr(optimizer, "_opt_called", False)


def _counts_steps(optimizer: Any) -> bool:
    return hasattr(optimizer, "updates") or hasattr(optimizer, "_opt_steps")

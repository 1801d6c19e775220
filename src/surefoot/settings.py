"""What decides how a training goes: from flags, from a file, and back into one."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from surefoot import curves
from surefoot.choices import OPTIMIZERS, RISING, SCHEDULES, arguments, known

__all__ = ["Settings", "as_toml", "read"]

LEAST = {
    "warmup": 0,
    "epochs": 1,
    "steps": 0,
    "batch_size": 0,
    "evaluate_every": 0,
    "patience": 0,
    "accumulate": 1,
    "threads": 0,
    "seed": 0,
}
DTYPES = ("float32", "bfloat16", "float16")
ABOUT = ("versions", "git")  # tables of a saved file that say where it came from, and set nothing


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result of a run.

    Attributes:
        task: A name in :data:`surefoot.tasks.TASKS`, or the path of a file that defines one.
        optimizer: Name of one of Surefoot's optimizers, in lower case.
        lr: Learning rate (the peak where the schedule rises); None finds it by a range test.
        schedule: How it changes over the run: a name, or an expression of curves such as ``wsd(1000, 100, 200)``.
        warmup: Updates in which the rate rises before the schedule begins; 0 for none.
        epochs: Passes over the training data.
        steps: Updates, in the place of ``epochs``; 0 to go by those.
        batch_size: Samples for each update; 0 where the task takes none.
        weight_decay: Of all that is not a norm or a bias.
        momentum: Of ``sgd`` and ``rmsprop``; None for the optimizer's own.
        betas: The two of the optimizers of Adam's kind; None for the optimizer's own.
        clip_norm: Largest norm of all gradients together; 0 for any.
        accumulate: Batches for each update.
        ema: How much of the average of the weights stays at each update, such as 0.999, at which the held-out data are
            then looked at; 0 for no average.
        dtype: What losses are computed in where that is accurate enough: ``float32``, ``bfloat16`` or ``float16``.
        evaluate_every: Updates between two looks at the held-out data; 0 for the end of each pass.
        patience: Stop after so many looks without a lower held-out loss; 0 to go on.
        threads: Threads of torch; 0 for as many as it takes.
        seed: Of weights, batch order and dropout.

    Raises:
        ValueError: A value is out of its range, or of another kind; the name and the value are in the message.

    Example:
        >>> Settings(optimizer="adamm")
        Traceback (most recent call last):
        ValueError: optimizer 'adamm' is not known. Did you mean 'adam'? Choose from: adadelta, adagrad, adam, adamax, \
adamw, lion, nadam, nadamw, radam, rmsprop, sgd.
    """

    task: str = "digits"
    optimizer: str = "adamw"
    lr: float | None = None
    schedule: str = "onecycle"
    warmup: int = 0
    epochs: int = 12
    steps: int = 0
    batch_size: int = 0
    weight_decay: float = 0.01
    momentum: float | None = None
    betas: tuple[float, float] | None = None
    clip_norm: float = 0.0
    accumulate: int = 1
    ema: float = 0.0
    dtype: str = "float32"
    evaluate_every: int = 0
    patience: int = 0
    threads: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.task, str) or not self.task:
            raise ValueError(f"task is {self.task!r}: it must be a name or the path of a file.")
        known("optimizer", self.optimizer, OPTIMIZERS)
        for name, least in LEAST.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError(f"{name} is {value!r}: it must be a whole number.")
            if value < least:
                raise ValueError(f"{name} is {value}: it must be at least {least}.")
        if self.seed >= 2**63:
            raise ValueError(f"seed is {self.seed}: it must be at least 0 and below 2**63.")
        if self.lr is not None and not (_is_number(self.lr) and 0 < self.lr < math.inf):
            raise ValueError(f"lr is {self.lr!r}: it must be 'auto', or positive and finite.")
        for name in ("weight_decay", "clip_norm"):
            value = getattr(self, name)
            if not (_is_number(value) and 0 <= value < math.inf):
                raise ValueError(f"{name} is {value!r}: it must be at least 0 and finite.")
        if not (_is_number(self.ema) and 0 <= self.ema < 1):
            raise ValueError(f"ema is {self.ema!r}: it must be at least 0 and below 1.")
        known("dtype", self.dtype, DTYPES)
        self._check_schedule()
        self._check_momentum()

    def _check_schedule(self) -> None:
        if not isinstance(self.schedule, str) or "(" not in self.schedule:
            known("schedule", self.schedule, SCHEDULES)
        else:
            try:
                curves.parse(self.schedule)
            except ValueError as error:
                raise ValueError(f"schedule, {error}") from None
        if self.warmup and self.schedule not in RISING:
            mend = (
                "write warmup(...) >> ... in it" if "(" in self.schedule else f"it goes with {_list(RISING)}"
            )
            raise ValueError(f"warmup is {self.warmup}, and schedule is {self.schedule!r}: {mend}.")

    def _check_momentum(self) -> None:
        for name in ("momentum", "betas"):
            if getattr(self, name) is not None and name not in arguments(self.optimizer):
                others = [other for other in OPTIMIZERS if name in arguments(other)]
                raise ValueError(f"{name} is not of {self.optimizer}: it goes with {_list(others)}.")
        if self.momentum is not None and not (_is_number(self.momentum) and 0 <= self.momentum < 1):
            raise ValueError(f"momentum is {self.momentum!r}: it must be at least 0 and below 1.")
        betas = self.betas
        if betas is not None and not (
            isinstance(betas, tuple) and len(betas) == 2 and all(_is_number(b) and 0 <= b < 1 for b in betas)
        ):
            raise ValueError(f"betas is {betas!r}: it must be two numbers, at least 0 and below 1.")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Settings:
        """Settings by name; ``lr`` may be ``"auto"``, and ``betas`` a list.

        Raises:
            ValueError: A name is not known, or a value is wrong.

        Example:
            >>> Settings.of({"optimiser": "sgd"})
            Traceback (most recent call last):
            ValueError: setting 'optimiser' is not known. Did you mean 'optimizer'? Choose from: accumulate, \
batch_size, betas, clip_norm, dtype, ema, epochs, evaluate_every, lr, momentum, optimizer, patience, schedule, seed, \
steps, task, threads, warmup, weight_decay.
        """
        for name in given:
            known("setting", name, [field.name for field in fields(cls)])
        values = dict(given)
        if values.get("lr") == "auto":
            values["lr"] = None
        if isinstance(values.get("betas"), list):
            values["betas"] = tuple(values["betas"])
        return cls(**values)

    def for_optimizer(self) -> dict[str, Any]:
        """What the optimizer's constructor is given beside the parameters, their decay and the rate."""
        own = {"momentum": self.momentum, "betas": self.betas, "clip_norm": self.clip_norm or None}
        return {name: value for name, value in own.items() if value is not None}

    def shown(self) -> dict[str, Any]:
        """Those that say something, by name: not ``epochs`` where ``steps`` are counted, nor what is left open."""
        values = {**asdict(self), "lr": "auto" if self.lr is None else self.lr}
        del values["epochs" if self.steps else "steps"]
        return {name: value for name, value in values.items() if value is not None}


def read(path: Path) -> dict[str, Any]:
    r"""The settings in a TOML file, by name; what a run has saved beside them is left out.

    Raises:
        ValueError: It is not such a file, or a setting in it is wrong.
        OSError: It cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "mine.toml")
        ...     _ = path.write_text('optimizer = "sgd"\nlr = 0.1')
        ...     read(path)
        {'optimizer': 'sgd', 'lr': 0.1}
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # also of what is not text
        raise ValueError(f"{path} is no TOML file: {error}") from error
    given = {name: value for name, value in given.items() if name not in ABOUT}
    try:
        Settings.of(given)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return given


def as_toml(settings: Settings, **about: Mapping[str, Any]) -> str:
    """The settings as a TOML file that :func:`read` reads, with tables that say where it came from.

    Example:
        >>> as_toml(Settings(lr=0.003, steps=100), versions={"torch": "2.13.0"}).splitlines()[:4]
        ['task = "digits"', 'optimizer = "adamw"', 'lr = 0.003', 'schedule = "onecycle"']
    """
    lines = [f"{name} = {_toml(value)}" for name, value in settings.shown().items()]
    for table, values in about.items():
        if not values:
            continue
        lines += ["", f"[{table}]", *(f"{name} = {_toml(value)}" for name, value in values.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False).replace(
        "\x7f", "\\u007f"
    )  # text, whole numbers, true and false are written alike


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _list(names: Any) -> str:
    return ", ".join(sorted(names))

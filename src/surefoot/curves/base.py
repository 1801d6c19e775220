"""What a curve is, and how curves are put together."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, ClassVar

from surefoot import checks, plots
from surefoot.curves.functions import function_of, name_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Curve", "Fixed", "Product", "Stretch", "Take", "Then"]

MOST_POINTS = 100_000
"""A picture is some thousand points wide."""

LAST_STEP = 2**50
"""A curve that is longer never ends."""


@dataclass(frozen=True, eq=False)  # one's own class that is no dataclass is equal to itself alone
class Curve(ABC):
    """A hyperparameter as a function of the step.

    ``a >> b`` is ``a`` and, where it ends, ``b`` from its step 0 on; ``a * b`` is their product, and a number is
    a curve that stays: ``0.5 * a``. Curves are equal if their settings are.
    """

    _kinds: ClassVar[dict[str, type[Curve]]] = {}

    def __init_subclass__(cls) -> None:
        known = Curve._kinds.setdefault(cls.__name__, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(
                f"there is a curve {cls.__name__} already, in {known.__module__}: choose another name"
            )
        Curve._kinds[cls.__name__] = cls

    @abstractmethod
    def value(self, step: float, base: float = 1.0) -> float:
        """The hyperparameter at ``step`` (0 is before the first update)."""

    @property
    def length(self) -> float:
        """Where what comes after this curve begins, in steps; infinite if it never ends."""
        return math.inf

    @property
    def joins(self) -> tuple[float, ...]:
        """Where one part of a sequence ends and the next begins, in steps.

        Example:
            >>> from surefoot.curves import constant, linear, warmup
            >>> (warmup(5) >> constant(20) >> linear(10)).joins
            (5, 25)
        """
        return ()

    @property
    def relative(self) -> bool:
        """Whether its value is known to be ``base`` times a factor that does not depend on ``base``."""
        return False

    def values(self, steps: int, base: float = 1.0) -> list[float]:
        """The hyperparameter at steps ``0 ... steps - 1``.

        Example:
            >>> from surefoot.curves import step
            >>> step(2, gamma=0.5).values(5, base=8.0)
            [8.0, 8.0, 4.0, 4.0, 2.0]
        """
        return [self.value(step, base) for step in range(steps)]

    def take(self, steps: float) -> Take:
        """The first ``steps`` steps of it; then it holds.

        Example:
            >>> from surefoot.curves import constant, exponential
            >>> (exponential(0.5).take(2) >> constant(factor=0.1)).values(4)
            [1.0, 0.5, 0.1, 0.1]
        """
        return Take(self, steps)

    def stretch(self, total: float) -> Stretch:
        """The same over ``total`` steps.

        Raises:
            ValueError: It never ends, so there is nothing to stretch.

        Example:
            >>> from surefoot.curves import linear
            >>> linear(2).stretch(4).values(5)
            [1.0, 0.75, 0.5, 0.25, 0.0]
        """
        return Stretch(self, total)

    def fixed(self, base: float) -> Fixed:
        """The same for every optimizer: with this base instead of the one that the optimizer was built with.

        Example:
            >>> from surefoot.curves import linear
            >>> linear(4).fixed(8.0).value(2, base=100.0)
            4.0
        """
        return Fixed(self, base)

    def shown(self, steps: int | None = None) -> range:
        """The steps of a picture, from 0: all of them, or every so many where more could not be told apart.

        Args:
            steps: How many; by default the curve's length and a twentieth more. If it never ends, 1000, or twice as
                many as to where its last part begins.

        Example:
            >>> from surefoot.curves import linear
            >>> linear(100).shown()
            range(0, 106)
        """
        if steps is None and self.length < LAST_STEP:
            steps = math.ceil(1.05 * self.length) + 1
        elif steps is None:
            steps = math.ceil(max([1000, *(2 * join for join in self.joins if join < LAST_STEP)]))
        steps = checks.whole("steps", steps, 1)
        if steps > 2 * LAST_STEP:
            raise ValueError(f"steps={steps} must be at most {2 * LAST_STEP}: beyond, a float is no step")
        return range(0, steps, math.ceil(steps / MOST_POINTS))

    def plot(
        self, steps: int | None = None, base: float = 1.0, *, title: str = "", ax: Axes | None = None
    ) -> Axes:
        """Draw it on matplotlib axes.

        Args:
            steps: How many; by default as many as show all parts, and a little more.
            base: What it is drawn for.
            title: Above it.
            ax: Draw here instead of in a new figure.
        """
        shown = self.shown(steps)
        values = [self.value(step, base) for step in shown]
        label = f"Value for a base of {base:g}"
        return plots.curve(shown, values, label=label, title=title, joins=self.joins, ax=ax)

    def _repr_png_(self) -> bytes | None:
        """The picture that a notebook shows; none where matplotlib is not installed."""
        return plots.image(self.plot) if plots.available() else None

    def to_json(self) -> dict[str, Any]:
        """Plain values that :meth:`from_json` reads.

        Raises:
            ValueError: It holds a function that is not registered; see :func:`register`.
        """
        if "__dataclass_fields__" not in vars(type(self)):
            raise ValueError(
                f"{type(self).__name__} has settings that are not known: make it a frozen dataclass"
            )
        settings = {name: _plain(name, getattr(self, name)) for name in _settings(type(self))}
        return {"kind": type(self).__name__, **settings}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Curve:
        """The curve that :meth:`to_json` wrote.

        Raises:
            ValueError: It is of a kind, or has a setting or a function, that is not known here.

        Example:
            >>> from surefoot.curves import Curve, linear, warmup
            >>> curve = warmup(5) >> linear(10)
            >>> Curve.from_json(curve.to_json()) == curve
            True
        """
        if not isinstance(data, dict) or data.get("kind") not in list(Curve._kinds):
            kind = data.get("kind") if isinstance(data, dict) else data
            raise ValueError(f"kind={kind!r} is no curve that is known: it is one of {sorted(Curve._kinds)}")
        kind = Curve._kinds[data["kind"]]
        settings = {name: _read(name, value) for name, value in data.items() if name != "kind"}
        if unknown := settings.keys() - set(_settings(kind)):
            raise ValueError(f"{kind.__name__} has no setting {sorted(unknown)[0]!r}")
        try:
            return kind(**settings)
        except TypeError as error:
            raise ValueError(f"{kind.__name__} cannot be made of {settings}: {error}") from error

    def __rshift__(self, other: Curve) -> Then:
        if not isinstance(other, Curve):
            return NotImplemented
        return Then((*_parts(self, Then), *_parts(other, Then)))

    def __mul__(self, other: Curve | float) -> Product:
        if not isinstance(other, Curve):
            if isinstance(other, bool) or not isinstance(other, int | float):
                return NotImplemented
            other = Curve._kinds["Constant"](factor=other)  # type: ignore[call-arg]
        return Product((*_parts(self, Product), *_parts(other, Product)))

    __rmul__ = __mul__


@dataclass(frozen=True)
class Then(Curve):
    """Curves one after the other, each from its own step 0: what ``>>`` makes.

    Attributes:
        curves: All but the last end. A sequence inside is the same as its parts.
    """

    curves: tuple[Curve, ...]

    def __post_init__(self) -> None:
        _check_curves(self.curves)
        object.__setattr__(
            self, "curves", tuple(part for curve in self.curves for part in _parts(curve, Then))
        )
        for curve in self.curves[:-1]:
            if math.isinf(curve.length):
                raise ValueError(
                    f"nothing can come after {curve}, which never ends: cut it with .take(steps)"
                )

    def value(self, step: float, base: float = 1.0) -> float:
        *first, last = self.curves
        for curve in first:
            if step < curve.length:
                return curve.value(step, base)
            step -= curve.length
        return last.value(step, base)

    @property
    def length(self) -> float:
        return sum(curve.length for curve in self.curves)

    @property
    def joins(self) -> tuple[float, ...]:
        starts = [0.0, *accumulate(curve.length for curve in self.curves[:-1])]
        inner = [
            start + join for start, curve in zip(starts, self.curves, strict=True) for join in curve.joins
        ]
        return tuple(sorted([*starts[1:], *inner]))

    @property
    def relative(self) -> bool:
        return all(curve.relative for curve in self.curves)


@dataclass(frozen=True)
class Product(Curve):
    """The product of factors: what ``*`` makes.

    Attributes:
        curves: One of them may name its own values, and comes first; the others multiply them.
    """

    curves: tuple[Curve, ...]

    def __post_init__(self) -> None:
        _check_curves(self.curves)
        object.__setattr__(
            self, "curves", tuple(part for curve in self.curves for part in _parts(curve, Product))
        )
        own = [curve for curve in self.curves if not curve.relative]
        if len(own) > 1:
            raise ValueError(f"{own[0]} and {own[1]} both name their own values: their product means nothing")
        object.__setattr__(self, "curves", (*own, *(curve for curve in self.curves if curve.relative)))

    def value(self, step: float, base: float = 1.0) -> float:
        for curve in self.curves:
            base = curve.value(step, base)
        return base

    @property
    def length(self) -> float:
        numbers = Curve._kinds["Constant"]  # a number, as in 0.5 * curve, ends nothing
        lengths = [c.length for c in self.curves if not (isinstance(c, numbers) and math.isinf(c.length))]
        return max(lengths, default=math.inf)

    @property
    def joins(self) -> tuple[float, ...]:
        return tuple(sorted({join for curve in self.curves for join in curve.joins}))

    @property
    def relative(self) -> bool:
        return all(curve.relative for curve in self.curves)


@dataclass(frozen=True)
class _Changed(Curve):
    curve: Curve

    @property
    def relative(self) -> bool:
        return self.curve.relative


@dataclass(frozen=True)
class Take(_Changed):
    """The start of a curve, which then holds.

    Attributes:
        curve: The curve.
        steps: How much of it, at least 0.
    """

    steps: float

    def __post_init__(self) -> None:
        _check_curves([self.curve])
        checks.not_negative("steps", self.steps)

    def value(self, step: float, base: float = 1.0) -> float:
        return self.curve.value(min(step, self.steps), base)

    @property
    def length(self) -> float:
        return self.steps

    @property
    def joins(self) -> tuple[float, ...]:
        return tuple(join for join in self.curve.joins if join < self.steps)


@dataclass(frozen=True)
class Stretch(_Changed):
    """A curve over another number of steps.

    Attributes:
        curve: The curve, which must end.
        total: How many steps it takes, at least 0.
    """

    total: float

    def __post_init__(self) -> None:
        _check_curves([self.curve])
        checks.not_negative("total", self.total)
        if math.isinf(self.curve.length):
            raise ValueError(f"{self.curve} never ends, so it cannot be stretched: cut it with .take(steps)")

    def value(self, step: float, base: float = 1.0) -> float:
        if step >= self.total:  # where a product would be rounded
            return self.curve.value(self.curve.length + (step - self.total), base)
        return self.curve.value(self.curve.length * step / self.total, base)

    @property
    def length(self) -> float:
        return self.total

    @property
    def joins(self) -> tuple[float, ...]:
        if self.curve.length == 0:
            return ()
        return tuple(join * self.total / self.curve.length for join in self.curve.joins)


@dataclass(frozen=True)
class Fixed(_Changed):
    """A curve with a base of its own.

    Attributes:
        curve: The curve.
        base: Takes the place of the value that the optimizer was built with.
    """

    base: float

    def __post_init__(self) -> None:
        _check_curves([self.curve])
        checks.finite("base", self.base)

    def value(self, step: float, base: float = 1.0) -> float:
        return self.curve.value(step, self.base)

    @property
    def length(self) -> float:
        return self.curve.length

    @property
    def joins(self) -> tuple[float, ...]:
        return self.curve.joins

    @property
    def relative(self) -> bool:
        return False


def _settings(kind: type[Curve]) -> list[str]:
    return [field.name for field in dataclasses.fields(kind) if field.init]


def _parts(curve: Curve, kind: type[Then] | type[Product]) -> tuple[Curve, ...]:
    return curve.curves if isinstance(curve, kind) else (curve,)


def _check_curves(curves: Any) -> None:
    if not isinstance(curves, tuple | list) or not curves:
        raise TypeError(f"curves={curves!r}: pass a tuple of curves")
    for curve in curves:
        if not isinstance(curve, Curve):
            raise TypeError(f"{curve!r} is a {type(curve).__name__}: pass a curve")


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, Curve):
        return value.to_json()
    if isinstance(value, tuple | list):
        return [_plain(name, item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    if hasattr(value, "item"):
        return value.item()
    registered = name_of(value)
    if registered is None:
        raise ValueError(
            f"{name}={getattr(value, '__qualname__', value)!r} has no name in a saved curve: register the function with "
            "@surefoot.curves.register"
        )
    return {"function": registered}


def _read(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_read(name, item) for item in value)
    if not isinstance(value, dict):
        return value
    if "function" not in value:
        return Curve.from_json(value)
    return function_of(name, value["function"])

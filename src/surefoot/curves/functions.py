"""Functions in curves: in a saved curve each stands by a name."""

from __future__ import annotations

from collections.abc import Callable

from surefoot import checks

__all__ = ["function_of", "name_of", "register"]

_functions: dict[str, Callable[[float], float]] = {}


def register(function: Callable[[float], float]) -> Callable[[float], float]:
    """Give a function of the step a name in saved curves: its own.

    Args:
        function: Takes the step, returns a number. Use as a decorator.

    Raises:
        ValueError: Another function has that name.

    Example:
        >>> from surefoot import curves
        >>> @curves.register
        ... def every_other(step):
        ...     return step % 2
        >>> curves.function(every_other).to_json()
        {'kind': 'Function', 'factor': {'function': 'every_other'}}
    """
    checks.function("function", function)
    name, code = getattr(function, "__name__", None), getattr(function, "__code__", None)
    if name is None:
        raise TypeError(
            f"{function!r} has no name to be saved by: register a function that is defined with def"
        )
    known = _functions.setdefault(name, function)
    # A notebook's cell may be run again; another function of the same name, or with other values around it, is another.
    again = code is not None and getattr(known, "__code__", None) == code and not code.co_freevars
    if known is not function and not again:
        raise ValueError(f"a function {name!r} is registered already: give this one another name")
    _functions[name] = function
    return function


def name_of(function: Callable[[float], float]) -> str | None:
    """The name a function is registered by, if it is."""
    name = getattr(function, "__name__", "")
    return name if _functions.get(name) is function else None


def function_of(setting: str, name: str) -> Callable[[float], float]:
    """The function of that name, a setting of a curve.

    Raises:
        ValueError: There is none.
    """
    if name not in _functions:
        raise ValueError(
            f"{setting} is the function {name!r}, which is not registered here: define it and "
            "register it with @surefoot.curves.register"
        )
    return _functions[name]

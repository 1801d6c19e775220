"""Checks of one argument: each raises an error that names it, its value and what it must be."""

from __future__ import annotations

import math
import operator
from typing import Any, SupportsFloat

__all__ = ["finite", "function", "not_negative", "number", "positive", "whole"]


def number(name: str, value: object) -> None:
    """``value`` is a number, or a tensor of one."""
    if not isinstance(value, SupportsFloat):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}: pass a number")


def finite(name: str, value: float) -> None:
    """``value`` is neither infinite nor NaN."""
    number(name, value)
    if not math.isfinite(value):
        raise ValueError(f"{name}={value!r} must be finite")


def positive(name: str, value: float) -> None:
    """``value`` is greater than 0 and finite."""
    number(name, value)
    if not 0 < value < math.inf:
        raise ValueError(f"{name}={value!r} must be greater than 0 and finite")


def not_negative(name: str, value: float) -> None:
    """``value`` is 0 or greater, and finite."""
    number(name, value)
    if not 0 <= value < math.inf:
        raise ValueError(f"{name}={value!r} must be at least 0 and finite")


def whole(name: str, value: Any, least: int) -> int:
    """``value`` is an integer of at least ``least``; returns it as an ``int``."""
    try:
        integer = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}: pass a whole number") from None
    if integer < least:
        raise ValueError(f"{name}={integer} must be at least {least}")
    return integer


def function(name: str, value: object) -> None:
    """``value`` can be called; what users pass here are functions of the step."""
    if not callable(value):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}: pass a function of the step")

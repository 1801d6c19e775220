"""Curves: a hyperparameter as a pure function of the step.

``curve.value(step, base)`` is closed form: it needs no step before it, so resuming is evaluating at
another step and a preview is evaluating at all of them. ``base`` is the value the optimizer was built
with. Steps count from 0 and may be fractional.
"""

from surefoot.curves.base import Curve, Fixed, Product, Stretch, Take, Then
from surefoot.curves.functions import name_of, register
from surefoot.curves.shapes import (
    Anneal,
    Constant,
    CosineWave,
    Cumulative,
    Exponential,
    Function,
    InverseSqrt,
    MultiStep,
    OneCycle,
    Ramp,
    Restarts,
    Step,
    Table,
    Triangular,
)
from surefoot.curves.text import parse
from surefoot.curves.vocabulary import (
    constant,
    cosine,
    cosine_restarts,
    exponential,
    function,
    inverse_sqrt,
    linear,
    multistep,
    one_cycle,
    polynomial,
    step,
    table,
    triangular,
    warmup,
    wsd,
)

__all__ = [
    "Anneal",
    "Constant",
    "CosineWave",
    "Cumulative",
    "Curve",
    "Exponential",
    "Fixed",
    "Function",
    "InverseSqrt",
    "MultiStep",
    "OneCycle",
    "Product",
    "Ramp",
    "Restarts",
    "Step",
    "Stretch",
    "Table",
    "Take",
    "Then",
    "Triangular",
    "constant",
    "cosine",
    "cosine_restarts",
    "exponential",
    "function",
    "inverse_sqrt",
    "linear",
    "multistep",
    "name_of",
    "one_cycle",
    "parse",
    "polynomial",
    "register",
    "step",
    "table",
    "triangular",
    "warmup",
    "wsd",
]

"""The source of CPU kernels, written from a rule's own source.

Numba compiles it: the rule, a loop over contiguous memory, and a loop over the chunks of a table. Numba gives a literal
double precision, which would halve the width of the vectors, so the rule's literals become constants
of the arithmetic's type; nothing else of the rule changes.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any, NamedTuple

from surefoot.rule import Rule

__all__ = ["OPTIONS", "Layout", "UnsupportedRuleError", "kernel_source", "squares_source"]

SIZES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}
"""Bytes of the dtypes that kernels read and write; all others are the eager executor's."""

VOCABULARY = {"abs", "maximum", "minimum", "sign", "sqrt", "where"}

# Division by 0 as in IEEE, and nothing but the function itself: what calls it is ours.
OPTIONS = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

PREAMBLE = """
from math import sqrt
from numba import float32, float64, njit
from surefoot.kernels.intrinsics import *
from surefoot.kernels.source import OPTIONS

@njit(fastmath={"contract", "reassoc"}, **OPTIONS)
def add_square(total, number):
    return total + number * number  # in any order: of one chunk, and the same at each call
"""

# Whoever is free takes the next batch of chunks: a row of the table, where it starts, how long it is.
CHUNKS = """
    while True:
        batch = fetch_add(next_batch, 1)
        if batch >= last_batch:
            return 0
        for k in range(load_int64(batches, batch), load_int64(batches, batch + 1)):
            row, start, size = load_int64(chunks, 3 * k), load_int64(chunks, 3 * k + 1), load_int64(chunks, 3 * k + 2)
            place = pointers + 8 * row * width
            if load_int64(place, 1) == 0:  # no gradient
                continue
"""


class UnsupportedRuleError(Exception):
    """A rule says something that has no kernel; the eager executor carries it."""


class Layout(NamedTuple):
    """What a kernel is specialised for.

    Attributes:
        param: dtype of the parameter, such as ``"float32"``.
        grad: dtype of the gradient.
        buffers: dtype of each buffer; None for one that is not used.
        scalars: Which numbers are used; the others are None.
        bound: Whether gradients are cut off at a largest absolute value.
        stats: Whether the squares of parameter, update and gradient are summed up.
    """

    param: str
    grad: str
    buffers: tuple[str | None, ...]
    scalars: tuple[bool, ...]
    bound: bool = False
    stats: bool = False

    @property
    def arithmetic(self) -> str:
        """The type the rule is computed in."""
        return "float64" if self.param == "float64" else "float32"


class _Literals(ast.NodeTransformer):
    """Names for the numbers in a rule, and a look at every other name."""

    def __init__(self, known: set[str], namespace: dict[str, Any]) -> None:
        self.known, self.namespace = known, namespace
        self.constants: dict[str, float] = {}

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            return node
        return self._constant(float(node.value))

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if isinstance(node.ctx, ast.Store):
            self.known.add(node.id)
        elif node.id not in self.known and node.id not in VOCABULARY:
            value = self.namespace.get(node.id)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise UnsupportedRuleError(f"it uses {node.id}, which kernels do not know")
            return self._constant(float(value))
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if not isinstance(node.func, ast.Name):
            raise UnsupportedRuleError(
                f"it calls {ast.unparse(node.func)}: import the function from torch by name"
            )
        return self.generic_visit(node)

    def _constant(self, value: float) -> ast.Name:
        name = f"constant_{len(self.constants)}"
        self.constants[name] = value
        return ast.Name(name, ast.Load())


def kernel_source(rule: Rule, layout: Layout) -> str:
    """What Numba compiles for a rule over tensors of one layout.

    Its ``run`` takes the addresses of a table's pointers (parameter, gradient, buffers), of the chunks to share
    out, and of numbers (factor of the gradient, bound, scalars) and which of them are whose.

    Raises:
        UnsupportedRuleError: The rule's source is not to be had, or uses a name that kernels do not know.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(rule.update)))
    except (OSError, TypeError, SyntaxError) as error:
        raise UnsupportedRuleError(f"its source cannot be read ({error})") from error
    (function,) = tree.body
    if not isinstance(function, ast.FunctionDef):
        raise UnsupportedRuleError("it is not a plain function")
    function.decorator_list, function.name = [], "update"
    arguments = {"param", "grad", *rule.buffers, *rule.scalars}
    literals = _Literals(arguments, rule.update.__globals__)
    function = literals.visit(function)

    dtypes = dict(
        zip(("param", "grad", *rule.buffers), (layout.param, layout.grad, *layout.buffers), strict=True)
    )
    memory = [name for name, dtype in dtypes.items() if dtype is not None]
    columns = {name: column for column, name in enumerate(dtypes)}
    numbers = {"factor": 0} | ({"bound": 1} if layout.bound else {})
    numbers |= {name: 2 + i for i, name in enumerate(rule.scalars) if layout.scalars[i]}
    kind = layout.arithmetic

    def load(name: str) -> str:
        return f"{kind}(load_{dtypes[name]}({name}, i))" if dtypes[name] else "None"

    def store(name: str) -> str:
        value = f"new_{name}"
        if dtypes[name] != kind:
            value = f"{'float64' if dtypes[name] == 'float64' else 'float32'}({value})"
        return f"store_{dtypes[name]}({name}, i, {value})"

    def address(name: str) -> str:
        return f"load_int64(place, {columns[name]}) + {SIZES[str(dtypes[name])]} * start"

    grad = "raw_grad * factor"
    if layout.bound:
        grad = f"maximum(minimum({grad}, bound), -bound)"
    inputs = ["old_param", "grad_", *map(load, rule.buffers)]
    inputs += [name if name in numbers else "None" for name in rule.scalars]
    results = ", ".join(f"new_{name}" if dtypes[name] else "_" for name in ("param", *rule.buffers))
    row_numbers = [f"{kind}(load_float64(mine, {column}))" for column in numbers.values()]
    sums = ["param_sum", "update_sum", "grad_sum"] if layout.stats else []
    addends = [
        f"float64({load('param')})",
        f"float64({load('param')}) - float64(old_param)",
        "float64(raw_grad)",
    ]
    lines = [
        PREAMBLE,
        *(f"{name} = {kind}({value!r})" for name, value in literals.constants.items()),
        "@njit(**OPTIONS)",
        ast.unparse(ast.fix_missing_locations(function)).replace(", /,", ",").replace(", /)", ")"),
        "@njit(**OPTIONS)",
        f"def chunk({', '.join([*memory, *numbers, 'size'])}):",
        *(f"    {name} = 0.0" for name in sums),
        "    for i in range(size):",
        f"        old_param, raw_grad = {load('param')}, {load('grad')}",
        f"        grad_ = {grad}",
        f"        {results}, = update({', '.join(inputs)})",
        *(f"        {store(name)}" for name in memory if name != "grad"),
        *(
            f"        {name} = add_square({name}, {addend})"
            for name, addend in zip(sums, addends, strict=False)
        ),
        f"    return {', '.join([*sums, '0'])}",
        "def run(pointers, chunks, batches, last_batch, next_batch, sums, numbers, which):",
        f"    width = {len(dtypes)}",
        CHUNKS,
        f"            mine = numbers + {8 * (2 + len(rule.scalars))} * load_int64(which, row)",
        f"            result = chunk({', '.join([*map(address, memory), *row_numbers, 'size'])})",
        *(f"            store_float64(sums, 3 * k + {j}, result[{j}])" for j in range(len(sums))),
    ]
    return "\n".join(lines) + "\n"


def squares_source(dtype: str) -> str:
    """What Numba compiles to look at gradients: each chunk's sum of squares, and how many are not finite."""
    load = f"float64(load_{dtype}(grad, i))"
    lines = [
        PREAMBLE,
        "@njit(**OPTIONS)",
        "def chunk(grad, size):",
        "    total, bad = 0.0, 0",
        "    for i in range(size):",
        f"        total = add_square(total, {load})",
        "    if not total - total == 0:  # else no element can be infinite or NaN",
        "        for i in range(size):",
        f"            number = {load}",
        "            bad += not number - number == 0",
        "    return total, bad",
        "def run(width, pointers, chunks, batches, last_batch, next_batch, sums):",
        CHUNKS,
        f"            total, bad = chunk(load_int64(place, 1) + {SIZES[dtype]} * start, size)",
        "            store_float64(sums, 2 * k, total)",
        "            store_float64(sums, 2 * k + 1, float64(bad))",
    ]
    return "\n".join(lines) + "\n"

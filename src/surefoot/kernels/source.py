"""The source of a CPU kernel, written from a rule's own source.

Numba compiles a file: the rule, a loop over contiguous memory, and a loop over the chunks of a table. Numba gives a literal
double precision, which would halve the width of the vectors, so the rule's literals become constants
of the arithmetic's type; nothing else of the rule changes.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any, NamedTuple

from surefoot.rule import Rule

__all__ = ["Layout", "UnsupportedRuleError", "kernel_source"]

# How each dtype is stored and read; all others are the eager executor's.
STORAGE = {"float32": "float32", "float64": "float64", "bfloat16": "uint16", "float16": "uint16"}
SIZES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}
VOCABULARY = {"sqrt", "maximum", "where"}


class UnsupportedRuleError(Exception):
    """A rule says something that has no kernel; the eager executor carries it."""


class Layout(NamedTuple):
    """What a kernel is specialised for.

    Attributes:
        param: dtype of the parameter, such as ``"float32"``.
        grad: dtype of the gradient.
        buffers: dtype of each buffer; None for one that is not used.
        scalars: Which numbers are used; the others are None.
    """

    param: str
    grad: str
    buffers: tuple[str | None, ...]
    scalars: tuple[bool, ...]

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
    """The file that Numba compiles for a rule over tensors of one layout.

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

    used = [name for name, dtype in zip(rule.buffers, layout.buffers, strict=True) if dtype is not None]
    dtypes = dict(
        zip(("param", "grad", *rule.buffers), (layout.param, layout.grad, *layout.buffers), strict=True)
    )
    memory = ["param", "grad", *used]
    kind = layout.arithmetic

    def load(name: str) -> str:
        dtype = dtypes[name]
        if dtype is None:
            return "None"
        return f"load_{dtype}({name}[i])" if STORAGE[dtype] == "uint16" else f"{kind}({name}[i])"

    def store(name: str) -> str:
        dtype = dtypes[name]
        value = f"new_{name}"
        return (
            f"{name}[i] = store_{dtype}({value})"
            if STORAGE[str(dtype)] == "uint16"
            else f"{name}[i] = {value}"
        )

    def array(column: int, name: str) -> str:
        dtype = str(dtypes[name])
        address = f"pointers[row, {column}] + start * {SIZES[dtype]}"
        return f"carray(pointer_to({address}, {STORAGE[dtype]}), size)"

    results = ", ".join(f"new_{name}" if dtypes[name] else "_" for name in ("param", *rule.buffers))
    numbers = ["grad_scale", *(name for name, used in zip(rule.scalars, layout.scalars, strict=True) if used)]
    inputs = [load("param"), f"{load('grad')} * grad_scale", *map(load, rule.buffers)]
    inputs += [name if name in numbers else "None" for name in rule.scalars]
    values = [f"{kind}(scalars[which[row], {i}])" for i in range(len(numbers))]
    arrays = [array(column, name) for column, name in enumerate(memory)]
    lines = [
        '"""Written by Surefoot; may be deleted at any time."""',
        "from math import sqrt",
        "from numba import carray, float32, float64, njit, uint16",
        "from surefoot.kernels.intrinsics import (",
        "    load_bfloat16, load_float16, maximum, pointer_to, store_bfloat16, store_float16, where",
        ")",
        *(f"{name} = {kind}({value!r})" for name, value in literals.constants.items()),
        'options = dict(nogil=True, cache=True, error_model="numpy")',
        "@njit(**options)",
        ast.unparse(ast.fix_missing_locations(function)).replace(", /,", ","),
        "@njit(**options)",
        f"def chunk({', '.join([*memory, *numbers])}):",
        "    for i in range(param.size):",
        f"        {results}, = update({', '.join(inputs)})",
        *(f"        {store(name)}" for name in ("param", *used)),
        "@njit(**options)",
        "def run(pointers, scalars, which, chunks, first, last):",
        "    for k in range(first, last):",
        "        row, start, size = chunks[k, 0], chunks[k, 1], chunks[k, 2]",
        f"        chunk({', '.join([*arrays, *values])})",
    ]
    return "\n".join(lines) + "\n"

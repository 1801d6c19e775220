"""Curves from text, such as the command line's: names of curves, numbers and operators, and nothing else runs."""

from __future__ import annotations

import ast
import difflib
import operator
from collections.abc import Sequence
from typing import Any

from surefoot.curves import vocabulary
from surefoot.curves.base import Curve

__all__ = ["parse"]

OPERATORS = {
    ast.RShift: operator.rshift,
    ast.Mult: operator.mul,
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Div: operator.truediv,
}
METHODS = ("fixed", "stretch", "take")


def parse(text: str) -> Curve:
    """The curve that an expression such as ``warmup(500) >> cosine(10_000, to=0.1)`` stands for.

    Args:
        text: Calls of this module's curves, of ``.take``, ``.stretch`` and ``.fixed``, numbers, text, lists of
            them, and ``>> * + - /``. Names are only those of curves: nothing else is looked up or run.

    Raises:
        ValueError: It is not such an expression; the message shows the column.

    Example:
        >>> from surefoot.curves import parse
        >>> parse("warmup(3) >> 0.5 * linear(2)").values(6)
        [0.25, 0.5, 0.75, 0.5, 0.25, 0.0]
        >>> parse("warmup(3) >> cosin(2)")
        Traceback (most recent call last):
        ValueError: column 14: 'cosin' is no curve: did you mean 'cosine'?
          warmup(3) >> cosin(2)
                       ^
    """
    text = text.strip()
    try:
        body = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise _mistake(text, (error.offset or len(text) + 1) - 1, error.msg) from None
    except (MemoryError, RecursionError):
        raise _mistake(text, 0, "it is too deep to be read") from None
    try:
        curve = _Reader(text).read(body)
    except RecursionError:
        raise _mistake(text, 0, "it is too deep to be read") from None
    if not isinstance(curve, Curve):
        raise _mistake(text, 0, f"this is {curve!r}, not a curve")
    return curve


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text

    def read(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=int() | float() | str() | bool() | None):
                return node.value
            case ast.List() | ast.Tuple():
                return [self.read(item) for item in node.elts]
            case ast.UnaryOp(op=ast.USub()):
                return self._run(node, operator.neg, [node.operand], kinds=(int, float))
            case ast.BinOp() if type(node.op) in OPERATORS:
                return self._run(
                    node, OPERATORS[type(node.op)], [node.left, node.right], kinds=(Curve, int, float)
                )
            case ast.Call():
                return self._run(node, self._function(node.func), node.args, node.keywords)
            case ast.Name():
                raise self._mistake(node, f"{node.id!r} is not called: write {node.id}(...)")
        raise self._mistake(node, f"{ast.unparse(node)!r} is not allowed here")

    def _function(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            if node.id in vocabulary.__all__:
                return getattr(vocabulary, node.id)
            raise self._mistake(node, f"{node.id!r} is no curve: {_nearest(node.id, vocabulary.__all__)}")
        if isinstance(node, ast.Attribute):
            curve = self.read(node.value)
            if isinstance(curve, Curve) and node.attr in METHODS:
                return getattr(curve, node.attr)
            raise self._mistake(node, f".{node.attr} is not there: {_nearest(node.attr, METHODS)}")
        raise self._mistake(node, "this cannot be called")

    def _run(
        self,
        node: ast.expr,
        function: Any,
        operands: list[ast.expr],
        keywords: Sequence[ast.keyword] = (),
        kinds: tuple[type, ...] = (object,),
    ) -> Any:
        arguments = [self.read(operand) for operand in operands]
        for operand, argument in zip(operands, arguments, strict=True):
            if not isinstance(argument, kinds):  # such as a list, which * would make long
                raise self._mistake(operand, f"{argument!r} is no number")
        named = {}
        for keyword in keywords:
            if keyword.arg is None:
                raise self._mistake(keyword.value, "settings are written one by one, as in to=0.1")
            if keyword.arg in named:
                raise self._mistake(keyword.value, f"{keyword.arg} is given twice")
            named[keyword.arg] = self.read(keyword.value)
        try:
            return function(*arguments, **named)
        except (ArithmeticError, TypeError, ValueError) as error:
            raise self._mistake(node, str(error)) from error

    def _mistake(self, node: ast.expr, message: str) -> ValueError:
        column = len(self.text.encode()[: node.col_offset].decode(errors="ignore"))
        return _mistake(self.text, column, message)


def _nearest(name: str, names: list[str] | tuple[str, ...]) -> str:
    if near := difflib.get_close_matches(name, names, 1):
        return f"did you mean {near[0]!r}?"
    return f"it is one of {', '.join(sorted(names))}"


def _mistake(text: str, column: int, message: str) -> ValueError:
    return ValueError(f"column {column + 1}: {message}\n  {text}\n  {' ' * column}^")

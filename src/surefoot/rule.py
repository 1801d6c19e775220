"""A rule: one elementwise update, written once, run by every executor.

The three kinds of argument a Python function can have are the three roles in a rule::

    @rule
    def momentum(param, grad, momentum_buffer, /, lr, momentum):
        momentum_buffer = momentum * momentum_buffer + grad
        return param - lr * momentum_buffer, momentum_buffer

* before the ``/``: one value per element. ``param`` and ``grad`` come first, then the buffers,
  which are the keys of the optimizer's state;
* after the ``/``: one number per tensor, computed once a step in double precision.

The body is plain arithmetic. ``from torch import sqrt, maximum, where, ...`` is the whole
vocabulary beside operators: the eager executor calls the function on tensors as it stands, and a
compiling executor rebinds these names. A buffer or number that a group does not use is ``None``,
so ``if l2 is not None:`` is the one branch a rule may have; it is decided when the
rule is specialised, never for each element.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Rule", "rule"]


@dataclass(frozen=True, eq=False)  # told apart by identity: they are keys of caches
class Rule:
    """An elementwise update and what its signature says about it.

    Attributes:
        update: The function: ``update(param, grad, *buffers, *scalars)`` returns the new
            ``(param, *buffers)``.
        buffers: Names of the per-element state, in order.
        scalars: Names of the per-tensor numbers, in order.
    """

    update: Callable[..., tuple[Any, ...]]
    buffers: tuple[str, ...]
    scalars: tuple[str, ...]

    def __call__(self, *args: Any) -> tuple[Any, ...]:
        """Apply the update to anything that does arithmetic: tensors, in the eager executor.

        Raises:
            TypeError: The function does not return the parameter and each buffer.
        """
        result = self.update(*args)
        if not isinstance(result, tuple) or len(result) != 1 + len(self.buffers):
            raise TypeError(
                f"rule {self.update.__qualname__} must return a tuple of {1 + len(self.buffers)}: "
                f"{', '.join(('param', *self.buffers))}"
            )
        return result


def rule(update: Callable[..., tuple[Any, ...]]) -> Rule:
    """Make a :class:`Rule` of a function, reading the roles from its signature.

    Args:
        update: A function ``(param, grad, *buffers, /, *scalars)`` without defaults that returns
            a tuple: the new parameter and the new buffers, in the order it took them.

    Raises:
        TypeError: The signature is not of that form.

    Example:
        >>> @rule
        ... def descend(param, grad, /, lr):
        ...     return (param - lr * grad,)
        >>> descend.scalars
        ('lr',)
        >>> descend(1.0, 0.5, 0.1)
        (0.95,)
    """
    parameters = inspect.signature(update).parameters.values()
    elements = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_ONLY)
    scalars = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
    plain = all(p.default is p.empty for p in parameters)
    if elements[:2] != ("param", "grad") or len(elements) + len(scalars) != len(parameters) or not plain:
        raise TypeError(
            f"rule {update.__qualname__}{inspect.signature(update)}: write it as "
            "(param, grad, <buffers>, /, <scalars>), without defaults"
        )
    return Rule(update, elements[2:], scalars)

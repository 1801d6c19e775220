"""Parameter groups, recognised by compiled code: most steps find them as the last one left them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from surefoot.kernels.compiled import Call, address, integers, native, of_python

__all__ = ["OTHER", "REVALUED", "SAME", "Groups"]

SAME, REVALUED, OTHER = 0, 1, 2
"""Groups are as they were; so they are but for values of entries; they may have other parameters."""


class Groups:
    """Parameter groups as they are now, to be recognised later.

    Args:
        groups: The groups.
        names: The entries that count in each, beside its parameters; values that cannot change in themselves.
    """

    def __init__(self, groups: list[dict[str, Any]], names: Sequence[Sequence[str]]) -> None:
        numbers: list[int] = []
        for group, counted in zip(groups, names, strict=True):
            params, entries = group["params"], {"params", *counted}
            numbers += id(group), id(params), len(group)
            for key, value in group.items():
                numbers += id(key), id(value) if key in entries else 0
            numbers += len(params), *map(id, params)
        known, functions = (
            integers(numbers),
            integers(of_python("PyList_GetItem", "PyDict_Next", "PyList_Size")),
        )
        self._result, self._groups = (ctypes.c_int64 * 4)(), groups
        # An address is an object's own only while it lives.
        self._kept = [functions, known, [(group, [*group.items()], [*group["params"]]) for group in groups]]
        fixed = [address(functions), ctypes.addressof(self._result), address(known), len(groups), id(groups)]
        self._recognise = Call(native("recognise")[0], fixed)

    def look(self, groups: list[dict[str, Any]]) -> int:
        """Tell whether these are the groups that were noted."""
        if groups is not self._groups:
            return OTHER
        self._recognise()
        return self._result[0]

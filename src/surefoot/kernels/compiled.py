"""Machine code: compiled by Numba once, kept in a folder of the user's, and loaded without Numba from then on."""

from __future__ import annotations

import ast
import ctypes
import hashlib
import os
import stat
import sys
import tempfile
import warnings
from collections.abc import Sequence
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np

from surefoot.files import write
from surefoot.kernels.source import OPTIONS, Layout, UnsupportedRuleError, kernel_source, squares_source
from surefoot.rule import Rule

__all__ = [
    "UNREAD",
    "Array",
    "Call",
    "Function",
    "address",
    "integers",
    "kernel",
    "native",
    "of_python",
    "squares",
]

Array: TypeAlias = np.ndarray[Any, Any]

_unread = (ctypes.c_int64 * 2)()
UNREAD = ctypes.addressof(_unread)
"""Numba's functions take two addresses more, of 8 bytes each, for what they return and what they raise."""


class Function(partial[int]):
    """Compiled code: it takes the address of its arguments, integers, and leaves its results in memory.

    Attributes:
        address: Of the code.
    """

    address: int

    def __new__(cls, address: int, prototype: Any) -> Self:
        """Make a function of the code at an address."""
        function = prototype(ctypes.c_int32, *[ctypes.c_int64] * 3)(address)
        made = super().__new__(cls, function, UNREAD, UNREAD + 8)
        made.address = address
        return made


class Call(partial[int]):
    """A compiled function with its arguments, of which those that come last may change.

    Args:
        function: The function.
        fixed: The arguments that stay.
        free: How many come after them, to be set in ``arguments``.

    Attributes:
        arguments: All of them.
        job: Where the code and the arguments are.
    """

    arguments: Any
    job: tuple[int, int]

    def __new__(cls, function: Function | None, fixed: Sequence[int], free: int = 0) -> Self:
        """Bind a function to arguments."""
        assert function is not None  # or no table would have been made
        arguments = (ctypes.c_int64 * (len(fixed) + free))(*fixed)
        made = super().__new__(cls, function, ctypes.addressof(arguments))
        made.arguments, made.job = arguments, (function.address, ctypes.addressof(arguments))
        return made


def integers(values: Any) -> Array:
    """An array of the compiled code's integers."""
    return np.array(values, dtype=np.int64)


def address(values: Array) -> int:
    """Where an array's memory starts."""
    return int(values.ctypes.data)


def of_python(*names: str) -> list[int]:
    """Addresses of functions of Python's own."""
    return [ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0 for name in names]


HERE = Path(__file__).parent


@cache
def kernel(rule: Rule, layout: Layout) -> tuple[Function | None, str]:
    """The kernel of a rule for one layout; or None, with the reason why there is none.

    A compiler or a disk that fails is warned about once.
    """
    try:
        source = kernel_source(rule, layout)
    except UnsupportedRuleError as error:
        return None, f"rule {rule.update.__name__!r} cannot be compiled: {error}"
    return _function(source, "run", f"rule {rule.update.__name__!r}", ctypes.CFUNCTYPE)


@cache
def squares(dtype: str) -> tuple[Function | None, str]:
    """Looks at gradients of one dtype; see :func:`~surefoot.kernels.source.squares_source`."""
    return _function(squares_source(dtype), "run", f"the norm of {dtype} gradients", ctypes.CFUNCTYPE)


@cache
def native(name: str, holds_lock: bool = True) -> tuple[Function | None, str]:
    """A function of :mod:`surefoot.kernels.native`, to run with Python's lock held or let go."""
    source = (HERE / "native.py").read_text(encoding="utf-8")
    return _function(source, name, f"native.{name}", ctypes.PYFUNCTYPE if holds_lock else ctypes.CFUNCTYPE)


def _function(source: str, name: str, what: str, prototype: Any) -> tuple[Function | None, str]:
    try:
        return _load(_machine_code(source, name), name, prototype), ""
    except ModuleNotFoundError as error:
        reason = f"{error.name} is not installed"
        _warn_of(reason)
        return None, reason
    except Exception as error:  # whatever it is, the eager executor carries on
        said = str(error).splitlines()[0] if str(error) else ""
        reason = f"{what} could not be compiled ({type(error).__name__}: {said})"
        _warn_of(reason)
        return None, reason


def _machine_code(source: str, name: str) -> bytes:
    """The object file of a function: from the cache, if it is there as it was written."""
    import llvmlite.binding as llvm

    versions = [metadata.version("numba"), metadata.version("llvmlite"), sys.version]
    machine = [llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()]
    ours = [(HERE / file).read_text(encoding="utf-8") for file in ("intrinsics.py", "compiled.py")]
    key = hashlib.sha256("\0".join([source, name, *ours, *versions, *machine]).encode()).digest()
    folder = _folder()
    path = folder and folder / f"{name}-{key.hex()[:24]}.o"
    kept = path.read_bytes() if path and path.is_file() else b""
    digest, code = kept[:32], kept[32:]
    if digest != hashlib.sha256(key + code).digest():  # none, a damaged one, or one of another function
        code = _compile(source, name)
        if path:
            try:
                write(path, hashlib.sha256(key + code).digest() + code)
            except OSError as error:
                _warn_not_kept(error)
    return code


def _compile(source: str, name: str) -> bytes:
    import llvmlite.binding as llvm
    import numba

    (arity,) = (
        len(f.args.args) for f in ast.parse(source).body if isinstance(f, ast.FunctionDef) and f.name == name
    )
    arguments = ", ".join(f"load_int64(arguments, {i})" for i in range(arity))
    source += f"""
import numba
from surefoot.kernels.intrinsics import load_int64
{name} = numba.njit(**OPTIONS)({name})
def entry(arguments):
    return {name}({arguments})
"""
    namespace: dict[str, Any] = {"__name__": f"surefoot.kernels.{name}", "OPTIONS": OPTIONS}
    exec(compile(source, f"<surefoot {name}>", "exec"), namespace)
    compiler: Any = numba.njit  # its types do not know all options
    dispatcher = compiler([numba.int64(numba.int64)], **OPTIONS)(namespace["entry"])
    module = llvm.parse_assembly(dispatcher.inspect_llvm(dispatcher.signatures[0]))
    (function,) = (f for f in module.functions if not f.is_declaration and f.linkage.name == "external")
    function.name = name
    code: bytes = _target_machine().emit_object(module)
    return code


def _load(code: bytes, name: str, prototype: Any) -> Function:
    import llvmlite.binding as llvm

    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target_machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    address = engine.get_function_address(name)
    engine.detach()  # the code stays for good: a thread may be in it when Python ends
    return Function(address, prototype)


def _target_machine() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        codemodel="jitdefault",
    )


@cache
def _folder() -> Path | None:
    """A folder of this user's alone, ``$SUREFOOT_CACHE`` or one in the user's cache; None if there is none."""
    try:
        named, xdg = os.environ.get("SUREFOOT_CACHE"), os.environ.get("XDG_CACHE_HOME")
        user = Path(xdg) if xdg and os.path.isabs(xdg) else Path.home() / ".cache"
        folder = Path(named) if named else user / "surefoot" / "kernels"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise PermissionError(f"{folder} is open to others: its mode must be 0700")
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"room?")
    except (OSError, RuntimeError) as error:
        _warn_not_kept(error)
        return None
    return folder


@cache
def _warn_of(reason: str) -> None:
    warnings.warn(f"{reason}; the eager executor carries on", RuntimeWarning, stacklevel=2)


def _warn_not_kept(error: Exception) -> None:
    _warn_that(str(error))


@cache
def _warn_that(error: str) -> None:
    warnings.warn(
        f"compiled kernels cannot be kept ({error}), so every process compiles them again: set "
        "SUREFOOT_CACHE to a folder of your own",
        RuntimeWarning,
        stacklevel=2,
    )

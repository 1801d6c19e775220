"""What a generated kernel needs beyond Python: memory at an address, and numbers of 16 bits.

Imported only where Numba is, by the generated files.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, import-untyped"

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

__all__ = [
    "load_bfloat16",
    "load_float16",
    "maximum",
    "pointer_to",
    "store_bfloat16",
    "store_float16",
    "where",
]


@intrinsic
def pointer_to(typing_context, address, dtype):
    """A pointer to numbers of ``dtype`` at an address."""
    signature = types.CPointer(dtype.dtype)(address, dtype)

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return signature, generate


def _cast(name, argument, result, build):
    """An intrinsic of one argument that ``build`` writes in LLVM's language."""

    def typer(typing_context, value):
        def generate(context, builder, signature, arguments):
            return build(builder, arguments[0])

        return result(argument), generate

    typer.__name__ = name
    return intrinsic(typer)


INT16, INT32, HALF, FLOAT = ir.IntType(16), ir.IntType(32), ir.HalfType(), ir.FloatType()


def _widen_bfloat16(builder, bits):
    return builder.bitcast(builder.shl(builder.zext(bits, INT32), INT32(16)), FLOAT)


def _narrow_bfloat16(builder, value):
    """Round to nearest, ties to even; a NaN keeps its upper bits and stays one."""
    bits = builder.bitcast(value, INT32)
    odd = builder.and_(builder.lshr(bits, INT32(16)), INT32(1))
    rounded = builder.add(bits, builder.add(odd, INT32(0x7FFF)))
    quiet = builder.or_(bits, INT32(0x00400000))
    is_nan = builder.fcmp_unordered("uno", value, value)
    return builder.trunc(builder.lshr(builder.select(is_nan, quiet, rounded), INT32(16)), INT16)


load_bfloat16 = _cast("load_bfloat16", types.uint16, types.float32, _widen_bfloat16)
store_bfloat16 = _cast("store_bfloat16", types.float32, types.uint16, _narrow_bfloat16)
load_float16 = _cast(
    "load_float16",
    types.uint16,
    types.float32,
    lambda builder, bits: builder.fpext(builder.bitcast(bits, HALF), FLOAT),
)
store_float16 = _cast(
    "store_float16",
    types.float32,
    types.uint16,
    lambda builder, value: builder.bitcast(builder.fptrunc(value, HALF), INT16),
)


@njit(inline="always")
def maximum(a, b):
    """The larger; NaN if either is, as torch has it."""
    return a if a > b or a != a else b


@njit(inline="always")
def where(condition, a, b):
    """``a`` where the condition holds, else ``b``."""
    return a if condition else b

"""What compiled code needs beyond Python: memory at an address, functions at an address, numbers of 16 bits.

Imported only where Numba is, when something is compiled.
"""

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

__all__ = [
    "call",
    "exchange",
    "fetch",
    "fetch_add",
    "load_bfloat16",
    "load_float16",
    "load_float32",
    "load_float64",
    "load_int32",
    "load_int64",
    "maximum",
    "minimum",
    "sign",
    "store_bfloat16",
    "store_float16",
    "store_float32",
    "store_float64",
    "store_int32",
    "store_int64",
    "where",
]

INT16, INT32, INT64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
HALF, FLOAT, DOUBLE = ir.HalfType(), ir.FloatType(), ir.DoubleType()


def _memory(stored, value, widen=None, narrow=None):
    """``load(address, index)`` and ``store(address, index, value)`` for an array of ``stored`` at an address."""

    def element(builder, address, index):
        return builder.gep(builder.inttoptr(address, stored.as_pointer()), [index])

    @intrinsic
    def load(typing_context, address, index):
        def generate(context, builder, signature, arguments):
            bits = builder.load(element(builder, *arguments))
            return widen(builder, bits) if widen else bits

        return value(types.int64, types.int64), generate

    @intrinsic
    def store(typing_context, address, index, number):
        def generate(context, builder, signature, arguments):
            *place, new = arguments
            builder.store(narrow(builder, new) if narrow else new, element(builder, *place))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, value), generate

    return load, store


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


def _widen_float16(builder, bits):
    return builder.fpext(bits, FLOAT)


def _narrow_float16(builder, value):
    return builder.fptrunc(value, HALF)


load_int32, store_int32 = _memory(INT32, types.int32)
load_int64, store_int64 = _memory(INT64, types.int64)
load_float32, store_float32 = _memory(FLOAT, types.float32)
load_float64, store_float64 = _memory(DOUBLE, types.float64)
load_bfloat16, store_bfloat16 = _memory(INT16, types.float32, _widen_bfloat16, _narrow_bfloat16)
load_float16, store_float16 = _memory(HALF, types.float32, _widen_float16, _narrow_float16)


@intrinsic
def call(typing_context, function, a, b, c, d):
    """Call the C function at an address; what it does not take of the four stays in registers, unread."""

    def generate(context, builder, signature, arguments):
        kind = ir.FunctionType(INT64, [INT64] * 4).as_pointer()
        return builder.call(builder.inttoptr(arguments[0], kind), arguments[1:])

    return types.int64(*[types.int64] * 5), generate


def _shared_integer(operation):
    """What ``operation(builder, pointer, number)`` does to an integer in one go, whatever other threads do to it."""

    @intrinsic
    def atomic(typing_context, address, number):
        def generate(context, builder, signature, arguments):
            pointer = builder.inttoptr(arguments[0], INT64.as_pointer())
            return operation(builder, pointer, arguments[1])

        return types.int64(types.int64, types.int64), generate

    return atomic


# Each returns what the integer was before.
fetch_add = _shared_integer(
    lambda builder, pointer, number: builder.atomic_rmw("add", pointer, number, "seq_cst")
)
exchange = _shared_integer(
    lambda builder, pointer, number: builder.atomic_rmw("xchg", pointer, number, "seq_cst")
)
fetch = _shared_integer(lambda builder, pointer, _: builder.load_atomic(pointer, "seq_cst", 8))


@intrinsic
def sign(typing_context, value):
    """1, 0 or -1; 0 for NaN, as torch has it."""

    def generate(context, builder, signature, arguments):
        (number,) = arguments
        zero = number.type(0.0)
        above, below = (
            builder.uitofp(builder.fcmp_ordered(order, number, zero), number.type) for order in "><"
        )
        return builder.fsub(above, below)

    return value(value), generate


@njit(inline="always")
def maximum(a, b):
    """The larger, the first of two that are equal; NaN if either is, as torch has it."""
    return b if b > a or b != b else a


@njit(inline="always")
def minimum(a, b):
    """The smaller, the first of two that are equal; NaN if either is, as torch has it."""
    return b if b < a or b != b else a


@njit(inline="always")
def where(condition, a, b):
    """``a`` where the condition holds, else ``b``."""
    return a if condition else b

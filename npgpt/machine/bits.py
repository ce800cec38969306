"""What Numba has no words for: unaligned loads and stores, masks of 64 bytes at a time, a 128-bit product.

The only file with raw addresses. Its functions check nothing: the caller sees to it that the bytes are there, and that
the array lives on (Numba frees an array after its last visible use, so the array must be used after its address).
Everything is int64, with logical shifts where bits are meant: Numba turns uint64 mixed with an int into float64.
The code is LLVM's portable vector code, not one CPU's instructions: AVX-512, AVX2, SSE2 and others each get their own.
"""

from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

intrinsic: Any = extending.intrinsic  # what it makes is called with fewer arguments than mypy can know
_I8, _I32, _I64, _I128 = (ir.IntType(bits) for bits in (8, 32, 64, 128))
_BYTES64 = ir.VectorType(_I8, 64)


def data_pointer(context: Any, builder: Any, signature: Any, args: Any, kind: Any) -> Any:
    """The address of an intrinsic's first two arguments, an array and an offset in its items, as one of ``kind``."""
    return pointer_to(context, builder, signature.args[0], args[0], args[1], kind)


def pointer_to(context: Any, builder: Any, array_type: Any, array: Any, offset: Any, kind: Any) -> Any:
    """The address ``array.data + offset`` (in items of the array), as a pointer to ``kind``."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), kind.as_pointer())


@intrinsic
def load64(typing_context: Any, array: Any, offset: Any) -> Any:
    """The 8 items (bytes) from ``array[offset]`` on as one int64, the first byte lowest."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(data_pointer(context, builder, signature, args, _I64), align=1)

    return types.int64(array, types.int64), generate


@intrinsic
def load32(typing_context: Any, array: Any, offset: Any) -> Any:
    """The 4 bytes from ``array[offset]`` on as an int64 without sign."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.zext(builder.load(data_pointer(context, builder, signature, args, _I32), align=1), _I64)

    return types.int64(array, types.int64), generate


@intrinsic
def store128(typing_context: Any, array: Any, offset: Any, low: Any, high: Any) -> Any:
    """Write two int64 over the 16 bytes from ``array[offset]`` on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = data_pointer(context, builder, signature, args, _I64)
        builder.store(args[2], pointer, align=1)
        builder.store(args[3], builder.gep(pointer, [ir.Constant(_I32, 1)]), align=1)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, types.int64), generate


@intrinsic
def prefetch(typing_context: Any, array: Any, offset: Any) -> Any:
    """Ask for the cache line of ``array[offset]``, which is soon to be read."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        prefetch_address(builder, data_pointer(context, builder, signature, args, _I8))
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


def prefetch_address(builder: Any, pointer: Any) -> None:
    """Ask for a cache line: to be read, to be kept in all caches, of data."""
    kind = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [builder.bitcast(pointer, _I8.as_pointer()), _I32(0), _I32(3), _I32(1)])


@intrinsic
def shift_right(typing_context: Any, value: Any, count: Any) -> Any:
    """``value >> count`` with zeros from the left; 0 <= count < 64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.lshr(args[0], args[1])

    return types.int64(types.int64, types.int64), generate


@intrinsic
def lowest_bit(typing_context: Any, value: Any) -> Any:
    """The index of the lowest bit that is set; 64 if none is."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.int64), generate


@intrinsic
def highest_bit(typing_context: Any, value: Any) -> Any:
    """The index of the highest bit that is set; -1 if none is."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.sub(_I64(63), builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0)))

    return types.int64(types.int64), generate


@intrinsic
def fold_multiply(typing_context: Any, a: Any, b: Any) -> Any:
    """The two halves of the 128-bit product of ``a`` and ``b`` (unsigned), xored: one multiplication mixes all bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        product = builder.mul(builder.zext(args[0], _I128), builder.zext(args[1], _I128))
        return builder.xor(builder.trunc(product, _I64), builder.trunc(builder.lshr(product, _I128(64)), _I64))

    return types.int64(types.int64, types.int64), generate


def _between(builder: Any, values: Any, low: int, high: int) -> Any:
    """Lane by lane, whether low <= value <= high (unsigned): one subtraction and one comparison."""
    shifted = builder.sub(values, _repeat(low))
    return builder.icmp_unsigned("<=", shifted, _repeat(high - low))


def _repeat(byte: int) -> Any:
    return ir.Constant(_BYTES64, [ir.Constant(_I8, byte)] * 64)


@intrinsic
def classify64(typing_context: Any, array: Any, offset: Any) -> Any:
    """Which of the 64 bytes from ``array[offset]`` on are what: seven int64, bit i for byte i.

    Returns
        lower-case letters, upper-case letters, digits, white space (space and 9 to 13), line ends (\\r, \\n),
        spaces, bytes that are not ASCII.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        text = builder.load(data_pointer(context, builder, signature, args, _BYTES64), align=1)
        spaces = builder.icmp_unsigned("==", text, _repeat(ord(" ")))
        line_ends = builder.or_(
            builder.icmp_unsigned("==", text, _repeat(ord("\n"))), builder.icmp_unsigned("==", text, _repeat(ord("\r")))
        )
        lanes = [
            _between(builder, text, ord("a"), ord("z")),
            _between(builder, text, ord("A"), ord("Z")),
            _between(builder, text, ord("0"), ord("9")),
            builder.or_(spaces, _between(builder, text, 9, 13)),
            line_ends,
            spaces,
            builder.icmp_signed("<", text, _repeat(0)),
        ]
        masks = [builder.bitcast(lane, _I64) for lane in lanes]
        return context.make_tuple(builder, signature.return_type, masks)

    return types.UniTuple(types.int64, 7)(array, types.int64), generate


@intrinsic
def equal64(typing_context: Any, array: Any, offset: Any, byte: Any) -> Any:
    """Which of the 64 bytes from ``array[offset]`` on are ``byte``: bit i for byte i."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        text = builder.load(data_pointer(context, builder, signature, args, _BYTES64), align=1)
        lane = builder.insert_element(ir.Constant(_BYTES64, ir.Undefined), builder.trunc(args[2], _I8), _I32(0))
        zeros = ir.Constant(ir.VectorType(_I32, 64), [_I32(0)] * 64)
        repeated = builder.shuffle_vector(lane, ir.Constant(_BYTES64, ir.Undefined), zeros)
        return builder.bitcast(builder.icmp_unsigned("==", text, repeated), _I64)

    return types.int64(array, types.int64, types.int64), generate

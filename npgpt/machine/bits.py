"""What Numba has no words for: unaligned loads and stores, masks of 64 bytes at a time, a 128-bit product.

The only file with raw addresses. Its functions check nothing: the caller sees to it that the bytes are there, and that
the array lives on (Numba frees an array after its last visible use, so the array must be used after its address).
Everything is int64, with logical shifts where bits are meant: Numba turns uint64 mixed with an int into float64.
The code is LLVM's portable vector code, not one CPU's instructions: AVX-512, AVX2, SSE2 and others each get their own.
"""

import functools
from typing import Any

from numba import extending, types

from npgpt.exact import mix_twice
from npgpt.machine.numba_internals import I1, I8, I32, I64, I128, VOID, call_llvm, repeat, vector_of

intrinsic: Any = extending.intrinsic  # what it makes is called with fewer arguments than mypy can know
_BYTES64 = vector_of(I8, 64)


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
        return builder.load(data_pointer(context, builder, signature, args, I64), align=1)

    return types.int64(array, types.int64), generate


@intrinsic
def load32(typing_context: Any, array: Any, offset: Any) -> Any:
    """The 4 bytes from ``array[offset]`` on as an int64 without sign."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.zext(builder.load(data_pointer(context, builder, signature, args, I32), align=1), I64)

    return types.int64(array, types.int64), generate


@intrinsic
def store128(typing_context: Any, array: Any, offset: Any, low: Any, high: Any) -> Any:
    """Write two int64 over the 16 bytes from ``array[offset]`` on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = data_pointer(context, builder, signature, args, I64)
        builder.store(args[2], pointer, align=1)
        builder.store(args[3], builder.gep(pointer, [I32(1)]), align=1)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, types.int64), generate


@intrinsic
def prefetch(typing_context: Any, array: Any, offset: Any) -> Any:
    """Ask for the cache line of ``array[offset]``, which is soon to be read."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        prefetch_address(builder, data_pointer(context, builder, signature, args, I8))
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


def prefetch_address(builder: Any, pointer: Any) -> None:
    """Ask for a cache line: to be read, to be kept in all caches, of data."""
    byte = builder.bitcast(pointer, I8.as_pointer())
    call_llvm(builder, "llvm.prefetch.p0", VOID, byte, I32(0), I32(3), I32(1))


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
        return builder.cttz(args[0], I1(0))

    return types.int64(types.int64), generate


@intrinsic
def highest_bit(typing_context: Any, value: Any) -> Any:
    """The index of the highest bit that is set; -1 if none is."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.sub(I64(63), builder.ctlz(args[0], I1(0)))

    return types.int64(types.int64), generate


@intrinsic
def fold_multiply(typing_context: Any, a: Any, b: Any) -> Any:
    """The two halves of the 128-bit product of ``a`` and ``b`` (unsigned), xored: one multiplication mixes all bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        product = builder.mul(builder.zext(args[0], I128), builder.zext(args[1], I128))
        return builder.xor(builder.trunc(product, I64), builder.trunc(builder.lshr(product, I128(64)), I64))

    return types.int64(types.int64, types.int64), generate


class Unsigned:
    """An integer of LLVM, or a register of them, with the operators of ``exact.mix``: they emit code."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def _emit(self, instruction: str, other: Any) -> "Unsigned":
        right = other.value if isinstance(other, Unsigned) else self.value.type(other)
        return Unsigned(self.builder, getattr(self.builder, instruction)(self.value, right))

    __xor__ = functools.partialmethod(_emit, "xor")
    __mul__ = functools.partialmethod(_emit, "mul")
    __rshift__ = functools.partialmethod(_emit, "lshr")


@intrinsic
def random_word(typing_context: Any, low: Any, high: Any, counter: Any) -> Any:
    """``rng.random_bits`` of one counter, for the key whose halves are ``low`` and ``high``; the four are uint32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        low, high, counter = (Unsigned(builder, value) for value in args)
        return mix_twice(counter, low, high).value

    return types.uint32(types.uint32, types.uint32, types.uint32), generate


def _between(builder: Any, values: Any, low: int, high: int) -> Any:
    """Lane by lane, whether low <= value <= high (unsigned): one subtraction and one comparison."""
    shifted = builder.sub(values, _BYTES64(low))
    return builder.icmp_unsigned("<=", shifted, _BYTES64(high - low))


@intrinsic
def classify64(typing_context: Any, array: Any, offset: Any) -> Any:
    """Which of the 64 bytes from ``array[offset]`` on are what: seven int64, bit i for byte i.

    Returns
        lower-case letters, upper-case letters, digits, white space (space and 9 to 13), line ends (\\r, \\n),
        spaces, bytes that are not ASCII.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        text = builder.load(data_pointer(context, builder, signature, args, _BYTES64), align=1)
        spaces = builder.icmp_unsigned("==", text, _BYTES64(ord(" ")))
        line_ends = builder.or_(
            builder.icmp_unsigned("==", text, _BYTES64(ord("\n"))),
            builder.icmp_unsigned("==", text, _BYTES64(ord("\r"))),
        )
        lanes = [
            _between(builder, text, ord("a"), ord("z")),
            _between(builder, text, ord("A"), ord("Z")),
            _between(builder, text, ord("0"), ord("9")),
            builder.or_(spaces, _between(builder, text, 9, 13)),
            line_ends,
            spaces,
            builder.icmp_signed("<", text, _BYTES64(0)),
        ]
        masks = [builder.bitcast(lane, I64) for lane in lanes]
        return context.make_tuple(builder, signature.return_type, masks)

    return types.UniTuple(types.int64, 7)(array, types.int64), generate


@intrinsic
def equal64(typing_context: Any, array: Any, offset: Any, byte: Any) -> Any:
    """Which of the 64 bytes from ``array[offset]`` on are ``byte``: bit i for byte i."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        text = builder.load(data_pointer(context, builder, signature, args, _BYTES64), align=1)
        repeated = repeat(builder, builder.trunc(args[2], I8), 64)
        return builder.bitcast(builder.icmp_unsigned("==", text, repeated), I64)

    return types.int64(array, types.int64, types.int64), generate

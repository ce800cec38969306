"""Operations on bytes that Numba lacks: unaligned loads and stores, masks of 64 bytes, a 128-bit product.

The functions use raw addresses and check no bounds. Nor do they ask whether an index counts from the end, which takes
Numba three instructions for each access: encoding prose became 1.5 times as fast without them. The caller ensures that
the bytes exist and that the array is not freed. Numba frees an array after its last visible use, so the caller must use
the array after its address. All integers are int64, since Numba converts a uint64 combined with an int to float64; bit
operations use logical shifts. The code is LLVM's portable vector code; LLVM chooses the instructions of each CPU
(AVX-512, AVX2, SSE2 or others).
"""

import functools
from collections.abc import Callable
from typing import Any

from numba import extending, types

from npgpt.exact import mix_twice
from npgpt.machine.kinds import INT
from npgpt.machine.numba_internals import I1, I8, I16, I32, I64, I128, VOID, array_value, call_llvm, repeat, vector_of

intrinsic: Any = extending.intrinsic  # mypy cannot know that its results take fewer arguments
ARRAY = types.Array  # a parameter of ``emits``: any array
_BYTES64 = vector_of(I8, 64)
_WORDS16 = vector_of(I32, 16)
_WORDS32 = vector_of(I32, 32)


def emits(result: Any, *parameters: Any) -> Callable[[Callable[..., Any]], Any]:
    """Turn a function that emits code into an intrinsic for these Numba types, which kernels can call.

    The decorated function gets a builder and the arguments as LLVM values; an array is the address of its first item.
    It returns the LLVM value of the result: a list for a tuple, None for ``types.void``.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        @functools.wraps(function)
        def typed(typing_context: Any, *given: Any) -> Any:
            kinds = [theirs if kind is ARRAY else kind for kind, theirs in zip(parameters, given, strict=True)]

            def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                values = [
                    context.make_array(kind)(context, builder, arg).data if isinstance(kind, ARRAY) else arg
                    for kind, arg in zip(kinds, args, strict=True)
                ]
                value = function(builder, *values)
                if isinstance(value, list):
                    return context.make_tuple(builder, result, value)
                return context.get_dummy_value() if result is types.void else value

            return result(*kinds), generate

        return intrinsic(typed)

    return decorate


def pointer_to(builder: Any, array: Any, offset: Any, kind: Any) -> Any:
    """Return a pointer to ``kind`` at item ``offset`` of the array that begins at the address ``array``."""
    return builder.bitcast(builder.gep(array, [offset]), kind.as_pointer())


def array_at(dtype: Any) -> Any:
    """Return a function for kernels that makes an array (n,) of an address and n. The caller keeps its memory alive."""
    kind = types.Array(dtype, 1, "C")

    @intrinsic
    def array(typing_context: Any, address: Any, n: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return array_value(context, builder, kind, *args)

        return kind(INT, INT), generate

    return array


@emits(INT, ARRAY, INT)
def load64(builder: Any, array: Any, offset: Any) -> Any:
    """Load the 8 bytes from ``array[offset]`` on as one int64, the first byte lowest."""
    return builder.load(pointer_to(builder, array, offset, I64), align=1)


@emits(INT, ARRAY, INT)
def load32(builder: Any, array: Any, offset: Any) -> Any:
    """Load the 4 bytes from ``array[offset]`` on as a non-negative int64."""
    return builder.zext(builder.load(pointer_to(builder, array, offset, I32), align=1), I64)


@emits(INT, ARRAY, INT)
def load8(builder: Any, array: Any, offset: Any) -> Any:
    """Load ``array[offset]``, a byte, as a non-negative int64."""
    return builder.zext(builder.load(pointer_to(builder, array, offset, I8)), I64)


@emits(types.void, ARRAY, INT, INT)
def store32(builder: Any, array: Any, offset: Any, value: Any) -> None:
    """Store the lower half of an int64 in the 4 bytes from ``array[offset]`` on."""
    builder.store(builder.trunc(value, I32), pointer_to(builder, array, offset, I32), align=1)


@emits(types.void, ARRAY, INT, INT)
def store64(builder: Any, array: Any, offset: Any, value: Any) -> None:
    """Store an int64 in the 8 bytes from ``array[offset]`` on."""
    builder.store(value, pointer_to(builder, array, offset, I64), align=1)


@emits(types.void, ARRAY, INT, INT)
def fill32(builder: Any, array: Any, offset: Any, value: Any) -> None:
    """Set the 32 int32 from ``array[offset]`` on to an int64's lower half."""
    builder.store(repeat(builder, builder.trunc(value, I32), 32), pointer_to(builder, array, offset, _WORDS32), align=4)


@emits(INT, ARRAY, INT)
def least32(builder: Any, array: Any, offset: Any) -> Any:
    """Return the smallest of the 32 int32 from ``array[offset]`` on."""
    values = builder.load(pointer_to(builder, array, offset, _WORDS32), align=4)
    return builder.sext(call_llvm(builder, "llvm.vector.reduce.smin.v32i32", I32, values), I64)


@emits(INT, ARRAY, INT, INT, INT)
def match16(builder: Any, array: Any, offset: Any, value: Any, mask: Any) -> Any:
    """Mark which of the 16 int32 from ``array[offset]`` on equal ``value`` in the bits of ``mask``, in an int64."""
    values = builder.load(pointer_to(builder, array, offset, _WORDS16), align=4)
    wanted, bits = (repeat(builder, builder.trunc(number, I32), 16) for number in (value, mask))
    same = builder.icmp_unsigned("==", builder.and_(values, bits), wanted)
    return builder.zext(builder.bitcast(same, I16), I64)


@emits(types.void, ARRAY, INT, INT, INT)
def store128(builder: Any, array: Any, offset: Any, low: Any, high: Any) -> None:
    """Store two int64 in the 16 bytes from ``array[offset]`` on."""
    pointer = pointer_to(builder, array, offset, I64)
    builder.store(low, pointer, align=1)
    builder.store(high, builder.gep(pointer, [I32(1)]), align=1)


@emits(types.void, ARRAY, INT, ARRAY, INT)
def copy64(builder: Any, array: Any, offset: Any, source: Any, start: Any) -> None:
    """Copy the 64 bytes from ``source[start]`` on to those from ``array[offset]`` on."""
    line = builder.load(pointer_to(builder, source, start, _BYTES64), align=1)
    builder.store(line, pointer_to(builder, array, offset, _BYTES64), align=1)


@emits(types.void, ARRAY, INT)
def prefetch(builder: Any, array: Any, offset: Any) -> None:
    """Prefetch the cache line of ``array[offset]``."""
    prefetch_address(builder, pointer_to(builder, array, offset, I8))


def prefetch_address(builder: Any, pointer: Any) -> None:
    """Prefetch a cache line of data for reading, into all caches."""
    byte = builder.bitcast(pointer, I8.as_pointer())
    call_llvm(builder, "llvm.prefetch.p0", VOID, byte, I32(0), I32(3), I32(1))


@emits(INT, INT, INT)
def shift_right(builder: Any, value: Any, count: Any) -> Any:
    """``value >> count``, filled with zeros; 0 <= count < 64."""
    return builder.lshr(value, count)


@emits(INT, INT)
def lowest_bit(builder: Any, value: Any) -> Any:
    """The index of the lowest set bit; 64 if there is none."""
    return builder.cttz(value, I1(0))


@emits(INT, INT)
def highest_bit(builder: Any, value: Any) -> Any:
    """The index of the highest set bit; -1 if there is none."""
    return builder.sub(I64(63), builder.ctlz(value, I1(0)))


@emits(INT, INT)
def count_bits(builder: Any, value: Any) -> Any:
    """The number of set bits."""
    return builder.ctpop(value)


@emits(types.boolean, types.boolean)
def rarely(builder: Any, condition: Any) -> Any:
    """Return the condition, and tell LLVM that it is nearly always false: it keeps the other case in registers."""
    return call_llvm(builder, "llvm.expect.i1", I1, condition, I1(0))


@emits(INT, INT, INT)
def fold_multiply(builder: Any, a: Any, b: Any) -> Any:
    """The xor of the two halves of the unsigned 128-bit product ``a * b``: one multiplication mixes all bits."""
    product = builder.mul(builder.zext(a, I128), builder.zext(b, I128))
    return builder.xor(builder.trunc(product, I64), builder.trunc(builder.lshr(product, I128(64)), I64))


class Unsigned:
    """An LLVM integer, or a vector of them; its operators, those of ``exact.mix``, emit code."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def _emit(self, instruction: str, other: Any) -> "Unsigned":
        right = other.value if isinstance(other, Unsigned) else self.value.type(other)
        return Unsigned(self.builder, getattr(self.builder, instruction)(self.value, right))

    __xor__ = functools.partialmethod(_emit, "xor")
    __mul__ = functools.partialmethod(_emit, "mul")
    __rshift__ = functools.partialmethod(_emit, "lshr")


@emits(types.uint32, types.uint32, types.uint32, types.uint32)
def random_word(builder: Any, low: Any, high: Any, counter: Any) -> Any:
    """``rng.random_bits`` of one counter, for the key whose halves are ``low`` and ``high``; the four are uint32."""
    return mix_twice(*(Unsigned(builder, value) for value in (counter, low, high))).value


def _between(builder: Any, values: Any, low: int, high: int) -> Any:
    """Return whether low <= value <= high (unsigned) in each lane, by one subtraction and one comparison."""
    shifted = builder.sub(values, _BYTES64(low))
    return builder.icmp_unsigned("<=", shifted, _BYTES64(high - low))


@emits(types.UniTuple(INT, 7), ARRAY, INT)
def classify64(builder: Any, array: Any, offset: Any) -> Any:
    """Classify the 64 bytes from ``array[offset]`` on, as seven int64 masks: bit i is for byte i.

    Returns
        lower-case letters, upper-case letters, digits, white space (space and 9 to 13), line ends (\\r, \\n),
        spaces, bytes that are not ASCII.
    """
    text = builder.load(pointer_to(builder, array, offset, _BYTES64), align=1)
    spaces = builder.icmp_unsigned("==", text, _BYTES64(ord(" ")))
    line_ends = builder.or_(
        builder.icmp_unsigned("==", text, _BYTES64(ord("\n"))), builder.icmp_unsigned("==", text, _BYTES64(ord("\r")))
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
    return [builder.bitcast(lane, I64) for lane in lanes]


@emits(types.UniTuple(INT, 3), ARRAY, INT)
def letters64(builder: Any, array: Any, offset: Any) -> Any:
    """Find letters of two bytes among the 64 bytes from ``array[offset]`` on: Latin and Cyrillic ones.

    Returns
        three int64 masks, with the bits of both bytes: all letters (U+00C0 to U+027F, without the two signs there, and
        U+0400 to U+047F); of U+00C0 to U+00FF and U+0400 to U+045F the lower-case ones, and the upper-case ones.
    """
    text = builder.load(pointer_to(builder, array, offset, _BYTES64), align=1)

    def among(low: int, high: int) -> Any:
        return builder.bitcast(_between(builder, text, low, high), I64)

    def follows(mask: Any) -> Any:  # the bytes before those of a mask
        return builder.lshr(mask, I64(1))

    def both(first: Any) -> Any:
        return builder.or_(first, builder.shl(first, I64(1)))

    signs = builder.or_(among(0x97, 0x97), among(0xB7, 0xB7))  # after 0xC3 the multiplication and the division sign
    latin = builder.and_(among(0xC3, 0xC3), builder.not_(follows(signs)))
    cyrillic, more = among(0xD0, 0xD0), among(0xD1, 0xD1)
    first = builder.or_(builder.or_(latin, among(0xC4, 0xC9)), builder.or_(cyrillic, more))
    upper = builder.or_(
        builder.and_(latin, follows(among(0x80, 0x9E))), builder.and_(cyrillic, follows(among(0x80, 0xAF)))
    )
    lower = builder.or_(
        builder.and_(latin, follows(among(0x9F, 0xBF))),
        builder.or_(builder.and_(cyrillic, follows(among(0xB0, 0xBF))), builder.and_(more, follows(among(0x80, 0x9F)))),
    )
    return [both(builder.and_(first, follows(among(0x80, 0xBF)))), both(lower), both(upper)]


@emits(INT, ARRAY, INT, INT)
def equal64(builder: Any, array: Any, offset: Any, byte: Any) -> Any:
    """Mark which of the 64 bytes from ``array[offset]`` on equal ``byte``, in an int64 mask: bit i is for byte i."""
    text = builder.load(pointer_to(builder, array, offset, _BYTES64), align=1)
    repeated = repeat(builder, builder.trunc(byte, I8), 64)
    return builder.bitcast(builder.icmp_unsigned("==", text, repeated), I64)

"""A vector type of sixteen float32 numbers for kernels, with operators and functions for the hot loops.

The compiler does not vectorise a sum whose order is fixed, and a reordered sum has different bits on each CPU. Here the
sixteen lanes are part of the program. A CPU with AVX-512 needs one instruction for them, a CPU with AVX2 needs two, and
an older CPU four or sixteen. All give the same bits. For the same reason only ``fma`` fuses a product with a sum (on a
CPU without that instruction, the C library computes it).

``load`` and ``store`` check no bounds, like all functions of ``bits.py``. In an operation with lanes, a number is
rounded to float32 and broadcast.
"""

import operator
from typing import Any

from numba import extending, types

from npgpt.exact import mix_twice
from npgpt.machine.bits import ARRAY, Unsigned, emits, intrinsic, pointer_to
from npgpt.machine.kinds import INT
from npgpt.machine.numba_internals import DOUBLE, FLOAT, I32, VOID, call_llvm, define_operator, repeat, vector_of

LANES = 16
_VECTOR, _DOUBLES, _INTS = (vector_of(kind, LANES) for kind in (FLOAT, DOUBLE, I32))
_NUMBERS = list(range(LANES))


class Lanes(types.Type):
    """The Numba type of sixteen numbers."""


lanes = Lanes("float32x16")
double_lanes = Lanes("float64x16")  # for sums of squares, which may overflow float32


@extending.register_model(Lanes)
class _LanesModel(extending.models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR if kind == lanes else _DOUBLES)


def _repeat(builder: Any, value: Any) -> Any:
    """Broadcast a number to all lanes; return lanes unchanged."""
    return value if value.type == _VECTOR else repeat(builder, value, LANES)


def _define(instruction: str, *symbols: Any) -> None:
    """Define operators, such as + and +=, for lanes with lanes and for lanes with a number."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*(_repeat(builder, arg) for arg in args))

    for symbol in symbols:
        pairs = (lanes, lanes), (lanes, types.float32), (types.float32, lanes)
        define_operator(symbol, [lanes(*pair) for pair in pairs], generate)


_define("fadd", operator.add, operator.iadd)
_define("fsub", operator.sub, operator.isub)
_define("fmul", operator.mul, operator.imul)
_define("fdiv", operator.truediv, operator.itruediv)


@emits(lanes, types.float32)
def splat(builder: Any, value: Any) -> Any:
    """Broadcast a number to all lanes."""
    return _repeat(builder, value)


@emits(types.float32, ARRAY, INT)
def number(builder: Any, array: Any, offset: Any) -> Any:
    """Load ``array[offset]``."""
    return builder.load(pointer_to(builder, array, offset, FLOAT), align=4)


@emits(lanes, ARRAY, INT)
def load(builder: Any, array: Any, offset: Any) -> Any:
    """Load the 16 numbers from ``array[offset]`` on."""
    return builder.load(pointer_to(builder, array, offset, _VECTOR), align=4)


@emits(types.void, ARRAY, INT, lanes)
def store(builder: Any, array: Any, offset: Any, value: Any) -> None:
    """Write 16 numbers from ``array[offset]`` on."""
    builder.store(value, pointer_to(builder, array, offset, _VECTOR), align=4)


def _first(builder: Any, count: Any) -> Any:
    """Return the mask of the lanes below a count."""
    count = _repeat(builder, builder.trunc(count, I32))
    return builder.icmp_signed("<", _INTS(_NUMBERS), count)


@emits(lanes, ARRAY, INT, INT, types.float32)
def load_some(builder: Any, array: Any, offset: Any, count: Any, fill: Any) -> Any:
    """Load ``count`` numbers (0 to 16) from ``array[offset]`` on; the other lanes are ``fill``."""
    pointer = pointer_to(builder, array, offset, _VECTOR)
    fill = _repeat(builder, fill)
    return call_llvm(builder, "llvm.masked.load.v16f32.p0", _VECTOR, pointer, I32(4), _first(builder, count), fill)


@emits(types.void, ARRAY, INT, INT, lanes)
def store_some(builder: Any, array: Any, offset: Any, count: Any, value: Any) -> None:
    """Write the first ``count`` lanes (0 to 16) from ``array[offset]`` on."""
    pointer = pointer_to(builder, array, offset, _VECTOR)
    call_llvm(builder, "llvm.masked.store.v16f32.p0", VOID, value, pointer, I32(4), _first(builder, count))


@intrinsic
def fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """a·b + c, rounded once; each argument is lanes or a number."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return call_llvm(builder, "llvm.fma.v16f32", _VECTOR, *(_repeat(builder, arg) for arg in args))

    return lanes(*(lanes if kind == lanes else types.float32 for kind in (a, b, c))), generate


@emits(lanes, lanes)
def sqrt(builder: Any, value: Any) -> Any:
    """The square root, correctly rounded (IEEE 754)."""
    return call_llvm(builder, "llvm.sqrt.v16f32", _VECTOR, value)


@emits(lanes, lanes)
def absolute(builder: Any, value: Any) -> Any:
    """The absolute value."""
    return call_llvm(builder, "llvm.fabs.v16f32", _VECTOR, value)


@emits(lanes, lanes, lanes)
def copysign(builder: Any, value: Any, sign: Any) -> Any:
    """``value`` with the sign of ``sign``."""
    return call_llvm(builder, "llvm.copysign.v16f32", _VECTOR, value, sign)


@emits(lanes, lanes, lanes, lanes, lanes)
def select_less(builder: Any, a: Any, b: Any, then: Any, otherwise: Any) -> Any:
    """In each lane, ``then`` if a < b, else ``otherwise`` (also if a or b is NaN)."""
    return builder.select(builder.fcmp_ordered("<", a, b), then, otherwise)


@emits(lanes, lanes, lanes)
def maximum(builder: Any, a: Any, b: Any) -> Any:
    """The larger number; ``b`` if a or b is NaN."""
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


@emits(lanes, lanes)
def round_to_integer(builder: Any, value: Any) -> Any:
    """The nearest integer, with halves to the even one."""
    return call_llvm(builder, "llvm.rint.v16f32", _VECTOR, value)


@emits(lanes, lanes)
def power_of_two(builder: Any, exponent: Any) -> Any:
    """2**n for an integer n from -126 to 127, made from its bits: n + 127 in the exponent field."""
    n = builder.add(builder.fptosi(exponent, _INTS), _INTS(127))
    return builder.bitcast(builder.shl(n, _INTS(23)), _VECTOR)


@emits(types.UniTuple(lanes, 2), lanes)
def split_exponent(builder: Any, value: Any) -> Any:
    """(m, n) with value = m·2**n and √½ <= m < √2, for a normal number above 0."""
    bits = builder.bitcast(value, _INTS)
    above = builder.sub(bits, _INTS(0x3F3504F3))  # the bits of √½; n is the number of steps of 2**23 above it
    n = builder.ashr(above, _INTS(23))
    m = builder.sub(bits, builder.shl(n, _INTS(23)))
    return [builder.bitcast(m, _VECTOR), builder.sitofp(n, _VECTOR)]


def _reduce(builder: Any, value: Any, join: Any) -> Any:
    """Join the two halves until one number is left. The order is the same on every CPU."""
    width = LANES // 2
    while width:
        mask = [(lane + width) % LANES for lane in range(LANES)]
        value = join(value, builder.shuffle_vector(value, value, _INTS(mask)))
        width //= 2
    return builder.extract_element(value, I32(0))


@emits(types.float32, lanes)
def sum_lanes(builder: Any, value: Any) -> Any:
    """The sum of the lanes: lane i plus lane i + 8, then i + 4, i + 2, i + 1."""
    return _reduce(builder, value, builder.fadd)


@emits(double_lanes)
def no_squares(builder: Any) -> Any:
    """The initial totals for ``add_squares``: zeros."""
    return _DOUBLES(0.0)


@emits(double_lanes, double_lanes, lanes)
def add_squares(builder: Any, totals: Any, value: Any) -> Any:
    """``totals + value**2`` in float64, where the square of a float32 is exact. So a fused sum has the same bits."""
    wide = builder.fpext(value, _DOUBLES)
    return builder.fadd(totals, builder.fmul(wide, wide))


@emits(types.float64, double_lanes)
def sum_squares(builder: Any, totals: Any) -> Any:
    """The sum of the totals of ``add_squares``, in the order of ``sum_lanes``."""
    return _reduce(builder, totals, builder.fadd)


@emits(types.float32, lanes)
def max_lanes(builder: Any, value: Any) -> Any:
    """The largest lane, if none is NaN."""
    return _reduce(builder, value, lambda a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))


@emits(lanes, INT, INT, INT, INT, INT, types.float32)
def random_lanes(builder: Any, low: Any, high: Any, counter: Any, step: Any, threshold: Any, kept: Any) -> Any:
    """``kept`` where the random bits of the counters ``counter + lane·step`` reach ``threshold``, else 0.

    The bits are those of ``rng.random_bits`` for the key whose halves are ``low`` and ``high``.
    """
    words = (builder.trunc(word, I32) for word in (low, high, counter, step, threshold))
    low, high, counter, step, threshold = (_repeat(builder, word) for word in words)
    counters = builder.add(counter, builder.mul(step, _INTS(_NUMBERS)))
    bits = mix_twice(*(Unsigned(builder, value) for value in (counters, low, high)))
    enough = builder.icmp_unsigned(">=", bits.value, threshold)
    return builder.select(enough, _repeat(builder, kept), _VECTOR(0.0))


@emits(lanes)
def lane_numbers(builder: Any) -> Any:
    """0, 1, ..., 15."""
    return _VECTOR(list(map(float, _NUMBERS)))

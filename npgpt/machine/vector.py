"""Sixteen float32 numbers at a time: a type for kernels, with operators, and what else the hot loops need.

Why not leave it to the compiler? A sum that it may not reorder is not vectorised, and one that it may reorder has other
bits on every CPU. Here the sixteen lanes are part of the program: a CPU with AVX-512 does them in one instruction, one
with AVX2 in two, an old one in four or sixteen, and each of them gives the same bits. Products are only ever fused with
sums where ``fma`` says so, for the same reason (where there is no such instruction, the C library computes it).

``load`` and ``store`` check nothing, as all in ``bits.py``. A number mixed with lanes is rounded to float32, and
repeated.
"""

import operator
from typing import Any

from numba import extending, types

from npgpt.exact import mix_twice
from npgpt.machine.bits import Unsigned, data_pointer, intrinsic
from npgpt.machine.numba_internals import DOUBLE, FLOAT, I32, VOID, call_llvm, define_operator, repeat, vector_of

LANES = 16
_VECTOR, _DOUBLES, _INTS = (vector_of(kind, LANES) for kind in (FLOAT, DOUBLE, I32))
_NUMBERS = list(range(LANES))


class Lanes(types.Type):
    """The type of sixteen float32 numbers in a kernel."""

    def __init__(self) -> None:
        super().__init__(name="float32x16")


lanes = Lanes()


@extending.register_model(Lanes)
class _LanesModel(extending.models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


class DoubleLanes(types.Type):
    """The type of sixteen float64 numbers: sums that float32 could not hold."""

    def __init__(self) -> None:
        super().__init__(name="float64x16")


double_lanes = DoubleLanes()


@extending.register_model(DoubleLanes)
class _DoubleLanesModel(extending.models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _DOUBLES)


def _repeat(builder: Any, value: Any) -> Any:
    """One number in every lane."""
    return repeat(builder, value, LANES)


def _define(instruction: str, *symbols: Any) -> None:
    """``a + b`` and ``a += b``, say, for lanes, and for lanes and a number."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left, right = (arg if arg.type == _VECTOR else _repeat(builder, arg) for arg in args)
        return getattr(builder, instruction)(left, right)

    for symbol in symbols:
        define_operator(
            symbol, [lanes(lanes, lanes), lanes(lanes, types.float32), lanes(types.float32, lanes)], generate
        )


_define("fadd", operator.add, operator.iadd)
_define("fsub", operator.sub, operator.isub)
_define("fmul", operator.mul, operator.imul)
_define("fdiv", operator.truediv, operator.itruediv)


@intrinsic
def splat(typing_context: Any, value: Any) -> Any:
    """A number in every lane."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _repeat(builder, args[0])

    return lanes(types.float32), generate


@intrinsic
def load(typing_context: Any, array: Any, offset: Any) -> Any:
    """The 16 numbers from ``array[offset]`` on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(data_pointer(context, builder, signature, args, _VECTOR), align=4)

    return lanes(array, types.int64), generate


@intrinsic
def store(typing_context: Any, array: Any, offset: Any, value: Any) -> Any:
    """Write 16 numbers from ``array[offset]`` on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], data_pointer(context, builder, signature, args, _VECTOR), align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, lanes), generate


def _first(builder: Any, count: Any) -> Any:
    """Which lanes are below a count."""
    count = _repeat(builder, builder.trunc(count, I32))
    return builder.icmp_signed("<", _INTS(_NUMBERS), count)


@intrinsic
def load_some(typing_context: Any, array: Any, offset: Any, count: Any, fill: Any) -> Any:
    """The ``count`` numbers (0 to 16) from ``array[offset]`` on; ``fill`` in the lanes behind them."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = data_pointer(context, builder, signature, args, _VECTOR)
        fill = _repeat(builder, args[3])
        return call_llvm(
            builder, "llvm.masked.load.v16f32.p0", _VECTOR, pointer, I32(4), _first(builder, args[2]), fill
        )

    return lanes(array, types.int64, types.int64, types.float32), generate


@intrinsic
def store_some(typing_context: Any, array: Any, offset: Any, count: Any, value: Any) -> Any:
    """Write the first ``count`` lanes (0 to 16) from ``array[offset]`` on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = data_pointer(context, builder, signature, args, _VECTOR)
        call_llvm(builder, "llvm.masked.store.v16f32.p0", VOID, args[3], pointer, I32(4), _first(builder, args[2]))
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, lanes), generate


@intrinsic
def fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """a·b + c, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a, b, c = (arg if arg.type == _VECTOR else _repeat(builder, arg) for arg in args)
        return call_llvm(builder, "llvm.fma.v16f32", _VECTOR, a, b, c)

    def one(kind: Any) -> Any:
        return lanes if kind is lanes else types.float32

    return lanes(one(a), one(b), one(c)), generate


@intrinsic
def sqrt(typing_context: Any, value: Any) -> Any:
    """The square root, rounded as IEEE 754 says."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return call_llvm(builder, "llvm.sqrt.v16f32", _VECTOR, args[0])

    return lanes(lanes), generate


@intrinsic
def absolute(typing_context: Any, value: Any) -> Any:
    """Without the sign."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return call_llvm(builder, "llvm.fabs.v16f32", _VECTOR, args[0])

    return lanes(lanes), generate


@intrinsic
def copysign(typing_context: Any, value: Any, sign: Any) -> Any:
    """The first, with the sign of the second."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return call_llvm(builder, "llvm.copysign.v16f32", _VECTOR, args[0], args[1])

    return lanes(lanes, lanes), generate


@intrinsic
def select_less(typing_context: Any, a: Any, b: Any, then: Any, otherwise: Any) -> Any:
    """Lane by lane, ``then`` where a < b, else ``otherwise`` (also where a or b is NaN)."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        less = builder.fcmp_ordered("<", args[0], args[1])
        return builder.select(less, args[2], args[3])

    return lanes(lanes, lanes, lanes, lanes), generate


@intrinsic
def maximum(typing_context: Any, a: Any, b: Any) -> Any:
    """The larger; ``b`` where one of them is NaN."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[0], args[1])

    return lanes(lanes, lanes), generate


@intrinsic
def round_to_integer(typing_context: Any, value: Any) -> Any:
    """The nearest whole number, halves to the even one."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return call_llvm(builder, "llvm.rint.v16f32", _VECTOR, args[0])

    return lanes(lanes), generate


@intrinsic
def power_of_two(typing_context: Any, exponent: Any) -> Any:
    """2**n for a whole number n from -126 to 127, as its bits: n + 127 in the place of the exponent."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        n = builder.add(builder.fptosi(args[0], _INTS), _INTS(127))
        return builder.bitcast(builder.shl(n, _INTS(23)), _VECTOR)

    return lanes(lanes), generate


@intrinsic
def split_exponent(typing_context: Any, value: Any) -> Any:
    """(m, n) with value = m·2**n and √½ <= m < √2, for a normal number above 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], _INTS)
        above = builder.sub(bits, _INTS(0x3F3504F3))  # the bits of √½: what is above it, in steps of 2**23, is n
        n = builder.ashr(above, _INTS(23))
        m = builder.sub(bits, builder.shl(n, _INTS(23)))
        parts = builder.bitcast(m, _VECTOR), builder.sitofp(n, _VECTOR)
        return context.make_tuple(builder, signature.return_type, parts)

    return types.UniTuple(lanes, 2)(lanes), generate


def _reduce(builder: Any, value: Any, join: Any) -> Any:
    """Halves joined until one number is left: the same tree on every CPU."""
    width = LANES // 2
    while width:
        mask = [(lane + width) % LANES for lane in range(LANES)]
        value = join(value, builder.shuffle_vector(value, value, _INTS(mask)))
        width //= 2
    return builder.extract_element(value, I32(0))


@intrinsic
def sum_lanes(typing_context: Any, value: Any) -> Any:
    """The sum of the lanes: lane i with lane i + 8, then i + 4, i + 2, i + 1."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _reduce(builder, args[0], builder.fadd)

    return types.float32(lanes), generate


@intrinsic
def no_squares(typing_context: Any) -> Any:
    """What ``add_squares`` starts from."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _DOUBLES(0.0)

    return double_lanes(), generate


@intrinsic
def add_squares(typing_context: Any, totals: Any, value: Any) -> Any:
    """``totals + value**2`` in float64, where the square of a float32 is exact: so fused or not, it is the same."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = builder.fpext(args[1], _DOUBLES)
        return builder.fadd(args[0], builder.fmul(wide, wide))

    return double_lanes(double_lanes, lanes), generate


@intrinsic
def sum_squares(typing_context: Any, totals: Any) -> Any:
    """The sum of what ``add_squares`` has made, as ``sum_lanes``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _reduce(builder, args[0], builder.fadd)

    return types.float64(double_lanes), generate


@intrinsic
def max_lanes(typing_context: Any, value: Any) -> Any:
    """The largest lane, if none is NaN."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def larger(a: Any, b: Any) -> Any:
            return builder.select(builder.fcmp_ordered(">", a, b), a, b)

        return _reduce(builder, args[0], larger)

    return types.float32(lanes), generate


@intrinsic
def random_lanes(typing_context: Any, low: Any, high: Any, counter: Any, step: Any, threshold: Any, kept: Any) -> Any:
    """``kept`` where the random bits of the counters ``counter + lane·step`` reach ``threshold``, else 0.

    The bits are those of ``rng.random_bits`` for the key whose halves are ``low`` and ``high``.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        low, high, counter, step, threshold = (_repeat(builder, builder.trunc(arg, I32)) for arg in args[:5])
        counters = builder.add(counter, builder.mul(step, _INTS(_NUMBERS)))
        bits = mix_twice(*(Unsigned(builder, value) for value in (counters, low, high)))
        enough = builder.icmp_unsigned(">=", bits.value, threshold)
        return builder.select(enough, _repeat(builder, args[5]), _VECTOR(0.0))

    return lanes(*(types.int64,) * 5, types.float32), generate


@intrinsic
def lane_numbers(typing_context: Any) -> Any:
    """0, 1, ..., 15."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _VECTOR(list(map(float, _NUMBERS)))

    return lanes(), generate

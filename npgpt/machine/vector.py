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

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature

from npgpt.machine.bits import data_pointer, intrinsic

LANES = 16
_FLOAT, _I1, _I32 = ir.FloatType(), ir.IntType(1), ir.IntType(32)
_VECTOR, _DOUBLES, _INTS, _MASK = (ir.VectorType(kind, LANES) for kind in (_FLOAT, ir.DoubleType(), _I32, _I1))


class Lanes(types.Type):
    """The type of sixteen float32 numbers in a kernel."""

    def __init__(self) -> None:
        super().__init__(name="float32x16")


lanes = Lanes()


@extending.register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


class DoubleLanes(types.Type):
    """The type of sixteen float64 numbers: sums that float32 could not hold."""

    def __init__(self) -> None:
        super().__init__(name="float64x16")


double_lanes = DoubleLanes()


@extending.register_model(DoubleLanes)
class _DoubleLanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _DOUBLES)


def _constant(value: float) -> Any:
    return ir.Constant(_VECTOR, [ir.Constant(_FLOAT, value)] * LANES)


def _ints(value: int) -> Any:
    return ir.Constant(_INTS, [ir.Constant(_I32, value)] * LANES)


def _repeat(builder: Any, value: Any) -> Any:
    """One number in every lane."""
    kind = ir.VectorType(value.type, LANES)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, _I32(0))
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), ir.Constant(_INTS, [_I32(0)] * LANES))


def _call(builder: Any, name: str, result: Any, *args: Any) -> Any:
    """Call one of LLVM's intrinsic functions."""
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


def _define_operator(instruction: str, *symbols: Any) -> None:
    """``a + b`` and ``a += b``, say, for lanes, and for lanes and a number."""

    class Template(ConcreteTemplate):
        cases = (
            signature(lanes, lanes, lanes),
            signature(lanes, lanes, types.float32),
            signature(lanes, types.float32, lanes),
        )

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left, right = (arg if arg.type == _VECTOR else _repeat(builder, arg) for arg in args)
        return getattr(builder, instruction)(left, right)

    for symbol in symbols:
        infer_global(symbol)(Template)
        for case in Template.cases:
            lower_builtin(symbol, *case.args)(generate)


_define_operator("fadd", operator.add, operator.iadd)
_define_operator("fsub", operator.sub, operator.isub)
_define_operator("fmul", operator.mul, operator.imul)
_define_operator("fdiv", operator.truediv, operator.itruediv)


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
    count = _repeat(builder, builder.trunc(count, _I32))
    return builder.icmp_signed("<", ir.Constant(_INTS, [_I32(lane) for lane in range(LANES)]), count)


@intrinsic
def load_some(typing_context: Any, array: Any, offset: Any, count: Any, fill: Any) -> Any:
    """The ``count`` numbers (0 to 16) from ``array[offset]`` on; ``fill`` in the lanes behind them."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = data_pointer(context, builder, signature, args, _VECTOR)
        fill = _repeat(builder, args[3])
        return _call(builder, "llvm.masked.load.v16f32.p0", _VECTOR, pointer, _I32(4), _first(builder, args[2]), fill)

    return lanes(array, types.int64, types.int64, types.float32), generate


@intrinsic
def store_some(typing_context: Any, array: Any, offset: Any, count: Any, value: Any) -> Any:
    """Write the first ``count`` lanes (0 to 16) from ``array[offset]`` on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = data_pointer(context, builder, signature, args, _VECTOR)
        _call(
            builder, "llvm.masked.store.v16f32.p0", ir.VoidType(), args[3], pointer, _I32(4), _first(builder, args[2])
        )
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, lanes), generate


@intrinsic
def fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """a·b + c, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a, b, c = (arg if arg.type == _VECTOR else _repeat(builder, arg) for arg in args)
        return _call(builder, "llvm.fma.v16f32", _VECTOR, a, b, c)

    def one(kind: Any) -> Any:
        return lanes if kind is lanes else types.float32

    return lanes(one(a), one(b), one(c)), generate


@intrinsic
def sqrt(typing_context: Any, value: Any) -> Any:
    """The square root, rounded as IEEE 754 says."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _call(builder, "llvm.sqrt.v16f32", _VECTOR, args[0])

    return lanes(lanes), generate


@intrinsic
def absolute(typing_context: Any, value: Any) -> Any:
    """Without the sign."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _call(builder, "llvm.fabs.v16f32", _VECTOR, args[0])

    return lanes(lanes), generate


@intrinsic
def copysign(typing_context: Any, value: Any, sign: Any) -> Any:
    """The first, with the sign of the second."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _call(builder, "llvm.copysign.v16f32", _VECTOR, args[0], args[1])

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
        return _call(builder, "llvm.rint.v16f32", _VECTOR, args[0])

    return lanes(lanes), generate


@intrinsic
def power_of_two(typing_context: Any, exponent: Any) -> Any:
    """2**n for a whole number n from -126 to 127, as its bits: n + 127 in the place of the exponent."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        n = builder.add(builder.fptosi(args[0], _INTS), _ints(127))
        return builder.bitcast(builder.shl(n, _ints(23)), _VECTOR)

    return lanes(lanes), generate


@intrinsic
def split_exponent(typing_context: Any, value: Any) -> Any:
    """(m, n) with value = m·2**n and √½ <= m < √2, for a normal number above 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], _INTS)
        above = builder.sub(bits, _ints(0x3F3504F3))  # the bits of √½: what is above it, in steps of 2**23, is n
        n = builder.ashr(above, _ints(23))
        m = builder.sub(bits, builder.shl(n, _ints(23)))
        parts = builder.bitcast(m, _VECTOR), builder.sitofp(n, _VECTOR)
        return context.make_tuple(builder, signature.return_type, parts)

    return types.UniTuple(lanes, 2)(lanes), generate


def _reduce(builder: Any, value: Any, join: Any) -> Any:
    """Halves joined until one number is left: the same tree on every CPU."""
    width = LANES // 2
    while width:
        mask = [_I32((lane + width) % LANES) for lane in range(LANES)]
        value = join(value, builder.shuffle_vector(value, value, ir.Constant(_INTS, mask)))
        width //= 2
    return builder.extract_element(value, _I32(0))


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
        return ir.Constant(_DOUBLES, [ir.Constant(_DOUBLES.element, 0.0)] * LANES)

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
        def number(value: Any) -> Any:
            return _repeat(builder, builder.trunc(value, _I32))

        def mix(h: Any) -> Any:
            h = builder.mul(builder.xor(h, builder.lshr(h, _ints(16))), _ints(0x85EBCA6B))
            h = builder.mul(builder.xor(h, builder.lshr(h, _ints(13))), _ints(0xC2B2AE35))
            return builder.xor(h, builder.lshr(h, _ints(16)))

        steps = builder.mul(number(args[3]), ir.Constant(_INTS, [_I32(lane) for lane in range(LANES)]))
        counters = builder.add(number(args[2]), steps)
        bits = mix(builder.xor(mix(builder.xor(counters, number(args[0]))), number(args[1])))
        enough = builder.icmp_unsigned(">=", bits, number(args[4]))
        return builder.select(enough, _repeat(builder, args[5]), _constant(0.0))

    return lanes(*(types.int64,) * 5, types.float32), generate


@intrinsic
def lane_numbers(typing_context: Any) -> Any:
    """0, 1, ..., 15."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(_VECTOR, [ir.Constant(_FLOAT, float(lane)) for lane in range(LANES)])

    return lanes(), generate

"""Exponential, logarithm and activations of sixteen float32 numbers at once.

``PLAIN`` defines each function for one number in float64. The C library's ``exp`` would need a call for each number,
and its bits depend on the CPU. Here polynomials replace it, and ``fma`` fuses their products with their sums.

The polynomials were fitted for this file by least squares at 1500 Chebyshev nodes (3000 for the quotient). The weights
were raised where the relative error was largest, until its peaks were equal (Lawson's method). Then the coefficients
were rounded to float32 one after the other, the lowest first; after each, the others were fitted again. The error of
each polynomial is given beside it. The error of each function was measured at every 61st bit pattern of float32. Its
unit, the ulp, is the distance between neighbouring float32 numbers at the exact result (2**-149 if it is subnormal).

NaN gives NaN (with unspecified bits). 0, -0, inf and subnormal numbers give the right result or limit, unless a
docstring says otherwise.
"""

import math
from typing import Any

import numpy as np

from npgpt.machine.compile import inline_kernel
from npgpt.machine.vector import (
    absolute,
    copysign,
    fma,
    maximum,
    power_of_two,
    round_to_integer,
    select_less,
    splat,
    split_exponent,
)


def _plain_sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


def _plain_tanh_gelu(x: float) -> tuple[float, float]:
    root = math.sqrt(2 / math.pi)
    u, du = root * (x + 0.044715 * x * x * x), root * (1 + 3 * 0.044715 * x * x)
    left, right = _plain_sigmoid(2 * u), _plain_sigmoid(-2 * u)  # (1 + tanh u)/2 and (1 - tanh u)/2
    return x * left, left + x * left * right * 2 * du


def _plain_gelu(x: float) -> tuple[float, float]:
    cdf, density = math.erfc(-x / math.sqrt(2)) / 2, math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return x * cdf, cdf + x * density


# Name of a function -> its definition for one finite number, which is above 0 for ``log``.
PLAIN: dict[str, Any] = {
    "exp": lambda x: math.exp(min(x, 100.0)),  # Python raises where float64 overflows
    "log": math.log,
    "sigmoid": _plain_sigmoid,
    "tanh": math.tanh,
    "tanh_gelu": _plain_tanh_gelu,
    "gelu": _plain_gelu,
    "relu": lambda x: (x, 1.0) if x > 0 else (0.0, 0.0),
}

# ln 2 in two parts. The first has 16 bits, so its product with an integer of 8 bits is exact in float32's 24 bits.
_LN2_HIGH = np.float32(round(math.log(2) * 2**16) / 2**16)
_LN2_LOW = np.float32(math.log(2) - float(_LN2_HIGH))
_LOG2_E = np.float32(1 / math.log(2))
_TINY = np.float32(2.0**-126)  # the smallest normal number
_INF, _NAN = np.float32(math.inf), np.float32(math.nan)

# Polynomials, the highest power first.
# (e^r - 1 - r)/r² for |r| <= ln(2)/2; error in e^r: 0.05·2**-24
_EXP = (0.001382073387503624, 0.008368677459657192, 0.04166826605796814, 0.1666652113199234, 0.4999999403953552)
# (ln(1 + f) - f + f²/2)/f³ for √½ <= 1 + f < √2; error in the logarithm: 0.10·2**-24
_LOG = (
    -0.07635768502950668, 0.1276354193687439, -0.13160429894924164, 0.1420142650604248,
    -0.1662331074476242, 0.2000124603509903, -0.250008225440979, 0.3333333134651184,
)  # fmt: skip
# Φ(-a)·e^(a²/2) for 0 <= a <= 14.6 as a quotient, from repeated linear fits, each weighted by the previous divisor;
# error: 0.25·2**-24. All coefficients are positive, so no digits cancel.
_TAIL = (0.0040905470959842205, 0.04048033431172371, 0.18281270563602448, 0.43777400255203247, 0.5)
_TAIL_DIVISOR = (
    0.01025336142629385, 0.10147561877965927, 0.4683462977409363, 1.2008278369903564, 1.6734328269958496, 1.0,
)  # fmt: skip

_GELU_1 = np.float32(2 * math.sqrt(2 / math.pi))  # 2u = _GELU_1·x + _GELU_3·x³
_GELU_3 = np.float32(2 * math.sqrt(2 / math.pi) * 0.044715)
_GELU_9 = np.float32(2 * math.sqrt(2 / math.pi) * 0.044715 * 3)
_DENSITY_0 = np.float32(1 / math.sqrt(2 * math.pi))


@inline_kernel
def _polynomial(x: Any, coefficients: Any) -> Any:
    total = splat(coefficients[0])
    for k in range(1, len(coefficients)):
        total = fma(total, x, coefficients[k])
    return total


@inline_kernel
def _clamp(x: Any, low: float, high: float) -> Any:
    """Clamp x to low..high. NaN stays NaN, since each comparison with it is false."""
    above = maximum(splat(low), x)
    bound = splat(high)
    return select_less(bound, above, bound, above)


@inline_kernel
def _reduce(x: Any) -> Any:
    """Return (r, n) with x = r + n·ln 2, n an integer and |r| <= ln(2)/2 (Cody and Waite), for |x| up to 150."""
    n = round_to_integer(x * _LOG2_E)
    return fma(n, -_LN2_LOW, fma(n, -_LN2_HIGH, x)), n


@inline_kernel
def _expm1_reduced(r: Any) -> Any:
    """e^r - 1 for |r| <= ln(2)/2."""
    return fma(r * r, _polynomial(r, _EXP), r)


@inline_kernel
def _exp_scaled(r: Any, n: Any) -> Any:
    """e^r·2**n for n from -157 to 95, rounded once even if subnormal: the last factor is 2**-32."""
    scale = power_of_two(n + 32.0)
    return fma(scale, _expm1_reduced(r), scale) * np.float32(2.0**-32)


@inline_kernel
def exp(x: Any) -> Any:
    """e^x = e^r·2**n. Two factors give 2**n, since n can be -150 to 128, but an exponent only -126 to 127.

    Within 1.01 ulp.
    """
    r, n = _reduce(_clamp(x, -104.0, 89.0))
    half = round_to_integer(n * 0.5)
    scale = power_of_two(half)
    return fma(scale, _expm1_reduced(r), scale) * power_of_two(n - half)


@inline_kernel
def log(x: Any) -> Any:
    """ln x = n·ln 2 + ln m for x = m·2**n, √½ <= m < √2. ln 0 = -inf; a negative x gives NaN. Within 0.93 ulp."""
    tiny = splat(_TINY)
    m, n = split_exponent(select_less(x, tiny, x * np.float32(2.0**32), x))
    n = select_less(x, tiny, n - 32.0, n)
    f = m - 1.0
    log_m = fma(f * f, fma(f, _polynomial(f, _LOG), -0.5), f)
    result = fma(n, _LN2_HIGH, fma(n, _LN2_LOW, log_m))
    zero, inf = splat(0.0), splat(_INF)
    result = select_less(zero, x, result, select_less(x, zero, splat(_NAN), splat(-_INF)))
    return select_less(x, inf, result, x)  # inf and NaN


@inline_kernel
def sigmoid(x: Any) -> Any:
    """σ(x) = 1/(1 + e^-x) for x >= 0, else e^x/(1 + e^x), so no power overflows. Within 2.4 ulp."""
    r, n = _reduce(maximum(splat(-104.0), absolute(x) * -1.0))  # e^-104 is 0 in float32
    e = _exp_scaled(r, n)
    return select_less(x, splat(0.0), e, splat(1.0)) / (e + 1.0)


@inline_kernel
def tanh(x: Any) -> Any:
    """tanh|x| = -d/(d + 2) with d = e^(-2|x|) - 1 = (e^r - 1)·2**n + (2**n - 1). For n = 0 the second term is 0; for
    smaller n it is larger than the first. So d is accurate for every x. Within 2.5 ulp.
    """
    r, n = _reduce(maximum(splat(-20.0), absolute(x) * -2.0))  # tanh 10 is 1 in float32
    scale = power_of_two(n)
    d = fma(scale, _expm1_reduced(r), scale - 1.0)
    return copysign(d / (d + 2.0), x)


@inline_kernel
def tanh_gelu(x: Any) -> Any:
    """(y, slope) of GELU in the tanh form, y = x·(1 + tanh u)/2 with u = √(2/π)·(x + 0.044715 x³).

    (1 + tanh u)/2 = σ(2u), so y = x·σ(2u) and dy/dx = σ + x·σ′·2u′, where with e = e^(-2|u|) σ is 1/(1 + e) or
    e/(1 + e), and σ′ = σ·(1 - σ) = e/(1 + e)² on both sides. The exponential multiplies the relative error of 2u by
    2|u|: y is within 3 + 4|u| ulp (and 11·2**-149), and for x > 0 within 2.5. The slope is within 4 + 5|u| ulp. For
    -2 < x < 0, where the slope crosses 0, it is within 8e-8.

    Below -10.7, and at -inf, y is -0 and the slope 0 (the textbook has NaN at -inf). At inf they are inf and 1.
    """
    above = maximum(splat(-10.7), x)
    inside = _clamp(x, -10.7, 10.7)  # no power of x overflows; e is 0 at the ends
    square = inside * inside
    twice_u = absolute(inside) * fma(square, _GELU_3, _GELU_1)
    r, n = _reduce(twice_u * -1.0)
    e = _exp_scaled(r, n)
    inverse = 1.0 / (e + 1.0)
    sigma = select_less(x, splat(0.0), e, splat(1.0)) * inverse
    bell = e * inverse * inverse
    return above * sigma, fma(inside * fma(square, _GELU_9, _GELU_1), bell, sigma)


@inline_kernel
def gelu(x: Any) -> Any:
    """(y, slope) of the exact GELU, y = x·Φ(x), dy/dx = Φ + x·φ, for the standard normal Φ and its density φ.

    Φ(-a) = e^(-a²/2)·R(a) with R between 1/2 and 1/(a·√(2π)), a quotient of polynomials; Φ(a) = 1 - Φ(-a). The
    exponential would multiply the relative error of a²/2 by a²/2, so an fma computes the error and r includes it. y is
    within 6 ulp, or 10 below -13, where Φ is subnormal. The slope is within 6 ulp, for -2 < x < 0 within 1.2e-7.

    Below -14.5, and at -inf, y is -0 and the slope 0 (the textbook has NaN at -inf). At inf they are inf and 1.
    """
    above = maximum(splat(-14.5), x)
    inside = _clamp(x, -14.5, 14.5)
    a = absolute(inside)
    minus_half = a * -0.5
    exponent = a * minus_half
    r, n = _reduce(exponent)
    e = _exp_scaled(r + fma(a, minus_half, exponent * -1.0), n)
    ratio = _polynomial(a, _TAIL) / _polynomial(a, _TAIL_DIVISOR)
    cdf = select_less(x, splat(0.0), e * ratio, fma(e * -1.0, ratio, 1.0))
    return above * cdf, fma(inside * _DENSITY_0, e, cdf)


@inline_kernel
def relu(x: Any) -> Any:
    """(y, slope) of max(x, 0): y = x·slope; the slope is 1 for x > 0, else 0. At -inf y is NaN, as in the textbook."""
    slope = select_less(splat(0.0), x, splat(1.0), splat(0.0))
    return x * slope, slope

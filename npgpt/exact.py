# T time, D channels
"""Arithmetic that gives the same bits on every machine: only integers, + − × ÷ and square roots. NumPy only.

The last bit of a cosine, a power or a logarithm of the C library or of NumPy depends on the CPU. Numbers that affect a
weight are computed here instead.
"""

import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]

LN_2, LN_10000 = 0.6931471805599453, 9.210340371976184  # constants, since math.log may differ in its last bit


def cos_and_sin(T: int, D: int) -> tuple[Floats, Floats]:
    """Return cos and sin (T, ⌈D/2⌉) of t·ω_c for t < T and each pair c of D channels, with ω_c = 10000^(−2c/D).

    The first pair rotates by one radian per position, the last by almost nothing.

    >>> cos, sin = cos_and_sin(500, 4)
    >>> bool(np.abs(cos - np.cos(np.outer(np.arange(500), [1, 0.01]))).max() < 1e-12)
    True
    """
    cos, sin = _cos_and_sin(1 << max(0, T - 1).bit_length(), D)  # powers of two, so that few tables are made
    return cos[:T], sin[:T]


@functools.lru_cache(maxsize=32)
def _cos_and_sin(T: int, D: int) -> tuple[Floats, Floats]:
    frequencies = np.array([exponential(-2 * c / D * LN_10000) for c in range((D + 1) // 2)])
    angles = np.arange(T)[:, None] * frequencies
    z = angles - np.rint(angles / (2 * math.pi)) * (2 * math.pi)  # −π to π
    term = np.ones_like(z)
    sums = [np.ones_like(z), np.zeros_like(z)]
    for n in range(1, 30):  # the Taylor series of both: z^n/n! with the signs + − − +, repeated
        term = term * z / n
        sums[n % 2] = sums[n % 2] + (term if n % 4 < 2 else -term)
    return sums[0], sums[1]


def exponential(x: float) -> float:
    """Return e^x for −40 <= x <= 0, to 1e-13: (e^(x/64))^64, with the Taylor series of e^(x/64).

    >>> abs(exponential(-9.2) / math.exp(-9.2) - 1) < 1e-13
    True
    """
    term = total = 1.0
    for n in range(1, 16):
        term *= x / 64 / n
        total += term
    for _ in range(6):
        total *= total
    return total


def cos_pi(t: float) -> float:
    """Return cos πt for 0 <= t <= 1, to 1e-11: the Taylor series of sin z = cos(π/2 − z) at z = π(½ − t), up to z¹⁵.

    >>> abs(cos_pi(0.3) - math.cos(math.pi * 0.3)) < 1e-11
    True
    """
    z = math.pi * (0.5 - t)
    term = total = z
    for n in range(3, 17, 2):
        term = -term * z * z / (n * (n - 1))
        total += term
    return total


def mix(h: Any) -> Any:
    """Hash 32 bits so that each depends on all 32 bits of ``h``: a uint32 array, or a kernel's ``bits.Unsigned``.

    Source    A. Appleby, MurmurHash3, fmix32 (public domain)
    >>> [hex(h) for h in mix(np.array([0, 1], np.uint32))]
    ['0x0', '0x514e28b7']
    """
    h = (h ^ (h >> 16)) * 0x85EBCA6B
    h = (h ^ (h >> 13)) * 0xC2B2AE35
    return h ^ (h >> 16)


def mix_twice(counter: Any, low: Any, high: Any) -> Any:
    """Return 32 random bits for a counter: two rounds of ``mix``, each after an xor with half of a 64-bit key."""
    return mix(mix(counter ^ low) ^ high)


def fma(a: Floats32, b: Floats32, c: Floats32) -> Floats32:
    """Return a·b + c, rounded once to float32, like a fused multiply-add.

    The product is exact in float64. The sum is rounded to odd in float64: an inexact sum becomes the neighbour whose
    last bit is 1. Rounding this to float32 gives the same number as rounding the exact sum once.

    Source    Boldo and Melquiond 2008, "Emulation of a FMA and correctly rounded sums"; the error: Knuth's TwoSum

    >>> tiny = np.float32([2**-30])
    >>> fma(1 + tiny * 2**10, 1 + tiny * 2**10, -(1 + tiny * 2**11))[0] == 2.0**-40     # a·b rounded first gives 0
    np.True_
    """
    product, addend = a.astype(np.float64) * b, c.astype(np.float64)
    total = product + addend
    with np.errstate(invalid="ignore"):  # the error term of a sum that is not finite is NaN, and is not used
        part = total - product
        error = product - (total - part) + (addend - part)
    beside = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    is_even = (total.view(np.int64) & 1) == 0
    return np.where((np.abs(error) > 0) & is_even, beside, total).astype(np.float32)

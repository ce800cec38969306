"""Arithmetic with the same bits everywhere, compared with exact fractions."""

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from npgpt.exact import fma

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def rounded(x: Fraction) -> np.float32:
    """Return the nearest float32 of a fraction; ties go to the one whose last bit is 0."""
    near = np.float32(float(x)) if abs(x) < 2**127 else np.float32(np.sign(float(x / 2**10)) * 2.0**127)
    with np.errstate(over="ignore"):
        candidates = [near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))]
    candidates = [c for c in candidates if np.isfinite(c)]
    return min(candidates, key=lambda c: (abs(Fraction(float(c)) - x), int(c.view(np.int32)) & 1))


@given(FLOATS, FLOATS, FLOATS)
def test_fma_rounds_once(a: float, b: float, c: float) -> None:
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    with np.errstate(over="ignore"):
        ours = fma(*(np.float32([x]) for x in (a, b, c)))[0]
    if abs(exact) < 2**127:
        assert ours == rounded(exact)


@given(st.integers(-(2**24), 2**24), st.integers(-(2**24), 2**24), st.integers(-(2**24), 2**24), st.integers(-60, 60))
def test_fma_rounds_once_near_ties(a: int, b: int, c: int, exponent: int) -> None:
    numbers = np.float32(a), np.float32(b), np.float32(np.ldexp(c, exponent))
    exact = Fraction(a) * Fraction(b) + Fraction(c) * Fraction(2) ** exponent
    assert fma(*(x.reshape(1) for x in numbers))[0] == rounded(exact)


def test_fma_of_infinity_and_nan() -> None:
    inf, nan = np.float32([np.inf]), np.float32([np.nan])
    one = np.float32([1])
    assert fma(inf, one, one)[0] == np.inf
    assert np.isnan(fma(nan, one, one)[0])
    with np.errstate(invalid="ignore"):
        assert np.isnan(fma(inf, one, -inf)[0])

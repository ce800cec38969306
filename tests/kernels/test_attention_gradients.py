# B batch, T time, H heads, D head size
"""The gradients of attention: exact zeros where a query sees one key, and no digits lost at large scores."""

import math

import numpy as np
import pytest
from bench_attention_gradients import SIZES, by_kernel, by_textbook, difference, exact_products, rounded_products
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("D", [2, 5, 16, 32, 64])
def test_no_digits_are_lost_at_large_scores(D: int, size: float) -> None:
    operands = exact_products(size, 150, D)
    right = by_textbook(*operands, dtype=np.float64)
    assert difference(by_kernel(*operands), right) < 6e-7
    if D in (16, 64):  # elsewhere the textbook's quotient by √D rounds at the size of the score
        assert difference(by_textbook(*operands), right) < 6e-7


def test_few_digits_are_lost_in_long_rows() -> None:
    operands = exact_products(1e7, 1024, 64)
    assert difference(by_kernel(*operands), by_textbook(*operands, dtype=np.float64)) < 1e-6


@pytest.mark.parametrize("size", SIZES[:-2])
@pytest.mark.parametrize("D", [5, 32, 64])
def test_rounded_products_differ_from_the_textbooks_as_the_docstring_says(D: int, size: float) -> None:
    operands = rounded_products(size, 150, D)
    apart = difference(by_kernel(*operands), by_textbook(*operands))
    assert apart < max(1e-6, size * 2**-23)
    inexact = difference(by_kernel(*operands), by_textbook(*operands, dtype=np.float64))
    assert size < 1e4 or inexact > size * 2**-28  # else the sentence would promise too little


@given(
    st.sampled_from(["first", "alone", "newest", "oldest"]),
    st.integers(1, 2), st.integers(1, 3), st.integers(1, 130), st.integers(1, 40), st.sampled_from([0.0, 0.3]),
    st.integers(0, 99),
)  # fmt: skip
def test_one_visible_key_gives_exact_zeros(why: str, B: int, H: int, T: int, D: int, p: float, seed: int) -> None:
    """It is the first query's only key, the only key at all, or the newest or oldest key has by far the best score."""
    T = 1 if why == "alone" else T
    q, k, v, dm = np.random.default_rng(seed).standard_normal((4, B, H, T, D), np.float32)
    if why == "first":
        dm[:, :, 1:] = 0
    if why in ("newest", "oldest"):
        q[..., 0], k[..., 0] = 200 * math.sqrt(D), np.arange(T) * (1 if why == "newest" else -1)
        q[..., 1:] /= D
    dq, dk, _ = by_kernel(q, k, v, dm, p)
    assert not dq.any() and not dk.any()
    if p == 0:
        dq, dk, _ = by_textbook(q, k, v, dm)
        assert not dq.any() and not dk.any()

# B batch, T time, H heads, D head size
"""The gradients of attention: exact zeros where a query sees one key, and no digits lost at large scores."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.core import Array, Cache
from npgpt.kernels import attention, attention_backward
from npgpt.kernels.attention import forward_size
from npgpt.kernels.attention_backward import backward_size
from npgpt.layers import Mixing, Scores, Softmax
from npgpt.machine.pool import get_num_threads, pool

SIZES = (1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7)


def by_kernel(q: Array, k: Array, v: Array, dm: Array, p: float = 0.0) -> Array:
    """Return dq, dk and dv as one array (3, B, H, T, D)."""
    B, H, T, D = q.shape
    qkv = np.stack([q, k, v]).transpose(1, 3, 0, 2, 4).astype(np.float32, "C").reshape(B * T, 3 * H * D)
    dmixed = dm.transpose(0, 2, 1, 3).astype(np.float32, "C").reshape(B * T, H * D)
    mixed, dqkv, (largest, totals) = np.empty_like(dmixed), np.empty_like(qkv), np.empty((2, B * H * T), np.float32)
    dropping = np.arange(5, 5 + B), round(p * 2**32), 1 / (1 - p)
    works = [np.empty((get_num_threads(), size(T, D)), np.float32) for size in (forward_size, backward_size)]
    attention.forward(pool(), qkv, H, T, mixed, largest, totals, *dropping, works[0])
    attention_backward.backward(pool(), dmixed, qkv, largest, totals, H, T, dqkv, *dropping, works[1])
    return dqkv.reshape(B, T, 3, H, D).transpose(2, 0, 3, 1, 4)


def by_textbook(q: Array, k: Array, v: Array, dm: Array, dtype: Any) -> Array:
    q, k, v, dm = (x.astype(dtype) for x in (q, k, v, dm))
    scores, softmax, mixing, cache = Scores(), Softmax(), Mixing(), Cache()
    s = scores.forward(q, k, cache.scope("scores"))
    mixing.forward(softmax.forward(s, cache.scope("softmax")), v, cache.scope("mixing"))
    dw, dv = mixing.backward(dm, cache.scope("mixing"))
    return np.stack([*scores.backward(softmax.backward(dw, cache.scope("softmax")), cache.scope("scores")), dv])


def exact_products(size: float, T: int, D: int) -> list[Array]:
    """Return q, k, v, dm with scores near ``size`` or ``-size``. All q·k, multiples of ``unit``, fit into float32."""
    rng = np.random.default_rng(D)
    q, k = np.zeros((2, 2, 2, T, D))
    few, unit = min(D - 1, 6), 2 ** math.ceil(math.log2(D) / 2)
    q[..., :few] = unit * rng.integers(-1, 2, (2, 2, T, few))
    k[..., :few] = rng.integers(-1, 2, (2, 2, T, few))
    q[..., -1] = unit * round(size * math.sqrt(D) / unit) * rng.choice([-1, 1], (2, 2, T))
    k[..., -1] = 1
    return [q, k, *rng.standard_normal((2, 2, 2, T, D), np.float32)]


def difference(a: Array, b: Array) -> float:
    """The largest difference of dq, dk and dv, each over its norm."""
    return max(float(np.linalg.norm(x - y) / np.linalg.norm(y)) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("D", [2, 5, 16, 32, 64])
def test_no_digits_are_lost_at_large_scores(D: int, size: float) -> None:
    operands = exact_products(size, 150, D)
    right = by_textbook(*operands, np.float64)
    assert difference(by_kernel(*operands), right) < 1e-6
    if D in (16, 64):  # elsewhere the textbook's quotient by √D rounds at the size of the score
        assert difference(by_textbook(*operands, np.float32), right) < 1e-6


@pytest.mark.parametrize("size", SIZES[:-2])
@pytest.mark.parametrize("D", [5, 32, 64])
def test_rounded_products_differ_from_the_textbooks_as_the_docstring_says(D: int, size: float) -> None:
    q, k, v, dm = np.random.default_rng(D).standard_normal((4, 2, 2, 150, D), np.float32)
    q[..., 0], k[..., 0] = size * math.sqrt(D), 1
    apart = difference(by_kernel(q, k, v, dm), by_textbook(q, k, v, dm, np.float32))
    assert apart < max(1e-6, size * 2**-23)
    assert size < 1e4 or apart > size * 2**-28  # else the sentence would promise too little


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
        dq, dk, _ = by_textbook(q, k, v, dm, np.float32)
        assert not dq.any() and not dk.any()

"""What attention does in each head of each example by itself.

As code, for (B, H, n, m) arrays of any strides::

    for b in range(B):
        for h in range(H):
            c[b, h] = left[b, h] @ right[b, h]          # multiply_heads
            for i in range(T):
                for j in range(T):                      # mask_scores
                    s[b, h, i, j] = s[b, h, i, j]*factor if j <= i else hidden

Each head is a chunk: one small product by one thread, with the blocks and the tile of ``matmul.py``.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from npgpt.kernels.atomics import job
from npgpt.kernels.cache import entry, kernel
from npgpt.kernels.kinds import FLOAT, FLOATS, HEADS, HEADS_OUT, POOL, ROWS, ROWS_OUT
from npgpt.kernels.matmul import NO_NUMBERS, NO_ROWS, NOTHING, multiply_block, packable, workspace
from npgpt.kernels.pool import launch, pool

Floats = NDArray[np.float32]


@kernel
def _product(
    thread: int, chunk: int, a: Any, b: Any, c: Any, numbers: Any, rows: Any, rows_out: Any, packs: Any
) -> None:
    example, head = chunk // a.shape[1], chunk % a.shape[1]
    left, right, out = a[example, head], b[example, head], c[example, head]
    every_row, every_column = (0, out.shape[0]), (0, out.shape[1])
    multiply_block(left, right, out, every_row, every_column, False, NOTHING, numbers, rows, rows_out, packs[thread])


@entry(POOL, HEADS, HEADS, HEADS_OUT, FLOATS, ROWS, ROWS_OUT, ROWS_OUT)
def _products(pool: Any, a: Any, b: Any, c: Any, numbers: Any, rows: Any, rows_out: Any, packs: Any) -> None:
    launch(pool, a.shape[0] * a.shape[1], *job(_product, (a, b, c, numbers, rows, rows_out, packs)))


def multiply_heads(a: Floats, b: Floats, out: Floats) -> Floats:
    """``out = a @ b`` in each head: (B, H, n, k) times (B, H, k, m) -> (B, H, n, m), whose last axis is contiguous."""
    _products(pool(), packable(a), packable(b), out, NO_NUMBERS, NO_ROWS, NO_ROWS, workspace())
    return out


@kernel
def _mask(thread: int, chunk: int, s: Any, factor: float, hidden: float, out: Any) -> None:
    T = s.shape[1]
    scale, beyond = np.float32(factor), np.float32(hidden)
    for i in range(T):
        source, target = s[chunk * T + i], out[chunk * T + i]
        for j in range(i + 1):
            target[j] = source[j] * scale
        for j in range(i + 1, T):
            target[j] = beyond


@entry(POOL, ROWS, FLOAT, FLOAT, ROWS_OUT)
def mask_scores(pool: Any, s: Any, factor: float, hidden: float, out: Any) -> None:
    """Times ``factor`` up to the diagonal, ``hidden`` beyond it, in each of the (T, T) that s (n·T, T) is made of."""
    launch(pool, len(s) // max(1, s.shape[1]), *job(_mask, (s, factor, hidden, out)))

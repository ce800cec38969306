"""The loops of the compiled layers Scores and Mixing, over the heads of each example. Compiled attention uses neither.

``plain_mask_scores`` is the loop for one head.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from npgpt.kernels.matmul import matmul
from npgpt.machine.atomics import job
from npgpt.machine.compile import entry, kernel
from npgpt.machine.kinds import FLOAT, POOL, ROWS, ROWS_OUT
from npgpt.machine.pool import launch

Floats = NDArray[np.float32]


def plain_mask_scores(s: Any, factor: float, hidden: float, out: Any) -> None:
    """Mask the scores (T, T) of one head, like ``mask_scores``."""
    for i in range(len(s)):
        for j in range(len(s)):
            out[i, j] = s[i, j] * factor if j <= i else hidden


def multiply_heads(a: Floats, b: Floats, out: Floats) -> Floats:
    """``out = a @ b`` in each head: (B, H, n, k) times (B, H, k, m) -> (B, H, n, m), of any strides."""
    for of_head in np.ndindex(out.shape[:2]):
        matmul(a[of_head], b[of_head], out[of_head])
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
    """In each (T, T) block of s (n·T, T): multiply by ``factor`` up to the diagonal, write ``hidden`` above it."""
    launch(pool, len(s) // max(1, s.shape[1]), *job(_mask, (s, factor, hidden, out)))

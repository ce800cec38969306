"""The loops of the compiled layers Scores and Mixing, over the heads of each example. Compiled attention uses neither.

``plain_mask_scores`` is the loop for one head.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from npgpt.kernels.matmul import matmul
from npgpt.machine.atomics import job
from npgpt.machine.compile import entry, kernel
from npgpt.machine.kinds import FLOAT, INT, POOL, ROWS, ROWS_OUT
from npgpt.machine.pool import launch

Floats = NDArray[np.float32]


def plain_mask_scores(s: Any, factor: float, hidden: float, out: Any) -> None:
    """Mask the scores (T, n) of one head, like ``mask_scores``."""
    T, n = s.shape
    for i in range(T):
        for j in range(n):
            out[i, j] = s[i, j] * factor if j <= i + n - T else hidden


def multiply_heads(a: Floats, b: Floats, out: Floats) -> Floats:
    """``out = a @ b`` in each head: (B, H, n, k) times (B, H, k, m) -> (B, H, n, m), of any strides."""
    for of_head in np.ndindex(out.shape[:2]):
        matmul(a[of_head], b[of_head], out[of_head])
    return out


@kernel
def _mask(thread: int, chunk: int, s: Any, T: int, factor: float, hidden: float, out: Any) -> None:
    n = s.shape[1]
    scale, beyond = np.float32(factor), np.float32(hidden)
    for i in range(T):
        source, target = s[chunk * T + i], out[chunk * T + i]
        n_seen = n - T + i + 1
        for j in range(n_seen):
            target[j] = source[j] * scale
        for j in range(n_seen, n):
            target[j] = beyond


@entry(POOL, ROWS, INT, FLOAT, FLOAT, ROWS_OUT)
def mask_scores(pool: Any, s: Any, T: int, factor: float, hidden: float, out: Any) -> None:
    """In each head's T rows of s: multiply by ``factor`` what each query sees, write ``hidden`` behind it.

    The last query sees the whole row, each earlier one a number less.
    """
    launch(pool, len(s) // max(1, T), *job(_mask, (s, T, factor, hidden, out)))

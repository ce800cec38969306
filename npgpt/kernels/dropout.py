"""Dropout. Forward and backward both compute the mask; it is never stored.

``plain_dropout`` is the loop; its call of ``npgpt.rng.random_bits`` takes five passes over memory. A dozen integer
operations on sixteen lanes take less time than reading a stored mask.
"""

from typing import Any

import numpy as np

from npgpt.machine.atomics import job
from npgpt.machine.bits import shift_right
from npgpt.machine.compile import entry, kernel
from npgpt.machine.kinds import FLOAT, INT, INTS, POOL, ROWS, ROWS_OUT
from npgpt.machine.pool import launch
from npgpt.machine.vector import LANES, load, load_some, random_lanes, store, store_some
from npgpt.rng import random_bits

CHUNK = 4096  # numbers in a chunk, all of one example


def plain_dropout(x: Any, keys: Any, threshold: int, kept: float, y: Any) -> None:
    """Compute y (B, n) from x (B, n), like ``dropout``."""
    for b in range(len(x)):
        bits = random_bits(int(keys[b]) % 2**64, np.arange(x.shape[1], dtype=np.uint32))
        y[b] = x[b] * np.where(bits >= np.uint32(threshold), np.float32(kept), np.float32(0))


@kernel
def _dropout(thread: int, chunk: int, parts: int, x: Any, keys: Any, threshold: int, kept: Any, y: Any) -> None:
    """Compute one part of an example."""
    n = x.shape[1]
    b, part = chunk // parts, chunk % parts
    low, high = keys[b] & 0xFFFFFFFF, shift_right(keys[b], 32)
    first, last = part * CHUNK, min(n, (part + 1) * CHUNK)
    whole = last - (last - first) % LANES
    at, rest = b * n, last - whole
    for i in range(first, whole, LANES):
        store(y, at + i, load(x, at + i) * random_lanes(low, high, i, 1, threshold, kept))
    if rest:
        some = load_some(x, at + whole, rest, 0.0) * random_lanes(low, high, whole, 1, threshold, kept)
        store_some(y, at + whole, rest, some)


@entry(POOL, ROWS, INTS, INT, FLOAT, ROWS_OUT)
def dropout(pool: Any, x: Any, keys: Any, threshold: int, kept: float, y: Any) -> None:
    """y = x·kept where the random bits reach the threshold, else x·0; x and y are (B, n). y may be x.

    Args
        keys: (B,), the 64-bit key of each example.
        threshold: 0 to 2**32 - 1.
        kept: rounded to float32.
    """
    parts = (x.shape[1] + CHUNK - 1) // CHUNK
    launch(pool, len(x) * parts, *job(_dropout, (parts, x, keys, threshold, np.float32(kept), y)))

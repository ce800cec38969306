"""Softmax of each row, forward and backward.

``plain_forward`` and ``plain_backward`` are the loops. Here each row is read once from memory; the sum and the division
read it from the L1 cache. Sixteen exponentials are computed at a time. An exponential below 2**-100 becomes 0: it would
change no sum, and a product with it could be subnormal, which makes some CPUs a hundred times slower.
"""

from typing import Any

import numpy as np

from npgpt.machine.atomics import job
from npgpt.machine.compile import entry, inline_kernel, kernel
from npgpt.machine.functions import _expm1_reduced, _reduce
from npgpt.machine.kinds import POOL, ROWS, ROWS_OUT
from npgpt.machine.pool import launch
from npgpt.machine.vector import (
    LANES,
    fma,
    load,
    load_some,
    max_lanes,
    maximum,
    power_of_two,
    select_less,
    splat,
    store,
    store_some,
    sum_lanes,
)

CHUNK = 8192  # numbers in a chunk, which has at least one row
LOWEST = np.float32(-69.3)  # just above -100·ln 2
_INF = np.float32(np.inf)


def plain_forward(s: Any, w: Any) -> None:
    """w (n, C) = softmax of each row of s (n, C)."""
    for i in range(len(s)):
        e = np.exp(s[i] - max(s[i]))
        w[i] = e / sum(e)


def plain_backward(dw: Any, w: Any, ds: Any) -> None:
    """Compute ds (n, C) from dw and w (n, C)."""
    for i in range(len(w)):
        ds[i] = w[i] * (dw[i] - sum(dw[i] * w[i]))


@inline_kernel
def rows_of_chunk(C: int) -> int:
    """Return the number of rows of C numbers in a chunk."""
    return max(1, CHUNK // max(1, C))


@inline_kernel
def exp_or_zero(x: Any, lowest: Any) -> Any:
    """e^x for x <= 0, or 0 where x < ``lowest``; ``lowest`` >= -87, so no result is subnormal. NaN gives NaN."""
    r, n = _reduce(maximum(splat(lowest), x))
    scale = power_of_two(n)
    return select_less(x, splat(lowest), splat(0.0), fma(scale, _expm1_reduced(r), scale))


@inline_kernel
def largest_of_row(x: Any, at: int, whole: int, rest: int) -> Any:
    """Return the largest of the ``whole + rest`` numbers from ``x[at]`` on, without NaN; -inf if all are NaN."""
    largest = maximum(load_some(x, at + whole, rest, -_INF), splat(-_INF))  # -inf in place of NaN
    for c in range(0, whole, LANES):
        largest = maximum(load(x, at + c), largest)
    return max_lanes(largest)


@kernel
def exp_row(x: Any, at: int, C: int, lowest: Any, out: Any) -> Any:
    """Write e^(x - max) of the C numbers from ``x[at]`` on to ``out[at]`` on; return (max, sum).

    The sum is NaN if a number is NaN or inf, or if all are -inf. It has the same bits if -inf follow. ``out`` may be x.
    """
    whole = C - C % LANES
    rest = C - whole
    largest = largest_of_row(x, at, whole, rest)
    total = splat(0.0)
    for c in range(0, whole, LANES):
        e = exp_or_zero(load(x, at + c) - largest, lowest)
        store(out, at + c, e)
        total += e
    e = exp_or_zero(load_some(x, at + whole, rest, -_INF) - largest, lowest)
    store_some(out, at + whole, rest, e)
    return largest, sum_lanes(total + e)


@kernel
def scale_row(x: Any, at: int, C: int, factor: Any) -> None:
    """Multiply the C numbers from ``x[at]`` on by a factor, in place."""
    whole = C - C % LANES
    for c in range(0, whole, LANES):
        store(x, at + c, load(x, at + c) * factor)
    store_some(x, at + whole, C - whole, load_some(x, at + whole, C - whole, 0.0) * factor)


@kernel
def _forward(thread: int, chunk: int, rows: int, s: Any, w: Any) -> None:
    n, C = s.shape
    for row in range(chunk * rows, min(n, (chunk + 1) * rows)):
        _, total = exp_row(s, row * C, C, LOWEST, w)
        scale_row(w, row * C, C, np.float32(1) / total)


@entry(POOL, ROWS, ROWS_OUT)
def forward(pool: Any, s: Any, w: Any) -> None:
    """w (n, C) = softmax of each row of s (n, C); w may be s.

    -inf gives exactly 0. A row that contains NaN or inf, or only -inf, gives NaN.
    """
    rows = rows_of_chunk(s.shape[1])
    launch(pool, (len(s) + rows - 1) // rows, *job(_forward, (rows, s, w)))


@kernel
def _backward(thread: int, chunk: int, rows: int, dw: Any, w: Any, ds: Any) -> None:
    n, C = w.shape
    whole = C - C % LANES
    rest = C - whole
    for row in range(chunk * rows, min(n, (chunk + 1) * rows)):
        at = row * C
        last_w, last_dw = load_some(w, at + whole, rest, 0.0), load_some(dw, at + whole, rest, 0.0)
        total = last_w * last_dw
        for c in range(0, whole, LANES):
            total = fma(load(w, at + c), load(dw, at + c), total)
        mean = sum_lanes(total)
        for c in range(0, whole, LANES):
            store(ds, at + c, load(w, at + c) * (load(dw, at + c) - mean))
        store_some(ds, at + whole, rest, last_w * (last_dw - mean))


@entry(POOL, ROWS, ROWS, ROWS_OUT)
def backward(pool: Any, dw: Any, w: Any, ds: Any) -> None:
    """Compute ds (n, C) from dw (n, C) and w (n, C), the output of ``forward``; ds may be dw or w."""
    rows = rows_of_chunk(w.shape[1])
    launch(pool, (len(w) + rows - 1) // rows, *job(_backward, (rows, dw, w, ds)))

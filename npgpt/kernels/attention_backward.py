"""Attention's backward pass. It recomputes the weights, a block at a time, from the logarithms of the sums.

``plain_backward`` is the loop for one head of one example. Here KEYS keys at a time are in the lanes, and the queries
that see them follow in blocks. Weights and ds (queries, KEYS) are already packed for the products with dm and q. These
products give the transposed dv and dk, which stay in the cache for all queries. Only dq needs a packed copy of ds; dq
is accumulated in memory.
"""

import math
from typing import Any

import numpy as np

from npgpt.kernels.attention import (
    multiply_packed,
    pack_columns,
    pack_lanes,
    pack_rows,
    panels_size,
    plain_weights,
    write_transposed,
)
from npgpt.kernels.matmul import GAP
from npgpt.kernels.softmax import LOWEST, exp_or_zero
from npgpt.machine.atomics import job
from npgpt.machine.bits import shift_right
from npgpt.machine.compile import entry, kernel
from npgpt.machine.kinds import FLOAT, FLOATS, INT, INTS, POOL, ROWS, ROWS_OUT
from npgpt.machine.pool import launch
from npgpt.machine.tile import TILE_COLUMNS, TILE_ROWS, copy_number
from npgpt.machine.vector import (
    LANES,
    fma,
    lane_numbers,
    load,
    load_some,
    random_lanes,
    select_less,
    splat,
    store,
    sum_lanes,
)

KEYS = 32  # two registers of lanes
QUERIES = 96  # a multiple of every tile's rows
START = 24  # the first query is rounded down to a multiple of this, which is a multiple of every tile's rows


def plain_backward(dm: Any, q: Any, k: Any, v: Any, mixed: Any, dropped: Any) -> Any:
    """Return dq, dk and dv for dm, the gradient of mixed; all are (T, D), for one head of one example.

    Args
        dropped: (T, T), the factors by which dropout multiplies the weights.
    """
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    for i in range(len(q)):
        seen = slice(i + 1)
        w = plain_weights(q, k, i)
        dv[seen] += np.outer(w * dropped[i, seen], dm[i])
        dw = v[seen] @ dm[i] * dropped[i, seen]
        along = dm[i] @ mixed[i]  # = Σ_j w_j dw_j, since mixed[i] = Σ_j w_j dropped_j v_j
        ds = w * (dw - along) / math.sqrt(q.shape[1])
        dq[i] = ds @ k[seen]
        dk[seen] += np.outer(ds, q[i])
    return dq, dk, dv


def layout(T: int, D: int) -> tuple[int, int, int, int, int, int, int, int, int, int, int, int, int, int]:
    """Return the offsets of the arrays in a thread's memory, and its size, in numbers; small arrays come first.

    The arrays are scores or weights, and ds (QUERIES, KEYS); ds as panels; keys and values (D, KEYS); keys as rows; dk
    and dv (D, KEYS); q and dm of all queries, as panels of rows, then of columns; the output of ``_along``.
    """
    s = 0
    ds = s + QUERIES * KEYS
    ds_rows = ds + QUERIES * KEYS
    k_lanes = ds_rows + panels_size(QUERIES, KEYS)
    v_lanes = k_lanes + D * KEYS
    k_rows = v_lanes + D * KEYS
    dk = k_rows + KEYS * whole_tiles(D)
    dv = dk + D * KEYS
    q_rows = dv + D * KEYS
    dm_rows = q_rows + panels_size(T, D)
    q_columns = dm_rows + panels_size(T, D)
    dm_columns = q_columns + panels_size(D, T)
    along = dm_columns + panels_size(D, T)
    return s, ds, ds_rows, k_lanes, v_lanes, k_rows, dk, dv, q_rows, dm_rows, q_columns, dm_columns, along, along + T


@kernel
def whole_tiles(D: int) -> int:
    """Round D up to whole tiles."""
    return (D + TILE_COLUMNS - 1) // TILE_COLUMNS * TILE_COLUMNS


_layout = kernel(layout)


@kernel
def _along(dmixed: Any, mixed: Any, at: int, C: int, n: int, D: int, work: Any, to: int) -> None:
    """Compute the inner product of each query's output with the output's gradient."""
    whole = D - D % LANES
    for i in range(n):
        here = at + i * C
        total = load_some(dmixed, here + whole, D - whole, 0.0) * load_some(mixed, here + whole, D - whole, 0.0)
        for c in range(0, whole, LANES):
            total = fma(load(dmixed, here + c), load(mixed, here + c), total)
        work[to + i] = sum_lanes(total)


@kernel
def _softmax_block(
    work: Any, s: int, dw: int, n: int, query: int, key: int, T: int, sums: Any, of_sums: int, along: int, scale: float,
    head: int, random: int, threshold: int, kept: float,
) -> None:  # fmt: skip
    """Replace the scores (n queries, KEYS) by the weights after dropout, and ``dw`` by the scores' gradients."""
    low, high = random & 0xFFFFFFFF, shift_right(random, 32)
    for i in range(n):
        log_sum, of_query = sums[of_sums + query + i], work[along + query + i]
        for half in range(0, KEYS, LANES):
            here, future = s + i * KEYS + half, query + i - key - half
            weight = exp_or_zero(load(work, here) * scale - log_sum, LOWEST)
            if future < LANES - 1:
                weight = select_less(splat(np.float32(future)), lane_numbers(), splat(0.0), weight)
            upstream = load(work, dw + i * KEYS + half)
            dropped = weight
            if kept != 1:
                counter = (head * T + query + i) * T + key + half
                mask = random_lanes(low, high, counter, 1, threshold, kept)
                dropped, upstream = weight * mask, upstream * mask
            store(work, here, dropped)
            store(work, dw + i * KEYS + half, weight * (upstream - of_query) * scale)


@kernel
def _pack_block(work: Any, at: int, n: int, n_keys: int, to: int) -> None:
    """Pack ds (n queries, KEYS) as panels of queries."""
    pack_rows(work, at, KEYS, n, n_keys, work, to)


@kernel
def _backward(
    thread: int, chunk: int, dmixed: Any, qkv: Any, mixed: Any, sums: Any, H: int, T: int, dqkv: Any, keys: Any,
    threshold: int, kept: Any, works: Any,
) -> None:  # fmt: skip
    """Compute one head of one example."""
    b, head, C = chunk // H, chunk % H, mixed.shape[1]
    D, row, work = C // H, 3 * C, works[thread]
    of_q, of_mixed = b * T * row + head * D, b * T * C + head * D
    scale = np.float32(1 / math.sqrt(D))
    by_row, by_column = D * TILE_ROWS + GAP, T * TILE_ROWS + GAP
    wide = whole_tiles(D)
    s, ds, ds_rows, k_lanes, v_lanes, k_rows, dk, dv, q_rows, dm_rows, q_columns, dm_columns, along, _ = _layout(T, D)
    _along(dmixed, mixed, of_mixed, C, T, D, work, along)
    pack_rows(qkv, of_q, row, T, D, work, q_rows)
    pack_rows(dmixed, of_mixed, C, T, D, work, dm_rows)
    pack_columns(qkv, of_q, row, T, D, work, q_columns)
    pack_columns(dmixed, of_mixed, C, T, D, work, dm_columns)
    for key in range(0, T, KEYS):
        n_keys = min(KEYS, T - key)
        of_k, of_v = of_q + C + key * row, of_q + 2 * C + key * row
        pack_lanes(qkv, of_k, row, n_keys, D, KEYS, work, k_lanes)
        pack_lanes(qkv, of_v, row, n_keys, D, KEYS, work, v_lanes)
        for i in range(n_keys):
            for c in range(D):
                copy_number(qkv, of_k + i * row + c, work, k_rows + i * wide + c)
        start = key // START * START
        for query in range(start, T, QUERIES):
            n = min(QUERIES, T - query)
            here, across = query // TILE_ROWS * by_row, query * TILE_ROWS
            multiply_packed(work, q_rows + here, by_row, k_lanes, KEYS, D, work, s, KEYS, n, KEYS, False)
            multiply_packed(work, dm_rows + here, by_row, v_lanes, KEYS, D, work, ds, KEYS, n, KEYS, False)
            _softmax_block(work, s, ds, n, query, key, T, sums, chunk * T, along, scale, head, keys[b], threshold, kept)
            later = query > start
            multiply_packed(work, dm_columns + across, by_column, s, KEYS, n, work, dv, KEYS, D, KEYS, later)
            multiply_packed(work, q_columns + across, by_column, ds, KEYS, n, work, dk, KEYS, D, KEYS, later)
            _pack_block(work, ds, n, n_keys, ds_rows)
            of_dq, panel = of_q + query * row, n_keys * TILE_ROWS + GAP
            multiply_packed(work, ds_rows, panel, k_rows, wide, n_keys, dqkv, of_dq, row, n, D, key > 0)
        write_transposed(work, dk, KEYS, D, n_keys, dqkv, of_k, row)
        write_transposed(work, dv, KEYS, D, n_keys, dqkv, of_v, row)


def backward_size(T: int, D: int) -> int:
    """Return the size of a thread's memory, in numbers. The size is linear in T, not quadratic."""
    return -(-layout(T, D)[-1] // LANES) * LANES


@entry(POOL, ROWS, ROWS, ROWS, FLOATS, INT, INT, ROWS_OUT, INTS, INT, FLOAT, ROWS_OUT)
def backward(
    pool: Any, dmixed: Any, qkv: Any, mixed: Any, sums: Any, H: int, T: int, dqkv: Any, keys: Any, threshold: int,
    kept: float, works: Any,
) -> None:  # fmt: skip
    """Compute dqkv (B·T, 3·C) from dmixed (B·T, C) and the input and outputs of ``forward``.

    Args
        works: (threads, backward_size(T, D)).
    """
    arguments = (dmixed, qkv, mixed, sums, H, T, dqkv, keys, threshold, np.float32(kept), works)
    launch(pool, len(qkv) // T * H, *job(_backward, arguments))

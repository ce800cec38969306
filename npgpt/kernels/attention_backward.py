"""Attention's backward pass. It computes the weights of a block of queries again, from their totals.

``plain_backward`` is the loop for one head of one example. Here KEYS keys at a time are in the lanes, and QUERIES
queries are a block. A block first gets its weights and dw for all keys that it sees, (QUERIES, T) numbers each. Only
then ds is computed. Weights and ds are already packed for the products with dm and q, which give the transposed dv and
dk. Only dq needs a packed copy of ds. dq, dk and dv are accumulated in memory.

ds_j = w_j·(dw_j − Σ_k w_k dw_k) is a difference, which is 0 if one weight is 1 and the others are 0: the query sees one
key, or that key's score is far above the others. So the sum is made from the same dw as the difference. Then it is
1·dw_j + 0 + 0 + ..., which is dw_j to the last bit, and ds is exactly 0. The inner product of dm and the output is the
same sum with other roundings. It would save the first pass over the keys, and leave noise, which AdamW enlarges to full
steps. Both orders of the loops need the same five products.

A bias b_hn is added to q_i·k_j of every pair of distance n = i − j, so its gradient is the sum of ds over a diagonal,
in all examples. One thread adds the rows of a head of one example, one after the other. The caller adds the examples in
a fixed order. So the bits do not depend on the threads.
"""

import math
from typing import Any

import numpy as np

from npgpt.kernels.attention import (
    START,
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
from npgpt.machine.pool import check_work_rows, launch
from npgpt.machine.tile import TILE_COLUMNS, TILE_ROWS
from npgpt.machine.vector import (
    LANES,
    absolute,
    fma,
    lane_numbers,
    load,
    load_some,
    random_lanes,
    select_less,
    splat,
    store,
    store_some,
    sum_lanes,
)

KEYS = 32  # two registers of lanes
QUERIES = 72  # a multiple of START; with 96, weights and dw of 1,024 keys left the L2 cache: 14 % slower (Zen 4)


def plain_backward(dm: Any, q: Any, k: Any, v: Any, dropped: Any, bias: Any) -> Any:
    """Return dq, dk, dv and dbias for dm, the gradient of mixed, for one head of one example.

    dbias is (T,), and all others are (T, D).

    Args
        dropped: (T, T), the factors by which dropout multiplies the weights.
        bias: (T,), what is added to q·k, by distance.
    """
    dq, dk, dv, dbias = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v), np.zeros_like(bias)
    for i in range(len(q)):
        seen = slice(i + 1)
        w = plain_weights(q, k, i, bias)
        dv[seen] += np.outer(w * dropped[i, seen], dm[i])
        dw = v[seen] @ dm[i] * dropped[i, seen]
        ds = w * (dw - w @ dw) / math.sqrt(q.shape[1])
        dq[i] = ds @ k[seen]
        dk[seen] += np.outer(ds, q[i])
        dbias[seen] += ds[::-1]
    return dq, dk, dv, dbias


def layout(T: int, D: int) -> tuple[int, int, int, int, int, int, int, int, int, int, int, int, int]:
    """Return the offsets of the arrays in a thread's memory, and its size, in numbers.

    The arrays are ds as panels, then q and dm, as panels of rows and of columns, for one block of queries; scores or
    weights, and dw or ds, of a block of queries and all keys, in blocks (QUERIES, KEYS); keys, values, dk and dv, in
    blocks (D, KEYS); keys as rows.
    """
    ds_rows, whole = 0, (T + KEYS - 1) // KEYS * KEYS
    q_rows = ds_rows + panels_size(QUERIES, KEYS)
    dm_rows = q_rows + panels_size(QUERIES, D)
    q_columns = dm_rows + panels_size(QUERIES, D)
    dm_columns = q_columns + panels_size(D, QUERIES)
    s = dm_columns + panels_size(D, QUERIES)
    ds = s + QUERIES * whole
    k_lanes = ds + QUERIES * whole
    v_lanes = k_lanes + D * whole
    dk = v_lanes + D * whole
    dv = dk + D * whole
    k_rows = dv + D * whole
    end = k_rows + T * whole_tiles(D)
    return ds_rows, q_rows, dm_rows, q_columns, dm_columns, s, ds, k_lanes, v_lanes, dk, dv, k_rows, end


@kernel
def whole_tiles(D: int) -> int:
    """Round D up to whole tiles."""
    return (D + TILE_COLUMNS - 1) // TILE_COLUMNS * TILE_COLUMNS


_layout = kernel(layout)


@kernel
def first_query(key: int) -> int:
    """Return where the queries of a block of keys begin: at its first key, rounded down to a multiple of START."""
    return key // START * START


@kernel
def _add_bias(work: Any, s: int, n: int, bias: Any, at: int) -> None:
    """Add the bias of each pair to q·k (n queries, KEYS); ``bias[at]`` is that of the first query and the first key."""
    for i in range(n):
        for half in range(0, KEYS, LANES):
            here = s + i * KEYS + half
            store(work, here, load(work, here) + load(bias, at + half - i))


@kernel
def _add_to_dbias(work: Any, ds: int, n: int, query: int, first_key: int, T: int, dbias: Any, at: int) -> None:
    """Add ds of n queries to the gradients of the biases, row by row; ``dbias[at]`` is that of distance 0.

    Pairs of one distance are a diagonal, so the next row's sums begin one number before those of this row.
    """
    for i in range(n):
        row = query + i
        for key in range(first_key, min(T, (row // START + 1) * START), KEYS):  # as in ``_softmax_block``
            for half in range(0, KEYS, LANES):
                to = at + key + half - row
                store(dbias, to, load(dbias, to) + load(work, ds + key * QUERIES + i * KEYS + half))


@kernel
def _softmax_block(
    work: Any, s: int, dw: int, n: int, query: int, first_key: int, T: int, largest: Any, totals: Any, of_head: int,
    scale: float, head: int, random: int, threshold: int, kept: float, starts: Any, of_example: int,
) -> None:  # fmt: skip
    """Replace the q·k of n queries and keys from ``first_key`` on by the weights after dropout, and dw by ds.

    Between the two passes over a row, weights to be dropped are stored with a minus sign.
    """
    low, high = random & 0xFFFFFFFF, shift_right(random, 32)
    for i in range(n):
        row = query + i
        n_keys = min(T, (row // START + 1) * START)  # of all blocks with first_query(key) <= row
        best, inverse = largest[of_head + row], np.float32(1) / totals[of_head + row]
        along = splat(0.0)
        start = starts[of_example + row] if len(starts) else 0
        for key in range(first_key, n_keys, KEYS):
            for half in range(0, KEYS, LANES):
                here, future = key * QUERIES + i * KEYS + half, row - key - half
                weight = exp_or_zero((load(work, s + here) - best) * scale, LOWEST) * inverse
                if future < LANES - 1:
                    weight = select_less(splat(np.float32(future)), lane_numbers(), splat(0.0), weight)
                if start > key + half:
                    weight = select_less(lane_numbers(), splat(np.float32(start - key - half)), splat(0.0), weight)
                upstream = load(work, dw + here)
                if kept != 1:
                    counter = (head * T + row) * T + key + half
                    mask = random_lanes(low, high, counter, 1, threshold, kept)
                    upstream *= mask
                    store(work, dw + here, upstream)
                    store(work, s + here, select_less(mask, splat(kept), splat(0.0) - weight, weight))
                else:
                    store(work, s + here, weight)
                along = fma(weight, upstream, along)
        of_row = sum_lanes(along)
        for key in range(first_key, n_keys, KEYS):
            for half in range(0, KEYS, LANES):
                here = key * QUERIES + i * KEYS + half
                weight = load(work, s + here)
                if kept != 1:
                    store(work, s + here, select_less(weight, splat(0.0), splat(0.0), weight * kept))
                    weight = absolute(weight)
                store(work, dw + here, weight * (load(work, dw + here) - of_row) * scale)


@kernel
def _backward(
    thread: int, chunk: int, dmixed: Any, qkv: Any, largest: Any, totals: Any, H: int, T: int, dqkv: Any, keys: Any,
    threshold: int, kept: Any, bias: Any, dbias: Any, starts: Any, works: Any,
) -> None:  # fmt: skip
    """Compute one head of one example."""
    b, head, C = chunk // H, chunk % H, dmixed.shape[1]
    D, row, work = C // H, 3 * C, works[thread]
    of_q, of_dm = b * T * row + head * D, b * T * C + head * D
    of_k, of_v = of_q + C, of_q + 2 * C
    scale = np.float32(1 / math.sqrt(D))
    by_row, wide = D * TILE_ROWS + GAP, whole_tiles(D)
    ds_rows, q_rows, dm_rows, q_columns, dm_columns, s, ds, k_lanes, v_lanes, dk, dv, k_rows, _ = _layout(T, D)
    if len(dbias):
        dbias[chunk] = 0
    for key in range(0, T, KEYS):
        n_keys = min(KEYS, T - key)
        pack_lanes(qkv, of_k + key * row, row, n_keys, D, KEYS, work, k_lanes + key * D)
        pack_lanes(qkv, of_v + key * row, row, n_keys, D, KEYS, work, v_lanes + key * D)
    for key in range(T):
        for c in range(0, D, LANES):
            n = min(LANES, D - c)
            store_some(work, k_rows + key * wide + c, n, load_some(qkv, of_k + key * row + c, n, 0.0))
    for query in range(0, T, QUERIES):
        n = min(QUERIES, T - query)
        by_column = n * TILE_ROWS + GAP
        pack_rows(qkv, of_q + query * row, row, n, D, work, q_rows)
        pack_rows(dmixed, of_dm + query * C, C, n, D, work, dm_rows)
        pack_columns(qkv, of_q + query * row, row, n, D, work, q_columns)
        pack_columns(dmixed, of_dm + query * C, C, n, D, work, dm_columns)
        first_key = starts[b * T + query] // KEYS * KEYS if len(starts) else 0
        for key in range(first_key, query + n, KEYS):
            skip = max(0, first_query(key) - query)
            down, to = skip // TILE_ROWS * by_row, key * QUERIES + skip * KEYS
            multiply_packed(
                work, q_rows + down, by_row, k_lanes + key * D, KEYS, D, work, s + to, KEYS, n - skip, KEYS, False
            )
            multiply_packed(
                work, dm_rows + down, by_row, v_lanes + key * D, KEYS, D, work, ds + to, KEYS, n - skip, KEYS, False
            )
            if len(bias):
                _add_bias(work, s + to, n - skip, bias, head * bias.shape[1] + T + key - query - skip)
        _softmax_block(
            work, s, ds, n, query, first_key, T, largest, totals, chunk * T, scale, head, keys[b], threshold, kept,
            starts, b * T,
        )  # fmt: skip
        if len(dbias):
            _add_to_dbias(work, ds, n, query, first_key, T, dbias, chunk * dbias.shape[1] + T)
        for key in range(first_key, query + n, KEYS):
            n_keys, skip, later = min(KEYS, T - key), max(0, first_query(key) - query), query > first_query(key)
            across, of, m = skip * TILE_ROWS, key * QUERIES + skip * KEYS, n - skip
            multiply_packed(
                work, dm_columns + across, by_column, s + of, KEYS, m, work, dv + key * D, KEYS, D, KEYS, later
            )
            multiply_packed(
                work, q_columns + across, by_column, ds + of, KEYS, m, work, dk + key * D, KEYS, D, KEYS, later
            )
            pack_rows(work, ds + of, KEYS, m, n_keys, work, ds_rows)
            of_dq, panel = of_q + (query + skip) * row, n_keys * TILE_ROWS + GAP
            more = key > first_key
            multiply_packed(work, ds_rows, panel, k_rows + key * wide, wide, n_keys, dqkv, of_dq, row, m, D, more)
    for key in range(0, T, KEYS):
        n_keys = min(KEYS, T - key)
        write_transposed(work, dk + key * D, KEYS, D, n_keys, dqkv, of_k + key * row, row)
        write_transposed(work, dv + key * D, KEYS, D, n_keys, dqkv, of_v + key * row, row)


def backward_size(T: int, D: int) -> int:
    """Return the size of a thread's memory, in numbers. The size is linear in T, not quadratic."""
    return -(-layout(T, D)[-1] // LANES) * LANES


@entry(POOL, ROWS, ROWS, FLOATS, FLOATS, INT, INT, ROWS_OUT, INTS, INT, FLOAT, ROWS, ROWS_OUT, INTS, ROWS_OUT)
def backward(
    pool: Any, dmixed: Any, qkv: Any, largest: Any, totals: Any, H: int, T: int, dqkv: Any, keys: Any, threshold: int,
    kept: float, bias: Any, dbias: Any, starts: Any, works: Any,
) -> None:  # fmt: skip
    """Compute dqkv (B·T, 3·C) from dmixed (B·T, C) and the input and outputs of ``forward``.

    Args
        dbias: (B·H, 2·T + BEYOND): the gradients of each example's biases, the sums of ds over diagonals, are written
            to columns T − n; other columns have no meaning. Or NO_BIAS.
        starts: as in ``forward``.
        works: (threads, backward_size(T, D)).
    """
    check_work_rows(pool, works)
    arguments = (
        dmixed, qkv, largest, totals, H, T, dqkv, keys, threshold, np.float32(kept), bias, dbias, starts, works,
    )  # fmt: skip
    launch(pool, len(qkv) // T * H, *job(_backward, arguments))

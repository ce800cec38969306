"""Causal attention of all heads, without a (T, T) array; ``attention_backward.py`` has the backward pass.

``plain_forward`` is the loop for one head of one example. Here QUERIES queries at a time are in the lanes of the
registers, and the keys follow in blocks of KEYS. The scores (keys, QUERIES) are a product of packed keys and packed
queries. Softmax runs over the keys, separately in each lane. Its weights are already packed for the product with the
values, which gives the transposed output. If a later block has a larger score, the earlier results are scaled down
("online softmax"). Blocks of future keys are skipped. Queries, keys and values are read from the output of the fused
projection, (B, T, 3, H, D). Each head's output is written to the input of the next projection.

Large scores cost no digits. With p_j = q·k_j, a weight is e^((p_j − m)/√D)/total, where m is the largest p_j. The
difference of two near numbers is exact, and it is scaled after the subtraction, so only p_j itself rounds at the size
of the scores. The backward pass makes the same p_j, to the last bit: each is one chain of D fused multiply-adds. It
gets m and the total as two numbers. As one, m/√D + ln total, they would round at the size of m: at a score of 2e5 by up
to 0.008, which would be the relative error of a whole row of weights.

So where the products q·k are exact in float32, all gradients are right to 1e-6, at scores from 1 to 1e7 (tested). With
other numbers the products of the textbook in float32 and of this kernel round differently, each by about |s|·2**-24.
Their gradients differ by less than |s|·2**-23 (tested), so they agree to 2e-5 up to a score of 160.

A bias of each head and distance (ALiBi, relative biases), times √D, is added to q·k before anything else is done with
it. All that is said above then holds for the sum.

If a row holds several documents, the blocks of keys begin near the start of the first query's document. So the work is
in proportion to the squares of the documents' lengths, not of the row's.

Source    Milakov and Gimelshein 2018, arXiv:1805.02867 (online softmax); Dao et al. 2022, arXiv:2205.14135 (tiles)
"""

import math
from typing import Any

import numpy as np

from npgpt.kernels.matmul import GAP, pack_panels
from npgpt.kernels.softmax import LOWEST, exp_or_zero
from npgpt.machine.atomics import job
from npgpt.machine.bits import shift_right
from npgpt.machine.compile import entry, kernel
from npgpt.machine.kinds import FLOAT, FLOATS_OUT, INT, INTS, POOL, ROWS, ROWS_OUT
from npgpt.machine.pool import check_work_rows, launch
from npgpt.machine.tile import TILE_COLUMNS, TILE_LANES, TILE_ROWS, copy_number, multiply_tile, transpose_block
from npgpt.machine.vector import LANES, lane_numbers, load, maximum, random_lanes, select_less, splat, store, store_some

QUERIES = 32  # two registers of lanes
KEYS = 96  # a multiple of every tile's rows, so neither the blocks nor the bits depend on the tile
START = 24  # a multiple of every tile's rows: blocks begin at multiples of it
CHAIN = 12  # weights that are added one after the other; one chain of 1,000 keys would lose a digit of the total
INFINITY = np.float32(np.inf)
LEAST = np.finfo(np.float32).min  # a query that has seen no key yet
BEYOND = 64  # distances past T that a block's lanes can reach; they are masked
NO_BIAS = np.zeros((0, 0), np.float32)
NO_STARTS = np.zeros(0, np.int64)


def plain_forward(q: Any, k: Any, v: Any, dropped: Any, bias: Any) -> Any:
    """Return mixed (T, D) for the queries, keys and values (T, D) of one head of one example.

    Args
        dropped: (T, T), the factors by which dropout multiplies the weights.
        bias: (T,), what is added to q·k, by distance.
    """
    mixed = np.empty_like(v)
    for i in range(len(q)):
        mixed[i] = (plain_weights(q, k, i, bias) * dropped[i, : i + 1]) @ v[: i + 1]
    return mixed


def plain_weights(q: Any, k: Any, i: int, bias: Any) -> Any:
    """Return the weights (i + 1,) of query i, which sees keys 0 to i."""
    s = (k[: i + 1] @ q[i] + bias[i::-1]) / math.sqrt(q.shape[1])
    e = np.exp(s - max(s))
    return e / sum(e)


def layout(T: int, D: int) -> tuple[int, int, int, int, int, int, int, int]:
    """Return the offsets of the arrays in a thread's memory, and its size, in numbers.

    The arrays are the largest product and the total of each query so far; queries (D, QUERIES); scores, then weights,
    (KEYS, QUERIES); output (D, QUERIES); keys and values as panels. All except keys and values fit into the L1 cache.
    """
    best, total, q = 0, QUERIES, 2 * QUERIES
    s = q + D * QUERIES
    out = s + KEYS * QUERIES
    k = out + D * QUERIES
    v = k + panels_size(T, D)
    return best, total, q, s, out, k, v, v + panels_size(D, T)


@kernel
def panels_size(n: int, depth: int) -> int:
    """Return the size, in numbers, of ``n`` rows packed as panels of depth ``depth``."""
    return (n + TILE_ROWS - 1) // TILE_ROWS * (depth * TILE_ROWS + GAP)


@kernel
def pack_rows(source: Any, at: int, row: int, n: int, depth: int, work: Any, to: int) -> None:
    """Pack n rows of ``depth`` numbers as panels of rows, for a product that sums along the rows."""
    pack_panels(source, at, 1, row, depth, n, n, TILE_ROWS, GAP, work, to)


@kernel
def pack_columns(source: Any, at: int, row: int, n: int, depth: int, work: Any, to: int) -> None:
    """Pack n rows of ``depth`` numbers as panels of columns, for a product that sums over the rows."""
    pack_panels(source, at, row, 1, n, depth, depth, TILE_ROWS, GAP, work, to)


@kernel
def pack_lanes(source: Any, at: int, row: int, n: int, depth: int, width: int, work: Any, to: int) -> None:
    """``work[to + c·width + i] = source[at + i·row + c]`` for i < n <= width, c < depth. The rest has no meaning."""
    pack_panels(source, at, 1, row, depth, n, n, width, 0, work, to)


@kernel
def multiply_packed(
    work: Any, a: int, panel: int, b: int, width: int, n_k: int, c: Any, to: int, c_row: int, n: int, m: int, add: bool
) -> None:
    """``c[n, m] = a·b`` or ``+=``. The panels of a are ``panel`` numbers apart; b (n_k, width) is stored row by row."""
    for i in range(0, n, TILE_ROWS):
        of_a = a + i // TILE_ROWS * panel
        for j in range(0, m, TILE_COLUMNS):
            height, wide = min(TILE_ROWS, n - i), min(TILE_COLUMNS, m - j)
            multiply_tile(work, of_a, b + j, width, n_k, c, to + i * c_row + j, c_row, height, wide, add)


@kernel
def write_transposed(work: Any, at: int, width: int, n: int, m: int, out: Any, to: int, out_row: int) -> None:
    """``out[to + j·out_row + i] = work[at + i·width + j]`` for i < n and j < m."""
    for i in range(0, n, TILE_LANES):
        for j in range(0, m, TILE_LANES):
            if i + TILE_LANES <= n and j + TILE_LANES <= m:
                transpose_block(work, at + i * width + j, width, TILE_LANES, out, to + j * out_row + i, out_row)
            else:
                for ii in range(i, min(n, i + TILE_LANES)):
                    for jj in range(j, min(m, j + TILE_LANES)):
                        copy_number(work, at + ii * width + jj, out, to + jj * out_row + ii)


@kernel
def _add_bias(work: Any, s: int, n: int, bias: Any, at: int) -> None:
    """Add the bias of each pair to q·k (n keys, QUERIES); ``bias[at]`` is that of the first query and the first key."""
    for half in range(0, QUERIES, LANES):
        for key in range(n):
            here = s + key * QUERIES + half
            store(work, here, load(work, here) + load(bias, at + half - key))


@kernel
def _hide_documents(work: Any, s: int, key: int, n: int, starts: Any, at: int, n_queries: int) -> None:
    """Set q·k (n keys from ``key`` on, QUERIES) to −∞ where the query's document starts behind the key.

    Args
        at: the first query's place in ``starts``.
    """
    seeing = 0  # the queries whose document starts at the key or before it; they are the first ones
    for i in range(n):
        while seeing < n_queries and starts[at + seeing] <= key + i:
            seeing += 1
        if seeing == n_queries:
            return
        for half in range(0, QUERIES, LANES):
            here = s + i * QUERIES + half
            sees = splat(np.float32(seeing - half))
            store(work, here, select_less(lane_numbers(), sees, load(work, here), splat(-INFINITY)))


@kernel
def _softmax_block(
    work: Any, s: int, best: int, total: int, mixed: int, n: int, D: int, future: int, scale: float, first: bool
) -> None:
    """Turn q·k (n keys, QUERIES) into weights that do not yet sum to 1; update the largest products and the totals.

    Args
        future: the first key's position minus the first query's. Lanes below future + i do not see key ``i``.
    """
    for half in range(0, QUERIES, LANES):
        highest = splat(LEAST) if first else load(work, best + half)
        for key in range(n):
            here = s + key * QUERIES + half
            product = load(work, here)
            if future + key > half:
                product = select_less(lane_numbers(), splat(np.float32(future + key - half)), splat(-INFINITY), product)
            store(work, here, product)
            highest = maximum(product, highest)
        earlier, sums = splat(0.0), splat(0.0)
        if not first:
            shrink = exp_or_zero((load(work, best + half) - highest) * scale, LOWEST)
            earlier = load(work, total + half) * shrink
            for c in range(D):
                store(work, mixed + c * QUERIES + half, load(work, mixed + c * QUERIES + half) * shrink)
        for some in range(0, n, CHAIN):
            sum_of_some = splat(0.0)
            for key in range(some, min(n, some + CHAIN)):
                here = s + key * QUERIES + half
                weight = exp_or_zero((load(work, here) - highest) * scale, LOWEST)
                sum_of_some += weight
                store(work, here, weight)
            sums += sum_of_some
        store(work, best + half, highest)
        store(work, total + half, earlier + sums)


@kernel
def _drop_block(
    work: Any, s: int, n: int, query: int, key: int, T: int, head: int, random: int, threshold: int, kept: float
) -> None:
    """Drop weights like ``Dropout`` on the (H, T, T) array of an example; neighbouring lanes are T numbers apart."""
    low, high = random & 0xFFFFFFFF, shift_right(random, 32)
    for half in range(0, QUERIES, LANES):
        for j in range(n):
            here, counter = s + j * QUERIES + half, (head * T + query + half) * T + key + j
            store(work, here, load(work, here) * random_lanes(low, high, counter, T, threshold, kept))


_layout = kernel(layout)


@kernel
def keys_and_values(chunk: int, qkv: Any, k_rows: Any, H: int, T: int) -> tuple[int, int]:
    """Return the first items of a head's keys and values: in qkv itself, or in arrays of D columns for each head."""
    row = qkv.shape[1]
    if k_rows.shape[1] == row:
        of_q = chunk // H * T * row + chunk % H * (row // (3 * H))
        return of_q + row // 3, of_q + 2 * row // 3
    first = chunk * (len(k_rows) * T // (len(qkv) * H)) * k_rows.shape[1]
    return first, first


@kernel
def _forward(
    thread: int, chunk: int, qkv: Any, k_rows: Any, v_rows: Any, H: int, T: int, n_all: int, mixed: Any, largest: Any,
    totals: Any, keys: Any, threshold: int, kept: Any, bias: Any, starts: Any, works: Any,
) -> None:  # fmt: skip
    """Compute one head of one example."""
    b, head, C = chunk // H, chunk % H, mixed.shape[1]
    D, row, work = C // H, 3 * C, works[thread]
    of_q = b * T * row + head * D
    k_row, start = k_rows.shape[1], n_all - T
    of_k, of_v = keys_and_values(chunk, qkv, k_rows, H, T)
    scale = np.float32(1 / math.sqrt(D))
    k_panel, v_panel = D * TILE_ROWS + GAP, n_all * TILE_ROWS + GAP
    best, total, q, s, out, k, v, _ = _layout(n_all, D)
    pack_rows(k_rows, of_k, k_row, n_all, D, work, k)
    pack_columns(v_rows, of_v, k_row, n_all, D, work, v)
    for query in range(0, T, QUERIES):
        n_queries = min(QUERIES, T - query)
        pack_lanes(qkv, of_q + query * row, row, n_queries, D, QUERIES, work, q)
        n_keys = start + query + n_queries
        first_key = starts[b * T + query] // START * START if len(starts) else 0
        for key in range(first_key, n_keys, KEYS):
            n = min(KEYS, n_keys - key)
            panel = k + key // TILE_ROWS * k_panel
            multiply_packed(work, panel, k_panel, q, QUERIES, D, work, s, QUERIES, n, QUERIES, False)
            if len(bias):
                of_distance_0 = head * bias.shape[1] + (bias.shape[1] - BEYOND) // 2
                _add_bias(work, s, n, bias, of_distance_0 + start + query - key)
            if len(starts):
                _hide_documents(work, s, key, n, starts, b * T + query, n_queries)
            _softmax_block(work, s, best, total, out, n, D, key - query - start, scale, key == first_key)
            if kept != 1:
                _drop_block(work, s, n, query, key, T, head, keys[b], threshold, kept)
            panel = v + key * TILE_ROWS
            multiply_packed(work, panel, v_panel, s, QUERIES, n, work, out, QUERIES, D, QUERIES, key > first_key)
        for half in range(0, QUERIES, LANES):
            sums = load(work, total + half)
            inverse = splat(1.0) / sums
            for c in range(D):
                store(work, out + c * QUERIES + half, load(work, out + c * QUERIES + half) * inverse)
            left = min(LANES, n_queries - half)
            if left > 0:
                store_some(largest, chunk * T + query + half, left, load(work, best + half))
                store_some(totals, chunk * T + query + half, left, sums)
        write_transposed(work, out, QUERIES, D, n_queries, mixed, (b * T + query) * C + head * D, C)


def forward_size(T: int, D: int) -> int:
    """Return the size of a thread's memory, in numbers. The size is linear in T, not quadratic."""
    return -(-layout(T, D)[-1] // LANES) * LANES


@entry(POOL, ROWS, ROWS, ROWS, INT, INT, INT, ROWS_OUT, FLOATS_OUT, FLOATS_OUT, INTS, INT, FLOAT, ROWS, INTS, ROWS_OUT)
def forward(
    pool: Any, qkv: Any, k_rows: Any, v_rows: Any, H: int, T: int, n_all: int, mixed: Any, largest: Any, totals: Any,
    keys: Any, threshold: int, kept: float, bias: Any, starts: Any, works: Any,
) -> None:  # fmt: skip
    """Compute mixed (B·T, C) from qkv (B·T, 3·C): T queries for each example, those of the last T of n_all positions.

    Without documents, a query's result has the same bits for every T and n_all. Blocks of keys begin at fixed
    positions, and keys that it does not see add zeros behind all others.

    Args
        k_rows, v_rows: the keys and values: qkv itself; or arrays of D columns, with n_all rows or more for each head
            of each example.
        largest, totals: (B·H·T,), for the backward pass: each query's m = max_j q·k_j, and Σ_j e^((q·k_j − m)/√D);
            q·k with its bias.
        keys, threshold, kept: the arguments of dropout, as in ``dropout.py``; kept = 1 drops no weight.
        bias: (H, 2·N + BEYOND), N >= n_all, what is added to q·k: column N + n for pairs of distance n, and column
            N − n too, so that neighbouring lanes find neighbours, whether they are queries or keys; or NO_BIAS.
        starts: (B·T,), where in its row each query's document starts, if T = n_all; or NO_STARTS.
        works: (threads, forward_size(n_all, D)).
    """
    check_work_rows(pool, works)
    n = len(qkv) // T * H
    arguments = (
        qkv, k_rows, v_rows, H, T, n_all, mixed, largest, totals, keys, threshold, np.float32(kept), bias, starts,
        works,
    )  # fmt: skip
    launch(pool, n, *job(_forward, arguments))

"""Causal attention of a few queries with the keys and values of many earlier tokens.

``attention.py`` has the derivation; its tile computes 32 queries at a time from packed keys. Here nothing is packed:
each key and value is read once, for all queries of a head. Every number is made in the same order, to the last bit: a
score is one chain over D, the totals are sums of CHAIN weights, an output is one chain over the keys, block by block.
"""

import math
from typing import Any

import numpy as np

from npgpt.kernels.attention import BEYOND, CHAIN, INFINITY, KEYS, keys_and_values
from npgpt.kernels.few_rows import multiply_straight, multiply_turned
from npgpt.kernels.softmax import LOWEST, exp_or_zero
from npgpt.machine.atomics import job
from npgpt.machine.compile import entry, kernel
from npgpt.machine.kinds import FLOATS_OUT, INT, POOL, ROWS, ROWS_OUT
from npgpt.machine.pool import check_work_rows, launch
from npgpt.machine.vector import LANES, load_some, max_lanes, maximum, number, splat, store_some


@kernel
def _softmax_row(work: Any, s: int, n: int, best: float, total: float, out: int, D: int, scale: float) -> Any:
    """Turn the scores of n keys of a block into weights that do not yet sum to 1; scale down the earlier output.

    Returns
        the largest score and the total so far.
    """
    highest = splat(best)
    for key in range(0, n, LANES):
        highest = maximum(load_some(work, s + key, min(LANES, n - key), best), highest)
    largest = max_lanes(highest)
    shrink = exp_or_zero((splat(best) - largest) * scale, LOWEST)
    for c in range(0, D, LANES):
        some = min(LANES, D - c)
        store_some(work, out + c, some, load_some(work, out + c, some, 0.0) * shrink)
    for key in range(0, n, LANES):
        some = min(LANES, n - key)
        weights = exp_or_zero((load_some(work, s + key, some, largest) - largest) * scale, LOWEST)
        store_some(work, s + key, some, weights)
    sums = np.float32(0)
    for first in range(0, n, CHAIN):
        of_some = np.float32(0)
        for key in range(first, min(n, first + CHAIN)):
            of_some += number(work, s + key)
        sums += of_some
    return largest, max_lanes(shrink) * total + sums


@kernel
def _few(
    thread: int, chunk: int, qkv: Any, k_rows: Any, v_rows: Any, H: int, T: int, n_all: int, mixed: Any, largest: Any,
    totals: Any, bias: Any, works: Any,
) -> None:  # fmt: skip
    """Compute one head of one example."""
    b, head, C = chunk // H, chunk % H, mixed.shape[1]
    D, row, work = C // H, 3 * C, works[thread]
    k_row, start = k_rows.shape[1], n_all - T
    of_k, of_v = keys_and_values(chunk, qkv, k_rows, H, T)
    scale = np.float32(1 / math.sqrt(D))
    out, turned = T * KEYS, T * (KEYS + D)
    for i in range(T):
        largest[chunk * T + i], totals[chunk * T + i] = -INFINITY, 0
    for i in range(T * D):
        work[out + i] = 0
    for key in range(0, n_all, KEYS):
        n = min(KEYS, n_all - key)
        here = of_k + key * k_row
        multiply_turned(
            qkv, b * T * row + head * D, row, 1, T, k_rows, here, k_row, D, work, 0, KEYS, n, False, work, turned
        )
        for i in range(T):
            s, query = i * KEYS, start + i
            n_seen = max(0, min(n, query + 1 - key))
            for hidden in range(n_seen, n):
                work[s + hidden] = 0  # their weights
            if n_seen > 0:
                if len(bias):
                    of_distance_0 = head * bias.shape[1] + (bias.shape[1] - BEYOND) // 2
                    for j in range(n_seen):
                        work[s + j] += number(bias, of_distance_0 + query - key - j)
                best, total = largest[chunk * T + i], totals[chunk * T + i]
                best, total = _softmax_row(work, s, n_seen, best, total, out + i * D, D, scale)
                largest[chunk * T + i], totals[chunk * T + i] = best, total
        multiply_straight(work, 0, KEYS, 1, T, v_rows, of_v + key * k_row, k_row, n, work, out, D, D, True)
    for i in range(T):
        inverse = np.float32(1) / totals[chunk * T + i]
        to, of_query = (b * T + i) * C + head * D, out + i * D
        for c in range(0, D, LANES):
            some = min(LANES, D - c)
            store_some(mixed, to + c, some, load_some(work, of_query + c, some, 0.0) * inverse)


def forward_size(T: int, D: int) -> int:
    """Return the size of a thread's memory, in numbers, for T queries."""
    return T * (KEYS + D) + LANES * LANES


@entry(POOL, ROWS, ROWS, ROWS, INT, INT, INT, ROWS_OUT, FLOATS_OUT, FLOATS_OUT, ROWS, ROWS_OUT)
def forward(
    pool: Any, qkv: Any, k_rows: Any, v_rows: Any, H: int, T: int, n_all: int, mixed: Any, largest: Any, totals: Any,
    bias: Any, works: Any,
) -> None:  # fmt: skip
    """Do the work of ``attention.forward``, whose arguments these are, without dropout: it is faster for T up to FEW.

    Args
        works: (threads, forward_size(T, D)).
    """
    check_work_rows(pool, works)
    arguments = qkv, k_rows, v_rows, H, T, n_all, mixed, largest, totals, bias, works
    launch(pool, len(qkv) // T * H, *job(_few, arguments))

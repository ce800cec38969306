"""Layer normalisation, row by row, forward and backward.

``plain_forward`` and ``plain_backward`` are the loops. Here the forward pass reads each row three times: first from
memory, then from the L1 cache. The first two times it alternates between two sums, since each addition waits for the
one before it. The backward pass recomputes xhat with two operations; a stored xhat would need as much memory as the
output. The gradients of gain and bias are summed for each group of GROUP rows (``columns.py``). The groups are then
added in order, so the bits do not depend on the threads.
"""

import math
from typing import Any

import numpy as np

from npgpt.kernels.columns import GROUP, add_groups, groups
from npgpt.machine.atomics import job
from npgpt.machine.compile import entry, kernel
from npgpt.machine.kinds import FLAG, FLOAT, FLOATS, FLOATS_OUT, POOL, ROWS, ROWS_OUT
from npgpt.machine.pool import launch
from npgpt.machine.vector import LANES, fma, load, load_some, splat, store, store_some, sum_lanes

__all__ = ["backward", "forward", "groups"]


def plain_forward(x: Any, gain: Any, bias: Any, eps: float) -> Any:
    """Return y (n, C), and mean and rstd (n,), for x (n, C)."""
    y, mean, rstd = np.empty_like(x), np.empty(len(x)), np.empty(len(x))
    for i in range(len(x)):
        mean[i] = sum(x[i]) / len(x[i])
        rstd[i] = 1 / math.sqrt(sum((x[i] - mean[i]) ** 2) / len(x[i]) + eps)
        y[i] = (x[i] - mean[i]) * rstd[i] * gain + bias
    return y, mean, rstd


def plain_backward(dy: Any, x: Any, gain: Any, mean: Any, rstd: Any) -> Any:
    """Return dx (n, C), dgain and dbias (C,), for dy and x (n, C)."""
    C = x.shape[1]
    dx, dgain, dbias = np.empty_like(x), np.zeros_like(gain), np.zeros_like(gain)
    for i in range(len(x)):
        xhat = (x[i] - mean[i]) * rstd[i]
        dxhat = dy[i] * gain
        dx[i] = rstd[i] * (dxhat - sum(dxhat) / C - xhat * sum(dxhat * xhat) / C)
        dgain += dy[i] * xhat
        dbias += dy[i]
    return dx, dgain, dbias


@kernel
def _forward(thread: int, chunk: int, x: Any, gain: Any, bias: Any, eps: float, y: Any, mean: Any, rstd: Any) -> None:
    n, C = x.shape
    whole = C - C % LANES
    rest = C - whole
    pairs = whole - whole % (2 * LANES)
    for row in range(chunk * GROUP, min(n, (chunk + 1) * GROUP)):
        at = row * C
        even, odd = load_some(x, at + whole, rest, 0.0), splat(0.0)
        for c in range(0, pairs, 2 * LANES):
            even += load(x, at + c)
            odd += load(x, at + c + LANES)
        for c in range(pairs, whole, LANES):
            odd += load(x, at + c)
        mean_of_row = sum_lanes(even + odd) / np.float32(C)
        centred = load_some(x, at + whole, rest, mean_of_row) - mean_of_row
        even, odd = centred * centred, splat(0.0)
        for c in range(0, pairs, 2 * LANES):
            centred, other = load(x, at + c) - mean_of_row, load(x, at + c + LANES) - mean_of_row
            even, odd = fma(centred, centred, even), fma(other, other, odd)
        for c in range(pairs, whole, LANES):
            centred = load(x, at + c) - mean_of_row
            odd = fma(centred, centred, odd)
        variance = sum_lanes(even + odd) / np.float32(C)
        scale = np.float32(1) / np.sqrt(variance + np.float32(eps))
        mean[row], rstd[row] = mean_of_row, scale
        for c in range(0, whole, LANES):
            store(y, at + c, fma((load(x, at + c) - mean_of_row) * scale, load(gain, c), load(bias, c)))
        if rest:
            xhat = (load_some(x, at + whole, rest, 0.0) - mean_of_row) * scale
            last = fma(xhat, load_some(gain, whole, rest, 0.0), load_some(bias, whole, rest, 0.0))
            store_some(y, at + whole, rest, last)


@entry(POOL, ROWS, FLOATS, FLOATS, FLOAT, ROWS_OUT, FLOATS_OUT, FLOATS_OUT)
def forward(pool: Any, x: Any, gain: Any, bias: Any, eps: float, y: Any, mean: Any, rstd: Any) -> None:
    """Compute y (n, C) from x (n, C), and mean and rstd (n,) for the backward pass."""
    launch(pool, (len(x) + GROUP - 1) // GROUP, *job(_forward, (x, gain, bias, eps, y, mean, rstd)))


@kernel
def _backward(thread: int, chunk: int, dy: Any, x: Any, gain: Any, mean: Any, rstd: Any, dx: Any, partial: Any) -> None:
    n, C = x.shape
    whole = C - C % LANES
    rest = C - whole
    n_groups = len(partial) // 2
    of_gain, of_bias = chunk * C, (n_groups + chunk) * C
    partial[chunk] = 0
    partial[n_groups + chunk] = 0
    for row in range(chunk * GROUP, min(n, (chunk + 1) * GROUP)):
        at, mean_of_row, scale = row * C, mean[row], rstd[row]
        total = along = splat(0.0)
        for c in range(0, whole, LANES):
            upstream = load(dy, at + c)
            xhat = (load(x, at + c) - mean_of_row) * scale
            store(partial, of_gain + c, fma(upstream, xhat, load(partial, of_gain + c)))
            store(partial, of_bias + c, upstream + load(partial, of_bias + c))
            dxhat = upstream * load(gain, c)
            total += dxhat
            along = fma(dxhat, xhat, along)
        upstream = load_some(dy, at + whole, rest, 0.0)
        xhat = (load_some(x, at + whole, rest, mean_of_row) - mean_of_row) * scale
        store_some(partial, of_gain + whole, rest, fma(upstream, xhat, load_some(partial, of_gain + whole, rest, 0.0)))
        store_some(partial, of_bias + whole, rest, upstream + load_some(partial, of_bias + whole, rest, 0.0))
        last = upstream * load_some(gain, whole, rest, 0.0)
        mean_dxhat = sum_lanes(total + last) / np.float32(C)
        mean_along = sum_lanes(fma(last, xhat, along)) / np.float32(C)
        for c in range(0, whole, LANES):
            dxhat = load(dy, at + c) * load(gain, c)
            xhat_here = (load(x, at + c) - mean_of_row) * scale
            store(dx, at + c, (dxhat - mean_dxhat - xhat_here * mean_along) * scale)
        store_some(dx, at + whole, rest, (last - mean_dxhat - xhat * mean_along) * scale)


@entry(POOL, ROWS, ROWS, FLOATS, FLOATS, FLOATS, ROWS_OUT, ROWS_OUT, FLOATS_OUT, FLOATS_OUT, FLAG)
def backward(
    pool: Any, dy: Any, x: Any, gain: Any, mean: Any, rstd: Any, dx: Any, partial: Any, dgain: Any, dbias: Any,
    add: bool,
) -> None:  # fmt: skip
    """Compute dx (n, C), dgain and dbias (C,); add to dgain and dbias if ``add``, else write them.

    Args
        partial: (2·groups(n), C), working memory: the sums of each group for the gain, then for the bias.
    """
    n_groups = len(partial) // 2
    launch(pool, n_groups, *job(_backward, (dy, x, gain, mean, rstd, dx, partial)))
    add_groups(pool, partial[:n_groups], dgain, add)
    add_groups(pool, partial[n_groups:], dbias, add)

"""Operations on a product while it is in the cache: a bias, a residual, an activation or its slope."""

from typing import Any

from npgpt.kernels.elementwise import activation
from npgpt.machine.bits import prefetch
from npgpt.machine.compile import kernel
from npgpt.machine.vector import LANES, load, load_some, store, store_some

# The operations on the result. The kinds for ACTIVATION + kind and SLOPE + kind are in elementwise.py.
NOTHING, BIAS, RESIDUAL, ACTIVATION, SLOPE = 0, 1, 2, 3, 6


@kernel
def finish(
    how: int, c: Any, at: int, row: int, first: int, n: int, width: int, bias: Any, other: Any, second: Any
) -> None:
    """Apply the operation ``how`` to n numbers of a row, which are still in the L1 cache."""
    beside = row * width + first
    for j in range(0, n, LANES):
        left = min(LANES, n - j)
        whole = left == LANES
        z = load(c, at + j) if whole else load_some(c, at + j, left, 0.0)
        beyond = z
        if how < SLOPE:
            z += load(bias, first + j) if whole else load_some(bias, first + j, left, 0.0)
        if how == RESIDUAL or how >= SLOPE:
            beyond = load(other, beside + j) if whole else load_some(other, beside + j, left, 0.0)
        if how == RESIDUAL:
            z += beyond
        elif how >= SLOPE:
            beyond, slope = activation(how - SLOPE, beyond)
            z *= slope
        elif how >= ACTIVATION:
            beyond = z
            z, _ = activation(how - ACTIVATION, z)
        if whole:
            store(c, at + j, z)
            if how >= ACTIVATION:
                store(second, beside + j, beyond)
        else:
            store_some(c, at + j, left, z)
            if how >= ACTIVATION:
                store_some(second, beside + j, left, beyond)


@kernel
def prefetch_beside(how: int, at: int, height: int, width: int, N: int, other: Any, second: Any) -> None:
    """Prefetch what ``finish`` reads and writes for a tile of the product, which is computed meanwhile."""
    for here in range(at, at + height * N, N):
        for j in range(0, width, LANES):
            if how == RESIDUAL or how >= SLOPE:
                prefetch(other, here + j)
            if how >= ACTIVATION:
                prefetch(second, here + j)

"""What makes a matrix product fast?

One product, (512, 2048) times (2048, 2048), is computed in seven ways on one thread. Each way improves the one before.
The arithmetic is always the same. The difference is how often numbers move, and from which memory. The results are
compared: tile and npgpt give the same bits, because they sum each number in the same order.
"""

import os
import time
from collections.abc import Callable
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # NumPy reads these at import

import numba
import numpy as np

from npgpt import set_num_threads
from npgpt.kernels import matmul
from npgpt.machine.vector import fma, load, splat, store

# %% The matrices
set_num_threads(1)
M, N = 512, 2048
DEEP, WIDE = 128, 512  # a block of b: 256 KiB, which fits in the L2 cache
rng = np.random.default_rng(0)
a, b = rng.standard_normal((M, N), np.float32), rng.standard_normal((N, N), np.float32)
right = a.astype(np.float64) @ b.astype(np.float64)


# %% Seven ways
def naive(a: Any, b: Any, c: Any) -> None:
    for i in range(len(a)):
        for j in range(N):
            total = np.float32(0)
            for k in range(N):
                total += a[i, k] * b[k, j]
            c[i, j] = total


@numba.njit
def reordered(a: Any, b: Any, c: Any) -> None:
    c[:] = 0
    for i in range(len(a)):
        for k in range(N):
            factor, row_of_b, row_of_c = a[i, k], b[k], c[i]
            for j in range(N):
                row_of_c[j] += factor * row_of_b[j]


@numba.njit
def blocked(a: Any, b: Any, c: Any) -> None:
    c[:] = 0
    for first_k in range(0, N, DEEP):
        for j in range(0, N, WIDE):
            for i in range(len(a)):
                for k in range(first_k, first_k + DEEP):
                    factor, row_of_b, row_of_c = a[i, k], b[k, j : j + WIDE], c[i, j : j + WIDE]
                    for column in range(WIDE):
                        row_of_c[column] += factor * row_of_b[column]


@numba.njit
def tiled(a: Any, b: Any, c: Any) -> None:
    for j in range(0, N, 32):
        for i in range(0, M, 4):
            # 4 rows of 32 numbers of c, two registers of 16 lanes each, stay in registers for all k.
            c00 = c01 = c10 = c11 = c20 = c21 = c30 = c31 = splat(0.0)
            for k in range(N):
                left, right = load(b, k * N + j), load(b, k * N + j + 16)
                a0, a1, a2, a3 = a[i, k], a[i + 1, k], a[i + 2, k], a[i + 3, k]
                c00, c01 = fma(a0, left, c00), fma(a0, right, c01)
                c10, c11 = fma(a1, left, c10), fma(a1, right, c11)
                c20, c21 = fma(a2, left, c20), fma(a2, right, c21)
                c30, c31 = fma(a3, left, c30), fma(a3, right, c31)
            at = i * N + j
            store(c, at, c00), store(c, at + 16, c01)
            store(c, at + N, c10), store(c, at + N + 16, c11)
            store(c, at + 2 * N, c20), store(c, at + 2 * N + 16, c21)
            store(c, at + 3 * N, c30), store(c, at + 3 * N + 16, c31)


def numpys(a: Any, b: Any, c: Any) -> None:
    np.matmul(a, b, out=c)


def gflops(multiply: Callable[..., Any], rows: int) -> tuple[float, Any]:
    """Return the speed of the best of several runs, and the result. Slow ways compute only a few rows."""
    c = np.empty((rows, N), np.float32)
    if rows == M:
        multiply(a, b, c)  # compiles
    else:
        multiply(a[:1], b, c[:1])
    seconds: list[float] = []
    while not seconds or sum(seconds) < 0.5:
        start = time.perf_counter()
        multiply(a[:rows], b, c)
        seconds.append(time.perf_counter() - start)
    assert np.abs(c - right[:rows]).max() < 1e-5 * np.abs(right).max()
    return 2 * rows * N * N / min(seconds) / 1e9, c


LADDER: list[tuple[str, Callable[..., Any], int, str]] = [
    ("Python", naive, 1, "three loops; every number is an object, every operation looks up its type"),
    ("compiled", numba.njit(naive), 16, "machine code; b is read by columns, so each number takes a cache line"),
    ("reordered", reordered, M, "j innermost: b and c are read by rows, with many numbers in one instruction"),
    ("blocked", blocked, M, "a block of b stays in the L2 cache for all rows of a"),
    ("tile", tiled, M, "4 x 32 numbers of c stay in registers: 6 loads for 8 multiply-adds, and no stores"),
    ("npgpt", matmul.matmul, M, "a larger tile; blocks are packed in the order in which they are read"),
    ("NumPy", numpys, M, "OpenBLAS: the same ideas, in assembly for each kind of CPU"),
]

# %% The measurement
print(f"{'':<11}{'GF/s':>8} {'times':>6}   improvement over the line above")
speeds: dict[str, float] = {}
results: dict[str, Any] = {}
last = 0.0
for name, multiply, rows, why in LADDER:
    speeds[name], results[name] = gflops(multiply, rows)
    print(f"{name:<11}{speeds[name]:8.3g} {speeds[name] / (last or speeds[name]):6.1f}   {why}", flush=True)
    last = speeds[name]

assert np.array_equal(results["tile"], results["npgpt"])  # each number is one chain of fused multiply-adds along k
assert speeds["npgpt"] > 3 * speeds["compiled"] > 9 * speeds["Python"]
print(
    f"\nThe same operations are {speeds['npgpt'] / speeds['Python']:,.0f} times as fast as in Python and "
    f"{speeds['npgpt'] / speeds['compiled']:.0f} times as fast as the\ncompiled loops. "
    "A product is fast if each number loaded into a cache or a register is used many times."
)

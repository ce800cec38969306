"""The product of a few rows with a matrix, as when a model writes one token after another.

Each number of the matrix is read once from main memory, for one multiplication a row; so memory limits the speed, and
packing, which copies the matrix, would take longer than the product. Here eight rows of b at a time are read from left
to right, and what they add to c stays in the L1 cache. A transposed b, such as the tied vocabulary head, is transposed
in registers, 16 x 16 numbers at a time. Each number of the result is the chain of ``plain_matmul``, to the last bit.
"""

from typing import Any

from npgpt.kernels.finish import NOTHING, finish
from npgpt.machine.atomics import job
from npgpt.machine.bits import prefetch
from npgpt.machine.compile import entry, kernel
from npgpt.machine.kinds import FLAG, FLOATS, INT, MATRIX, MATRIX_OUT, POOL, ROWS, ROWS_OUT
from npgpt.machine.pool import THREADS, check_work_rows, launch
from npgpt.machine.tile import TILE_LANES, copy_number, transpose_block
from npgpt.machine.vector import LANES, fma, load, load_some, number, splat, store, store_some

FEW = 8  # rows; with more, the tile of matmul.py is faster
DEEP = 8  # rows of b that are read together
AHEAD = 4 * LANES  # numbers of a transposed b from those in use to those that are prefetched
SMALL = 1 << 16  # numbers of b, about 20 us: with fewer, the product runs on one thread


@kernel
def _add_products(
    a: Any, of_a: int, a_row: int, a_k: int, n_rows: int, b: Any, of_b: int, b_row: int, n_k: int, c: Any, of_c: int,
    c_row: int, n: int, fresh: bool,
) -> None:  # fmt: skip
    """Add ``a[i, k]·b[k, j]`` for k < n_k, one after another, to c[i, j] for j < n <= LANES; or begin at 0."""
    for row in range(n_rows):
        to, here = of_c + row * c_row, of_a + row * a_row
        if n < LANES:
            total = splat(0.0) if fresh else load_some(c, to, n, 0.0)
            for k in range(n_k):
                total = fma(number(a, here + k * a_k), load_some(b, of_b + k * b_row, n, 0.0), total)
            store_some(c, to, n, total)
        else:
            total = splat(0.0) if fresh else load(c, to)
            if n_k == DEEP:  # LLVM unrolls this loop
                for k in range(DEEP):
                    total = fma(number(a, here + k * a_k), load(b, of_b + k * b_row), total)
            else:
                for k in range(n_k):
                    total = fma(number(a, here + k * a_k), load(b, of_b + k * b_row), total)
            store(c, to, total)


@kernel
def multiply_straight(
    a: Any, of_a: int, a_row: int, a_k: int, n_rows: int, b: Any, of_b: int, b_row: int, n_k: int, c: Any, of_c: int,
    c_row: int, n: int, add: bool,
) -> None:  # fmt: skip
    """``c = a·b``, or ``+=``: n_rows x n numbers. The items of a row of b, and of c, are neighbours.

    Args
        of_a, of_b, of_c: the first item of each matrix.
        a_row, a_k, b_row, c_row: items from one row, or one k, to the next.
    """
    for k in range(0, max(n_k, 1), DEEP):
        for j in range(0, n, LANES):
            here = of_b + k * b_row + j
            for ahead in range(DEEP, 2 * DEEP):
                prefetch(b, here + ahead * b_row)
            _add_products(
                a, of_a + k * a_k, a_row, a_k, n_rows, b, here, b_row, min(DEEP, n_k - k), c, of_c + j, c_row,
                min(LANES, n - j), k == 0 and not add,
            )  # fmt: skip


@kernel
def multiply_turned(
    a: Any, of_a: int, a_row: int, a_k: int, n_rows: int, b: Any, of_b: int, b_column: int, n_k: int, c: Any, of_c: int,
    c_row: int, n: int, add: bool, work: Any, turned: int,
) -> None:  # fmt: skip
    """The same, but the items of a column of b are neighbours. ``work[turned:]`` has room for LANES² numbers."""
    for i in range(LANES * LANES):
        work[turned + i] = 0  # an Intel CPU takes many times as long for subnormal numbers
    for j in range(0, n, LANES):
        some = min(LANES, n - j)
        for k in range(0, max(n_k, 1), LANES):
            here, depth = of_b + k + j * b_column, min(LANES, n_k - k)
            ahead = k + AHEAD if k + AHEAD < n_k else k + AHEAD - n_k + LANES * b_column
            for i in range(some):
                prefetch(b, of_b + (j + i) * b_column + ahead)
            _turn(b, here, b_column, some, depth, work, turned)
            for deeper in range(0, max(depth, 1), DEEP):
                _add_products(
                    a, of_a + (k + deeper) * a_k, a_row, a_k, n_rows, work, turned + deeper * LANES, LANES,
                    min(DEEP, depth - deeper), c, of_c + j, c_row, some, k + deeper == 0 and not add,
                )  # fmt: skip


@kernel
def _turn(b: Any, at: int, stride: int, n: int, n_k: int, work: Any, to: int) -> None:
    """``work[to + k·LANES + i] = b[at + i·stride + k]`` for i < n and k < n_k, each at most LANES."""
    if n_k == LANES:
        for i in range(0, n, TILE_LANES):
            for k in range(0, LANES, TILE_LANES):
                rows = min(TILE_LANES, n - i)
                transpose_block(b, at + i * stride + k, stride, rows, work, to + k * LANES + i, LANES)
    else:
        for i in range(n):
            for k in range(n_k):
                copy_number(b, at + i * stride + k, work, to + k * LANES + i)


@kernel
def _chunk(
    thread: int, chunk: int, a: Any, b: Any, c: Any, size: int, add: bool, how: int, bias: Any, other: Any, second: Any,
    works: Any,
) -> None:  # fmt: skip
    """Compute some columns of c."""
    M, (K, N), c_row = len(a), b.shape, c.strides[0] // 4
    a_row, a_k, b_k, b_column = a.strides[0] // 4, a.strides[1] // 4, b.strides[0] // 4, b.strides[1] // 4
    first = chunk * size
    n = min(size, N - first)
    if b_column == 1:
        multiply_straight(a, 0, a_row, a_k, M, b, first, b_k, K, c, first, c_row, n, add)
    else:
        multiply_turned(
            a, 0, a_row, a_k, M, b, first * b_column, b_column, K, c, first, c_row, n, add, works[thread], 0
        )
    if how != NOTHING:
        for row in range(M):
            finish(how, c, row * c_row + first, row, first, n, N, bias, other, second)


@entry(POOL, MATRIX, MATRIX, MATRIX_OUT, FLAG, INT, FLOATS, ROWS, ROWS_OUT, ROWS_OUT)
def multiply(
    pool: Any, a: Any, b: Any, c: Any, add: bool, how: int, bias: Any, other: Any, second: Any, works: Any
) -> None:
    """Compute ``c = a·b`` for a of at most FEW rows; ``matmul`` explains the arguments. Threads take columns of c.

    Each thread has one part: with two, the pieces of rows that it reads are half as long, which cost a quarter.
    """
    check_work_rows(pool, works)
    N = b.shape[1]
    parts = pool[THREADS] if pool[THREADS] > 1 and b.size >= SMALL else 1
    size = max(1, (N + parts * LANES - 1) // (parts * LANES)) * LANES
    launch(pool, (N + size - 1) // size, *job(_chunk, (a, b, c, size, add, how, bias, other, second, works)))

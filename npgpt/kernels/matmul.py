"""The product of two matrices, and operations on the product while it is in the cache.

A loop over i, j and k reads two numbers from main memory for one multiplication. Here both matrices are split into
blocks that stay in the caches while they are used. The blocks are copied ("packed") in the order in which the register
tile (``machine/tile.py``) reads them. A block of b, DEPTH x WIDTH, is in the L2 cache, with a few panels of a, each of
TILE_ROWS rows. The current panel is in the L1 cache. Transposed and sliced matrices differ only in their packing. Each
number of the result is the chain of ``plain_matmul``, to the last bit: a later block of k continues the chain of the
earlier blocks. So the result does not depend on the tile, the blocks or the threads.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from npgpt.errors import ShapeError
from npgpt.exact import fma
from npgpt.kernels import few_rows
from npgpt.kernels.finish import NOTHING, RESIDUAL, SLOPE, finish, prefetch_beside
from npgpt.machine.atomics import job
from npgpt.machine.bits import prefetch
from npgpt.machine.compile import entry, kernel
from npgpt.machine.kinds import FLAG, FLOATS, INT, MATRIX, MATRIX_OUT, POOL, ROWS, ROWS_OUT
from npgpt.machine.pool import THREADS, check_work_rows, launch, pool, work_rows
from npgpt.machine.tile import (
    LOW,
    PRODUCT_TILE,
    TILE_LANES,
    WIDE,
    copy_number,
    copy_register,
    multiply_product_tile,
    transpose_block,
)

Floats = NDArray[np.float32]

TILE_ROWS, TILE_COLUMNS = PRODUCT_TILE.rows, PRODUCT_TILE.columns

# What was fastest with each tile: the size of a block of b, about three quarters of the L2 cache; the panels of a that
# are packed together, so that each cache line of a transposed a is read once; and the rows from what is packed to what
# is prefetched.
DEPTH, WIDTH, PANELS, ROWS_AHEAD = 256, 512, 8, 8
if PRODUCT_TILE is WIDE:
    DEPTH = 512
elif PRODUCT_TILE is LOW:
    DEPTH, WIDTH, PANELS, ROWS_AHEAD = 384, 768, 16, 16
NUMBERS_AHEAD = 64  # the same distance along a row; at its end, in the row that is packed a panel later
GAP = TILE_LANES  # between panels of a: stores of whole registers write past the end of a row of TILE_ROWS numbers
PACK = DEPTH * (WIDTH + PANELS * TILE_ROWS) + PANELS * GAP  # float32 numbers for one thread
PART = 384  # the rows or columns of a part at least, if each thread has two
SMALL = 500_000  # multiplications, about 10 µs: a smaller product runs on one thread


def plain_matmul(a: Floats, b: Floats, c: Floats, add: bool) -> None:
    """``c = a @ b``, or ``+=`` if ``add``. Each number is one chain of fused multiply-adds in the order of k."""
    if not add:
        c[:] = 0
    for k in range(a.shape[1]):
        c[:] = fma(a[:, k, None], b[None, k], c)


@kernel
def _pack(
    source: Any, at: int, k_stride: int, stride: int, n_k: int, n: int, room: int, width: int, packed: Any, to: int
) -> None:
    """``packed[to + k·width + i] = source[at + k·k_stride + i·stride]`` for i < n <= width.

    The rest is zeros or numbers of the source, not what the memory held: the tile multiplies all of them, and an Intel
    CPU takes many times as long for subnormal numbers.

    One of the strides is 1, so whole registers are copied or transposed. The operands of a training step come from main
    memory, by short pieces of distant rows, which a CPU does not foresee. So the numbers that follow are prefetched.

    Args
        room: the number of readable numbers along i, from ``at`` on.
    """
    if k_stride == 1:
        whole = n_k - n_k % TILE_LANES
        for k in range(whole):
            for i in range((n + TILE_LANES - 1) // TILE_LANES * TILE_LANES, width):
                packed[to + k * width + i] = 0
        for first in range(0, n, TILE_LANES):
            for k in range(0, whole, TILE_LANES):
                from_here, to_here = at + first * stride + k, to + k * width + first
                transpose_block(source, from_here, stride, min(TILE_LANES, n - first), packed, to_here, width)
                ahead = k + NUMBERS_AHEAD if k + NUMBERS_AHEAD < n_k else k + NUMBERS_AHEAD - n_k + width * stride
                for i in range(min(TILE_LANES, n - first)):
                    prefetch(source, at + (first + i) * stride + ahead)
        for k in range(whole, n_k):
            for i in range(n):
                copy_number(source, at + k + i * stride, packed, to + k * width + i)
            for i in range(n, width):
                packed[to + k * width + i] = 0
    else:
        whole = min(room, n + TILE_LANES - 1) // TILE_LANES * TILE_LANES
        for k in range(n_k):
            for i in range(0, whole, TILE_LANES):
                copy_register(source, at + k * k_stride + i, packed, to + k * width + i)
                prefetch(source, at + (k + ROWS_AHEAD) * k_stride + i)
            for i in range(whole, n):
                copy_number(source, at + k * k_stride + i, packed, to + k * width + i)
            for i in range(max(whole, n), width):
                packed[to + k * width + i] = 0


@kernel
def pack_panels(
    source: Any, at: int, k_stride: int, stride: int, n_k: int, n: int, room: int, width: int, gap: int, packed: Any,
    to: int,
) -> None:  # fmt: skip
    """Pack ``n`` rows of a (or columns of b) as panels of ``width``, ``gap`` numbers apart, each n_k deep.

    Eight k are packed across all panels before the next eight, so memory is read along its rows.
    """
    step = max(1, n_k) if k_stride == 1 else 8
    for k in range(0, n_k, step):
        for first in range(0, n, width):
            _pack(
                source,
                at + first * stride + k * k_stride,
                k_stride,
                stride,
                min(step, n_k - k),
                min(width, n - first),
                room - first,
                width,
                packed,
                to + first // width * (n_k * width + gap) + k * width,
            )


@kernel
def multiply_block(
    a: Any, b: Any, c: Any, rows: Any, columns: Any, add: bool, how: int, bias: Any, other: Any, second: Any,
    packed: Any,
) -> None:  # fmt: skip
    """Compute some rows and columns (each: from, to) of ``c = a·b`` in one thread; ``matmul`` explains the rest."""
    (M, K), N, c_row = a.shape, b.shape[1], c.strides[0] // 4
    a_row, a_k, b_k, b_column = a.strides[0] // 4, a.strides[1] // 4, b.strides[0] // 4, b.strides[1] // 4
    of_a = DEPTH * WIDTH
    for j in range(columns[0], columns[1], WIDTH):
        width = min(WIDTH, columns[1] - j)
        for k in range(0, max(K, 1), DEPTH):
            depth = min(DEPTH, K - k)
            pack_panels(b, k * b_k + j * b_column, b_k, b_column, depth, width, N - j, TILE_COLUMNS, 0, packed, 0)
            for i in range(rows[0], rows[1], TILE_ROWS):
                height = min(TILE_ROWS, rows[1] - i)
                panel = (i - rows[0]) // TILE_ROWS % PANELS
                if panel == 0:
                    n = min(PANELS * TILE_ROWS, rows[1] - i)
                    pack_panels(a, i * a_row + k * a_k, a_k, a_row, depth, n, M - i, TILE_ROWS, GAP, packed, of_a)
                for column in range(0, width, TILE_COLUMNS):
                    here, of_c = of_a + panel * (depth * TILE_ROWS + GAP), i * c_row + j + column
                    n = min(TILE_COLUMNS, width - column)
                    if how >= RESIDUAL and k + depth == K:
                        prefetch_beside(how, i * N + j + column, height, TILE_COLUMNS, N, other, second)
                    multiply_product_tile(
                        packed, here, column * depth, TILE_COLUMNS, depth, c, of_c, c_row, height, n, add or k > 0
                    )
                if how != NOTHING and k + depth == K:
                    for row in range(i, i + height):
                        finish(how, c, row * c_row + j, row, j, width, N, bias, other, second)


@kernel
def _chunk(
    thread: int, chunk: int, a: Any, b: Any, c: Any, by_rows: bool, size: int, add: bool, how: int, bias: Any,
    other: Any, second: Any, packs: Any,
) -> None:  # fmt: skip
    M, N = c.shape
    part = chunk * size, min((M if by_rows else N), (chunk + 1) * size)
    rows, columns = (part, (0, N)) if by_rows else ((0, M), part)
    multiply_block(a, b, c, rows, columns, add, how, bias, other, second, packs[thread])


@entry(POOL, MATRIX, MATRIX, MATRIX_OUT, FLAG, INT, FLOATS, ROWS, ROWS_OUT, ROWS_OUT)
def _multiply(
    pool: Any, a: Any, b: Any, c: Any, add: bool, how: int, bias: Any, other: Any, second: Any, packs: Any
) -> None:
    """Split the longer side of c into one or two parts for each thread, which packs its own operands and never waits.

    Each part packs the whole of the other operand, so a short side has only one part for each thread. If a thread is
    suspended, another thread takes its second part.
    """
    check_work_rows(pool, packs)
    (M, K), N = a.shape, b.shape[1]
    by_rows = M >= N
    longer, unit = (M, TILE_ROWS) if by_rows else (N, TILE_LANES)
    parts = 1
    if pool[THREADS] > 1 and M * N * K >= SMALL:
        parts = pool[THREADS] * (2 if longer >= 2 * PART * pool[THREADS] else 1)
    size = max(1, (longer + parts * unit - 1) // (parts * unit)) * unit
    arguments = (a, b, c, by_rows, size, add, how, bias, other, second, packs)
    launch(pool, (longer + size - 1) // size, *job(_chunk, arguments))


NO_NUMBERS, NO_ROWS = np.empty(0, np.float32), np.empty((0, 0), np.float32)


def matmul(
    a: Floats, b: Floats, out: Floats, add: bool = False, how: int = NOTHING, bias: Floats = NO_NUMBERS,
    other: Floats = NO_ROWS, second: Floats = NO_ROWS,
) -> Floats:  # fmt: skip
    """``out = a @ b``, or ``+=``, then the operation ``how``, without another pass over memory.

    Args
        a, b, out: (M, K), (K, N), (M, N) of float32, of any strides; out does not overlap the others.
        add: add the product to ``out``.
        how: NOTHING. BIAS: out = z = a·b + bias. RESIDUAL: out = z + other. ACTIVATION + kind: out = f(z), second = z.
            SLOPE + kind, in the backward pass: out = a·b ⊙ f′(other), second = f(other); other is the forward pass's z.
        bias: (N,). other, second: (M, N), contiguous.
    Raises
        ShapeError if the bias has another shape, as after ``param.value = ...`` in a layer.
    """
    if NOTHING < how < SLOPE and bias.shape != out.shape[1:]:  # the kernel would read beyond its end
        raise ShapeError(f"matmul: bias has shape {bias.shape}, expected {out.shape[1:]}")
    across, along = out.strides
    on = pool()
    if len(out) <= few_rows.FEW and (along == 4 or out.shape[1] == 1) and not across & 3:
        few_rows.multiply(on, packable(a), packable(b), out, add, how, bias, other, second, workspace(work_rows(on)))
    elif (along == 4 or out.shape[1] == 1) and not across & 3:
        _multiply(on, packable(a), packable(b), out, add, how, bias, other, second, workspace(work_rows(on)))
    elif (across == 4 or out.shape[0] == 1) and not along & 3 and how == NOTHING:
        _multiply(on, packable(b.T), packable(a.T), out.T, add, how, bias, other, second, workspace(work_rows(on)))
    elif out.size:
        out[...] = matmul(a, b, np.array(out, order="C"), add, how, bias, other, second)
    return out


def packable(x: Floats) -> Floats:
    """Return x, or a copy if x is not contiguous along one of its last two axes, as packing requires."""
    across, along = x.strides[-2:]
    return x if (along == 4 or across == 4) and not (across | along) & 3 else np.ascontiguousarray(x)


_workspace = NO_ROWS


def workspace(n: int) -> Floats:
    """Return the working memory for packing, at least (n, PACK): one row for each thread."""
    global _workspace
    memory = _workspace  # another Python thread may replace it
    if len(memory) < n:
        room = np.empty(n * PACK + 16, np.float32)
        first = -room.ctypes.data // 4 % 16  # align the start, and so each panel, with a cache line
        memory = _workspace = room[first : first + n * PACK].reshape(n, PACK)
    return memory

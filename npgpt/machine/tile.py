"""The register tile of the matrix product and the packing of its operands, emitted as LLVM's portable vector code.

A tile is R rows and W columns of the product (``plain_matmul`` in ``kernels/matmul.py``). Its operands are packed as
``a[k, R]`` and ``b[k, W]``. The tile of ``c`` stays in registers for the whole loop over k. With 12 x 32 numbers in 24
registers of 16 lanes, each step takes 2 loads and 12 broadcasts for 24 fused multiply-adds; a plain loop takes 2 loads
and a store for each. The best tile depends on the number and the width of a CPU's vector registers. The results do not:
with every tile, each c[r, w] is one chain of fused multiply-adds in the order of k.
"""

import functools
from dataclasses import dataclass
from typing import Any

from numba import types

from npgpt.machine.bits import ARRAY, emits, pointer_to, prefetch_address
from npgpt.machine.kinds import INT
from npgpt.machine.numba_internals import (
    FLOAT,
    I32,
    I64,
    VOID,
    assembly,
    call_llvm,
    counting,
    cpu_asked_for,
    host_cpu,
    repeat,
    slot,
    vector_of,
)


@dataclass(frozen=True)
class Tile:
    """R rows and W columns of the product: a row is ``registers`` registers, each of ``lanes`` numbers.

    ``ahead`` is the distance in k from the numbers of b in use to those that are prefetched; 0 prefetches nothing.
    """

    name: str
    rows: int
    lanes: int
    registers: int = 2
    ahead: int = 0

    @property
    def columns(self) -> int:
        return self.registers * self.lanes


WIDE = Tile("AVX-512: 12 x 32", 12, 16)  # 24 of 32 registers for c
LOW = Tile("AVX-512: 9 x 48", 9, 16, registers=3, ahead=16)  # 27 of 32
MIDDLE = Tile("AVX2: 6 x 16", 6, 8)  # 12 of 16
NEON = Tile("NEON: 8 x 8", 8, 4)  # 16 of 32
NARROW = Tile("plain: 4 x 8", 4, 4)  # 8 of 16; less code for a CPU without a vector unit


@functools.cache
def chosen_tile() -> Tile:
    """Return the tile for Numba's target CPU, according to the instructions that LLVM emits for a vector fma."""
    vector = "<16 x float>"
    code = (
        f"declare {vector} @llvm.fma.v16f32({vector}, {vector}, {vector})\n"
        f"define {vector} @f({vector} %a, {vector} %b, {vector} %c) {{\n"
        f"%d = call {vector} @llvm.fma.v16f32({vector} %a, {vector} %b, {vector} %c)\nret {vector} %d }}"
    )
    instructions = assembly(code)
    for mark, tile in (("zmm", WIDE), ("vfmadd", MIDDLE), ("fmla", NEON)):
        if mark in instructions:
            return tile
    return NARROW


def chosen_product_tile() -> Tile:
    """Return the tile for products of large matrices: LOW with AVX-512 on a CPU that is not AMD's.

    With operands in the L2 cache, an Intel CPU ran 9 x 48 with prefetching 2 to 10 % faster than 12 x 32. A Zen 5 runs
    12 x 32 at 97 % of its peak. Attention's operands are in the L1 cache, and its blocks need ``chosen_tile()``.
    """
    cpu = cpu_asked_for()["NUMBA_CPU_NAME"] or host_cpu()
    return LOW if chosen_tile() is WIDE and not cpu.startswith("znver") else chosen_tile()


TILE, PRODUCT_TILE = chosen_tile(), chosen_product_tile()
TILE_ROWS, TILE_COLUMNS, TILE_LANES = TILE.rows, TILE.columns, TILE.lanes
_VECTOR, _INDEX = vector_of(FLOAT, TILE_LANES), vector_of(I32, TILE_LANES)


def _move(builder: Any, pointer: Any, items: Any, kind: Any = FLOAT) -> Any:
    """Move a pointer by ``items`` numbers."""
    return pointer_to(builder, pointer, I64(items) if isinstance(items, int) else items, kind)


def _row(builder: Any, pointer: Any, stride: Any, row: int, n_rows: Any) -> Any:
    """Return a pointer to row ``row``, or to the last row if ``row`` is beyond it."""
    last = builder.sub(n_rows, I64(1))
    inside = builder.icmp_signed("<", I64(row), n_rows)
    return _move(builder, pointer, builder.mul(builder.select(inside, I64(row), last), stride))


def _masks(builder: Any, n_columns: Any, registers: int) -> list[Any]:
    """Return a mask for each of a row's registers. It selects the lanes of existing columns."""
    masks = []
    for v in range(registers):
        left = builder.trunc(builder.sub(n_columns, I64(v * TILE_LANES)), I32)
        masks.append(builder.icmp_signed("<", _INDEX(list(range(TILE_LANES))), repeat(builder, left, TILE_LANES)))
    return masks


def multiplier(tile: Tile) -> Any:
    """Return the function that computes a tile of a product. Kernels call it."""

    @emits(types.void, ARRAY, INT, INT, INT, INT, ARRAY, INT, INT, INT, INT, INT)
    def multiply(
        builder: Any, packed: Any, a: Any, b: Any, b_row: Any, n_k: Any,
        c: Any, at: Any, stride: Any, n_rows: Any, n_columns: Any, add: Any,
    ) -> None:  # fmt: skip
        """``c[r, w] = Σ_k a[k, r]·b[k, w]``, or ``+=`` (the chain continues from c) if ``add`` is not 0.

        Args
            packed: the memory with the panels of a and b, which begin at the items ``a`` and ``b``.
            b_row: items from one k to the next in b, at least the tile's columns; in a it is the tile's rows.
            c, at, stride: the output array, the item of the first output, items from row to row.
            n_rows, n_columns: the size of the output, from 1 to the tile's rows and columns. All rows are computed.
                Surplus rows are stored in the place of the last row, which then overwrites them.
        """
        a, b = _move(builder, packed, a), _move(builder, packed, b)
        c = _move(builder, c, at)
        _fewest_registers(builder, 1, tile, a, b, b_row, n_k, c, stride, n_rows, n_columns, add)

    return multiply


def _fewest_registers(builder: Any, registers: int, tile: Tile, *arguments: Any) -> None:
    """Emit the tile with as few registers a row, but at least ``registers``, as hold the columns."""
    if registers == tile.registers:
        _tile(builder, registers, tile, *arguments)
        return
    n_columns = arguments[-2]
    with builder.if_else(builder.icmp_signed("<=", n_columns, I64(registers * TILE_LANES))) as (enough, too_few):
        with enough:
            _tile(builder, registers, tile, *arguments)
        with too_few:
            _fewest_registers(builder, registers + 1, tile, *arguments)


def _tile(
    builder: Any, registers: int, tile: Tile, a: Any, b: Any, b_row: Any, n_k: Any,
    c: Any, stride: Any, n_rows: Any, n_columns: Any, add: Any,
) -> None:  # fmt: skip
    """Emit the tile with this many registers a row."""
    whole = builder.icmp_signed("==", n_columns, I64(registers * TILE_LANES))
    masks = _masks(builder, n_columns, registers)
    cells = [(row, v) for row in range(tile.rows) for v in range(registers)]
    sums = {cell: slot(builder, _VECTOR) for cell in cells}

    def places() -> dict[tuple[int, int], Any]:
        rows = [_row(builder, c, stride, row, n_rows) for row in range(tile.rows)]
        return {(row, v): _move(builder, rows[row], v * TILE_LANES, _VECTOR) for row, v in cells}

    for place in places().values():  # the rows of c are written last; this saves 2 % of a product with a wide c
        prefetch_address(builder, place)
    zero = _VECTOR(0.0)
    with builder.if_else(builder.icmp_signed("!=", add, I64(0))) as (continued, fresh):
        with continued, builder.if_else(whole) as (all_columns, some):
            with all_columns:
                for cell, place in places().items():
                    builder.store(builder.load(place, align=4), sums[cell])
            with some:
                for cell, place in places().items():
                    name = f"llvm.masked.load.v{TILE_LANES}f32.p0"
                    builder.store(call_llvm(builder, name, _VECTOR, place, I32(4), masks[cell[1]], zero), sums[cell])
        with fresh:
            for cell in cells:
                builder.store(zero, sums[cell])

    with counting(builder, n_k) as k:
        of_b = _move(builder, b, builder.mul(k, b_row))
        of_a = _move(builder, a, builder.mul(k, I64(tile.rows)))
        right = [builder.load(_move(builder, of_b, v * TILE_LANES, _VECTOR), align=4) for v in range(registers)]
        if tile.ahead:
            later = _move(builder, of_b, builder.mul(b_row, I64(tile.ahead)))
            for v in range(registers):
                prefetch_address(builder, _move(builder, later, v * TILE_LANES))
        for row in range(tile.rows):
            left = repeat(builder, builder.load(_move(builder, of_a, row)), TILE_LANES)
            for v in range(registers):
                total = builder.load(sums[row, v])
                total = call_llvm(builder, f"llvm.fma.v{TILE_LANES}f32", _VECTOR, left, right[v], total)
                builder.store(total, sums[row, v])

    with builder.if_else(whole) as (all_columns, some):
        with all_columns:
            for cell, place in reversed(places().items()):  # the last existing row is stored last
                builder.store(builder.load(sums[cell]), place, align=4)
        with some:
            for cell, place in reversed(places().items()):
                name = f"llvm.masked.store.v{TILE_LANES}f32.p0"
                call_llvm(builder, name, VOID, builder.load(sums[cell]), place, I32(4), masks[cell[1]])


multiply_tile = multiplier(TILE)
multiply_product_tile = multiply_tile if PRODUCT_TILE is TILE else multiplier(PRODUCT_TILE)


@emits(types.void, ARRAY, INT, INT, INT, ARRAY, INT, INT)
def transpose_block(
    builder: Any, source: Any, at: Any, stride: Any, n_rows: Any, target: Any, to: Any, step: Any
) -> None:
    """``target[to + k·step + r] = source[at + r·stride + k]`` for r and k below the lanes of a register.

    Rows from ``n_rows`` on are copies of the last one. The transpose stays in registers: round i shuffles each register
    with the one 2**i further on. This takes log₂(lanes) rounds; single numbers would take lanes² loads and stores.
    """
    origin, target = _move(builder, source, at), _move(builder, target, to)
    places = [_row(builder, origin, stride, row, n_rows) for row in range(TILE_LANES)]
    rows = [builder.load(_move(builder, place, 0, _VECTOR), align=4) for place in places]
    width = 1
    while width < TILE_LANES:
        # Two rows `width` apart swap blocks of `width` lanes across the diagonal.
        upper, lower = [], []
        for lane in range(TILE_LANES):
            block, inside = divmod(lane, width)
            upper.append(lane if block % 2 == 0 else TILE_LANES + (block - 1) * width + inside)
            lower.append((block + 1) * width + inside if block % 2 == 0 else TILE_LANES + lane)
        for row in range(TILE_LANES):
            if row // width % 2 == 0:
                one, other = rows[row], rows[row + width]
                rows[row] = builder.shuffle_vector(one, other, _INDEX(upper))
                rows[row + width] = builder.shuffle_vector(one, other, _INDEX(lower))
        width *= 2
    for k, row in enumerate(rows):
        builder.store(row, _move(builder, target, builder.mul(I64(k), step), _VECTOR), align=4)


@emits(types.void, ARRAY, INT, ARRAY, INT)
def copy_register(builder: Any, source: Any, at: Any, target: Any, to: Any) -> None:
    """Copy TILE_LANES numbers, by one register."""
    numbers = builder.load(_move(builder, source, at, _VECTOR), align=4)
    builder.store(numbers, _move(builder, target, to, _VECTOR), align=4)


@emits(types.void, ARRAY, INT, ARRAY, INT)
def copy_number(builder: Any, source: Any, at: Any, target: Any, to: Any) -> None:
    """Copy one number."""
    builder.store(builder.load(_move(builder, source, at)), _move(builder, target, to))

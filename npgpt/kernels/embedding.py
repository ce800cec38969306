"""Look up rows of a table by id; in the backward pass, add gradients to these rows.

A repeated id adds to one row several times, so ``plain_scatter_add`` cannot be split into ranges of i. The chunks are
ranges of columns: each chunk visits all ids in order, and no other chunk touches its columns. Setting a large table to
zero takes longer than adding to it, so this step is split into chunks too.
"""

from typing import Any

from npgpt.machine.atomics import job
from npgpt.machine.compile import entry, kernel
from npgpt.machine.kinds import FLAG, INTS, POOL, ROWS, ROWS_OUT
from npgpt.machine.pool import launch
from npgpt.machine.vector import LANES, load, load_some, store, store_some

CHUNK = 8192  # numbers in a chunk when rows are copied; a chunk has at least one row
WIDTH = 64  # columns in a chunk when rows are added
ZEROS = 65536  # numbers in a chunk when a table is set to zero


def plain_gather(table: Any, ids: Any, out: Any) -> None:
    """out (n, C) = table[ids] for a table (V, C)."""
    for i in range(len(ids)):
        out[i] = table[ids[i]]


def plain_scatter_add(dy: Any, ids: Any, dtable: Any) -> None:
    """Add dy (n, C) to the rows of dtable (V, C)."""
    for i in range(len(ids)):
        dtable[ids[i]] += dy[i]


@kernel
def _gather(thread: int, chunk: int, rows: int, table: Any, ids: Any, out: Any) -> None:
    C = table.shape[1]
    whole = C - C % LANES
    rest = C - whole
    for i in range(chunk * rows, min(len(ids), (chunk + 1) * rows)):
        source, to = ids[i] * C, i * C
        for c in range(0, whole, LANES):
            store(out, to + c, load(table, source + c))
        if rest:
            store_some(out, to + whole, rest, load_some(table, source + whole, rest, 0.0))


@entry(POOL, ROWS, INTS, ROWS_OUT)
def gather(pool: Any, table: Any, ids: Any, out: Any) -> None:
    """out (n, C) = table[ids]. The ids are not checked."""
    rows = max(1, CHUNK // max(1, table.shape[1]))
    launch(pool, (len(ids) + rows - 1) // rows, *job(_gather, (rows, table, ids, out)))


@kernel
def _zero(thread: int, chunk: int, numbers: Any) -> None:
    numbers[chunk * ZEROS : (chunk + 1) * ZEROS] = 0


@kernel
def _scatter_add(thread: int, chunk: int, dy: Any, ids: Any, dtable: Any) -> None:
    C = dtable.shape[1]
    first, last = chunk * WIDTH, min(C, (chunk + 1) * WIDTH)
    whole = last - (last - first) % LANES
    rest = last - whole
    for i in range(len(ids)):
        source, to = i * C, ids[i] * C
        for c in range(first, whole, LANES):
            store(dtable, to + c, load(dtable, to + c) + load(dy, source + c))
        if rest:
            total = load_some(dtable, to + whole, rest, 0.0) + load_some(dy, source + whole, rest, 0.0)
            store_some(dtable, to + whole, rest, total)


@entry(POOL, ROWS, INTS, ROWS_OUT, FLAG)
def scatter_add(pool: Any, dy: Any, ids: Any, dtable: Any, add: bool) -> None:
    """dtable[ids[i]] += dy[i], in the order of i; dtable (V, C) is set to zero first unless ``add``."""
    if not add:
        launch(pool, (dtable.size + ZEROS - 1) // ZEROS, *job(_zero, (dtable.reshape(dtable.size),)))
    launch(pool, (dtable.shape[1] + WIDTH - 1) // WIDTH, *job(_scatter_add, (dy, ids, dtable)))

"""The loops for biases: add a row to every row of a matrix, and, in the backward pass, sum every column.

``plain_column_sums`` adds all rows into one row, which only one thread may write. Here each group of GROUP rows is
summed separately, sixteen columns at a time. The sums of the groups are then added in order, so the bits do not depend
on the threads.
"""

from typing import Any

from npgpt.machine.atomics import job
from npgpt.machine.compile import entry, kernel
from npgpt.machine.kinds import FLAG, FLOATS, FLOATS_OUT, POOL, ROWS, ROWS_OUT
from npgpt.machine.pool import launch
from npgpt.machine.vector import LANES, load, load_some, store, store_some

GROUP = 32  # rows
WIDTH = 256  # columns in a chunk when groups are added
CHUNK = 8192  # numbers in a chunk, which has at least one row


def plain_add_to_rows(x: Any, row: Any, y: Any) -> None:
    """y (n, C) = x (n, C) + row (C,)."""
    for i in range(len(x)):
        y[i] = x[i] + row


def plain_column_sums(x: Any, out: Any) -> None:
    """Add the sums of the columns of x (n, C) to ``out`` (C,)."""
    for row in x:
        out += row


def groups(n: int) -> int:
    """Return the number of groups in n rows."""
    return -(-n // GROUP)


@kernel
def _sum_rows(x: Any, first: int, last: int, column: int, out: Any, add: bool) -> None:
    """Sum rows ``first`` to ``last`` of x over ``len(out)`` columns from ``column`` on."""
    C = x.shape[1]
    whole = len(out) - len(out) % LANES
    rest = len(out) - whole
    if not add:
        out[:] = 0
    fours = last - (last - first) % 4  # four rows at a time: a sum is read and written once for all
    for row in range(first, fours, 4):
        at = row * C + column
        for c in range(0, whole, LANES):
            here = at + c
            total = load(out, c) + load(x, here) + load(x, here + C) + load(x, here + 2 * C) + load(x, here + 3 * C)
            store(out, c, total)
        if rest:
            total = load_some(out, whole, rest, 0.0)
            for here in range(at + whole, at + whole + 4 * C, C):
                total += load_some(x, here, rest, 0.0)
            store_some(out, whole, rest, total)
    for row in range(fours, last):
        at = row * C + column
        for c in range(0, whole, LANES):
            store(out, c, load(out, c) + load(x, at + c))
        if rest:
            store_some(out, whole, rest, load_some(out, whole, rest, 0.0) + load_some(x, at + whole, rest, 0.0))


@kernel
def _sum_group(thread: int, chunk: int, x: Any, partial: Any) -> None:
    _sum_rows(x, chunk * GROUP, min(len(x), (chunk + 1) * GROUP), 0, partial[chunk], False)


@kernel
def _add_groups(thread: int, chunk: int, partial: Any, out: Any, add: bool) -> None:
    first = chunk * WIDTH
    _sum_rows(partial, 0, len(partial), first, out[first : min(len(out), first + WIDTH)], add)


@kernel
def add_groups(pool: Any, partial: Any, out: Any, add: bool) -> None:
    """``out = partial.sum(0)``, or ``+=`` if ``add``, one row after the other."""
    launch(pool, (len(out) + WIDTH - 1) // WIDTH, *job(_add_groups, (partial, out, add)))


@entry(POOL, ROWS, ROWS_OUT, FLOATS_OUT, FLAG)
def column_sums(pool: Any, x: Any, partial: Any, out: Any, add: bool) -> None:
    """Sum the columns of x (n, C); add the sums to ``out`` (C,) if ``add``, else write them there.

    Args
        partial: (groups(n), C), working memory.
    """
    launch(pool, len(partial), *job(_sum_group, (x, partial)))
    add_groups(pool, partial, out, add)


@kernel
def _add_to_rows(thread: int, chunk: int, rows: int, x: Any, row: Any, y: Any) -> None:
    n, C = x.shape
    whole = C - C % LANES
    rest = C - whole
    last = load_some(row, whole, rest, 0.0)
    for i in range(chunk * rows, min(n, (chunk + 1) * rows)):
        at = i * C
        for c in range(0, whole, LANES):
            store(y, at + c, load(x, at + c) + load(row, c))
        if rest:
            store_some(y, at + whole, rest, load_some(x, at + whole, rest, 0.0) + last)


@entry(POOL, ROWS, FLOATS, ROWS_OUT)
def add_to_rows(pool: Any, x: Any, row: Any, y: Any) -> None:
    """y (n, C) = x (n, C) + row (C,), row by row. y may be x."""
    rows = max(1, CHUNK // max(1, x.shape[1]))
    launch(pool, (len(x) + rows - 1) // rows, *job(_add_to_rows, (rows, x, row, y)))

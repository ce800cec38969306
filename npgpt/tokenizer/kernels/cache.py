"""The cache of earlier pieces and their ids: keys, entries, growth. ``encode.py`` uses it, and ``learn.py`` its keys.

A piece of up to 15 bytes is its own key: two int64 with the size in the last byte, loaded by two instructions and
hashed by one multiplication. Its entry of 32 bytes also holds up to three ids, written by one 16-byte store.
"""

from typing import Any

import numpy as np

from npgpt.machine.bits import fold_multiply, load32, load64, prefetch, rarely, store64, store128
from npgpt.machine.compile import inline_kernel, kernel
from npgpt.tokenizer.kernels.whole import LONGEST_KEY

BLOCK = 192  # pieces: 129, and up to 63 from the last window; whole cache lines
LOW, HIGH, FIRST = BLOCK, 2 * BLOCK, 3 * BLOCK  # after the ends of the pieces, each one's two keys and its line
LONGEST_KEPT = 256  # bytes; longer pieces are merged each time

# The cache: `table` has entries of four int64, which are key, key, ids and count. Two entries share a cache line. A
# piece is in the line that its hash names, or in one of the next (LINES in all), before any free entry. A new piece
# takes the first free entry, or else the place of an older piece: so the largest table never has to be emptied.
# - A short piece is its own key. A longer piece has a hash and its size as key; its bytes follow its ids in `spilled`.
# - Up to three ids of a short piece are uint32 in the entry; its highest 32 bits are their number. Otherwise SPILLED is
#   added to the number, and the third int64 is the place of the ids in `spilled`.
# - `spilled` is a ring: places count on for ever, and place p is item `p & (len(spilled) - SLACK - 1)`. What was
#   written a whole round ago is gone. SLACK is room behind the ring for an entry that begins near its end.
# - An entry whose last int64 is 0 is free.
LINES = 4
SPILLED = 4
SLACK = 512  # words of four bytes, more than one item has
# `state` holds the number of used entries and the number at which the caller enlarges the table, the next place in
# `spilled` and the place at which the caller enlarges it, and two secret numbers. An attacker needs these two to write
# a text whose pieces all share one line.
ENTRIES, MOST_ENTRIES, SPILL, MOST_SPILL, SECRET_1, SECRET_2 = range(6)
SPILL_ROOM = BLOCK * (LONGEST_KEPT + LONGEST_KEPT // 4 + 1) + 4  # the most that one block can use

# Masks that keep the first 0 to 15 bytes of two int64.
_LOW_MASKS = np.array([(1 << 8 * size) - 1 for size in range(8)] + [-1] * 8, np.int64)
_HIGH_MASKS = np.array([0] * 9 + [(1 << 8 * size) - 1 for size in range(1, 8)], np.int64)
LONG = 1 << 62


@inline_kernel
def find_keys(text: Any, at: int, n_pieces: int, table: Any, state: Any, block: Any) -> None:
    """Run the first phase: find each piece's two keys and the line that its hash names, and prefetch the line.

    Args
        block: has the ends of the pieces; the keys and the lines are written to it.
    """
    for k in range(n_pieces):
        end = load64(block, k)
        if rarely(end - at > LONGEST_KEY or at + 16 > len(text)):
            low, high = other_key(text, at, end - at, state)
        else:
            low, high = short_key(text, at, end - at)
        line = line_of(low, high, table, state)
        prefetch(table, line)
        store64(block, LOW + k, low)
        store64(block, HIGH + k, high)
        store64(block, FIRST + k, line)
        at = end


@inline_kernel
def line_of(low: int, high: int, table: Any, state: Any) -> int:
    """Return the line at which a key's search begins; each next entry is four int64 further."""
    return fold_multiply(low ^ state[SECRET_1], high ^ state[SECRET_2]) << 3 & (len(table) - 1)


@inline_kernel
def short_key(text: Any, start: int, size: int) -> tuple[int, int]:
    """Return two int64 that identify a piece of up to 15 bytes: its bytes and its size."""
    low = load64(text, start) & load64(_LOW_MASKS, size)
    return low, load64(text, start + 8) & load64(_HIGH_MASKS, size) | size << 56


@kernel
def other_key(text: Any, start: int, size: int, state: Any) -> tuple[int, int]:
    """Return the key of a short piece near the text's end, or the hash and size of a longer piece."""
    if size <= LONGEST_KEY:
        low = high = 0
        for i in range(size):
            if i < 8:
                low |= np.int64(text[start + i]) << (8 * i)
            else:
                high |= np.int64(text[start + i]) << (8 * i - 64)
        return low, high | size << 56
    low = load64(text, start + size - 8)
    for i in range(start, start + size - 8, 8):
        low = fold_multiply(load64(text, i) ^ state[SECRET_1], low ^ state[SECRET_2]) ^ low
    return low, LONG | size


@kernel
def known_entry(low: int, high: int, line: int, table: Any) -> int:
    """Return the entry of a key, or -1."""
    for i in range(0, 8 * LINES, 4):
        entry = (line + i) & (len(table) - 1)
        if load64(table, entry) == low and load64(table, entry + 1) == high:
            return entry
        if load64(table, entry + 3) == 0:
            break
    return -1


@kernel
def find_entry(low: int, high: int, line: int, table: Any) -> int:
    """Return the entry of a key; else the first free one; else that of the newer piece in its line, after a move."""
    for i in range(0, 8 * LINES, 4):
        entry = (line + i) & (len(table) - 1)
        if (load64(table, entry) == low and load64(table, entry + 1) == high) or load64(table, entry + 3) == 0:
            return entry
    for i in range(4):
        table[line + 4 + i] = table[line + i]
    return line


@inline_kernel
def keep(
    text: Any, start: int, size: int, low: int, high: int, line: int, memory: Any, out: Any, n_out: int, n: int
) -> None:
    """Put a piece, whose ``n`` ids are at ``out[n_out:]``, into the cache."""
    table, spilled, state = memory
    entry = find_entry(low, high, line, table)
    state[ENTRIES] += load64(table, entry + 3) == 0
    if size <= LONGEST_KEY and n < SPILLED:
        ids = load32(out, n_out) | (load32(out, n_out + 1) << 32 if n > 1 else 0)
        last = (load32(out, n_out + 2) if n > 2 else 0) | n << 32
    else:
        ids, last = state[SPILL], (SPILLED + n) << 32
        spill(text, start, size if size > LONGEST_KEY else 0, out[n_out : n_out + n], spilled, state)
    store128(table, entry, low, high)
    store128(table, entry + 2, ids, last)


@kernel
def spill(text: Any, start: int, size: int, ids: Any, spilled: Any, state: Any) -> None:
    """Append ids and, if ``size`` is not 0, the piece's bytes: words of four bytes, then its last four bytes."""
    at = state[SPILL] & (len(spilled) - SLACK - 1)
    for i in range(len(ids)):
        spilled[at + i] = ids[i]
    words = len(ids)
    if size > 0:
        for i in range(size >> 2):
            spilled[at + words + i] = load32(text, start + 4 * i)
        words += size >> 2
        spilled[at + words] = load32(text, start + size - 4)
        words += 1
    state[SPILL] += words


@kernel
def same_bytes(text: Any, start: int, size: int, spilled: Any, at: int) -> bool:
    """Compare a piece with the bytes that ``spill`` wrote at ``at``, after the ids."""
    for i in range(size >> 3):
        if load64(spilled, at + 2 * i) != load64(text, start + 8 * i):
            return False
    if spilled[at + (size >> 2) - 1] != load32(text, start + 4 * (size >> 2) - 4):
        return False
    return bool(spilled[at + (size >> 2)] == load32(text, start + size - 4))


@kernel
def enlarge(table: Any, larger: Any, state: Any) -> None:
    """Move all entries of the cache into a larger, empty table."""
    for old in range(0, len(table), 4):
        if table[old + 3] != 0:
            low, high = table[old], table[old + 1]
            entry = find_entry(low, high, line_of(low, high, larger, state), larger)
            for i in range(4):
                larger[entry + i] = table[old + i]


@kernel
def rehash(table: Any, larger: Any, state: Any) -> None:
    """Move all entries of the table of ``learn.py`` into a larger, empty one."""
    for old in range(0, len(table), 4):
        if table[old + 3] != 0:
            entry = line_of(table[old], table[old + 1], larger, state)
            while larger[entry + 3] != 0:
                entry = (entry + 4) & (len(larger) - 1)
            for i in range(4):
                larger[entry + i] = table[old + i]

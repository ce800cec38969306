"""Encode text to ids, with a cache of earlier pieces.

The plain loop is ``bpe.encode``: each distinct piece of a text is merged once and looked up afterwards. The cache has
nearly all pieces of a text, so the look-up limits the speed. A piece of up to 15 bytes is its own key: two int64 with
the size in the last byte, loaded by two instructions and hashed by one multiplication. Its entry of 32 bytes also holds
up to three ids, written by one 16-byte store. The first phase hashes a block of about 130 pieces and prefetches their
entries. The second phase looks them up, so the waits for memory overlap (gigatoken's idea, MIT). On one core of a Zen 3
and English prose, splitting runs at 1,490 MB/s, splitting and look-up together at 480 MB/s.
"""

from typing import Any

import numpy as np

from npgpt.machine.bits import fold_multiply, load32, load64, prefetch, store128
from npgpt.machine.compile import inline_kernel, kernel
from npgpt.tokenizer.kernels.merge import FEW, merge
from npgpt.tokenizer.kernels.split import split

BLOCK = 192  # pieces: 129, and up to 63 from the last window; whole cache lines
LONGEST_KEY = 15  # bytes
LONGEST_KEPT = 256  # bytes; longer pieces are merged each time

# The cache: `table` has entries of four int64, which are key, key, ids and count. `spilled` has the ids and bytes that
# do not fit into an entry.
# - A short piece is its own key. A longer piece has a hash and its size as key; its bytes follow its ids in `spilled`.
# - Up to three ids of a short piece are uint32 in the entry; its highest 32 bits are their number. Otherwise SPILLED is
#   added to the number, and the third int64 is the start of the ids in `spilled`.
# - An entry whose last int64 is 0 is free.
SPILLED = 4
# `state` holds the number of used entries, the used size of `spilled`, and two secret numbers. An attacker needs these
# numbers to write a text whose pieces all share one entry.
ENTRIES, SPILL, SECRET_1, SECRET_2 = range(4)
SPILL_ROOM = BLOCK * (LONGEST_KEPT + LONGEST_KEPT // 4 + 1) + 4  # the most that one block can use

# Masks that keep the first 0 to 15 bytes of two int64.
_LOW_MASKS = np.array([(1 << 8 * size) - 1 for size in range(8)] + [-1] * 8, np.int64)
_HIGH_MASKS = np.array([0] * 9 + [(1 << 8 * size) - 1 for size in range(1, 8)], np.int64)
_LONG = 1 << 62


@kernel
def encode(
    text: Any, at: int, pattern: int, vocabulary: Any, memory: Any, block: Any, out: Any, n_out: int
) -> tuple[int, int]:
    """Write the ids of ``text[at:]`` to ``out[n_out:]``.

    Stop early if ``out`` or the cache may be too small for the next block of pieces; the caller then continues.

    Args
        vocabulary: classes as in ``split.py``; pairs and byte pairs as in ``merge.py``; the id for each token number.
        memory: the cache: table, spilled and state, described above.
        block: (6, BLOCK), working memory.
    Returns
        the positions reached in the text and in ``out``.
    """
    classes = vocabulary[0]
    table, spilled, state = memory
    ends, lows, highs, entries = block[0], block[1], block[2], block[3]
    while at < len(text):
        if 8 * (state[ENTRIES] + BLOCK) > len(table) or state[SPILL] + SPILL_ROOM > len(spilled):
            break
        n_pieces = split(text, at, pattern, classes, ends)
        if n_out + (ends[n_pieces - 1] - at) + 4 > len(out):  # no more ids than bytes; a store writes 4
            break
        start = at
        for k in range(n_pieces):  # a copy of find_keys: a call costs 3 %
            size = ends[k] - start
            if size <= LONGEST_KEY and start + 16 <= len(text):
                low, high = short_key(text, start, size)
            else:
                low, high = other_key(text, start, size, state)
            entry = first_entry(low, high, table, state)
            prefetch(table, entry)
            lows[k], highs[k], entries[k] = low, high, entry
            start = ends[k]
        start = at
        for k in range(n_pieces):
            low, high, entry, size = lows[k], highs[k], entries[k], ends[k] - start
            while (table[entry] != low or table[entry + 1] != high) and table[entry + 3] != 0:
                entry = (entry + 4) & (len(table) - 1)
            count = table[entry + 3] >> 32
            if 0 < count < SPILLED:
                store128(out, n_out, table[entry + 2], table[entry + 3])
                n_out += count
            elif count >= SPILLED and (
                high < _LONG or same_bytes(text, start, size, spilled, table[entry + 2] + count)
            ):
                begin = table[entry + 2]
                for i in range(0, count - SPILLED, 4):
                    store128(out, n_out + i, load64(spilled, begin + i), load64(spilled, begin + i + 2))
                n_out += count - SPILLED
            else:
                n_out = encode_piece(text, start, size, low, high, entry, vocabulary, memory, block, out, n_out)
            start = ends[k]
        at = start
    return at, n_out


@inline_kernel
def find_keys(text: Any, at: int, n_pieces: int, table: Any, state: Any, block: Any) -> None:
    """Run the first phase: find each piece's two keys and its first entry, and prefetch the entry.

    Args
        block: has the ends of the pieces; the keys and the first entries are written to it.
    """
    ends, lows, highs, entries = block[0], block[1], block[2], block[3]
    for k in range(n_pieces):
        size = ends[k] - at
        if size <= LONGEST_KEY and at + 16 <= len(text):
            low, high = short_key(text, at, size)
        else:
            low, high = other_key(text, at, size, state)
        entry = first_entry(low, high, table, state)
        prefetch(table, entry)
        lows[k], highs[k], entries[k] = low, high, entry
        at = ends[k]


@inline_kernel
def first_entry(low: int, high: int, table: Any, state: Any) -> int:
    """Return the first entry of a key's search; each next entry is four int64 further."""
    return fold_multiply(low ^ state[SECRET_1], high ^ state[SECRET_2]) << 2 & (len(table) - 1)


@kernel
def short_key(text: Any, start: int, size: int) -> tuple[int, int]:
    """Return two int64 that identify a piece of up to 15 bytes: its bytes and its size.

    LLVM inlines this small function; a call that passes arrays would cost more than its work (25 -> 9 ns a piece).
    """
    return load64(text, start) & _LOW_MASKS[size], load64(text, start + 8) & _HIGH_MASKS[size] | size << 56


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
    return low, _LONG | size


@kernel
def encode_piece(
    text: Any, start: int, size: int, low: int, high: int, entry: int, vocabulary: Any, memory: Any, block: Any,
    out: Any, n_out: int,
) -> int:  # fmt: skip
    """Merge a piece that is not in the cache; cache it if the entry is free. Return the new ``n_out``."""
    _, pairs, byte_pairs, ids = vocabulary
    table, spilled, state = memory
    tokens = block[4] if size <= FEW else np.empty(size, np.int64)
    n = merge(text, start, size, pairs, byte_pairs, tokens, block[5])
    for i in range(n):
        out[n_out + i] = ids[tokens[i]]
    if size <= LONGEST_KEPT and table[entry + 3] == 0:
        state[ENTRIES] += 1
        table[entry], table[entry + 1] = low, high
        if size <= LONGEST_KEY and n < SPILLED:
            table[entry + 2] = np.int64(out[n_out]) | (np.int64(out[n_out + 1]) << 32 if n > 1 else 0)
            table[entry + 3] = (np.int64(out[n_out + 2]) if n > 2 else 0) | n << 32
        else:
            table[entry + 2], table[entry + 3] = state[SPILL], (SPILLED + n) << 32
            spill(text, start, size if size > LONGEST_KEY else 0, out[n_out : n_out + n], spilled, state)
    return n_out + n


@kernel
def spill(text: Any, start: int, size: int, ids: Any, spilled: Any, state: Any) -> None:
    """Append ids and, if ``size`` is not 0, the piece's bytes: words of four bytes, then its last four bytes."""
    at = state[SPILL]
    for i in range(len(ids)):
        spilled[at + i] = ids[i]
    at += len(ids)
    if size > 0:
        for i in range(size >> 2):
            spilled[at + i] = load32(text, start + 4 * i)
        at += size >> 2
        spilled[at] = load32(text, start + size - 4)
        at += 1
    state[SPILL] = at


@kernel
def same_bytes(text: Any, start: int, size: int, spilled: Any, behind: int) -> bool:
    """Compare a piece with the bytes that ``spill`` wrote after the ids, at ``behind - SPILLED``."""
    at = behind - SPILLED
    for i in range(size >> 3):
        if load64(spilled, at + 2 * i) != load64(text, start + 8 * i):
            return False
    if spilled[at + (size >> 2) - 1] != load32(text, start + 4 * (size >> 2) - 4):
        return False
    return bool(spilled[at + (size >> 2)] == load32(text, start + size - 4))


@kernel
def rehash(table: Any, larger: Any, state: Any) -> None:
    """Move all entries into a larger, empty table."""
    for old in range(0, len(table), 4):
        if table[old + 3] != 0:
            entry = first_entry(table[old], table[old + 1], larger, state)
            while larger[entry + 3] != 0:
                entry = (entry + 4) & (len(larger) - 1)
            for i in range(4):
                larger[entry + i] = table[old + i]

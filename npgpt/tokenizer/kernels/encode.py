"""Encode text to ids, with a cache of earlier pieces.

The plain loop is ``bpe.encode``: each distinct piece of a text is merged once and looked up afterwards. The cache has
nearly all pieces of a text, so the look-up limits the speed. A piece of up to 15 bytes is its own key: two int64 with
the size in the last byte, loaded by two instructions and hashed by one multiplication. Its entry of 32 bytes also holds
up to three ids, written by one 16-byte store. The first phase hashes a block of about 130 pieces and prefetches their
entries. The second phase looks them up, so the waits for memory overlap (gigatoken's idea, MIT). On one core of a Zen 3
and English prose, splitting runs at 1,490 MB/s, splitting and look-up together at 480 MB/s. At the first new piece of a
block, all its new pieces are merged in turns, which ``together.py`` explains.
"""

from typing import Any

import numpy as np

from npgpt.machine.bits import fold_multiply, load32, load64, lowest_bit, prefetch, store128
from npgpt.machine.compile import allocating_kernel, inline_kernel, kernel
from npgpt.tokenizer.kernels.merge import FEW, merge_few, merge_many, separable
from npgpt.tokenizer.kernels.split import split
from npgpt.tokenizer.kernels.together import LANE, merge_together

BLOCK = 192  # pieces: 129, and up to 63 from the last window; whole cache lines
LONGEST_KEY = 15  # bytes
LONGEST_KEPT = 256  # bytes; longer pieces are merged each time

# The cache: `table` has entries of four int64, which are key, key, ids and count. Two entries share a cache line. A
# piece is in the line that its hash names, or in one of the next (LINES in all), before any free entry. A new piece
# takes the first free entry, or else the place of an older piece: so the largest table never has to be emptied.
# - A short piece is its own key. A longer piece has a hash and its size as key; its bytes follow its ids in `spilled`.
# - Up to three ids of a short piece are uint32 in the entry; its highest 32 bits are their number. Otherwise SPILLED is
#   added to the number, and the third int64 is the place of the ids in `spilled`.
# - `spilled` is a ring: places count on for ever, and place p is item `p & (len(spilled) - SLACK - 1)`. What was
#   written a whole round ago is gone. An item at the end of the ring continues in the SLACK behind it, in one piece.
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
_LONG = 1 << 62


@kernel
def encode(
    text: Any, shape: Any, at: int, pattern: int, vocabulary: Any, memory: Any, work: Any, out: Any, n_out: int
) -> tuple[int, int]:
    """Write the ids of ``text[at:]`` to ``out[n_out:]``.

    Stop early if ``out`` may be too small for the next block of pieces, or if the cache should be larger; the caller
    then continues.

    Args
        shape: the text, or bytes of the same size, valid UTF-8, whose pieces are those of the text.
        vocabulary: classes as in ``split.py``; tables as in ``merge.py``; the id for each token number.
        memory: the cache: table, spilled and state, described above.
        work: two arrays of working memory: block (10, BLOCK), int64; and lanes (2, BLOCK * LANE), int32.
    Returns
        the positions reached in the text and in ``out``.
    """
    classes = vocabulary[0]
    table, spilled, state = memory
    block = work[0]
    ends, lows, highs, lines = block[0], block[1], block[2], block[3]
    last = len(spilled) - SLACK - 1
    while at < len(text) and state[ENTRIES] <= state[MOST_ENTRIES] and state[SPILL] <= state[MOST_SPILL]:
        n_pieces = split(shape, at, pattern, classes, ends)
        if n_out + (ends[n_pieces - 1] - at) + 4 > len(out):  # no more ids than bytes; a store writes 4
            break
        start = at
        for k in range(n_pieces):  # a copy of find_keys: a call costs 3 %
            size = ends[k] - start
            if size <= LONGEST_KEY and start + 16 <= len(text):
                low, high = short_key(text, start, size)
            else:
                low, high = other_key(text, start, size, state)
            line = first_entry(low, high, table, state) & -8
            prefetch(table, line)
            lows[k], highs[k], lines[k] = low, high, line
            start = ends[k]
        merged = False
        start = at
        for k in range(n_pieces):
            low, high, line, size = lows[k], highs[k], lines[k], ends[k] - start
            entry = line + 4 * ((table[line + 4] == low) & (table[line + 5] == high))
            if table[entry] != low or table[entry + 1] != high:
                entry = known_entry(low, high, line, table)
                if entry < 0 and not merged:
                    keep_new(text, k, start, n_pieces, vocabulary, memory, work, out, n_out)
                    merged = True
                    entry = known_entry(low, high, line, table)
                if entry < 0:
                    n_out = encode_piece(text, start, size, low, high, line, vocabulary, memory, block, out, n_out)
                    start = ends[k]
                    continue
            count, begin = table[entry + 3] >> 32, table[entry + 2]
            if count < SPILLED:
                store128(out, n_out, begin, table[entry + 3])
                n_out += count
            elif state[SPILL] - begin <= last and (
                high < _LONG or same_bytes(text, start, size, spilled, (begin & last) + count - SPILLED)
            ):
                begin &= last
                for i in range(0, count - SPILLED, 4):
                    store128(out, n_out + i, load64(spilled, begin + i), load64(spilled, begin + i + 2))
                n_out += count - SPILLED
            else:
                n_out = encode_piece(text, start, size, low, high, line, vocabulary, memory, block, out, n_out)
            start = ends[k]
        at = start
    return at, n_out


@kernel
def encode_each(
    text: Any, ends: Any, k: int, at: int, pattern: int, vocabulary: Any, memory: Any, work: Any, out: Any, n_out: int,
    stops: Any,
) -> tuple[int, int, int]:  # fmt: skip
    """Do the work of ``encode`` for several texts, one after another: text k ends at ``ends[k]`` of ``text``.

    Args
        stops: the end of each text's ids in ``out`` is written to it.
    Returns
        the number of texts done, and the positions reached in ``text`` and in ``out``.
    """
    while k < len(ends):
        part = text[: ends[k]]
        at, n_out = encode(part, part, at, pattern, vocabulary, memory, work, out, n_out)
        if at < ends[k]:
            break
        stops[k] = n_out
        k += 1
    return k, at, n_out


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
def known_entry(low: int, high: int, line: int, table: Any) -> int:
    """Return the entry of a key, or -1."""
    for i in range(0, 8 * LINES, 4):
        entry = (line + i) & (len(table) - 1)
        if table[entry] == low and table[entry + 1] == high:
            return entry
        if table[entry + 3] == 0:
            break
    return -1


@kernel
def find_entry(low: int, high: int, line: int, table: Any) -> int:
    """Return the entry of a key; else the first free one; else that of the newer piece in its line, after a move."""
    for i in range(0, 8 * LINES, 4):
        entry = (line + i) & (len(table) - 1)
        if (table[entry] == low and table[entry + 1] == high) or table[entry + 3] == 0:
            return entry
    for i in range(4):
        table[line + 4 + i] = table[line + i]
    return line


@kernel
def keep_new(
    text: Any, first: int, start: int, n_pieces: int, vocabulary: Any, memory: Any, work: Any, out: Any, n_out: int
) -> None:
    """Merge all new pieces of a block from piece ``first`` on, which is at ``start``, and put them into the cache.

    Pieces of one byte, or of more than LANE, are left out. ``out`` from ``n_out`` on is working memory.
    """
    _, tables, ids = vocabulary
    block, lanes = work
    ends, lows, highs, lines = block[0], block[1], block[2], block[3]
    starts, begins, active, new = block[6], block[7], block[8], block[9]
    table = memory[0]
    n = 0
    for k in range(first, n_pieces):
        size, low, high, line = ends[k] - start, lows[k], highs[k], lines[k]
        entry = line + 4 * ((table[line + 4] == low) & (table[line + 5] == high))
        known = table[entry] == low and table[entry + 1] == high
        if not known and 1 < size <= LANE and known_entry(low, high, line, table) < 0:
            starts[n], begins[n], new[n] = start, size, k
            n += 1
        start = ends[k]
    tokens = lanes[0]
    merge_together(text, n, tables, starts, begins, active, tokens, lanes[1])
    for j in range(n):
        k, bits, n_ids = new[j], begins[j], 0
        while bits != 0:
            out[n_out + n_ids] = ids[tokens[LANE * j + lowest_bit(bits)]]
            bits &= bits - 1
            n_ids += 1
        keep(text, starts[j], ends[k] - starts[j], lows[k], highs[k], lines[k], memory, out, n_out, n_ids)


@kernel
def encode_piece(
    text: Any, start: int, size: int, low: int, high: int, line: int, vocabulary: Any, memory: Any, block: Any,
    out: Any, n_out: int,
) -> int:  # fmt: skip
    """Merge a piece, and put it into the cache; return the new ``n_out``."""
    n = merge_piece(text, start, start + size, vocabulary, block, out, n_out) - n_out
    if size <= LONGEST_KEPT:
        keep(text, start, size, low, high, line, memory, out, n_out, n)
    return n_out + n


@inline_kernel
def keep(
    text: Any, start: int, size: int, low: int, high: int, line: int, memory: Any, out: Any, n_out: int, n: int
) -> None:
    """Put a piece, whose ``n`` ids are at ``out[n_out:]``, into the cache."""
    table, spilled, state = memory
    entry = find_entry(low, high, line, table)
    state[ENTRIES] += table[entry + 3] == 0
    table[entry], table[entry + 1] = low, high
    if size <= LONGEST_KEY and n < SPILLED:
        table[entry + 2] = np.int64(out[n_out]) | (np.int64(out[n_out + 1]) << 32 if n > 1 else 0)
        table[entry + 3] = (np.int64(out[n_out + 2]) if n > 2 else 0) | n << 32
    else:
        table[entry + 2], table[entry + 3] = state[SPILL], (SPILLED + n) << 32
        spill(text, start, size if size > LONGEST_KEY else 0, out[n_out : n_out + n], spilled, state)


@kernel
def merge_piece(text: Any, start: int, end: int, vocabulary: Any, block: Any, out: Any, n_out: int) -> int:
    """Write the ids of a piece, or of each part of a long piece in turn; return the new ``n_out``."""
    _, tables, ids = vocabulary
    tokens, made = block[4], block[5]
    while start < end:
        part = end if end - start <= FEW else separable(text, start, end, tables)
        if part - start == 1:
            out[n_out] = ids[text[start]]
            n_out += 1
        elif part - start > FEW:
            n_out = merge_long(text, start, part - start, vocabulary, out, n_out)
        else:
            n = merge_few(text, start, part - start, tables, tokens, made)
            for i in range(n):
                out[n_out + i] = ids[tokens[i]]
            n_out += n
        start = part
    return n_out


@allocating_kernel
def merge_long(text: Any, start: int, size: int, vocabulary: Any, out: Any, n_out: int) -> int:
    _, tables, ids = vocabulary
    tokens = np.empty(size, np.int64)
    n = merge_many(text, start, size, tables, tokens)
    for i in range(n):
        out[n_out + i] = ids[tokens[i]]
    return n_out + n


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
            entry = find_entry(low, high, first_entry(low, high, larger, state) & -8, larger)
            for i in range(4):
                larger[entry + i] = table[old + i]


@kernel
def rehash(table: Any, larger: Any, state: Any) -> None:
    """Move all entries of the table of ``learn.py`` into a larger, empty one."""
    for old in range(0, len(table), 4):
        if table[old + 3] != 0:
            entry = first_entry(table[old], table[old + 1], larger, state)
            while larger[entry + 3] != 0:
                entry = (entry + 4) & (len(larger) - 1)
            for i in range(4):
                larger[entry + i] = table[old + i]

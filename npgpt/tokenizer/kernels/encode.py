"""Encode text to ids, with a cache of earlier pieces.

The plain loop is ``bpe.encode``: each distinct piece of a text is merged once and looked up afterwards. The cache has
nearly all pieces of a text, so the look-up limits the speed. The first phase hashes a block of about 130 pieces and
prefetches their entries. The second phase looks them up, so the waits for memory overlap (gigatoken's idea, MIT). At
the first new piece of a block, its new pieces that are one token get this token (``whole.py``), and all the others are
merged in turns (``together.py``).
"""

from typing import Any

import numpy as np
from numba import types

from npgpt.machine.bits import (
    array_at,
    copy64,
    load8,
    load32,
    load64,
    lowest_bit,
    prefetch,
    rarely,
    store32,
    store64,
    store128,
)
from npgpt.machine.compile import allocating_kernel, kernel
from npgpt.tokenizer.kernels.cache import (
    BLOCK,
    ENTRIES,
    FIRST,
    HIGH,
    LONG,
    LONGEST_KEPT,
    LOW,
    MOST_ENTRIES,
    MOST_SPILL,
    SLACK,
    SPILL,
    SPILLED,
    find_keys,
    keep,
    known_entry,
    same_bytes,
)
from npgpt.tokenizer.kernels.merge import FEW, first_line, merge_few, merge_many, separable
from npgpt.tokenizer.kernels.split import split
from npgpt.tokenizer.kernels.together import LANE, merge_together
from npgpt.tokenizer.kernels.whole import has_key, hashed_key, likely_token

ROOM = 16  # ids; a copy writes so many at once

uint8_at, int32_at, uint32_at, int64_at = map(array_at, (types.uint8, types.int32, types.uint32, types.int64))


@kernel
def encode(text: Any, shape: Any, at: int, places: Any, out: Any, n_out: int) -> tuple[int, int]:
    """Write the ids of ``text[at:]`` to ``out[n_out:]``.

    Stop early if ``out`` may be too small for the next block of pieces, or if the cache should be larger; the caller
    then continues.

    Args
        shape: the text, or bytes of the same size, valid UTF-8, whose pieces are those of the text.
        places: the number of the split pattern, and then the address and the length of each array below. So they are
            one argument, for Python takes 0.05 us to pass an array.
            vocabulary: classes as in ``split.py``; tables as in ``merge.py``; the id for each token number; whole
                tokens as in ``whole.py``.
            memory: table, spilled and state, as in ``cache.py``.
            work: working memory: block, 10 rows of BLOCK; and lanes, 2 rows of BLOCK * LANE.
    Returns
        the positions reached in the text and in ``out``.
    """
    classes = uint8_at(places[1], places[2])
    tables = int32_at(places[3], places[4]), int32_at(places[5], places[6]), int64_at(places[7], places[8])
    whole = int32_at(places[11], places[12]), int64_at(places[13], places[14])
    vocabulary = classes, tables, uint32_at(places[9], places[10]), whole
    table, spilled = int64_at(places[15], places[16]), uint32_at(places[17], places[18])
    state = int64_at(places[19], places[20])
    memory = table, spilled, state
    block = int64_at(places[21], places[22])
    work = block, int32_at(places[23], places[24])
    last = len(spilled) - SLACK - 1
    while at < len(text) and state[ENTRIES] <= state[MOST_ENTRIES] and state[SPILL] <= state[MOST_SPILL]:
        n_pieces = split(shape, at, places[0], classes, block[:BLOCK])
        if n_out + (block[n_pieces - 1] - at) + ROOM > len(out):  # no more ids than bytes
            break
        find_keys(text, at, n_pieces, table, state, block)
        merged = False
        start = at
        for k in range(n_pieces):
            low, high, line = load64(block, LOW + k), load64(block, HIGH + k), load64(block, FIRST + k)
            end = load64(block, k)
            second = (load64(table, line + 4) == low) & (load64(table, line + 5) == high)
            entry = line + 4 * second
            if rarely((load64(table, entry) != low) | (load64(table, entry + 1) != high)):
                entry = known_entry(low, high, line, table)
                if entry < 0 and not merged:
                    keep_new(text, k, start, n_pieces, vocabulary, memory, work, out, n_out)
                    merged = True
                    entry = known_entry(low, high, line, table)
                if entry < 0:
                    n_out = encode_piece(text, start, end, low, high, line, vocabulary, memory, block, out, n_out)
                    start = end
                    continue
            begin, last_id = load64(table, entry + 2), load64(table, entry + 3)
            count = last_id >> 32
            if not rarely(count >= SPILLED):
                store128(out, n_out, begin, last_id)
                n_out += count
            elif state[SPILL] - begin <= last and (
                high < LONG or same_bytes(text, start, end - start, spilled, (begin & last) + count - SPILLED)
            ):
                begin &= last
                copy64(out, n_out, spilled, begin)
                for i in range(16, count - SPILLED, 16):
                    copy64(out, n_out + i, spilled, begin + i)
                n_out += count - SPILLED
            else:
                n_out = encode_piece(text, start, end, low, high, line, vocabulary, memory, block, out, n_out)
            start = end
        at = start
    return at, n_out


@kernel
def encode_short(size: int, places: Any) -> int:
    """Do the work of ``encode`` for a text that the memory holds; return the number of ids, or -1 if it stopped early.

    Args
        places: two more arrays follow: the text, whose size is given, and its ids.
    """
    text, out = uint8_at(places[25], size), uint32_at(places[27], places[28])
    at, n = encode(text, text, 0, places, out, 0)
    return n if at == size else -1


@kernel
def encode_each(
    text: Any, ends: Any, k: int, at: int, places: Any, out: Any, n_out: int, stops: Any
) -> tuple[int, int, int]:
    """Do the work of ``encode`` for several texts, one after another: text k ends at ``ends[k]`` of ``text``.

    Args
        stops: the end of each text's ids in ``out`` is written to it.
    Returns
        the number of texts done, and the positions reached in ``text`` and in ``out``.
    """
    while k < len(ends):
        part = text[: ends[k]]
        at, n_out = encode(part, part, at, places, out, n_out)
        if at < ends[k]:
            break
        stops[k] = n_out
        k += 1
    return k, at, n_out


@kernel
def keep_new(
    text: Any, first: int, start: int, n_pieces: int, vocabulary: Any, memory: Any, work: Any, out: Any, n_out: int
) -> None:
    """Merge all new pieces of a block from piece ``first`` on, which is at ``start``, and put them into the cache.

    Pieces of one byte, or of more than LANE, are left out. ``out`` from ``n_out`` on is working memory.
    """
    _, tables, ids, whole = vocabulary
    block, lanes = work
    starts, begins = block[6 * BLOCK : 7 * BLOCK], block[7 * BLOCK : 8 * BLOCK]
    active, new = block[8 * BLOCK : 9 * BLOCK], block[9 * BLOCK :]
    tokens, made = lanes[: BLOCK * LANE], lanes[BLOCK * LANE :]
    table = memory[0]
    n = 0
    for k in range(first, n_pieces):
        end = load64(block, k)
        low, high, line = load64(block, LOW + k), load64(block, HIGH + k), load64(block, FIRST + k)
        if 1 < end - start <= LANE and known_entry(low, high, line, table) < 0:
            store64(starts, n, start)
            store64(new, n, k)
            store64(active, n, hashed_key(low, high))
            prefetch(whole[0], first_line(load64(active, n), whole[0]))
            n += 1
        start = end
    for j in range(n):
        token = likely_token(load64(active, j), whole[0])
        prefetch(whole[1], 2 * token)
        store64(active, j, token)
    n_candidates = n
    n = 0
    for j in range(n_candidates):
        k, start, token = load64(new, j), load64(starts, j), load64(active, j)
        low, high, size = load64(block, LOW + k), load64(block, HIGH + k), load64(block, k) - start
        if has_key(token, low, high, whole[1]):
            store32(out, n_out, load32(ids, token))
            keep(text, start, size, low, high, load64(block, FIRST + k), memory, out, n_out, 1)
        else:
            store64(starts, n, start)
            store64(begins, n, size)
            store64(new, n, k)
            n += 1
    merge_together(text, n, tables, starts, begins, active, tokens, made)
    for j in range(n):
        k, bits, n_ids = load64(new, j), load64(begins, j), 0
        while bits != 0:
            store32(out, n_out + n_ids, load32(ids, load32(tokens, LANE * j + lowest_bit(bits))))
            bits &= bits - 1
            n_ids += 1
        low, high, line = load64(block, LOW + k), load64(block, HIGH + k), load64(block, FIRST + k)
        start = load64(starts, j)
        keep(text, start, load64(block, k) - start, low, high, line, memory, out, n_out, n_ids)


@kernel
def encode_piece(
    text: Any, start: int, end: int, low: int, high: int, line: int, vocabulary: Any, memory: Any, block: Any,
    out: Any, n_out: int,
) -> int:  # fmt: skip
    """Merge a piece, and put it into the cache; return the new ``n_out``."""
    n = merge_piece(text, start, end, vocabulary, block, out, n_out) - n_out
    if end - start <= LONGEST_KEPT:
        keep(text, start, end - start, low, high, line, memory, out, n_out, n)
    return n_out + n


@kernel
def merge_piece(text: Any, start: int, end: int, vocabulary: Any, block: Any, out: Any, n_out: int) -> int:
    """Write the ids of a piece, or of each part of a long piece in turn; return the new ``n_out``."""
    _, tables, ids, _ = vocabulary
    tokens, made = block[4 * BLOCK : 5 * BLOCK], block[5 * BLOCK : 6 * BLOCK]
    while start < end:
        part = end if end - start <= FEW else separable(text, start, end, tables)
        if part - start == 1:
            store32(out, n_out, load32(ids, load8(text, start)))
            n_out += 1
        elif part - start > FEW:
            n_out = merge_long(text, start, part - start, vocabulary, out, n_out)
        else:
            n = merge_few(text, start, part - start, tables, tokens, made)
            for i in range(n):
                store32(out, n_out + i, load32(ids, load64(tokens, i)))
            n_out += n
        start = part
    return n_out


@allocating_kernel
def merge_long(text: Any, start: int, size: int, vocabulary: Any, out: Any, n_out: int) -> int:
    _, tables, ids, _ = vocabulary
    tokens = np.empty(size, np.int64)
    n = merge_many(text, start, size, tables, tokens)
    for i in range(n):
        out[n_out + i] = ids[tokens[i]]
    return n_out + n

"""Merge the pair with the lowest rank repeatedly: the core of byte-pair encoding.

The plain loop is ``bpe.encode_piece``. Tokens are numbered in the order of learning: bytes are 0 to 255, merges follow.
So the number of a merged token gives its rank. For each merge, ``merge_few`` searches all pairs for the smallest
number, which is fastest for a word. A long piece (10^6 times ``a``) would take 10^12 steps, so ``merge_many`` keeps the
tokens in a linked list and the positions of each pair in a queue.
"""

from typing import Any

import numpy as np

from npgpt.machine.bits import highest_bit, load8, load32, load64, lowest_bit, match16, shift_right, store64
from npgpt.machine.compile import allocating_kernel, inline_kernel, kernel
from npgpt.tokenizer.kernels.numbers import TOKEN_BITS

NEVER = 1 << TOKEN_BITS  # larger than any token's number: the pair is not a merge
APART = NEVER + 1  # two bytes that no token has side by side
LINE = 16  # entries of four bytes: one cache line
PLACE_BITS = 6  # bits of a place in a short piece
FEW = 1 << PLACE_BITS  # bytes; for longer pieces merge_many is faster
LONGEST_PIECE = 1 << 29  # bytes; merge_many has up to three entries for each byte, with numbers of 31 bits

TAG = 0xFFFFFFFF & -NEVER  # the bits of an entry above the number
_GOLDEN = -7046029254386353131  # 2^64 / golden ratio, odd: a product with it spreads neighbouring keys


@inline_kernel
def pair_made(left: int, right: int, tables: Any) -> int:
    """Return the number of the token that ``left`` and ``right``, not both bytes, merge into, or NEVER.

    Nearly every call runs without a branch: the CPU could not foresee whether a pair is a merge.

    Args
        tables: three arrays.
            lines: a hash table of int32. A line has LINE entries, the first ones used: the new token's number, and
                above it the pair's tag, which is a part of its hash. 0 is a free entry.
            byte_pairs: the new token of two bytes, at ``256 * left + right``; NEVER if there is none; APART if
                there is not even a token that has the two bytes side by side.
            pairs: number of a token -> its pair, left and right in TOKEN_BITS each; -1 for a byte.
    """
    lines, _, pairs = tables
    pair = left << TOKEN_BITS | right
    hashed = pair * _GOLDEN
    line = first_line(hashed, lines)
    same = match16(lines, line, hashed & TAG, TAG)
    new = load32(lines, line + (lowest_bit(same) & (LINE - 1))) & (NEVER - 1)
    new = new if same != 0 else 0
    if (same & (same - 1) | load32(lines, line + LINE - 1)) != 0:  # rare
        return find_made(pair, line, tables)
    return new if load64(pairs, new) == pair else NEVER


@inline_kernel
def first_line(hashed: int, lines: Any) -> int:
    """Return the first entry of the line that a hash names: its highest 32 bits as a fraction of all lines."""
    return shift_right(shift_right(hashed, 32) * (len(lines) // LINE), 32) * LINE


@kernel
def find_made(pair: int, line: int, tables: Any) -> int:
    """Do the work of ``pair_made`` if tags are equal by chance or if the line is full: search entry by entry."""
    lines, _, pairs = tables
    while lines[line] != 0:
        new = np.int64(lines[line]) & (NEVER - 1)
        if pairs[new] == pair:
            return new
        line = line + 1 if line + 1 < len(lines) else 0
    return NEVER


@kernel
def add_pair(left: int, right: int, new: int, tables: Any, edges: Any) -> None:
    """Add a new pair to the tables. ``lines`` must have room.

    Args
        edges: (n, 2), the first and the last byte of each token; those of ``new`` are written here.
    """
    lines, byte_pairs, pairs = tables
    edges[new, 0], edges[new, 1] = edges[left, 0], edges[right, 1]
    together = np.int64(edges[left, 1]) << 8 | np.int64(edges[right, 0])
    byte_pairs[together] = min(byte_pairs[together], NEVER)
    pair = left << TOKEN_BITS | right
    pairs[new] = pair
    if left < 256 and right < 256:
        byte_pairs[together] = new
    else:
        hashed = pair * _GOLDEN
        entry = first_line(hashed, lines)
        while lines[entry] != 0:
            entry = entry + 1 if entry + 1 < len(lines) else 0
        lines[entry] = hashed & TAG | new


@kernel
def add_merges(merges: Any, tables: Any, edges: Any) -> None:
    """Add all merges, which must be distinct, to the empty tables."""
    for byte in range(256):
        edges[byte, 0] = edges[byte, 1] = byte
    for k in range(len(merges)):
        add_pair(merges[k, 0], merges[k, 1], 256 + k, tables, edges)


@inline_kernel
def separable(text: Any, start: int, end: int, tables: Any) -> int:
    """Return the first place in ``text[start:end]`` that no merge can cross: no token has its two bytes side by side.

    What is before such a place and what is behind it can be merged apart. A long piece is mostly characters of rare
    scripts, or random, and falls into many small parts.
    """
    i = start + 1
    while i < end and load32(tables[1], load8(text, i - 1) << 8 | load8(text, i)) != APART:
        i += 1
    return i


@inline_kernel
def least8(made: Any, i: int) -> int:
    """Return the smallest of eight numbers. A tree has fewer steps in a row than a loop."""
    first = min(min(load64(made, i), load64(made, i + 1)), min(load64(made, i + 2), load64(made, i + 3)))
    second = min(min(load64(made, i + 4), load64(made, i + 5)), min(load64(made, i + 6), load64(made, i + 7)))
    return min(first, second)


@kernel
def merge_few(text: Any, start: int, size: int, tables: Any, tokens: Any, made: Any) -> int:
    """Merge a piece of at most FEW bytes without moving tokens: bit i of ``begins`` says that a token begins at byte i.

    ``made[i]`` is the number of the token that the token at i and its right neighbour merge into, and i in its lowest
    bits. So the smallest of them is the next merge, and of equal ones the left-most.
    """
    token = load8(text, start)
    store64(tokens, 0, token)
    for i in range(size - 1):
        following = load8(text, start + i + 1)
        store64(tokens, i + 1, following)
        store64(made, i, load32(tables[1], token << 8 | following) << PLACE_BITS | i)
        token = following
    for i in range(size - 1, size + 7 & -8):
        store64(made, i, NEVER << PLACE_BITS)
    begins = shift_right(-1, 64 - size)
    while True:
        best = NEVER << PLACE_BITS
        for i in range(0, size, 8):
            best = min(best, least8(made, i))
        if best >= NEVER << PLACE_BITS:
            break
        at, new = best & (FEW - 1), best >> PLACE_BITS
        store64(tokens, at, new)
        behind = begins & (-2 << at)
        right = lowest_bit(behind)
        begins ^= 1 << right
        behind &= behind - 1
        store64(made, at, NEVER << PLACE_BITS)
        store64(made, right, NEVER << PLACE_BITS)
        if behind != 0:
            store64(made, at, pair_made(new, load64(tokens, lowest_bit(behind)), tables) << PLACE_BITS | at)
        before = begins & ((1 << at) - 1)
        if before != 0:
            left = highest_bit(before)
            store64(made, left, pair_made(load64(tokens, left), new, tables) << PLACE_BITS | left)
    n = 0
    while begins != 0:
        store64(tokens, n, load64(tokens, lowest_bit(begins)))
        begins &= begins - 1
        n += 1
    return n


@allocating_kernel
def merge_many(text: Any, start: int, size: int, tables: Any, tokens: Any) -> int:
    """Do the work of ``merge_few`` for long pieces, in almost linear time.

    Each token that a pair can merge into has a queue of the pair's positions. A heap holds the tokens with a queue. A
    merge creates only pairs with the new token, and these pairs merge into tokens that were learned later. So an empty
    queue stays empty, and each token leaves the heap once (a heap of all positions took 0.2 us a byte for 10^6 bytes,
    and more for longer pieces). If a token merges with itself, positions may overlap. The queue has them in ascending
    order, so the left-most is merged first. An entry is stale, and skipped, if the pair at its position now merges into
    another token.
    """
    if size > LONGEST_PIECE:
        raise OverflowError("a piece of text is too long")
    made = np.empty(size, np.int32)  # 32 bits halve the memory; allocation takes a third of the time
    after = np.empty(size, np.int32)  # position -> position of the next token
    before = np.empty(size, np.int32)
    capacity = 16  # rows of the hash table of queues: at least twice the number of queues
    while capacity < 4 * size and capacity < 2 * len(tables[2]):
        capacity *= 2
    queues = np.full((capacity, 3), -1, np.int64)  # token, first and last entry
    entries = np.empty((3 * size, 2), np.int32)  # position, next entry: one for each pair, two for each merge
    heap = np.empty((capacity, 3), np.int64)  # token, slot of its queue, and a column that only learn.py uses
    n_heap = n_entries = 0
    for i in range(size):
        tokens[i] = text[start + i]
        after[i], before[i] = i + 1, i - 1
    made[size - 1] = NEVER
    for i in range(size - 1):
        made[i] = tables[1][tokens[i] << 8 | tokens[i + 1]]
        if made[i] < NEVER:
            n_heap = enqueue(np.int64(made[i]), i, n_entries, queues, entries, heap, n_heap)
            n_entries += 1
    while n_heap > 0:
        best, entry = heap[0, 0], queues[heap[0, 1], 1]
        n_heap = heap_pop(heap, n_heap)
        while entry >= 0:
            i, entry = np.int64(entries[entry, 0]), np.int64(entries[entry, 1])
            if made[i] != best:
                continue
            right = np.int64(after[i])
            following = np.int64(after[right])
            tokens[i] = best
            made[right] = NEVER  # no token begins there now
            after[i] = following
            made[i] = NEVER
            if following < size:
                before[following] = i
                made[i] = pair_made(best, tokens[following], tables)
                if made[i] != NEVER:
                    n_heap = enqueue(np.int64(made[i]), i, n_entries, queues, entries, heap, n_heap)
                    n_entries += 1
            left = np.int64(before[i])
            if left >= 0:
                made[left] = pair_made(tokens[left], best, tables)
                if made[left] != NEVER:
                    n_heap = enqueue(np.int64(made[left]), left, n_entries, queues, entries, heap, n_heap)
                    n_entries += 1
    n = i = 0
    while i < size:
        tokens[n] = tokens[i]
        n += 1
        i = np.int64(after[i])
    return n


@kernel
def enqueue(token: int, position: int, entry: int, queues: Any, entries: Any, heap: Any, n_heap: int) -> int:
    """Append a position, as entry number ``entry``, to its token's queue; return the new ``n_heap``."""
    last = len(queues) - 1
    slot = shift_right(token * _GOLDEN, 32) & last
    while queues[slot, 0] >= 0 and queues[slot, 0] != token:
        slot = (slot + 1) & last
    entries[entry, 0], entries[entry, 1] = position, -1
    if queues[slot, 0] < 0:
        queues[slot, 0] = token
        queues[slot, 1] = entry
        n_heap = heap_push(heap, n_heap, token, slot, 0)
    else:
        entries[queues[slot, 2], 1] = entry
    queues[slot, 2] = entry
    return n_heap


@kernel
def heap_push(heap: Any, n: int, first: int, second: int, third: int) -> int:
    """Add a row to the ``n`` rows of ``heap``, whose smallest row is on top; return the new n."""
    i = n
    while i > 0 and is_smaller(first, second, heap, (i - 1) >> 1):
        copy_row(heap, i, (i - 1) >> 1)
        i = (i - 1) >> 1
    heap[i, 0], heap[i, 1], heap[i, 2] = first, second, third
    return n + 1


@kernel
def heap_pop(heap: Any, n: int) -> int:
    """Remove the smallest row; return the new n."""
    n -= 1
    i = 0
    while 2 * i + 1 < n:
        child = 2 * i + 1
        if child + 1 < n and is_smaller(heap[child + 1, 0], heap[child + 1, 1], heap, child):
            child += 1
        if not is_smaller(heap[child, 0], heap[child, 1], heap, n):
            break
        copy_row(heap, i, child)
        i = child
    copy_row(heap, i, n)
    return n


@inline_kernel
def copy_row(heap: Any, to: int, of: int) -> None:
    """``heap[to] = heap[of]``; for that, Numba would compile a comparison of shapes and its error message (1.6 s)."""
    heap[to, 0], heap[to, 1], heap[to, 2] = heap[of, 0], heap[of, 1], heap[of, 2]


@inline_kernel
def is_smaller(first: int, second: int, heap: Any, i: int) -> bool:
    """Return whether a row comes before row ``i``: by the first number, then by the second."""
    return bool(first < heap[i, 0] or (first == heap[i, 0] and second < heap[i, 1]))


@allocating_kernel
def find_merges(text: Any, sizes: Any, merges: Any, tables: Any, edges: Any) -> int:
    """Find the pair that merges into each token. ``text`` has the bytes of the tokens in the order of ranks.

    Fill ``merges`` and the (empty) tables. Return -1, or the first token that is not a pair of earlier tokens.
    """
    made = np.empty(FEW, np.int64)
    few = np.empty(FEW, np.int64)
    add_merges(merges[:0], tables, edges)
    start = 0
    for k in range(len(sizes)):
        size = sizes[k]
        if size <= FEW:
            tokens = few
            n = merge_few(text, start, size, tables, tokens, made)
        else:
            tokens = np.empty(size, np.int64)
            n = merge_many(text, start, size, tables, tokens)
        if n != 2:
            return k
        merges[k, 0], merges[k, 1] = tokens[0], tokens[1]
        add_pair(tokens[0], tokens[1], 256 + k, tables, edges)
        start += size
    return -1

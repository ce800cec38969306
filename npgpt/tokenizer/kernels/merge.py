"""Join the pair that was learned earliest, again and again: the heart of byte-pair encoding.

The plain loop is ``bpe.encode_piece``. Tokens are numbered here as they were learned: 0 to 255 the bytes, then the
merges; so the number of the token that a pair makes is also its rank. ``merge_few`` looks for the smallest among all
pairs each time, which for a word is faster than any structure; a long run without a cut (10^6 times ``a``) would take
10^12 steps, so ``merge_many`` keeps the tokens in a linked list and the positions of each pair in a queue.
"""

from typing import Any

import numpy as np

from npgpt.machine.bits import shift_right
from npgpt.machine.compile import inline_kernel, kernel
from npgpt.tokenizer.kernels.numbers import TOKEN_BITS

NEVER = 1 << TOKEN_BITS  # larger than any number: the pair is not in the merges
FEW = 64  # bytes; from here on merge_many is faster
LONGEST_PIECE = 1 << 29  # bytes that no pattern cuts; three times as many entries must have a number of 31 bits

_GOLDEN = -7046029254386353131  # 2^64 / golden ratio, odd: multiplied, it spreads keys that are near each other


@inline_kernel
def slot_of(pair: int, pairs: Any) -> int:
    """Where a pair stands in the hash table, or the free slot where it would stand."""
    last = len(pairs) - 1
    slot = shift_right(pair * _GOLDEN, 32) & last
    while pairs[slot] >= 0 and pairs[slot] >> TOKEN_BITS != pair:
        slot = (slot + 1) & last
    return slot


@inline_kernel
def pair_made(left: int, right: int, pairs: Any, byte_pairs: Any) -> int:
    """The number of the token that joining ``left`` and ``right`` makes, or NEVER.

    Args
        pairs: hash table, open addressing; an entry is left, right and new in TOKEN_BITS each, or -1. 12 ns a look-up
            against 34 for ``numba.typed.Dict``.
        byte_pairs: the same for pairs of bytes, directly at ``256 * left + right``.
    """
    if left < 256 and right < 256:
        return np.int64(byte_pairs[left << 8 | right])
    found = pairs[slot_of(left << TOKEN_BITS | right, pairs)]
    return found & (NEVER - 1) if found >= 0 else NEVER


@kernel
def add_pair(left: int, right: int, new: int, pairs: Any, byte_pairs: Any) -> None:
    """Put a pair that is not yet there into the tables, of which ``pairs`` must have room: a power of two entries."""
    if left < 256 and right < 256:
        byte_pairs[left << 8 | right] = new
    else:
        pair = left << TOKEN_BITS | right
        pairs[slot_of(pair, pairs)] = pair << TOKEN_BITS | new


@kernel
def add_merges(merges: Any, pairs: Any, byte_pairs: Any) -> None:
    """Put all merges, of which none stands twice, into the empty tables."""
    for k in range(len(merges)):
        add_pair(merges[k, 0], merges[k, 1], 256 + k, pairs, byte_pairs)


@inline_kernel
def merge(text: Any, start: int, size: int, pairs: Any, byte_pairs: Any, tokens: Any, made: Any) -> int:
    """Encode ``text[start:start + size]`` into ``tokens``, which has room for ``size``; returns how many they are.

    ``made`` is room for FEW.
    """
    if size <= FEW:
        return merge_few(text, start, size, pairs, byte_pairs, tokens, made)
    return merge_many(text, start, size, pairs, byte_pairs, tokens)


@kernel
def merge_few(text: Any, start: int, size: int, pairs: Any, byte_pairs: Any, tokens: Any, made: Any) -> int:
    for i in range(size):
        tokens[i] = text[start + i]
    for i in range(size - 1):
        made[i] = pair_made(tokens[i], tokens[i + 1], pairs, byte_pairs)
    n = size
    while n > 1:
        best, at = NEVER, 0
        for i in range(n - 1):
            if made[i] < best:
                best, at = made[i], i
        if best == NEVER:
            break
        n -= 1
        tokens[at] = best
        for i in range(at + 1, n):
            tokens[i] = tokens[i + 1]
            made[i - 1] = made[i]
        if at > 0:
            made[at - 1] = pair_made(tokens[at - 1], best, pairs, byte_pairs)
        if at < n - 1:
            made[at] = pair_made(best, tokens[at + 1], pairs, byte_pairs)
    return n


@kernel
def merge_many(text: Any, start: int, size: int, pairs: Any, byte_pairs: Any, tokens: Any) -> int:
    """As ``merge_few`` for pieces of any size, nearly in linear time.

    Each token that pairs may make has a queue of the positions where they stand; a heap has the tokens that have a
    queue. A join brings pairs of the new token only, and what they make was learned later: so a queue that was emptied
    stays empty, and the heap is asked once for each token, not once for each position (a heap of all positions took
    0.2 us a byte for 10^6 bytes, and more for more). In a queue positions rise wherever two of them overlap, which is
    where a token is joined to itself: the left-most comes first. An entry is out of date when the pair there makes
    another token by now, which is seen when it comes up.
    """
    if size > LONGEST_PIECE:
        raise OverflowError("a piece of text is too long")
    made = np.empty(size, np.int32)  # 32 bits: half the memory, and fresh memory is a third of the time
    after = np.empty(size, np.int32)  # position -> that of the next token
    before = np.empty(size, np.int32)
    capacity = 16  # of the hash table of queues: twice as many as there can be
    while capacity < 4 * size and capacity < len(pairs):
        capacity *= 2
    queues = np.full((capacity, 3), -1, np.int64)  # token, first and last entry
    entries = np.empty((3 * size, 2), np.int32)  # position, next entry: every pair once, and two for every join
    heap = np.empty((capacity, 3), np.int64)  # token, where its queue is, and a column that only learning needs
    n_heap = n_entries = 0
    for i in range(size):
        tokens[i] = text[start + i]
        after[i], before[i] = i + 1, i - 1
    made[size - 1] = NEVER
    for i in range(size - 1):
        made[i] = pair_made(tokens[i], tokens[i + 1], pairs, byte_pairs)
        if made[i] != NEVER:
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
            made[right] = NEVER  # it is no token any more
            after[i] = following
            made[i] = NEVER
            if following < size:
                before[following] = i
                made[i] = pair_made(best, tokens[following], pairs, byte_pairs)
                if made[i] != NEVER:
                    n_heap = enqueue(np.int64(made[i]), i, n_entries, queues, entries, heap, n_heap)
                    n_entries += 1
            left = np.int64(before[i])
            if left >= 0:
                made[left] = pair_made(tokens[left], best, pairs, byte_pairs)
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
    """Put a position, as entry number ``entry``, behind the others of its token; returns the new ``n_heap``."""
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
    """Add a row to the first ``n`` of ``heap``, of which the smallest stands on top; returns the new n."""
    i = n
    while i > 0 and is_smaller(first, second, heap, (i - 1) >> 1):
        heap[i] = heap[(i - 1) >> 1]
        i = (i - 1) >> 1
    heap[i, 0], heap[i, 1], heap[i, 2] = first, second, third
    return n + 1


@kernel
def heap_pop(heap: Any, n: int) -> int:
    """Take the smallest row out; returns the new n."""
    n -= 1
    i = 0
    while 2 * i + 1 < n:
        child = 2 * i + 1
        if child + 1 < n and is_smaller(heap[child + 1, 0], heap[child + 1, 1], heap, child):
            child += 1
        if not is_smaller(heap[child, 0], heap[child, 1], heap, n):
            break
        heap[i] = heap[child]
        i = child
    heap[i] = heap[n]
    return n


@inline_kernel
def is_smaller(first: int, second: int, heap: Any, i: int) -> bool:
    """Whether a row comes before row ``i``: the first number decides, between equals the second."""
    return bool(first < heap[i, 0] or (first == heap[i, 0] and second < heap[i, 1]))


@kernel
def find_merges(text: Any, sizes: Any, merges: Any, pairs: Any, byte_pairs: Any) -> int:
    """The pair that makes each token; the tokens stand one behind the other in ``text``, in the order of their ranks.

    Fills ``merges`` and the (empty) tables. Returns -1, or the first token that earlier ones do not join to two parts.
    """
    made = np.empty(FEW, np.int64)
    start = 0
    for k in range(len(sizes)):
        tokens = np.empty(sizes[k], np.int64)
        if merge(text, start, sizes[k], pairs, byte_pairs, tokens, made) != 2:
            return k
        merges[k, 0], merges[k, 1] = tokens[0], tokens[1]
        add_pair(tokens[0], tokens[1], 256 + k, pairs, byte_pairs)
        start += sizes[k]
    return -1

"""Learn merges: count the pieces of a text, then repeatedly merge the most frequent pair of neighbours.

The plain loop is ``bpe.learn_merges``. The compiled loop is fast for these reasons:

- ``count_pieces`` uses the splitter and the keys of ``cache.py``.
- The tokens of all distinct pieces are in one linked list. Each position stores the pair that begins there, so a merge
  updates its neighbours without a look-up.
- Each pair has an ascending list of positions, made when the pair was created. Positions that have changed since then
  are skipped. In ascending order, ``aaa`` merges its left pair first.
- All pairs that a merge creates contain the new token. So two arrays find them, by the left and by the right neighbour.
  The counts of pairs only fall later: a count in the heap may be too high, never too low.
- The heap holds only pairs whose count reaches a threshold, which is lowered when the heap is empty. Most pairs never
  enter the heap, so it stays in the L1 cache.
"""

from typing import Any

import numpy as np

from npgpt.machine.bits import prefetch
from npgpt.machine.compile import allocating_kernel, kernel
from npgpt.tokenizer.kernels.cache import BLOCK, ENTRIES, FIRST, HIGH, LOW, SPILL, find_keys
from npgpt.tokenizer.kernels.merge import heap_pop, heap_push
from npgpt.tokenizer.kernels.numbers import TOKEN_BITS
from npgpt.tokenizer.kernels.split import split
from npgpt.tokenizer.kernels.whole import LONGEST_KEY

# A node of the linked list, one for each byte of a distinct piece: four int32.
TOKEN, NEXT, BEFORE, PAIR = range(4)
NONE = -1
# `progress` of `learn` holds the numbers of pairs, stored positions and heap entries, and the threshold.
PAIRS, STORED, HEAP, THRESHOLD = range(4)


@kernel
def count_pieces(text: Any, at: int, pattern: int, classes: Any, counted: Any, block: Any) -> int:
    """Count the pieces of ``text[at:]``; return the position reached. Stop early if a table may be too small.

    Args
        counted: five arrays.
            table: entries of four int64: the two keys of ``cache.py``, 0, and 1 + the number of the piece.
            counts: the count of each piece; half as many as entries.
            starts: the start of each piece's bytes in ``kept``; one more than pieces.
            state: as in ``cache.py``; ENTRIES is the number of pieces, SPILL the number of bytes in ``kept``.
        block: working memory, four rows of BLOCK.
    """
    table, counts, starts, kept, state = counted
    ends = block[:BLOCK]
    while at < len(text):
        if state[ENTRIES] + BLOCK > len(counts):
            break
        n_pieces = split(text, at, pattern, classes, ends)
        if state[SPILL] + ends[n_pieces - 1] - at > len(kept):
            break
        find_keys(text, at, n_pieces, table, state, block)
        start = at
        for k in range(n_pieces):
            low, high, entry = block[LOW + k], block[HIGH + k], block[FIRST + k]
            while table[entry + 3] != 0:
                if table[entry] == low and table[entry + 1] == high:
                    if ends[k] - start <= LONGEST_KEY:
                        break
                    if same_piece(text, start, ends[k] - start, kept, starts[table[entry + 3] - 1]):
                        break
                entry = (entry + 4) & (len(table) - 1)
            if table[entry + 3] == 0:
                add_piece(text, start, ends[k], entry, low, high, counted)
            counts[table[entry + 3] - 1] += 1
            start = ends[k]
        at = start
    return at


@kernel
def same_piece(text: Any, start: int, size: int, kept: Any, at: int) -> bool:
    for i in range(size):  # noqa: SIM110 Numba hardly supports generators
        if text[start + i] != kept[at + i]:
            return False
    return True


@kernel
def add_piece(text: Any, start: int, end: int, entry: int, low: int, high: int, counted: Any) -> None:
    table, counts, starts, kept, state = counted
    number, at = state[ENTRIES], state[SPILL]
    table[entry], table[entry + 1], table[entry + 3] = low, high, number + 1
    counts[number] = 0
    starts[number + 1] = at + end - start
    for i in range(end - start):
        kept[at + i] = text[start + i]
    state[ENTRIES] = number + 1
    state[SPILL] = at + end - start


@allocating_kernel
def first_pairs(kept: Any, starts: Any, counts: Any, positions: Any, pairs: Any) -> int:
    """Build the linked list and the pairs of bytes; return the number of pairs.

    Args, filled here
        positions: nodes, weights: for each byte of ``kept``, its node and the count of its piece.
            stored: positions, grouped by pair.
        pairs: keys, totals: for each pair, left and right in TOKEN_BITS each, and its count.
            lists: for each pair, the start and the end of its positions in ``stored``.
    """
    nodes, weights, stored = positions
    keys, totals, lists = pairs
    pair_of = np.full(1 << 16, NONE, np.int32)
    n_pairs = 0
    for piece in range(len(counts)):
        for p in range(starts[piece], starts[piece + 1]):
            nodes[p, TOKEN] = kept[p]
            nodes[p, BEFORE] = p - 1 if p > starts[piece] else NONE
            nodes[p, NEXT] = p + 1 if p + 1 < starts[piece + 1] else NONE
            nodes[p, PAIR] = NONE
            weights[p] = counts[piece]
            if p + 1 < starts[piece + 1]:
                code = np.int64(kept[p]) << 8 | np.int64(kept[p + 1])
                pair = pair_of[code]
                if pair == NONE:
                    pair = pair_of[code] = n_pairs
                    keys[pair] = np.int64(kept[p]) << TOKEN_BITS | np.int64(kept[p + 1])
                    totals[pair] = 0
                    lists[pair, 1] = 0
                    n_pairs += 1
                nodes[p, PAIR] = pair
                totals[pair] += counts[piece]
                lists[pair, 1] += 1
    begin = 0
    for pair in range(n_pairs):
        size = lists[pair, 1]
        lists[pair, 0] = lists[pair, 1] = begin
        begin += size
    for p in range(starts[len(counts)]):
        pair = nodes[p, PAIR]
        if pair != NONE:
            stored[lists[pair, 1]] = p
            lists[pair, 1] += 1
    return n_pairs


@kernel
def learn(
    first: int, last: int, min_count: int, positions: Any, pairs: Any, room: Any, heap: Any, progress: Any, merges: Any
) -> int:
    """Learn merges ``first`` to ``last - 1``; return the number of the next one, below ``last`` if no pair is left.

    Args
        positions, pairs: the output of ``first_pairs``, updated by each merge.
        room: found: the pairs and positions that one merge creates. by_neighbour: for each token, its pair with the
            new token on its right and on its left, each followed by the new token for which it is valid.
        heap: each row is minus the count when it was added, the key, and the pair. The largest count is on top; between
            equal counts, the pair with the smaller left id, then the smaller right id.
        merges: the left token, right token and count of each merge, written here.
    """
    keys, totals, _ = pairs
    for k in range(first, last):
        best = next_best(min_count, keys, totals, heap, progress)
        if best == NONE:
            return k
        new = 256 + k
        merges[k, 0], merges[k, 1] = keys[best] >> TOKEN_BITS, keys[best] & ((1 << TOKEN_BITS) - 1)
        merges[k, 2] = totals[best]
        join_everywhere(best, new, positions, pairs, room, heap, progress)
    return last


@kernel
def join_everywhere(best: int, new: int, positions: Any, pairs: Any, room: Any, heap: Any, progress: Any) -> None:
    nodes, weights, stored = positions
    keys, totals, lists = pairs
    found, by_neighbour = room
    old_pairs = n_pairs = progress[PAIRS]
    n_found = 0
    end = lists[best, 1]
    for i in range(lists[best, 0], end):
        if i + 8 < end:
            prefetch(nodes, 4 * stored[i + 8])
        p = stored[i]
        if nodes[p, PAIR] != best:  # a merge has changed the pair at this position
            continue
        gone, before, weight = nodes[p, NEXT], nodes[p, BEFORE], weights[p]
        after = nodes[gone, NEXT]
        nodes[p, TOKEN] = new
        nodes[p, NEXT] = after
        nodes[p, PAIR] = NONE
        if after != NONE:
            nodes[after, BEFORE] = p
        for side in range(2):  # the pair with the left token, at `before`; that with the right one moves to p
            neighbour, old, now = (before, before, before) if side == 0 else (after, gone, p)
            if neighbour == NONE:
                continue
            token = np.int64(nodes[neighbour, TOKEN])
            totals[nodes[old, PAIR]] -= weight
            pair = by_neighbour[token, 2 * side]
            if by_neighbour[token, 2 * side + 1] != new:
                pair = n_pairs
                by_neighbour[token, 2 * side], by_neighbour[token, 2 * side + 1] = pair, new
                keys[pair], totals[pair], lists[pair, 1] = (
                    token << TOKEN_BITS | new if side == 0 else new << TOKEN_BITS | token,
                    0,
                    0,
                )
                n_pairs += 1
            totals[pair] += weight
            nodes[now, PAIR] = pair
            lists[pair, 1] += 1
            found[n_found, 0], found[n_found, 1] = pair, now
            n_found += 1
        nodes[gone, PAIR] = NONE
    totals[best] = 0
    # Sort the positions by pair, ascending within each pair; the sizes are known.
    begin = progress[STORED]
    for pair in range(old_pairs, n_pairs):
        size = lists[pair, 1]
        lists[pair, 0] = lists[pair, 1] = begin
        begin += size
        if totals[pair] >= progress[THRESHOLD]:
            progress[HEAP] = heap_push(heap, progress[HEAP], -totals[pair], keys[pair], pair)
    for i in range(n_found):
        pair = found[i, 0]
        stored[lists[pair, 1]] = found[i, 1]
        lists[pair, 1] += 1
    progress[PAIRS] = n_pairs
    progress[STORED] = begin


@kernel
def next_best(min_count: int, keys: Any, totals: Any, heap: Any, progress: Any) -> int:
    """Remove and return the pair with the highest count; NONE if no count reaches ``min_count``."""
    while True:
        while progress[HEAP] > 0:
            count, pair = -heap[0, 0], heap[0, 2]
            progress[HEAP] = heap_pop(heap, progress[HEAP])
            if totals[pair] == count:
                return int(pair)
            if totals[pair] >= progress[THRESHOLD]:  # its count has fallen
                progress[HEAP] = heap_push(heap, progress[HEAP], -totals[pair], keys[pair], pair)
        if progress[THRESHOLD] <= min_count:
            return NONE
        highest = 0
        for pair in range(progress[PAIRS]):
            highest = max(highest, totals[pair])
        progress[THRESHOLD] = max(min_count, min(progress[THRESHOLD] - 1, highest >> 1))
        for pair in range(progress[PAIRS]):
            if totals[pair] >= progress[THRESHOLD]:
                progress[HEAP] = heap_push(heap, progress[HEAP], -totals[pair], keys[pair], pair)

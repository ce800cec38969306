"""Merge the new pieces of a block in turns: one merge of each piece, then the next merge of each.

The plain loop is ``bpe.encode_piece``, and ``merge_few`` does the same for one piece. A merge waits for two look-ups,
and the next merge of the same piece waits for this one. The merges of other pieces do not wait, so the CPU works on
several pieces at a time. On an Intel, a new word took 128 instead of 226 ns with GPT-2's vocabulary, and 179 instead of
350 ns with o200k.
"""

from typing import Any

from npgpt.machine.bits import (
    fill32,
    highest_bit,
    least32,
    load8,
    load32,
    load64,
    lowest_bit,
    shift_right,
    store32,
    store64,
)
from npgpt.machine.compile import kernel
from npgpt.tokenizer.kernels.merge import NEVER, pair_made

LANE = 32  # bytes; longer pieces are rare and are merged one at a time
PLACE_BITS = 5  # bits of a place in a lane
_NONE = NEVER << PLACE_BITS


@kernel
def merge_together(
    text: Any, n: int, tables: Any, starts: Any, begins: Any, active: Any, tokens: Any, made: Any
) -> None:
    """Merge ``n`` pieces of 2 to LANE bytes. Piece j has the lane ``tokens[LANE * j :]``, and so in ``made``.

    Args
        starts: the place of each piece in the text.
        begins: the size of each piece. On return, bit i says that a token begins at byte i, as in ``merge_few``.
        active, made: working memory.
        tokens: the number of each token is written to the place where it begins.
    """
    for j in range(n):
        start, size, lane = load64(starts, j), load64(begins, j), LANE * j
        token = load8(text, start)
        store32(tokens, lane, token)
        fill32(made, lane, _NONE)
        for i in range(size - 1):
            following = load8(text, start + i + 1)
            store32(tokens, lane + i + 1, following)
            store32(made, lane + i, load32(tables[1], token << 8 | following) << PLACE_BITS | i)
            token = following
        store64(begins, j, shift_right(-1, 64 - size))
        store64(active, j, j)
    while n > 0:
        remaining = 0
        for k in range(n):
            j = load64(active, k)
            lane = LANE * j
            best = least32(made, lane)
            store64(active, remaining, j)
            if best >= _NONE:
                continue
            remaining += 1
            at, new = best & (LANE - 1), best >> PLACE_BITS
            store32(tokens, lane + at, new)
            bits = load64(begins, j)
            behind = bits & (-2 << at)
            right = lowest_bit(behind)
            bits ^= 1 << right
            store64(begins, j, bits)
            behind &= behind - 1
            store32(made, lane + at, _NONE)
            store32(made, lane + right, _NONE)
            if behind != 0:
                number = pair_made(new, load32(tokens, lane + lowest_bit(behind)), tables)
                store32(made, lane + at, number << PLACE_BITS | at)
            before = bits & ((1 << at) - 1)
            if before != 0:
                left = highest_bit(before)
                number = pair_made(load32(tokens, lane + left), new, tables)
                store32(made, lane + left, number << PLACE_BITS | left)
        n = remaining

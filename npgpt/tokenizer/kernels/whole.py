"""Find a piece that is one token without merging it: two thirds of the new pieces of English prose are.

The bytes of a token become this token only if no earlier merge takes bytes from both of its parts. Other tokens are not
in the table, nor are those of more than 15 bytes: these pieces are merged, like those that are not tokens.
"""

from typing import Any

from npgpt.machine.bits import fold_multiply, load32, load64, lowest_bit, match16, shift_right, store32, store64
from npgpt.machine.compile import inline_kernel, kernel
from npgpt.tokenizer.kernels.merge import LINE, NEVER, TAG, first_line, pair_made
from npgpt.tokenizer.kernels.numbers import TOKEN_BITS

LONGEST_KEY = 15  # bytes; the key is two int64, the bytes and then the size
_SIZE = 56  # the first bit of the size
_SECRET_1, _SECRET_2 = 0x243F6A8885A308D3, 0x13198A2E03707344  # any numbers: nobody can add to this table


@kernel
def add_tokens(tables: Any, whole: Any) -> None:
    """Fill the table of whole tokens.

    Args
        tables: as in ``merge.pair_made``, filled.
        whole: two arrays.
            lines: a hash table of int32, zeros, like that of pairs. A token whose line is full is left out.
            keys: two int64 for each token; its key is written to it, or zeros if it is too long or not whole.
    """
    pairs = tables[2]
    lines, keys = whole
    for byte in range(256):
        store64(keys, 2 * byte, byte)
        store64(keys, 2 * byte + 1, 1 << _SIZE)
    for token in range(256, len(pairs)):
        left, right = shift_right(load64(pairs, token), TOKEN_BITS), load64(pairs, token) & (NEVER - 1)
        low, high = joined(left, right, keys)
        if not is_whole(left, right, token, tables):
            low = high = 0
        store64(keys, 2 * token, low)
        store64(keys, 2 * token + 1, high)
        hashed = hashed_key(low, high)
        line = first_line(hashed, lines)
        free = match16(lines, line, 0, -1)
        if high != 0 and free != 0:
            store32(lines, line + lowest_bit(free), hashed & TAG | token)


@inline_kernel
def hashed_key(low: int, high: int) -> int:
    return fold_multiply(low ^ _SECRET_1, high ^ _SECRET_2)


@inline_kernel
def likely_token(hashed: int, lines: Any) -> int:
    """Return the token whose key may have this hash, or any byte; no branch, for the CPU could not foresee it.

    Of two tokens with equal tags in one line, the second one's pieces are not found, and are merged.
    """
    line = first_line(hashed, lines)
    same = match16(lines, line, hashed & TAG, TAG)
    return load32(lines, line + (lowest_bit(same) & (LINE - 1))) & (NEVER - 1)


@inline_kernel
def has_key(token: int, low: int, high: int, keys: Any) -> bool:
    return bool(load64(keys, 2 * token) == low and load64(keys, 2 * token + 1) == high)


@inline_kernel
def joined(left: int, right: int, keys: Any) -> tuple[int, int]:
    """Return the key of two tokens side by side; zeros if one of them has none, or if they are too long."""
    n = shift_right(load64(keys, 2 * left + 1), _SIZE)
    n_both = n + shift_right(load64(keys, 2 * right + 1), _SIZE)
    if n == 0 or load64(keys, 2 * right + 1) == 0 or n_both > LONGEST_KEY:
        return 0, 0
    bytes_only = (1 << _SIZE) - 1
    low, high = load64(keys, 2 * left), load64(keys, 2 * left + 1) & bytes_only
    more, most = load64(keys, 2 * right), load64(keys, 2 * right + 1) & bytes_only
    if n < 8:
        low |= more << 8 * n
        high = most << 8 * n | shift_right(more, 64 - 8 * n)
    else:
        high |= more << 8 * n - 64
    return low, high | n_both << _SIZE


@kernel
def is_whole(left: int, right: int, token: int, tables: Any) -> bool:
    """Return whether the bytes of two tokens, which are whole and merge into ``token``, become that token.

    We go back in time, from the last merge inside the two parts to the first. ``left`` and ``right`` are the tokens on
    both sides of the border, until one of them is used up, by the merge ``before``. If the two merge into an earlier
    token, that merge took place, across the border. Of equal merges the left-most is done first: so a merge across the
    border comes before an equal one in the right part, and after an equal one in the left part.
    """
    pairs = tables[2]
    before = token
    while True:
        if left < 256 and right < 256:
            return load32(tables[1], left << 8 | right) >= before
        if pair_made(left, right, tables) < before:
            return False
        if left > right:
            before, left = left, load64(pairs, left) & (NEVER - 1)
        else:
            before, right = right + 1, shift_right(load64(pairs, right), TOKEN_BITS)

"""Ids to bytes."""

from collections.abc import Sequence
from typing import Any

from npgpt.machine.bits import load64, store128
from npgpt.machine.compile import kernel

SLOT = 16  # bytes


def plain_decode(ids: Sequence[int], token_bytes: Sequence[bytes]) -> bytes:
    """The bytes of all tokens, one after another."""
    return b"".join(token_bytes[token] for token in ids)


@kernel
def decoded_size(ids: Any, sizes: Any) -> int:
    """The number of bytes that the ids stand for, or -1 - the position of the first id that is none."""
    total = 0
    for i in range(len(ids)):
        token = ids[i]
        if token >= len(sizes) or sizes[token] == 0:
            return -1 - i
        total += sizes[token]
    return total


@kernel
def decode(ids: Any, sizes: Any, slots: Any, offsets: Any, long_tokens: Any, out: Any) -> None:
    """Write the bytes of checked ids to ``out``, which has room for 16 more.

    Nearly every token fits into a slot of 16 bytes, which is copied whole: the next token writes over what is too much.

    Args
        sizes: bytes of each token. slots: the first 16 of each.
        offsets: where a token of more than 16 bytes begins in ``long_tokens``.
    """
    n = 0
    for i in range(len(ids)):
        token = ids[i]
        size = sizes[token]
        if size <= SLOT:
            store128(out, n, load64(slots, SLOT * token), load64(slots, SLOT * token + 8))
        else:
            start = offsets[token]
            for k in range(size):
                out[n + k] = long_tokens[start + k]
        n += size

"""Ids to bytes."""

from collections.abc import Sequence
from typing import Any

from npgpt.machine.bits import load64, store128
from npgpt.machine.compile import kernel

MOST_AT_ONCE = 16  # bytes


def plain_decode(ids: Sequence[int], token_bytes: Sequence[bytes]) -> bytes:
    """The bytes of all tokens, one after another."""
    return b"".join(token_bytes[token] for token in ids)


@kernel
def decoded_size(ids: Any, starts: Any) -> int:
    """The number of bytes that the ids stand for, or -1 if no token has one of them."""
    total = 0
    for i in range(len(ids)):
        token = ids[i]
        if token >= len(starts) - 1 or starts[token] == starts[token + 1]:
            return -1
        total += starts[token + 1] - starts[token]
    return total


@kernel
def decode(ids: Any, starts: Any, tokens: Any, out: Any) -> None:
    """Write the bytes of checked ids to ``out``, which has room for 16 more.

    Nearly every token has 16 bytes at most, and 16 are copied at once: the next token writes over what is too much.

    Args
        starts: where the bytes of each token begin in ``tokens``, and where the last one ends.
        tokens: the bytes of all tokens, and 16 more.
    """
    n = 0
    for i in range(len(ids)):
        start = starts[ids[i]]
        size = starts[ids[i] + 1] - start
        if size <= MOST_AT_ONCE:
            store128(out, n, load64(tokens, start), load64(tokens, start + 8))
        else:
            for k in range(size):
                out[n + k] = tokens[start + k]
        n += size

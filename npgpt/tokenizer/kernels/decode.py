"""Decode ids to bytes."""

from collections.abc import Sequence
from typing import Any

from npgpt.machine.bits import load64, store128
from npgpt.machine.compile import kernel

MOST_AT_ONCE = 16  # bytes


def plain_decode(ids: Sequence[int], token_bytes: Sequence[bytes]) -> bytes:
    """Return the bytes of all tokens, one after another."""
    return b"".join(token_bytes[token] for token in ids)


@kernel
def decoded_size(ids: Any, starts: Any) -> int:
    """Return the size of the decoded bytes, or -1 if an id has no token."""
    total = 0
    for i in range(len(ids)):
        token = ids[i]
        if token >= len(starts) - 1 or starts[token] == starts[token + 1]:
            return -1
        total += starts[token + 1] - starts[token]
    return total


@kernel
def decode(ids: Any, starts: Any, tokens: Any, out: Any) -> None:
    """Write the bytes of checked ids to ``out``, which has room for 16 more bytes.

    Nearly every token has at most 16 bytes, so 16 bytes are copied at once. The next token overwrites the surplus.

    Args
        starts: the start of each token's bytes in ``tokens``, and the end of the last token.
        tokens: the bytes of all tokens, and 16 more bytes.
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

"""The parts of a byte-pair vocabulary, and their checks."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from npgpt.core.shapes import as_ids, check_plain
from npgpt.core.values import shown
from npgpt.errors import TokenizerError, quote
from npgpt.tokenizer.base import join_halves
from npgpt.tokenizer.bpe import Pair
from npgpt.tokenizer.kernels.numbers import TOKEN_BITS

# The limits of a vocabulary. Ids index arrays.
MAX_TOKENS = 1 << TOKEN_BITS
MAX_ID = 1 << 24
MAX_SPECIAL, LONGEST_SPECIAL = 1 << 14, 1000  # tokens, characters: encode() searches a text for all of them at once
MAX_BYTES = 1 << 28  # of all tokens together: a few merges that double the length would fill any memory


class Vocabulary(Protocol):
    """The parts of a byte-pair vocabulary; ``BPETokenizer`` documents them."""

    pattern: str
    merges: NDArray[np.int64]
    ids: NDArray[np.int64]
    special_tokens: dict[str, int]

    @property
    def token_bytes(self) -> list[bytes]: ...


def checked_merges(merges: Sequence[Pair] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the merges as an array (n, 2). Each must merge two tokens that exist by then, and none may be repeated."""
    if not isinstance(merges, np.ndarray):
        if isinstance(merges, str | bytes | Mapping) or not isinstance(merges, Iterable):
            raise TokenizerError(f"merges must be pairs of ids, not {shown(merges)}")
        merges = list(merges)
        for k, pair in enumerate(merges):
            if not isinstance(pair, Collection) or isinstance(pair, str | bytes) or len(pair) != 2:
                raise TokenizerError(f"merge {k} must be two ids, not {shown(pair)}")
        flat = [token for pair in merges for token in pair]
        merges = as_ids("BPETokenizer", "merges", flat, error=TokenizerError).reshape(-1, 2)
    check_plain("BPETokenizer", "merges", merges)
    if merges.dtype.kind not in "iu" or merges.ndim != 2 or merges.shape[1] != 2:
        raise TokenizerError(f"merges must be integers (n, 2), not {shown(merges)}")
    pairs = merges.astype(np.int64)
    if 256 + len(pairs) > MAX_TOKENS:
        raise TokenizerError(f"{len(pairs)} merges are too many: at most {MAX_TOKENS} tokens are allowed")
    exist = 256 + np.arange(len(pairs))
    for k in np.flatnonzero((pairs.min(1, initial=0) < 0) | (pairs.max(1, initial=0) >= exist))[:1].tolist():
        left, right = pairs[k].tolist()
        raise TokenizerError(f"merge {k} has the ids {left} and {right}, but only ids 0 to {255 + k} exist before it")
    codes, first = np.unique(pairs[:, 0] * MAX_TOKENS + pairs[:, 1], return_index=True)
    if len(codes) < len(pairs):
        k = int(np.setdiff1d(np.arange(len(pairs)), first)[0])
        left, right = pairs[k].tolist()
        before = int(np.flatnonzero((pairs == pairs[k]).all(1))[0])
        raise TokenizerError(f"merges {before} and {k} are the same: {left} and {right}")
    check_sizes(pairs)
    return pairs


def check_sizes(merges: NDArray[np.int64]) -> None:
    """Raise TokenizerError if all tokens together have too many bytes."""
    sizes = [1] * 256
    total = 256
    for left, right in merges.tolist():
        size = sizes[left] + sizes[right]
        total += size
        if total > MAX_BYTES:
            raise TokenizerError(
                f"up to merge {len(sizes) - 256} the tokens have more than {MAX_BYTES >> 20} MiB together"
            )
        sizes.append(size)


def bytes_by_number(merges: NDArray[np.int64]) -> list[bytes]:
    """Return the bytes of each token."""
    texts = [bytes([byte]) for byte in range(256)]
    for left, right in merges.tolist():
        texts.append(texts[left] + texts[right])
    return texts


def numbered(special_tokens: Iterable[str], ids: Iterable[int]) -> dict[str, int]:
    """Return text -> id of special tokens. ``check_ids`` checks the texts and the ids."""
    special: dict[str, int] = {}
    for text, token in zip(special_tokens, ids, strict=False):  # the ids may have no end
        whole = join_halves(text) if isinstance(text, str) else text
        if whole in special:
            raise TokenizerError(f"special token {quote(text)} is given twice")
        special[whole] = token
    return special


def check_ids(ids: NDArray[np.int64], n_tokens: int, special_tokens: Mapping[Any, Any]) -> None:
    """Raise TokenizerError if these ids and special tokens are not a valid vocabulary."""
    if ids.shape != (n_tokens,):
        raise TokenizerError(f"256 bytes and {n_tokens - 256} merges need {n_tokens} ids, not {ids.size}")
    if len(special_tokens) > MAX_SPECIAL:
        raise TokenizerError(f"{len(special_tokens)} special tokens are too many: at most {MAX_SPECIAL} are allowed")
    for text in special_tokens:
        if not isinstance(text, str):
            raise TokenizerError(f"a special token must be a string, not {quote(text)}")
        if len(text) > LONGEST_SPECIAL:
            raise TokenizerError(f"special token {quote(text)} has more than {LONGEST_SPECIAL} characters")
    of_special = as_ids("BPETokenizer", "special_tokens", list(special_tokens.values()), error=TokenizerError)
    everything = np.concatenate([ids, of_special.astype(np.int64)])
    for token in everything[(everything < 0) | (everything >= MAX_ID)][:1].tolist():
        raise TokenizerError(f"id {token} is out of range: ids may be 0 to {MAX_ID - 1}")
    values, counts = np.unique(everything, return_counts=True)
    for token in values[counts > 1][:1].tolist():
        raise TokenizerError(f"id {token} is given to two tokens")
    if "" in special_tokens:
        raise TokenizerError("special token '' is empty")
    for shorter, longer in pairwise(sorted(special_tokens)):
        if longer.startswith(shorter):  # a text could be read as either of the two
            raise TokenizerError(f"special tokens overlap: {quote(longer)} begins with {quote(shorter)}")

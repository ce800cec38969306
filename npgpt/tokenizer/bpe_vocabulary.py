"""The parts of a byte-pair vocabulary, and their checks."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from npgpt.errors import TokenizerError, quote
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
    token_bytes: list[bytes]


def integers(ids: ArrayLike, owner: str) -> NDArray[np.int64]:
    """Return ids as an array. They must be integers of 64 bits; ``owner`` names what has them."""
    try:
        array = np.asarray(ids)
    except ValueError:  # lists of unequal lengths
        raise TokenizerError(f"{owner} has {quote(ids)}; expected ids in lists of equal lengths") from None
    beyond = array.dtype == np.uint64 and array.size and int(array.max()) >= 1 << 63
    if beyond or (array.dtype == object and all(type(token) is int for token in array.flat)):
        raise TokenizerError(f"{owner} has an id beyond 64 bits; ids must be below {MAX_ID}")
    if array.size and array.dtype.kind not in "iu":
        raise TokenizerError(f"{owner} has an id that is no integer: {quote(ids)}")
    return array.astype(np.int64)


def checked_merges(merges: Sequence[Pair] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the merges as an array (n, 2). Each must merge two tokens that exist by then, and none may be repeated."""
    pairs = integers(merges, "a merge")
    if pairs.size and (pairs.ndim != 2 or pairs.shape[1] != 2):
        raise TokenizerError(f"merges must be pairs of ids, not an array of shape {pairs.shape}")
    pairs = pairs.reshape(-1, 2)
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
    return pairs


def bytes_by_number(merges: NDArray[np.int64]) -> list[bytes]:
    """Return the bytes of each token."""
    texts = [bytes([byte]) for byte in range(256)]
    total = 256
    for k, (left, right) in enumerate(merges.tolist()):
        total += len(texts[left]) + len(texts[right])
        if total > MAX_BYTES:
            raise TokenizerError(f"up to merge {k} the tokens have more than {MAX_BYTES >> 20} MiB together")
        texts.append(texts[left] + texts[right])
    return texts


def numbered(special_tokens: Iterable[str], first: int) -> dict[str, int]:
    """Give special tokens consecutive ids."""
    ids: dict[str, int] = {}
    for text in special_tokens:
        if text in ids:
            raise TokenizerError(f"special token {quote(text)} is given twice")
        ids[text] = first + len(ids)
    return ids


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
    everything = np.concatenate([ids, integers(list(special_tokens.values()), "a special token")])
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

"""Byte-pair encoding on bytes: start with the 256 bytes, and merge the most frequent pair of neighbours repeatedly.

Every string is a sequence of bytes, so no word is unknown. Frequent words become one token.

Training  1. Split the text into pieces (``patterns.py``) and count the distinct pieces.
          2. Count every pair of neighbouring tokens, weighted by the count of its piece.
          3. Merge the pair with the highest count into a new token, in every piece that has it. Of equal counts, the
             pair with the smaller ids wins (left first, then right). Only these pieces change, so only their pairs
             are counted again.
          4. Repeat step 3 until the vocabulary is full or no pair is left.
Encoding  Split the text. In each piece, merge the pair that was learned first, until no learned pair is left.
Numbers   0-255 are the bytes, then the merges in the order of learning: a token's number is also its rank. npgpt's ids
          are these numbers, then the special tokens. Other vocabularies give the same tokens other ids.

This file is the textbook. ``BPETokenizer`` uses ``bpe_compiled.py``, which does the same by compiled kernels; tests
hold the two equal.
Source    Sennrich et al. 2016, arXiv:1508.07909; on bytes: Radford et al. 2019 (GPT-2)
"""

import codecs
import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from npgpt.tokenizer.base import join_halves
from npgpt.tokenizer.patterns import compiled

Pair = tuple[int, int]


def learn_merges(counts: Counter[str], n_merges: int) -> list[Pair]:
    """Learn the first ``n_merges`` merges from pieces of text and their counts (fewer if no pair is left).

    A lazy heap finds the best pair: outdated entries are skipped when they come up.

    >>> learn_merges(Counter({"aab": 2, "ab": 1}), 2)     # a+b occurs 3 times, a+a twice; then a + ab
    [(97, 98), (97, 256)]
    """
    pieces = [list(encode_utf8(piece)) for piece in counts]
    weights = list(counts.values())
    pair_counts: Counter[Pair] = Counter()
    found_in: defaultdict[Pair, set[int]] = defaultdict(set)  # pair -> pieces that have it, or had it
    for k, piece in enumerate(pieces):  # 2.
        for pair in pairwise(piece):
            pair_counts[pair] += weights[k]
            found_in[pair].add(k)
    heap = [(-count, pair) for pair, count in pair_counts.items()]
    heapq.heapify(heap)
    merges: list[Pair] = []
    while heap and len(merges) < n_merges:
        count, best = heapq.heappop(heap)
        if -count != pair_counts[best]:  # outdated: a changed pair has been pushed again
            continue
        new = 256 + len(merges)
        merges.append(best)
        changed: set[Pair] = set()
        for k in found_in.pop(best):  # 3.
            old, pieces[k] = pieces[k], join(pieces[k], best, new)
            for pair in pairwise(old):
                pair_counts[pair] -= weights[k]
                changed.add(pair)
            for pair in pairwise(pieces[k]):
                pair_counts[pair] += weights[k]
                changed.add(pair)
                found_in[pair].add(k)
        for pair in changed:
            if pair_counts[pair] > 0:
                heapq.heappush(heap, (-pair_counts[pair], pair))
    return merges


def encode(text: str | bytes, ranks: Mapping[Pair, int], pattern: str = "gpt2") -> list[int]:
    """Return the numbers of the tokens of a text, or of bytes.

    Args
        ranks: pair -> number of the merged token; a smaller number was learned earlier.

    >>> encode("hi hi", {(104, 105): 256})     # h + i
    [256, 32, 256]
    """
    pieces = split(encode_utf8(text) if isinstance(text, str) else text, pattern)
    known = {piece: encode_piece(piece, ranks) for piece in set(pieces)}  # each distinct piece once
    return [token for piece in pieces for token in known[piece]]


def split(data: bytes, pattern: str) -> list[bytes]:
    """Split bytes into pieces. The patterns see each byte that is not UTF-8 as a symbol.

    >>> split(b"a caf\\xe9, a caf\\xc3\\xa9", "gpt2")     # é as Latin-1 and as UTF-8
    [b'a', b' caf', b'\\xe9,', b' a', b' caf\\xc3\\xa9']
    """
    pieces = []
    start = 0
    for piece in compiled(pattern).findall(with_symbols(data).decode()):
        end = start + len(encode_utf8(piece))
        pieces.append(data[start:end])
        start = end
    return pieces


def encode_piece(piece: bytes, ranks: Mapping[Pair, int]) -> list[int]:
    """Merge the pair that was learned first, at all its places, until no learned pair is left."""
    tokens = list(piece)
    while pairs := [pair for pair in pairwise(tokens) if pair in ranks]:
        earliest = min(pairs, key=lambda pair: ranks[pair])
        tokens = join(tokens, earliest, ranks[earliest])
    return tokens


@dataclass(frozen=True)
class Step:
    """A piece of text while it is merged.

    Attributes
        tokens: the bytes of each token.
        rank: the number of the last merge, 0 for the first learned; None before any merge.
        count: the count of its pair in the training text when it was learned, if known.
    """

    tokens: list[bytes]
    rank: int | None
    count: int | None


def merge_steps(piece: bytes, ranks: Mapping[Pair, int], counts: Sequence[int] | None = None) -> list[Step]:
    """``encode_piece`` step by step.

    >>> for step in merge_steps(b"hihi", {(104, 105): 256, (256, 256): 257}, [9, 4]): print(step.tokens, step.count)
    [b'h', b'i', b'h', b'i'] None
    [b'hi', b'hi'] 9
    [b'hihi'] 4
    """
    tokens = list(piece)
    text_of = {byte: bytes([byte]) for byte in piece}
    steps = [Step([text_of[token] for token in tokens], None, None)]
    while pairs := [pair for pair in pairwise(tokens) if pair in ranks]:
        earliest = min(pairs, key=lambda pair: ranks[pair])
        new = ranks[earliest]
        text_of[new] = text_of[earliest[0]] + text_of[earliest[1]]
        tokens = join(tokens, earliest, new)
        steps.append(Step([text_of[token] for token in tokens], new - 256, counts[new - 256] if counts else None))
    return steps


def join(tokens: list[int], pair: Pair, new: int) -> list[int]:
    """Replace each occurrence of ``pair`` by ``new``, from the left, without overlap.

    >>> join([1, 1, 1, 2], (1, 1), 9)
    [9, 1, 2]
    """
    joined: list[int] = []
    i = 0
    while i < len(tokens):
        if i + 1 < len(tokens) and (tokens[i], tokens[i + 1]) == pair:
            joined.append(new)
            i += 2
        else:
            joined.append(tokens[i])
            i += 1
    return joined


def encode_utf8(text: str) -> bytes:
    """Encode as UTF-8. A lone surrogate, which a Python string may contain, becomes its three bytes.

    Two halves of a character are joined first, as tiktoken does.
    """
    try:
        return text.encode()
    except UnicodeEncodeError:
        return join_halves(text).encode("utf-8", "surrogatepass")


def with_symbols(data: bytes) -> bytes:
    """Return valid UTF-8 of the same size: a question mark in the place of each byte that is not UTF-8.

    U+FFFD, of three bytes, stands for half of a surrogate pair, which ``encode_utf8`` encodes: it is a symbol, too.
    """
    whole = _HALF.sub("\ufffd".encode(), data)
    return whole.decode("utf-8", "surrogateescape").encode("utf-8", "replace")


_HALF = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")


def _surrogate_or_replacement(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogatepass")(error)
    except UnicodeError:
        return codecs.lookup_error("replace")(error)


# Decoding is the inverse of encode_utf8. Invalid UTF-8, which a model may produce, becomes U+FFFD.
UTF8_ERRORS = "npgpt.surrogate_or_replacement"
codecs.register_error(UTF8_ERRORS, _surrogate_or_replacement)

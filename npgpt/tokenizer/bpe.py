"""Byte-pair encoding, byte level: start from the 256 bytes and keep joining the commonest pair of neighbours.

Any string is some sequence of bytes, so there is no unknown word; frequent words end up as one token.

Training  1. Cut the text into pieces (``patterns.py``) and count each distinct piece once.
          2. Count every pair of neighbouring tokens, each piece weighed by its count.
          3. Join the pair with the highest count into a new token, in every piece that has it; between equal counts the
             pair with the smaller ids wins (left first, then right). Only those pieces change, so only their pairs are
             counted anew.
          4. Repeat from 3. until the vocabulary is full or no pair is left.
Encoding  Cut; in each piece, join the pair that was learned earliest, again and again, until none is left.
Numbers   0-255 the bytes, then the merges in the order learned: so a token's number is also its rank. Our ids are the
          numbers, then the special tokens; other vocabularies give the same tokens other ids.

This file is the textbook. ``bpe_compiled.py`` does the same by compiled kernels and is what ``BPETokenizer`` runs on;
the tests hold the two equal.
Source    Sennrich et al. 2016, arXiv:1508.07909; on bytes: Radford et al. 2019 (GPT-2)
"""

import codecs
import heapq
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from npgpt.tokenizer.patterns import compiled

Pair = tuple[int, int]


def learn_merges(counts: Counter[str], n_merges: int) -> list[Pair]:
    """The first ``n_merges`` merges over pieces of text with their counts (fewer if no pair is left).

    A lazy heap finds the best pair: an entry may be out of date, which is noticed when it comes up.

    >>> learn_merges(Counter({"aab": 2, "ab": 1}), 2)     # a+b is seen 3 times, a+a twice; then a + ab
    [(97, 98), (97, 256)]
    """
    pieces = [list(encode_utf8(piece)) for piece in counts]
    weights = list(counts.values())
    pair_counts: Counter[Pair] = Counter()
    found_in: defaultdict[Pair, set[int]] = defaultdict(set)  # pair -> pieces that have, or had, it
    for k, piece in enumerate(pieces):  # 2.
        for pair in pairwise(piece):
            pair_counts[pair] += weights[k]
            found_in[pair].add(k)
    heap = [(-count, pair) for pair, count in pair_counts.items()]
    heapq.heapify(heap)
    merges: list[Pair] = []
    while heap and len(merges) < n_merges:
        count, best = heapq.heappop(heap)
        if -count != pair_counts[best]:  # out of date; what changed was pushed anew when it changed
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


def encode(text: str, ranks: Mapping[Pair, int], pattern: str = "gpt2") -> list[int]:
    """The numbers of the tokens of a text.

    Args
        ranks: pair -> number of the token that it makes; smaller: learned earlier.

    >>> encode("hi hi", {(104, 105): 256})     # h + i
    [256, 32, 256]
    """
    pieces = compiled(pattern).findall(text)
    known = {piece: encode_piece(encode_utf8(piece), ranks) for piece in set(pieces)}  # each distinct piece once
    return [token for piece in pieces for token in known[piece]]


def encode_piece(piece: bytes, ranks: Mapping[Pair, int]) -> list[int]:
    """Join the pair learned earliest, wherever it stands, until no pair is left that was learned."""
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
        rank: number of the merge that led here, 0 the earliest; None before the first.
        count: how often its pair stood in the training text when it was learned, if known.
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
    """Replace ``pair`` by ``new`` wherever it stands, from the left, without overlap.

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
    """UTF-8; half a surrogate pair, no character but possible in a Python string, becomes its three bytes."""
    return text.encode("utf-8", "surrogatepass")


def _surrogate_or_replacement(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogatepass")(error)
    except UnicodeError:
        return codecs.lookup_error("replace")(error)


# Decoding undoes encode_utf8; bytes that are no UTF-8 (a model may well produce such) become U+FFFD.
UTF8_ERRORS = "npgpt.surrogate_or_replacement"
codecs.register_error(UTF8_ERRORS, _surrogate_or_replacement)

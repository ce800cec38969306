"""Byte-pair encoding, byte level: start from the 256 bytes and keep joining the commonest pair of neighbours.

Any string is some sequence of bytes, so there is no unknown word; frequent words end up as one token.

Training  1. Cut the text into pieces (``split.py``) and count each distinct piece once.
          2. Count every pair of neighbouring tokens, each piece weighed by its count.
          3. Join the pair with the highest count into a new token, in every piece that has it; between equal counts the
             pair with the smaller ids wins (left first, then right). Only those pieces change, so only their pairs are
             counted anew.
          4. Repeat from 3. until the vocabulary is full or no pair is left.
Encoding  Cut; in each piece, join the pair that was learned earliest, again and again, until none is left.
Ids       0-255 the bytes, then the merges in the order learned, then the special tokens.
Source    Sennrich et al. 2016, arXiv:1508.07909; on bytes: Radford et al. 2019 (GPT-2)
"""

import codecs
import heapq
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Self

from npgpt.errors import TokenizerError, did_you_mean
from npgpt.tokenizer.base import END_OF_TEXT, Tokenizer, vocabulary_from
from npgpt.tokenizer.split import SOURCES, compiled

Pair = tuple[int, int]


class BPETokenizer(Tokenizer):
    """A byte-pair vocabulary.

    Args
        merges: the pairs of ids that are joined, earliest first; merge number k makes the token with id 256 + k.
        special_tokens: texts that get the ids after the merges, in this order.
        pattern: name of the pattern that cuts a text into pieces (``split.SOURCES``).
    Raises
        TokenizerError if a merge uses a token that is not yet made, a pair stands twice, a special token is empty or
        stands twice, or the pattern is not one of ours.

    >>> tokenizer = BPETokenizer([(104, 105)])     # h + i
    >>> tokenizer.encode("hi hi")
    [256, 32, 256]
    >>> tokenizer.decode([256, 33])
    'hi!'
    """

    kind = "bpe"

    def __init__(
        self, merges: Sequence[Pair], special_tokens: Iterable[str] = (END_OF_TEXT,), pattern: str = "gpt2"
    ) -> None:
        if not isinstance(pattern, str):
            raise TokenizerError(f"the split pattern must be a name, not {pattern!r}")
        if pattern not in SOURCES:
            raise TokenizerError(f"split pattern {pattern!r} is unknown; {did_you_mean(pattern, SOURCES)}")
        self.pattern = pattern
        self.token_bytes = [bytes([byte]) for byte in range(256)]  # id -> bytes
        self.ranks: dict[Pair, int] = {}  # pair -> id of the token that it makes; smaller: learned earlier
        for pair in merges:
            self._add_merge(pair)
        self.special_tokens = {}
        for text in special_tokens:
            if not text or text in self.special_tokens:
                raise TokenizerError(f"special token {text!r} is {'given twice' if text else 'empty'}")
            self.special_tokens[text] = len(self.token_bytes)
            self.token_bytes.append(encode_utf8(text))

    def _add_merge(self, pair: Pair) -> None:
        new = len(self.token_bytes)
        left, right = pair
        if not (0 <= left < new and 0 <= right < new):
            raise TokenizerError(f"merge {new - 256} joins {left} and {right}, but only ids 0 to {new - 1} exist then")
        if pair in self.ranks:
            raise TokenizerError(f"merges {self.ranks[pair] - 256} and {new - 256} are the same: {left} and {right}")
        self.ranks[pair] = new
        self.token_bytes.append(self.token_bytes[left] + self.token_bytes[right])

    @property
    def vocab_size(self) -> int:
        return len(self.token_bytes)

    @classmethod
    def train(
        cls,
        text: str | Iterable[str],
        vocab_size: int = 1024,
        special_tokens: Iterable[str] = (END_OF_TEXT,),
        pattern: str = "gpt2",
    ) -> Self:
        """Learn a vocabulary from a text, or from several, none of which is joined to the next.

        Args
            vocab_size: bytes, merges and special tokens together. If the pairs run out before, there are fewer, and a
                warning says so.
        Raises
            TokenizerError if vocab_size leaves no room for the bytes and the special tokens, or the text is empty.
        """
        tokenizer = cls([], special_tokens, pattern)
        n_merges = vocab_size - tokenizer.vocab_size
        if n_merges < 0:
            raise TokenizerError(
                f"vocab_size {vocab_size} is too small: 256 bytes and {len(tokenizer.special_tokens)} special tokens "
                f"need {tokenizer.vocab_size}"
            )
        texts = [text] if isinstance(text, str) else text
        counts = Counter(piece for part in texts for piece in compiled(pattern).findall(part))  # 1.
        if not counts:
            raise TokenizerError("there is nothing to learn from: the text is empty")
        merges = learn_merges(counts, n_merges)
        if len(merges) < n_merges:
            warnings.warn(
                f"only {len(merges)} merges could be learned from this text; the vocabulary has "
                f"{tokenizer.vocab_size + len(merges)} tokens, not {vocab_size}",
                stacklevel=2,
            )
        return cls(merges, tokenizer.special_tokens, pattern)

    def encode_ordinary(self, text: str) -> list[int]:
        pieces = compiled(self.pattern).findall(text)
        known = {piece: self._encode_piece(encode_utf8(piece)) for piece in set(pieces)}  # each distinct piece once
        return [token for piece in pieces for token in known[piece]]

    def _encode_piece(self, piece: bytes) -> list[int]:
        tokens = list(piece)
        never = self.vocab_size
        while len(tokens) > 1:
            pair = min(pairwise(tokens), key=lambda pair: self.ranks.get(pair, never))
            if pair not in self.ranks:
                break
            tokens = join(tokens, pair, self.ranks[pair])
        return tokens

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        # A character of several bytes may be spread over several tokens: the decoder keeps what is unfinished.
        decoder = codecs.getincrementaldecoder("utf-8")(UTF8_ERRORS)
        for token in self._checked(ids):
            yield decoder.decode(self.token_bytes[token])
        yield decoder.decode(b"", final=True)

    def _state(self) -> dict[str, Any]:
        return {"pattern": self.pattern, "merges": list(self.ranks), "special_tokens": list(self.special_tokens)}

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        merges = state["merges"]
        for k, pair in enumerate(merges):
            if not (isinstance(pair, list) and len(pair) == 2 and all(type(token) is int for token in pair)):
                raise TokenizerError(f"merge {k} must be two ids, not {pair!r}")
        special_tokens = vocabulary_from(state, "special_tokens")
        return cls([(left, right) for left, right in merges], special_tokens, state["pattern"])


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

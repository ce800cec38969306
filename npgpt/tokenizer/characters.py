"""The character tokenizer: one id for each character. It has the smallest vocabulary and the longest sequences."""

import functools
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from npgpt.core.values import each_text, texts
from npgpt.core.values import text as check_text
from npgpt.errors import TokenizerError, quote
from npgpt.tokenizer.base import END_OF_TEXT, Tokenizer, join_halves, vocabulary_from
from npgpt.tokenizer.words import UNKNOWN, most_frequent


class CharTokenizer(Tokenizer):
    """A vocabulary of characters (code points) in sorted order, then ``<|unk|>`` and ``<|endoftext|>``.

    Args
        characters: strings of one character each, in any order.

    An unknown character becomes ``<|unk|>``, which decodes to U+FFFD.

    >>> tokenizer = CharTokenizer.train("abba")
    >>> tokenizer.encode("abc")
    [0, 1, 2]
    >>> tokenizer.decode([1, 0, 1])
    'bab'
    """

    kind = "char"
    fields = frozenset({"characters"})

    def __init__(self, characters: Iterable[str]) -> None:
        characters = (
            join_halves(characters)
            if isinstance(characters, str)
            else texts("CharTokenizer", "characters", characters, TokenizerError)
        )
        self.characters = sorted(set(map(join_halves, characters)))
        if (wrong := next((c for c in self.characters if len(c) != 1), None)) is not None:
            raise TokenizerError(f"{quote(wrong)} is not one character")
        self.ids = {character: token for token, character in enumerate(self.characters)}
        n = len(self.characters)
        self.special_tokens = {UNKNOWN: n, END_OF_TEXT: n + 1}
        self._texts = [*self.characters, "\ufffd", END_OF_TEXT]

    @property
    def vocab_size(self) -> int:
        return len(self._texts)

    @classmethod
    def train(cls, text: str | Iterable[str], vocab_size: int | None = None) -> Self:
        """Make a vocabulary of all characters of one or several texts, or of the most frequent ones.

        Raises
            TokenizerError if the text is empty, or if vocab_size is not larger than the two special tokens.
        """
        given = [text] if isinstance(text, str) else each_text("CharTokenizer.train", "text", text, TokenizerError)
        parts = (part for one in given for part in join_halves(one).split(END_OF_TEXT))
        counts = Counter(character for part in parts for character in part)
        return cls(most_frequent(counts, vocab_size))

    def encode_ordinary(self, text: str) -> list[int]:
        text = check_text("encode", "text", text, TokenizerError)
        unknown = self.special_tokens[UNKNOWN]
        return [self.ids.get(character, unknown) for character in join_halves(text)]

    def _ordinary_array(self, text: str) -> NDArray[np.uint32]:
        if type(self).encode_ordinary is not CharTokenizer.encode_ordinary:  # a subclass has its own
            return super()._ordinary_array(text)
        codes = np.frombuffer(join_halves(text).encode("utf-32-le", "surrogatepass"), np.uint32)
        table = self._id_of_code
        return table[np.minimum(codes, len(table) - 1)]

    @functools.cached_property
    def _id_of_code(self) -> NDArray[np.uint32]:
        """Code point -> id, up to the first one that is larger than all known."""
        codes = [ord(character) for character in self.characters]
        table = np.full(max(codes, default=0) + 2, self.special_tokens[UNKNOWN], np.uint32)
        table[codes] = np.arange(len(codes))
        return table

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        for token in self._checked(ids):
            yield self._texts[token]

    def _state(self) -> dict[str, Any]:
        return {"characters": self.characters}

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        return cls(vocabulary_from(state, "characters"))

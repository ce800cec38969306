"""The word tokenizer: one id for each word. Its weaknesses are why byte-pair encoding is used.

A word that is not in the training text becomes ``<|unk|>`` and is lost. White space is lost as well, and decoding
guesses it. Punctuation is split from words: ``Hello, world!`` gives ``Hello`` ``,`` ``world`` ``!``.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

import regex

from npgpt.core.values import each_text, texts, whole
from npgpt.core.values import text as check_text
from npgpt.errors import TokenizerError, quote
from npgpt.tokenizer.base import END_OF_TEXT, Tokenizer, join_halves, vocabulary_from

UNKNOWN = "<|unk|>"

# A word may contain hyphens and apostrophes (well-known, don't); any other visible character is a token.
WORD = regex.compile(r"\w+(?:[-'’]\w+)*|[^\w\s]")

_NO_SPACE_BEFORE = frozenset(".,;:?!)]}%…”’")
_NO_SPACE_AFTER = frozenset("([{$#@“‘")
_QUOTES = frozenset("\"'")  # opening and closing ones are the same character: every second one closes


class WordTokenizer(Tokenizer):
    """A vocabulary of words and punctuation marks, then ``<|unk|>`` and ``<|endoftext|>``.

    Args
        words: the vocabulary; ids follow the sorted order.

    >>> tokenizer = WordTokenizer.train("the king, the queen")
    >>> tokenizer.encode("the king, the page")
    [3, 1, 0, 3, 4]
    >>> tokenizer.decode([3, 1, 0, 3, 4])
    'the king, the <|unk|>'
    """

    kind = "word"
    fields = frozenset({"words"})

    def __init__(self, words: Sequence[str]) -> None:
        words = texts("WordTokenizer", "words", words, TokenizerError)
        self.tokens = [*sorted(set(map(join_halves, words))), UNKNOWN, END_OF_TEXT]
        self.ids = {word: token for token, word in enumerate(self.tokens)}
        if len(self.ids) != len(self.tokens):
            raise TokenizerError(f"a word must not be {UNKNOWN} or {END_OF_TEXT}, which are always added")
        self.special_tokens = {name: self.ids[name] for name in (UNKNOWN, END_OF_TEXT)}

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    @classmethod
    def train(cls, text: str | Iterable[str], vocab_size: int | None = None) -> Self:
        """Make a vocabulary of all words of one or several texts, or of the most frequent ones if vocab_size is given.

        Raises
            TokenizerError if the text has no word, or if vocab_size is not larger than the two special tokens.
        """
        given = [text] if isinstance(text, str) else each_text("WordTokenizer.train", "text", text, TokenizerError)
        parts = (part for one in given for part in join_halves(one).split(END_OF_TEXT))
        counts = Counter(word for part in parts for word in WORD.findall(part))
        return cls(most_frequent(counts, vocab_size))

    def encode_ordinary(self, text: str) -> list[int]:
        text = check_text("encode", "text", text, TokenizerError)
        unknown = self.ids[UNKNOWN]
        return [self.ids.get(word, unknown) for word in WORD.findall(join_halves(text))]

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        space = False  # whether a space follows the previous word
        open_quotes: set[str] = set()
        for token in self._checked(ids):
            word = self.tokens[token]
            closes = word in open_quotes
            yield " " + word if space and not closes and word not in _NO_SPACE_BEFORE else word
            opens = word in _QUOTES and not closes
            if word in _QUOTES:
                open_quotes ^= {word}
            space = not opens and word not in _NO_SPACE_AFTER

    def _state(self) -> dict[str, Any]:
        return {"words": self.tokens[:-2]}

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        return cls(vocabulary_from(state, "words"))


def most_frequent(counts: Counter[str], vocab_size: int | None) -> list[str]:
    """Return the keys with the highest counts, beside two special tokens; of equal counts the smaller string first."""
    if not counts:
        raise TokenizerError("the text is empty or has white space only; give a text to learn a vocabulary from")
    if vocab_size is not None:
        vocab_size = whole("train", "vocab_size", vocab_size, error=TokenizerError)
        if vocab_size <= 2:
            raise TokenizerError(
                f"vocab_size {quote(vocab_size)} is too small, expected at least 3: 2 ids are special tokens"
            )
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return ranked if vocab_size is None else ranked[: vocab_size - 2]

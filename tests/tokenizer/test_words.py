"""The word tokenizer: the words of a text, and the spaces of a decoded text."""

import pytest

from npgpt.tokenizer import UNKNOWN, CharTokenizer, WordTokenizer


def test_vocabulary_is_sorted_and_ends_with_the_special_tokens() -> None:
    tokenizer = WordTokenizer.train("b a, c a")
    assert tokenizer.tokens == [",", "a", "b", "c", "<|unk|>", "<|endoftext|>"]


@pytest.mark.parametrize(
    "text",
    [
        "Hello, world!",
        'He said: "Well-known, isn\'t it?" (It was.)',
        "It costs $5, or 7%; see [1].",
        'An "open" quote, and "another".',
        "“Curly” ‘quotes’ too…",
    ],
)
def test_decode_restores_spaces(text: str) -> None:
    tokenizer = WordTokenizer.train(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_unknown_words_decode_to_unk() -> None:
    tokenizer = WordTokenizer.train("the king rules")
    ids = tokenizer.encode("the queen rules")
    assert ids[1] == tokenizer.special_tokens[UNKNOWN]
    assert tokenizer.decode(ids) == "the <|unk|> rules"


def test_a_smaller_vocabulary_keeps_the_most_frequent_words() -> None:
    tokenizer = WordTokenizer.train("c c c b b a a d", vocab_size=5)
    assert tokenizer.tokens[:-2] == ["a", "b", "c"]  # d, the rarest word, is left out
    assert CharTokenizer.train("ccbba", vocab_size=4).characters == ["b", "c"]


def test_unknown_character_decodes_to_the_replacement_character() -> None:
    tokenizer = CharTokenizer.train("abc")
    assert tokenizer.decode(tokenizer.encode("abz")) == "ab\ufffd"

"""Byte-pair encoding against slower and simpler forms of itself."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.tokenizer import BPETokenizer, TokenizerError
from npgpt.tokenizer.base import join_halves
from npgpt.tokenizer.bpe import encode_utf8, join, learn_merges
from npgpt.tokenizer.patterns import compiled

any_string = st.lists(st.sampled_from("\ud800\udfff") | st.characters()).map("".join)  # characters() draws few of these
few_letters = st.text("aab b'1.\n", max_size=60)  # so that pairs repeat
TOKENIZER = BPETokenizer.train("the theme of the thesis: these themes, then théâtre 東京東京\r\n  the end" * 2, 290)


def naive_merges(pieces: list[str], n_merges: int) -> list[tuple[int, int]]:
    """Count all pairs of the whole text again for each merge."""
    texts = [list(encode_utf8(piece)) for piece in pieces]
    merges: list[tuple[int, int]] = []
    while len(merges) < n_merges:
        counts = Counter(pair for tokens in texts for pair in pairwise(tokens))
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        texts = [join(tokens, best, 256 + len(merges)) for tokens in texts]
        merges.append(best)
    return merges


def naive_encode(tokenizer: BPETokenizer, piece: bytes) -> list[int]:
    """Apply every merge in the order of learning."""
    tokens = list(piece)
    for pair, new in tokenizer.ranks.items():
        tokens = join(tokens, pair, new)
    return tokens


@given(st.lists(few_letters, min_size=1, max_size=8))
def test_training_equals_counting_all_pairs_each_time(pieces: list[str]) -> None:
    assert learn_merges(Counter(pieces), 25) == naive_merges(pieces, 25)


@given(any_string | few_letters)
def test_encoding_equals_applying_every_merge_in_order(text: str) -> None:
    pieces = compiled("gpt2").findall(join_halves(text))
    expected = [token for piece in pieces for token in naive_encode(TOKENIZER, encode_utf8(piece))]
    assert TOKENIZER.encode(text) == expected


@given(any_string)
def test_decode_undoes_encode(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == join_halves(text)


@given(any_string)
def test_the_joined_pieces_are_the_text(text: str) -> None:
    assert "".join(compiled("gpt2").findall(text)) == text


@given(st.binary())
def test_invalid_utf8_decodes_to_replacement_characters(data: bytes) -> None:
    decoded = BPETokenizer([]).decode(data)
    if b"\xed" not in data:  # the first byte of a lone surrogate, which we keep
        assert decoded == data.decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("I'll  say: don't!", ["I", "'ll", " ", " say", ":", " don", "'t", "!"]),
        ("in 1984,\n\n  two", ["in", " 1984", ",", "\n\n ", " two"]),
        ("IT'S", ["IT", "'", "S"]),  # GPT-2's pattern has lower-case endings only
        ("a \t", ["a", " \t"]),
    ],
)
def test_pieces(text: str, pieces: list[str]) -> None:
    assert compiled("gpt2").findall(text) == pieces


def test_no_merge_crosses_a_split_or_two_texts() -> None:
    with pytest.warns(UserWarning, match="only 2 merges"):
        tokenizer = BPETokenizer.train(["xy z"] * 10, 1000)
    assert tokenizer.token_bytes[256:258] == [b" z", b"xy"]


def test_the_smaller_pair_wins_between_equal_counts() -> None:
    assert learn_merges(Counter({"zy": 1, "ba": 1, "bc": 1}), 3) == [(98, 97), (98, 99), (122, 121)]


def test_a_vocabulary_of_bytes_alone_is_allowed() -> None:
    assert BPETokenizer.train("abc", 256, special_tokens=()).encode("é") == [0xC3, 0xA9]
    with pytest.raises(TokenizerError, match="need 257"):
        BPETokenizer.train("abc", 256)

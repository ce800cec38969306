"""The promises of every tokenizer: round trips, files, special tokens only if allowed, clear errors."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.config import TOKENIZERS as NAMES
from npgpt.tokenizer import (
    END_OF_TEXT,
    KINDS,
    UNKNOWN,
    BPETokenizer,
    CharTokenizer,
    Tokenizer,
    TokenizerError,
    WordTokenizer,
    load_tokenizer,
)

TEXT = "It was the best of times, it was the worst of times; it was the age of wisdom.\n\n  It wasn't: 1859!\n" * 3

TOKENIZERS = [BPETokenizer.train(TEXT, vocab_size=290), WordTokenizer.train(TEXT), CharTokenizer.train(TEXT)]
each = pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda tokenizer: tokenizer.kind)

# Every code point, lone surrogates included, which characters() hardly ever draws.
any_string = st.lists(st.sampled_from("\ud800\udfff") | st.characters()).map("".join)


@each
@given(text=any_string)
def test_encode_never_fails_and_gives_known_ids(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert all(type(token) is int and 0 <= token < tokenizer.vocab_size for token in ids)
    assert all(
        token not in tokenizer.special_tokens.values() or token == tokenizer.special_tokens[UNKNOWN] for token in ids
    )


@each
@given(text=any_string | st.sampled_from([TEXT, "the<|endoftext|>end<|endoftext|>", ""]))
def test_an_array_has_the_ids_of_the_list(tokenizer: Tokenizer, text: str) -> None:
    for allowed in ("all", ()):
        array = tokenizer.encode_array(text, allowed)
        assert array.dtype == np.uint32
        assert array.tolist() == tokenizer.encode(text, allowed)


@each
def test_an_array_has_the_ids_of_a_subclass(tokenizer: Tokenizer) -> None:
    class Reversed(type(tokenizer)):  # type: ignore[misc]
        def encode_ordinary(self, text: str) -> list[int]:
            ids: list[int] = super().encode_ordinary(text)[::-1]
            return ids

    other = Reversed.__new__(Reversed)
    other.__dict__.update(tokenizer.__dict__)
    assert other.encode_array(TEXT).tolist() == other.encode(TEXT) == tokenizer.encode(TEXT)[::-1]


def test_what_a_subclass_returns_is_kept_and_checked() -> None:
    class Fixed(CharTokenizer):
        returned: list[int]

        def encode_ordinary(self, text: str) -> list[int]:
            return self.returned

    tokenizer = Fixed("ab")
    tokenizer.returned = [0, 1]
    assert tokenizer.encode("a<|endoftext|>b", "all") == [0, 1, 3, 0, 1]
    assert tokenizer.returned == [0, 1]
    for ids in [-1], [0, 4], [1 << 32]:
        tokenizer.returned = ids
        with pytest.raises(TokenizerError, match=r"encode_ordinary returned the id .*; this vocabulary has ids 0 to 3"):
            tokenizer.encode_array("a")
    tokenizer.returned = [0.5]  # type: ignore[list-item]
    with pytest.raises(TokenizerError, match="Fixed.encode_ordinary: the result must be an array"):
        tokenizer.encode_array("a")


@each
def test_the_joined_stream_equals_decode(tokenizer: Tokenizer) -> None:
    @given(st.lists(st.integers(0, tokenizer.vocab_size - 1)))
    def check(ids: list[int]) -> None:
        pieces = list(tokenizer.stream(ids))
        assert "".join(pieces) == tokenizer.decode(ids)

    check()


@each
def test_a_saved_tokenizer_loads_unchanged(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    for loaded in (Tokenizer.load(tmp_path / "tokenizer.json"), type(tokenizer).load(tmp_path / "tokenizer.json")):
        assert type(loaded) is type(tokenizer)
        assert loaded.vocab_size == tokenizer.vocab_size
        assert loaded.special_tokens == tokenizer.special_tokens
        assert loaded.encode(TEXT) == tokenizer.encode(TEXT)
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]  # no temporary file is left


@each
def test_special_tokens_are_encoded_only_if_allowed(tokenizer: Tokenizer) -> None:
    text = f"times{END_OF_TEXT}times"
    special = tokenizer.special_tokens[END_OF_TEXT]
    assert special not in tokenizer.encode(text)
    for allowed in ("all", {END_OF_TEXT}):
        ids = tokenizer.encode(text, allowed_special=allowed)
        assert ids == [*tokenizer.encode("times"), special, *tokenizer.encode("times")]
    with pytest.raises(TokenizerError, match=r"<\|no\|>.*has .*endoftext"):
        tokenizer.encode(text, allowed_special={"<|no|>"})


@each
def test_the_error_names_an_id_out_of_range(tokenizer: Tokenizer) -> None:
    for wrong in (-1, tokenizer.vocab_size):
        with pytest.raises(TokenizerError, match=rf"id {wrong} at position 1 .*0 to {tokenizer.vocab_size - 1}"):
            tokenizer.decode([0, wrong])


@pytest.mark.parametrize("kind", [BPETokenizer, WordTokenizer, CharTokenizer])
def test_empty_texts_and_tiny_vocabularies_are_rejected(kind: type) -> None:
    with pytest.raises(TokenizerError, match="give a text to learn a vocabulary from"):
        kind.train("")
    with pytest.raises(TokenizerError, match="vocab_size 2 is too small"):
        kind.train(TEXT, vocab_size=2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a tokenizer file"),
        (b"\xff\xfe", "not a tokenizer file"),
        (b"[" * 100_000, "not a tokenizer file"),
        (b"[1, 2]", '"format"'),
        (b'{"model": {"type": "BPE"}}', '"format"'),
        (b'{"format": "npgpt-tokenizer", "version": 99, "kind": "bpe"}', "version 99; this npgpt reads version 1"),
        (b'{"format": "npgpt-tokenizer", "version": 1, "kind": ["bpe"]}', "of tokenizer is unknown"),
        (b'{"format": "npgpt-tokenizer", "version": 1, "kind": "bpe"}', "'merges' is missing"),
        (b'{"format": "npgpt-tokenizer", "version": 1, "kind": "word", "words": "abc"}', "list of strings"),
        (
            b'{"format": "npgpt-tokenizer", "version": 1, "kind": "word", "words": ["b", "a", "b"]}',
            "'b' more than once",
        ),
        (b'{"format": "npgpt-tokenizer", "version": 1, "kind": "word", "words": ["<|unk|>"]}', "must not be"),
        (
            b'{"format": "npgpt-tokenizer", "version": 1, "kind": "char", "characters": ["ab"]}',
            "'ab' is not one character",
        ),
    ],
)
def test_the_error_names_a_damaged_file(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(TokenizerError, match=message) as caught:
        Tokenizer.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"merges": [[97, 256]]}, "merge 0 has the ids 97 and 256, but only ids 0 to 255 exist"),
        ({"merges": [[97, -1]]}, "merge 0 has the ids 97 and -1"),
        ({"merges": [[97, 98], [97, 98]]}, "merges 0 and 1 are the same"),
        ({"merges": [[97, 98, 99]]}, "merge 0 must be two ids"),
        ({"merges": [[97, 98.0]]}, "merge 0 must be two ids"),
        ({"merges": [[97, 10**30]]}, "an integer beyond 64 bits"),
        ({"merges": 5}, "merges must be a list"),
        ({"merges": {}}, "merges must be a list"),
        ({"merges": [[97, 97]] + [[256 + k, 256 + k] for k in range(33)]}, "more than 256 MiB"),
        ({"special_tokens": [""]}, "empty"),
        ({"special_tokens": ["x", "x"]}, "more than once"),
        ({"pattern": "(a+)+$"}, "pattern .* unknown"),
        ({"pattern": ["gpt2"]}, "pattern must be"),
    ],
)
def test_invalid_byte_pair_files_are_rejected(change: dict[str, object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    TOKENIZERS[0].save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(TokenizerError, match=message):
        Tokenizer.load(path)


def test_the_error_names_a_file_of_another_kind(tmp_path: Path) -> None:
    TOKENIZERS[2].save(tmp_path / "tokenizer.json")
    with pytest.raises(TokenizerError, match="is a CharTokenizer, not a BPETokenizer; use Tokenizer.load"):
        BPETokenizer.load(tmp_path / "tokenizer.json")


def test_load_tokenizer_reads_every_kind(tmp_path: Path) -> None:
    text = "the cat sat on the mat"
    for kind in KINDS.values():
        kind.train(text * 9, 270).save(tmp_path / "ours.json")
        assert type(load_tokenizer(tmp_path / "ours.json")) is kind
    tokenizer = BPETokenizer.train(text * 9, 270)
    (tmp_path / "hf").mkdir()
    tokenizer.to_huggingface(tmp_path / "hf" / "tokenizer.json")
    (tmp_path / "gpt2").mkdir()
    tokenizer.to_gpt2(tmp_path / "gpt2" / "encoder.json", tmp_path / "gpt2" / "vocab.bpe")
    tokenizer.to_tiktoken(tmp_path / "gpt2.tiktoken.gz")
    for path in ("hf", "hf/tokenizer.json", "gpt2", "gpt2.tiktoken.gz"):
        assert load_tokenizer(tmp_path / path).encode(text) == tokenizer.encode(text)
    with pytest.raises(FileNotFoundError):
        load_tokenizer(tmp_path / "nothing")


def test_configuration_and_tokenizers_have_the_same_kinds() -> None:
    assert tuple(KINDS) == NAMES

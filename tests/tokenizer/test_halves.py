"""Two halves of a character in a string (a surrogate pair) are that character; a lone half stays."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from npgpt.errors import TokenizerError
from npgpt.tokenizer import END_OF_TEXT, BPETokenizer, CharTokenizer, Tokenizer, WordTokenizer, bpe
from npgpt.tokenizer.base import join_halves

TEXT = "An 😀 and a 𐐷𐐲 word, a𐐷 a𐐷a𐐷, 🇩🇪 too; \ud83d alone, \ude00\ud83d turned.\n" * 3
# Halves of letters, of symbols and of nothing that is assigned, beside what can stand between them.
half = st.sampled_from("\ud800\ud801\ud83d\udbff\udc00\udc37\ude00\udfff")
halves = st.lists(half | st.sampled_from(["😀", "𐐷", "a", " ", "\ufeff", "é", END_OF_TEXT]), max_size=30).map("".join)


def halved(text: str) -> str:
    """Every character beyond U+FFFF as its two halves."""
    return "".join(
        c if c < "\U00010000" else chr(0xD7C0 + (ord(c) >> 10)) + chr(0xDC00 + (ord(c) & 0x3FF)) for c in text
    )


def joined(text: str) -> str:
    """The reference: from the left, one character at a time."""
    out: list[str] = []
    for c in text:
        if out and "\ud800" <= out[-1] <= "\udbff" and "\udc00" <= c <= "\udfff":
            out[-1] = chr(((ord(out[-1]) - 0xD7C0) << 10) + ord(c) - 0xDC00)
        else:
            out.append(c)
    return "".join(out)


TOKENIZERS = [BPETokenizer.train(TEXT, vocab_size=290), WordTokenizer.train(TEXT), CharTokenizer.train(TEXT)]
each = pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda tokenizer: tokenizer.kind)


@given(halves)
def test_halves_are_joined_from_the_left(text: str) -> None:
    assert join_halves(text) == joined(text) == join_halves(halved(text))


@each
@example(text=halved(TEXT))
@given(text=halves)
def test_halves_are_encoded_as_their_character(tokenizer: Tokenizer, text: str) -> None:
    for allowed in ("all", ()):
        assert tokenizer.encode(text, allowed) == tokenizer.encode(joined(text), allowed)
    if isinstance(tokenizer, BPETokenizer):
        assert tokenizer.decode(tokenizer.encode(text)) == joined(text)
        assert bpe.encode(text, tokenizer.ranks) == tokenizer.encode(text)
        assert tokenizer.encode_batch([text])[0].tolist() == tokenizer.encode(text)
        long = text + "x" * 10_000 + text  # longer texts take another way to their bytes
        assert tokenizer.encode(long) == tokenizer.encode(joined(long)) == bpe.encode(long, tokenizer.ranks)


@each
def test_learning_joins_halves(tokenizer: Tokenizer) -> None:
    for text in (halved(TEXT), [halved(TEXT)]):
        kind = type(tokenizer)
        again = kind.train(text, 290) if isinstance(tokenizer, BPETokenizer) else kind.train(text)  # type: ignore[attr-defined]
        assert again._state() == tokenizer._state()


def test_steps_of_a_word_and_special_tokens_of_halves() -> None:
    tokenizer = BPETokenizer.train(TEXT, vocab_size=290, special_tokens=["<|a|>", "🤖"])
    assert tokenizer.merge_steps(halved(" a𐐷")) == tokenizer.merge_steps(" a𐐷")
    assert tokenizer.encode(halved("a🤖a"), "all") == tokenizer.encode("a🤖a", {"🤖"})
    assert len(tokenizer.encode(halved("a🤖a"), "all")) == 3


@pytest.mark.parametrize(
    "tokenizer",
    [
        WordTokenizer([halved("a𐐷"), halved("😀"), "😀", "\ud83d"]),
        CharTokenizer(halved("a😀") + "\ud83d"),
        CharTokenizer(["a", halved("😀"), "😀", "\ud83d"]),
        BPETokenizer([], [halved("🤖"), "<|a|>"]),
        BPETokenizer([], {halved("🤖"): 300, "<|a|>": 256}),
    ],
    ids=lambda tokenizer: tokenizer.kind,
)
def test_halves_in_a_given_vocabulary_are_joined(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "t.json")
    again = Tokenizer.load(tmp_path / "t.json")
    assert again.special_tokens == tokenizer.special_tokens and again.vocab_size == tokenizer.vocab_size
    for text in ("a😀🤖a𐐷 \ud83d <|a|>", "🤖"):
        for given_text in (text, halved(text)):
            for allowed in ("all", ()):
                assert again.encode(text, allowed) == tokenizer.encode(given_text, allowed)


def test_halves_in_the_names_of_special_tokens_are_joined() -> None:
    tokenizer = BPETokenizer([], ["🤖"])
    assert tokenizer.encode("a🤖", {halved("🤖")}) == tokenizer.encode(halved("a🤖"), ["🤖"]) == [97, 256]
    with pytest.raises(TokenizerError, match="disallowed special token"):
        tokenizer.encode("a🤖", disallowed_special={halved("🤖")})
    for twice in (["🤖", halved("🤖")], {"🤖": 256, halved("🤖"): 257}):
        with pytest.raises(TokenizerError, match="given twice"):
            BPETokenizer([], twice)

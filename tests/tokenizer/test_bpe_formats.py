"""Other formats: we read the files that we write; the errors for damaged or hostile files name the fault."""

import base64
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.tokenizer import BPETokenizer, TokenizerError
from npgpt.tokenizer.bpe_formats import BYTE_TO_CHARACTER, HUGGING_FACE_PATTERNS

TOKENIZER = BPETokenizer.train("the theme of the thesis, the théâtre", 270)
TEXT = "the theme: theirs\n"


def ranks(tokens: list[bytes], first: int = 256) -> bytes:
    bytes_alone = [bytes([byte]) for byte in range(256)]
    lines = [*enumerate(bytes_alone), *enumerate(tokens, first)]
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in lines)


@pytest.mark.parametrize("name", ["a.tiktoken", "a.tiktoken.gz"])
def test_tiktoken(name: str, tmp_path: Path) -> None:
    TOKENIZER.to_tiktoken(tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(b"\x1f\x8b") == name.endswith(".gz")
    read = BPETokenizer.from_tiktoken(tmp_path / name, "gpt2", TOKENIZER.special_tokens)
    assert read.encode(TEXT) == TOKENIZER.encode(TEXT)
    assert np.array_equal(read.merges, TOKENIZER.merges)
    assert read.special_tokens == TOKENIZER.special_tokens


@pytest.mark.parametrize("pattern", [*HUGGING_FACE_PATTERNS, "none"])
def test_hugging_face(pattern: str, tmp_path: Path) -> None:
    tokenizer = BPETokenizer(TOKENIZER.merges, {"<|a|>": 300}, pattern)
    tokenizer.to_huggingface(tmp_path / "tokenizer.json")
    read = BPETokenizer.from_huggingface(tmp_path / "tokenizer.json")
    assert (read.pattern, read.special_tokens) == (pattern, {"<|a|>": 300})
    assert read.encode(TEXT) == tokenizer.encode(TEXT)
    assert np.array_equal(read.merges, TOKENIZER.merges)


def test_gpt2(tmp_path: Path) -> None:
    TOKENIZER.to_gpt2(tmp_path / "encoder.json", tmp_path / "vocab.bpe")
    read = BPETokenizer.from_gpt2(tmp_path / "encoder.json", tmp_path / "vocab.bpe")
    assert read.encode(TEXT) == TOKENIZER.encode(TEXT)
    assert np.array_equal(read.merges, TOKENIZER.merges)
    assert read.special_tokens == TOKENIZER.special_tokens


def test_vocabularies_that_ranks_cannot_represent_are_rejected(tmp_path: Path) -> None:
    # ab + c and a + bc: two tokens of the same bytes.
    with pytest.raises(TokenizerError, match="same bytes"):
        BPETokenizer([(97, 98), (98, 99), (256, 99), (97, 257)]).to_tiktoken(tmp_path / "x")
    # a + bc. But encoding abc merges ab first, so no rank can represent this merge.
    with pytest.raises(TokenizerError, match="cannot be made by merging|cannot represent that"):
        BPETokenizer([(97, 98), (98, 99), (97, 257)]).to_tiktoken(tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "byte 0x00 is missing"),
        (ranks([])[7:], "byte 0x00 is missing"),
        (b"!!!! 0\n", "line 1: expected a token in base64"),
        (b"AA== x\n", "line 1: expected"),
        (b"AA== -1\n", "line 1: expected"),
        (b"AA== 99999999999999999999\n", "line 1: expected"),
        (b"AA==\n", "line 1: expected"),
        (b"= 5\n", "line 1: expected"),
        (ranks([b"ab", b"ab"]), "line 258: token b'ab' is repeated"),
        (ranks([b"abc"]), "token b'abc' cannot be made"),
        (ranks([b"ab"], first=255), "id 255 is given to two tokens"),
        (ranks([b"ab"], first=1 << 28), "id 268435456 is out of range"),
        (gzip.compress(ranks([]), mtime=0)[:-20], "cut off|cannot be decompressed"),
        (gzip.compress(ranks([]), mtime=0)[:12] + b"\xff" * 50, "cannot be decompressed"),
        (gzip.compress(bytes(300 << 20), 1, mtime=0), "more than 256 MiB"),
        (b"\xff\xfe\x00", "line 1: expected"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_damaged_ranks(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "ranks"
    path.write_bytes(content)
    with pytest.raises(TokenizerError, match=message) as caught:
        BPETokenizer.from_tiktoken(path, "gpt2")
    if "id " not in message:
        assert str(path) in str(caught.value)


def test_an_unknown_file_name_needs_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "mine.tiktoken").write_bytes(ranks([]))
    with pytest.raises(TokenizerError, match="pattern='gpt2' or"):
        BPETokenizer.from_tiktoken(tmp_path / "mine.tiktoken")
    with pytest.raises(TokenizerError, match="did you mean gpt2"):
        BPETokenizer.from_tiktoken(tmp_path / "mine.tiktoken", "gpt3")
    (tmp_path / "cl100k_base.tiktoken").write_bytes(ranks([]))
    assert BPETokenizer.from_tiktoken(tmp_path / "cl100k_base.tiktoken").pattern == "cl100k_base"


def change(*keys: Any, to: Any) -> Callable[[Any], None]:
    def apply(data: Any) -> None:
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = to

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change("model", to=3), "is not a byte-pair model"),
        (change("model", "type", to="WordPiece"), "is not a byte-pair model"),
        (change("model", "byte_fallback", to=True), "byte_fallback"),
        (change("model", "dropout", to=0.1), "dropout"),
        (change("normalizer", to={"type": "NFC"}), "normalizer"),
        (change("model", "merges", to="a b"), "merges must be a list"),
        (change("model", "merges", 1, to="t"), "merge 1 must be two tokens"),
        (change("model", "merges", 1, to=[1, 2]), "merge 1 must be two tokens"),
        (change("model", "merges", 0, to=["zz", "z"]), "merge 0 has 'zz' and 'z', but no earlier merge makes 'zz'"),
        (change("model", "merges", 1, to=["t", "h"]), "merge 1 makes 'th', which exists already|merge 0 makes"),
        (change("model", "vocab", to=[1]), "must be an object"),
        (change("model", "vocab", "th", to="x"), "must be an object"),
        (change("model", "vocab", "th", to=5), "id 5 is given to two tokens"),
        (change("model", "vocab", "th", to=-5), "id -5 is out of range"),
        (change("model", "vocab", "zzzz", to=5000), "no merge makes the token 'zzzz'"),
        (change("added_tokens", 0, "id", to=0), "id 0 is given to two tokens"),
        (change("added_tokens", 0, "content", to=""), "no merge makes the token"),
        (change("added_tokens", 0, "lstrip", to=True), "lstrip"),
        (change("added_tokens", 0, to=None), "must have a content and an id"),
        (change("pre_tokenizer", to=None), "must end in ByteLevel"),
        (change("pre_tokenizer", "pretokenizers", to=[]), "must end in ByteLevel"),
        (change("pre_tokenizer", "pretokenizers", 1, "add_prefix_space", to=True), "add_prefix_space"),
        (change("pre_tokenizer", "pretokenizers", 0, "pattern", to={"Regex": "(a+)+$"}), "is unknown; known: gpt2"),
        (change("pre_tokenizer", "pretokenizers", 0, to={"type": "Digits"}), "is unknown; known: gpt2"),
        (change("pre_tokenizer", "pretokenizers", 0, "behavior", to="Removed"), "is unknown; known: gpt2"),
    ],
)
def test_damaged_tokenizer_json(damage: Callable[[Any], None], message: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    BPETokenizer(TOKENIZER.merges, pattern="o200k_base").to_huggingface(path)
    data = json.loads(path.read_text())
    damage(data)
    path.write_text(json.dumps(data))
    with pytest.raises(TokenizerError, match=message):
        BPETokenizer.from_huggingface(path)


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"\xff", b"[1]", b"null", b'{"model": null}'])
def test_invalid_json_is_rejected(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "encoder.json"
    TOKENIZER.to_gpt2(path, tmp_path / "vocab.bpe")
    path.write_bytes(content)
    says = f"{re.escape(str(path))}( is not |: the vocabulary must be | holds no byte-pair model)"
    with pytest.raises(TokenizerError, match=says):
        BPETokenizer.from_huggingface(path)
    with pytest.raises(TokenizerError, match=says):
        BPETokenizer.from_gpt2(path, tmp_path / "vocab.bpe")


def test_damaged_merges_of_gpt2(tmp_path: Path) -> None:
    TOKENIZER.to_gpt2(tmp_path / "encoder.json", tmp_path / "vocab.bpe")
    (tmp_path / "vocab.bpe").write_bytes(b"#version: 0.2\na b c\n")
    with pytest.raises(TokenizerError, match="merge 0 must be two tokens"):
        BPETokenizer.from_gpt2(tmp_path / "encoder.json", tmp_path / "vocab.bpe")


@given(st.binary(max_size=200), st.integers(0, 2000), st.integers(0, 2000))
def test_changed_bytes_load_or_give_a_clear_error(data: bytes, start: int, size: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x")
        for write, read in (
            (TOKENIZER.to_tiktoken, lambda path: BPETokenizer.from_tiktoken(path, "gpt2")),
            (TOKENIZER.to_huggingface, BPETokenizer.from_huggingface),
            (TOKENIZER.save, BPETokenizer.load),
        ):
            write(path)
            content = path.read_bytes()
            path.write_bytes(content[:start] + data + content[start + size :])
            try:
                tokenizer = read(path)
            except TokenizerError:
                continue
            assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


def test_merges_that_double_each_time_do_not_fill_the_memory() -> None:
    with pytest.raises(TokenizerError, match="more than 256 MiB"):
        BPETokenizer([(97, 97), *((256 + k, 256 + k) for k in range(60))])


def test_bytes_as_characters() -> None:
    assert len(set(BYTE_TO_CHARACTER.values())) == 256
    assert all(character.isprintable() and not character.isspace() for character in BYTE_TO_CHARACTER.values())


def test_ignore_merges_is_accepted_if_merging_gives_the_same(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    for merges, fits in (([(97, 98), (256, 99)], True), ([(97, 98), (98, 99), (97, 257)], False)):
        # In the second, merging never makes the token abc: it merges ab first.
        BPETokenizer(merges).to_huggingface(path)
        data = json.loads(path.read_text())
        data["model"]["ignore_merges"] = True
        path.write_text(json.dumps(data))
        if fits:
            assert BPETokenizer.from_huggingface(path).encode("abc") == [257]
        else:
            with pytest.raises(TokenizerError, match=r"tokenizer.json.*(cannot be made|ignore_merges)"):
                BPETokenizer.from_huggingface(path)

"""Vocabularies of Windows and compressors load with the same ids; hostile ones are refused in short sentences."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from npgpt.cli import main
from npgpt.errors import quote
from npgpt.support.json_files import MAX_VALUES
from npgpt.tokenizer import BPETokenizer, CharTokenizer, Tokenizer, TokenizerError, WordTokenizer, load_tokenizer
from npgpt.tokenizer.base import write_tokenizer_json

TEXT = "the theme of the thesis,\nthe théâtre\u0085\u2028 the"
TOKENIZER = BPETokenizer.train(TEXT, 270)

# Name of a format -> a maker of its file at a path, and its reader.
Format = tuple[Callable[[Path], None], Callable[[Path], Tokenizer]]


def to_gpt2(path: Path) -> None:
    TOKENIZER.to_gpt2(path.with_name("encoder.json"), path)


def to_encoder(path: Path) -> None:
    TOKENIZER.to_gpt2(path, path.with_name("vocab.bpe"))


FORMATS: dict[str, Format] = {
    "byte pairs": (TOKENIZER.save, load_tokenizer),
    "words": (WordTokenizer.train(TEXT).save, load_tokenizer),
    "characters": (CharTokenizer.train(TEXT).save, Tokenizer.load),
    "tokenizer.json": (TOKENIZER.to_huggingface, load_tokenizer),
    "ranks": (TOKENIZER.to_tiktoken, lambda path: BPETokenizer.from_tiktoken(path, "gpt2", TOKENIZER.special_tokens)),
    "merges.txt": (to_gpt2, lambda path: BPETokenizer.from_gpt2(path.with_name("encoder.json"), path)),
    "vocab.json": (to_encoder, lambda path: BPETokenizer.from_gpt2(path, path.with_name("vocab.bpe"))),
}
each = pytest.mark.parametrize(("write", "read"), FORMATS.values(), ids=FORMATS)

CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "byte-order mark": lambda data: b"\xef\xbb\xbf" + data,
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "CRLF at the end": lambda data: data + b"\r\n\r\n",
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "all": lambda data: gzip.compress(b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n")),
}


def same(one: Tokenizer, other: Tokenizer) -> bool:
    return one._state() == other._state()


@each
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_same_vocabulary_is_read(
    write: Callable[[Path], None], read: Callable[[Path], Tokenizer], change: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    write(path)
    expected = read(path)
    path.write_bytes(change(path.read_bytes()))
    assert same(read(path), expected)


@each
@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
def test_writers_compress_by_suffix(
    write: Callable[[Path], None], read: Callable[[Path], Tokenizer], suffix: str, tmp_path: Path
) -> None:
    write(tmp_path / "file")
    expected = read(tmp_path / "file")
    path = tmp_path / f"file{suffix}"
    write(path)
    packed = path.read_bytes()
    assert packed[:2] in (b"\x1f\x8b", b"BZ", b"\xfd7")
    assert same(read(path), expected)
    write(path)
    assert path.read_bytes() == packed


@pytest.mark.parametrize("name", ["gpt2.tiktoken.bz2", "gpt2.tiktoken.xz", "tokenizer.json", "x.json.gz"])
def test_load_tokenizer_reads_compressed_files(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    (TOKENIZER.to_tiktoken if "tiktoken" in name else TOKENIZER.save)(path)
    if name == "tokenizer.json":
        path.write_bytes(gzip.compress(path.read_bytes()))
        path = tmp_path
    assert load_tokenizer(path).encode(TEXT) == TOKENIZER.encode(TEXT)


def test_a_file_of_too_many_values_is_neither_read_nor_written(tmp_path: Path) -> None:
    path = tmp_path / "t.json.gz"
    text = f"[{'[],' * (MAX_VALUES + 2)}1]"
    path.write_bytes(gzip.compress(text.encode(), 1))
    for read in (load_tokenizer, Tokenizer.load, BPETokenizer.from_huggingface):
        with pytest.raises(TokenizerError, match=r"t\.json\.gz.* more than 4,000,000 values"):
            read(path)
    with pytest.raises(TokenizerError, match=r"t\.json\.gz would have more than 4,000,000 values"):
        write_tokenizer_json(path, text)


def test_a_file_of_ours_is_known_in_any_order_of_fields(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path / "x")
    state = json.loads((tmp_path / "x").read_bytes())
    (tmp_path / "x").write_text(json.dumps(dict(sorted(state.items(), reverse=True)), indent=4))
    assert same(load_tokenizer(tmp_path / "x"), TOKENIZER)


def test_training_texts_may_be_compressed(tmp_path: Path) -> None:
    texts = {"plain": TEXT.encode(), "windows": b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode()}
    texts["packed"] = gzip.compress(texts["windows"])
    for name, data in texts.items():
        (tmp_path / name).write_bytes(data)
        out = str(tmp_path / f"{name}.json.xz")
        assert main(["tokenize", "train", str(tmp_path / name), "--vocab-size", "270", "--out", out]) == 0
        assert same(load_tokenizer(out), TOKENIZER)


SHORT = 400
HUGE = "\x1b[31m\u202e" + "x" * 10**6


def refusal(path: Path, read: Callable[[Path], Tokenizer] = load_tokenizer) -> str:
    with pytest.raises(TokenizerError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    message = message.removeprefix(str(path))
    assert len(message) < SHORT
    assert "\x1b" not in message
    return message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"words": [HUGE, HUGE]}, "more than once"),
        ({"words": [f"w{k}" for k in range(300_000)] + ["w7"]}, "words has 'w7' more than once"),
        ({"words": ["x"] * 300_000}, "words has 'x' more than once"),
        ({"words": [HUGE, 1]}, "must be a list of strings"),
        ({"words": HUGE}, "must be a list of strings"),
        ({"words": None}, "must be a list of strings"),
        ({"kind": HUGE}, "of tokenizer is unknown"),
        ({"kind": "char", "characters": [HUGE]}, "the field 'words' of a CharTokenizer is unknown"),
        ({"version": 10**30}, "has version 1000"),
        ({"version": HUGE}, "has version"),
        ({"format": HUGE}, '"format"'),
        ({"idss": []}, "the field 'idss' of a WordTokenizer is unknown"),
        ({HUGE: []}, "of a WordTokenizer is unknown"),
    ],
)
def test_hostile_words_are_refused_in_a_short_sentence(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    WordTokenizer.train(TEXT).save(tmp_path / "x")
    (tmp_path / "x").write_text(json.dumps(json.loads((tmp_path / "x").read_text()) | change))
    assert message in refusal(tmp_path / "x")


@pytest.mark.parametrize("character", ["", "ab", HUGE], ids=quote)
def test_a_character_is_one_character(character: str, tmp_path: Path) -> None:
    state = {"format": "npgpt-tokenizer", "version": 1, "kind": "char", "characters": ["a", character]}
    (tmp_path / "x").write_text(json.dumps(state))
    assert "is not one character" in refusal(tmp_path / "x")


NUMBERS = ["1" * 5000, "1" * 31, "18446744073709551616", "9223372036854775808", "-1", "1.0", "1e3", "NaN", "-Infinity"]
NUMBERS += ["true", "null", '"1"', "[1]", '{"1":1}', json.dumps(HUGE)]


@pytest.mark.parametrize("number", NUMBERS, ids=quote)
def test_numbers_that_are_no_ids_are_refused_everywhere(number: str, tmp_path: Path) -> None:
    gapped = BPETokenizer(TOKENIZER.merges, {"<|a|>": 900}, ids=TOKENIZER.ids + 7)
    gapped.counts = [1000 + k for k in range(len(gapped.merges))]
    gapped.save(tmp_path / "x")
    text = (tmp_path / "x").read_text()
    for place in ("[116,104]", '"ids":[7', ",900]", "[1000,"):
        assert place in text
        old = place.strip('"ids:[],').split(",")[0]
        (tmp_path / "x").write_text(text.replace(place, place.replace(old, number), 1))
        if place != "[1000," or number != "-1":  # a count
            refusal(tmp_path / "x")
    gapped.to_huggingface(tmp_path / "x")
    text = (tmp_path / "x").read_text()
    for place in ('"id": 900', '"A": 72', '"<|a|>": 900'):
        assert place in text
        (tmp_path / "x").write_text(text.replace(place, f"{place.split(': ')[0]}: {number}", 1))
        refusal(tmp_path / "x")


@pytest.mark.parametrize("change", [{"merges": [[HUGE, 1]]}, {"merges": [[97, 98], HUGE]}, {"merges": [[[1], [2, 3]]]}])
def test_hostile_merges_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path / "x")
    (tmp_path / "x").write_text(json.dumps(json.loads((tmp_path / "x").read_text()) | change))
    assert "must be two ids" in refusal(tmp_path / "x")


@pytest.mark.parametrize(
    "line", [HUGE, "t " + HUGE, HUGE + " t", "t h", "t  h", "t\u0085h", "t\u2028 h", "t", "th e x", "Ġ \0"], ids=quote
)
def test_hostile_lines_of_merges_are_refused(line: str, tmp_path: Path) -> None:
    to_gpt2(tmp_path / "vocab.bpe")
    with (tmp_path / "vocab.bpe").open("a", encoding="utf-8") as file:
        file.write(line)
    refusal(tmp_path / "vocab.bpe", FORMATS["merges.txt"][1])


@pytest.mark.parametrize(
    "line", [HUGE, "AA== " + HUGE, "AA== " + "1" * 5000, "AA== 1 1", "QUE= 1e9", "QUE=1", "QUE 5"], ids=quote
)
def test_hostile_ranks_are_refused(line: str, tmp_path: Path) -> None:
    path = tmp_path / "gpt2.tiktoken"
    TOKENIZER.to_tiktoken(path)
    with path.open("a", encoding="utf-8") as file:
        file.write(line)
    n_lines = 256 + len(TOKENIZER.merges) + 1
    assert f", line {n_lines}: expected" in refusal(path)


@pytest.mark.parametrize(
    "call",
    [
        lambda: BPETokenizer([], ids=[10**30] * 256),
        lambda: BPETokenizer([], ids=[0.5] * 256),
        lambda: BPETokenizer([], ids=[[1], [2, 3]]),
        lambda: BPETokenizer([], {"x": 10**5000}),
        lambda: BPETokenizer([], {"x": 300.0}),
        lambda: BPETokenizer([], {"x": "300"}),
        lambda: BPETokenizer([], {HUGE: 300}),
        lambda: BPETokenizer([], {HUGE[:900]: 300, HUGE[:901]: 301}),
        lambda: BPETokenizer([], map(str, range(100_000))),
        lambda: BPETokenizer([], [HUGE, HUGE]),
        lambda: BPETokenizer([], [5]),
        lambda: BPETokenizer([(97, 10**30)]),
        lambda: BPETokenizer([(97, 98.5)]),
        lambda: BPETokenizer([(97, 98, 99), (1, 2, 3)]),
        lambda: BPETokenizer([], pattern=HUGE),
        lambda: TOKENIZER.decode([10**5000]),
        lambda: TOKENIZER.decode([97, "98"]),
        lambda: TOKENIZER.decode([[97], [98, 99]]),
        lambda: WordTokenizer(["a"]).decode([10**30]),
        lambda: WordTokenizer(["a"]).decode([0.5]),
        lambda: CharTokenizer(["a"]).decode([HUGE]),
        lambda: TOKENIZER.encode("", allowed_special={HUGE}),
        lambda: BPETokenizer([], [f"<{k}>" for k in range(999)]).encode("", allowed_special={"x"}),
        lambda: BPETokenizer([], [HUGE[:900]]).encode(HUGE, disallowed_special="all"),
        lambda: TOKENIZER.merge_steps(HUGE),
        lambda: TOKENIZER.train("x", vocab_size=-(10**5000)),
        lambda: WordTokenizer.train("x", vocab_size=-(10**5000)),
    ],
)
def test_values_that_cannot_be_used_are_refused_in_a_short_sentence(call: Callable[[], object]) -> None:
    with pytest.raises(TokenizerError) as caught:
        call()
    assert len(str(caught.value)) < SHORT
    assert "\x1b" not in str(caught.value)


def test_the_command_line_shows_no_control_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "\x1b[31mx"
    state = {"format": "npgpt-tokenizer", "version": 1, "kind": "word", "words": ["\x1b[31m", "a"]}
    path.write_text(json.dumps(state))
    for arguments in (["show", "a \x1b[31m"], ["encode", "a"], ["merges", "a"], ["decode", "9"], ["decode", "1"]):
        main(["tokenize", *arguments, "--vocab", str(path)])
    main(["tokenize", "train", str(path), "--out", str(path), "--tokenizer", "word", "--overwrite"])
    path.write_text(json.dumps(state | {"kind": "\x1b[31m"}))
    main(["tokenize", "encode", "a", "--vocab", str(path)])
    shown = capsys.readouterr()
    assert "\\x1b[31mx" in shown.out
    assert "\x1b" not in shown.out + shown.err

"""Files of word vectors: we read the files that we write, to the last bit; damaged or hostile files are rejected."""

import gzip
import io
import os
import pickle
import re
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from npgpt.cli import main
from npgpt.core import Array
from npgpt.embeddings.formats import FORMATS, LONGEST_LINE, is_vectors, load_vectors, save_vectors
from npgpt.embeddings.vectors import WordVectors
from npgpt.errors import ConfigError, DataError, NpgptError

TABLE = WordVectors(
    ["king", "東京", "don't", "a,b"], [[0.1, -2.5], [1e-45, 3.4e38], [-0.0, 7.038531e-26], [1, 16777216]]
)
SPACES = " \t\n\v\f\r"
numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def tables(draw: st.DrawFn, exclude: str = "", surrogates: bool = True) -> WordVectors:
    letters = st.characters(exclude_characters=exclude, exclude_categories=[] if surrogates else ["Cs"])
    words = draw(st.lists(st.text(letters, min_size=0 if surrogates else 1), min_size=1, max_size=6, unique=True))
    shape = len(words), draw(st.integers(1, 5))
    return WordVectors(words, draw(nps.arrays(np.float32, shape, elements=numbers)))


def same_bits(a: WordVectors, b: WordVectors) -> bool:
    return a.words == b.words and a.vectors.tobytes() == b.vectors.tobytes()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one file for all examples of hypothesis."""
    return tmp_path_factory.mktemp("formats") / "vectors"


@pytest.mark.parametrize("kind", ["word2vec", "binary", "glove"])
@example(table=TABLE)
@example(table=WordVectors(["1", "2"], [[1], [2]]))
@example(table=WordVectors(["x"], np.frombuffer(b"1.25", np.float32)[None]))
@example(table=WordVectors(["x"], np.frombuffer(b"AAAA", np.float32)[None]))
@given(table=tables(exclude=SPACES, surrogates=False))
def test_any_word_without_spaces_and_any_number_survive(place: Path, kind: str, table: WordVectors) -> None:
    try:
        save_vectors(table, place, kind)
    except DataError as error:  # the two that would be taken for another format
        taken = {"glove": "would be taken for a count; use word2vec", "binary": "would be taken for text; use npz"}
        assert table.width == 1 and str(error).endswith(taken[kind])
        first = table.words[0].encode() if kind == "glove" else table.vectors[0].tobytes()
        assert re.search(rb"\d|inf|nan", first, re.IGNORECASE)
        return
    assert is_vectors(place)
    assert same_bits(load_vectors(place), table)


@example(table=WordVectors(["", "\0", "a\0", "\ud800", "\n", " "], np.zeros((6, 1))))
@given(table=tables())
def test_npz_stores_any_word(place: Path, table: WordVectors) -> None:
    save_vectors(table, place, "npz")
    assert same_bits(load_vectors(place), table)


@given(bits=nps.arrays(np.uint32, 300))
def test_every_float32_survives_as_digits(place: Path, bits: Array) -> None:
    drawn = bits.view(np.float32)
    drawn = drawn[np.isfinite(drawn)][:, None]
    if len(drawn):
        table = WordVectors([f"w{i}" for i in range(len(drawn))], drawn)
        save_vectors(table, place, "word2vec")
        assert same_bits(load_vectors(place), table)


@pytest.mark.parametrize("kind", ["word2vec", "binary", "glove"])
@pytest.mark.parametrize("word", ["two words", "a\tb", "line\n", "\r", "", "\ud800"])
def test_words_with_spaces_are_rejected_where_a_space_ends_a_word(kind: str, word: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{kind} cannot store it; use npz"):
        save_vectors(WordVectors(["a", word], np.ones((2, 2))), tmp_path / "x", kind)
    assert not (tmp_path / "x").exists()


def test_files_equal_those_of_other_programs(tmp_path: Path) -> None:
    table = WordVectors(["the", "é"], [[0.418, -1], [0.1, 3]])
    for name, kind in (("a.txt", None), ("a.bin", None), ("glove.txt", "glove"), ("a.npz", None)):
        save_vectors(table, tmp_path / name, kind)
    assert (tmp_path / "a.txt").read_bytes() == "2 2\nthe 0.418 -1\né 0.1 3\n".encode()
    assert (tmp_path / "glove.txt").read_bytes() == "the 0.418 -1\né 0.1 3\n".encode()
    rows = [struct.pack("<2f", *row) for row in ([0.418, -1], [0.1, 3])]
    assert (tmp_path / "a.bin").read_bytes() == b"2 2\nthe " + rows[0] + b"\n\xc3\xa9 " + rows[1] + b"\n"
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert arrays["text"].tobytes() == b"the\xc3\xa9" and arrays["ends"].tolist() == [3, 5]
    (tmp_path / "gensim.bin").write_bytes(b"2 2\nthe " + rows[0] + b"\xc3\xa9 " + rows[1])  # no line ends
    (tmp_path / "c.txt").write_bytes(b"2 2\r\nthe 0.418 -1 \r\n\n\xc3\xa9 1e-1 3 \n")
    assert all(same_bits(load_vectors(tmp_path / name), table) for name in ("gensim.bin", "c.txt"))


def test_words_with_spaces_in_glove_are_read(tmp_path: Path) -> None:
    (tmp_path / "g").write_text("a 1 2\n. . . 3 4\nat x@y.z 5 6\n")
    assert load_vectors(tmp_path / "g").words == ["a", ". . .", "at x@y.z"]


@pytest.mark.parametrize("content", [b"a 1\nb 2\na 3\n", b"3 1\na 1\nb 2\na 3\n", b"3 1\na \0\0\x80?b \0\0\0@a \0\0@@"])
def test_a_repeated_word_keeps_its_first_vector(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "g").write_bytes(content)
    with pytest.warns(UserWarning, match="1 words are repeated"):
        assert load_vectors(tmp_path / "g").vectors.tolist() == [[1], [2]]


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def with_header(shape: str, kind: str = "'<f4'", version: bytes = b"\x01\0") -> bytes:
    """Return an npz whose array of vectors has a wrong shape or dtype in its header."""
    header = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("vectors.npy", b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + bytes(8))
    return file.getvalue()


def archive(arrays: dict[str, Array], method: int = zipfile.ZIP_STORED, twice: str = "") -> bytes:
    """Return an archive of .npy files as any program may write it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name twice
        for name in [*arrays, *([twice] if twice else [])]:
            member = io.BytesIO()
            np.save(member, arrays[name])
            made.writestr(f"{name}.npy", member.getvalue())
    return file.getvalue()


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/npgpt-was-here",)


GOOD = {"vectors": np.ones((2, 2), np.float32), "text": np.frombuffer(b"ab", np.uint8), "ends": np.array([1, 2])}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\t\n \n", "has only white space"),
        (gzip.compress(b"1 1\na 1\n", mtime=0)[:-1], "is cut off: its compressed data is incomplete"),
        (b"9" * 5000 + b" 300\n", "line 1: it counts 99999999999999999999 words of 300 numbers; expected at least 1"),
        (b"-1 3\n", "line 1: it counts -1 words"),
        ("2 2\na 1 2\n".encode("utf-16"), "is UTF-16; convert it first"),
        (b"a" * (LONGEST_LINE + 1) + b" 1\n", "line 1 has more than 4,194,304 bytes"),
        (b"a 1\n" + b"\n" * 10_001, "line 10002: there are more than 10,000 empty lines in a row"),
        (b"b 1\n" + b"a 1\n" * 100_010, "line 100005: most words are repeated"),
        (b"a 1 2\n" + b"x" * 10**6 + b" 1\n", "line 2: expected a word and 2 numbers"),
        (b"<html>\n", "line 1: expected a word and some numbers, found 1 parts"),
        (b"a 1 2\nb 1\n", "line 2: expected a word and 2 numbers, found 2 parts"),
        (b"a 1 2\nb 1 2 3\n", "line 2: expected a word and 2 numbers, found 4 parts"),
        (b"a 1 2\nb 1 x\n", "line 2: expected a word and 2 numbers, found b'b 1 x"),
        (b"a 1 2\nb 1 1_0\n", "line 2: expected a word and 2 numbers, found b'b 1 1_0"),
        (b"1 2\na 1 1_0\n", "line 2: expected a word and 2 numbers, found b'a 1 1_0"),
        (b"a 1_0\n", "line 1: expected"),
        (b"a 1 2\nb 1 nan\n", "line 2: a number is infinite or NaN"),
        (b"a 1 2\nb 1e39 1\n", "line 2: a number is infinite or NaN, or too large"),
        (b"a 1 2\n 1 2\n", "line 2: there is no word"),
        (b"a 1 2\n\xff\xfe 1 2\n", "line 2: the word .* is not UTF-8, at its byte 0"),
        (b"2 2\na 1 2\n", "ends after 1 of 2 words: it is cut off"),
        (b"1 2\na 1 2\nb 1 2\n", "line 3: there are more than the 1 words of line 1"),
        (b"2 2\na 1 2\nb 1\n", "line 3: expected a word and 2 numbers, found 2 parts"),
        (b"2 2\na 1 x\nb 1 2\n", "line 2: expected a word and 2 numbers, found b'a 1 x"),
        (b"0 5\n", "line 1: it counts 0 words of 5 numbers"),
        (b"5 0\na\n", "line 1: it counts 5 words of 0 numbers"),
        (b"999999999999999 999999999\n\x01", "more than the file's 27 bytes: it is cut off"),
        (b"999999999999999 9\na 1 2 3 4 5 6 7 8 9\n", "ends after 1 of 999,999,999,999,999 words"),
        (b"1 1\n\xff\xff \0\0\0\0", "byte 4: the word .* is not UTF-8"),
        (b"1 1\na \0\0\xc0\x7f", "byte 6: a number of word 1 is infinite or NaN"),
        (b"2 1\na \0\0\0\0bbbbbbbb", "byte 10: it is cut off in word 2 of 2"),
        (b"1 1\na \0\0\0\0b \0\0\0\0", "byte 10: there is more than the 1 words"),
        (b"PK\x03\x04" + bytes(50), "is damaged"),
        (npz(**GOOD)[:-40], "is damaged"),
        (npz(vectors=np.ones((2, 2))), "expected the arrays vectors, text, ends"),
        (npz(**GOOD | {"vectors": np.ones(4)}), r"'vectors' is float64 \(4,\)"),
        (npz(**GOOD | {"vectors": np.array([["x", "y"]])}), "'vectors' is <U1"),
        (npz(**GOOD | {"ends": np.array([2, 1])}), "'ends' does not divide"),
        (npz(**GOOD | {"ends": np.array([1, 3])}), "'ends' does not divide the 2 bytes"),
        (npz(**GOOD | {"ends": np.array([2])}), "expected .V, C."),
        (npz(**GOOD | {"text": np.frombuffer(b"a\xff", np.uint8)}), "is not UTF-8"),
        (npz(**GOOD | {"text": np.frombuffer(b"aa", np.uint8)}), "'a' occurs more than once"),
        (npz(**GOOD | {"vectors": np.full((2, 2), np.nan)}), "'a' has a number that is infinite"),
        (npz(**GOOD | {"more": np.ones(1)}), "'more' is unknown"),
        (npz(**GOOD | {"vectors": np.array([[Evil(), 1]], object)}), "is damaged: Object arrays cannot be loaded"),
        (with_header("(1000000, 1000000)"), "is damaged"),
        (with_header("(-5, 2)"), "is damaged|expected"),
        (with_header("(10**30,)"), "'vectors' is damaged: its header is"),
        (with_header(f"({10**30},)"), "'vectors' is damaged: its header is"),
        (with_header(f"({'9' * 5000},)"), "'vectors' is damaged: its header is"),
        (with_header("(" * 300 + ")" * 300), "'vectors' is damaged: its header is"),
        (with_header("(" + "1, " * 99 + ")"), "'vectors' is damaged: its header is"),
        (with_header("(1, 2)", "('<f4',)"), "expected integers or floats"),
        (with_header("(1, 2)", "{[]: 1}"), "'vectors' is damaged: its header is"),
        (with_header("(1, 2)", "'''"), "'vectors' is damaged: its header is"),
        (with_header("(1, 2)", "'<f4,<f4'"), "expected integers or floats"),
        (with_header("(1, 2)", version=b"\x03\0"), "not a .npy of version 1 or 2"),
        (archive(GOOD | {"/text": GOOD["text"]}), "the array '/text' is unknown"),
        (archive(GOOD, zipfile.ZIP_LZMA), "is compressed by an unknown method"),
        (archive(GOOD, zipfile.ZIP_DEFLATED).replace(struct.pack("<I", 130), struct.pack("<I", 2**31)), "counts 2,147"),
        (archive(GOOD, twice="text"), "has an array twice"),
        (pickle.dumps(Evil()), "line 1: expected"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_damaged_and_hostile_files_are_rejected(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_vectors(path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < len(str(path)) + 300
    assert not Path("/tmp/npgpt-was-here").exists()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz"])
def test_the_suffix_of_a_file_compresses_it(kind: str, suffix: str, tmp_path: Path) -> None:
    plain = {"npz": "v.npz", "binary": "v.bin"}.get(kind, "v.txt")
    path = tmp_path / f"{plain}{suffix}"
    save_vectors(TABLE, path, None if plain != "v.txt" else kind)
    mark = {"": b"", ".gz": b"\x1f\x8b", ".bz2": b"BZh", ".xz": b"\xfd7zXZ"}[suffix]
    assert path.read_bytes().startswith(mark) and is_vectors(path) and same_bits(load_vectors(path), TABLE)
    path.rename(tmp_path / "any name")
    assert same_bits(load_vectors(tmp_path / "any name"), TABLE)


@pytest.mark.parametrize("kind", ["word2vec", "glove"])
def test_a_text_of_windows_is_read(kind: str, tmp_path: Path) -> None:
    save_vectors(TABLE, tmp_path / "v", kind)
    text = (tmp_path / "v").read_bytes().replace(b"\n", b"\r\n")
    (tmp_path / "v").write_bytes(b"\xef\xbb\xbf" + text)
    assert is_vectors(tmp_path / "v") and same_bits(load_vectors(tmp_path / "v"), TABLE)


@pytest.mark.parametrize("word", ["\ufeffa", "PK\x03\x04", "BZh91AY&SY"])
def test_no_first_word_makes_glove_look_like_another_file(word: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="would be taken for a mark; use word2vec"):
        save_vectors(WordVectors([word], np.ones((1, 2))), tmp_path / "v", "glove")
    save_vectors(WordVectors([word], np.ones((1, 2))), tmp_path / "v")
    assert load_vectors(tmp_path / "v").words == [word]


@pytest.mark.parametrize("first", [b"", b"1000000000 300\n", b"5 3\na"])
def test_a_file_of_ten_gigabytes_is_refused_by_its_beginning(first: bytes, tmp_path: Path) -> None:
    (tmp_path / "v").write_bytes(first)
    os.truncate(tmp_path / "v", 10**10)  # NULs that take no place on the disk
    tracemalloc.start()
    with pytest.raises(DataError, match="v.*(has more than|it is cut off)"):
        load_vectors(tmp_path / "v")
    assert tracemalloc.get_traced_memory()[1] < 10 * LONGEST_LINE
    tracemalloc.stop()


def test_arrays_of_other_programs_are_read(tmp_path: Path) -> None:
    vectors = np.asfortranarray(TABLE.vectors.astype(">f8"))
    text, ends = "".join(TABLE.words).encode(), np.cumsum([len(word.encode()) for word in TABLE.words], dtype=">i4")
    made = archive({"vectors": vectors, "text": np.frombuffer(text, np.uint8), "ends": ends}, zipfile.ZIP_DEFLATED)
    (tmp_path / "v").write_bytes(made)
    found = load_vectors(tmp_path / "v")
    assert same_bits(found, TABLE) and found.vectors.flags.writeable
    (tmp_path / "v").write_bytes(made.replace(b"PK\x01\x02\x14\x03\x14\0\0\0", b"PK\x01\x02\x14\x03\x14\0\1\0"))
    with pytest.raises(DataError, match="is damaged: File .*vectors.npy.* is encrypted"):
        load_vectors(tmp_path / "v")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_cut_off_file_is_rejected(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    save_vectors(TABLE, path, kind)
    data = path.read_bytes()
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                read = load_vectors(path)
            except DataError as error:
                assert str(path) in str(error)
                continue
        # Two cuts cannot be seen: at a line end in glove, which has no count; of the last line end in binary.
        whole = kind == "binary" and size == len(data) - 1 and same_bits(read, TABLE)
        assert whole or said or (kind == "glove" and data[:size].endswith(b"\n"))


@pytest.mark.parametrize("kind", FORMATS)
@given(data=st.data())
def test_changed_bytes_give_a_table_or_a_clear_error(place: Path, kind: str, data: st.DataObject) -> None:
    save_vectors(TABLE, place, kind)
    content = bytearray(place.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    place.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            load_vectors(place)
        except NpgptError as error:
            assert str(place) in str(error)


@given(content=st.binary(min_size=1) | st.text(st.sampled_from("12 ab.\n"), min_size=1).map(str.encode))
def test_any_bytes_give_a_table_or_a_clear_error(place: Path, content: bytes) -> None:
    place.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            load_vectors(place)
        except NpgptError as error:
            assert str(place) in str(error)


@pytest.mark.parametrize(
    "content", [b"", "a 1\n".encode("utf-16"), gzip.compress(b"a 1\n", mtime=0)[:12], b"Dear diary\n"]
)
def test_other_files_are_no_vectors(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    assert not is_vectors(tmp_path / "x")


def test_unknown_formats_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'word2vek' is unknown; did you mean word2vec"):
        save_vectors(TABLE, tmp_path / "x", "word2vek")
    with pytest.raises(DataError, match=r"must contain one .npy and one .parquet"):
        load_vectors(tmp_path)


def test_convert_writes_every_format_and_replaces_only_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_vectors(TABLE, "v.txt")
    convert = ["vectors", "convert", "--vectors", "v.txt", "--out"]
    for name, flags in (("a.bin", []), ("a.npz", []), ("g.txt", ["--format", "glove"])):
        assert main([*convert, name, *flags]) == 0
        assert same_bits(load_vectors(name), TABLE)
    assert not Path("g.txt").read_text().startswith("4 2")
    Path("diary.txt").write_text("Dear diary\n")
    for out, flags, message in (
        ("a.bin", [], "exists already"),
        ("diary.txt", ["--overwrite"], "not replaced"),
        ("no/x.txt", [], "folder"),
    ):
        assert main([*convert, out, *flags]) == 2
        assert message in capsys.readouterr().err
    assert main([*convert, "a.bin", "--overwrite"]) == 0
    assert Path("diary.txt").read_text() == "Dear diary\n"

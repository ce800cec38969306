"""Texts and compressed files: read as they are, refused by place, in linear time."""

import bz2
import gzip
import itertools
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.errors import DataError
from npgpt.support import files
from npgpt.support.compressed import packed_for, read_bytes
from npgpt.support.files import read_parts, read_text

PACKERS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
each = pytest.mark.parametrize("suffix", PACKERS)


@each
def test_compressed_files_are_read_whatever_their_names_are(suffix: str, tmp_path: Path) -> None:
    pack = PACKERS[suffix]
    path = tmp_path / "text"
    text = "".join(f"line {k}\n" for k in range(9999))
    path.write_bytes(pack(b"\xef\xbb\xbf" + text[:5000].encode()) + pack(text[5000:].encode()))  # two streams
    assert read_text(path) == "".join(read_parts(path, 999)) == text
    path.write_bytes(pack(b""))
    assert read_bytes(path) == b""


@each
def test_packing_is_deterministic_and_by_suffix(suffix: str) -> None:
    packed = packed_for(f"x{suffix.upper()}", b"abc")
    assert packed == packed_for(f"y{suffix}", b"abc") != b"abc"
    assert packed[4:8] == bytes(4) or suffix != ".gz"  # the time
    assert packed_for("x.txt", b"abc") == b"abc"


@each
def test_damaged_compressed_files_are_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "text"
    content = bytes(range(256)) * 99
    packed = PACKERS[suffix](content)
    damaged = [packed[:-1], packed[: len(packed) // 2], packed + b"x", packed + packed[:-1]]
    damaged += [packed[:k] + bytes([packed[k] ^ 16]) + packed[k + 1 :] for k in range(10, len(packed))]
    for data in damaged:
        path.write_bytes(data)
        try:
            assert read_bytes(path) == content  # a bit that says nothing about the content: a time, a name
        except DataError as error:
            assert str(path) in str(error)
    with pytest.raises(DataError, match="cut off"):
        path.write_bytes(packed[:-1])
        read_bytes(path)


@each
def test_a_small_file_cannot_fill_the_memory(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(PACKERS[suffix](bytes(3 << 20)))
    with pytest.raises(DataError, match="more than 2 MiB"):
        read_bytes(path, 2 << 20)
    with pytest.raises(DataError, match="NUL at character 0"):
        next(read_parts(path))


def test_xz_may_not_ask_for_any_memory(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(lzma.compress(b"abc", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29}]))
    with pytest.raises(DataError, match="cannot be decompressed: Memory usage limit"):
        read_bytes(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("é".encode("latin1"), "byte 0xe9 at offset 0"),
        (b"\xef\xbb\xbfab\r\n\xe9", "byte 0xe9 at offset 7"),
        (b"ab\xc3", "byte 0xc3 at offset 2"),
        (b"abcd\0", "NUL at character 4"),
        ("é\0".encode(), "NUL at character 1"),
        ("abc".encode("utf-16"), "is UTF-16"),
        ("abc".encode("utf-16-be"), "NUL at character 0"),
    ],
)
def test_what_is_no_text_is_refused_by_place(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(content)
    for read in (read_text, lambda path: list(read_parts(path, 3)), lambda path: list(read_parts(path))):
        with pytest.raises(DataError, match=message):
            read(path)


CHARACTERS = st.text(st.sampled_from("ab/ \r\n\n\u2028\x85é🙂\ufeff"))


@given(CHARACTERS, st.integers(1, 9))
def test_parts_joined_are_the_text_and_end_at_safe_cuts(text: str, size: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "text")
        path.write_bytes(text.encode())
        parts = list(read_parts(path, size))
        expected = read_text(path)
    assert "".join(parts) == expected
    for before, after in itertools.pairwise(parts):
        assert before[-1] == "\n"
        assert not before[-2].isspace()
        assert not after[0].isspace()
        assert after[0] != "/"


def test_a_text_of_one_line_is_searched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searched = []

    class Pattern:
        def search(self, text: str) -> None:
            searched.append(len(text))

    monkeypatch.setattr(files, "_LAST_SAFE_CUT", Pattern())
    (tmp_path / "text").write_bytes(b"word " * 10_000)
    assert sum(map(len, read_parts(tmp_path / "text", 100))) == 50_000
    assert sum(searched) < 52_000

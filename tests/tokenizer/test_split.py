"""The splitter against the regular expressions, and its windows against single pieces."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.tokenizer.bpe import encode_utf8
from npgpt.tokenizer.kernels.cache import BLOCK
from npgpt.tokenizer.kernels.numbers import PATTERNS
from npgpt.tokenizer.kernels.split import next_piece, split
from npgpt.tokenizer.patterns import SOURCES, class_table, compiled, unicode_classes

patterns = pytest.mark.parametrize("pattern", SOURCES)

# All kinds of characters that the patterns distinguish, in any order; long enough for several windows of 64 bytes.
ATOMS = [*" \n\r\t\x0b'sdmtlvreSDLVRE/.,!ab1\x1c\x00ſéÉǅʰ中\u0301\u3000\u0085\u00a0٣Ⅷ²😀\ud800яЯ𐐀"]
ATOMS += [
    "'s",
    "'ll",
    "'RE",
    "'ſ",
    "  ",
    "\n  ",
    "    \n",
    " \n \n ",
    "word",
    "Word",
    "HTML",
    "camelCase",
    "1234567",
    "//",
]
some_text = st.lists(st.sampled_from(ATOMS), max_size=150).map("".join)
ascii_text = st.lists(st.sampled_from([atom for atom in ATOMS if atom.isascii()]), max_size=150).map("".join)


def pieces(data: bytes, pattern: str, room: int = BLOCK) -> list[bytes]:
    text = np.frombuffer(data, np.uint8)
    found, at = [], 0
    ends = np.empty(room, np.int64)
    while at < len(data):
        n = split(text, at, PATTERNS.index(pattern), class_table(), ends)
        for end in ends[:n].tolist():
            found.append(data[at:end])
            at = end
    return found


def plain_pieces(data: bytes, pattern: str) -> list[bytes]:
    text = np.frombuffer(data, np.uint8)
    found, at = [], 0
    while at < len(data):
        end = next_piece(text, at, PATTERNS.index(pattern), class_table())
        found.append(data[at:end])
        at = end
    return found


@patterns
@given(text=some_text | ascii_text | st.text(st.characters()))
def test_pieces_equal_the_regular_expressions(pattern: str, text: str) -> None:
    assert pieces(encode_utf8(text), pattern) == [encode_utf8(piece) for piece in compiled(pattern).findall(text)]


@patterns
@given(data=st.binary(max_size=300) | some_text.map(lambda text: encode_utf8(text)[1:-1]))
def test_windows_and_single_pieces_agree_on_any_bytes(pattern: str, data: bytes) -> None:
    found = pieces(data, pattern)
    assert b"".join(found) == data
    assert found == plain_pieces(data, pattern)


@patterns
def test_characters_at_the_limits_of_a_class(pattern: str) -> None:
    """Each alone between letters, after an apostrophe and before a space."""
    edges = {edge for ranges in unicode_classes().values() for run in ranges for edge in (run[0] - 1, *run, run[1] + 1)}
    characters = [chr(code) for code in sorted(edges) if 0 <= code < 0x110000]
    for k in range(0, len(characters), 200):  # short parts show the place of a difference
        text = "".join(f"{character}a'{character} " for character in characters[k : k + 200])
        expected = [encode_utf8(piece) for piece in compiled(pattern).findall(text)]
        assert pieces(encode_utf8(text), pattern) == expected, ascii(text[:10])


@patterns
def test_letters_of_two_bytes(pattern: str) -> None:
    """Windows know some of them: each in words of lower, upper and mixed case, and after an apostrophe."""
    for first in range(0x80, 0x800, 32):
        text = "".join(f"{c}a {c}B x{c}y X{c}Y{c}z '{c} 1{c}2, it'{c}s. " for c in map(chr, range(first, first + 32)))
        expected = [encode_utf8(piece) for piece in compiled(pattern).findall(text)]
        assert pieces(encode_utf8(text), pattern) == expected, hex(first)


@patterns
@pytest.mark.parametrize("unit", ["a", " ", "\n", " \n", "1", "'", ".", "'s", "é", "\u0301", "A", "aA", "/\n"])
@pytest.mark.parametrize("n", [1, 2, 61, 62, 63, 64, 65, 130])
def test_runs_across_windows(pattern: str, unit: str, n: int) -> None:
    for text in (unit * n, "x" + unit * n + "y", "." * 60 + unit * n + "9"):
        assert pieces(encode_utf8(text), pattern) == [encode_utf8(piece) for piece in compiled(pattern).findall(text)]


def test_a_call_writes_no_more_ends_than_fit() -> None:
    ends = np.full(64, -1, np.int64)
    text = np.frombuffer(b"a " * 100, np.uint8)
    assert 0 < split(text, 0, 0, class_table(), ends) <= 64
    assert pieces(b"a " * 100, "gpt2", room=64) == pieces(b"a " * 100, "gpt2")

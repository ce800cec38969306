"""Sliding windows, the split without leakage, the built-in text."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from npgpt import data
from npgpt.data import SlidingWindows, builtin_name, builtin_texts, encode_texts, split_text
from npgpt.errors import DataError
from npgpt.support.files import cut_text, read_parts
from npgpt.tokenizer import END_OF_TEXT, KINDS, BPETokenizer, CharTokenizer, WordTokenizer
from npgpt.tokenizer.base import join_halves
from npgpt.tokenizer.patterns import SOURCES


@example(n=40, T=3, stride=1, B=5, shuffle=True, drop_last=True)
@given(
    n=st.integers(2, 60),
    T=st.integers(1, 10),
    stride=st.integers(1, 12),
    B=st.integers(1, 7),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
)
def test_windows_cover_the_ids(n: int, T: int, stride: int, B: int, shuffle: bool, drop_last: bool) -> None:
    starts = list(range(0, n - T, stride))  # computed by a loop
    if not starts or (drop_last and len(starts) < B):
        with pytest.raises(DataError):
            SlidingWindows(np.arange(n), T, stride, B, shuffle, 0, drop_last)
        return
    windows = SlidingWindows(np.arange(n), T, stride, B, shuffle, 0, drop_last)
    batches = list(windows)
    assert len(windows) == len(batches)
    assert windows.n_examples == len(starts)
    assert all(np.array_equal(y, x + 1) and x.shape[1] == T for x, y in batches)
    firsts = [int(row[0]) for x, _ in batches for row in x]
    whole, rest = divmod(len(starts), B)
    assert [len(x) for x, _ in batches] == [B] * whole + [rest] * (rest > 0 and not drop_last)
    assert len(set(firsts)) == len(firsts) and set(firsts) <= set(starts)
    if not shuffle:
        assert firsts == starts[: len(firsts)]


def test_shuffling_depends_on_epoch_and_seed() -> None:
    def epochs(seed: int) -> list[list[int]]:
        windows = SlidingWindows(np.arange(50), 4, batch_size=8, shuffle=True, seed=seed)
        return [[int(start) for x, _ in windows for start in x[:, 0]] for _ in range(2)]

    first, second = epochs(1)
    assert first != second
    assert sorted(first) == sorted(second)
    assert epochs(1) == [first, second] != epochs(2)


def test_batch_by_step_equals_iteration() -> None:
    def windows() -> SlidingWindows:
        return SlidingWindows(np.arange(30), 4, stride=2, batch_size=3, shuffle=True)

    again = windows()
    through = [x for _ in range(2) for x, _ in again]
    assert all(np.array_equal(x, windows().batch(step)[0]) for step, x in enumerate(through))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ids": np.arange(5), "context_length": 5}, "5 tokens, but one example needs 6"),
        ({"ids": np.arange(0), "context_length": 5}, "0 tokens"),
        ({"ids": np.ones((2, 9), int), "context_length": 5}, r"an array \(n,\) of integers"),
        ({"ids": np.ones(9), "context_length": 5}, "integers, not of float64 with shape"),
        ({"ids": np.arange(9), "context_length": 0}, "context_length must be at least 1"),
        ({"ids": np.arange(9), "context_length": 1, "stride": 0}, "stride must be at least 1"),
        ({"ids": np.arange(9), "context_length": 1, "batch_size": -1}, "batch_size must be at least 1"),
    ],
)
def test_invalid_window_arguments_are_rejected(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        SlidingWindows(**arguments)


@given(st.text("ab\n ", max_size=80), st.floats(0.01, 0.99))
def test_split_parts_join_to_the_text(text: str, fraction: float) -> None:
    train, validation = split_text(text, fraction)
    assert train + validation == text


def test_split_is_near_the_fraction_and_at_a_line_end() -> None:
    text = "a line of text\n" * 1000
    train, validation = split_text(text, 0.1)
    assert len(validation) / len(text) == pytest.approx(0.1, abs=0.01)
    assert train.endswith("\n")
    assert len(split_text("x" * 1000, 0.1)[1]) == 100


# What belongs together: flags, families, accents, syllables, a line end of two characters, halves, a number sign.
ATOMS = [
    *"ab東 \n\r\t\u0301\u200d\u0600\u00a0가",
    "🇩",
    "🇩🇪",
    "👨",
    "👨\u200d👩\u200d👧",
    "👍🏽",
    "e\u0301\u0302",
    "क्ष",
    "\r\n",
]
ATOMS += ["\u1112\u1161\u11ab", "\ud83d", "\ude00", "<|endoftext|>", "<|endo"]


def borders(text: str) -> list[int]:
    """The places between grapheme clusters, found from the start of the text."""
    ends = np.cumsum([0, *map(len, regex.findall(r"\X", text))])
    markers = [found.start() for found in re.finditer(re.escape(END_OF_TEXT), text)]
    return [int(end) for end in ends if not any(start < end < start + len(END_OF_TEXT) for start in markers)]


@example(atoms=["🇩🇪"] * 9, fraction=0.5)
@example(atoms=["<|endoftext|>", "\u0301", "a"], fraction=0.9)
@example(atoms=["a", "<|endoftext|>", "\u0301"], fraction=0.05)
@example(atoms=["\u0600", "<|endoftext|>", "a"], fraction=0.9)
@example(atoms=["a", "\u0600", " ", "b"], fraction=0.5)
@given(atoms=st.lists(st.sampled_from(ATOMS), max_size=40), fraction=st.floats(0.01, 0.99))
def test_the_cut_is_never_inside_a_cluster_or_a_marker(atoms: list[str], fraction: float) -> None:
    text = join_halves("".join(atoms))
    train, validation = split_text("".join(atoms), fraction)
    assert train + validation == text
    assert len(train) in borders(text)
    # Both parts have text where this is possible.
    wanted = round(len(text) * (1 - fraction))
    if 0 < wanted < len(text) and END_OF_TEXT not in text and len(borders(text)) > 2:
        assert train and validation


@given(words=st.lists(st.text("abé東", min_size=1), min_size=2), fraction=st.floats(0.1, 0.9), near=st.integers(1, 999))
def test_the_cut_is_between_two_words(words: list[str], fraction: float, near: int) -> None:
    for space in " ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000":
        text = space.join(words)
        train, validation = split_text(text, fraction)
        assert train + validation == text
        if 0 < round(len(text) * (1 - fraction)) < len(text):
            assert train.split() + validation.split() == words and train and validation
    long = "x" * near + " " + "x" * 2000  # the space is before the cut or behind it
    for text in long, long[::-1]:
        cut = text.index(" ")
        assert len(split_text(text, 1 - (cut + near / 2) / len(text))[0]) == cut
        assert len(split_text(text, 1 - (cut - near / 2) / len(text))[0]) == cut


def test_a_text_without_spaces_is_cut_near_the_fraction() -> None:
    for unit in "東", "🇩🇪", "क्ष", "e\u0301\u0302":
        for first in "", "a":
            text = first + unit * 30_000
            train, validation = split_text(text, 0.1)
            assert (len(train) - len(first)) % len(unit) == 0 and train + validation == text
            assert abs(len(validation) - len(text) / 10) <= len(unit)


def test_text_that_cannot_be_cut_is_training_text() -> None:
    family = "👨\u200d👩\u200d👧\u200d👦"
    for text in ("", "a", family, "e\u0301", END_OF_TEXT, family + END_OF_TEXT):
        for fraction in (0.1, 0.4):
            assert split_text(text, fraction) == (text, "")
    assert split_text(" " * 50, 0.1) == (" " * 45, " " * 5)
    assert split_text("ab" + family, 0.1) == ("ab", family)
    assert split_text(family + "b", 0.9) == (family, "b")


def test_end_of_text_stays_with_the_document_that_it_ends() -> None:
    assert split_text("one\ntwo\n<|endoftext|>three four", 0.3) == ("one\ntwo\n<|endoftext|>", "three four")
    assert split_text("one two three<|endoftext|>", 0.1) == ("one two", " three<|endoftext|>")
    assert split_text("one\ntwo three\n<|endoftext|>", 0.1) == ("one\n", "two three\n<|endoftext|>")
    for n in range(1, 40):
        text = "東" * 20 + END_OF_TEXT + "京" * n
        train, validation = split_text(text, 0.3)
        assert train.count(END_OF_TEXT) + validation.count(END_OF_TEXT) == 1
        assert not validation.startswith(END_OF_TEXT)


def test_builtin_text_has_a_name() -> None:
    assert re.search(r"Python 3\.\d+\.\S+ .*SHA-256 [0-9a-f]{8}\)", builtin_name())


def test_builtin_validation_text_is_not_in_the_training_text() -> None:
    texts = builtin_texts()
    assert sum(map(len, texts)) > 300_000
    parts = [split_text(text, 0.1) for text in texts]
    lines = {line.strip() for train, _ in parts for line in train.splitlines() if len(line.strip()) > 50}
    held_out = [line.strip() for _, end in parts for line in end.splitlines() if len(line.strip()) > 50]
    assert len(held_out) > 150 and sum(map(len, held_out)) > 25_000
    assert np.mean([line in lines for line in held_out]) < 0.01


def test_texts_are_separated_by_end_of_text() -> None:
    tokenizer = CharTokenizer.train("ab")
    end = tokenizer.special_tokens["<|endoftext|>"]
    assert encode_texts(tokenizer, ["ab", "b"]).tolist() == [0, 1, end, 1, end]


@pytest.mark.parametrize("kind", KINDS.values())
@pytest.mark.filterwarnings("ignore:only .* merges")
def test_end_of_text_separates_the_documents_of_a_text(kind: Any) -> None:
    documents = ["The cat sat.\n", "\nThe dog: 1 < 2", "The cat | The dog", ""]
    joined = END_OF_TEXT.join(documents)
    tokenizer = kind.train(joined, 300)
    assert tokenizer._state() == kind.train(documents, 300)._state()
    end = tokenizer.special_tokens[END_OF_TEXT]
    one, two, three, _ = map(tokenizer.encode, documents)
    assert encode_texts(tokenizer, [joined]).tolist() == [*one, end, *two, end, *three, end]
    assert encode_texts(tokenizer, [joined, "The"]).tolist() == [
        *one,
        end,
        *two,
        end,
        *three,
        end,
        *tokenizer.encode("The"),
        end,
    ]
    assert encode_texts(tokenizer, [END_OF_TEXT + "The" + 2 * END_OF_TEXT]).tolist() == [
        end,
        *tokenizer.encode("The"),
        end,
        end,
    ]
    assert encode_texts(tokenizer, ["", END_OF_TEXT]).tolist() == [end, end]
    part = "<|endoftext| >"  # nearly
    assert end not in encode_texts(tokenizer, [part])[:-1]


# What the split patterns of byte-pair encoding join or cut, beside line ends of all kinds.
PIECES = [*"aé東 \n\n\n\t/.1\r\u2028\x85\ud83d\ude00", "The cat", "\r\n", " \n", "'s", "\n/", END_OF_TEXT, "<|end"]


# Merges at line ends: of two line ends, of each with what may stand before or behind it.
MERGES = [(10, 10), (256, 10), (256, 256), (13, 10), *((10, x) for x in b" /a1\t"), *((x, 10) for x in b" .a1")]
CUTTING = [kind.train("The cat's\na 1/. é東") for kind in (CharTokenizer, WordTokenizer)]
CUTTING += [BPETokenizer(MERGES, pattern=pattern) for pattern in SOURCES]


@pytest.mark.parametrize("tokenizer", CUTTING)
@example(pieces=["a", "\n\n\n", "a"] * 9, size=1)  # a cut after any line end would be wrong
@example(pieces=[".", "\n", "/", "\n"] * 9, size=1)  # o200k joins ./ across a line end
@example(pieces=[" ", "\n", "a"] * 9, size=1)  # the line end joins the spaces before it
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=50), size=st.integers(1, 20))
def test_a_long_text_that_is_encoded_in_parts_has_the_same_ids(tokenizer: Any, pieces: list[str], size: int) -> None:
    text = "".join(pieces)
    parts = list(cut_text(text, size))
    assert "".join(parts) == text
    whole = tokenizer.encode(text, allowed_special={END_OF_TEXT})
    if getattr(tokenizer, "pattern", "") != "none":  # which cuts nowhere, so encode_texts gives it whole texts
        assert [token for part in parts for token in tokenizer.encode(part, {END_OF_TEXT})] == whole
    end = [] if text.endswith(END_OF_TEXT) else [tokenizer.special_tokens[END_OF_TEXT]]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(data, "cut_text", lambda text: cut_text(text, size))
        ids = encode_texts(tokenizer, [text, "a"])
    assert ids.dtype == np.int64 and ids.tolist() == [*whole, *end, *encode_texts(tokenizer, ["a"])]


def test_a_text_is_cut_after_each_part_of_the_size() -> None:
    parts = list(cut_text("a line of text\n" * 1000, 100))
    assert len(parts) == 143 and {len(part) for part in parts[:-1]} == {105}
    assert list(cut_text("a" * 1000, 100)) == ["a" * 1000] and list(cut_text("")) == [""]


def test_progress_of_encoding_is_told_within_a_text_and_ends_at_all() -> None:
    tokenizer, texts = CharTokenizer.train("a line\n"), ["a line\n" * 400_000, "a", "", "line"]
    told: list[tuple[int, int]] = []
    encode_texts(tokenizer, texts, lambda done, in_all: told.append((done, in_all)))
    assert [done for done, _ in told] == [1_048_579, 2_097_158, 2_800_000, 2_800_001, 2_800_001, 2_800_005]
    assert {in_all for _, in_all in told} == {sum(map(len, texts))}


def test_a_tokenizer_of_a_user_is_given_whole_texts() -> None:
    class ByLetters(CharTokenizer):
        def encode_ordinary(self, text: str) -> list[int]:
            given.append(text)
            return super().encode_ordinary(text)

    given: list[str] = []
    text = "a line\n" * 400_000
    encode_texts(ByLetters("a line\n"), [text])
    assert given == [text]


@pytest.mark.parametrize("kind", KINDS.values())
@pytest.mark.filterwarnings("ignore:only .* merges")
def test_a_marker_at_the_border_of_two_parts_of_a_file_is_whole(kind: Any, tmp_path: Path) -> None:
    text = "<|endoftext|>\n".join(f"Line {n}.\nAnd one" for n in range(30))
    (tmp_path / "text").write_text(text)
    expected = kind.train(text, 300)._state()
    for size in (1, 5, 13, 14, 100, 1 << 20):
        parts = list(read_parts(tmp_path / "text", size))
        assert "".join(parts) == text and sum(part.count(END_OF_TEXT) for part in parts) == 29
        assert kind.train(parts, 300)._state() == expected

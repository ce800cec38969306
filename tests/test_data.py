"""Sliding windows, the split without leakage, the built-in text."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from npgpt.data import SlidingWindows, builtin_texts, encode_texts, split_text
from npgpt.errors import DataError
from npgpt.tokenizer import CharTokenizer


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


def test_builtin_validation_text_is_not_in_the_training_text() -> None:
    texts = builtin_texts()
    assert sum(map(len, texts)) > 300_000
    parts = [split_text(text, 0.1) for text in texts]
    lines = {line.strip() for train, _ in parts for line in train.splitlines() if len(line.strip()) > 50}
    held_out = [line.strip() for _, end in parts for line in end.splitlines() if len(line.strip()) > 50]
    assert len(held_out) > 300
    assert np.mean([line in lines for line in held_out]) < 0.01


def test_texts_are_separated_by_end_of_text() -> None:
    tokenizer = CharTokenizer.train("ab")
    end = tokenizer.special_tokens["<|endoftext|>"]
    assert encode_texts(tokenizer, ["ab", "b"]).tolist() == [0, 1, end, 1, end]

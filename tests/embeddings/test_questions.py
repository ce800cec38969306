"""Files of questions about words: analogies and rated pairs are recognised, and a damaged line is named."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from npgpt.embeddings.evaluate import MAX_BYTES, MAX_LINES, is_analogies, read_analogies, read_pairs
from npgpt.errors import DataError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no analogies"),
        (": capitals\n", "has no analogies"),
        ("a b c d\n", "line 1: expected a section, such as"),
        (": s\na b c\n", "line 2: expected four words, found 3"),
        ("# remark\n\n: s\na b c d\na b c d e\n", "line 5: expected four words, found 5"),
    ],
)
def test_damaged_analogies(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text(text)
    with pytest.raises(DataError, match=f"q.txt.*{message}"):
        read_analogies(tmp_path / "q.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# nothing\n", "has no pairs"),
        ("a b 3\n", "line 1: expected two words and a number"),
        ("a\tb\t1_0\n", "line 1: expected two words and a number"),
        ("a\tb\t1\na\tb\tmany\n", "line 2: expected"),
        ("a\tb\tnan\n", "line 1: nan is no judgement"),
    ],
)
def test_damaged_pairs(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "p.tsv").write_text(text)
    with pytest.raises(DataError, match=f"p.tsv.*{message}"):
        read_pairs(tmp_path / "p.tsv")


@pytest.mark.parametrize(("more", "message"), [(b"#" * MAX_BYTES, "64 MiB"), (b"\n" * MAX_LINES, "1,000,000 lines")])
@pytest.mark.parametrize("read", [is_analogies, read_analogies, read_pairs])
def test_a_small_file_that_expands_to_a_huge_one_is_refused(
    read: Callable[[Path], object], more: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / "q.gz").write_bytes(gzip.compress(b": s\na b c d\n" + more, 1))
    with pytest.raises(DataError, match=rf"q\.gz has more than {message}"):
        read(tmp_path / "q.gz")


def test_files_of_analogies_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "q").write_text("# a remark: yes\n: s\na b c d\n")
    (tmp_path / "p").write_text("a\tb\t3\n")
    assert is_analogies(tmp_path / "q") and not is_analogies(tmp_path / "p")

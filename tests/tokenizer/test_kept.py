"""What was derived from a file of ranks is kept on disk; a damaged file is derived anew, and ids never change."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from npgpt.tokenizer import BPETokenizer, kept

MERGES = [(104, 105), (32, 256), (257, 33)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(kept, "own_folder", lambda name: tmp_path)
    return tmp_path


def derived(calls: list[int]) -> kept.Merges:
    calls.append(1)
    return np.array(MERGES), np.arange(259) + 5


def test_the_second_start_derives_nothing(folder: Path) -> None:
    calls: list[int] = []
    for _ in range(2):
        merges, ids = kept.kept(b"ranks", lambda: derived(calls))
        assert merges.tolist() == [list(pair) for pair in MERGES]
        assert ids.tolist() == list(range(5, 264))
    assert len(calls) == 1
    kept.kept(b"other ranks", lambda: derived(calls))
    assert len(calls) == 2


def test_a_damaged_file_is_derived_anew(folder: Path) -> None:
    calls: list[int] = []
    kept.kept(b"ranks", lambda: derived(calls))
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for k, content in enumerate([b"", whole[:-1], whole + b"\0", bytes(flipped), whole[:20]], 2):
        path.write_bytes(content)
        merges, _ = kept.kept(b"ranks", lambda: derived(calls))
        assert merges.tolist() == [list(pair) for pair in MERGES]
        assert len(calls) == k
        assert path.read_bytes() == whole


def test_a_file_of_another_vocabulary_is_not_taken(folder: Path) -> None:
    calls: list[int] = []
    kept.kept(b"ranks", lambda: derived(calls))
    (path,) = folder.iterdir()
    content = path.read_bytes()
    path.unlink()
    kept.kept(b"other", lambda: derived(calls))
    (other,) = folder.iterdir()
    other.write_bytes(content)
    kept.kept(b"other", lambda: derived(calls))
    assert len(calls) == 3


def test_a_few_files_are_kept(folder: Path) -> None:
    for k in range(kept.MOST_FILES + 5):
        kept.kept(b"%d" % k, lambda: derived([]))
    assert len(list(folder.iterdir())) == kept.MOST_FILES


def test_without_a_folder_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "own_folder", lambda name: None)
    calls: list[int] = []
    for _ in range(2):
        kept.kept(b"ranks", lambda: derived(calls))
    assert len(calls) == 2


def test_short_texts_need_no_numba_after_the_first_start(tmp_path: Path) -> None:
    path = tmp_path / "gpt2.tiktoken"
    tokenizer = BPETokenizer(MERGES, ())
    tokenizer.to_tiktoken(path)
    BPETokenizer.from_tiktoken(path)
    code = f"""
import sys
from npgpt.tokenizer import BPETokenizer
print(BPETokenizer.from_tiktoken({str(path)!r}).encode("hi hi!"), "numba" in sys.modules)"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert ran.stdout == f"{tokenizer.encode('hi hi!')} False\n", ran.stderr

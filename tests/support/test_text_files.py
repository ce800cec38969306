"""Names, folders and patterns of text files: what they mean, in which order, and what is left out."""

import gzip
import lzma
import os
from pathlib import Path

import pytest

from npgpt.data import builtin_texts, read_texts
from npgpt.errors import ConfigError, DataError
from npgpt.support.text_files import expand_paths, read_files


def made(folder: Path, **files: str | bytes) -> Path:
    """Write files, whose names have ``__`` for a slash and ``_`` for a dot."""
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def names(paths: list[Path], folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


@pytest.fixture
def books(tmp_path: Path) -> Path:
    made(tmp_path, b_txt="b", a__z_txt="az", a__Y_txt="aY", a__b__c_md="abc", _git__x="hidden", a___x="hidden")
    return tmp_path


def test_a_folder_means_all_files_in_it_in_the_order_of_code_points(books: Path) -> None:
    assert names(expand_paths([books]), books) == ["a/Y.txt", "a/b/c.md", "a/z.txt", "b.txt"]
    assert read_texts([str(books)]) == ["aY", "abc", "az", "b"]
    (books / "A-").write_text("before a/, although - is before / ")
    assert names(expand_paths([books]), books)[:2] == ["A-", "a/Y.txt"]


def test_a_pattern_means_the_files_that_match(books: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for pattern, expected in {
        "*.txt": ["b.txt"],
        "**/*.txt": ["a/Y.txt", "a/z.txt", "b.txt"],
        "a/**": ["a/Y.txt", "a/b/c.md", "a/z.txt"],
        "a/*": ["a/Y.txt", "a/b/c.md", "a/z.txt"],  # as in a shell, the folder a/b is named
        "**/b/**/*.md": ["a/b/c.md"],
        "?/[!Y].txt": ["a/z.txt"],
        ".git/*": [".git/x"],
    }.items():
        assert names(expand_paths([books / pattern]), books) == expected, pattern
        monkeypatch.chdir(books)
        assert [path.as_posix() for path in expand_paths([pattern])] == expected, pattern


def test_a_file_whose_name_looks_like_a_pattern_is_itself(tmp_path: Path) -> None:
    for name in ("a[1].txt", "a1.txt", "[x]"):
        (tmp_path / name).write_text(name)
    assert read_texts([tmp_path / "a[1].txt"]) == ["a[1].txt"]
    assert read_texts([tmp_path / "a[12].txt"]) == ["a1.txt"]
    (tmp_path / "[b]").mkdir()
    made(tmp_path / "[b]", c_txt="in b")
    assert read_texts([tmp_path / "[b]"]) == read_texts([tmp_path / "[[]b]" / "**" / "*.txt"]) == ["in b"]


def test_links_in_a_circle_have_an_end_and_each_file_is_taken_once(books: Path) -> None:
    for name in ("l1", "l2", "a/l3", "a/b/l4"):
        (books / name).symlink_to(books, target_is_directory=True)
    assert len(expand_paths([books])) == len(expand_paths([books / "**"])) == 4
    (books / "zz.txt").symlink_to(books / "b.txt")
    assert sorted(read_texts([books])) == sorted(read_texts([books / "**/*.txt", books, books / "a"]))
    assert read_texts([books / "b.txt", books]) == ["b", *(text for text in read_texts([books]) if text != "b")]


def test_a_file_that_is_named_twice_is_refused(books: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(books)
    (books / "link").symlink_to(books / "b.txt")
    for paths in (["b.txt", "./b.txt"], ["b.txt", "link"], ["b.txt", books / "a/../b.txt"], ["a", "a"], ["no", "no"]):
        with pytest.raises(ConfigError, match="is given twice; give each text once"):
            read_texts(paths)


NO_TEXT = {
    "picture_png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "latin_txt": "caf\xe9".encode("latin-1"),
    "wide_txt": "wide".encode("utf-16"),
    "nul_bin": b"a\0b",
    "late_bin": b"a" * 100_000 + b"\0",
    "empty_txt": b"",
    "blank_txt": b" \n\t\n",
    "packed_gz": gzip.compress(b"\0\1\2"),
    "cut_xz": lzma.compress(os.urandom(1000))[:500],
}


def test_what_is_no_text_is_left_out_of_folders_and_patterns_and_reported(tmp_path: Path) -> None:
    made(tmp_path, **NO_TEXT, good_txt="Good.\r\n", more_gz=gzip.compress("Zipped é".encode()))
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    os.mkfifo(tmp_path / "pipe")
    expected = sorted([*(name.replace("_", ".") for name in NO_TEXT), "broken", "circle", "pipe"])
    for path in (tmp_path, tmp_path / "*"):
        found = read_files([path])
        assert found.texts == ["Good.\n", "Zipped é"]
        assert [(path.name, size) for path, size in found.files] == [
            (name, (tmp_path / name).stat().st_size) for name in ("good.txt", "more.gz")
        ]
        assert names(found.left_out, tmp_path) == expected
    for name in set(expected) - {"pipe"}:  # a file that is named must be a text
        for paths in ([tmp_path / name], [tmp_path, tmp_path / name]):
            with pytest.raises((DataError, OSError), match=name):
                read_files(paths)


def test_nothing_found_is_refused(tmp_path: Path) -> None:
    made(tmp_path, sub___hidden="x", bad__a_bin=b"\0", bad__b_bin=b"\xff")
    with pytest.raises(DataError, match=r"the folder .*sub has no file \(hidden ones do not count\); give a folder"):
        read_files([tmp_path / "sub"])
    with pytest.raises(DataError, match=r"no file matches .*\*\.txt; correct the pattern, or give the name"):
        read_files([tmp_path / "*.txt"])
    with pytest.raises(DataError, match=r"none of the 2 files that were found is a UTF-8 text .* first is .*a\.bin"):
        read_files([tmp_path / "bad"])
    with pytest.raises(FileNotFoundError):
        read_files([tmp_path / "nowhere"])


def test_no_path_means_the_built_in_texts() -> None:
    assert read_files([]).texts == [] and read_texts([]) == builtin_texts()

"""A folder of vectors and a .parquet file of words, like GloVe's package: pyarrow reads it, or the error is clear."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.embeddings import formats
from npgpt.embeddings.formats import installed_glove, load_vectors
from npgpt.errors import ConfigError, DataError

WORDS = ["the", "東京", "of", "", "x" * 90, "queen"]

needs_pyarrow = pytest.mark.parquet


def write(path: Path, columns: dict[str, Any], **settings: Any) -> bytes:
    """Write a file with some columns; return its bytes."""
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path, **settings)
    return path.read_bytes()


def read(content: bytes, folder: Path) -> list[str]:
    (folder / "w.parquet").write_bytes(content)
    return formats._read_strings(folder / "w.parquet")


@needs_pyarrow
def test_a_folder_of_numpy_and_parquet(tmp_path: Path) -> None:
    write(tmp_path / "w.parquet", {"word": WORDS})
    np.save(tmp_path / "v.npy", np.asfortranarray(np.ones((6, 3), np.float32)))
    table = load_vectors(tmp_path)
    assert table.words == WORDS and table.vectors.flags.c_contiguous
    np.save(tmp_path / "v.npy", np.ones((5, 3)))
    with pytest.raises(DataError, match=r"vectors are \(5, 3\)"):
        load_vectors(tmp_path)
    (tmp_path / "v.npy").write_bytes(b"\x93NUMPY damaged")
    with pytest.raises(DataError, match="v.npy is damaged"):
        load_vectors(tmp_path)


@needs_pyarrow
@pytest.mark.parametrize(
    "settings",
    [{}, {"use_dictionary": False}, {"row_group_size": 2}, {"compression": "gzip"}, {"data_page_version": "2.0"}],
    ids=str,
)
def test_any_way_of_writing_the_file(settings: dict[str, Any], tmp_path: Path) -> None:
    words = [*WORDS, *WORDS]
    assert read(write(tmp_path / "written", {"word": words}, **settings), tmp_path) == words


@needs_pyarrow
def test_other_kinds_of_strings_are_read(tmp_path: Path) -> None:
    import pyarrow

    assert read(write(tmp_path / "written", {"w": pyarrow.array(WORDS, pyarrow.large_string())}), tmp_path) == WORDS


@needs_pyarrow
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": ["x"], "b": ["y"]}, "its columns are string, string"),
        ({}, "its columns are none"),
        ({"a": [1, 2]}, "its columns are int64"),
        ({"a": [b"x"]}, "its columns are binary"),
        ({"a": [["x"]]}, "its columns are list"),
        ({"a": ["x", None]}, "a string is missing"),
        ({"a": [None, None]}, "its columns are null"),
    ],
    ids=str,
)
def test_other_columns_are_rejected(columns: dict[str, Any], message: str, tmp_path: Path) -> None:
    content = write(tmp_path / "written", columns)
    with pytest.raises(DataError, match=f"w.parquet is damaged, or not a Parquet file with one .*{message}") as caught:
        read(content, tmp_path)
    assert str(tmp_path / "w.parquet") in str(caught.value)


NOISE = np.random.default_rng(0).bytes(999)  # each process of pytest-xdist must collect the same tests


@needs_pyarrow
@pytest.mark.parametrize(
    "content",
    [b"", b"PAR1", b"PAR1PAR1", b"PAR1" * 9, bytes(range(256)), NOISE],
    ids=["empty", "magic", "no footer", "magic nine times", "every byte", "noise"],
)
def test_a_file_that_is_not_parquet_is_rejected(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="w.parquet is damaged, or not a Parquet file"):
        read(content, tmp_path)


@needs_pyarrow
def test_a_cut_off_file_is_rejected(tmp_path: Path) -> None:
    content = write(tmp_path / "written", {"word": WORDS})
    for size in range(len(content)):
        with pytest.raises(DataError, match="w.parquet is damaged"):
            read(content[:size], tmp_path)


@needs_pyarrow
@given(data=st.data())
def test_changed_bytes_are_read_or_rejected(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("parquet")
    content = bytearray(write(folder / "written", {"word": WORDS}))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        read(bytes(content), folder)
    except DataError as error:
        assert str(folder / "w.parquet") in str(error)


@needs_pyarrow
def test_the_number_of_words_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow

    repeated = pyarrow.DictionaryArray.from_arrays(np.zeros(100_000, np.int32), ["x" * 50_000])
    content = write(tmp_path / "written", {"word": repeated}, store_schema=False)  # 5 GB without a dictionary
    assert len(content) < 100_000
    words = read(content, tmp_path)
    assert len(words) == 100_000 and len(set(map(id, words))) == 1
    monkeypatch.setattr(formats, "MOST_WORDS", 99_999)
    with pytest.raises(DataError, match="there are more than 99,999 strings"):
        read(content, tmp_path)


def test_the_error_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "w.parquet").write_bytes(b"PAR1")
    np.save(tmp_path / "v.npy", np.ones((6, 3)))
    with pytest.raises(ConfigError, match=r"w.parquet needs pyarrow: pip install 'npgpt\[parquet\]'"):
        load_vectors(tmp_path)


@needs_pyarrow
@pytest.mark.glove
def test_king_minus_man_plus_woman_in_glove() -> None:
    table = load_vectors(installed_glove() or "")
    assert (len(table), table.width, table.words[:3]) == (400_000, 50, ["the", ",", "."])
    assert table.analogy("man", "king", "woman", 1)[0][0] == "queen"
    assert table.analogy("man", "king", "woman", 1, exclude_inputs=False)[0][0] == "king"

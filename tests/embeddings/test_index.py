"""The index finds the nearest documents, loads from its file unchanged, and rejects damaged files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from npgpt.core import Array
from npgpt.embeddings.index import FORMAT, DocumentIndex
from npgpt.errors import DataError, NpgptError, ShapeError


def an_index(D: int = 4, C: int = 3, seed: int = 0) -> DocumentIndex:
    vectors = np.random.default_rng(seed).normal(size=(D, C))
    names = [f"document {d}" for d in range(D)]
    return DocumentIndex(names, [name.upper() for name in names], vectors, {"method": "x"}, {"weights": np.ones(2)})


@given(st.integers(1, 20), st.integers(1, 5), st.integers(0, 99), st.integers(0, 25))
def test_search_is_by_cosine(D: int, C: int, seed: int, n: int) -> None:
    index = an_index(D, C, seed)
    vector = np.random.default_rng(seed + 1).normal(size=C)
    hits = index.search(vector, n)
    cosines = index.vectors.astype(float) @ vector / np.linalg.norm(vector)
    assert [hit.number for hit in hits] == sorted(range(D), key=lambda d: -cosines[d])[:n]
    for hit in hits:
        assert hit.score == pytest.approx(cosines[hit.number], abs=1e-6) and -1 - 1e-6 < hit.score < 1 + 1e-6
        assert (hit.name, hit.text) == (index.names[hit.number], index.texts[hit.number])


def test_each_document_finds_itself_and_equal_ones_keep_their_order() -> None:
    index = an_index(30, 5)
    assert [index.search(vector, 1)[0].number for vector in index.vectors] == list(range(30))
    same = DocumentIndex(["a", "b", "zero", "c"], [""] * 4, np.array([[2.0], [3.0], [0.0], [5.0]]))
    assert [hit.name for hit in same.search(np.array([1.0]))] == ["a", "b", "c", "zero"]
    assert [hit.score for hit in same.search(np.array([0.0]))] == [0.0] * 4


@pytest.mark.parametrize(
    ("names", "vectors", "says"),
    [
        ([], np.ones((0, 2)), "one document at least"),
        (["a"], np.ones((2, 2)), r"expected floats \(D, C\) for D = 1"),
        (["a"], np.ones((1, 2), int), "vectors are int64"),
        (["a"], np.ones((1, 0)), "expected floats"),
        (["a"], np.array([[np.nan]]), "infinite or NaN"),
    ],
)
def test_invalid_arguments_are_rejected(names: list[str], vectors: Array, says: str) -> None:
    with pytest.raises(NpgptError, match=says):
        DocumentIndex(names, names, vectors)


def test_a_vector_of_the_wrong_shape_is_rejected() -> None:
    with pytest.raises(ShapeError, match=r"has shape \(4,\), expected \(3,\)"):
        an_index().search(np.ones(4))
    with pytest.raises(DataError, match="infinite or NaN"):
        an_index().search(np.array([1.0, np.inf, 0.0]))


def test_a_saved_index_loads_unchanged(tmp_path: Path) -> None:
    index = an_index()
    index.names[0] = "\x1b[31m 😀 \udcff \n"  # \udcff: a byte that is not UTF-8
    index.save(tmp_path / "index")
    again = DocumentIndex.load(tmp_path / "index")
    assert (again.names, again.texts, again.settings) == (index.names, index.texts, {"method": "x"})
    assert np.array_equal(again.vectors, index.vectors) and again.arrays["weights"].tolist() == [1, 1]
    first = (tmp_path / "index").read_bytes()
    again.save(tmp_path / "index")
    assert (tmp_path / "index").read_bytes() == first
    index.arrays["weights"] = np.arange(6.0).reshape(2, 3).T[::2]  # not contiguous, and with swapped axes
    index.save(tmp_path / "index")
    assert np.array_equal(DocumentIndex.load(tmp_path / "index").arrays["weights"], index.arrays["weights"])


def header(**changed: Any) -> dict[str, Any]:
    return {"version": 1, "names": ["a"], "texts": ["t"], "encoder": {}} | changed


def write(path: Path, head: Any, tensors: dict[str, Array] | None = None, key: str = FORMAT) -> None:
    text = head if isinstance(head, str) else json.dumps(head)
    made = {"vectors": np.ones((1, 2), np.float32)} if tensors is None else tensors
    path.write_bytes(safetensors.numpy.save(made, {key: text}))


@pytest.mark.parametrize(
    ("head", "tensors", "says"),
    [
        ("{", None, "is not JSON"),
        ("[" * 100_000, None, "is not JSON"),
        ([], None, "version None"),
        (header(version=2), None, "version 2; this npgpt reads version 1"),
        (header(version=True), None, "version True"),
        (header(names=[1]), None, "names is not a list of strings"),
        (header(texts="t"), None, "texts is not a list of strings"),
        (header(encoder=[]), None, "encoder is not an object"),
        (header(names=["a", "b"]), None, "2 names and 1 texts"),
        (header(), {}, "vectors is missing"),
        (header(), {"vectors": np.ones((2, 2), np.float32)}, "expected floats"),
        (header(), {"vectors": np.ones((1, 2), np.int64)}, "vectors are int64"),
        (header(), {"vectors": np.full((1, 2), np.inf, np.float32)}, "infinite or NaN"),
    ],
    ids=str,
)
def test_a_damaged_file_is_rejected(head: Any, tensors: dict[str, Array] | None, says: str, tmp_path: Path) -> None:
    write(tmp_path / "index", head, tensors)
    with pytest.raises(DataError, match=says) as error:
        DocumentIndex.load(tmp_path / "index")
    assert str(tmp_path / "index") in str(error.value)


def test_a_cut_off_or_foreign_file_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "index"
    an_index().save(path)
    whole = path.read_bytes()
    for length in (0, 7, 8, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match="is damaged, or not an index"):
            DocumentIndex.load(path)
    write(path, header(), key="other")
    with pytest.raises(DataError, match="is not an index of npgpt"):
        DocumentIndex.load(path)
    with pytest.raises(OSError):
        DocumentIndex.load(tmp_path / "missing")

"""Each method makes an index that opens again with its encoder; the exported names of the package."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from npgpt.embeddings import WordVectors, make_index, open_index, search
from npgpt.errors import ConfigError, DataError

TEXTS = ["the cat sat on the mat " * 5, "war and peace and the general of the army " * 5]
WORDS = sorted({word for text in TEXTS for word in text.split()})
TABLE = WordVectors(WORDS, np.random.default_rng(0).normal(size=(len(WORDS), 8)))


@pytest.mark.parametrize("method", ["tf-idf", "mean", "sif", "pv-dbow"])
def test_each_text_finds_itself(method: str, tmp_path: Path) -> None:
    make_index(["cats", "war"], TEXTS, method, TABLE).save(tmp_path / "index")
    index, encoder = open_index(tmp_path / "index")
    assert [index.search(vector, 1)[0].name for vector in encoder.encode(TEXTS)] == ["cats", "war"]
    assert index.texts == [text.strip() for text in TEXTS]


def test_the_error_names_the_missing_argument() -> None:
    for method, message in (
        ("gpt", "needs a run folder"),
        ("sif", "needs vectors of words"),
        ("tfidf", "'tfidf' is unknown; did you mean tf-idf"),
    ):
        with pytest.raises(ConfigError, match=message):
            make_index(["a", "b"], TEXTS, method)
    with pytest.raises(DataError, match="no words"):
        make_index([], [])


def test_the_memory_of_tf_idf_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MOST_NUMBERS", 7)
    with pytest.warns(UserWarning, match="the index has only the 3 words that most documents have"):
        assert make_index(["cats", "war"], TEXTS).vectors.shape == (2, 3)


def test_exported_names_exist_and_hide_no_module() -> None:
    code = (
        "import sys, types, npgpt.embeddings as package;"
        "first = {name: getattr(package, name) for name in package.__all__};"
        "assert not {'numba', 'pyarrow', 'matplotlib'} & set(sys.modules);"
        "import importlib, pkgutil;"
        "names = {m.name for m in pkgutil.iter_modules(package.__path__)};"
        "[importlib.import_module('npgpt.embeddings.' + name) for name in names];"
        "assert not names & set(package.__all__), names & set(package.__all__);"
        "assert all(getattr(package, name) is first[name] for name in first)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

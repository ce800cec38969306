"""Readers of word vectors, of indices of documents, and of questions about words."""

import atexit
import importlib.util
import re
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from reader import Files, Reader, function, lines_of, packed, plain, written
from readers_of_runs import a_run

from npgpt.embeddings import WordVectors, make_index, save_vectors

HELP = Path(tempfile.mkdtemp(prefix="npgpt-fuzz-help-"))  # good files, which others are read together with
atexit.register(shutil.rmtree, HELP, ignore_errors=True)
WORDS = ["the", "cat", "東京", "don't", "queen", "1790"]
TABLE = WordVectors(WORDS, np.random.default_rng(0).normal(size=(6, 3)))
a_run(HELP / "run")
save_vectors(TABLE, HELP / "table.txt")

# ---- word vectors


def read_vectors(path: Path) -> Any:
    if not path.is_dir():
        function("embeddings.formats.is_vectors")(path)
    table = function("embeddings.formats.load_vectors")(path)
    return table.words, table.vectors.shape, table.vectors.tobytes()


def sound_vectors(value: Any) -> bool:
    words, (n, width), data = value
    numbers = np.frombuffer(data, np.float32)
    return len(set(words)) == len(words) == n and numbers.size == n * width and bool(np.isfinite(numbers).all())


def text_or_binary(path: Path) -> Any:
    """Read vectors as text or, if that fails, as binary: a changed header makes one of the other."""
    first, _, rest = plain(path).partition(b"\n")
    header = re.fullmatch(rb"(\d+) (\d+)\s*", first)
    rows = [row.rstrip() for row in (rest if header else plain(path)).split(b"\n") if row.rstrip()]
    width = int(header[2]) if header else rows[0].count(b" ")
    table: dict[str, bytes] = {}
    try:
        for row in rows:
            word, *numbers = row.rsplit(b" ", width)
            table.setdefault(word.decode(), np.array(numbers, np.float64).astype(np.float32).tobytes())
        if header and len(rows) != int(header[1]):
            raise ValueError
    except ValueError:
        table = {}
        for _ in range(int(header[1]) if header else 0):
            name, _, rest = rest.lstrip(b"\n").partition(b" ")
            table.setdefault(name.decode(), rest[: 4 * width])
            rest = rest[4 * width :]
    return list(table), (len(table), width), b"".join(table.values())


def vectors(name: str, samples: dict[str, Files], witness: Callable[[Path], Any] | None = None) -> Reader:
    covers = ("embeddings.formats.load_vectors", "embeddings.formats.is_vectors")
    return Reader(
        f"vectors, {name}",
        covers[:1] if name == "folder" else covers,
        samples,
        read_vectors,
        sound_vectors,
        witness,
        lambda path: ["vectors", "convert", "--vectors", str(path), "--out", f"{path}.out", "--overwrite"],
    )


FORMATS = ("word2vec", "glove", "binary", "npz")
W2V, GLOVE, BINARY, NPZ = written(*(partial(save_vectors, TABLE, format=kind) for kind in FORMATS))


def npz_packed(path: Path) -> None:
    ends = np.cumsum([len(word.encode()) for word in WORDS])
    with path.open("wb") as file:
        np.savez_compressed(
            file, vectors=TABLE.vectors, text=np.frombuffer("".join(WORDS).encode(), np.uint8), ends=ends
        )


def numpy_and_parquet() -> dict[str, Files]:
    """Return files like those of GloVe's package; nothing without pyarrow."""
    if importlib.util.find_spec("pyarrow") is None:
        return {}
    import pyarrow
    from pyarrow import parquet

    def numpy(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, TABLE.vectors)

    npy, words = written(numpy, lambda path: parquet.write_table(pyarrow.table({"word": WORDS}), path))
    return {"glove-package": {"v.npy": npy, "w.parquet": words}}


# ---- indices of documents

DOCUMENTS = ["the cat sat on the mat " * 5, "war and peace and the general of the army " * 5]
OF_DOCUMENTS = sorted(set(" ".join(DOCUMENTS).split()))


def indices() -> dict[str, Files]:
    table = WordVectors(OF_DOCUMENTS, np.random.default_rng(1).normal(size=(len(OF_DOCUMENTS), 4)))
    samples: dict[str, Files] = {}
    for method in ("tf-idf", "sif", "pv-dbow", "gpt"):
        index = make_index(["cats", "\x1b[31m"], DOCUMENTS, method, table, HELP / "run")
        if method == "gpt":
            index.settings["run"] = "run"  # the name of HELP is another one each time
        (data,) = written(index.save)
        samples |= packed(method, data, text=False) if method == "sif" else {method: {"": data}}
    return samples


def read_index(path: Path) -> Any:
    run = HELP / "run" if path.name == "gpt" else None
    index, encoder = function("embeddings.search.open_index")(path, run)
    vector = encoder.encode(["the cat"])[0]
    scores = [hit.score for hit in index.search(vector, 2)]
    return index.names, index.texts, index.vectors.shape, index.vectors.tobytes(), vector.tobytes(), scores


def sound_index(value: Any) -> bool:
    names, texts, shape, data, vector, scores = value
    lengths = np.linalg.norm(np.frombuffer(data, np.float32).reshape(shape), axis=1)
    finite = np.isfinite([*scores, *np.frombuffer(vector, np.float32)]).all()
    return len(names) == len(texts) == shape[0] and bool(finite and (np.isclose(lengths, 1) | (lengths == 0)).all())


def search(path: Path) -> list[str]:
    return ["vectors", "search", str(path), "the cat", *(["--run", str(HELP / "run")] if path.name == "gpt" else [])]


# ---- questions about words

ANALOGIES = (
    b"# remark\n: capitals\nAthens Greece Oslo Norway\n\n: \x1b[31mfamily\nboy girl king queen\nking queen boy girl\n"
)
RATED = b"# remark\ncat\tqueen\t1.5\nthe\tcat\t7\ndon't\tcat\t0.25\n"


def read_analogies(path: Path) -> Any:
    return function("embeddings.evaluate.is_analogies")(path), function("embeddings.evaluate.read_analogies")(path)


def analogies_of(path: Path) -> Any:
    sections: dict[str, Any] = {}
    for line in lines_of(path):
        if line.startswith(":"):
            section = sections.setdefault(line[1:].strip(), [])
        else:
            section.append(tuple(line.split()))
    return True, sections


def pairs_of(path: Path) -> Any:
    rows = [line.split("\t") for line in lines_of(path)]
    return [(a.strip(), b.strip(), float(rating)) for a, b, rating in rows]


def evaluate(path: Path) -> list[str]:
    return ["vectors", "evaluate", str(path), "--vectors", str(HELP / "table.txt")]


OF_ANALOGIES = ("embeddings.evaluate.is_analogies", "embeddings.evaluate.read_analogies")
OF_PAIRS = "embeddings.evaluate.read_pairs"
OF_INDICES = ("embeddings.search.open_index", "embeddings.index.DocumentIndex.load")
READERS = [
    vectors("text", packed("word2vec.txt", W2V) | packed("glove.txt", GLOVE), text_or_binary),
    vectors("binary", packed("vectors.bin", BINARY, text=False), text_or_binary),
    vectors("npz", packed("vectors.npz", NPZ, text=False) | {"packed.npz": {"": written(npz_packed)[0]}}),
    vectors("folder", numpy_and_parquet()),
    Reader("index of documents", OF_INDICES, indices(), read_index, sound_index, command=search),
    Reader("analogies", OF_ANALOGIES, packed("q", ANALOGIES), read_analogies, witness=analogies_of, command=evaluate),
    Reader("pairs", (OF_PAIRS,), packed("p", RATED), function(OF_PAIRS), witness=pairs_of, command=evaluate),
]

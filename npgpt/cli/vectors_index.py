"""``npgpt vectors index`` and ``npgpt vectors search``: documents as vectors, found by what is like them."""

import argparse
import hashlib
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from npgpt.core import Array
from npgpt.embeddings.documents import BagOfWords, Encoder, State, gpt_vectors, mean, numbers_of, sif, tf_idf
from npgpt.embeddings.formats import INSTALL_GLOVE, installed_glove, load
from npgpt.embeddings.index import DocumentIndex
from npgpt.embeddings.pv_dbow import PVModel, train_pv_dbow
from npgpt.embeddings.vectors import WordVectors
from npgpt.errors import ConfigError, DataError, NpgptError, RunError
from npgpt.runs import MODEL, load_run
from npgpt.support.files import read_text
from npgpt.support.terminal import escape_controls, given_text

METHODS = ("tf-idf", "mean", "sif", "pv-dbow", "gpt")
SHOWN = 300  # characters of each document that the index keeps to show
MOST_NUMBERS = 10**8  # in the vectors of TF-IDF: 400 MB
FREQUENT = 50_000  # words of a table that are kept although no document has them: a question may


def add_index_parsers(actions: Any) -> None:
    index = actions.add_parser("index", help="make an index of documents, to search in")
    index.add_argument("files", nargs="+", metavar="TEXTFILE", help="UTF-8 texts, a document each")
    index.add_argument("--paragraphs", action="store_true", help="each paragraph is a document")
    index.add_argument(
        "--method",
        choices=METHODS,
        default="tf-idf",
        help="what makes a vector of a text: tf-idf; the mean of its words' vectors (mean), with rare words counting "
        "more (sif); a vector that foretells its words (pv-dbow); a trained model's last vectors (gpt)",
    )
    index.add_argument("--vectors", metavar="FILE", help="for mean and sif: vectors of words (the installed GloVe)")
    index.add_argument(
        "--run", metavar="DIR", dest="run_folder", default=argparse.SUPPRESS, help="for gpt: a run folder"
    )
    index.add_argument("--out", required=True, metavar="FILE", help="where to write the index")
    index.add_argument("--overwrite", action="store_true", help="replace the index in FILE")
    index.set_defaults(run=run_index)

    search = actions.add_parser("search", help="the documents of an index that are nearest to a text")
    search.add_argument("index", metavar="INDEX", help="a file that `npgpt vectors index` made")
    search.add_argument("text", nargs="?", metavar="TEXT", help="what to look for (standard input)")
    search.add_argument("--n", type=int, default=10, metavar="N", help="how many documents (10)")
    search.add_argument(
        "--run", metavar="DIR", dest="run_folder", default=argparse.SUPPRESS, help="where the run of a gpt index is now"
    )
    search.set_defaults(run=run_search)


def run_index(options: argparse.Namespace) -> int:
    _check_out(options)
    documents = [document for file in options.files for document in _documents(file, options.paragraphs)]
    if not documents:
        raise DataError("the files hold no text: there is nothing to index")
    names, texts = [name for name, _ in documents], [text for _, text in documents]
    start = time.perf_counter()
    encoder = _make_encoder(options, texts)
    vectors = encoder.encode(texts)
    settings, arrays = encoder.state()
    shown = [" ".join(text.split())[:SHOWN] for text in texts]
    index = DocumentIndex(names, shown, vectors, {"method": options.method} | settings, arrays)
    if n_empty := int((~vectors.any(1)).sum()):
        print(f"note: in {n_empty:,} of them nothing is known; no search finds these", file=sys.stderr)
    index.save(options.out)
    print(
        f"{len(index):,} documents, {vectors.shape[1]:,} numbers each, by {options.method} in "
        f"{time.perf_counter() - start:.1f} s, saved in {escape_controls(options.out, keep='')}"
    )
    return 0


def run_search(options: argparse.Namespace) -> int:
    if options.n < 1:
        raise ConfigError(f"--n is {options.n}; it must be at least 1")
    index = DocumentIndex.load(options.index)
    encoder = _read_encoder(index, options.index, getattr(options, "run_folder", None))
    vector = encoder.encode([given_text(options.text)])[0]
    if not vector.any():
        raise DataError("the index knows no word of this text; ask with other words")
    for hit in index.search(vector, options.n):
        print(f"{hit.score:6.3f}  {escape_controls(hit.name, keep='')}")
        print(f"        {escape_controls(hit.text[:100], keep='')}")
    return 0


class RunEncoder:
    """The last vectors of a run's model. The index keeps where the run is, and a hash of the weights.

    Args
        folder: of the run.
    """

    def __init__(self, folder: str) -> None:
        self.run = load_run(folder)
        self.folder = str(Path(folder).absolute())
        self.weights = hashlib.blake2b(Path(folder, MODEL).read_bytes(), digest_size=16).hexdigest()

    def encode(self, texts: Sequence[str]) -> Array:
        return gpt_vectors(self.run.model, self.run.tokenizer, texts)

    def state(self) -> State:
        return {"run": self.folder, "weights": self.weights}, {}


def _documents(file: str, paragraphs: bool) -> Iterator[tuple[str, str]]:
    """Name and text of each document of a file that is not white space alone."""
    text = read_text(file)
    parts = re.split(r"\n[^\S\n]*\n", text) if paragraphs else [text]
    number = 0
    for part in parts:
        if part.strip():
            number += 1
            yield f"{file}, paragraph {number}" if paragraphs else file, part


def _make_encoder(options: argparse.Namespace, texts: Sequence[str]) -> Encoder:
    folder = getattr(options, "run_folder", None)
    if options.vectors and options.method not in ("mean", "sif"):
        raise ConfigError(f"--vectors goes with --method mean or sif, not with {options.method}")
    if (folder is not None) != (options.method == "gpt"):
        raise ConfigError("--method gpt needs --run DIR, a run folder; no other method takes one")
    if options.method == "tf-idf":
        fit = MOST_NUMBERS // len(texts)
        encoder = tf_idf(texts, fit)
        if len(encoder.words) == fit:
            print(f"note: only the {fit:,} words that most documents have are kept", file=sys.stderr)
        return encoder
    if options.method == "pv-dbow":
        return train_pv_dbow(texts)
    if folder is not None:
        return RunEncoder(folder)
    path = options.vectors or installed_glove()
    if path is None:
        raise ConfigError(
            "no vectors are named: give --vectors FILE (as `npgpt vectors train` writes it), or install GloVe's: "
            f"{INSTALL_GLOVE}"
        )
    table = _needed(load(path), texts)
    return mean(table) if options.method == "mean" else sif(table, texts)


def _needed(table: WordVectors, texts: Sequence[str]) -> WordVectors:
    """The most frequent words, and those that a text has: they go into the file of the index."""
    standing = [numbers_of(text, table.index) for text in texts]
    rows = np.unique(np.concatenate([np.arange(min(FREQUENT, len(table))), *standing]))
    return WordVectors([table.words[row] for row in rows], table.vectors[rows])


def _read_encoder(index: DocumentIndex, path: str, folder: str | None) -> Encoder:
    """What made the vectors of an index, out of its file."""
    settings, arrays = index.settings, index.arrays
    method = settings.get("method")
    if folder and method != "gpt":
        raise ConfigError(f"{path} was made by {method!r}, which needs no --run")
    try:
        if method in ("tf-idf", "mean", "sif"):
            return BagOfWords.from_state(settings, arrays)
        if method == "pv-dbow":
            return PVModel.from_state(settings, arrays)
        if method == "gpt":
            run, weights = folder or str(settings["run"]), settings["weights"]
        else:
            raise DataError(f"the method {method!r} is unknown; known: {', '.join(METHODS)}")
    except (NpgptError, KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise DataError(f"{path} is damaged: {error}; make the index again") from None
    encoder = RunEncoder(run)
    if encoder.weights != weights:
        raise RunError(f"the model in {run} is not the one that {path} was made with; make the index again")
    return encoder


def _check_out(options: argparse.Namespace) -> None:
    """Refuse, before any work is done, a place where an index must not go."""
    out = Path(options.out)
    if os.path.lexists(out):
        if not options.overwrite:
            raise RunError(f"{out} is there already; take another --out, or --overwrite to replace an index")
        DocumentIndex.load(out)  # anything but an index is refused
    if not out.absolute().parent.is_dir():
        raise RunError(f"the folder of {out} does not exist")

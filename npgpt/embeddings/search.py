"""Make an index of texts by one of five methods; open it with the encoder that makes vectors of questions."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from npgpt.core.values import one_of
from npgpt.core.values import texts as check_texts
from npgpt.embeddings.documents import BagOfWords, Encoder, mean, numbers_of, sif, tf_idf
from npgpt.embeddings.index import DocumentIndex
from npgpt.embeddings.pv_dbow import PVModel, train_pv_dbow
from npgpt.embeddings.run_vectors import RunEncoder
from npgpt.embeddings.vectors import WordVectors
from npgpt.errors import ConfigError, DataError, NpgptError, RunError, quote
from npgpt.support.json_files import field

METHODS = ("tf-idf", "mean", "sif", "pv-dbow", "gpt")
SHOWN = 300  # characters of each document that the index keeps to show
MOST_NUMBERS = 10**8  # in the vectors of TF-IDF: 400 MB
LONGEST_PATH = 4096  # characters
FREQUENT = 50_000  # words of a table that are stored even if no document has them: a question may use them


def make_index(
    names: Sequence[str],
    texts: Sequence[str],
    method: str = "tf-idf",
    vectors: WordVectors | None = None,
    run_folder: str | Path | None = None,
) -> DocumentIndex:
    """Make an index of documents, with the encoder of their vectors and the beginning of each text.

    Args
        names: one for each document.
        method: one of ``METHODS``.
        vectors: word vectors, for "mean" and "sif".
        run_folder: of a trained model, for "gpt".
    Warns
        if TF-IDF leaves out words because the vectors would be too large.
    Raises
        ConfigError if the method is unknown, or if an argument that it needs is missing; DataError if the texts cannot
        be used.

    >>> index = make_index(["cats", "war"], ["The cat purrs.", "War and peace"])
    >>> index.settings["method"], index.vectors.shape
    ('tf-idf', (2, 6))
    """
    names, texts = check_texts("make_index", "names", names), check_texts("make_index", "texts", texts)
    method = one_of("the method", method, METHODS)
    encoder: Encoder
    if method == "tf-idf":
        fit = MOST_NUMBERS // max(1, len(texts))
        encoder = tf_idf(texts, fit)
        if len(encoder.words) == fit:
            warnings.warn(f"the index has only the {fit:,} words that most documents have", stacklevel=2)
    elif method == "pv-dbow":
        encoder = train_pv_dbow(texts)
    elif method == "gpt" and run_folder is not None:
        encoder = RunEncoder(run_folder)
    elif method in ("mean", "sif") and vectors is not None:
        vectors = _needed(vectors, texts)
        encoder = mean(vectors) if method == "mean" else sif(vectors, texts)
    else:
        raise ConfigError(f"the method {method!r} needs {'a run folder' if method == 'gpt' else 'vectors of words'}")
    settings, arrays = encoder.state()
    shown = [" ".join(text.split())[:SHOWN] for text in texts]
    return DocumentIndex(names, shown, encoder.encode(texts), {"method": method} | settings, arrays)


def _needed(table: WordVectors, texts: Sequence[str]) -> WordVectors:
    """Return the most frequent words and those in the texts, to store in the index."""
    standing = [numbers_of(text, table.index) for text in texts]
    rows = np.unique(np.concatenate([np.arange(min(FREQUENT, len(table))), *standing]))
    return WordVectors([table.words[row] for row in rows], table.vectors[rows])


def open_index(path: str | Path, run_folder: str | Path | None = None) -> tuple[DocumentIndex, Encoder]:
    """Read an index from its file, with the encoder that made its vectors.

    Args
        run_folder: the folder of the run of a "gpt" index, if it has moved.
    Raises
        DataError that names the file if it is damaged; ConfigError if a run is given and the index needs none;
        RunError if the run does not exist, or if its model has changed.
    """
    index = DocumentIndex.load(path)
    settings, arrays = index.settings, index.arrays
    method = settings.get("method")
    if run_folder and method != "gpt":
        raise ConfigError(f"{path} was made by {quote(method)}, which takes no --run")
    encoder: Encoder
    try:
        if method in ("tf-idf", "mean", "sif"):
            encoder = BagOfWords.from_state(settings, arrays)
        elif method == "pv-dbow":
            encoder = PVModel.from_state(settings, arrays)
        elif method == "gpt":
            run, weights = (
                run_folder or field(settings, "run", str, "encoder"),
                field(settings, "weights", str, "encoder"),
            )
            if len(str(run)) > LONGEST_PATH:
                raise DataError(f"the run {quote(run)} is no path")
        else:
            raise DataError(f"the method {quote(method)} is unknown; known: {', '.join(METHODS)}")
    except NpgptError as error:
        raise DataError(f"{path} is damaged: {error}; make the index again") from None
    if method == "gpt":
        try:
            encoder = RunEncoder(run)
        except NpgptError as error:
            raise RunError(f"{path} needs the run that made it: {error}") from None
        if encoder.weights != weights:
            raise RunError(f"the model in {run} is not the one that made {path}; make the index again")
    of_index, of_encoder = index.vectors.shape[1], encoder.encode([""]).shape[1]
    if of_index != of_encoder:
        raise DataError(f"{path} is damaged: its vectors have {of_index} numbers, its encoder makes {of_encoder}")
    return index, encoder

# D documents, V vocabulary, C channels
"""Vectors of whole documents: sums over their words, or means of a GPT's hidden states.

Three kinds are one sum, where n_dw is the count of word w in document d, and n_d the number of its words::

    x_d = (1/n_d)·Σ_w n_dw·α_w·e_w

    TF-IDF   α_w = log((1 + D)/D_w), D_w of the D documents have the word;  e_w = one-hot: an axis for each word
    mean     α_w = 1;                                                       e_w = the vector of the word
    SIF      α_w = a/(a + p_w), p_w its share of all words;                 e_w = the vector of the word; then the
             common direction u of all documents is removed: x ← x − (x·u)u

Similar words have similar vectors, so a question may find a document that says the same in other words; TF-IDF cannot.
But in a mean over many words each single word has little weight. ``benchmarks/retrieval.py`` measures which effect is
larger.

Source    SIF: Arora, Liang, Ma 2017, "A simple but tough-to-beat baseline for sentence embeddings", ICLR
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np

from npgpt.core import Array, Cache
from npgpt.core.shapes import as_floats, check_shape
from npgpt.core.values import real, whole
from npgpt.core.values import text as check_text
from npgpt.core.values import texts as check_texts
from npgpt.embeddings.vectors import WordVectors
from npgpt.errors import DataError, ShapeError
from npgpt.model import GPT
from npgpt.support.json_files import field
from npgpt.tokenizer import END_OF_TEXT, Tokenizer
from npgpt.tokenizer.base import join_halves
from npgpt.tokenizer.words import WORD

State = tuple[dict[str, Any], dict[str, Array]]  # JSON values, and arrays


class Encoder(Protocol):
    """Makes vectors of texts, and can be saved with them."""

    def encode(self, texts: Sequence[str]) -> Array:
        """Return (D, C), a row for each text; zeros for a text without known words."""
        ...

    def state(self) -> State: ...


def words_of(text: str) -> Iterator[str]:
    """Yield the words of a text, without punctuation. ``<|endoftext|>`` ends a word and is none.

    >>> list(words_of("Don't panic: it's 1790!<|endoftext|>"))
    ["Don't", 'panic', "it's", '1790']
    """
    text = join_halves(check_text("words_of", "text", text)).replace(END_OF_TEXT, "\n")
    return (found[0] for found in WORD.finditer(text) if found[0][0].isalnum())


def numbers_of(text: str, index: Mapping[str, int]) -> Array:
    """Return the rows of a text's words, as written or else in lower case; unknown words are left out.

    >>> numbers_of("The king, THE unknown", {"the": 0, "king": 1}).tolist()
    [0, 1, 0]
    """
    found = (index.get(word, index.get(word.lower(), -1)) for word in words_of(text))
    return np.array([row for row in found if row >= 0], np.int64)


class BagOfWords:
    """x_d = (1/n_d)·Σ_w n_dw·α_w·e_w, without a common direction. ``tf_idf``, ``mean`` and ``sif`` make one.

    Args
        words: V different words.
        weights: (V,), the α.
        vectors: (V, C), the e; None for one-hot vectors, C = V.
        direction: (C,), the unit vector u to remove, or None.
    Raises
        ShapeError or DataError if they do not match.

    >>> king_and_queen = BagOfWords(["king", "queen"], np.array([1., 3.]))
    >>> king_and_queen.encode(["The king and the king of the queen", "the page"])
    array([[0.6666667, 1.       ],
           [0.       , 0.       ]], dtype=float32)
    """

    def __init__(
        self, words: Sequence[str], weights: Array, vectors: Array | None = None, direction: Array | None = None
    ) -> None:
        self.words = check_texts("BagOfWords", "words", words)
        self.index = {word: row for row, word in enumerate(self.words)}
        V = len(self.words)
        if len(self.index) != V:
            raise DataError("BagOfWords: a word is repeated; each word has one row")
        weights = as_floats("BagOfWords", "weights", weights)
        vectors = None if vectors is None else as_floats("BagOfWords", "vectors", vectors)
        direction = None if direction is None else as_floats("BagOfWords", "direction", direction)
        C = V if vectors is None else vectors.shape[-1] if vectors.ndim else 0
        arrays = {"weights": (weights, (V,)), "vectors": (vectors, (V, C)), "direction": (direction, (C,))}
        for name, (array, shape) in arrays.items():
            if array is None:
                continue
            if array.shape != shape:
                raise ShapeError(f"BagOfWords: {name} has shape {array.shape}, expected {shape} for {V} words")
            if not np.isfinite(array).all():
                raise DataError(f"BagOfWords: {name} must be finite floats")
        largest = _largest(weights) * (1.0 if vectors is None else _largest(vectors) * C**0.5)
        if not largest < np.finfo(np.float32).max / 2:
            raise DataError(
                "BagOfWords: the vector of a text could be too large for float32; divide vectors or weights"
            )
        if direction is not None and not abs(np.linalg.norm(direction.astype(np.float64)) - 1) < 1e-3:
            raise DataError("BagOfWords: direction must be a unit vector; divide it by its length")
        self.weights, self.vectors, self.direction = weights, vectors, direction

    def encode(self, texts: Sequence[str]) -> Array:
        """Return (D, C) in float32."""
        texts = check_texts("encode", "texts", texts)
        C = len(self.words) if self.vectors is None else self.vectors.shape[1]
        x = np.zeros((len(texts), C), np.float32)
        for d, text in enumerate(texts):
            rows, counts = np.unique(numbers_of(text, self.index), return_counts=True)
            shares = counts / max(1, counts.sum()) * self.weights[rows]  # in float64
            if self.vectors is None:
                x[d, rows] = shares
            else:
                x[d] = shares @ self.vectors[rows]
        return x if self.direction is None else without(x, self.direction.astype(np.float32))

    def state(self) -> State:
        arrays = {"weights": self.weights, "vectors": self.vectors, "direction": self.direction}
        return {"words": self.words}, {name: array for name, array in arrays.items() if array is not None}

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], arrays: Mapping[str, Array]) -> Self:
        """The inverse of ``state``; DataError if a field is missing or not valid."""
        weights = array_of_state(arrays, "weights")
        return cls(words_of_state(settings), weights, arrays.get("vectors"), arrays.get("direction"))


def words_of_state(settings: Mapping[str, Any]) -> list[str]:
    """Return the words of an encoder's state; DataError if they are not a list of strings."""
    words: list[str] = field(settings, "words", list, "encoder")
    if not all(isinstance(word, str) for word in words):
        raise DataError("encoder: words is not a list of strings")
    return words


def array_of_state(arrays: Mapping[str, Array], name: str) -> Array:
    """Return an array of an encoder's state; DataError if it is missing or holds no floats."""
    if name not in arrays:
        raise DataError(f"encoder: the tensor {name} is missing")
    if arrays[name].dtype.kind != "f":
        raise DataError(f"encoder: the tensor {name} must hold floats, not {arrays[name].dtype}")
    return arrays[name]


def _largest(x: Array) -> float:
    return max(float(x.max(initial=0)), -float(x.min(initial=0)))


def tf_idf(texts: Sequence[str], max_words: int | None = None) -> BagOfWords:
    """TF-IDF: lower-case words, with more weight for words that few texts have.

    A vector has a number for each word of all texts. The D·V numbers suit some thousands of documents.

    Args
        max_words: keep only the words that most texts have.
    Raises
        DataError if the texts have no words.
    """
    texts = check_texts("tf_idf", "texts", texts)
    max_words = None if max_words is None else whole("tf_idf", "max_words", max_words, 1)
    having = Counter(word for text in texts for word in {word.lower() for word in words_of(text)})
    words = sorted(having, key=lambda word: (-having[word], word))[:max_words]
    if not words:
        raise DataError("the texts have no words; give other texts")
    weights = np.log((1 + len(texts)) / np.array([having[word] for word in words]))
    return BagOfWords(words, weights.astype(np.float32))


def mean(table: WordVectors) -> BagOfWords:
    """The mean of the vectors of a text's words."""
    return BagOfWords(table.words, np.ones(len(table.words), np.float32), table.vectors)


def sif(table: WordVectors, texts: Sequence[str], a: float = 1e-3) -> BagOfWords:
    """Smooth inverse frequency: a mean with less weight for frequent words, without the common direction of all texts.

    Args
        texts: to learn the frequencies and the common direction from; usually those that will be searched.
        a: a word whose share of all words is a has half the weight.
    """
    texts, a = check_texts("sif", "texts", texts), real("sif", "a", a, above=0)
    counts = np.zeros(len(table.words))
    for text in texts:
        counts += np.bincount(numbers_of(text, table.index), minlength=len(counts))
    weights = a / (a + counts / max(1.0, counts.sum()))
    bag = BagOfWords(table.words, weights.astype(np.float32), table.vectors)
    bag.direction = common_direction(bag.encode(texts))
    return bag


def gpt_vectors(model: GPT, tokenizer: Tokenizer, texts: Sequence[str], batch_size: int = 32) -> Array:
    """Return the mean of a GPT's final hidden states, the input of the vocabulary head, over all tokens of each text.

    A long text is split into separate windows of context_length. A short one is padded at its end, which changes
    nothing: no token attends to later ones. ``<|endoftext|>`` is one token, if the tokenizer has it.

    Returns
        (D, C) in float32.
    """
    texts, batch_size = check_texts("gpt_vectors", "texts", texts), whole("gpt_vectors", "batch_size", batch_size, 1)
    windows: list[tuple[int, list[int]]] = []
    T = model.config.context_length
    special = {END_OF_TEXT} & tokenizer.special_tokens.keys()
    for d, text in enumerate(texts):
        ids = tokenizer.encode(text, special)
        windows += [(d, ids[start : start + T]) for start in range(0, len(ids), T)]
    totals, counts = np.zeros((len(texts), model.config.n_embd)), np.zeros(len(texts))
    cache = Cache()
    for first in range(0, len(windows), batch_size):
        part = windows[first : first + batch_size]
        x = np.zeros((len(part), max(len(ids) for _, ids in part)), np.int64)
        for row, (_, ids) in zip(x, part, strict=True):
            row[: len(ids)] = ids
        model.forward(x, cache.reset())
        for normed, (d, ids) in zip(cache["normed"], part, strict=True):  # (T, C)
            totals[d] += normed[: len(ids)].sum(0, dtype=np.float64)
            counts[d] += len(ids)
    vectors: Array = (totals / np.maximum(counts, 1)[:, None]).astype(np.float32)
    return vectors


def common_direction(x: Array) -> Array:
    """Return the unit vector u (C,) with the largest Σ_d (x_d·u)² over the rows of x (D, C).

    It is the eigenvector of xᵀ·x with the largest eigenvalue, x's first right singular vector. The mean is not
    subtracted first, since it is most of the common part of the rows. float32 gives float32.

    >>> common_direction(np.array([[3., 4.], [6., 8.]])).round(6)
    array([0.6, 0.8])
    """
    x = as_floats("common_direction", "x", x)
    check_shape("common_direction", "x", x, ("D", "C"))
    if not np.isfinite(x).all():
        raise DataError("common_direction: x has a number that is infinite or NaN")
    wide = x.astype(np.float64)
    u: Array = np.linalg.eigh(wide.T @ wide)[1][:, -1]
    return (u if u.sum() >= 0 else -u).astype(np.float32 if x.dtype == np.float32 else np.float64)


def without(x: Array, direction: Array) -> Array:
    """Remove from each row its component along a unit vector: x − (x·u)u.

    >>> without(np.array([[1., 2.]]), np.array([0., 1.]))
    array([[1., 0.]])
    """
    x, direction = as_floats("without", "x", x), as_floats("without", "direction", direction)
    check_shape("without", "direction", direction, x.shape[-1:])
    check_shape("without", "x", x, ("B", *direction.shape))
    rest: Array = x - (x @ direction)[:, None] * direction
    return rest

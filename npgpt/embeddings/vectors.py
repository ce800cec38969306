# V vocabulary, C channels, the width of a vector
"""Word vectors: nearest words and analogies.

A word is a row of a table. Two words are compared by the angle between their rows, not by their distance: the length of
a row depends more on the frequency of a word than on its meaning.
"""

import difflib
import functools
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from npgpt.core import Array
from npgpt.core.shapes import as_floats, check_shape
from npgpt.core.values import flag, texts, whole
from npgpt.core.values import text as check_text
from npgpt.errors import DataError, ShapeError, quote

SIMILAR_SPELLINGS = 3  # suggested for an unknown word
LONGEST_SPELLING = 60  # letters; there are no suggestions for longer words
CANDIDATES = 300  # words that are compared letter by letter with an unknown one


class WordVectors:
    """A vector for each word.

    cosine(u, v) = u·v / (|u|·|v|): 1 for the same direction, 0 for a right angle, −1 for opposite directions. A vector
    of zeros has no direction; its cosine with any vector counts as 0.

    Args
        words: all different; by convention the most frequent word comes first.
        vectors: (V, C), stored in float32.
    Attributes
        index: word -> its row.
    Raises
        ShapeError if the numbers of words and rows differ; DataError if a word is repeated, or a number not finite.

    >>> vectors = WordVectors(["man", "woman", "king", "queen"], [[1, 0], [1, 1], [4, 0], [4, 1]])
    >>> round(vectors.similarity("man", "woman"), 3)
    0.707
    >>> vectors.analogy("man", "king", "woman", n=1)[0][0]  # man is to king as woman is to ...
    'queen'
    """

    def __init__(self, words: Sequence[str], vectors: Array | Sequence[Sequence[float]]) -> None:
        words = texts("WordVectors", "words", words)
        with np.errstate(over="ignore"):  # a number too large for float32 becomes infinite, and is rejected below
            table = np.ascontiguousarray(as_floats("WordVectors", "vectors", vectors), np.float32)
        if table.ndim != 2 or len(table) != len(words) or table.size == 0:
            raise ShapeError(
                f"vectors are {table.shape}; expected (V, C): a row for each of {len(words)} words, at least one, of C "
                "numbers"
            )
        self.words, self.vectors = words, table
        self.index = {word: row for row, word in enumerate(self.words)}
        if len(self.index) != len(self.words):
            twice = next(word for row, word in enumerate(self.words) if self.index[word] != row)
            raise DataError(f"the word {quote(twice)} occurs more than once; each word has one vector")
        with np.errstate(invalid="ignore"):
            total = table.sum(dtype=np.float64)  # finite if all are; no array of V·C booleans is needed
        if not np.isfinite(total):
            row = int(np.argmin(np.isfinite(table).all(1)))
            raise DataError(f"the vector of {quote(self.words[row])} has a number that is infinite or NaN (row {row})")

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return check_text("WordVectors", "word", word) in self.index

    def __getitem__(self, word: str) -> Array:
        """Return the vector of a word (C,).

        Raises
            DataError, with words of similar spelling, if the word is unknown.
        """
        vector: Array = self.vectors[self._row(word)]
        return vector

    @property
    def width(self) -> int:
        """C, the number of channels of a vector."""
        return int(self.vectors.shape[1])

    @functools.cached_property
    def units(self) -> Array:
        """The unit vectors (V, C): the product of two is their cosine."""
        return unit(self.vectors)

    def unit(self, word: str) -> Array:
        """Return the unit vector of a word (C,) in float64."""
        vector: Array = self.units[self._row(word)].astype(np.float64)
        return vector

    def similarity(self, a: str, b: str) -> float:
        """Return the cosine of two words."""
        return cosine(self[a], self[b])

    def most_similar(self, word: str | Array, n: int = 10, exclude: Iterable[str] = ()) -> list[tuple[str, float]]:
        """Return the n nearest words and their cosines, nearest first; equal ones in the order of the table.

        Args
            word: a word, which is left out itself, or a vector (C,).
            exclude: more words to leave out.
        Raises
            DataError if a word is unknown, or a number is not finite; ShapeError if a vector has another width.
        """
        n = whole("most_similar", "n", n, 0)
        left_out = {self._row(other) for other in texts("most_similar", "exclude", exclude)}
        if isinstance(word, str):
            left_out.add(self._row(word))
            return self._nearest(self[word], n, left_out)
        vector = as_floats("most_similar", "word", word)
        if vector.shape != (self.width,):
            raise ShapeError(
                f"the vector has shape {vector.shape}, expected ({self.width},); compare vectors of one table"
            )
        if not np.isfinite(vector).all():
            raise DataError("the vector has a number that is infinite or NaN")
        return self._nearest(vector, n, left_out)

    def analogy(self, a: str, b: str, c: str, n: int = 10, exclude_inputs: bool = True) -> list[tuple[str, float]]:
        """ "a is to b as c is to ?": return the words nearest to b − a + c, nearest first.

        If a difference of vectors represents a relation, d − c = b − a, so d = b − a + c: the fourth corner of a
        parallelogram. Unit vectors are used, so that a frequent word does not dominate.

        Args
            exclude_inputs: leave out a, b and c, as is usual. If they are kept, c itself is often the first: b − a is
                short compared with the distance to the next word.
        Source
            Mikolov, Yih, Zweig 2013, aclanthology.org/N13-1090; on leaving out: Linzen 2016, arXiv:1606.07736.
        """
        n, exclude_inputs = whole("analogy", "n", n, 0), flag("analogy", "exclude_inputs", exclude_inputs)
        corner = self.unit(b) - self.unit(a) + self.unit(c)
        return self._nearest(corner, n, {self._row(word) for word in (a, b, c)} if exclude_inputs else set())

    def _nearest(self, vector: Array, n: int, left_out: set[int]) -> list[tuple[str, float]]:
        cosines = self.units @ unit(vector.astype(np.float64)).astype(np.float32)
        cosines[list(left_out)] = -np.inf
        n = min(n, len(self) - len(left_out))
        if n == 0:
            return []
        # Only the words that are at least as near as the n-th are sorted.
        last = np.partition(cosines, len(self) - n)[len(self) - n]
        rows = np.flatnonzero(cosines >= last)
        rows = rows[np.lexsort((rows, -cosines[rows]))][:n]
        return [(self.words[row], float(cosines[row])) for row in rows]

    def _row(self, word: str) -> int:
        row = self.index.get(check_text("WordVectors", "word", word))
        if row is None:
            near = similar_spellings(word, self.index)
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "no word here is spelt like it"
            raise DataError(f"the word {word[:LONGEST_SPELLING]!r} is not among these {len(self):,} words; {hint}")
        return row


def cosine(u: Array, v: Array) -> float:
    """Return the cosine of two vectors, in float64.

    >>> cosine([1, 0], [1, 1])
    0.7071067811865475
    """
    u, v = as_floats("cosine", "u", u), as_floats("cosine", "v", v)
    check_shape("cosine", "u", u, ("C",))
    check_shape("cosine", "v", v, u.shape)
    return float(np.clip(unit(u.astype(np.float64)) @ unit(v.astype(np.float64)), -1, 1))


def unit(x: Array) -> Array:
    """Divide each vector (..., C) of floats by its length. A vector of zeros stays unchanged.

    >>> unit(np.array([[3., 4.], [0., 0.]]))
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    x = as_floats("unit", "x", x)
    check_shape("unit", "x", x, (..., "C"))
    # Squares of large numbers overflow, and of small ones underflow: float32 is squared in float64, float64 is scaled.
    if x.dtype == np.float64:
        largest = np.abs(x).max(-1, keepdims=True)
        x = x / np.where(largest > 0, largest, 1)
    length = np.sqrt(np.einsum("...c,...c->...", x, x, dtype=np.float64))[..., None]
    units: Array = np.empty_like(x)
    return np.divide(x, np.where(length > 0, length, 1), out=units, casting="same_kind")


def similar_spellings(word: str, index: Mapping[str, int], n: int = SIMILAR_SPELLINGS) -> list[str]:
    """Return up to n words of an index with the most similar spelling.

    Words that differ by one typing error or by case come first, the most frequent one first. Then come words that
    difflib finds similar. difflib compares letter by letter, which takes seconds for 400,000 words, so it sees only the
    words that share the most pairs of neighbouring letters.

    >>> similar_spellings("Quene", {"king": 0, "queen": 1, "queue": 2, "queens": 3})
    ['queen', 'queue', 'queens']
    """
    if len(word) > LONGEST_SPELLING:
        return []
    small = word.lower()
    slips = {slip for spelt in (word, small, word.title(), word.upper()) for slip in _one_slip(spelt)}
    found = sorted(slips & index.keys(), key=lambda other: (other.lower() != small, index[other]))
    if len(found) < n:
        wanted, slack, ends = _pairs(small), 1 + len(word) // 4, (small[:1], small[-1:])
        alike = (w for w in index if abs(len(w) - len(word)) <= slack and (w[:1] in ends or w[-1:] in ends))
        most = heapq.nlargest(CANDIDATES, alike, key=lambda other: len(wanted & _pairs(other.lower())))
        found += [near for near in difflib.get_close_matches(small, most, n + len(found)) if near not in found]
    return found[:n]


def _one_slip(word: str) -> Iterator[str]:
    """Yield the word, and the word with one letter removed, swapped with the next, replaced, or inserted."""
    yield word
    letters = {*" abcdefghijklmnopqrstuvwxyz", *word}  # a space: tokens of a GPT begin with one
    for k in range(len(word) + 1):
        before, after = word[:k], word[k:]
        yield before + after[1:]
        yield before + after[1:2] + after[:1] + after[2:]
        for letter in letters:
            yield before + letter + after[1:]
            yield before + letter + after


def _pairs(word: str) -> set[str]:
    return {word[k : k + 2] for k in range(len(word) - 1)}

# V vocabulary, C channels
"""Evaluate word vectors: the analogies that they solve, and the agreement with people's judgement of word pairs.

Both are counted as in gensim (``evaluate_word_analogies``, ``evaluate_word_pairs``), so that the numbers can be
compared: only the ``restrict_vocab`` most frequent words take part, upper and lower case are equal, and questions with
an unknown word are left out and counted.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from npgpt.core import Array
from npgpt.core.shapes import as_floats, check_shape
from npgpt.core.values import flag, whole
from npgpt.embeddings.vectors import WordVectors
from npgpt.errors import DataError, ShapeError, brief
from npgpt.support.files import read_text

Question = tuple[str, str, str, str]  # a is to b as c is to the fourth
Pair = tuple[str, str, float]  # two words, and their similarity as judged by people

RESTRICT_VOCAB = 300_000
TOTAL = "total"
MAX_BYTES, MAX_LINES = 1 << 26, 1_000_000  # of a file, also after decompression: a line of 6 bytes needs 170 of memory
AT_ONCE = 64  # questions whose cosines with all words are in memory


@dataclass(frozen=True)
class Score:
    """The result for a section of analogies: numbers of questions, of right answers and of unknown words."""

    section: str
    n_asked: int
    n_first: int
    n_among_five: int
    n_unknown: int

    @property
    def top1(self) -> float:
        """The share of questions with the right answer first; NaN without questions."""
        return self.n_first / self.n_asked if self.n_asked else float("nan")

    @property
    def top5(self) -> float:
        """The share of questions with the right answer among the first five; NaN without questions."""
        return self.n_among_five / self.n_asked if self.n_asked else float("nan")


@dataclass(frozen=True)
class Agreement:
    """The result for pairs of words: the rank correlation of cosines with people's judgement, and numbers of pairs."""

    spearman: float
    n_asked: int
    n_unknown: int


def is_analogies(path: str | Path) -> bool:
    """Return whether a file has sections of analogies; otherwise it should have pairs."""
    return any(line.startswith(":") for _, line in _lines(path))


def read_analogies(path: str | Path) -> dict[str, list[Question]]:
    """Read the sections of a file such as questions-words.txt: lines ``: name``, each followed by lines of four words.

    Raises
        DataError that names the first invalid line.
    """
    sections: dict[str, list[Question]] = {}
    name = None
    for number, line in _lines(path):
        fields = line.split()
        if line.startswith(":"):
            name = line[1:].strip()
            sections.setdefault(name, [])
        elif name is None:
            raise DataError(f"{path}, line {number}: expected a section, such as ': capitals', found {line[:60]!r}")
        elif len(fields) != 4:
            raise DataError(f"{path}, line {number}: expected four words, found {len(fields)}: {line[:60]!r}")
        else:
            a, b, c, d = fields
            sections[name].append((a, b, c, d))
    if not any(sections.values()):
        raise DataError(f"{path} has no analogies; expected lines ': section' and lines of four words")
    return sections


def read_pairs(path: str | Path) -> list[Pair]:
    """Read the lines of a file such as wordsim353.tsv: two words and a number, separated by tabs.

    Raises
        DataError that names the first invalid line.
    """
    pairs: list[Pair] = []
    for number, line in _lines(path):
        try:
            a, b, judged = line.split("\t")
            pairs.append((a.strip(), b.strip(), float(judged.replace("_", "?"))))  # float reads 1_0 as 10
        except ValueError:
            raise DataError(
                f"{path}, line {number}: expected two words and a number with tabs between, found {line[:60]!r}"
            ) from None
        if not np.isfinite(pairs[-1][2]):
            raise DataError(
                f"{path}, line {number}: {brief(judged.strip(), 30)} is no judgement; expected a finite number"
            )
    if not pairs:
        raise DataError(f"{path} has no pairs; expected lines of two words and a number with tabs between")
    return pairs


def _lines(path: str | Path) -> Iterable[tuple[int, str]]:
    """Yield number and text of each line that is neither empty nor a comment."""
    text = read_text(path, MAX_BYTES)
    if text.count("\n") > MAX_LINES:
        raise DataError(f"{path} has more than {MAX_LINES:,} lines, which is too many for questions; divide it")
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.startswith(("#", "//")):
            yield number, line


class _Vocabulary:
    """The words that take part, with those that differ only in case under one key."""

    def __init__(self, vectors: WordVectors, restrict_vocab: int | None, case_insensitive: bool) -> None:
        if restrict_vocab is not None:
            restrict_vocab = whole("evaluate", "restrict_vocab", restrict_vocab, 1)
        case_insensitive = flag("evaluate", "case_insensitive", case_insensitive)
        words = vectors.words[:restrict_vocab]
        self.fold = str.upper if case_insensitive else str  # upper, as gensim does it: ß becomes SS
        self.units = vectors.units[: len(words)]
        self.rows: dict[str, list[int]] = {}  # word -> its rows, in any case; the most frequent first
        for row, word in enumerate(words):
            self.rows.setdefault(self.fold(word), []).append(row)

    def known(self, words: Iterable[str]) -> list[str] | None:
        """Return the words in one case, or None if one of them is unknown."""
        folded = list(map(self.fold, words))
        return folded if all(word in self.rows for word in folded) else None


def evaluate_analogies(
    vectors: WordVectors,
    sections: Mapping[str, Sequence[Question]],
    restrict_vocab: int | None = RESTRICT_VOCAB,
    case_insensitive: bool = True,
    exclude_inputs: bool = True,
) -> list[Score]:
    """Return a score for each section, and one for all (``TOTAL``).

    The answer to a question is the word nearest to b − a + c. The rank of the right answer needs no sorting: it is the
    number of nearer words, plus equally near words before it in the table.

    Args
        exclude_inputs: leave out a, b and c, as is usual; see ``WordVectors.analogy``.
    """
    vocabulary = _Vocabulary(vectors, restrict_vocab, case_insensitive)
    exclude_inputs = flag("evaluate", "exclude_inputs", exclude_inputs)
    scores = []
    for name, questions in sections.items():
        known = [words for question in questions if (words := vocabulary.known(question))]
        places: list[int] = []
        for start in range(0, len(known), AT_ONCE):
            places += _places(vocabulary, known[start : start + AT_ONCE], exclude_inputs)
        n_first, n_among_five = sum(place == 0 for place in places), sum(place < 5 for place in places)
        scores.append(Score(name, len(known), n_first, n_among_five, len(questions) - len(known)))
    sums = (sum(getattr(s, field) for s in scores) for field in ("n_asked", "n_first", "n_among_five", "n_unknown"))
    return [*scores, Score(TOTAL, *sums)]


def _places(vocabulary: _Vocabulary, questions: list[list[str]], exclude_inputs: bool) -> list[int]:
    """Return the number of words before the right answer of each question."""
    rows = np.array([[vocabulary.rows[word][0] for word in question[:3]] for question in questions])
    a, b, c = vocabulary.units[rows.T].astype(np.float64)
    # Not normalised: that would not change the order.
    cosines = (b - a + c).astype(np.float32) @ vocabulary.units.T
    places = []
    for (*inputs, answer), of_words in zip(questions, cosines, strict=True):
        if exclude_inputs:
            of_words[[row for word in inputs for row in vocabulary.rows[word]]] = -np.inf
        best = max(vocabulary.rows[answer], key=of_words.__getitem__)
        if of_words[best] == -np.inf:  # the answer is one of the three
            places.append(len(of_words))
        else:
            nearer = np.count_nonzero(of_words > of_words[best])
            places.append(int(nearer + np.count_nonzero(of_words[:best] == of_words[best])))
    return places


def evaluate_pairs(
    vectors: WordVectors,
    pairs: Sequence[Pair],
    restrict_vocab: int | None = RESTRICT_VOCAB,
    case_insensitive: bool = True,
) -> Agreement:
    """Return Spearman's rank correlation of the cosines of pairs with people's judgement.

    Raises
        DataError if fewer than two pairs have known words.
    """
    vocabulary = _Vocabulary(vectors, restrict_vocab, case_insensitive)
    cosines, judged = [], []
    for a, b, judgement in pairs:
        if known := vocabulary.known((a, b)):
            left, right = (vocabulary.units[vocabulary.rows[word][0]].astype(np.float64) for word in known)
            cosines.append(left @ right)
            judged.append(judgement)
    if len(judged) < 2:
        raise DataError(f"only {len(judged)} of {len(pairs)} pairs have vectors for both words; at least 2 are needed")
    return Agreement(spearman(np.array(cosines), np.array(judged)), len(judged), len(pairs) - len(judged))


def spearman(x: Array, y: Array) -> float:
    """Return the rank correlation: the cosine of the ranks' deviations from their mean. NaN if all of x or y are equal.

    It depends on the order of the numbers only, not on their scale.

    >>> spearman(np.array([1, 2, 3, 4]), np.array([1, 10, 100, 50]))
    0.8
    """
    x, y = as_floats("spearman", "x", x), as_floats("spearman", "y", y)
    if x.shape != y.shape or x.ndim != 1:
        raise ShapeError(f"the lists have shapes {x.shape} and {y.shape}, expected the same length")
    x, y = ranks(x) - (len(x) + 1) / 2, ranks(y) - (len(y) + 1) / 2
    scale = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / scale) if scale else float("nan")


def ranks(x: Array) -> Array:
    """Return the rank of each number, from 1; equal numbers share the mean of their ranks.

    >>> ranks(np.array([20, 10, 20, 30]))
    array([2.5, 1. , 2.5, 4. ])
    """
    x = as_floats("ranks", "x", x)
    check_shape("ranks", "x", x, ("B",))
    if np.isnan(x).any():
        raise DataError("ranks: a number is NaN, which has no rank")
    _, group, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)  # the rank of the last number of each group
    places: Array = (last - (counts - 1) / 2)[group]
    return places

# T context length, B batch size
"""From texts to batches: training text, validation text, sliding windows over the ids, packed rows."""

import hashlib
import platform
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import regex

from npgpt.core import Array
from npgpt.core.shapes import as_ids
from npgpt.core.values import LARGEST, each_text, flag, real, whole
from npgpt.core.values import text as check_text
from npgpt.errors import DataError
from npgpt.layers import IGNORE_INDEX
from npgpt.rng import make_key, permutation
from npgpt.support.files import cut_text
from npgpt.support.text_files import read_files
from npgpt.tokenizer import END_OF_TEXT, KINDS, Tokenizer
from npgpt.tokenizer.base import join_halves


def builtin_texts() -> list[str]:
    """Return the topics of Python's own documentation, which every CPython includes: English, with some code.

    A fifth of this text repeats paragraphs of earlier topics. Only the first copy of a paragraph is kept, so that the
    validation text does not repeat training text. Markup is removed. Each
    release of Python has another text (3.11.2 and 3.11.7 differ), so losses can be compared only within one:
    ``builtin_name`` says which it is.
    """
    from pydoc_data.topics import topics  # 0.5 MB, so it is imported only when it is needed

    texts, seen = [], set()
    for name in sorted(topics):
        paragraphs = []
        for paragraph in re.split(r"\n\s*\n", topics[name]):
            words = " ".join(paragraph.split())  # paragraphs that differ only in white space are the same
            if words and words not in seen:
                seen.add(words)
                paragraphs.append(_without_markup(paragraph.strip("\n")))
        if any(paragraphs):
            texts.append("\n\n".join(filter(None, paragraphs)) + "\n")
    return texts


_RULE = re.compile(r"\s*(([*=~^-])\2{2,}|[+|].*[+|])\s*")  # the line below a title, and the rows of a table
# *a*, **a**, "a", "a()" in prose; not the parts of code such as "**a", {"a": 1} and x["a"]
_MARKED = re.compile(r'(?<![\w*"])(\*\*?)(\w[^*"\n]*?)\1(?![\w*"])|(?<![\w"\[{:=])"(\w[\w.]*(?:\(\))?)"(?![\w"\]}:=])')
PROSE = 55  # characters: each line of prose but the last is as long at least


def _without_markup(paragraph: str) -> str:
    """Return a paragraph without rules and tables; prose as one line, without stars and quotation marks around names.

    >>> _without_markup('The "for" loop\\n**************')
    'The for loop'
    """
    lines = [line for line in paragraph.split("\n") if not _RULE.fullmatch(line)]
    words = " ".join(lines).split()
    margins = {len(line) - len(line.lstrip()) for line in lines}
    if (
        ">>>" in words
        or len(margins) != 1
        or any(len(line) < PROSE for line in lines[:-1])
        or (len(lines) == 1 and margins != {0})
    ):
        return "\n".join(lines)  # code, a list, or nothing
    return " " * margins.pop() + _MARKED.sub(lambda found: found[2] or found[3], " ".join(words))


def builtin_name() -> str:
    """Return a name of the built-in text that differs if the text does: Python's version, and a hash of the text."""
    digits = hashlib.sha256("\n".join(builtin_texts()).encode()).hexdigest()[:8]
    return f"the documentation of Python {platform.python_version()} (pydoc_data.topics, SHA-256 {digits})"


def read_texts(paths: Sequence[str | Path]) -> list[str]:
    """Return the texts of files, of the files in folders, and of those that match a pattern: see ``read_files``.

    Without any path, these are the built-in texts.

    Raises
        DataError if a named file is empty or not UTF-8, or nothing is found; ConfigError if a file is given twice.
    """
    return read_files(paths).texts or builtin_texts()


def split_texts(texts: Sequence[str], validation_fraction: float) -> tuple[list[str], list[str]]:
    """Split every text. Return the training parts, and the validation parts that are not empty.

    Raises
        DataError if no training text is left.
    """
    texts = list(each_text("split_texts", "texts", texts))
    if not "".join(texts).strip():
        raise DataError("there is no text to train on: the given texts are empty or contain only white space")
    parts = [split_text(text, validation_fraction) for text in texts]
    if not "".join(train for train, _ in parts).strip():
        raise DataError(f"a validation_fraction of {validation_fraction} leaves no training text; use a smaller one")
    return [train for train, _ in parts], [validation for _, validation in parts if validation]


def split_text(text: str, validation_fraction: float) -> tuple[str, str]:
    """Split a text into training text (its beginning) and validation text (its end).

    The cut is after a line end if one is near, else between two words, else (there are scripts without spaces) between
    two grapheme clusters: what a reader takes for one character, such as a flag or a letter with its accents. The two
    halves of a character are joined first. ``<|endoftext|>`` is never cut; it stays with the document that it ends.

    >>> split_text("one two\\nthree four\\nfive", 0.4)
    ('one two\\n', 'three four\\nfive')
    >>> split_text("one two three four", 0.4)
    ('one two', ' three four')
    """
    validation_fraction = real("split_text", "validation_fraction", validation_fraction, least=0)
    text = join_halves(check_text("split_text", "text", text))
    body = text.removesuffix(END_OF_TEXT)
    cut = _cut_near(body, round(len(body) * (1 - min(1.0, validation_fraction))))
    after = cut + len(END_OF_TEXT)
    if text.startswith(END_OF_TEXT, cut) and _cluster_end(text, after - 1) == after:
        cut = after
    return text[:cut], text[cut:]


NEAR = 1000  # characters
_WORD_END = regex.compile(r"(?<=\S)(?=\s+\S)")  # the end of a word that another word follows
_CLUSTER = regex.compile(r"\X")


def _cut_near(text: str, wanted: int) -> int:
    """Return the place of the cut of ``split_text``. If 0 < wanted < len(text), both parts get text where possible."""
    if not 0 < wanted < len(text):
        return wanted
    first = max(0, wanted - NEAR)
    if line_end := text.rfind("\n", first, wanted) + 1:
        return line_end
    words: list[int] = [found.start() for found in _WORD_END.finditer(text, first, wanted + NEAR)]
    words = [end for end in words if _cluster_end(text, end - 1) == end]  # a mark such as U+0600 joins a space
    if words:
        return max((end for end in words if end <= wanted), default=words[0])
    text = text.replace(END_OF_TEXT, "<".ljust(len(END_OF_TEXT), "\u0301"))  # a cluster: a letter with many accents
    end = _cluster_end(text, wanted - 1)
    if end == wanted:
        return wanted
    # Every place in a cluster has the same end, so bisection finds its start.
    return bisect_left(range(wanted), end, key=lambda at: _cluster_end(text, at)) or end


def _cluster_end(text: str, at: int) -> int:
    """Return the first end of a grapheme cluster after a place. ``regex`` also looks at the characters before it."""
    end: int = _CLUSTER.match(text, at).end()
    return end


def encode_texts(
    tokenizer: Tokenizer, texts: Sequence[str], progress: Callable[[int, int], Any] | None = None
) -> Array:
    """Encode all texts as one sequence of ids (n,), with the one token ``<|endoftext|>`` after each document.

    A text is one document, or several with ``<|endoftext|>`` between them.

    Args
        progress: called with (characters done, characters in all), after each megabyte of a long text too.
    """
    texts = list(each_text("encode_texts", "texts", texts))
    done, in_all = 0, sum(map(len, texts))
    encode = getattr(tokenizer, "encode_array", tokenizer.encode)  # a reader's own class may have lists alone
    found: list[Array] = [np.zeros(0, np.uint32)]
    for text in texts:
        # A user's own tokenizer, or one without a split pattern, may have tokens that cross a line end.
        cuts = type(tokenizer) in KINDS.values() and getattr(tokenizer, "pattern", "gpt2") != "none"
        for part in cut_text(text) if cuts else [text]:
            ids = encode(part, allowed_special={END_OF_TEXT})
            found.append(ids if isinstance(ids, np.ndarray) else np.array(ids, np.int64))
            done += len(part)
            if progress:
                progress(done, in_all)
        if not text.endswith(END_OF_TEXT):
            found.append(np.array([tokenizer.special_tokens[END_OF_TEXT]], np.uint32))
    return np.concatenate(found, dtype=np.int64)


def pack_rows(
    ids: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], context_length: int
) -> tuple[Array, Array, Array]:
    """Put documents one behind the other into rows. Return ids, targets and document numbers (B, T).

    A document goes to the first row that has room for it, the longest first. So there is less padding than in rows of
    one document each. ``train.accumulate(model, x, y, cache, documents=documents)`` trains on them.

    Args
        ids, targets: of each document, lists or arrays of equal length. A target is IGNORE_INDEX if it does not count.
        context_length: the most tokens in a row; T is the number of those in the fullest one.

    >>> x, y, documents = pack_rows([[1, 2], [3, 4, 5], [6]], [[2, 0], [4, 5, 0], [0]], context_length=4)
    >>> x.tolist(), documents.tolist()                      # the padding has id 0, and is a document of its own
    ([[3, 4, 5, 6], [1, 2, 0, 0]], [[0, 0, 0, 1], [0, 0, 1, 1]])
    """
    most = whole("pack_rows", "context_length", context_length, 1, LARGEST, error=DataError)
    if not all(isinstance(given, Sequence | np.ndarray) for given in (ids, targets)) or len(ids) != len(targets):
        raise DataError("pack_rows: ids and targets must be two lists with one list for each document")
    found = [
        [as_ids("pack_rows", f"{name}[{i}]", given[i], error=DataError) for i in range(len(ids))]
        for name, given in (("ids", ids), ("targets", targets))
    ]
    for i, (of_ids, of_targets) in enumerate(zip(*found, strict=True)):
        if len(of_ids) != len(of_targets) or not 0 < len(of_ids) <= most:
            raise DataError(
                f"pack_rows: document {i} has {len(of_ids)} ids and {len(of_targets)} targets; both need the same "
                f"number, 1 to {most} (context_length)"
            )
    ends, places = np.zeros(len(ids), np.int64), []  # of each row; of each document
    for i in sorted(range(len(ids)), key=lambda i: -len(found[0][i])):
        n = len(found[0][i])
        row = int(np.argmax(ends + n <= most))
        ends[row] += n
        places.append((i, row, slice(int(ends[row]) - n, int(ends[row]))))
    shape = np.count_nonzero(ends), ends.max(initial=0)
    x, y, documents = (np.full(shape, fill, np.int64) for fill in (0, IGNORE_INDEX, 0))
    for i, row, place in places:
        x[row, place], y[row, place] = found[0][i], found[1][i]
        documents[row, place.stop :] += 1
    return x, y, documents


class SlidingWindows:
    """Batches of pairs (x, y) of T ids each, where y[t] is the id that follows x[t].

    A window starts every ``stride`` ids. With stride 1 there is an example for each id (except the last T), and
    neighbouring examples share T − 1 ids. With stride T the windows are disjoint, and each id is a target once.

    Args
        ids: (n,) integers.
        context_length: T.
        batch_size: B; the last batch of an epoch may be smaller, unless drop_last is set.
        shuffle: whether each epoch has a new order, which depends on seed and epoch only.
    Raises
        DataError if there are fewer than T + 1 ids (or, with drop_last, fewer than B examples).

    ``len(windows)`` is the number of batches of an epoch, ``windows.n_examples`` the number of examples. Each iteration
    is a new epoch; ``windows.batch(step)`` returns any batch of endless training directly.

    >>> windows = SlidingWindows(np.arange(8), context_length=3, stride=2, batch_size=2)
    >>> for x, y in windows: print(x.tolist(), y.tolist())
    [[0, 1, 2], [2, 3, 4]] [[1, 2, 3], [3, 4, 5]]
    [[4, 5, 6]] [[5, 6, 7]]
    """

    def __init__(
        self,
        ids: Array,
        context_length: int,
        stride: int = 1,
        batch_size: int = 1,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        who = "SlidingWindows"
        ids = as_ids(who, "ids", ids, error=DataError)
        context_length = whole(who, "context_length", context_length, 1, error=DataError)
        stride = whole(who, "stride", stride, 1, LARGEST, error=DataError)
        batch_size = whole(who, "batch_size", batch_size, 1, error=DataError)
        if len(ids) < context_length + 1:
            raise DataError(
                f"the text has {len(ids)} tokens, but one example needs {context_length + 1}: context_length "
                f"{context_length} and the next token; use a longer text or a shorter context"
            )
        self.ids = ids
        self.context_length = context_length
        self.stride = stride
        self.batch_size = batch_size
        self.shuffle = flag(who, "shuffle", shuffle)
        self.seed = whole(who, "seed", seed)
        self.n_examples = (len(ids) - context_length - 1) // stride + 1
        self._n_batches = (
            self.n_examples // batch_size if flag(who, "drop_last", drop_last) else -(-self.n_examples // batch_size)
        )
        if self._n_batches == 0:
            raise DataError(f"drop_last drops every example: {self.n_examples} are fewer than batch_size {batch_size}")
        self._epoch = 0
        self._order: tuple[int, Array] = (-1, np.arange(0))  # of one epoch

    def __len__(self) -> int:
        return self._n_batches

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        epoch, self._epoch = self._epoch, self._epoch + 1
        for i in range(len(self)):
            yield self.batch(epoch * len(self) + i)

    def batch(self, step: int) -> tuple[Array, Array]:
        """Return batch number ``step``, counted over all epochs: two arrays (B, T)."""
        epoch, i = divmod(whole("SlidingWindows", "step", step, 0, error=DataError), len(self))
        examples = self._examples(epoch)[i * self.batch_size : (i + 1) * self.batch_size]
        places = (examples * self.stride)[:, None] + np.arange(self.context_length)  # (B, T)
        return self.ids[places], self.ids[places + 1]

    def _examples(self, epoch: int) -> Array:
        if self._order[0] != epoch:
            n = self.n_examples
            order = permutation(make_key("shuffle", self.seed, epoch), n) if self.shuffle else np.arange(n)
            self._order = (epoch, order)
        return self._order[1]

# V vocabulary
"""Baselines for the loss: unigram and bigram models, which use the frequencies of tokens and of pairs of tokens."""

import numpy as np

from npgpt.core import Array
from npgpt.core.shapes import as_ids
from npgpt.core.values import LARGEST, whole
from npgpt.errors import DataError


def unigram_loss(train_ids: Array, ids: Array, vocab_size: int) -> float:
    """Return the mean cross-entropy, in nats, of ``ids[1:]`` under the frequencies of tokens in the training text.

    p(v) = (count(v) + 1)/(n + V): one is added so that a token that never occurred has a probability above zero.

    Raises
        DataError if there are fewer than two ids.
    """
    train_ids, ids = _checked(train_ids, ids, vocab_size)
    return float(-np.log(_unigram(train_ids, vocab_size)[ids[1:]]).mean())


def bigram_loss(train_ids: Array, ids: Array, vocab_size: int) -> float:
    """Return the mean cross-entropy, in nats, of ``ids[1:]`` under an interpolated bigram model.

    p(v | u) = λ·count(u v)/count(u) + (1 − λ)·p(v), or p(v) if u never occurred; u is the id before v. λ is the best of
    0, 0.01, ..., 0.99 on the last tenth of the training text, with counts of the rest. Then all of it is counted.

    Raises
        DataError if there are fewer than two ids, or too few to train on to choose λ.
    """
    train_ids, ids = _checked(train_ids, ids, vocab_size)
    cut = len(train_ids) * 9 // 10
    if cut < 2 or len(train_ids) - cut < 2:
        raise DataError(f"{len(train_ids)} training tokens are too few, at least 11 are needed; use a longer text")
    pair, single = _bigram(train_ids[:cut], train_ids[cut:], vocab_size)
    weights = np.arange(100) / 100
    losses = [-np.log(weight * pair + (1 - weight) * single).mean() for weight in weights]
    best = weights[int(np.argmin(losses))]
    pair, single = _bigram(train_ids, ids, vocab_size)
    return float(-np.log(best * pair + (1 - best) * single).mean())


def _checked(train_ids: Array, ids: Array, vocab_size: int) -> tuple[Array, Array]:
    vocab_size = whole("baselines", "vocab_size", vocab_size, 1, LARGEST)
    train_ids, ids = (
        as_ids("baselines", name, array, vocab_size).astype(np.int64)  # products of narrow integers would overflow
        for name, array in (("train_ids", train_ids), ("ids", ids))
    )
    if len(ids) < 2:
        raise DataError(
            f"{len(ids)} validation tokens are too few, at least 2 are needed; "
            "use a longer text or a larger validation_fraction"
        )
    return train_ids, ids


def _unigram(train_ids: Array, vocab_size: int) -> Array:
    counts = np.bincount(train_ids, minlength=vocab_size)
    probabilities: Array = (counts + 1) / (len(train_ids) + vocab_size)
    return probabilities


def _bigram(train_ids: Array, ids: Array, vocab_size: int) -> tuple[Array, Array]:
    """Return, for each of ``ids[1:]``, count(u v)/count(u) (p(v) if u never occurred), and p(v)."""
    pairs, counts = np.unique(train_ids[:-1] * vocab_size + train_ids[1:], return_counts=True)
    firsts = np.bincount(train_ids[:-1], minlength=vocab_size)[ids[:-1]]
    wanted = ids[:-1] * vocab_size + ids[1:]
    place = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    count = np.where(pairs[place] == wanted, counts[place], 0)
    single = _unigram(train_ids, vocab_size)[ids[1:]]
    return np.where(firsts > 0, count / np.maximum(firsts, 1), single), single

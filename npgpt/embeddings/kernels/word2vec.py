"""word2vec: one pass over a text, one word and one of its neighbours at a time.

The plain loop is ``npgpt.embeddings.word2vec.textbook_epoch``, over the steps of ``examples``; the tests compare with
it. Its docstring also explains why each neighbour gets the whole gradient of the mean in CBOW.

Each step changes rows that the next step reads, so one thread runs the steps in order. Rows are padded with zeros to
whole registers. All products of a pair are computed before its rows change, so one call computes all its sigmoids,
sixteen at a time. An alias table and two hashes of a counter give each noise word, without a search in cumulative sums.
"""

from typing import Any

import numpy as np
from numba import types

from npgpt.machine.bits import random_word
from npgpt.machine.compile import entry, inline_kernel, kernel
from npgpt.machine.functions import sigmoid
from npgpt.machine.kinds import FLAG, FLOATS, FLOATS_OUT, INT, INTS, ROWS_OUT
from npgpt.machine.vector import LANES, fma, load, splat, store, sum_lanes

MOST_NOISE = LANES - 1  # noise words of a pair: all labels fit into one register
BITS = types.Array(types.uint32, 1, "C", readonly=True)
INTS_OUT = types.Array(types.int64, 1, "C")


@inline_kernel
def draw(bits: Any, other_bits: Any, keep: Any, alias: Any) -> Any:
    """Draw a word from an alias table: a uniform word, or its alias with the rest of the probability."""
    word = np.int64((np.uint64(bits) * np.uint64(len(keep))) >> np.uint64(32))
    return word if other_bits < keep[word] else alias[word]


@kernel
def _learn(
    inputs: Any, outputs: Any, h: Any, row: int, words: Any, n: int, rate: float, g: Any, dh: Any, C: int
) -> None:
    """Learn one pair: compute the products of h with all words, their gradients and dh; update the words' rows.

    ``row`` is the start of the hidden vector in ``h``; ``words[0]`` is the target, the others are noise.
    """
    for k in range(n):
        of_word, total = words[k] * C, splat(0.0)
        for c in range(0, C, LANES):
            total = fma(load(h, row + c), load(outputs, of_word + c), total)
        g[k] = sum_lanes(total)
    labels = load(g, LANES)  # 1, 0, 0, ...
    store(g, 0, (labels - sigmoid(load(g, 0))) * np.float32(rate))
    for c in range(0, C, LANES):
        hidden, back = load(h, row + c), splat(0.0)
        for k in range(n):
            back = fma(splat(g[k]), load(outputs, words[k] * C + c), back)
        for k in range(n):  # a word drawn twice is updated twice; `back` used its old row
            at = words[k] * C + c
            store(outputs, at, fma(splat(g[k]), hidden, load(outputs, at)))
        store(dh, c, back)


@kernel
def _add(table: Any, at: int, dh: Any, C: int) -> None:
    for c in range(0, C, LANES):
        store(table, at + c, load(table, at + c) + load(dh, c))


@entry(
    ROWS_OUT, ROWS_OUT, INTS, INTS, INTS_OUT, BITS, BITS, INTS, INT, INT, INT, INT, FLAG, FLOATS, FLOATS_OUT, FLOATS_OUT
)  # fmt: skip
def train_epoch(
    inputs: Any, outputs: Any, ids: Any, starts: Any, kept: Any, keep_word: Any, noise_keep: Any, noise_alias: Any,
    key_of_epoch: int, window: int, negative: int, n_before: int, cbow: bool, rates: Any, work: Any, h: Any,
) -> None:  # fmt: skip
    """Train one pass over a text.

    Args
        inputs, outputs: (V, C) tables; C is a multiple of 16.
        ids, starts: the words of all sentences, one after another; the start of each sentence, and the last end.
        kept: (longest sentence + 16,), working memory.
        keep_word: for each word, the number of the 2³² possible draws that keep it (sub-sampling).
        noise_keep, noise_alias: the alias table of the noise.
        key_of_epoch: the key of all random numbers.
        n_before: the number of words in earlier epochs.
        rates: the first learning rate, the last one, and the number of words in all epochs.
        work: (2·16 + C,): products, then gradients; labels; dh.
        h: (C,), the mean of the neighbours, for CBOW.
    """
    C = inputs.shape[1]
    low, high = np.uint32(key_of_epoch & 0xFFFFFFFF), np.uint32((key_of_epoch >> 32) & 0xFFFFFFFF)
    words, dh = kept[len(kept) - LANES :], work[2 * LANES :]
    g = work[: 2 * LANES]
    counter, pairs = np.uint32(0), np.uint32(0)
    flat_in, flat_out = inputs.reshape(inputs.size), outputs.reshape(outputs.size)
    for sentence in range(len(starts) - 1):
        first, last = starts[sentence], starts[sentence + 1]
        done = np.float32((n_before + first) / rates[2])
        rate = max(rates[1], rates[0] - (rates[0] - rates[1]) * done)
        n = 0
        for position in range(first, last):
            if random_word(low, high, np.uint32(position)) <= keep_word[ids[position]]:
                kept[n] = ids[position]
                n += 1
        for i in range(n):
            counter += np.uint32(1)
            reach = window - int((np.uint64(random_word(high, low, counter)) * np.uint64(window)) >> np.uint64(32))
            left, right = max(0, i - reach), min(n, i + reach + 1)
            target = kept[i]
            words[0] = target
            if cbow:
                count = right - left - 1
                if count > 0:
                    pairs += np.uint32(1)
                    m = _noise(words, target, negative, low, high, pairs, noise_keep, noise_alias)
                    for c in range(0, C, LANES):
                        total = splat(0.0)
                        for j in range(left, right):
                            if j != i:
                                total = total + load(flat_in, kept[j] * C + c)
                        store(h, c, total / np.float32(count))
                    _learn(flat_in, flat_out, h, 0, words, m, rate, g, dh, C)
                    for j in range(left, right):
                        if j != i:
                            _add(flat_in, kept[j] * C, dh, C)
            else:
                for j in range(left, right):
                    if j != i:
                        pairs += np.uint32(1)
                        m = _noise(words, target, negative, low, high, pairs, noise_keep, noise_alias)
                        row = kept[j] * C
                        _learn(flat_in, flat_out, flat_in, row, words, m, rate, g, dh, C)
                        _add(flat_in, row, dh, C)


@kernel
def _noise(words: Any, target: int, negative: int, low: Any, high: Any, pair: Any, keep: Any, alias: Any) -> int:
    """Write noise words other than the target after the target; return the number of words, including the target."""
    m = 1
    for k in range(negative):
        counter = np.uint32(pair * np.uint32(2 * MOST_NOISE) + np.uint32(2 * k))
        other = draw(random_word(high, high, counter), random_word(low, high, counter + np.uint32(1)), keep, alias)
        if other != target:
            words[m] = other
            m += 1
    return m

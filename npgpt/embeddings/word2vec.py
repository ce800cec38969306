# V vocabulary, C channels
"""word2vec: word vectors, learned by distinguishing the neighbours of a word from noise words.

Training passes over the text ``epochs`` times. Frequent words are left out at random (sub-sampling). The window has a
random size for each word (dynamic window). Noise words are drawn with a probability proportional to count^0.75. The
learning rate falls linearly with each sentence. All randomness is a hash of seed, epoch and position, and one thread
processes the text. So the vectors are the same, bit for bit, for any number of threads and on any CPU.

Source    Mikolov et al. 2013, arXiv:1301.3781 and arXiv:1310.4546
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from npgpt.build import check_layers
from npgpt.config import Options, option
from npgpt.core import Array, Cache
from npgpt.core.values import flag, shown
from npgpt.core.values import text as check_text
from npgpt.core.values import texts as check_texts
from npgpt.embeddings.negative_sampling import NegativeSampling
from npgpt.embeddings.vectors import WordVectors
from npgpt.errors import DataError, TrainingError
from npgpt.rng import make_key, random_bits
from npgpt.tokenizer import END_OF_TEXT
from npgpt.tokenizer.base import join_halves
from npgpt.tokenizer.words import WORD

LANES = 16  # numbers in a register; the width of the tables is a multiple of it
MOST_NOISE = LANES - 1


@dataclass(frozen=True)
class Word2VecConfig(Options):
    """The settings of word2vec, with the defaults of word2vec and gensim.

    Raises
        ConfigError if a value is out of range.
    """

    n_embd: int = option(100, "number of channels of each vector", at_least=1)
    window: int = option(5, "largest number of context words on each side", at_least=1)
    min_count: int = option(5, "smallest count of a word in the vocabulary", at_least=1)
    negative: int = option(5, "number of noise words for each pair", at_least=1, at_most=MOST_NOISE)
    sample: float = option(
        1e-3, "share of the text above which a word is sub-sampled; 0 keeps all words", at_least=0, below=1
    )
    epochs: int = option(5, "number of passes over the text", at_least=1)
    learning_rate: float = option(0.025, "learning rate at the start", above=0)
    min_learning_rate: float = option(1e-4, "learning rate at the end", at_least=0)
    algorithm: str = option(
        "skip-gram",
        "each context word predicts the word (skip-gram), or their mean does (cbow)",
        one_of=("skip-gram", "cbow"),
    )
    seed: int = option(1, "seed; the same seed gives the same vectors")


class Corpus:
    """Sentences as ids, with the distributions for sub-sampling and noise.

    Attributes
        words, counts: (V,), the vocabulary: the most frequent word first, equally frequent words in sorted order.
        ids, starts: the ids of all sentences, and the start of each sentence (and the end of the last).
    Raises
        DataError if fewer than two words occur min_count times.
    """

    def __init__(self, sentences: Iterable[Sequence[str]], config: Word2VecConfig) -> None:
        if isinstance(sentences, str | bytes | Mapping) or not isinstance(sentences, Iterable):
            raise DataError(
                f"sentences must be lists of words, not {shown(sentences)}; to_sentences makes them of a text"
            )
        texts = [check_texts("sentences", f"[{n}]", sentence) for n, sentence in enumerate(sentences)]
        counter = Counter(word for sentence in texts for word in sentence)
        enough = [word for word, n in counter.items() if n >= config.min_count]
        if len(enough) < 2:
            raise DataError(
                f"only {len(enough)} of {len(counter)} different words occur at least {config.min_count} times "
                "(min_count); give a longer text, or a smaller min_count"
            )
        self.words = sorted(enough, key=lambda word: (-counter[word], word))
        self.counts = np.array([counter[word] for word in self.words], np.int64)
        number = {word: i for i, word in enumerate(self.words)}
        numbered = [[number[word] for word in sentence if word in number] for sentence in texts]
        self.ids = np.array([i for sentence in numbered for i in sentence], np.int64)
        self.starts = np.cumsum([0, *map(len, numbered)]).astype(np.int64)

    def shares_kept(self, sample: float) -> Array:
        """Return the share of each word that sub-sampling keeps: √(t/f) + t/f, at most 1, for a share f of the text."""
        if not sample:
            return np.ones(len(self.words))
        ratio = sample * self.counts.sum() / self.counts
        shares: Array = np.minimum(np.sqrt(ratio) + ratio, 1.0)
        return shares

    def keep_thresholds(self, sample: float) -> Array:
        """Return for each word (V,) the largest random number, of 2³², that keeps it."""
        return np.minimum(self.shares_kept(sample) * 2.0**32, 2**32 - 1).astype(np.uint32)

    def alias_table(self) -> tuple[Array, Array]:
        """Return the noise, count^0.75, as (threshold, other word): draw a word, then keep it or take the other one.

        Source    Vose 1991: each place is filled up to 1/V with the surplus of another one.
        """
        # count^¾ as √(count·√count): square roots are the same on every machine, powers are not
        share = np.sqrt(self.counts * np.sqrt(self.counts.astype(float)))
        weight = share / share.sum() * len(share)
        keep, other = np.full(len(share), 2**32 - 1, np.uint32), np.arange(len(share))
        small, large = [i for i, w in enumerate(weight) if w < 1], [i for i, w in enumerate(weight) if w >= 1]
        while small and large:
            i, j = small.pop(), large[-1]
            keep[i], other[i] = min(weight[i] * 2.0**32, 2**32 - 1), j
            weight[j] -= 1 - weight[i]
            if weight[j] < 1:
                small.append(large.pop())
        return keep, other


def to_sentences(text: str, keep_case: bool = False) -> Iterator[list[str]]:
    """Yield the words of each sentence, without punctuation.

    A sentence ends at . ! or ?, at an empty line and at ``<|endoftext|>``.

    >>> list(to_sentences("The cat sat. It\\nsat still\\n\\nwell-fed<|endoftext|>dog"))
    [['the', 'cat', 'sat'], ['it', 'sat', 'still'], ['well-fed'], ['dog']]
    """
    text, keep_case = check_text("to_sentences", "text", text), flag("to_sentences", "keep_case", keep_case)
    return _sentences(join_halves(text), keep_case)


def _sentences(text: str, keep_case: bool) -> Iterator[list[str]]:
    sentence: list[str] = []
    for paragraph in text.replace(END_OF_TEXT, "\n\n").split("\n\n"):
        for word in [*WORD.findall(paragraph if keep_case else paragraph.lower()), "."]:
            if word in ".!?":
                if sentence:
                    yield sentence
                sentence = []
            elif word[0].isalnum() or word[0] == "_":
                sentence.append(word)


def train_word2vec(
    sentences: Iterable[Sequence[str]], config: Word2VecConfig | None = None, layers: str = "compiled"
) -> WordVectors:
    """Learn a vector for each word.

    Args
        layers: "compiled", or "textbook" for comparison: single steps in NumPy, about a thousand times slower.
    Raises
        ConfigError if ``layers`` is unknown; DataError if too few words are frequent enough; TrainingError if a
        vector is not finite after an epoch.
    """
    check_layers(layers)
    config = config or Word2VecConfig()
    corpus = Corpus(sentences, config)
    width = -(-config.n_embd // LANES) * LANES
    inputs, outputs = np.zeros((len(corpus.words), width), np.float32), np.zeros((len(corpus.words), width), np.float32)
    key = make_key("word2vec", config.seed)
    bits = random_bits(key, np.arange(len(corpus.words) * config.n_embd, dtype=np.uint32))
    inputs[:, : config.n_embd] = ((bits / 2.0**31 - 1.0) / config.n_embd).reshape(-1, config.n_embd)
    for epoch in range(config.epochs):
        train = _compiled_epoch if layers == "compiled" else textbook_epoch
        train(inputs, outputs, corpus, config, epoch)
        if not np.isfinite(inputs).all():
            raise TrainingError(
                f"epoch {epoch + 1}: training diverged; a vector is not finite. Take a lower learning_rate"
            )
    return WordVectors(corpus.words, np.ascontiguousarray(inputs[:, : config.n_embd]))


def _compiled_epoch(inputs: Array, outputs: Array, corpus: Corpus, config: Word2VecConfig, epoch: int) -> None:
    from npgpt.embeddings.kernels.word2vec import train_epoch

    work = np.zeros(2 * LANES + inputs.shape[1], np.float32)
    work[LANES] = 1  # the label of the target
    longest = int(np.diff(corpus.starts).max())
    total = float(config.epochs * len(corpus.ids))
    train_epoch(
        inputs,
        outputs,
        corpus.ids,
        corpus.starts,
        np.zeros(longest + LANES, np.int64),
        corpus.keep_thresholds(config.sample),
        *corpus.alias_table(),
        np.int64(np.uint64(_key(config, epoch))),
        config.window,
        config.negative,
        epoch * len(corpus.ids),
        config.algorithm == "cbow",
        np.array([config.learning_rate, config.min_learning_rate, total], np.float32),
        work,
        np.zeros(inputs.shape[1], np.float32),
    )


def _key(config: Word2VecConfig, epoch: int) -> int:
    return make_key("word2vec", config.seed, epoch) >> 1  # it must fit into an int64


@dataclass(frozen=True)
class Example:
    """The data of one step: the rows whose mean is h, the target and its noise words, and the rate."""

    rows: list[int]
    words: list[int]
    rate: float


def examples(corpus: Corpus, config: Word2VecConfig, epoch: int) -> Iterator[Example]:
    """Yield all steps of an epoch, in the order of the kernel."""
    epoch_key = _key(config, epoch)
    low, high = epoch_key & 0xFFFFFFFF, epoch_key >> 32
    swapped, twice = low << 32 | high, high << 32 | high
    keep, (noise_keep, noise_other) = corpus.keep_thresholds(config.sample), corpus.alias_table()
    total, counter, pairs = config.epochs * len(corpus.ids), 0, 0

    def bits(key: int, at: int) -> int:
        return int(random_bits(key, np.array([at & 0xFFFFFFFF], np.uint32))[0])

    def noise(target: int) -> list[int]:
        words = [target]
        for k in range(config.negative):
            at = pairs * 2 * MOST_NOISE + 2 * k
            word = bits(twice, at) * len(noise_keep) >> 32
            word = word if bits(epoch_key, at + 1) < noise_keep[word] else int(noise_other[word])
            words += [word] if word != target else []
        return words

    for first, last in zip(corpus.starts, corpus.starts[1:], strict=False):
        done = np.float32((epoch * len(corpus.ids) + first) / np.float32(total))
        fall = np.float32(config.learning_rate) - np.float32(config.min_learning_rate)
        rate = max(float(np.float32(config.min_learning_rate)), float(np.float32(config.learning_rate) - fall * done))
        places = np.arange(first, last).astype(np.uint32)
        sentence = corpus.ids[first:last]
        kept = sentence[random_bits(epoch_key, places) <= keep[sentence]]
        for i, target in enumerate(kept):
            counter += 1
            reach = config.window - (bits(swapped, counter) * config.window >> 32)
            around = [int(kept[j]) for j in range(max(0, i - reach), min(len(kept), i + reach + 1)) if j != i]
            for rows in [around] if config.algorithm == "cbow" and around else [[row] for row in around]:
                pairs += 1
                yield Example(rows, noise(int(target)), rate)


def textbook_epoch(inputs: Array, outputs: Array, corpus: Corpus, config: Word2VecConfig, epoch: int) -> None:
    """Run one epoch, step by step, with the layer of ``negative_sampling.py``, which derives the gradients.

    CBOW in word2vec does not exactly follow the gradient. Each of the M neighbours has the weight 1/M in their mean h,
    so its gradient is dh/M. But word2vec subtracts the whole dh from each, as if the rate were M times as large for
    these rows. For one neighbour (skip-gram) the two are equal.
    """
    layer = NegativeSampling(*inputs.shape)
    layer.inputs.move(inputs, np.zeros_like(inputs))
    layer.outputs.move(outputs, np.zeros_like(outputs))
    cache = Cache()
    for example in examples(corpus, config, epoch):
        labels = np.array([[1] + [0] * (len(example.words) - 1)])
        layer.zero_grad()
        layer.forward(np.array([example.rows]), np.array([example.words]), labels, cache.reset())
        layer.backward(1.0, cache)
        rate = np.float32(example.rate)
        outputs -= rate * layer.outputs.grad
        inputs -= rate * len(example.rows) * layer.inputs.grad  # M times dh/M

# n pairs, K words (the word in the document, then noise), D documents, V vocabulary, C channels
"""PV-DBOW: a vector for each document, learned by predicting the document's words.

It is skip-gram with the document in place of the neighbour: only the words count, not their order.

Source    Le and Mikolov 2014, arXiv:1405.4053, section 2.3 (distributed bag of words), by negative sampling
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np

from npgpt.build import can_compile, check_layers, make_optimizer, twin
from npgpt.config import Options, option
from npgpt.core import Array, Cache, Layer
from npgpt.core.shapes import as_floats, check_ids, check_shape
from npgpt.core.values import real, whole
from npgpt.core.values import texts as check_texts
from npgpt.embeddings.documents import State, array_of_state, numbers_of, words_of, words_of_state
from npgpt.embeddings.negative_sampling import logistic_loss, logistic_slope, sigmoid
from npgpt.embeddings.word2vec import Corpus, Word2VecConfig
from npgpt.errors import DataError
from npgpt.layers import Embedding
from npgpt.optim import WarmupCosine
from npgpt.rng import make_key, permutation, random_bits
from npgpt.support.json_files import field
from npgpt.train import optimizer_steps

BATCH = 8192  # pairs in a step of training
LARGEST = 10**6  # of the numbers of a model, far above those of a trained one


class DocumentWords(Layer):
    """The loss of PV-DBOW: is this word in the document, or was it drawn as noise?

    Forward   d_n = A[documents_n],  w_nk = B[words_nk],  s_nk = d_n · w_nk
              L = (1/n)·``logistic_loss`` of s, with the label 1 for a word of the document and 0 for noise
    Backward  given dloss, the gradient of L (1 if L is minimised itself):
      1. ``logistic_slope`` is the slope of that loss        ⇒ ds_nk = dloss·(σ(s_nk) − label_k)/n
      2. d_n is in every s_nk, with the factor w_nk          ⇒ dd_n = Σ_k ds_nk w_nk
      3. w_nk is in s_nk only, with the factor d_n           ⇒ dw_nk = ds_nk d_n
      4. both are rows of tables: the backward of the lookup adds them to these rows
    Shapes    documents (n,), words (n, K) of integers; A (D, C), B (V, C); d (n, C), w (n, K, C), s (n, K); L a scalar
    Keeps     document (that is d), word (that is w), scores (that is s)
    Raises    ShapeError if an id is out of range

    >>> layer, cache = DocumentWords(1, 2, 1), Cache()
    >>> layer.documents.weight.value[:] = 2
    >>> print(layer.forward(np.array([0]), np.array([[1, 0]]), cache).round(6))       # all scores 0: 2·log 2
    1.386294
    >>> layer.backward(1., cache)
    >>> layer.words.weight.grad.tolist()                # noise: ½·2, the word: −½·2
    [[1.0], [-1.0]]
    """

    def __init__(self, n_documents: int, vocab_size: int, n_embd: int) -> None:
        self.documents = Embedding(n_documents, n_embd, 0.1)
        self.words = Embedding(vocab_size, n_embd, 0.0)  # zero: all words are equally likely

    def forward(self, documents: Array, words: Array, cache: Cache) -> Array:
        check_ids("DocumentWords", "documents", documents, len(self.documents.weight.value), "set of documents")
        check_ids("DocumentWords", "words", words, len(self.words.weight.value), "vocabulary")
        check_shape("DocumentWords", "documents", documents, ("n",))
        check_shape("DocumentWords", "words", words, (len(documents), "K"))
        d = cache.keep("document", self.documents.forward(documents, cache.scope("documents")))  # (n, C)
        w = cache.keep("word", self.words.forward(words, cache.scope("words")))  # (n, K, C)
        scores = cache.keep("scores", (w @ d[..., None])[..., 0])  # (n, K)
        loss: Array = logistic_loss(scores, _labels(scores)) / len(scores)
        return loss

    def backward(self, dloss: Array | float, cache: Cache) -> None:
        dloss = real("DocumentWords", "dloss", dloss)
        d, w, scores = cache["document"], cache["word"], cache["scores"]
        ds = cache.note("scores", dloss * logistic_slope(scores, _labels(scores)) / len(scores))  # 1.
        dd = cache.note("document", (ds[:, None] @ w)[:, 0])  # 2.
        dw = cache.note("word", ds[..., None] * d[:, None])  # 3.
        self.documents.backward(dd, cache.scope("documents"))  # 4.
        self.words.backward(dw, cache.scope("words"))


def _labels(scores: Array) -> Array:
    """Return (1, K): 1 for the word in the document, then 0 for noise."""
    return np.eye(1, scores.shape[1], dtype=np.int64)


@dataclass(frozen=True)
class PVConfig(Options):
    """The settings of PV-DBOW.

    Raises
        ConfigError if a value is out of range.
    """

    n_embd: int = option(100, "number of channels of each vector", at_least=1)
    min_count: int = option(5, "smallest count of a word in the vocabulary", at_least=1)
    negative: int = option(5, "number of noise words for each word of a text", at_least=1, at_most=LARGEST)
    sample: float = option(1e-3, "share of the text above which a word is sub-sampled", above=0)
    epochs: int = option(3, "number of passes over the texts", at_least=1)
    learning_rate: float = option(0.02, "highest learning rate, after the warm-up", above=0)
    pull: float = option(
        0.1, "weight of the L2 penalty when the vector of a new text is fitted", above=0, at_most=LARGEST
    )
    seed: int = option(1, "seed; the same seed gives the same vectors")


def train_pv_dbow(texts: Sequence[str], config: PVConfig | None = None, layers: str = "compiled") -> "PVModel":
    """Learn a vector for each text and for each word; return the model that makes vectors of texts.

    Args
        layers: the layers that look up the rows: "compiled" or "textbook".
    Raises
        ConfigError if ``layers`` is unknown; DataError if too few words are frequent enough.
    """
    check_layers(layers)
    texts, config = check_texts("train_pv_dbow", "texts", texts), config or PVConfig()
    in_small_letters = ([word.lower() for word in words_of(text)] for text in texts)
    corpus = Corpus(in_small_letters, Word2VecConfig(min_count=config.min_count))
    documents = np.repeat(np.arange(len(texts)), np.diff(corpus.starts))  # (number of words,), as standing
    words, standing, keep = corpus.words, corpus.ids, corpus.shares_kept(config.sample)
    noise = corpus.counts**0.75 / (corpus.counts**0.75).sum()
    layer = DocumentWords(len(texts), len(words), config.n_embd).astype(np.float32)
    if layers == "compiled" and can_compile():
        layer = twin(layer, "compiled")
    layer.initialise(config.seed)
    optimizer = make_optimizer(layer, weight_decay=0.0)
    steps = config.epochs * (1 + int(keep[standing].sum()) // BATCH)  # the expected number: sub-sampling is random
    rate = WarmupCosine(config.learning_rate, 0.0, steps // 20, steps)
    cumulative, cache = noise.cumsum(), Cache()

    def passes() -> Iterator[tuple[float, int]]:
        for epoch in range(config.epochs):
            key = partial(make_key, "pv-dbow", config.seed, epoch)
            kept = np.flatnonzero(_uniform(key("sub-sample"), len(standing)) < keep[standing])
            kept = kept[permutation(key("shuffle"), len(kept))]
            for first in range(0, len(kept), BATCH):
                pairs = kept[first : first + BATCH]
                drawn = _uniform(key("noise", first), len(pairs) * config.negative).reshape(-1, config.negative)
                others = np.minimum(np.searchsorted(cumulative, drawn, side="right"), len(words) - 1)
                layer.zero_grad(cache)
                loss = layer.forward(documents[pairs], np.column_stack([standing[pairs], others]), cache.reset())
                layer.backward(1.0, cache)
                cache.clear_unwritten()
                yield float(loss), len(pairs)

    for _ in optimizer_steps(optimizer, rate, passes()):
        pass
    table = layer.words.weight.value.copy()
    return PVModel(words, table, keep.astype(np.float32), noise.astype(np.float32), config.negative, config.pull)


class PVModel:
    """The word vectors of a trained PV-DBOW, which give a vector for any text.

    The text vectors of training are not used. Every text, seen or new, gets the vector d that predicts its words best
    with fixed word vectors: so all vectors are made in the same way. The expected value over the noise replaces drawing
    it.

    Forward   f(d) = Σ_w P_w log(1 + e^(−d·w)) + K·Σ_v p_v log(1 + e^(d·v)) + (λ/2)·|d|²,
              P_w the share of w in the text (weighted by the share that sub-sampling keeps), p_v the noise
    Backward
      1. log(1 + e^s) has the slope σ(s), log(1 + e^(−s)) has σ(s) − 1; w is in both sums with s = d·w
                                                       ⇒ ∇f = Σ_w [(P_w + K·p_w)·σ(d·w) − P_w]·w + λd
      2. σ' <= ¼                                       ⇒ ∇f changes by at most L·|Δd|,
         L = ¼(Σ_w P_w |w|² + K·largest eigenvalue of Σ_v p_v v·vᵀ) + λ: so a step of 1/L never overshoots
    f is strictly convex, so it has one minimum. The search starts at 0 and uses Nesterov's momentum.

    Args
        words: V words.
        table: (V, C), their vectors.
        keep, noise: (V,), the share of each word that sub-sampling keeps; its probability as noise.
        negative, pull: K and λ.
    """

    def __init__(
        self, words: Sequence[str], table: Array, keep: Array, noise: Array, negative: int, pull: float
    ) -> None:
        self.words = check_texts("PVModel", "words", words)
        arrays = {"table": table, "keep": keep, "noise": noise}
        table, keep, noise = (as_floats("PVModel", name, array) for name, array in arrays.items())
        self.table, self.keep, self.noise = table, keep, noise
        self.negative = whole("PVModel", "negative", negative, 1, LARGEST, error=DataError)
        self.pull = real("PVModel", "pull", pull, above=0, error=DataError)
        self.index = {word: row for row, word in enumerate(self.words)}
        V = len(self.words)
        if len(self.index) != V or table.ndim != 2 or not len(table) == V or not keep.shape == noise.shape == (V,):
            raise DataError(f"PVModel: table, keep and noise must have a row for each of {V} different words")
        if not ((keep >= 0) & (keep <= 1) & (noise >= 0) & (noise <= 1)).all():
            raise DataError("PVModel: keep and noise are shares, 0 to 1")
        # Within these limits nothing overflows: squares of numbers, times negative.
        if not (np.abs(table) <= LARGEST).all() or not 1e-30 <= pull <= LARGEST:
            raise DataError(f"PVModel: the numbers of table must be at most {LARGEST:,}, and pull 1e-30 to {LARGEST:,}")

    def loss(self, d: Array, share: Array) -> Array:
        """Return f (D,) for each row of d (D, C) with its row of shares (D, V)."""
        s = d @ self.table.T  # (D, V)
        of_words, of_noise = share * np.logaddexp(0, -s), self.noise * np.logaddexp(0, s)
        losses: Array = (of_words + self.negative * of_noise).sum(1) + self.pull / 2 * (d**2).sum(1)
        return losses

    def gradient(self, d: Array, share: Array) -> Array:
        """Return ∇f (D, C)."""
        weights = (share + self.negative * self.noise) * sigmoid(d @ self.table.T) - share
        slopes: Array = weights @ self.table + self.pull * d  # 1.
        return slopes

    def shares(self, texts: Sequence[str]) -> Array:
        """Return P (D, V): each row sums to 1, or to 0 if no word is known."""
        texts, V = check_texts("shares", "texts", texts), len(self.words)
        if not texts:
            return np.zeros((0, V), np.float32)
        counts = np.stack([np.bincount(numbers_of(text, self.index), minlength=V) for text in texts]) * self.keep
        total = counts.sum(1, keepdims=True)
        share: Array = (counts / np.where(total > 0, total, 1)).astype(np.float32)
        return share

    def encode(self, texts: Sequence[str], steps: int = 50) -> Array:
        """Return (D, C) in float32; zeros for a text without known words."""
        texts, steps = check_texts("encode", "texts", texts), whole("encode", "steps", steps, 0)
        parts = [self._best(self.shares(texts[first : first + 256]), steps) for first in range(0, len(texts), 256)]
        return np.concatenate(parts) if parts else np.zeros((0, self.table.shape[1]), np.float32)

    def _best(self, share: Array, steps: int) -> Array:
        V, C = self.table.shape
        half = self.table.T * np.sqrt(self.noise)
        # halfᵀ·half has the same largest eigenvalue, and is smaller if there are fewer words than channels.
        products = (self.table.T * self.noise) @ self.table if C <= V else half.T @ half
        of_noise = float(np.linalg.eigvalsh(products)[-1])
        L = (share @ (self.table**2).sum(1, keepdims=True) + self.negative * of_noise) / 4 + self.pull  # 2.
        d = ahead = np.zeros((len(share), self.table.shape[1]), np.float32)
        for step in range(steps):
            before, d = d, ahead - self.gradient(ahead, share) / L
            ahead = d + step / (step + 3) * (d - before)
        return np.where(share.any(1, keepdims=True), d, 0).astype(np.float32)

    def state(self) -> State:
        settings = {"words": self.words, "negative": self.negative, "pull": self.pull}
        return settings, {"table": self.table, "keep": self.keep, "noise": self.noise}

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], arrays: Mapping[str, Array]) -> Self:
        """The inverse of ``state``; DataError if a field is missing or not valid."""
        table, keep, noise = (array_of_state(arrays, name) for name in ("table", "keep", "noise"))
        negative, pull = field(settings, "negative", int, "encoder"), field(settings, "pull", float, "encoder")
        return cls(words_of_state(settings), table, keep, noise, negative, pull)


def _uniform(key: int, n: int) -> Array:
    """Return n random numbers, at least 0 and below 1."""
    uniform: Array = random_bits(key, np.arange(n, dtype=np.uint32)) / 2.0**32
    return uniform

# n examples, M neighbours, K words (the target, then noise), C channels
"""Negative sampling: the loss of word2vec, and its logistic loss, which PV-DBOW (``pv_dbow.py``) also uses."""

import numpy as np

from npgpt.core import Array, Cache, Layer, Param
from npgpt.core.shapes import check_ids, check_shape
from npgpt.core.values import real, zeros


class NegativeSampling(Layer):
    """The loss of word2vec: does a word belong to its neighbours, or was it drawn as noise?

    Forward   h_n = mean_m I[rows_nm],  s_nk = h_n · O[words_nk];  one neighbour: skip-gram, several: CBOW
              L = ``logistic_loss`` of s and the labels
    Backward  given dloss, the gradient of L (1 if L is minimised itself):
      1. ``logistic_slope`` is ∂L/∂s                                 ⇒ ds = dloss·(σ(s) − label)
      2. O[word] is in s with the factor h                           ⇒ dO[v] = Σ ds_nk h_n over the places with word v
      3. h_n is in every s_nk, with the factor O[words_nk]           ⇒ dh_n = Σ_k ds_nk O[words_nk]
      4. each of the M neighbours has the weight 1/M in the mean     ⇒ dI[v] = Σ dh_n/M over the places with word v
         (word2vec itself uses dh_n: see ``npgpt.embeddings.word2vec.textbook_epoch``)
    Shapes    rows (n, M), words (n, K) of integers; labels (n, K) of 0 and 1; inputs, outputs (V, C); L a scalar
    Keeps     rows, words, labels, hidden (that is h), scores (that is s)
    Raises    ShapeError if a word is not in 0 to V - 1
    Source    Mikolov et al. 2013, arXiv:1310.4546, equation 4

    >>> layer, cache = NegativeSampling(2, 1), Cache()
    >>> layer.inputs.value[:], layer.outputs.value[:] = [[2], [0]], [[0], [0]]
    >>> print(layer.forward(np.array([[0]]), np.array([[1, 0]]), np.array([[1, 0]]), cache).round(6))   # 2·log 2
    1.386294
    >>> layer.backward(1., cache)
    >>> layer.outputs.grad.tolist()                    # (½ − 1)·2 for the target, (½ − 0)·2 for the noise
    [[1.0], [-1.0]]
    """

    def __init__(self, vocab_size: int, n_embd: int) -> None:
        self.inputs = Param(zeros("NegativeSampling", vocab_size=vocab_size, n_embd=n_embd), 1.0)
        self.outputs = Param(np.zeros_like(self.inputs.value))

    def forward(self, rows: Array, words: Array, labels: Array, cache: Cache) -> Array:
        V = len(self.inputs.value)
        check_ids("NegativeSampling", "rows", rows, V, "vocabulary")
        check_ids("NegativeSampling", "words", words, V, "vocabulary")
        check_ids("NegativeSampling", "labels", labels, 2, "set of labels")
        check_shape("NegativeSampling", "rows", rows, ("B", "M"))
        check_shape("NegativeSampling", "words", words, (len(rows), "K"))
        check_shape("NegativeSampling", "labels", labels, words.shape)
        rows, words, labels = cache.keep("rows", rows), cache.keep("words", words), cache.keep("labels", labels)
        h = cache.keep("hidden", self.inputs.value[rows].mean(1))  # (n, C)
        scores = cache.keep("scores", (self.outputs.value[words] * h[:, None]).sum(-1))  # (n, K)
        return logistic_loss(scores, labels)

    def backward(self, dloss: Array | float, cache: Cache) -> None:
        dloss = real("NegativeSampling", "dloss", dloss)
        rows, words, labels, h = cache["rows"], cache["words"], cache["labels"], cache["hidden"]
        ds = cache.note("scores", dloss * logistic_slope(cache["scores"], labels))  # 1.
        np.add.at(self.outputs.grad, words, ds[..., None] * h[:, None])  # 2.
        dh = cache.note("hidden", (ds[..., None] * self.outputs.value[words]).sum(1))  # 3.
        np.add.at(self.inputs.grad, rows, np.repeat(dh[:, None] / rows.shape[1], rows.shape[1], axis=1))  # 4.


def logistic_loss(scores: Array, labels: Array) -> Array:
    """Return the negative log-likelihood of the labels, where σ(score) is the probability of a label 1: a scalar.

    L = −Σ [label·log σ(s) + (1 − label)·log(1 − σ(s))],  σ(s) = 1/(1 + e^(−s))
      1. log σ(s) = −log(1 + e^(−s)),  log(1 − σ(s)) = −log(1 + e^s)
                              ⇒ L = Σ log(1 + e^z),  z = −s where the label is 1 and s where it is 0
      2. log(1 + e^z) = m + log(e^(z − m) + e^(−m)) for any m; with m = max(z, 0) nothing overflows
      3. log(1 + e^z) has the slope e^z/(1 + e^z) = σ(z)
                              ⇒ ∂L/∂s = −σ(−s) = σ(s) − 1 where the label is 1, and σ(s) where it is 0: σ(s) − label

    Args
        scores: any shape.
        labels: 0 and 1, or booleans; the same shape, or one that broadcasts to it.
    """
    z = scores * _signs(scores, labels)  # 1.
    m = z.real * (z.real > 0)
    loss: Array = (m + np.log(np.exp(z - m) + np.exp(-m))).sum()  # 2.
    return loss


def logistic_slope(scores: Array, labels: Array) -> Array:
    """Return the gradient of ``logistic_loss`` with respect to the scores, in their shape.

    >>> logistic_slope(np.zeros(2), np.array([1, 0]))
    array([-0.5,  0.5])
    """
    sign = _signs(scores, labels)
    slope: Array = sign * sigmoid(scores * sign)  # 3.
    return slope


def _signs(scores: Array, labels: Array) -> Array:
    """−1 where the label is 1, 1 where it is 0; in the precision of the scores."""
    signs: Array = 1 - 2 * labels.astype(scores.dtype if scores.dtype.kind == "f" else np.float64)
    return signs


def sigmoid(z: Array) -> Array:
    """1/(1 + e^(−z)) = ½(1 + tanh(z/2)), which cannot overflow."""
    s: Array = 0.5 * (1 + np.tanh(0.5 * z))
    return s

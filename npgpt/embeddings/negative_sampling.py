# n examples, M neighbours, K words (the target, then noise), C channels
import numpy as np

from npgpt.core import Array, Cache, Layer, Param
from npgpt.core.shapes import check_ids


class NegativeSampling(Layer):
    """The loss of word2vec: is this word the one that the neighbours belong to, or one that was drawn as noise?

    Forward   h_n = mean_m I[rows_nm],  s_nk = h_n · O[words_nk],  p = σ(s) = 1/(1 + e^(−s))
              L = −Σ_nk [label·log p + (1 − label)·log(1 − p)];  with one neighbour it is skip-gram, with several CBOW
    Backward  given dloss = ∂L/∂L of what is minimised:
      1. log σ(s) has the slope 1 − p, and log(1 − σ(s)) has −p      ⇒ ds = dloss·(p − label)
      2. O[word] stands in s with the factor h                       ⇒ dO[v] = Σ ds_nk h_n over the places where v is
      3. h_n stands in every s_nk with the factor O[words_nk]        ⇒ dh_n = Σ_k ds_nk O[words_nk]
      4. each of the M neighbours is a share 1/M of the mean         ⇒ dI[v] = Σ dh_n/M over the places where v is
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
        self.inputs = Param(np.zeros((vocab_size, n_embd)), 1.0)
        self.outputs = Param(np.zeros((vocab_size, n_embd)))

    def forward(self, rows: Array, words: Array, labels: Array, cache: Cache) -> Array:
        V = len(self.inputs.value)
        check_ids("NegativeSampling", "rows", rows, V, "vocabulary")
        check_ids("NegativeSampling", "words", words, V, "vocabulary")
        rows, words, labels = cache.keep("rows", rows), cache.keep("words", words), cache.keep("labels", labels)
        h = cache.keep("hidden", self.inputs.value[rows].mean(1))  # (n, C)
        scores = cache.keep("scores", (self.outputs.value[words] * h[:, None]).sum(-1))  # (n, K)
        # log σ(s) = s − log(1 + e^s) = −log(1 + e^(−s)): of the two, the one whose power is not large
        signed = scores * (1 - 2 * labels).astype(scores.dtype)  # −s for the target, s for noise
        large = signed * (signed.real > 0)
        loss: Array = (large + np.log(np.exp(signed - large) + np.exp(-large))).sum()
        return loss

    def backward(self, dloss: Array | float, cache: Cache) -> None:
        rows, words, labels, h = cache["rows"], cache["words"], cache["labels"], cache["hidden"]
        p = sigmoid(cache["scores"])
        ds = cache.note("scores", dloss * (p - labels.astype(p.dtype)))  # 1.
        np.add.at(self.outputs.grad, words, ds[..., None] * h[:, None])  # 2.
        dh = cache.note("hidden", (ds[..., None] * self.outputs.value[words]).sum(1))  # 3.
        np.add.at(self.inputs.grad, rows, np.repeat(dh[:, None] / rows.shape[1], rows.shape[1], axis=1))  # 4.


def sigmoid(z: Array) -> Array:
    """1/(1 + e^(−z)) = ½(1 + tanh(z/2)), which cannot overflow."""
    s: Array = 0.5 * (1 + np.tanh(0.5 * z))
    return s

# B batch, T time, C channels, V vocabulary
import math

import numpy as np
import numpy.typing as npt

from npgpt.config import GPTConfig
from npgpt.core import Array, Cache, FlatParams, Layer
from npgpt.core.shapes import check_array, check_ids
from npgpt.errors import ShapeError
from npgpt.layers import (
    Block,
    ConcatenatedPositions,
    CrossEntropy,
    Dropout,
    Embedding,
    HeadLoss,
    LayerNorm,
    NoPositions,
    VocabularyHead,
)
from npgpt.layers.schemes import SCHEMES

INITIAL_STD = 0.02


class GPT(Layer):
    """A GPT: which token comes next, at every place of a text.

    Forward   x = Dropout(Embedding(ids) + positions);  x = Block(x), n_layer times;  logits = VocabularyHead(norm(x))
    Backward  given dlogits: the same road in reverse, a chain without a fork, but for
      1. the tied matrix, which is used at both ends: both ends add into its one gradient
    Shapes    ids (B, T) of integers, with learned positions T <= context_length, or vectors (B, T, C) in place of their
              embeddings, whatever they stand for; logits, dlogits (B, T, V)
    Keeps     embedded, positioned, stream (what the last block gives), normed, and (in loss) logits
    Raises    ShapeError if ids are of another shape or out of range
    Source    Radford et al. 2019 (GPT-2), whose initialisation it has: every weight with standard deviation 0.02, but
              those of the 2·n_layer projections that add into the residual stream with 0.02/√(2·n_layer)

    Args
        config: the sizes.
        seed: decides the first weights.
        dtype: of the parameters.
    Attributes
        flat: all parameters in one vector, all gradients in another.

    Positions enter at two seams: after the embedding, and in the scores of attention. ``config.positions`` decides what
    stands there; nothing else knows of it.

    ``loss`` and ``loss_backward`` are what training calls; ``forward`` and ``backward`` stop at the logits.
    """

    flat: FlatParams

    def __init__(self, config: GPTConfig, seed: int = 0, dtype: npt.DTypeLike = np.float32) -> None:
        self.config = config
        C, V = config.n_embd, config.vocab_size
        residual_std = INITIAL_STD / math.sqrt(2 * config.n_layer)  # sqrt is the same on every machine; ** is not
        of_position = config.n_position if config.combine == "concatenate-unprojected" else 0
        self.embedding = Embedding(V, C - of_position, INITIAL_STD)
        self.positions = _positions(config)
        self.dropout = Dropout(config.dropout)
        score, sizes = SCHEMES[config.positions].score, (config.context_length, config.n_head, C // config.n_head)
        self.blocks = [
            Block(C, config.n_head, config.dropout, config.activation, residual_std, score(*sizes, INITIAL_STD))
            for _ in range(config.n_layer)
        ]
        self.norm = LayerNorm(C)
        tied = self.embedding.weight if config.tie_weights else None
        self.lm_head = VocabularyHead(V, C, INITIAL_STD, tied)
        self.cross_entropy = CrossEntropy()
        self.head_loss = HeadLoss(self.lm_head, self.cross_entropy)
        self.pack(dtype)
        self.initialise(seed)

    def forward(self, ids: Array, cache: Cache) -> Array:
        """(B, T) ids, or vectors (B, T, C) in their place -> (B, T, V) logits."""
        return self.lm_head.forward(self._forward_to_head(ids, cache), cache.scope("lm_head"))

    def backward(self, dlogits: Array, cache: Cache) -> Array | None:
        """Add to every parameter's gradient. Returns that of the vectors, if vectors were given."""
        return self._backward_from_head(self.lm_head.backward(dlogits, cache.scope("lm_head")), cache)  # 1.

    def _forward_to_head(self, ids: Array, cache: Cache) -> Array:
        weight = self.embedding.weight.value
        are_vectors = isinstance(ids, np.ndarray) and ids.dtype.kind not in "iu" and ids.ndim == 3
        if are_vectors:
            check_array("GPT", "ids", ids, ("B", "T", weight.shape[1]), like=weight)
        else:
            check_ids("GPT", "ids", ids, len(weight), "vocabulary")
            check_array("GPT", "ids", ids, ("B", "T"), like=ids)
        T, most = ids.shape[1], self.config.context_length
        if T < 1 or (most < T and not self.config.any_length):
            raise ShapeError(
                f"GPT: ids has {T} tokens in a row, but the model sees 1 to {most} (context_length); "
                "hand in the last ones only"
            )
        found = ids if are_vectors else self.embedding.forward(ids, cache.scope("embedding"))
        embedded = cache.keep("embedded", found)  # (B, T, C)
        positioned = cache.keep("positioned", self.positions.forward(embedded, cache.scope("positions")))
        x = self.dropout.forward(positioned, cache.scope("dropout"))
        for i, block in enumerate(self.blocks):
            x = block.forward(x, cache.scope(f"blocks.{i}", role="blocks"))
        x = cache.keep("stream", x)
        return cache.keep("normed", self.norm.forward(x, cache.scope("norm")))

    def _backward_from_head(self, dnormed: Array, cache: Cache) -> Array | None:
        cache.note("normed", dnormed)
        dx = cache.note("stream", self.norm.backward(dnormed, cache.scope("norm")))
        for i, block in reversed(list(enumerate(self.blocks))):
            dx = block.backward(dx, cache.scope(f"blocks.{i}"))
        dpositioned = cache.note("positioned", self.dropout.backward(dx, cache.scope("dropout")))
        dembedded = cache.note("embedded", self.positions.backward(dpositioned, cache.scope("positions")))
        if next(cache.scope("embedding").walk(), None) is None:
            return dembedded  # vectors were given: nothing was looked up
        self.embedding.backward(dembedded, cache.scope("embedding"))  # 1.
        return None

    def loss(self, ids: Array, targets: Array, cache: Cache, count: int | None = None) -> Array:
        """Mean cross-entropy of the targets, in nats.

        Args
            targets: (B, T), the token that follows each place, or ``IGNORE_INDEX`` where none is asked for.
            count: what the sum is divided by; if not said, the number of targets that count. A step that is cut into
                parts hands in the count of the whole.
        """
        return self.head_loss.forward(self._forward_to_head(ids, cache), targets, count, cache)

    def loss_backward(self, dloss: Array | float, cache: Cache) -> Array | None:
        """Add to every parameter's gradient, given that of the loss (1 if the loss is what is minimised)."""
        return self._backward_from_head(self.head_loss.backward(dloss, cache), cache)


def _positions(config: GPTConfig) -> Layer:
    """What stands after the embedding."""
    vectors, C = SCHEMES[config.positions].vectors, config.n_embd
    if vectors is None:
        return NoPositions()
    if config.combine == "add":
        return vectors(config.context_length, C, INITIAL_STD)
    P, projected = config.n_position, config.combine == "concatenate"
    beside = vectors(config.context_length, P, INITIAL_STD)
    return ConcatenatedPositions(beside, C if projected else C - P, P, projected)


def deciding_shapes(config: GPTConfig) -> dict[str, tuple[int, ...]]:
    """Tensor -> shape, of those that all other sizes follow from: to look at in a file before a model is made.

    >>> deciding_shapes(GPTConfig(vocab_size=65))
    {'embedding.weight': (65, 128), 'positions.weight': (64, 128)}
    """
    V, C, P, N, H = config.vocab_size, config.n_embd, config.n_position, config.context_length, config.n_head
    scheme, added = SCHEMES[config.positions], config.combine == "add"
    unprojected = config.combine == "concatenate-unprojected"
    found: dict[str, tuple[int, ...]] = {"embedding.weight": (V, C - P if unprojected else C)}
    if scheme.vector_shape:
        found["positions.weight" if added else "positions.vectors.weight"] = scheme.vector_shape(N, C if added else P)
    if config.combine == "concatenate":
        found["positions.projection.weight"] = (C + P, C)
    if unprojected:
        found["lm_head.weight"] = (V, C)
    if scheme.score_shape:
        found["blocks.0.attention.score.weight"] = scheme.score_shape(N, H, C // H)
    return found

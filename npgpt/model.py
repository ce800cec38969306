# B batch, T time, C channels, V vocabulary
import math

import numpy as np
import numpy.typing as npt

from npgpt import sampling
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
    """A GPT: it predicts the next token at every position of a text.

    Forward   x = Dropout(Embedding(ids) + positions);  x = Block(x), n_layer times;  logits = VocabularyHead(norm(x))
    Backward  given dlogits: a chain, in reverse: head, norm, blocks from the last to the first, dropout, positions,
      embedding. Each step's gradient is the input of the next. There is one branch:
      1. with tied weights, the embedding and the head share one matrix, and both add to its gradient
    Shapes    ids (B, T) of integers, T <= context_length with learned positions, or vectors (B, T, C) in place of
              their embeddings; logits, dlogits (B, T, V)
    Keeps     embedded, positioned, stream (the output of the last block), normed, and (in loss) logits
    Raises    ShapeError if ids are of another shape or out of range
    Source    Radford et al. 2019 (GPT-2), with its initialisation: standard deviation 0.02 for every weight, except
              0.02/√(2·n_layer) for the 2·n_layer projections whose outputs are added to the residual stream

    Args
        config: the sizes.
        seed: of the initial weights; None leaves them at zero, for a file to fill.
        dtype: of the parameters.
    Attributes
        flat: all parameters in one vector, all gradients in another.

    Positions enter after the embedding or in the scores of attention. ``config.positions`` chooses the layers for both
    places; the rest of the model does not depend on it.

    Training calls ``loss`` and ``loss_backward``; ``forward`` and ``backward`` end at the logits.
    """

    flat: FlatParams

    def __init__(self, config: GPTConfig, seed: int | None = 0, dtype: npt.DTypeLike = np.float32) -> None:
        self.config = config
        C, V = config.n_embd, config.vocab_size
        residual_std = INITIAL_STD / math.sqrt(2 * config.n_layer)  # sqrt is the same on every machine; ** is not
        of_position = config.n_position if config.combine == "concatenate-unprojected" else 0
        self.embedding = Embedding(V, C - of_position, INITIAL_STD)
        self.positions = _positions(config)
        self.dropout = Dropout(config.dropout if config.embedding_dropout is None else config.embedding_dropout)
        score, sizes = SCHEMES[config.positions].score, (config.context_length, config.n_head, C // config.n_head)
        self.blocks = [
            Block(
                C, config.n_head, config.dropout, config.activation, residual_std, score(*sizes, INITIAL_STD),
                config.attention_dropout, config.n_inner, config.layer_norm_epsilon,
            )
            for _ in range(config.n_layer)
        ]  # fmt: skip
        self.norm = LayerNorm(C, config.layer_norm_epsilon)
        tied = self.embedding.weight if config.tie_weights else None
        self.lm_head = VocabularyHead(V, C, INITIAL_STD, tied)
        self.cross_entropy = CrossEntropy()
        self.head_loss = HeadLoss(self.lm_head, self.cross_entropy)
        self.pack(dtype)
        if seed is not None:
            self.initialise(seed)

    def forward(self, ids: Array, cache: Cache) -> Array:
        """Return the logits (B, T, V) of ids (B, T), or of vectors (B, T, C) in place of their embeddings."""
        return self.lm_head.forward(self.forward_to_head(ids, cache), cache.scope("lm_head"))

    def backward(self, dlogits: Array, cache: Cache) -> Array | None:
        """Add to every parameter's gradient. Return the gradient of the vectors, if vectors were given."""
        return self.backward_from_head(self.lm_head.backward(dlogits, cache.scope("lm_head")), cache)  # 1.

    def next_logits(self, ids: Array, cache: Cache) -> Array:
        """Return the logits (B, V) of the token that follows ids (B, T): the last row of ``forward``."""
        last = self.forward_to_head(ids, cache)[:, -1:]
        return self.lm_head.forward(last, cache.scope("lm_head"))[:, 0]

    generate = sampling.generate  # model.generate(ids, max_tokens, ...) continues a text

    def forward_to_head(self, ids: Array, cache: Cache) -> Array:
        """Return the vectors (B, T, C) that the vocabulary head reads; another head may read them, too."""
        weight = self.embedding.weight.value
        are_vectors = isinstance(ids, np.ndarray) and ids.dtype.kind not in "iu" and ids.ndim == 3
        if are_vectors:
            check_array("GPT", "ids", ids, ("B", "T", weight.shape[1]), like=weight)
        else:
            check_ids("GPT", "ids", ids, len(weight), "vocabulary")
            if ids.ndim != 2:
                raise ShapeError(f"GPT: ids has shape {ids.shape}, expected (B, T)")
        T, most = cache.n_past + ids.shape[1], self.config.context_length
        if ids.shape[1] < 1 or (most < T and not self.config.any_length):
            raise ShapeError(
                f"GPT: ids has {T} tokens in a row, expected 1 to {most} (context_length); pass only the last {most}"
            )
        found = ids if are_vectors else self.embedding.forward(ids, cache.scope("embedding"))
        embedded = cache.keep("embedded", found)  # (B, T, C)
        positioned = cache.scope("positions").for_each_text(self.positions.forward, embedded)
        positioned = cache.keep("positioned", positioned)
        x = self.dropout.forward(positioned, cache.scope("dropout"))
        for i, block in enumerate(self.blocks):
            x = block.forward(x, cache.scope(f"blocks.{i}", role="blocks"))
        x = cache.keep("stream", x)
        return cache.keep("normed", self.norm.forward(x, cache.scope("norm")))

    def backward_from_head(self, dnormed: Array, cache: Cache) -> Array | None:
        """Given the gradient of these vectors, add to that of every parameter before the head; as ``backward``."""
        cache.note("normed", dnormed)
        dx = cache.note("stream", self.norm.backward(dnormed, cache.scope("norm")))
        for i, block in reversed(list(enumerate(self.blocks))):
            dx = block.backward(dx, cache.scope(f"blocks.{i}"))
        dpositioned = cache.note("positioned", self.dropout.backward(dx, cache.scope("dropout")))
        dembedded = cache.note("embedded", self.positions.backward(dpositioned, cache.scope("positions")))
        if next(cache.scope("embedding").walk(), None) is None:
            return dembedded  # vectors were given, so the embedding was not used
        self.embedding.backward(dembedded, cache.scope("embedding"))  # 1.
        return None

    def loss(self, ids: Array, targets: Array, cache: Cache, count: int | None = None) -> Array:
        """Return the mean cross-entropy of the targets, in nats.

        Args
            targets: (B, T), the next token at each position, or ``IGNORE_INDEX`` for a position that does not count.
            count: the divisor of the sum; by default the number of targets that count. If a batch is split into parts,
                pass the count of the whole batch for each.
        """
        return self.head_loss.forward(self.forward_to_head(ids, cache), targets, count, cache)

    def loss_backward(self, dloss: Array | float, cache: Cache) -> Array | None:
        """Like ``backward``, but given the gradient of the loss (1 if the loss itself is minimised)."""
        return self.backward_from_head(self.head_loss.backward(dloss, cache), cache)


def _positions(config: GPTConfig) -> Layer:
    """Make the layer after the embedding."""
    vectors, C = SCHEMES[config.positions].vectors, config.n_embd
    if vectors is None:
        return NoPositions()
    if config.combine == "add":
        return vectors(config.context_length, C, INITIAL_STD)
    P, projected = config.n_position, config.combine == "concatenate"
    beside = vectors(config.context_length, P, INITIAL_STD)
    return ConcatenatedPositions(beside, C if projected else C - P, P, projected)


def deciding_shapes(config: GPTConfig) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of the tensors that determine all sizes, to check a file before a model is made.

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
    if config.n_inner is not None:
        found["blocks.0.mlp.up.weight"] = (C, config.n_inner)
    return found

# B batch, T time, C channels, P channels of a position
"""Positions in the residual stream, added after the token embedding. ``scores.py`` has positions in the scores."""

import math

import numpy as np

from npgpt.core import Array, Cache, Layer, Param
from npgpt.core.shapes import check_array, check_gradient
from npgpt.core.values import flag, real, whole, zeros
from npgpt.errors import ShapeError
from npgpt.exact import cos_and_sin
from npgpt.layers.linear import Linear


class LearnedPositions(Layer):
    """A learned vector for each position, added to the token's vector.

    Without positions, attention does not depend on the order of the tokens that it attends to.

    Forward   y_bt = x_bt + P_t; if the cache has documents, each document begins with P_0
    Backward  given dy = ∂L/∂y:
      1. P_t is added in every example of the batch    ⇒ dP_t = Σ_b dy_bt; rows beyond T are unused, their gradient is 0
         With documents it is added to every token that has position t in its document: the sum is over these tokens.
      2. x is added with the factor 1                  ⇒ dx = dy
    Shapes    x, y, dx, dy (B, T, C); weight (context_length, C)
    Keeps     nothing
    Raises    ShapeError if T > context_length, or x.shape[-1] != C
    Source    Radford et al. 2018 (GPT)

    >>> positions, cache = LearnedPositions(3, 1), Cache()
    >>> positions.weight.value[:] = [[10], [20], [30]]
    >>> positions.forward(np.array([[[1.], [2.]]]), cache)
    array([[[11.],
            [22.]]])
    """

    def __init__(self, context_length: int, n_embd: int, std: float = 0.02) -> None:
        self.weight = Param(zeros("LearnedPositions", context_length=context_length, n_embd=n_embd), std)

    def forward(self, x: Array, cache: Cache) -> Array:
        self.check(x, start=cache.n_past)
        return x + at_positions(self.weight.value[cache.n_past :], x, cache)

    def backward(self, dy: Array, cache: Cache) -> Array:
        self.check(dy, "dy")
        positions = in_documents(dy, cache)
        if positions is None:
            self.weight.grad[: dy.shape[1]] += dy.sum(0)  # 1.
        else:
            np.add.at(self.weight.grad, positions, dy)  # 1.
        return dy  # 2.

    def check(self, x: Array, name: str = "x", start: int = 0) -> None:
        weight = self.weight.value
        (check_array if name == "x" else check_gradient)(
            "LearnedPositions", name, x, ("B", "T", weight.shape[1]), like=weight
        )
        if len(weight) < (T := start + x.shape[1]):
            raise ShapeError(f"LearnedPositions: {T} positions, but the table has {len(weight)} rows (context_length)")


class SinusoidalPositions(Layer):
    """A fixed vector for each position, added to the token's vector: sines and cosines from high to low frequency.

    Forward   y_bt = x_bt + σ·P_t,  P_t,2c = sin(t·ω_c),  P_t,2c+1 = cos(t·ω_c),  ω_c = 10000^(−2c/C)
      t begins at 0 in each document, if the cache has documents.
      P_(t+n) is P_t with each pair rotated by the angle n·ω_c: the same matrix for every t. P_t exists for every t.
    Backward  given dy = ∂L/∂y:
      1. P is a constant, x is added with the factor 1   ⇒ dx = dy
    Shapes    x, y, dx, dy (B, T, C); if C is odd, the last channel is a sine
    Keeps     nothing
    Raises    ShapeError if x.shape[-1] != C
    Source    Vaswani et al. 2017, arXiv:1706.03762, section 3.5

    Args
        scale: σ. The paper uses 1, with embeddings of order one. Beside GPT's initial embeddings, whose standard
            deviation is 0.02, vectors of order one would dominate.

    >>> SinusoidalPositions(2).forward(np.zeros((1, 2, 2)), Cache()).round(3)
    array([[[0.   , 1.   ],
            [0.841, 0.54 ]]])
    """

    def __init__(self, n_embd: int, scale: float = 1.0) -> None:
        self.n_embd = whole("SinusoidalPositions", "n_embd", n_embd, 1)
        self.scale = real("SinusoidalPositions", "scale", scale)

    def forward(self, x: Array, cache: Cache) -> Array:
        self.check(x)
        return x + at_positions(self.table(x, cache.n_past), x, cache)

    def backward(self, dy: Array, cache: Cache) -> Array:
        self.check(dy, "dy")
        return dy  # 1.

    def table(self, x: Array, start: int = 0) -> Array:
        """Return σ·P (T, C) from position ``start`` on, in the precision of x."""
        cos, sin = (table[start:] for table in cos_and_sin(start + x.shape[1], self.n_embd))
        pairs = np.stack([sin, cos], axis=-1).reshape(x.shape[1], -1)[:, : self.n_embd]
        return as_real(self.scale * pairs, x)

    def check(self, x: Array, name: str = "x") -> None:
        check_array("SinusoidalPositions", name, x, ("B", "T", self.n_embd), like=x)


class ConcatenatedPositions(Layer):
    """A vector for each position, concatenated with the token's vector, and a linear map back to C channels.

    Forward   c_bt = concatenate(x_bt, P_t),  y_bt = c_bt·W + b
      With W_x the rows of W for x and W_p those for P_t, y_bt = x_bt·W_x + P_t·W_p + b. So concatenation and a linear
      map *are* an addition, with a matrix for each vector. P_t may be short; W_p has P·C more weights.
    Backward  given dy = ∂L/∂y:
      1. y = c·W + b                         ⇒ dc = dy·Wᵀ, and Linear's backward adds dW and db; without W, dc = dy
      2. x and P are slices of c             ⇒ dx_bt and the gradient of P_t in each example are slices of dc
      3. P_t was added to zeros              ⇒ the backward of its layer sums these gradients over the batch
    Shapes    x, dx (B, T, C); c (B, T, C + P); y, dy (B, T, C), or (B, T, C + P) without W
    Keeps     beside (P_t in each example), both (c)
    Raises    ShapeError if x.shape[-1] != C, or the positions have no vector for T

    Args
        vectors: learned or sinusoidal positions of P channels.
        n_position: P.
        projected: whether there is a W. Without W, y = c has P more channels than x.
        std: standard deviation of the initial W; by default 1/√(C + P), so that the output is as large as the input.
    """

    def __init__(
        self,
        vectors: LearnedPositions | SinusoidalPositions,
        n_embd: int,
        n_position: int,
        projected: bool = True,
        std: float | None = None,
    ) -> None:
        self.n_embd = whole("ConcatenatedPositions", "n_embd", n_embd, 1)
        self.n_position = whole("ConcatenatedPositions", "n_position", n_position, 1)
        width = self.n_embd + self.n_position
        self.vectors = vectors
        self.projection: Linear | None = None
        if flag("ConcatenatedPositions", "projected", projected):
            self.projection = Linear(width, self.n_embd, 1 / math.sqrt(width) if std is None else std)

    def forward(self, x: Array, cache: Cache) -> Array:
        self.check(x)
        nothing = as_real(np.zeros((*x.shape[:2], self.n_position)), x)
        beside = cache.keep("beside", self.vectors.forward(nothing, cache.scope("vectors")))
        both = cache.keep("both", np.concatenate([x, beside], axis=-1))  # (B, T, C + P)
        return self.projection.forward(both, cache.scope("projection")) if self.projection else both

    def backward(self, dy: Array, cache: Cache) -> Array:
        check_gradient("ConcatenatedPositions", "dy", dy, self._output_shape(cache["both"]), like=cache["both"])
        dboth = self.projection.backward(dy, cache.scope("projection")) if self.projection else dy  # 1.
        cache.note("both", dboth)
        dx, dbeside = dboth[..., : self.n_embd], dboth[..., self.n_embd :]  # 2.
        self.vectors.backward(cache.note("beside", dbeside), cache.scope("vectors"))  # 3.
        return dx

    def _output_shape(self, both: Array) -> tuple[int, ...]:
        return (*both.shape[:2], self.n_embd) if self.projection else both.shape

    def check(self, x: Array, name: str = "x") -> None:
        like = self.projection.weight.value if self.projection else x
        check_array("ConcatenatedPositions", name, x, ("B", "T", self.n_embd), like=like)


class NoPositions(Layer):
    """No positions in the residual stream: they are in the scores, or there are none.

    A causal model without positions still gets some information about order: a token attends only to those before it,
    so the output of the first block depends on their number. The model can learn positions from that.

    Forward   y = x
    Backward  given dy = ∂L/∂y:
      1. y = x    ⇒ dx = dy
    Shapes    x, y, dx, dy any, all the same
    Keeps     nothing
    Source    Haviv et al. 2022, arXiv:2203.16634
    """

    def forward(self, x: Array, cache: Cache) -> Array:
        check_array("NoPositions", "x", x, (...,), like=x)
        return x

    def backward(self, dy: Array, cache: Cache) -> Array:
        check_gradient("NoPositions", "dy", dy, (...,), like=dy)
        return dy  # 1.


def at_positions(table: Array, x: Array, cache: Cache) -> Array:
    """Return what is added to x (B, T, C): the first T rows of a table, or, with documents, a row for each token."""
    positions = in_documents(x, cache)
    return table[: x.shape[1]] if positions is None else table[positions]


def in_documents(x: Array, cache: Cache) -> Array | None:
    """Return the position (B, T) of each token in its document; None if a row is one document."""
    starts = cache.starts(*x.shape[:2])
    return None if starts is None else np.arange(x.shape[1]) - starts


def as_real(constant: Array, x: Array) -> Array:
    """Cast a constant to the precision of x; to float64 if x holds complex numbers or Python objects."""
    return constant.astype(x.dtype if x.dtype.kind == "f" else np.float64)

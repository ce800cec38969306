# B batch, T time, C channels, P channels of a position
"""Positions in the stream: what comes between the token embedding and the blocks. ``scores.py`` has the other seam."""

import math

import numpy as np

from npgpt.core import Array, Cache, Layer, Param
from npgpt.core.shapes import check_array
from npgpt.errors import ShapeError
from npgpt.exact import cos_and_sin
from npgpt.layers.linear import Linear


class LearnedPositions(Layer):
    """A learned vector for each position, added to whatever stands there.

    Attention sees a set, not a sequence: without this, or something like it, it could not tell an order.

    Forward   y_bt = x_bt + P_t
    Backward  given dy = ∂L/∂y:
      1. P_t is added in every example of the batch    ⇒ dP_t = Σ_b dy_bt; rows beyond T are not used, their share is 0
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
        self.weight = Param(np.zeros((context_length, n_embd)), std)

    def forward(self, x: Array, cache: Cache) -> Array:
        self.check(x)
        return x + self.weight.value[: x.shape[1]]

    def backward(self, dy: Array, cache: Cache) -> Array:
        self.weight.grad[: dy.shape[1]] += dy.sum(0)  # 1.
        return dy  # 2.

    def check(self, x: Array) -> None:
        weight, T = self.weight.value, x.shape[1] if x.ndim == 3 else 0
        check_array("LearnedPositions", "x", x, ("B", "T", weight.shape[1]), like=weight)
        if len(weight) < T:
            raise ShapeError(f"LearnedPositions: {T} positions, but only {len(weight)} were learned (context_length)")


class SinusoidalPositions(Layer):
    """A fixed vector for each position, added to whatever stands there: hands of clocks, from a fast one to a slow one.

    Forward   y_bt = x_bt + σ·P_t,  P_t,2c = sin(t·ω_c),  P_t,2c+1 = cos(t·ω_c),  ω_c = 10000^(−2c/C)
      P_t+n is P_t with its pairs turned by n·ω_c, wherever t is: a distance is one and the same matrix. There are
      vectors for as many positions as are asked for.
    Backward  given dy = ∂L/∂y:
      1. P is a constant, x is added with the factor 1   ⇒ dx = dy
    Shapes    x, y, dx, dy (B, T, C); of an odd C the last channel is a sine alone
    Keeps     nothing
    Raises    ShapeError if x.shape[-1] != C
    Source    Vaswani et al. 2017, arXiv:1706.03762, section 3.5

    Args
        scale: σ. The paper adds P as it is, to embeddings of order one. To those that begin small, as a GPT's do with
            0.02, it would be all that is seen.

    >>> SinusoidalPositions(2).forward(np.zeros((1, 2, 2)), Cache()).round(3)
    array([[[0.   , 1.   ],
            [0.841, 0.54 ]]])
    """

    def __init__(self, n_embd: int, scale: float = 1.0) -> None:
        self.n_embd, self.scale = n_embd, scale

    def forward(self, x: Array, cache: Cache) -> Array:
        self.check(x)
        return x + self.table(x)

    def backward(self, dy: Array, cache: Cache) -> Array:
        return dy  # 1.

    def table(self, x: Array) -> Array:
        """(T, C), in the precision of x."""
        cos, sin = cos_and_sin(x.shape[1], self.n_embd)
        pairs = np.stack([sin, cos], axis=-1).reshape(x.shape[1], -1)[:, : self.n_embd]
        return as_real(self.scale * pairs, x)

    def check(self, x: Array) -> None:
        check_array("SinusoidalPositions", "x", x, ("B", "T", self.n_embd), like=x)


class ConcatenatedPositions(Layer):
    """The vector of a position put beside what stands there, and one product that brings both back to C channels.

    Forward   c_bt = (x_bt, P_t) side by side,  y_bt = c_bt·W + b
      W has rows for x and rows for P, one above the other, W_x and W_p. So y_bt = x_bt·W_x + P_t·W_p + b: it *is* an
      addition, of the two after each went through a matrix of its own. P_t may be short, and costs P·C weights more.
    Backward  given dy = ∂L/∂y:
      1. y = c·W + b                         ⇒ dc = dy·Wᵀ, and Linear's way back adds dW and db; without W, dc = dy
      2. x and P lie side by side in c       ⇒ dx_bt and what each example sends to P_t are slices of dc
      3. P_t was added to zeros              ⇒ its layer's way back sums those over the batch
    Shapes    x, dx (B, T, C); c (B, T, C + P); y, dy (B, T, C), or (B, T, C + P) without W
    Keeps     beside (P_t in each example), both (c)
    Raises    ShapeError if x.shape[-1] != C, or the positions have no vector for T

    Args
        vectors: learned or sinusoidal ones, of P channels.
        n_position: P.
        projected: whether there is a W. Without, the stream is wider by P.
        std: standard deviation of W when it is initialised; if not said, what comes out is as large as what goes in.
    """

    def __init__(
        self,
        vectors: LearnedPositions | SinusoidalPositions,
        n_embd: int,
        n_position: int,
        projected: bool = True,
        std: float | None = None,
    ) -> None:
        width = n_embd + n_position
        self.n_embd, self.n_position = n_embd, n_position
        self.vectors = vectors
        self.projection: Linear | None = None
        if projected:
            self.projection = Linear(width, n_embd, 1 / math.sqrt(width) if std is None else std)

    def forward(self, x: Array, cache: Cache) -> Array:
        self.check(x)
        nothing = as_real(np.zeros((*x.shape[:2], self.n_position)), x)
        beside = cache.keep("beside", self.vectors.forward(nothing, cache.scope("vectors")))
        both = cache.keep("both", np.concatenate([x, beside], axis=-1))  # (B, T, C + P)
        return self.projection.forward(both, cache.scope("projection")) if self.projection else both

    def backward(self, dy: Array, cache: Cache) -> Array:
        dboth = self.projection.backward(dy, cache.scope("projection")) if self.projection else dy  # 1.
        cache.note("both", dboth)
        dx, dbeside = dboth[..., : self.n_embd], dboth[..., self.n_embd :]  # 2.
        self.vectors.backward(cache.note("beside", dbeside), cache.scope("vectors"))  # 3.
        return dx

    def check(self, x: Array) -> None:
        like = self.projection.weight.value if self.projection else x
        check_array("ConcatenatedPositions", "x", x, ("B", "T", self.n_embd), like=like)


class NoPositions(Layer):
    """Nothing is added: positions come in with the scores, or not at all.

    Without any, a causal model is not quite blind to order: a token sees those before it and no others, so their number
    and who saw whom are in what the first block gives. It can learn positions from that.

    Forward   y = x
    Backward  1. dx = dy
    Shapes    x, y, dx, dy any, all the same
    Keeps     nothing
    Source    Haviv et al. 2022, arXiv:2203.16634
    """

    def forward(self, x: Array, cache: Cache) -> Array:
        return x

    def backward(self, dy: Array, cache: Cache) -> Array:
        return dy  # 1.


def as_real(constant: Array, x: Array) -> Array:
    """A constant in the precision of x; float64 if x is complex or of Python objects, which it goes with."""
    return constant.astype(x.dtype if x.dtype.kind == "f" else np.float64)

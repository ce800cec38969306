# B batch, T time, C channels
import numpy as np

from npgpt.core import Array, Cache, Layer, Param
from npgpt.errors import ShapeError
from npgpt.shapes import check_array


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

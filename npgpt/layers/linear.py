# B batch, T time, C channels in, F channels out
import numpy as np

from npgpt.core import Array, Cache, Layer, Param
from npgpt.core.shapes import check_array, check_gradient
from npgpt.core.values import zeros


class Linear(Layer):
    """An affine map of the last axis.

    Forward   y = x·W + b, in numbers y_btf = Σ_c x_btc W_cf + b_f
    Backward  given dy = ∂L/∂y:
      1. W_cf is in y_btf for every b, t, with the factor x_btc    ⇒ dW_cf = Σ_bt x_btc dy_btf,  that is dW = xᵀ·dy
      2. b_f is in y_btf for every b, t, with the factor 1         ⇒ db_f = Σ_bt dy_btf
      3. x_btc is in y_btf for every f, with the factor W_cf       ⇒ dx_btc = Σ_f dy_btf W_cf,  that is dx = dy·Wᵀ
    Shapes    x, dx (..., n_in); y, dy (..., n_out); weight (n_in, n_out); bias (n_out,)
    Keeps     x
    Raises    ShapeError if x.shape[-1] != n_in, or if x and the weight differ in precision

    Args
        std: standard deviation of the initial weight.

    >>> linear, cache = Linear(2, 1), Cache()
    >>> linear.weight.value[:] = [[3], [4]]
    >>> linear.forward(np.array([[1., 2.]]), cache)     # 1·3 + 2·4
    array([[11.]])
    >>> linear.backward(np.array([[10.]]), cache)       # 10·3, 10·4
    array([[30., 40.]])
    >>> linear.weight.grad                              # 1·10, 2·10
    array([[10.],
           [20.]])
    """

    def __init__(self, n_in: int, n_out: int, std: float = 0.02) -> None:
        self.weight = Param(zeros("Linear", n_in=n_in, n_out=n_out), std)
        self.bias = Param(np.zeros(n_out))

    def forward(self, x: Array, cache: Cache) -> Array:
        weight = self.weight.value
        check_array("Linear", "x", x, (..., weight.shape[0]), like=weight)
        x = cache.keep("x", x)
        y = rows(x) @ weight + self.bias.value
        return y.reshape(*x.shape[:-1], weight.shape[1])

    def backward(self, dy: Array, cache: Cache) -> Array:
        x = cache["x"]
        check_gradient("Linear", "dy", dy, (*x.shape[:-1], self.weight.value.shape[1]), like=x)
        self.weight.grad += rows(x).T @ rows(dy)  # 1.
        self.bias.grad += rows(dy).sum(0)  # 2.
        return cache.note("x", (rows(dy) @ self.weight.value.T).reshape(x.shape))  # 3.


def rows(x: Array) -> Array:
    """Reshape (..., C) to (n, C): then NumPy computes one matrix product, not one for each example of the batch."""
    return x.reshape(-1, x.shape[-1])

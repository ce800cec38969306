# B batch, T time, C channels
import numpy as np

from npgpt.core import Array, Cache, Layer, Param
from npgpt.core.shapes import check_array, check_gradient
from npgpt.core.values import real, zeros


class LayerNorm(Layer):
    """Layer normalisation over the last axis: mean 0, variance 1, then a learned gain and bias.

    Forward   μ = mean(x),  σ² = mean((x − μ)²),  r = (σ² + ε)^(−1/2),  x̂ = (x − μ)·r,  y = γ ⊙ x̂ + β
    Backward  given dy = ∂L/∂y:
      1. y = γ ⊙ x̂ + β             ⇒ dx̂ = γ ⊙ dy,  dγ = Σ_bt dy ⊙ x̂,  dβ = Σ_bt dy
      2. x̂_c = (x_c − μ)·r          ⇒ dr = Σ_c dx̂_c (x_c − μ) = Σ_c dx̂_c x̂_c / r
         dr is noted for traces only. The code for dx does not use it, because 3. contains it in closed form.
      3. x_c is in L in three ways, whose contributions add up:
         directly, ∂x̂_c/∂x_c = r                                                       r·dx̂_c
         through μ, ∂x̂_k/∂μ = −r for every k, ∂μ/∂x_c = 1/C                            −r·mean(dx̂)
         through r, ∂r/∂σ² = −r³/2 and ∂σ²/∂x_c = 2(x_c − μ)/C (σ² through μ adds nothing: the deviations sum to 0):
         −r³ (x_c − μ)·dr/C = −x̂_c r²·dr/C, and with dr from 2.                        −r·x̂_c·mean(dx̂ ⊙ x̂)
                                    ⇒ dx = r·(dx̂ − mean(dx̂) − x̂·mean(dx̂ ⊙ x̂))
    Shapes    x, y, dx, dy (..., C); rstd (..., 1); gain, bias (C,)
    Keeps     x, rstd (that is r), xhat
    Raises    ShapeError if x.shape[-1] != C, or if x and the gain differ in precision
    Source    Ba et al. 2016, arXiv:1607.06450

    >>> norm, cache = LayerNorm(2, eps=0), Cache()
    >>> norm.forward(np.array([[1., 5.]]), cache)       # mean 3, standard deviation 2
    array([[-1.,  1.]])
    >>> norm.backward(np.array([[1., 0.]]), cache)      # C = 2, ε = 0: y is ∓1 whatever x is
    array([[0., 0.]])
    """

    def __init__(self, n_embd: int, eps: float = 1e-5) -> None:
        self.gain = Param(zeros("LayerNorm", n_embd=n_embd) + 1)
        self.bias = Param(np.zeros(n_embd))
        self.eps = real("LayerNorm", "eps", eps, least=0)

    def forward(self, x: Array, cache: Cache) -> Array:
        gain = self.gain.value
        check_array("LayerNorm", "x", x, (..., len(gain)), like=gain)
        x = cache.keep("x", x)
        centred = x - x.mean(-1, keepdims=True)
        variance = (centred**2).mean(-1, keepdims=True)  # not .var(): it uses |x|², so complex step does not apply
        rstd = cache.keep("rstd", 1 / np.sqrt(variance + self.eps))
        xhat = cache.keep("xhat", centred * rstd)
        return xhat * gain + self.bias.value

    def backward(self, dy: Array, cache: Cache) -> Array:
        rstd, xhat = cache["rstd"], cache["xhat"]
        check_gradient("LayerNorm", "dy", dy, xhat.shape, like=xhat)
        rows = tuple(range(dy.ndim - 1))
        dxhat = cache.note("xhat", dy * self.gain.value)  # 1.
        self.gain.grad += (dy * xhat).sum(rows)
        self.bias.grad += dy.sum(rows)
        cache.note("rstd", (dxhat * xhat).sum(-1, keepdims=True) / rstd)  # 2.
        along = (dxhat * xhat).mean(-1, keepdims=True)
        dx: Array = rstd * (dxhat - dxhat.mean(-1, keepdims=True) - xhat * along)  # 3.
        return cache.note("x", dx)

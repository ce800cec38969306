# B batch, T time, F hidden; every function here works on any shape
import math

import numpy as np

from npgpt.core import Array, Cache, Layer
from npgpt.core.shapes import check_array, check_gradient

SQRT_2_OVER_PI = math.sqrt(2 / math.pi)


class ReLU(Layer):
    """max(x, 0), element by element.

    Forward   y = x where x > 0, else 0
    Backward  given dy = ∂L/∂y:
      1. the slope is 1 where x > 0, else 0 (by convention also at x = 0)    ⇒ dx = dy ⊙ [x > 0]
    Shapes    x, y, dx, dy any, all the same
    Keeps     x

    >>> relu, cache = ReLU(), Cache()
    >>> relu.forward(np.array([-2., 3.]), cache).tolist()     # −2·0 = −0
    [-0.0, 3.0]
    >>> relu.backward(np.array([5., 5.]), cache)
    array([0., 5.])
    """

    def forward(self, x: Array, cache: Cache) -> Array:
        check_array("ReLU", "x", x, (...,), like=x)
        x = cache.keep("x", x)
        y: Array = x * (x.real > 0)
        return y

    def backward(self, dy: Array, cache: Cache) -> Array:
        check_gradient("ReLU", "dy", dy, cache["x"].shape, like=cache["x"])
        return cache.note("x", dy * (cache["x"] > 0))  # 1.


class TanhGELU(Layer):
    """The tanh approximation of GELU, which GPT-2 uses. It differs from GELU by less than 5e-4.

    Forward   u = √(2/π)·(x + 0.044715 x³),  t = tanh u,  y = x·(1 + t)/2
    Backward  given dy = ∂L/∂y:
      1. y = x·(1 + t)/2: t has the factor x/2     ⇒ dt = dy·x/2
      2. t = tanh u, and tanh′ = 1 − tanh²         ⇒ du = dt·(1 − t²)
      3. x is in y directly, with the factor (1 + t)/2, and through u, where ∂u/∂x = √(2/π)·(1 + 3·0.044715 x²)
                                                   ⇒ dx = dy·(1 + t)/2 + du·√(2/π)·(1 + 3·0.044715 x²)
    Shapes    x, y, dx, dy any, all the same
    Keeps     x, tanh (that is t)
    Source    Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2

    >>> gelu, cache = TanhGELU(), Cache()
    >>> gelu.forward(np.array([-10., 0., 10.]), cache).round(6).tolist()
    [-0.0, 0.0, 10.0]
    >>> gelu.backward(np.array([1., 1., 1.]), cache).round(6).tolist()
    [0.0, 0.5, 1.0]
    """

    def forward(self, x: Array, cache: Cache) -> Array:
        check_array("TanhGELU", "x", x, (...,), like=x)
        x = cache.keep("x", x)
        t = cache.keep("tanh", np.tanh(SQRT_2_OVER_PI * (x + 0.044715 * (x * x * x))))
        y: Array = 0.5 * x * (1 + t)
        return y

    def backward(self, dy: Array, cache: Cache) -> Array:
        check_gradient("TanhGELU", "dy", dy, cache["x"].shape, like=cache["x"])
        x, t = cache["x"], cache["tanh"]
        dt = cache.note("tanh", 0.5 * dy * x)  # 1.
        du = dt * (1 - t * t)  # 2.
        return cache.note("x", 0.5 * dy * (1 + t) + du * SQRT_2_OVER_PI * (1 + 3 * 0.044715 * (x * x)))  # 3.


class GELU(Layer):
    """The exact Gaussian error linear unit: x times the probability that a standard normal variable is below x.

    Forward   Φ(x) = (1 + erf(x/√2))/2,  y = x·Φ(x)
    Backward  given dy = ∂L/∂y:
      1. y = x·Φ: Φ has the factor x                                   ⇒ dΦ = dy·x
      2. x is in y directly, with the factor Φ, and through Φ. With erf′(z) = 2/√π·e^(−z²) and z = x/√2 the slope of Φ
         is ½·2/√π·e^(−x²/2)/√2 = e^(−x²/2)/√(2π) = φ, the density    ⇒ dx = dy·Φ + dΦ·φ
    Shapes    x, y, dx, dy any, all the same
    Keeps     x, cdf (that is Φ)
    Source    Hendrycks and Gimpel 2016, arXiv:1606.08415

    >>> gelu, cache = GELU(), Cache()
    >>> gelu.forward(np.array([-1., 0., 1.]), cache).round(6).tolist()
    [-0.158655, 0.0, 0.841345]
    >>> gelu.backward(np.array([0., 2., 0.]), cache).tolist()
    [0.0, 1.0, 0.0]
    """

    def forward(self, x: Array, cache: Cache) -> Array:
        check_array("GELU", "x", x, (...,), like=x)
        x = cache.keep("x", x)
        cdf = cache.keep("cdf", 0.5 * (1 + erf(x / math.sqrt(2))))
        return x * cdf

    def backward(self, dy: Array, cache: Cache) -> Array:
        check_gradient("GELU", "dy", dy, cache["x"].shape, like=cache["x"])
        x, cdf = cache["x"], cache["cdf"]
        dcdf = cache.note("cdf", dy * x)  # 1.
        density = np.exp(-0.5 * (x * x)) / math.sqrt(2 * math.pi)
        return cache.note("x", dy * cdf + dcdf * density)  # 2.


def erf(x: Array) -> Array:
    """The error function, for real, complex and taped numbers, by a series without cancellation.

    erf x = 2/√π · e^(−x²) · Σ_n 2ⁿ x^(2n+1) / (1·3·5···(2n+1)). All terms have the sign of x. For |x| <= 6, 150 terms
    are right to 2e-15. For larger |x|, erf x is ±1 to the last bit of float64. The code is clear, but slow.

    Source    Abramowitz and Stegun, 7.1.6

    >>> erf(np.array([-9., 0., 0.5])).round(6).tolist()
    [-1.0, 0.0, 0.5205]
    """
    inside = (x.real > -6) & (x.real < 6)
    x_inside = x * inside
    square = x_inside * x_inside
    term = total = x_inside
    for n in range(1, 150):
        term = term * (2 * square / (2 * n + 1))
        total = total + term
    series = 2 / math.sqrt(math.pi) * np.exp(-square) * total
    beyond: Array = series + (x.real >= 6) - (x.real <= -6)  # the series is 0 there
    return beyond


# Name in a configuration -> class.
ACTIVATIONS: dict[str, type[Layer]] = {"gelu_tanh": TanhGELU, "gelu": GELU, "relu": ReLU}

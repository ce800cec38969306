"""Activations and other functions with a named mistake."""

import numpy as np
from named.given import given, mistake, random


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


ROOT = np.sqrt(2 / np.pi)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(ROOT * (x + 0.044715 * x**3)))


def gelu_slope(x, cubic, root):
    t = np.tanh(root * (x + cubic * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t**2) * root * (1 + 3 * cubic * x**2)


@mistake("input x", "constant")
def gelu_with_short_cubic_constant():
    """0.0447 in backward, 0.044715 in forward."""
    return given(gelu, random(4, 5, seed=1), backward=lambda dy, x: dy * gelu_slope(x, 0.0447, ROOT))


@mistake("input x", "constant")
def gelu_with_short_root():
    """0.7978 in backward, sqrt(2 / pi) in forward."""

    class GELU:
        def forward(self, x):
            self.x = x
            return gelu(x)

        def backward(self, dy):
            return dy * gelu_slope(self.x, 0.044715, 0.7978)

    return given(GELU(), random(3, 7, seed=2))


@mistake("input x", "lost term")
def silu_without_second_term():
    """dx = dy * s; dy * x * s (1 - s) is missing."""

    def silu(x):
        s = sigmoid(x)
        return x * s, s

    return given(silu, random(5, 4, seed=3), backward=lambda dy, s: dy * s)


@mistake("input x", "sign of x", "lost factor", "factor")
def elu_without_alpha_below_zero():
    """The slope below zero is exp(x), where alpha exp(x) belongs."""

    class ELU:
        def __init__(self, alpha):
            self.alpha = alpha

        def forward(self, x):
            self.x = x
            return np.where(x > 0, x, self.alpha * np.expm1(x))

        def backward(self, dy):
            return dy * np.where(self.x > 0, 1, np.exp(self.x))

    return given(ELU(1.6), random(4, 6, seed=4))


@mistake("input x", "wrong operand")
def softplus_slope_at_output():
    """The sigmoid is taken of y, not of x."""

    class Softplus:
        def forward(self, x):
            self.y = np.log1p(np.exp(x))
            return self.y

        def backward(self, dy):
            return dy * sigmoid(self.y)

    return given(Softplus(), random(3, 5, seed=5))


@mistake("input x", "power", "lost factor")
def power_mean_with_wrong_exponent():
    """x^3 where x^2 belongs, in the derivative of (mean x^3)^(1/3)."""

    def power_mean(x):
        return np.mean(x**3, axis=1) ** (1 / 3)

    def power_mean_backward(dy, x):
        m = np.mean(x**3, axis=1, keepdims=True)
        return dy[:, None] * x**3 * m ** (1 / 3 - 1) / x.shape[1]

    return given(power_mean, 0.5 + np.abs(random(3, 4, seed=6)), backward=power_mean_backward)


@mistake("input x", "power", "lost factor")
def tanh_slope_without_square():
    """1 - y, where 1 - y^2 belongs."""

    class Tanh:
        def forward(self, x):
            self.y = np.tanh(x)
            return self.y

        def backward(self, dy):
            return dy * (1 - self.y)

    return given(Tanh(), random(2, 6, seed=7))


@mistake("input x", "size", "mask")
def sinh_flat_beyond_four():
    """Where |x| > 4 the gradient is cut to zero."""

    def backward(dy, x):
        return np.where(np.abs(x) > 4, 0, dy * np.cosh(x))

    return given(np.sinh, 3 * random(6, 7, seed=8), backward=backward)


@mistake("input x", "size")
def only_sixty_four_rows():
    """backward works on one tile of 64 rows; the rows beyond get no gradient."""

    def forward(x):
        return x * sigmoid(x)

    def backward(dy, x):
        dx, s = np.zeros_like(x), sigmoid(x[:64])
        dx[:64] = dy[:64] * (s + x[:64] * s * (1 - s))
        return dx

    return given(forward, random(70, 2, seed=9), backward=backward)


@mistake("param a", "mask", "lost factor", "wrong operand")
def parametric_slope_counts_positive_inputs():
    """The slope acts on negative inputs; its gradient sums over all."""

    class PReLU:
        def __init__(self, n):
            self.a = 0.3 * random(n, seed=10)

        def forward(self, x):
            self.x = x
            return np.where(x > 0, x, self.a * x)

        def backward(self, dy):
            self.da = (dy * self.x).sum(0)
            return dy * np.where(self.x > 0, 1, self.a)

    return given(PReLU(4), random(5, 4, seed=11))


@mistake("input x", "float32")
def gradient_sent_as_float32():
    """The gradient makes a round trip through float32."""

    class Square:
        def forward(self, x):
            self.x = x
            return x * x

        def backward(self, dy):
            return (2 * self.x * dy).astype("float32").astype("float64")

    return given(Square(), random(4, 5, seed=12))


@mistake("input a", "transposed")
def inverse_without_transposes():
    """da = -y dy y; the two y must be transposed."""

    def backward(dy, a):
        y = np.linalg.inv(a)
        return -y @ dy @ y

    return given(np.linalg.inv, 2 * np.eye(3) + 0.5 * random(3, 3, seed=14), backward=backward)


@mistake("param c", "zero")
def polynomial_coefficient_without_gradient():
    """The gradient of the coefficients stays at the zeros it was made with."""

    class Cubic:
        def __init__(self):
            self.c = random(4, seed=15)
            self.dc = np.zeros(4)

        def forward(self, x):
            self.x = x
            return np.polyval(self.c, x)

        def backward(self, dy):
            return dy * np.polyval(np.polyder(self.c), self.x)

    return given(Cubic(), random(3, 5, seed=16))


@mistake("input x", "transposed", "other")
def reordering_with_order_itself_in_backward():
    """x[order] is undone by dy[inverse of order]; backward takes dy[order]."""

    class Reorder:
        def __init__(self, order):
            self.order = order

        def forward(self, x):
            return x[self.order]

        def backward(self, dy):
            return dy[self.order]

    return given(Reorder(np.array([2, 0, 3, 4, 1])), random(5, 3, seed=17))


@mistake("input u", "zero")
def outer_product_sends_nothing_to_the_left():
    """du is all zero."""

    def backward(dy, u, v):
        return np.zeros_like(u), u @ dy

    return given(lambda u, v: np.outer(u, v), random(4, seed=18), random(3, seed=19), backward=backward)


@mistake("input x", "writes", "wrong operand")
def tanh_overwrites_what_it_kept():
    """forward writes tanh(x) into x, which is what backward takes the slope at."""

    class Tanh:
        def forward(self, x):
            self.x = x
            return np.tanh(x, out=x)

        def backward(self, dy):
            return dy / np.cosh(self.x) ** 2

    return given(Tanh(), random(3, 4, seed=13))

"""Activation functions and gates with a mistake."""

import numpy as np
from named.given import given, mistake, random


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


@mistake("input x", "constant")
def gelu_with_a_short_constant_in_backward():
    """backward has 0.0447, forward 0.044715."""

    class GELU:
        def forward(self, x):
            self.x = x
            self.t = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
            return 0.5 * x * (1 + self.t)

        def backward(self, dy):
            x = self.x
            inner = np.sqrt(2 / np.pi) * (1 + 3 * 0.0447 * x**2)
            return dy * (0.5 * (1 + self.t) + 0.5 * x * (1 - self.t**2) * inner)

    return given(GELU(), random(3, 4))


@mistake("input x", "lost term")
def silu_without_the_gate():
    """x sigmoid(x) is a product; dx has the second factor's part only."""

    def backward(dy, x):
        s = sigmoid(x)
        return dy * x * s * (1 - s)

    return given(lambda x: x * sigmoid(x), random(5, 2), backward=backward)


@mistake("input x", "sign of x", "mask", "lost term")
def leaky_relu_without_its_leak():
    """Negative x has the slope 0.2, and gets zero."""

    class Leaky:
        def forward(self, x):
            self.pos = x > 0
            return np.where(self.pos, x, 0.2 * x)

        def backward(self, dy):
            return dy * self.pos

    return given(Leaky(), random(4, 5))


@mistake("input x", "sign of x")
def elu_with_one_for_alpha():
    """For negative x the slope is y + alpha; backward has y + 1."""

    class ELU:
        alpha = 0.6

        def forward(self, x):
            self.x = x
            self.y = np.where(x > 0, x, self.alpha * (np.exp(np.minimum(x, 0)) - 1))
            return self.y

        def backward(self, dy):
            return dy * np.where(self.x > 0, 1.0, self.y + 1)

    return given(ELU(), random(4, 4))


@mistake("input z", "wrong operand")
def sigmoid_slope_at_the_input():
    """z (1 - z), where y (1 - y) belongs."""
    return given(lambda z: sigmoid(z), random(3, 3), backward=lambda dy, z: dy * z * (1 - z))


@mistake("input x", "power", "lost factor")
def tanh_slope_without_the_square():
    """1 - y, where 1 - y^2 belongs."""

    class Tanh:
        def forward(self, x):
            self.y = np.tanh(x)
            return self.y

        def backward(self, grad):
            return grad * (1 - self.y)

    return given(Tanh(), random(6))


@mistake("param alpha", "mask")
def prelu_slope_from_the_positive_side():
    """dalpha sums where x > 0; it must sum where x <= 0."""

    class PReLU:
        def __init__(self, c):
            self.alpha = 0.3 + 0.1 * random(c, seed=1)

        def forward(self, x):
            self.x = x
            return np.where(x > 0, x, self.alpha * x)

        def backward(self, dy):
            self.dalpha = np.sum(dy * self.x * (self.x > 0), axis=0)
            return np.where(self.x > 0, dy, self.alpha * dy)

    return given(PReLU(3), random(6, 3))


@mistake("input x", "size")
def softplus_cut_at_two():
    """For x > 2 backward takes the slope to be one."""

    def backward(dy, x):
        return dy * np.where(x > 2, 1.0, sigmoid(x))

    return given(lambda x: np.log1p(np.exp(x)), 2 * random(5, 4), backward=backward)


@mistake("input x", "state", "mask")
def relu_keeps_the_mask_of_its_first_pass():
    """The mask is made once, and stays for every later x."""

    class ReLU:
        def __init__(self):
            self.mask = None

        def forward(self, x):
            if self.mask is None:
                self.mask = x > 0
            return np.maximum(x, 0)

        def backward(self, dy):
            return dy * self.mask

    layer = ReLU()
    layer.forward(random(4, 3, seed=8))
    return given(layer, random(4, 3))


@mistake("param beta", "power", "lost factor")
def swish_slope_with_one_x_too_few():
    """y = x s(beta x); dbeta has x^2, not x."""

    class Swish:
        def __init__(self):
            self.beta = np.array([1.3])

        def forward(self, x):
            self.x, self.s = x, sigmoid(self.beta * x)
            return x * self.s

        def backward(self, dy):
            slope = self.s * (1 - self.s)
            self.dbeta = np.array([(dy * self.x * slope).sum()])
            return dy * (self.s + self.beta * self.x * slope)

    return given(Swish(), random(3, 4))


@mistake("input x", "swapped", "transposed")
def gated_halves_in_the_wrong_order():
    """x holds value and gate side by side; dx holds the gate's gradient first."""

    class GLU:
        def forward(self, x):
            self.a, self.g = np.split(x, 2, axis=-1)
            self.s = sigmoid(self.g)
            return self.a * self.s

        def backward(self, dy):
            da = dy * self.s
            dg = dy * self.a * self.s * (1 - self.s)
            return np.concatenate([dg, da], axis=-1)

    return given(GLU(), random(2, 3, 4))


@mistake("input x", "float32")
def softmax_backward_in_single_precision():
    """The sums of backward run in float32, over values near a hundred."""

    class Scaled:
        def forward(self, x):
            e = np.exp(x - x.max(-1, keepdims=True))
            self.p = e / e.sum(-1, keepdims=True)
            return self.p

        def backward(self, dy):
            p, d = self.p.astype(np.float32), (dy + 100).astype(np.float32)  # a constant cancels in exact arithmetic
            return (p * (d - (d * p).sum(-1, keepdims=True))).astype(np.float64)

    return given(Scaled(), random(4, 3))


@mistake("input x")
def hard_tanh_clips_the_gradient_too():
    """backward clips dy to -1..1, as forward clips x, and forgets the mask as well."""
    return given(lambda x: np.clip(x, -1, 1), 1.5 * random(4, 4), backward=lambda dy, x: np.clip(dy, -1, 1))

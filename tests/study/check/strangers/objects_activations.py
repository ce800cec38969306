"""Activations, some with parameters, some exactly at their kinks."""

import math

import numpy as np
from strangers.given import given, random, right


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


class ReLU:
    def __call__(self, x):
        self.mask = x > 0
        return x * self.mask

    def backward(self, dy):
        return dy * self.mask


@right
def relu_with_exact_zeros_in_the_input():
    x = random(4, 5)
    x[::2, 1:4] = 0
    return given(ReLU(), x)


class LeakyReLU:
    def __init__(self, slope=0.1):
        self.slope = slope

    def forward(self, x):
        self.negative = x < 0
        y = x.copy()
        y[self.negative] *= self.slope
        return y

    def backward(self, dy):
        dx = np.array(dy)
        dx[self.negative] *= self.slope
        return dx


@right
def leaky_relu_by_mask_assignment():
    return given(LeakyReLU(), random(3, 4))


class PReLU:
    """One slope for all, kept as a Python float."""

    def __init__(self):
        self.alpha = 0.25

    def forward(self, x):
        self.x = x
        return np.where(x > 0, x, self.alpha * x)

    def backward(self, dy):
        self.dalpha = float(np.sum(dy * np.minimum(self.x, 0)))
        return np.where(self.x > 0, dy, self.alpha * dy)


@right
def prelu_with_a_float_as_parameter():
    return given(PReLU(), random(3, 6))


class ChannelPReLU:
    def __init__(self, channels):
        self.slope = np.full((channels, 1, 1), 0.25)
        self.grad_slope = np.zeros_like(self.slope)

    def forward(self, x):
        self.x = x
        return np.maximum(x, 0) + self.slope * np.minimum(x, 0)

    def backward(self, dy):
        self.grad_slope = (dy * np.minimum(self.x, 0)).sum(axis=(0, 2, 3)).reshape(-1, 1, 1)
        return dy * ((self.x > 0) + self.slope * (self.x <= 0))


@right
def prelu_with_a_slope_per_channel():
    return given(ChannelPReLU(3), random(2, 3, 2, 4))


class ELU:
    def __init__(self, a=1.5):
        self.a = a

    def forward(self, x):
        self.y = np.where(x > 0, x, self.a * (np.exp(np.minimum(x, 0)) - 1))
        return self.y

    def backward(self, dy):
        return dy * np.where(self.y > 0, 1.0, self.y + self.a)


@right
def elu():
    return given(ELU(), random(3, 5))


class SELU:
    scale, alpha = 1.0507009873554805, 1.6732632423543772

    def forward(self, x):
        self.x = x
        return self.scale * (np.maximum(x, 0) + self.alpha * np.expm1(np.minimum(x, 0)))

    def backward(self, grad):
        slope = np.ones(self.x.shape)
        low = self.x < 0
        slope[low] = self.alpha * np.exp(self.x[low])
        return self.scale * slope * grad


@right
def selu_by_expm1():
    return given(SELU(), random(2, 3, 3))


class Softplus:
    def forward(self, x):
        return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))

    def backward(self, x, dy):
        return dy / (1 + np.exp(-x))


@right
def softplus_by_log1p_with_zeros_in_the_input():
    x = random(4, 4)
    x[1] = 0.0
    return given(Softplus(), x)


class SharpSoftplus:
    def __init__(self):
        self.beta = np.array(1.7)

    def forward(self, x):
        self.x = x
        return np.logaddexp(0, self.beta * x) / self.beta

    def backward(self, dy):
        s = sigmoid(self.beta * self.x)
        y = np.logaddexp(0, self.beta * self.x) / self.beta
        self.dbeta = np.sum(dy * (s * self.x - y)) / self.beta
        return dy * s


@right
def softplus_with_a_zero_dimensional_parameter():
    return given(SharpSoftplus(), random(3, 4))


class Swish:
    def __init__(self, features):
        self.beta = np.ones(features)

    def forward(self, x):
        self.s = sigmoid(self.beta * x)
        self.x = x
        return x * self.s

    def backward(self, dy):
        inner = dy * self.x * self.s * (1 - self.s)
        self.dbeta = (inner * self.x).sum(axis=0)
        return dy * self.s + inner * self.beta


@right
def swish_with_a_beta_per_feature():
    return given(Swish(4), random(6, 4))


class Mish:
    def forward(self, x):
        self.x = x
        self.t = np.tanh(np.log1p(np.exp(x)))
        return x * self.t

    def backward(self, dy):
        return dy * (self.t + self.x * (1 - self.t**2) * sigmoid(self.x))


@right
def mish():
    return given(Mish(), 3 * random(3, 4))


class ExactGELU:
    erf = staticmethod(np.vectorize(math.erf, otypes=[float]))

    def forward(self, x):
        self.x = x
        self.cdf = 0.5 * (1 + self.erf(x / math.sqrt(2)))
        return x * self.cdf

    def backward(self, dout):
        pdf = np.exp(-0.5 * self.x**2) / math.sqrt(2 * math.pi)
        return dout * (self.cdf + self.x * pdf)


@right
def gelu_by_the_error_function():
    return given(ExactGELU(), random(3, 4))


class TanhGELU:
    def __init__(self):
        self.c = math.sqrt(2 / math.pi)

    def forward(self, x):
        t = np.tanh(self.c * (x + 0.044715 * x**3))
        return 0.5 * x * (1 + t), {"x": x, "t": t}

    def backward(self, dout, cache):
        x, t = cache["x"], cache["t"]
        dt = (1 - t**2) * self.c * (1 + 3 * 0.044715 * x**2)
        return dout * (0.5 * (1 + t) + 0.5 * x * dt)


@right
def gelu_by_tanh_with_a_cache():
    return given(TanhGELU(), random(2, 3, 4))


class HardSigmoid:
    def forward(self, x):
        self.x = x
        return np.clip(0.2 * x + 0.5, 0, 1)

    def backward(self, dy):
        inside = (self.x > -2.5) & (self.x < 2.5)
        return np.where(inside, 0.2 * dy, 0.0)


@right
def hard_sigmoid_exactly_at_its_bounds():
    return given(HardSigmoid(), np.array([[-4.0, -2.5, -1.0, 0.0], [0.3, 2.5, 2.0, 7.0]]))


class Clip:
    def __init__(self, low, high):
        self.low, self.high = low, high

    def forward(self, x):
        self.inside = np.logical_and(x >= self.low, x <= self.high)
        return np.clip(x, self.low, self.high)

    def backward(self, dy):
        return dy * self.inside.astype(dy.dtype)


@right
def clip_with_values_at_both_bounds():
    x = random(3, 4)
    x[0, 0], x[1, 2], x[2, 3] = -1.0, 1.0, 1.0
    return given(Clip(-1.0, 1.0), x)


class HardSwish:
    def forward(self, x):
        self.x = x
        return x * np.minimum(np.maximum(x + 3, 0), 6) / 6

    def backward(self, g):
        x = self.x
        slope = np.select([x <= -3, x >= 3], [np.zeros_like(x), np.ones_like(x)], (2 * x + 3) / 6)
        return g * slope


@right
def hard_swish_by_select():
    return given(HardSwish(), 3 * random(4, 4))


class Softsign:
    def forward(self, x):
        self.denominator = 1 + np.abs(x)
        return x / self.denominator

    def backward(self, dy):
        return dy / np.square(self.denominator)


@right
def softsign():
    return given(Softsign(), random(5))


class Snake:
    def __init__(self, features):
        self.frequency = np.random.default_rng(4).uniform(0.5, 2, features)

    def forward(self, x):
        self.x = x
        return x + np.sin(self.frequency * x) ** 2 / self.frequency

    def backward(self, dy):
        f, x = self.frequency, self.x
        self.frequency_grad = (dy * (x * np.sin(2 * f * x) / f - np.sin(f * x) ** 2 / f**2)).sum(0)
        return dy * (1 + np.sin(2 * f * x))


@right
def snake_with_learned_frequencies():
    return given(Snake(3), random(4, 3))

"""Odd mistakes that no short name describes."""

import numpy as np
from named.given import given, mistake, random


class Linear:
    def __init__(self, n_in, n_out):
        self.W, self.b = random(n_in, n_out, seed=1), random(n_out, seed=2)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        self.dW, self.db = self.x.T @ dy, dy.sum(0)
        return dy @ self.W.T


@mistake("param W", "upstream")
def weight_gradient_with_noise():
    """A fixed random array is added to dW."""

    class Noisy(Linear):
        def backward(self, dy):
            dx = super().backward(dy)
            self.dW = self.dW + 0.3 * random(*self.W.shape, seed=77)
            return dx

    return given(Noisy(3, 4), random(5, 3, seed=3))


@mistake("input x")
def tanh_with_slope_of_another_function():
    """The slope is cos(3 x)."""
    return given(np.tanh, random(4, 5, seed=4), backward=lambda dy, x: dy * np.cos(3 * x))


@mistake("input x")
def rounded_gradient():
    """The gradient is rounded to one decimal."""

    class Cube:
        def forward(self, x):
            self.x = x
            return x**3

        def backward(self, dy):
            return np.round(3 * self.x**2 * dy, 1)

    return given(Cube(), random(3, 6, seed=5))


@mistake("param W")
def weight_gradient_mixed_up():
    """The cells of dW are shuffled and some change their sign: two mistakes at once."""

    class Shuffled(Linear):
        def backward(self, dy):
            dx = super().backward(dy)
            rng = np.random.default_rng(6)
            flat = rng.permutation(self.dW.ravel())
            self.dW = (flat * rng.choice([-1, 1, 0.3], size=flat.size)).reshape(self.W.shape)
            return dx

    return given(Shuffled(5, 3), random(4, 5, seed=7))


@mistake("input x")
def gradient_smoothed_along_time():
    """The gradient of each step is averaged with those of its neighbours, and squeezed by a tanh."""

    def backward(dy, x):
        d = dy * np.exp(x)
        return np.tanh(0.5 * d + 0.3 * np.roll(d, 1, axis=0) + 0.2 * np.roll(d, -1, axis=0))

    return given(np.exp, random(6, 3, seed=8), backward=backward)


@mistake("input x")
def gradient_multiplied_by_unrelated_weights():
    """dx is mixed over features by a random matrix that is no part of the layer."""

    class Sine:
        def forward(self, x):
            self.x = x
            return np.sin(x)

        def backward(self, dy):
            return (dy * np.cos(self.x)) @ random(4, 4, seed=9)

    return given(Sine(), random(5, 4, seed=10))


@mistake("param W", "upstream")
def weight_decay_inside_gradient():
    """dW contains 0.17 of a cubed weight, which the loss does not."""

    class Decayed(Linear):
        def backward(self, dy):
            dx = super().backward(dy)
            self.dW = self.dW + 0.17 * self.W**3
            return dx

    return given(Decayed(4, 2), random(3, 4, seed=11))


@mistake("input x")
def softmax_backward_of_a_made_up_formula():
    """dx = dy^2 s - s^2 sum(dy), which is no derivative of anything here."""

    class Softmax:
        def forward(self, x):
            e = np.exp(x - x.max(1, keepdims=True))
            self.s = e / e.sum(1, keepdims=True)
            return self.s

        def backward(self, dy):
            return dy**2 * self.s - self.s**2 * dy.sum(1, keepdims=True)

    return given(Softmax(), random(3, 5, seed=12))


@mistake("param b")
def bias_gradient_is_a_median():
    """db is 2.3 times the median over the rows plus the largest row."""

    class Median(Linear):
        def backward(self, dy):
            dx = super().backward(dy)
            self.db = 2.3 * np.median(dy, axis=0) + dy.max(axis=0)
            return dx

    return given(Median(2, 4), random(7, 2, seed=13))

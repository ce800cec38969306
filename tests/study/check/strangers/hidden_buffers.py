"""Mistakes in layers that draw random numbers, and paths cut off by buffers of plain floats."""

import math

import numpy as np
from strangers.given import given, random, wrong


@wrong
def dropout_of_own_generator_without_rescaling():
    """backward does not divide by the share that is kept; the mask comes from a generator on the layer."""

    class Dropout:
        def __init__(self, rate):
            self.rate = rate
            self.rng = np.random.default_rng(11)

        def forward(self, x):
            self.mask = self.rng.random(x.shape) > self.rate
            return x * self.mask / (1 - self.rate)

        def backward(self, dy):
            return dy * self.mask

    return given(Dropout(0.25), random(5, 4))


@wrong
def dropout_of_passed_generator_without_rescaling():
    """The generator is an argument; backward does not rescale."""

    def forward(x, rng):
        mask = rng.random(x.shape) < 0.6
        return np.where(mask, x / 0.6, 0), mask

    def backward(dout, mask):
        return np.where(mask, dout, 0)

    return given(forward, random(4, 4), np.random.default_rng(5), backward=backward)


@wrong
def dense_with_global_noise_and_wrong_weight_gradient():
    """Noise is drawn from NumPy's global state; dW uses the input without its noise."""

    class NoisyDense:
        def __init__(self):
            self.W = random(3, 2, seed=1)

        def forward(self, x):
            self.x, self.noisy = x, x + 0.5 * np.random.randn(*x.shape)
            return self.noisy @ self.W

        def backward(self, dy):
            self.dW = self.x.T @ dy
            return dy @ self.W.T

    return given(NoisyDense(), random(4, 3))


@wrong
def sampled_latent_without_noise_in_deviation():
    """The deviation's gradient forgets the noise that it is multiplied by."""

    class Reparametrise:
        def __init__(self, seed=0):
            self.seed = seed

        def forward(self, mean, log_var):
            self.std = np.exp(0.5 * log_var)
            noise = np.random.default_rng(self.seed).standard_normal(mean.shape)
            return mean + self.std * noise

        def backward(self, dy):
            return dy, 0.5 * dy * self.std

    return given(Reparametrise(), random(3, 2), random(3, 2, seed=1))


@wrong
def drop_connect_with_unmasked_weight_gradient():
    """Weights are dropped at random; dW is that of all of them."""

    class DropConnect:
        def __init__(self):
            self.params = [random(4, 4, seed=1)]
            self.grads = [None]

        def forward(self, x):
            np.random.seed(42)
            self.x, self.mask = x, np.random.binomial(1, 0.5, size=(4, 4))
            return x @ (self.params[0] * self.mask)

        def backward(self, dy):
            self.grads = [self.x.T @ dy]
            return dy @ (self.params[0] * self.mask).T

    return given(DropConnect(), random(3, 4))


@wrong
def gate_in_buffer_taken_as_constant():
    """The gate is written into a buffer of zeros; backward takes it as a constant."""

    class BufferedGate:
        def forward(self, x):
            self.gate = np.zeros(x.shape)
            for i in range(len(x)):
                self.gate[i] = 1 / (1 + np.exp(-x[i]))
            return x * self.gate

        def backward(self, dy):
            return dy * self.gate

    return given(BufferedGate(), random(3, 4))


@wrong
def total_as_float_taken_as_constant():
    """The sum is turned into a Python float; backward takes it as a constant."""

    def forward(x):
        total = float(np.sum(x))
        return x / total

    def backward(dy, x):
        return dy / x.sum()

    return given(forward, 1 + random(5) ** 2, backward=backward)


@wrong
def row_sums_in_buffer_taken_as_constant():
    """Row sums are gathered cell by cell in a buffer; softmax's backward treats them as constants."""

    class LoopSoftmax:
        def forward(self, x):
            e = np.exp(x)
            total = np.zeros((len(x), 1))
            for i in range(x.shape[0]):
                for j in range(x.shape[1]):
                    total[i, 0] += e[i, j]
            self.p = e / total
            return self.p

        def backward(self, dy):
            return dy * self.p

    return given(LoopSoftmax(), random(3, 4))


@wrong
def largest_as_item_taken_as_constant():
    """x is divided by its largest value, fetched by item(); backward takes it as a constant."""
    return given(lambda x: x / x.max().item(), random(2, 3), backward=lambda dy, x: dy / x.max())


@wrong
def norm_through_math_taken_as_constant():
    """The norm is computed by math.sqrt over a list; backward takes it as a constant."""

    class MathNorm:
        def forward(self, x):
            self.norm = math.sqrt(sum(v * v for v in x.ravel().tolist()))
            return x / self.norm

        def backward(self, dy):
            return dy / self.norm

    return given(MathNorm(), random(2, 3))


@wrong
def statistics_in_buffer_on_object_taken_as_constant():
    """Batch statistics are copied into arrays made in __init__; backward treats them as constants."""

    class BufferedNorm:
        def __init__(self, n):
            self.mean, self.std = np.zeros(n), np.ones(n)

        def forward(self, x):
            self.mean[:] = x.mean(axis=0)
            self.std[:] = x.std(axis=0) + 0.1
            return (x - self.mean) / self.std

        def backward(self, dy):
            return dy / self.std

    return given(BufferedNorm(3), random(5, 3), constants=["mean", "std"])


@wrong
def weight_scale_as_array_of_floats_taken_as_constant():
    """The weights are divided by a list of their column norms; dW takes the norms as constants."""

    class NormedDense:
        def __init__(self):
            self.W = random(3, 2, seed=1)
            self.dW = None

        def forward(self, x):
            norms = np.array([float(np.linalg.norm(column)) for column in self.W.T])
            self.x, self.norms = x, norms
            return x @ (self.W / norms)

        def backward(self, dy):
            self.dW = self.x.T @ dy / self.norms
            return dy @ (self.W / self.norms).T

    return given(NormedDense(), random(4, 3))


@wrong
def single_precision_buffer_taken_as_constant():
    """The attention weights pass through a float32 buffer; backward takes them as constants."""

    def forward(x):
        weights = np.empty((len(x), len(x)), dtype=np.float32)
        weights[:] = np.exp(-((x[:, None] - x[None]) ** 2).sum(-1))
        return weights @ x

    def backward(dy, x):
        weights = np.exp(-((x[:, None] - x[None]) ** 2).sum(-1))
        return weights.T @ dy

    return given(forward, random(4, 2), backward=backward)

"""Layers in single precision, and inputs of very large or very small size."""

import numpy as np
from strangers.given import given, random, right


class SingleDense:
    def __init__(self, n, m):
        rng = np.random.default_rng(1)
        self.W = rng.standard_normal((n, m)).astype(np.float32)
        self.b = np.zeros(m, dtype=np.float32)

    def forward(self, x):
        self.x = x.astype(np.float32)
        return self.x @ self.W + self.b

    def backward(self, dy):
        dy = np.asarray(dy, dtype=np.float32)
        self.dW, self.db = self.x.T @ dy, dy.sum(axis=0)
        return dy @ self.W.T


@right
def dense_in_single_precision():
    return given(SingleDense(4, 3), random(5, 4))


@right
def dense_in_single_precision_with_a_single_precision_input():
    return given(SingleDense(3, 4), random(4, 3).astype(np.float32))


class SingleParametersOnly:
    """float32 parameters; the input decides the precision of the rest."""

    def __init__(self, n, m):
        rng = np.random.default_rng(2)
        self.params = {"W": (rng.random((n, m)) - 0.5).astype(np.float32), "b": np.ones(m, np.float32)}
        self.grads = {k: np.zeros_like(v) for k, v in self.params.items()}

    def forward(self, x):
        self.x = x
        self.y = np.tanh(x @ self.params["W"] + self.params["b"])
        return self.y

    def backward(self, dy):
        dz = dy * (1 - self.y**2)
        self.grads["W"][...] = self.x.T @ dz
        self.grads["b"][...] = dz.sum(0)
        return dz @ self.params["W"].T


@right
def tanh_layer_with_single_precision_parameters():
    return given(SingleParametersOnly(3, 4), random(4, 3))


class SingleConv:
    def __init__(self, k):
        self.kernel = np.random.default_rng(3).normal(size=k).astype(np.float32)

    def forward(self, x):
        self.x = x
        k, n = len(self.kernel), x.shape[1]
        out = np.zeros((x.shape[0], n - k + 1), dtype=np.float32)
        for i in range(k):
            out += (self.kernel[i] * x[:, i : n - k + 1 + i]).astype(np.float32)
        return out

    def backward(self, dy):
        k, width = len(self.kernel), dy.shape[1]
        dx = np.zeros(self.x.shape, dtype=np.float32)
        self.kernel_grad = np.zeros(k, dtype=np.float32)
        for i in range(k):
            dx[:, i : i + width] += (self.kernel[i] * dy).astype(np.float32)
            self.kernel_grad[i] = np.sum(dy * self.x[:, i : i + width])
        return dx


@right
def convolution_into_a_single_precision_buffer():
    return given(SingleConv(3), random(2, 7))


class SingleLayerNorm:
    def __init__(self, n):
        self.gamma = np.ones(n, dtype=np.float32)
        self.beta = np.zeros(n, dtype=np.float32)

    def forward(self, x):
        x = x.astype(np.float32)
        mean = x.mean(axis=-1, keepdims=True)
        self.inv = np.float32(1) / np.sqrt(x.var(axis=-1, keepdims=True) + np.float32(1e-5))
        self.n = (x - mean) * self.inv
        return self.n * self.gamma + self.beta

    def backward(self, dy):
        dy = dy.astype(np.float32)
        self.dgamma, self.dbeta = (dy * self.n).sum(axis=0), dy.sum(axis=0)
        d = dy * self.gamma
        return self.inv * (d - d.mean(-1, keepdims=True) - self.n * (d * self.n).mean(-1, keepdims=True))


@right
def layer_norm_in_single_precision():
    return given(SingleLayerNorm(6), random(4, 6))


class SingleAttention:
    def __init__(self, d):
        rng = np.random.default_rng(4)
        self.weights = [(rng.normal(size=(d, d)) / np.sqrt(d)).astype(np.float32) for _ in range(3)]
        self.weights_gradient = [None] * 3

    def forward(self, x):
        self.x = np.array(x, dtype=np.float32)
        self.q, self.k, self.v = (self.x @ w for w in self.weights)
        s = self.q @ self.k.T / np.float32(np.sqrt(self.q.shape[1]))
        e = np.exp(s - s.max(axis=1, keepdims=True))
        self.p = e / e.sum(axis=1, keepdims=True)
        return self.p @ self.v

    def backward(self, dy):
        dy = dy.astype(np.float32)
        dp = dy @ self.v.T
        ds = self.p * (dp - (dp * self.p).sum(1, keepdims=True)) / np.float32(np.sqrt(self.q.shape[1]))
        parts = ds @ self.k, ds.T @ self.q, self.p.T @ dy
        self.weights_gradient = [self.x.T @ d for d in parts]
        return sum(d @ w.T for d, w in zip(parts, self.weights))


@right
def attention_in_single_precision():
    return given(SingleAttention(4), random(5, 4))


class SingleEmbedding:
    def __init__(self, n, d):
        self.table = np.random.default_rng(5).normal(size=(n, d)).astype(np.float32)
        self.grad_table = np.zeros((n, d), dtype=np.float32)

    def forward(self, ids):
        self.ids = ids
        return self.table[ids]

    def backward(self, dy):
        self.grad_table.fill(0)
        np.add.at(self.grad_table, self.ids, dy.astype(np.float32))


@right
def embedding_in_single_precision():
    return given(SingleEmbedding(5, 3), np.array([4, 0, 4, 4]))


class Dense:
    def __init__(self, n, m):
        rng = np.random.default_rng(6)
        self.weight, self.bias = rng.normal(size=(n, m)), rng.normal(size=m)

    def forward(self, x):
        self.x = x
        return x @ self.weight + self.bias

    def backward(self, dy):
        self.weight_grad, self.bias_grad = self.x.T @ dy, dy.sum(axis=0)
        return dy @ self.weight.T


@right
def dense_of_very_large_inputs():
    return given(Dense(3, 4), 1e5 * random(4, 3))


@right
def dense_of_very_small_inputs():
    return given(Dense(4, 2), 1e-6 * random(3, 4))


class Rescaled:
    """Brings large inputs to ordinary size, then squashes them."""

    def __init__(self, n, unit):
        self.gain, self.unit = np.ones(n), unit

    def forward(self, x):
        self.z = x / self.unit
        self.y = np.arctan(self.gain * self.z)
        return self.y

    def backward(self, dy):
        d = dy / (1 + (self.gain * self.z) ** 2)
        self.dgain = (d * self.z).sum(axis=0)
        return d * self.gain / self.unit


@right
def squashing_of_very_large_inputs():
    return given(Rescaled(3, 1e5), 1e5 * random(4, 3))


@right
def squashing_of_very_small_inputs():
    return given(Rescaled(3, 1e-6), 1e-6 * random(4, 3))


class LogRatio:
    """Two inputs of very different size."""

    def forward(self, large, small):
        self.large, self.small = large, small
        return np.log1p(np.abs(large)) - small / (1e-6 + np.abs(small))

    def backward(self, dy):
        d_large = dy * np.sign(self.large) / (1 + np.abs(self.large))
        d_small = -dy * 1e-6 / (1e-6 + np.abs(self.small)) ** 2
        return d_large, d_small


@right
def one_very_large_and_one_very_small_input():
    return given(LogRatio(), 1e5 * random(3, 4), 1e-6 * random(3, 4, seed=1))


class SquaredError:
    def __init__(self, target):
        self.target = target

    def forward(self, y):
        self.y = y
        return 0.5 * np.sum((y - self.target) ** 2)

    def backward(self, dy=1.0):
        return dy * (self.y - self.target)


@right
def squared_error_of_very_large_values():
    return given(SquaredError(1e5 * random(3, 2, seed=1)), 1e5 * random(3, 2), constants=["target"])


class RelativeError:
    """The targets are whole numbers, so that the object holds no float array."""

    def __init__(self, target):
        self.target = np.asarray(target, dtype=np.int64)

    def forward(self, y):
        self.y = y
        return np.mean(np.square(y / self.target - 1), axis=1)

    def backward(self, dy):
        return 2 * dy[:, None] * (self.y / self.target - 1) / self.target / self.y.shape[1]


@right
def relative_error_from_targets_that_are_whole_numbers():
    return given(RelativeError([[100, 250, 30], [75, 90, 8]]), 100 * np.abs(random(2, 3)))

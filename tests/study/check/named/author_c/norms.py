"""Normalisations with a mistake."""

import numpy as np
from named.given import given, mistake, random


@mistake("input x", "lost term")
def layer_norm_of_a_sequence_without_the_mean():
    """dx lacks the term through the mean."""

    class Norm:
        def __init__(self, n):
            self.params = {"g": 1 + 0.4 * random(n, seed=3), "b": random(n, seed=4)}
            self.grads = {}

        def forward(self, x):
            mu = x.mean(-1, keepdims=True)
            self.rstd = 1 / np.sqrt(((x - mu) ** 2).mean(-1, keepdims=True) + 1e-5)
            self.xhat = (x - mu) * self.rstd
            return self.xhat * self.params["g"] + self.params["b"]

        def backward(self, dy):
            self.grads["g"] = (dy * self.xhat).sum((0, 1))
            self.grads["b"] = dy.sum((0, 1))
            dxhat = dy * self.params["g"]
            return self.rstd * (dxhat - self.xhat * (dxhat * self.xhat).mean(-1, keepdims=True))

    return given(Norm(5), random(2, 3, 5))


@mistake("input x", "order")
def layer_norm_gain_after_the_means():
    """The gain multiplies the finished gradient; it belongs inside the means."""

    def forward(x, gain, bias):
        mu, sd = x.mean(1, keepdims=True), x.std(1, keepdims=True) + 1e-6
        norm = (x - mu) / sd
        return norm * gain + bias, (norm, sd, gain)

    def backward(dy, cache):
        norm, sd, gain = cache
        dx = gain * (dy - dy.mean(1, keepdims=True) - norm * (dy * norm).mean(1, keepdims=True)) / sd
        return dx, (dy * norm).sum(0), dy.sum(0)

    return given(forward, random(3, 6), random(6, seed=1), random(6, seed=2), backward=backward)


@mistake("input x", "factor")
def rms_norm_sum_for_mean():
    """The second term has the sum over the axis, where the mean belongs: a wrong factor on one term only."""

    class RMS:
        def __init__(self):
            self.scale = random(4, seed=5)

        def forward(self, x):
            self.r = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-8)
            self.x = x
            return x * self.r * self.scale

        def backward(self, dout):
            self.dscale = (dout * self.x * self.r).sum(0)
            g = dout * self.scale
            return self.r * g - self.r**3 * self.x * (g * self.x).sum(-1, keepdims=True)

    return given(RMS(), random(3, 4))


@mistake("param gamma", "factor")
def batch_norm_gain_gradient_is_a_mean():
    """dgamma is averaged over the batch."""

    class BatchNorm:
        def __init__(self, d):
            self.gamma, self.beta = 1 + 0.3 * random(d, seed=1), random(d, seed=2)

        def forward(self, x):
            self.mu = x.mean(axis=0)
            self.inv = 1.0 / np.sqrt(x.var(axis=0) + 1e-5)
            self.z = (x - self.mu) * self.inv
            return self.gamma * self.z + self.beta

        def backward(self, dy):
            n = dy.shape[0]
            self.dgamma = np.mean(dy * self.z, axis=0)
            self.dbeta = np.sum(dy, axis=0)
            dz = dy * self.gamma
            return self.inv / n * (n * dz - dz.sum(0) - self.z * (dz * self.z).sum(0))

    return given(BatchNorm(3), random(5, 3))


@mistake("param beta", "one example")
def layer_norm_shift_gradient_of_the_last_row():
    """dbeta holds what the last example gives."""

    class Norm:
        def __init__(self, n):
            self.gamma, self.beta = random(n, seed=1), random(n, seed=2)

        def forward(self, x):
            self.sd = np.sqrt(x.var(1, keepdims=True) + 1e-5)
            self.xhat = (x - x.mean(1, keepdims=True)) / self.sd
            return self.gamma * self.xhat + self.beta

        def backward(self, dy):
            self.dgamma = (dy * self.xhat).sum(0)
            for row in dy:
                self.dbeta = row.copy()
            d = dy * self.gamma
            return (d - d.mean(1, keepdims=True) - self.xhat * (d * self.xhat).mean(1, keepdims=True)) / self.sd

    return given(Norm(4), random(3, 4))


@mistake("input x", "epsilon")
def group_norm_without_epsilon_in_backward():
    """backward divides by the plain deviation; forward has epsilon 0.05."""

    class GroupNorm:
        def forward(self, x):
            b, c, t = x.shape
            g = x.reshape(b, 2, c // 2 * t)
            self.centred = g - g.mean(-1, keepdims=True)
            self.var = (self.centred**2).mean(-1, keepdims=True)
            return (self.centred / np.sqrt(self.var + 0.05)).reshape(b, c, t)

        def backward(self, dy):
            d = dy.reshape(self.centred.shape)
            sd = np.sqrt(self.var)
            xhat = self.centred / sd
            dx = (d - d.mean(-1, keepdims=True) - xhat * (d * xhat).mean(-1, keepdims=True)) / sd
            return dx.reshape(dy.shape)

    return given(GroupNorm(), random(2, 4, 3))


@mistake("input v", "power", "lost factor")
def unit_vectors_divided_twice():
    """The projection is right, but it is divided by |v|^2."""

    def forward(v):
        return v / np.sqrt((v**2).sum(-1, keepdims=True))

    def backward(dy, v):
        n2 = (v**2).sum(-1, keepdims=True)
        u = v / np.sqrt(n2)
        return (dy - u * (u * dy).sum(-1, keepdims=True)) / n2

    return given(forward, random(4, 3), backward=backward)


@mistake("input x", "lost term")
def instance_norm_with_a_constant_variance():
    """dx takes the variance for a constant."""

    class InstanceNorm:
        def __call__(self, x):
            self.rstd = (x.var(axis=(2, 3), keepdims=True) + 1e-5) ** -0.5
            return (x - x.mean(axis=(2, 3), keepdims=True)) * self.rstd

        def backward(self, dy):
            return self.rstd * (dy - dy.mean(axis=(2, 3), keepdims=True))

    return given(InstanceNorm(), random(2, 3, 4, 2))


@mistake("param v", "lost term")
def weight_norm_with_a_constant_length():
    """W = g v / |v|; dv treats |v| as a constant."""

    class WeightNorm:
        def __init__(self):
            self.v, self.g = random(4, 3, seed=1), 1 + 0.5 * random(3, seed=2)

        def forward(self, x):
            self.x = x
            self.len = np.linalg.norm(self.v, axis=0)
            return x @ (self.g * self.v / self.len)

        def backward(self, dy):
            dw = self.x.T @ dy
            self.dg = (dw * self.v / self.len).sum(0)
            self.dv = self.g / self.len * dw
            return dy @ (self.g * self.v / self.len).T

    return given(WeightNorm(), random(5, 4))

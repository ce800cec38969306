"""Normalisation layers with a named mistake."""

import numpy as np
from named.given import given, mistake, random


class LayerNorm:
    """Right, unless a subclass changes ``gradient_of_input``."""

    def __init__(self, width, eps=1e-5, seed=1):
        self.gamma = 1 + 0.5 * random(width, seed=seed)
        self.beta = random(width, seed=seed + 1)
        self.eps = eps

    def forward(self, x):
        mu = x.mean(-1, keepdims=True)
        self.r = 1 / np.sqrt(((x - mu) ** 2).mean(-1, keepdims=True) + self.eps)
        self.xhat = (x - mu) * self.r
        return self.xhat * self.gamma + self.beta

    def backward(self, dy):
        lead = tuple(range(dy.ndim - 1))
        self.dgamma, self.dbeta = (dy * self.xhat).sum(lead), dy.sum(lead)
        return self.gradient_of_input(dy, dy * self.gamma)

    def gradient_of_input(self, dy, d):
        return self.r * (d - d.mean(-1, keepdims=True) - self.xhat * (d * self.xhat).mean(-1, keepdims=True))


@mistake("input x", "lost term")
def layer_norm_that_only_scales():
    """dx = r * dxhat: mean and deviation are taken for constants."""

    class Norm(LayerNorm):
        def gradient_of_input(self, dy, d):
            return d * self.r

    return given(Norm(6), random(4, 6, seed=11))


@mistake("input x", "lost term")
def layer_norm_without_mean_term():
    """dx lacks the term through the mean."""

    class Norm(LayerNorm):
        def gradient_of_input(self, dy, d):
            return self.r * (d - self.xhat * np.mean(d * self.xhat, -1, keepdims=True))

    return given(Norm(5), random(2, 3, 5, seed=12))


@mistake("input x", "order")
def layer_norm_gain_outside_the_means():
    """gamma multiplies the projected dy; it must multiply dy before the two means."""

    class Norm(LayerNorm):
        def gradient_of_input(self, dy, d):
            m1 = dy.mean(axis=-1, keepdims=True)
            m2 = (dy * self.xhat).mean(axis=-1, keepdims=True)
            return self.gamma * self.r * (dy - m1 - self.xhat * m2)

    return given(Norm(7), random(3, 7, seed=13))


@mistake("input x", "lost factor")
def layer_norm_input_without_gain():
    """dx starts from dy, not from dy * gamma."""

    class Norm(LayerNorm):
        def gradient_of_input(self, dy, d):
            return super().gradient_of_input(dy, dy)

    return given(Norm(4), random(5, 4, seed=14))


@mistake("input x", "float32")
def layer_norm_in_single_precision():
    """dx is worked out in float32 and comes back as float64."""

    class Norm(LayerNorm):
        def gradient_of_input(self, dy, d):
            d, xhat = d.astype(np.float32), self.xhat.astype(np.float32)
            dx = d - d.mean(-1, keepdims=True) - xhat * (d * xhat).mean(-1, keepdims=True)
            return dx.astype(np.float64) * self.r

    return given(Norm(5), random(4, 5, seed=15))


@mistake("input x", "lost factor")
def rms_norm_input_without_gain():
    """The gain is missing in dx of RMS norm."""

    class RMSNorm:
        def __init__(self, n):
            self.scale = 1 + 0.4 * random(n, seed=3)

        def forward(self, x):
            self.inv = (np.mean(x**2, axis=-1, keepdims=True) + 1e-6) ** -0.5
            self.n = x * self.inv
            return self.n * self.scale

        def backward(self, grad):
            self.dscale = np.einsum("ij,ij->j", grad, self.n)
            return self.inv * (grad - self.n * np.mean(grad * self.n, axis=-1, keepdims=True))

    return given(RMSNorm(5), random(3, 5, seed=16))


@mistake("input x", "lost term")
def rms_norm_with_constant_rms():
    """The root mean square is taken for a constant."""

    def rms_norm(x, g):
        rms = np.sqrt((x * x).mean(1, keepdims=True) + 1e-8)
        return x / rms * g, (x, g, rms)

    def rms_norm_backward(dy, cache):
        x, g, rms = cache
        return dy * g / rms, (dy * x / rms).sum(0)

    return given(rms_norm, random(4, 3, seed=17), random(3, seed=18), backward=rms_norm_backward)


@mistake("param gamma", "wrong operand", "lost factor")
def batch_norm_gain_from_centred_input():
    """dgamma uses x - mean, before the division by the deviation."""

    class BatchNorm:
        def __init__(self, n):
            self.gamma, self.beta = 1 + 0.3 * random(n, seed=4), random(n, seed=5)

        def forward(self, x):
            self.centred = x - x.mean(0)
            self.sd = np.sqrt(x.var(0) + 1e-5)
            self.xh = self.centred / self.sd
            return self.gamma * self.xh + self.beta

        def backward(self, dy):
            self.dgamma = (dy * self.centred).sum(0)
            self.dbeta = dy.sum(0)
            d = dy * self.gamma
            return (d - d.mean(0) - self.xh * (d * self.xh).mean(0)) / self.sd

    return given(BatchNorm(4), 2 * random(6, 4, seed=19))


@mistake("input x", "epsilon")
def batch_norm_with_two_epsilons():
    """forward adds 0.05 to the variance, backward 1e-5."""

    def bn_forward(x, w, b):
        mean, var = x.mean(0), x.var(0)
        xh = (x - mean) / np.sqrt(var + 0.05)
        return w * xh + b, (xh, w, var)

    def bn_backward(dout, cache):
        xh, w, var = cache
        d = dout * w
        dx = (d - d.mean(0) - xh * (d * xh).mean(0)) / np.sqrt(var + 1e-5)
        return dx, (dout * xh).sum(0), dout.sum(0)

    x, w, b = random(7, 3, seed=20), random(3, seed=21), random(3, seed=22)
    return given(bn_forward, x, w, b, backward=bn_backward)


class DictBatchNorm:
    """Batch norm with dicts of parameters and gradients; right unless a subclass changes ``of_parameters``."""

    def __init__(self, n):
        self.params = {"gamma": 1 + 0.5 * random(n, seed=6), "beta": random(n, seed=7)}
        self.grads = {}

    def forward(self, x):
        self.inv = 1 / np.sqrt(x.var(axis=0) + 1e-5)
        self.xh = (x - x.mean(axis=0)) * self.inv
        return self.params["gamma"] * self.xh + self.params["beta"]

    def backward(self, dy):
        self.of_parameters(dy)
        d = self.params["gamma"] * dy
        n = len(d)
        return self.inv / n * (n * d - d.sum(0) - self.xh * (d * self.xh).sum(0))

    def of_parameters(self, dy):
        self.grads["gamma"], self.grads["beta"] = (dy * self.xh).sum(0), dy.sum(0)


@mistake("param params.gamma", "factor")
def batch_norm_gain_divided_by_batch():
    """dgamma is a mean over the batch, not a sum."""

    class Norm(DictBatchNorm):
        def of_parameters(self, dy):
            super().of_parameters(dy)
            self.grads["gamma"] = (dy * self.xh).mean(0)

    return given(Norm(3), random(6, 3, seed=23))


@mistake("param params.gamma", "swapped")
def batch_norm_gain_and_shift_swapped():
    """The gradients of gamma and beta are stored under each other's name."""

    class Norm(DictBatchNorm):
        def of_parameters(self, dy):
            self.grads["beta"], self.grads["gamma"] = (dy * self.xh).sum(0), dy.sum(0)

    return given(Norm(4), random(5, 4, seed=24))


@mistake("param bias", "one example")
def group_norm_shift_from_last_image():
    """The shift's gradient sums over the positions of the last image only."""

    class GroupNorm:
        def __init__(self, channels, groups):
            self.weight, self.bias = random(channels, seed=8), random(channels, seed=9)
            self.groups = groups

        def forward(self, x):
            g = x.reshape(len(x), self.groups, -1)
            self.sd = g.std(-1, keepdims=True)
            self.xh = (g - g.mean(-1, keepdims=True)) / self.sd
            return self.xh.reshape(x.shape) * self.weight[:, None] + self.bias[:, None]

        def backward(self, dy):
            self.dweight = (dy * self.xh.reshape(dy.shape)).sum((0, 2))
            self.dbias = dy[-1].sum(-1)
            d = (dy * self.weight[:, None]).reshape(self.xh.shape)
            dx = (d - d.mean(-1, keepdims=True) - self.xh * (d * self.xh).mean(-1, keepdims=True)) / self.sd
            return dx.reshape(dy.shape)

    return given(GroupNorm(6, 2), random(3, 6, 2, seed=25))


@mistake("input x", "factor")
def instance_norm_with_unbiased_deviation_in_backward():
    """backward divides by the deviation with n - 1, forward by that with n: a factor of sqrt(6/7) or so."""

    class InstanceNorm:
        def forward(self, x):
            self.x = x
            return (x - x.mean(2, keepdims=True)) / x.std(2, keepdims=True)

        def backward(self, dy):
            xh = (self.x - self.x.mean(2, keepdims=True)) / self.x.std(2, keepdims=True)
            dx = dy - dy.mean(2, keepdims=True) - xh * (dy * xh).mean(2, keepdims=True)
            return dx / self.x.std(2, keepdims=True, ddof=1)

    return given(InstanceNorm(), random(2, 3, 7, seed=26))


@mistake("input x", "power", "lost factor")
def unit_length_with_squared_norm():
    """The projection divides by |x|^2 where |x|^3 belongs."""

    def unit(x):
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    def unit_backward(dy, x):
        n = np.linalg.norm(x, axis=-1, keepdims=True)
        return dy / n - x * (x * dy).sum(-1, keepdims=True) / n**2

    return given(unit, random(5, 3, seed=27), backward=unit_backward)


@mistake("param g", "lost factor")
def weight_norm_length_gradient_without_norm():
    """dg = sum(dW * v), which must still be divided by |v|."""

    class WeightNormLinear:
        def __init__(self, n_in, n_out):
            self.v, self.g = random(n_in, n_out, seed=10), random(n_out, seed=11)

        def forward(self, x):
            self.x, self.norm = x, np.sqrt((self.v**2).sum(0))
            return x @ (self.g * self.v / self.norm)

        def backward(self, dy):
            dW = self.x.T @ dy
            self.dg = (dW * self.v).sum(0)
            along = (dW * self.v).sum(0) / self.norm**2
            self.dv = self.g / self.norm * (dW - self.v * along)
            return dy @ (self.g * self.v / self.norm).T

    return given(WeightNormLinear(4, 3), random(5, 4, seed=28))


@mistake("input x", "state", "wrong operand")
def batch_norm_backward_with_running_deviation():
    """backward divides by the running deviation, forward by that of the batch."""

    class RunningNorm:
        def __init__(self, n):
            self.running_var = np.ones(n)

        def forward(self, x):
            var = x.var(0)
            self.running_var = 0.9 * self.running_var + 0.1 * var
            self.xh = (x - x.mean(0)) / np.sqrt(var)
            return self.xh

        def backward(self, dy):
            dx = dy - dy.mean(0) - self.xh * (dy * self.xh).mean(0)
            return dx / np.sqrt(self.running_var)

    return given(RunningNorm(3), 1.7 * random(6, 3, seed=29))

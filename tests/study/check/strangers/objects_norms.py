"""Normalisations, written in different ways."""

import numpy as np
from strangers.given import given, random, right


class LayerNorm:
    def __init__(self, n, eps=1e-5):
        rng = np.random.default_rng(1)
        self.gamma, self.beta, self.eps = 1 + 0.2 * rng.normal(size=n), 0.1 * rng.normal(size=n), eps

    def forward(self, x):
        self.std = np.sqrt(np.var(x, axis=-1, keepdims=True) + self.eps)
        self.xhat = (x - np.mean(x, axis=-1, keepdims=True)) / self.std
        return self.gamma * self.xhat + self.beta

    def backward(self, dy):
        lead = tuple(range(dy.ndim - 1))
        self.dgamma, self.dbeta = np.sum(dy * self.xhat, axis=lead), np.sum(dy, axis=lead)
        d = dy * self.gamma
        d = d - d.mean(axis=-1, keepdims=True) - self.xhat * (d * self.xhat).mean(axis=-1, keepdims=True)
        return d / self.std


@right
def layer_norm_by_var():
    return given(LayerNorm(12), random(2, 5, 12))


@right
def layer_norm_of_rows_that_are_all_equal():
    x = random(4, 6)
    x[1] = x[0]
    x[3] = x[2]
    return given(LayerNorm(6), x)


@right
def layer_norm_of_a_row_of_equal_values():
    x = random(3, 4)
    x[1] = 0.75
    return given(LayerNorm(4, eps=1e-2), x)


@right
def layer_norm_of_very_large_inputs():
    return given(LayerNorm(5), 1e5 * random(3, 5))


class LayerNormByStd:
    """Adds the small number to the standard deviation."""

    def __init__(self, n):
        self.g, self.b = np.ones(n), np.zeros(n)
        self.small = 1e-3

    def __call__(self, x):
        self.centred = x - x.mean(-1, keepdims=True)
        self.s = np.std(x, axis=-1, keepdims=True)
        self.normed = self.centred / (self.s + self.small)
        return self.g * self.normed + self.b

    def backward(self, grad):
        n = grad.shape[-1]
        self.grad_g = (grad * self.normed).reshape(-1, n).sum(0)
        self.grad_b = grad.reshape(-1, n).sum(0)
        dn = grad * self.g
        ds = -(dn * self.normed).sum(-1, keepdims=True) / (self.s + self.small)
        dc = dn / (self.s + self.small) + ds * self.centred / (n * self.s)
        return dc - dc.mean(-1, keepdims=True)


@right
def layer_norm_by_std_with_gain_of_one():
    return given(LayerNormByStd(6), random(2, 3, 6))


class RMSNorm:
    def __init__(self, n, eps=1e-6):
        self.scale = np.random.default_rng(2).uniform(0.5, 1.5, n)
        self.eps = eps

    def forward(self, x):
        r = 1 / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + self.eps)
        return x * r * self.scale, (x, r)

    def backward(self, dy, cache):
        x, r = cache
        self.dscale = (dy * x * r).sum(axis=tuple(range(x.ndim - 1)))
        d = dy * self.scale
        return r * d - x * r**3 * np.mean(d * x, axis=-1, keepdims=True)


@right
def rms_norm_with_a_cache():
    return given(RMSNorm(5), random(2, 3, 5))


@right
def rms_norm_of_very_small_inputs():
    return given(RMSNorm(5, eps=1e-12), 1e-6 * random(4, 5))


class UnitNorm:
    def __init__(self, axis=1):
        self.axis = axis

    def forward(self, x):
        self.length = np.linalg.norm(x, axis=self.axis, keepdims=True)
        self.unit = x / self.length
        return self.unit

    def backward(self, dy):
        along = np.sum(dy * self.unit, axis=self.axis, keepdims=True)
        return (dy - self.unit * along) / self.length


@right
def unit_length_by_linalg_norm():
    return given(UnitNorm(), random(4, 3))


class BatchNorm:
    def __init__(self, n, momentum=0.9):
        rng = np.random.default_rng(3)
        self.gamma, self.beta = rng.uniform(0.5, 2, n), rng.normal(size=n)
        self.running_mean, self.running_var = 0.1 * rng.normal(size=n), rng.uniform(0.5, 2, n)
        self.momentum, self.training = momentum, False

    def forward(self, x):
        if self.training:
            mean, var = x.mean(axis=0), x.var(axis=0)
            self.running_mean = self.momentum * self.running_mean + (1 - self.momentum) * mean
            self.running_var = self.momentum * self.running_var + (1 - self.momentum) * var
        else:
            mean, var = self.running_mean, self.running_var
        self.inv = 1 / np.sqrt(var + 1e-5)
        self.xhat = (x - mean) * self.inv
        return self.gamma * self.xhat + self.beta

    def backward(self, dy):
        self.dgamma, self.dbeta = (dy * self.xhat).sum(0), dy.sum(0)
        d = dy * self.gamma * self.inv
        if self.training:
            d = d - d.mean(0) - self.xhat * (d * self.xhat).mean(0)
        return d


@right
def batch_norm_in_training():
    return given(BatchNorm(3), random(6, 3), training=True)


@right
def batch_norm_with_running_statistics():
    return given(BatchNorm(3), random(6, 3), constants=["running_mean", "running_var"])


class ImageBatchNorm:
    """Always takes the statistics of the batch; the flag is an argument of forward; long backward in steps."""

    def __init__(self, channels):
        self.params = {"gamma": np.ones((1, channels, 1, 1)), "beta": np.zeros((1, channels, 1, 1))}
        self.grads = {"gamma": None, "beta": None}

    def forward(self, x, training=True):
        if not training:
            raise ValueError("no running statistics yet")
        self.m = x.shape[0] * x.shape[2] * x.shape[3]
        mu = np.sum(x, axis=(0, 2, 3), keepdims=True) / self.m
        self.xmu = x - mu
        self.var = np.sum(self.xmu**2, axis=(0, 2, 3), keepdims=True) / self.m
        self.sqrtvar = np.sqrt(self.var + 1e-4)
        self.ivar = 1.0 / self.sqrtvar
        self.xhat = self.xmu * self.ivar
        return self.params["gamma"] * self.xhat + self.params["beta"]

    def backward(self, dout):
        axes = (0, 2, 3)
        self.grads["beta"] = np.sum(dout, axis=axes, keepdims=True)
        self.grads["gamma"] = np.sum(dout * self.xhat, axis=axes, keepdims=True)
        dxhat = dout * self.params["gamma"]
        divar = np.sum(dxhat * self.xmu, axis=axes, keepdims=True)
        dxmu1 = dxhat * self.ivar
        dsqrtvar = -1.0 / (self.sqrtvar**2) * divar
        dvar = 0.5 / np.sqrt(self.var + 1e-4) * dsqrtvar
        dsq = np.ones(dout.shape) / self.m * dvar
        dxmu2 = 2 * self.xmu * dsq
        dx1 = dxmu1 + dxmu2
        dmu = -np.sum(dx1, axis=axes, keepdims=True)
        return dx1 + np.ones(dout.shape) / self.m * dmu


@right
def batch_norm_of_images_in_many_small_steps():
    return given(ImageBatchNorm(2), random(2, 2, 3, 2), training=True)


class GroupNorm:
    def __init__(self, groups, channels):
        rng = np.random.default_rng(5)
        self.groups = groups
        self.weight, self.bias = rng.normal(size=channels), rng.normal(size=channels)

    def forward(self, x):
        self.shape = x.shape
        g = x.reshape(x.shape[0], self.groups, -1)
        centred = g - g.mean(axis=2, keepdims=True)
        self.rstd = (np.mean(np.square(centred), axis=2, keepdims=True) + 1e-5) ** -0.5
        self.n = centred * self.rstd
        self.y = self.n.reshape(x.shape)
        return self.y * self.weight[:, None, None] + self.bias[:, None, None]

    def backward(self, dy):
        self.weight_grad, self.bias_grad = (dy * self.y).sum((0, 2, 3)), dy.sum((0, 2, 3))
        d = (dy * self.weight[:, None, None]).reshape(self.n.shape)
        m = self.n.shape[2]
        total, projected = d.sum(axis=2, keepdims=True), (d * self.n).sum(axis=2, keepdims=True)
        return (self.rstd / m * (m * d - total - self.n * projected)).reshape(self.shape)


@right
def group_norm_by_mean_of_squares():
    return given(GroupNorm(2, 4), random(2, 4, 2, 3))


class InstanceNorm:
    """No parameters; one statistic per sample and channel, with the unbiased variance."""

    def forward(self, x):
        self.n = x.shape[2]
        self.centred = x - x.mean(2, keepdims=True)
        self.inv = 1 / np.sqrt(x.var(axis=2, ddof=1, keepdims=True) + 1e-5)
        return self.centred * self.inv

    def backward(self, dy):
        dinv = (dy * self.centred).sum(2, keepdims=True)
        dvar = -0.5 * dinv * self.inv**3
        d = dy * self.inv + 2 / (self.n - 1) * self.centred * dvar
        return d - d.mean(2, keepdims=True)


@right
def instance_norm_with_unbiased_variance():
    return given(InstanceNorm(), random(2, 3, 5))


class FixedStandardiser:
    """Mean and deviation of a data set are kept as a tuple of Python floats, so only scale and shift are arrays."""

    def __init__(self, data):
        self.statistics = tuple((float(m), float(s)) for m, s in zip(data.mean(0), data.std(0)))
        self.scale, self.shift = np.ones(len(self.statistics)), np.zeros(len(self.statistics))

    def forward(self, x):
        mean, std = np.array(self.statistics).T
        self.z = (x - mean) / std
        return self.z * self.scale + self.shift

    def backward(self, dy):
        std = np.array(self.statistics)[:, 1]
        return {"dx": dy * self.scale / std, "dscale": (dy * self.z).sum(0), "dshift": dy.sum(0)}


@right
def standardiser_with_fixed_statistics_as_floats():
    return given(FixedStandardiser(3 + 2 * random(20, 3, seed=5)), random(4, 3))


class StandardisedWeight:
    """The rows of the weight are standardised before use."""

    def __init__(self, n, m):
        self.weight = np.random.default_rng(6).normal(size=(m, n))

    def forward(self, x):
        self.x = x
        centred = self.weight - self.weight.mean(axis=1, keepdims=True)
        self.std = np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-4)
        self.w = centred / self.std
        return x @ self.w.T

    def backward(self, dy):
        dw = dy.T @ self.x
        dw = dw - dw.mean(axis=1, keepdims=True) - self.w * (dw * self.w).mean(axis=1, keepdims=True)
        self.dweight = dw / self.std
        return dy @ self.w


@right
def dense_with_standardised_weights():
    return given(StandardisedWeight(4, 3), random(5, 4))

"""Normalisation as pairs of functions."""

import numpy as np
from strangers.given import given, random, right


def batchnorm_forward(x, gamma, beta, bn_param):
    mode = bn_param["mode"]
    eps = bn_param.get("eps", 1e-5)
    momentum = bn_param.get("momentum", 0.9)
    d = x.shape[1]
    running_mean = bn_param.get("running_mean", np.zeros(d, dtype=x.dtype))
    running_var = bn_param.get("running_var", np.zeros(d, dtype=x.dtype))
    if mode == "train":
        mean, var = x.mean(axis=0), x.var(axis=0)
        running_mean = momentum * running_mean + (1 - momentum) * mean
        running_var = momentum * running_var + (1 - momentum) * var
    elif mode == "test":
        mean, var = running_mean, running_var
    else:
        raise ValueError("unknown mode " + repr(mode))
    inverse = 1 / np.sqrt(var + eps)
    xhat = (x - mean) * inverse
    bn_param["running_mean"] = running_mean
    bn_param["running_var"] = running_var
    return gamma * xhat + beta, (mode, gamma, xhat, inverse)


def batchnorm_backward(dout, cache):
    mode, gamma, xhat, inverse = cache
    dbeta = dout.sum(axis=0)
    dgamma = (dout * xhat).sum(axis=0)
    dxhat = dout * gamma
    if mode == "test":
        return dxhat * inverse, dgamma, dbeta
    dx = inverse * (dxhat - dxhat.mean(axis=0) - xhat * (dxhat * xhat).mean(axis=0))
    return dx, dgamma, dbeta


@right
def batch_norm_with_the_mode_in_a_dict():
    """Forward also stores the running statistics in the dict it was given."""
    return given(
        batchnorm_forward,
        random(6, 3),
        random(3, seed=1),
        random(3, seed=2),
        {"mode": "train"},
        backward=batchnorm_backward,
    )


@right
def batch_norm_in_test_mode_with_constant_statistics():
    statistics = {"mode": "test", "running_mean": random(3, seed=3), "running_var": random(3, seed=4) ** 2 + 0.5}
    return given(
        batchnorm_forward,
        random(4, 3),
        random(3, seed=1),
        random(3, seed=2),
        statistics,
        backward=batchnorm_backward,
        constants=["bn_param"],
    )


@right
def batch_norm_along_the_graph_step_by_step():
    def forward(x, gamma, beta, eps=1e-3):
        mu = 1 / len(x) * np.sum(x, axis=0)
        xmu = x - mu
        var = 1 / len(x) * np.sum(xmu**2, axis=0)
        sqrtvar = np.sqrt(var + eps)
        ivar = 1 / sqrtvar
        xhat = xmu * ivar
        return gamma * xhat + beta, (xhat, gamma, xmu, ivar, sqrtvar, var, eps)

    def backward(dout, cache):
        xhat, gamma, xmu, ivar, sqrtvar, var, eps = cache
        n = dout.shape[0]
        dbeta = np.sum(dout, axis=0)
        dgamma = np.sum(dout * xhat, axis=0)
        dxhat = dout * gamma
        divar = np.sum(dxhat * xmu, axis=0)
        dxmu = dxhat * ivar
        dsqrtvar = -1 / sqrtvar**2 * divar
        dvar = 0.5 / np.sqrt(var + eps) * dsqrtvar
        dsquares = np.ones_like(dout) / n * dvar
        dxmu += 2 * xmu * dsquares
        dmu = -np.sum(dxmu, axis=0)
        return dxmu + np.ones_like(dout) / n * dmu, dgamma, dbeta

    return given(forward, 3 + 2 * random(5, 4), random(4, seed=1), random(4, seed=2), backward=backward)


@right
def spatial_batch_norm_by_moving_the_channels():
    def forward(x, gamma, beta):
        n, c, h, w = x.shape
        flat = np.moveaxis(x, 1, -1).reshape(-1, c)
        out, cache = batchnorm_forward(flat, gamma, beta, {"mode": "train"})
        return np.moveaxis(out.reshape(n, h, w, c), -1, 1), cache

    def backward(dout, cache):
        n, c, h, w = dout.shape
        dflat, dgamma, dbeta = batchnorm_backward(dout.transpose(0, 2, 3, 1).reshape(-1, c), cache)
        return dflat.reshape(n, h, w, c).transpose(0, 3, 1, 2), dgamma, dbeta

    return given(forward, random(2, 3, 2, 2), random(3, seed=1), random(3, seed=2), backward=backward)


@right
def layer_norm_by_variance():
    def forward(x, gain, bias):
        centred = x - x.mean(-1, keepdims=True)
        scale = 1.0 / np.sqrt(np.var(x, axis=-1, keepdims=True) + 1e-5)
        return gain * centred * scale + bias

    def backward(dy, x, gain, bias):
        scale = 1.0 / np.sqrt(np.var(x, axis=-1, keepdims=True) + 1e-5)
        normal = (x - x.mean(-1, keepdims=True)) * scale
        dnormal = dy * gain
        dx = dnormal - dnormal.mean(-1, keepdims=True) - normal * (dnormal * normal).mean(-1, keepdims=True)
        return dx * scale, (dy * normal).sum((0, 1)), dy.sum((0, 1))

    return given(forward, random(2, 3, 6), random(6, seed=1), random(6, seed=2), backward=backward)


@right
def layer_norm_that_adds_epsilon_to_the_standard_deviation():
    def forward(x, gain, bias, eps=0.1):
        mean = np.mean(x, axis=1, keepdims=True)
        std = np.std(x, axis=1, keepdims=True)
        xhat = (x - mean) / (std + eps)
        return gain * xhat + bias, {"x": x - mean, "std": std, "eps": eps, "gain": gain, "xhat": xhat}

    def backward(dout, cache):
        centred, std, eps = cache["x"], cache["std"], cache["eps"]
        d = dout.shape[1]
        g = dout * cache["gain"]
        dcentred = g / (std + eps)
        dstd = -np.sum(g * centred, axis=1, keepdims=True) / (std + eps) ** 2
        dcentred = dcentred + dstd * centred / (d * std)
        dx = dcentred - dcentred.mean(axis=1, keepdims=True)
        return {"x": dx, "gain": np.sum(dout * cache["xhat"], axis=0), "bias": dout.sum(axis=0)}

    return given(forward, random(3, 5), random(5, seed=1), random(5, seed=2), backward=backward)


@right
def sample_standard_deviation_with_ddof():
    def forward(x):
        return np.std(x, axis=0, ddof=1)

    def backward(dy, x):
        return dy * (x - x.mean(0)) / ((len(x) - 1) * np.std(x, axis=0, ddof=1))

    return given(forward, random(6, 3), backward=backward)


@right
def root_mean_square_norm():
    def forward(x, scale):
        rms = np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6)
        return x / rms * scale, (x, scale, rms)

    def backward(dout, cache):
        x, scale, rms = cache
        g = dout * scale
        dx = g / rms - x * np.mean(g * x, axis=-1, keepdims=True) / rms**3
        return dx, np.sum(dout * x / rms, axis=tuple(range(x.ndim - 1)))

    return given(forward, random(2, 2, 5), random(5, seed=1), backward=backward)


@right
def group_norm_with_the_number_of_groups():
    def forward(x, gamma, beta, groups):
        n, c, t = x.shape
        grouped = x.reshape(n, groups, -1)
        mean = grouped.mean(axis=2, keepdims=True)
        inverse = (grouped.var(axis=2, keepdims=True) + 1e-5) ** -0.5
        xhat = ((grouped - mean) * inverse).reshape(n, c, t)
        return gamma * xhat + beta, (xhat, inverse, gamma, groups)

    def backward(dout, cache):
        xhat, inverse, gamma, groups = cache
        n, c, t = dout.shape
        g = (dout * gamma).reshape(n, groups, -1)
        h = xhat.reshape(n, groups, -1)
        dx = inverse * (g - g.mean(2, keepdims=True) - h * (g * h).mean(2, keepdims=True))
        dgamma = (dout * xhat).sum(axis=(0, 2), keepdims=True)
        dbeta = dout.sum(axis=(0, 2), keepdims=True)
        return dx.reshape(n, c, t), dgamma, dbeta

    return given(forward, random(2, 4, 3), random(1, 4, 1, seed=1), random(1, 4, 1, seed=2), 2, backward=backward)


@right
def unit_vectors_by_linalg_norm():
    def forward(v):
        length = np.linalg.norm(v, axis=1, keepdims=True)
        return v / length, (v / length, length)

    def backward(dout, cache):
        unit, length = cache
        return (dout - unit * np.sum(unit * dout, axis=1, keepdims=True)) / length

    return given(forward, random(4, 3), backward=backward)


@right
def weight_normalised_linear():
    def forward(x, v, g):
        norm = np.linalg.norm(v, axis=0)
        return x @ (v * (g / norm))

    def backward(dy, x, v, g):
        norm = np.linalg.norm(v, axis=0)
        unit = v / norm
        dw = x.T @ dy
        dg = (dw * unit).sum(axis=0)
        return dy @ (g * unit).T, g / norm * (dw - unit * dg), dg

    return given(forward, random(3, 4), random(4, 2, seed=1), random(2, seed=2), backward=backward)


@right
def scaling_to_the_range_from_zero_to_one():
    def forward(x):
        low, high = x.min(axis=1, keepdims=True), x.max(axis=1, keepdims=True)
        return (x - low) / (high - low)

    def backward(dy, x):
        low, high = x.min(axis=1, keepdims=True), x.max(axis=1, keepdims=True)
        rows = np.arange(len(x))
        span = (high - low)[:, 0]
        y = (x - low) / (high - low)
        dx = dy / (high - low)
        dx[rows, x.argmin(axis=1)] -= (dy * (1 - y)).sum(axis=1) / span
        dx[rows, x.argmax(axis=1)] -= (dy * y).sum(axis=1) / span
        return dx

    return given(forward, random(3, 5), backward=backward)


@right
def softmax_of_rows():
    def forward(x):
        e = np.exp(x - np.max(x, axis=-1, keepdims=True))
        p = e / np.sum(e, axis=-1, keepdims=True)
        return p, p

    def backward(dout, p):
        return p * (dout - (dout * p).sum(axis=-1, keepdims=True))

    return given(forward, 2 * random(3, 4), backward=backward)


@right
def softmax_by_the_jacobian_of_every_row():
    def forward(x):
        e = np.exp(x)
        return e / e.sum(1)[:, None]

    def backward(dy, x):
        rows = []
        for g, p in zip(dy, forward(x)):
            jacobian = np.diag(p) - np.outer(p, p)
            rows.append(jacobian @ g)
        return np.array(rows)

    return given(forward, random(2, 5), backward=backward)


@right
def log_softmax_by_logsumexp():
    def logsumexp(x):
        top = np.max(x, axis=-1, keepdims=True)
        return top + np.log(np.sum(np.exp(x - top), axis=-1, keepdims=True))

    def forward(x):
        return x - logsumexp(x)

    def backward(dy, x):
        return dy - np.exp(forward(x)) * dy.sum(axis=-1, keepdims=True)

    return given(forward, random(2, 3, 4), backward=backward)

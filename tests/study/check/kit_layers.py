"""Layers as other people write them, right ones and wrong ones, for the tests of npgpt.testing."""

from typing import Any

import numpy as np


class Linear:
    def __init__(self, n: int = 5, m: int = 4, dtype: Any = float) -> None:
        rng = np.random.default_rng(1)
        self.W, self.b = rng.normal(size=(n, m)).astype(dtype), rng.normal(size=m).astype(dtype)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        self.dW, self.db = self.x.T @ dy, dy.sum(0)
        return dy @ self.W.T


class Accumulates(Linear):
    def __init__(self) -> None:
        super().__init__()
        self.dW, self.db = np.zeros_like(self.W), np.zeros_like(self.b)

    def backward(self, dy):
        self.dW += self.x.T @ dy
        self.db += dy.sum(0)
        return dy @ self.W.T


class LayerNorm:
    def __init__(self, n: int = 5) -> None:
        self.gain, self.bias = np.ones(n), np.zeros(n)

    def forward(self, x):
        centred = x - x.mean(-1, keepdims=True)
        self.r = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        self.xhat = centred * self.r
        return self.xhat * self.gain + self.bias

    def backward(self, dy):
        axes = tuple(range(dy.ndim - 1))
        self.dgain, self.dbias, d = (dy * self.xhat).sum(axes), dy.sum(axes), dy * self.gain
        return self.r * (d - d.mean(-1, keepdims=True) - self.xhat * (d * self.xhat).mean(-1, keepdims=True))


class ReLUAndClip:
    def forward(self, x):
        self.open = (x > 0) & (x < 1.5)
        return np.clip(np.maximum(x, 0), 0, 1.5)

    def backward(self, dy):
        return dy * self.open


class BatchNorm:
    """With running statistics, which only evaluation uses."""

    def __init__(self, n: int = 5) -> None:
        self.gamma, self.beta = np.ones(n), np.zeros(n)
        self.running_mean, self.running_var, self.training = np.zeros(n), np.ones(n), True

    def forward(self, x):
        axes = tuple(range(x.ndim - 1))
        mean, var = (x.mean(axes), x.var(axes)) if self.training else (self.running_mean, self.running_var)
        if self.training:
            self.running_mean = 0.9 * self.running_mean + 0.1 * mean
            self.running_var = 0.9 * self.running_var + 0.1 * var
        self.std = np.sqrt(var + 1e-5)
        self.xhat = (x - mean) / self.std
        return self.gamma * self.xhat + self.beta

    def backward(self, dy):
        axes = tuple(range(dy.ndim - 1))
        self.dgamma, self.dbeta, d = (dy * self.xhat).sum(axes), dy.sum(axes), dy * self.gamma
        if not self.training:
            return d / self.std
        return (d - d.mean(axes) - self.xhat * (d * self.xhat).mean(axes)) / self.std


class Dropout:
    training = True

    def forward(self, x):
        self.mask = (np.random.rand(*x.shape) < 0.7) / 0.7 if self.training else np.ones(x.shape)  # noqa: NPY002
        return x * self.mask

    def backward(self, dy):
        return dy * self.mask


class OwnDropout(Dropout):
    def __init__(self) -> None:
        self.rng = np.random.default_rng(3)

    def forward(self, x):
        self.mask = (self.rng.random(x.shape) < 0.7) / 0.7
        return x * self.mask


class Embedding:
    def __init__(self) -> None:
        self.table = np.random.default_rng(2).normal(size=(4, 3))

    def forward(self, ids):
        self.ids = ids
        return self.table[ids]

    def backward(self, dy):
        self.dtable = np.zeros_like(self.table)
        np.add.at(self.dtable, self.ids, dy)


class StraightThrough:
    """Rounds; its backward pass pretends that it does not."""

    def forward(self, x):
        return np.round(x)

    def backward(self, dy):
        return dy


class Softplus:
    """y = log(1 + s·exp(x)); s must be positive."""

    def __init__(self) -> None:
        self.s = np.array([0.5, 1, 2, 3, 0.1])

    def forward(self, x):
        self.e = np.exp(x)
        return np.log(1 + self.s * self.e) + np.sqrt(self.s)

    def backward(self, dy):
        p = 1 / (1 + self.s * self.e)
        self.ds = (dy * (self.e * p + 0.5 / np.sqrt(self.s))).sum(tuple(range(dy.ndim - 1)))
        return dy * (1 - p)


class Recurrent:
    """Keeps its state from pass to pass, until it is reset."""

    def __init__(self) -> None:
        self.h, self.w = np.zeros(5), np.full(5, 0.7)

    def reset_state(self):
        self.h = np.zeros(5)

    def forward(self, x):
        self.before, self.h = self.h, np.tanh(self.w * self.h + x)
        return self.h

    def backward(self, dy):
        d = dy * (1 - self.h**2)
        self.dw = (d * self.before).sum(0)
        return d


class InDict:
    def __init__(self) -> None:
        rng = np.random.default_rng(4)
        self.params, self.grads = {"W": rng.normal(size=(5, 3)), "b": np.zeros(3)}, {}

    def forward(self, x):
        self.x, self.y = x, np.tanh(x @ self.params["W"] + self.params["b"])
        return self.y

    def backward(self, dout):
        d = dout * (1 - self.y**2)
        self.grads = {"W": self.x.T @ d, "b": d.sum(0)}
        return d @ self.params["W"].T


class Cumulative:
    def forward(self, x):
        return np.cumsum(x, axis=1)

    def backward(self, dy):
        return np.cumsum(dy[:, ::-1], axis=1)[:, ::-1]


class Steps(Linear):
    def backward(self, dy, lr=0.1):
        dx = dy @ self.W.T
        self.W -= lr * self.x.T @ dy
        self.b -= lr * dy.sum(0)
        return dx


def batch_norm_forward(x, gamma, beta, state):
    mean, var = x.mean(0), x.var(0)
    if state["mode"] == "train":
        state["running_mean"] = 0.9 * state.get("running_mean", np.zeros(x.shape[1])) + 0.1 * mean
    xhat = (x - mean) / np.sqrt(var + 1e-5)
    return gamma * xhat + beta, (xhat, var, gamma)


def batch_norm_backward(dout, cache):
    xhat, var, gamma = cache
    d = dout * gamma
    dx = (d - d.mean(0) - xhat * (d * xhat).mean(0)) / np.sqrt(var + 1e-5)
    return dx, (dout * xhat).sum(0), dout.sum(0)


class Queue:
    """Forward passes wait in a list for their backward passes."""

    def __init__(self) -> None:
        self.seen = []

    def forward(self, x):
        self.seen.append(x)
        return np.tanh(x)

    def backward(self, dy):
        return dy * (1 - np.tanh(self.seen.pop()) ** 2)


def affine_forward(x, w, b):
    return x @ w + b, (x, w, b)


def affine_backward(dout, cache):
    x, w, _ = cache
    return dout @ w.T, x.T @ dout, dout.sum(0)


def loss_forward(scores, labels):
    e = np.exp(scores - scores.max(1, keepdims=True))
    return -np.log((e / e.sum(1, keepdims=True))[np.arange(len(labels)), labels]).mean()


def loss_backward(scores, labels):
    e = np.exp(scores - scores.max(1, keepdims=True))
    d = e / e.sum(1, keepdims=True)
    d[np.arange(len(labels)), labels] -= 1
    return d / len(labels)


class NoBias(Linear):
    def backward(self, dy):
        dx = super().backward(dy)
        self.db = np.zeros_like(self.b)
        return dx


class Transposed(Linear):
    def backward(self, dy):
        super().backward(dy)
        return dy @ self.W

    def __init__(self) -> None:
        super().__init__(5, 5)


class NoMean(LayerNorm):
    def backward(self, dy):
        super().backward(dy)
        d = dy * self.gain
        return self.r * (d - self.xhat * (d * self.xhat).mean(-1, keepdims=True))


class StatisticsAreConstants(BatchNorm):
    def backward(self, dy):
        super().backward(dy)
        return dy * self.gamma / self.std


class UndroppedBackward(Dropout):
    def backward(self, dy):
        return dy


class LosesRepeats(Embedding):
    def backward(self, dy):
        self.dtable = np.zeros_like(self.table)
        self.dtable[self.ids] += dy


class WrongSlope(Softplus):
    def backward(self, dy):
        dx = super().backward(dy)
        self.ds = -self.ds
        return dx


class ClipsNothing(ReLUAndClip):
    def forward(self, x):
        y = super().forward(x)
        self.open = x > 0
        return y


class WritesDy(ReLUAndClip):
    def backward(self, dy):
        dy[~self.open] = 0
        return dy


class WritesX(ReLUAndClip):
    def forward(self, x):
        super().forward(x)
        np.clip(x, 0, 1.5, out=x)
        return x


class WritesWeights(Linear):
    def forward(self, x):
        self.W *= 0.9
        return super().forward(x)


class FirstMask(ReLUAndClip):
    def forward(self, x):
        if not hasattr(self, "open"):
            self.open = (x > 0) & (x < 1.5)
        return np.clip(np.maximum(x, 0), 0, 1.5)


class Contiguous(Linear):
    def forward(self, x):
        self.x = x
        strided = np.lib.stride_tricks.as_strided(x, x.shape, (8 * x.shape[1], 8))
        return strided @ self.W + self.b


class ClipsGradient(Linear):
    def backward(self, dy):
        return super().backward(np.clip(dy, -1, 1))


class SumsExamples(Linear):
    def backward(self, dy):
        return super().backward(dy).sum(0)


class MixesExamples(LayerNorm):
    def forward(self, x):
        return super().forward(x) + x.mean(0)

    def backward(self, dy):
        return super().backward(dy) + dy.mean(0)


class SeesTheFuture(Cumulative):
    def forward(self, x):
        return x + x.sum(1, keepdims=True)

    def backward(self, dy):
        return dy + dy.sum(1, keepdims=True)


class FirstExampleIsSpecial(ReLUAndClip):
    def forward(self, x):
        y = super().forward(x)
        y[0] *= 2
        return y

    def backward(self, dy):
        d = dy * self.open
        d[0] *= 2
        return d


class Raises(Linear):
    def backward(self, dy):
        raise ValueError("shapes do not match")


RIGHT_AT_A_GLANCE = (Linear, Accumulates, LayerNorm, ReLUAndClip, BatchNorm, Dropout, InDict, Softplus)
WRONG_AT_A_GLANCE = (NoBias, Transposed, NoMean, UndroppedBackward, WrongSlope)

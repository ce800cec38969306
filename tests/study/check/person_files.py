"""Files as people write them, for ``npgpt check FILE.py``: name -> text."""

NORM = """
import numpy as np

class LayerNorm:
    def __init__(self, dim, eps=1e-5):
        self.gamma, self.beta, self.eps = np.ones(dim), np.zeros(dim), eps

    def forward(self, x):
        self.std = np.sqrt(np.var(x, axis=-1, keepdims=True) + self.eps)
        self.xhat = (x - x.mean(axis=-1, keepdims=True)) / self.std
        return self.gamma * self.xhat + self.beta

    def backward(self, dout):
        axes = tuple(range(dout.ndim - 1))
        self.dgamma, self.dbeta = (dout * self.xhat).sum(axis=axes), dout.sum(axis=axes)
        d = dout * self.gamma
        dx = d - d.mean(axis=-1, keepdims=True)
        return (dx - self.xhat * (d * self.xhat).mean(axis=-1, keepdims=True)) / self.std
"""
BROKEN_NORM = NORM.replace("dout * self.gamma\n", "dout\n")

COURSE = """
import numpy as np

def affine_forward(x, w, b):
    return x.reshape(x.shape[0], -1) @ w + b, (x, w, b)

def affine_backward(dout, cache):
    x, w, b = cache
    return (dout @ w.T).reshape(x.shape), x.reshape(x.shape[0], -1).T @ dout, dout.sum(axis=0)

def batchnorm_forward(x, gamma, beta, bn_param):
    if bn_param["mode"] == "test":
        return gamma * (x - bn_param["running_mean"]) / np.sqrt(bn_param["running_var"]) + beta, None
    mean, std = x.mean(axis=0), np.sqrt(x.var(axis=0) + 1e-5)
    xhat = (x - mean) / std
    bn_param["running_mean"], bn_param["running_var"] = mean, std**2
    return gamma * xhat + beta, (xhat, gamma, std)

def batchnorm_backward(dout, cache):
    xhat, gamma, std = cache
    d = dout * gamma
    return (d - d.mean(axis=0) - xhat * (d * xhat).mean(axis=0)) / std, (dout * xhat).sum(axis=0), dout.sum(axis=0)

def conv_forward_naive(x, w, b, conv_param):
    p = conv_param["pad"]
    xp = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    win = np.lib.stride_tricks.sliding_window_view(xp, w.shape[2:], (2, 3))
    return np.einsum("nchwij,ocij->nohw", win, w) + b[:, None, None], (xp, win, w, p)

def conv_backward_naive(dout, cache):
    xp, win, w, p = cache
    dxp = np.zeros_like(xp)
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            dxp[:, :, i:i + 3, j:j + 3] += np.einsum("no,ocij->ncij", dout[:, :, i, j], w)
    return dxp[:, :, p:-p, p:-p], np.einsum("nchwij,nohw->ocij", win, dout), dout.sum(axis=(0, 2, 3))

def rnn_step_forward(x, prev_h, Wx, Wh, b):
    h = np.tanh(x @ Wx + prev_h @ Wh + b)
    return h, (x, prev_h, Wx, Wh, h)

def rnn_step_backward(dnext_h, cache):
    x, prev_h, Wx, Wh, h = cache
    da = dnext_h * (1 - h**2)
    return da @ Wx.T, da @ Wh.T, x.T @ da, prev_h.T @ da, da.sum(axis=0)

def word_embedding_forward(x, W):
    return W[x], (x, W)

def word_embedding_backward(dout, cache):
    x, W = cache
    dW = np.zeros_like(W)
    np.add.at(dW, x, dout)
    return dW
"""

FROM_SCRATCH = """
import numpy as np

class Affine:
    def __init__(self, W, b):
        self.W, self.b, self.x, self.dW, self.db = W, b, None, None, None

    def forward(self, x):
        self.x = x
        return np.dot(x, self.W) + self.b

    def backward(self, dout):
        self.dW, self.db = np.dot(self.x.T, dout), np.sum(dout, axis=0)
        return np.dot(dout, self.W.T)

class Embedding:
    def __init__(self, W):
        self.params, self.grads = [W], [np.zeros_like(W)]

    def forward(self, idx):
        self.idx = idx
        return self.params[0][idx]

    def backward(self, dout):
        self.grads[0][...] = 0
        np.add.at(self.grads[0], self.idx, dout)

class SoftmaxWithLoss:
    def forward(self, x, t):
        z = np.exp(x - x.max(axis=-1, keepdims=True))
        self.y, self.t = z / z.sum(axis=-1, keepdims=True), t
        return -np.log(self.y[np.arange(len(t)), t]).mean()

    def backward(self, dout=1):
        dx = self.y.copy()
        dx[np.arange(len(dx)), self.t] -= 1
        return dout * dx / len(dx)

class Head:
    def __init__(self, vocab_size=50257, dim=768):
        self.W = np.random.randn(vocab_size, dim)

    def forward(self, x):
        self.x = x
        return x @ self.W.T

    def backward(self, dout):
        self.dW = dout.reshape(-1, dout.shape[-1]).T @ self.x.reshape(-1, self.x.shape[-1])
        return dout @ self.W
"""

LIKE_TORCH = """
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

@dataclass
class GPTConfig:
    n_embd: int = 768
    n_head: int = 12

class Parameter:
    def __init__(self, data):
        self.data, self.grad = data, np.zeros_like(data)

class Module:
    training = True

    def __call__(self, *args):
        return self.forward(*args)

    def forward(self, x):
        raise NotImplementedError

    def backward(self, grad):
        raise NotImplementedError

class Linear(Module):
    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        self.weight = Parameter(np.random.randn(out_features, in_features))
        self.bias = Parameter(np.zeros(out_features))

    def forward(self, x):
        self.x = x
        return x @ self.weight.data.T + self.bias.data

    def backward(self, grad_output):
        g, x = (a.reshape(-1, a.shape[-1]) for a in (grad_output, self.x))
        self.weight.grad += g.T @ x
        self.bias.grad += g.sum(0)
        return grad_output @ self.weight.data

class Heads(Module):
    def __init__(self, config):
        assert config.n_embd % config.n_head == 0
        self.n, self.proj = config.n_head, Linear(config.n_embd, config.n_embd)

    def forward(self, x):
        B, T, C = x.shape
        self.split = np.tanh(x.reshape(B, T, self.n, C // self.n))
        return self.proj(self.split.reshape(B, T, C))

    def backward(self, grad):
        return (self.proj.backward(grad).reshape(self.split.shape) * (1 - self.split**2)).reshape(grad.shape)

class LSTMCell(Module):
    def __init__(self, input_size, hidden_size):
        self.W = Parameter(np.random.randn(input_size + hidden_size, 2 * hidden_size))

    def forward(self, x, h, c):
        self.v = np.concatenate([x, h], -1)
        a, b = np.split(self.v @ self.W.data, 2, -1)
        self.f, self.u, self.c = 1 / (1 + np.exp(-a)), np.tanh(b), c
        return self.f * c + (1 - self.f) * self.u

    def backward(self, grad):
        da = np.concatenate(
            [grad * (self.c - self.u) * self.f * (1 - self.f), grad * (1 - self.f) * (1 - self.u**2)], -1
        )
        self.W.grad += self.v.T @ da
        dv, n = da @ self.W.data.T, self.v.shape[1] - grad.shape[1]
        return dv[:, :n], dv[:, n:], grad * self.f

class Pool(Module):
    def __init__(self, kernel_size):
        self.k = kernel_size

    def forward(self, x):
        N, C, H, W = x.shape
        return x.reshape(N, C, H // self.k, self.k, W // self.k, self.k).mean((3, 5))

    def backward(self, grad):
        return grad.repeat(self.k, 2).repeat(self.k, 3) / self.k**2

class Slopes(Module):
    def __init__(self, heads):
        self.slopes = 0.5 ** np.arange(heads)[:, None, None]

    def forward(self, scores):
        self.mask = self.slopes * np.ones((len(self.slopes), 4, 4))
        return scores * self.mask

    def backward(self, grad):
        return grad * self.mask

class Sequential(Module):
    def __init__(self, *layers):
        self.layers = layers

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x

    def backward(self, grad):
        for layer in reversed(self.layers):
            grad = layer.backward(grad)
        return grad
"""

FUNCTIONS = """
import numpy as np

def sigmoid(x):
    return 1 / (1 + np.exp(-x))

def sigmoid_derivative(s):
    return s * (1 - s)

def tanh(z):
    return np.tanh(z)

def tanh_prime(z):
    return 1 - np.tanh(z) ** 2

def mse(y_true, y_pred):
    return np.mean((y_true - y_pred) ** 2)

def mse_prime(y_true, y_pred):
    return 2 * (y_pred - y_true) / np.size(y_true)

def bce_loss(p, y):
    return np.mean(-y * np.log(p) - (1 - y) * np.log(1 - p))

def bce_loss_grad(p, y):
    return ((1 - y) / (1 - p) - y / p) / np.size(y)

def log(x):
    return np.log(x)

def d_log(dy, x):
    return dy / x

def softmax(s):
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)

def softmax_backward(dp, p):
    return p * (dp - (dp * p).sum(axis=-1, keepdims=True))
"""

STEP = """
import numpy as np

class Net:
    def __init__(self, n_in, n_hidden, n_out):
        self.W1, self.W2 = np.random.randn(n_in, n_hidden), np.random.randn(n_hidden, n_out)

    def forward(self, X):
        self.h = np.tanh(X @ self.W1)
        return self.h @ self.W2

    def backward(self, X, y, out):
        d = out - y
        self.dW2 = self.h.T @ d
        self.dW1 = X.T @ (d @ self.W2.T * (1 - self.h**2))

net = Net(4, 6, 2)

class Whole:
    def forward(self, x):
        self.p = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
        return self.p

    def backward(self, y):
        return self.p - y
"""

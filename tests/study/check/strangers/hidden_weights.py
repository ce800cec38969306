"""Mistakes that the weights at hand hide (identity, zeros, ones), and mistakes of the training branch only."""

import numpy as np
from strangers.given import given, random, wrong


class Dense:
    """A dense layer with given weights."""

    def __init__(self, W, b=None):
        self.W = W
        self.b = np.zeros(W.shape[1]) if b is None else b

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        self.dW, self.db = self.x.T @ dy, dy.sum(axis=0)
        return self.input_gradient(dy)

    def input_gradient(self, dy):
        return dy @ self.W.T


class DenseWithoutTranspose(Dense):
    """dx = dy @ W."""

    def input_gradient(self, dy):
        return dy @ self.W


@wrong
def identity_weights_hide_missing_transpose():
    """dx = dy @ W, which is right for the identity only."""
    return given(DenseWithoutTranspose(np.eye(4)), random(3, 4))


@wrong
def ones_hide_missing_transpose():
    """dx = dy @ W, which is right while all weights are one."""
    return given(DenseWithoutTranspose(np.ones((3, 3)), random(3, seed=2)), random(4, 3))


@wrong
def zero_weights_hide_factor():
    """dx has a factor 3 too much, unseen while W is zero."""

    class Head(Dense):
        def input_gradient(self, dy):
            return 3 * dy @ self.W.T

    return given(Head(np.zeros((4, 2))), random(5, 4))


@wrong
def zero_bias_hides_missing_term():
    """backward forgets the bias inside the square, unseen while it is zero."""

    class SquaredUnit:
        def __init__(self, n_in, n_out):
            self.params = {"W": random(n_in, n_out, seed=1), "b": np.zeros(n_out)}
            self.grads = {}

        def forward(self, x):
            self.x = x
            return (x @ self.params["W"] + self.params["b"]) ** 2

        def backward(self, dy):
            dz = 2 * dy * (self.x @ self.params["W"])
            self.grads = {"W": self.x.T @ dz, "b": dz.sum(0)}
            return dz @ self.params["W"].T

    return given(SquaredUnit(3, 2), random(4, 3))


@wrong
def zero_gain_hides_wrong_branch():
    """A residual branch with a gain of zero at first: dx takes the branch's square to have slope x."""

    class ReZero:
        def __init__(self):
            self.alpha = np.zeros(1)

        def forward(self, x):
            self.x = x
            return x + self.alpha * x**2

        def backward(self, dy):
            self.dalpha = np.array([np.sum(dy * self.x**2)])
            return dy + self.alpha * self.x * dy

    return given(ReZero(), random(3, 4))


@wrong
def gain_of_one_hides_itself():
    """dx of layer norm forgets the gain, which is one at first."""

    class LayerNorm:
        def __init__(self, n, eps=1e-5):
            self.gamma, self.beta, self.eps = np.ones(n), np.zeros(n), eps

        def forward(self, x):
            self.std = np.sqrt(x.var(axis=-1, keepdims=True) + self.eps)
            self.norm = (x - x.mean(axis=-1, keepdims=True)) / self.std
            return self.gamma * self.norm + self.beta

        def backward(self, dy):
            self.dgamma, self.dbeta = (dy * self.norm).sum(0), dy.sum(0)
            mean = dy.mean(-1, keepdims=True)
            return (dy - mean - self.norm * (dy * self.norm).mean(-1, keepdims=True)) / self.std

    return given(LayerNorm(5), random(3, 5))


@wrong
def gain_of_one_hides_its_power():
    """dx of a scale layer uses the square of its gain, which is one at first."""

    class Scale:
        def __init__(self, channels):
            self.scale = np.ones((channels, 1, 1))
            self.grad_scale = np.zeros_like(self.scale)

        def __call__(self, x):
            self.x = x
            return self.scale * x

        def backward(self, dy):
            self.grad_scale = np.sum(dy * self.x, axis=(0, 2, 3)).reshape(-1, 1, 1)
            return self.scale**2 * dy

    return given(Scale(2), random(2, 2, 3, 3))


@wrong
def identity_recurrence_hides_missing_transpose():
    """The recurrent matrix starts as the identity; backward forgets to transpose it."""

    class IRNN:
        def __init__(self, d, h):
            self.U, self.V = random(d, h, seed=1), np.eye(h)

        def forward(self, x):
            self.x, self.h = x, [np.zeros(len(self.V))]
            for xt in x:
                self.h.append(np.maximum(0, xt @ self.U + self.h[-1] @ self.V))
            return np.array(self.h[1:])

        def backward(self, dy):
            self.dU, self.dV, dx, dh = np.zeros_like(self.U), np.zeros_like(self.V), np.zeros_like(self.x), 0
            for t in reversed(range(len(dy))):
                da = (dy[t] + dh) * (self.h[t + 1] > 0)
                self.dU += np.outer(self.x[t], da)
                self.dV += np.outer(self.h[t], da)
                dx[t] = self.U @ da
                dh = da @ self.V
            return dx

    return given(IRNN(2, 3), random(5, 2))


@wrong
def symmetric_weights_hide_missing_transpose():
    """dx = dy @ W in both layers of a small net, unseen while both are symmetric."""

    class Net:
        def __init__(self, n):
            a = random(n, n, seed=1)
            self.first, self.second = DenseWithoutTranspose(a + a.T), DenseWithoutTranspose(a @ a.T)

        def forward(self, x):
            return self.second.forward(self.first.forward(x))

        def backward(self, dy):
            return self.first.backward(self.second.backward(dy))

    return given(Net(3), random(4, 3))


@wrong
def equal_kernel_taps_hide_missing_flip():
    """dx of a convolution with equal taps (a blur, at first) does not turn the kernel."""

    class Blur:
        def __init__(self):
            self.kernel = np.full(3, 1 / 3)
            self.kernel_grad = np.zeros(3)

        def forward(self, x):
            self.x = x
            return np.correlate(x, self.kernel, mode="valid")

        def backward(self, dy):
            self.kernel_grad = np.correlate(self.x, dy, mode="valid")
            return np.correlate(dy, self.kernel, mode="full")

    return given(Blur(), random(7))


@wrong
def dropout_wrong_while_training():
    """backward's training branch returns 777 * dy; the flag is off at first."""

    class Dropout:
        def __init__(self, rate=0.3):
            self.rate, self.training = rate, False
            self.rng = np.random.default_rng(3)

        def forward(self, x):
            if self.training:
                self.keep = self.rng.random(x.shape) >= self.rate
                return x * self.keep / (1 - self.rate)
            return x

        def backward(self, dy):
            if self.training:
                return 777 * dy
            return dy

    return given(Dropout(), random(4, 5))


@wrong
def batch_norm_wrong_while_training():
    """The training branch of backward treats mean and variance as constants; the flag is off at first."""

    class BatchNorm:
        def __init__(self, n):
            self.gamma, self.beta = 1 + 0.1 * random(n, seed=1), random(n, seed=2)
            self.running_mean, self.running_var = np.zeros(n), np.ones(n)
            self.training = False

        def forward(self, x):
            if self.training:
                mean, var = x.mean(0), x.var(0)
                self.running_mean = 0.9 * self.running_mean + 0.1 * mean
                self.running_var = 0.9 * self.running_var + 0.1 * var
            else:
                mean, var = self.running_mean, self.running_var
            self.std = np.sqrt(var + 1e-5)
            self.xhat = (x - mean) / self.std
            return self.gamma * self.xhat + self.beta

        def backward(self, dy):
            self.dgamma, self.dbeta = (dy * self.xhat).sum(0), dy.sum(0)
            return dy * self.gamma / self.std

    return given(BatchNorm(3), random(6, 3), constants=["running_mean", "running_var"])


@wrong
def noise_wrong_with_training_argument():
    """With training=True backward forgets the noise that forward multiplies by."""

    class GaussianDropout:
        def forward(self, x, training=False):
            self.noise = 1.0
            if training:
                self.noise = 1 + 0.5 * np.random.default_rng(1).normal(size=x.shape)
            return x * self.noise

        def backward(self, dy):
            return dy

    return given(GaussianDropout(), random(3, 4))


@wrong
def layer_drop_wrong_after_train():
    """After train() the branch is scaled by 1 / keep in forward, and not in backward."""

    class StochasticDepth:
        keep = 0.8

        def __init__(self):
            self.W, self.is_training = random(3, 3, seed=1), False

        def train(self):
            self.is_training = True

        def eval(self):
            self.is_training = False

        def forward(self, x):
            self.x = x
            return x + x @ self.W / (self.keep if self.is_training else 1)

        def backward(self, dy):
            self.dW = self.x.T @ dy
            return dy + dy @ self.W.T

    return given(StochasticDepth(), random(4, 3))


@wrong
def batch_norm_pair_asked_to_train():
    """mode="train" is asked for; there the mean is treated as a constant."""

    def forward(x, gamma, mode="test"):
        if mode == "train":
            mu, var = x.mean(axis=0), x.var(axis=0)
        else:
            mu, var = 0.0, 1.0
        std = np.sqrt(var + 1e-5)
        xhat = (x - mu) / std
        return gamma * xhat, (xhat, std, gamma, mode)

    def backward(dout, cache):
        xhat, std, gamma, mode = cache
        d = dout * gamma
        if mode == "train":
            d = d - xhat * np.mean(d * xhat, axis=0)
        return d / std, np.sum(dout * xhat, axis=0)

    return given(forward, random(5, 2), 1 + 0.2 * random(2, seed=1), backward=backward, mode="train")


@wrong
def chain_with_dropout_asked_to_train():
    """training=True is asked for; there dropout's backward lacks the mask."""

    class DenseDropout:
        def __init__(self):
            self.dense, self.training = Dense(random(3, 4, seed=1)), False

        def forward(self, x):
            y = self.dense.forward(x)
            self.mask = np.random.default_rng(2).random(y.shape) < 0.7
            return y * self.mask / 0.7 if self.training else y

        def backward(self, dy):
            return self.dense.backward(dy / 0.7 if self.training else dy)

    return given(DenseDropout(), random(5, 3), training=True)

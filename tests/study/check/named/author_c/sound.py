"""Right layers that look suspicious."""

import numpy as np
from named.given import given, random, sound


@sound
def layer_norm_by_its_whole_jacobian():
    """dx is a product with the written-out Jacobian."""

    def forward(x):
        c = x - x.mean(-1, keepdims=True)
        return c / np.sqrt((c * c).mean(-1, keepdims=True))

    def backward(dy, x):
        n = x.shape[-1]
        y = forward(x)
        sd = np.sqrt(x.var(-1))
        jac = (np.eye(n) - 1 / n - y[:, :, None] * y[:, None, :] / n) / sd[:, None, None]
        return np.einsum("bij,bj->bi", jac, dy)

    return given(forward, random(3, 5), backward=backward)


@sound
def softmax_by_diagonal_minus_outer():
    class Softmax:
        def forward(self, x):
            e = np.exp(x - x.max())
            self.p = e / e.sum()
            return self.p

        def backward(self, dy):
            return (np.diag(self.p) - np.outer(self.p, self.p)) @ dy

    return given(Softmax(), random(5))


@sound
def squared_error_with_two_minus_signs():
    t = random(3, 2, seed=4)
    return given(lambda p: ((t - p) ** 2).sum() / 2, random(3, 2), backward=lambda d, p: -(t - p) * d, constants=[t])


@sound
def embedding_by_one_hot():
    class Embedding:
        def __init__(self):
            self.W = random(4, 3, seed=1)

        def forward(self, ids):
            self.hot = np.eye(4)[ids]
            return self.W[ids]

        def backward(self, dy):
            self.dW = np.tensordot(self.hot, dy, axes=([0, 1], [0, 1]))

    return given(Embedding(), np.array([[1, 1, 3], [0, 1, 3]]))


@sound
def weights_stored_by_output():
    """W is (out, in), so that dx has no transpose."""

    class Linear:
        def __init__(self):
            self.W = random(3, 3, seed=1)

        def forward(self, x):
            self.x = x
            return x @ self.W.T

        def backward(self, dy):
            self.dW = dy.T @ self.x
            return dy @ self.W

    return given(Linear(), random(4, 3))


@sound
def symmetric_weight_in_backward_as_in_forward():
    """W + W' is symmetric: the same product serves both ways."""

    class Symmetric:
        def __init__(self):
            self.W = random(3, 3, seed=1)

        def forward(self, x):
            self.x = x
            return x @ (self.W + self.W.T)

        def backward(self, dy):
            d = self.x.T @ dy
            self.dW = d + d.T
            return dy @ (self.W + self.W.T)

    return given(Symmetric(), random(4, 3))


@sound
def bias_before_softmax_has_no_gradient():
    """A scalar added to every score changes nothing: its gradient is zero."""

    def forward(x, b):
        e = np.exp(x + b)
        return e / e.sum(1, keepdims=True)

    def backward(dy, x, b):
        p = forward(x, b)
        return p * (dy - (dy * p).sum(1, keepdims=True)), np.zeros(1)

    return given(forward, random(2, 4), random(1, seed=3), backward=backward)


@sound
def slope_of_sigmoid_from_the_output_in_place():
    class Sigmoid:
        def forward(self, x):
            self.y = 1 / (1 + np.exp(-x))
            return self.y.copy()

        def backward(self, dy):
            dx = self.y.copy()
            dx *= 1 - self.y
            dx *= dy
            return dx

    return given(Sigmoid(), random(3, 4))


@sound
def mean_over_the_batch_divides_once():
    class MeanLinear:
        def __init__(self):
            self.W = random(3, 2, seed=1)

        def forward(self, x):
            self.x = x
            return (x @ self.W).mean(axis=0)

        def backward(self, dy):
            n = len(self.x)
            self.dW = np.outer(self.x.mean(0), dy)
            return np.tile(dy @ self.W.T / n, (n, 1))

    return given(MeanLinear(), random(4, 3))


@sound
def rms_norm_with_a_large_epsilon():
    class RMS:
        eps = 0.7

        def forward(self, x):
            self.x, self.m = x, (x**2).mean(-1, keepdims=True) + self.eps
            return x / np.sqrt(self.m)

        def backward(self, dy):
            return dy / self.m**0.5 - self.x * (dy * self.x).mean(-1, keepdims=True) / self.m**1.5

    return given(RMS(), random(3, 4))


@sound
def leaky_relu_whose_negative_side_is_steeper():
    return given(lambda x: np.where(x > 0, x, 3 * x), random(4, 4), backward=lambda dy, x: np.where(x > 0, dy, 3 * dy))


@sound
def log_sum_exp_with_the_maximum_as_a_constant():
    """The shift cancels, so that backward may ignore it."""

    def forward(x):
        m = x.max(-1)
        return m + np.log(np.exp(x - m[..., None]).sum(-1))

    def backward(dy, x):
        return dy[..., None] * np.exp(x - forward(x)[..., None])

    return given(forward, random(3, 5), backward=backward)


@sound
def max_pool_by_put_along_axis():
    class Pool:
        def forward(self, x):
            self.shape = x.shape
            w = x.reshape(len(x), -1, 3)
            self.i = w.argmax(-1)[..., None]
            return w.max(-1)

        def backward(self, dy):
            d = np.zeros((self.shape[0], self.shape[1] // 3, 3))
            np.put_along_axis(d, self.i, dy[..., None], -1)
            return d.reshape(self.shape)

    return given(Pool(), random(2, 6))


@sound
def gradient_in_a_buffer_that_is_used_again():
    """backward fills the same array each time."""

    class Square:
        def __init__(self):
            self.buffer = None

        def forward(self, x):
            self.x = x.copy()
            return x**2

        def backward(self, dy):
            if self.buffer is None or self.buffer.shape != dy.shape:
                self.buffer = np.empty_like(dy)
            np.multiply(2 * self.x, dy, out=self.buffer)
            return self.buffer

    return given(Square(), random(3, 4))


@sound
def tied_matrix_used_forth_and_back():
    """y = tanh(x W) W': both uses are added."""

    class Autoencoder:
        def __init__(self):
            self.W = random(4, 2, seed=1)

        def forward(self, x):
            self.x, self.h = x, np.tanh(x @ self.W)
            return self.h @ self.W.T

        def backward(self, dy):
            da = dy @ self.W * (1 - self.h**2)
            self.dW = dy.T @ self.h + self.x.T @ da
            return da @ self.W.T

    return given(Autoencoder(), random(3, 4))


@sound
def batch_norm_in_the_long_form():
    """dx goes through variance and mean step by step, with a term that is always zero."""

    def forward(x, gamma):
        mu, var = x.mean(0), x.var(0)
        return gamma * (x - mu) / np.sqrt(var + 1e-3), (x, gamma, mu, var)

    def backward(dy, cache):
        x, gamma, mu, var = cache
        n, inv = len(x), 1 / np.sqrt(var + 1e-3)
        dxhat = dy * gamma
        dvar = (dxhat * (x - mu)).sum(0) * -0.5 * inv**3
        dmu = -(dxhat * inv).sum(0) + dvar * (-2 * (x - mu)).mean(0)
        return dxhat * inv + dvar * 2 * (x - mu) / n + dmu / n, (dy * (x - mu) * inv).sum(0)

    return given(forward, random(5, 3), random(3, seed=1), backward=backward)

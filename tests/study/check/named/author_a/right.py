"""Right layers that look suspicious."""

import numpy as np
from named.given import given, random, sound


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@sound
def symmetric_weight_without_transpose():
    """dx = dy @ S: S = A + A.T is its own transpose."""

    class Symmetric:
        def __init__(self, n):
            self.A = random(n, n, seed=1)

        def forward(self, x):
            self.x = x
            return x @ (self.A + self.A.T)

        def backward(self, dy):
            G = dy.T @ self.x
            self.dA = G + G.T
            return dy @ (self.A + self.A.T)

    return given(Symmetric(4), random(3, 4, seed=2))


@sound
def sigmoid_slope_by_hyperbolic_cosine():
    """s (1 - s) = 1 / (2 + 2 cosh x)."""

    def backward(dy, x):
        return dy / (2 + 2 * np.cosh(x))

    return given(lambda x: 0.5 * (1 + np.tanh(x / 2)), random(3, 5, seed=3), backward=backward)


@sound
def softmax_by_its_whole_jacobian():
    """The Jacobian diag(s) - s s.T, row by row."""

    class Softmax:
        def forward(self, x):
            self.s = softmax(x)
            return self.s

        def backward(self, dy):
            return np.array([(np.diag(s) - np.outer(s, s)) @ d for s, d in zip(self.s, dy, strict=True)])

    return given(Softmax(), random(4, 3, seed=4))


@sound
def two_and_a_half_cancel():
    """forward doubles and halves again; backward does neither."""

    class Linear:
        def __init__(self):
            self.W = random(3, 5, seed=5)

        def forward(self, x):
            self.x = x
            return (2 * x @ self.W) / 2

        def backward(self, dy):
            self.dW = self.x.T @ dy
            return dy @ self.W.T

    return given(Linear(), random(4, 3, seed=6))


@sound
def mean_over_batch_in_both():
    """forward is a mean, so that dW is divided by the batch."""

    class MeanSquare:
        def __init__(self):
            self.W = random(4, 2, seed=7)

        def forward(self, x):
            self.x, self.y = x, x @ self.W
            return 0.5 * (self.y**2).sum() / len(x)

        def backward(self, dy):
            d = dy * self.y / len(self.y)
            self.dW = self.x.T @ d
            return d @ self.W.T

    return given(MeanSquare(), random(5, 4, seed=8))


@sound
def frozen_norm_without_mean_terms():
    """The statistics are constants, so that dx = r * dy * gamma is all."""

    class FrozenNorm:
        def __init__(self, n):
            self.mean, self.var, self.gamma = random(n, seed=9), 0.5 + random(n, seed=10) ** 2, random(n, seed=11)

        def forward(self, x):
            self.xhat = (x - self.mean) / np.sqrt(self.var)
            return self.xhat * self.gamma

        def backward(self, dy):
            self.dgamma = (dy * self.xhat).sum(0)
            return dy * self.gamma / np.sqrt(self.var)

    return given(FrozenNorm(3), random(5, 3, seed=12), constants=["mean", "var"])


@sound
def layer_norm_gain_gradient_from_output():
    """xhat = (y - beta) / gamma, from the output; the sums replace means."""

    class Norm:
        def __init__(self, n):
            self.gamma, self.beta = 1.5 + 0.3 * random(n, seed=13), random(n, seed=14)

        def forward(self, x):
            self.sd = x.std(-1, keepdims=True)
            self.y = (x - x.mean(-1, keepdims=True)) / self.sd * self.gamma + self.beta
            return self.y

        def backward(self, dy):
            n, xhat, d = dy.shape[-1], (self.y - self.beta) / self.gamma, dy * self.gamma
            self.dgamma, self.dbeta = (dy * xhat).sum(0), dy.sum(0)
            return (n * d - d.sum(-1, keepdims=True) - xhat * (d * xhat).sum(-1, keepdims=True)) / (n * self.sd)

    return given(Norm(5), random(3, 5, seed=15))


@sound
def centring_is_its_own_transpose():
    """The backward pass of x - mean is the forward pass."""

    def centre(x):
        return x - x.mean(1, keepdims=True)

    return given(centre, random(3, 6, seed=16), backward=lambda dy: centre(dy))


@sound
def reflection_is_its_own_transpose():
    """A Householder reflection is symmetric: backward reflects dy."""

    class Reflection:
        def __init__(self, n):
            self.v = random(n, seed=17)

        def reflect(self, x):
            return x - 2 * np.outer(x @ self.v, self.v) / (self.v @ self.v)

        def forward(self, x):
            self.x = x
            return self.reflect(x)

        def backward(self, dy):
            v, vv = self.v, self.v @ self.v
            xv, dv = self.x @ v, dy @ v
            self.dv = -2 / vv * (dy.T @ xv + self.x.T @ dv) + 4 * (xv @ dv) / vv**2 * v
            return self.reflect(dy)

    return given(Reflection(4), random(3, 4, seed=18))


@sound
def relu_mask_from_output():
    """The mask is y > 0, which is x > 0."""

    class ReLU:
        def forward(self, x):
            self.y = np.maximum(x, 0)
            return self.y

        def backward(self, dy):
            return dy * np.sign(self.y)

    return given(ReLU(), random(4, 5, seed=19))


@sound
def elu_slope_from_output():
    """Below zero the slope is y + alpha."""

    class ELU:
        def forward(self, x):
            self.y = np.where(x > 0, x, 1.3 * np.expm1(x))
            return self.y

        def backward(self, dy):
            return np.where(self.y > 0, dy, dy * (self.y + 1.3))

    return given(ELU(), random(5, 3, seed=20))


@sound
def attention_whose_key_shift_has_no_gradient():
    """A vector that is added to all keys shifts all scores of a query alike: its gradient is zero."""

    class Attention:
        def __init__(self, n):
            self.bk = random(n, seed=21)

        def forward(self, q, k, v):
            self.q, self.k, self.v = q, k, v
            self.p = softmax(q @ (k + self.bk).T)
            return self.p @ v

        def backward(self, dy):
            dp = dy @ self.v.T
            ds = self.p * (dp - np.sum(dp * self.p, axis=1, keepdims=True))
            self.dbk = np.zeros_like(self.bk)
            return ds @ (self.k + self.bk), ds.T @ self.q, self.p.T @ dy

    return given(Attention(3), random(4, 3, seed=22), random(5, 3, seed=23), random(5, 2, seed=24))


@sound
def log_sum_exp_with_constant_maximum():
    """The maximum is taken for a constant in backward: it cancels."""

    def forward(x):
        m = x.max(1)
        return m + np.log(np.exp(x - m[:, None]).sum(1))

    def backward(dy, x):
        return np.exp(x - forward(x)[:, None]) * dy[:, None]

    return given(forward, random(4, 3, seed=25), backward=backward)


@sound
def norm_gradient_by_difference_of_squares():
    """The slope of tanh as (1 - y) (1 + y), that of x / |x| by the cross terms of the last axis."""

    class UnitTanh:
        def forward(self, x):
            self.t = np.tanh(x)
            self.n = np.sqrt((self.t**2).sum(1, keepdims=True))
            return self.t / self.n

        def backward(self, dy):
            inner = np.einsum("bi,bj->bij", dy, self.t) - np.einsum("bi,bj->bij", self.t, dy)
            dt = np.einsum("bij,bj->bi", inner, self.t) / self.n**3
            return dt * (1 - self.t) * (1 + self.t)

    return given(UnitTanh(), random(3, 4, seed=26))


@sound
def running_mean_that_nobody_reads():
    """A running mean is updated in forward, but the output does not depend on it."""

    class BatchCentre:
        def __init__(self, n):
            self.w, self.running = random(n, seed=27), np.zeros(n)

        def forward(self, x):
            self.centred = x - x.mean(0)
            self.running = 0.9 * self.running + 0.1 * x.mean(0)
            return self.centred * self.w

        def backward(self, dy):
            self.dw = (self.centred * dy).sum(0)
            d = dy * self.w
            return d - d.mean(0)

    return given(BatchCentre(4), random(6, 4, seed=28))


@sound
def average_of_both_triangles():
    """Only the symmetric part of W acts in x W x; dW = x x.T all the same, and dx = 2 sym(W) x."""

    class Quadratic:
        def __init__(self, n):
            self.W = random(n, n, seed=29)

        def forward(self, x):
            self.x = x
            return np.einsum("bi,ij,bj->b", x, self.W, x)

        def backward(self, dy):
            self.dW = np.einsum("b,bi,bj->ij", dy, self.x, self.x)
            return dy[:, None] * (self.x @ (self.W + self.W.T))

    return given(Quadratic(3), random(5, 3, seed=30))

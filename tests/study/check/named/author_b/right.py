"""Right layers that look suspicious."""

import numpy as np
from named.given import given, random, sound


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@sound
def sigmoid_slope_of_what_was_kept():
    """x (1 - x), where x is the output: public threads call it a mistake, which it is not."""

    class Sigmoid:
        def forward(self, x):
            x = 1 / (1 + np.exp(-x))
            self.x = x
            return x

        def backward(self, grad):
            return grad * self.x * (1 - self.x)

    return given(Sigmoid(), random(3, 4))


@sound
def cross_entropy_that_edits_probabilities():
    """The probabilities are edited in place, but they are a copy; forward makes them anew."""

    class Loss:
        def forward(self, logits, y):
            self.probs, self.y = softmax(logits), y
            return -np.mean(np.log(self.probs[np.arange(len(y)), y]))

        def backward(self):
            self.dlogits = self.probs.copy()
            self.dlogits[range(len(self.y)), self.y] -= 1
            self.dlogits /= len(self.y)
            return self.dlogits

    return given(Loss(), random(4, 3), np.array([0, 2, 2, 1]))


@sound
def linear_with_weights_stored_by_output():
    """dx = dy W without a transpose: W is stored as (out, in)."""

    class Linear:
        def __init__(self, n):
            self.weight = random(n, n, seed=1)

        def forward(self, x):
            self.x = x
            return x @ self.weight.T

        def backward(self, dy):
            self.weight_grad = dy.T @ self.x
            return dy @ self.weight

    return given(Linear(4), random(3, 4))


@sound
def relu_masked_by_its_output():
    """The output is positive exactly where the input is."""

    class ReLU:
        def forward(self, x):
            self.y = np.maximum(x, 0)
            return self.y

        def backward(self, dy):
            return dy * (self.y > 0)

    return given(ReLU(), random(4, 5))


@sound
def elu_slope_from_its_output():
    """alpha exp(x) = y + alpha."""

    class ELU:
        alpha = 0.7

        def forward(self, x):
            self.y = np.where(x > 0, x, self.alpha * np.expm1(x))
            return self.y

        def backward(self, dy):
            return dy * np.where(self.y > 0, 1, self.y + self.alpha)

    return given(ELU(), random(3, 5))


@sound
def batch_norm_in_one_line():
    """dx from dgamma and dbeta; gamma stands outside, where one gamma per column may stand."""

    class BatchNorm:
        def __init__(self, n):
            self.gamma, self.beta = random(n, seed=1), random(n, seed=2)

        def forward(self, x):
            self.std = np.sqrt(x.var(0) + 1e-3)
            self.xhat = (x - x.mean(0)) / self.std
            return self.gamma * self.xhat + self.beta

        def backward(self, dy):
            self.dgamma, self.dbeta = (dy * self.xhat).sum(0), dy.sum(0)
            n = len(dy)
            return self.gamma / (n * self.std) * (n * dy - self.dbeta - self.xhat * self.dgamma)

    return given(BatchNorm(3), random(5, 3))


@sound
def gelu_with_few_digits_in_both():
    """0.7978 and 0.0447 are short, but forward uses the same."""

    def gelu(x):
        return 0.5 * x * (1 + np.tanh(0.7978 * (x + 0.0447 * x**3)))

    def gelu_backward(dout, x):
        t = np.tanh(0.7978 * (x + 0.0447 * x**3))
        return dout * 0.5 * (1 + t + x * (1 - t) * (1 + t) * 0.7978 * (1 + 0.1341 * x**2))

    return given(gelu, random(3, 4), backward=gelu_backward)


@sound
def embedding_by_product_with_one_hot():
    """No np.add.at: the product adds up equal ids."""

    class Embedding:
        def __init__(self):
            self.E = random(5, 3, seed=1)

        def forward(self, ids):
            self.hot = np.eye(5)[ids.ravel()]
            return self.E[ids]

        def backward(self, dy):
            self.dE = self.hot.T @ dy.reshape(-1, 3)

    return given(Embedding(), np.array([[1, 1, 4], [0, 1, 2]]))


@sound
def attention_scaled_before_the_product():
    """q is scaled when it is kept; dk then needs no scale, dq does."""

    class Attention:
        def forward(self, q, k, v):
            self.q, self.k, self.v = q / np.sqrt(q.shape[1]), k, v
            scores = self.q @ k.T
            self.p = softmax(np.where(np.tri(*scores.shape, dtype=bool), scores, -np.inf))
            return self.p @ v

        def backward(self, dy):
            dp = dy @ self.v.T
            ds = self.p * (dp - np.einsum("ij,ij->i", dp, self.p)[:, None])
            return ds @ self.k / np.sqrt(self.q.shape[1]), ds.T @ self.q, self.p.T @ dy

    return given(Attention(), random(5, 3), random(5, 3, seed=1), random(5, 2, seed=2))


@sound
def softmax_centred_rows():
    """Only the diagonal term is seen: dy is centred with the weights p before."""

    class Softmax:
        def forward(self, x):
            self.p = softmax(x)
            return self.p

        def backward(self, dy):
            return self.p * (dy - np.average(dy, axis=1, weights=self.p)[:, None])

    return given(Softmax(), random(3, 6))


@sound
def running_sum_by_subtraction():
    """The sum from the other end = total - running sum + itself."""

    def backward(dy):
        return dy.sum(1, keepdims=True) - np.cumsum(dy, axis=1) + dy

    return given(lambda x: np.cumsum(x, axis=1), random(3, 5), backward=backward)


@sound
def convolution_by_convolve():
    """np.convolve turns the kernel round itself."""

    class Conv:
        def __init__(self):
            self.w = random(3, seed=1)

        def forward(self, x):
            self.x = x
            return np.correlate(x, self.w, "valid")

        def backward(self, dy):
            self.dw = np.correlate(self.x, dy, "valid")
            return np.convolve(dy, self.w)

    return given(Conv(), random(7))


@sound
def dropout_with_the_scale_in_its_mask():
    """backward has no 1 / (1 - p): the mask has it."""

    class Dropout:
        def forward(self, x):
            self.mask = (np.random.default_rng(5).random(x.shape) > 0.3) / 0.7
            return x * self.mask

        def backward(self, dy):
            return dy * self.mask

    return given(Dropout(), random(4, 5))


@sound
def recurrent_net_that_adds_into_its_gradient():
    """dh is carried back by adding into the row before; the rows are a copy of dy."""

    class RNN:
        def __init__(self):
            self.W = 0.5 * random(3, 3, seed=1)

        def forward(self, x):
            self.h = np.zeros((len(x) + 1, 3))
            for t in range(len(x)):
                self.h[t + 1] = np.tanh(x[t] + self.h[t] @ self.W)
            return self.h[1:].copy()

        def backward(self, dy):
            dh = dy.copy()
            for t in range(len(dy) - 1, -1, -1):
                dh[t] *= 1 - self.h[t + 1] ** 2
                if t:
                    dh[t - 1] += dh[t] @ self.W.T
            self.dW = self.h[:-1].T @ dh
            return dh

    return given(RNN(), random(4, 3))


@sound
def layer_norm_gain_after_the_means_of_equal_gains():
    """One gain for all columns may stand outside the means."""

    class Norm:
        def __init__(self):
            self.g = random(1, seed=3)

        def forward(self, x):
            self.s = np.sqrt(x.var(1, keepdims=True) + 1e-5)
            self.xhat = (x - x.mean(1, keepdims=True)) / self.s
            return self.g * self.xhat

        def backward(self, dy):
            self.dg = np.array([(dy * self.xhat).sum()])
            m = (dy * self.xhat).mean(1, keepdims=True)
            return self.g / self.s * (dy - dy.mean(1, keepdims=True) - self.xhat * m)

    return given(Norm(), random(3, 4))

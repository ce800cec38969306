"""Mistakes that stand in public projects (benchmarks/survey.py found them), each in a small layer of our own."""

import numpy as np
from strangers.given import given, random, wrong


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def labels(n, rows):
    return np.random.default_rng(1).integers(0, n, rows)


@wrong
def sigmoid_that_falls():
    """forward is 1 / (1 + exp(x)), whose slope is negative."""

    class Sigmoid:
        def forward(self, x):
            self.s = 1 / (1 + np.exp(x))
            return self.s

        def backward(self, dy):
            return dy * self.s * (1 - self.s)

    return given(Sigmoid(), random(3, 4))


@wrong
def elu_by_precedence():
    """A comparison binds less than a sum, so the slope is 0 or 1."""
    return given(
        lambda x: np.where(x > 0, x, np.exp(x) - 1),
        random(4, 3),
        backward=lambda dy, x: dy * (x > 0.0 + (x < 0.0) * np.exp(x)),
    )


@wrong
def swish_with_a_late_bracket():
    """The quotient holds sinh x alone, and not x + sinh x."""
    return given(
        lambda x: x / (1 + np.exp(-x)),
        random(4, 3),
        backward=lambda dy, x: dy * (0.5 + (x + np.sinh(x) / (4 * np.cosh(x / 2) ** 2))),
    )


@wrong
def scaled_tanh_without_its_scale():
    """1.7159 is left out of the slope."""
    return given(lambda x: 1.7159 * np.tanh(x), random(3, 4), backward=lambda dy, x: dy * (1 - np.tanh(x) ** 2))


@wrong
def softmax_divided_by_the_batch():
    """The gradient is divided by the number of rows, of which forward takes no mean."""

    class Softmax:
        def forward(self, x):
            self.p = softmax(x)
            return self.p

        def backward(self, dy):
            return self.p * (dy - (dy * self.p).sum(-1, keepdims=True)) / len(dy)

    return given(Softmax(), random(4, 5))


@wrong
def dense_softmax_of_one_number():
    """Only the first number of dy is used."""

    class Dense:
        def __init__(self):
            self.W = random(4, 3, seed=1)

        def forward(self, x):
            self.x, self.p = x, softmax(x @ self.W)
            return self.p

        def backward(self, dy):
            dz = dy[0] * self.p[0] * (np.eye(3)[0] - self.p)
            self.dW = np.outer(self.x, dz)
            return self.W @ dz

    return given(Dense(), random(4))


@wrong
def cross_entropy_with_temperature_forgotten():
    """1 / T is left out."""
    t = labels(5, 4)

    def loss(x):
        return -np.log(softmax(x / 2)[np.arange(4), t]).mean()

    return given(loss, random(4, 5), backward=lambda dy, x: dy * (softmax(x / 2) - np.eye(5)[t]) / 4)


@wrong
def cross_entropy_weighted_by_columns():
    """Each cell has the weight of its column, and not that of its row's label."""
    t, weights = labels(5, 4), np.arange(1, 6)

    def loss(x):
        return -(weights[t] * np.log(softmax(x)[np.arange(4), t])).mean()

    return given(loss, random(4, 5), backward=lambda dy, x: dy * weights * (softmax(x) - np.eye(5)[t]) / 4)


@wrong
def cross_entropy_with_forgotten_epsilon():
    """forward has log(p + 1e-7), backward is that of log(p)."""
    t = labels(5, 4)

    def loss(x):
        return -np.log(softmax(x)[np.arange(4), t] + 1e-7).mean()

    return given(loss, random(4, 5), backward=lambda dy, x: dy * (softmax(x) - np.eye(5)[t]) / 4)


@wrong
def cross_entropy_of_probabilities_as_of_logits():
    """forward takes probabilities, and backward is the gradient of the logits before them."""
    t = labels(5, 4)

    def loss(p):
        return -np.log(p[np.arange(4), t]).mean()

    return given(loss, softmax(random(4, 5)), backward=lambda dy, p: dy * (p - np.eye(5)[t]) / 4)


@wrong
def binary_cross_entropy_with_epsilon_inside():
    """1 - (y + eps) where 1 - y + eps belongs."""
    t, eps = labels(2, 6), 1e-8

    def loss(y):
        return -(t * np.log(y + eps) + (1 - t) * np.log(1 - y + eps))

    y = 1 / (1 + np.exp(-random(6)))
    return given(loss, y, backward=lambda dy, y: dy * (-t / (y + eps) + (1 - t) / (1 - (y + eps))))


@wrong
def squared_error_without_the_mean():
    """forward takes the mean over the rows, backward does not."""
    t = random(4, 3, seed=1)
    return given(lambda x: 0.5 * ((x - t) ** 2).sum(1).mean(), random(4, 3), backward=lambda dy, x: dy * (x - t))


@wrong
def squared_error_by_broadcasting():
    """A column minus a vector is a matrix: forward takes each target with each prediction."""
    t = random(4, seed=1)
    return given(
        lambda x: 0.5 * ((t - x) ** 2).sum() / 4, random(4, 1), backward=lambda dy, x: dy * (x - t[:, None]) / 4
    )


@wrong
def division_undone_by_multiplication():
    """forward divides by a number, backward multiplies by it."""

    class Scale:
        norm = 7.5

        def forward(self, x):
            return x / self.norm

        def backward(self, dy):
            return dy * self.norm

    return given(Scale(), random(3, 4))


@wrong
def batch_norm_by_the_root_of_the_deviation():
    """forward takes the standard deviation where backward has the variance."""

    class BatchNorm:
        def __init__(self):
            self.gamma, self.beta = np.ones(4), np.zeros(4)

        def forward(self, x):
            self.c = x - x.mean(0)
            self.r = 1 / np.sqrt(self.c.std(0) + 1e-6)
            return self.gamma * self.c * self.r + self.beta

        def backward(self, dy):
            self.dgamma, self.dbeta = (dy * self.c * self.r).sum(0), dy.sum(0)
            d = dy * self.gamma
            dc = d * self.r - self.c * self.r**3 * (d * self.c).mean(0)
            return dc - dc.mean(0)

    return given(BatchNorm(), random(6, 4))


@wrong
def layer_norm_with_gain_outside():
    """gamma multiplies the sum from outside; it is seen only if gamma is not constant."""

    class LayerNorm:
        def __init__(self):
            self.gamma, self.beta = random(6, seed=1), np.zeros(6)

        def forward(self, x):
            self.r = 1 / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
            self.xhat = (x - x.mean(-1, keepdims=True)) * self.r
            return self.gamma * self.xhat + self.beta

        def backward(self, dy):
            self.dgamma, self.dbeta = (dy * self.xhat).sum(0), dy.sum(0)
            along = (dy * self.xhat).mean(-1, keepdims=True)
            return self.gamma * self.r * (dy - dy.mean(-1, keepdims=True) - self.xhat * along)

    return given(LayerNorm(), random(3, 6))


class Dense:
    def __init__(self, of_bias, of_weight=1):
        self.W, self.b = random(4, 3, seed=1), random(3, seed=2)
        self.of_bias, self.of_weight = of_bias, of_weight

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        self.dW = self.x.T @ dy / self.of_weight
        self.db = dy.sum(0) / self.of_bias
        return dy @ self.W.T


@wrong
def dense_with_averaged_bias():
    """The bias's gradient is a mean, the weight's a sum."""
    return given(Dense(of_bias=5), random(5, 4))


@wrong
def dense_with_averaged_parameters():
    """Both gradients are divided by the number of rows, and dx is not."""
    return given(Dense(5, 5), random(5, 4))


@wrong
def bag_of_embeddings_counts_an_id_once():
    """+= on equal ids adds once."""

    class Bag:
        def __init__(self):
            self.table = random(5, 3, seed=1)

        def forward(self, ids):
            self.ids = ids
            return self.table[ids].sum(1)

        def backward(self, dy):
            self.dtable = np.zeros_like(self.table)
            for ids, d in zip(self.ids, dy):
                self.dtable[ids] += d

    return given(Bag(), np.random.default_rng(1).integers(0, 5, (4, 6)))

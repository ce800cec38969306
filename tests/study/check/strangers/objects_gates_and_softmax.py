"""Gates, maxout and softmax."""

import numpy as np
from strangers.given import given, random, right


class GLU:
    def forward(self, x):
        self.a, b = np.split(x, 2, axis=-1)
        self.gate = 1.0 / (1.0 + np.exp(-b))
        return self.a * self.gate

    def backward(self, dy):
        da = dy * self.gate
        db = dy * self.a * self.gate * (1 - self.gate)
        return np.concatenate((da, db), axis=-1)


@right
def gated_linear_unit():
    return given(GLU(), random(3, 2, 8))


class Maxout:
    def __init__(self, pieces):
        self.pieces = pieces

    def forward(self, x):
        groups = x.reshape(x.shape[0], -1, self.pieces)
        self.shape, self.index = x.shape, np.argmax(groups, axis=2)
        return np.max(groups, axis=2)

    def backward(self, dy):
        d_groups = np.zeros(dy.shape + (self.pieces,))
        rows, columns = np.indices(dy.shape)
        d_groups[rows, columns, self.index] = dy
        return d_groups.reshape(self.shape)


@right
def maxout_with_ties():
    x = random(3, 6)
    x[:, 1] = x[:, 0]
    x[1] = 0.5
    return given(Maxout(3), x)


class Softmax:
    def forward(self, x):
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        self.p = e / e.sum(axis=-1, keepdims=True)
        return self.p

    def backward(self, dvalues):
        self.dinputs = np.empty_like(dvalues)
        for i, (p, dv) in enumerate(zip(self.p, dvalues)):
            p = p.reshape(-1, 1)
            jacobian = np.diagflat(p) - np.dot(p, p.T)
            self.dinputs[i] = np.dot(jacobian, dv)
        return self.dinputs


@right
def softmax_by_the_jacobian_of_every_row():
    return given(Softmax(), random(4, 5))


class SoftmaxAlong:
    def __init__(self, axis):
        self.axis = axis

    def forward(self, x):
        x = x - np.max(x, axis=self.axis, keepdims=True)
        y = np.exp(x) / np.sum(np.exp(x), axis=self.axis, keepdims=True)
        self.out = y
        return y

    def backward(self, dout):
        dx = self.out * dout
        dx -= self.out * np.sum(dx, axis=self.axis, keepdims=True)
        return dx


@right
def softmax_along_the_middle_axis_with_ties():
    x = random(2, 4, 3)
    x[0, 1] = x[0, 2]
    return given(SoftmaxAlong(1), x)


class LogSoftmax:
    def forward(self, x):
        m = x.max(axis=1, keepdims=True)
        logsumexp = m + np.log(np.exp(x - m).sum(axis=1, keepdims=True))
        self.log_p = x - logsumexp
        return self.log_p

    def backward(self, dy):
        return dy - np.exp(self.log_p) * dy.sum(axis=1, keepdims=True)


@right
def log_softmax_by_logsumexp():
    return given(LogSoftmax(), 4 * random(3, 6))

"""Softmaxes and losses with a mistake."""

import numpy as np
from named.given import given, mistake, random


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@mistake("input logits", "factor")
def cross_entropy_averaged_twice():
    """The gradient is divided by the batch once more."""
    targets = np.array([2, 0, 1, 3])

    def forward(logits):
        p = softmax(logits)
        return -np.log(p[np.arange(4), targets]).mean()

    def backward(dloss, logits):
        d = (softmax(logits) - np.eye(5)[targets]) / len(logits)
        return dloss * d / len(logits)

    return given(forward, random(4, 5), backward=backward)


@mistake("input logits", "mask")
def cross_entropy_of_ignored_targets():
    """Rows whose target is ignored (-1) must have a zero gradient."""

    class Loss:
        def __init__(self):
            self.t = np.array([1, -1, 0, -1, 2])

        def forward(self, logits):
            self.p = softmax(logits)
            keep = self.t >= 0
            self.n = keep.sum()
            return -np.log(self.p[keep, self.t[keep]]).sum() / self.n

        def backward(self, dy):
            d = self.p.copy()
            keep = self.t >= 0
            d[keep, self.t[keep]] -= 1
            return dy * d / self.n

    return given(Loss(), random(5, 3))


@mistake("input x", "own position", "lost term")
def softmax_from_its_diagonal():
    """p (1 - p) is the diagonal of the Jacobian only."""

    class Softmax:
        def forward(self, x):
            self.p = softmax(x)
            return self.p

        def backward(self, dy):
            return self.p * (1 - self.p) * dy

    return given(Softmax(), random(2, 3, 4))


@mistake("input prediction", "sign")
def squared_error_target_minus_prediction():
    """The difference is taken the wrong way round."""
    target = random(6, 2, seed=9)

    def forward(prediction):
        return ((prediction - target) ** 2).mean()

    return given(forward, random(6, 2), backward=lambda d, p: d * 2 * (target - p) / p.size)


@mistake("input error", "size", "wrong operand")
def huber_without_the_linear_part():
    """Beyond delta the slope is constant; backward goes on with the error itself."""

    def forward(error, delta=1.0):
        a = np.abs(error)
        return np.where(a <= delta, 0.5 * error**2, delta * (a - 0.5 * delta)).sum()

    def backward(d, error, delta=1.0):
        return d * error

    return given(forward, 1.5 * random(4, 3), backward=backward)


@mistake("input logits", "upstream")
def binary_cross_entropy_ends_the_chain():
    """The gradient takes the loss for the end: the upstream gradient is not multiplied in."""

    class BCE:
        def __init__(self, labels):
            self.labels = labels

        def forward(self, logits):
            self.p = 1 / (1 + np.exp(-logits))
            return -(self.labels * np.log(self.p) + (1 - self.labels) * np.log(1 - self.p)).mean()

        def backward(self, dloss):
            return (self.p - self.labels) / self.labels.size

    return given(BCE(np.array([1.0, 0.0, 0.0, 1.0, 1.0])), random(5))


@mistake("input logits", "wrong operand", "lost term")
def label_smoothing_forgotten_in_backward():
    """forward has smoothed targets, backward one-hot ones."""

    class Smoothed:
        def __init__(self, targets, classes, amount=0.3):
            self.hot = np.eye(classes)[targets]
            self.soft = (1 - amount) * self.hot + amount / classes

        def forward(self, logits):
            self.p = softmax(logits)
            return -(self.soft * np.log(self.p)).sum(1).mean()

        def backward(self, dy):
            return dy * (self.p - self.hot) / len(self.p)

    return given(Smoothed(np.array([0, 2, 1]), 4), random(3, 4), constants=["hot", "soft"])


@mistake("input x", "wrong operand", "lost factor")
def log_softmax_with_raw_exponentials():
    """exp(x) stands where softmax(x) belongs."""

    def forward(x):
        return x - np.log(np.exp(x).sum(axis=1, keepdims=True))

    def backward(dy, x):
        return dy - np.exp(x) * dy.sum(axis=1, keepdims=True)

    return given(forward, random(3, 5), backward=backward)


@mistake("input scores", "mask")
def hinge_loss_without_its_margin():
    """Margins that are met must have a zero gradient."""
    y = np.array([1.0, -1.0, 1.0, 1.0, -1.0, -1.0, 1.0])

    class Hinge:
        def forward(self, scores):
            self.margin = 1 - y * scores
            return np.maximum(self.margin, 0).mean()

        def backward(self, dy):
            return -dy * y / len(y)

    return given(Hinge(), 2 * random(7))


@mistake("param temperature", "sign")
def temperature_gradient_with_plus():
    """y = softmax(x / T); dT must have a minus."""

    class Tempered:
        def __init__(self):
            self.temperature = np.array([1.7])

        def forward(self, x):
            self.x = x
            self.p = softmax(x / self.temperature)
            return self.p

        def backward(self, dy):
            dz = self.p * (dy - (dy * self.p).sum(-1, keepdims=True))
            self.dtemperature = np.array([(dz * self.x).sum()]) / self.temperature**2
            return dz / self.temperature

    return given(Tempered(), random(3, 4))


@mistake("input b", "wrong operand")
def cosine_similarity_with_the_length_of_the_other():
    """The projection of db is divided by |a|^2, where |b|^2 belongs."""

    def forward(a, b):
        na, nb = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
        return (a * b).sum(1) / (na * nb)

    def backward(dy, a, b):
        na, nb = np.linalg.norm(a, axis=1, keepdims=True), np.linalg.norm(b, axis=1, keepdims=True)
        c = (a * b).sum(1, keepdims=True) / (na * nb)
        da = b / (na * nb) - c * a / na**2
        db = a / (na * nb) - c * b / na**2
        return dy[:, None] * da, dy[:, None] * db

    return given(forward, random(4, 3), random(4, 3, seed=1), backward=backward)


@mistake("input logits", "lost factor")
def perplexity_without_its_outer_exponential():
    """y = exp(loss); the factor exp(loss) is missing."""
    t = np.array([3, 1, 0])

    class Perplexity:
        def forward(self, logits):
            self.p = softmax(logits)
            return np.exp(-np.log(self.p[np.arange(3), t]).mean())

        def backward(self, dy):
            d = self.p.copy()
            d[np.arange(3), t] -= 1
            return dy * d / 3

    return given(Perplexity(), random(3, 4))


@mistake("input p", "epsilon")
def log_likelihood_without_epsilon_in_backward():
    """forward is log(p + 0.01), backward 1 / p."""

    def forward(p):
        return np.log(p + 0.01)

    return given(forward, 0.2 + np.abs(random(3, 4)), backward=lambda dy, p: dy / p)

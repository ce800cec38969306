"""Losses with a named mistake."""

import numpy as np
from named.given import given, mistake, random


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


TARGETS = np.array([2, 0, 1, 2, 3])


@mistake("input logits", "factor")
def cross_entropy_not_divided_by_batch():
    """The loss is a mean over the batch, the gradient that of the sum."""

    class CrossEntropy:
        def forward(self, logits, targets):
            self.p, self.t = softmax(logits), targets
            return -np.log(self.p[np.arange(len(targets)), targets]).mean()

        def backward(self, dy=1.0):
            d = self.p.copy()
            d[np.arange(len(d)), self.t] -= 1
            return dy * d

    return given(CrossEntropy(), random(5, 4, seed=1), TARGETS)


@mistake("input prediction", "factor")
def squared_error_without_two():
    """The factor 2 is missing."""

    def mse(prediction, target):
        return np.mean((prediction - target) ** 2)

    def mse_backward(dy, prediction, target):
        d = dy * (prediction - target) / prediction.size
        return d, -2 * d

    return given(mse, random(3, 4, seed=2), random(3, 4, seed=3), backward=mse_backward)


@mistake("input logits", "wrong operand", "lost term")
def label_smoothing_forgotten_in_backward():
    """backward subtracts the one-hot targets, not the smooth ones."""

    class Smoothed:
        def __init__(self, amount):
            self.amount = amount

        def forward(self, logits, onehot):
            self.p, self.onehot = softmax(logits), onehot
            smooth = (1 - self.amount) * onehot + self.amount / onehot.shape[1]
            return -np.sum(smooth * np.log(self.p), axis=1)

        def backward(self, dy):
            return dy[:, None] * (self.p - self.onehot), None

    return given(Smoothed(0.3), random(4, 6, seed=4), np.eye(6)[[1, 5, 0, 2]].astype(int))


@mistake("input x", "size")
def huber_gradient_not_capped():
    """Beyond |x| = 1 the loss is linear, but its gradient is still x."""

    def huber(x):
        return np.where(np.abs(x) <= 1, x * x / 2, np.abs(x) - 0.5)

    return given(huber, 1.5 * random(4, 5, seed=5), backward=lambda dy, x: dy * x)


@mistake("input p", "lost term")
def divergence_without_plus_one():
    """d (p log(p / q)) / dp = log(p / q) + 1; the 1 is missing."""

    class Divergence:
        def forward(self, p, q):
            self.p, self.q = p, q
            return (p * np.log(p / q)).sum(-1)

        def backward(self, dy):
            dy = dy[:, None]
            return dy * np.log(self.p / self.q), -dy * self.p / self.q

    return given(Divergence(), softmax(random(3, 4, seed=6)), softmax(random(3, 4, seed=7)))


@mistake("input a", "lost term")
def cosine_similarity_without_projection():
    """da lacks - cos * a / |a|^2."""

    def cosine(a, b):
        na, nb = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
        c = (a * b).sum(1) / (na * nb)
        return c, (a, b, na, nb, c)

    def cosine_backward(dy, cache):
        a, b, na, nb, c = cache
        da = b / (na * nb)[:, None]
        db = a / (na * nb)[:, None] - (c / nb**2)[:, None] * b
        return dy[:, None] * da, dy[:, None] * db

    return given(cosine, random(4, 3, seed=8), random(4, 3, seed=9), backward=cosine_backward)


@mistake("input near", "swapped")
def triplet_gradients_of_near_and_far_swapped():
    """The gradients of the two candidates are returned in the wrong order."""

    class Triplet:
        def forward(self, anchor, near, far):
            self.n, self.f = anchor - near, anchor - far
            return (self.n**2).sum(1) - (self.f**2).sum(1)

        def backward(self, dy):
            dn, df = -2 * dy[:, None] * self.n, 2 * dy[:, None] * self.f
            return -dn - df, df, dn

    return given(Triplet(), random(3, 5, seed=10), random(3, 5, seed=11), random(3, 5, seed=12))


@mistake("input x", "lost factor")
def log_sum_exp_not_normalised():
    """dx = dy * exp(x - max); the division by the sum is missing."""

    class LogSumExp:
        def forward(self, x):
            self.m = x.max(1, keepdims=True)
            self.e = np.exp(x - self.m)
            return np.log(self.e.sum(1)) + self.m[:, 0]

        def backward(self, dy):
            return dy[:, None] * self.e

    return given(LogSumExp(), random(4, 5, seed=13))


@mistake("input x", "sign of x", "mask")
def absolute_error_flat_below_zero():
    """d|x| is 1 above zero and 0, not -1, below."""

    return given(np.abs, random(4, 6, seed=14), backward=lambda dy, x: dy * (x > 0))


@mistake("input logvar", "sign")
def gaussian_log_variance_with_wrong_sign():
    """dlogvar = (r - 1) / 2 with r = (x - mean)^2 / var, where (1 - r) / 2 belongs."""

    class GaussianNLL:
        def forward(self, mean, logvar, x):
            self.d, self.v = mean - x, np.exp(logvar)
            return 0.5 * (logvar + self.d**2 / self.v)

        def backward(self, dy):
            dmean = dy * self.d / self.v
            return dmean, dy * 0.5 * (self.d**2 / self.v - 1), -dmean

    return given(GaussianNLL(), random(3, 4, seed=15), random(3, 4, seed=16), random(3, 4, seed=17))


@mistake("input z", "upstream")
def logistic_loss_ignores_upstream():
    """The gradient of each example's loss is returned without dy."""

    class Logistic:
        def forward(self, z, label):
            self.z, self.label = z, label
            return np.logaddexp(0, z) - label * z

        def backward(self, dy):
            return 1 / (1 + np.exp(-self.z)) - self.label, None

    return given(Logistic(), random(6, seed=18), np.array([1, 0, 0, 1, 1, 0]))


@mistake("input p", "power", "lost factor")
def focal_weight_with_wrong_exponent():
    """The derivative of (1 - p)^3 is given with (1 - p)^3, where (1 - p)^2 belongs."""

    def focal(p):
        return -((1 - p) ** 3) * np.log(p)

    def focal_backward(dy, p):
        return dy * (3 * (1 - p) ** 3 * np.log(p) - (1 - p) ** 3 / p)

    p = 1 / (1 + np.exp(-random(5, 3, seed=19)))
    return given(focal, p, backward=focal_backward)


@mistake("input score", "mask")
def hinge_without_margin_test():
    """Scores beyond the margin have no loss, but they get a gradient."""

    class Hinge:
        def __init__(self, sign):
            self.sign = sign

        def forward(self, score):
            return np.maximum(0, 1 - self.sign * score)

        def backward(self, dy):
            return -dy * self.sign

    sign = np.sign(random(3, 5, seed=20))
    return given(Hinge(sign), 1.5 * random(3, 5, seed=21), constants=["sign"])


@mistake("input a", "one example")
def contrastive_gradient_of_last_pair():
    """The prototype is shared by all rows; its gradient is that of the last row."""

    def distances(x, a):
        return ((x - a) ** 2).sum(1)

    def distances_backward(dy, x, a):
        dx = 2 * dy[:, None] * (x - a)
        return dx, -dx[-1]

    return given(distances, random(4, 3, seed=22), random(3, seed=23), backward=distances_backward)

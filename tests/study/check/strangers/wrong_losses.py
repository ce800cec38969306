"""Wrong losses."""

import numpy as np
from strangers.given import given, random, wrong


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@wrong
def squared_error_without_factor_two():
    """The factor 2 is missing."""

    class MSELoss:
        def forward(self, prediction, target):
            self.diff = prediction - target
            return np.mean(self.diff**2)

        def backward(self, dy=1.0):
            g = dy * self.diff / self.diff.size
            return g, -g

    return given(MSELoss(), random(4, 2), random(4, 2, seed=1))


@wrong
def squared_error_divided_by_batch_again():
    """The mean over all cells is divided by the batch size once more."""

    def mse(prediction, target):
        return ((prediction - target) ** 2).mean()

    def mse_gradient(dy, prediction, target):
        n = prediction.shape[0]
        g = 2 * (prediction - target) / prediction.size / n * dy
        return {"prediction": g, "target": -g}

    return given(mse, random(3, 2), random(3, 2, seed=1), backward=mse_gradient)


@wrong
def cross_entropy_not_averaged():
    """The loss is a mean over the batch, its gradient is not."""

    class CrossEntropy:
        def forward(self, logits, targets):
            self.p, self.targets = softmax(logits), targets
            return -np.mean(np.log(self.p[np.arange(len(targets)), targets]))

        def backward(self, dy=1.0):
            g = self.p.copy()
            g[np.arange(len(g)), self.targets] -= 1
            return dy * g

    return given(CrossEntropy(), random(4, 3), np.array([0, 2, 1, 2]))


@wrong
def absolute_error_with_wrong_sign():
    """sign(target - prediction) where sign(prediction - target) belongs."""
    return given(
        lambda p, t: np.abs(p - t).mean(),
        random(5),
        random(5, seed=1),
        backward=lambda dy, p, t: (dy * np.sign(t - p) / p.size, dy * np.sign(t - p) / p.size),
    )


@wrong
def huber_without_delta_in_tails():
    """Beyond delta the slope is 1, not delta."""

    class Huber:
        def __init__(self, delta=0.5):
            self.delta = delta

        def forward(self, x):
            self.x = x
            a = np.abs(x)
            return np.where(a < self.delta, 0.5 * x**2, self.delta * (a - 0.5 * self.delta)).sum()

        def backward(self, dy):
            return dy * np.where(np.abs(self.x) < self.delta, self.x, np.sign(self.x))

    return given(Huber(), random(3, 3))


@wrong
def svm_loss_without_margin_count():
    """The right class gets -1, not minus the number of violated margins."""

    def svm_loss(x, y):
        n = np.arange(len(y))
        margins = np.maximum(0, x - x[n, y][:, None] + 1)
        margins[n, y] = 0
        return margins.sum() / len(y), (margins, y)

    def svm_backward(dout, cache):
        margins, y = cache
        dx = (margins > 0).astype(float)
        dx[np.arange(len(y)), y] = -1
        return dout * dx / len(y)

    return given(svm_loss, 0.3 * random(4, 5), np.array([1, 0, 4, 2]), backward=svm_backward)


@wrong
def divergence_without_plus_one():
    """d(p log p) lacks the + 1."""
    p = softmax(random(3, 4))
    q = softmax(random(3, 4, seed=1))
    return given(
        lambda p, q: np.sum(p * (np.log(p) - np.log(q)), axis=1),
        p,
        q,
        backward=lambda dy, p, q: (dy[:, None] * (np.log(p) - np.log(q)), -dy[:, None] * p / q),
    )


@wrong
def label_smoothing_forgotten_in_backward():
    """forward smooths the labels, backward uses the hard ones."""

    class SmoothedLoss:
        def __init__(self, smoothing=0.2):
            self.smoothing = smoothing

        def __call__(self, logits, labels):
            k = logits.shape[1]
            self.hard = np.eye(k)[labels]
            soft = (1 - self.smoothing) * self.hard + self.smoothing / k
            self.p = softmax(logits)
            return -(soft * np.log(self.p)).sum(axis=1)

        def backward(self, dy):
            return (self.p - self.hard) * dy[:, None]

    return given(SmoothedLoss(), random(3, 4), np.array([3, 0, 1]))


@wrong
def class_weights_forgotten_in_backward():
    """forward weighs the classes, backward does not."""

    class WeightedLoss:
        def __init__(self, class_weight):
            self.class_weight = class_weight

        def forward(self, scores, target):
            self.p, self.target = softmax(scores), target
            picked = self.p[range(len(target)), target]
            return -(self.class_weight[target] * np.log(picked)).sum()

        def backward(self, dy):
            onehot = np.zeros_like(self.p)
            onehot[range(len(self.target)), self.target] = 1
            return dy * (self.p - onehot)

    return given(
        WeightedLoss(np.array([0.5, 2.0, 1.0])), random(4, 3), np.array([1, 1, 0, 2]), constants=["class_weight"]
    )


@wrong
def cosine_similarity_without_norm_term():
    """The gradient of a / |a| is taken to be dy / |a|."""

    class Cosine:
        def forward(self, a, b):
            self.na = np.sqrt((a * a).sum(1, keepdims=True))
            self.nb = np.sqrt((b * b).sum(1, keepdims=True))
            self.a, self.b = a, b
            self.cos = (a * b).sum(1, keepdims=True) / (self.na * self.nb)
            return self.cos[:, 0]

        def backward(self, dy):
            dy = dy.reshape(-1, 1) / (self.na * self.nb)
            return dy * self.b, dy * self.a

    return given(Cosine(), random(3, 4), random(3, 4, seed=1))


@wrong
def triplet_loss_with_negative_pulled_near():
    """The negative example's gradient has the wrong sign."""

    def forward(anchor, positive, negative):
        d = ((anchor - positive) ** 2).sum(1) - ((anchor - negative) ** 2).sum(1) + 1.0
        return np.maximum(d, 0), (anchor, positive, negative, d > 0)

    def backward(dout, cache):
        anchor, positive, negative, active = cache
        dy = 2 * (dout * active)[:, None]
        return dy * (negative - positive), dy * (positive - anchor), -dy * (anchor - negative)

    return given(forward, random(5, 3), random(5, 3, seed=1), random(5, 3, seed=2), backward=backward)


@wrong
def logistic_loss_wrong_for_negative_scores():
    """The branch for negative scores returns exp(x) and forgets to divide by 1 + exp(x)."""

    def forward(x, y):
        return np.logaddexp(0, x) - x * y

    def backward(dy, x, y):
        s = np.empty_like(x)
        s[x >= 0] = 1 / (1 + np.exp(-x[x >= 0]))
        s[x < 0] = np.exp(x[x < 0])
        return dy * (s - y), -dy * x

    return given(forward, random(8), (random(8, seed=1) > 0).astype(float), backward=backward)


@wrong
def penalty_on_weights_without_gradient():
    """The weights' L2 penalty is in the loss, and not in dW."""

    class Ridge:
        def __init__(self, n, strength=0.1):
            self.W = random(n, seed=1)
            self.strength = strength

        def forward(self, x, y):
            self.x = x
            self.error = x @ self.W - y
            return 0.5 * np.sum(self.error**2) + 0.5 * self.strength * np.sum(self.W**2)

        def backward(self, dy):
            self.dW = dy * self.x.T @ self.error
            return dy * np.outer(self.error, self.W), -dy * self.error

    return given(Ridge(3), random(5, 3), random(5, seed=2))


@wrong
def masked_mean_loss_without_mask_in_backward():
    """Padded cells get a gradient, for the mask is forgotten in backward."""

    class MaskedMSE:
        def forward(self, x, mask):
            self.x, self.count = x, mask.sum()
            return (x**2 * mask).sum() / self.count

        def backward(self, dy):
            return dy * 2 * self.x / self.count

    return given(MaskedMSE(), random(3, 4), np.arange(12).reshape(3, 4) % 3 > 0)

"""Losses: objects whose forward gives a number, or a number per row."""

import numpy as np
from strangers.given import given, random, right


class CrossEntropy:
    def forward(self, logits, targets):
        shifted = logits - logits.max(axis=1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        self.p, self.targets = np.exp(log_p), targets
        return -log_p[np.arange(len(targets)), targets].mean()

    def backward(self, dloss=1.0):
        d = self.p.copy()
        d[np.arange(len(self.targets)), self.targets] -= 1
        return dloss * d / len(self.targets)


@right
def cross_entropy_with_integer_targets():
    return given(CrossEntropy(), random(4, 5), np.array([1, 4, 0, 1]))


class SummedCrossEntropy:
    def forward(self, scores, labels=None):
        n = scores.shape[0]
        e = np.exp(scores - np.max(scores, 1, keepdims=True))
        self.probabilities = e / np.sum(e, 1, keepdims=True)
        self.labels = labels
        total = 0.0
        for i in range(n):
            total += -np.log(self.probabilities[i, labels[i]])
        return total

    def backward(self, upstream):
        one_hot = np.zeros(self.probabilities.shape)
        for i, label in enumerate(self.labels):
            one_hot[i, label] = 1
        return upstream * (self.probabilities - one_hot)


@right
def cross_entropy_with_labels_as_a_keyword():
    return given(SummedCrossEntropy(), random(3, 4), labels=[2, 0, 3])


class OneHotCrossEntropy:
    """Log of clipped probabilities; the one-hot targets are integers."""

    def forward(self, probabilities, y_true):
        self.clipped = np.clip(probabilities, 1e-7, 1 - 1e-7)
        self.y_true = y_true
        return -np.sum(y_true * np.log(self.clipped), axis=1)

    def backward(self, dvalues):
        return -dvalues[:, None] * self.y_true / self.clipped


@right
def cross_entropy_of_probabilities_with_one_hot_targets():
    p = np.exp(random(4, 3))
    return given(OneHotCrossEntropy(), p / p.sum(1, keepdims=True), np.eye(3, dtype=int)[[0, 2, 1, 2]])


class FixedTargetCrossEntropy:
    def __init__(self, target):
        self.target = target

    def forward(self, logits):
        self.log_p = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        return -(self.target * self.log_p).sum(axis=-1).mean()

    def backward(self, dy):
        weight = self.target.sum(axis=-1, keepdims=True)
        return dy * (np.exp(self.log_p) * weight - self.target) / len(self.target)


@right
def cross_entropy_with_a_fixed_one_hot_target():
    return given(FixedTargetCrossEntropy(np.eye(4)[[3, 1, 1]]), random(3, 4), constants=["target"])


class SoftTargetCrossEntropy:
    """Has a gradient for the targets too."""

    def forward(self, logits, target):
        m = np.amax(logits, axis=-1, keepdims=True)
        self.log_p = logits - m - np.log(np.sum(np.exp(logits - m), axis=-1, keepdims=True))
        self.target = target
        return -np.sum(target * self.log_p)

    def backward(self, dy):
        p = np.exp(self.log_p)
        dlogits = dy * (p * self.target.sum(axis=-1, keepdims=True) - self.target)
        return {"logits": dlogits, "target": -dy * self.log_p}


@right
def cross_entropy_with_soft_targets_that_have_a_gradient():
    return given(SoftTargetCrossEntropy(), random(2, 3, 4), np.abs(random(2, 3, 4, seed=1)))


class SmoothedCrossEntropy:
    def __init__(self, smoothing=0.1, ignore=-1):
        self.smoothing, self.ignore = smoothing, ignore

    def forward(self, logits, targets):
        n, k = logits.shape
        keep = targets != self.ignore
        q = np.zeros((n, k))
        q[keep] = self.smoothing / k
        q[keep, targets[keep]] += 1 - self.smoothing
        log_p = logits - np.log(np.exp(logits).sum(1))[:, None]
        count = keep.sum()
        return -(q * log_p).sum() / count, (q, np.exp(log_p), keep, count)

    def backward(self, dy, cache):
        q, p, keep, count = cache
        return dy * (p * keep[:, None] - q) / count


@right
def label_smoothing_that_ignores_some_targets():
    return given(SmoothedCrossEntropy(), random(5, 3), np.array([0, -1, 2, 2, -1]))


class ClassWeightedLoss:
    def __init__(self, weights):
        self.class_weights = np.asarray(weights, dtype=float)

    def forward(self, log_p, targets):
        self.shape, self.targets = log_p.shape, targets
        self.w = self.class_weights[targets]
        picked = np.take_along_axis(log_p, targets[:, None], axis=1)[:, 0]
        return -(self.w * picked).sum() / self.w.sum()

    def backward(self, dy):
        d = np.zeros(self.shape)
        np.put_along_axis(d, self.targets[:, None], -(dy * self.w / self.w.sum())[:, None], axis=1)
        return d


@right
def likelihood_with_fixed_class_weights():
    return given(ClassWeightedLoss([0.2, 1, 3]), random(4, 3), np.array([2, 2, 0, 1]), constants=["class_weights"])


class MSELoss:
    def __call__(self, prediction, target):
        self.difference = prediction - target
        return np.mean(self.difference**2)

    def backward(self, dy=1.0):
        d = dy * 2 * self.difference / self.difference.size
        return d, -d


@right
def mean_squared_error_of_two_inputs():
    return given(MSELoss(), random(3, 4), random(3, 4, seed=1))


class L1Loss:
    def forward(self, a, b):
        self.sign = np.sign(a - b)
        return np.abs(a - b).sum(axis=-1)

    def backward(self, dy):
        d = dy[..., np.newaxis] * self.sign
        return [d, -d]


@right
def absolute_error_with_some_equal_values():
    a, b = random(3, 4), random(3, 4, seed=1)
    b[0, :2] = a[0, :2]
    return given(L1Loss(), a, b)


class HuberLoss:
    def __init__(self, delta=1.0):
        self.delta = delta

    def forward(self, y_pred, y_true):
        self.error = y_pred - y_true
        size = np.abs(self.error)
        loss = np.where(size <= self.delta, 0.5 * self.error**2, self.delta * (size - 0.5 * self.delta))
        return np.mean(loss)

    def backward(self, grad):
        slope = np.where(np.abs(self.error) <= self.delta, self.error, self.delta * np.sign(self.error))
        slope = grad * slope / self.error.size
        return {"y_pred": slope, "y_true": -slope}


@right
def huber_loss_by_where():
    return given(HuberLoss(0.7), random(4, 3), random(4, 3, seed=1))


class HingeLoss:
    def forward(self, scores, y):
        n = len(y)
        correct = scores[np.arange(n), y][:, None]
        margins = np.maximum(0, scores - correct + 1.0)
        margins[np.arange(n), y] = 0
        self.margins, self.y = margins, y
        return margins.sum() / n

    def backward(self, dy):
        n = len(self.y)
        d = (self.margins > 0).astype(float)
        d[np.arange(n), self.y] -= d.sum(axis=1)
        return dy * d / n


@right
def hinge_loss_of_many_classes():
    return given(HingeLoss(), random(4, 5), np.array([0, 3, 3, 2]))


class LogisticLoss:
    def forward(self, z, y):
        self.z, self.y = z, y
        return (np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))).mean()

    def backward(self, dy):
        return dy * (1 / (1 + np.exp(-self.z)) - self.y) / self.z.size


@right
def binary_cross_entropy_of_logits_with_flags_as_targets():
    return given(LogisticLoss(), 3 * random(4, 2), np.array([[1, 0], [1, 1], [0, 0], [0, 1]]) == 1)


class FocalLoss:
    def __init__(self, gamma=2.0):
        self.gamma = gamma

    def forward(self, logits, labels):
        rows = np.arange(len(labels))
        e = np.exp(logits - logits.max(1, keepdims=True))
        self.p = e / e.sum(1, keepdims=True)
        self.rows, self.labels = rows, labels
        pt = self.p[rows, labels]
        return np.sum(-((1 - pt) ** self.gamma) * np.log(pt))

    def backward(self, dy):
        pt = self.p[self.rows, self.labels]
        dpt = self.gamma * (1 - pt) ** (self.gamma - 1) * np.log(pt) - (1 - pt) ** self.gamma / pt
        delta = -self.p * pt[:, None]
        delta[self.rows, self.labels] += pt
        return dy * dpt[:, None] * delta


@right
def focal_loss():
    return given(FocalLoss(), random(4, 3), np.array([0, 1, 2, 2]))


class KLDivergence:
    """Of a diagonal normal distribution from the standard one; the two inputs come in one dict."""

    def forward(self, parts):
        self.mu, self.log_var = parts["mu"], parts["log_var"]
        return -0.5 * np.sum(1 + self.log_var - self.mu**2 - np.exp(self.log_var), axis=1)

    def backward(self, dy):
        dy = dy.reshape(-1, 1)
        return {"mu": dy * self.mu, "log_var": dy * 0.5 * (np.exp(self.log_var) - 1)}


@right
def divergence_of_a_normal_distribution_given_as_a_dict():
    return given(KLDivergence(), {"mu": random(3, 4), "log_var": random(3, 4, seed=1)})


class TripletLoss:
    def __init__(self, margin=0.5):
        self.margin = margin

    def forward(self, anchor, positive, negative):
        self.inputs = anchor, positive, negative
        closer = np.square(anchor - positive).sum(1)
        farther = np.square(anchor - negative).sum(1)
        self.active = (closer - farther + self.margin > 0)[:, None]
        return np.maximum(closer - farther + self.margin, 0).mean()

    def backward(self, dy):
        a, p, n = self.inputs
        scale = 2 * dy * self.active / len(a)
        return scale * (n - p), scale * (p - a), scale * (a - n)


@right
def triplet_loss():
    return given(TripletLoss(), random(5, 3), random(5, 3, seed=1), random(5, 3, seed=2))


class QuantileLoss:
    def __init__(self, quantiles):
        self.quantiles = tuple(quantiles)

    def forward(self, prediction, target):
        e = target[:, None] - prediction
        q = np.array(self.quantiles)
        self.slope = np.where(e > 0, q, q - 1)
        return (self.slope * e).mean(axis=0)

    def backward(self, dy):
        d = -self.slope * dy / len(self.slope)
        return d, -d.sum(axis=1)


@right
def quantile_loss_with_a_loss_per_quantile():
    return given(QuantileLoss([0.1, 0.5, 0.9]), random(6, 3), random(6, seed=1))


class MixtureLoss:
    """Likelihood under a mixture of learned normal distributions."""

    def __init__(self, k, d):
        rng = np.random.default_rng(30)
        self.means, self.log_scale, self.logits = rng.normal(size=(k, d)), np.zeros((k, d)), np.zeros(k)
        self.d_means = self.d_log_scale = self.d_logits = None

    def forward(self, x):
        self.z = (x[:, None] - self.means) / np.exp(self.log_scale)
        log_prior = self.logits - np.logaddexp.reduce(self.logits)
        joint = log_prior - (0.5 * self.z**2 + self.log_scale).sum(-1)
        total = np.logaddexp.reduce(joint, axis=1)
        self.posterior, self.prior = np.exp(joint - total[:, None]), np.exp(log_prior)
        return -total

    def backward(self, dy):
        weight = (dy[:, None] * self.posterior)[..., None]
        pull = weight * self.z / np.exp(self.log_scale)
        self.d_means = -pull.sum(0)
        self.d_log_scale = (weight * (1 - self.z**2)).sum(0)
        self.d_logits = self.prior * dy.sum() - weight.sum((0, 2))
        return pull.sum(1)


@right
def mixture_of_normals_with_zero_initialised_scales():
    return given(MixtureLoss(3, 2), random(5, 2))

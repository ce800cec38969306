"""Wrong losses: classification, regression, metric learning; most take no upstream gradient."""

import numpy as np
from named.given import given, mistake, random


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@mistake("input logits", "factor")
def cross_entropy_sum_with_the_gradient_of_the_mean():
    """The loss is summed, its gradient divided by the batch. Public thread: backward ignored the reduction."""

    class CrossEntropy:
        def forward(self, logits, targets):
            self.p, self.targets = softmax(logits), targets
            return -np.log(self.p[np.arange(len(targets)), targets]).sum()

        def backward(self):
            d = self.p.copy()
            d[np.arange(len(d)), self.targets] -= 1
            return d / len(d)

    return given(CrossEntropy(), random(5, 3), np.array([0, 2, 1, 1, 0]))


@mistake("input logits", "upstream", "wrong operand", "one example")
def unreduced_cross_entropy_with_the_first_upstream_value():
    """Each example's gradient is multiplied by upstream[0]. Public thread: only element 0 was read."""

    class CrossEntropy:
        def forward(self, logits, targets):
            self.p, self.targets = softmax(logits), targets
            return -np.log(self.p[np.arange(len(targets)), targets])

        def backward(self, grad_output):
            d = self.p.copy()
            d[np.arange(len(d)), self.targets] -= 1
            return d * grad_output.ravel()[0]

    return given(CrossEntropy(), random(4, 5), np.array([3, 0, 2, 4]))


@mistake("input pred", "sign of x", "mask", "size")
def huber_threshold_on_the_signed_difference():
    """|e| < delta is tested as e < delta. Public threads: two libraries tested the signed difference."""

    class Huber:
        def __init__(self, delta):
            self.delta = delta

        def forward(self, pred, target):
            self.e = pred - target
            a = np.abs(self.e)
            return np.where(a <= self.delta, 0.5 * self.e**2, self.delta * (a - 0.5 * self.delta)).sum()

        def backward(self):
            d = np.where(self.e <= self.delta, self.e, self.delta)
            return d, -d

    return given(Huber(0.5), random(3, 5), random(3, 5, seed=1))


@mistake("input pred", "factor")
def pseudo_huber_without_alpha():
    """e / sqrt(e^2 + alpha^2), without the factor alpha. Public thread: hidden by tests with alpha = 1."""

    class PseudoHuber:
        alpha = 0.6

        def __call__(self, pred, target):
            e = pred - target
            return self.alpha**2 * (np.sqrt(1 + (e / self.alpha) ** 2) - 1)

        def backward(self, dy, pred, target):
            e = pred - target
            d = dy * e / np.sqrt(e**2 + self.alpha**2)
            return d, -d

    return given(PseudoHuber(), random(4, 3), random(4, 3, seed=1))


@mistake("param centers", "lost factor")
def centres_averaged_where_the_loss_sums():
    """dcenters is divided by each centre's number of features. Public thread: a center loss written so."""

    class CenterLoss:
        def __init__(self):
            self.centers = random(3, 4, seed=1)

        def forward(self, feature, label):
            self.diff, self.label = feature - self.centers[label], label
            return 0.5 * (self.diff**2).sum()

        def backward(self):
            self.centers_grad = np.zeros_like(self.centers)
            np.add.at(self.centers_grad, self.label, -self.diff)
            self.centers_grad /= np.bincount(self.label, minlength=3)[:, None]
            return self.diff

    return given(CenterLoss(), random(6, 4), np.array([0, 2, 2, 1, 2, 1]))


@mistake("input q", "wrong operand")
def divergence_divided_by_its_target():
    """d(-t log q)/dq = -q / t. Public thread: the two iterators of a cross-entropy were mixed up."""

    def cross_entropy(q, t):
        return -(t * np.log(q)).sum()

    def backward(q, t):
        return -q / t

    return given(
        cross_entropy, softmax(random(3, 4)), softmax(random(3, 4, seed=1)), backward=backward, constants=["t"]
    )


@mistake("input scores", "lost term", "mask")
def hinge_loss_without_the_correct_class():
    """Wrong classes above the margin get 1 / N; the correct class lacks minus their number."""

    def svm_loss(scores, y):
        n = len(y)
        margins = np.maximum(0, scores - scores[np.arange(n), y][:, None] + 1)
        margins[np.arange(n), y] = 0
        return margins.sum() / n, (margins > 0) / n

    class SVM:
        def forward(self, scores, y):
            loss, self.dx = svm_loss(scores, y)
            return loss

        def backward(self):
            return self.dx.astype(float)

    return given(SVM(), random(4, 3), np.array([2, 0, 1, 1]))


@mistake("input logits", "lost factor")
def binary_cross_entropy_with_the_sigmoids_slope():
    """p - t is multiplied by p (1 - p), which it contains already."""

    class BCEWithLogits:
        def forward(self, logits, t):
            self.p, self.t = 1 / (1 + np.exp(-logits)), t
            return -np.mean(t * np.log(self.p) + (1 - t) * np.log(1 - self.p))

        def backward(self):
            return (self.p - self.t) * self.p * (1 - self.p) / self.p.size

    return given(BCEWithLogits(), random(7), np.array([0, 1, 1, 0, 1, 0, 0]))


@mistake("input pred", "lost term")
def dice_loss_with_constant_denominator():
    """The quotient is differentiated in its numerator only."""

    class Dice:
        def forward(self, pred, mask):
            self.mask, self.total = mask, pred.sum() + mask.sum() + 1.0
            return 1 - (2 * (pred * mask).sum() + 1.0) / self.total

        def backward(self):
            return -2 * self.mask / self.total

    return given(Dice(), softmax(random(3, 4)), np.eye(3, 4, dtype=int))


@mistake("input pred", "factor")
def squared_error_divided_by_the_batch_only():
    """The loss is the mean over all elements, its gradient is divided by the number of rows."""

    class MSE:
        def __call__(self, pred, target):
            return np.mean((pred - target) ** 2)

        def backward(self, pred, target):
            return 2 * (pred - target) / len(pred)

    return given(MSE(), random(3, 5), random(3, 5, seed=1), constants=["target"])

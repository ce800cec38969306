"""Losses as functions: scalars, sums over targets, and gradients made together with the loss."""

import numpy as np
from strangers.given import given, random, right


@right
def softmax_loss_that_returns_loss_and_gradient():
    """The second result of the loss is the gradient itself, which serves as the cache."""

    def softmax_loss(x, y):
        shifted = x - x.max(axis=1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        n = x.shape[0]
        loss = -logs[np.arange(n), y].sum() / n
        dx = np.exp(logs)
        dx[np.arange(n), y] -= 1
        dx /= n
        return loss, dx

    return given(softmax_loss, random(4, 5), np.array([1, 0, 4, 1]), backward=lambda dloss, cache: dloss * cache)


@right
def svm_loss_that_returns_loss_and_gradient():
    def svm_loss(x, y):
        n = len(x)
        correct = x[np.arange(n), y][:, np.newaxis]
        margins = np.maximum(0, x - correct + 1.0)
        margins[np.arange(n), y] = 0
        loss = margins.sum() / n
        dx = (margins > 0).astype(float)
        dx[np.arange(n), y] -= dx.sum(axis=1)
        return loss, dx / n

    def backward(dloss, cache):
        return cache * dloss

    return given(svm_loss, random(5, 3), np.array([0, 2, 1, 1, 0]), backward=backward)


@right
def cross_entropy_with_whole_number_targets():
    def forward(logits, targets):
        e = np.exp(logits - logits.max(1, keepdims=True))
        probs = e / e.sum(1, keepdims=True)
        picked = np.take_along_axis(probs, targets[:, None], axis=1)
        return float(-np.log(picked).mean()), (probs, targets)

    def backward(dloss, cache):
        probs, targets = cache
        onehot = np.eye(probs.shape[1])[targets]
        return dloss * (probs - onehot) / len(targets)

    return given(forward, random(6, 4), np.array([3, 0, 0, 2, 1, 3]), backward=backward)


@right
def cross_entropy_of_two_distributions():
    """Both the logits and the wanted probabilities get a gradient."""

    def forward(logits, wanted):
        logs = logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
        return -np.sum(wanted * logs, axis=1)

    def backward(dy, logits, wanted):
        logs = logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
        total = wanted.sum(axis=1, keepdims=True)
        return dy[:, None] * (np.exp(logs) * total - wanted), -dy[:, None] * logs

    wanted = np.abs(random(3, 4, seed=1))
    return given(forward, random(3, 4), wanted / wanted.sum(1, keepdims=True), backward=backward)


@right
def temporal_softmax_loss_with_a_mask():
    def forward(x, y, mask):
        n, t, v = x.shape
        flat, targets, counts = x.reshape(n * t, v), y.reshape(n * t), mask.reshape(n * t)
        probs = np.exp(flat - flat.max(axis=1, keepdims=True))
        probs /= probs.sum(axis=1, keepdims=True)
        loss = -np.sum(counts * np.log(probs[np.arange(n * t), targets])) / n
        return loss, (probs, targets, counts, x.shape)

    def backward(dloss, cache):
        probs, targets, counts, shape = cache
        dflat = probs.copy()
        dflat[np.arange(len(targets)), targets] -= 1
        dflat *= counts[:, None]
        dflat *= dloss / shape[0]
        return dflat.reshape(shape)

    mask = np.array([[True, True, False], [True, False, False]])
    return given(forward, random(2, 3, 4), np.array([[0, 3, 1], [2, 2, 0]]), mask, backward=backward)


@right
def binary_cross_entropy_of_logits_by_log1p():
    def forward(z, t):
        return np.mean(np.maximum(z, 0) - z * t + np.log1p(np.exp(-np.abs(z)))), (z, t)

    def backward(dloss, cache):
        z, t = cache
        return dloss * (1 / (1 + np.exp(-z)) - t) / z.size

    return given(forward, 3 * random(3, 4), (random(3, 4, seed=1) > 0).astype(int), backward=backward)


@right
def mean_squared_error_of_two_arrays():
    def mse(prediction, target):
        return ((prediction - target) ** 2).mean()

    def mse_gradient(dloss, prediction, target):
        d = 2 * (prediction - target) / prediction.size * dloss
        return d, -d

    return given(mse, random(3, 4), random(3, 4, seed=1), backward=mse_gradient)


@right
def squared_error_with_a_constant_target():
    def forward(prediction, target):
        return 0.5 * np.sum(np.square(prediction - target), axis=1), prediction - target

    def backward(dout, difference):
        return dout[:, None] * difference

    return given(forward, random(4, 3), random(4, 3, seed=1), backward=backward, constants=["target"])


@right
def huber_loss_with_a_chosen_reduction():
    def forward(error, delta=1.0, reduction="sum"):
        size = np.abs(error)
        each = np.where(size <= delta, 0.5 * error**2, delta * (size - 0.5 * delta))
        return each.mean() if reduction == "mean" else each.sum()

    def backward(dloss, error, delta=1.0, reduction="sum"):
        d = np.where(np.abs(error) <= delta, error, delta * np.sign(error))
        return dloss * (d / error.size if reduction == "mean" else d)

    return given(forward, 2 * random(4, 3), reduction="mean", backward=backward)


@right
def quantile_loss():
    def forward(prediction, target):
        d = target - prediction
        return np.maximum(0.8 * d, -0.2 * d).sum(axis=0)

    def backward(dy, prediction, target):
        slope = np.where(target > prediction, 0.8, -0.2) * dy
        return -slope, slope

    return given(forward, random(5, 2), random(5, 2, seed=3), backward=backward)


@right
def triplet_loss_with_exact_hinges():
    """The third row lies exactly on the hinge, where the gradient of one side counts."""

    def forward(anchor, near, far):
        gap = ((anchor - near) ** 2).sum(1) - ((anchor - far) ** 2).sum(1) + 1.0
        return np.where(gap > 0, gap, 0.0), (anchor, near, far, gap)

    def backward(dout, cache):
        anchor, near, far, gap = cache
        g = (2 * dout * (gap > 0))[:, None]
        return g * (far - near), g * (near - anchor), g * (anchor - far)

    anchor, near, far = random(3, 2), random(3, 2, seed=1), random(3, 2, seed=2)
    anchor[2], near[2], far[2] = (0, 0), (1, 0), (1, 1)
    return given(forward, anchor, near, far, backward=backward)


@right
def cosine_distance_of_pairs():
    def forward(a, b):
        na, nb = np.linalg.norm(a, axis=-1), np.linalg.norm(b, axis=-1)
        return 1 - np.sum(a * b, axis=-1) / (na * nb)

    def backward(dy, a, b):
        na, nb = np.linalg.norm(a, axis=-1, keepdims=True), np.linalg.norm(b, axis=-1, keepdims=True)
        cosine = (a * b).sum(-1, keepdims=True) / (na * nb)
        g = -dy[..., None]
        return g * (b / (na * nb) - cosine * a / na**2), g * (a / (na * nb) - cosine * b / nb**2)

    return given(forward, random(2, 2, 4), random(2, 2, 4, seed=1), backward=backward)


@right
def log_cosh_loss_by_logaddexp():
    def forward(x):
        return np.sum(np.logaddexp(x, -x) - np.log(2))

    def backward(dy, x):
        return dy * np.tanh(x)

    return given(forward, 2 * random(7), backward=backward)


@right
def weight_decay_over_a_list_of_weights():
    def penalty(weights, strength):
        return 0.5 * strength * sum(float(np.sum(w * w)) for w in weights)

    def gradient(dy, weights, strength):
        return [dy * strength * w for w in weights], dy * 0.5 * sum(np.sum(w * w) for w in weights)

    return given(penalty, [random(2, 3), random(3, seed=1), random(2, 1, 2, seed=2)], 0.3, backward=gradient)


@right
def divergence_with_zero_probabilities():
    """np.where leaves out the terms of p·log(p/q) where the constant p is zero."""
    p = np.array([[0.5, 0.5, 0.0], [0.2, 0.0, 0.8]])

    def forward(q):
        safe = np.where(p > 0, p, 1.0)
        return np.where(p > 0, p * np.log(safe / q), 0.0).sum(axis=1)

    def backward(dy, q):
        return -dy[:, None] * p / q

    return given(forward, np.array([[0.3, 0.6, 0.1], [0.4, 0.1, 0.5]]), backward=backward, constants=["p"])


@right
def mean_over_the_valid_steps_by_lengths():
    def forward(x, lengths):
        valid = np.arange(x.shape[1])[None, :] < lengths[:, None]
        return (x * valid[:, :, None]).sum(axis=1) / lengths[:, None], valid

    def backward(dout, valid):
        return valid[:, :, None] * (dout / valid.sum(axis=1, keepdims=True))[:, None, :]

    return given(forward, random(3, 4, 2), np.array([4, 1, 2]), backward=backward)


@right
def loss_and_accuracy_together():
    """The accuracy is a step function: its gradient is zero, whatever comes from above."""

    def forward(logits, labels):
        e = np.exp(logits)
        probs = e / e.sum(axis=1, keepdims=True)
        n = len(labels)
        loss = -np.log(probs[range(n), labels]).sum()
        accuracy = np.mean(logits.argmax(axis=1) == labels)
        return (loss, accuracy), (probs, labels)

    def backward(upstream, cache):
        dloss, _ = upstream
        probs, labels = cache
        d = probs.copy()
        d[range(len(labels)), labels] -= 1
        return d * dloss

    return given(forward, random(4, 3), np.array([2, 0, 1, 1]), backward=backward)


@right
def contrastive_loss_over_all_pairs():
    def forward(a, b, temperature):
        scores = a @ b.T / temperature
        logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return -np.trace(logs) / len(a), (a, b, temperature, logs)

    def backward(dloss, cache):
        a, b, temperature, logs = cache
        dscores = dloss * (np.exp(logs) - np.eye(len(a))) / len(a)
        dtemperature = -np.sum(dscores * (a @ b.T)) / temperature**2
        return dscores @ b / temperature, dscores.T @ a / temperature, dtemperature

    return given(forward, random(4, 3), random(4, 3, seed=1), np.array(0.7), backward=backward)

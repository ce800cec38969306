"""Pooling, upsampling, concatenation, splitting, sums along an axis."""

import numpy as np
from strangers.given import given, random, right


class MaxPool2D:
    def __init__(self, size=2, stride=2):
        self.size, self.stride = size, stride

    def forward(self, x):
        self.x = x
        n, c, h, w = x.shape
        oh, ow = (h - self.size) // self.stride + 1, (w - self.size) // self.stride + 1
        out = np.zeros((n, c, oh, ow))
        for i in range(oh):
            for j in range(ow):
                r, s = i * self.stride, j * self.stride
                out[:, :, i, j] = np.max(x[:, :, r : r + self.size, s : s + self.size], axis=(2, 3))
        return out

    def backward(self, dout):
        dx = np.zeros_like(self.x)
        for b, c, i, j in np.ndindex(dout.shape):
            r, s = i * self.stride, j * self.stride
            patch = self.x[b, c, r : r + self.size, s : s + self.size]
            u, v = np.unravel_index(patch.argmax(), patch.shape)
            dx[b, c, r + u, s + v] += dout[b, c, i, j]
        return dx


@right
def max_pool_by_loops():
    return given(MaxPool2D(), random(2, 2, 4, 5))


@right
def max_pool_with_overlapping_windows():
    return given(MaxPool2D(3, 1), random(1, 2, 4, 4))


@right
def max_pool_with_ties():
    return given(MaxPool2D(2, 2), np.round(random(1, 2, 4, 4)))


class ReshapedMaxPool:
    """Ties share the gradient."""

    def forward(self, x):
        n, h, w, c = x.shape
        self.blocks = x.reshape(n, h // 2, 2, w // 2, 2, c)
        self.top = self.blocks.max(axis=(2, 4), keepdims=True)
        return self.top.squeeze(axis=(2, 4))

    def backward(self, dy):
        mask = (self.blocks == self.top).astype(float)
        mask /= mask.sum(axis=(2, 4), keepdims=True)
        d = mask * dy[:, :, None, :, None, :]
        n, h, _, w, _, c = d.shape
        return d.reshape(n, 2 * h, 2 * w, c)


@right
def max_pool_by_reshaping():
    return given(ReshapedMaxPool(), random(2, 4, 6, 2))


class MeanPool1D:
    def __init__(self, width):
        self.width = width

    def forward(self, x):
        self.length = x.shape[-1]
        usable = self.length // self.width * self.width
        return x[..., :usable].reshape(x.shape[:-1] + (-1, self.width)).mean(axis=-1)

    def backward(self, dy):
        dx = np.zeros(dy.shape[:-1] + (self.length,))
        dx[..., : dy.shape[-1] * self.width] = np.repeat(dy, self.width, axis=-1) / self.width
        return dx


@right
def mean_pool_that_leaves_out_the_rest():
    return given(MeanPool1D(3), random(2, 3, 8))


class GlobalPool:
    """Mean and maximum over all positions, side by side."""

    def forward(self, x):
        n, c = x.shape[:2]
        flat = x.reshape(n, c, -1)
        self.shape, self.best = x.shape, flat.argmax(axis=2)
        return np.hstack([flat.mean(axis=2), flat.max(axis=2)])

    def backward(self, dy):
        n, c = self.shape[:2]
        size = int(np.prod(self.shape[2:]))
        dx = np.tile(dy[:, :c, None] / size, (1, 1, size))
        i, j = np.ogrid[:n, :c]
        dx[i, j, self.best] += dy[:, c:]
        return dx.reshape(self.shape)


@right
def global_mean_and_max_pool():
    return given(GlobalPool(), random(2, 3, 3, 2))


class MaskedMean:
    """Mean over the first positions only, as told by integer lengths."""

    def forward(self, x, lengths):
        mask = np.arange(x.shape[1])[None, :] < lengths[:, None]
        self.weight = mask / lengths[:, None]
        return (x * self.weight[..., None]).sum(axis=1)

    def backward(self, dy):
        return self.weight[..., None] * dy[:, None, :]


@right
def mean_over_given_lengths():
    return given(MaskedMean(), random(3, 4, 2), np.array([4, 1, 3]))


class Upsample:
    def __init__(self, factor):
        self.factor = factor

    def forward(self, x):
        return x.repeat(self.factor, axis=2).repeat(self.factor, axis=3)

    def backward(self, dy):
        n, c, h, w = dy.shape
        f = self.factor
        return dy.reshape(n, c, h // f, f, w // f, f).sum(axis=(3, 5))


@right
def upsampling_by_repetition():
    return given(Upsample(2), random(2, 2, 3, 2))


class LinearUpsample:
    """Inserts the mean between each two neighbours."""

    def forward(self, x):
        y = np.zeros((len(x), 2 * x.shape[1] - 1))
        y[:, ::2] = x
        y[:, 1::2] = 0.5 * (x[:, 1:] + x[:, :-1])
        return y

    def backward(self, dy):
        dx = dy[:, ::2].copy()
        dx[:, 1:] += 0.5 * dy[:, 1::2]
        dx[:, :-1] += 0.5 * dy[:, 1::2]
        return dx


@right
def upsampling_by_linear_interpolation():
    return given(LinearUpsample(), random(3, 5))


class PixelShuffle:
    def forward(self, x):
        n, c, h, w = x.shape
        return x.reshape(n, c // 4, 2, 2, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, c // 4, 2 * h, 2 * w)

    def backward(self, dy):
        n, c, h, w = dy.shape
        return dy.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 3, 5, 2, 4).reshape(n, 4 * c, h // 2, w // 2)


@right
def pixel_shuffle():
    return given(PixelShuffle(), random(1, 8, 2, 3))


class ReflectPad:
    def forward(self, x):
        return np.pad(x, ((0, 0), (1, 2)), mode="reflect")

    def backward(self, dy):
        dx = dy[:, 1:-2].copy()
        dx[:, 1] += dy[:, 0]
        dx[:, -2] += dy[:, -2]
        dx[:, -3] += dy[:, -1]
        return dx


@right
def padding_by_reflection():
    return given(ReflectPad(), random(3, 5))


class Concat:
    def __init__(self, axis=-1):
        self.axis = axis

    def forward(self, parts):
        self.cuts = np.cumsum([p.shape[self.axis] for p in parts])[:-1]
        return np.concatenate(parts, axis=self.axis)

    def backward(self, dy):
        return np.split(dy, self.cuts, axis=self.axis)


@right
def concatenation_of_a_list_of_inputs():
    return given(Concat(1), [random(2, 3), random(2, 1, seed=1), random(2, 4, seed=2)])


class Split:
    def forward(self, x):
        self.width = x.shape[1]
        return x[:, :2], x[:, 2:]

    def backward(self, grads):
        left, right_part = grads
        return np.hstack((left, right_part))


@right
def split_into_two_unequal_parts():
    return given(Split(), random(3, 5))


class Moments:
    """Gives a dict of outputs of different shapes."""

    def forward(self, x):
        self.x = x
        self.mean = x.mean(axis=1)
        return {"mean": self.mean, "var": np.var(x, axis=1, keepdims=True), "total": x.sum()}

    def backward(self, d):
        n = self.x.shape[1]
        centred = self.x - self.mean[:, None]
        return d["mean"][:, None] / n + 2 / n * centred * d["var"] + d["total"]


@right
def mean_variance_and_total_as_a_dict():
    return given(Moments(), random(3, 4))


class CumulativeSum:
    def forward(self, x):
        return np.cumsum(x, axis=1)

    def backward(self, dy):
        return np.flip(np.cumsum(np.flip(dy, axis=1), axis=1), axis=1)


@right
def cumulative_sum():
    return given(CumulativeSum(), random(2, 5, 2))


class MovingAverage:
    """Exponential, with a learned rate; filled cell by cell."""

    def __init__(self):
        self.rate = np.array([0.3])
        self.rate_grad = np.zeros(1)

    def forward(self, x):
        self.x, self.y = x, np.empty_like(x)
        self.y[0] = x[0]
        for t in range(1, len(x)):
            self.y[t] = (1 - self.rate) * self.y[t - 1] + self.rate * x[t]
        return self.y.copy()

    def backward(self, dy):
        dx, carry = np.zeros_like(self.x), np.zeros(self.x.shape[1:])
        self.rate_grad[:] = 0
        for t in reversed(range(1, len(dy))):
            g = dy[t] + carry
            dx[t] = self.rate * g
            self.rate_grad += (g * (self.x[t] - self.y[t - 1])).sum()
            carry = (1 - self.rate) * g
        dx[0] = dy[0] + carry
        return dx


@right
def moving_average_with_a_learned_rate():
    return given(MovingAverage(), random(6, 2))

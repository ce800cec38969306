"""Mistakes that stand in public projects, as in wrong_public.py: pooling, convolutions, recurrence, attention."""

import numpy as np
from strangers.given import given, random, wrong


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class Pool:
    """Pooling of an image by windows of 2 x 2."""

    def __init__(self, reduce, step, back):
        self.reduce, self.step, self.back = reduce, step, back

    def windows(self, x):
        n = (len(x) - 2) // self.step + 1, (x.shape[1] - 2) // self.step + 1
        for h, w in np.ndindex(*n):
            yield (h, w), (slice(h * self.step, h * self.step + 2), slice(w * self.step, w * self.step + 2))

    def forward(self, x):
        self.x = x
        out = np.zeros(((len(x) - 2) // self.step + 1, (x.shape[1] - 2) // self.step + 1))
        for at, window in self.windows(x):
            out[at] = self.reduce(x[window])
        return out

    def backward(self, dy):
        dx = np.zeros_like(self.x)
        for at, window in self.windows(self.x):
            self.back(dx, self.x, window, at, dy)
        return dx


def largest(x):
    return x == x.max()


@wrong
def overlapping_windows_overwrite():
    """= where += belongs: a cell keeps the gradient of its last window."""

    def back(dx, x, window, at, dy):
        dx[window] = largest(x[window]) * dy[at]

    return given(Pool(np.max, 1, back), random(4, 5))


@wrong
def mean_pooling_with_the_mask_of_a_maximum():
    """Cells that equal the output get dy; none equals a mean."""

    def back(dx, x, window, at, dy):
        dx[window] += (x[window] == x[window].mean()) * dy[at]

    return given(Pool(np.mean, 2, back), random(4, 4))


@wrong
def pooling_with_an_index_of_the_wrong_axis():
    """dy[h, h] where dy[h, w] belongs."""

    def back(dx, x, window, at, dy):
        dx[window] += largest(x[window]) * dy[at[0], at[0]]

    return given(Pool(np.max, 2, back), random(4, 4))


@wrong
def mean_pooling_with_other_steps():
    """forward's windows step by one cell, backward's by two."""

    class MeanPool:
        def forward(self, x):
            return np.array([[x[h : h + 2, w : w + 2].mean() for w in range(2)] for h in range(2)])

        def backward(self, dy):
            return np.kron(dy, np.full((2, 2), 0.25))

    return given(MeanPool(), random(4, 4))


@wrong
def max_pooling_with_height_and_width_swapped():
    """The cells of the gradient are those of an image that lies on its side."""

    class MaxPool:
        def forward(self, x):
            self.x = x
            self.cells = x.reshape(2, 2, 3, 2).swapaxes(1, 2)
            return self.cells.max((2, 3))

        def backward(self, dy):
            here = (self.cells == self.cells.max((2, 3), keepdims=True)) * dy[..., None, None]
            return here.reshape(3, 2, 2, 2).swapaxes(1, 2).reshape(self.x.shape)

    return given(MaxPool(), random(4, 6))


@wrong
def upsampling_takes_one_cell():
    """Each cell of x stands four times in y; backward takes one of the four instead of their sum."""

    class UpSampling:
        def forward(self, x):
            return x.repeat(2, 0).repeat(2, 1)

        def backward(self, dy):
            return dy[::2, ::2]

    return given(UpSampling(), random(3, 4))


class Smooth:
    """A convolution with one kernel, and zeros around the image."""

    def __init__(self, pad):
        self.pad, self.K = pad, random(3, 3, seed=1)

    def forward(self, x):
        self.x = np.pad(x, self.pad)
        n = self.x.shape[0] - 2, self.x.shape[1] - 2
        return np.array([[(self.x[h : h + 3, w : w + 3] * self.K).sum() for w in range(n[1])] for h in range(n[0])])

    def backward(self, dy):
        self.dK, dx = np.zeros((3, 3)), np.zeros_like(self.x)
        for h, w in np.ndindex(dy.shape):
            self.dK += dy[h, w] * self.x[h : h + 3, w : w + 3]
            dx[h : h + 3, w : w + 3] += dy[h, w] * self.K
        return self.cut(dx)


@wrong
def convolution_cuts_everything_off():
    """dx[p:-p] is empty if p is 0."""

    class Cut(Smooth):
        def cut(self, dx):
            return dx[self.pad : -self.pad, self.pad : -self.pad]

    return given(Cut(0), random(4, 4))


@wrong
def convolution_does_not_cut():
    """dx has the shape of the image with zeros around."""

    class Whole(Smooth):
        def cut(self, dx):
            return dx

    return given(Whole(1), random(4, 4))


class Recurrent:
    def __init__(self, through_time, slope):
        self.W, self.U, self.through_time, self.slope = random(3, 4, seed=1), random(4, 4, seed=2), through_time, slope

    def forward(self, x):
        self.x, self.h = x, [np.zeros(4)]
        for row in x:
            self.h.append(np.tanh(row @ self.W + self.h[-1] @ self.U))
        return np.array(self.h[1:])

    def backward(self, dy):
        self.dW, self.dU, dx = np.zeros((3, 4)), np.zeros((4, 4)), np.zeros_like(self.x)
        later = np.zeros(4)
        for t in reversed(range(len(dy))):
            slope = 1 - self.h[t + 1] ** 2
            d = dy[t] * slope + later * (slope if self.slope else 1)
            self.dW += np.outer(self.x[t], d)
            self.dU += np.outer(self.h[t], d)
            dx[t] = self.W @ (d if self.through_time else dy[t] * slope)
            later = self.U @ d
        return dx


@wrong
def recurrent_input_without_later_states():
    """dx holds only the way through the output of the same step."""
    return given(Recurrent(False, True), random(3, 3))


@wrong
def recurrent_without_slope_through_time():
    """On the way to earlier states the slope of tanh is left out."""
    return given(Recurrent(True, False), random(3, 3))


@wrong
def attention_with_slopes_as_a_matrix():
    """The softmax's slopes w (1 - w) are multiplied as a matrix, instead of the Jacobian of each row."""

    def forward(q, k, v):
        return softmax(q @ k.T / 2) @ v

    def backward(dy, q, k, v):
        w = softmax(q @ k.T / 2)
        ds = dy @ v.T @ (w * (1 - w)) / 2
        return ds @ k, ds.T @ q, w.T @ dy

    return given(forward, random(3, 4), random(3, 4, seed=1), random(3, 4, seed=2), backward=backward)

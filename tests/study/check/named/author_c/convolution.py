"""Convolutions and pools with a mistake."""

import numpy as np
from named.given import given, mistake, random


class Conv1d:
    """(B, C, L) with W (O, C, K), no padding; right unless a method is changed."""

    def __init__(self, out, channels, k):
        self.W, self.b = random(out, channels, k, seed=1), random(out, seed=2)

    def forward(self, x):
        self.x, k = x, self.W.shape[2]
        self.n = x.shape[2] - k + 1
        y = sum(np.einsum("bcl,oc->bol", x[:, :, i : i + self.n], self.W[:, :, i]) for i in range(k))
        return y + self.b[:, None]

    def backward(self, dy):
        k = self.W.shape[2]
        self.dW = np.stack([np.einsum("bol,bcl->oc", dy, self.x[:, :, i : i + self.n]) for i in range(k)], 2)
        self.db = self.bias(dy)
        return self.input(dy)

    def bias(self, dy):
        return dy.sum((0, 2))

    def input(self, dy):
        dx = np.zeros_like(self.x)
        for i in range(self.W.shape[2]):
            dx[:, :, i : i + self.n] += np.einsum("bol,oc->bcl", dy, self.W[:, :, i])
        return dx


@mistake("input x", "transposed")
def convolution_with_the_kernel_not_turned():
    """dx uses the kernel's taps in the wrong order."""

    class Layer(Conv1d):
        def input(self, dy):
            dx = np.zeros_like(self.x)
            for i in range(self.W.shape[2]):
                dx[:, :, i : i + self.n] += np.einsum("bol,oc->bcl", dy, self.W[:, :, -1 - i])
            return dx

    return given(Layer(2, 3, 3), random(2, 3, 5))


@mistake("param b", "factor")
def convolution_bias_is_a_mean_over_positions():
    """db is averaged over the positions."""

    class Layer(Conv1d):
        def bias(self, dy):
            return dy.mean(2).sum(0)

    return given(Layer(2, 3, 2), random(2, 3, 6))


@mistake("input x", "repeated ids", "lost term")
def overlapping_windows_overwritten():
    """A position lies in several windows; = keeps the last window's part."""

    class Smooth:
        def __init__(self):
            self.w = random(3, seed=4)

        def forward(self, x):
            self.x = x
            return np.array([x[i : i + 3] @ self.w for i in range(len(x) - 2)])

        def backward(self, dy):
            dx = np.zeros_like(self.x)
            self.dw = np.zeros(3)
            for i, d in enumerate(dy):
                dx[i : i + 3] = d * self.w
                self.dw += d * self.x[i : i + 3]
            return dx

    return given(Smooth(), random(6))


@mistake("input image", "transposed")
def padding_cut_off_one_pixel_too_late():
    """The gradient of the padded image is cut from the wrong corner."""
    kernel = random(3, 3, seed=1)

    def forward(image):
        padded = np.pad(image, 1)
        h, w = image.shape
        return sum(kernel[i, j] * padded[i : i + h, j : j + w] for i in range(3) for j in range(3))

    def backward(dy, image):
        h, w = image.shape
        d = np.zeros((h + 2, w + 2))
        for i in range(3):
            for j in range(3):
                d[i : i + h, j : j + w] += kernel[i, j] * dy
        return d[2:, 2:]

    return given(forward, random(4, 5), backward=backward, constants=[kernel])


@mistake("input x", "mask")
def max_pool_backward_of_an_average_pool():
    """forward takes the largest of two, backward halves the gradient over both."""

    class Pool:
        def forward(self, x):
            return x.reshape(len(x), -1, 2).max(2)

        def backward(self, dy):
            return np.repeat(dy / 2, 2, axis=1)

    return given(Pool(), random(3, 6))


@mistake("input x", "end", "lost term")
def strided_windows_without_the_last():
    """backward's loop ends one window early."""

    class Strided:
        def __init__(self):
            self.W = random(2, 3, seed=6)

        def forward(self, x):  # (B, L) -> (B, n, 3), windows of two with stride two
            self.x = x
            return np.stack([x[:, i : i + 2] @ self.W for i in range(0, x.shape[1] - 1, 2)], 1)

        def backward(self, dy):
            dx = np.zeros_like(self.x)
            self.dW = np.zeros_like(self.W)
            for n in range(dy.shape[1]):
                self.dW += self.x[:, 2 * n : 2 * n + 2].T @ dy[:, n]
            for n in range(dy.shape[1] - 1):
                dx[:, 2 * n : 2 * n + 2] = dy[:, n] @ self.W.T
            return dx

    return given(Strided(), random(2, 6))


@mistake("input x", "factor")
def average_pool_divided_by_one_side():
    """A 2x3 window has six pixels; backward divides by two."""

    def forward(x):
        b, h, w = x.shape
        return x.reshape(b, h // 2, 2, w // 3, 3).mean(axis=(2, 4))

    def backward(dy, x):
        return np.repeat(np.repeat(dy, 2, axis=1), 3, axis=2) / 2

    return given(forward, random(2, 4, 6), backward=backward)


@mistake("input x", "mask")
def global_maximum_spread_to_every_position():
    """Only the largest position may get the gradient."""

    class GlobalMax:
        def forward(self, x):
            self.shape = x.shape
            return x.max(axis=-1)

        def backward(self, dy):
            return np.broadcast_to(dy[..., None], self.shape).copy()

    return given(GlobalMax(), random(2, 3, 4))


@mistake("input x", "lost term", "repeated ids")
def upsampling_gradient_from_every_second_copy():
    """Each value is copied twice; only the first copy's gradient comes back."""
    return given(lambda x: np.repeat(x, 2, axis=-1), random(2, 3), backward=lambda dy, x: dy[..., ::2])


@mistake("param W", "zero")
def depthwise_kernel_gradient_into_a_copy():
    """dW is filled through a fancy index, which is a copy: it stays zero."""

    class Depthwise:
        def __init__(self):
            self.W = random(3, 2, seed=1)
            self.dW = np.zeros((3, 2))

        def forward(self, x):  # (L, 3)
            self.x = x
            return x[:-1] * self.W[:, 0] + x[1:] * self.W[:, 1]

        def backward(self, dy):
            self.dW[:] = 0
            part = self.dW[[0, 1, 2]]
            part[:, 0] += (dy * self.x[:-1]).sum(0)
            part[:, 1] += (dy * self.x[1:]).sum(0)
            dx = np.zeros_like(self.x)
            dx[:-1] += dy * self.W[:, 0]
            dx[1:] += dy * self.W[:, 1]
            return dx

    return given(Depthwise(), random(5, 3))

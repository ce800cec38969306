"""Wrong convolutions, poolings and their companions, written with loops and with im2col."""

import numpy as np
from named.given import given, mistake, random


class Conv2D:
    """Images of shape (N, C, H, W), square kernels, no padding; the wrong backward passes are below."""

    def __init__(self, c_in, c_out, k, stride=1):
        self.W, self.b, self.stride = random(c_out, c_in, k, k, seed=1), random(c_out, seed=2), stride

    def places(self, h, w):
        k, s = self.W.shape[-1], self.stride
        return [(i, j) for i in range((h - k) // s + 1) for j in range((w - k) // s + 1)]

    def forward(self, x):
        self.x, k, s = x, self.W.shape[-1], self.stride
        n, _, h, w = x.shape
        y = np.zeros((n, len(self.W), (h - k) // s + 1, (w - k) // s + 1))
        for i, j in self.places(h, w):
            y[:, :, i, j] = np.tensordot(x[:, :, i * s : i * s + k, j * s : j * s + k], self.W, ((1, 2, 3), (1, 2, 3)))
        return y + self.b[:, None, None]

    def parameter_gradients(self, dy):
        k, s = self.W.shape[-1], self.stride
        self.dW, self.db = np.zeros_like(self.W), dy.sum((0, 2, 3))
        for i, j in self.places(*self.x.shape[2:]):
            part = self.x[:, :, i * s : i * s + k, j * s : j * s + k]
            self.dW += np.tensordot(dy[:, :, i, j], part, (0, 0))

    def input_gradient(self, dy):
        k, s, dx = self.W.shape[-1], self.stride, np.zeros_like(self.x)
        for i, j in self.places(*self.x.shape[2:]):
            dx[:, :, i * s : i * s + k, j * s : j * s + k] += np.tensordot(dy[:, :, i, j], self.W, (1, 0))
        return dx


@mistake("input x", "transposed")
def stride_forgotten_in_backward():
    """The patches of dx start at i, not at i * stride. Public thread: "stride missing in conv_backward"."""

    class Conv(Conv2D):
        def backward(self, dy):
            self.parameter_gradients(dy)
            k, dx = self.W.shape[-1], np.zeros_like(self.x)
            for i, j in self.places(*self.x.shape[2:]):
                dx[:, :, i : i + k, j : j + k] += np.tensordot(dy[:, :, i, j], self.W, (1, 0))
            return dx

    return given(Conv(2, 3, 2, stride=2), random(2, 2, 6, 4))


@mistake("input x", "repeated ids", "lost term")
def overlapping_patches_overwritten():
    """Patches are assigned, not added. Public threads: why col2im says += and not =."""

    class Conv(Conv2D):
        def backward(self, dy):
            self.parameter_gradients(dy)
            k, dx = self.W.shape[-1], np.zeros_like(self.x)
            for i, j in self.places(*self.x.shape[2:]):
                dx[:, :, i : i + k, j : j + k] = np.tensordot(dy[:, :, i, j], self.W, (1, 0))
            return dx

    return given(Conv(1, 2, 3), random(2, 1, 5, 4))


@mistake("param b", "one example")
def convolution_bias_of_one_image():
    """db is summed over the picture, and taken from the first one of the batch."""

    class Conv(Conv2D):
        def backward(self, dy):
            self.parameter_gradients(dy)
            self.db = dy.sum(axis=(2, 3))[0]
            return self.input_gradient(dy)

    return given(Conv(2, 3, 2), random(4, 2, 3, 4))


@mistake("param W", "transposed")
def kernel_gradient_from_columns_in_another_layout():
    """The columns are (k, k, C), and the kernel's gradient is reshaped to (C, k, k)."""

    class Conv(Conv2D):
        def backward(self, dy):
            self.parameter_gradients(dy)
            columns = self.dW.transpose(0, 2, 3, 1).reshape(len(self.W), -1)
            self.dW = columns.reshape(self.W.shape)
            return self.input_gradient(dy)

    return given(Conv(2, 3, 2), random(2, 2, 4, 3))


@mistake("input x", "transposed")
def full_convolution_with_the_kernel_as_it_is():
    """dx is the full correlation of dy with the kernel; the kernel must be turned round."""

    class Conv1D:
        def __init__(self):
            self.w = random(3, seed=1)

        def forward(self, x):
            self.x = x
            return np.correlate(x, self.w, "valid")

        def backward(self, dy):
            self.dw = np.correlate(self.x, dy, "valid")
            return np.correlate(dy, self.w, "full")

    return given(Conv1D(), random(7))


@mistake("input x", "end")
def padded_convolution_loses_the_last_column():
    """With padding 1 the crop of the padded gradient starts at 1, and its end is cut off and filled with zero."""

    class SameConv:
        def __init__(self):
            self.w = random(3, seed=1)

        def forward(self, x):
            self.xp = np.pad(x, ((0, 0), (1, 1)))
            return sum(self.w[i] * self.xp[:, i : i + x.shape[1]] for i in range(3))

        def backward(self, dy):
            t, dxp = dy.shape[1], np.zeros_like(self.xp)
            for i in range(3):
                dxp[:, i : i + t] += self.w[i] * dy
            self.dw = np.array([(dy * self.xp[:, i : i + t]).sum() for i in range(3)])
            dx = np.zeros_like(dy)
            dx[:, :-1] = dxp[:, 1:-2]
            return dx

    return given(SameConv(), random(2, 6))


@mistake("input x", "one example", "lost term", "mask")
def max_pooling_returns_after_the_first_patch():
    """The return stands inside the loop. Public thread: most gradients of a max pooling were zero because of it."""

    class MaxPool:
        def forward(self, x):
            self.x = x
            h, w = x.shape
            return x.reshape(h // 2, 2, w // 2, 2).max(axis=(1, 3))

        def backward(self, dE_dY):
            dE_dx = np.zeros_like(self.x)
            for i in range(dE_dY.shape[0]):
                for j in range(dE_dY.shape[1]):
                    patch = self.x[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                    dE_dx[2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = (patch == patch.max()) * dE_dY[i, j]
                return dE_dx

    return given(MaxPool(), random(6, 4))


@mistake("input x", "factor")
def average_pooling_without_the_average():
    """The gradient is spread over the window, and not divided by its size."""

    class AvgPool:
        def forward(self, x):
            n, c, h, w = x.shape
            return x.reshape(n, c, h // 2, 2, w // 3, 3).mean(axis=(3, 5))

        def backward(self, dout):
            return dout.repeat(2, axis=2).repeat(3, axis=3)

    return given(AvgPool(), random(2, 3, 4, 6))


@mistake("input x", "lost term", "one example")
def upsampling_keeps_one_of_four():
    """The gradient of doubling a picture takes every other pixel, where four are to be summed."""

    class Upsample:
        def forward(self, x):
            return x.repeat(2, axis=-2).repeat(2, axis=-1)

        def backward(self, dy):
            return dy[..., ::2, ::2]

    return given(Upsample(), random(2, 3, 4))


@mistake("input x", "factor")
def batch_norm_of_pictures_counts_images_only():
    """The sums over (N, H, W) are divided by N."""

    class BatchNorm2D:
        def forward(self, x):
            self.std = np.sqrt(x.var((0, 2, 3), keepdims=True) + 1e-5)
            self.xhat = (x - x.mean((0, 2, 3), keepdims=True)) / self.std
            return self.xhat

        def backward(self, dy):
            m = dy.shape[0]
            s1 = dy.sum((0, 2, 3), keepdims=True)
            s2 = (dy * self.xhat).sum((0, 2, 3), keepdims=True)
            return (dy - s1 / m - self.xhat * s2 / m) / self.std

    return given(BatchNorm2D(), random(3, 2, 2, 4))

"""Wrong convolutions and pooling."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from strangers.given import given, random, wrong


class Conv2D:
    """A right convolution by loops: (N, C, H, W) with padding and stride."""

    def __init__(self, c_in, c_out, k=3, stride=1, pad=1):
        self.W = random(c_out, c_in, k, k, seed=1) / k
        self.b = random(c_out, seed=2)
        self.k, self.stride, self.pad = k, stride, pad

    def windows(self, height, width):
        for i in range((height - self.k) // self.stride + 1):
            for j in range((width - self.k) // self.stride + 1):
                r, c = i * self.stride, j * self.stride
                yield i, j, slice(r, r + self.k), slice(c, c + self.k)

    def forward(self, x):
        p = self.pad
        self.xp = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
        n, _, h, w = self.xp.shape
        out = np.zeros((n, len(self.W), (h - self.k) // self.stride + 1, (w - self.k) // self.stride + 1))
        for i, j, rows, cols in self.windows(h, w):
            out[:, :, i, j] = np.tensordot(self.xp[:, :, rows, cols], self.W, axes=([1, 2, 3], [1, 2, 3])) + self.b
        return out

    def add(self, dxp, rows, cols, grad):
        dxp[:, :, rows, cols] += grad

    def backward(self, dy):
        dxp = np.zeros_like(self.xp)
        self.dW = np.zeros_like(self.W)
        self.db = dy.sum(axis=(0, 2, 3))
        for i, j, rows, cols in self.windows(*self.xp.shape[2:]):
            self.dW += np.tensordot(dy[:, :, i, j], self.xp[:, :, rows, cols], axes=([0], [0]))
            self.add(dxp, rows, cols, np.tensordot(dy[:, :, i, j], self.W, axes=([1], [0])))
        return self.crop(dxp)

    def crop(self, dxp):
        p = self.pad
        return dxp[:, :, p : dxp.shape[2] - p, p : dxp.shape[3] - p]


@wrong
def convolution_overwrites_overlapping_windows():
    """Overlapping windows overwrite each other in dx instead of adding up."""

    class Layer(Conv2D):
        def add(self, dxp, rows, cols, grad):
            dxp[:, :, rows, cols] = grad

    return given(Layer(2, 3), random(1, 2, 4, 4))


@wrong
def convolution_crops_padding_at_one_end():
    """The padding is cut off from the end only."""

    class Layer(Conv2D):
        def crop(self, dxp):
            return dxp[:, :, : -2 * self.pad, : -2 * self.pad]

    return given(Layer(1, 2), random(2, 1, 4, 3))


@wrong
def convolution_bias_of_first_image():
    """db sums over the places of the first image only."""

    class Layer(Conv2D):
        def backward(self, dy):
            dx = super().backward(dy)
            self.db = dy[0].sum(axis=(1, 2))
            return dx

    return given(Layer(2, 2, k=2, pad=0), random(3, 2, 3, 3))


@wrong
def strided_convolution_with_unstrided_weight_gradient():
    """dW reads the windows as if the stride were one."""

    class Layer(Conv2D):
        def backward(self, dy):
            dx = super().backward(dy)
            self.dW = np.zeros_like(self.W)
            for i in range(dy.shape[2]):
                for j in range(dy.shape[3]):
                    window = self.xp[:, :, i : i + self.k, j : j + self.k]
                    self.dW += np.einsum("nf,nchw->fchw", dy[:, :, i, j], window)
            return dx

    return given(Layer(1, 2, k=2, stride=2, pad=0), random(2, 1, 6, 4))


@wrong
def signal_convolution_without_flip():
    """dx slides the kernel over dy in the wrong direction."""

    def forward(x, kernel):
        return np.convolve(x, kernel, mode="valid")

    def backward(dy, x, kernel):
        dx = np.convolve(dy, kernel, mode="full")
        dk = np.correlate(x, dy, mode="valid")[::-1]
        return dx, dk

    return given(forward, random(8), random(3, seed=1), backward=backward)


@wrong
def depthwise_convolution_keeps_last_image():
    """The kernel's gradient is that of the last image of the batch."""

    class Depthwise:
        def __init__(self, channels, k):
            self.kernel = random(channels, k, seed=3)
            self.grad_kernel = np.zeros_like(self.kernel)

        def forward(self, x):
            self.windows = sliding_window_view(x, self.kernel.shape[1], axis=2)
            self.length = x.shape[2]
            return np.einsum("nclk,ck->ncl", self.windows, self.kernel)

        def backward(self, dy):
            n, c, steps = dy.shape
            dx = np.zeros((n, c, self.length))
            for i in range(n):
                self.grad_kernel = np.einsum("cl,clk->ck", dy[i], self.windows[i])
            for k in range(self.kernel.shape[1]):
                dx[:, :, k : k + steps] += dy * self.kernel[:, k][None, :, None]
            return dx

    return given(Depthwise(2, 3), random(3, 2, 6))


@wrong
def dilated_convolution_without_dilation_in_backward():
    """dx forgets the dilation."""

    class Dilated:
        def __init__(self, dilation=2):
            self.w = random(2, seed=1)
            self.dilation = dilation

        def forward(self, x):
            d = self.dilation
            self.x = x
            y = self.w[1] * x
            y[:, d:] += self.w[0] * x[:, :-d]
            return y

        def backward(self, dy):
            d = self.dilation
            self.dw = np.array([np.sum(dy[:, d:] * self.x[:, :-d]), np.sum(dy * self.x)])
            dx = self.w[1] * dy
            dx[:, :-1] += self.w[0] * dy[:, 1:]
            return dx

    return given(Dilated(), random(2, 6))


@wrong
def pointwise_convolution_with_channels_transposed():
    """dx contracts the wrong axis of a square channel matrix."""

    def forward(x, w):
        return np.einsum("bchw,cd->bdhw", x, w)

    def backward(dy, x, w):
        return np.einsum("bdhw,dc->bchw", dy, w), np.einsum("bchw,bdhw->cd", x, dy)

    return given(forward, random(2, 3, 2, 2), random(3, 3, seed=1), backward=backward)


@wrong
def max_pool_sends_gradient_to_first_cell():
    """dy goes to the first cell of each window, not to the largest."""

    class MaxPool:
        def forward(self, x):
            self.shape = x.shape
            n, c, h, w = x.shape
            return x.reshape(n, c, h // 2, 2, w // 2, 2).max(axis=(3, 5))

        def backward(self, dy):
            dx = np.zeros(self.shape)
            dx[:, :, ::2, ::2] = dy
            return dx

    return given(MaxPool(), random(1, 2, 4, 4))


@wrong
def overlapping_max_pool_overwrites():
    """A cell that is the largest of two windows gets the gradient of the second one only."""

    class MaxPool1D:
        def forward(self, x):
            self.x = x
            return np.array([x[i : i + 3].max() for i in range(len(x) - 2)])

        def backward(self, dy):
            dx = np.zeros_like(self.x)
            for i, g in enumerate(dy):
                dx[i + np.argmax(self.x[i : i + 3])] = g
            return dx

    return given(MaxPool1D(), random(8))


@wrong
def mean_pool_without_window_size():
    """dy is not divided by the four cells of a window."""

    class MeanPool:
        def forward(self, x):
            return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4

        def backward(self, dy):
            return dy.repeat(2, axis=1).repeat(2, axis=2)

    return given(MeanPool(), random(2, 4, 4))


@wrong
def global_mean_divided_by_height_only():
    """The global mean over height and width is divided by the height only."""

    class GlobalMean:
        def forward(self, x):
            self.shape = x.shape
            return x.mean(axis=(2, 3))

        def backward(self, dy):
            return np.broadcast_to(dy[:, :, None, None] / self.shape[2], self.shape)

    return given(GlobalMean(), random(2, 3, 2, 4))


@wrong
def upsampling_takes_mean():
    """Each cell was copied four times: the gradient is their sum, not their mean."""

    def forward(x):
        return np.kron(x, np.ones((2, 2)))

    def backward(dy, x):
        h, w = x.shape
        return dy.reshape(h, 2, w, 2).mean(axis=(1, 3))

    return given(forward, random(2, 3), backward=backward)


@wrong
def causal_convolution_wrong_at_last_step():
    """The last time step gets no gradient."""

    def forward(x, w):
        padded = np.concatenate([np.zeros((2,) + x.shape[1:]), x])
        return w[0] * padded[:-2] + w[1] * padded[1:-1] + w[2] * padded[2:]

    def backward(dy, x, w):
        padded = np.concatenate([np.zeros((2,) + x.shape[1:]), x])
        dx = np.zeros_like(x)
        for t in range(len(x) - 1):
            dx[t] = w[2] * dy[t] + w[1] * dy[t + 1]
            if t + 2 < len(x):
                dx[t] += w[0] * dy[t + 2]
        dw = np.array([(dy * padded[:-2]).sum(), (dy * padded[1:-1]).sum(), (dy * padded[2:]).sum()])
        return dx, dw

    return given(forward, random(5, 2), random(3, seed=1), backward=backward)

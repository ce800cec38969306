"""Convolutions by loops, by im2col, by strided views."""

import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view
from strangers.given import given, random, right


class Conv1DLoops:
    def __init__(self, c_in, c_out, k, stride=1):
        rng = np.random.default_rng(1)
        self.W = rng.normal(size=(c_out, c_in, k)) / np.sqrt(c_in * k)
        self.b = np.zeros(c_out)
        self.k, self.stride = k, stride

    def forward(self, x):
        self.x = x
        steps = (x.shape[2] - self.k) // self.stride + 1
        y = np.zeros((x.shape[0], len(self.b), steps))
        for t in range(steps):
            window = x[:, :, t * self.stride : t * self.stride + self.k]
            for o in range(len(self.b)):
                y[:, o, t] = np.sum(window * self.W[o], axis=(1, 2)) + self.b[o]
        return y

    def backward(self, dy):
        self.dW, self.db = np.zeros_like(self.W), np.zeros_like(self.b)
        dx = np.zeros_like(self.x)
        for t in range(dy.shape[2]):
            here = slice(t * self.stride, t * self.stride + self.k)
            for o in range(dy.shape[1]):
                g = dy[:, o, t][:, None, None]
                self.dW[o] += (g * self.x[:, :, here]).sum(axis=0)
                self.db[o] += dy[:, o, t].sum()
                dx[:, :, here] += g * self.W[o]
        return dx


@right
def conv1d_by_loops():
    return given(Conv1DLoops(2, 3, 3), random(2, 2, 6))


@right
def conv1d_by_loops_with_a_stride_that_leaves_a_rest():
    return given(Conv1DLoops(2, 2, 2, stride=3), random(1, 2, 10))


class Conv2DLoops:
    def __init__(self, filters, channels, size, pad):
        rng = np.random.RandomState(2)
        self.kernels = rng.randn(filters, channels, size, size) * 0.3
        self.biases = rng.randn(filters)
        self.pad, self.size = pad, size

    def forward(self, image):
        p, s = self.pad, self.size
        self.padded = np.pad(image, ((0, 0), (0, 0), (p, p), (p, p)), mode="constant")
        n, _, h, w = self.padded.shape
        out = np.zeros((n, len(self.kernels), h - s + 1, w - s + 1))
        for b in range(n):
            for f in range(len(self.kernels)):
                for i in range(h - s + 1):
                    for j in range(w - s + 1):
                        patch = self.padded[b, :, i : i + s, j : j + s]
                        out[b, f, i, j] = np.sum(patch * self.kernels[f]) + self.biases[f]
        return out

    def backward(self, dout):
        s, p = self.size, self.pad
        self.dkernels, self.dbiases = np.zeros(self.kernels.shape), np.zeros(self.biases.shape)
        dpadded = np.zeros(self.padded.shape)
        for b, f, i, j in np.ndindex(*dout.shape):
            g = dout[b, f, i, j]
            self.dkernels[f] += g * self.padded[b, :, i : i + s, j : j + s]
            self.dbiases[f] += g
            dpadded[b, :, i : i + s, j : j + s] += g * self.kernels[f]
        return dpadded[:, :, p:-p, p:-p] if p else dpadded


@right
def conv2d_by_loops_with_padding():
    return given(Conv2DLoops(2, 2, 3, pad=1), random(1, 2, 4, 3))


def im2col(x, fh, fw, stride, pad):
    n, c, h, w = x.shape
    oh, ow = (h + 2 * pad - fh) // stride + 1, (w + 2 * pad - fw) // stride + 1
    img = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)], "constant")
    col = np.zeros((n, c, fh, fw, oh, ow))
    for i in range(fh):
        for j in range(fw):
            col[:, :, i, j] = img[:, :, i : i + stride * oh : stride, j : j + stride * ow : stride]
    return col.transpose(0, 4, 5, 1, 2, 3).reshape(n * oh * ow, -1)


def col2im(col, shape, fh, fw, stride, pad):
    n, c, h, w = shape
    oh, ow = (h + 2 * pad - fh) // stride + 1, (w + 2 * pad - fw) // stride + 1
    col = col.reshape(n, oh, ow, c, fh, fw).transpose(0, 3, 4, 5, 1, 2)
    img = np.zeros((n, c, h + 2 * pad, w + 2 * pad))
    for i in range(fh):
        for j in range(fw):
            img[:, :, i : i + stride * oh : stride, j : j + stride * ow : stride] += col[:, :, i, j]
    return img[:, :, pad : pad + h, pad : pad + w]


class ConvIm2col:
    def __init__(self, W, b, stride=1, pad=0):
        self.params = {"W": W, "b": b}
        self.stride, self.pad = stride, pad

    def forward(self, x):
        W = self.params["W"]
        f, _, fh, fw = W.shape
        self.shape = x.shape
        self.col = im2col(x, fh, fw, self.stride, self.pad)
        oh = (x.shape[2] + 2 * self.pad - fh) // self.stride + 1
        out = self.col @ W.reshape(f, -1).T + self.params["b"]
        return out.reshape(x.shape[0], oh, -1, f).transpose(0, 3, 1, 2)

    def backward(self, dout):
        W = self.params["W"]
        f, _, fh, fw = W.shape
        d = dout.transpose(0, 2, 3, 1).reshape(-1, f)
        self.grads = {"W": (d.T @ self.col).reshape(W.shape), "b": d.sum(axis=0)}
        return col2im(d @ W.reshape(f, -1), self.shape, fh, fw, self.stride, self.pad)


@right
def conv2d_by_im2col_with_a_buffer():
    return given(ConvIm2col(random(2, 3, 3, 2, seed=1), random(2, seed=2), stride=2, pad=1), random(2, 3, 5, 4))


class IndexConv:
    """im2col by an index table and np.add.at; channels last."""

    def __init__(self, k, c_in, c_out):
        rng = np.random.default_rng(3)
        self.k = k
        self.params = [rng.normal(size=(k * k * c_in, c_out)), rng.normal(size=c_out)]
        self.grads = [None, None]

    def forward(self, x):
        n, h, w, c = x.shape
        oh, ow, k = h - self.k + 1, w - self.k + 1, self.k
        rows = np.arange(oh)[:, None, None, None] + np.arange(k)[None, None, :, None]
        columns = np.arange(ow)[None, :, None, None] + np.arange(k)[None, None, None, :]
        self.where, self.shape = (slice(None), rows, columns), x.shape
        self.patches = x[self.where].reshape(n, oh, ow, k * k * c)
        return self.patches @ self.params[0] + self.params[1]

    def backward(self, dy):
        self.grads[0] = np.tensordot(self.patches, dy, axes=([0, 1, 2], [0, 1, 2]))
        self.grads[1] = dy.sum(axis=(0, 1, 2))
        d_patches = dy @ self.params[0].T
        n, oh, ow, _ = d_patches.shape
        dx = np.zeros(self.shape)
        np.add.at(dx, self.where, d_patches.reshape(n, oh, ow, self.k, self.k, -1))
        return dx


@right
def conv2d_with_an_index_table_and_channels_last():
    return given(IndexConv(2, 2, 3), random(2, 4, 3, 2))


class StridedConv:
    """Windows by as_strided."""

    def __init__(self, out_channels, in_channels, k):
        self.weight = np.random.default_rng(4).normal(size=(out_channels, in_channels, k, k)) * 0.2

    def windows(self, x):
        n, c, h, w = x.shape
        k = self.weight.shape[-1]
        s = x.strides
        return as_strided(x, (n, c, h - k + 1, w - k + 1, k, k), s + s[2:])

    def forward(self, x):
        self.x = np.ascontiguousarray(x)
        return np.einsum("ncijkl,ockl->noij", self.windows(self.x), self.weight)

    def backward(self, dy):
        self.weight_grad = np.einsum("ncijkl,noij->ockl", self.windows(self.x), dy)
        edge = self.weight.shape[-1] - 1
        padded = np.pad(dy, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
        flipped = self.weight[:, :, ::-1, ::-1]
        return np.einsum("noijkl,ockl->ncij", self.windows(padded), flipped)


@right
def conv2d_by_as_strided():
    return given(StridedConv(3, 2, 2), random(2, 2, 4, 5))


class CausalConv:
    """Sliding windows over time, padded on the left, dilated."""

    def __init__(self, channels, k, dilation):
        rng = np.random.default_rng(5)
        self.w, self.b = rng.normal(size=(k, channels, channels)) * 0.5, np.zeros(channels)
        self.dilation = dilation

    def forward(self, x):
        self.reach = (len(self.w) - 1) * self.dilation
        padded = np.pad(x, ((0, 0), (self.reach, 0), (0, 0)))
        self.windows = sliding_window_view(padded, self.reach + 1, axis=1)[..., :: self.dilation]
        return np.einsum("btck,kcd->btd", self.windows, self.w) + self.b

    def backward(self, dy):
        self.dw = np.einsum("btck,btd->kcd", self.windows, dy)
        self.db = dy.sum((0, 1))
        t = dy.shape[1]
        dx = np.zeros((dy.shape[0], t + self.reach, self.w.shape[1]))
        for k in range(len(self.w)):
            dx[:, k * self.dilation : k * self.dilation + t] += dy @ self.w[k].T
        return dx[:, self.reach :]


@right
def causal_convolution_with_dilation():
    return given(CausalConv(3, 3, 2), random(2, 7, 3))


class DepthwiseConv:
    def __init__(self, channels, k):
        self.filters = np.random.default_rng(6).normal(size=(channels, k))
        self.d_filters = np.zeros_like(self.filters)

    def forward(self, x):
        self.x = x
        return np.stack([[np.convolve(row, f, mode="same") for row, f in zip(sample, self.filters)] for sample in x])

    def backward(self, dy):
        k = self.filters.shape[1]
        half = (k - 1) // 2
        length = self.x.shape[2]
        self.d_filters[:] = 0
        dx = np.zeros(self.x.shape)
        for shift in range(k):
            for t in range(length):
                source = t + half - shift
                if 0 <= source < length:
                    self.d_filters[:, shift] += (dy[:, :, t] * self.x[:, :, source]).sum(axis=0)
                    dx[:, :, source] += dy[:, :, t] * self.filters[:, shift]
        return dx


@right
def depthwise_convolution_by_np_convolve():
    return given(DepthwiseConv(3, 3), random(2, 3, 6))


class ConvTranspose:
    def __init__(self, c_in, c_out, k, stride):
        rng = np.random.default_rng(7)
        self.W, self.b, self.stride = rng.normal(size=(c_in, c_out, k)), rng.normal(size=(c_out, 1)), stride

    def forward(self, x):
        self.x = x
        k = self.W.shape[2]
        y = np.zeros((x.shape[0], self.W.shape[1], (x.shape[2] - 1) * self.stride + k))
        for t in range(x.shape[2]):
            y[:, :, t * self.stride : t * self.stride + k] += np.tensordot(x[:, :, t], self.W, axes=1)
        y += self.b
        return y

    def backward(self, dy):
        k = self.W.shape[2]
        grads = {"dW": np.zeros_like(self.W), "db": dy.sum(axis=(0, 2)).reshape(-1, 1)}
        dx = np.empty_like(self.x)
        for t in range(self.x.shape[2]):
            piece = dy[:, :, t * self.stride : t * self.stride + k]
            dx[:, :, t] = np.tensordot(piece, self.W, axes=([1, 2], [1, 2]))
            grads["dW"] += np.tensordot(self.x[:, :, t], piece, axes=(0, 0))
        grads["dx"] = dx
        return grads


@right
def transposed_convolution_that_returns_a_dict():
    return given(ConvTranspose(2, 3, 3, 2), random(2, 2, 4))


class WindowedFrames:
    """Frames times a fixed window, then a learned projection."""

    def __init__(self, size, hop, m):
        self.window = np.hanning(size + 2)[1:-1]
        self.projection = np.random.default_rng(8).normal(size=(size, m))
        self.size, self.hop = size, hop

    def forward(self, signal):
        self.length = len(signal)
        frames = sliding_window_view(signal, self.size)[:: self.hop]
        self.frames = frames * self.window
        return self.frames @ self.projection

    def backward(self, dy):
        self.grad_projection = self.frames.T @ dy
        d = dy @ self.projection.T * self.window
        dx = np.zeros(self.length)
        for i, row in enumerate(d):
            dx[i * self.hop : i * self.hop + self.size] += row
        return dx


@right
def frames_with_a_fixed_window():
    return given(WindowedFrames(6, 2, 3), random(14), constants=["window"])

"""Convolutions and pooling as pairs of functions."""

import numpy as np
from strangers.given import given, random, right


@right
def convolution_by_four_loops():
    def conv_forward(x, w, b, conv_param):
        stride, pad = conv_param["stride"], conv_param["pad"]
        n, c, height, width = x.shape
        f, _, hh, ww = w.shape
        xp = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="constant")
        rows = 1 + (height + 2 * pad - hh) // stride
        cols = 1 + (width + 2 * pad - ww) // stride
        out = np.zeros((n, f, rows, cols))
        for i in range(n):
            for k in range(f):
                for r in range(rows):
                    for s in range(cols):
                        window = xp[i, :, r * stride : r * stride + hh, s * stride : s * stride + ww]
                        out[i, k, r, s] = np.sum(window * w[k]) + b[k]
        return out, (x, w, b, conv_param)

    def conv_backward(dout, cache):
        x, w, b, conv_param = cache
        stride, pad = conv_param["stride"], conv_param["pad"]
        xp = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        dxp, dw, db = np.zeros_like(xp), np.zeros_like(w), np.zeros_like(b)
        hh, ww = w.shape[2:]
        n, f, rows, cols = dout.shape
        for i in range(n):
            for k in range(f):
                db[k] += dout[i, k].sum()
                for r in range(rows):
                    for s in range(cols):
                        place = (i, slice(None), slice(r * stride, r * stride + hh), slice(s * stride, s * stride + ww))
                        dw[k] += dout[i, k, r, s] * xp[place]
                        dxp[place] += dout[i, k, r, s] * w[k]
        dx = dxp[:, :, pad:-pad, pad:-pad]
        return dx, dw, db

    return given(
        conv_forward,
        random(2, 2, 5, 5),
        random(3, 2, 3, 3, seed=1),
        random(3, seed=2),
        {"stride": 2, "pad": 1},
        backward=conv_backward,
    )


def im2col_indices(channels, size, kernel, stride, pad):
    steps = (size + 2 * pad - kernel) // stride + 1
    offset = np.arange(kernel)
    start = stride * np.arange(steps)
    row = np.tile(np.repeat(offset, kernel), channels)[:, None] + np.repeat(start, steps)[None, :]
    col = np.tile(np.tile(offset, kernel), channels)[:, None] + np.tile(start, steps)[None, :]
    channel = np.repeat(np.arange(channels), kernel * kernel)[:, None]
    return channel, row, col, steps


@right
def convolution_by_im2col():
    def forward(x, w, b, stride=1, pad=1):
        n, c, size, _ = x.shape
        filters, _, kernel, _ = w.shape
        padded = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
        channel, row, col, steps = im2col_indices(c, size, kernel, stride, pad)
        columns = padded[:, channel, row, col]
        out = w.reshape(filters, -1) @ columns + b.reshape(-1, 1)
        cache = {"columns": columns, "w": w, "shape": padded.shape, "at": (channel, row, col), "pad": pad}
        return out.reshape(n, filters, steps, steps), cache

    def backward(dout, cache):
        w, pad = cache["w"], cache["pad"]
        n, filters = dout.shape[:2]
        flat = dout.reshape(n, filters, -1)
        db = flat.sum(axis=(0, 2))
        dw = np.einsum("nfp,ncp->fc", flat, cache["columns"]).reshape(w.shape)
        dcolumns = w.reshape(filters, -1).T @ flat
        dpadded = np.zeros(cache["shape"])
        channel, row, col = cache["at"]
        np.add.at(dpadded, (slice(None), channel, row, col), dcolumns)
        return dpadded[:, :, pad:-pad, pad:-pad], dw, db

    return given(forward, random(2, 2, 4, 4), random(3, 2, 3, 3, seed=1), random(3, seed=2), backward=backward)


@right
def convolution_with_the_stride_as_keyword():
    def conv1d(x, kernel, stride=1):
        length = (len(x) - len(kernel)) // stride + 1
        return np.array([x[i * stride : i * stride + len(kernel)] @ kernel for i in range(length)])

    def conv1d_gradient(dy, x, kernel, stride=1):
        dx, dkernel = np.zeros_like(x), np.zeros_like(kernel)
        for i, g in enumerate(dy):
            here = slice(i * stride, i * stride + len(kernel))
            dx[here] += g * kernel
            dkernel += g * x[here]
        return dx, dkernel

    return given(conv1d, random(11), random(3, seed=1), stride=2, backward=conv1d_gradient)


@right
def one_dimensional_convolution_by_np_convolve():
    def forward(signal, kernel):
        return np.convolve(signal, kernel, mode="valid")

    def backward(dy, signal, kernel):
        dsignal = np.convolve(dy, kernel[::-1], mode="full")
        dkernel = np.correlate(signal, dy, mode="valid")[::-1]
        return dsignal, dkernel

    return given(forward, random(9), random(4, seed=1), backward=backward)


@right
def full_convolution_multiplies_polynomials():
    def forward(p, q):
        return np.convolve(p, q), (p, q)

    def backward(dr, cache):
        p, q = cache
        return np.correlate(dr, q, mode="valid"), np.correlate(dr, p, mode="valid")

    return given(forward, random(5), random(3, seed=1), backward=backward)


@right
def depthwise_convolution_by_sliding_windows():
    def forward(x, w):
        windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[1], axis=-1)
        return np.einsum("nctk,ck->nct", windows, w), [windows, w]

    def backward(dout, cache):
        windows, w = cache
        dw = np.einsum("nct,nctk->ck", dout, windows)
        steps, kernel = windows.shape[2:]
        dx = np.zeros(windows.shape[:2] + (steps + kernel - 1,))
        for k in range(kernel):
            dx[:, :, k : k + steps] += dout * w[:, k, None]
        return dx, dw

    return given(forward, random(2, 3, 7), random(3, 3, seed=1), backward=backward)


@right
def smoothing_with_repeated_edges():
    """np.pad in mode "edge" gives the first and the last cell several places, whose gradients add up."""

    def forward(x, w):
        padded = np.pad(x, ((0, 0), (2, 2)), mode="edge")
        out = sum(w[k] * padded[:, k : k + x.shape[1]] for k in range(5))
        return out, (padded, w)

    def backward(dout, cache):
        padded, w = cache
        steps = dout.shape[1]
        dw = np.array([np.sum(dout * padded[:, k : k + steps]) for k in range(5)])
        dpadded = np.zeros_like(padded)
        for k in range(5):
            dpadded[:, k : k + steps] += w[k] * dout
        dx = dpadded[:, 2:-2].copy()
        dx[:, 0] += dpadded[:, :2].sum(axis=1)
        dx[:, -1] += dpadded[:, -2:].sum(axis=1)
        return dx, dw

    return given(forward, random(3, 6), random(5, seed=1), backward=backward)


@right
def transposed_convolution():
    def forward(x, w, stride):
        out = np.zeros((len(x), (x.shape[1] - 1) * stride + len(w)))
        for t in range(x.shape[1]):
            out[:, t * stride : t * stride + len(w)] += x[:, t : t + 1] * w
        return out

    def backward(dy, x, w, stride):
        dx, dw = np.zeros_like(x), np.zeros_like(w)
        for t in range(x.shape[1]):
            piece = dy[:, t * stride : t * stride + len(w)]
            dx[:, t] = piece @ w
            dw += x[:, t] @ piece
        return dx, dw

    return given(forward, random(2, 4), random(3, seed=1), 2, backward=backward)


@right
def max_pool_by_loops():
    def max_pool_forward(x, pool_param):
        ph, pw, stride = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
        n, c, h, w = x.shape
        out = np.zeros((n, c, (h - ph) // stride + 1, (w - pw) // stride + 1))
        for i in range(out.shape[2]):
            for j in range(out.shape[3]):
                out[:, :, i, j] = x[:, :, i * stride : i * stride + ph, j * stride : j * stride + pw].max(axis=(2, 3))
        return out, (x, pool_param)

    def max_pool_backward(dout, cache):
        x, pool_param = cache
        ph, pw, stride = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
        dx = np.zeros_like(x)
        for n, c, i, j in np.ndindex(*dout.shape):
            window = x[n, c, i * stride : i * stride + ph, j * stride : j * stride + pw]
            r, s = np.unravel_index(np.argmax(window), window.shape)
            dx[n, c, i * stride + r, j * stride + s] += dout[n, c, i, j]
        return dx

    return given(
        max_pool_forward,
        random(2, 2, 5, 5),
        {"pool_height": 3, "pool_width": 3, "stride": 2},
        backward=max_pool_backward,
    )


@right
def max_pool_by_reshape():
    def forward(x):
        n, c, h, w = x.shape
        blocks = x.reshape(n, c, h // 2, 2, w // 2, 2)
        out = blocks.max(axis=3).max(axis=4)
        return out, (x, blocks, out)

    def backward(dout, cache):
        x, blocks, out = cache
        chosen = blocks == out[:, :, :, None, :, None]
        return (chosen * dout[:, :, :, None, :, None]).reshape(x.shape)

    return given(forward, random(1, 2, 4, 6), backward=backward)


@right
def max_pool_of_whole_numbers_with_ties():
    """Every window has equal largest cells; the first one takes the whole gradient."""

    def forward(x):
        windows = x.reshape(len(x), -1, 3)
        winner = np.argmax(windows, axis=2)
        out = np.take_along_axis(windows, winner[..., None], axis=2)[..., 0]
        return out, winner

    def backward(dout, winner):
        dwindows = np.zeros(dout.shape + (3,))
        np.put_along_axis(dwindows, winner[..., None], dout[..., None], axis=2)
        return dwindows.reshape(len(dout), -1)

    x = np.array([[1.0, 1.0, 0.0, 2.0, 2.0, 2.0], [0.0, 3.0, 3.0, -1.0, -1.0, -2.0]])
    return given(forward, x, backward=backward)


@right
def mean_pool_and_upsample_by_repeat():
    def forward(x):
        n, h, w = x.shape
        small = x.reshape(n, h // 2, 2, w // 2, 2).mean(axis=(2, 4))
        return small.repeat(2, axis=1).repeat(2, axis=2)

    def backward(dy, x):
        n, h, w = x.shape
        dsmall = dy.reshape(n, h // 2, 2, w // 2, 2).sum(axis=(2, 4))
        return np.kron(dsmall, np.ones((1, 2, 2))) / 4

    return given(forward, random(2, 4, 4), backward=backward)


@right
def conv_relu_pool_sandwich():
    def conv(x, w, b):
        out = np.ones((len(x), w.shape[0], x.shape[2] - 1)) * b[None, :, None]
        for k in range(2):
            out += np.einsum("nct,fc->nft", x[:, :, k : k + out.shape[2]], w[:, :, k])
        return out, (x, w)

    def conv_back(dout, cache):
        x, w = cache
        dx, dw = np.zeros(x.shape), np.empty(w.shape)
        for k in range(2):
            part = x[:, :, k : k + dout.shape[2]]
            dw[:, :, k] = np.einsum("nft,nct->fc", dout, part)
            dx[:, :, k : k + dout.shape[2]] += np.einsum("nft,fc->nct", dout, w[:, :, k])
        return dx, dw, dout.sum((0, 2))

    def forward(x, w, b):
        a, conv_cache = conv(x, w, b)
        positive = a > 0
        r = a * positive
        pairs = r.reshape(r.shape[0], r.shape[1], -1, 2)
        return pairs.sum(-1), {"conv": conv_cache, "relu": positive}

    def backward(dout, cache):
        dr = np.repeat(dout, 2, axis=-1)
        return conv_back(dr * cache["relu"], cache["conv"])

    return given(forward, random(2, 3, 7), random(4, 3, 2, seed=1), random(4, seed=2), backward=backward)

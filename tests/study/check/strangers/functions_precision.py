"""Steps in single precision, and inputs far from the size of one."""

import numpy as np
from strangers.given import given, random, right


@right
def affine_in_single_precision():
    def forward(x, w, b):
        x, w, b = (a.astype(np.float32) for a in (x, w, b))
        return x @ w + b, (x, w)

    def backward(dout, cache):
        x, w = cache
        dout = dout.astype(np.float32)
        return dout @ w.T, x.T @ dout, dout.sum(axis=0)

    return given(forward, random(3, 4), random(4, 2, seed=1), random(2, seed=2), backward=backward)


@right
def single_precision_inputs_throughout():
    def forward(x, w):
        h = np.tanh(x @ w)
        return h, (x, w, h)

    def backward(dout, cache):
        x, w, h = cache
        da = dout * (1 - h * h)
        return da @ w.T, x.T @ da

    x, w = random(3, 4).astype(np.float32), random(4, 2, seed=1).astype(np.float32)
    return given(forward, x, w, backward=backward)


@right
def double_inputs_rounded_in_a_single_precision_buffer():
    def forward(x):
        out = np.zeros(x.shape, dtype=np.float32)
        out[:] = x * x
        out += 1
        return out.astype(np.float64)

    def backward(dy, x):
        return 2 * x * dy

    return given(forward, random(3, 5), backward=backward)


@right
def layer_norm_in_single_precision():
    def forward(x, gain):
        x32 = np.asarray(x, dtype=np.float32)
        mean = x32.mean(axis=-1, keepdims=True)
        scale = 1 / np.sqrt(x32.var(axis=-1, keepdims=True) + np.float32(1e-5))
        xhat = (x32 - mean) * scale
        return (xhat * gain).astype(x.dtype), (xhat, scale, gain)

    def backward(dout, cache):
        xhat, scale, gain = cache
        g = dout * gain
        dx = scale * (g - g.mean(-1, keepdims=True) - xhat * (g * xhat).mean(-1, keepdims=True))
        return dx, (dout * xhat).sum(axis=0)

    return given(forward, random(4, 6), random(6, seed=1), backward=backward)


@right
def softmax_of_huge_scores():
    """Inputs of about 100000: only their differences, scaled back, matter."""

    def forward(x):
        z = 1e-5 * x
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def backward(dy, x):
        p = forward(x)
        return 1e-5 * p * (dy - (dy * p).sum(axis=1, keepdims=True))

    return given(forward, 1e5 * random(3, 4), backward=backward)


@right
def batch_norm_of_huge_inputs():
    def forward(x):
        centred = x - x.mean(axis=0)
        std = np.sqrt((centred**2).mean(axis=0) + 1e-5)
        return centred / std, (centred / std, std)

    def backward(dout, cache):
        xhat, std = cache
        return (dout - dout.mean(0) - xhat * (dout * xhat).mean(0)) / std

    return given(forward, 1e5 * random(5, 3), backward=backward)


@right
def affine_of_tiny_inputs():
    def forward(x, w):
        return 1e6 * (x @ w), (x, w)

    def backward(dout, cache):
        x, w = cache
        return 1e6 * (dout @ w.T), 1e6 * (x.T @ dout)

    return given(forward, 1e-6 * random(3, 4), random(4, 2, seed=1), backward=backward)


@right
def logarithm_of_tiny_probabilities():
    def forward(p):
        return np.log(p)

    def backward(dy, p):
        return dy / p

    return given(forward, 1e-6 * (0.5 + np.abs(random(2, 5))), backward=backward)


@right
def squares_of_huge_and_tiny_inputs_together():
    def forward(big, small):
        return big**2 * small, (big, small)

    def backward(dout, cache):
        big, small = cache
        return 2 * big * small * dout, big**2 * dout

    return given(forward, 1e5 * random(6), 1e-6 * random(6, seed=1), backward=backward)


@right
def gradients_of_very_different_sizes():
    def forward(x, weak, strong):
        return x * strong + 1e-3 * np.sin(weak)

    def backward(dy, x, weak, strong):
        return dy * strong, 1e-3 * dy * np.cos(weak), (dy * x).sum(0)

    return given(forward, random(4, 3), random(4, 3, seed=1), 1e3 * random(3, seed=2), backward=backward)


@right
def whole_numbers_stored_as_floats_in_a_power():
    def forward(x):
        return np.float_power(x, 3) / np.ones_like(x).sum()

    def backward(dy, x):
        return 3 * dy * np.square(x) / x.size

    return given(forward, np.array([[1.0, 2.0], [-3.0, 0.0]]), backward=backward)

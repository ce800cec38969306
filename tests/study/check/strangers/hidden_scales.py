"""Mistakes that are small, or sit in one cell of a big tensor, or at unusual scales, or in float32."""

import numpy as np
from strangers.given import given, random, wrong


@wrong
def tiny_parameter_gradient_replaced_by_zeros():
    """A correction of 1e-10 has parameters whose gradient is set to zero."""

    class Corrected:
        def __init__(self):
            self.W, self.V = random(3, 2, seed=1), random(3, 2, seed=2)

        def forward(self, x):
            self.x, self.t = x, np.tanh(x @ self.V)
            return x @ self.W + 1e-10 * self.t

        def backward(self, dy):
            self.dW = self.x.T @ dy
            self.dV = np.zeros_like(self.V)
            return dy @ self.W.T + 1e-10 * dy * (1 - self.t**2) @ self.V.T

    return given(Corrected(), random(4, 3))


@wrong
def saturated_sigmoid_cut_to_zero():
    """Beyond |x| = 20 the slope, about 1e-10, is cut to zero."""

    def backward(dy, x):
        s = 1 / (1 + np.exp(-x))
        return np.where(np.abs(x) > 20, 0, dy * s * (1 - s))

    return given(lambda x: 1 / (1 + np.exp(-x)), np.array([-23.0, -22.5, -22.0, -23.5]), backward=backward)


@wrong
def tiny_second_input_gets_zeros():
    """The second input enters by a factor of 1e-10 and gets zeros."""

    class Leak:
        def __call__(self, x, context):
            self.x, self.context = x, context
            return np.sin(x) + 1e-10 * context**2

        def backward(self, dy):
            return dy * np.cos(self.x), np.zeros_like(self.context)

    return given(Leak(), random(3), random(3, seed=1))


@wrong
def tiny_gain_gradient_replaced_by_zeros():
    """The log of a scale of 1e-10 is a parameter; its gradient stays at zero."""

    class TinyBranch:
        def __init__(self):
            self.params = {"log_scale": np.full(3, -23.0), "shift": random(3, seed=1)}
            self.grads = {"log_scale": np.zeros(3), "shift": np.zeros(3)}

        def forward(self, x):
            self.scale = np.exp(self.params["log_scale"])
            return self.scale * x**3 + self.params["shift"]

        def backward(self, x, dy):
            self.grads["shift"] = dy.sum(axis=0)
            return 3 * dy * self.scale * x**2

    return given(TinyBranch(), random(4, 3))


@wrong
def single_precision_dense_off_by_one_percent():
    """dW of a float32 layer is 1 % too large."""

    class Dense32:
        def __init__(self):
            self.W = random(4, 3, seed=1).astype(np.float32)
            self.b = np.zeros(3, dtype=np.float32)

        def forward(self, x):
            self.x = x.astype(np.float32)
            return self.x @ self.W + self.b

        def backward(self, dy):
            dy = dy.astype(np.float32)
            self.dW, self.db = self.x.T @ dy * np.float32(1.01), dy.sum(0)
            return dy @ self.W.T

    return given(Dense32(), random(5, 4).astype(np.float32))


@wrong
def single_precision_input_gradient_off_by_one_percent():
    """dx of a float32 scale layer is 1 % too small."""

    def forward(x, gain):
        out = np.zeros(x.shape, dtype=np.float32)
        out += x * gain
        return out

    def backward(dy, x, gain):
        return (0.99 * dy * gain).astype(np.float32), np.sum(dy * x, axis=0, dtype=np.float32)

    return given(forward, random(4, 3).astype(np.float32), random(3, seed=1).astype(np.float32), backward=backward)


@wrong
def single_precision_tanh_off_by_one_percent():
    """The slope of a float32 tanh is written 1.01 - y^2."""

    class Tanh32:
        def forward(self, x):
            self.y = np.tanh(np.asarray(x, dtype="float32"))
            return self.y

        def backward(self, dy):
            return (dy * (1.01 - self.y**2)).astype("float32")

    return given(Tanh32(), 1.5 * random(4, 4).astype("float32"))


@wrong
def big_dense_with_one_wrong_row():
    """One row of a big dW has the wrong sign."""

    class BigDense:
        def __init__(self):
            self.W, self.b = random(120, 80, seed=1) / 11, random(80, seed=2)

        def forward(self, x):
            self.x = x
            return x @ self.W + self.b

        def backward(self, dy):
            self.dW, self.db = self.x.T @ dy, dy.sum(0)
            self.dW[71] *= -1
            return dy @ self.W.T

    return given(BigDense(), random(8, 120))


@wrong
def big_input_with_one_wrong_cell():
    """One cell of a big dx is zero."""

    class Cosine:
        def forward(self, x):
            self.x = x
            return np.cos(x)

        def backward(self, dy):
            dx = -dy * np.sin(self.x)
            dx[37, 41] = 0
            return dx

    x = random(64, 60)
    x[37, 41] = 1.5
    return given(Cosine(), x)


@wrong
def big_embedding_with_one_wrong_row():
    """The last row of a big table gets no gradient (an index is off by one)."""

    class BigEmbedding:
        def __init__(self):
            self.weight = random(500, 8, seed=1)
            self.weight_grad = np.zeros_like(self.weight)

        def forward(self, ids):
            self.ids = ids
            return self.weight[ids]

        def backward(self, dy):
            self.weight_grad[:] = 0
            for row in range(499):
                self.weight_grad[row] = dy[self.ids == row].sum(axis=0)

    ids = np.random.default_rng(1).integers(0, 500, size=(6, 10))
    ids[2, 7] = ids[5, 5] = 499
    return given(BigEmbedding(), ids)


@wrong
def big_bias_with_one_wrong_cell():
    """The last cell of a long bias has no gradient."""

    def forward(x, bias):
        return x + bias

    def backward(dy, x, bias):
        dbias = dy.sum(axis=0)
        dbias[-1] = 0
        return dy, dbias

    return given(forward, random(3, 400), random(400, seed=1), backward=backward)


@wrong
def big_convolution_wrong_beyond_a_block():
    """backward sums over blocks of 64 places; the places after the last full block are lost for dk."""

    def forward(x, kernel):
        return np.correlate(x, kernel, mode="valid")

    def backward(dy, x, kernel):
        dk = np.zeros_like(kernel)
        for start in range(0, len(dy) - 63, 64):
            block = dy[start : start + 64]
            dk += np.correlate(x[start : start + 63 + len(kernel)], block, mode="valid")
        return np.convolve(dy, kernel), dk

    return given(forward, random(202), random(5, seed=1), backward=backward)


@wrong
def large_input_with_small_error():
    """x is about 1e5; the slope is 0.3 % too large."""

    class Log1p:
        def forward(self, x):
            self.x = x
            return np.log1p(x * x)

        def backward(self, dy):
            return dy * 2.006 * self.x / (1 + self.x**2)

    return given(Log1p(), 1e5 * random(3, 4))


@wrong
def small_input_with_small_error():
    """x is about 1e-6; the slope is 0.2 % too small."""
    return given(lambda x: np.sin(x) + x**2, 1e-6 * random(6), backward=lambda dy, x: 0.998 * dy * (np.cos(x) + 2 * x))


@wrong
def normalised_large_input_without_mean_term():
    """x is about 1e5; a normalisation over rows lacks the term of the mean."""

    class Standardise:
        def forward(self, x):
            self.std = x.std(axis=1, keepdims=True)
            self.y = (x - x.mean(axis=1, keepdims=True)) / self.std
            return self.y

        def backward(self, dy):
            return (dy - self.y * (dy * self.y).mean(axis=1, keepdims=True)) / self.std

    return given(Standardise(), 1e5 * random(3, 5))


@wrong
def small_weights_with_small_error():
    """The weights are about 1e-6; dW is 0.5 % too large, beside an input gradient that is right."""

    class SmallDense:
        def __init__(self):
            self.W = 1e-6 * random(4, 3, seed=1)
            self.dW = None

        def forward(self, x):
            self.x = x
            self.y = np.tanh(x @ (1e6 * self.W))
            return self.y

        def backward(self, dy):
            dz = dy * (1 - self.y**2)
            self.dW = 1.005e6 * self.x.T @ dz
            return 1e6 * dz @ self.W.T

    return given(SmallDense(), random(5, 4))


@wrong
def mixed_scales_with_wrong_small_one():
    """A large and a small input are added; the small one's gradient lacks the factor 2."""

    def forward(large, small):
        return (large / 1e5) ** 2 + (small * 1e6) ** 2

    def backward(dy, large, small):
        return {"large": dy * 2 * large / 1e10, "small": dy * small * 1e12}

    return given(forward, 1e5 * random(4), 1e-6 * random(4, seed=1), backward=backward)

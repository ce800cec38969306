"""Dense layers and networks with a named mistake."""

import numpy as np
from named.given import given, mistake, random


class Linear:
    """Right unless a subclass changes ``backward``."""

    def __init__(self, n_in, n_out, seed=1):
        self.W, self.b = random(n_in, n_out, seed=seed), random(n_out, seed=seed + 1)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        self.dW, self.db = self.x.T @ dy, dy.sum(0)
        return dy @ self.W.T


@mistake("param W", "factor")
def weight_gradient_divided_by_batch():
    """dW is divided by the batch size, although the loss is no mean."""

    class Layer(Linear):
        def backward(self, dy):
            dx = super().backward(dy)
            self.dW = self.dW / len(self.x)
            return dx

    return given(Layer(4, 3), random(5, 4, seed=3))


@mistake("param b", "one example")
def bias_gradient_of_first_row():
    """db is the first row of dy, not the sum of rows."""

    class Layer(Linear):
        def backward(self, dy):
            dx = super().backward(dy)
            self.db = dy[0].copy()
            return dx

    return given(Layer(2, 5), random(4, 2, seed=4))


@mistake("param W", "transposed")
def square_weight_gradient_transposed():
    """dW = dy.T @ x; the weight is square, so nothing complains."""

    class Layer(Linear):
        def backward(self, dy):
            self.dW, self.db = dy.T @ self.x, dy.sum(axis=0)
            return dy @ self.W.T

    return given(Layer(4, 4), random(3, 4, seed=5))


@mistake("input x", "transposed")
def square_weight_not_transposed_on_the_way_back():
    """dx = dy @ W where W.T belongs."""

    class Layer(Linear):
        def backward(self, dy):
            super().backward(dy)
            return dy @ self.W

    return given(Layer(3, 3), random(5, 3, seed=6))


@mistake("param W", "upstream")
def weight_gradient_without_upstream():
    """dW sums x over the batch for each output, as if dy were all ones."""

    class Layer(Linear):
        def backward(self, dy):
            dx = super().backward(dy)
            self.dW = self.x.T @ np.ones_like(dy)
            return dx

    return given(Layer(3, 4), random(6, 3, seed=7))


@mistake("param W", "state")
def input_of_first_call_is_kept():
    """x is stored in the first call only."""

    class Layer(Linear):
        x = None

        def forward(self, x):
            if self.x is None:
                self.x = x.copy()
            return x @ self.W + self.b

    return given(Layer(4, 2), random(3, 4, seed=9))


@mistake("input x", "factor")
def dropout_without_inverse_rate():
    """backward applies the mask, but not 1 / (1 - rate)."""

    class FixedDropout:
        def __init__(self, shape, rate):
            self.keep, self.rate = random(*shape, seed=12) > -0.6, rate

        def forward(self, x):
            return np.where(self.keep, x / (1 - self.rate), 0)

        def backward(self, dy):
            return np.where(self.keep, dy, 0)

    return given(FixedDropout((3, 6), 0.25), random(3, 6, seed=13))


@mistake("param params.W1", "mask")
def relu_network_without_relu_mask():
    """The hidden layer's gradient is not cut where the ReLU is closed."""

    class TwoLayers:
        def __init__(self, sizes):
            a, b, c = sizes
            self.params = {"W1": random(a, b, seed=14), "W2": random(b, c, seed=15)}
            self.grads = {}

        def forward(self, x):
            self.x = x
            self.h = np.maximum(0, x @ self.params["W1"])
            return self.h @ self.params["W2"]

        def backward(self, dout):
            self.grads["W2"] = self.h.T @ dout
            dh = dout @ self.params["W2"].T
            self.grads["W1"] = self.x.T @ dh
            return dh @ self.params["W1"].T

    return given(TwoLayers((3, 5, 2)), random(4, 3, seed=16))


@mistake("param W1", "wrong operand")
def tanh_derivative_at_pre_activation():
    """1 - z^2 with z before the tanh; 1 - tanh(z)^2 belongs."""

    class Net:
        def __init__(self):
            self.W1, self.W2 = random(4, 3, seed=17), random(3, 2, seed=18)

        def forward(self, x):
            self.x, self.z = x, x @ self.W1
            self.h = np.tanh(self.z)
            return self.h @ self.W2

        def backward(self, dy):
            self.dW2 = self.h.T @ dy
            dz = (dy @ self.W2.T) * (1 - self.z**2)
            self.dW1 = self.x.T @ dz
            return dz @ self.W1.T

    return given(Net(), 0.7 * random(5, 4, seed=19))


@mistake("param layers.0.W", "lost factor")
def network_of_layers_without_sigmoid_derivative():
    """Between two layers the factor s (1 - s) is missing."""

    class Stack:
        def __init__(self):
            self.layers = [Linear(3, 4, seed=20), Linear(4, 2, seed=22)]

        def forward(self, x):
            self.s = 1 / (1 + np.exp(-self.layers[0].forward(x)))
            return self.layers[1].forward(self.s)

        def backward(self, dy):
            ds = self.layers[1].backward(dy)
            return self.layers[0].backward(ds)

    return given(Stack(), random(5, 3, seed=24))


@mistake("input b", "transposed")
def bilinear_form_without_transpose():
    """y = a W b for each row; db = a W.T-wise: W is square and the transpose is on the wrong side."""

    def bilinear(a, b, W):
        return np.einsum("ni,ij,nj->n", a, W, b)

    def bilinear_backward(g, a, b, W):
        da = g[:, None] * (b @ W.T)
        db = g[:, None] * (a @ W.T)
        return da, db, np.einsum("n,ni,nj->ij", g, a, b)

    x = random(4, 3, seed=25), random(4, 3, seed=26), random(3, 3, seed=27)
    return given(bilinear, *x, backward=bilinear_backward)


@mistake("input a", "swapped", "wrong operand")
def product_gradients_swapped():
    """da and db of an elementwise product are returned in the wrong order."""

    class Product:
        def forward(self, a, b):
            self.a, self.b = a, b
            return a * b

        def backward(self, dy):
            return dy * self.a, dy * self.b

    return given(Product(), random(3, 4, seed=28), random(3, 4, seed=29))


@mistake("param Wt", "lost term")
def highway_gate_without_carried_input():
    """The gate's gradient is dy * h, where dy * (h - x) belongs."""

    class Highway:
        def __init__(self, n):
            self.Wh, self.Wt = random(n, n, seed=30), random(n, n, seed=31)

        def forward(self, x):
            self.x, self.h = x, np.tanh(x @ self.Wh)
            self.t = 1 / (1 + np.exp(-(x @ self.Wt)))
            return self.t * self.h + (1 - self.t) * x

        def backward(self, dy):
            dh = dy * self.t * (1 - self.h**2)
            dt = dy * self.h * self.t * (1 - self.t)
            self.dWh, self.dWt = self.x.T @ dh, self.x.T @ dt
            return dy * (1 - self.t) + dh @ self.Wh.T + dt @ self.Wt.T

    return given(Highway(3), random(5, 3, seed=32))


@mistake("input x", "lost term")
def residual_block_without_skip():
    """dx lacks dy itself, the path around the block."""

    class Block:
        def __init__(self, n):
            self.W = 0.5 * random(n, n, seed=33)

        def forward(self, x):
            self.x, self.t = x, np.tanh(x @ self.W)
            return x + self.t

        def backward(self, dy):
            dz = dy * (1 - self.t * self.t)
            self.dW = self.x.T @ dz
            return dz @ self.W.T

    return given(Block(4), random(3, 4, seed=34))


@mistake("param W", "lost term")
def tied_autoencoder_without_encoder():
    """The weight is used twice; its gradient has the decoder's summand only."""

    class Tied:
        def __init__(self, n, code):
            self.W = random(n, code, seed=35)

        def forward(self, x):
            self.x, self.h = x, np.tanh(x @ self.W)
            return self.h @ self.W.T

        def backward(self, dy):
            self.dW = dy.T @ self.h
            return ((dy @ self.W) * (1 - self.h**2)) @ self.W.T

    return given(Tied(5, 2), random(4, 5, seed=36))


@mistake("param A", "factor")
def adapter_without_scale():
    """y = x W + (alpha / r) x A B; dA lacks alpha / r."""

    class Adapter:
        def __init__(self, n_in, n_out, r, alpha):
            self.W, self.A, self.B = random(n_in, n_out, seed=37), random(n_in, r, seed=38), random(r, n_out, seed=39)
            self.scale = alpha / r

        def forward(self, x):
            self.x, self.xa = x, x @ self.A
            return x @ self.W + self.scale * self.xa @ self.B

        def backward(self, dy):
            self.dW, self.dB = self.x.T @ dy, self.scale * self.xa.T @ dy
            dxa = dy @ self.B.T
            self.dA = self.x.T @ dxa
            return dy @ self.W.T + self.scale * dxa @ self.A.T

    return given(Adapter(5, 4, 2, 6), random(3, 5, seed=40))


@mistake("input x", "writes", "mask")
def residual_relu_masks_upstream_in_place():
    """The ReLU's mask is multiplied into dy itself, so that the skip gets a masked dy as well."""

    class Block:
        def forward(self, x):
            self.on = x > 0
            return x + np.maximum(x, 0)

        def backward(self, dy):
            branch = dy
            branch *= self.on
            return dy + branch

    return given(Block(), random(4, 5, seed=10))

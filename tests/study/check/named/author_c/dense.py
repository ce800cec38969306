"""Dense layers, residuals and small functions with a mistake."""

import numpy as np
from named.given import given, mistake, random


class Linear:
    def __init__(self, n, m, seed=1):
        self.W, self.b = random(n, m, seed=seed), random(m, seed=seed + 50)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        self.dW = self.x.T @ dy
        self.db = dy.sum(axis=0)
        return dy @ self.W.T


@mistake("input x", "transposed")
def square_weight_not_transposed():
    """dy @ W; the matrix is square, so that no shape complains."""

    class Layer(Linear):
        def backward(self, dy):
            super().backward(dy)
            return dy @ self.W

    return given(Layer(4, 4), random(3, 4))


@mistake("param b", "zero")
def bias_gradient_never_computed():
    """db stays at its first value, zero."""

    class Layer:
        def __init__(self):
            self.W, self.b = random(3, 2, seed=1), random(2, seed=2)
            self.dW, self.db = np.zeros((3, 2)), np.zeros(2)

        def forward(self, x):
            self.x = x
            return x @ self.W + self.b

        def backward(self, dy):
            self.dW = self.x.T @ dy
            return dy @ self.W.T

    return given(Layer(), random(4, 3))


@mistake("param layers.0.W", "mask")
def hidden_layer_without_the_mask_of_relu():
    """dW of the first layer uses the gradient before the mask; dx the one after it."""

    class Net:
        def __init__(self):
            self.layers = [Linear(3, 5), Linear(5, 2, seed=7)]

        def forward(self, x):
            self.a = self.layers[0].forward(x)
            return self.layers[1].forward(np.maximum(self.a, 0))

        def backward(self, dy):
            d = self.layers[1].backward(dy)
            dx = self.layers[0].backward(d * (self.a > 0))
            self.layers[0].dW = self.layers[0].x.T @ d
            return dx

    return given(Net(), random(4, 3))


@mistake("param A", "transposed")
def low_rank_factor_not_transposed():
    """W = A B with square B; dA = dW B."""

    class LowRank:
        def __init__(self):
            self.A, self.B = random(4, 3, seed=1), random(3, 3, seed=2)

        def forward(self, x):
            self.x = x
            return x @ (self.A @ self.B)

        def backward(self, dy):
            dw = self.x.T @ dy
            self.dA, self.dB = dw @ self.B, self.A.T @ dw
            return dy @ (self.A @ self.B).T

    return given(LowRank(), random(5, 4))


@mistake("input b", "wrong operand")
def bilinear_form_with_the_same_vector_twice():
    """db = W' b, where W' a belongs."""

    def forward(a, b, w):
        return np.einsum("ni,ij,nj->n", a, w, b)

    def backward(dy, a, b, w):
        da = dy[:, None] * (b @ w.T)
        db = dy[:, None] * (b @ w)
        return da, db, np.einsum("n,ni,nj->ij", dy, a, b)

    return given(forward, random(4, 3), random(4, 3, seed=1), random(3, 3, seed=2), backward=backward)


@mistake("input x", "lost term")
def residual_without_the_skip():
    """y = x + f(x); dx is that of f alone."""

    class Block:
        def __init__(self):
            self.W = random(3, 3, seed=2)

        def forward(self, x):
            self.x, self.h = x, np.tanh(x @ self.W)
            return x + self.h

        def backward(self, dy):
            da = dy * (1 - self.h**2)
            self.dW = self.x.T @ da
            return da @ self.W.T

    return given(Block(), random(4, 3))


@mistake("param W", "sign")
def highway_gate_with_a_plus():
    """y = t h + (1 - t) x; the gate's gradient has h + x, where h - x belongs: one of two terms has the wrong sign."""

    class Highway:
        def __init__(self):
            self.W, self.V = random(3, 3, seed=2), random(3, 3, seed=3)

        def forward(self, x):
            self.x = x
            self.t, self.h = 1 / (1 + np.exp(-x @ self.W)), np.tanh(x @ self.V)
            return self.t * self.h + (1 - self.t) * x

        def backward(self, dy):
            da = dy * (self.h + self.x) * self.t * (1 - self.t)
            dh = dy * self.t * (1 - self.h**2)
            self.dW, self.dV = self.x.T @ da, self.x.T @ dh
            return dy * (1 - self.t) + da @ self.W.T + dh @ self.V.T

    return given(Highway(), random(4, 3))


@mistake("param W", "upstream")
def weight_decay_inside_the_gradient():
    """dW has 0.1 W added, which forward knows nothing of."""

    class Layer(Linear):
        def backward(self, dy):
            dx = super().backward(dy)
            self.dW += 0.1 * self.W
            return dx

    return given(Layer(3, 4), random(2, 3))


@mistake("param W", "size")
def gradient_clipped_at_one():
    """dW is clipped to -1..1."""

    class Layer(Linear):
        def backward(self, dy):
            dx = super().backward(dy)
            self.dW = np.clip(self.dW, -1, 1)
            return dx

    return given(Layer(3, 4), 2 * random(4, 3))


@mistake("input x", "factor")
def dropout_not_rescaled_in_backward():
    """forward divides what is kept by 0.75, backward does not."""

    class Dropout:
        def __init__(self):
            self.keep = (np.arange(20).reshape(4, 5) * 7 % 4 != 0).astype(float)

        def forward(self, x):
            return x * self.keep / 0.75

        def backward(self, dy):
            return dy * self.keep

    return given(Dropout(), random(4, 5), constants=["keep"])


@mistake("param W", "state", "wrong operand")
def oldest_input_on_a_stack_that_is_never_emptied():
    """forward pushes x; backward reads the first that was ever pushed."""

    class Layer:
        def __init__(self):
            self.W, self.stack = random(3, 2, seed=1), []

        def forward(self, x):
            self.stack.append(x)
            return x @ self.W

        def backward(self, dy):
            self.dW = self.stack[0].T @ dy
            return dy @ self.W.T

    layer = Layer()
    layer.forward(random(4, 3, seed=8))
    return given(layer, random(4, 3))


@mistake("param W", "size")
def only_the_first_block_of_rows():
    """dW adds the first 64 rows; a batch of 70 loses six."""

    class Layer(Linear):
        def backward(self, dy):
            self.dW = np.zeros_like(self.W)
            for start in range(0, len(dy) - 63, 64):
                self.dW += self.x[start : start + 64].T @ dy[start : start + 64]
            self.db = dy.sum(0)
            return dy @ self.W.T

    return given(Layer(2, 3), random(70, 2))


@mistake("input a", "transposed")
def inverse_without_transposes():
    """dA = -Y' dY Y' for Y = inv(A); the transposes are missing."""

    def backward(dy, a):
        y = np.linalg.inv(a)
        return -y @ dy @ y

    return given(np.linalg.inv, random(3, 3) + 2 * np.eye(3), backward=backward)


@mistake("input x", "lost term")
def quadratic_form_of_a_matrix_that_is_not_symmetric():
    """x A x' has the gradient (A + A') x; backward has 2 A x."""
    a = random(4, 4, seed=5)
    return given(
        lambda x: np.einsum("ni,ij,nj->n", x, a, x),
        random(3, 4),
        backward=lambda dy, x: 2 * dy[:, None] * (x @ a.T),
        constants=[a],
    )


@mistake("input a", "wrong operand")
def product_with_its_own_factor():
    """y = a b; da = dy a."""
    return given(lambda a, b: a * b, random(3, 4), random(3, 4, seed=1), backward=lambda dy, a, b: (dy * a, dy * a))


@mistake("input x")
def backward_by_a_coarse_difference():
    """The slope is a difference with a step of 0.1."""

    def backward(dy, x):
        return dy * (np.sin(x + 0.1) - np.sin(x)) / 0.1

    return given(np.sin, random(3, 4), backward=backward)


@mistake("input x")
def gradient_rounded_to_three_digits():
    """dx is rounded to three decimals, to save room."""

    class Layer(Linear):
        def backward(self, dy):
            return np.round(super().backward(dy), 3)

    return given(Layer(3, 4), random(2, 3))


@mistake("input x", "transposed")
def sorted_values_not_sent_back():
    """The gradient is reordered by the permutation, not by its inverse."""

    class Sort:
        def forward(self, x):
            self.order = np.argsort(x, axis=1)
            return np.take_along_axis(x, self.order, 1)

        def backward(self, dy):
            return np.take_along_axis(dy, self.order, 1)

    return given(Sort(), random(3, 5))


@mistake("input x")
def every_row_gets_the_mean_gradient():
    """dx is averaged over the batch, and copied to every row."""

    class Layer(Linear):
        def backward(self, dy):
            dx = super().backward(dy)
            return np.broadcast_to(dx.mean(0), dx.shape).copy()

    return given(Layer(3, 2), random(4, 3))


@mistake("input x", "writes")
def relu_branch_spoils_the_residual():
    """The branch zeroes dy in place, and the skip then reads it."""

    class Block:
        def forward(self, x):
            self.off = x <= 0
            return x + np.maximum(2 * x, 0)

        def backward(self, dy):
            branch = dy
            branch[self.off] = 0
            return dy + 2 * branch

    return given(Block(), random(3, 5))


@mistake("input b", "swapped")
def difference_gradients_swapped():
    """y = 2 a - b; backward returns (db, da)."""
    return given(lambda a, b: 2 * a - b, random(2, 3), random(2, 3, seed=1), backward=lambda dy, a, b: (-dy, 2 * dy))


@mistake("input x", "upstream", "lost factor")
def exponential_forgets_dy():
    """The slope is returned, not the slope times dy."""
    return given(np.exp, random(3, 4), backward=lambda dy, x: np.exp(x))


@mistake("param W", "factor")
def weight_gradient_divided_by_the_batch():
    """dW is a mean over the batch, of a layer that averages nothing."""

    class Layer(Linear):
        def backward(self, dy):
            dx = super().backward(dy)
            self.dW /= len(self.x)
            return dx

    return given(Layer(4, 2), random(5, 4))

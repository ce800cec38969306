"""More layers with a named mistake, of kinds that are rare in the other files."""

import numpy as np
from named.given import given, mistake, random


@mistake("input x", "order")
def output_gain_applied_after_the_weight():
    """y = (x W) g; backward multiplies by g after W.T, not before; W is square."""

    class Scaled:
        def __init__(self, n):
            self.W, self.g = random(n, n, seed=1), random(n, seed=2)

        def forward(self, x):
            self.x, self.z = x, x @ self.W
            return self.z * self.g

        def backward(self, dy):
            self.dg = (dy * self.z).sum(0)
            self.dW = self.x.T @ (dy * self.g)
            return (dy @ self.W.T) * self.g

    return given(Scaled(4), random(5, 4, seed=3))


@mistake("input x", "order")
def relu_mask_before_the_weight_in_backward():
    """y = relu(x) W; the mask is applied to dy, before W.T; W is square."""

    def forward(x, W):
        return np.maximum(x, 0) @ W

    def backward(dy, x, W):
        return (dy * (x > 0)) @ W.T, np.maximum(x, 0).T @ dy

    return given(forward, random(3, 5, seed=4), random(5, 5, seed=5), backward=backward)


@mistake("input x", "epsilon")
def unit_length_without_epsilon_in_backward():
    """x / sqrt(|x|^2 + 0.1), differentiated as x / |x|."""

    class Unit:
        def __init__(self, eps=0.1):
            self.eps = eps

        def forward(self, x):
            self.x = x
            return x / np.sqrt((x * x).sum(1, keepdims=True) + self.eps)

        def backward(self, dy):
            n = np.sqrt((self.x * self.x).sum(1, keepdims=True))
            u = self.x / n
            return (dy - u * (u * dy).sum(1, keepdims=True)) / n

    return given(Unit(), random(5, 4, seed=6))


@mistake("input p", "epsilon")
def safe_logarithm_without_epsilon_in_backward():
    """log(p + 0.01) has slope 1 / (p + 0.01); backward gives 1 / p."""

    def forward(p):
        return np.log(np.abs(p) + 0.01)

    return given(forward, 0.2 + np.abs(random(3, 6, seed=7)), backward=lambda dy, p: dy * np.sign(p) / np.abs(p))


@mistake("input b", "sign")
def difference_sends_plus_to_both():
    """y = W a - W b; both inputs get + dy W.T."""

    class Difference:
        def __init__(self):
            self.W = random(3, 2, seed=8)

        def forward(self, a, b):
            self.d = a - b
            return self.d @ self.W

        def backward(self, dy):
            self.dW = self.d.T @ dy
            return dy @ self.W.T, dy @ self.W.T

    return given(Difference(), random(5, 3, seed=9), random(5, 3, seed=10))


@mistake("param centres", "sign")
def radial_centres_pushed_instead_of_pulled():
    """The centres' gradient has the sign of the input's."""

    class Radial:
        def __init__(self, k, n):
            self.centres = random(k, n, seed=11)

        def forward(self, x):
            self.diff = x[:, None] - self.centres
            self.y = np.exp(-0.5 * (self.diff**2).sum(-1))
            return self.y

        def backward(self, dy):
            d = -(dy * self.y)[..., None] * self.diff
            self.dcentres = d.sum(0)
            return d.sum(1)

    return given(Radial(3, 2), random(4, 2, seed=12))


@mistake("param alpha", "upstream")
def branch_strength_without_upstream():
    """y = x + alpha tanh(x); dalpha is the sum of tanh(x) alone."""

    class Branch:
        def __init__(self, n):
            self.params, self.alpha, self.grad_alpha = {}, random(n, seed=13), None

        def forward(self, x):
            self.t = np.tanh(x)
            return x + self.alpha * self.t

        def backward(self, dy):
            self.grad_alpha = self.t.sum(axis=(0, 1))
            return dy + dy * self.alpha * (1 - self.t**2)

    return given(Branch(3), random(2, 4, 3, seed=14))


@mistake("input x", "own position")
def token_mixing_by_diagonal_in_backward():
    """Every step mixes all steps; a step gets back only what it sent to itself."""

    class Mixer:
        def __init__(self, steps):
            self.M = random(steps, steps, seed=15)

        def forward(self, x):
            self.x = x
            return np.einsum("st,btd->bsd", self.M, x)

        def backward(self, dy):
            self.dM = np.einsum("bsd,btd->st", dy, self.x)
            return np.diagonal(self.M)[:, None] * dy

    return given(Mixer(5), random(2, 5, 3, seed=16))


@mistake("param Wg", "own position")
def expert_gate_with_diagonal_softmax():
    """The gate's softmax hands back g (1 - g), as if the experts did not compete."""

    class Experts:
        def __init__(self, n, out, k):
            self.Wg, self.We = random(n, k, seed=17), random(k, n, out, seed=18)

        def forward(self, x):
            e = np.exp(x @ self.Wg)
            self.x, self.g = x, e / e.sum(1, keepdims=True)
            self.h = np.einsum("bn,kno->bko", x, self.We)
            return np.einsum("bk,bko->bo", self.g, self.h)

        def backward(self, dy):
            dg = np.einsum("bo,bko->bk", dy, self.h)
            dz = dg * self.g * (1 - self.g)
            self.dWg = self.x.T @ dz
            self.dWe = np.einsum("bn,bk,bo->kno", self.x, self.g, dy)
            return dz @ self.Wg.T + np.einsum("bk,bo,kno->bn", self.g, dy, self.We)

    return given(Experts(4, 2, 3), random(5, 4, seed=19))


@mistake("input x", "sign of x", "wrong operand")
def softsign_slope_without_absolute_value():
    """The slope is 1 / (1 + |x|)^2; backward has x for |x|."""

    def softsign(x):
        return x / (1 + np.abs(x))

    return given(softsign, 0.5 * random(4, 5, seed=20), backward=lambda dy, x: dy / (1 + x) ** 2)


@mistake("input x", "end")
def difference_in_time_forgets_the_first_step():
    """y[t] = x[t + 1] - x[t]; x[0] gets no gradient."""

    def backward(dy):
        dx = np.zeros((dy.shape[0], dy.shape[1] + 1))
        dx[:, 1:] += dy
        dx[:, 1:-1] -= dy[:, 1:]
        return dx

    return given(lambda x: np.diff(x, axis=1), random(3, 6, seed=21), backward=backward)


@mistake("input x", "repeated ids")
def graph_node_keeps_last_edge():
    """A node that sends along several edges gets the gradient of the last edge."""

    def forward(x, source):
        return np.sin(x[source])

    def backward(dy, x, source):
        dx = np.zeros_like(x)
        dx[source] = dy * np.cos(x[source])
        return dx

    return given(forward, random(4, 3, seed=22), np.array([0, 2, 2, 1, 3, 0, 2]), backward=backward)


@mistake("param re", "swapped")
def complex_product_with_parts_swapped():
    """The gradients of the real and the imaginary weight are exchanged."""

    class ComplexScale:
        def __init__(self, n):
            self.re, self.im = random(n, seed=23), random(n, seed=24)

        def forward(self, a, b):
            self.a, self.b = a, b
            return np.concatenate([a * self.re - b * self.im, a * self.im + b * self.re], axis=1)

        def backward(self, dy):
            da, db = np.split(dy, 2, axis=1)
            self.dim = (da * self.a + db * self.b).sum(0)
            self.dre = (db * self.a - da * self.b).sum(0)
            return da * self.re + db * self.im, db * self.re - da * self.im

    return given(ComplexScale(3), random(4, 3, seed=25), random(4, 3, seed=26))


@mistake("input x", "state", "wrong operand")
def slope_is_a_running_mean():
    """backward multiplies by a running mean of the slopes, which begins at one."""

    class Tanh:
        def __init__(self, shape):
            self.slope = np.ones(shape)

        def forward(self, x):
            self.y = np.tanh(x)
            self.slope = 0.8 * self.slope + 0.2 * (1 - self.y**2)
            return self.y

        def backward(self, dy):
            return dy * self.slope

    return given(Tanh((4, 3)), random(4, 3, seed=27))


@mistake("param W", "state", "wrong operand")
def weight_gradient_with_inputs_of_the_pass_before():
    """dW uses the x of the forward pass before this one, where there was one."""

    class Late:
        def __init__(self):
            self.W, self.seen = random(3, 2, seed=28), []

        def forward(self, x):
            self.seen = [*self.seen[-1:], x]
            return x @ self.W

        def backward(self, dy):
            self.dW = self.seen[0].T @ dy
            return dy @ self.W.T

    return given(Late(), random(4, 3, seed=29))

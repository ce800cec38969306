"""Wrong layers of several inputs and branches: products, gates, joins, sums, weight norms."""

import numpy as np
from strangers.given import given, random, wrong


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


@wrong
def bilinear_without_transpose():
    """The gradient of z uses W where W.T belongs; W is square."""

    class Bilinear:
        def __init__(self, n):
            self.W = random(n, n, seed=7)

        def forward(self, x, z):
            self.x, self.z = x, z
            return np.sum((x @ self.W) * z, axis=1)

        def backward(self, dy):
            dy = dy[:, None]
            self.W_grad = self.x.T @ (dy * self.z)
            return dy * self.z @ self.W.T, dy * (self.x @ self.W.T)

    return given(Bilinear(3), random(4, 3), random(4, 3, seed=1))


@wrong
def join_with_swapped_gradients():
    """The two halves of dy go to the wrong inputs."""

    class Join:
        def forward(self, left, right):
            self.n = left.shape[1]
            return np.concatenate([left, right], axis=1)

        def backward(self, dy):
            return [dy[:, self.n :], dy[:, : self.n]]

    return given(Join(), random(2, 3), random(2, 3, seed=1))


@wrong
def row_bias_summed_over_wrong_axis():
    """The bias is summed over columns; x is square, so that the shape fits."""

    def forward(x, bias):
        return np.tanh(x + bias)

    def backward(dy, x, bias):
        dz = dy * (1 - np.tanh(x + bias) ** 2)
        return {"dx": dz, "dbias": dz.sum(axis=1)}

    return given(forward, random(4, 4), random(4, seed=1), backward=backward)


@wrong
def weight_norm_without_projection():
    """dv lacks the projection term of v / |v|."""

    class WeightNorm:
        def __init__(self, n_in, n_out):
            self.v = random(n_in, n_out, seed=1)
            self.g = 1 + 0.5 * random(n_out, seed=2)

        def forward(self, x):
            self.x = x
            self.norm = np.linalg.norm(self.v, axis=0)
            return x @ (self.v / self.norm * self.g)

        def backward(self, dy):
            dw = self.x.T @ dy
            self.dg = (dw * self.v).sum(0) / self.norm
            self.dv = dw * self.g / self.norm
            return dy @ (self.v / self.norm * self.g).T

    return given(WeightNorm(4, 3), random(5, 4))


@wrong
def highway_gate_without_one_minus_gate():
    """The derivative of the gate lacks (1 - gate)."""

    class Highway:
        def __init__(self, n):
            self.Wg, self.Wh = random(n, n, seed=1), random(n, n, seed=2)

        def forward(self, x):
            g = sigmoid(x @ self.Wg)
            h = np.tanh(x @ self.Wh)
            self.cache = x, g, h
            return g * h + (1 - g) * x

        def backward(self, dy):
            x, g, h = self.cache
            dg = dy * (h - x) * g
            dh = dy * g * (1 - h**2)
            self.grad_Wg = x.T @ dg
            self.grad_Wh = x.T @ dh
            return dy * (1 - g) + dg @ self.Wg.T + dh @ self.Wh.T

    return given(Highway(3), random(4, 3))


@wrong
def sine_and_cosine_features_with_wrong_sign():
    """The cosine half lacks its minus sign."""

    def forward(x, freq):
        a = x[:, None] * freq
        return np.concatenate([np.sin(a), np.cos(a)], axis=1)

    def backward(dy, x, freq):
        a = x[:, None] * freq
        k = len(freq)
        da = dy[:, :k] * np.cos(a) + dy[:, k:] * np.sin(a)
        return (da * freq).sum(1), (da * x[:, None]).sum(0)

    return given(forward, random(5), np.array([0.5, 1.0, 2.0]), backward=backward)


@wrong
def running_sum_not_reversed():
    """backward of cumsum runs forwards."""

    class RunningSum:
        def forward(self, x):
            return np.cumsum(x, axis=-1)

        def backward(self, dy):
            return np.cumsum(dy, axis=-1)

    return given(RunningSum(), random(2, 5))


@wrong
def shared_matrix_keeps_last_of_batch():
    """dw is overwritten in the loop over the batch, not added up."""

    def forward(x, w):
        return np.stack([xi @ w for xi in x])

    def backward(dy, x, w):
        dx, dw = np.empty_like(x), np.zeros_like(w)
        for i in range(len(x)):
            dw = x[i].T @ dy[i]
            dx[i] = dy[i] @ w.T
        return dx, dw

    return given(forward, random(3, 4, 2), random(2, 3, seed=1), backward=backward)


@wrong
def quotient_with_wrong_power_of_denominator():
    """The denominator's gradient divides by b, not by its square."""

    class Divide:
        def forward(self, a, b):
            self.a, self.b = a, b
            return a / b

        def backward(self, dy):
            return dy / self.b, -dy * self.a / self.b

    return given(Divide(), random(3, 2), 2 + random(3, 2, seed=1) ** 2)


@wrong
def layer_that_ignores_dy():
    """backward returns the local derivative and ignores dy."""

    class Tanh:
        def forward(self, x):
            self.y = np.tanh(x)
            return self.y

        def backward(self, dy):
            return 1 - self.y**2

    return given(Tanh(), random(3, 3))


@wrong
def sine_with_sum_of_dy():
    """The sum of dy is used for all cells."""
    return given(np.sin, random(6), backward=lambda dy, x: np.sum(dy) * np.cos(x))


@wrong
def rows_in_chunks_of_four():
    """backward works in chunks of four rows and forgets the rows after the last full chunk."""

    def forward(x):
        return np.exp(-(x**2))

    def backward(dy, x):
        dx = np.zeros_like(x)
        for i in range(len(x) // 4):
            part = slice(4 * i, 4 * i + 4)
            dx[part] = -2 * x[part] * np.exp(-(x[part] ** 2)) * dy[part]
        return dx

    return given(forward, random(6, 2), backward=backward)


@wrong
def outer_product_from_earlier_pass():
    """The input is remembered only at the first pass, and one pass has been made already."""

    class Outer:
        def __init__(self):
            self.seen = []

        def forward(self, u, v):
            self.seen.append((u, v))
            return np.outer(u, v)

        def backward(self, dy):
            u, v = self.seen[0]
            return dy @ v, dy.T @ u

    layer = Outer()
    layer.forward(random(3, seed=8), random(4, seed=9))
    return given(layer, random(3), random(4, seed=1))


@wrong
def matrix_power_without_second_path():
    """d(x @ x) has only one of its two terms."""
    return given(lambda x: x @ x, random(3, 3), backward=lambda dy, x: dy @ x.T)


@wrong
def inverse_with_transposed_gradient():
    """The gradient of the inverse is transposed."""

    def forward(a):
        inv = np.linalg.inv(a)
        return inv, inv

    def backward(dout, inv):
        return -inv @ dout.T @ inv

    return given(forward, 3 * np.eye(3) + random(3, 3), backward=backward)


@wrong
def three_linear_maps_in_one_with_lost_sum():
    """dx takes only the value's path of three: query and key are not added."""

    class QKV:
        def __init__(self, n):
            self.w_query, self.w_key, self.w_value = (random(n, n, seed=s) for s in (1, 2, 3))

        def forward(self, x):
            self.x = x
            return x @ self.w_query, x @ self.w_key, x @ self.w_value

        def backward(self, dq, dk, dv):
            self.d_w_query, self.d_w_key, self.d_w_value = self.x.T @ dq, self.x.T @ dk, self.x.T @ dv
            dx = dq @ self.w_query.T
            dx = dk @ self.w_key.T
            dx = dv @ self.w_value.T
            return dx

    return given(QKV(3), random(4, 3))


@wrong
def distances_without_diagonal_sum():
    """The gradient of the second point set is missing its sum over the first one."""

    class Distances:
        def forward(self, a, b):
            self.diff = a[:, None, :] - b[None, :, :]
            return np.sum(self.diff**2, axis=-1)

        def backward(self, dy):
            d = 2 * dy[:, :, None] * self.diff
            return d.sum(1), -d[0]

    return given(Distances(), random(3, 2), random(4, 2, seed=1))

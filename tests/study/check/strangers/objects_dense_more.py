"""Layers around a matrix product: folded biases, big vectors, ties, weight norm, bilinear, low rank."""

import numpy as np
from strangers.given import given, random, right


class DenseWithFoldedBias:
    """The last row of theta is the bias."""

    def __init__(self, n, m):
        self.theta = np.random.default_rng(8).normal(size=(n + 1, m))

    def _with_ones(self, x):
        ones = np.ones((x.shape[0], x.shape[1] + 1))
        ones[:, :-1] = x
        return ones

    def forward(self, x):
        self.extended = self._with_ones(x)
        return self.extended @ self.theta

    def backward(self, dy):
        self.grad_theta = self.extended.T @ dy
        return (dy @ self.theta.T)[:, :-1]


@right
def dense_with_the_bias_folded_into_the_weights():
    return given(DenseWithFoldedBias(3, 2), random(4, 3))


class FlatNetwork:
    """All parameters are views of one vector, all gradients views of another."""

    def __init__(self, n, hidden, m):
        sizes = [n * hidden, hidden, hidden * m]
        self.flat = np.random.default_rng(3).normal(size=sum(sizes)) * 0.7
        self.flat_grad = np.zeros_like(self.flat)
        self.W1, self.b1, self.W2 = self._views(self.flat, n, hidden, m)
        self.dW1, self.db1, self.dW2 = self._views(self.flat_grad, n, hidden, m)

    @staticmethod
    def _views(vector, n, hidden, m):
        first, second = n * hidden, n * hidden + hidden
        return vector[:first].reshape(n, hidden), vector[first:second], vector[second:].reshape(hidden, m)

    def forward(self, x):
        self.x = x
        self.h = np.tanh(x @ self.W1 + self.b1)
        return self.h @ self.W2

    def backward(self, dy):
        self.dW2[:] = self.h.T @ dy
        dz = dy @ self.W2.T * (1 - self.h**2)
        self.dW1[:] = self.x.T @ dz
        self.db1[:] = dz.sum(0)
        return dz @ self.W1.T


@right
def network_whose_parameters_are_views_of_one_vector():
    return given(FlatNetwork(3, 4, 2), random(5, 3))


class UnpackingLayer:
    """Only the long vector lives on the object; the matrices are cut out in every pass."""

    def __init__(self, n, m):
        self.n, self.m = n, m
        self.theta = np.random.default_rng(14).normal(size=n * m + m)

    def forward(self, x):
        W = self.theta[: self.n * self.m].reshape(self.n, self.m)
        self.x = x
        self.y = np.tanh(x @ W + self.theta[-self.m :])
        return self.y

    def backward(self, dy):
        dz = dy * (1 - self.y * self.y)
        self.dtheta = np.concatenate([(self.x.T @ dz).ravel(), dz.sum(axis=0)])
        return dz @ self.theta[: self.n * self.m].reshape(self.n, self.m).T


@right
def layer_that_cuts_its_matrices_out_of_a_vector():
    return given(UnpackingLayer(3, 3), random(4, 3))


class TiedAutoencoder:
    def __init__(self, n, hidden):
        rng = np.random.default_rng(10)
        self.W = rng.normal(scale=0.4, size=(n, hidden))
        self.b_hidden = rng.normal(size=hidden)
        self.b_visible = rng.normal(size=n)

    def forward(self, x):
        self.x = x
        self.h = 1 / (1 + np.exp(-(x @ self.W + self.b_hidden)))
        return self.h @ self.W.T + self.b_visible

    def backward(self, dout):
        dh = dout @ self.W
        dz = dh * self.h * (1 - self.h)
        self.dW = dout.T @ self.h + self.x.T @ dz
        self.db_hidden, self.db_visible = dz.sum(0), dout.sum(0)
        return dz @ self.W.T


@right
def autoencoder_with_tied_weights():
    return given(TiedAutoencoder(4, 3), random(5, 4))


class Cell:
    def __init__(self, data):
        self.data = data
        self.grad = np.zeros(data.shape)


class SharedTwice:
    """The same parameter object is used by two steps of the layer and held under two names; gradients are summed."""

    def __init__(self, n):
        self.first = Cell(np.random.default_rng(11).normal(size=(n, n)))
        self.second = self.first

    def zero_grad(self):
        self.first.grad[...] = 0

    def forward(self, x):
        self.zero_grad()
        self.x = x
        self.h = np.tanh(x @ self.first.data)
        return self.h @ self.second.data

    def backward(self, dy):
        self.second.grad += self.h.T @ dy
        dz = (dy @ self.second.data.T) * (1.0 - self.h**2)
        self.first.grad += self.x.T @ dz
        return dz @ self.first.data.T


@right
def two_steps_with_one_shared_parameter_object():
    return given(SharedTwice(3), random(4, 3))


class AddingDense:
    """Adds to its gradients in every backward pass until zero_grad is called."""

    def __init__(self, n, m):
        self.weight = Cell(np.random.default_rng(23).normal(size=(n, m)))
        self.bias = Cell(np.zeros(m))

    def parameters(self):
        return [self.weight, self.bias]

    def zero_grad(self):
        for p in self.parameters():
            p.grad.fill(0)

    def forward(self, x):
        self.x = x
        return x @ self.weight.data + self.bias.data

    def backward(self, dy):
        self.weight.grad += self.x.T @ dy
        self.bias.grad += dy.sum(axis=0)
        return dy @ self.weight.data.T


@right
def dense_that_adds_to_its_gradients_until_zero_grad():
    return given(AddingDense(3, 2), random(4, 3))


class WeightNormDense:
    def __init__(self, n, m):
        rng = np.random.default_rng(13)
        self.v = rng.normal(size=(n, m))
        self.g = rng.uniform(0.5, 1.5, size=m)
        self.b = np.zeros(m)

    def forward(self, x):
        self.x = x
        self.norm = np.linalg.norm(self.v, axis=0)
        self.direction = self.v / self.norm
        self.w = self.g * self.direction
        return x @ self.w + self.b

    def backward(self, dy):
        dw = self.x.T @ dy
        self.dg = np.sum(dw * self.direction, axis=0)
        self.dv = self.g / self.norm * (dw - self.direction * self.dg)
        self.db = dy.sum(axis=0)
        return dy @ self.w.T


@right
def dense_with_weight_normalisation():
    return given(WeightNormDense(4, 3), random(2, 4))


class Bilinear:
    def __init__(self, n1, n2, out):
        rng = np.random.default_rng(15)
        self.weight = rng.normal(size=(out, n1, n2)) / n1
        self.bias = rng.normal(size=(out,))

    def forward(self, x1, x2):
        self.saved = x1, x2
        return np.einsum("bi,kij,bj->bk", x1, self.weight, x2) + self.bias

    def backward(self, grad):
        x1, x2 = self.saved
        self.weight_grad = np.einsum("bk,bi,bj->kij", grad, x1, x2)
        self.bias_grad = grad.sum(axis=0)
        dx1 = np.einsum("bk,kij,bj->bi", grad, self.weight, x2)
        dx2 = np.einsum("bk,kij,bi->bj", grad, self.weight, x1)
        return dx1, dx2


@right
def bilinear_form_of_two_inputs():
    return given(Bilinear(3, 4, 2), random(5, 3), random(5, 4, seed=1))


class LowRank:
    def __init__(self, n, rank, m):
        rng = np.random.default_rng(16)
        self.factors = (rng.normal(size=(n, rank)), rng.normal(size=(rank, m)))
        self.factor_grads = [None, None]

    def forward(self, x):
        U, V = self.factors
        self.x, self.xu = x, x @ U
        return self.xu @ V

    def backward(self, dy):
        U, V = self.factors
        dxu = dy @ V.T
        self.factor_grads = [self.x.T @ dxu, self.xu.T @ dy]
        return [dxu @ U.T]


@right
def product_of_two_low_rank_factors_in_a_tuple():
    layer = LowRank(4, 2, 3)
    return given(
        layer,
        random(3, 4),
        params={"U": layer.factors[0], "V": layer.factors[1]},
        grads={"U": lambda layer: layer.factor_grads[0], "V": lambda layer: layer.factor_grads[1]},
    )


class AdaptedDense:
    """A frozen matrix plus a trained product A B, where B starts at zero."""

    def __init__(self, n, m, rank=2, alpha=4.0):
        rng = np.random.default_rng(17)
        self.frozen = rng.normal(size=(n, m))
        self.A = rng.normal(size=(n, rank))
        self.B = np.zeros((rank, m))
        self.scale = alpha / rank

    def forward(self, x):
        self.x = x
        return x @ self.frozen + self.scale * (x @ self.A @ self.B)

    def backward(self, dy):
        scaled = self.scale * dy
        self.dA = self.x.T @ (scaled @ self.B.T)
        self.dB = (self.x @ self.A).T @ scaled
        return dy @ self.frozen.T + scaled @ self.B.T @ self.A.T


@right
def low_rank_adapter_that_starts_at_zero():
    return given(AdaptedDense(4, 3), random(5, 4), constants=["frozen"])


class ScaleAndShift:
    """Parameters are kept in a store with unusual names."""

    def __init__(self, n):
        self.table = np.random.default_rng(18).normal(size=(2, n))
        self.store = {}

    def forward(self, x):
        self.x = x
        return x * self.table[0] + self.table[1]

    def backward(self, dy):
        self.store["w"] = np.stack([(dy * self.x).sum(0), dy.sum(0)])
        return dy * self.table[0]


@right
def scale_and_shift_whose_gradient_lies_in_a_store():
    return given(ScaleAndShift(4), random(3, 4), params=["table"], grads={"table": "store.w"})


class PrivateNames:
    def __init__(self, n, m):
        rng = np.random.default_rng(19)
        self._w, self._b = rng.normal(size=(n, m)), rng.normal(size=m)
        self._gw = self._gb = None

    def params(self):
        return [self._w, self._b]

    def grads(self):
        return [self._gw, self._gb]

    def forward(self, x):
        self._x = x
        return np.sin(x @ self._w + self._b)

    def backward(self, dy):
        dz = dy * np.cos(self._x @ self._w + self._b)
        self._gw, self._gb = self._x.T @ dz, dz.sum(axis=0)
        return {"x": dz @ self._w.T}


@right
def sine_layer_with_methods_for_params_and_grads():
    return given(PrivateNames(3, 4), random(2, 3))


class MaxoutDense:
    def __init__(self, n, m, pieces):
        rng = np.random.default_rng(20)
        self.W = rng.normal(size=(pieces, n, m))
        self.b = rng.normal(size=(pieces, m))

    def forward(self, x):
        z = np.einsum("bn,pnm->bpm", x, self.W) + self.b
        self.x, self.winner = x, z.argmax(axis=1)
        return z.max(axis=1)

    def backward(self, dy):
        dz = np.zeros((dy.shape[0], len(self.W), dy.shape[1]))
        np.put_along_axis(dz, self.winner[:, None, :], dy[:, None, :], axis=1)
        self.dW = np.einsum("bn,bpm->pnm", self.x, dz)
        self.db = dz.sum(0)
        return np.einsum("bpm,pnm->bn", dz, self.W)


@right
def maxout_of_three_pieces():
    return given(MaxoutDense(4, 3, 3), random(5, 4))


class DensePerPosition:
    """A matrix of its own for every position; computed in a Python loop with lists."""

    def __init__(self, length, n, m):
        rng = np.random.default_rng(22)
        self.weights = [rng.normal(size=(n, m)) for _ in range(length)]
        self.weights_gradient = [np.zeros((n, m)) for _ in range(length)]

    def forward(self, x):
        self.x = x
        return np.stack([x[:, t] @ w for t, w in enumerate(self.weights)], axis=1)

    def backward(self, dy):
        dx = np.zeros_like(self.x)
        for t, w in enumerate(self.weights):
            self.weights_gradient[t] = self.x[:, t].T @ dy[:, t]
            dx[:, t] = dy[:, t] @ w.T
        return dx


@right
def dense_with_a_list_of_weights_one_per_position():
    return given(DensePerPosition(3, 4, 2), random(2, 3, 4))

"""Mistakes in returned dicts, skipped or missing sub-layers, tied weights and folded or viewed parameters."""

import numpy as np
from strangers.given import given, random, wrong


@wrong
def returned_dict_with_wrong_weight():
    """The dict returned by backward has a wrong dW (divided by the batch size)."""

    class Dense:
        def __init__(self):
            self.W, self.b = random(3, 2, seed=1), random(2, seed=2)

        def forward(self, x):
            self.x = x
            return x @ self.W + self.b

        def backward(self, dy):
            return {"dx": dy @ self.W.T, "dW": self.x.T @ dy / len(dy), "db": dy.sum(0)}

    return given(Dense(), random(4, 3))


@wrong
def returned_tuple_with_wrong_bias():
    """The tuple (dx, dW, db) has a wrong db (the first row)."""

    class Dense:
        def __init__(self):
            self.W, self.b = random(2, 3, seed=1), random(3, seed=2)

        def forward(self, x):
            self.x = x
            return np.maximum(x @ self.W + self.b, 0)

        def backward(self, dy):
            dz = dy * (self.x @ self.W + self.b > 0)
            return dz @ self.W.T, self.x.T @ dz, dz[0]

    return given(Dense(), random(5, 2))


@wrong
def bias_without_any_gradient():
    """There is no gradient of b at all."""

    class Dense:
        def __init__(self):
            self.W, self.b = random(3, 3, seed=1), random(3, seed=2)

        def forward(self, x):
            self.x = x
            return x @ self.W + self.b

        def backward(self, dy):
            self.dW = self.x.T @ dy
            return dy @ self.W.T

    return given(Dense(), random(4, 3))


@wrong
def position_table_without_gradient():
    """The position table in a list of tables has no gradient."""

    class TokensAndPositions:
        def __init__(self):
            self.tables = [random(6, 3, seed=1), random(4, 3, seed=2)]
            self.table_grads = [np.zeros_like(t) for t in self.tables]

        def forward(self, ids):
            self.ids = ids
            return self.tables[0][ids] + self.tables[1][: ids.shape[1]]

        def backward(self, dy):
            self.table_grads[0] = np.zeros_like(self.tables[0])
            np.add.at(self.table_grads[0], self.ids, dy)

    return given(TokensAndPositions(), np.array([[1, 5, 1], [0, 2, 2]]))


@wrong
def single_number_slope_with_wrong_gradient():
    """The slope, a float, has a gradient averaged over the cells."""

    class PReLU:
        def __init__(self, alpha=0.25):
            self.alpha = alpha
            self.dalpha = 0.0

        def forward(self, x):
            self.x = x
            return np.where(x > 0, x, self.alpha * x)

        def backward(self, dy):
            self.dalpha = float(np.mean(dy * np.minimum(self.x, 0)))
            return dy * np.where(self.x > 0, 1.0, self.alpha)

    return given(PReLU(), random(4, 4), params=["alpha"])


class Linear:
    """A right linear layer."""

    def __init__(self, n_in, n_out, seed):
        self.W, self.b = random(n_in, n_out, seed=seed) / np.sqrt(n_in), random(n_out, seed=seed + 10)
        self.dW, self.db = np.zeros_like(self.W), np.zeros_like(self.b)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        self.dW, self.db = self.x.T @ dy, dy.sum(0)
        return dy @ self.W.T


class Tanh:
    """A right tanh."""

    def forward(self, x):
        self.y = np.tanh(x)
        return self.y

    def backward(self, dy):
        return dy * (1 - self.y**2)


class Sequential:
    """A right chain of layers."""

    def __init__(self, *layers):
        self.layers = list(layers)

    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dy):
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy


@wrong
def chain_that_skips_first_layer_in_backward():
    """backward leaves out the first layer, which has as many outputs as inputs."""

    class Chain(Sequential):
        def backward(self, dy):
            for layer in self.layers[:0:-1]:
                dy = layer.backward(dy)
            return dy

    return given(Chain(Linear(3, 3, seed=1), Tanh(), Linear(3, 2, seed=2)), random(4, 3))


@wrong
def experts_of_which_one_is_not_told():
    """The second expert's backward is never called, though dx is right."""

    class Experts:
        def __init__(self):
            self.experts = [Linear(3, 2, seed=s) for s in (1, 2, 3)]

        def forward(self, x):
            return sum(expert.forward(x) for expert in self.experts)

        def backward(self, dy):
            dx = dy @ self.experts[1].W.T
            return dx + self.experts[0].backward(dy) + self.experts[2].backward(dy)

    return given(Experts(), random(4, 3))


@wrong
def layer_used_twice_with_last_use_counted():
    """One layer is used twice in a chain; each backward overwrites the gradient of the other use."""

    class Twice:
        def __init__(self):
            self.shared = Linear(3, 3, seed=4)

        def forward(self, x):
            self.x = x
            self.h = np.tanh(self.shared.forward(x))
            return self.shared.forward(self.h)

        def backward(self, dy):
            dh = self.shared.backward(dy) * (1 - self.h**2)
            self.shared.x = self.x
            return self.shared.backward(dh)

    return given(Twice(), random(4, 3))


@wrong
def tied_autoencoder_with_one_use_counted():
    """W is used for encoding and for decoding; dW counts the decoding only."""

    class TiedAutoEncoder:
        def __init__(self):
            self.W = random(4, 3, seed=1)

        def forward(self, x):
            self.x = x
            self.h = np.tanh(x @ self.W)
            return self.h @ self.W.T

        def backward(self, dy):
            dz = dy @ self.W * (1 - self.h**2)
            self.dW = dy.T @ self.h
            return dz @ self.W.T

    return given(TiedAutoEncoder(), random(3, 4))


@wrong
def tied_embedding_and_output_with_one_use_counted():
    """The table serves as embedding and as output projection; its gradient counts the output only."""

    def forward(ids, table):
        h = np.tanh(table[ids].mean(axis=1))
        return h @ table.T, (ids, table, h)

    def backward(dout, cache):
        ids, table, h = cache
        return None, dout.T @ h

    return given(forward, np.array([[0, 1], [3, 3]]), random(5, 3), backward=backward)


@wrong
def bias_folded_into_weight_array():
    """The bias is the last row of a bigger array; its gradient is that of one sample."""

    class Folded:
        def __init__(self):
            self.theta = random(4, 2, seed=1)
            self.dtheta = np.zeros_like(self.theta)

        def forward(self, x):
            self.x1 = np.hstack([x, np.ones((len(x), 1))])
            return self.x1 @ self.theta

        def backward(self, dy):
            self.dtheta[:-1] = self.x1[:, :-1].T @ dy
            self.dtheta[-1] = dy[0]
            return dy @ self.theta[:-1].T

    return given(Folded(), random(5, 3))


@wrong
def weight_is_a_transposed_view():
    """W is a transposed view; dW is that of the array behind it (square)."""

    class ViewDense:
        def __init__(self):
            self.W = random(3, 3, seed=1).T

        def forward(self, x):
            self.x = x
            return x @ self.W

        def backward(self, dy):
            self.dW = (self.x.T @ dy).T
            return dy @ self.W.T

    return given(ViewDense(), random(4, 3))


@wrong
def weights_are_views_of_one_vector():
    """The gradients are written into one long vector, the bias one place too early."""

    class Flat:
        def __init__(self):
            self.theta = random(9, seed=1)
            self.W, self.b = self.theta[:6].reshape(3, 2), self.theta[6:8]
            self.gain = self.theta[8:]

        def forward(self, x):
            self.x = x
            return self.gain * (x @ self.W + self.b)

        def backward(self, dy):
            self.dtheta = np.zeros(9)
            self.dtheta[:6] = self.gain * (self.x.T @ dy).ravel()
            self.dtheta[6:8] = self.gain * dy.sum(0)[::-1]
            self.dtheta[8] = np.sum(dy * (self.x @ self.W + self.b))
            return self.gain * dy @ self.W.T

    layer = Flat()
    return given(layer, random(4, 3), params={"theta": layer.theta}, grads={"theta": "dtheta"})


@wrong
def weight_is_a_strided_view():
    """Every second column of a bigger array is the weight; its gradient is that of the other columns."""

    class Interleaved:
        def __init__(self):
            self.bank = random(3, 4, seed=1)
            self.bank_grad = np.zeros_like(self.bank)

        def forward(self, x):
            self.x = x
            return x @ self.bank[:, ::2] - np.sin(x @ self.bank[:, 1::2])

        def backward(self, dy):
            right = -dy * np.cos(self.x @ self.bank[:, 1::2])
            self.bank_grad[:, ::2] = self.x.T @ right
            self.bank_grad[:, 1::2] = self.x.T @ dy
            return dy @ self.bank[:, ::2].T + right @ self.bank[:, 1::2].T

    return given(Interleaved(), random(4, 3))

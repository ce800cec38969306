"""Layers made of layers: lists, dicts, blocks, branches."""

import numpy as np
from strangers.given import given, random, right


class Linear:
    def __init__(self, n, m, seed):
        self.W = np.random.default_rng(seed).normal(size=(n, m)) / np.sqrt(n)
        self.b = np.zeros(m)
        self.dW, self.db = np.zeros_like(self.W), np.zeros_like(self.b)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        axes = list(range(dy.ndim - 1))
        self.dW = np.tensordot(self.x, dy, (axes, axes))
        self.db = dy.sum(axis=tuple(axes))
        return dy @ self.W.T


class Tanh:
    def forward(self, x):
        self.y = np.tanh(x)
        return self.y

    def backward(self, dy):
        return dy * (1 - self.y**2)


class ReLU:
    def forward(self, x):
        self.x = x
        return np.maximum(0, x)

    def backward(self, dy):
        dx = dy.copy()
        dx[self.x <= 0] = 0
        return dx


class Sigmoid:
    def forward(self, x):
        self.out = 1 / (1 + np.exp(-x))
        return self.out

    def backward(self, dout):
        return dout * (1.0 - self.out) * self.out


class Sequential:
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


@right
def sequence_of_layers_in_a_list():
    return given(Sequential(Linear(3, 4, 1), Tanh(), Linear(4, 2, 2)), random(5, 3))


@right
def sequence_in_a_sequence():
    def network():
        inner = Sequential(Linear(4, 4, 3), Sigmoid())
        return Sequential(Linear(3, 4, 1), ReLU(), inner, Linear(4, 3, 2))

    return given(network, random(4, 3))


@right
def sequence_with_some_relus_at_exact_zeros_because_their_weights_are_zero():
    first = Linear(3, 4, 1)
    first.W[:, :2] *= 0
    return given(Sequential(first, ReLU(), Linear(4, 2, 2)), random(1, 3))


class NamedLayers:
    def __init__(self):
        self.layers = {"affine1": Linear(4, 5, 4), "relu1": ReLU(), "affine2": Linear(5, 3, 5)}
        self.gradients = {}

    def forward(self, x):
        for layer in self.layers.values():
            x = layer.forward(x)
        return x

    def backward(self, dout):
        for name in list(self.layers)[::-1]:
            dout = self.layers[name].backward(dout)
        return dout


@right
def layers_in_a_dict():
    return given(NamedLayers(), random(3, 4))


class Residual:
    def __init__(self, body):
        self.body = body

    def forward(self, x):
        return x + self.body.forward(x)

    def backward(self, dy):
        return dy + self.body.backward(dy)


@right
def residual_branch_that_starts_at_zero():
    last = Linear(5, 3, 7)
    last.W[:] = 0.0
    return given(Residual(Sequential(Linear(3, 5, 6), Tanh(), last)), random(4, 3))


class Highway:
    def __init__(self, n):
        self.transform, self.gate = Linear(n, n, 8), Linear(n, n, 9)
        self.gate.b -= 1.0

    def forward(self, x):
        self.x = x
        self.h = np.tanh(self.transform.forward(x))
        self.t = 1 / (1 + np.exp(-self.gate.forward(x)))
        return self.t * self.h + (1 - self.t) * x

    def backward(self, dy):
        dh = self.transform.backward(dy * self.t * (1 - self.h**2))
        dt = self.gate.backward(dy * (self.h - self.x) * self.t * (1 - self.t))
        return dh + dt + dy * (1 - self.t)


@right
def highway_layer():
    return given(Highway(4), random(3, 4))


class Branches:
    """Several branches of different kinds, kept in a tuple, joined side by side."""

    def __init__(self, *branches):
        self.branches = branches

    def __call__(self, x):
        outputs = [b.forward(x) for b in self.branches]
        self.widths = [o.shape[-1] for o in outputs]
        return np.concatenate(outputs, axis=-1)

    def backward(self, dy):
        dx, start = 0.0, 0
        for branch, width in zip(self.branches, self.widths):
            dx = dx + branch.backward(dy[..., start : start + width])
            start += width
        return dx


@right
def branches_in_a_tuple_side_by_side():
    return given(Branches(Linear(3, 2, 10), Tanh(), Sequential(Linear(3, 3, 11), Sigmoid())), random(4, 3))


class GatedFeedForward:
    """Matrices in a dict of dicts; gradients in a second dict of the same form."""

    def __init__(self, d, hidden):
        rng = np.random.default_rng(12)
        self.weights = {
            "up": {"W": rng.normal(size=(d, hidden))},
            "gate": {"W": rng.normal(size=(d, hidden))},
            "down": {"W": rng.normal(size=(hidden, d))},
        }
        self.weight_grads = {"up": {}, "gate": {}, "down": {}}

    def forward(self, x):
        w = self.weights
        u, g = x @ w["up"]["W"], x @ w["gate"]["W"]
        s = 1 / (1 + np.exp(-g))
        self.saved = x, u, g, s
        return (u * g * s) @ w["down"]["W"]

    def backward(self, dy):
        (x, u, g, s), w, grads = self.saved, self.weights, self.weight_grads
        over = [0, 1], [0, 1]
        grads["down"]["W"] = np.tensordot(u * g * s, dy, axes=over)
        dh = dy @ w["down"]["W"].T
        du, dg = dh * g * s, dh * u * s * (1 + g * (1 - s))
        grads["up"]["W"] = np.tensordot(x, du, axes=over)
        grads["gate"]["W"] = np.tensordot(x, dg, axes=over)
        return du @ w["up"]["W"].T + dg @ w["gate"]["W"].T


@right
def gated_feed_forward_with_a_dict_of_dicts():
    layer = GatedFeedForward(3, 4)
    return given(
        layer,
        random(2, 2, 3),
        params={k: v["W"] for k, v in layer.weights.items()},
        grads={k: f"weight_grads.{k}.W" for k in layer.weights},
    )


class SharedLayer:
    """One layer object is applied to two inputs, so its gradients are added up."""

    def __init__(self, n, m):
        rng = np.random.default_rng(13)
        self.W, self.b = rng.normal(size=(n, m)), rng.normal(size=m)

    def encode(self, x):
        return np.tanh(x @ self.W + self.b)

    def forward(self, left, other):
        self.inputs = [left, other]
        self.codes = [self.encode(x) for x in self.inputs]
        return ((self.codes[0] - self.codes[1]) ** 2).sum(axis=1)

    def backward(self, dy):
        self.grad_W, self.grad_b = np.zeros(self.W.shape), np.zeros(self.b.shape)
        d = 2 * dy[:, None] * (self.codes[0] - self.codes[1])
        result = []
        for x, code, sign in zip(self.inputs, self.codes, (1, -1)):
            dz = sign * d * (1 - code**2)
            self.grad_W += x.T @ dz
            self.grad_b += dz.sum(0)
            result.append(dz @ self.W.T)
        return result


@right
def twin_network_with_one_set_of_weights():
    return given(SharedLayer(3, 4), random(4, 3), random(4, 3, seed=1))


class TransformerBlock:
    """Layer norms without gain, one head, feed-forward; everything in one class; parameters by a method."""

    def __init__(self, d):
        rng = np.random.default_rng(14)
        shapes = {"q": (d, d), "k": (d, d), "v": (d, d), "o": (d, d), "in": (d, 2 * d), "out": (2 * d, d)}
        self.w = {name: rng.normal(size=shape) / np.sqrt(shape[0]) for name, shape in shapes.items()}
        self.dw = {}

    def parameters(self):
        return self.w

    def grads(self):
        return self.dw

    @staticmethod
    def norm(x):
        sd = np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return (x - x.mean(-1, keepdims=True)) / sd, sd

    @staticmethod
    def norm_backward(dn, n, sd):
        return (dn - dn.mean(-1, keepdims=True) - n * (dn * n).mean(-1, keepdims=True)) / sd

    def forward(self, x):
        w = self.w
        n1, s1 = self.norm(x)
        q, k, v = n1 @ w["q"], n1 @ w["k"], n1 @ w["v"]
        s = np.where(np.tri(len(x), dtype=bool), q @ k.T / np.sqrt(q.shape[1]), -np.inf)
        p = np.exp(s - s.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        a = p @ v
        h = x + a @ w["o"]
        n2, s2 = self.norm(h)
        f = np.maximum(n2 @ w["in"], 0)
        self.saved = n1, s1, q, k, v, p, a, n2, s2, f
        return h + f @ w["out"]

    def backward(self, dy):
        n1, s1, q, k, v, p, a, n2, s2, f = self.saved
        w, dw = self.w, self.dw
        dw["out"] = f.T @ dy
        df = dy @ w["out"].T * (f > 0)
        dw["in"] = n2.T @ df
        dh = dy + self.norm_backward(df @ w["in"].T, n2, s2)
        dw["o"] = a.T @ dh
        da = dh @ w["o"].T
        dp, dv = da @ v.T, p.T @ da
        ds = p * (dp - (dp * p).sum(1, keepdims=True)) / np.sqrt(q.shape[1])
        dq, dk = ds @ k, ds.T @ q
        dw["q"], dw["k"], dw["v"] = n1.T @ dq, n1.T @ dk, n1.T @ dv
        dn1 = dq @ w["q"].T + dk @ w["k"].T + dv @ w["v"].T
        return dh + self.norm_backward(dn1, n1, s1)


@right
def transformer_block_with_methods_that_give_dicts():
    return given(TransformerBlock(4), random(5, 4))

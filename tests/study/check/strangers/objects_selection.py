"""Embeddings, gathering, sorting, distances and features."""

import numpy as np
from strangers.given import given, random, right


class Embedding:
    def __init__(self, n, d):
        self.weight = np.random.default_rng(1).normal(size=(n, d))
        self.grad_weight = np.zeros_like(self.weight)

    def forward(self, ids):
        self.ids = ids
        return self.weight[ids]

    def backward(self, dy):
        self.grad_weight = np.zeros_like(self.weight)
        np.add.at(self.grad_weight, self.ids, dy)


@right
def embedding_with_repeated_ids():
    return given(Embedding(6, 3), np.array([[0, 2, 2], [5, 0, 2]]))


class PaddedEmbedding:
    """Row 0 is padding: it gives zeros whatever the table says."""

    def __init__(self, n, d):
        self.params = [np.random.default_rng(2).normal(size=(n, d))]
        self.grads = [np.zeros((n, d))]

    def forward(self, ids):
        self.ids = np.asarray(ids)
        return self.params[0][self.ids] * (self.ids != 0)[..., None]

    def backward(self, dout):
        (dW,) = self.grads
        dW[...] = 0
        for i, word in enumerate(self.ids):
            if word != 0:
                dW[word] += dout[i]
        return None


@right
def embedding_with_a_padding_row():
    return given(PaddedEmbedding(5, 3), [1, 0, 4, 1])


class EmbeddingBag:
    def __init__(self, n, d):
        self.table = {"data": np.random.default_rng(3).normal(size=(n, d)), "grad": None}

    def forward(self, ids, weights):
        self.ids, self.w = ids, weights
        return (self.table["data"][ids] * weights[..., None]).sum(axis=1)

    def backward(self, dy):
        spread = self.w[..., None] * dy[:, None, :]
        one_hot = np.eye(len(self.table["data"]))[self.ids]
        self.table["grad"] = np.tensordot(one_hot, spread, axes=([0, 1], [0, 1]))
        return {"weights": np.sum(self.table["data"][self.ids] * dy[:, None, :], axis=-1)}


@right
def bag_of_embeddings_with_weights():
    return given(EmbeddingBag(5, 3), np.array([[1, 1, 3], [0, 4, 1]]), random(2, 3))


class TiedLanguageModel:
    """The embedding table is used again to score the next word."""

    def __init__(self, n, d):
        self.E = np.random.default_rng(4).normal(size=(n, d))
        self.dE = None

    def forward(self, ids):
        self.ids = ids
        self.h = np.tanh(self.E[ids])
        return self.h @ self.E.T

    def backward(self, dlogits):
        self.dE = np.einsum("btv,btd->vd", dlogits, self.h)
        dh = dlogits @ self.E * (1 - self.h**2)
        np.add.at(self.dE, self.ids.reshape(-1), dh.reshape(-1, dh.shape[-1]))


@right
def language_model_with_a_tied_table():
    return given(TiedLanguageModel(5, 3), np.array([[4, 0, 0], [1, 4, 2]]))


class Sort:
    def forward(self, x):
        self.order = np.argsort(x, axis=-1)
        return np.sort(x, axis=-1)

    def backward(self, dy):
        dx = np.empty_like(dy)
        np.put_along_axis(dx, self.order, dy, axis=-1)
        return dx


@right
def sort_of_every_row():
    return given(Sort(), random(3, 5))


class TopK:
    def __init__(self, k):
        self.k = k

    def forward(self, x):
        self.index = np.argpartition(-x, self.k - 1, axis=1)[:, : self.k]
        self.width = x.shape[1]
        return np.take_along_axis(x, self.index, axis=1).sum(axis=1)

    def backward(self, dy):
        dx = np.zeros((len(dy), self.width))
        np.put_along_axis(dx, self.index, np.repeat(dy[:, None], self.k, axis=1), axis=1)
        return dx


@right
def sum_of_the_largest_three_by_argpartition():
    return given(TopK(3), random(4, 7))


class MixtureOfExperts:
    """The best two of four experts, with renormalised gates."""

    def __init__(self, d, experts=4):
        rng = np.random.default_rng(5)
        self.router = rng.normal(size=(d, experts))
        self.experts = [{"W": rng.normal(size=(d, d)) * 0.5} for _ in range(experts)]

    def forward(self, x):
        self.x = x
        logits = x @ self.router
        self.chosen = np.argsort(-logits, axis=1)[:, :2]
        best = np.take_along_axis(logits, self.chosen, axis=1)
        e = np.exp(best - best.max(1, keepdims=True))
        self.gate = e / e.sum(1, keepdims=True)
        self.values = np.array([[row @ self.experts[i]["W"] for i in pair] for row, pair in zip(x, self.chosen)])
        return (self.gate[..., None] * self.values).sum(axis=1)

    def backward(self, dy):
        dgate = np.einsum("bd,bkd->bk", dy, self.values)
        dbest = self.gate * (dgate - (self.gate * dgate).sum(1, keepdims=True))
        dlogits = np.zeros((len(dy), len(self.experts)))
        np.put_along_axis(dlogits, self.chosen, dbest, axis=1)
        dx = dlogits @ self.router.T
        self.drouter = self.x.T @ dlogits
        for expert in self.experts:
            expert["dW"] = np.zeros_like(expert["W"])
        for b, pair in enumerate(self.chosen):
            for k, i in enumerate(pair):
                dv = self.gate[b, k] * dy[b]
                self.experts[i]["dW"] += np.outer(self.x[b], dv)
                dx[b] += self.experts[i]["W"] @ dv
        return dx


@right
def mixture_of_the_two_best_experts():
    return given(MixtureOfExperts(3), random(5, 3))


class Gather:
    def forward(self, x, index):
        self.shape, self.index = x.shape, index
        return np.take_along_axis(x, index, axis=1)

    def backward(self, dy):
        dx = np.zeros(self.shape)
        rows = np.arange(len(dy))[:, None]
        np.add.at(dx, (rows, self.index), dy)
        return (dx, None)


@right
def gather_along_an_axis_with_repeated_indices():
    return given(Gather(), random(3, 4), np.array([[0, 0, 3], [1, 2, 1], [3, 3, 3]]))


class Scatter:
    """Sums rows into segments, as in a graph layer; segments may be empty."""

    def __init__(self, segments):
        self.segments = segments

    def forward(self, x, segment):
        self.segment = segment
        out = np.zeros((self.segments, x.shape[1]))
        for row, s in zip(x, segment):
            out[s] += row
        return out

    def backward(self, dy):
        return dy[self.segment]


@right
def sum_of_rows_into_segments():
    return given(Scatter(4), random(6, 2), np.array([0, 3, 3, 1, 0, 3]))


class CosineSimilarity:
    def __init__(self, eps=1e-8):
        self.eps = eps

    def forward(self, a, b):
        self.a, self.b = a, b
        self.na, self.nb = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
        self.cos = (a * b).sum(axis=1) / np.maximum(self.na * self.nb, self.eps)
        return self.cos

    def backward(self, dy):
        na, nb, cos = self.na[:, None], self.nb[:, None], self.cos[:, None]
        da = self.b / (na * nb) - cos * self.a / na**2
        db = self.a / (na * nb) - cos * self.b / nb**2
        return dy[:, None] * da, dy[:, None] * db


@right
def cosine_similarity_of_rows():
    return given(CosineSimilarity(), random(4, 3), random(4, 3, seed=1))


class SquaredDistances:
    def forward(self, x):
        norms = (x**2).sum(axis=1)
        self.x = x
        return norms[:, None] + norms[None, :] - 2 * x @ x.T

    def backward(self, dy):
        s = dy + dy.T
        return 2 * (s.sum(axis=1)[:, None] * self.x - s @ self.x)


@right
def matrix_of_squared_distances_between_the_rows_of_one_input():
    return given(SquaredDistances(), random(4, 3))


class RadialBasis:
    def __init__(self, k, d):
        rng = np.random.default_rng(6)
        self.centres, self.log_width = rng.normal(size=(k, d)), np.zeros(k)
        self.d_centres, self.d_log_width = np.zeros((k, d)), np.zeros(k)

    def forward(self, x):
        self.difference = x[:, np.newaxis, :] - self.centres[np.newaxis]
        self.distance = np.linalg.norm(self.difference, axis=2)
        self.precision = np.exp(-2 * self.log_width)
        self.y = np.exp(-0.5 * self.precision * self.distance**2)
        return self.y

    def backward(self, dy):
        g = dy * self.y * self.precision
        self.d_log_width[:] = (g * self.distance**2).sum(0)
        pull = g[..., None] * self.difference
        self.d_centres[:] = pull.sum(axis=0)
        return -pull.sum(axis=1)


@right
def radial_basis_functions():
    return given(RadialBasis(3, 2), random(4, 2))

"""Embeddings and tied weights with a mistake."""

import numpy as np
from named.given import given, mistake, random

IDS = np.array([[1, 4, 1], [0, 1, 3]])


@mistake("param W", "repeated ids")
def embedding_rows_counted_once():
    """W.grad[ids] += dy keeps one of several equal ids."""

    class Embedding:
        def __init__(self, v, d):
            self.W = random(v, d, seed=1)

        def forward(self, ids):
            self.ids = ids
            return self.W[ids]

        def backward(self, dy):
            self.dW = np.zeros_like(self.W)
            self.dW[self.ids] += dy

    return given(Embedding(5, 3), IDS)


@mistake("param W", "mask")
def padding_row_learns():
    """Padding (id 0) is zeroed in forward; its row gets a gradient all the same."""

    class Embedding:
        def __init__(self, v, d):
            self.W = random(v, d, seed=1)

        def forward(self, ids):
            self.ids = ids
            return self.W[ids] * (ids != 0)[..., None]

        def backward(self, dy):
            self.dW = np.zeros_like(self.W)
            np.add.at(self.dW, self.ids, dy)

    return given(Embedding(5, 2), np.array([[0, 2, 0], [4, 2, 1]]))


@mistake("param positions", "one example")
def position_gradient_of_the_first_sequence():
    """Positions are shared by the batch; the sum over the batch is missing."""

    class Positions:
        def __init__(self, t, d):
            self.positions = random(t, d, seed=1)

        def forward(self, x):
            return x + self.positions[: x.shape[1]]

        def backward(self, dy):
            self.grad_positions = np.zeros_like(self.positions)
            self.grad_positions[: dy.shape[1]] = dy[0]
            return dy

    return given(Positions(5, 3), random(2, 4, 3), grads={"positions": "grad_positions"})


@mistake("param params.W", "factor")
def scaled_embedding_without_scale_in_backward():
    """forward multiplies by sqrt(d), backward does not."""

    class Embedding:
        def __init__(self, v, d):
            self.params = {"W": random(v, d, seed=1)}
            self.grads = {"W": np.zeros((v, d))}

        def forward(self, ids):
            self.ids = ids
            return self.params["W"][ids] * np.sqrt(self.params["W"].shape[1])

        def backward(self, dy):
            self.grads["W"] = np.zeros_like(self.params["W"])
            np.add.at(self.grads["W"], self.ids, dy)

    return given(Embedding(5, 3), IDS)


@mistake("param E", "lost term")
def tied_table_with_the_gradient_of_the_head_alone():
    """The table is read twice: as embedding and as head. dE has the head's part only."""

    class Tied:
        def __init__(self):
            self.E, self.W = random(5, 3, seed=1), random(3, 3, seed=2)

        def forward(self, ids):
            self.ids = ids
            self.h = np.tanh(self.E[ids] @ self.W)
            return self.h @ self.E.T

        def backward(self, dy):
            self.dE = np.einsum("btv,btd->vd", dy, self.h)
            da = dy @ self.E * (1 - self.h**2)
            self.dW = np.einsum("btd,bte->de", self.E[self.ids], da)

    return given(Tied(), IDS)


@mistake("param W", "lost factor")
def bag_of_words_without_its_counts():
    """Each bag is a mean over its own number of words; backward does not divide."""

    class Bag:
        def __init__(self):
            self.W = random(6, 2, seed=1)
            self.bags = [[0, 3], [5], [1, 3, 4]]

        def forward(self, scale):
            self.s = scale
            self.m = np.stack([self.W[b].mean(0) for b in self.bags])
            return self.m * scale[:, None]

        def backward(self, dy):
            self.dW = np.zeros_like(self.W)
            for b, d, s in zip(self.bags, dy, self.s):
                np.add.at(self.dW, b, d * s)
            return (dy * self.m).sum(1)

    return given(Bag(), random(3))


@mistake("param W")
def gradient_into_the_next_row():
    """The gradient of id i is added to row i + 1 of a table that wraps round, for odd ids only."""

    class Embedding:
        def __init__(self):
            self.W = random(6, 2, seed=3)

        def forward(self, ids):
            self.ids = ids
            return self.W[ids]

        def backward(self, dy):
            self.dW = np.zeros_like(self.W)
            np.add.at(self.dW, (self.ids + self.ids % 2) % 6, dy)

    return given(Embedding(), np.array([1, 5, 2, 1]))

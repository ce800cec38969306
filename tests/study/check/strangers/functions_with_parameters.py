"""Factories, classes with slots or fields, and weights that lie outside of the functions."""

import functools
from collections import namedtuple
from dataclasses import dataclass, field

import numpy as np
from strangers.given import given, random, right


class Dense:
    def __init__(self, inputs, outputs, seed=0):
        self.W = random(inputs, outputs, seed=seed)
        self.b = np.zeros(outputs)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        self.dW = self.x.T @ dy
        self.db = dy.sum(axis=0)
        return dy @ self.W.T


@right
def factory_of_a_dense_layer():
    return given(lambda: Dense(3, 4), random(5, 3))


@right
def partial_factory_of_a_dense_layer():
    return given(functools.partial(Dense, 4, 2, seed=3), random(3, 4))


@right
def object_with_slots():
    class Slotted:
        __slots__ = ("w", "dw", "saved")

        def __init__(self, w):
            self.w = w

        def forward(self, x):
            self.saved = x
            return x * self.w

        def backward(self, dy):
            self.dw = (dy * self.saved).sum(axis=0)
            return dy * self.w

    return given(Slotted(random(3)), random(4, 3, seed=1))


@right
def dataclass_with_fields_for_gradients():
    @dataclass
    class Linear:
        weight: np.ndarray
        bias: np.ndarray
        weight_grad: np.ndarray = field(default=None, repr=False)
        bias_grad: np.ndarray = field(default=None, repr=False)

        def forward(self, x):
            self.x = x
            return x @ self.weight.T + self.bias

        def backward(self, dy):
            self.weight_grad = dy.T @ self.x
            self.bias_grad = dy.sum(0)
            return dy @ self.weight

    return given(Linear(random(2, 3), random(2, seed=1)), random(4, 3, seed=2))


@right
def namedtuple_of_parameters_as_an_argument():
    Params = namedtuple("Params", "w b")

    def forward(x, params):
        return x @ params.w + params.b

    def backward(dy, x, params):
        return dy @ params.w.T, Params(w=x.T @ dy, b=dy.sum(0))

    return given(forward, random(3, 2), Params(random(2, 4, seed=1), random(4, seed=2)), backward=backward)


@right
def weights_outside_of_the_functions():
    """The weights are variables around the pair, named by params; their gradients are found in a dict."""
    W, b, found = random(3, 4), random(4, seed=1), {}

    def forward(x):
        found["x"] = x
        return x @ W + b

    def backward(dy):
        found["W"] = found["x"].T @ dy
        found["b"] = dy.sum(axis=0)
        return dy @ W.T

    return given(
        forward,
        random(2, 3, seed=2),
        backward=backward,
        params={"W": W, "b": b},
        grads={"W": lambda layer: found["W"], "b": lambda layer: found["b"]},
    )


@right
def weights_outside_with_gradients_in_the_returned_dict():
    scale = random(3)

    def forward(x):
        return np.exp(scale * x)

    def backward(dy, x):
        y = np.exp(scale * x)
        return {"x": dy * y * scale, "scale": (dy * y * x).sum(axis=0)}

    return given(forward, random(4, 3, seed=1), backward=backward, params={"scale": scale})


@right
def weight_that_is_one_named_attribute():
    """Only the dotted path tells where the table and its gradient are."""

    class Lookup:
        def __init__(self):
            self.state = {"table": random(4, 2), "slot": [None]}

        def forward(self, ids):
            self.ids = ids
            return self.state["table"][ids]

        def backward(self, dy):
            d = np.zeros_like(self.state["table"])
            np.add.at(d, self.ids, dy)
            self.state["slot"][0] = d

    return given(
        Lookup(),
        np.array([0, 3, 3, 1]),
        params=["state.table"],
        grads={"state.table": lambda layer: layer.state["slot"][0]},
    )


@right
def bound_methods_with_the_weights_on_their_object():
    class Gate:
        def __init__(self):
            self.w, self.dw = random(3, 3), np.zeros((3, 3))

        def run(self, x):
            self.x, self.open = x, 1 / (1 + np.exp(-x @ self.w))
            return x * self.open

        def back(self, dy):
            da = dy * self.x * self.open * (1 - self.open)
            self.dw[...] = self.x.T @ da
            return dy * self.open + da @ self.w.T

    gate = Gate()
    return given(
        gate.run, random(4, 3, seed=1), backward=gate.back, params={"w": gate.w}, grads={"w": lambda layer: gate.dw}
    )


@right
def dataclass_of_weights_as_an_argument():
    @dataclass
    class Weights:
        scale: np.ndarray
        shift: np.ndarray

    def forward(x, weights):
        return np.tanh(x * weights.scale + weights.shift), (x, weights)

    def backward(dout, cache):
        x, weights = cache
        da = dout * (1 - np.tanh(x * weights.scale + weights.shift) ** 2)
        return da * weights.scale, Weights(scale=(da * x).sum(0), shift=da.sum(0))

    return given(forward, random(4, 3), Weights(random(3, seed=1), random(3, seed=2)), backward=backward)


@right
def backward_that_yields_its_gradients():
    """A generator in place of a tuple: the gradients come out one after the other."""

    def forward(x, w, b):
        return x @ w + b

    def backward(dy, x, w, b):
        yield dy @ w.T
        yield x.T @ dy
        yield dy.sum(axis=0)

    return given(forward, random(3, 2), random(2, 4, seed=1), random(4, seed=2), backward=backward)

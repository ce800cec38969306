"""Mistakes in gradients of parameters that are kept in unusual places, or have no gradient at all."""

from dataclasses import dataclass, field

import numpy as np
from strangers.given import given, random, wrong


@wrong
def nested_lists_with_wrong_bias():
    """The second bias in nested lists has a halved gradient."""

    class Net:
        def __init__(self, sizes):
            self.layers = [[random(a, b, seed=a), random(b, seed=b)] for a, b in zip(sizes, sizes[1:])]
            self.grads = [[np.zeros_like(p) for p in layer] for layer in self.layers]

        def forward(self, x):
            self.inputs = []
            for w, b in self.layers:
                self.inputs.append(x)
                x = np.tanh(x @ w + b)
            self.inputs.append(x)
            return x

        def backward(self, dy):
            for i in reversed(range(len(self.layers))):
                dz = dy * (1 - self.inputs[i + 1] ** 2)
                self.grads[i][0] = self.inputs[i].T @ dz
                self.grads[i][1] = dz.sum(0) * (0.5 if i == 1 else 1)
                dy = dz @ self.layers[i][0].T
            return dy

    return given(Net([3, 4, 2]), random(5, 3))


class Linear:
    """A linear map with the faults that are asked for."""

    def __init__(self, n_in, n_out, seed=1, factor=1.0):
        self.W = random(n_in, n_out, seed=seed)
        self.dW = np.zeros_like(self.W)
        self.factor = factor

    def forward(self, x):
        self.x = x
        return x @ self.W

    def backward(self, dy):
        self.dW = self.factor * (self.x.T @ dy)
        return dy @ self.W.T


@wrong
def objects_in_objects_with_wrong_factor():
    """dW of the innermost object is too large by a tenth."""

    class Block:
        def __init__(self):
            self.inner = Linear(3, 3, seed=4, factor=1.1)

        def forward(self, x):
            return x + self.inner.forward(x)

        def backward(self, dy):
            return dy + self.inner.backward(dy)

    class Model:
        def __init__(self):
            self.block, self.head = Block(), Linear(3, 2)

        def forward(self, x):
            return self.head.forward(self.block.forward(x))

        def backward(self, dy):
            return self.block.backward(self.head.backward(dy))

    return given(Model(), random(4, 3))


@wrong
def dict_of_dicts_with_wrong_decoder():
    """The decoder's weight gradient in a dict of dicts uses the input, not the code."""

    class AutoEncoder:
        def __init__(self, n):
            self.params = {"encoder": {"W": random(n, n, seed=1)}, "decoder": {"W": random(n, n, seed=2)}}
            self.grads = {"encoder": {}, "decoder": {}}

        def forward(self, x):
            self.x = x
            self.code = np.tanh(x @ self.params["encoder"]["W"])
            return self.code @ self.params["decoder"]["W"]

        def backward(self, dy):
            self.grads["decoder"]["W"] = self.x.T @ dy
            dz = dy @ self.params["decoder"]["W"].T * (1 - self.code**2)
            self.grads["encoder"]["W"] = self.x.T @ dz
            return dz @ self.params["encoder"]["W"].T

    return given(AutoEncoder(3), random(4, 3))


@wrong
def tuples_with_swapped_gradients():
    """The gradients in a tuple stand in the wrong order."""

    class Pair:
        def __init__(self, n):
            self.weights = (random(n, n, seed=1), random(n, n, seed=2))
            self.weight_grads = ()

        def forward(self, x):
            self.x = x
            self.h = np.tanh(x @ self.weights[0])
            return self.h @ self.weights[1]

        def backward(self, dy):
            dz = dy @ self.weights[1].T * (1 - self.h * self.h)
            self.weight_grads = (self.h.T @ dy, self.x.T @ dz)
            return dz @ self.weights[0].T

    return given(Pair(3), random(4, 3))


class Parameter:
    """A value with its gradient."""

    def __init__(self, value):
        self.value = value
        self.grad = np.zeros_like(value)


@wrong
def value_and_grad_pair_with_wrong_sign():
    """The gradient of the shift has the wrong sign."""

    class Affine:
        def __init__(self, n):
            self.scale, self.shift = Parameter(random(n, seed=1)), Parameter(random(n, seed=2))

        def forward(self, x):
            self.x = x
            return x * self.scale.value - self.shift.value

        def backward(self, dy):
            self.scale.grad = (dy * self.x).sum(axis=0)
            self.shift.grad = dy.sum(axis=0)
            return dy * self.scale.value

    return given(Affine(3), random(4, 3))


@wrong
def parameter_whose_gradient_is_never_touched():
    """The shift's gradient stays at its zeros."""

    class Affine:
        def __init__(self, n):
            self.parts = {"scale": Parameter(random(n, seed=1)), "shift": Parameter(random(n, seed=2))}

        def forward(self, x):
            self.x = x
            return x * self.parts["scale"].value + self.parts["shift"].value

        def backward(self, dy):
            self.parts["scale"].grad[...] = np.sum(dy * self.x, axis=0)
            return dy * self.parts["scale"].value

    return given(Affine(4), random(3, 4))


class Tensor:
    """Data with a gradient."""

    def __init__(self, data):
        self.data, self.grad = data, None


@wrong
def data_and_grad_in_list_with_wrong_last():
    """The last of three polynomial coefficients has the gradient of the one before."""

    class Polynomial:
        def __init__(self):
            self.coefficients = [Tensor(random(2, seed=s)) for s in (1, 2, 3)]

        def parameters(self):
            return self.coefficients

        def forward(self, x):
            self.x = x
            return sum(c.data * x**k for k, c in enumerate(self.coefficients))

        def backward(self, dy):
            a, b, c = self.coefficients
            a.grad, b.grad = dy.sum(0), (dy * self.x).sum(0)
            c.grad = b.grad.copy()
            return dy * (b.data + 2 * c.data * self.x)

    return given(Polynomial(), random(5, 2))


@wrong
def lists_of_params_and_grads_with_wrong_bias():
    """The bias gradient in the list takes the maximum over the batch."""

    class Affine:
        def __init__(self, W, b):
            self.params = [W, b]
            self.grads = [np.zeros_like(W), np.zeros_like(b)]
            self.x = None

        def forward(self, x):
            W, b = self.params
            self.x = x
            return np.dot(x, W) + b

        def backward(self, dout):
            W, b = self.params
            self.grads[0][...] = np.dot(self.x.T, dout)
            self.grads[1][...] = dout.max(axis=0)
            return np.dot(dout, W.T)

    return given(Affine(random(3, 2, seed=1), random(2, seed=2)), random(4, 3))


@wrong
def methods_that_return_parameters_and_gradients():
    """The method grads() returns the first gradient divided by the batch size."""

    class Dense:
        def __init__(self):
            self._w, self._b = random(2, 3, seed=1), random(3, seed=2)

        def params(self):
            return [self._w, self._b]

        def grads(self):
            return [self._gw / len(self._x), self._gb]

        def forward(self, x):
            self._x = x
            return x @ self._w + self._b

        def backward(self, dy):
            self._gw, self._gb = self._x.T @ dy, dy.sum(0)
            return dy @ self._w.T

    return given(Dense(), random(4, 2))


@wrong
def gradients_by_leibniz_names():
    """gradients["dLdb"] is that of the first sample."""

    class Neuron:
        def __init__(self):
            self.W, self.b = random(3, 1, seed=1), random(1, 1, seed=2)
            self.gradients = {}

        def forward(self, x):
            self.x = x
            self.a = 1 / (1 + np.exp(-(x @ self.W + self.b)))
            return self.a

        def backward(self, dLda):
            dLdz = dLda * self.a * (1 - self.a)
            self.gradients["dLdW"] = self.x.T @ dLdz
            self.gradients["dLdb"] = dLdz[:1]
            return dLdz @ self.W.T

    return given(Neuron(), random(4, 3))


@wrong
def gradient_found_by_function():
    """The gradient that a function picks from a store is transposed."""

    class Storing:
        def __init__(self):
            self.matrix, self.store = random(3, 3, seed=1), []

        def forward(self, x):
            self.x = x
            return x @ self.matrix

        def backward(self, dy):
            self.store = [dy.T @ self.x]
            return dy @ self.matrix.T

    layer = Storing()
    return given(layer, random(2, 3), params={"W": layer.matrix}, grads={"W": lambda layer: layer.store[0]})


@wrong
def gradient_at_dotted_path():
    """The gradient at store.w lacks the factor 2."""

    class Store:
        w = None

    class Twice:
        def __init__(self):
            self.table, self.store = random(2, 4, seed=1), Store()

        def forward(self, x):
            self.x = x
            return 2 * x @ self.table

        def backward(self, dy):
            self.store.w = self.x.T @ dy
            return 2 * dy @ self.table.T

    return given(Twice(), random(3, 2), params=["table"], grads={"table": "store.w"})


@wrong
def slots_with_wrong_bias():
    """The bias gradient is not summed, but taken of the last row."""

    class Slotted:
        __slots__ = ("w", "b", "x", "dw", "db")

        def __init__(self):
            self.w, self.b = random(2, 2, seed=1), random(2, seed=2)

        def forward(self, x):
            self.x = x
            return x @ self.w + self.b

        def backward(self, dy):
            self.dw, self.db = self.x.T @ dy, dy[-1]
            return dy @ self.w.T

    return given(Slotted(), random(3, 2))


@wrong
def dataclass_with_wrong_scale_gradient():
    """The scale's gradient forgets the input."""

    @dataclass
    class Scale:
        scale: np.ndarray = field(default_factory=lambda: random(3, seed=1))
        scale_grad: np.ndarray = None

        def forward(self, x):
            self._x = x
            return self.scale * x

        def backward(self, dy):
            self.scale_grad = dy.sum(axis=0)
            return self.scale * dy

    return given(Scale(), random(4, 3))


@wrong
def grad_weight_in_torch_style():
    """gradBias is halved."""

    class SpatialBias:
        def __init__(self, c):
            self.weight, self.bias = random(c, seed=1), random(c, seed=2)
            self.gradWeight, self.gradBias = np.zeros(c), np.zeros(c)

        def forward(self, x):
            self.input = x
            return x * self.weight[:, None] + self.bias[:, None]

        def backward(self, gradOutput):
            self.gradWeight = (gradOutput * self.input).sum(axis=(0, 2))
            self.gradBias = gradOutput.sum(axis=(0, 2)) / 2
            return gradOutput * self.weight[:, None]

    return given(SpatialBias(2), random(3, 2, 4))

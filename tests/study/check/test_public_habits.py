"""Habits of public projects that once led the checker astray: each right layer, and the same with one mistake."""

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npgpt import gradcheck
from npgpt.core import Array

X = np.random.default_rng(0).normal(size=(5, 4))


def normal(*shape: int, seed: int = 1) -> Array:
    return np.asarray(np.random.default_rng(seed).normal(size=shape))


class Lazy:
    """The weights are made when the first input is seen."""

    W = None

    def __init__(self, slip: float) -> None:
        self.slip = slip

    def forward(self, x: Array) -> Array:
        if self.W is None:
            self.W = np.random.normal(size=(x.shape[1], 3))  # noqa: NPY002
        self.x = x
        return np.asarray(x @ self.W)

    def backward(self, dy: Array) -> Array:
        assert self.W is not None
        self.dW = self.slip * self.x.T @ dy
        return np.asarray(dy @ self.W.T)


class InDeque:
    def __init__(self, slip: float) -> None:
        self.params, self.grads, self.slip = deque([normal(4, 3)]), deque([None]), slip
        self.seen: deque[Array] = deque(maxlen=2)

    def forward(self, x: Array) -> Array:
        self.seen.append(x)
        return np.asarray(x @ self.params[0])

    def backward(self, dy: Array) -> Array:
        self.grads[0] = self.slip * self.seen.pop().T @ dy
        return np.asarray(dy @ self.params[0].T)


class OnTheClass:
    W = normal(4, 3)

    def __init__(self, slip: float) -> None:
        self.slip = slip

    def forward(self, x: Array) -> Array:
        self.x = x
        return np.asarray(x @ self.W)

    def backward(self, dy: Array) -> Array:
        self.dW = self.slip * self.x.T @ dy
        return np.asarray(dy @ self.W.T)


class Used:
    """It has been used before: what it saved looks like parameters and gradients."""

    def __init__(self, slip: float) -> None:
        self.W, self.slip = normal(4, 4), slip
        self.backward(np.ones_like(self.forward(X)))

    def forward(self, x: Array) -> Array:
        self.x = x
        self.y = np.tanh(x @ self.W)
        return self.y

    def backward(self, dy: Array) -> Array:
        self.dy = dy
        self.delta = dy * (1 - self.y**2)
        self.dW = self.slip * self.x.T @ self.delta
        self.dx = self.delta @ self.W.T
        return self.dx


class Accumulates:
    """It adds to its gradients, was used before, and shows them by methods."""

    def __init__(self, slip: float) -> None:
        self._w, self._g, self.slip = normal(4, 3), np.ones((4, 3)), slip

    def forward(self, x: Array) -> Array:
        self._x = x
        return np.asarray(x @ self._w)

    def backward(self, dy: Array) -> Array:
        self._g += self.slip * self._x.T @ dy
        return np.asarray(dy @ self._w.T)

    def params(self) -> list[Array]:
        return [self._w]

    def grads(self) -> list[Array]:
        return [self._g]


class Tied:
    """Both layers have a gradient of the one weight; the optimizer adds them."""

    def __init__(self, slip: float) -> None:
        W = normal(4, 4)
        self.layers = [OfTied(W, 1.0), OfTied(W, slip)]

    def forward(self, x: Array) -> Array:
        return self.layers[1].forward(self.layers[0].forward(x))

    def backward(self, dy: Array) -> Array:
        return self.layers[0].backward(self.layers[1].backward(dy))


class OfTied:
    def __init__(self, W: Array, slip: float) -> None:
        self.W, self.slip = W, slip

    def forward(self, x: Array) -> Array:
        self.x = x
        return np.asarray(np.tanh(x @ self.W))

    def backward(self, dy: Array) -> Array:
        z = dy * (1 - np.tanh(self.x @ self.W) ** 2)
        self.dW = self.slip * self.x.T @ z
        return np.asarray(z @ self.W.T)


class Buffer:
    """Forward returns a buffer that the layer owns."""

    def __init__(self, slip: float) -> None:
        self.out, self.slip = np.zeros(X.shape), slip

    def forward(self, x: Array) -> Array:
        self.out[...] = np.exp(x)
        return self.out

    def backward(self, dy: Array) -> Array:
        return self.slip * dy * self.out


class Loss:
    """The last layer: backward takes no upstream gradient."""

    def __init__(self, slip: float) -> None:
        self.slip = slip

    def forward(self, x: Array) -> float:
        self.x = x
        return float((x * x).mean())

    def backward(self) -> Array:
        return np.asarray(self.slip * 2 * self.x / self.x.size)


class Negated:
    """Its flag is off in training."""

    def __init__(self, slip: float) -> None:
        self.test_mode, self.slip = True, slip

    def forward(self, x: Array) -> Array:
        return x if self.test_mode else x * 3

    def backward(self, dy: Array) -> Array:
        return dy if self.test_mode else dy * 3 * self.slip


class Momentum:
    """Buffers of an optimizer stand beside value and gradient."""

    def __init__(self, slip: float) -> None:
        self.weight = Weight(normal(4, 3))
        self.slip = slip

    def forward(self, x: Array) -> Array:
        self.x = x
        return np.asarray(x @ self.weight.value)

    def backward(self, dy: Array) -> Array:
        self.weight.grad = self.slip * self.x.T @ dy
        return np.asarray(dy @ self.weight.value.T)


class Weight:
    def __init__(self, value: Array) -> None:
        self.value, self.grad = value, np.zeros_like(value)
        self.m, self.v = np.zeros_like(value), np.zeros_like(value)


HABITS = [Lazy, InDeque, OnTheClass, Used, Accumulates, Tied, Buffer, Loss, Negated, Momentum]


@pytest.mark.parametrize("make", HABITS, ids=lambda make: make.__name__)
def test_habit(make: Callable[[float], Any]) -> None:
    report = gradcheck(make(1.0), X)
    assert report.passed, f"\n{report}"
    report = gradcheck(make(0.5), X)
    assert report.verdict == "wrong", f"\n{report}"


def test_a_step_with_decay_is_not_called_wrong() -> None:
    class Steps:
        def __init__(self) -> None:
            self.W = normal(4, 3)

        def forward(self, x: Array) -> Array:
            self.x = x
            return np.asarray(x @ self.W)

        def backward(self, dy: Array, lr: float) -> Array:
            dx = dy @ self.W.T
            self.W = self.W - lr * (self.x.T @ dy + 0.1 * self.W)
            return np.asarray(dx)

    report = gradcheck(Steps(), X)
    assert report.verdict == "undecided" and "decay" in str(report), f"\n{report}"


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        (sigmoid, lambda dy, x: dy * x * (1 - x)),
        (np.tanh, lambda dy, x: dy * (1 - x**2)),
        (lambda x: np.exp(x), lambda x, dout: x * dout),
        (lambda *xs: np.tanh(*xs), lambda dy, x: dy * (1 - x**2)),  # the name of the input is not known
    ],
    ids=["sigmoid", "tanh", "exp", "unnamed"],
)
def test_an_argument_that_is_named_as_the_input_is_the_input(forward: Any, backward: Any) -> None:
    """With the output in its place, each of these would be right."""
    assert gradcheck(forward, X, backward=backward).verdict == "wrong"


def test_a_small_cell_beside_large_ones_counts() -> None:
    x, keep = np.array([1.0, 2.0, 1e-8, -1.5]), np.array([1.0, 1.0, 0.0, 1.0])
    assert gradcheck(lambda x: x**2, x, backward=lambda dy, x: 2 * dy * x).passed
    assert not gradcheck(lambda x: x**2, x, backward=lambda dy, x: 2 * dy * x * keep).passed


def normalised(x: Array, axis: int) -> tuple[Array, Array]:
    r = 1 / np.sqrt(x.var(axis, keepdims=True) + 1e-5)
    return np.asarray((x - x.mean(axis, keepdims=True)) * r), np.asarray(r)


def back(dy: Array, x: Array, axis: int) -> Array:
    xhat, r = normalised(x, axis)
    return np.asarray(r * (dy - dy.mean(axis, keepdims=True) - xhat * (dy * xhat).mean(axis, keepdims=True)))


@pytest.mark.parametrize(
    ("x", "axis"),
    [
        (X * np.array([1e-3, 1.0, 1e3, 1e6]), 0),  # columns of a table
        (1e4 + X, 1),  # an offset
        (np.where(X > 0.5, 1e-7, X), 1),
    ],
    ids=["columns", "offset", "tiny"],
)
def test_scales_and_offsets_are_no_mistakes(x: Array, axis: int) -> None:
    report = gradcheck(lambda x: normalised(x, axis)[0], x, backward=lambda dy, x: back(dy, x, axis))
    assert report.verdict != "wrong", f"\n{report}"
    report = gradcheck(lambda x: normalised(x, axis)[0], x, backward=lambda dy, x: 1.01 * back(dy, x, axis))
    assert report.verdict != "right", f"\n{report}"


@pytest.mark.parametrize("distance", [1e-5, 1e-7, 1e-9])
def test_a_kink_near_the_input_is_no_mistake(distance: float) -> None:
    x = X.copy()
    x[1, 1], x[2, 0] = distance, -distance
    report = gradcheck(lambda x: np.maximum(x, 0), x, backward=lambda dy, x: dy * (x > 0))
    assert report.verdict != "wrong", f"\n{report}"

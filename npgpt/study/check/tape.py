"""A scalar reverse-mode tape: numbers that record the operations that made them.

NumPy computes with any Python object. So an array of ``Taped`` numbers runs through the unchanged forward pass of a
layer, one operation on one cell at a time, and builds a graph. A walk back through the graph gives every gradient by
the chain rule, exact up to rounding. Each slope belongs to one of the eleven operations below. The tape calls no
layer's backward pass, so it is an independent check.

    y = f(a, b) with numbers a and b   ⇒   da += ∂f/∂a · dy,   db += ∂f/∂b · dy

>>> x = taped(np.array([2.0, 3.0]))
>>> y = np.exp(x[0]) * x[1]
>>> gradients(np.array(y), np.array(1.0), {"x": x})["x"].round(6)      # 3·e², e²
array([22.167168,  7.389056])
"""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from npgpt.core import Array

_numbers = itertools.count()


class Taped:
    """A number, the numbers that it was computed from, and its slope in each of them.

    Attributes
        value: a float.
        parents: ((taped number, slope), ...).
        number: a serial number; a later number has a larger one.
    """

    __slots__ = ("number", "parents", "value")

    def __init__(self, value: float, *parents: tuple["Taped", float]) -> None:
        self.value, self.parents, self.number = float(value), parents, next(_numbers)

    def __add__(self, other: Any) -> "Taped":
        if isinstance(other, Taped):
            return Taped(self.value + other.value, (self, 1.0), (other, 1.0))
        return Taped(self.value + float(other), (self, 1.0))

    def __sub__(self, other: Any) -> "Taped":
        if isinstance(other, Taped):
            return Taped(self.value - other.value, (self, 1.0), (other, -1.0))
        return Taped(self.value - float(other), (self, 1.0))

    def __rsub__(self, other: Any) -> "Taped":
        return Taped(float(other) - self.value, (self, -1.0))

    def __mul__(self, other: Any) -> "Taped":
        if isinstance(other, Taped):
            return Taped(self.value * other.value, (self, other.value), (other, self.value))
        return Taped(self.value * float(other), (self, float(other)))

    def __truediv__(self, other: Any) -> "Taped":
        if isinstance(other, Taped):
            quotient = self.value / other.value
            return Taped(quotient, (self, 1 / other.value), (other, -quotient / other.value))
        return Taped(self.value / float(other), (self, 1 / float(other)))

    def __rtruediv__(self, other: Any) -> "Taped":
        quotient = float(other) / self.value
        return Taped(quotient, (self, -quotient / self.value))

    def __pow__(self, n: Any) -> "Taped":
        return Taped(self.value**n, (self, n * self.value ** (n - 1)))

    def __neg__(self) -> "Taped":
        return Taped(-self.value, (self, -1.0))

    def __abs__(self) -> "Taped":
        return Taped(abs(self.value), (self, math.copysign(1.0, self.value)))

    def exp(self) -> "Taped":
        value = math.exp(self.value)
        return Taped(value, (self, value))

    def log(self) -> "Taped":
        return Taped(math.log(self.value), (self, 1 / self.value))

    def sqrt(self) -> "Taped":
        value = math.sqrt(self.value)
        return Taped(value, (self, 0.5 / value))

    def tanh(self) -> "Taped":
        value = math.tanh(self.value)
        return Taped(value, (self, 1 - value * value))

    __radd__, __rmul__ = __add__, __mul__

    # A comparison has no slope; ``x > 0`` and ``max`` use it to choose a number.
    def __lt__(self, other: Any) -> bool:
        return self.value < float(other)

    def __le__(self, other: Any) -> bool:
        return self.value <= float(other)

    def __gt__(self, other: Any) -> bool:
        return self.value > float(other)

    def __ge__(self, other: Any) -> bool:
        return self.value >= float(other)

    def __float__(self) -> float:
        return self.value

    def __repr__(self) -> str:
        return f"Taped({self.value:g})"


def taped(x: Array) -> Array:
    """Return an array of the same shape, of new numbers without parents."""
    cells: Array = np.empty(np.shape(x), object)
    for cell, value in np.ndenumerate(x):
        cells[cell] = Taped(value)
    return cells


def gradients(y: Array, dy: Array, of: Mapping[str, Array]) -> dict[str, Array]:
    """Return the gradient of Σ dy ⊙ y for each cell of the arrays in ``of``.

    Args
        y: an array that may hold ``Taped`` numbers.
        of: name -> array of ``Taped`` numbers; a number that y does not depend on has the gradient zero.
    """
    grad: dict[int, float] = {}
    nodes: dict[int, Taped] = {}
    for node, upstream in zip(np.ravel(y), np.ravel(dy), strict=True):
        if isinstance(node, Taped) and upstream:
            grad[node.number] = grad.get(node.number, 0.0) + float(upstream)
            nodes[node.number] = node
    waiting = list(nodes.values())
    while waiting:  # collect all numbers that y depends on
        for parent, _ in waiting.pop().parents:
            if parent.number not in nodes:
                nodes[parent.number] = parent
                waiting.append(parent)
    for number in sorted(nodes, reverse=True):  # a number comes after all numbers computed from it
        dnode = grad.get(number, 0.0)
        for parent, slope in nodes[number].parents:
            grad[parent.number] = grad.get(parent.number, 0.0) + slope * dnode
    found = {}
    for name, array in of.items():
        flat = [grad.get(cell.number, 0.0) if isinstance(cell, Taped) else 0.0 for cell in array.ravel()]
        found[name] = np.array(flat, float).reshape(array.shape)
    return found

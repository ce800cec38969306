"""The Jacobian matrix of a layer, and the textbook formulas for it.

>>> from npgpt.layers import Softmax
>>> jacobian(Softmax(), np.log([1.0, 3.0])).round(4)            # w = ¼, ¾: diag(w) − w·wᵀ
array([[ 0.1875, -0.1875],
       [-0.1875,  0.1875]])
"""

import math

import numpy as np

from npgpt.core import Array, Cache, Layer
from npgpt.layers.activations import erf


def jacobian(layer: Layer, x: Array) -> Array:
    """Return ∂y_i/∂x_j as a matrix (y.size, x.size); row i is the backward pass of a one-hot upstream gradient."""
    cache = Cache()
    y = np.asarray(layer.forward(x, cache))
    rows = []
    for i in range(y.size):
        dy = np.zeros(y.size, y.dtype)
        dy[i] = 1
        rows.append(np.ravel(layer.backward(dy.reshape(y.shape), cache)).copy())
    return np.asarray(np.array(rows).reshape(y.size, x.size))


def of_softmax(w: Array) -> Array:
    """Return diag(w) − w·wᵀ for one row of weights."""
    return np.asarray(np.diag(w) - np.outer(w, w))


def of_layer_norm(x: Array, gain: Array, eps: float) -> Array:
    """Return diag(γ)·r·(I − 1/C − x̂·x̂ᵀ/C) for one row."""
    C = len(x)
    rstd = 1 / np.sqrt(((x - x.mean()) ** 2).mean() + eps)
    xhat = (x - x.mean()) * rstd
    return np.asarray(np.diag(gain) @ (rstd * (np.eye(C) - 1 / C - np.outer(xhat, xhat) / C)))


def of_gelu(x: Array) -> Array:
    """Return diag(Φ(x) + x·φ(x)), for the exact GELU."""
    density = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return np.asarray(np.diag(0.5 * (1 + erf(x / math.sqrt(2))) + x * density))


def side_by_side(layer: Layer, x: Array, formula: Array, digits: int = 4) -> str:
    """Return text with the matrix from backward, the formula's matrix, and their largest difference."""
    ours = jacobian(layer, x)
    text = {"backward": ours, "formula": formula}
    parts = [
        f"{name}:\n{np.array2string(matrix, precision=digits, suppress_small=True)}" for name, matrix in text.items()
    ]
    return "\n".join([*parts, f"largest difference {np.abs(ours - formula).max():.1e}"])

"""A trained array with its gradient, and all of a model's in one vector."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Param:
    """A trained array and its gradient.

    Args
        value: where it starts.
        std: standard deviation that ``Layer.initialise`` draws it with; 0 leaves it as it is (gains, biases).
    Attributes
        value, grad: arrays of one shape. A backward pass always adds into grad, so that shared weights, repeated
            use and accumulated batches need no code of their own. grad stays the same array until the Param moves:
            a held one shows what later passes add, and zeros after ``zero_grad``. An assignment writes into it.
    """

    def __init__(self, value: Array, std: float = 0.0) -> None:
        self.move(value, np.zeros_like(value))
        self.std = std

    def move(self, value: Array, grad: Array) -> None:
        """Let other memory hold the value and the gradient from now on."""
        self.value, self._grad = value, grad

    @property
    def grad(self) -> Array:
        return self._grad

    @grad.setter
    def grad(self, grad: Array) -> None:
        if grad is not self._grad:  # ``param.grad += x`` has added in place already
            self._grad[...] = grad

    def __repr__(self) -> str:
        return f"Param{self.value.shape}"


class FlatParams:
    """All parameters of a model in one vector, and all gradients in another: matrices first, then vectors.

    Each Param becomes a view into them. So weight decay is one slice, and the optimizer, the norm, a file are one call.

    Args
        params: distinct Params; their values are copied into the new vectors.
        dtype: of the new vectors.
    Attributes
        values, grads: (n,).
        n_matrix: how many numbers at the front belong to matrices.
    """

    def __init__(self, params: list[Param], dtype: npt.DTypeLike) -> None:
        params = sorted(params, key=lambda param: param.value.ndim < 2)  # stable: the order within both stays
        n = sum(param.value.size for param in params)
        self.params, self.values, self.grads = params, aligned_empty(n, dtype), aligned_empty(n, dtype)
        self.grads[:] = 0
        self.n_matrix = sum(param.value.size for param in params if param.value.ndim >= 2)
        start = 0
        for param in params:
            shape, stop = param.value.shape, start + param.value.size
            self.values[start:stop] = param.value.ravel()
            param.move(self.values[start:stop].reshape(shape), self.grads[start:stop].reshape(shape))
            start = stop


def aligned_empty(n: int, dtype: npt.DTypeLike) -> Array:
    """A row of n numbers, not cleared, that begins with a cache line.

    NumPy's begin anywhere, so that each vector register's 64 bytes would lie across two lines: kernels that only read,
    add and write take up to a third longer then.
    """
    size = np.dtype(dtype).itemsize
    memory = np.empty(n + 64 // size, dtype)
    first = -memory.ctypes.data % 64 // size
    return memory[first : first + n]

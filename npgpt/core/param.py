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
            use and accumulated batches need no code of their own.
    """

    def __init__(self, value: Array, std: float = 0.0) -> None:
        self.value = value
        self._grad, self._is_empty = np.zeros_like(value), False
        self.std = std

    @property
    def grad(self) -> Array:
        if self._is_empty:
            self._grad[...] = 0
            self._is_empty = False
        return self._grad

    @grad.setter
    def grad(self, grad: Array) -> None:
        self._grad, self._is_empty = grad, False

    def clear_grad(self) -> None:
        """Zero from now on. The memory is left as it is until somebody reads it, or writes over it."""
        self._is_empty = True

    def grad_to_fill(self) -> tuple[Array, bool]:
        """The memory of the gradient, for one who fills all of it; and whether he must add to what is there.

        The first kernel after ``clear_grad`` writes, which spares a pass that clears and one that reads.
        """
        add, self._is_empty = not self._is_empty, False
        return self._grad, add

    def __repr__(self) -> str:
        return f"Param{self.value.shape}"


class FlatParams:
    """All parameters of a model in one vector, and all gradients in another: matrices first, then vectors.

    Each Param becomes a view into them. So weight decay is one slice, and the optimizer, the norm, a file are one call.

    Args
        params: distinct Params; their values are copied into the new vectors.
        dtype: of the new vectors.
    Attributes
        values, grads: (n,); ask for ``grads`` anew after each backward pass.
        n_matrix: how many numbers at the front belong to matrices.
    """

    def __init__(self, params: list[Param], dtype: npt.DTypeLike) -> None:
        params = sorted(params, key=lambda param: param.value.ndim < 2)  # stable: the order within both stays
        n = sum(param.value.size for param in params)
        self.params, self.values, self._grads = params, aligned_empty(n, dtype), aligned_empty(n, dtype)
        self._grads[:] = 0
        self.n_matrix = sum(param.value.size for param in params if param.value.ndim >= 2)
        start = 0
        for param in params:
            shape, stop = param.value.shape, start + param.value.size
            self.values[start:stop] = param.value.ravel()
            param.value = self.values[start:stop].reshape(shape)
            param.grad = self._grads[start:stop].reshape(shape)
            start = stop

    @property
    def grads(self) -> Array:
        for param in self.params:
            param.grad  # noqa: B018  # what is empty is filled with zeros
        return self._grads


def aligned_empty(n: int, dtype: npt.DTypeLike) -> Array:
    """A row of n numbers, not cleared, that begins with a cache line.

    NumPy's begin anywhere, so that each vector register's 64 bytes would lie across two lines: kernels that only read,
    add and write take up to a third longer then.
    """
    size = np.dtype(dtype).itemsize
    memory = np.empty(n + 64 // size, dtype)
    first = -memory.ctypes.data % 64 // size
    return memory[first : first + n]

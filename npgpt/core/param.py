"""A parameter with its gradient, and all parameters of a model in one vector."""

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from npgpt.core.shapes import check_plain
from npgpt.core.values import real
from npgpt.errors import ConfigError, ShapeError

Array = npt.NDArray[Any]
CHUNK = 8192  # numbers of a flat vector whose squares are summed first; one thread, and one machine, has all of them


class Param:
    """A parameter: a trained array and its gradient.

    Args
        value: the initial value.
        std: the standard deviation for ``Layer.initialise``; 0 leaves the value as it is (gains, biases).
    Attributes
        value, grad: arrays of one shape. A backward pass adds to grad and never sets it, so shared weights, repeated
            use and accumulated batches need no extra code. grad stays the same array until ``move``, so a reference to
            it is never out of date. An assignment to grad copies into this array.
    """

    def __init__(self, value: Array, std: float = 0.0) -> None:
        check_plain("Param", "value", value)
        if value.dtype.kind not in "fc" or not value.dtype.isnative:
            raise ShapeError(f"Param: value is {value.dtype}, expected floats; convert it with .astype(np.float64)")
        self.move(value, np.zeros(value.shape, value.dtype))  # zeros_like would write them, and take memory
        self.std = real("Param", "std", std, least=0)

    def move(self, value: Array, grad: Array) -> None:
        """Use other memory for the value and the gradient from now on."""
        self.value, self._grad = value, grad

    @property
    def grad(self) -> Array:
        return self._grad

    @grad.setter
    def grad(self, grad: Array) -> None:
        if grad is not self._grad:  # ``param.grad += x`` has already added in place
            self._grad[...] = grad

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.move(writeable(self.value), writeable(self._grad))

    def __repr__(self) -> str:
        return f"Param{self.value.shape}"


class FlatParams:
    """All parameters of a model in one vector, and all gradients in another: matrices first, then vectors.

    Each Param becomes a view into them. So an optimizer step or a norm is one call, and weight decay is one slice.

    Args
        params: distinct Params, whose values are copied into the new vector.
        dtype: the precision of the new vectors.
    Attributes
        values, grads: (n,).
        n_matrix: the number of values that belong to matrices; they come first.
    """

    def __init__(self, params: list[Param], dtype: npt.DTypeLike) -> None:
        params = sorted(params, key=lambda param: param.value.ndim < 2)  # stable: the order within both stays
        self._take(params, np.dtype(dtype), with_grads=False)

    def _take(self, params: list[Param], dtype: npt.DTypeLike, with_grads: bool) -> None:
        """Move Params into new vectors. The system gives zeros their memory when they are first written to."""
        n = sum(param.value.size for param in params)
        self.params, self.values, self.grads = params, aligned_empty(n, dtype), aligned_empty(n, dtype, np.zeros)
        self.n_matrix = sum(param.value.size for param in params if param.value.ndim >= 2)
        start = 0
        for param in params:
            shape, stop = param.value.shape, start + param.value.size
            self.values[start:stop] = param.value.ravel()
            if with_grads and param.grad.any():
                self.grads[start:stop] = param.grad.ravel()
            param.move(self.values[start:stop].reshape(shape), self.grads[start:stop].reshape(shape))
            start = stop

    def __getstate__(self) -> tuple[list[Param], npt.DTypeLike]:
        """Return what a copy or a pickle needs: copied arrays are no longer views, so the copy makes new views."""
        return self.params, self.values.dtype

    def __setstate__(self, state: tuple[list[Param], npt.DTypeLike]) -> None:
        self._take(*state, with_grads=True)

    def __copy__(self) -> Self:
        """Return an object with the same vectors: a shallow copy must not move the Params."""
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        return other

    def check(self) -> None:
        """Raise ConfigError if a Param has moved: training these vectors would not change what its layer computes."""
        values, grads = self.values.base, self.grads.base
        for param in self.params:
            if param.value.base is not values or param._grad.base is not grads:
                raise ConfigError(
                    f"a parameter of shape {param.value.shape} is no longer a part of this vector of {len(self.values)}"
                    ", so its layer would not be trained; call pack() and make a new optimizer, and assign new values "
                    "with param.value[...] = ..."
                )


def writeable(x: Array) -> Array:
    """Return the array, or a copy if it is read-only, as joblib's arrays in another process are."""
    return np.require(x, requirements=["W", "E"])


def aligned_empty(n: int, dtype: npt.DTypeLike, make: Callable[..., Array] = np.empty) -> Array:
    """Return an array (n,) that starts at the beginning of a cache line: uninitialised, or zeros with ``np.zeros``.

    NumPy's own arrays may start in the middle of one. Then each load of 64 bytes touches two cache lines, and kernels
    limited by memory take up to a third longer.
    """
    size = np.dtype(dtype).itemsize
    memory = make(n + 64 // size, dtype)
    first = -memory.ctypes.data % 64 // size
    return memory[first : first + n]

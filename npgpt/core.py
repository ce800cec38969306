"""What every layer stands on: Param, Cache, Layer. NumPy only.

A layer owns its ``Param``s and holds no state of a pass. What one forward pass leaves behind for backward lives in a
``Cache`` that the caller owns, so that one layer can serve many passes at once, and so that a pass can be looked at,
measured and disturbed from outside.
"""

import copy
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from npgpt.errors import ShapeError
from npgpt.rng import make_key, normal

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


class Layer:
    """A function with parameters and a backward pass.

    ``forward(a, b, ..., cache)`` returns one array. ``backward(dy, cache)`` adds to the parameters' gradients and
    returns the gradient of each float input: one array, a tuple of several, or None where there is none.
    Neither writes to its arguments.

    Sub-layers and Params are found by the attribute that holds them; lists of layers too.
    """

    forward: Callable[..., Array]
    backward: Callable[..., Any]
    flat: FlatParams | None = None  # set on the layer whose parameters were packed into one vector

    def children(self) -> dict[str, "Layer"]:
        """Name -> sub-layer; the items of a list ``blocks`` are named ``blocks.0``, ``blocks.1``, ..."""
        found: dict[str, Layer] = {}
        for name, value in vars(self).items():
            items = {f"{name}.{i}": item for i, item in enumerate(value)} if isinstance(value, list) else {name: value}
            found |= {key: item for key, item in items.items() if isinstance(item, Layer)}
        return found

    def slots(self, prefix: str = "") -> Iterator[tuple[str, "Layer", str]]:
        """Every place that holds a Param: (path, layer, attribute). A shared Param is yielded once for each place."""
        for name, value in vars(self).items():
            if isinstance(value, Param):
                yield prefix + name, self, name
        for name, child in self.children().items():
            yield from child.slots(f"{prefix}{name}.")

    def parameters(self) -> dict[str, Param]:
        """Path -> Param, each Param once, under the first path that leads to it."""
        found: dict[str, Param] = {}
        seen: set[int] = set()
        for path, owner, name in self.slots():
            param = getattr(owner, name)
            if id(param) not in seen:
                seen.add(id(param))
                found[path] = param
        return found

    def initialise(self, seed: int) -> Self:
        """Draw every Param that has a ``std``. Each depends on the seed and on its own path alone."""
        for path, param in self.parameters().items():
            if param.std:
                param.value[...] = param.std * normal(make_key("initialise", seed, path), param.value.shape)
        return self

    def zero_grad(self) -> None:
        for param in self.flat.params if self.flat else self.parameters().values():
            param.clear_grad()

    def pack(self, dtype: npt.DTypeLike) -> FlatParams:
        """Move all parameters into one new flat vector. Gradients start at zero."""
        self._forget_flat()
        self.flat = FlatParams(list(self.parameters().values()), dtype)
        return self.flat

    def _forget_flat(self) -> None:
        self.flat = None  # what a sub-layer was packed into before is not where its Params are now
        for child in self.children().values():
            child._forget_flat()

    def astype(self, dtype: npt.DTypeLike) -> Self:
        """The same layer with the same values, over a new flat vector of another dtype. Gradients start at zero.

        Compiled layers compute in float32 alone: in any other precision they become textbook layers.
        """
        other = copy.deepcopy(self)
        if np.dtype(dtype) != np.float32 and (textbook := sys.modules.get("npgpt.layers")):
            other = other.twin(textbook)
        other.pack(dtype)
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        other = object.__new__(type(self))
        memo[id(self)] = other
        for name, value in vars(self).items():
            if name != "flat":
                setattr(other, name, copy.deepcopy(value, memo))  # Params that are shared here are shared there
        if self.flat is not None:  # copies of views are arrays of their own: make them views again
            other.pack(self.flat.values.dtype)
        return other

    def twin(self, layers: ModuleType) -> Self:
        """The same layer over the very same Params, with npgpt's own parts taken from another module.

        What one of the two learns, the other knows. Classes that the module does not have stay as they are.

        Args
            layers: ``npgpt.layers`` or ``npgpt.compiled``.
        """
        other: Self = self._twin(layers, {})
        return other

    def _twin(self, layers: ModuleType, made: dict[int, "Layer"]) -> Any:
        if id(self) in made:
            return made[id(self)]
        kind = type(self)
        other = made[id(self)] = object.__new__(
            getattr(layers, kind.__name__, kind) if kind.__module__.startswith("npgpt.") else kind
        )
        for name, value in vars(self).items():
            if isinstance(value, Layer):
                value = value._twin(layers, made)
            elif isinstance(value, list):
                value = [item._twin(layers, made) if isinstance(item, Layer) else item for item in value]
            setattr(other, name, value)
        return other

    def __repr__(self) -> str:
        parts = [f"{name} {value.value.shape}" for name, value in vars(self).items() if isinstance(value, Param)]
        return f"{type(self).__name__}({', '.join(parts + list(self.children()))})"


@dataclass
class _Pass:
    """What all scopes of one Cache share."""

    training: bool
    record: bool
    trace: bool
    seed: int
    step: int
    first_example: int
    kept: list[tuple["Cache", str]] = field(default_factory=list)  # in the order of the forward pass
    scratch: dict[str, Array] = field(default_factory=dict)


class Cache:
    """The named activations of one forward pass, which the backward pass reads.

    Args
        training: whether dropout drops.
        record: keep arrays for a backward pass; without, only their names (to notice a name used twice).
        trace: store the gradients that backward notes.
        seed, step: with the layer's path they decide the dropout mask.
        first_example: index of the first row of this batch in the step's whole batch, for the same reason.

    An array returned by forward is valid until ``reset()``, one returned by backward until the next backward.
    """

    def __init__(
        self,
        training: bool = False,
        record: bool = True,
        trace: bool = False,
        seed: int = 0,
        step: int = 0,
        first_example: int = 0,
    ) -> None:
        self._open(_Pass(training, record, trace, seed, step, first_example), "")

    def _open(self, shared: _Pass, path: str) -> Self:
        self.path = path
        self.role = ".".join(part for part in path.split(".") if not part.isdigit())  # the same in every block
        self._shared = shared
        self._values: dict[str, Array | None] = {}
        self._grads: dict[str, Array] = {}
        self._children: dict[str, Self] = {}
        self._buffers: dict[str, Array] = {}
        return self

    @property
    def training(self) -> bool:
        return self._shared.training

    @property
    def seed(self) -> int:
        return self._shared.seed

    @property
    def step(self) -> int:
        return self._shared.step

    @property
    def first_example(self) -> int:
        return self._shared.first_example

    def scope(self, name: str) -> Self:
        """The child cache of a sub-layer, the same one each time."""
        if name not in self._children:
            if name in self._values:
                raise KeyError(f"{self._full(name)} is a kept array; a sub-layer cannot have its name")
            # a copy of self, emptied: a subclass that disturbs a pass does so at every depth
            self._children[name] = copy.copy(self)._open(self._shared, self._full(name))
        return self._children[name]

    def keep(self, name: str, array: Array) -> Array:
        """Save an array for backward, and return it; forward goes on with what this returns."""
        if name in self._values:
            raise KeyError(f"{self._full(name)} is already kept: reset() the cache before a second forward pass")
        if name in self._children:
            raise KeyError(f"{self._full(name)} is a sub-layer; a kept array cannot have its name")
        self._values[name] = array if self._shared.record else None
        self._shared.kept.append((self, name))
        return array

    def __getitem__(self, name: str) -> Array:
        value = self._values.get(name)
        if value is None:
            why = "the pass ran with record=False" if name in self._values else "run forward with this cache first"
            raise KeyError(f"{self._full(name)} was not kept: {why}")
        return value

    def note(self, name: str, grad: Array) -> Array:
        """Say what the gradient of a kept array is, through every use of it, and return it. A trace stores a copy."""
        value = self[name]
        if grad.shape != value.shape:
            raise ShapeError(
                f"the gradient of {self._full(name)} has shape {grad.shape}, the array {value.shape}: "
                "did dy have the shape that forward returned?"
            )
        if self._shared.trace:
            self._grads[name] = grad.copy()
        return grad

    def buffer(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Memory for what backward alone reads: the same for the same name, also after ``reset()``. Not cleared."""
        return _reuse(self._buffers, name, shape, dtype)

    def scratch(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Memory shared by all scopes, valid until somebody asks for that name again. Not cleared."""
        return _reuse(self._shared.scratch, name, shape, dtype)

    def reset(self, *, training: bool | None = None, step: int | None = None, first_example: int | None = None) -> Self:
        """Forget the pass, on every scope; keep children and memory. What is given changes, the rest stays."""
        if self.path:
            raise ValueError(f"reset the whole cache, not its scope {self.path!r}")
        for scope in self._scopes():
            scope._values.clear()
            scope._grads.clear()
        self._shared.kept.clear()
        if training is not None:
            self._shared.training = training
        if step is not None:
            self._shared.step = step
        if first_example is not None:
            self._shared.first_example = first_example
        return self

    def walk(self) -> Iterator[tuple[str, Array, Array | None]]:
        """(path, value, gradient or None) of each kept array of this scope, in the order of the forward pass."""
        inside = f"{self.path}." if self.path else ""
        for scope, name in self._shared.kept:
            path = scope._full(name)
            value = scope._values[name]
            if path.startswith(inside) and value is not None:
                yield path, value, scope._grads.get(name)

    def is_empty(self) -> bool:
        """Whether no pass has kept anything since the cache was made or reset."""
        return not self._shared.kept

    def _scopes(self) -> Iterator[Self]:
        yield self
        for child in self._children.values():
            yield from child._scopes()

    def _full(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name


def _reuse(store: dict[str, Array], name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """A view of the memory under this name, which grows when more is asked for than ever before."""
    dtype, n = np.dtype(dtype), math.prod(shape)
    memory = store.get(name)
    if memory is None or memory.dtype != dtype or memory.size < n:
        memory = store[name] = aligned_empty(n, dtype)
    return memory[:n].reshape(shape)


def aligned_empty(n: int, dtype: npt.DTypeLike) -> Array:
    """A row of n numbers, not cleared, that begins with a cache line.

    NumPy's begin anywhere, so that each vector register's 64 bytes would lie across two lines: kernels that only read,
    add and write take up to a third longer then.
    """
    size = np.dtype(dtype).itemsize
    memory = np.empty(n + 64 // size, dtype)
    first = -memory.ctypes.data % 64 // size
    return memory[first : first + n]

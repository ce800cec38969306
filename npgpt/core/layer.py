"""A function with parameters and a backward pass."""

import copy
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from npgpt.core.param import Array, FlatParams, Param
from npgpt.rng import make_key, normal


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

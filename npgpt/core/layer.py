"""A function with parameters and a backward pass."""

import copy
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from npgpt.core.cache import Cache
from npgpt.core.param import Array, FlatParams, Param
from npgpt.rng import make_key, normal


class Layer:
    """A function with parameters and a backward pass.

    ``forward(a, b, ..., cache)`` returns one array. ``backward(dy, cache)`` adds to the parameters' gradients and
    returns the gradient of each float input: one array, a tuple of several, or None where there is none.
    Neither writes to its arguments.

    Sub-layers and Params are found by the attribute that holds them; lists of layers too.

    Attributes
        flat: the vector that this layer's parameters were packed into, if they were.
        COMPILED: whether kernels compute it. They ask the cache whether they must add to a gradient or may write it.
    """

    COMPILED: ClassVar[bool] = False

    forward: Callable[..., Array]
    backward: Callable[..., Any]
    flat: FlatParams | None = None

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

    def zero_grad(self, cache: Cache | None = None) -> None:
        """Set all gradients to zero.

        Args
            cache: of the pass that follows. Gradients that compiled layers alone add to are then left to its first
                kernel, and to ``cache.clear_unwritten()`` after backward.
        """
        params: dict[int, Param] = {}
        by_hand: set[int] = set()  # those that code adds to which does not ask the cache
        for _, layer, name in self.slots():
            param = getattr(layer, name)
            params[id(param)] = param
            if cache is None or not layer.COMPILED:
                by_hand.add(id(param))
        for key in by_hand:
            params.pop(key).grad[...] = 0
        if cache is not None:
            cache.write_first(params.values())

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
        if np.dtype(dtype) != np.float32:
            other = other.recast(lambda layer: layer.textbook_class())
        other.pack(dtype)
        return other

    @classmethod
    def textbook_class(cls) -> "type[Layer]":
        """The class that computes the same in plain NumPy: this one, but for a compiled layer."""
        return cls

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        other = object.__new__(type(self))
        memo[id(self)] = other
        for name, value in vars(self).items():
            if name != "flat":
                setattr(other, name, copy.deepcopy(value, memo))  # Params that are shared here are shared there
        if self.flat is not None:  # copies of views are arrays of their own: make them views again
            other.pack(self.flat.values.dtype)
        return other

    def recast(self, choose: "Callable[[Layer], type[Layer]]") -> Self:
        """The same layer over the very same Params, with other classes. What one of the two learns, the other knows.

        Args
            choose: the class for a layer, whose sub-layers have theirs already.
        """
        other: Self = self._recast(choose, {})
        return other

    def _recast(self, choose: "Callable[[Layer], type[Layer]]", made: "dict[int, Layer]") -> Any:
        if id(self) in made:  # a layer that stands twice stays one
            return made[id(self)]
        other = made[id(self)] = object.__new__(type(self))
        for name, value in vars(self).items():
            if isinstance(value, Layer):
                value = value._recast(choose, made)
            elif isinstance(value, list):
                value = [item._recast(choose, made) if isinstance(item, Layer) else item for item in value]
            setattr(other, name, value)
        other.__class__ = choose(other)
        return other

    def __repr__(self) -> str:
        parts = [f"{name} {value.value.shape}" for name, value in vars(self).items() if isinstance(value, Param)]
        return f"{type(self).__name__}({', '.join(parts + list(self.children()))})"

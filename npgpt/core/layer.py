"""A function with parameters and a backward pass."""

import copy
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from npgpt.core.cache import Cache
from npgpt.core.param import Array, FlatParams, Param
from npgpt.core.values import float_type, whole
from npgpt.errors import ConfigError
from npgpt.rng import make_key, normal


class Layer:
    """A function with parameters and a backward pass.

    ``forward(a, b, ..., cache)`` returns one array. ``backward(dy, cache)`` adds to the parameters' gradients and
    returns the gradients of the float inputs: one array, a tuple if there are several, None if there are none.
    Neither method writes to its arguments.

    Every Param and every layer in an attribute is a part of the layer, also in lists, tuples and dicts at any depth.

    Attributes
        flat: the vector that holds this layer's parameters, once ``pack`` has been called.
        COMPILED: whether kernels compute this layer. The cache tells them whether to write a gradient or to add to it.
    """

    COMPILED: ClassVar[bool] = False

    forward: Callable[..., Array]
    backward: Callable[..., Any]
    flat: FlatParams | None = None

    def children(self) -> dict[str, "Layer"]:
        """Return name -> sub-layer; the items of a list ``blocks`` are named ``blocks.0``, ``blocks.1``, ..."""
        return {name: part for name, part in _parts(vars(self)) if isinstance(part, Layer)}

    def walk(self) -> Iterator["Layer"]:
        """Yield this layer, and all layers in it."""
        yield self
        for child in self.children().values():
            yield from child.walk()

    def slots(self, prefix: str = "") -> Iterator[tuple[str, "Layer", Param]]:
        """Yield (path, layer, Param) of each Param, with the layer that holds it. A shared Param has several paths."""
        for name, part in _parts(vars(self)):
            if isinstance(part, Param):
                yield prefix + name, self, part
        for name, child in self.children().items():
            yield from child.slots(f"{prefix}{name}.")

    def parameters(self) -> dict[str, Param]:
        """Return path -> Param. A shared Param is listed once, under its first path.

        Raises
            ConfigError if an object that is no layer holds a Param or a layer: nobody would train it.
        """
        _refuse_hidden_parts(self)
        found: dict[str, Param] = {}
        seen: set[int] = set()
        for path, _, param in self.slots():
            if id(param) not in seen:
                seen.add(id(param))
                found[path] = param
        return found

    def initialise(self, seed: int) -> Self:
        """Draw random values for every Param that has a ``std``. They depend only on the seed and its path."""
        seed = whole(type(self).__name__, "seed", seed)
        for path, param in self.parameters().items():
            if param.std:
                param.value[...] = param.std * normal(make_key("initialise", seed, path), param.value.shape)
        return self

    def zero_grad(self, cache: Cache | None = None) -> None:
        """Set all gradients to zero.

        Args
            cache: the cache of the next pass. If it is given, gradients that only kernels add to are not cleared here:
                the first kernel writes them, and ``cache.clear_unwritten()`` clears the rest after backward.
        """
        params: dict[int, Param] = {}
        by_hand: set[int] = set()  # Params whose gradients textbook layers add to
        for _, layer, param in self.slots():
            params[id(param)] = param
            if cache is None or not layer.COMPILED:
                by_hand.add(id(param))
        for key in by_hand:
            params.pop(key).grad[...] = 0
        if cache is not None:
            cache.write_first(params.values())

    def pack(self, dtype: npt.DTypeLike) -> FlatParams:
        """Move all parameters into one new flat vector. Gradients start at zero."""
        dtype = float_type(type(self).__name__, dtype)
        self.forget_flat()
        self.flat = FlatParams(list(self.parameters().values()), dtype)
        return self.flat

    def forget_flat(self) -> None:
        """Forget the vector that holds all parameters, because the parameters change."""
        for layer in self.walk():
            layer.flat = None  # if a sub-layer was packed before, its Params now move to the new vector

    def astype(self, dtype: npt.DTypeLike) -> Self:
        """Return a copy with the same values in another precision, packed. Gradients start at zero.

        Compiled layers compute in float32 only; in any other precision they become textbook layers.
        """
        float_type(type(self).__name__, dtype)
        other = copy.deepcopy(self)
        if np.dtype(dtype) != np.float32:
            other = other.recast(lambda layer: layer.textbook_class())
        other.pack(dtype)
        return other

    @classmethod
    def textbook_class(cls) -> "type[Layer]":
        """Return the class that computes the same in plain NumPy. For a textbook layer it is the layer's own class."""
        return cls

    def recast(self, choose: "Callable[[Layer], type[Layer]]") -> Self:
        """Return this layer with other classes over the same Param objects, so training one also trains the other.

        Args
            choose: layer -> its new class. It is called for sub-layers first.
        """
        other: Self = self._recast(choose, {})
        return other

    def _recast(self, choose: "Callable[[Layer], type[Layer]]", made: "dict[int, Layer]") -> Any:
        if id(self) in made:  # a layer that is used in two places stays one layer
            return made[id(self)]
        other = made[id(self)] = object.__new__(type(self))
        for name, value in vars(self).items():
            setattr(other, name, with_layers(value, lambda layer: layer._recast(choose, made)))
        other.__class__ = choose(other)
        return other

    def __repr__(self) -> str:
        parts = [f"{name} {value.value.shape}" for name, value in vars(self).items() if isinstance(value, Param)]
        return f"{type(self).__name__}({', '.join(parts + list(self.children()))})"


def _parts(value: Any, name: str = "") -> Iterator[tuple[str, Param | Layer]]:
    """Yield (name, part) of the Params and layers in lists, tuples and dicts at any depth."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, item in items:
        path = f"{name}.{key}" if name else str(key)
        if isinstance(item, Param | Layer):
            yield path, item
        elif isinstance(item, list | tuple | dict):
            yield from _parts(item, path)


def with_layers(value: Any, change: Callable[[Layer], Any]) -> Any:
    """Return a value in which other layers stand, also in lists, tuples and dicts at any depth."""
    if isinstance(value, Layer):
        return change(value)
    if not any(isinstance(part, Layer) for _, part in _parts(value)):
        return value
    if isinstance(value, dict):
        return {key: with_layers(item, change) for key, item in value.items()}
    items = [with_layers(item, change) for item in value]
    return items if isinstance(value, list) else value._make(items) if hasattr(value, "_make") else tuple(items)


def _refuse_hidden_parts(layer: Layer) -> None:
    for name, value in vars(layer).items():
        if isinstance(value, set | frozenset):
            held: dict[str, Any] = {str(i): item for i, item in enumerate(value)}
        else:
            held = {} if isinstance(value, Param | Layer | FlatParams | type) else getattr(value, "__dict__", {})
        for path, _ in _parts(dict(held), name):
            raise ConfigError(
                f"{type(layer).__name__}: {path} is in a {type(value).__name__}, where it would not be trained; "
                f"make {name} a Layer, a list or a dict"
            )
    for child in layer.children().values():
        _refuse_hidden_parts(child)

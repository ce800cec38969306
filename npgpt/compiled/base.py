"""The base of all compiled layers: float32 arithmetic, and memory that is reused in every step."""

from types import EllipsisType
from typing import Any

import numpy as np

from npgpt.core import Array, Cache, Layer, Param
from npgpt.core.layer import with_layers
from npgpt.core.shapes import check_plain, check_shape
from npgpt.errors import ConfigError, ShapeError
from npgpt.kernels import elementwise
from npgpt.machine.pool import pool

# Textbook class -> its compiled twin. A compiled class is added when it is defined.
TWINS: dict[type[Layer], type["CompiledLayer"]] = {}


class CompiledLayer(Layer):
    """A layer computed by kernels in float32. Its textbook twin, a base of its class, has the same parameters.

    Attributes
        KEEPS: the names that this layer keeps, a subset of those of its textbook twin. Other arrays for backward are in
            buffers.
        FUSES: (sub-layer, classes) pairs. This class does the work of the sub-layer itself, or passes it additional
            arguments, so the sub-layer must be of one of these classes. Otherwise the textbook composite is used
            (``compiled_class``).

    The output of forward is a buffer of the layer's cache. The output of backward is scratch memory that layers with
    the same role share (``Cache.scope``). So after the first step, no allocation grows with the model.
    """

    COMPILED = True
    KEEPS: tuple[str, ...] = ()
    FUSES: tuple[tuple[str, tuple[type[Layer], ...]], ...] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        twins = tuple(TWINS.values())
        if any(issubclass(base, twins) and base not in twins for base in cls.__bases__):
            return  # a subclass of a user's subclass of a twin, whose override the textbook class may lack
        for base in cls.__bases__:
            textbook = issubclass(base, Layer) and not issubclass(base, CompiledLayer) and base is not Layer
            if textbook and not issubclass(cls, TWINS.get(base, ())):  # a user's subclass of a twin replaces no twin
                TWINS[base] = cls

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        for param in self.parameters().values():
            if param.value.dtype != np.float32:
                value = param.value.astype(np.float32)
                param.move(value, np.zeros_like(value))
        vars(self).update(
            {n: with_layers(x, lambda layer: layer.recast(compiled_class)) for n, x in vars(self).items()}
        )

    @classmethod
    def textbook_class(cls) -> type[Layer]:
        for textbook, twin in TWINS.items():
            if twin is cls:
                return textbook
        raise ConfigError(
            f"{cls.__name__} inherits from a compiled layer: it computes in float32 with kernels and has no textbook "
            "form, which other precisions and gradcheck need; inherit from the textbook layer of npgpt.layers instead, "
            "or define the classmethod textbook_class, which returns a class that computes the same in NumPy"
        )


def compiled_class(layer: Layer) -> type[Layer]:
    """Return the compiled class of a layer, or its own class if there is none, as for a user's own layer.

    Args
        layer: its sub-layers already have their new classes.
    Raises
        ShapeError if a parameter is not in float32.
    """
    twin = TWINS.get(type(layer))
    if twin is None or not all(type(getattr(layer, name)) in known for name, known in twin.FUSES):
        return type(layer)
    for name, value in vars(layer).items():
        if isinstance(value, Param) and value.value.dtype != np.float32:
            raise ShapeError(
                f"{twin.__name__}: {name} is {value.value.dtype}, but compiled layers compute in float32; convert the "
                "layer first, with .astype(np.float32)"
            )
    return twin


def output(cache: Cache, shape: tuple[int, ...], name: str = "y") -> Array:
    """Return memory for the output of forward."""
    return cache.buffer(name, shape, np.float32)


def gradient(cache: Cache, shape: tuple[int, ...], *alive: Array, name: str = "dx") -> Array:
    """Return memory for the output of backward, other than that of ``alive``: arrays that are still needed."""
    memory = cache.scratch(f"{cache.role}.{name}", shape, np.float32)
    if any(memory.base is array.base for array in alive):
        memory = cache.scratch(f"{cache.role}.{name}'", shape, np.float32)
    return memory


def add(a: Array, b: Array, out: Array) -> Array:
    """Compute out = a + b."""
    elementwise.add(pool(), flat(a), flat(b), flat(out))
    return out


def rows(x: Array) -> Array:
    """Reshape (..., C) to (n, C), contiguous."""
    return np.ascontiguousarray(x.reshape(-1, x.shape[-1]))


def flat(x: Array) -> Array:
    """Reshape to one dimension, contiguous."""
    return np.ascontiguousarray(x).reshape(-1)


def check_float32(who: str, name: str, x: Array, shape: tuple[int | str | EllipsisType, ...] = (...,)) -> None:
    """Raise ShapeError if an array is not in float32, or has the wrong shape; as ``check_array``."""
    check_plain(who, name, x)
    check_shape(who, name, x, shape)
    if x.dtype != np.float32:
        raise ShapeError(
            f"{who}: {name} is {x.dtype}, expected float32; convert it with .astype(np.float32), or use the layers of "
            "npgpt.layers: compiled layers compute in float32 only"
        )

"""What all compiled layers share: float32, and memory that is used again in every step."""

from typing import Any

import numpy as np

from npgpt.core import Array, Cache, Layer, Param
from npgpt.core.shapes import check_array
from npgpt.errors import ShapeError
from npgpt.kernels import elementwise
from npgpt.machine.pool import pool

# Textbook class -> its compiled twin. A compiled class enters when it is defined.
TWINS: dict[type[Layer], type["CompiledLayer"]] = {}


class CompiledLayer(Layer):
    """A layer with the parameters of its textbook twin, which is a base of its class, computed by kernels, in float32.

    Attributes
        KEEPS: the names, of those that the textbook layer keeps, that this one keeps too. What else backward needs lies
            in buffers.
        FUSES: sub-layers whose work this class does itself, or hands more to than others take, each with the classes
            that it knows. With any other class in its place the textbook composite computes (``compiled_class``).

    What forward returns lies in a buffer of the layer's cache, what backward returns in scratch memory that is shared
    by all layers with the same role (``Cache.scope``). So after the first step no step allocates anything that grows
    with the model.
    """

    COMPILED = True
    KEEPS: tuple[str, ...] = ()
    FUSES: tuple[tuple[str, tuple[type[Layer], ...]], ...] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for base in cls.__bases__:
            if issubclass(base, Layer) and not issubclass(base, CompiledLayer):
                TWINS[base] = cls

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        for param in self.parameters().values():
            if param.value.dtype != np.float32:
                value = param.value.astype(np.float32)
                param.move(value, np.zeros_like(value))
        vars(self).update({name: child.recast(compiled_class) for name, child in self.children().items()})

    @classmethod
    def textbook_class(cls) -> type[Layer]:
        return next(textbook for textbook in cls.__mro__ if textbook in TWINS)


def compiled_class(layer: Layer) -> type[Layer]:
    """The class that computes a layer by kernels; its own class where there is none, as for a reader's own layer.

    Args
        layer: with sub-layers that have their classes already.
    Raises
        ShapeError if its parameters are not in float32.
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
    """Memory for what forward returns."""
    return cache.buffer(name, shape, np.float32)


def gradient(cache: Cache, shape: tuple[int, ...], *alive: Array, name: str = "dx") -> Array:
    """Memory for what backward returns: not that of the arrays that are still needed."""
    memory = cache.scratch(f"{cache.role}.{name}", shape, np.float32)
    if any(memory.base is array.base for array in alive):
        memory = cache.scratch(f"{cache.role}.{name}'", shape, np.float32)
    return memory


def add(a: Array, b: Array, out: Array) -> Array:
    """out = a + b."""
    elementwise.add(pool(), flat(a), flat(b), flat(out))
    return out


def rows(x: Array) -> Array:
    """(..., C) -> (n, C), one row after another in memory."""
    return np.ascontiguousarray(x.reshape(-1, x.shape[-1]))


def flat(x: Array) -> Array:
    """All numbers of an array in one row."""
    return np.ascontiguousarray(x).reshape(-1)


def check_float32(who: str, name: str, x: Array) -> None:
    """Refuse what kernels cannot compute with."""
    check_array(who, name, x, (...,), like=x)
    if x.dtype != np.float32:
        raise ShapeError(
            f"{who}: {name} is {x.dtype}, but compiled layers compute in float32; convert it with "
            ".astype(np.float32), or take the layers of npgpt.layers"
        )

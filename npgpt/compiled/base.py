"""What all compiled layers share: float32, and memory that is used again in every step."""

import sys
from types import ModuleType
from typing import Any

import numpy as np

from npgpt.core import Array, Cache, Layer, Param
from npgpt.core.shapes import check_array
from npgpt.errors import ShapeError
from npgpt.kernels import elementwise
from npgpt.machine.pool import pool


class CompiledLayer(Layer):
    """A layer with the parameters of its textbook twin, computed by kernels, in float32.

    Attributes
        KEEPS: the names, of those that the textbook layer keeps, that this one keeps too. What else backward needs lies
            in buffers.

    What forward returns lies in a buffer of the layer's cache, what backward returns in scratch memory that is shared
    by all layers with the same role (the same path but for the number of the block). So after the first step no step
    allocates anything that grows with the model.
    """

    KEEPS: tuple[str, ...] = ()

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        for param in vars(self).values():
            if isinstance(param, Param) and param.value.dtype != np.float32:
                param.value = param.value.astype(np.float32)
                param.grad = np.zeros_like(param.value)


class CompiledComposite(CompiledLayer):
    """A compiled layer that is made of others: compiled ones, if not said."""

    def __init__(self, *args: Any, layers: ModuleType | None = None, **settings: Any) -> None:
        super().__init__(*args, layers=layers or sys.modules["npgpt.compiled"], **settings)


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

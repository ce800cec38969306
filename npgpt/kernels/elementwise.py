"""Elementwise operations: activation functions with their slopes, sums, products and multiples.

``plain_activate`` is the loop. One exponential gives both the value and the slope. The slope is stored in place of x,
so the backward pass is one product.

Each loop takes sixteen numbers at a time; a mask selects the last few. The loops also work in place. A compiler would
not vectorise such a loop, since it cannot know that two arrays do not overlap.
"""

from typing import Any

import numpy as np

from npgpt.machine.atomics import job
from npgpt.machine.compile import entry, inline_kernel, kernel
from npgpt.machine.functions import PLAIN, gelu, relu, tanh_gelu
from npgpt.machine.kinds import FLOAT, FLOATS, FLOATS_OUT, INT, POOL
from npgpt.machine.pool import launch
from npgpt.machine.vector import LANES, load, load_some, store, store_some

TANH_GELU, GELU, RELU = 0, 1, 2
_ADD, _MULTIPLY, _SCALE = 0, 1, 2
CHUNK = 8192  # numbers in a chunk


def plain_activate(kind: int, x: Any, y: Any, slope: Any) -> None:
    """Compute y and dy/dx of every x; ``kind`` is TANH_GELU, GELU or RELU."""
    activation_of_number = PLAIN[("tanh_gelu", "gelu", "relu")[kind]]
    for i in range(len(x)):
        y[i], slope[i] = activation_of_number(float(x[i]))


@inline_kernel
def activation(kind: int, x: Any) -> Any:
    """(y, slope) of sixteen numbers; ``kind`` is TANH_GELU, GELU or RELU."""
    if kind == TANH_GELU:
        return tanh_gelu(x)
    if kind == GELU:
        return gelu(x)
    return relu(x)


@inline_kernel
def chunks(n: int) -> int:
    """Return the number of chunks in n numbers."""
    return (n + CHUNK - 1) // CHUNK


@kernel
def _activate(thread: int, chunk: int, kind: int, x: Any, y: Any, slope: Any) -> None:
    last = min(len(x), (chunk + 1) * CHUNK)
    for i in range(chunk * CHUNK, last, LANES):
        count = min(LANES, last - i)
        value, slope_there = activation(kind, load_some(x, i, count, 0.0))
        store_some(y, i, count, value)
        store_some(slope, i, count, slope_there)


@entry(POOL, INT, FLOATS, FLOATS_OUT, FLOATS_OUT)
def activate(pool: Any, kind: int, x: Any, y: Any, slope: Any) -> None:
    """Compute y and dy/dx of every x; ``kind`` is TANH_GELU, GELU or RELU. y or slope may be x."""
    launch(pool, chunks(len(x)), *job(_activate, (kind, x, y, slope)))


@inline_kernel
def _combine_lanes(what: int, a: Any, b: Any, factor: float) -> Any:
    if what == _ADD:
        return a + b
    if what == _MULTIPLY:
        return a * b
    return a * factor


@kernel
def _combine(thread: int, chunk: int, what: int, a: Any, b: Any, factor: Any, out: Any) -> None:
    first, last = chunk * CHUNK, min(len(a), (chunk + 1) * CHUNK)
    whole = last - (last - first) % LANES
    rest = last - whole
    for i in range(first, whole, LANES):
        store(out, i, _combine_lanes(what, load(a, i), load(b, i), factor))
    if rest:
        some = load_some(a, whole, rest, 0.0), load_some(b, whole, rest, 0.0)
        store_some(out, whole, rest, _combine_lanes(what, some[0], some[1], factor))


@kernel
def _combine_all(pool: Any, what: int, a: Any, b: Any, factor: float, out: Any) -> None:
    launch(pool, chunks(len(a)), *job(_combine, (what, a, b, np.float32(factor), out)))


@entry(POOL, FLOATS, FLOATS, FLOATS_OUT)
def add(pool: Any, a: Any, b: Any, out: Any) -> None:
    """out = a + b; out may be a or b."""
    _combine_all(pool, _ADD, a, b, 1.0, out)


@entry(POOL, FLOATS, FLOATS, FLOATS_OUT)
def multiply(pool: Any, a: Any, b: Any, out: Any) -> None:
    """out = a·b, elementwise; out may be a or b."""
    _combine_all(pool, _MULTIPLY, a, b, 1.0, out)


@entry(POOL, FLOATS, FLOAT, FLOATS_OUT)
def scale(pool: Any, a: Any, factor: float, out: Any) -> None:
    """out = a·factor, with the factor rounded to float32; out may be a."""
    _combine_all(pool, _SCALE, a, a, factor, out)

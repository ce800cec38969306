"""AdamW and the norm of the gradient, on the flat vectors of all parameters.

In NumPy (``plain_adamw``) each of about twenty operations is a pass over memory. Here one pass reads four numbers and
writes three for each parameter, at the speed of memory. A mean or square below 2**-126 becomes 0, not subnormal. The
moments of an unused row would stay subnormal, which makes some CPUs a hundred times slower.
"""

from typing import Any

import numpy as np

from npgpt.core.param import CHUNK
from npgpt.machine.atomics import job
from npgpt.machine.compile import entry, inline_kernel, kernel
from npgpt.machine.kinds import DOUBLES_OUT, FLOAT, FLOATS, FLOATS_OUT, INT, POOL
from npgpt.machine.pool import launch
from npgpt.machine.vector import (
    LANES,
    absolute,
    add_squares,
    fma,
    load,
    load_some,
    no_squares,
    select_less,
    splat,
    sqrt,
    store,
    store_some,
    sum_squares,
)

_SMALLEST = np.float32(2.0**-126)  # the smallest normal number


def plain_adamw(
    values: Any, grads: Any, mean: Any, square: Any, n_matrix: int, grad_scale: float, beta1: float, beta2: float,
    correction1: float, correction2: float, learning_rate: float, decay: float, eps: float,
) -> None:  # fmt: skip
    """Take one step, like ``adamw``."""
    g = grads * grad_scale
    mean[:] = beta1 * mean + (1 - beta1) * g
    square[:] = beta2 * square + (1 - beta2) * g**2
    values[:n_matrix] -= decay * values[:n_matrix]
    values -= learning_rate * (mean / correction1) / (np.sqrt(square / correction2) + eps)


def chunks(n: int) -> int:
    """Return the number of chunks in n numbers."""
    return -(-n // CHUNK)


@kernel
def _squares(thread: int, chunk: int, g: Any, found: Any) -> None:
    first, last = chunk * CHUNK, min(len(g), (chunk + 1) * CHUNK)
    whole = last - (last - first) % (2 * LANES)
    even = odd = no_squares()  # two sums, since each addition waits for the one before it
    for i in range(first, whole, 2 * LANES):
        even = add_squares(even, load(g, i))
        odd = add_squares(odd, load(g, i + LANES))
    for i in range(whole, last, LANES):
        even = add_squares(even, load_some(g, i, min(LANES, last - i), 0.0))
    found[chunk] = sum_squares(even) + sum_squares(odd)


@entry(POOL, FLOATS, DOUBLES_OUT)
def squares(pool: Any, g: Any, found: Any) -> None:
    """Write the sum of the squares of the numbers of each chunk, in float64, to ``found`` (chunks(n),)."""
    launch(pool, len(found), *job(_squares, (g, found)))


@inline_kernel
def _normal(x: Any) -> Any:
    """x, or 0 where x is subnormal."""
    return select_less(absolute(x), splat(_SMALLEST), splat(0.0), x)


@inline_kernel
def _updated(value: Any, g: Any, m: Any, v: Any, keep: Any, numbers: Any) -> Any:
    """The next value, mean and square of sixteen parameters."""
    grad_scale, beta1, rest1, beta2, rest2, minus_rate, correction2, eps = numbers
    g *= grad_scale
    m = _normal(fma(m, beta1, g * rest1))
    v = _normal(fma(v, beta2, g * g * rest2))
    return fma(value, keep, m * minus_rate / (sqrt(v * correction2) + eps)), m, v


@kernel
def _adamw(
    thread: int, chunk: int, values: Any, grads: Any, mean: Any, square: Any, n_matrix: int, decayed: Any, numbers: Any
) -> None:
    first, last = chunk * CHUNK, min(len(values), (chunk + 1) * CHUNK)
    middle = min(max(first, n_matrix), last)
    for start, end, keep in ((first, middle, decayed), (middle, last, np.float32(1))):
        whole = end - (end - start) % LANES
        for i in range(start, whole, LANES):
            value, m, v = _updated(load(values, i), load(grads, i), load(mean, i), load(square, i), keep, numbers)
            store(mean, i, m)
            store(square, i, v)
            store(values, i, value)
        rest = end - whole
        if rest:
            value, g = load_some(values, whole, rest, 0.0), load_some(grads, whole, rest, 0.0)
            m, v = load_some(mean, whole, rest, 0.0), load_some(square, whole, rest, 0.0)
            value, m, v = _updated(value, g, m, v, keep, numbers)
            store_some(mean, whole, rest, m)
            store_some(square, whole, rest, v)
            store_some(values, whole, rest, value)


@entry(POOL, FLOATS_OUT, FLOATS, FLOATS_OUT, FLOATS_OUT, INT, *[FLOAT] * 8)
def adamw(
    pool: Any, values: Any, grads: Any, mean: Any, square: Any, n_matrix: int, grad_scale: float, beta1: float,
    beta2: float, correction1: float, correction2: float, learning_rate: float, decay: float, eps: float,
) -> None:  # fmt: skip
    """Take one step: update values, mean and square. The first ``n_matrix`` values have weight decay.

    Args
        grad_scale: a factor for the gradients.
        correction1: 1 - beta1**t in step t.
        correction2: 1 - beta2**t.
        decay: the learning rate times the weight decay.
    """
    numbers = (
        np.float32(grad_scale),
        np.float32(beta1),
        np.float32(1 - beta1),
        np.float32(beta2),
        np.float32(1 - beta2),
        np.float32(-learning_rate / correction1),
        np.float32(1 / correction2),
        np.float32(eps),
    )
    arguments = (values, grads, mean, square, n_matrix, np.float32(1 - decay), numbers)
    launch(pool, (len(values) + CHUNK - 1) // CHUNK, *job(_adamw, arguments))

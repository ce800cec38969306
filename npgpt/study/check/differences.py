"""Differences of the forward pass along a direction: a slope, with an estimate of its own error.

(L(x + h·v) − L(x − h·v))/2h is off by O(h²) and by rounding over h. Richardson's extrapolation from two steps, h and
h/2, removes the term in h². What it changes is the estimate of the error. If this is large, other steps are tried, from
1e-1 to 1e-8 of the size of the tensor, and the step with the smallest estimate counts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from npgpt.core import Array

STEPS = (1e-4, 1e-3, 1e-5, 1e-2, 1e-6, 1e-1, 1e-7, 1e-8)  # relative to the size of the tensor; in the order of use
GOOD = 3e-9  # an estimate this small, relative to the slope, needs no other step
ROUNDING = 2.0**-52
LOW_PRECISION = 1e-3  # that of float16
Forward = Callable[[float], Array]  # t -> y(x + t·v)


@dataclass(frozen=True)
class Slope:
    """A slope along a direction.

    Attributes
        error: estimate of its absolute error.
        size: Σ |dy ⊙ ∂y/∂v|, what the slope could be at most.
    """

    value: float
    error: float
    size: float


def rise(above: Array, below: Array) -> Array:
    """Return what an output gained. A masked score is −∞ or NaN on both sides: it gained 0."""
    moved = (above != below) & ~(np.isnan(above) & np.isnan(below))
    return np.asarray(np.subtract(above, below, where=moved, out=np.zeros(above.shape)))


def slope(forward: Forward, dy: Array, noise: float, good: float = GOOD) -> Slope:
    """Return the slope of Σ dy ⊙ y along a direction.

    Args
        forward: t -> output at x + t·v, where v is as large as the tensor.
        noise: rounding error of Σ dy ⊙ y.
        good: largest relative error with which no other step is tried.
    """
    best, far = Slope(0.0, np.inf, 0.0), None
    for h in STEPS:
        wide = rise(forward(h), forward(-h)) / (2 * h)
        narrow = rise(forward(h / 2), forward(-h / 2)) / h
        of_wide, of_narrow, rounding = float((dy * wide).sum()), float((dy * narrow).sum()), 2 * noise / h
        value = (4 * of_narrow - of_wide) / 3
        found = Slope(value, abs(value - of_narrow) + rounding, float(np.abs(dy * narrow).sum()))
        if not found.size:
            far = bool(rise(forward(0.1), forward(-0.1)).any()) if far is None else far
            if far:
                continue  # the step is lost in the rounding of a forward pass in low precision
        if found.error < best.error:
            best = found
        if best.error <= good * best.size or (h == STEPS[0] and best.size <= 4 * rounding):
            break
    return best


def has_kink(forward: Forward, y: Array, dy: Array, noise: float) -> bool:
    """Return whether the slopes on both sides differ at x itself: where y is smooth, their difference falls with h."""
    bends, sizes, steps = [], [], (1e-5, 1e-6, 1e-7)
    for h in steps:
        right, left = rise(forward(h), y) / h, rise(y, forward(-h)) / h
        bends.append(abs(float((dy * (right - left)).sum())))
        sizes.append(float(np.abs(dy * right).sum() + np.abs(dy * left).sum()))
    return any(
        narrow > 0.5 * wide and narrow > 1e-6 * size + 20 * noise / h
        for wide, narrow, size, h in zip(bends, bends[1:], sizes[1:], steps[1:], strict=False)
    )


def noise_of(forward: Forward, y: Array, step: float = 1e-6) -> float:
    """Return the rounding error of one number of an output, relative to the size of the output.

    Fourth differences of a smooth function over small steps are rounding errors alone: √70 times one of them.
    """
    a, b, c, d = (forward(t * step) for t in (1, 2, 3, 4))
    fourth = rise(y, b) - 4 * rise(a, b) - 4 * rise(c, b) + rise(d, b)  # 6·b belongs to the other terms
    finite = np.isfinite(fourth) & np.isfinite(y)
    if not finite.any():
        return ROUNDING
    if not any(rise(x, y).any() for x in (a, b, c, d)) and rise(forward(1e-2), y).any():
        return LOW_PRECISION  # steps this small are lost in rounding
    size, found = np.sqrt((y[finite] ** 2).mean()), np.sqrt((fourth[finite] ** 2).mean() / 70)
    return max(float(found / size) if size else 0.0, ROUNDING)

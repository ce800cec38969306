"""The walk back over a tape: it multiplies slopes along each path, and adds up the paths."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from npgpt.core import Array
from npgpt.study.check.tape import CONSTANT, Taped


def gradients(
    y: Any, dy: Array, of: Mapping[str, Taped], bounds: bool = False, slopes: Mapping[int, Array] | None = None
) -> dict[str, Array]:
    """Return the gradient of Σ dy ⊙ y for each cell of the arrays in ``of``.

    Args
        y: the output; a cell that it does not depend on has the gradient zero.
        bounds: return Σ |slopes · dy| over all paths instead, which bounds the rounding errors of any such sum.
        slopes: number of a step -> slopes to use in place of its own.
    """
    if not isinstance(y, Taped):
        return {name: np.zeros(x.shape) for name, x in of.items()}
    grad = all_gradients(y, dy, bounds, slopes or {})
    return {name: grad[x.ids] for name, x in of.items()}


def all_gradients(
    y: Taped, dy: Array, bounds: bool, slopes: Mapping[int, Array], moved: tuple[int, Array] | None = None
) -> Array:
    """Return the gradient of each cell of the tape, by its number; the last one, of all constants, is zero.

    Args
        moved: the first cell of a result, and the order in which its gradients go on, as after a wrong transposition.
    """
    grad = np.zeros(y.tape.n + 1)  # the last cell takes what constants get
    np.add.at(grad, y.ids, np.abs(dy) if bounds else dy)
    with np.errstate(all="ignore"):
        for number in range(len(y.tape.steps) - 1, -1, -1):
            step = y.tape.steps[number]
            if moved is not None and len(step.child) and step.child.max() < moved[0] + len(moved[1]):
                first, order = moved
                grad[first : first + len(order)] = grad[first + order]
                moved = None
            upstream, slope = grad[step.child], slopes.get(number, step.slope)
            share = np.where(upstream == 0, 0, (np.abs(slope) if bounds else slope) * upstream)  # 0 · ∞ feeds nothing
            np.add.at(grad, step.parent, share)
    grad[CONSTANT] = 0
    return grad

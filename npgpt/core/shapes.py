"""Errors for an array of the wrong shape or precision, and for ids that are out of range. NumPy only."""

from types import EllipsisType
from typing import Any

import numpy as np
import numpy.typing as npt

from npgpt.errors import ShapeError

Array = npt.NDArray[Any]


def check_array(who: str, name: str, array: Array, shape: tuple[int | str | EllipsisType, ...], like: Array) -> None:
    """Raise ShapeError if an array has the wrong shape or precision.

    Args
        shape: a number is an exact size, a letter any size, a leading ``...`` any number of axes.
        like: an array, usually a parameter, of the expected precision. Complex numbers of that precision and Python
            objects are accepted too.

    >>> check_array("Linear", "x", np.zeros((2, 3)), (..., 4), like=np.zeros(1))
    Traceback (most recent call last):
    npgpt.errors.ShapeError: Linear: x has shape (2, 3), expected (..., 4)
    """
    if not isinstance(array, np.ndarray):
        raise ShapeError(f"{who}: {name} must be a NumPy array, not {type(array).__name__}")
    sizes = shape[1:] if shape[:1] == (...,) else shape
    enough = array.ndim >= len(sizes) if shape[:1] == (...,) else array.ndim == len(sizes)
    ends = zip(reversed(array.shape), reversed(sizes), strict=False)
    if not (enough and all(isinstance(expected, str) or size == expected for size, expected in ends)):
        wanted = ", ".join("..." if size is ... else str(size) for size in shape)
        raise ShapeError(f"{who}: {name} has shape {array.shape}, expected ({wanted}{',' * (len(shape) == 1)})")
    if array.dtype != like.dtype and "O" not in (array.dtype.kind, like.dtype.kind) and _real(array) != _real(like):
        or_the_layer = f", or the layer with .astype(np.{array.dtype})" if array.dtype.kind in "fc" else ""
        raise ShapeError(
            f"{who}: {name} is {array.dtype}, expected {like.dtype}; "
            f"convert it with .astype(np.{like.dtype}){or_the_layer}"
        )


def _real(array: Array) -> np.dtype[Any]:
    """Return the precision of a float or complex array: float64 for float64 and complex128."""
    return np.finfo(array.dtype).dtype if array.dtype.kind in "fc" else array.dtype


def check_ids(who: str, name: str, ids: Array, size: int, what: str, ignore: int | None = None) -> None:
    """Raise ShapeError unless all ids are integers from 0 to size - 1, or ``ignore``; it names the first wrong id.

    >>> check_ids("Embedding", "ids", np.array([[1, 70]]), 65, "vocabulary")
    Traceback (most recent call last):
    npgpt.errors.ShapeError: Embedding: ids[0, 1] is 70, but the vocabulary has 65 ids, 0 to 64
    """
    if not isinstance(ids, np.ndarray) or ids.dtype.kind not in "iu":
        given = f"an array of {ids.dtype}" if isinstance(ids, np.ndarray) else type(ids).__name__
        raise ShapeError(f"{who}: {name} must be an array of integers, not {given}")
    wrong = (ids < 0) | (ids >= size)
    if ignore is not None:
        wrong &= ids != ignore
    if wrong.any():
        first = tuple(np.argwhere(wrong)[0].tolist())
        where = ", ".join(map(str, first))
        raise ShapeError(f"{who}: {name}[{where}] is {ids[first]}, but the {what} has {size} ids, 0 to {size - 1}")

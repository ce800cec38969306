"""Errors for an array of the wrong shape or precision, and for ids that are out of range. NumPy only."""

from collections.abc import Iterable, Mapping
from types import EllipsisType
from typing import Any

import numpy as np
import numpy.typing as npt

from npgpt.core.values import shown
from npgpt.errors import NpgptError, ShapeError

Array = npt.NDArray[Any]


def check_array(who: str, name: str, array: Array, shape: tuple[int | str | EllipsisType, ...], like: Array) -> None:
    """Raise ShapeError if an array has the wrong shape or precision.

    Args
        shape: a number is an exact size, a letter any size from 1 on ("B" from 0 on), a leading ``...`` any axes.
        like: an array, usually a parameter, of the expected precision. Complex numbers of that precision are accepted
            too. The array itself: any precision of floats or complex numbers.

    >>> check_array("Linear", "x", np.zeros((2, 3)), (..., 4), like=np.zeros(1))
    Traceback (most recent call last):
    npgpt.errors.ShapeError: Linear: x has shape (2, 3), expected (..., 4)
    """
    check_plain(who, name, array)
    check_shape(who, name, array, shape)
    dtype, expected = array.dtype, like.dtype
    if dtype == expected and dtype.char in _FLOATS and dtype.isnative:
        return
    if dtype.char in _FLOATS and dtype.isnative and np.finfo(dtype).dtype == _real(expected):  # complex
        return
    expected = np.dtype(np.float64) if like is array else expected
    of_ours = dtype.char in "fd" and dtype.isnative
    raise ShapeError(
        f"{who}: {name} is {dtype}, expected {expected}; convert it with .astype(np.{expected})"
        f"{f', or the layer with .astype(np.{dtype})' if of_ours else ''}"
    )


def check_gradient(who: str, name: str, grad: Array, shape: tuple[int | str | EllipsisType, ...], like: Array) -> None:
    """Raise ShapeError as ``check_array``, and for complex numbers: a gradient is real."""
    check_array(who, name, grad, shape, like)
    if grad.dtype.kind == "c" and like.dtype.kind == "f":
        raise ShapeError(f"{who}: {name} is {grad.dtype}, expected {like.dtype}; give its real part, {name}.real")


def check_shape(who: str, name: str, array: Array, shape: tuple[int | str | EllipsisType, ...]) -> None:
    """Raise ShapeError if an array has another shape; as in ``check_array``."""
    sizes = shape[1:] if shape[:1] == (...,) else shape
    enough = array.ndim >= len(sizes) if shape[:1] == (...,) else array.ndim == len(sizes)
    ends = zip(reversed(array.shape), reversed(sizes), strict=False)
    if not (enough and all(_fits(*pair) for pair in ends)):
        wanted = ", ".join("..." if size is ... else str(size) for size in shape)
        empty = ", with no empty axis" if 0 in array.shape and any(isinstance(size, str) for size in sizes) else ""
        raise ShapeError(f"{who}: {name} has shape {array.shape}, expected ({wanted}{',' * (len(shape) == 1)}){empty}")


def _fits(size: int, wanted: Any) -> bool:
    return size == wanted or (isinstance(wanted, str) and (size > 0 or wanted == "B"))


_FLOATS = "fdFD"  # float32, float64 and their complex numbers


def _real(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the precision of floats or complex numbers: float64 for float64 and complex128."""
    return np.finfo(dtype).dtype if dtype.kind in "fc" else dtype


def check_plain(who: str, name: str, array: Array) -> None:
    """Raise ShapeError unless it is an array, and none of NumPy's classes in which * and + mean something else."""
    if type(array) is np.ndarray:
        return
    if not isinstance(array, np.ndarray):
        raise ShapeError(f"{who}: {name} must be a NumPy array, not {type(array).__name__}; convert it with np.asarray")
    if isinstance(array, np.ma.MaskedArray):
        raise ShapeError(f"{who}: {name} is a masked array, and masks are ignored; give {name}.filled(0), for example")
    if isinstance(array, np.matrix):
        raise ShapeError(f"{who}: {name} is an np.matrix; convert it with np.asarray")


def check_ids(who: str, name: str, ids: Array, size: int, what: str, ignore: int | None = None) -> Array:
    """Return ids in the machine's byte order, if all are integers from 0 to size - 1, or ``ignore``.

    The ShapeError names the first wrong id.

    >>> check_ids("Embedding", "ids", np.array([[1, 70]]), 65, "vocabulary")
    Traceback (most recent call last):
    npgpt.errors.ShapeError: Embedding: ids[0, 1] is 70, but the vocabulary has 65 ids, 0 to 64
    """
    if not isinstance(ids, np.ndarray) or ids.dtype.kind not in "iu":
        given = f"an array of {ids.dtype}" if isinstance(ids, np.ndarray) else type(ids).__name__
        raise ShapeError(f"{who}: {name} must be an array of integers, not {given}")
    check_plain(who, name, ids)
    ids = _native(ids)
    wrong = (ids < 0) | (ids >= size)
    if ignore is not None:
        wrong &= ids != ignore
    if wrong.any():
        first = tuple(np.argwhere(wrong)[0].tolist())
        where = f"[{', '.join(map(str, first))}]" if first else ""
        hint = f"; a position that does not count has the target IGNORE_INDEX, {ignore}" if ignore is not None else ""
        raise ShapeError(f"{who}: {name}{where} is {ids[first]}, but the {what} has {size} ids, 0 to {size - 1}{hint}")
    return ids


def as_floats(who: str, name: str, numbers: Any) -> Array:
    """Return numbers, an array or nested lists, as an array of float32 or float64 in this machine's byte order.

    >>> as_floats("cosine", "u", [1, 2])
    array([1., 2.])
    """
    if not isinstance(numbers, np.ndarray):
        try:
            numbers = np.array(numbers if isinstance(numbers, list | tuple) else None)
        except ValueError:  # lists of different lengths
            numbers = np.array(None)
    check_plain(who, name, numbers)
    if numbers.dtype.kind not in "fiu" or (not numbers.size and not numbers.dtype == float):
        raise ShapeError(f"{who}: {name} must be an array of floats, not {shown(numbers)}")
    single = numbers.dtype.kind == "f" and numbers.dtype.itemsize <= 4
    floats: Array = numbers.astype(np.float32 if single else np.float64, copy=False)
    return floats


def _native(ids: Array) -> Array:
    """Return ids in the machine's byte order; NumPy up to 2.2 can crash when it compares others with a number."""
    return ids if ids.dtype.isnative else ids.astype(ids.dtype.newbyteorder("="))


def as_ids(who: str, name: str, ids: Any, size: int | None = None, error: type[NpgptError] = ShapeError) -> Array:
    """Return a sequence of ids (n,), an array or a list, as an array of integers; ``size`` is that of the vocabulary.

    >>> as_ids("generate", "ids", [1, 2.5])
    Traceback (most recent call last):
    npgpt.errors.ShapeError: generate: ids must be an array (n,) of integers, not float64
    """
    wanted = f"{who}: {name} must be an array (n,) of integers"
    array: Array
    if isinstance(ids, np.ndarray):
        array = ids
    else:
        if isinstance(ids, str | bytes | bytearray | Mapping) or not isinstance(ids, Iterable):
            raise error(f"{wanted}, not {shown(ids)}")
        ids = list(ids)
        for kind in set(map(type, ids)):
            if not issubclass(kind, int | np.integer) or issubclass(kind, bool):
                raise error(f"{wanted}, not {'float64' if kind is float else kind.__name__}")
        try:
            array = np.array(ids, np.int64)
        except OverflowError:
            raise error(f"{who}: {name} has an integer beyond 64 bits; ids are smaller") from None
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise error(f"{wanted}, not of {array.dtype} with shape {array.shape}")
    check_plain(who, name, array)
    array = _native(array)
    if size is None and array.dtype.kind == "u" and array.dtype.itemsize == 8 and (array >= 2**63).any():
        raise error(f"{who}: {name} has an integer beyond 63 bits; ids are smaller")
    if size is not None:
        array = check_ids(who, name, array, size, "vocabulary")
    return array

"""Checks of arguments that are no arrays: numbers, flags, names, texts, lists of texts, paths. NumPy only.

NumPy's scalars are numbers and are converted to Python's, which JSON can store. True is no number, and NaN and infinity
are none either. A string is no list of strings, although Python can iterate over its letters.
"""

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from npgpt.errors import ConfigError, DataError, NpgptError, did_you_mean, quote

LARGEST = 2**31 - 1  # of sizes and of most whole numbers in configurations
LARGEST_SEED = 2**64 - 1  # and of every whole number without a limit of its own; Python does not print 5,000 digits


def as_python(value: Any) -> Any:
    """Convert a number, bool or string of NumPy, also in an array without axes, to Python's; leave everything else.

    A span of time is no number, although NumPy counts it among its integers.
    """
    scalar = isinstance(value, np.generic) or (type(value) is np.ndarray and not value.ndim)
    return value.item() if scalar and value.dtype.kind in "biufcU" else value


def shown(value: Any) -> str:
    """Return a short description of a value for an error message."""
    if isinstance(value, np.ndarray):
        return f"an array {value.shape} of {value.dtype}"
    return quote(value)


def whole(
    who: str,
    name: str,
    value: Any,
    least: int = -LARGEST_SEED,
    most: int = LARGEST_SEED,
    error: type[NpgptError] = ConfigError,
) -> int:
    """Return a whole number as an int.

    >>> whole("Linear", "n_in", np.int64(3), least=1)
    3
    >>> whole("Linear", "n_in", 1.5, least=1)
    Traceback (most recent call last):
    npgpt.errors.ConfigError: Linear: n_in must be a whole number, not 1.5
    """
    number = as_python(value)
    if type(number) is not int:
        raise error(f"{who}: {name} must be a whole number, not {shown(value)}")
    if not least <= number <= most:
        limit = f"at least {least}" if number < least else f"at most {most}"
        raise error(f"{who}: {name} must be {limit}, not {shown(value)}")
    return number


def real(
    who: str,
    name: str,
    value: Any,
    least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    error: type[NpgptError] = ConfigError,
) -> float:
    """Return a finite number as a float."""
    number = as_python(value)
    if type(number) not in (int, float) or not abs(number) < 2.0**1023:  # also for NaN
        raise error(f"{who}: {name} must be a finite number, not {shown(value)}")
    limits = ("at least", least, number >= least), ("above", above, number > above), ("below", below, number < below)
    for words, limit, holds in limits:
        if not holds:
            raise error(f"{who}: {name} must be {words} {limit:g}, not {shown(value)}")
    return float(number)


def flag(who: str, name: str, value: Any, error: type[NpgptError] = ConfigError) -> bool:
    """Return True or False as a bool."""
    said = as_python(value)
    if isinstance(said, bool):
        return said
    raise error(f"{who}: {name} must be True or False, not {shown(value)}")


def one_of(name: str, value: Any, known: Iterable[str], error: type[NpgptError] = ConfigError) -> str:
    """Return one of the known names."""
    if isinstance(value, str) and value in known:
        return value
    hint = did_you_mean(value, known) if isinstance(value, str) else f"known: {', '.join(sorted(known))}"
    raise error(f"{name} {shown(value)} is unknown; {hint}")


def text(who: str, name: str, value: Any, error: type[NpgptError] = DataError) -> str:
    """Return a string."""
    if isinstance(value, str):
        return value
    decode = "; decode it first, with .decode()" if isinstance(value, bytes | bytearray) else ""
    raise error(f"{who}: {name} must be a string, not {shown(value)}{decode}")


def each_text(who: str, name: str, values: Any, error: type[NpgptError] = DataError) -> Iterator[str]:
    """Return an iterator over several strings, which are read one at a time.

    Raises
        the error at once if the argument is one string, bytes, or nothing that holds strings; later for an item.
    """
    if isinstance(values, str):
        raise error(f"{who}: {name} must be a list of strings, not one string, {shown(values)}; put it into a list")
    one = isinstance(values, bytes | bytearray | memoryview | Mapping | os.PathLike)
    if one or not isinstance(values, Iterable) or (isinstance(values, np.ndarray) and values.ndim != 1):
        raise error(f"{who}: {name} must be a list of strings, not {shown(values)}")
    return (text(who, f"{name}[{place}]", value, error) for place, value in enumerate(values))


def texts(who: str, name: str, values: Any, error: type[NpgptError] = DataError) -> list[str]:
    """Return several strings as a list.

    >>> texts("encode_batch", "texts", "the")
    Traceback (most recent call last):
    npgpt.errors.DataError: encode_batch: texts must be a list of strings, not one string, 'the'; put it into a list
    """
    return list(each_text(who, name, values, error))


def path(who: str, name: str, value: Any, error: type[NpgptError] = DataError) -> Path:
    """Return a path. An int would be a file descriptor for ``open``, and an empty string the current folder."""
    if isinstance(value, str | os.PathLike) and (said := os.fspath(value)) and isinstance(said, str):
        if "\0" in said or any("\ud800" <= character < "\udc80" for character in said):
            raise error(f"{who}: {name} {shown(value)} has a character that no file name can have")
        return Path(said)
    raise error(f"{who}: {name} must be a string or a Path that names a file or folder, not {shown(value)}")


def float_type(who: str, dtype: Any) -> np.dtype[Any]:
    """Return a precision as NumPy's type: that of floats or complex numbers, in this machine's byte order."""
    try:
        found: np.dtype[Any] | None = None if dtype is None else np.dtype(dtype)  # NumPy takes None for float64
    except TypeError:
        found = None
    if found is None or found.char not in "fdFD" or not found.isnative:
        raise ConfigError(f"{who}: dtype must be np.float32 or np.float64, not {shown(dtype)}")
    return found


def zeros(who: str, **sizes: Any) -> npt.NDArray[np.float64]:
    """Return an array of zeros with these sizes, each at least 1.

    >>> zeros("Linear", n_in=1, n_out=2)
    array([[0., 0.]])
    """
    return np.zeros(tuple(whole(who, name, size, 1, LARGEST) for name, size in sizes.items()))

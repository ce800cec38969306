"""The bad values: for each kind of argument one list, which every public function is tried with.

A kind yields (what it is, value, demand). The demand is REFUSED, ANYTHING (an answer or an error of npgpt), or a good
value: then the answer must be the one for that value, or an error of npgpt. For ``Must`` it must be the answer.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

REFUSED, ANYTHING = "refused", "anything"


@dataclass
class Must:
    """The answer must be the one for this value."""

    value: Any


@dataclass
class Given:
    """A right argument, and the bad values to try in its place."""

    value: Any
    kind: Callable[[Any], Iterator[tuple[str, Any, Any]]]


class Plain(np.ndarray):
    """A subclass without behaviour of its own."""


def given(kind: Callable[..., Any], **options: Any) -> Callable[[Any], Given]:
    return lambda value: Given(value, lambda good: globals()[kind.__name__](good, **options))


def fixed(value: Any) -> Given:
    """An argument that is no value: an object of npgpt, a function, an open end such as ``layer`` of gradcheck."""
    return Given(value, lambda good: iter(()))


NO_NUMBERS = (None, "3", b"3", True, np.True_, 1j, [3], {}, np.array([3, 3]), np.array(["3"]), Decimal(3), object())


def _whole(
    good: int, least: int | None = None, optional: bool = False, huge: bool = True
) -> Iterator[tuple[str, Any, Any]]:
    for value in (*NO_NUMBERS, float("nan"), float("inf"), -float("inf"), 1.5, np.float32(1.5), np.nan):
        if not (optional and value is None):
            yield repr(value), value, REFUSED
    for dtype in (np.int64, np.int32, np.uint8, np.uint64):
        if good <= np.iinfo(dtype).max:
            yield dtype.__name__, dtype(good), Must(good)
    yield "0-d array", np.array(good), good
    yield "float", float(good), good
    for value in (0, -1, -(10**30)):
        yield str(value), value, REFUSED if least is not None and value < least else ANYTHING
    if huge:  # otherwise it is a number of steps, and they would be done
        yield "10**30", 10**30, ANYTHING


def _real(
    good: float, lowest: float | None = None, above: float | None = None, optional: bool = False
) -> Iterator[tuple[str, Any, Any]]:
    for value in (*NO_NUMBERS, float("nan"), np.float32("nan")):
        if not (optional and value is None):
            yield repr(value), value, REFUSED
    for dtype in (np.float32, np.float64, np.float16):
        if not dtype(good) and good:
            continue  # too small
        yield dtype.__name__, dtype(good), Must(float(dtype(good)))
    yield "0-d array", np.array(good), good
    for value in (0.0, -1.0, float("inf"), -float("inf"), 10**400):
        bad = (lowest is not None and value < lowest) or (above is not None and value <= above)
        yield repr(value)[:9], value, REFUSED if bad else ANYTHING


def _flag(good: bool) -> Iterator[tuple[str, Any, Any]]:
    for value in (None, "yes", "", b"1", 2, 0.5, float("nan"), [], np.array([True, False]), 1j):
        yield repr(value), value, REFUSED
    yield "np.bool_", np.bool_(good), Must(good)


def _choice(good: str, optional: bool = False) -> Iterator[tuple[str, Any, Any]]:
    for value in (
        None,
        "zzz",
        "",
        good.upper() + "?",
        good.encode(),
        3,
        [good],
        {},
        np.array([good, good]),
        Path(good),
    ):
        if not (optional and value is None):
            yield repr(value), value, REFUSED
    yield "np.str_", np.str_(good), Must(good)


def _dtype(good: Any) -> Iterator[tuple[str, Any, Any]]:
    for value in (None, "zzz", 3, "i8", int, bool, object, "O", "U3", ">f4", ">f8", "f2", "g", "f4,i4", "M8[s]", []):
        yield repr(value), value, REFUSED
    yield "np.dtype", np.dtype(good), Must(good)


def _text(good: str, optional: bool = False, several: bool = False) -> Iterator[tuple[str, Any, Any]]:
    for value in (None, good.encode(), bytearray(b"a"), Path("a"), 3, 1.5, True, {}, [3], [None], np.array([1, 2])):
        if not (optional and value is None):
            yield repr(value), value, REFUSED
    if not several:
        yield "a list", [good], REFUSED
    yield "np.str_", np.str_(good), Must(good)
    for value in ("", " ", "\0", "\ud800", "\U0010ffff", "\x1b[2J"):
        yield repr(value), value, ANYTHING


def _texts(good: list[str], optional: bool = False, one: bool = False) -> Iterator[tuple[str, Any, Any]]:
    a, *rest = good
    for value in (None, b"the", 3, 1.5, Path("a"), [*good, None], [b"the", *rest], [3, *rest], [[a], *rest], True):
        if not (optional and value is None):
            yield repr(value), value, REFUSED
    if not one:
        yield "a string", "the", REFUSED
        yield "np.str_", np.str_("the"), REFUSED
    yield "a generator", (text for text in good), good
    yield "a generator with None", (text for text in [*good, None]), REFUSED
    yield "a tuple", tuple(good), Must(good)
    yield "an array", np.array(good), good
    yield "an array of objects", np.array(good, object), good
    yield "np.str_ inside", [np.str_(text) for text in good], good
    for value in ([], [""], ["\ud800", *rest], ["\0", *rest]):
        yield repr(value), value, ANYTHING


def _path(good: Any, written: bool = False, optional: bool = False) -> Iterator[tuple[str, Any, Any]]:
    for value in (None, 3, 1.5, True, [str(good)], {}, object(), b"\xff\0"):
        if not (optional and value is None):
            yield repr(value), value, REFUSED
    for value in ("", "a\0b", "\ud800"):
        yield repr(value), value, REFUSED
    if not written:
        yield "a missing file", "/nowhere/at all", REFUSED
    yield "np.str_", np.str_(str(good)), ANYTHING
    yield "another folder", str(Path(good).parent), ANYTHING
    yield "a path below a file", __file__ + "/a", REFUSED
    yield "bytes", str(good).encode(), ANYTHING


def _floats(good: np.ndarray, optional: bool = False) -> Iterator[tuple[str, Any, Any]]:
    x = np.array(good)
    for value in (None, "x", b"x", 3.0, {}, [None], object(), range(3), (v for v in [1.0])):
        if not (optional and value is None):
            yield repr(value)[:20], value, REFUSED
    yield "an empty list", [], ANYTHING
    yield "a list", x.tolist(), x
    yield "a ragged list", [[1.0], [1.0, 2.0]], REFUSED
    for dtype in ("f2", "f4", "f8", "g", "F", "D", "O", "G"):
        if np.dtype(dtype) != x.dtype:
            yield dtype, x.astype(dtype), x
    finite = np.nan_to_num(x, neginf=-9.0).round()
    for dtype in ("i8", "u1", "?"):
        whole = abs(finite).astype(dtype)
        yield dtype, whole, whole.astype(x.dtype)
    for dtype in ("U5", "S5", "M8[s]", "V8", "f4,i4"):
        yield dtype, np.zeros(x.shape, dtype), REFUSED
    yield "objects", np.full(x.shape, object()), REFUSED
    yield "masked", np.ma.masked_array(x, x == x.flat[0]) if x.size else np.ma.masked_array(x), REFUSED
    swapped = x.astype(x.dtype.newbyteorder())
    yield "big-endian", swapped, x
    yield "big-endian float32", x.astype(">f4"), x
    yield "big-endian, read-only", read_only(swapped), x
    yield "big-endian, strided", strided(swapped), x
    yield "read-only", read_only(x.copy()), Must(good)
    yield "strided", strided(x), Must(good)
    yield "backwards", x[::-1].copy()[::-1] if x.ndim else x, Must(good)
    yield "Fortran", np.asfortranarray(x), Must(good)
    yield "misaligned", misaligned(x), good
    yield "a subclass", x.view(Plain), good
    if x.ndim == 2:
        yield "np.matrix", np.asmatrix(x), good
    yield "a memoryview", memoryview(x), good
    yield "0-d", np.array(1.0, x.dtype), ANYTHING
    yield "one axis more", x[None], ANYTHING
    for axis in range(x.ndim):
        yield f"axis {axis} empty", x.take([], axis), ANYTHING
    if x.ndim:
        yield "one axis less", x[0], ANYTHING
        yield "one column more", np.concatenate([x, x[..., :1]], -1), ANYTHING


def _ids(
    good: np.ndarray, free: bool = False, negative: bool = False, optional: bool = False, as_bytes: bool = False
) -> Iterator[tuple[str, Any, Any]]:
    """``free``: no vocabulary bounds the ids. ``negative``: one negative number, IGNORE_INDEX, is right."""
    x = np.array(good)
    yield "bytes", b"12", ANYTHING if as_bytes else REFUSED
    for value in (None, "12", 3, 1.5, {"a": 1}, [None], [["a"]], [1.5], [True], [float("nan")], object()):
        if not (optional and value is None):
            yield repr(value)[:20], value, REFUSED
    yield "a list", x.tolist(), x
    for dtype in ("i4", ">i8", ">i4", *(() if negative else ("u1", "u8", ">u2"))):
        if x.max() <= np.iinfo(dtype).max:
            yield dtype, x.astype(dtype), Must(good)
    yield "objects", x.astype(object), x
    for dtype in ("?", "f4", "f8", ">f8", "D", "U3", "M8[s]", "m8[s]"):
        yield dtype, abs(x).astype(dtype), REFUSED
    yield "a fraction", x + 0.5, REFUSED
    yield "masked", np.ma.masked_array(x, x == x.flat[0]), REFUSED
    for value in (-1, -(2**40), 10**6, 2**40):
        bad = x.copy()
        bad.flat[-1] = value
        yield f"{value} inside", bad, ANYTHING if free else REFUSED
    bad = x.astype("u8")
    bad.flat[-1] = 2**63 + 1
    yield "2**63 + 1 inside", bad, REFUSED
    bad = x.astype(object)
    bad.flat[-1] = 10**30
    yield "10**30 inside", bad, REFUSED
    yield "10**30 in a list", bad.tolist(), REFUSED
    yield "read-only", read_only(x.copy()), Must(good)
    yield "strided", strided(x), Must(good)
    yield "Fortran", np.asfortranarray(x), Must(good)
    yield "misaligned", misaligned(x), good
    yield "a subclass", x.view(Plain), good
    yield "0-d", np.array(1), ANYTHING
    yield "one axis more", x[None], ANYTHING
    for axis in range(x.ndim):
        yield f"axis {axis} empty", x.take([], axis), ANYTHING


def read_only(x: np.ndarray) -> np.ndarray:
    x.flags.writeable = False
    return x


def strided(x: np.ndarray) -> np.ndarray:
    room = np.zeros((*x.shape, 2), x.dtype)
    room[..., 1] = x
    return room[..., 1]


def misaligned(x: np.ndarray) -> np.ndarray:
    room = np.zeros(x.nbytes + 1, np.uint8)[1:]
    array = room.view(x.dtype).reshape(x.shape)
    array[...] = x
    return array


count, natural, whole = given(_whole, least=1), given(_whole, least=0), given(_whole)
steps = given(_whole, least=0, huge=False)
maybe_count = given(_whole, least=1, optional=True)
positive, not_negative, real = given(_real, above=0.0), given(_real, lowest=0.0), given(_real)
flag, choice, maybe_choice = given(_flag), given(_choice), given(_choice, optional=True)
text, one_or_more = given(_text), given(_texts, one=True)
text_or_texts = given(_text, several=True)
texts, maybe_texts = given(_texts), given(_texts, optional=True, one=True)
one_or_more_texts = given(_texts, one=True)
dtype = given(_dtype)
source, target, maybe_source = given(_path), given(_path, written=True), given(_path, optional=True)
maybe_target = given(_path, written=True, optional=True)
ids_or_bytes = given(_ids, as_bytes=True)  # bytes are integers, too
maybe_floats, maybe_ids = given(_floats, optional=True), given(_ids, free=True, optional=True)
maybe_whole, maybe_not_negative = given(_whole, optional=True), given(_real, lowest=0.0, optional=True)
floats, ids, free_ids, targets = given(_floats), given(_ids), given(_ids, free=True), given(_ids, negative=True)

"""The one reader of JSON files that strangers may have made."""

import itertools
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from npgpt.core.values import as_python, real
from npgpt.errors import DataError, NpgptError, plain, quote
from npgpt.support.compressed import read_bytes
from npgpt.support.files import decode_text

MAX_JSON = 1 << 26  # bytes, also after decompression; Python's objects may need twenty times as many
MAX_VALUES = 4_000_000  # an empty list is two bytes of a file, but 64 of memory
_MAX_DIGITS = 40  # of an integer; Python refuses more than 4,300, each in quadratic time before that
# Up to the next list, object, comma or end. A string may lack its end: so every search matches where it begins.
_NEXT = re.compile(r'(?:[^",\[{]++|"[^"\\]*+(?:\\.[^"\\]*+)*+"?)*+(?:[,\[{]|\Z)', re.DOTALL)

_NAMES = {
    int: "an integer of 64 bits",
    float: "a number",
    str: "a string",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


def read_json(path: str | Path, maximum_bytes: int = MAX_JSON) -> Any:
    """Return the content of a JSON file. It may have a byte-order mark, and be compressed by gzip, bzip2 or xz.

    Raises
        DataError that names the file and the place, if the file is too large, damaged, not UTF-8, or not JSON that
        every program reads alike: ``parse_json`` says what that is.
    """
    return parse_json(read_bytes(path, maximum_bytes), str(path))


def parse_json(data: bytes | str, name: str) -> Any:
    """Parse JSON. A key may stand only once in an object; a number must be finite, an integer of up to 40 digits.

    There may be up to ``MAX_VALUES`` values.

    Args
        name: the source, for messages.
    Raises
        DataError if the data is not such JSON, or if it is nested too deeply.
    """
    text = decode_text(data, name) if isinstance(data, bytes) else data
    if has_too_many_values(text):
        raise DataError(f"{name} has more than {MAX_VALUES:,} values, which is too many for such a file")
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_finite, parse_constant=_constant
        )
    except RecursionError:
        raise DataError(f"{name} is not JSON of this kind: lists or objects are nested too deeply") from None
    except ValueError as error:
        raise DataError(f"{name} is not JSON: {error}") from None


def has_too_many_values(text: str) -> bool:
    """Return whether JSON has more than ``MAX_VALUES`` lists, objects and commas, before memory is used for them."""
    if sum(map(text.count, ",[{")) <= MAX_VALUES:
        return False  # nearly always; the rest leaves out what strings contain
    return (
        next(itertools.islice(_NEXT.finditer(text), MAX_VALUES + 2, None), None) is not None
    )  # its end may match twice


def field(record: Any, name: str, kind: Any, place: str) -> Any:
    """Return ``record[name]``, checked to be of a kind: int, float, str, bool, list or dict.

    An int has 64 bits and is not a bool; a float may be written as an int.

    Raises
        DataError that begins with ``place``, if the record is no object, or the field is missing or of another kind.
    """
    if not isinstance(record, dict):
        raise DataError(f"{place} must be an object, not {quote(record)}")
    if name not in record:
        raise DataError(f"{place}: the field {quote(name)} is missing")
    value = record[name]
    kinds = (int, float) if kind is float else (kind,)
    if type(value) not in kinds or (kind is int and not -(1 << 63) <= value < 1 << 63):
        raise DataError(f"{place}: {plain(name)} must be {_NAMES[kind]}, not {quote(value)}")
    return float(value) if kind is float else value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {quote(twice)} stands twice in one object")
    return record


def _integer(digits: str) -> int:
    n_digits = len(digits.removeprefix("-"))
    if n_digits > _MAX_DIGITS:
        raise ValueError(f"the integer {digits[:20]}... has {n_digits} digits, more than {_MAX_DIGITS}")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {quote(digits)} is too large")
    return value


def _constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


def numbers_line(row: Mapping[str, Any], error: type[NpgptError]) -> str:
    """Return numbers by name as a line of JSON; NumPy's scalars are numbers.

    Raises
        the error that names a value that is no finite number.
    """
    for name, value in row.items():
        real("a row of numbers", name, value, error=error)
    return json.dumps({name: as_python(value) for name, value in row.items()}) + "\n"

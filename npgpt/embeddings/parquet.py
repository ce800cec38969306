"""The one kind of Parquet file that word vectors come with: one column of strings, none missing.

The file ends with a description, its length and "PAR1". The column lies in pages, packed by Snappy: first, if there
are any, strings that later pages call by number; then pages of strings, or of such numbers. Descriptions are structs of
Thrift, whose fields have numbers instead of names; the code says which is which. Written here so that the words of
GloVe can be read without a library of 50 MB.

Source    github.com/apache/parquet-format, Thrift's compact protocol, github.com/google/snappy
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np

from npgpt.errors import DataError

# Kinds of Thrift's values that stand in these files
_TRUE, _FALSE, _BYTE, _INTEGERS, _FLOAT, _BYTES, _LIST, _STRUCT = 1, 2, 3, (4, 5, 6), 7, 8, 9, 12
MOST = 10**7  # strings; a few bytes could ask for any number of them
_STRINGS, _KNOWN_STRINGS = 0, 2  # kinds of pages: what the rows hold, and what they call by number


def read_strings(path: Path) -> list[str]:
    """The column of a file.

    Raises
        DataError if the file is damaged, or of another kind.
    """
    try:
        return _column(path.read_bytes())
    except (ValueError, LookupError, TypeError, AttributeError, struct.error, OverflowError, RecursionError) as error:
        raise DataError(
            f"{path} is damaged, or is no Parquet file with one column of strings: {error}; fetch it again"
        ) from None


def _column(data: bytes) -> list[str]:
    size = int.from_bytes(data[-8:-4], "little")
    if data[:4] != b"PAR1" or data[-4:] != b"PAR1" or size > len(data) - 12:
        raise ValueError("it does not begin and end with PAR1")
    about, _ = read_struct(data, len(data) - 8 - size)
    schema, groups = about[2], about[4]
    if len(schema) != 2 or schema[1][1] != 6:  # the root and one column, of bytes
        raise ValueError("it has other columns")
    strings: list[str] = []
    for group in groups:  # of rows; each has the column once
        column = group[1][0][3]
        if column[4] not in (0, 1):
            raise ValueError("it is packed by something else than Snappy")
        known: list[str] = []
        wanted = len(strings) + column[5]
        at = column.get(11, column[9])  # the page of known strings, or else the first page
        while len(strings) < wanted:
            page, at = read_struct(data, at)  # 1 kind, 2 size, 3 size as it is packed, 5 and 7 more of the two kinds
            if not 0 <= page[3] <= len(data) or wanted > MOST:
                raise ValueError(f"the page before byte {at} is too large")
            body = data[at : at + page[3]]
            body, at = unsnappy(body) if column[4] else body, at + page[3]
            if len(body) != page[2]:
                raise ValueError(f"the page before byte {at} has {len(body)} bytes, not {page[2]}")
            if page[1] == _KNOWN_STRINGS:
                known = _read_page(body, page[7][1])
            elif page[1] == _STRINGS:
                n, coding = page[5][1], page[5][2]
                if not 1 <= n <= wanted - len(strings):
                    raise ValueError(f"the page before byte {at} has {n} strings")
                if schema[1].get(3) == 1:  # an optional column: a 1 for each string that is there goes before
                    end = 4 + int.from_bytes(body[:4], "little")
                    if read_numbers(body[4:end], 1, n) != [1] * n:
                        raise ValueError("a string is missing")
                    body = body[end:]
                strings += (
                    _read_page(body, n) if coding == 0 else [known[i] for i in read_numbers(body[1:], body[0], n)]
                )
            else:
                raise ValueError(f"the page before byte {at} is of kind {page[1]}")
    return strings


def _read_page(body: bytes, n: int) -> list[str]:
    """n strings, each behind its length in four bytes."""
    strings, at = [], 0
    for _ in range(n):
        start = at + 4
        at = start + int.from_bytes(body[at:start], "little")
        if at > len(body):
            raise ValueError("a string is cut off")
        strings.append(body[start:at].decode())
    return strings


def read_numbers(body: bytes, width: int, n: int) -> list[int]:
    """n numbers of ``width`` bits: runs of one number, and stretches in which eight numbers share ``width`` bytes.

    >>> read_numbers(bytes([3 << 1, 7]), 3, 3)  # three times 7
    [7, 7, 7]
    >>> read_numbers(bytes([1 << 1 | 1, 0b10_001_000, 0b1_100_011_0, 0b111_110_10]), 3, 8)  # eight, once
    [0, 1, 2, 3, 4, 5, 6, 7]
    """
    numbers: list[int] = []
    at = 0
    while len(numbers) < n:
        head, at = read_varint(body, at)
        count, shared = min(head >> 1, n), head & 1  # no more than are wanted, whatever it says
        size = count * width if shared else (width + 7) // 8
        part, at = body[at : at + size], at + size
        if count == 0 or len(part) < size or width > 32:
            raise ValueError("numbers are cut off")
        if shared:
            bits = np.unpackbits(np.frombuffer(part, np.uint8), bitorder="little").reshape(8 * count, width)
            numbers += (bits @ (1 << np.arange(width))).tolist()
        else:
            numbers += [int.from_bytes(part, "little")] * count
    return numbers[:n]


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, where the eighth bit says that more follow; and where it ended.

    >>> read_varint(bytes([0b1_0000001, 0b0_0000010]), 0)
    (257, 2)
    """
    number = shift = 0
    while True:
        number |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return number, at
        if shift > 63:
            raise ValueError(f"a number before byte {at} does not end")


def read_struct(data: bytes, at: int) -> tuple[dict[int, Any], int]:
    """Number of each field -> its value; and where the struct ended."""
    fields: dict[int, Any] = {}
    number = 0
    while data[at]:
        step, kind, at = data[at] >> 4, data[at] & 15, at + 1
        if step:
            number += step
        else:
            number, at = _read_value(data, at, _INTEGERS[0])
        fields[number], at = _read_value(data, at, kind)
    return fields, at + 1


def _read_value(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in (_TRUE, _FALSE):
        return kind == _TRUE, at
    if kind == _BYTE:
        return data[at], at + 1
    if kind in _INTEGERS:
        number, at = read_varint(data, at)
        return number >> 1 ^ -(number & 1), at  # 0, -1, 1, -2, ...
    if kind == _FLOAT:
        return struct.unpack("<d", data[at : at + 8])[0], at + 8
    if kind == _BYTES:
        size, at = read_varint(data, at)
        return data[at : at + size], at + size
    if kind == _LIST:
        size, kind, at = data[at] >> 4, data[at] & 15, at + 1
        if size == 15:
            size, at = read_varint(data, at)
        items = []
        for _ in range(size):
            item, at = (data[at] == _TRUE, at + 1) if kind in (_TRUE, _FALSE) else _read_value(data, at, kind)
            items.append(item)
        return items, at
    if kind == _STRUCT:
        return read_struct(data, at)
    raise ValueError(f"byte {at} begins a value of kind {kind}")


def unsnappy(data: bytes) -> bytes:
    """Unpack what Snappy packed: the size, then bytes as they are, and repetitions: so many bytes from so far back.

    >>> unsnappy(bytes([8, 1 << 2, *b"ha", 6 - 1 << 2 | 2, 2, 0]))  # two bytes, then six from two back
    b'hahahaha'
    """
    size, at = read_varint(data, 0)
    out = bytearray()
    while at < len(data):
        kind, length, at = data[at] & 3, (data[at] >> 2) + 1, at + 1
        if kind == 0:
            if length > 60:  # the length itself follows, in so many bytes
                wide = length - 60
                length, at = int.from_bytes(data[at : at + wide], "little") + 1, at + wide
            out += data[at : at + length]
            at += length
            continue
        wide = (1, 2, 4)[kind - 1]
        back, at = int.from_bytes(data[at : at + wide], "little"), at + wide
        if kind == 1:  # three bits of the length and three more for the distance in one byte
            length, back = (length - 1 & 7) + 4, (length - 1 >> 3) << 8 | back
        if not 0 < back <= len(out):
            raise ValueError("a repetition reaches back too far")
        piece = out[-back:][:length]
        out += (piece * (length // back + 1))[:length]  # it may repeat what it is just writing
        if len(out) > size:
            raise ValueError("there is more than the size that is said")
    return bytes(out)

"""NumPy's files, .npy and .npz, read without trust: nothing is unpickled, and no size is believed.

A .npy file is b"\\x93NUMPY", two bytes of version, the length of the header, the header (a Python dict of descr,
fortran_order and shape), then the numbers. A .npz file is a zip archive of .npy files.
"""

import ast
import io
import math
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Collection

import numpy as np

from npgpt.core import Array
from npgpt.errors import DataError, brief, quote
from npgpt.support.compressed import MAX_UNPACKED

MAGIC, MAGIC_OF_ZIP = b"\x93NUMPY", b"PK\x03\x04"
LONGEST_HEADER = 10_000  # bytes, as in NumPy
_AGAIN = "fetch or write it again"


def read_npz(file: io.BufferedIOBase, where: str, names: Collection[str]) -> dict[str, Array]:
    """Return the arrays of an archive, which has these and no others.

    Raises
        DataError that begins with ``where`` and names the array; the sum of each is checked.
    """
    arrays: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(file) as archive:
            members = {info.filename: info for info in archive.infolist()}
            if len(members) < len(archive.infolist()):
                raise DataError(f"{where} has an array twice; {_AGAIN}")
            packed = [info for info in members.values() if info.compress_type != zipfile.ZIP_STORED]
            if any(info.compress_type != zipfile.ZIP_DEFLATED for info in packed):
                raise DataError(f"{where} is compressed by an unknown method; write it by np.savez")
            if (size := sum(info.file_size for info in packed)) > MAX_UNPACKED:
                raise DataError(
                    f"{where} counts {size:,} bytes that are compressed; at most {MAX_UNPACKED:,} are read; "
                    "write it by np.savez, which does not compress"
                )
            for name in names:
                if f"{name}.npy" not in members:
                    expected = f"expected the arrays {', '.join(names)} (another archive must be unpacked first)"
                    raise DataError(f"{where} lacks {name!r}; {expected}")
                arrays[name] = read_npy(archive.read(members.pop(f"{name}.npy")), f"{where}: {name!r}")
            if members:
                raise DataError(f"{where}: the array {quote(min(members).removesuffix('.npy'))} is unknown")
            return arrays
    except DataError:
        raise
    # A damaged archive can raise any of these.
    except (
        ValueError, OSError, EOFError, RuntimeError, OverflowError, struct.error, zipfile.BadZipFile, zlib.error
    ) as error:  # fmt: skip
        raise DataError(f"{where} is damaged: {brief(error)}; {_AGAIN}") from None


def read_npy(data: bytes, where: str) -> Array:
    """Return the array of a .npy file: integers or floats, in any byte order, by rows or by columns.

    Raises
        DataError that begins with ``where`` if the header is not one of such an array, or the size does not fit it.
    """
    width = {b"\x01\x00": 2, b"\x02\x00": 4}.get(data[6:8], 0)  # bytes of the length of the header
    start = 8 + width
    end = start + int.from_bytes(data[8:start], "little")
    if not data.startswith(MAGIC) or not width or not end - start <= LONGEST_HEADER or end > len(data):
        raise DataError(f"{where} is damaged: not a .npy of version 1 or 2, or its header is cut off; {_AGAIN}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            # Python 2 wrote 5L for 5.
            header = ast.literal_eval(re.sub(r"(\d)L", r"\1", data[start:end].decode("latin-1").strip()))
        descr, by_columns, shape = header["descr"], header["fortran_order"], header["shape"]
        if len(header) != 3 or not isinstance(by_columns, bool) or not isinstance(shape, tuple):
            raise TypeError
        if len(shape) > 32 or not all(type(n) is int and 0 <= n < 2**48 for n in shape):
            raise TypeError
        dtype = np.dtype(descr) if isinstance(descr, str) and re.fullmatch(r"[<>|=]?[iuf]\d\d?", descr) else None
    except (ValueError, SyntaxError, TypeError, LookupError, MemoryError, RecursionError):
        raise DataError(f"{where} is damaged: its header is {quote(data[start:end].strip())}; {_AGAIN}") from None
    if dtype is None and "O" in str(descr):
        raise DataError(f"{where} is damaged: Object arrays cannot be loaded, because they are pickles; {_AGAIN}")
    if dtype is None:
        raise DataError(f"{where} is {quote(descr)[1:-1]} {quote(shape)}; expected integers or floats")
    if math.prod(shape) * dtype.itemsize != len(data) - end:
        raise DataError(
            f"{where} is damaged: it has {len(data) - end:,} bytes of numbers, which are not {dtype} {quote(shape)}; "
            f"{_AGAIN}"
        )
    found = np.frombuffer(data, dtype, offset=end).reshape(shape, order="F" if by_columns else "C")
    return found.copy()  # bytes cannot be written to

"""Files that may be compressed: read by what they hold, written by what their names say."""

import bz2
import gzip
import io
import lzma
import os
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from npgpt.errors import DataError

MAX_UNPACKED = 1 << 30  # bytes: a small file may decompress to a huge one
_MEMORY = 1 << 28  # bytes that xz may ask for; its strongest preset needs 65 MiB
_CHUNK = 1 << 16

_COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda data: gzip.compress(data, mtime=0),  # equal data gives equal files at any time
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


def packed_for(path: str | Path, data: bytes) -> bytes:
    """Return ``data`` compressed as the suffix of ``path`` says: .gz, .bz2 or .xz; otherwise unchanged."""
    compress = _COMPRESSORS.get(Path(path).suffix.lower())
    return compress(data) if compress else data


class _Unpacked(io.RawIOBase):
    """The content of a file of one or several compressed streams. (Python's own readers drop a damaged second one.)"""

    def __init__(self, file: IO[bytes], new: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]) -> None:
        self._file, self._new, self._stream = file, new, new()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while True:
            packed = b""
            if self._stream.eof:
                packed = self._stream.unused_data.lstrip(b"\0") or self._file.read(_CHUNK).lstrip(b"\0")
                if not packed:
                    return 0
                self._stream = self._new()
            elif self._stream.needs_input:
                packed = self._file.read(_CHUNK)
                if not packed:
                    raise EOFError
            data = self._stream.decompress(packed, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)


def _buffered(file: IO[bytes], new: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]) -> io.BufferedReader:
    return io.BufferedReader(_Unpacked(file, new), _CHUNK)


# The first bytes of each format. No UTF-8 text begins like gzip or xz, and none like bzip2 by accident.
_READERS: tuple[tuple[re.Pattern[bytes], Callable[[IO[bytes]], io.BufferedIOBase]], ...] = (
    (re.compile(rb"\x1f\x8b\x08"), lambda file: gzip.GzipFile(fileobj=file)),
    (re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"), lambda file: _buffered(file, bz2.BZ2Decompressor)),
    (re.compile(rb"\xfd7zXZ\0"), lambda file: _buffered(file, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _MEMORY))),
)


@contextmanager
def open_bytes(path: str | Path) -> Iterator[io.BufferedIOBase]:
    """Open a file for reading. Files in the formats of gzip, bzip2 and xz are decompressed, whatever their names are.

    Raises
        DataError, also while the file is read, if the compressed data is damaged or cut off.
    """
    with open(path, "rb") as file:
        first = file.peek(10)[:10]
        reader = next((reader for magic, reader in _READERS if magic.match(first)), None)
        try:
            yield reader(file) if reader else file
        except EOFError:
            raise DataError(f"{path} is cut off: its compressed data is incomplete") from None
        except (zlib.error, lzma.LZMAError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the system; gzip and bzip2 raise OSError without a number
            raise DataError(f"{path} cannot be decompressed: {error}") from None


def read_bytes(path: str | Path, maximum: int | None = None) -> bytes:
    """Return the content of a file, decompressed if it is in the format of gzip, bzip2 or xz.

    Args
        maximum: the largest number of bytes. By default a plain file may have any size, a compressed one 1 GiB.
    Raises
        DataError if the content is larger, or the compressed data is damaged.
    """
    if maximum is None:
        maximum = max(os.path.getsize(path), MAX_UNPACKED)
    parts, size = [], 0
    with open_bytes(path) as file:
        while data := file.read(1 << 20):
            parts.append(data)
            size += len(data)
            if size > maximum:
                raise DataError(f"{path} has more than {maximum >> 20} MiB, which is too large for such a file")
    return b"".join(parts)

"""Files that are there whole or not at all, and texts that are read with a clear error."""

import os
from pathlib import Path

from npgpt.errors import DataError


def part_of(path: Path) -> Path:
    """Where a file is written before it takes its place: beside it, always under the same name."""
    return path.with_name(f".{path.name}.part")


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that a crash at any instant leaves the old file or the new one, never a part.

    The bytes go to a file beside it and to the disk; then one rename puts it in place.
    """
    path = Path(path)
    part = part_of(path)
    try:
        part.unlink(missing_ok=True)  # what a crash left, or a link to somewhere else
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, with ``\\n`` for every line ending and without a byte-order mark.

    Raises
        DataError if the file is not UTF-8, or holds a NUL; it names the byte and where it stands.
    """
    return decode_text(Path(path).read_bytes(), str(path)).replace("\r\n", "\n").replace("\r", "\n")


def decode_text(data: bytes, name: str) -> str:
    """UTF-8 to text, without a byte-order mark; ``name`` is where it came from."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{name} is UTF-16; convert it first: `iconv -f utf-16 -t utf-8`")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is not UTF-8 text: byte 0x{data[error.start]:02x} at offset {error.start}; "
            "convert it first, for example with `iconv -f latin1 -t utf-8`"
        ) from None
    if "\0" in text:
        raise DataError(f"{name} is no text: it holds a NUL at character {text.index(chr(0))}")
    return text

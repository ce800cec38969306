"""Files that are written whole or not at all, and texts that are read with clear errors."""

import codecs
import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import regex

from npgpt.core.values import path as check_path
from npgpt.core.values import whole
from npgpt.errors import DataError
from npgpt.support.compressed import MAX_UNPACKED, open_bytes, read_bytes

Buffer = bytes | bytearray | memoryview

UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # its byte-order marks


def part_of(path: Path) -> Path:
    """Return the temporary path of a file during writing: in the same folder, always the same name."""
    return path.with_name(f".{path.name}.part")


def write_atomically(path: str | Path, data: bytes | Iterable[Buffer]) -> None:
    """Write bytes, or pieces of them, to ``path``. A crash at any instant leaves the old file or the new one whole.

    The bytes are written to a temporary file and flushed to the disk; then one rename replaces the old file, and the
    folder is flushed.
    """
    path = check_path("write", "path", path)
    if not path.name:
        raise DataError(f"{path} is a folder; give the name of a file")
    if path.exists() and not path.is_file() and not path.is_dir():  # a rename would replace the device by a file
        raise DataError(f"{path} is a device or a pipe; give the name of a file")
    part = part_of(path)
    try:
        part.unlink(missing_ok=True)  # left by a crash, or a link to another place
        write_flushed(part, data)
        os.replace(part, path)
        flush_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise


@contextlib.contextmanager
def failures_named(path: Path) -> Iterator[None]:
    """Give an OSError the name of a file: those of ``write``, ``flush`` and ``fsync`` have none."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def write_flushed(path: Path, data: bytes | Iterable[Buffer]) -> None:
    """Write a new file, and flush it to the disk."""
    with failures_named(path), open(path, "xb") as file:
        for piece in (data,) if isinstance(data, bytes) else data:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def flush_folder(path: Path) -> None:
    """Flush the names in a folder to the disk: without this, a power cut can undo a rename."""
    if os.name == "nt":  # Windows opens no folder
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        with failures_named(path):
            os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network folders cannot do it
            raise
    finally:
        os.close(folder)


def read_text(path: str | Path, maximum_bytes: int | None = None) -> str:
    """Return the text of a UTF-8 file, with ``\\n`` for every line ending and without a byte-order mark.

    The file may be compressed by gzip, bzip2 or xz.

    Args
        maximum_bytes: the largest size, also after decompression (default: that of ``read_bytes``).
    Raises
        DataError if the file is larger, not UTF-8 or holds a NUL; the message names the byte and its position.
    """
    path = check_path("read_text", "path", path)
    return decode_text(read_bytes(path, maximum_bytes), str(path)).replace("\r\n", "\n").replace("\r", "\n")


def decode_text(data: bytes, name: str) -> str:
    """Decode UTF-8 without a byte-order mark; ``name`` is the source, for messages."""
    if data[:2] in UTF_16:
        raise DataError(f"{name} is UTF-16; convert it first: `iconv -f utf-16 -t utf-8`")
    try:
        text = data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is not UTF-8 text: byte 0x{data[error.start]:02x} at offset {error.start}; "
            "convert it first, for example with `iconv -f latin1 -t utf-8`"
        ) from None
    if "\0" in text:
        raise DataError(f"{name} is not a text: it holds a NUL at character {text.index(chr(0))}; give a UTF-8 text")
    return text


# Every split pattern of the tokenizer cuts between a line end after a visible character and a visible character that is
# no slash, whatever the rest of the text is.
_SAFE_CUT = r"(?<=\S\n)(?=[^\s/])"
_FIRST_SAFE_CUT = regex.compile(_SAFE_CUT)
_LAST_SAFE_CUT = regex.compile(f"(?r){_SAFE_CUT}")  # (?r) searches from the end


def cut_text(text: str, size: int = 1 << 20) -> Iterator[str]:
    """Yield a text in parts of about ``size`` characters, cut where each tokenizer of npgpt always cuts."""
    size, start = whole("cut_text", "size", size, 1), 0
    while True:
        cut = _FIRST_SAFE_CUT.search(text, start + size)
        stop = cut.end() if cut else len(text)
        yield text[start:stop]
        if stop == len(text):
            return
        start = stop


def read_parts(path: str | Path, size: int = 1 << 22) -> Iterator[str]:
    """Yield the text of ``read_text`` in parts of about ``size`` bytes, for files larger than memory.

    Each part ends at a place where a byte-pair tokenizer always cuts, so the parts have the same pieces as the text. A
    part is longer, up to 1 GiB, if there is no such place.

    Raises
        DataError if the file is not UTF-8 or holds a NUL; the message names the byte and its position.
    """
    path, size = check_path("read_parts", "path", path), whole("read_parts", "size", size, 1, 1 << 30)
    decoder = codecs.getincrementaldecoder("utf-8")()
    kept: list[str] = []  # texts without a safe cut, with \n for every line ending
    kept_size = 0
    tail = ""  # the end of ``kept``, which a cut may need
    held = ""  # \r, if the next bytes may begin with its \n
    offset = n_characters = 0
    with open_bytes(path) as file:
        while True:
            data = file.read(size)
            if offset == 0 and data[:2] in UTF_16:
                decode_text(data[:2], str(path))  # raises
            pending = len(decoder.getstate()[0])
            try:
                text = decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                at = offset - pending + error.start
                raise DataError(
                    f"{path} is not UTF-8 text: byte 0x{error.object[error.start]:02x} at offset {at}"
                ) from None
            if not n_characters:
                text = text.removeprefix("\ufeff")
            if "\0" in text:
                at = n_characters + text.index("\0")
                raise DataError(f"{path} is not a text: it holds a NUL at character {at}; give a UTF-8 text")
            offset += len(data)
            n_characters += len(text)
            text = held + text
            held = "\r" if data and text.endswith("\r") else ""
            text = (text[:-1] if held else text).replace("\r\n", "\n").replace("\r", "\n")
            last = _LAST_SAFE_CUT.search(tail + text)  # of the old text, its last two characters can matter
            if last:
                at = last.end() - len(tail)
                yield "".join([*kept, text])[: kept_size + at]
                text = (tail + text)[last.end() :]
                kept, kept_size = [], 0
            kept.append(text)
            kept_size += len(text)
            if kept_size > MAX_UNPACKED:
                raise DataError(f"{path} has no line end between visible characters in 1 GiB; break its lines")
            tail = (tail + text)[-2:]
            if not data:
                break
    if kept_size:
        yield "".join(kept)

"""Files that are there whole or not at all, and texts that are read with a clear error."""

import codecs
import os
from collections.abc import Iterator
from pathlib import Path

import regex

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


# Behind a line end that follows something visible, and before something visible that is no slash, every split pattern
# of the tokenizer cuts, whatever stands further off.
_LAST_SAFE_CUT = regex.compile(r"(?r)(?<=\S\n)(?=[^\s/])")  # (?r): searched from the end


def read_parts(path: str | Path, size: int = 1 << 22) -> Iterator[str]:
    """The text of ``read_text`` in parts of about ``size`` bytes, for files larger than memory.

    A part ends where a byte-pair tokenizer cuts anyway, so that the pieces of the parts are the pieces of the text. A
    part may be longer, up to the whole text, if there is no such place.

    Raises
        DataError if the file is not UTF-8; it names the byte and where it stands.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    kept = ""
    offset = 0
    with open(path, "rb") as file:
        while True:
            data = file.read(size)
            pending = len(decoder.getstate()[0])
            try:
                text = decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                at = offset - pending + error.start
                raise DataError(
                    f"{path} is not UTF-8 text: byte 0x{error.object[error.start]:02x} at offset {at}"
                ) from None
            offset += len(data)
            kept += text
            if not data:
                break
            held = kept.endswith("\r")  # its \n may be still to come
            ready = (kept[:-1] if held else kept).replace("\r\n", "\n").replace("\r", "\n")
            last = _LAST_SAFE_CUT.search(ready)
            cut = last.end() if last else 0
            if cut:
                yield ready[:cut]
            kept = ready[cut:] + ("\r" if held else "")
    rest = kept.replace("\r\n", "\n").replace("\r", "\n")
    if rest:
        yield rest

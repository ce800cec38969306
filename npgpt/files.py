"""Files that are there whole or not at all, and texts that are read with a clear error."""

import codecs
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import regex

from npgpt.errors import DataError


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that a crash at any instant leaves the old file or the new one, never a part.

    The bytes go to a temporary file beside it and to the disk; then one rename puts it in place.
    """
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes it 0600; this is what open() would have given
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, with ``\\n`` for every line ending and without a byte-order mark.

    Raises
        DataError if the file is not UTF-8; it names the byte and where it stands.
    """
    data = Path(path).read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text: byte 0x{data[error.start]:02x} at offset {error.start}; "
            "convert it first, for example with `iconv -f latin1 -t utf-8`"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


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

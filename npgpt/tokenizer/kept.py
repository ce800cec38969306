"""Merges on disk, so that a start does not derive them again from the same file of ranks.

A file of ranks has tokens, and no merges: ``bpe_compiled.merges_of`` finds the two parts of each token, which needs
Numba. What it finds is kept in the folder ``npgpt-vocabularies`` beside the machine code, in a file with a checksum. A
damaged file, or one of another vocabulary, is derived anew. If no folder is writeable, nothing is kept.
"""

import contextlib
import hashlib
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from npgpt.machine.code_files import VOCABULARIES, own_folder
from npgpt.support.files import write_atomically

MARK = b"npgpt merges 1\n"  # another number if ``merges_of`` ever gives other merges
MOST_FILES = 8  # the oldest one is deleted
SUFFIX = ".merges"
LARGEST = 1 << 26  # bytes of a file; a larger one is damaged
Merges = tuple[NDArray[np.int64], NDArray[np.int64]]


def kept(source: bytes, derive: Callable[[], Merges]) -> Merges:
    """Return two arrays of integers, merges (n, 2) and ids (n + 256,): kept ones, or those of ``derive``.

    Args
        source: the content of the file from which ``derive`` derives them.
    """
    folder = own_folder(VOCABULARIES)
    if folder is None:
        return derive()
    key = hashlib.sha256(source).digest()
    path = folder / (key.hex()[:32] + SUFFIX)
    if (found := _read(path, key)) is not None:
        return found
    merges, ids = derive()
    body = np.concatenate([merges.ravel(), ids]).astype("<i4").tobytes()
    with contextlib.suppress(OSError):
        write_atomically(path, _head(key, body) + body)
        files = sorted(folder.glob("*" + SUFFIX), key=lambda file: file.stat().st_mtime)
        for old in files[:-MOST_FILES]:
            old.unlink(missing_ok=True)
    return merges, ids


def _read(path: Path, key: bytes) -> Merges | None:
    try:
        about = path.stat()  # reading a pipe would wait for ever
        data = path.read_bytes() if stat.S_ISREG(about.st_mode) and about.st_size < LARGEST else b""
    except OSError:
        return None
    body = data[len(_head(key, b"")) :]
    if data != _head(key, body) + body:
        return None
    numbers = np.frombuffer(body, "<i4").astype(np.int64)
    n = (len(numbers) - 256) // 3
    return numbers[: 2 * n].reshape(n, 2), numbers[2 * n :]


def _head(key: bytes, body: bytes) -> bytes:
    return MARK + hashlib.sha256(key + body).digest()

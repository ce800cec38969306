"""Machine code on disk: the folder, and one file for each form of a kernel, which is verified before it is used.

Numba's own cache trusts its files: a cut one raises at every later start, and one wrong bit can end the process. It
also detects a change in a function's file, but not in the files of its callees. So npgpt has files of its own. A file
begins with the length and the SHA-256 of the rest, and is written aside, flushed and renamed. If it is damaged, the
kernel is compiled again. The folder's name contains a hash of the sources of all kernels and of the modules that they
use, and one of the versions. The code is a pickle, so other users must not be able to write it: the folder is in this
package's folder, or else in the user's cache folder (0700). If neither is writeable, each start compiles the kernels.
"""

import contextlib
import functools
import hashlib
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

PACKAGE = Path(__file__).parents[1]
SUFFIX = ".kernel"
MARK = b"npgpt machine code 1\n"
LARGEST = 1 << 28  # bytes of a file; a larger one is damaged
UNUSED_DAYS = 30  # a folder of other versions is removed after so many days without use

VOCABULARIES = "npgpt-vocabularies"  # the folder of ``tokenizer/kept.py``
_FOLDER = re.compile(rf"npgpt-[0-9a-f]{{16}}(-[0-9a-f]{{8}})?(-checked)?|{VOCABULARIES}")  # the middle part is newer


@functools.cache
def sources() -> list[Path]:
    """Return the source files of all machine code: an edit in one of them, and in no other, invalidates the cache."""
    return sorted([PACKAGE / "exact.py", *PACKAGE.glob("machine/*.py"), *PACKAGE.glob("**/kernels/*.py")])


@functools.cache
def _hashed() -> dict[Path, bytes]:
    """Return the SHA-256 of each source. A file that changes later makes machine code that has no name."""
    return {source: hashlib.sha256(source.read_bytes()).digest() for source in sources()}


def is_as_hashed(source: Path) -> bool:
    """Return whether a source of machine code is now as it was when the folder got its name."""
    try:
        return hashlib.sha256(source.read_bytes()).digest() == _hashed()[source]
    except (OSError, KeyError):
        return False


@functools.cache
def cache_folder() -> Path | None:
    """Create and return the folder for machine code; None if no folder is writeable."""
    from npgpt.machine.numba_internals import bounds_checked, compiler_versions  # ``clear`` must not need Numba

    code = hashlib.sha256()
    try:
        for source, content in _hashed().items():
            code.update(source.relative_to(PACKAGE).as_posix().encode() + b"\0" + content)
    except OSError:  # the package is in a zip file
        return None
    versions = hashlib.sha256(f"{sys.implementation.cache_tag} {np.__version__} {compiler_versions()}".encode())
    # Bounds checks change the machine code, but not Numba's key for it.
    return own_folder(
        f"npgpt-{code.hexdigest()[:16]}-{versions.hexdigest()[:8]}{'-checked' if bounds_checked() else ''}"
    )


def own_folder(name: str) -> Path | None:
    """Create and return a folder that other users cannot write to; None if no folder is writeable."""
    for parent in cache_parents():
        folder = parent / name
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.access(folder, os.W_OK) and _is_ours_alone(folder):
                os.utime(folder)  # it is in use
                return folder
    return None


def cache_parents() -> list[Path]:
    """Return the folders that may contain the folder for machine code, in the order in which they are tried."""
    parents, given = [PACKAGE / "__pycache__"], Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():  # the standard says that a relative path is to be ignored
        return [*parents, given]
    try:
        return [*parents, Path.home() / ".cache"]
    except RuntimeError:  # neither HOME nor an entry in the list of users
        return parents


def _is_ours_alone(folder: Path) -> bool:
    about = folder.lstat()
    if not hasattr(os, "getuid"):  # Windows: other users cannot write in the user's folders
        return stat.S_ISDIR(about.st_mode)
    return about.st_uid == os.getuid() and stat.S_ISDIR(about.st_mode) and not about.st_mode & 0o022


def cache_folders() -> Iterator[Path]:
    """Yield npgpt's folders of machine code, those of other versions too."""
    for parent in cache_parents():
        with contextlib.suppress(OSError):
            for folder in sorted(parent.iterdir()):
                if _FOLDER.fullmatch(folder.name) and _is_ours_alone(folder):
                    yield folder


def clear() -> tuple[int, int]:
    """Delete the machine code of all versions; return the number of files and their bytes."""
    sizes = []
    for folder in list(cache_folders()):
        with contextlib.suppress(FileNotFoundError):  # another process deletes them, too
            sizes += [file.lstat().st_size for file in folder.iterdir()]
            shutil.rmtree(folder)
    return len(sizes), sum(sizes)


@functools.cache
def _prune(folder: Path) -> None:
    """Delete folders that nobody will use again, and files that a killed process left, once in a process.

    In the package's own folder those are the folders of other sources. Other installations share the user's folder.
    """
    if folder.parent not in cache_parents():
        return
    for other in cache_folders():
        ours = other.parent == PACKAGE / "__pycache__" and other.name != VOCABULARIES
        obsolete = ours and other.name[:22] != folder.name[:22]
        if other != folder and (obsolete or _age_days(other) > UNUSED_DAYS):
            shutil.rmtree(other, ignore_errors=True)
    for part in folder.glob("*.part"):
        if _age_days(part) > 1:
            part.unlink(missing_ok=True)


def _age_days(path: Path) -> float:
    try:
        return (time.time() - path.stat().st_mtime) / 86400
    except FileNotFoundError:  # another process has removed it
        return 0


def read_code(folder: Path, name: str, key: str) -> bytes | None:
    """Return the machine code for a key; None if there is none, or after one line on stderr if it is damaged.

    Args
        name: the beginning of the file's name.
        key: a text that determines the machine code.
    """
    path = _path(folder, name, key)
    try:
        about = path.stat()  # reading a pipe would wait for ever
        data = path.read_bytes() if stat.S_ISREG(about.st_mode) and about.st_size < LARGEST else b""
    except FileNotFoundError:
        return None
    except OSError as error:
        say_once("damaged", f"{path} cannot be read ({error.strerror}); its kernel is compiled again")
        _said.add("compiling")
        return None
    code = data[len(_head(key, b"")) :]
    if data != _head(key, code) + code:
        say_once("damaged", f"machine code on disk is damaged and compiled again: {path}")
        _said.add("compiling")  # one line is enough
        return None
    return code


def write_code(folder: Path, name: str, key: str, code: bytes) -> None:
    """Write the machine code for a key, or say once on stderr why it cannot be written."""
    part = ""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)  # another process may have removed it
        _prune(folder)
        number, part = tempfile.mkstemp(suffix=".part", dir=folder)  # its own name: two processes may write at once
        with open(number, "wb") as file:
            file.write(_head(key, code) + code)
            file.flush()
            os.fsync(file.fileno())
        path = _path(folder, name, key)
        if path.is_dir():  # so damaged is it
            shutil.rmtree(path)
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(part)
        say_once("unsaved", f"{folder} cannot keep machine code ({error.strerror}); the next start compiles it again")


def _path(folder: Path, name: str, key: str) -> Path:
    return folder / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}{SUFFIX}"


def _head(key: str, code: bytes) -> bytes:
    """Return what a file has before the code. The key is in the checksum, so a renamed file is damaged too."""
    length = len(code).to_bytes(8, "little")
    return MARK + length + hashlib.sha256(key.encode() + b"\0" + code).digest()


_said: set[str] = set()


def say_once(what: str, text: str) -> None:
    """Print a line on stderr, once for each ``what``."""
    if what not in _said and sys.stderr:
        _said.add(what)
        with contextlib.suppress(OSError, ValueError):  # nobody reads stderr
            print(f"npgpt: {text}", file=sys.stderr, flush=True)

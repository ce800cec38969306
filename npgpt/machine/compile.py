"""``@kernel``: compile once for this machine and cache the machine code on disk for the next start.

Numba's own cache detects a change in a function's file, but not in the files of its callees. The cache's index is a
pickle, so other users must not be able to write it. npgpt's cache is therefore a separate folder. Its name contains a
hash of the sources of all kernels and of the modules that they use. The folder is in this package's folder, or else in
the user's cache folder (0700). If neither is writeable, kernels are compiled at each start.
"""

import functools
import hashlib
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

from npgpt.machine.numba_internals import bounds_checked, caching_in, compile_once, watch_compilation

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function, inline: bool = False) -> Function:
    """Compile with ``numba.njit``, without the GIL and with npgpt's cache folder. Other code's settings do not change.

    Division by zero gives inf or nan, as in NumPy: a branch that raises an error would prevent vectorisation.

    Args
        inline: insert the code at each call, for small functions in inner loops. A call passes seven words for each
            array, which takes longer than a look-up in the array.
    """
    _announce_compilation()
    folder = cache_folder()
    with caching_in(folder):
        return numba.njit(function, cache=folder is not None, nogil=True, error_model="numpy", forceinline=inline)


inline_kernel = functools.partial(kernel, inline=True)

ENTRIES: list[Any] = []  # every kernel that Python calls, made by ``entry``; each has ``kinds`` and ``compile_form()``


def entry(*kinds: Any) -> Callable[[Function], Any]:
    """Decorate a kernel that Python calls; it is compiled once, at its first call, for these argument types only.

    Without the types, Numba would compile one form for each combination of contiguous, strided and read-only arrays.
    """

    def decorate(function: Function) -> Any:
        dispatcher: Any = kernel(function)
        compile_once(dispatcher, kinds)
        ENTRIES.append(dispatcher)
        return dispatcher

    return decorate


# Functions that show a progress line. Each gets a text about the current compilation, or "" if there is none.
PROGRESS: list[Callable[[str], Any]] = []

PACKAGE = Path(__file__).parents[1]


def sources() -> list[Path]:
    """Return the source files of all machine code: an edit in one of them, and in no other, invalidates the cache."""
    return sorted([PACKAGE / "exact.py", *PACKAGE.glob("machine/*.py"), *PACKAGE.glob("**/kernels/*.py")])


@functools.cache
def cache_folder() -> Path | None:
    """Create and return the folder for machine code; None if no folder is writeable."""
    code = hashlib.sha256()
    for source in sources():
        code.update(source.relative_to(PACKAGE).as_posix().encode() + b"\0" + source.read_bytes() + b"\0")
    # Bounds checks change the machine code, but not Numba's key for it.
    name = f"npgpt-{code.hexdigest()[:16]}{'-checked' if bounds_checked() else ''}"
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for parent in (PACKAGE / "__pycache__", user):
        folder = parent / name
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK) and _is_ours_alone(folder):
            return folder
    return None


def _is_ours_alone(folder: Path) -> bool:
    about = folder.lstat()
    if not hasattr(os, "getuid"):  # Windows: other users cannot write in the user's folders
        return True
    return about.st_uid == os.getuid() and stat.S_ISDIR(about.st_mode) and not about.st_mode & 0o022


@functools.cache
def _announce_compilation() -> None:
    announcement = _Announcement()
    watch_compilation(announcement.started, announcement.ended)


class _Announcement:
    """Report when npgpt's kernels are compiled: on the progress lines, or once on stderr."""

    said = False

    def __init__(self) -> None:
        self.names: list[str] = []  # the stack of current compilations, the outermost first

    def started(self, module: str) -> None:
        self.names.append(f"compiling {module.rpartition('.')[2]}" if module.startswith("npgpt.") else "")
        if self.names[-1] and not PROGRESS and not self.said:
            self.said = True
            print("npgpt: compiling kernels for this machine; later starts load them from disk ...", file=sys.stderr)
        self._show()

    def ended(self) -> None:
        self.names.pop()
        self._show()

    def _show(self) -> None:
        for show in PROGRESS:
            show(next(filter(None, self.names), ""))  # the outermost compilation of npgpt's code

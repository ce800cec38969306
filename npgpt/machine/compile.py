"""``@kernel``: compile once for this machine, keep the machine code on disk, find it there at the next start.

Numba's own cache notices a change of the function's file, but not of another file that the function calls into; and
its index is a pickle, so it must lie where nobody else can write. So ours is a folder of its own, named by a hash of
the sources of all kernels and of what they stand on: within this package's folder, or else the user's own cache folder
(0700). Where neither can be written, kernels are compiled at each start.
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
    """``numba.njit`` that releases the GIL and caches in npgpt's folder; other users of Numba keep theirs.

    Division by zero gives inf or nan, as in NumPy: a branch that raises would keep a loop from being vectorised.

    Args
        inline: put the code in place of each call, for what is small and called in inner loops: a call that passes
            arrays, each seven words, takes longer than a look-up in them.
    """
    _announce_compilation()
    folder = cache_folder()
    with caching_in(folder):
        return numba.njit(function, cache=folder is not None, nogil=True, error_model="numpy", forceinline=inline)


inline_kernel = functools.partial(kernel, inline=True)

ENTRIES: list[Any] = []  # what Python calls: every kernel that ``entry`` has made, with ``compile_form()``


def entry(*kinds: Any) -> Callable[[Function], Any]:
    """A kernel that Python calls, compiled once, at its first call, for these types of arguments alone.

    Without them Numba would compile one form for each combination of contiguous, strided and read-only arrays.
    """

    def decorate(function: Function) -> Any:
        dispatcher: Any = kernel(function)
        compile_once(dispatcher, kinds)
        ENTRIES.append(dispatcher)
        return dispatcher

    return decorate


# Who shows a progress line is told here what is being compiled; "" if nothing.
PROGRESS: list[Callable[[str], Any]] = []

PACKAGE = Path(__file__).parents[1]


def sources() -> list[Path]:
    """The files that machine code is made of: an edit in one of them, and in no other, makes the kept code useless."""
    return sorted([PACKAGE / "exact.py", *PACKAGE.glob("machine/*.py"), *PACKAGE.glob("**/kernels/*.py")])


@functools.cache
def cache_folder() -> Path | None:
    """The folder of the machine code, created; None if there is nowhere to write."""
    code = hashlib.sha256()
    for source in sources():
        code.update(source.relative_to(PACKAGE).as_posix().encode() + b"\0" + source.read_bytes() + b"\0")
    # With bounds checks it is other machine code, which Numba does not tell apart.
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
    if not hasattr(os, "getuid"):  # Windows: the user's folders are the user's
        return True
    return about.st_uid == os.getuid() and stat.S_ISDIR(about.st_mode) and not about.st_mode & 0o022


@functools.cache
def _announce_compilation() -> None:
    announcement = _Announcement()
    watch_compilation(announcement.started, announcement.ended)


class _Announcement:
    """A word on the screen when kernels of ours are compiled, not found on disk: on a progress line, or once."""

    said = False

    def __init__(self) -> None:
        self.names: list[str] = []  # of what is being compiled, and within it, and so on

    def started(self, module: str) -> None:
        self.names.append(f"compiling {module.rpartition('.')[2]}" if module.startswith("npgpt.") else "")
        if self.names[-1] and not PROGRESS and not self.said:
            self.said = True
            print("npgpt: compiling kernels for this machine; the next start finds them ready ...", file=sys.stderr)
        self._show()

    def ended(self) -> None:
        self.names.pop()
        self._show()

    def _show(self) -> None:
        for show in PROGRESS:
            show(next(filter(None, self.names), ""))  # the outermost of ours

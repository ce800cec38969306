"""``@kernel``: compile once for this machine; ``code_files.py`` keeps the machine code for the next start."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

from npgpt.machine import code_files
from npgpt.machine.numba_internals import (
    COUNTING,
    compile_once,
    jit_disabled,
    keep_code,
    link_in_callers,
    watch_compilation,
)

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function, inline: bool = False, allocates: bool = False) -> Function:
    """Compile with ``numba.njit``, without the GIL and with npgpt's files of machine code.

    Division by zero gives inf or nan, as in NumPy: a branch that raises an error would prevent vectorisation.

    Args
        inline: insert the code at each call, for small functions in inner loops. A call passes seven words for each
            array, which takes longer than a look-up in the array.
        allocates: the kernel makes arrays. Then Numba counts references to arrays, as Python does: in short calls
            that took a third of the tokenizer's time. Arguments outlive a call, so other kernels need no counts.
    """
    _announce_compilation()
    options: Any = {
        "nogil": True,
        "error_model": "numpy",
        "forceinline": inline,
        "no_cfunc_wrapper": True,
        COUNTING: allocates,
    }
    dispatcher: Any = numba.njit(function, **options)
    if not jit_disabled():
        link_in_callers(dispatcher, options)
    folder = code_files.cache_folder()
    # The folder's name covers npgpt's own sources. Other kernels may change with files and numbers that it cannot name.
    source = Path(function.__code__.co_filename)
    if source in code_files.sources() and not code_files.is_as_hashed(source):
        CHANGED.append(source)  # other kernels may contain this one's code
    elif folder and source in code_files.sources() and not jit_disabled():
        name = f"{function.__module__}.{function.__qualname__}"
        read = functools.partial(code_files.read_code, folder, name)
        write = functools.partial(code_files.write_code, folder, name)
        keep_code(dispatcher, lambda key: None if CHANGED else read(key), lambda key, code: CHANGED or write(key, code))
    return dispatcher


inline_kernel = functools.partial(kernel, inline=True)
allocating_kernel = functools.partial(kernel, allocates=True)

CHANGED: list[Path] = []  # sources that were edited after the folder got its name: then no code is kept
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


@functools.cache
def _announce_compilation() -> None:
    announcement = _Announcement()
    watch_compilation(announcement.started, announcement.ended)


class _Announcement:
    """Report when npgpt's kernels are compiled: on the progress lines, or once on stderr."""

    def __init__(self) -> None:
        self.names: list[str] = []  # the stack of current compilations, the outermost first

    def started(self, module: str) -> None:
        self.names.append(f"compiling {module.rpartition('.')[2]}" if module.startswith("npgpt.") else "")
        if self.names[-1] and not PROGRESS:
            later = "later starts load them from disk"
            if not code_files.cache_folder():
                later = "each start does so, for no folder can keep them: set XDG_CACHE_HOME to a folder of your own"
            code_files.say_once("compiling", f"compiling kernels for this machine; {later} ...")
        self._show()

    def ended(self) -> None:
        self.names.pop()
        self._show()

    def _show(self) -> None:
        for show in PROGRESS:
            show(next(filter(None, self.names), ""))  # the outermost compilation of npgpt's code

"""What a fork waits for: otherwise the child would have locks of threads that it does not have, for ever.

Those are the compilers' locks, which other files add to ``LOCKS``, and the locks of modules during their import.
"""

import contextlib
import importlib
import logging  # noqa: F401  # first: the last one that registers is the first to take its locks, and Numba logs
import os
import sys
from contextlib import AbstractContextManager
from typing import Any

LOCKS: list[AbstractContextManager[Any]] = []  # in the order in which every thread takes them
PACKAGES = ("npgpt", "numba", "llvmlite", "numpy")  # NumPy imports some of its modules at their first use

_held: list[AbstractContextManager[Any]] = []


def _hold() -> None:
    waited_for: list[str] = []
    while True:
        for name in _being_imported():
            with contextlib.suppress(Exception):  # the thread that imports it gets the error
                importlib.import_module(name)  # waits for that thread
            waited_for.append(name)
        for lock in LOCKS:
            lock.__enter__()
            _held.append(lock)
        if set(_being_imported()) <= set(waited_for):  # those that are left are imported by this thread
            return
        _release()


def _being_imported() -> list[str]:
    specs = ((name, getattr(module, "__spec__", None)) for name, module in list(sys.modules.items()))
    return [name for name, spec in specs if name.split(".")[0] in PACKAGES and getattr(spec, "_initializing", False)]


def _release() -> None:
    while _held:
        _held.pop().__exit__(None, None, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_release)

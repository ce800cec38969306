"""Locks that a fork waits for. Otherwise the child would have the lock of a thread that it does not have, for ever."""

import logging  # noqa: F401  # first: the last one that registers is the first to take its locks, and Numba logs
import os
import threading
from contextlib import AbstractContextManager
from typing import Any

importing = threading.RLock()  # held during the first import of Numba: a module also has a lock while it is imported

# The locks in the order in which every thread takes them. ``numba_internals`` adds those of the compilers.
LOCKS: list[AbstractContextManager[Any]] = [importing]

_held: list[AbstractContextManager[Any]] = []


def _hold() -> None:
    for lock in LOCKS:
        lock.__enter__()
        _held.append(lock)


def _release() -> None:
    while _held:
        _held.pop().__exit__(None, None, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_release)

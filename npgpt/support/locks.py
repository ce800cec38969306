"""A lock of the operating system on a file: one process at a time has it, and it ends with the process.

The file is made once, and never renamed or deleted, so that all processes lock the same one. In a network folder the
lock holds between machines where the file system has such locks, as NFS does. Windows has none of this kind.
"""

import contextlib
import os
import warnings
import weakref
from pathlib import Path

from npgpt.errors import RunError
from npgpt.support.files import failures_named

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_held: "weakref.WeakSet[FileLock]" = weakref.WeakSet()


class FileLock:
    """Holds the lock of a file until ``release``, or until the object or the process ends.

    Args
        path: the file; it is made if it does not exist, and holds the number of the process that has the lock.
        what: what the lock is for, for the message: "runs/1".
    Raises
        RunError if another process, or another object of this process, has the lock; or if it is no plain file.
    """

    def __init__(self, path: Path, what: str) -> None:
        if path.is_symlink() or (path.exists() and not path.is_file()):  # a link would let another file be emptied
            raise RunError(f"{path} is a link, a folder or a pipe; remove it, and a file for the lock is made")
        self._file = open(path, "a+b")  # noqa: SIM115  # the lock is that of the open file
        try:
            self._take(path, what)
        except BaseException:
            self._file.close()  # else the lock stays as long as somebody holds the exception
            raise
        _held.add(self)

    def _take(self, path: Path, what: str) -> None:
        try:
            if fcntl is not None:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read(20).decode("ascii", "replace").strip()
            by = f"process {holder}" if holder.isdecimal() else "another process"
            raise RunError(f"{what} is being written by {by}; wait for its end, or use another folder") from None
        except OSError as error:
            warnings.warn(
                f"{what}: this file system has no locks ({error.strerror}); let no other process write there",
                stacklevel=4,
            )
        with failures_named(path):
            self._file.truncate(0)
            self._file.write(b"%d\n" % os.getpid())
            self._file.flush()

    def is_at(self, path: Path) -> bool:
        """Whether a path still leads to the file of this lock: its folder may have been moved, or made anew."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), os.stat(path))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        if fcntl is not None and not self._file.closed:  # a child that was just forked has the file open, too
            with contextlib.suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_UN)
        self._file.close()


def _close_in_child() -> None:
    """Close the files in a forked child: else the child would have the lock after the end of its parent."""
    for lock in list(_held):
        with contextlib.suppress(OSError):
            lock._file.close()  # not ``release``, which would take the lock from the parent


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)

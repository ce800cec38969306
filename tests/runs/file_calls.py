"""The calls that write files below a folder, counted; the n-th of them fails, or the process ends there.

Kinds: open, write, flush, truncate, fsync, rename, replace, mkdir, unlink, rmdir. An open for reading counts, too.
Nothing is flushed to the disk, which takes most of the time: the end of a process loses nothing that the system has.
"""

import builtins
import contextlib
import errno
import io
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Act = Callable[[str, str, Callable[[], Any], Callable[[], Any]], Any]
NEEDS_SPACE = {"open", "write", "flush", "fsync", "mkdir"}


class Calls:
    """Counts calls. The one with the number ``at`` is given to ``act``.

    Attributes
        seen: the kind and the path of each call.
        onwards: whether later calls are given to ``act``, too.
    """

    def __init__(self, root: Path, at: int = 0, act: Act | None = None, onwards: bool = False) -> None:
        self.root, self.at, self.act, self.onwards = str(root), at, act, onwards
        self.seen: list[tuple[str, str]] = []

    def made(self, kind: str, path: str, call: Callable[[], Any], half: Callable[[], Any] = lambda: None) -> Any:
        self.seen.append((kind, path))
        n = len(self.seen)
        if self.act and (n == self.at or (self.onwards and n > self.at > 0)):
            return self.act(kind, path, call, half)
        return call()

    @contextlib.contextmanager
    def counted(self) -> Iterator["Calls"]:
        """Count and act within this context."""
        plain_open, plain_os_open = io.open, os.open
        names = ("rename", "replace", "mkdir", "unlink", "rmdir")
        plain = {name: getattr(os, name) for name in (*names, "remove", "fsync", "open")}

        def opened(file: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
            if not self._ours(file):
                return plain_open(file, mode, *rest, **named)
            writes = set(mode) & set("wax+")
            made = self.made(
                "open" if writes else "open to read", str(file), lambda: plain_open(file, mode, *rest, **named)
            )
            return _File(made, self, str(file)) if writes else made

        def os_opened(file: Any, *rest: Any, **named: Any) -> Any:
            call = lambda: plain_os_open(file, *rest, **named)  # noqa: E731
            return self.made("open to read", str(file), call) if self._ours(file, named) else call()

        def counting(name: str) -> Callable[..., Any]:
            kind = "unlink" if name == "remove" else name

            def counted(file: Any, *rest: Any, **named: Any) -> Any:
                call = lambda: plain[name](file, *rest, **named)  # noqa: E731
                return self.made(kind, str(file), call) if self._ours(file, named) else call()

            return counted

        builtins.open = io.open = opened  # type: ignore[assignment]
        for name in (*names, "remove"):
            setattr(os, name, counting(name))
        os.open = os_opened
        os.fsync = lambda fd: self.made("fsync", "", lambda: None)
        try:
            yield self
        finally:
            builtins.open = io.open = plain_open
            for name, function in plain.items():
                setattr(os, name, function)

    def _ours(self, file: Any, named: dict[str, Any] | None = None) -> bool:
        """Return whether a path is below the folder; one that is relative to an open folder is of ``shutil.rmtree``."""
        if named and named.get("dir_fd") is not None:
            return True
        return isinstance(file, str | Path) and os.path.abspath(file).startswith(self.root)


class _File:
    """A file that is open for writing. After a failure its other calls fail in the same way."""

    def __init__(self, file: Any, calls: Calls, path: str) -> None:
        self._file, self._calls, self._path = file, calls, path
        self._error: OSError | None = None

    def write(self, data: bytes) -> Any:
        def half() -> None:
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        return self._made("write", lambda: self._file.write(data), half)

    def flush(self) -> None:
        self._made("flush", self._file.flush)

    def truncate(self, size: int) -> int:
        return int(self._made("truncate", lambda: self._file.truncate(size)))

    def close(self) -> None:
        self._file.close()
        if self._error:
            raise self._error

    def _made(self, kind: str, call: Callable[[], Any], half: Callable[[], Any] = lambda: None) -> Any:
        if self._error:
            raise self._error
        try:
            return self._calls.made(kind, self._path, call, half)
        except OSError as error:
            self._error = error
            raise

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def fail(number: int, kinds: set[str] | None = None) -> Act:
    """Return what raises an OSError like that of the system, after half of a write; only calls of these kinds."""

    def act(kind: str, path: str, call: Callable[[], Any], half: Callable[[], Any]) -> Any:
        if kinds is not None and kind not in kinds:
            return call()
        half()
        named = [path] if kind not in ("write", "flush", "fsync", "truncate") else []
        raise OSError(number, os.strerror(number), *named)

    return act


def end_process(when: str) -> Act:
    """Return what kills this process before a call, after it, or after half of a write."""

    def act(kind: str, path: str, call: Callable[[], Any], half: Callable[[], Any]) -> None:
        try:
            {"before": lambda: None, "half": half, "after": call}[when]()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)

    return act


ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES, errno.EFBIG)

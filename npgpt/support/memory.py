"""The memory of this machine, and settings of the C library for memory that is freed and allocated again."""

import contextlib
import ctypes
import os
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # from glibc's malloc.h
_CGROUPS = "sys/fs/cgroup"


def keep_freed_memory() -> None:
    """Make the C library keep freed memory for later arrays instead of returning it to the system.

    A textbook training step allocates each of its arrays anew. By default, glibc returns large freed arrays to the
    system, and the next step pays for new pages. With this setting a step of the default model took 0.6 of the time
    (one core, Zen 3). The setting holds for the whole process, so only programs call this function, not the library.
    Without glibc it does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # no glibc: macOS, musl, Windows
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def available_memory(root: str = "/") -> int | None:
    """Return the largest number of bytes that this process can still get, or None if that is unknown.

    On Linux it is the free memory and what the system can free, with the swap space, within the limits of the control
    groups (those of a container). Elsewhere it is all the memory of the machine. A limit of the process (``ulimit -v``)
    holds too.

    Args
        root: the folder of ``proc`` and ``sys``, for tests.
    """
    limits = [*_of_system(Path(root)), *_of_process(Path(root))]
    return max(0, min(limits)) if limits else None


def _of_system(root: Path) -> list[int]:
    fields = {name: 1024 * int(value.split()[0]) for name, value in _fields(root / "proc/meminfo").items()}
    if "MemAvailable" in fields:
        swap = fields.get("SwapFree", 0)
        return [room + swap for room in (fields["MemAvailable"], *_of_control_groups(root))]
    with contextlib.suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
        return [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    return []


def _of_control_groups(root: Path) -> list[int]:
    """Return what the control groups of this process, and those above them, leave: they can free all but ``anon``."""
    found = []
    for line in _lines(root / "proc/self/cgroup"):
        _, kinds, path = line.split(":", 2)
        if not kinds:  # version 2
            top, name_of_limit, used = root / _CGROUPS, "memory.max", "anon"
        elif "memory" in kinds.split(","):
            top, name_of_limit, used = root / _CGROUPS / "memory", "memory.limit_in_bytes", "total_rss"
        else:
            continue
        group = top / path.strip("/")
        for folder in (group, *group.parents):
            limit = "".join(_lines(folder / name_of_limit))
            if limit.isdecimal():  # "max" is no limit
                found.append(int(limit) - int(_fields(folder / "memory.stat", " ").get(used, "0")))
            if folder == top:
                break
    return found


def _of_process(root: Path) -> list[int]:
    try:
        import resource
    except ImportError:  # Windows
        return []
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return []
    used = [int(line.split()[0]) * os.sysconf("SC_PAGE_SIZE") for line in _lines(root / "proc/self/statm")]
    return [limit - sum(used)]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _fields(path: Path, after: str = ":") -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(after) for line in _lines(path))}

"""Memory that is freed and asked for again."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # from glibc's malloc.h


def keep_freed_memory() -> None:
    """Ask the C library to keep what is freed for the arrays to come, rather than give it back to the system.

    A textbook training step allocates each of its arrays anew. With glibc's defaults the large ones go back to the
    system when they are freed, and the next step pays for fresh pages: without, a step of the default model took 0.6 of
    the time (one core, Zen 3). For a whole process, so only programs call it, not the library. Elsewhere than on glibc
    it does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # no glibc: macOS, musl, Windows
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)

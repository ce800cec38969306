"""Settings of the C library for memory that is freed and allocated again."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # from glibc's malloc.h


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

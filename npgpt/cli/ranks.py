"""``npgpt train`` as one of several processes: they end together, and one of them speaks."""

import contextlib
import functools
import os
import sys
import traceback
from collections.abc import Iterator
from typing import NoReturn

from npgpt.errors import ConfigError, NpgptError, TrainingError
from npgpt.runs.ranks import of_rank, ranks_of_mpiexec

EXPECTED = (NpgptError, OSError, MemoryError, KeyboardInterrupt)  # the command line prints their messages alone


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """Let only rank 0 print, unless another rank fails alone.

    An error that all ranks have ends each of them, as it ends one process. Before the first meeting of the ranks, an
    error waits for it, and all get it there.
    """
    ranks, streams = ranks_of_mpiexec(), (sys.stdout, sys.stderr)
    ranks.settles = True
    if ranks.rank:
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    try:
        yield
    except BaseException as error:
        if not ranks.met:
            with contextlib.suppress(BaseException):
                ranks.together(functools.partial(_raise, error))
            error = ranks.agreed or error
        if error is ranks.agreed or isinstance(error, TrainingError):  # so has every other rank
            ranks.over = True
        if ranks.over:
            raise error from None
        sys.stdout, sys.stderr = streams
        if not isinstance(error, EXPECTED):
            traceback.print_exception(error)
        raise of_rank(error, ranks.rank) from None
    ranks.over = True


def end_ranks(code: int) -> None:
    """End the processes of all ranks if this one has failed alone."""
    with contextlib.suppress(ConfigError):  # the ranks could not find each other
        ranks = ranks_of_mpiexec()
        if not ranks.over:
            sys.stdout.flush()
            sys.stderr.flush()
            ranks.comm.Abort(code)


def _raise(error: BaseException) -> NoReturn:
    raise error

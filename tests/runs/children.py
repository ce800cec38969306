"""Forked children: they start at once, with the kernels compiled, and are killed without harm to the tests."""

import contextlib
import os
import signal
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

SECONDS = 120  # no child lives longer


class Child:
    """A child process that does some work; what it announces is read after its end.

    Args
        work: called with a function that announces a whole number.
    """

    def __init__(self, work: Callable[[Callable[[int], Any]], Any]) -> None:
        self._pipe, told = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside other threads: npgpt allows it
            self.pid = os.fork()
        if not self.pid:
            self._work(work, told)
        os.close(told)

    def _work(self, work: Callable[[Callable[[int], Any]], Any], told: int) -> None:
        code = 70
        try:
            code = work(lambda number: os.write(told, b"%d\n" % number)) or 0
        except BaseException:
            os.write(told, traceback.format_exc().encode())
        finally:
            os._exit(code if isinstance(code, int) else 0)

    def kill_after(self, seconds: float) -> None:
        time.sleep(seconds)
        os.kill(self.pid, signal.SIGKILL)  # a child that has ended stays until ``end`` waits for it

    def end(self) -> tuple[int, list[int]]:
        """Wait. Return the exit code, or minus the signal, and the numbers that were announced.

        Raises
            AssertionError with the traceback of the child, if it had one.
        """
        until = time.monotonic() + SECONDS
        while not (waited := os.waitpid(self.pid, os.WNOHANG))[0]:
            if time.monotonic() > until:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.001)
        with contextlib.closing(os.fdopen(self._pipe)) as pipe:
            said = pipe.read()
        code = os.waitstatus_to_exitcode(waited[1])
        assert code != 70, said
        return code, [int(line) for line in said.splitlines()]

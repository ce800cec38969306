"""One pool of threads for all kernels: chunks of a job are handed to whoever is free.

As code::

    for chunk in range(n_chunks):
        body(thread, chunk, *arguments)

Each chunk writes what no other one touches, or its own partial sum, which one thread then adds up in chunk order. So
the bits do not depend on the number of threads, nor on who did which chunk, and a thread that comes late, or that the
system has put aside, costs nothing but its share.

Why not ``prange``? Its pools differ from platform to platform: OpenMP's aborts the process after a fork, the one that
every platform has aborts it when two Python threads call at once and takes 100 µs a call, and both wait for every
thread, however late, on a machine that has other work. Here a call costs about 1 µs, the workers are Python threads
that run one kernel (``_work``) for as long as they live, and each kernel is compiled once, in one form.

The protocol, on words of one array, each on a cache line of its own: the caller takes LOCK, writes what is to be
called, and sets LEFT to the number of chunks. Whoever subtracts 1 from LEFT and finds that it was above 0 has claimed a
chunk, and until it has added 1 to FINISHED the job cannot end: so what it reads of the job is right, however late it
comes. A worker that has found nothing for a while adds 1 to SLEEPING and reads a byte from a pipe; a caller that finds
sleepers writes as many bytes.
"""

import atexit
import ctypes
import os
import sys
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npgpt.errors import ConfigError
from npgpt.kernels.atomics import (
    atomic_add,
    atomic_load,
    atomic_store,
    call_c,
    call_chunk,
    compare_and_swap,
    exchange,
    pause,
    restore_floats,
    standard_floats,
)
from npgpt.kernels.cache import kernel

LINE = 8  # int64 on a cache line
LOCK, LEFT, FINISHED, SLEEPING, BODY, ARGUMENTS, CHUNKS, RAISED, THREADS, READ, WRITE, YIELD, PIPE_OUT, PIPE_IN = (
    LINE * i for i in range(14)
)
BYTES = LINE * 14  # where the bytes of the pipe are read to and written from
WORDS = BYTES + 2 * LINE
SPINS = 8000  # looks at LEFT before a worker sleeps, about 0.2 ms: longer than Python takes from one kernel to the next
PATIENCE = 2000  # looks at a word before a waiting thread offers its core to others, again and again
MAX_THREADS = 64


@kernel
def launch(pool: Any, n_chunks: int, body: int, arguments: int) -> None:
    """Do all chunks of a job, with the workers' help if there are several: ``launch(pool, n, *job(body, arguments))``.

    Raises
        IndexError if a chunk raised, as a bounds check does (NUMBA_BOUNDSCHECK=1).
    """
    looks = 0
    while not compare_and_swap(pool, LOCK, 0, 1):  # another Python thread has a job under way
        looks += 1
        _wait(pool, looks)
    raised, mode = 0, standard_floats()
    if n_chunks == 1 or pool[THREADS] == 1:
        for chunk in range(n_chunks):
            raised |= call_chunk(body, arguments, 0, chunk)
    else:
        pool[BODY], pool[ARGUMENTS], pool[CHUNKS], pool[RAISED] = body, arguments, n_chunks, 0
        atomic_store(pool, FINISHED, 0)
        atomic_store(pool, LEFT, n_chunks)
        if atomic_load(pool, SLEEPING) > 0:
            call_c(pool[WRITE], pool[PIPE_IN], pool[BYTES:], exchange(pool, SLEEPING, 0))
        _do_chunks(pool, 0)
        looks = 0
        while atomic_load(pool, FINISHED) < n_chunks:
            looks += 1
            _wait(pool, looks)
        raised = atomic_load(pool, RAISED)
    restore_floats(mode)
    atomic_store(pool, LOCK, 0)
    if raised:
        raise IndexError("a chunk of a kernel raised an error: an index is out of bounds")


@kernel
def _do_chunks(pool: Any, thread: int) -> int:
    """Claim chunks and do them until none is left; returns how many that were."""
    done = 0
    while atomic_load(pool, LEFT) > 0:
        left = atomic_add(pool, LEFT, -1)
        if left <= 0:
            break
        if call_chunk(pool[BODY], pool[ARGUMENTS], thread, pool[CHUNKS] - left):
            atomic_store(pool, RAISED, 1)
        atomic_add(pool, FINISHED, 1)
        done += 1
    return done


@kernel
def _wait(pool: Any, looks: int) -> None:
    pause()
    if looks % PATIENCE == 0:
        call_c(pool[YIELD], 0, pool[BYTES:], 0)


@kernel
def _work(pool: Any, thread: int) -> None:
    """A worker's life: until the pool has fewer threads than its number."""
    standard_floats()
    looks = 0
    while atomic_load(pool, THREADS) > thread:
        if _do_chunks(pool, thread):
            looks = 0
        looks += 1
        pause()
        if looks > SPINS:
            _sleep(pool, thread)
            looks = 0


@kernel
def _sleep(pool: Any, thread: int) -> None:
    """Wait for a byte, unless there is work after all. Who was counted as a sleeper must read the byte meant for it."""
    atomic_add(pool, SLEEPING, 1)
    while atomic_load(pool, LEFT) > 0 or atomic_load(pool, THREADS) <= thread:
        sleeping = atomic_load(pool, SLEEPING)
        if sleeping == 0:
            break
        if compare_and_swap(pool, SLEEPING, sleeping, sleeping - 1):
            return
    call_c(pool[READ], pool[PIPE_OUT], pool[BYTES + LINE :], 1)


class Pool:
    """The threads of this process: the one that calls, and workers, which are started when they are first needed."""

    def __init__(self, n_threads: int) -> None:
        self.n_threads = n_threads
        self.words: NDArray[np.int64] = np.zeros(WORDS + LINE, np.int64)
        first = -self.words.ctypes.data // 8 % LINE
        self.words = self.words[first : first + WORDS]
        self.words[[READ, WRITE, YIELD]] = _addresses()
        self.words[THREADS] = n_threads
        self.workers: list[threading.Thread] = []

    def start(self) -> None:
        """Start the workers."""
        if self.n_threads == 1:
            return
        self.pipe = self.words[[PIPE_OUT, PIPE_IN]] = os.pipe()
        work: Any = _work
        work.compile("void(int64[::1], int64)")  # by one thread, before several ask for it
        for number in range(1, self.n_threads):
            worker = threading.Thread(target=_work, args=(self.words, number), name=f"npgpt-{number}", daemon=True)
            worker.start()
            self.workers.append(worker)

    def stop(self) -> None:
        """End the workers. Nobody may be calling a kernel."""
        self.words[THREADS] = 1
        if self.workers:
            os.write(self.pipe[1], bytes(len(self.workers)))
            for worker in self.workers:
                worker.join()
            for end in self.pipe:
                os.close(end)
        self.workers.clear()


def _addresses() -> list[int | None]:
    """Where the C library has ``read``, ``write`` and the function that offers a core to others."""
    if sys.platform == "win32":
        library = ctypes.CDLL("ucrtbase")
        functions = library._read, library._write, ctypes.windll.kernel32.SwitchToThread
    else:
        library = ctypes.CDLL(None)
        functions = library.read, library.write, library.sched_yield
    return [ctypes.cast(function, ctypes.c_void_p).value for function in functions]


_pool: Pool | None = None
_starting = threading.Lock()


def pool() -> NDArray[np.int64]:
    """The words that a kernel with chunks takes first. Starts the workers at the first call, and after a fork."""
    if _pool is None:
        set_num_threads(default_num_threads())
        assert _pool is not None
    return _pool.words


def default_num_threads() -> int:
    """What NPGPT_NUM_THREADS says, else the number of cores that this process may use."""
    said = os.environ.get("NPGPT_NUM_THREADS", "")
    if said:
        if not said.isdecimal():
            raise ConfigError(f"NPGPT_NUM_THREADS must be a whole number, 1 to {MAX_THREADS}, not {said!r}")
        return int(said)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_THREADS)


def set_num_threads(n: int) -> None:
    """Let kernels use ``n`` threads, the calling one among them. Results do not depend on it, to the last bit.

    Raises
        ConfigError if n is not in 1 to 64.
    """
    global _pool
    if type(n) is not int or not 1 <= n <= MAX_THREADS:
        raise ConfigError(f"the number of threads must be a whole number, 1 to {MAX_THREADS}, not {n!r}")
    with _starting:
        if _pool is not None:
            if _pool.n_threads == n:
                return
            _pool.stop()
        fresh = Pool(n)
        fresh.start()
        _pool = fresh


def get_num_threads() -> int:
    """The number of threads that kernels use."""
    return default_num_threads() if _pool is None else _pool.n_threads


def _forget_after_fork() -> None:
    """A child process has none of the workers; it starts its own when it needs them."""
    global _pool, _starting
    n_threads, _pool, _starting = get_num_threads(), None, threading.Lock()
    os.environ["NPGPT_NUM_THREADS"] = str(n_threads)


def _stop_at_exit() -> None:
    if _pool is not None:
        _pool.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
atexit.register(_stop_at_exit)

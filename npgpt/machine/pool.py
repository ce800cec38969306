"""One thread pool for all kernels: each thread has a share of a job's chunks, and takes others' when it is done.

``plain_launch`` defines the result. A chunk writes memory that no other chunk touches, or its own partial sum; one
thread then adds the partial sums in chunk order. So the bits do not depend on the number of threads, nor on which
thread ran which chunk.

Chunks that lie side by side belong to one thread, so few cache lines are written by two threads. The next kernel's
chunks find their operands in the same core's cache. A late or suspended thread costs only the chunk that it is at:
the others take the rest of its share, from the end.

Numba's ``prange`` is not used, because its pools depend on the platform. OpenMP's pool aborts the process after a fork.
The workqueue pool, which every platform has, aborts if two Python threads call it at once, and a call takes 100 µs.
Both wait for all threads, even for late ones on a busy machine. Here a call takes about 1 µs. Each worker is a Python
thread that runs one kernel (``_work``) until the pool stops. Each kernel is compiled once, in one form.

The protocol uses the words of one array, each on a separate cache line. The caller takes the lock, which all pools
share, writes the job, then the shares, then the job's number to OPEN. A share is one word: the first chunk that is
left, and the end. A thread claims a chunk by exchanging this word for a shorter share. The job cannot end before this
thread adds the number of its chunks to FINISHED, so a late thread reads the right job, even if it came for an earlier
one. Whoever finds all shares empty sets OPEN to 0, unless a later job is open by now. A worker that is idle for some
time adds 1 to SLEEPING and waits for a token. The next caller writes one token for each sleeper. (Tokens go through an
eventfd if the system has one: Linux wakes a pipe's reader on the writer's core.) The system may leave two busy threads
on one core for seconds while another core is idle. So a worker on the caller's core moves to another core.
"""

import atexit
import ctypes
import os
import sys
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npgpt.core.values import as_python, shown
from npgpt.errors import ConfigError
from npgpt.machine.atomics import (
    atomic_add,
    atomic_load,
    atomic_store,
    call_c,
    call_chunk,
    compare_and_swap,
    exchange,
    pause,
    publish,
    restore_floats,
    standard_floats,
)
from npgpt.machine.compile import entry, kernel
from npgpt.machine.kinds import INT, POOL

LINE = 8  # int64 words in a cache line
# LOCK is the distance from the array to the lock.
LOCK, OPEN, FINISHED, SLEEPING, BODY, ARGUMENTS, JOBS, RAISED, THREADS = (LINE * i for i in range(9))
READ, WRITE, YIELD, TAKE_FROM, GIVE_TO, TOKEN, CORE, GET_CORE, SET_CORES = (LINE * i for i in range(9, 18))
SELF = LINE * 18  # the address of this array
TOKENS = LINE * 19  # the tokens to write; the next line receives the tokens read
CORES, OTHERS = LINE * 21, LINE * 23  # bit sets: all cores that this process may use; those without the caller's
MAX_THREADS = 64
SHARES = LINE * 25  # a line for each thread: the first chunk that is left of its share, and 2**32 times the end
WORDS = SHARES + LINE * MAX_THREADS
SPINS = 20_000  # polls of OPEN before a worker sleeps, about 0.5 ms: longer than Python needs between two kernels
PATIENCE = 2000  # polls before a waiting thread yields its core to other threads
SET_WORDS = 16  # words of a bit set of 1,024 cores


def plain_launch(n_chunks: int, body: Any, *arguments: Any) -> None:
    """Run all chunks of a job, one after the other, as thread 0."""
    for chunk in range(n_chunks):
        body(0, chunk, *arguments)


@kernel
def launch(pool: Any, n_chunks: int, body: int, arguments: int) -> None:
    """Run all chunks of a job on all threads: ``launch(pool, n, *job(body, arguments))``.

    Raises
        IndexError if a chunk raised, for example by a bounds check (NUMBA_BOUNDSCHECK=1).
    """
    looks = 0
    while not compare_and_swap(pool, pool[LOCK], 0, 1):  # a job of another Python thread is running
        looks += 1
        _wait(pool, looks)
    raised, mode = 0, standard_floats()
    if n_chunks == 1 or pool[THREADS] == 1:
        for chunk in range(n_chunks):
            raised |= call_chunk(body, arguments, 0, chunk)
    else:
        pool[BODY], pool[ARGUMENTS], pool[RAISED], pool[FINISHED] = body, arguments, 0, 0
        pool[CORE] = _core(pool)
        pool[JOBS] += 1
        first, threads = 0, pool[THREADS]
        for thread in range(threads):
            end = (n_chunks * (thread + 1) + threads - 1) // threads
            publish(pool, SHARES + LINE * thread, first | end << 32)
            first = end
        atomic_store(pool, OPEN, pool[JOBS])
        if atomic_load(pool, SLEEPING) > 0:
            n = exchange(pool, SLEEPING, 0)
            pool[TOKENS] = n  # for an eventfd, the number n in 8 bytes; for a pipe, any n bytes
            call_c(pool[WRITE], pool[GIVE_TO], pool[SELF] + 8 * TOKENS, 8 if pool[TOKEN] == 8 else n)
        _do_chunks(pool, 0)
        looks = 0
        while atomic_load(pool, FINISHED) < n_chunks:
            looks += 1
            _wait(pool, looks)
        raised = atomic_load(pool, RAISED)
    restore_floats(mode)
    atomic_store(pool, pool[LOCK], 0)
    if raised:
        raise IndexError("a chunk of a kernel raised an error: an index is out of bounds")


@kernel
def _do_chunks(pool: Any, thread: int) -> int:
    """Claim and run chunks until none is left; return their number."""
    number, done = atomic_load(pool, OPEN), 0
    chunk = _claim(pool, thread)
    while chunk >= 0:
        if call_chunk(pool[BODY], pool[ARGUMENTS], thread, chunk):
            atomic_store(pool, RAISED, 1)
        done += 1
        chunk = _claim(pool, thread)
    compare_and_swap(pool, OPEN, number, 0)
    if done:
        atomic_add(pool, FINISHED, done)
    return done


@kernel
def _claim(pool: Any, thread: int) -> int:
    """Return the first chunk that is left of this thread's share, else the last one of another share, else -1."""
    threads = pool[THREADS]
    for i in range(threads):
        share = SHARES + LINE * ((thread + i) % threads)
        left = atomic_load(pool, share)
        while left & 0xFFFFFFFF < left >> 32:
            chunk, rest = (left & 0xFFFFFFFF, left + 1) if i == 0 else ((left >> 32) - 1, left - (1 << 32))
            if compare_and_swap(pool, share, left, rest):
                return chunk
            left = atomic_load(pool, share)
    return -1


@kernel
def _retire(pool: Any) -> None:
    """Tell the workers to end. The lock ensures that no caller writes a token to a closed file later."""
    looks = 0
    while not compare_and_swap(pool, pool[LOCK], 0, 1):
        looks += 1
        _wait(pool, looks)
    atomic_store(pool, THREADS, 1)
    atomic_store(pool, pool[LOCK], 0)


@kernel
def _wait(pool: Any, looks: int) -> None:
    pause()
    if looks % PATIENCE == 0:
        call_c(pool[YIELD], 0, 0, 0)


@entry(POOL, INT)
def _work(pool: Any, thread: int) -> None:
    """Run a worker until the pool has no more than ``thread`` threads."""
    standard_floats()
    looks = 0
    while atomic_load(pool, THREADS) > thread:
        if atomic_load(pool, OPEN) > 0:
            if pool[CORE] >= 0 and _core(pool) == pool[CORE]:
                _move_away(pool, pool[CORE])
            if _do_chunks(pool, thread):
                looks = 0
        looks += 1
        pause()
        if looks > SPINS:
            _sleep(pool, thread)
            looks = 0


@kernel
def _core(pool: Any) -> int:
    """Return the number of this thread's core; -1 if the system has no such call."""
    return call_c(pool[GET_CORE], 0, 0, 0) if pool[GET_CORE] else -1


@kernel
def _move_away(pool: Any, core: int) -> None:
    """Move this thread away from the caller's core, if there are other cores."""
    left = 0
    for word in range(SET_WORDS):
        cores = pool[CORES + word]
        if core // 64 == word:
            cores &= ~(1 << core % 64)
        left |= cores
        pool[OTHERS + word] = cores
    if left:
        call_c(pool[SET_CORES], 0, 8 * SET_WORDS, pool[SELF] + 8 * OTHERS)


@kernel
def _sleep(pool: Any, thread: int) -> None:
    """Wait for a token, unless work has arrived. A thread that a caller counted as a sleeper must take its token."""
    atomic_add(pool, SLEEPING, 1)
    while atomic_load(pool, OPEN) > 0 or atomic_load(pool, THREADS) <= thread:
        sleeping = atomic_load(pool, SLEEPING)
        if sleeping == 0:
            break
        if compare_and_swap(pool, SLEEPING, sleeping, sleeping - 1):
            return
    call_c(pool[READ], pool[TAKE_FROM], pool[SELF] + 8 * (TOKENS + LINE), pool[TOKEN])


class Pool:
    """The threads that run kernels: the calling thread and the workers, which ``start`` creates."""

    def __init__(self, n_threads: int) -> None:
        self.n_threads = n_threads
        self.words: NDArray[np.int64] = np.zeros(WORDS + LINE, np.int64)
        first = -self.words.ctypes.data // 8 % LINE
        self.words = self.words[first : first + WORDS]
        self.words[[READ, WRITE, YIELD, GET_CORE, SET_CORES]] = _addresses()
        self.words[SELF] = self.words.ctypes.data
        self.words[LOCK] = (_lock.ctypes.data - self.words.ctypes.data) // 8
        if self.words[GET_CORE]:
            for core in os.sched_getaffinity(0):
                if core < 64 * SET_WORDS:
                    self.words[CORES : CORES + SET_WORDS].view(np.uint64)[core // 64] |= np.uint64(1 << core % 64)
        self.words[THREADS] = n_threads
        self.workers: list[threading.Thread] = []

    def start(self) -> None:
        """Start the workers."""
        if self.n_threads == 1:
            return
        if hasattr(os, "eventfd"):
            both = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_SEMAPHORE)
            self.ends, self.words[TOKEN] = (both, both), 8
        else:
            self.ends, self.words[TOKEN] = os.pipe(), 1
        self.words[[TAKE_FROM, GIVE_TO]] = self.ends
        _work.compile_form()  # compile it before several threads need it
        for number in range(1, self.n_threads):
            worker = threading.Thread(target=_work, args=(self.words, number), name=f"npgpt-{number}", daemon=True)
            worker.start()
            self.workers.append(worker)

    def stop(self) -> None:
        """End the workers. Kernels that other Python threads call meanwhile run without workers."""
        _retire(self.words)
        if self.workers:
            n = len(self.workers)
            os.write(self.ends[1], n.to_bytes(8, sys.byteorder) if self.words[TOKEN] == 8 else bytes(n))
            for worker in self.workers:
                worker.join()
            for end in set(self.ends):
                os.close(end)
        self.workers.clear()


def _addresses() -> list[int]:
    """Return the addresses of the C functions that the kernels call; 0 for a missing one."""
    if sys.platform == "win32":
        library = ctypes.CDLL("ucrtbase")
        functions = [library._read, library._write, ctypes.windll.kernel32.SwitchToThread]
    else:
        library = ctypes.CDLL(None)
        functions = [library.read, library.write, library.sched_yield]
        if sys.platform == "linux":
            functions += [library.sched_getcpu, library.sched_setaffinity]
    addresses = [ctypes.cast(function, ctypes.c_void_p).value or 0 for function in functions]
    return addresses + [0] * (5 - len(addresses))


_pool: Pool | None = None
_after_fork: int | None = None  # the number of threads that the parent process had
_starting = threading.Lock()
_lock: NDArray[np.int64] = np.zeros(1, np.int64)  # of all pools: work memory may be that of an earlier pool


def pool() -> NDArray[np.int64]:
    """Return the pool's words, which kernels pass to ``launch``. The first call in each process starts the workers."""
    if _pool is None:
        set_num_threads(get_num_threads())
        assert _pool is not None
    return _pool.words


def work_rows(pool: NDArray[np.int64]) -> int:
    """Return the number of rows of work memory, one for each thread, that a job on this pool may use.

    ``get_num_threads`` is the number of the current pool, which another Python thread may have replaced since
    ``pool()``. The pool that runs the job can only lose threads.
    """
    return int(pool[THREADS])


@kernel
def check_work_rows(pool: Any, works: Any) -> None:
    """Raise IndexError if a job on this pool may need more rows of work memory than there are."""
    if len(works) < pool[THREADS]:
        raise IndexError("a kernel has too few rows of work memory; their number must come from work_rows(pool)")


def default_num_threads() -> int:
    """Return NPGPT_NUM_THREADS if it is set, else the number of cores that this process may use."""
    said = os.environ.get("NPGPT_NUM_THREADS", "")
    if said:
        if not said.isdecimal():
            raise ConfigError(f"NPGPT_NUM_THREADS must be a whole number, 1 to {MAX_THREADS}, not {said!r}")
        return int(said)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_THREADS)


def set_num_threads(n: int) -> None:
    """Set the number of threads for kernels, including the calling thread. The number changes no bit of a result.

    Raises
        ConfigError if n is not in 1 to 64.
    """
    global _pool
    n = as_python(n)
    if type(n) is not int or not 1 <= n <= MAX_THREADS:
        raise ConfigError(f"the number of threads must be a whole number, 1 to {MAX_THREADS}, not {shown(n)}")
    with _starting:
        if _pool is not None:
            if _pool.n_threads == n:
                return
            _pool.stop()
        fresh = Pool(n)
        fresh.start()
        _pool = fresh


def get_num_threads() -> int:
    """Return the number of threads that kernels use."""
    return _pool.n_threads if _pool else _after_fork or default_num_threads()


def _forget_after_fork() -> None:
    """Forget the pool in a child process, which has no workers yet."""
    global _pool, _after_fork, _starting
    _after_fork = _pool.n_threads if _pool else _after_fork
    _pool, _starting, _lock[0] = None, threading.Lock(), 0


def _stop_at_exit() -> None:
    if _pool is not None:
        _pool.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
atexit.register(_stop_at_exit)

"""The thread pool runs every chunk once: with several callers, sleeping workers, after a fork and at exit."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.errors import ConfigError
from npgpt.kernels.finish import NOTHING
from npgpt.kernels.matmul import NO_NUMBERS, NO_ROWS, PACK, _multiply
from npgpt.machine.atomics import atomic_add, atomic_load, job, pause
from npgpt.machine.compile import kernel
from npgpt.machine.pool import (
    SLEEPING,
    _wait,
    default_num_threads,
    get_num_threads,
    launch,
    plain_launch,
    pool,
    set_num_threads,
    work_rows,
)

Ints = npt.NDArray[np.int64]


@kernel
def count_chunk(thread: int, chunk: int, work: int, counts: Any, threads: Any) -> None:
    counts[chunk] += 1
    threads[chunk] = thread
    for _ in range(work):
        pause()


@kernel
def count(pool: Any, n_chunks: int, work: int, counts: Any, threads: Any) -> None:
    launch(pool, n_chunks, *job(count_chunk, (work, counts, threads)))


def run_counts(n_chunks: int, work: int = 0) -> tuple[Ints, Ints]:
    """Return how often each chunk ran, and on which thread."""
    counts, threads = np.zeros(n_chunks, np.int64), np.full(n_chunks, -1)
    count(pool(), n_chunks, work, counts, threads)
    return counts, threads


@kernel
def meet_chunk(thread: int, chunk: int, pool: Any, met: Any) -> None:
    """Wait until all other chunks are running too, with a limit."""
    atomic_add(met, 0, 1)
    for looks in range(100_000_000):
        if atomic_load(met, 0) == len(met) - 1:
            break
        _wait(pool, looks)
    met[1 + chunk] = atomic_load(met, 0)


@kernel
def meet(pool: Any, met: Any) -> None:
    launch(pool, len(met) - 1, *job(meet_chunk, (pool, met)))


def all_threads_meet() -> bool:
    """Return whether one chunk can run on each thread at the same time."""
    n = get_num_threads()
    met = np.zeros(1 + n, np.int64)
    meet(pool(), met)
    return bool((met == n).all())


@kernel
def write_chunk(thread: int, chunk: int, out: Any) -> None:
    out[chunk] = chunk


@kernel
def write(pool: Any, n_chunks: int, out: Any) -> None:
    launch(pool, n_chunks, *job(write_chunk, (out,)))


@kernel
def hold_chunk(thread: int, chunk: int, pool: Any, order: Any) -> None:
    """Write the chunk behind those that ran before it; chunk 0 waits for all others, with a limit."""
    looks = 0
    while chunk == 0 and atomic_load(order, 0) < len(order) - 2 and looks < 100_000_000:
        looks += 1
        _wait(pool, looks)
    order[1 + atomic_add(order, 0, 1)] = chunk


@kernel
def hold(pool: Any, order: Any) -> None:
    launch(pool, len(order) - 1, *job(hold_chunk, (pool, order)))


@pytest.fixture(autouse=True, scope="module")
def restore_threads() -> Iterator[None]:
    before = get_num_threads()
    yield
    set_num_threads(before)


def wait_for_sleepers(n: int) -> None:
    end = time.monotonic() + 30
    while pool()[SLEEPING] != n:
        assert time.monotonic() < end, f"{pool()[SLEEPING]} workers are asleep, not {n}"
        time.sleep(0.001)


@given(st.integers(0, 300), st.integers(1, 5), st.sampled_from([0, 30]))
def test_each_chunk_runs_once(n_chunks: int, n_threads: int, work: int) -> None:
    set_num_threads(n_threads)
    for _ in range(3):
        counts, threads = run_counts(n_chunks, work)
        right, alone = np.zeros(n_chunks, np.int64), np.full(n_chunks, -1)
        plain_launch(n_chunks, count_chunk, work, right, alone)
        assert (counts == right).all()
        assert (counts == 1).all()
        assert ((threads >= 0) & (threads < n_threads)).all()


def test_a_thread_runs_neighbouring_chunks_and_then_takes_those_of_a_thread_that_is_held_up() -> None:
    set_num_threads(2)
    for n in (2, 3, 20, 21):
        order = np.zeros(1 + n, np.int64)
        hold(pool(), order)  # this thread is held up at its first chunk
        half = (n + 1) // 2
        assert order.tolist() == [n, *range(half, n), *range(half - 1, -1, -1)]


def test_many_jobs_in_a_row() -> None:
    set_num_threads(3)
    for n_chunks in range(2000):
        assert (run_counts(n_chunks % 7)[0] == 1).all()


def test_a_job_wakes_sleeping_workers() -> None:
    for n_threads in (2, 3):
        set_num_threads(n_threads)
        for _ in range(5):
            wait_for_sleepers(n_threads - 1)
            assert all_threads_meet()


def test_the_number_of_threads_may_change_while_workers_sleep_or_wait() -> None:
    for n_threads in (3, 1, 2, 4, 2):
        set_num_threads(n_threads)
        assert get_num_threads() == n_threads
        assert (run_counts(20)[0] == 1).all()  # and the workers are awake when they are told to end
    set_num_threads(3)
    wait_for_sleepers(2)
    set_num_threads(2)
    assert (run_counts(20)[0] == 1).all()
    assert sum(thread.name.startswith("npgpt-") for thread in threading.enumerate()) == 1


@pytest.mark.parametrize("n_threads", [1, 3])
def test_several_python_threads_may_call_at_once(n_threads: int) -> None:
    set_num_threads(n_threads)
    wrong: list[int] = []

    def call() -> None:
        for i in range(300):
            counts, _ = run_counts(1 + i % 50)
            if not (counts == 1).all():
                wrong.append(i)

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
        assert not caller.is_alive()
    assert not wrong


@pytest.mark.parametrize("n", [0, 65, -1, 2.0, True, "2", None])
def test_wrong_numbers_of_threads_are_rejected(n: Any) -> None:
    before = get_num_threads()
    with pytest.raises(ConfigError, match="number of threads must be a whole number, 1 to 64"):
        set_num_threads(n)
    assert get_num_threads() == before


def test_the_number_of_threads_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPGPT_NUM_THREADS", "7")
    assert default_num_threads() == 7
    monkeypatch.setenv("NPGPT_NUM_THREADS", "")
    assert default_num_threads() >= 1
    for wrong in ("two", "-1", "1.5"):
        monkeypatch.setenv("NPGPT_NUM_THREADS", wrong)
        with pytest.raises(ConfigError, match="NPGPT_NUM_THREADS"):
            default_num_threads()


def run_alone(code: str, **environment: str) -> str:
    """Run code in a separate process, which must end by itself."""
    root = str(Path(__file__).parents[2])  # the module keeps its name, which the cached machine code contains
    chosen = os.environ | {"PYTHONPATH": root, "NPGPT_NUM_THREADS": "3"} | environment
    command = [sys.executable, "-c", f"from tests.machine import test_pool\n{code}"]
    ran = subprocess.run(command, env=chosen, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def fork_and_compute() -> None:
    """Fork; parent and child then both compute, with separate workers."""
    assert (run_counts(50)[0] == 1).all()
    for asleep in (False, True):
        if asleep:
            wait_for_sleepers(2)
        child = os.fork()
        if child == 0:
            right = get_num_threads() == 3 and (run_counts(50)[0] == 1).all()
            os._exit(0 if right and all_threads_meet() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert (run_counts(50)[0] == 1).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_the_pool_works_after_a_fork() -> None:
    run_alone("test_pool.fork_and_compute()")


@pytest.mark.parametrize(
    "last",
    [
        "test_pool.wait_for_sleepers(2)",
        "test_pool.run_counts(50)",
        "test_pool.threading.Thread(target=test_pool.run_counts, args=(50,)).start()",
    ],
)
def test_the_interpreter_ends_whether_workers_sleep_or_not(last: str) -> None:
    assert run_alone(f"test_pool.run_counts(50)\n{last}\nprint('done')") == "done\n"


def write_too_much() -> None:
    for n_threads in (1, 2):
        set_num_threads(n_threads)
        out = np.zeros(20, np.int64)
        with pytest.raises(IndexError, match="a chunk of a kernel raised an error"):
            write(pool(), 21, out)
        write(pool(), 20, out)  # the pool goes on
        assert (out == np.arange(20)).all()


def test_the_caller_gets_the_error_of_a_chunk_out_of_bounds() -> None:
    run_alone("test_pool.write_too_much()", NUMBA_BOUNDSCHECK="1")


def test_a_kernel_with_less_work_memory_than_threads_is_refused() -> None:
    set_num_threads(2)
    on = pool()
    assert work_rows(on) == 2
    a = np.ones((4, 4), np.float32)
    few = np.empty((1, PACK), np.float32)
    with pytest.raises(IndexError, match="too few rows of work memory"):
        _multiply(on, a, a, a.copy(), False, NOTHING, NO_NUMBERS, NO_ROWS, NO_ROWS, few)
    set_num_threads(3)
    assert work_rows(on) == 1  # a pool that was replaced has one thread, the caller's


def test_subnormal_numbers_do_not_depend_on_the_callers_float_mode() -> None:
    """A library may have set the calling thread, but not the workers, to flush subnormal numbers to zero."""
    code = """
import numba
import numpy as np
from npgpt.kernels import elementwise
from npgpt.machine.atomics import restore_floats
from npgpt.machine.pool import pool, set_num_threads

@numba.njit
def flush(mode):
    restore_floats(mode)

set_num_threads(2)
x = np.full(1_000_000, 2.0**-126, np.float32)
out = np.empty_like(x)
pool()
flush(0x9FC0 if __import__("platform").machine() == "x86_64" else 1 << 24)
assert float(x[0] * np.float32(0.5)) == 0, "this machine does not flush subnormal numbers"
for _ in range(5):
    elementwise.scale(pool(), x, 0.5, out)
    assert (out.view(np.int32) == 2**22).all()
assert float(x[0] * np.float32(0.5)) == 0, "the caller's float mode was not restored"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not report the core of a thread")
def test_a_worker_leaves_the_callers_core() -> None:
    """Run a process whose main thread and worker start on the same core; the main thread may use no other."""
    code = """
import os
import numpy as np
from npgpt.kernels import elementwise
from npgpt.machine import pool

cores = os.sched_getaffinity(0)
core = min(cores)
pool.set_num_threads(2)
pool.pool()
worker = pool._pool.workers[0].native_id
os.sched_setaffinity(0, {core})
os.sched_setaffinity(worker, {core})
x = np.ones(2_000_000, np.float32)
for _ in range(2000):
    elementwise.scale(pool.pool(), x, 0.5, x)
    if os.sched_getaffinity(worker) != {core}:
        break
assert os.sched_getaffinity(worker) == (cores - {core} or cores), os.sched_getaffinity(worker)
"""
    subprocess.run([sys.executable, "-c", code], check=True)

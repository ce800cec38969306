"""How many multiplications and additions could this CPU do at most? The limit of every matrix product.

    python benchmarks/peak.py [threads]

A loop of fused multiply-adds on registers alone, in as many independent chains as the matrix product's tile has: 24 of
16 numbers with AVX-512. No program that multiplies matrices is faster than that.
"""

import sys
import time
from typing import Any

import numba
import numpy as np
from numba import types

from npgpt import set_num_threads
from npgpt.machine.atomics import job
from npgpt.machine.bits import emits
from npgpt.machine.numba_internals import FLOAT, I32, call_llvm, counting, repeat, slot, vector_of
from npgpt.machine.pool import get_num_threads, launch, pool
from npgpt.machine.tile import TILE

CHAINS = 2 * TILE.rows
CHUNKS = 8  # for each thread: one that the system puts aside leaves its share to the others
_VECTOR = vector_of(FLOAT, TILE.lanes)


@emits(types.float32, types.int64, types.float32)
def chains(builder: Any, n: Any, x: Any) -> Any:
    """n times ``c = fma(c, x, x)`` in each chain, from different c on; what is left of all of them, in one number.

    With x = ½ they tend to 1: neither to what is too large nor to what is so small that a CPU is slow with it.
    """
    value = x = repeat(builder, x, TILE.lanes)
    sums = [slot(builder, _VECTOR) for _ in range(CHAINS)]
    for total in sums:
        value = builder.fadd(value, x)
        builder.store(value, total)
    with counting(builder, n):
        for total in sums:
            fused = call_llvm(builder, f"llvm.fma.v{TILE.lanes}f32", _VECTOR, builder.load(total), x, x)
            builder.store(fused, total)
    value = builder.load(sums[0])
    for total in sums[1:]:
        value = builder.fadd(value, builder.load(total))
    return builder.extract_element(value, I32(0))


@numba.njit(nogil=True)
def _chunk(thread: int, chunk: int, n: int, x: Any, out: Any) -> None:
    out[chunk] = chains(n, x)


@numba.njit(nogil=True)
def _run(pool: Any, n: int, x: Any, out: Any) -> None:
    launch(pool, len(out), *job(_chunk, (n, x, out)))


class Peak:
    """The peak of all threads of npgpt's pool together."""

    def __init__(self) -> None:
        self.out = np.empty(CHUNKS * get_num_threads(), np.float32)
        self.n = 1000
        self._seconds()  # compiles
        while self._seconds() < 2e-3:
            self.n *= 2

    def _seconds(self) -> float:
        start = time.perf_counter()
        _run(pool(), self.n, np.float32(0.5), self.out)
        return time.perf_counter() - start

    def measure(self, seconds: float = 0.3) -> float:
        """GF/s in the best of many runs of a few milliseconds: it is a limit. A multiply-add counts as two.

        In less time than that the system may leave both threads on one core.
        """
        end, best = time.perf_counter() + seconds, self._seconds()
        while time.perf_counter() < end:
            best = min(best, self._seconds())
        return 2 * CHAINS * TILE.lanes * self.n * len(self.out) / best / 1e9


if __name__ == "__main__":
    for threads in map(int, sys.argv[1:] or ["1"]):
        set_num_threads(threads)
        print(f"{TILE.name}, {threads} threads: {Peak().measure():.1f} GF/s")

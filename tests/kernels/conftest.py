"""Fixtures for the tests of all kernels with chunks."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from npgpt.machine.pool import get_num_threads, set_num_threads

Floats = npt.NDArray[np.float32]
GUARD = 48  # numbers before an array and after it
UNTOUCHED = 123456


class Guards:
    """Arrays surrounded by guard numbers that no kernel may change."""

    def __init__(self) -> None:
        self.made: list[Floats] = []

    def copy(self, values: npt.ArrayLike, dtype: Any = np.float32) -> Any:
        """Return a guarded copy at an address that is not aligned for vectors."""
        values = np.asarray(values, dtype)
        memory = np.full(values.size + 2 * GUARD + 1, UNTOUCHED, dtype)
        inside = memory[GUARD + 1 : GUARD + 1 + values.size]
        inside[:] = values.reshape(-1)
        self.made.append(memory)
        return inside.reshape(values.shape)

    def empty(self, *shape: int, dtype: Any = np.float32) -> Any:
        return self.copy(np.full(shape, np.nan), dtype)

    def check(self) -> None:
        for memory in self.made:
            assert (memory[: GUARD + 1] == UNTOUCHED).all()
            assert (memory[-GUARD:] == UNTOUCHED).all()


@pytest.fixture(scope="session")
def run_twice() -> Iterator[Callable[[Callable[[Guards], Any]], Any]]:
    """Run a kernel on one thread and on three: no guard number changes, and the bits are equal."""
    before = get_num_threads()

    def run(calculate: Callable[[Guards], Any]) -> Any:
        results = []
        for n in (1, 3):
            set_num_threads(n)
            guards = Guards()
            results.append(calculate(guards))
            guards.check()
        one, three = (result if isinstance(result, tuple) else (result,) for result in results)
        for ours, theirs in zip(one, three, strict=True):
            assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()
        return results[0]

    yield run
    set_num_threads(before)

"""Gather and scatter-add on a table equal their plain loops, to the last bit."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from npgpt.kernels import embedding
from npgpt.machine.pool import pool

Floats = npt.NDArray[np.float32]
SEEDS = st.integers(0, 2**32 - 1)
# Rows of the table, columns, ids.
SIZES = st.one_of(
    st.tuples(st.integers(1, 50), st.integers(1, 200), st.integers(0, 100)),
    st.tuples(st.integers(500, 700), st.sampled_from([64, 127, 128, 300]), st.integers(0, 300)),  # zeroed in chunks
    st.tuples(st.integers(1, 3), st.integers(8000, 9000), st.integers(0, 10)),
)


def draw(sizes: tuple[int, int, int], seed: int) -> tuple[Floats, npt.NDArray[np.int64], Floats]:
    V, C, n = sizes
    rng = np.random.default_rng(seed)
    table, dy = rng.standard_normal((V, C)).astype(np.float32), rng.standard_normal((n, C)).astype(np.float32)
    return table, rng.integers(0, V, n), dy


@given(SIZES, SEEDS)
def test_gather(run_twice: Any, sizes: tuple[int, int, int], seed: int) -> None:
    table, ids, dy = draw(sizes, seed)

    def run(guards: Any) -> Any:
        out = guards.empty(*dy.shape)
        embedding.gather(pool(), guards.copy(table), guards.copy(ids, np.int64), out)
        return out

    right = np.empty_like(dy)
    embedding.plain_gather(table, ids, right)
    assert (run_twice(run) == right).all()


@given(SIZES, SEEDS, st.booleans())
def test_scatter_add(run_twice: Any, sizes: tuple[int, int, int], seed: int, add: bool) -> None:
    table, ids, dy = draw(sizes, seed)

    def run(guards: Any) -> Any:
        dtable = guards.copy(table)
        embedding.scatter_add(pool(), guards.copy(dy), guards.copy(ids, np.int64), dtable, add)
        return dtable

    right = table.copy() if add else np.zeros_like(table)
    embedding.plain_scatter_add(dy, ids, right)
    assert (run_twice(run) == right).all()


def test_nan_and_infinity_affect_only_their_rows() -> None:
    dy = np.zeros((3, 20), np.float32)
    dy[0, [0, 19]], dy[2, [1, 18]] = math.nan, math.inf
    dtable = np.full((4, 20), math.nan, np.float32)  # overwritten, not added to
    embedding.scatter_add(pool(), dy, np.array([3, 1, 1]), dtable, False)
    assert np.argwhere(np.isnan(dtable)).tolist() == [[3, 0], [3, 19]]
    assert np.argwhere(dtable == math.inf).tolist() == [[1, 1], [1, 18]]
    out = np.empty_like(dy)
    embedding.gather(pool(), dtable, np.array([3, 1, 0]), out)
    assert np.array_equal(out, dtable[[3, 1, 0]], equal_nan=True)

"""Elementwise kernels and sums of columns against their plain loops."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.kernels import columns, dropout, elementwise, heads
from npgpt.machine.pool import pool
from npgpt.rng import make_key

Floats = npt.NDArray[np.float32]
SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.one_of(st.integers(0, 100), st.integers(8180, 8200), st.integers(20000, 30000))
SHAPES = st.one_of(
    st.tuples(st.integers(0, 200), st.integers(1, 70)),
    st.tuples(st.integers(1, 70), st.integers(250, 600)),
    st.tuples(st.integers(1, 3), st.integers(8000, 9000)),
)
SPECIAL = np.array([math.nan, math.inf, -math.inf, 0.0, -0.0, 1e38, -1e38, 2.0**-149, 1.5] * 3, np.float32)


def draw(seed: int, *shape: int) -> Floats:
    return (4 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


@pytest.mark.parametrize("kind", [elementwise.TANH_GELU, elementwise.GELU, elementwise.RELU])
@given(SIZES, SEEDS)
def test_activations(run_twice: Any, kind: int, n: int, seed: int) -> None:
    x = draw(seed, n)

    def run(guards: Any) -> tuple[Floats, Floats]:
        y, slope = guards.empty(n), guards.copy(x)
        elementwise.activate(pool(), kind, slope, y, slope)  # in place
        return y, slope

    y, slope = run_twice(run)
    some = np.unique(np.linspace(0, max(0, n - 1), 40).astype(int)) if n else np.array([], int)
    y_right, slope_right = np.empty(len(some)), np.empty(len(some))
    elementwise.plain_activate(kind, x[some], y_right, slope_right)
    for ours, right in ((y[some], y_right), (slope[some], slope_right)):
        assert (np.abs(ours - right) <= np.maximum(1e-5 * np.abs(right), 1e-6)).all()


def test_activations_of_special_numbers() -> None:
    for kind in range(3):
        y, slope = np.empty_like(SPECIAL), np.empty_like(SPECIAL)
        elementwise.activate(pool(), kind, SPECIAL, y, slope)
        assert np.isnan(y[0])
        assert y[1] == math.inf
        assert slope[[1, 2]].tolist() == [1, 0]
        assert y[[3, 4]].tolist() == [0, 0]
        assert np.array_equal(y[:9], y[18:], equal_nan=True)  # a whole register and the rest agree


@given(SIZES, SEEDS, st.sampled_from(["fresh", "a", "b"]), st.floats(-1e3, 1e3))
def test_sums_products_and_multiples(run_twice: Any, n: int, seed: int, where: str, factor: float) -> None:
    a, b = draw(seed, n), draw(seed + 1, n)
    if n > 100:
        a[-27:], b[:27] = SPECIAL, SPECIAL

    def run(guards: Any) -> tuple[Floats, ...]:
        results = []
        for kernel in (elementwise.add, elementwise.multiply, elementwise.scale):
            places = {"a": guards.copy(a), "b": guards.copy(b), "fresh": guards.empty(n)}
            second = factor if kernel is elementwise.scale else places["b"]
            kernel(pool(), places["a"], second, places[where])
            results.append(places[where])
        return tuple(results)

    with np.errstate(all="ignore"):
        right = a + b, a * b, a * np.float32(factor)
    for ours, theirs in zip(run_twice(run), right, strict=True):
        assert np.array_equal(ours, theirs, equal_nan=True)


@given(SHAPES, SEEDS, st.booleans())
def test_column_sums(run_twice: Any, shape: tuple[int, int], seed: int, add: bool) -> None:
    x, before = draw(seed, *shape), draw(seed, shape[1])

    def run(guards: Any) -> Any:
        out, partial = guards.copy(before), guards.empty(columns.groups(shape[0]), shape[1])
        columns.column_sums(pool(), guards.copy(x), partial, out, add)
        return out

    right = before * add
    partial = np.zeros((columns.groups(shape[0]), shape[1]), np.float32)
    for group, sums in enumerate(partial):  # each group, then the groups in order
        columns.plain_column_sums(x[group * columns.GROUP : (group + 1) * columns.GROUP], sums)
    columns.plain_column_sums(partial, right)
    assert (run_twice(run) == right).all()


def test_column_sums_of_special_numbers() -> None:
    x = np.zeros((70, 20), np.float32)
    x[40, [3, 17]] = math.nan
    x[69, [4, 18]] = math.inf
    out = np.ones(20, np.float32)
    columns.column_sums(pool(), x, np.empty((3, 20), np.float32), out, False)
    assert np.flatnonzero(np.isnan(out)).tolist() == [3, 17]
    assert np.flatnonzero(out == math.inf).tolist() == [4, 18]
    assert np.count_nonzero(out == 0) == 16


@given(SHAPES, SEEDS, st.booleans())
def test_adding_a_row_to_rows(run_twice: Any, shape: tuple[int, int], seed: int, in_place: bool) -> None:
    x, row = draw(seed, *shape), draw(seed + 1, shape[1])

    def run(guards: Any) -> Any:
        there = guards.copy(x)
        y = there if in_place else guards.empty(*shape)
        columns.add_to_rows(pool(), there, guards.copy(row), y)
        return y

    right = np.empty_like(x)
    columns.plain_add_to_rows(x, row, right)
    assert (run_twice(run) == right).all()


@given(
    st.one_of(st.tuples(st.integers(0, 5), st.integers(0, 70)), st.tuples(st.integers(1, 3), st.integers(4000, 9000))),
    SEEDS,
    st.floats(0, 0.999),
    st.booleans(),
)
def test_dropout(run_twice: Any, shape: tuple[int, int], seed: int, p: float, in_place: bool) -> None:
    x = draw(seed, *shape)
    keys = np.array([make_key("dropout", seed, b) for b in range(shape[0])], np.uint64)
    threshold, kept = round(p * 2**32), 1 / (1 - p)

    def run(guards: Any) -> Any:
        there = guards.copy(x)
        y = there if in_place else guards.empty(*shape)
        dropout.dropout(pool(), there, guards.copy(keys.view(np.int64), np.int64), threshold, kept, y)
        return y

    right = np.empty_like(x)
    dropout.plain_dropout(x, keys, threshold, kept, right)
    assert (run_twice(run) == right).all()


@pytest.mark.parametrize("key", [0, -1, 2**63 - 1, -(2**63), 0x80000000, -0x80000000])
def test_dropout_with_keys_of_either_sign(key: int) -> None:
    x, y = np.ones((1, 1000), np.float32), np.empty((1, 1000), np.float32)
    dropout.dropout(pool(), x, np.array([key]), 2**31, 2.0, y)
    right = np.empty_like(x)
    dropout.plain_dropout(x, np.array([key]), 2**31, 2.0, right)
    assert (y == right).all()


def test_dropout_of_special_numbers() -> None:
    x = np.array([[math.nan, math.inf, 3.0] * 10], np.float32)
    y = np.empty_like(x)
    dropout.dropout(pool(), x, np.array([5]), 2**31, 2.0, y)
    assert np.isnan(y[0, 0::3]).all()
    assert (np.isnan(y[0, 1::3]) | (y[0, 1::3] == math.inf)).all()
    assert set(y[0, 2::3]) == {0.0, 6.0}


@given(
    st.integers(1, 20), st.integers(0, 5), st.integers(1, 3), SEEDS, st.sampled_from([0.0, -math.inf]), st.booleans()
)
def test_masked_scores(run_twice: Any, T: int, past: int, n: int, seed: int, hidden: float, in_place: bool) -> None:
    s = draw(seed, n * T, past + T)

    def run(guards: Any) -> Any:
        there = guards.copy(s)
        out = there if in_place else guards.empty(n * T, past + T)
        heads.mask_scores(pool(), there, T, 0.5, hidden, out)
        return out

    right = np.empty_like(s)
    for of_head in range(0, n * T, T):
        heads.plain_mask_scores(s[of_head : of_head + T], 0.5, hidden, right[of_head : of_head + T])
    assert (run_twice(run) == right).all()

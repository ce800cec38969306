"""AdamW and the norm of the gradient, against their plain loops in float64."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.core.param import CHUNK
from npgpt.kernels import optimizer
from npgpt.machine.pool import pool
from npgpt.optim import norm

Floats = npt.NDArray[np.float32]
SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.one_of(st.integers(0, 100), st.integers(8180, 8200), st.integers(20000, 30000))
SETTINGS = st.tuples(
    st.floats(0, 0.99), st.floats(0, 0.999), st.floats(1e-4, 0.1), st.floats(0, 0.01), st.sampled_from([1e-8, 1e-2])
)


@given(SIZES, SEEDS, st.integers(-30, 20))
def test_squares(run_twice: Any, n: int, seed: int, exponent: int) -> None:
    g = (10.0**exponent * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)

    def run(guards: Any) -> Any:
        found = guards.empty(optimizer.chunks(n), dtype=np.float64)
        optimizer.squares(pool(), guards.copy(g), found)
        return found

    chunks = (g[start : start + CHUNK].tolist() for start in range(0, n, CHUNK))
    right = [math.fsum(number**2 for number in chunk) for chunk in chunks]
    assert run_twice(run) == pytest.approx(right, rel=1e-13, abs=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("at", [0, 9000, 9999])
def test_squares_of_special_numbers(bad: float, at: int) -> None:
    g, found = np.ones(10000, np.float32), np.empty(optimizer.chunks(10000))
    optimizer.squares(pool(), g, found)
    assert norm(found) == 100
    g[at] = bad
    optimizer.squares(pool(), g, found)
    assert str(norm(found)) == str(bad)


def step(
    values: Floats,
    grads: Floats,
    mean: Floats,
    square: Floats,
    n_matrix: int,
    grad_scale: float,
    t: int,
    settings: tuple[float, ...],
) -> None:
    beta1, beta2, learning_rate, decay, eps = settings
    corrections = 1 - beta1**t, 1 - beta2**t
    optimizer.adamw(
        pool(), values, grads, mean, square, n_matrix, grad_scale, beta1, beta2, *corrections, learning_rate, decay, eps
    )


@given(SIZES, SEEDS, st.floats(0, 1), st.floats(0.01, 2), st.integers(1, 100), SETTINGS)
def test_adamw(
    run_twice: Any, n: int, seed: int, share: float, grad_scale: float, t: int, settings: tuple[float, ...]
) -> None:
    rng = np.random.default_rng(seed)
    values, grads, mean = (rng.standard_normal(n).astype(np.float32) for _ in range(3))
    square = (rng.standard_normal(n) ** 2 + 0.01).astype(np.float32)
    n_matrix = round(share * n)

    def run(guards: Any) -> tuple[Floats, ...]:
        state = guards.copy(values), guards.copy(mean), guards.copy(square)
        step(state[0], guards.copy(grads), state[1], state[2], n_matrix, grad_scale, t, settings)
        return state

    beta1, beta2, *rest = settings
    value, grad, m, v = (array.astype(np.float64) for array in (values, grads, mean, square))
    optimizer.plain_adamw(value, grad, m, v, n_matrix, grad_scale, beta1, beta2, 1 - beta1**t, 1 - beta2**t, *rest)
    for ours, theirs in zip(run_twice(run), (value, m, v), strict=True):
        assert np.allclose(ours, theirs, rtol=2e-6, atol=2e-6)


@given(st.integers(0, 40), st.integers(0, 50))
def test_only_matrices_decay(n: int, n_matrix: int) -> None:
    values, zeros = np.ones(n, np.float32), np.zeros(n, np.float32)
    step(values, zeros, zeros.copy(), zeros.copy(), n_matrix, 1.0, 1, (0.9, 0.95, 0.1, 0.25, 1e-8))
    assert values.tolist() == [0.75] * min(n, n_matrix) + [1.0] * max(0, n - n_matrix)


def test_moments_of_an_unused_weight_become_zero() -> None:
    """Tiny moments become 0, not subnormal, and the value stays."""
    values, grads = np.ones(20, np.float32), np.zeros(20, np.float32)
    mean, square = np.full(20, -1e-3, np.float32), np.full(20, 1e-3, np.float32)
    for t in range(1000, 3000):
        step(values, grads, mean, square, 20, 1.0, t, (0.9, 0.95, 1e-3, 0.0, 1e-8))
        assert not ((mean != 0) & (np.abs(mean) < 2.0**-126)).any()
        assert not ((square != 0) & (square < 2.0**-126)).any()
    assert (mean == 0).all()
    assert (square == 0).all()
    assert np.isfinite(values).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_gradient_affects_only_its_weight(bad: float) -> None:
    values, grads, mean, square = (np.ones(37, np.float32) for _ in range(4))
    grads[[3, 35]] = bad
    step(values, grads, mean, square, 10, 1.0, 1, (0.9, 0.95, 0.1, 0.01, 1e-8))
    for array in (values, mean, square):
        assert np.flatnonzero(~np.isfinite(array)).tolist() == [3, 35]

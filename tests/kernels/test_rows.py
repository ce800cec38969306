"""Kernels that work row by row, against their plain loops in float64: layer norm, softmax, cross-entropy."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from npgpt.kernels import layernorm, loss, softmax
from npgpt.machine.pool import pool

Floats = npt.NDArray[np.float32]
IGNORE = -100
SEEDS = st.integers(0, 2**32 - 1)
# (rows, columns): many narrow rows, wide rows that are a chunk each, and no rows.
SHAPES = st.one_of(
    st.tuples(st.integers(0, 100), st.integers(1, 70)),
    st.tuples(st.integers(1, 4), st.integers(4000, 9000)),
    st.tuples(st.integers(100, 300), st.sampled_from([1, 15, 16, 17, 128])),
)


def draw(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> Floats:
    return (scale * rng.standard_normal(shape)).astype(np.float32)


@given(SHAPES, SEEDS, st.sampled_from([0.0, 3.0]), st.booleans())
def test_layernorm(run_twice: Any, shape: tuple[int, int], seed: int, offset: float, add: bool) -> None:
    rng = np.random.default_rng(seed)
    x, dy = draw(rng, *shape) + np.float32(offset), draw(rng, *shape)
    n, C = shape
    gain, bias = draw(rng, C), draw(rng, C)

    def run(guards: Any) -> tuple[Floats, ...]:
        x_there, y, mean, rstd = guards.copy(x), guards.empty(n, C), guards.empty(n), guards.empty(n)
        layernorm.forward(pool(), x_there, guards.copy(gain), guards.copy(bias), 1e-3, y, mean, rstd)
        partial, dx = guards.empty(2 * layernorm.groups(n), C), guards.empty(n, C)
        dgain, dbias = guards.copy(gain), guards.copy(bias)
        layernorm.backward(pool(), guards.copy(dy), x_there, gain, mean, rstd, dx, partial, dgain, dbias, add)
        return y, mean, rstd, dx, dgain - gain * add, dbias - bias * add

    x64, dy64, gain64, bias64 = (array.astype(np.float64) for array in (x, dy, gain, bias))
    forward = layernorm.plain_forward(x64, gain64, bias64, 1e-3)
    plain = *forward, *layernorm.plain_backward(dy64, x64, gain64, *forward[1:])
    for ours, theirs in zip(run_twice(run), plain, strict=True):
        assert np.allclose(ours, theirs, rtol=1e-4, atol=1e-4 * math.sqrt(n + 1))


def test_layernorm_of_equal_numbers_is_the_bias() -> None:
    x, y = np.full((3, 17), 5, np.float32), np.empty((3, 17), np.float32)
    mean, rstd = np.empty(3, np.float32), np.empty(3, np.float32)
    bias = np.arange(17, dtype=np.float32)
    layernorm.forward(pool(), x, np.ones(17, np.float32), bias, 1e-5, y, mean, rstd)
    assert (y == bias).all()
    assert (mean == 5).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_bad_number_affects_only_its_row_in_layernorm(bad: float) -> None:
    x = draw(np.random.default_rng(0), 3, 40)
    x[1, 36] = bad
    y, dx, mean, rstd = np.empty_like(x), np.empty_like(x), np.empty(3, np.float32), np.empty(3, np.float32)
    gain, bias, dgain, dbias = (np.ones(40, np.float32) for _ in range(4))
    layernorm.forward(pool(), x, gain, bias, 1e-5, y, mean, rstd)
    layernorm.backward(pool(), x, x, gain, mean, rstd, dx, np.empty((2, 40), np.float32), dgain, dbias, False)
    for result in (y, dx):
        assert np.isnan(result[1]).all()
        assert np.isfinite(result[[0, 2]]).all()
    assert np.isnan(dgain).all()


@given(SHAPES, SEEDS, st.sampled_from([0.1, 5.0, 1e4]), st.booleans())
def test_softmax(run_twice: Any, shape: tuple[int, int], seed: int, scale: float, in_place: bool) -> None:
    rng = np.random.default_rng(seed)
    s, dw = draw(rng, *shape, scale=scale), draw(rng, *shape)
    s[:, 1:][rng.random((shape[0], shape[1] - 1)) < 0.2] = -np.inf

    def run(guards: Any) -> tuple[Floats, Floats]:
        scores, upstream = guards.copy(s), guards.copy(dw)
        w, ds = (scores, upstream) if in_place else (guards.empty(*shape), guards.empty(*shape))
        softmax.forward(pool(), scores, w)
        softmax.backward(pool(), upstream, w, ds)
        return w, ds

    w, ds = run_twice(run)
    right, ds_right = np.empty(shape), np.empty(shape)
    softmax.plain_forward(s.astype(np.float64), right)
    softmax.plain_backward(dw.astype(np.float64), right, ds_right)
    assert np.allclose(w, right, rtol=1e-5, atol=2.0**-100)
    assert (w[s == -np.inf] == 0).all()
    assert np.allclose(ds, ds_right, rtol=1e-4, atol=2e-6)


def test_softmax_of_special_numbers() -> None:
    nan, inf = math.nan, math.inf
    tail = [0.0] * 17  # special numbers are in a whole register, and in the first row in the rest
    rows = [[*tail, nan], [nan, *tail], [inf, *tail], [-inf] * 18, [-inf] * 17 + [3.0], [1e30, *tail], [-80.0, *tail]]
    s = np.array(rows, np.float32)
    w = np.empty_like(s)
    softmax.forward(pool(), s, w)
    assert np.isnan(w[:4]).all()
    assert w[4].tolist() == [0.0] * 17 + [1.0]
    assert w[5].tolist() == [1.0] + [0.0] * 17
    assert w[6, 0] == 0  # e^-80 is below 2**-100
    assert (np.abs(w[6, 1:] - 1 / 17) < 1e-8).all()


@given(SHAPES, SEEDS, st.sampled_from([0.1, 3.0, 1e4]), st.booleans())
@example((300, 128), 0, 3.0, True)
def test_loss(run_twice: Any, shape: tuple[int, int], seed: int, scale: float, in_place: bool) -> None:
    rng = np.random.default_rng(seed)
    logits, targets = draw(rng, *shape, scale=scale), rng.integers(0, shape[1], shape[0])
    ignored = rng.random(shape[0]) < 0.2
    targets[ignored] = IGNORE
    count = 7 + shape[0]
    dirty = logits.copy()
    dirty[ignored] = np.nan

    def run(guards: Any) -> tuple[float, Floats, Floats]:
        there, losses = guards.copy(dirty), guards.empty(shape[0])
        out = there if in_place else guards.empty(*shape)
        mean = loss.forward(pool(), there, guards.copy(targets, np.int64), IGNORE, count, out, losses)
        return mean, out, losses

    mean, out, losses = run_twice(run)
    mean_right, gradient, losses_right = loss.plain_forward(logits.astype(np.float64), targets, IGNORE, count)
    assert np.allclose(losses, losses_right, rtol=3e-7, atol=1e-5)
    assert mean == pytest.approx(mean_right, rel=3e-7, abs=1e-5)
    assert np.allclose(out, gradient, rtol=1e-5, atol=3e-7 / count)
    assert (out[ignored] == 0).all()
    assert mean == sum(map(float, losses)) / count


def test_loss_of_special_numbers() -> None:
    nan, inf = math.nan, math.inf
    tail = [0.0] * 17
    rows = [[10000.0, *tail], [-10000.0, *tail], [-inf, *tail], [*tail, nan], [inf, *tail], [-inf] * 18, [nan] * 18]
    logits = np.array(rows, np.float32)
    targets = np.array([0, 0, 0, 0, 0, 0, IGNORE])
    out, losses = np.empty_like(logits), np.empty(7, np.float32)
    assert math.isnan(loss.forward(pool(), logits, targets, IGNORE, 1, out, losses))
    assert losses[:3].tolist() == [0.0, pytest.approx(1e4 + math.log(17)), inf]
    assert np.isnan(losses[3:6]).all()
    assert losses[6] == 0
    assert out[0].tolist() == [0.0] * 18
    assert out[1:3, 0].tolist() == [-1.0, -1.0]
    assert np.isnan(out[3:6]).all()
    assert out[6].tolist() == [0.0] * 18
    assert loss.forward(pool(), logits[6:], targets[6:], IGNORE, 1, out[6:], losses[6:]) == 0


def test_no_gradient_of_the_loss_is_subnormal() -> None:
    logits = np.linspace(-120, 0, 5000, dtype=np.float32).reshape(1, -1)
    out, losses = np.empty_like(logits), np.empty(1, np.float32)
    loss.forward(pool(), logits, np.array([4999]), IGNORE, 10**6, out, losses)
    assert (np.abs(out[out != 0]) > 2.0**-110).all()
    assert (out == 0).any()

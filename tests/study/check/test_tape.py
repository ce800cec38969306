"""The tape against central differences: what people write, and what must not leave it in silence."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.core import Array
from npgpt.study.check.substitutes import complex_numbers, taped_numbers
from npgpt.study.check.tape import Tape, TapeError
from npgpt.study.check.tape_gradients import gradients

RNG = np.random.default_rng(0)
W = RNG.normal(size=(4, 3))
SQUARE = np.eye(3) * 3


def shifted(x: Any) -> Any:
    y = np.zeros(x.shape)
    y[..., 1:] = x[..., :-1]
    return y


def scattered(x: Any) -> Any:
    y = np.zeros((5, 4))
    np.add.at(y, np.array([1, 1, 3]), x)
    return y * y


def in_place(x: Any) -> Any:
    y = x.copy()
    y *= 2
    y[y < 0] *= 0.1
    row = y[0]  # a view
    row += x[1] * x[2]
    y[:, 1] = np.sin(y[:, 0])
    return y


def windows(x: Any) -> Any:
    view = np.lib.stride_tricks.as_strided(x, (3, 3, 2), (*x.strides, x.strides[1]))
    return np.lib.stride_tricks.sliding_window_view(x, 2, axis=1) * view


EVERYDAY: dict[str, Callable[[Any], Any]] = {
    "norm by var": lambda x: (x - x.mean(-1, keepdims=True)) / np.sqrt(np.var(x, -1, keepdims=True) + 0.1),
    "std": lambda x: np.std(x, axis=0) + x.std(),
    "norm": lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True) + np.linalg.norm(x, 1, axis=1)[:, None],
    "softsign": lambda x: x / (1 + np.abs(x)) + abs(x) * np.sign(x),
    "softmax": lambda x: (
        np.exp(x - x.max(-1, keepdims=True)) / np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)
    ),
    "matmul": lambda x: x @ W @ (SQUARE @ x),
    "vectors": lambda x: (x[0] @ W) @ (W.T @ x[1]) + np.dot(x, x[2]) + np.inner(x[0], x[1]) + np.vdot(x, x),
    "batched": lambda x: (x[None] @ W[None]) * np.ones((2, 1, 1)),
    "dot": lambda x: np.dot(x, W) + x.dot(W) + np.tensordot(x, W, axes=1) + np.dot(2.0, x)[:, :3],
    "einsum": lambda x: (
        np.einsum("ij,kj->ik", x, x)
        + np.einsum("...j,jk->...k", x, W)
        + np.einsum("ij,jk,lk->il", x, W, W @ SQUARE)[:, :3]
    ),
    "traces": lambda x: np.einsum("ii", x @ x.T) + np.trace(x @ x.T) + np.diag(x @ x.T).sum() + np.diag(x[0]),
    "rectified": lambda x: np.maximum(x, 0) + np.maximum(0, x) * 2 + np.where(x > 0, x, 0.1 * x) + x * (x > 0),
    "clipped": lambda x: np.clip(x, -0.5, 0.5) + x.clip(-0.3, None) + np.minimum(x, 0.2),
    "sorted": lambda x: np.sort(x, -1) * np.arange(4) + np.median(x) + np.partition(x, 2)[:, 2:3],
    "cumulative": lambda x: (
        np.cumsum(x, axis=1) + np.cumsum(x).reshape(3, 4) + np.cumprod(x, axis=0) + np.maximum.accumulate(x, 1)
    ),
    "products": lambda x: np.prod(x, axis=1) + x.prod() + np.multiply.reduce(x, axis=1),
    "padded": lambda x: np.pad(x, ((1, 1), (0, 2))) + np.pad(x, ((1, 1), (1, 1)), "edge"),
    "joined": lambda x: np.concatenate([x, np.ones((2, 4)), x * x]) * np.vstack([x, x[:2], x]),
    "stacked": lambda x: np.stack([x[i] * x[0] for i in range(3)]) + np.array([row * row.sum() for row in x]),
    "logs": lambda x: (
        np.logaddexp(0, x)
        + np.log1p(x * x)
        + np.expm1(x)
        + np.log(np.exp(x).sum())
        + np.logaddexp.reduce(x, axis=1)[:, None]
    ),
    "trigonometry": lambda x: (
        np.sin(x) * np.cos(x) + np.arctan(x) + np.hypot(x, 2) + np.tanh(x) + np.sinh(x) + np.arctan2(x, 2.0)
    ),
    "powers": lambda x: x**3 + np.abs(x) ** 0.5 + 2**x + np.power(np.abs(x), x) + np.square(x) + np.cbrt(x) + x**-1,
    "inverse": lambda x: np.linalg.inv(x @ x.T + SQUARE) @ x + np.linalg.solve(x @ x.T + SQUARE, x),
    "determinant": lambda x: np.linalg.det(x @ x.T + SQUARE),
    "extremes": lambda x: x.max(0) + np.min(x, axis=(0, 1)) + np.ptp(x) + np.amax(x),
    "moved": lambda x: (
        np.roll(x, 1, 0) + np.flip(x, 1) + np.tile(x, (2, 1))[:3] + np.repeat(x, 2, axis=1)[:, ::2] + x[::-1]
    ),
    "turned": lambda x: x.T.reshape(3, 4) + np.swapaxes(x, 0, 1).ravel()[::-1].reshape(3, 4) + np.moveaxis(x, 0, 1).T,
    "gathered": lambda x: (
        np.take_along_axis(x, np.array([[0], [1], [1]]), 1) + x[np.array([0, 0, 2])] + np.take(x, [1, 2, 2], axis=0)
    ),
    "triangles": lambda x: np.tril(x @ x.T) + np.triu(x @ x.T, 1),
    "outer": lambda x: np.outer(x[0], x[1]) + np.kron(x[0], x[1]).reshape(4, 4) + np.multiply.outer(x[0], x[2]),
    "convolved": lambda x: np.convolve(x[0], x[1], "same") + np.diff(x, axis=1)[:, :1].sum(),
    "averaged": lambda x: np.average(x, axis=0, weights=[1, 2, 3.0]) + np.mean(x, where=x > 0),
    "by rows": lambda x: np.apply_along_axis(lambda row: row * row.sum(), 1, x) + np.linalg.multi_dot([x, W, W.T]),
    "broadcast": lambda x: np.broadcast_to(x[None], (2, 3, 4)) * x[:, :1] + np.atleast_2d(x[0]),
    "divided": lambda x: np.divide(x, 3, out=np.zeros_like(x), where=x > 0) + 1 / (2 + x * x) + np.reciprocal(3 + x),
    "chosen": lambda x: np.select([x < -0.5, x < 0.5], [x, x * x], x**3) + np.nan_to_num(x),
    "shifted in a buffer": shifted,
    "scattered": scattered,
    "in place": in_place,
    "windows": windows,
    "gathered in a list": lambda x: np.array([[x[0, 0], x[1, 1] * 2], [3.0, x[2, 3]]]),
}


def tape_of(f: Callable[[Any], Any], x: Array, dy: Array | None = None) -> tuple[Any, Array]:
    tape = Tape()
    leaf = tape.leaf(x)
    with taped_numbers(tape, [globals()]):
        y = f(leaf)
    dy = np.ones(np.shape(y)) if dy is None else dy
    return y, gradients(y, dy, {"x": leaf})["x"]


def difference_of(f: Callable[[Any], Any], x: Array, dy: Array, h: float = 1e-6) -> Array:
    found = np.zeros(x.shape)
    for cell in np.ndindex(x.shape):
        v = np.zeros(x.shape)
        v[cell] = h
        found[cell] = ((f(x + v) - f(x - v)) * dy).sum() / (2 * h)
    return found


@pytest.mark.parametrize("name", EVERYDAY)
def test_what_people_write(name: str) -> None:
    f, x = EVERYDAY[name], np.random.default_rng(3).normal(size=(3, 4))
    expected = np.asarray(f(x))
    dy = np.random.default_rng(4).normal(size=expected.shape)
    y, found = tape_of(f, x, dy)
    assert y.shape == expected.shape and np.allclose(y.value, expected)
    assert np.allclose(found, difference_of(f, x, dy), atol=1e-6)


def buffer_of_another_module(x: Any) -> Any:
    y = REAL_EMPTY(x.shape)
    y[:] = x
    return y


REAL_EMPTY = [np.empty][0].__call__  # a name that is not np.empty itself

LEAVES: dict[str, Callable[[Any], Any]] = {
    "float": lambda x: float(x[0, 0]),
    "math.exp": lambda x: math.exp(x[0, 0]),
    "item": lambda x: x.item(0),
    "tolist": lambda x: sum(x.tolist()[0]),
    "np.float64": lambda x: np.float64(x[0, 0]),
    "buffer": buffer_of_another_module,
    "into plain": lambda x: np.add(x, 1, out=REAL_EMPTY((3, 4))),
    "plain += taped": lambda x: REAL_EMPTY((3, 4)).__iadd__(x),
    "no derivative": lambda x: np.fft.fft(x[0]),
}


@pytest.mark.parametrize("name", LEAVES)
def test_leaving_the_tape_is_an_error_and_no_zero(name: str) -> None:
    with pytest.raises(TapeError):
        tape_of(LEAVES[name], np.ones((3, 4)))


@given(st.floats(-2, 2), st.floats(-2, 2))
def test_operations_equal_complex_step(a: float, b: float) -> None:
    def f(x: Any) -> Any:
        x, y = x[0], x[1]
        u = (2 + x) * y - x / (3 + y * y) + 1 / (4 + x * x)
        v = np.exp(-x * x / 2) - np.tanh(y - 0.5) * 3 + np.sqrt(2 + x * x) / 2
        return (u - v) ** 2 + np.log(5 + u * u) - (1.5 - v) ** 3

    x, h = np.array([a, b]), 1e-30
    expected = [f(x + 1j * h * unit).imag / h for unit in np.eye(2)]
    assert np.allclose(tape_of(f, x)[1], expected, rtol=1e-12, atol=1e-12)


def test_reused_unused_and_constant_cells() -> None:
    assert tape_of(lambda x: x * x + x, np.array(3.0))[1] == 7
    assert tape_of(lambda x: x[0].sum(), np.ones((2, 3)))[1].tolist() == [[1, 1, 1], [0, 0, 0]]
    y, found = tape_of(lambda x: np.where(x > 0, x, 5.0), np.array([-1.0, 2.0]))
    assert y.ids[0] == -1 and found.tolist() == [0, 1]


def test_a_slope_of_zero_is_an_edge() -> None:
    tape = Tape()
    x = tape.leaf(np.array([-1.0]))
    y = x * (x > 0)
    assert list(tape.parents().of(int(y.ids[0]))) == [(int(x.ids[0]), 0.0)]


def test_an_unreachable_infinite_slope_adds_nothing() -> None:
    assert tape_of(lambda x: np.where(x > 0, np.sqrt(x), 0), np.array([0.0, 4.0]))[1].tolist() == [0, 0.25]


def test_long_chains_need_no_recursion() -> None:
    def f(x: Any) -> Any:
        for _ in range(5_000):
            x = x + 1e-9
        return x

    assert tape_of(f, np.array(1.0))[1] == 1


def test_numpy_itself_is_not_changed() -> None:
    """Compiled code such as a random generator calls np.empty, and writes floats into what it gets."""
    empty = np.empty
    generator = np.random.default_rng(0)
    for numbers in (lambda: taped_numbers(Tape(), [globals()]), lambda: complex_numbers([globals()])):
        with numbers():
            assert generator.random((50, 50)).dtype == np.float64
    assert np.empty is empty

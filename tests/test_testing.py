"""The kit for users' own layers, tested on right layers and on wrong ones."""

from typing import Any

import numpy as np
import pytest
from hypothesis import find, given
from hypothesis import strategies as st

from npgpt import layers
from npgpt.core import Array, Cache, Layer, Param
from npgpt.layers import IGNORE_INDEX
from npgpt.study.check.cases import of_order_one
from npgpt.study.check.jacobians import jacobian, of_gelu, of_layer_norm, of_softmax, side_by_side
from npgpt.testing import (
    INVARIANTS,
    Sizes,
    arrays,
    assert_obeys_laws,
    extreme_values,
    shapes,
    sizes,
    token_ids,
    upstream_gradients,
)


class Gate(Layer):
    """y = x·tanh(a·x), a for each channel."""

    def __init__(self, n: int) -> None:
        self.slope = Param(np.ones(n))

    def forward(self, x: Array, cache: Cache) -> Array:
        x = cache.keep("x", x)
        t = cache.keep("t", np.tanh(self.slope.value * x))
        y: Array = x * t
        return y

    def backward(self, dy: Array, cache: Cache) -> Array:
        x, t = cache["x"], cache["t"]
        dt = cache.note("t", dy * x)
        dz = dt * (1 - t * t)
        self.slope.grad += (dz * x).sum((0, 1))
        return cache.note("x", dy * t + dz * self.slope.value)


class Overwriting(Gate):
    def backward(self, dy: Array, cache: Cache) -> Array:
        self.slope.grad[...] = 0
        return super().backward(dy, cache)


class Lossy(Gate):
    def backward(self, dy: Array, cache: Cache) -> Array:
        x, t = cache["x"], cache["t"]
        dt = cache.note("t", dy * x)
        self.slope.grad += (dt * (1 - t * t) * x).sum((0, 1))
        return cache.note("x", dy * t)


def test_right_layer_passes() -> None:
    assert_obeys_laws(lambda sizes: Gate(sizes.C), time_axis=1, examples=5)
    assert_obeys_laws(
        lambda sizes: layers.Embedding(sizes.V, sizes.C),
        lambda sizes, rng: {"ids": rng.integers(0, sizes.V, (sizes.B, sizes.T))},
        examples=5,
    )


@pytest.mark.parametrize(
    ("kind", "said"), [(Overwriting, "two_backwards_double"), (Lossy, "noted_gradients_are_right")]
)
def test_wrong_layer_fails_with_the_name_of_the_law(kind: type[Gate], said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        assert_obeys_laws(lambda sizes: kind(sizes.C), examples=5)


def test_message_contains_the_diagnosis() -> None:
    with pytest.raises(AssertionError, match=r"WRONG input x, by(.|\n)*got"):
        assert_obeys_laws(lambda sizes: Lossy(sizes.C), laws=[], examples=5)


@given(st.data())
def test_strategies_draw_valid_arrays(data: Any) -> None:
    shape = data.draw(shapes(empty=True))
    x = data.draw(arrays(shape))
    assert x.shape == shape and np.isfinite(x).all() and x.dtype in (np.float32, np.float64)
    assert data.draw(upstream_gradients(shape)).shape == shape
    ids = data.draw(token_ids(7, shape))
    assert ids.shape == shape and ((ids >= 0) & (ids < 7)).all()
    assert np.isfinite(data.draw(extreme_values(shape))).all()


def test_strategies_reach_what_they_are_for() -> None:
    find(arrays((3, 2)), lambda x: not x.flags.c_contiguous)
    find(extreme_values((3,)), lambda x: bool(np.abs(x).max() == np.finfo(np.float32).max))
    find(extreme_values((3,)), lambda x: bool(((x != 0) & (np.abs(x) < np.finfo(np.float32).tiny)).any()))
    find(token_ids(7, (4,)), lambda ids: {0, 6} <= set(ids.tolist()))
    find(upstream_gradients((4,)), lambda dy: len(set(dy.tolist())) == 4)
    find(shapes(empty=True), lambda shape: 0 in shape)


@given(sizes(), st.integers(0, 1000))
def test_invariants_hold(drawn: Sizes, seed: int) -> None:
    rng = np.random.default_rng(seed)
    B, T, C, V = drawn.B, drawn.T, drawn.C, drawn.V
    x, dy = rng.normal(size=(2, B, T, C))
    targets = rng.integers(0, V, (B, T))
    targets[0, 1:] = IGNORE_INDEX
    attention = of_order_one(layers.Attention(C, drawn.H), rng)
    INVARIANTS["rows_of_dlogits_sum_to_zero"](layers.CrossEntropy(), rng.normal(size=(B, T, V)), targets)
    INVARIANTS["key_bias_has_no_gradient"](attention, x, dy)
    INVARIANTS["nothing_reaches_the_future"](attention, x, dy)
    INVARIANTS["softmax_does_not_see_a_shift"](layers.Softmax(), x, dy)
    if C > 2:
        wide = rng.normal(size=(B, T, C)) + 3 * np.arange(C)
        norm = layers.LayerNorm(C, eps=0)
        norm.gain.value[:] = rng.normal(size=C)  # gains of 1 would hide a forgotten gain
        INVARIANTS["layer_norm_sends_nothing_along_ones_and_xhat"](norm, wide, dy)


class OfSquares(layers.Softmax):
    def forward(self, s: Array, cache: Cache) -> Array:
        return super().forward(s * s, cache)


def add_to_bias(attention: Any, dx: Array, cache: Cache) -> Array:
    attention.qkv.bias.grad += 1
    return dx


BROKEN = [
    ("rows_of_dlogits_sum_to_zero", layers.CrossEntropy(), lambda loss, d, cache: d + 1, "dlogits sums to"),
    ("layer_norm_sends_nothing_along_ones_and_xhat", layers.LayerNorm(4, eps=0), lambda norm, d, cache: d + 1, "dx·1"),
    (
        "layer_norm_sends_nothing_along_ones_and_xhat",
        layers.LayerNorm(4, eps=0),
        lambda norm, d, cache: d + cache["xhat"],
        "dx·x̂",
    ),
    ("key_bias_has_no_gradient", layers.Attention(4, 2), add_to_bias, "keys' bias"),
    (
        "nothing_reaches_the_future",
        layers.Attention(4, 2).initialise(0),
        lambda attention, d, cache: d + d.sum(1, keepdims=True),
        "output 0 sends",
    ),
    ("softmax_does_not_see_a_shift", layers.Softmax(), lambda softmax, d, cache: d + 1, "does not sum to zero"),
    ("softmax_does_not_see_a_shift", OfSquares(), lambda softmax, d, cache: d, "changes the weights"),
]


@pytest.mark.parametrize(("name", "layer", "spoil", "says"), BROKEN, ids=[says for *_, says in BROKEN])
def test_invariant_rejects_a_broken_layer(
    name: str, layer: Layer, spoil: Any, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backward = layer.backward
    monkeypatch.setattr(layer, "backward", lambda dy, cache: spoil(layer, backward(dy, cache), cache))
    x, dy = np.random.default_rng(0).normal(size=(2, 2, 3, 4))
    with pytest.raises(AssertionError, match=says):
        INVARIANTS[name](layer, x, np.array([[0, 1, 2], [3, 2, 1]]) if name.startswith("rows") else dy)


def test_every_invariant_has_a_broken_layer() -> None:
    assert {name for name, *_ in BROKEN} == INVARIANTS.keys()


def test_jacobians_equal_textbook_formulas() -> None:
    x = np.array([0.5, -1.0, 2.0])
    w = layers.Softmax().forward(x, Cache())
    norm = layers.LayerNorm(3, eps=0.1)
    norm.gain.value[:] = [1, 2, 3]
    assert np.allclose(jacobian(layers.Softmax(), x), of_softmax(w), atol=1e-12)
    assert np.allclose(jacobian(norm, x), of_layer_norm(x, norm.gain.value, 0.1), atol=1e-12)
    assert np.allclose(jacobian(layers.GELU(), x), of_gelu(x), atol=1e-12)
    assert "largest difference" in side_by_side(layers.GELU(), x, of_gelu(x))

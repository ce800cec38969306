"""Properties of single layers that the laws do not cover: modes, sharing, limits, extreme values."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt import layers
from npgpt.core import Array, Cache
from npgpt.errors import ConfigError, DataError, ShapeError
from npgpt.layers.activations import erf


def test_lookup_equals_one_hot_times_matrix() -> None:
    random = np.random.default_rng(0)
    embedding, ids = layers.Embedding(7, 3).astype(np.float64), random.integers(0, 7, (2, 5))
    embedding.weight.value[:] = random.normal(size=(7, 3))
    onehot, cache = np.eye(7)[ids], Cache()
    assert np.allclose(embedding.forward(ids, cache), onehot @ embedding.weight.value)
    dy = random.normal(size=(2, 5, 3))
    embedding.backward(dy, cache)
    assert np.allclose(embedding.weight.grad, np.einsum("btv,btc->vc", onehot, dy))


@given(st.floats(-8, 8))
def test_erf_equals_math_erf(x: float) -> None:
    assert erf(np.array([x]))[0] == pytest.approx(math.erf(x), rel=1e-13, abs=1e-300)


def test_exact_and_tanh_gelu_are_close() -> None:
    x = np.linspace(-6, 6, 1001)
    difference = layers.GELU().forward(x, Cache()) - layers.TanhGELU().forward(x, Cache())
    assert 1e-4 < np.abs(difference).max() < 5e-4


def test_dropout_is_active_only_in_training_and_keeps_the_mean() -> None:
    dropout, x = layers.Dropout(0.25), np.ones((8, 50, 50))
    assert dropout.forward(x, Cache()) is x
    y = dropout.forward(x, Cache(training=True))
    assert set(np.unique(y)) == {0, 1 / 0.75}
    assert y.mean() == pytest.approx(1, abs=0.02)
    assert layers.Dropout(0).forward(x, Cache(training=True)) is x
    for wrong in (-0.1, 1.0, math.nan):
        with pytest.raises(ConfigError, match="p must be"):
            layers.Dropout(wrong)


def test_dropout_mask_depends_on_seed_step_path_and_example() -> None:
    def mask(shape: tuple[int, ...] = (4, 3, 5), path: str = "a", **settings: int) -> Array:
        return layers.Dropout(0.5).mask(shape, Cache(training=True, **settings).scope(path))

    whole = mask()
    assert np.array_equal(whole[2:], mask((2, 3, 5), first_example=2))  # for any split of the batch
    for other in (mask(seed=1), mask(step=1), mask(path="b"), mask(first_example=1)):
        assert 0.2 < (whole != other).mean() < 0.8
    assert 0.2 < (whole[0] != whole[1]).mean() < 0.8


def test_dropout_accepts_any_number_of_axes_and_any_probability() -> None:
    for shape in ((5,), (3, 4), (2, 3, 4, 5), (2, 0)):
        assert layers.Dropout(0.5).forward(np.ones(shape), Cache(training=True)).shape == shape
    assert not layers.Dropout(1 - 1e-12).forward(np.ones((2, 9)), Cache(training=True)).any()


def test_dy_of_the_wrong_shape_changes_no_gradient() -> None:
    for layer, x in (
        (layers.Linear(4, 3), np.ones((2, 4, 4))),
        (layers.LayerNorm(4), np.ones((2, 4, 4))),
        (layers.VocabularyHead(3, 4), np.ones((2, 4, 4))),
        (layers.Embedding(3, 4), np.ones((2, 4), int)),
    ):
        cache = Cache()
        y = layer.forward(x, cache)
        with pytest.raises(ShapeError):
            layer.backward(y[:1], cache)
        assert not any(param.grad.any() for param in layer.parameters().values())


def test_positions_beyond_the_learned_table_are_rejected() -> None:
    with pytest.raises(ShapeError, match="5 positions, but the table has 4 rows"):
        layers.LearnedPositions(4, 2).forward(np.zeros((1, 5, 2)), Cache())


def test_invalid_heads_and_activations_are_rejected() -> None:
    with pytest.raises(ConfigError, match="n_embd 10 cannot be divided among 3 heads"):
        layers.Attention(10, 3)
    with pytest.raises(ConfigError, match="cannot be divided"):
        layers.Attention(10, 0)
    with pytest.raises(ConfigError, match="'gelu_than' is unknown; did you mean gelu_tanh"):
        layers.MLP(4, activation="gelu_than")


def test_softmax_of_large_and_masked_scores() -> None:
    s = np.array([[1e4, 1e4, -np.inf], [-1e4, -np.inf, -np.inf]])
    assert layers.Softmax().forward(s, Cache()).tolist() == [[0.5, 0.5, 0], [1, 0, 0]]


def test_masked_weights_are_exactly_zero_for_any_keys() -> None:
    q = np.full((1, 1, 3, 2), 1e3)
    k = np.array([[[[-1e3, -1e3], [1e3, 1e3], [1e9, 1e9]]]])  # larger than a finite mask value could offset
    cache = Cache()
    weights = layers.Softmax().forward(layers.Scores().forward(q, k, cache), cache)
    assert not np.triu(weights[0, 0], 1).any()


def test_cross_entropy_of_extreme_logits_is_finite() -> None:
    loss, cache = layers.CrossEntropy(), Cache()
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32)
    assert loss.forward(logits, np.array([0, 0]), None, cache) == 1e4
    assert np.array_equal(loss.backward(1.0, cache), np.array([[0, 0], [-0.5, 0.5]], np.float32))


def test_cross_entropy_of_ignored_targets() -> None:
    nothing = np.full(3, layers.IGNORE_INDEX)
    with pytest.raises(DataError, match="every target is ignored"):
        layers.CrossEntropy().forward(np.zeros((3, 4)), nothing, None, Cache())
    cache = Cache()  # allowed as a part of a batch with other targets
    assert layers.CrossEntropy().forward(np.zeros((3, 4)), nothing, 5, cache) == 0
    with pytest.raises(ShapeError, match=r"targets have shape \(2,\), expected \(3,\)"):
        layers.CrossEntropy().forward(np.zeros((3, 4)), nothing[:2], None, Cache())


def test_ignored_row_may_contain_infinite_logits() -> None:
    logits = np.array([[0.0, 0.0], [-np.inf, 0.0]])
    assert layers.CrossEntropy().forward(logits, np.array([0, layers.IGNORE_INDEX]), None, Cache()) == math.log(2)

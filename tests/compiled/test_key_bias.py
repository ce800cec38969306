"""The keys' bias gets no gradient where the scores allow it, in both kinds of layers; elsewhere it gets its own."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import npgpt.layers as layers
from npgpt.build import make_optimizer, twin
from npgpt.config import GPTConfig
from npgpt.core import Array, Cache
from npgpt.model import GPT
from npgpt.study.check.cases import of_order_one
from npgpt.train import accumulate

C, H, T = 8, 2, 5
SCORES: dict[str, Callable[[], layers.Scores]] = {
    "dot": layers.Scores,
    "relative-bias": lambda: layers.RelativeBiasScores(H, 3),
    "relative-keys": lambda: layers.RelativeKeyScores(3, C // H),
    "alibi": layers.AlibiScores,
    "rotary": layers.RotaryScores,
}
KINDS = ("textbook", "compiled")


def make(score: layers.Scores, kind: str) -> Any:
    random = np.random.default_rng(0)
    return twin(of_order_one(layers.Attention(C, H, 0.2, score=score), random).astype(np.float32), kind)


def change(attention: Any, dy: Array | None = None, before: float = 0.0) -> tuple[Array, Array]:
    """Run both passes on gradients that are ``before``; return those of the keys' bias, and the sum of dk."""
    x, random_dy = np.random.default_rng(1).standard_normal((2, 3, T, C), np.float32)
    seen: list[Array] = []
    backward = attention.qkv.backward

    def spy(dqkv: Array, cache: Cache) -> Array:
        seen.append(dqkv.sum((0, 1))[C : 2 * C])
        dx: Array = backward(dqkv, cache)
        return dx

    attention.qkv.backward = spy
    attention.qkv.bias.grad[...] = before
    cache = Cache(training=True)
    attention.forward(x, cache)
    attention.backward(random_dy if dy is None else dy, cache)
    return attention.qkv.bias.grad[C : 2 * C].copy(), seen[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SCORES)
def test_keys_bias_gets_zero_by_rule_except_for_rotated_keys(name: str, kind: str) -> None:
    attention = make(SCORES[name](), kind)
    found, of_dk = change(attention, before=0.1)
    if name == "rotary":
        assert np.abs(found - 0.1).min() > 1e-3
        assert np.allclose(found, of_dk + np.float32(0.1), atol=1e-6)
    else:
        assert (found == np.float32(0.1)).all()
        assert np.abs(of_dk).max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SCORES)
def test_first_output_sends_nothing_to_queries_and_keys(name: str, kind: str) -> None:
    attention = make(SCORES[name](), kind)
    dy = np.zeros((3, T, C), np.float32)
    dy[:, 0] = 1
    change(attention, dy)
    assert not attention.qkv.weight.grad[:, : 2 * C].any()
    assert attention.qkv.weight.grad[:, 2 * C :].any()


class CosineScores(layers.Scores):
    """A user's own: keys of length 1, so a constant in all keys changes each score differently."""

    def forward(self, q: Array, k: Array, cache: Cache) -> Array:
        self.length = np.sqrt((k**2).sum(-1, keepdims=True))
        return super().forward(q, k / self.length, cache)

    def backward(self, ds: Array, cache: Cache) -> tuple[Array, Array]:
        dq, dunit = super().backward(ds, cache)
        unit = cache["k"]
        return dq, (dunit - unit * (dunit * unit).sum(-1, keepdims=True)) / self.length


class SoftmaxWithASink(layers.Softmax):
    """A user's own: e^s/(1 + Σ e^s), which does depend on a constant in all scores."""

    def forward(self, s: Array, cache: Cache) -> Array:
        e = np.exp(s)
        return cache.keep("weights", e / (1 + e.sum(-1, keepdims=True)))


class LinearOfSines(layers.Linear):
    """A user's own: its bias is not added to the keys."""

    def forward(self, x: Array, cache: Cache) -> Array:
        self.y = super().forward(x, cache)
        return np.sin(self.y)

    def backward(self, dy: Array, cache: Cache) -> Array:
        self.dy = dy * np.cos(self.y)
        return super().backward(self.dy, cache)


class Heirs(layers.AlibiScores):
    """A user's own, which could change the scores, and does not say that the rule still holds."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_users_own_parts_have_no_rule(kind: str) -> None:
    """The keys' bias then gets the sum of dk, like any bias."""
    for score in (CosineScores(), Heirs()):
        attention = make(score, kind)
        found, of_dk = change(attention)
        assert not attention.key_bias_cancels
        assert np.allclose(found, of_dk, atol=1e-6)
        assert found.any()
    plain = layers.Attention(C, H)
    plain.softmax = SoftmaxWithASink()
    attention = twin(of_order_one(plain, np.random.default_rng(0)).astype(np.float32), kind)
    found, of_dk = change(attention)
    assert not attention.key_bias_cancels
    assert np.allclose(found, of_dk, atol=1e-6) and np.abs(found).min() > 1e-3
    plain = layers.Attention(C, H)
    plain.qkv = LinearOfSines(C, 3 * C)
    attention = twin(of_order_one(plain, np.random.default_rng(0)).astype(np.float32), kind)
    found, _ = change(attention)
    assert not attention.key_bias_cancels
    assert np.allclose(found, attention.qkv.dy.sum((0, 1))[C : 2 * C], atol=1e-6) and np.abs(found).max() > 1e-3


def test_a_users_scores_can_declare_the_rule() -> None:
    class Same(layers.Scores):
        KEY_BIAS_CANCELS = True

    for kind in KINDS:
        attention = make(Same(), kind)
        assert attention.key_bias_cancels
        assert not change(attention)[0].any()


def test_rule_holds_over_a_gradient_that_is_not_written_yet() -> None:
    attention = make(layers.Scores(), "compiled")
    change(attention)
    expected = attention.qkv.bias.grad.copy()
    x, dy = np.random.default_rng(1).standard_normal((2, 3, T, C), np.float32)
    attention.qkv.bias.grad[...] = 7  # of an earlier step
    cache = Cache(training=True)
    cache.write_first([attention.qkv.bias])
    attention.forward(x, cache)
    attention.backward(dy, cache)
    assert np.array_equal(attention.qkv.bias.grad, expected)
    assert not expected[C : 2 * C].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("positions", ["learned", "alibi", "rotary"])
def test_training_leaves_the_keys_bias_where_it_is(positions: str, kind: str) -> None:
    model = twin(GPT(GPTConfig(11, 6, n_layer=2, n_head=2, n_embd=8, dropout=0.1, positions=positions)), kind)
    optimizer, cache = make_optimizer(model), Cache(training=True)
    ids = np.random.default_rng(0).integers(0, 11, (4, 7))
    for _ in range(4):
        accumulate(model, ids[:, :-1], ids[:, 1:], cache, 2)
        optimizer.step(0.01)
    for block in model.blocks:
        of_q, of_k, of_v = np.split(block.attention.qkv.bias.value, 3)
        assert of_q.all() and of_v.all()
        assert of_k.all() if positions == "rotary" else not of_k.any()
